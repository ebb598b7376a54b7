/* SPDX-License-Identifier: MIT */
/*
 * As readers.c, by the functions that programs call: pointers and writes side by side, opens by path, and
 * readers that are attached read-only.
 *
 *   api_readers [--seconds N] for each of the scenes
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "scene.h"
#include "shmfs.h"

enum { BLOCK = 4096, WHOLE_MAX = 65536 };

static struct shmfs_file *open_file(struct shmfs *fs, const char *path, int flags)
{
    struct shmfs_file *file = NULL;
    int r = shmfs_open(fs, path, flags, 0600, &file);

    if (r < 0)
        fail("%s: open gave %s", path, strerror(-r));
    return r < 0 ? NULL : file;
}

/* Each process of a scene opens its file once. */
static struct shmfs_file *opened(struct shmfs *fs, const char *path, int flags)
{
    static struct shmfs_file *file;

    if (file == NULL)
        file = open_file(fs, path, flags);
    return file;
}

/* What only a read-only attach may be told: it waits for nobody. */
static bool is_turned_away(long r, unsigned number)
{
    bool readonly = number % 2 == 1;

    if (readonly && (r == -EAGAIN || r == -ESTALE))
        __atomic_add_fetch(&board->others, 1, __ATOMIC_RELAXED);
    return readonly && (r == -EAGAIN || r == -ESTALE);
}

/* ---- cells: neighbours that touch, some written by pointer and some by calls --------------------- */

enum { CELLS = 2000, CELLS_SIZE = 64 * BLOCK, ELSEWHERE = 16 * BLOCK };

static struct cell {
    uint32_t at, n;
    uint8_t value; /* as this process knows it */
} cells[CELLS];

/* From 1 to 300 bytes each, without a gap; across blocks as it comes. Even ones are of writer 0, odd ones of 1. */
static uint32_t cells_lay(void)
{
    uint32_t at = 0, n = 0;

    for (; n < CELLS && at + 300 < CELLS_SIZE; n++) {
        cells[n].at = at;
        cells[n].n = n % 5 == 0 ? 1 : 1 + n * 37 % 300;
        at += cells[n].n;
    }
    return n & ~1u;
}

static void cells_prepare(struct shmfs *fs)
{
    struct shmfs_file *file = open_file(fs, "/cells", O_RDWR | O_CREAT);

    must(shmfs_fallocate(file, 0, 0, CELLS_SIZE), "fallocate");
    must(shmfs_close(file), "close");
}

static void cell_check(const struct cell *c, const uint8_t *seen, const char *who)
{
    for (uint32_t i = 0; i < c->n; i++) {
        if (seen[i] == c->value)
            continue;
        fail("cells: byte %u of %u at %u, stored %s, was %02x and is %02x", i, c->n, c->at, who, c->value,
             seen[i]);
        return;
    }
}

static void by_pointer(struct shmfs *fs, uint32_t n, uint64_t turn)
{
    static uint8_t *base;
    struct shmfs_file *file = opened(fs, "/cells", O_RDWR);
    struct cell *c = &cells[turn * 7919 % (n / 2) * 2], *other = &cells[turn * 104729 % (n / 2) * 2];

    if (turn % 5000 == 0) {
        if (base != NULL)
            must(shmfs_unmap(fs, base, CELLS_SIZE), "unmap");
        void *addr = NULL;
        must(shmfs_map(file, 0, CELLS_SIZE, PROT_READ | PROT_WRITE, &addr), "map");
        base = addr;
    }
    if (base == NULL)
        return;
    c->value++;
    memset(base + c->at, c->value, c->n);
    cell_check(other, base + other->at, "by pointer");
}

static void by_call(struct shmfs *fs, uint32_t n, uint64_t turn)
{
    struct shmfs_file *file = opened(fs, "/cells", O_RDWR);
    struct cell *c = &cells[turn * 7919 % (n / 2) * 2 + 1], *other = &cells[turn * 104729 % (n / 2) * 2 + 1];
    uint8_t buf[300];

    memset(buf, ++c->value, c->n);
    must(shmfs_pwrite(file, buf, c->n, c->at), "pwrite");
    if (shmfs_pread(file, buf, other->n, other->at) != (ssize_t)other->n)
        fail("cells: short read");
    cell_check(other, buf, "by a call");
}

