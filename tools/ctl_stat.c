/* SPDX-License-Identifier: MIT */
/* shmfsctl stat: the attributes of files. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "ctl.h"

enum { OPTION_FOLLOW = 1 };

static void print_time(const char *label, struct timespec ts)
{
    char text[64];

    printf("  %-9s%s.%09ld\n", label, ctl_time_text(ts.tv_sec, text, sizeof(text)), ts.tv_nsec);
}

static void print_text(const char *path, const struct stat *st, const struct shmfs_attr *attr)
{
    char mode[11], user[64], group[64];

    printf("%s: %s\n", path, ctl_type_text(st->st_mode));
    printf("  inode    %ju, generation %" PRIu32 "\n", (uintmax_t)st->st_ino, attr->generation);
    printf("  size     %jd bytes in %jd blocks of 512\n", (intmax_t)st->st_size, (intmax_t)st->st_blocks);
    if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
        printf("  device   %u, %u\n", major(st->st_rdev), minor(st->st_rdev));
    printf("  mode     %04o %s\n", st->st_mode & 07777, ctl_mode_text(st->st_mode, mode));
    printf("  links    %ju\n", (uintmax_t)st->st_nlink);
    printf("  owner    %ju %s\n", (uintmax_t)st->st_uid, ctl_user_text(st->st_uid, user, sizeof(user)));
    printf("  group    %ju %s\n", (uintmax_t)st->st_gid, ctl_group_text(st->st_gid, group, sizeof(group)));
    printf("  version  %" PRIu64 "\n", attr->version);
    print_time("accessed", st->st_atim);
    print_time("modified", st->st_mtim);
    print_time("changed", st->st_ctim);
    print_time("born", attr->btime);
}

/* The library's stat knows neither birth nor version; the inode number leads to them. */
static int look(const struct ctl_call *call, const char *path, struct stat *st, struct shmfs_attr *attr)
{
    bool follow = (call->options & OPTION_FOLLOW) != 0;
    int r = follow ? shmfs_stat(call->fs, path, st) : shmfs_lstat(call->fs, path, st);

    return r < 0 ? r : shmfs_node_getattr(call->fs, (uint32_t)st->st_ino, attr);
}

static struct json_object *stat_json(const char *path, const struct stat *st, const struct shmfs_attr *attr)
{
    struct json_object *object = ctl_json_object();

    ctl_json_text(object, "path", path);
    ctl_json_stat(object, st);
    ctl_json_number(object, "generation", attr->generation);
    ctl_json_number(object, "version", attr->version);
    ctl_json_timespec(object, "born", attr->btime);
    return object;
}

static int run(const struct ctl_call *call)
{
    struct json_object *array = call->json ? ctl_json_array() : NULL;
    int status = CTL_OK;

    for (int i = 0; i < call->npaths; i++) {
        const char *path = call->paths[i];
        struct shmfs_attr attr;
        struct stat st;
        int r = look(call, path, &st, &attr);

        if (r < 0) {
            ctl_warn("%s: %s", path, ctl_reason(r));
            status = CTL_FAILED;
        } else if (call->json) {
            ctl_json_append(array, stat_json(path, &st, &attr));
        } else {
            print_text(path, &st, &attr);
        }
    }
    if (call->json) {
        struct json_object *whole = ctl_json_object();
        ctl_json_put(whole, "files", array);
        ctl_json_print(whole);
    }
    return status;
}

const struct ctl_command ctl_stat = {
    .name = "stat",
    .usage = "Usage: shmfsctl stat [options] WHERE PATH...\n"
             "Shows the attributes of files of a region; of a symbolic link, its own.\n"
             "\n"
             "  -L, --dereference  of what symbolic links lead to\n"
             "  -j, --json         print JSON\n"
             "  -h, --help         show this and exit\n"
             "  -V, --version      show the version and exit\n",
    .options = { { 'L', "dereference", OPTION_FOLLOW } },
    .min_paths = 1,
    .max_paths = INT_MAX,
    .run = run,
};
