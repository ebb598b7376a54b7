/* SPDX-License-Identifier: MIT */
/* shmfsctl df: how full a region is. */
#include <inttypes.h>
#include <stdio.h>

#include "ctl.h"

enum { OPTION_BYTES = 1 };

/* As df(1): rounded up, so that 0% is empty. */
static void percent_cell(struct ctl_table *table, uint64_t used, uint64_t all)
{
    if (all == 0)
        ctl_cell(table, "-");
    else
        ctl_cell(table, "%u%%", (unsigned)(((__uint128_t)used * 100 + all - 1) / all));
}

static void size_cell(struct ctl_table *table, bool bytes, uint64_t size)
{
    char text[16];

    if (bytes)
        ctl_cell(table, "%" PRIu64, size);
    else
        ctl_cell(table, "%s", shmfs_size_text(size, text, sizeof(text)));
}

static int run(const struct ctl_call *call)
{
    static const struct ctl_column columns[] = {
        { "REGION", false }, { "SIZE", true },  { "USED", true },  { "AVAIL", true }, { "USE%", true },
        { "INODES", true },  { "IUSED", true }, { "IFREE", true }, { "IUSE%", true },
    };
    struct ctl_table table = { .columns = columns, .ncolumns = sizeof(columns) / sizeof(columns[0]) };
    bool bytes = (call->options & OPTION_BYTES) != 0;
    struct shmfs_space s;
    uint64_t used, iused;

    shmfs_node_statfs(call->fs, &s);
    used = s.blocks > s.free_blocks ? s.blocks - s.free_blocks : 0; /* others change them as we look */
    iused = s.inodes > s.free_inodes ? s.inodes - s.free_inodes : 0;
    if (call->json) {
        struct json_object *object = ctl_json_object();

        ctl_json_number(object, "size", s.blocks * s.block_size);
        ctl_json_number(object, "used", used * s.block_size);
        ctl_json_number(object, "available", s.free_blocks * s.block_size);
        ctl_json_number(object, "block_size", s.block_size);
        ctl_json_number(object, "inodes", s.inodes);
        ctl_json_number(object, "inodes_used", iused);
        ctl_json_number(object, "inodes_free", s.free_inodes);
        ctl_json_print(object);
        return CTL_OK;
    }
    ctl_cell(&table, "%s", call->where);
    size_cell(&table, bytes, s.blocks * s.block_size);
    size_cell(&table, bytes, used * s.block_size);
    size_cell(&table, bytes, s.free_blocks * s.block_size);
    percent_cell(&table, used, s.blocks);
    ctl_cell(&table, "%" PRIu64, s.inodes);
    ctl_cell(&table, "%" PRIu64, iused);
    ctl_cell(&table, "%" PRIu64, s.free_inodes);
    percent_cell(&table, iused, s.inodes);
    ctl_table_print(&table);
    return CTL_OK;
}

const struct ctl_command ctl_df = {
    .name = "df",
    .usage = "Usage: shmfsctl df [options] WHERE\n"
             "Shows how much of a region's space and inodes is used.\n"
             "\n"
             "  -b, --bytes    print sizes in bytes\n" CTL_USAGE_JSON CTL_USAGE_COMMON,
    .options = { { 'b', "bytes", OPTION_BYTES } },
    .run = run,
};
