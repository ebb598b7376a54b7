/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_MOUNT_H
#define SHMFS_MOUNT_H

/*
 * Mounting and unmounting: by ourselves as root, else through fusermount3. libfuse could do it too,
 * but with words that help nobody, without suid and dev for root, and so that unmounting while busy
 * would close the device before dirty pages are written.
 */
#include <stdbool.h>

#define MOUNT_SUBTYPE "shmfs"
#define MOUNT_TYPE "fuse." MOUNT_SUBTYPE

struct mount_request {
    const char *path;    /* full path of the mount point */
    const char *source;  /* the region; shown by mount(8) */
    unsigned long flags; /* MS_* */
    bool allow_other;
    const char *context; /* options of security modules, or NULL */
};

/* Returns the device of the new mount, or -1 after saying what is wrong. */
int mount_make(const struct mount_request *request);

/* Takes the mount away: at once from the tree, and for good when the last user of it is gone. */
bool mount_remove(const char *path);

/* The path of fusermount3, or NULL. */
const char *mount_find_helper(void);

#endif
