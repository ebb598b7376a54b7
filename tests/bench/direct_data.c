/* SPDX-License-Identifier: MIT */
/* Operations on bytes. Each loop is there twice, so that nothing stands between it and the call. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "direct.h"

enum {
    HOT = 4,    /* blocks of the file that are used in turn: a first-level cache holds them and their copy */
    WIDE = 256, /* the same: more than it holds */
    LOOKS = 16, /* at what was appended */
    APPENDS = 1024, /* to one file: 4 MiB, so that it is calls that are measured, not caches */
    LARGES = 32,    /* reads or writes of 1 MiB in a batch */
};

static void wrong(const char *op, long n)
{
    die(0, "%s: %ld bytes", op, n);
}

/* Whether the call moved all of it. */
static inline void whole(long n, long wanted, const char *op)
{
    if (__builtin_expect(n != wanted, 0))
        wrong(op, n);
}

/* ---- open, read, close -------------------------------------------------------------------------- */

static void prep_small(struct bench *b, enum side side)
{
    names_make(b, b->names, "small", 0, FEW);
    for (unsigned i = 0; i < FEW; i++)
        make_file(b, side, b->names[i], BLOCK);
}

static void clean_small(struct bench *b, enum side side)
{
    for (unsigned i = 0; i < FEW; i++)
        remove_file(b, side, b->names[i]);
}

static void open_read_tmpfs(struct bench *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        int fd = (int)sys(open(b->names[i % FEW], O_RDONLY), "open");

        whole(sys(pread(fd, b->buf, BLOCK, 0), "pread"), BLOCK, "pread");
        sys(close(fd), "close");
    }
}

static void open_read_direct(struct bench *b, unsigned n)
{
    struct shmfs_file *file;

    for (unsigned i = 0; i < n; i++) {
        lib(shmfs_open(b->fs, b->names[i % FEW], O_RDONLY, 0, &file), "shmfs_open");
        whole(lib(shmfs_pread(file, b->buf, BLOCK, 0), "shmfs_pread"), BLOCK, "shmfs_pread");
        lib(shmfs_close(file), "shmfs_close");
    }
}

static void finish_open_read(struct bench *b, enum side side, unsigned n)
{
    bytes_make(b->other, BLOCK, BLOCK);
    bytes_compare(b->buf, b->other, BLOCK, side, "open-read-close");
}

/* ---- one open file ------------------------------------------------------------------------------ */

static void prep_file(struct bench *b, enum side side)
{
    const char *name = name_of(b, "data");

    make_file(b, side, name, LARGE);
    open_file(b, side, name, O_RDWR);
}

static void clean_file(struct bench *b, enum side side)
{
    close_file(b, side);
    remove_file(b, side, name_of(b, "data"));
}

static inline void read_blocks_tmpfs(struct bench *b, unsigned n, unsigned blocks)
{
    for (unsigned i = 0; i < n; i++)
        whole(sys(pread(b->fd, b->buf, BLOCK, i % blocks * BLOCK), "pread"), BLOCK, "pread");
}

static inline void read_blocks_direct(struct bench *b, unsigned n, unsigned blocks)
{
    for (unsigned i = 0; i < n; i++)
        whole(lib(shmfs_pread(b->file, b->buf, BLOCK, i % blocks * BLOCK), "shmfs_pread"), BLOCK,
              "shmfs_pread");
}

static void check_read(struct bench *b, enum side side, unsigned block)
{
    bytes_make(b->other, BLOCK, LARGE + block * BLOCK);
    bytes_compare(b->buf, b->other, BLOCK, side, "read-4k");
}

static void read_tmpfs(struct bench *b, unsigned n)
{
    read_blocks_tmpfs(b, n, HOT);
}

static void read_direct(struct bench *b, unsigned n)
{
    read_blocks_direct(b, n, HOT);
}

static void finish_read(struct bench *b, enum side side, unsigned n)
{
    check_read(b, side, (n - 1) % HOT);
}

static void read_wide_tmpfs(struct bench *b, unsigned n)
{
    read_blocks_tmpfs(b, n, WIDE);
}

static void read_wide_direct(struct bench *b, unsigned n)
{
    read_blocks_direct(b, n, WIDE);
}

static void finish_read_wide(struct bench *b, enum side side, unsigned n)
{
    check_read(b, side, (n - 1) % WIDE);
}

static void read_large_tmpfs(struct bench *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        whole(sys(pread(b->fd, b->buf, LARGE, 0), "pread"), LARGE, "pread");
}

