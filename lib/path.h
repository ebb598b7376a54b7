/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_PATH_H
#define SHMFS_PATH_H

/* From a path to an inode, with the search permissions of a caller, without a lock. */
#include "cred.h"
#include "namei.h"

enum path_flags {
    PATH_FOLLOW = 1, /* a symbolic link at the end too */
    PATH_ENTRY = 4,  /* the entry itself is meant: a symbolic link, also with a slash behind it */
    PATH_KEEP = 8,   /* path_known() may answer the next time */
    PATH_PARENT = 2, /* the name at the end need not be there: found is false then */
    PATH_MAKE = 16,  /* a file is to be made, if it is not there: -EISDIR where a slash follows */
};

/* Where a path led. */
struct path_at {
    struct namei_dir dir; /* the directory of the last name, unless `nameless` */
    struct dir_name name; /* points to `last`: the structure does not move */
    struct dir_entry e;   /* if found */
    bool found;
    bool nameless; /* the path ended in the root, "." or ".." : e is that directory, with no name */
    bool writable; /* the directory is the caller's own, writable, and not sticky: nothing more to ask */
    bool slash;    /* it ended in a slash: nothing but a directory will do */
    char *buf;     /* the path as rewritten by symbolic links, or NULL */
    char last[NAME_MAX_BYTES + 1];
};

/*
 * -ENOENT, -ENOTDIR, -EACCES, -ELOOP, -ENAMETOOLONG, -ENOMEM. On success path_done() it. A directory
 * that was replaced on the way is looked for again.
 */
int path_walk(struct shmfs *fs, const struct cred *cred, const char *path, unsigned flags,
              struct path_at *ret);
static inline void path_done(struct path_at *at)
{
    if (unlikely(at->buf != NULL))
        free(at->buf);
}

/* Where a path ended. */
struct path_end {
    uint32_t ino, generation;
};
/*
 * The answer of an earlier walk of this thread's with PATH_KEEP, as long as it holds: a few loads for each directory
 * that it passed. False: walk.
 */
bool path_known(const struct shmfs *fs, const struct cred *cred, const char *path, struct path_end *ret);

/*
 * May names be added to, or taken from, the directory that a walk led to? Fills ret_head unless at->writable. -EACCES,
 * -ESTALE.
 */
int path_dir_writable(struct shmfs *fs, const struct cred *cred, const struct path_at *at,
                      struct inode *ret_head);

#endif