/* The end of the file goes up and down, behind what the others have. */
static void elsewhere(struct shmfs *fs, uint64_t turn)
{
    static uint8_t buf[ELSEWHERE];
    struct shmfs_file *file = opened(fs, "/cells", O_RDWR);
    size_t n = 1 + turn * 7919 % 9000, grown = n + 1 + turn * 31 % 20000;
    off_t at = 0;

    must(shmfs_ftruncate(file, CELLS_SIZE + (off_t)(turn % 3 * 1000)), "truncate");
    must(shmfs_ftruncate(file, CELLS_SIZE), "truncate");
    memset(buf, 0xaa, n);
    must(shmfs_append(file, buf, n, &at), "append");
    if (at != CELLS_SIZE)
        fail("cells: appended at %jd", (intmax_t)at);
    must(shmfs_ftruncate(file, CELLS_SIZE + (off_t)grown), "grow");
    if (shmfs_pread(file, buf, sizeof(buf), CELLS_SIZE) != (ssize_t)grown)
        fail("cells: the end is not where it was put");
    for (size_t i = 0; i < grown; i++) {
        if (buf[i] != (i < n ? 0xaa : 0)) {
            fail("cells: byte %zu of %zu behind the cells is %02x", i, n, buf[i]);
            return;
        }
    }
}

static void cells_write(struct shmfs *fs, unsigned number, uint64_t turn)
{
    static uint32_t n;

    if (n == 0)
        n = cells_lay();
    if (number == 0)
        by_pointer(fs, n, turn);
    else if (number == 1)
        by_call(fs, n, turn);
    else
        elsewhere(fs, turn);
}

/* ---- whole: each read of up to 64 KiB is one write ----------------------------------------------- */

static const struct {
    size_t n;
    off_t off;
} blocks[] = { { 4096, 0 }, { 4096, 10000 }, { 65536, 16384 }, { 65536, 100001 }, { 40, 200000 } };
enum { NBLOCKS = sizeof(blocks) / sizeof(blocks[0]) };

static void whole_prepare(struct shmfs *fs)
{
    static uint64_t buf[WHOLE_MAX / 8];
    struct shmfs_file *file = open_file(fs, "/whole", O_RDWR | O_CREAT);

    for (size_t i = 0; i < NBLOCKS; i++) {
        stamp(buf, blocks[i].n, 1);
        must(shmfs_pwrite(file, buf, blocks[i].n, blocks[i].off), "pwrite");
    }
    must(shmfs_close(file), "close");
}

static void whole_write(struct shmfs *fs, unsigned number, uint64_t turn)
{
    static uint64_t buf[WHOLE_MAX / 8];
    size_t i = turn % NBLOCKS;

    stamp(buf, blocks[i].n, (uint64_t)(number + 1) << 56 | turn << 20);
    must(shmfs_pwrite(opened(fs, "/whole", O_RDWR), buf, blocks[i].n, blocks[i].off), "pwrite");
}

static void whole_read(struct shmfs *fs, unsigned number, uint64_t turn)
{
    static uint64_t buf[WHOLE_MAX / 8];
    size_t i = turn % NBLOCKS;
    ssize_t r = shmfs_pread(opened(fs, "/whole", O_RDONLY), buf, blocks[i].n, blocks[i].off);

    if (is_turned_away(r, number))
        return;
    if (r != (ssize_t)blocks[i].n)
        fail("whole: a read of %zu bytes gave %zd", blocks[i].n, r);
    else
        stamp_check(buf, blocks[i].n, "whole");
}

/* ---- holes: the same, of what is punched out and filled again ------------------------------------ */

static void holes_write(struct shmfs *fs, unsigned number, uint64_t turn)
{
    static uint64_t buf[WHOLE_MAX / 8];
    struct shmfs_file *file = opened(fs, "/whole", O_RDWR);

    stamp(buf, WHOLE_MAX, (uint64_t)(number + 1) << 56 | turn << 20);
    if (turn % 2 == 0)
        must(shmfs_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 16384, WHOLE_MAX), "punch");
    else
        must(shmfs_pwrite(file, buf, WHOLE_MAX, 16384), "pwrite");
}

static void holes_read(struct shmfs *fs, unsigned number, uint64_t turn)
{
    static uint64_t buf[WHOLE_MAX / 8];
    ssize_t r = shmfs_pread(opened(fs, "/whole", O_RDONLY), buf, WHOLE_MAX, 16384);
    size_t zeros = 0;

    (void)turn;
    if (is_turned_away(r, number))
        return;
    if (r != WHOLE_MAX)
        fail("holes: a read gave %zd", r);
    for (size_t i = 0; i < WHOLE_MAX / 8; i++)
        zeros += buf[i] == 0;
    if (zeros == 0)
        stamp_check(buf, WHOLE_MAX, "holes");
    else if (zeros != WHOLE_MAX / 8)
        fail("holes: %zu words of %d are zeros", zeros, WHOLE_MAX / 8);
}

/* ---- log: appends follow one another unbroken ---------------------------------------------------- */

enum { LOG_MAX = 4000000, RECORD = 24 };

static void log_prepare(struct shmfs *fs)
{
    must(shmfs_close(open_file(fs, "/log", O_RDWR | O_CREAT)), "close");
}

static void log_write(struct shmfs *fs, unsigned number, uint64_t turn)
{
    uint64_t record[3] = { number, turn, number + turn };
    off_t at = 0;

    if (shmfs_append(opened(fs, "/log", O_WRONLY), record, RECORD, &at) != RECORD || at % RECORD != 0)
        fail("log: a record was appended at %jd", (intmax_t)at);
    if (at > LOG_MAX)
        usleep(1000);
    __atomic_store_n(&board->last[number], turn, __ATOMIC_RELEASE);
}

