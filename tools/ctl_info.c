/* SPDX-License-Identifier: MIT */
/* shmfsctl info: what a region is like. */
#include <inttypes.h>
#include <stdio.h>

#include "ctl.h"

struct users {
    uint32_t alive;
    uint32_t driver; /* its pid, or 0 */
};

static struct users count_users(const struct ctl_call *call)
{
    struct users users = { 0 };
    struct shmfs_process process;
    uint32_t cursor = 0;
    int r;

    while ((r = shmfs_region_next_process(call->fs, &cursor, &process)) > 0) {
        users.alive += process.alive;
        if (process.alive && process.driver)
            users.driver = process.pid;
    }
    if (r < 0)
        ctl_die(CTL_FAILED, "%s: its processes cannot be read: %s", call->where, ctl_reason(r));
    return users;
}

static void print_text(const struct ctl_call *call, const struct shmfs_geometry *g, struct users users)
{
    char size[16], max[16], file[16], meta[16], made[64], uuid[37], label[33];

    shmfs_size_text(g->size, size, sizeof(size));
    shmfs_size_text(g->max_size, max, sizeof(max));
    shmfs_size_text(g->file_size, file, sizeof(file));
    shmfs_size_text(g->meta_size, meta, sizeof(meta));
    snprintf(label, sizeof(label), "%.32s", g->label);

    printf("%s: shmfs region, format version %" PRIu32 "\n", call->where, g->version);
    printf("  size    %s, may grow to %s\n", size, max);
    printf("  blocks  %" PRIu64 " of %" PRIu32 " bytes\n", g->block_size > 0 ? g->size / g->block_size : 0,
           g->block_size);
    printf("  inodes  %" PRIu64 "\n", g->inodes);
    printf("  groups  %" PRIu32 ", each of %" PRIu32 " blocks and %" PRIu32 " inodes\n", g->groups,
           g->group_blocks, g->group_inodes);
    printf("  users   %" PRIu32 " of %" PRIu32 " processes; room for %" PRIu32 " threads at once\n",
           users.alive, g->procs, g->slots);
    if (users.driver != 0)
        printf("  driver  process %" PRIu32 "\n", users.driver);
    else
        printf("  driver  none: it is not mounted\n");
    printf("  file    %s long, sparse; %s before the first block\n", file, meta);
    printf("  made    %s\n", ctl_time_text(g->made, made, sizeof(made)));
    if (label[0] != '\0')
        printf("  label   %s\n", ctl_clean(label));
    printf("  UUID    %s\n", ctl_uuid_text(g->uuid, uuid));
}

static void print_json(const struct shmfs_geometry *g, struct users users)
{
    struct json_object *object = ctl_json_object();
    char uuid[37], label[33];

    snprintf(label, sizeof(label), "%.32s", g->label);
    ctl_json_put(object, "uuid", json_object_new_string(ctl_uuid_text(g->uuid, uuid)));
    ctl_json_text(object, "label", label);
    ctl_json_time(object, "made", g->made);
    ctl_json_number(object, "version", g->version);
    ctl_json_number(object, "size", g->size);
    ctl_json_number(object, "max_size", g->max_size);
    ctl_json_number(object, "file_size", g->file_size);
    ctl_json_number(object, "meta_size", g->meta_size);
    ctl_json_number(object, "block_size", g->block_size);
    ctl_json_number(object, "inodes", g->inodes);
    ctl_json_number(object, "groups", g->groups);
    ctl_json_number(object, "group_blocks", g->group_blocks);
    ctl_json_number(object, "group_inodes", g->group_inodes);
    ctl_json_number(object, "threads_max", g->slots);
    ctl_json_number(object, "processes_max", g->procs);
    ctl_json_number(object, "processes", users.alive);
    if (users.driver != 0)
        ctl_json_number(object, "driver", users.driver);
    else
        ctl_json_null(object, "driver");
    ctl_json_print(object);
}

static int run(const struct ctl_call *call)
{
    struct users users = count_users(call);
    struct shmfs_geometry geometry;

    shmfs_region_geometry(call->fs, &geometry);
    if (call->json)
        print_json(&geometry, users);
    else
        print_text(call, &geometry, users);
    return CTL_OK;
}

const struct ctl_command ctl_info = {
    .name = "info",
    .usage = "Usage: shmfsctl info [options] WHERE\n"
             "Shows what a region is like: its size, its tables, its label and its UUID.\n"
             "\n" CTL_USAGE_JSON CTL_USAGE_COMMON,
    .run = run,
};