static void read_large_direct(struct bench *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        whole(lib(shmfs_pread(b->file, b->buf, LARGE, 0), "shmfs_pread"), LARGE, "shmfs_pread");
}

static void finish_read_large(struct bench *b, enum side side, unsigned n)
{
    bytes_make(b->other, LARGE, LARGE);
    bytes_compare(b->buf, b->other, LARGE, side, "read-1m");
}

/* Each batch writes other bytes than the one before. */
static void setup_write(struct bench *b, enum side side)
{
    bytes_make(b->buf, BLOCK, ++b->serial * LARGE);
}

static void setup_write_large(struct bench *b, enum side side)
{
    bytes_make(b->buf, LARGE, ++b->serial * LARGE);
}

static inline void write_blocks_tmpfs(struct bench *b, unsigned n, unsigned blocks)
{
    for (unsigned i = 0; i < n; i++)
        whole(sys(pwrite(b->fd, b->buf, BLOCK, i % blocks * BLOCK), "pwrite"), BLOCK, "pwrite");
}

static inline void write_blocks_direct(struct bench *b, unsigned n, unsigned blocks)
{
    for (unsigned i = 0; i < n; i++)
        whole(lib(shmfs_pwrite(b->file, b->buf, BLOCK, i % blocks * BLOCK), "shmfs_pwrite"), BLOCK,
              "shmfs_pwrite");
}

static void check_written(struct bench *b, enum side side, unsigned blocks)
{
    for (unsigned i = 0; i < blocks; i++) {
        read_other(b, side, BLOCK, i * BLOCK);
        bytes_compare(b->other, b->buf, BLOCK, side, "write-4k");
    }
}

static void write_tmpfs(struct bench *b, unsigned n)
{
    write_blocks_tmpfs(b, n, HOT);
}

static void write_direct(struct bench *b, unsigned n)
{
    write_blocks_direct(b, n, HOT);
}

static void finish_write(struct bench *b, enum side side, unsigned n)
{
    check_written(b, side, HOT);
}

static void write_wide_tmpfs(struct bench *b, unsigned n)
{
    write_blocks_tmpfs(b, n, WIDE);
}

static void write_wide_direct(struct bench *b, unsigned n)
{
    write_blocks_direct(b, n, WIDE);
}

static void finish_write_wide(struct bench *b, enum side side, unsigned n)
{
    check_written(b, side, WIDE);
}

static void write_large_tmpfs(struct bench *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        whole(sys(pwrite(b->fd, b->buf, LARGE, 0), "pwrite"), LARGE, "pwrite");
}

static void write_large_direct(struct bench *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        whole(lib(shmfs_pwrite(b->file, b->buf, LARGE, 0), "shmfs_pwrite"), LARGE, "shmfs_pwrite");
}

static void finish_write_large(struct bench *b, enum side side, unsigned n)
{
    read_other(b, side, LARGE, 0);
    bytes_compare(b->other, b->buf, LARGE, side, "write-1m");
}

/* ---- append ------------------------------------------------------------------------------------- */

/*
 * The file of one batch is removed after it, so that its memory is used again: by the kernel as pages
 * off its lists, by the region as blocks that it has. As the region takes its blocks in turn, all of them
 * are used once before. For "fresh" the files stay until the end: tmpfs takes more pages of the
 * kernel, and the region blocks that nobody has touched, which is why it comes first.
 */
static void prep_append(struct bench *b, enum side side)
{
    const char *name = name_of(b, "filler");
    ssize_t n = LARGE;

    if (side == TMPFS)
        return;
    open_file(b, side, name, O_WRONLY | O_CREAT | O_EXCL);
    for (off_t at = 0; n == LARGE; at += LARGE) {
        n = shmfs_pwrite(b->file, b->buf, LARGE, at);
        if (n != -ENOSPC)
            lib(n, "shmfs_pwrite: filling the region");
    }
    close_file(b, side);
    remove_file(b, side, name);
}

static void setup_append(struct bench *b, enum side side)
{
    setup_write(b, side);
    open_file(b, side, name_of(b, "log"), O_RDWR | O_CREAT | O_EXCL | O_APPEND);
}

static void append_tmpfs(struct bench *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        whole(sys(write(b->fd, b->buf, BLOCK), "write"), BLOCK, "write");
}

static void append_direct(struct bench *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        whole(lib(shmfs_append(b->file, b->buf, BLOCK, NULL), "shmfs_append"), BLOCK, "shmfs_append");
}

