/* SPDX-License-Identifier: MIT */
#ifndef STORM_FACE_H
#define STORM_FACE_H

/*
 * The same operations by two ways: by lib/shmfs.h, and by system calls on a mount. Paths begin with a slash at
 * the filesystem's root. Each returns 0, a count, or a negative errno.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "shmfs.h"

struct face {
    struct shmfs *fs;  /* of one who is attached; NULL: by the mount */
    const char *mount; /* where that is */
};

/* The path as the kernel knows it. */
struct face_path {
    char path[300];
};
struct face_path face_path(const struct face *f, const char *path);
/* Of a system call. */
static inline long face_result(long r)
{
    return r < 0 ? -errno : r;
}

int face_make(const struct face *f, const char *path, mode_t mode);
int face_mkdir(const struct face *f, const char *path, mode_t mode);
int face_symlink(const struct face *f, const char *target, const char *path);
int face_unlink(const struct face *f, const char *path);
int face_rmdir(const struct face *f, const char *path);
int face_link(const struct face *f, const char *from, const char *to);
int face_rename(const struct face *f, const char *from, const char *to, unsigned flags);
int face_chmod(const struct face *f, const char *path, mode_t mode);
int face_truncate(const struct face *f, const char *path, off_t size);
int face_setxattr(const struct face *f, const char *path, const char *name, const void *value, size_t n);
int face_removexattr(const struct face *f, const char *path, const char *name);
/* Opens, writes, closes. */
ssize_t face_write(const struct face *f, const char *path, const void *buf, size_t n, off_t off, bool append);
ssize_t face_read(const struct face *f, const char *path, void *buf, size_t n, off_t off);
/*
 * Whatever else one does with files, and leaves lying about when one is killed: opens what is unlinked, maps,
 * locks, files without a name. PATH is a name that others use in the same way.
 */
int face_fiddle(const struct face *f, const char *dir, const char *path, uint64_t chance);

#endif
