/* SPDX-License-Identifier: MIT */
/*
 * Preloaded into a driver: writes down what it does to the image named by SHMFS_TRACE_IMAGE, in the file SHMFS_TRACE. Writes
 * and names before they are done, syncs once they have returned: so whatever somebody is told after a sync comes
 * after it in the file. The programs on the mount add what they were told themselves (power_work.py).
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "disk_trace.h"

static int trace = -1;
static const char *image;
static bool is_image[1024]; /* by descriptor */

static int (*real_open)(const char *path, int flags, ...);
static int (*real_close)(int fd);
static ssize_t (*real_pwrite)(int fd, const void *buf, size_t n, off_t off);
static int (*real_ftruncate)(int fd, off_t size);
static int (*real_fdatasync)(int fd);
static int (*real_fsync)(int fd);
static int (*real_rename)(const char *from, const char *to);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("SHMFS_TRACE");

    real_open = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64");
    real_close = (int (*)(int))dlsym(RTLD_NEXT, "close");
    real_pwrite = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite64");
    real_ftruncate = (int (*)(int, off_t))dlsym(RTLD_NEXT, "ftruncate64");
    real_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    real_fsync = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    real_rename = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
    image = getenv("SHMFS_TRACE_IMAGE");
    if (path && image)
        trace = real_open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
}

static void add(uint32_t kind, uint64_t off, const void *buf, uint64_t n)
{
    struct trace_record record = { .kind = kind, .off = off, .n = n };
    struct iovec iov[2] = { { &record, sizeof(record) }, { (void *)(uintptr_t)buf, buf ? n : 0 } };

    if (writev(trace, iov, 2) != (ssize_t)(sizeof(record) + (buf ? n : 0)))
        abort(); /* a trace with a hole proves nothing */
}

static bool traced(int fd)
{
    return trace >= 0 && fd >= 0 && fd < 1024 && is_image[fd];
}

static int opened(int fd, const char *path, int flags)
{
    if (trace < 0 || fd < 0 || fd >= 1024)
        return fd;
    is_image[fd] = (flags & O_ACCMODE) != O_RDONLY && strncmp(path, image, strlen(image)) == 0;
    if (is_image[fd] && (flags & O_EXCL))
        add(TRACE_NEW_FILE, 0, NULL, 0);
    return fd;
}

int open64(const char *path, int flags, ...);
int open64(const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list ap;

    va_start(ap, flags);
    if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE)
        mode = va_arg(ap, mode_t);
    va_end(ap);
    return opened(real_open(path, flags, mode), path, flags);
}

int close(int fd)
{
    if (fd >= 0 && fd < 1024)
        is_image[fd] = false;
    return real_close(fd);
}

ssize_t pwrite64(int fd, const void *buf, size_t n, off_t off);
ssize_t pwrite64(int fd, const void *buf, size_t n, off_t off)
{
    if (traced(fd))
        add(TRACE_WRITE, (uint64_t)off, buf, n);
    return real_pwrite(fd, buf, n, off);
}

int ftruncate64(int fd, off_t size);
int ftruncate64(int fd, off_t size)
{
    if (traced(fd))
        add(TRACE_RESIZE, (uint64_t)size, NULL, 0);
    return real_ftruncate(fd, size);
}

int fdatasync(int fd)
{
    int r = real_fdatasync(fd);

    if (traced(fd) && r == 0)
        add(TRACE_SYNC, 0, NULL, 0);
    return r;
}

/* Of the image's directory: nothing else is synced by the driver. */
int fsync(int fd)
{
    int r = real_fsync(fd);
    struct stat st;

    if (trace >= 0 && r == 0 && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
        add(TRACE_SYNC_NAME, 0, NULL, 0);
    return r;
}

int rename(const char *from, const char *to)
{
    if (trace >= 0 && strcmp(to, image) == 0)
        add(TRACE_RENAME, 0, NULL, 0);
    return real_rename(from, to);
}
