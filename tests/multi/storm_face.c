/* SPDX-License-Identifier: MIT */
#include "storm_face.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { BLOCK = 4096 };

struct face_path face_path(const struct face *f, const char *path)
{
    struct face_path ret;

    snprintf(ret.path, sizeof(ret.path), "%s%s", f->mount, path);
    return ret;
}

int face_make(const struct face *f, const char *path, mode_t mode)
{
    struct shmfs_file *file;

    if (f->fs == NULL) {
        int fd = open(face_path(f, path).path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        return (int)face_result(fd < 0 ? fd : close(fd));
    }
    int r = shmfs_open(f->fs, path, O_RDWR | O_CREAT | O_EXCL, mode, &file);
    return r < 0 ? r : shmfs_close(file);
}

int face_mkdir(const struct face *f, const char *path, mode_t mode)
{
    return f->fs != NULL ? shmfs_mkdir(f->fs, path, mode)
                         : (int)face_result(mkdir(face_path(f, path).path, mode));
}

int face_symlink(const struct face *f, const char *target, const char *path)
{
    return f->fs != NULL ? shmfs_symlink(f->fs, target, path)
                         : (int)face_result(symlink(target, face_path(f, path).path));
}

int face_unlink(const struct face *f, const char *path)
{
    return f->fs != NULL ? shmfs_unlink(f->fs, path) : (int)face_result(unlink(face_path(f, path).path));
}

int face_rmdir(const struct face *f, const char *path)
{
    return f->fs != NULL ? shmfs_rmdir(f->fs, path) : (int)face_result(rmdir(face_path(f, path).path));
}

int face_link(const struct face *f, const char *from, const char *to)
{
    return f->fs != NULL ? shmfs_link(f->fs, from, to)
                         : (int)face_result(link(face_path(f, from).path, face_path(f, to).path));
}

int face_rename(const struct face *f, const char *from, const char *to, unsigned flags)
{
    return f->fs != NULL ? shmfs_rename(f->fs, from, to, flags)
                         : (int)face_result(renameat2(AT_FDCWD, face_path(f, from).path, AT_FDCWD,
                                                      face_path(f, to).path, flags));
}

int face_chmod(const struct face *f, const char *path, mode_t mode)
{
    return f->fs != NULL ? shmfs_chmod(f->fs, path, mode)
                         : (int)face_result(chmod(face_path(f, path).path, mode));
}

int face_truncate(const struct face *f, const char *path, off_t size)
{
    return f->fs != NULL ? shmfs_truncate(f->fs, path, size)
                         : (int)face_result(truncate(face_path(f, path).path, size));
}

int face_setxattr(const struct face *f, const char *path, const char *name, const void *value, size_t n)
{
    return f->fs != NULL ? shmfs_setxattr(f->fs, path, name, value, n, 0)
                         : (int)face_result(setxattr(face_path(f, path).path, name, value, n, 0));
}

int face_removexattr(const struct face *f, const char *path, const char *name)
{
    return f->fs != NULL ? shmfs_removexattr(f->fs, path, name)
                         : (int)face_result(removexattr(face_path(f, path).path, name));
}

static ssize_t mounted_io(const char *path, void *buf, size_t n, off_t off, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    ssize_t r;

    if (fd < 0)
        return -errno;
    r = face_result((flags & O_ACCMODE) == O_RDONLY ? pread(fd, buf, n, off)
                    : (flags & O_APPEND) != 0       ? write(fd, buf, n)
                                                    : pwrite(fd, buf, n, off));
    return close(fd) < 0 && r >= 0 ? -errno : r;
}

ssize_t face_write(const struct face *f, const char *path, const void *buf, size_t n, off_t off, bool append)
{
    int flags = O_WRONLY | (append ? O_APPEND : 0);
    struct shmfs_file *file;
    ssize_t r;

    if (f->fs == NULL)
        return mounted_io(face_path(f, path).path, (void *)(uintptr_t)buf, n, off, flags);
    r = shmfs_open(f->fs, path, flags, 0, &file);
    if (r < 0)
        return r;
    r = append ? shmfs_append(file, buf, n, NULL) : shmfs_pwrite(file, buf, n, off);
    int end = shmfs_close(file);
    return end < 0 ? end : r;
}

ssize_t face_read(const struct face *f, const char *path, void *buf, size_t n, off_t off)
{
    struct shmfs_file *file;
    ssize_t r;

    if (f->fs == NULL)
        return mounted_io(face_path(f, path).path, buf, n, off, O_RDONLY);
    r = shmfs_open(f->fs, path, O_RDONLY, 0, &file);
    if (r < 0)
        return r;
    r = shmfs_pread(file, buf, n, off);
    int end = shmfs_close(file);
    return end < 0 ? end : r;
}

/* ---- fiddling ------------------------------------------------------------------------------------ */

static int lock_some(struct shmfs_file *file, uint64_t chance)
{
    struct flock fl = { .l_type = chance % 3 == 0 ? F_RDLCK : F_WRLCK,
                        .l_whence = SEEK_SET,
                        .l_start = (off_t)(chance % 700),
                        .l_len = (off_t)(1 + chance % 300) };
    int r = shmfs_fcntl(file, chance % 2 == 0 ? F_SETLK : F_OFD_SETLK, &fl);

    if (r == 0 && chance % 5 == 0)
        r = shmfs_flock(file, LOCK_EX | LOCK_NB);
    return r == -EAGAIN ? 0 : r;
}

static int map_some(const struct face *f, struct shmfs_file *file, uint64_t chance)
{
    size_t n = (size_t)(1 + chance % 9) * BLOCK;
    void *p;
    int r = shmfs_ftruncate(file, (off_t)n);

    if (r == 0)
        r = shmfs_map(file, 0, n, PROT_READ | PROT_WRITE, &p);
    if (r < 0)
        return r == -ENXIO ? 0 : r; /* somebody else made it shorter */
    memset(p, (int)chance, n);
    r = shmfs_ftruncate(file, (off_t)(chance % n));
    if (r == 0)
        r = shmfs_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, BLOCK);
    if (r == 0)
        r = shmfs_msync(file, 0, n);
    memset(p, (int)chance, n);
    int end = shmfs_unmap(f->fs, p, n);
    return r < 0 ? r : end;
}