static void check_appended(struct bench *b, enum side side, const char *name, unsigned n)
{
    struct stat st;

    if (!look(b, side, name, &st) || st.st_size != (off_t)n * BLOCK)
        die(0, "append: %s is not of %u blocks", name, n);
    for (unsigned i = 0; i < n; i += n / LOOKS) {
        read_other(b, side, BLOCK, (off_t)i * BLOCK);
        bytes_compare(b->other, b->buf, BLOCK, side, "append-4k");
    }
    close_file(b, side);
}

static void finish_append(struct bench *b, enum side side, unsigned n)
{
    const char *name = name_of(b, "log");

    check_appended(b, side, name, n);
    remove_file(b, side, name);
}

static void prep_fresh(struct bench *b, enum side side)
{
    names_make(b, b->names, "log", 0, NAMES);
    b->files[side] = 0;
}

static void setup_fresh(struct bench *b, enum side side)
{
    setup_write(b, side);
    open_file(b, side, b->names[b->files[side]], O_RDWR | O_CREAT | O_EXCL | O_APPEND);
}

static void finish_fresh(struct bench *b, enum side side, unsigned n)
{
    check_appended(b, side, b->names[b->files[side]], n);
    b->files[side]++;
}

static void clean_fresh(struct bench *b, enum side side)
{
    struct stat st;

    for (unsigned i = 0; i < NAMES && look(b, side, b->names[i], &st); i++)
        remove_file(b, side, b->names[i]);
}

const struct op ops_data[] = {
    { .name = "open-read-close",
      .what = "open, pread of 4 KiB, close",
      .target = 12,
      .count = NAMES,
      .prep = prep_small,
      .run = { open_read_tmpfs, open_read_direct },
      .finish = finish_open_read,
      .clean = clean_small,
      .repeats = true },
    { .name = "read-4k",
      .what = "pread of 4 KiB, of 16 KiB in turn",
      .target = 5,
      .count = 2 * NAMES,
      .prep = prep_file,
      .run = { read_tmpfs, read_direct },
      .finish = finish_read,
      .clean = clean_file,
      .repeats = true },
    { .name = "read-4k-wide",
      .what = "pread of 4 KiB, of 1 MiB in turn",
      .count = 2 * NAMES,
      .prep = prep_file,
      .run = { read_wide_tmpfs, read_wide_direct },
      .finish = finish_read_wide,
      .clean = clean_file,
      .repeats = true },
    { .name = "write-4k",
      .what = "pwrite of 4 KiB in place, of 16 KiB in turn",
      .target = 4,
      .count = 2 * NAMES,
      .prep = prep_file,
      .setup = setup_write,
      .run = { write_tmpfs, write_direct },
      .finish = finish_write,
      .clean = clean_file,
      .repeats = true },
    { .name = "write-4k-wide",
      .what = "pwrite of 4 KiB in place, of 1 MiB in turn",
      .count = 2 * NAMES,
      .prep = prep_file,
      .setup = setup_write,
      .run = { write_wide_tmpfs, write_wide_direct },
      .finish = finish_write_wide,
      .clean = clean_file,
      .repeats = true },
    { .name = "append-4k-fresh",
      .what = "append of 4 KiB, memory never used before",
      .count = APPENDS_FRESH,
      .prep = prep_fresh,
      .setup = setup_fresh,
      .run = { append_tmpfs, append_direct },
      .finish = finish_fresh,
      .clean = clean_fresh,
      .keeps = true },
    { .name = "append-4k",
      .what = "append of 4 KiB, up to 4 MiB",
      .target = 3,
      .count = APPENDS,
      .prep = prep_append,
      .setup = setup_append,
      .run = { append_tmpfs, append_direct },
      .finish = finish_append },
    { .name = "read-1m",
      .what = "pread of 1 MiB",
      .target = 1.9,
      .count = LARGES,
      .prep = prep_file,
      .run = { read_large_tmpfs, read_large_direct },
      .finish = finish_read_large,
      .clean = clean_file,
      .repeats = true },
    { .name = "write-1m",
      .what = "pwrite of 1 MiB in place",
      .target = 2.0,
      .count = LARGES,
      .prep = prep_file,
      .setup = setup_write_large,
      .run = { write_large_tmpfs, write_large_direct },
      .finish = finish_write_large,
      .clean = clean_file,
      .repeats = true },
    { .name = NULL },
};
