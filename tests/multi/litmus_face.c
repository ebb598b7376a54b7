/* SPDX-License-Identifier: MIT */
#include "litmus_face.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { NOBODY = 65534 };

int face_lstat(const struct face *f, const char *path, struct stat *ret)
{
    return f->fs != NULL ? shmfs_lstat(f->fs, path, ret)
                         : (int)face_result(lstat(face_path(f, path).path, ret));
}

ssize_t face_readlink(const struct face *f, const char *path, char *ret, size_t n)
{
    return f->fs != NULL ? shmfs_readlink(f->fs, path, ret, n)
                         : face_result(readlink(face_path(f, path).path, ret, n));
}

int face_mkfifo(const struct face *f, const char *path, mode_t mode)
{
    return f->fs != NULL ? shmfs_mknod(f->fs, path, S_IFIFO | mode, 0)
                         : (int)face_result(mknod(face_path(f, path).path, S_IFIFO | mode, 0));
}

int face_chown(const struct face *f, const char *path, uid_t uid, gid_t gid)
{
    return f->fs != NULL ? shmfs_chown(f->fs, path, uid, gid)
                         : (int)face_result(chown(face_path(f, path).path, uid, gid));
}

int face_utimens(const struct face *f, const char *path, const struct timespec times[2])
{
    return f->fs != NULL ? shmfs_utimens(f->fs, path, times, 0)
                         : (int)face_result(utimensat(AT_FDCWD, face_path(f, path).path, times, 0));
}

ssize_t face_getxattr(const struct face *f, const char *path, const char *name, void *ret, size_t n)
{
    return f->fs != NULL ? shmfs_getxattr(f->fs, path, name, ret, n)
                         : face_result(getxattr(face_path(f, path).path, name, ret, n));
}

ssize_t face_listxattr(const struct face *f, const char *path, char *ret, size_t n)
{
    return f->fs != NULL ? shmfs_listxattr(f->fs, path, ret, n)
                         : face_result(listxattr(face_path(f, path).path, ret, n));
}

/* setfsuid() takes the capabilities that override permissions away, and gives them back. */
int face_open_as_nobody(const struct face *f, struct shmfs *nobody, const char *path)
{
    int r;

    if (f->fs != NULL)
        return shmfs_access(nobody, path, R_OK);
    setfsgid(NOBODY);
    setfsuid(NOBODY);
    r = (int)face_result(open(face_path(f, path).path, O_RDONLY | O_CLOEXEC));
    setfsuid(0);
    setfsgid(0);
    if (r >= 0)
        close(r);
    return r < 0 ? r : 0;
}

/* ---- open files ---------------------------------------------------------------------------------- */

int face_open(const struct face *f, const char *path, int flags, struct handle *ret)
{
    struct handle h = { 0 };
    int r;

    if (f->fs != NULL) {
        r = shmfs_open(f->fs, path, flags, 0644, &h.file);
    } else {
        r = (int)face_result(open(face_path(f, path).path, flags | O_CLOEXEC, 0644));
        h.fd = r + 1;
    }
    if (r < 0)
        return r;
    *ret = h;
    return 0;
}

int face_close(struct handle *h)
{
    int r = 0;

    if (h->file != NULL)
        r = shmfs_close(h->file);
    else if (h->fd > 0)
        r = (int)face_result(close(h->fd - 1));
    *h = (struct handle){ 0 };
    return r;
}

ssize_t face_pread(const struct handle *h, void *buf, size_t n, off_t off)
{
    return h->file != NULL ? shmfs_pread(h->file, buf, n, off) : face_result(pread(h->fd - 1, buf, n, off));
}

ssize_t face_pwrite(const struct handle *h, const void *buf, size_t n, off_t off)
{
    return h->file != NULL ? shmfs_pwrite(h->file, buf, n, off) : face_result(pwrite(h->fd - 1, buf, n, off));
}

ssize_t face_append(const struct handle *h, const void *buf, size_t n)
{
    return h->file != NULL ? shmfs_append(h->file, buf, n, NULL) : face_result(write(h->fd - 1, buf, n));
}

