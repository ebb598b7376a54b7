/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_FILE_H
#define SHMFS_FILE_H

/*
 * The data of regular files. Invariant I10: the bytes of a file's blocks past its end are zero, so
 * that growing needs to touch nothing.
 */
#include "inode.h"

#define FILE_SIZE_MAX INT64_MAX

/* As shmfs_node_read() without the atime; -EISDIR, -EINVAL. */
ssize_t file_read(struct shmfs *fs, uint32_t ino, void *buf, size_t n, off_t off);
/* Sets atime if relatime, or how the region was attached, asks for it. */
void file_read_time(struct shmfs *fs, uint32_t ino);
ssize_t file_write(struct shmfs *fs, uint32_t ino, const void *buf, size_t n, off_t off, unsigned flags,
                   off_t *ret_off);
/*
 * Sets the size, within a transaction and after inode_edit(). Shrinking may leave a todo record:
 * inode_settle() before txn_commit().
 */
int file_resize(struct txn *t, uint32_t ino, struct inode *in, uint64_t size);
int file_fallocate(struct shmfs *fs, uint32_t ino, int mode, off_t off, off_t len);
off_t file_lseek(struct shmfs *fs, uint32_t ino, off_t off, int whence);
ssize_t file_copy(struct shmfs *fs, uint32_t from, off_t from_off, uint32_t to, off_t to_off, size_t n);

/* Clears set-id bits as a write by an ordinary user does, who may be outside the file's group. */
void file_kill_priv(struct inode *in, bool outside);

#endif
