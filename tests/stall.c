/* SPDX-License-Identifier: MIT */
/*
 * A process that is stopped in the middle of a change, and one that waits for it.
 *
 *   stall hold REGION INODE   takes the inode's lock, says "holding", stops itself; continued, ends well
 *   stall wait REGION INODE   says "waiting", and changes the inode
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "txn.h"

static struct shmfs *fs;

static void must(int r, const char *what)
{
    if (r < 0) {
        fprintf(stderr, "stall: %s: %s\n", what, strerror(-r));
        exit(1);
    }
}

static void say(const char *word)
{
    puts(word);
    fflush(stdout);
}

static void hold(uint32_t ino)
{
    struct txn txn;

    must(txn_begin(fs, &txn), "begin");
    must(txn_lock_inode(&txn, ino), "lock");
    say("holding");
    raise(SIGSTOP);
    txn_commit(&txn);
}

static void wait_for(uint32_t ino)
{
    struct shmfs_attr attr = { .mode = 0600 };

    say("waiting");
    must(shmfs_node_setattr(fs, ino, &attr, SHMFS_SET_MODE, &attr), "change");
}

int main(int argc, char **argv)
{
    struct shmfs_diag diag = { .reason = SHMFS_REASON_NONE };
    char text[512];
    int r;

    if (argc != 4)
        return 2;
    r = shmfs_region_attach(argv[2], 0, &fs, &diag);
    if (r < 0) {
        fprintf(stderr, "stall: %s\n", shmfs_diag_text(&diag, r, argv[2], text, sizeof(text)));
        return 1;
    }
    (strcmp(argv[1], "hold") == 0 ? hold : wait_for)((uint32_t)strtoul(argv[3], NULL, 10));
    shmfs_region_detach(fs);
    return 0;
}
