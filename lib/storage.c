/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base.h"
#include "storage.h"

struct storage {
    int fd;
    int failed; /* negative errno, or 0 */
    uint64_t size;
    char *path;      /* where it is to be in the end */
    char *temporary; /* where it is until it is published, or NULL */
};

int (*storage_hook)(enum storage_step step, const char *path, uint64_t off, const void *buf, uint64_t n);

/* The one way into each step. */
static int step(struct storage *s, enum storage_step what, uint64_t off, const void *buf, uint64_t n)
{
    if (!s->failed && storage_hook)
        s->failed = storage_hook(what, s->path, off, buf, n);
    return s->failed;
}

/* Every error that may have lost something ends the use of the file. */
static int ended(struct storage *s, int r)
{
    if (r < 0)
        s->failed = r;
    return r;
}

static int lock_whole(int fd)
{
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

    if (fcntl(fd, F_OFD_SETLK, &whole) == 0)
        return 0;
    return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

static bool same_file(int fd, const char *path)
{
    struct stat a, b;

    return fstat(fd, &a) == 0 && lstat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* ---- opening ------------------------------------------------------------------------------------ */

static struct storage *storage_new(const char *path, bool temporary)
{
    struct storage *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->fd = -1;
    s->path = strdup(path);
    if (temporary && asprintf(&s->temporary, "%s.shmfs-new", path) < 0)
        s->temporary = NULL;
    if (s->path && (s->temporary || !temporary))
        return s;
    free(s->path);
    free(s->temporary);
    free(s);
    return NULL;
}

static void storage_free(struct storage *s)
{
    if (s->fd >= 0)
        close(s->fd);
    free(s->path);
    free(s->temporary);
    free(s);
}

/* Once locked it must still be what the name leads to: a fresh image may have taken the place of this one. */
static int open_and_lock(const char *path, bool write, int *ret_fd)
{
    for (;;) {
        int fd = open(path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        struct stat st;
        int r = 0;

        if (fd < 0)
            return -errno;
        if (fstat(fd, &st) < 0)
            r = -errno;
        else if (!S_ISREG(st.st_mode))
            r = -EINVAL;
        else if (write)
            r = lock_whole(fd);
        if (r == 0 && (!write || same_file(fd, path))) {
            *ret_fd = fd;
            return 0;
        }
        close(fd);
        if (r < 0)
            return r;
    }
}

int storage_open(const char *path, bool write, struct storage **ret_s)
{
    struct storage *s = storage_new(path, false);
    struct stat st;
    int r;

    if (!s)
        return -ENOMEM;
    r = open_and_lock(path, write, &s->fd);
    if (r == 0 && fstat(s->fd, &st) < 0)
        r = -errno;
    if (r < 0) {
        storage_free(s);
        return r;
    }
    s->size = (uint64_t)st.st_size;
    *ret_s = s;
    return 0;
}

/* Removes what a dead one left. 0: look again. */
static int remove_left_over(const char *temporary)
{
    int fd, r = open_and_lock(temporary, true, &fd);

    if (r < 0)
        return r == -ENOENT ? 0 : r;
    r = unlink(temporary) < 0 ? -errno : 0;
    close(fd);
    return r;
}

int storage_create(const char *path, struct storage **ret_s)
{
    struct storage *s = storage_new(path, true);
    int r = 0;

    if (!s)
        return -ENOMEM;
    while (r == 0) {
        s->fd = open(s->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (s->fd < 0) {
            r = errno == EEXIST ? remove_left_over(s->temporary) : -errno;
            continue;
        }
        r = lock_whole(s->fd);
        if (r == 0 && same_file(s->fd, s->temporary)) {
            *ret_s = s;
            return 0;
        }
        close(s->fd); /* somebody took it for left over, before it was locked */
        s->fd = -1;
        r = r == -EBUSY ? 0 : r;
    }
    storage_free(s);
    return r;
}

void storage_close(struct storage *s)
{
    if (!s)
        return;
    if (s->temporary)
        unlink(s->temporary);
    storage_free(s);
}

uint64_t storage_size(const struct storage *s)
{
    return s->size;
}

/* ---- bytes -------------------------------------------------------------------------------------- */

int storage_read(struct storage *s, uint64_t off, void *buf, size_t n)
{
    uint8_t *to = buf;

    while (n > 0) {
        ssize_t got = pread(s->fd, to, n, (off_t)off);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0) {
            memset(to, 0, n);
            return 0;
        }
        to += got;
        off += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

uint64_t storage_next_data(const struct storage *s, uint64_t off)
{
    off_t at = lseek(s->fd, (off_t)off, SEEK_DATA);

    return at >= 0 ? (uint64_t)at : errno == ENXIO ? s->size : off;
}

int storage_write(struct storage *s, uint64_t off, const void *buf, size_t n)
{
    const uint8_t *from = buf;
    int r = step(s, STORAGE_WRITE, off, buf, n);

    if (r < 0)
        return r;
    s->size = MAX(s->size, off + n);
    while (n > 0) {
        ssize_t put = pwrite(s->fd, from, n, (off_t)off);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return ended(s, put < 0 ? -errno : -EIO);
        from += put;
        off += (uint64_t)put;
        n -= (size_t)put;
    }
    return 0;
}

static int reserve(const struct storage *s, uint64_t off, uint64_t n)
{
    int r;

    do
        r = fallocate(s->fd, 0, (off_t)off, (off_t)n) < 0 ? -errno : 0;
    while (r == -EINTR);
    return r;
}

int storage_reserve(struct storage *s, uint64_t off, uint64_t n, uint64_t least)
{
    int r = step(s, STORAGE_RESERVE, off, NULL, n);

    if (r < 0)
        return r;
    r = reserve(s, off, n);
    if ((r == -ENOSPC || r == -EDQUOT) && least < n) {
        r = reserve(s, off, least);
        if (r == 0) {
            s->size = MAX(s->size, off + least);
            return 1;
        }
    }
    if (r == -EOPNOTSUPP || r == -ENOSYS)
        return storage_resize(s, MAX(s->size, off + n));
    if (r == 0)
        s->size = MAX(s->size, off + n);
    return ended(s, r);
}

int storage_resize(struct storage *s, uint64_t size)
{
    int r = step(s, STORAGE_RESIZE, size, NULL, 0);

    if (r == 0)
        r = ended(s, ftruncate(s->fd, (off_t)size) < 0 ? -errno : 0);
    if (r == 0)
        s->size = size;
    return r;
}

/* ---- durability --------------------------------------------------------------------------------- */

int storage_sync(struct storage *s)
{
    int r = step(s, STORAGE_SYNC, 0, NULL, 0);

    return r < 0 ? r : ended(s, fdatasync(s->fd) < 0 ? -errno : 0);
}

static int sync_directory_of(const char *path)
{
    AUTO_FREE char *copy = strdup(path);
    AUTO_CLOSE int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (!copy)
        return -ENOMEM;
    return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

bool storage_is_named(const struct storage *s)
{
    return same_file(s->fd, s->path);
}

int storage_failed(const struct storage *s)
{
    return s->failed;
}

/* Locks what has the name now, so that nobody begins to write it either. It takes on its mode and owner. */
static int take_over(const struct storage *s, int *ret_fd)
{
    struct stat st;
    int r = open_and_lock(s->path, true, ret_fd);

    if (r < 0)
        return r == -EBUSY ? r : 0;
    if (fstat(*ret_fd, &st) == 0)
        (void)!(fchmod(s->fd, st.st_mode & 0777) < 0 || fchown(s->fd, st.st_uid, st.st_gid) < 0);
    return 0;
}

int storage_publish(struct storage *s)
{
    AUTO_CLOSE int before = -1;
    int r = take_over(s, &before);

    if (r == 0)
        r = step(s, STORAGE_RENAME, 0, NULL, 0);

    if (r == 0)
        r = ended(s, rename(s->temporary, s->path) < 0 ? -errno : 0);
    if (r < 0)
        return r;
    free(s->temporary);
    s->temporary = NULL;
    r = step(s, STORAGE_SYNC_NAME, 0, NULL, 0);
    return r < 0 ? r : ended(s, sync_directory_of(s->path));
}
