/* SPDX-License-Identifier: MIT */
/* Operations on bytes. Each process has one file, of FILE_SIZE bytes of a known pattern. */
#include <fcntl.h>
#include <unistd.h>

#include "fsbench.h"

enum {
    FILE_SIZE = 16 << 20,
    SMALL = 4096,
    LARGE = 1 << 20,
    SMALL_BATCH = 256,
    LARGE_BATCH = 16,
    APPENDS = 256,
    FILES = 64, /* of open-read-close */
    OPENS = 512,
};

static void prep_file(struct state *s)
{
    make_file(s, "file", FILE_SIZE);
}

static void clean_file(struct state *s)
{
    if (unlinkat(s->dir, "file", 0) != 0)
        die("unlink");
}

static void open_as(struct state *s, int flags)
{
    if (s->fd >= 0)
        return;
    s->fd = openat(s->dir, "file", flags | O_CLOEXEC);
    if (s->fd < 0)
        die("open");
}

/* ---- reads -------------------------------------------------------------------------------------- */

static void read_at(struct state *s, size_t n, uint64_t offset)
{
    if (pread(s->fd, s->buf, n, (off_t)offset) != (ssize_t)n)
        die("pread of %zu bytes at %llu", n, (unsigned long long)offset);
    pattern_check(s->buf, n, offset, "read");
}

/* Random offsets, so that no readahead helps or hurts. */
static unsigned long read_small(struct state *s)
{
    for (int i = 0; i < SMALL_BATCH; i++)
        read_at(s, SMALL, next_random(s) % (FILE_SIZE / SMALL) * SMALL);
    return SMALL_BATCH;
}

static unsigned long read_large(struct state *s)
{
    for (uint64_t i = 0; i < LARGE_BATCH; i++)
        read_at(s, LARGE, i * LARGE);
    return LARGE_BATCH;
}

static void setup_cached(struct state *s)
{
    if (s->fd >= 0)
        return;
    open_as(s, O_RDONLY);
    read_large(s);
}

/* Around the page cache: through FUSE each read is one READ, also where pages are there. */
static void setup_direct(struct state *s)
{
    open_as(s, O_RDWR | O_DIRECT);
}

/* Pages gone, readahead as it comes: what `cat` of a file not in the cache does. On tmpfs nothing goes. */
static void setup_dropped(struct state *s)
{
    open_as(s, O_RDONLY);
    if (posix_fadvise(s->fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
        die("posix_fadvise");
}

/* ---- writes ------------------------------------------------------------------------------------- */

static void write_at(struct state *s, const void *from, size_t n, uint64_t offset)
{
    if (pwrite(s->fd, from, n, (off_t)offset) != (ssize_t)n)
        die("pwrite of %zu bytes at %llu", n, (unsigned long long)offset);
}

/* What is written is what should be there already: finish_write() finds a byte that went astray. */
static unsigned long write_small(struct state *s)
{
    for (int i = 0; i < SMALL_BATCH; i++) {
        uint64_t in_buf = next_random(s) % (LARGE / SMALL) * SMALL;

        write_at(s, s->buf + in_buf, SMALL, s->offset + in_buf);
    }
    return SMALL_BATCH;
}

static unsigned long write_large(struct state *s)
{
    for (uint64_t i = 0; i < LARGE_BATCH; i++) {
        pattern_stamp(s->buf, LARGE, i * LARGE);
        write_at(s, s->buf, LARGE, i * LARGE);
    }
    return LARGE_BATCH;
}

static void setup_write(struct state *s)
{
    open_as(s, O_RDWR);
    s->offset = next_random(s) % (FILE_SIZE / LARGE) * LARGE;
    pattern_fill(s->buf, LARGE);
    pattern_stamp(s->buf, LARGE, s->offset);
}

static void setup_write_direct(struct state *s)
{
    open_as(s, O_RDWR | O_DIRECT);
    setup_write(s);
}

static void finish_write(struct state *s)
{
    read_at(s, LARGE, s->offset);
}

static void setup_append(struct state *s)
{
    open_as(s, O_RDWR);
    if (ftruncate(s->fd, 0) != 0)
        die("ftruncate");
    pattern_fill(s->buf, LARGE);
    pattern_stamp(s->buf, LARGE, 0);
}

static unsigned long append(struct state *s)
{
    for (uint64_t i = 0; i < APPENDS; i++)
        write_at(s, s->buf + i * SMALL, SMALL, i * SMALL);
    return APPENDS;
}

static void finish_append(struct state *s)
{
    _Static_assert(APPENDS * SMALL == LARGE, "read back in one piece");
    read_at(s, LARGE, 0);
    if (lseek(s->fd, 0, SEEK_END) != LARGE)
        die("wrong size after appending");
}

/* ---- open, read, close -------------------------------------------------------------------------- */

static void prep_files(struct state *s)
{
    names_make(s, "f", 0);
    for (unsigned i = 0; i < FILES; i++)
        make_file(s, s->names[i], SMALL);
}

static void setup_files(struct state *s)
{
    names_make(s, "f", 0);
}

static void clean_files(struct state *s)
{
    names_make(s, "f", 0);
    remove_files(s, s->names, FILES);
}

static unsigned long open_read_close(struct state *s)
{
    for (uint64_t i = 0; i < OPENS; i++) {
        int fd = openat(s->dir, s->names[i % FILES], O_RDONLY | O_CLOEXEC);

        if (fd < 0)
            die("open");
        if (read(fd, s->buf, SMALL) != SMALL)
            die("read");
        pattern_check(s->buf, SMALL, 0, "open-read-close");
        if (close(fd) != 0)
            die("close");
    }
    return OPENS;
}

const struct op ops_data[] = {
    { "read-4k", "pread of 4 KiB at random offsets, pages in the cache", //
      prep_file, setup_cached, read_small, NULL, clean_file, false },
    { "read-1m", "pread of 1 MiB, pages in the cache", //
      prep_file, setup_cached, read_large, NULL, clean_file, false },
    { "read-4k-uncached", "pread of 4 KiB at random offsets, O_DIRECT", //
      prep_file, setup_direct, read_small, NULL, clean_file, false },
    { "read-1m-uncached", "pread of 1 MiB, O_DIRECT", //
      prep_file, setup_direct, read_large, NULL, clean_file, false },
    { "read-1m-dropped", "pread of 1 MiB in sequence after POSIX_FADV_DONTNEED", //
      prep_file, setup_dropped, read_large, NULL, clean_file, false },
    { "write-4k", "pwrite of 4 KiB over what is there", //
      prep_file, setup_write, write_small, finish_write, clean_file, false },
    { "write-1m", "pwrite of 1 MiB over what is there", //
      prep_file, setup_write, write_large, finish_write, clean_file, false },
    { "write-4k-uncached", "pwrite of 4 KiB over what is there, O_DIRECT", //
      prep_file, setup_write_direct, write_small, finish_write, clean_file, false },
    { "write-1m-uncached", "pwrite of 1 MiB over what is there, O_DIRECT", //
      prep_file, setup_write_direct, write_large, finish_write, clean_file, false },
    { "append-4k", "pwrite of 4 KiB at the end of a growing file", //
      prep_file, setup_append, append, finish_append, clean_file, false },
    { "open-read-close", "open, read of 4 KiB and close of one of 64 files", //
      prep_files, setup_files, open_read_close, NULL, clean_files, false },
    { .name = NULL },
};
