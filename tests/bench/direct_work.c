/* SPDX-License-Identifier: MIT */
/* What the operations are made of, and their process: names, bytes, files on either side. None of it is timed. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "direct.h"

void direct_die(const char *file, int line, int error, const char *format, ...)
{
    va_list args;

    fprintf(stderr, "direct: %s:%d: ", file, line);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, error ? ": %s\n" : "\n", strerror(error));
    exit(1);
}

static void *touched(size_t n)
{
    void *p = aligned_alloc(BLOCK, n);

    if (!p)
        die(ENOMEM, "buffers");
    memset(p, 1, n);
    return p;
}

void bench_open(struct bench *ret, const char *region, const char *dir, const char *prefix)
{
    *ret = (struct bench){ .prefix = prefix, .fd = -1 };
    sys(chdir(dir), dir);
    if (shmfs_attach(region, 0, &ret->fs) != 0)
        die(0, "%s", shmfs_attach_error());
    ret->buf = touched(LARGE);
    ret->other = touched(LARGE);
    ret->names = touched(sizeof(ret->names[0]) * NAMES);
    ret->others = touched(sizeof(ret->others[0]) * NAMES);
}

void bench_close(struct bench *b)
{
    shmfs_detach(b->fs);
    free(b->buf);
    free(b->other);
    free(b->names);
    free(b->others);
}

/* ---- files on either side ----------------------------------------------------------------------- */

void make_directory(struct bench *b, enum side side, const char *name)
{
    if (side == TMPFS)
        sys(mkdir(name, 0755), name);
    else
        lib(shmfs_mkdir(b->fs, name, 0755), name);
}

void remove_directory(struct bench *b, enum side side, const char *name)
{
    if (side == TMPFS)
        sys(rmdir(name), name);
    else
        lib(shmfs_rmdir(b->fs, name), name);
}

void open_file(struct bench *b, enum side side, const char *name, int oflags)
{
    if (side == TMPFS)
        b->fd = (int)sys(open(name, oflags, 0644), name);
    else
        lib(shmfs_open(b->fs, name, oflags, 0644, &b->file), name);
}

void close_file(struct bench *b, enum side side)
{
    if (side == TMPFS) {
        sys(close(b->fd), "close");
        b->fd = -1;
    } else {
        lib(shmfs_close(b->file), "shmfs_close");
        b->file = NULL;
    }
}

void make_file(struct bench *b, enum side side, const char *name, size_t size)
{
    open_file(b, side, name, O_WRONLY | O_CREAT | O_EXCL);
    bytes_make(b->buf, size, size);
    if (size > 0) {
        ssize_t n = side == TMPFS ? sys(pwrite(b->fd, b->buf, size, 0), name)
                                  : lib(shmfs_pwrite(b->file, b->buf, size, 0), name);

        if (n != (ssize_t)size)
            die(0, "%s: wrote %zd bytes of %zu", name, n, size);
    }
    close_file(b, side);
}

void remove_file(struct bench *b, enum side side, const char *name)
{
    if (side == TMPFS)
        sys(unlink(name), name);
    else
        lib(shmfs_unlink(b->fs, name), name);
}

void read_other(struct bench *b, enum side side, size_t n, off_t off)
{
    ssize_t got = side == TMPFS ? sys(pread(b->fd, b->other, n, off), "pread")
                                : lib(shmfs_pread(b->file, b->other, n, off), "shmfs_pread");

    if (got != (ssize_t)n)
        die(0, "read %zd bytes of %zu at %lld", got, n, (long long)off);
}

bool look(struct bench *b, enum side side, const char *name, struct stat *ret_st)
{
    int r = side == TMPFS ? (lstat(name, ret_st) == 0 ? 0 : -errno) : shmfs_lstat(b->fs, name, ret_st);

    if (r != 0 && r != -ENOENT)
        die(-r, "%s", name);
    return r == 0;
}

/* ---- names and bytes ---------------------------------------------------------------------------- */

void names_make(struct bench *b, char (*ret)[NAME_SIZE], const char *word, unsigned from, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        snprintf(ret[i], NAME_SIZE, "%s%s-%05u", b->prefix, word, from + i);
}

const char *name_of(struct bench *b, const char *word)
{
    static char name[NAME_SIZE];

    snprintf(name, sizeof(name), "%s%s", b->prefix, word);
    return name;
}

void bytes_make(unsigned char *buf, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i += 8) {
        uint64_t word = (seed + i + 1) * 0x9e3779b97f4a7c15u;

        word ^= word >> 29;
        memcpy(buf + i, &word, n - i < 8 ? n - i : 8);
    }
}

void bytes_compare(const unsigned char *got, const unsigned char *wanted, size_t n, enum side side,
                   const char *op)
{
    if (memcmp(got, wanted, n) != 0)
        die(0, "%s: %s: the bytes are not those that were written", side == TMPFS ? "tmpfs" : "direct", op);
}