int face_fstat(const struct handle *h, struct stat *ret)
{
    return h->file != NULL ? shmfs_fstat(h->file, ret) : (int)face_result(fstat(h->fd - 1, ret));
}

int face_fallocate(const struct handle *h, int mode, off_t off, off_t n)
{
    return h->file != NULL ? shmfs_fallocate(h->file, mode, off, n)
                           : (int)face_result(fallocate(h->fd - 1, mode, off, n));
}

int face_flink(const struct face *f, const struct handle *h, const char *to)
{
    char self[40];

    if (h->file != NULL)
        return shmfs_flink(h->file, to);
    snprintf(self, sizeof(self), "/proc/self/fd/%d", h->fd - 1);
    return (int)face_result(linkat(AT_FDCWD, self, AT_FDCWD, face_path(f, to).path, AT_SYMLINK_FOLLOW));
}

int face_map(const struct handle *h, size_t n, bool write, void **ret)
{
    int prot = write ? PROT_READ | PROT_WRITE : PROT_READ;
    void *p;

    if (h->file != NULL)
        return shmfs_map(h->file, 0, n, prot, ret);
    p = mmap(NULL, n, prot, MAP_SHARED, h->fd - 1, 0);
    if (p == MAP_FAILED)
        return -errno;
    *ret = p;
    return 0;
}

int face_unmap(const struct face *f, void *p, size_t n)
{
    return f->fs != NULL ? shmfs_unmap(f->fs, p, n) : (int)face_result(munmap(p, n));
}

int face_msync(const struct handle *h, char *p, size_t off, size_t n)
{
    size_t page = off & ~(size_t)4095;

    return h->file != NULL ? shmfs_msync(h->file, (off_t)off, n)
                           : (int)face_result(msync(p + page, off - page + n, MS_SYNC));
}

int face_fsync(const struct face *f, const char *path)
{
    struct handle h;
    int r;

    if (f->fs != NULL)
        return 0;
    r = face_open(f, path, O_RDONLY | O_NOFOLLOW, &h);
    if (r < 0)
        return r;
    r = (int)face_result(fsync(h.fd - 1));
    face_close(&h);
    return r;
}

/* ---- listings ------------------------------------------------------------------------------------ */

int face_opendir(const struct face *f, const char *path, struct listing *ret)
{
    int r;

    ret->direct = NULL;
    ret->fd = 0;
    ret->at = ret->have = 0;
    if (f->fs != NULL)
        return shmfs_opendir(f->fs, path, &ret->direct);
    r = (int)face_result(open(face_path(f, path).path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ret->fd = r < 0 ? 0 : r + 1;
    return r < 0 ? r : 0;
}

/* One entry of whichever side: 1, or 0 at the end. */
static int next_entry(struct listing *l, const struct dirent **ret)
{
    if (l->direct != NULL)
        return shmfs_readdir(l->direct, ret);
    if (l->at == l->have) {
        long r = face_result(syscall(SYS_getdents64, l->fd - 1, l->buf, sizeof(l->buf)));
        if (r <= 0)
            return (int)r;
        l->at = 0;
        l->have = (unsigned)r;
    }
    *ret = (const struct dirent *)(const void *)(l->buf + l->at);
    l->at += (*ret)->d_reclen;
    return 1;
}

int face_readdir(struct listing *l, struct listed *ret)
{
    const struct dirent *e = NULL;
    int r;

    do
        r = next_entry(l, &e);
    while (r == 1 && (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0));
    if (r == 1) {
        ret->ino = e->d_ino;
        ret->type = e->d_type;
        snprintf(ret->name, sizeof(ret->name), "%s", e->d_name);
    }
    return r;
}

void face_rewind(struct listing *l)
{
    l->at = l->have = 0;
    if (l->direct != NULL)
        shmfs_seekdir(l->direct, 0);
    else if (l->fd > 0)
        lseek(l->fd - 1, 0, SEEK_SET);
}

void face_closedir(struct listing *l)
{
    if (l->direct != NULL)
        shmfs_closedir(l->direct);
    else if (l->fd > 0)
        close(l->fd - 1);
    l->direct = NULL;
    l->fd = 0;
}
