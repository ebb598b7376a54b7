/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_NAMEI_H
#define SHMFS_NAMEI_H

/* Names: making, linking, removing and renaming. Contracts are those of the shmfs_node_* functions. */
#include "dir.h"

#define NAMEI_ANY UINT64_MAX

/* A directory: its number, and the generation that it must still have under its lock, or NAMEI_ANY. */
struct namei_dir {
    uint32_t ino;
    uint64_t generation;
};

/* What namei_make() is to make. */
struct namei_new {
    mode_t mode; /* with its type; S_ISLNK takes `target`, S_ISDIR a parent */
    uint64_t rdev;
    const char *target;
    const struct shmfs_maker *maker;
    bool ref;
    uint32_t *ret_use; /* besides opens it: gets the use record; NO_USE before. May be NULL */
};

/*
 * ret may be NULL. `seen`, here and below: what path_walk() or dir_lookup() just found for the name, and what the
 * caller has permitted: -ESTALE where it is something else by now. NULL: whatever is there.
 */
int namei_make(struct shmfs *fs, struct namei_dir parent, const struct dir_name *name,
               const struct dir_entry *seen, const struct namei_new *new, struct shmfs_attr *ret);
int namei_tmpfile(struct shmfs *fs, struct namei_dir parent, const struct namei_new *new,
                  struct shmfs_attr *ret);
/* nameless: also if it has no name now, as a file that was made without one. Else -ENOENT. */
int namei_link(struct shmfs *fs, uint32_t ino, struct namei_dir parent, const struct dir_name *name, bool ref,
               bool nameless, struct shmfs_attr *ret);
/* Removes a directory (dir) or anything else. */
int namei_remove(struct shmfs *fs, struct namei_dir parent, const struct dir_name *name,
                 const struct dir_entry *seen, bool dir);
int namei_rename(struct shmfs *fs, struct namei_dir parent, const struct dir_name *name,
                 struct namei_dir newparent, const struct dir_name *newname, const struct dir_entry *seen,
                 unsigned flags, const struct shmfs_maker *maker); /* seen[2]: from, to */
/* The target of a symbolic link: at most n bytes of it, returns its length. -ESTALE, -EINVAL. */
ssize_t namei_readlink(struct shmfs *fs, struct namei_dir link, char *ret, size_t n);

#endif
