/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_NAMEI_H
#define SHMFS_NAMEI_H

/* Names: making, linking, removing and renaming. Contracts are those of the shmfs_node_* functions. */
#include "dir.h"

/* What namei_make() is to make. */
struct namei_new {
    mode_t mode; /* with its type; S_ISLNK takes `target`, S_ISDIR a parent */
    uint64_t rdev;
    const char *target;
    const struct shmfs_maker *maker;
    bool ref;
};

int namei_make(struct shmfs *fs, uint32_t parent, const char *name, const struct namei_new *new,
               struct shmfs_attr *ret);
int namei_tmpfile(struct shmfs *fs, uint32_t parent, const struct namei_new *new, struct shmfs_attr *ret);
int namei_link(struct shmfs *fs, uint32_t ino, uint32_t parent, const char *name, bool ref,
               struct shmfs_attr *ret);
/* Removes a directory (dir) or anything else. */
int namei_remove(struct shmfs *fs, uint32_t parent, const char *name, bool dir);
int namei_rename(struct shmfs *fs, uint32_t parent, const char *name, uint32_t newparent, const char *newname,
                 unsigned flags, const struct shmfs_maker *maker);

#endif
