/* SPDX-License-Identifier: MIT */
#ifndef FACES_H
#define FACES_H

/*
 * One table of cases, and two ways to run it: by system calls below a directory, which is made the root, and by
 * lib/shmfs.h in a region. A case prints what each call gave; nothing says here what is right. tests/mount/test_faces.sh
 * runs it on a tmpfs, on the mount, and directly, and all three must have printed the same.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/xattr.h>
#include <time.h>

#include "shmfs.h"

struct face {
    struct shmfs *fs; /* NULL: by system calls */
};

/* An open file, by one way or the other. */
struct handle {
    struct shmfs_file *file;
    int fd;
};

/* ---- operations: 0, a count, or a negative errno ------------------------------------------------- */

long op_open(const struct face *f, const char *path, int flags, mode_t mode, struct handle *ret);
long op_close(const struct handle *h);
/* Opens and closes. */
long op_opens(const struct face *f, const char *path, int flags);
long op_pread(const struct handle *h, void *buf, size_t n, off_t off);
long op_pwrite(const struct handle *h, const void *buf, size_t n, off_t off);
long op_ftruncate(const struct handle *h, off_t size);
long op_fallocate(const struct handle *h, int mode, off_t off, off_t n);
long op_seek(const struct handle *h, off_t off, int whence); /* SEEK_DATA, SEEK_HOLE */
long op_fsync(const struct handle *h);
long op_fstat(const struct handle *h, struct stat *ret);
long op_fchmod(const struct handle *h, mode_t mode);
long op_fchown(const struct handle *h, uid_t uid, gid_t gid);
long op_futimens(const struct handle *h, const struct timespec times[2]);
long op_flink(const struct handle *h, const char *to);
long op_flock(const struct handle *h, int operation);
long op_fcntl(const struct handle *h, int cmd, struct flock *lock);

long op_stat(const struct face *f, const char *path, struct stat *ret);
long op_lstat(const struct face *f, const char *path, struct stat *ret);
long op_access(const struct face *f, const char *path, int mode);
long op_truncate(const struct face *f, const char *path, off_t size);
long op_mkdir(const struct face *f, const char *path, mode_t mode);
long op_rmdir(const struct face *f, const char *path);
long op_unlink(const struct face *f, const char *path);
long op_rename(const struct face *f, const char *from, const char *to, unsigned flags);
long op_link(const struct face *f, const char *from, const char *to);
long op_symlink(const struct face *f, const char *target, const char *path);
long op_readlink(const struct face *f, const char *path, char *ret, size_t n);
long op_mknod(const struct face *f, const char *path, mode_t mode, dev_t dev);
long op_chmod(const struct face *f, const char *path, mode_t mode);
long op_chown(const struct face *f, const char *path, uid_t uid, gid_t gid);
long op_lchown(const struct face *f, const char *path, uid_t uid, gid_t gid);
long op_utimens(const struct face *f, const char *path, const struct timespec times[2], int flags);
long op_setxattr(const struct face *f, const char *path, const char *name, const void *value, size_t n,
                 int flags);
long op_lsetxattr(const struct face *f, const char *path, const char *name, const void *value, size_t n,
                  int flags);
long op_getxattr(const struct face *f, const char *path, const char *name, void *ret, size_t n);
long op_listxattr(const struct face *f, const char *path, char *ret, size_t n);
long op_removexattr(const struct face *f, const char *path, const char *name);
/* Names in a directory, sorted, each with a slash behind it. */
long op_list(const struct face *f, const char *path, char *ret, size_t n);
void op_umask(const struct face *f, mode_t mask);
/* Takes the credentials and limits that this process has by now. */
void op_become(const struct face *f);

/* ---- what cases are written with ----------------------------------------------------------------- */

/* A line: where and which call, and its result, by name if it is an error. */
void say(const char *what, long result);
#define SAY(call) say(#call, call)
/* The call must work, or the case makes no sense. */
#define MUST(call) must(#call, call)
long must(const char *what, long result);
/* Lines from now on bear this. */
void label(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A line of text. */
void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));

enum { ALICE = 1001, BOB = 1002, TEAM = 2001 };
/* Does it as somebody else, in a process of its own: ALICE is in TEAM; BOB is, where `member` says so. */
void as_somebody(const struct face *f, uid_t uid, bool member, void (*act)(const struct face *f, void *arg),
                 void *arg);

void make_file(const struct face *f, const char *path, const void *data, size_t n);
/* Mode, owner, links, size, and where a link leads. */
void look(const struct face *f, const char *path);
/* That of everything below. */
void tree(const struct face *f, const char *path);
void remove_tree(const struct face *f, const char *path);

struct face_case {
    const char *name; /* NULL: the end */
    void (*run)(const struct face *f);
};
extern const struct face_case faces_names[], faces_data[], faces_attrs[], faces_rights[];

#endif
