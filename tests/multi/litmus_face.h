/* SPDX-License-Identifier: MIT */
#ifndef LITMUS_FACE_H
#define LITMUS_FACE_H

/* More of storm_face.h: what it takes to see that a change has come through. The same rules. */
#include <sys/stat.h>
#include <time.h>

#include "storm_face.h"

/* An open file, by one side or the other. All 0: none. */
struct handle {
    struct shmfs_file *file;
    int fd; /* + 1 */
};

/* A directory that is being listed: by the mount a few names at a time, so that the kernel, too, is half-way. */
struct listing {
    struct shmfs_dir *direct;
    int fd; /* + 1 */
    unsigned at, have;
    _Alignas(8) char buf[1024];
};
struct listed {
    uint64_t ino;
    unsigned type;
    char name[256];
};

int face_lstat(const struct face *f, const char *path, struct stat *ret);
ssize_t face_readlink(const struct face *f, const char *path, char *ret, size_t n);
int face_mkfifo(const struct face *f, const char *path, mode_t mode);
int face_chown(const struct face *f, const char *path, uid_t uid, gid_t gid);
int face_utimens(const struct face *f, const char *path, const struct timespec times[2]);
ssize_t face_getxattr(const struct face *f, const char *path, const char *name, void *ret, size_t n);
ssize_t face_listxattr(const struct face *f, const char *path, char *ret, size_t n);

/* Is this allowed to somebody without privileges (for the face of a mount: as mode for open)? 0, or -EACCES. */
int face_open_as_nobody(const struct face *f, struct shmfs *nobody, const char *path);

int face_open(const struct face *f, const char *path, int flags, struct handle *ret);
/* Of no handle: nothing. */
int face_close(struct handle *h);
ssize_t face_pread(const struct handle *h, void *buf, size_t n, off_t off);
ssize_t face_pwrite(const struct handle *h, const void *buf, size_t n, off_t off);
ssize_t face_append(const struct handle *h, const void *buf, size_t n);
int face_fstat(const struct handle *h, struct stat *ret);
int face_fallocate(const struct handle *h, int mode, off_t off, off_t n);
int face_flink(const struct face *f, const struct handle *h, const char *to);
/* A pointer to the file from its start, shared. */
int face_map(const struct handle *h, size_t n, bool write, void **ret);
int face_unmap(const struct face *f, void *p, size_t n);
/* Publishes what was stored to [off, off + n) of what is mapped at p. */
int face_msync(const struct handle *h, char *p, size_t off, size_t n);
int face_fsync(const struct face *f, const char *path);

int face_opendir(const struct face *f, const char *path, struct listing *ret);
/* 1, or 0 at the end. Without "." and "..". */
int face_readdir(struct listing *l, struct listed *ret);
/* To the start; what was read ahead is forgotten. */
void face_rewind(struct listing *l);
void face_closedir(struct listing *l);

#endif
