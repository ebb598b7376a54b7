/* SPDX-License-Identifier: MIT */
/* Attaches to a region, says so, and stays until its standard input ends: a stand-in for any user. */
#include <stdio.h>

#include "node.h"

int main(int argc, char **argv)
{
    struct shmfs *fs;
    struct shmfs_diag diag = { .reason = SHMFS_REASON_NONE };
    char text[512];
    int r;

    if (argc != 2)
        return 2;
    r = shmfs_region_attach(argv[1], 0, &fs, &diag);
    if (r < 0) {
        fprintf(stderr, "hold: %s\n", shmfs_diag_text(&diag, r, argv[1], text, sizeof(text)));
        return 1;
    }
    puts("attached");
    fflush(stdout);
    while (getchar() != EOF)
        continue;
    shmfs_region_detach(fs);
    return 0;
}
