/* SPDX-License-Identifier: MIT */
#include "faces.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static long error(long r)
{
    return r < 0 ? -errno : r;
}

/* ---- by a handle --------------------------------------------------------------------------------- */

long op_open(const struct face *f, const char *path, int flags, mode_t mode, struct handle *ret)
{
    struct handle h = { .fd = -1 };
    long r;

    if (f->fs != NULL) {
        r = shmfs_open(f->fs, path, flags, mode, &h.file);
    } else {
        h.fd = open(path, flags | O_CLOEXEC, mode);
        r = h.fd < 0 ? -errno : 0;
    }
    *ret = h;
    return r;
}

long op_close(const struct handle *h)
{
    return h->file != NULL ? shmfs_close(h->file) : error(close(h->fd));
}

long op_opens(const struct face *f, const char *path, int flags)
{
    struct handle h;
    long r = op_open(f, path, flags, 0666, &h);

    return r < 0 ? r : op_close(&h);
}

long op_pread(const struct handle *h, void *buf, size_t n, off_t off)
{
    return h->file != NULL ? shmfs_pread(h->file, buf, n, off) : error(pread(h->fd, buf, n, off));
}

long op_pwrite(const struct handle *h, const void *buf, size_t n, off_t off)
{
    return h->file != NULL ? shmfs_pwrite(h->file, buf, n, off) : error(pwrite(h->fd, buf, n, off));
}

long op_ftruncate(const struct handle *h, off_t size)
{
    return h->file != NULL ? shmfs_ftruncate(h->file, size) : error(ftruncate(h->fd, size));
}

long op_fallocate(const struct handle *h, int mode, off_t off, off_t n)
{
    return h->file != NULL ? shmfs_fallocate(h->file, mode, off, n) : error(fallocate(h->fd, mode, off, n));
}

long op_seek(const struct handle *h, off_t off, int whence)
{
    if (h->file == NULL)
        return error(lseek(h->fd, off, whence));
    return whence == SEEK_DATA ? shmfs_lseek_data(h->file, off) : shmfs_lseek_hole(h->file, off);
}

long op_fsync(const struct handle *h)
{
    return h->file != NULL ? shmfs_fsync(h->file) : error(fsync(h->fd));
}

long op_fstat(const struct handle *h, struct stat *ret)
{
    return h->file != NULL ? shmfs_fstat(h->file, ret) : error(fstat(h->fd, ret));
}

long op_fchmod(const struct handle *h, mode_t mode)
{
    return h->file != NULL ? shmfs_fchmod(h->file, mode) : error(fchmod(h->fd, mode));
}

long op_fchown(const struct handle *h, uid_t uid, gid_t gid)
{
    return h->file != NULL ? shmfs_fchown(h->file, uid, gid) : error(fchown(h->fd, uid, gid));
}

long op_futimens(const struct handle *h, const struct timespec times[2])
{
    return h->file != NULL ? shmfs_futimens(h->file, times) : error(futimens(h->fd, times));
}

long op_flink(const struct handle *h, const char *to)
{
    return h->file != NULL ? shmfs_flink(h->file, to) : error(linkat(h->fd, "", AT_FDCWD, to, AT_EMPTY_PATH));
}

long op_flock(const struct handle *h, int operation)
{
    return h->file != NULL ? shmfs_flock(h->file, operation) : error(flock(h->fd, operation));
}

long op_fcntl(const struct handle *h, int cmd, struct flock *lock)
{
    return h->file != NULL ? shmfs_fcntl(h->file, cmd, lock) : error(fcntl(h->fd, cmd, lock));
}

/* ---- by a path ----------------------------------------------------------------------------------- */

#define EITHER(direct, host) return f->fs != NULL ? (long)(direct) : error(host)

long op_stat(const struct face *f, const char *path, struct stat *ret)
{
    EITHER(shmfs_stat(f->fs, path, ret), stat(path, ret));
}

long op_lstat(const struct face *f, const char *path, struct stat *ret)
{
    EITHER(shmfs_lstat(f->fs, path, ret), lstat(path, ret));
}

long op_access(const struct face *f, const char *path, int mode)
{
    EITHER(shmfs_access(f->fs, path, mode), faccessat(AT_FDCWD, path, mode, AT_EACCESS));
}

long op_truncate(const struct face *f, const char *path, off_t size)
{
    EITHER(shmfs_truncate(f->fs, path, size), truncate(path, size));
}

long op_mkdir(const struct face *f, const char *path, mode_t mode)
{
    EITHER(shmfs_mkdir(f->fs, path, mode), mkdir(path, mode));
}

long op_rmdir(const struct face *f, const char *path)
{
    EITHER(shmfs_rmdir(f->fs, path), rmdir(path));
}

