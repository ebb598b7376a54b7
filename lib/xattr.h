/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_XATTR_H
#define SHMFS_XATTR_H

/*
 * Extended attributes. The list of a file is small and changes rarely: it is read whole, and a change
 * writes it whole, into the chain of blocks that is there if it fits, else into a new one to which the
 * reference is swapped; so any size is all or nothing.
 */
#include "inode.h"

enum { XATTR_REWRITE_MAX = 24 }; /* blocks of a list that is changed in place: they fit the undo log */

#define XATTR_CAPABILITY "security.capability"

/*
 * 0 for a name in a namespace that there is: user, trusted and security with something behind the dot, and
 * the two POSIX ACLs. -EOPNOTSUPP: no such namespace; -EINVAL: nothing behind the dot.
 */
int xattr_name_check(const char *name);

/*
 * Gets a value; n = 0 asks for its size. Without the lock, retried as a reading; within a transaction
 * that holds the inode's lock pass it as `t`. -ENODATA, -ERANGE, -ENOMEM.
 */
ssize_t xattr_get(struct shmfs *fs, struct txn *t, uint32_t ino, const char *name, void *ret, size_t n);
/* Names, each with its NUL. -ERANGE. */
ssize_t xattr_list(struct shmfs *fs, uint32_t ino, char *ret, size_t n);

/*
 * Sets (value NULL: removes) within a transaction, after inode_edit(). flags as setxattr(2). Leaves the
 * old chain to a todo record: inode_settle() before txn_commit().
 * -ENODATA, -EEXIST, -ENOSPC (list too long, or no blocks), -E2BIG, -ERANGE (name), -ENOMEM, -EAGAIN.
 */
int xattr_change(struct txn *t, uint32_t ino, struct inode *in, const char *name, const void *value, size_t n,
                 int flags);

#endif
