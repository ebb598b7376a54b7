/* SPDX-License-Identifier: MIT */
/*
 * A direct process that is stopped, or waits, within a transaction:
 *
 *   holder REGION INODE [INODE] [--stop] [--as PID]
 *   holder REGION --count
 *
 * Locks the inodes in this order, saying "held N" after each, and "waits N" before one that it may have to
 * wait for. Then it stops itself (--stop) or ends well at the end of its standard input. --as: its entry in
 * the process table says that it is PID, as a forger's would. --count prints how many are attached, without
 * attaching itself.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node.h"
#include "txn.h"

static struct shmfs *attach(const char *path, unsigned flags)
{
    struct shmfs_diag diag = { .reason = SHMFS_REASON_NONE };
    struct shmfs *fs;
    char text[512];
    int r = shmfs_region_attach(path, flags, &fs, &diag);

    if (r == 0)
        return fs;
    fprintf(stderr, "holder: %s\n", shmfs_diag_text(&diag, r, path, text, sizeof(text)));
    exit(1);
}

static int count(const char *path)
{
    struct shmfs *fs = attach(path, SHMFS_ATTACH_RDONLY);
    struct shmfs_process p;
    uint32_t cursor = 0;
    unsigned n = 0;

    while (shmfs_region_next_process(fs, &cursor, &p) > 0)
        n++;
    printf("%u\n", n);
    shmfs_region_detach(fs);
    return 0;
}

/* Field 22 of its stat. */
static uint64_t start_of(uint32_t pid)
{
    char text[1024] = "", *at;
    uint64_t start = 0;
    FILE *f;

    snprintf(text, sizeof(text), "/proc/%" PRIu32 "/stat", pid);
    f = fopen(text, "re");
    if (!f || !fgets(text, sizeof(text), f))
        exit(1);
    fclose(f);
    at = strrchr(text, ')');
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    if (!at || sscanf(at, " %" SCNu64, &start) != 1)
        exit(1);
    return start;
}

static void feign(struct shmfs *fs, uint32_t pid)
{
    struct proc_entry *e = &fs->procs[proc_index(fs->self)];

    e->start_time = start_of(pid);
    e->pid = pid;
}

static void hold(struct txn *t, uint32_t ino)
{
    int r;

    printf("waits %" PRIu32 "\n", ino);
    r = txn_lock_inode(t, ino);
    if (r < 0) {
        fprintf(stderr, "holder: inode %" PRIu32 ": %s\n", ino, strerror(-r));
        exit(1);
    }
    printf("held %" PRIu32 "\n", ino);
}

int main(int argc, char **argv)
{
    struct shmfs *fs;
    bool stop = false;
    struct txn t;

    if (argc < 3)
        return 2;
    if (strcmp(argv[2], "--count") == 0)
        return count(argv[1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    fs = attach(argv[1], 0);
    if (txn_begin(fs, &t) < 0)
        return 1;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--stop") == 0)
            stop = true;
        else if (strcmp(argv[i], "--as") == 0 && i + 1 < argc)
            feign(fs, (uint32_t)strtoul(argv[++i], NULL, 10));
        else
            hold(&t, (uint32_t)strtoul(argv[i], NULL, 10));
    }
    if (stop)
        raise(SIGSTOP);
    else
        while (getchar() != EOF)
            continue;
    txn_abort(&t);
    shmfs_region_detach(fs);
    puts("done");
    return 0;
}
