/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_OPTIONS_H
#define SHMFS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum cache_mode {
    CACHE_COHERENT,  /* the kernel keeps names, attributes and pages; writes go through */
    CACHE_WRITEBACK, /* and dirty pages: the mount alone may write */
    CACHE_NONE,      /* every call comes to the driver */
};

enum stall_policy {
    STALL_WAIT, /* name who holds others up */
    STALL_KILL, /* and kill it */
};

#define STALL_TIMEOUT_DEFAULT 5.0

/* What the command line says; what it leaves out is decided where it is used. */
struct options {
    char *mountpoint;
    char *region; /* NULL: the mount point's own, under /dev/shm */

    /* For a region that is made now. */
    uint64_t size, max_size, inodes; /* 0: not given */
    bool mode_given, uid_given, gid_given;
    mode_t mode; /* of the root directory */
    uid_t uid;
    gid_t gid;

    bool foreground;
    bool debug;
    bool dispose; /* volatile: remove the region at the end */
    enum cache_mode cache;
    unsigned workers; /* 0: as many as fit this machine */
    bool share_locks; /* local_lock=none: those of programs hold against direct processes too */
    enum stall_policy stall;
    double stall_timeout; /* seconds; 0: not given */
    char *image;          /* in which the region is kept, or NULL */
    bool sync_given;
    double sync; /* seconds between snapshots; 0: only for fsync, and at the end */
    bool allow_other_given, allow_other;

    unsigned long flags;       /* MS_*, for mount(2) */
    unsigned long flags_given; /* those of them that the command line names, on or off */
    char *context;             /* options of security modules for the kernel, or NULL */
};

/* What there is to do after the command line has been read. */
enum options_result {
    OPTIONS_RUN,
    OPTIONS_DONE,  /* --help or --version: has been printed */
    OPTIONS_WRONG, /* has been said */
};

enum options_result options_parse(int argc, char **argv, struct options *ret);
void options_free(struct options *options);

/* The flags as options for fusermount3: "rw,nosuid,…". At most n bytes; returns buf. */
const char *options_flag_text(unsigned long flags, char *buf, size_t n);

#endif
