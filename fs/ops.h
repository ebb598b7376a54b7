/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_OPS_H
#define SHMFS_OPS_H

/*
 * What the kernel asks for, in terms of node.h. Stateless: a node is its inode number, opening leaves
 * nothing to remember, and the kernel's lookup counts are in the region.
 *
 * Timeouts: of what programs on the mount change the kernel knows itself. It drops what an operation makes
 * stale beyond its reply: the attributes of changed directories and of names that go, ctime and nlink of what
 * is linked, unlinked or renamed, size and times of what is written or copied to, ACLs. What direct processes
 * change is recalled before. So both names (also those that do not exist) and attributes may be kept for as
 * long as it likes, if they were leased: docs/COHERENCE.md. Answers that the kernel takes for the newest whenever
 * they arrive (to SETATTR, and to all that makes something) have attributes that are not to be kept.
 */
#include "driver.h"

extern const struct fuse_lowlevel_ops ops_table;

/* Of a request. */
struct driver *op_driver(fuse_req_t req);

/* Answers with an error in the library's form (negative, or 0). */
void op_error(fuse_req_t req, int error);

/* Answers with an object for which a lookup was counted: it is given back where no answer arrives. */
void op_entry(fuse_req_t req, const struct shmfs_attr *attr);

/* The form in which names, and inodes with their attributes, are answered. */
struct fuse_entry_param op_entry_param(const struct driver *driver, const struct shmfs_attr *attr);

/* Attributes, and in ret->leases whether the kernel may keep them. */
int op_getattr_leased(const struct driver *driver, uint32_t ino, struct shmfs_attr *ret);
/* The kernel is about to keep pages, listings (SHMFS_LEASE_DATA) or ACLs. 0 or -errno. */
int op_lease(const struct driver *driver, fuse_ino_t ino, enum shmfs_lease kind);

/* ops_name.c */
void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname);
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
               unsigned int flags);
void op_readlink(fuse_req_t req, fuse_ino_t ino);

/* ops_dir.c */
void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);

/* ops_data.c */
void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
              struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t length,
                  struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);
void op_copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_off, struct fuse_file_info *from_fi,
                        fuse_ino_t to, off_t to_off, struct fuse_file_info *to_fi, size_t n, int flags);

/* ops_xattr.c */
void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags);
void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

/* ops_lock.c */
void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *fl);
void op_setlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *fl, int sleep);
void op_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op);

/* What an open file is answered with; its number, if we are to hear of it again. */
void op_opened(const struct driver *driver, struct fuse_file_info *fi);
uint64_t op_handle(const struct driver *driver);

/*
 * SHMFS_SET_KILL_SGID, or 0. The kernel leaves S_ISGID without group execution to us, and does not say whether the
 * caller is in the group.
 */
unsigned op_kill_sgid(fuse_req_t req, fuse_ino_t ino);
/* Clears set-id bits before the data is changed by a request that does not say whether to. */
int op_kill_priv(fuse_req_t req, fuse_ino_t ino);

#endif