static void log_read(struct shmfs *fs, unsigned number, uint64_t turn)
{
    static uint64_t buf[WHOLE_MAX / RECORD * 3], next[SCENE_LAST];
    static off_t at;
    ssize_t n = shmfs_pread(opened(fs, "/log", O_RDONLY), buf, sizeof(buf), at);

    (void)turn;
    if (is_turned_away(n, number))
        return;
    if (n < 0 || n % RECORD != 0) {
        fail("log: a read at %jd gave %zd", (intmax_t)at, n);
        return;
    }
    for (ssize_t i = 0; i < n / RECORD; i++) {
        const uint64_t *r = &buf[i * 3];

        if (r[0] >= SCENE_LAST || r[0] + r[1] != r[2] || r[1] != next[r[0]]) {
            fail("log: the record at %jd is torn or out of order", (intmax_t)(at + i * RECORD));
            return;
        }
        next[r[0]]++;
    }
    at += n;
}

static void log_after(struct shmfs *fs)
{
    uint64_t record[3], next[SCENE_LAST] = { 0 };
    struct shmfs_file *file = open_file(fs, "/log", O_RDONLY);

    for (off_t at = 0; shmfs_pread(file, record, RECORD, at) == RECORD; at += RECORD)
        next[record[0] % SCENE_LAST]++;
    for (unsigned i = 0; i < SCENE_LAST; i++) {
        if (next[i] > 0 && next[i] - 1 < board->last[i])
            fail("log: record %" PRIu64 " of writer %u is lost", board->last[i], i);
    }
    must(shmfs_close(file), "close");
}

/* ---- replaced: a file by another of that name; who has it open keeps it -------------------------- */

static void replaced_put(struct shmfs *fs, unsigned number, uint64_t value)
{
    static uint64_t buf[WHOLE_MAX / 8];
    char temp[32];

    snprintf(temp, sizeof(temp), "/temp%u", number);
    struct shmfs_file *file = open_file(fs, temp, O_RDWR | O_CREAT | O_EXCL);
    if (file == NULL)
        return;
    stamp(buf, WHOLE_MAX, value);
    must(shmfs_pwrite(file, buf, WHOLE_MAX, 0), "pwrite");
    must(shmfs_rename(fs, temp, "/target", 0), "rename");
    must(shmfs_close(file), "close");
}

static void replaced_prepare(struct shmfs *fs)
{
    replaced_put(fs, 0, 1);
}

static void replaced_write(struct shmfs *fs, unsigned number, uint64_t turn)
{
    replaced_put(fs, number, (uint64_t)(number + 1) << 56 | turn << 20);
}

static void replaced_read(struct shmfs *fs, unsigned number, uint64_t turn)
{
    static uint64_t buf[WHOLE_MAX / 8];
    struct shmfs_file *file;
    int r = shmfs_open(fs, "/target", O_RDONLY, 0, &file);

    (void)turn;
    if (is_turned_away(r, number))
        return;
    if (r < 0) {
        fail("replaced: open gave %s", strerror(-r));
        return;
    }
    for (int i = 0; i < 2; i++) {
        uint64_t first = buf[0];
        ssize_t n = shmfs_pread(file, buf, WHOLE_MAX, 0);

        if (is_turned_away(n, number))
            break;
        if (n != WHOLE_MAX)
            fail("replaced: a read gave %zd", n);
        else
            stamp_check(buf, WHOLE_MAX, "replaced");
        if (i > 0 && buf[0] != first)
            fail("replaced: an open file became another");
    }
    must(shmfs_close(file), "close");
}

/* ---- scenes -------------------------------------------------------------------------------------- */

static const struct scene scenes[] = {
    { "cells", cells_prepare, 2, 0, cells_write, NULL, NULL },
    { "cells-ends", cells_prepare, 3, 0, cells_write, NULL, NULL },
    { "whole", whole_prepare, 2, 2, whole_write, whole_read, NULL },
    { "holes", whole_prepare, 1, 2, holes_write, holes_read, NULL },
    { "log", log_prepare, 3, 2, log_write, log_read, log_after },
    { "replaced", replaced_prepare, 2, 2, replaced_write, replaced_read, NULL },
};

/* Every second reader is attached read-only. */
static struct shmfs *attach(bool reads, unsigned number)
{
    struct shmfs *fs;

    if (shmfs_attach(scene_path, reads && number % 2 == 1 ? SHMFS_RDONLY : 0, &fs) < 0) {
        fail("%s", shmfs_attach_error());
        return NULL;
    }
    return fs;
}

int main(int argc, char **argv)
{
    static const struct scene_client client = { attach, shmfs_detach };

    return scene_main(argc, argv, &client, scenes, sizeof(scenes) / sizeof(scenes[0]));
}