static int fiddle_direct(const struct face *f, const char *dir, const char *path, uint64_t chance)
{
    bool nameless = chance % 4 == 0;
    struct shmfs_file *file;
    int r = nameless ? shmfs_open(f->fs, dir, O_RDWR | O_TMPFILE, 0600, &file)
                     : shmfs_open(f->fs, path, O_RDWR | O_CREAT, 0600, &file);

    if (r < 0)
        return r;
    ssize_t n = shmfs_pwrite(file, dir, strlen(dir), (off_t)(chance % 9000));
    r = n < 0 ? (int)n : lock_some(file, chance);
    if (r == 0 && chance % 3 == 0)
        r = map_some(f, file, chance);
    if (r == 0 && nameless && chance % 8 == 0)
        r = shmfs_flink(file, path);
    else if (r == 0 && !nameless && chance % 3 == 1)
        r = shmfs_unlink(f->fs, path); /* and goes on with it */
    if (r == 0 || r == -ENOENT || r == -EEXIST) {
        n = shmfs_append(file, dir, strlen(dir), NULL);
        r = n < 0 ? (int)n : 0;
    }
    int end = shmfs_close(file);
    return r < 0 ? r : end;
}

static int fiddle_mounted(const struct face *f, const char *dir, const char *path, uint64_t chance)
{
    bool nameless = chance % 4 == 0;
    int fd = open(face_path(f, nameless ? dir : path).path,
                  O_RDWR | O_CLOEXEC | (nameless ? O_TMPFILE : O_CREAT), 0600),
        r;

    if (fd < 0)
        return -errno;
    r = (int)face_result(pwrite(fd, dir, strlen(dir), (off_t)(chance % 9000)));
    if (r >= 0 && chance % 3 == 0)
        r = (int)face_result(ftruncate(fd, (off_t)(chance % 20000)));
    if (r >= 0 && !nameless && chance % 3 == 1) {
        r = (int)face_result(unlink(face_path(f, path).path));
        r = r == -ENOENT ? 0 : r;
    }
    if (r >= 0)
        r = (int)face_result(write(fd, dir, strlen(dir)));
    return close(fd) < 0 && r >= 0 ? -errno : r;
}

int face_fiddle(const struct face *f, const char *dir, const char *path, uint64_t chance)
{
    return f->fs != NULL ? fiddle_direct(f, dir, path, chance) : fiddle_mounted(f, dir, path, chance);
}
