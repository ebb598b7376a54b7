/* SPDX-License-Identifier: MIT */
/* shmfsctl cat: the content of files. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"

enum { PIECE = 65536 }; /* the most that is read as one state of the file */

/* 0, or a negative errno of the region's; dies if nothing can be printed. */
static int copy_out(struct shmfs_file *file)
{
    static char buf[PIECE];
    off_t off = 0;
    ssize_t n;

    while ((n = shmfs_pread(file, buf, sizeof(buf), off)) > 0) {
        if (fwrite(buf, 1, (size_t)n, stdout) != (size_t)n)
            ctl_die(CTL_FAILED, "cannot print: %s", strerror(errno));
        off += n;
    }
    return (int)n;
}

static int run(const struct ctl_call *call)
{
    int status = CTL_OK;

    for (int i = 0; i < call->npaths; i++) {
        struct shmfs_file *file;
        int r = shmfs_open(call->fs, call->paths[i], O_RDONLY, 0, &file);

        if (r == 0) {
            r = copy_out(file);
            shmfs_close(file);
        }
        if (r < 0) {
            ctl_warn("%s: %s", call->paths[i], ctl_reason(r));
            status = CTL_FAILED;
        }
    }
    return status;
}

const struct ctl_command ctl_cat = {
    .name = "cat",
    .usage = "Usage: shmfsctl cat WHERE PATH...\n"
             "Prints the content of files of a region, one after the other.\n"
             "\n" CTL_USAGE_COMMON,
    .no_json = true,
    .min_paths = 1,
    .max_paths = INT_MAX,
    .run = run,
};