long op_unlink(const struct face *f, const char *path)
{
    EITHER(shmfs_unlink(f->fs, path), unlink(path));
}

long op_rename(const struct face *f, const char *from, const char *to, unsigned flags)
{
    EITHER(shmfs_rename(f->fs, from, to, flags), renameat2(AT_FDCWD, from, AT_FDCWD, to, flags));
}

long op_link(const struct face *f, const char *from, const char *to)
{
    EITHER(shmfs_link(f->fs, from, to), linkat(AT_FDCWD, from, AT_FDCWD, to, 0));
}

long op_symlink(const struct face *f, const char *target, const char *path)
{
    EITHER(shmfs_symlink(f->fs, target, path), symlink(target, path));
}

long op_readlink(const struct face *f, const char *path, char *ret, size_t n)
{
    EITHER(shmfs_readlink(f->fs, path, ret, n), readlink(path, ret, n));
}

long op_mknod(const struct face *f, const char *path, mode_t mode, dev_t dev)
{
    EITHER(shmfs_mknod(f->fs, path, mode, dev), mknod(path, mode, dev));
}

long op_chmod(const struct face *f, const char *path, mode_t mode)
{
    EITHER(shmfs_chmod(f->fs, path, mode), chmod(path, mode));
}

long op_chown(const struct face *f, const char *path, uid_t uid, gid_t gid)
{
    EITHER(shmfs_chown(f->fs, path, uid, gid), chown(path, uid, gid));
}

long op_lchown(const struct face *f, const char *path, uid_t uid, gid_t gid)
{
    EITHER(shmfs_lchown(f->fs, path, uid, gid), lchown(path, uid, gid));
}

long op_utimens(const struct face *f, const char *path, const struct timespec times[2], int flags)
{
    EITHER(shmfs_utimens(f->fs, path, times, flags), utimensat(AT_FDCWD, path, times, flags));
}

long op_setxattr(const struct face *f, const char *path, const char *name, const void *value, size_t n,
                 int flags)
{
    EITHER(shmfs_setxattr(f->fs, path, name, value, n, flags), setxattr(path, name, value, n, flags));
}

long op_lsetxattr(const struct face *f, const char *path, const char *name, const void *value, size_t n,
                  int flags)
{
    EITHER(shmfs_lsetxattr(f->fs, path, name, value, n, flags), lsetxattr(path, name, value, n, flags));
}

long op_getxattr(const struct face *f, const char *path, const char *name, void *ret, size_t n)
{
    EITHER(shmfs_getxattr(f->fs, path, name, ret, n), getxattr(path, name, ret, n));
}

long op_listxattr(const struct face *f, const char *path, char *ret, size_t n)
{
    EITHER(shmfs_listxattr(f->fs, path, ret, n), listxattr(path, ret, n));
}

long op_removexattr(const struct face *f, const char *path, const char *name)
{
    EITHER(shmfs_removexattr(f->fs, path, name), removexattr(path, name));
}

/* ---- listings ------------------------------------------------------------------------------------ */

enum { NAMES = 200, NAME = 256 };

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static long sorted(char (*names)[NAME], size_t count, char *ret, size_t n)
{
    size_t used = 0;

    qsort(names, count, NAME, by_name);
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(names[i]);

        if (used + len + 2 > n)
            abort(); /* a case asks for too little */
        memcpy(ret + used, names[i], len);
        ret[used + len] = '/';
        used += len + 1;
    }
    ret[used] = 0;
    return (long)count;
}

static size_t keep(char (*names)[NAME], size_t count, const char *name)
{
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return count;
    if (count == NAMES)
        abort();
    strcpy(names[count], name);
    return count + 1;
}

long op_list(const struct face *f, const char *path, char *ret, size_t n)
{
    static char names[NAMES][NAME];
    const struct dirent *e;
    size_t count = 0;

    if (f->fs != NULL) {
        struct shmfs_dir *dir;
        int r = shmfs_opendir(f->fs, path, &dir);

        if (r < 0)
            return r;
        while (shmfs_readdir(dir, &e) == 1)
            count = keep(names, count, e->d_name);
        shmfs_closedir(dir);
    } else {
        DIR *dir = opendir(path);

        if (dir == NULL)
            return -errno;
        while ((e = readdir(dir)) != NULL)
            count = keep(names, count, e->d_name);
        closedir(dir);
    }
    return sorted(names, count, ret, n);
}

/* ---- who asks ------------------------------------------------------------------------------------ */

void op_umask(const struct face *f, mode_t mask)
{
    umask(mask);
    if (f->fs != NULL)
        shmfs_umask(f->fs, mask);
}

void op_become(const struct face *f)
{
    if (f->fs != NULL && shmfs_setcreds(f->fs) < 0)
        abort();
}
