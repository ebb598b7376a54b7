/* SPDX-License-Identifier: MIT */
/*
 * What processes see while others write: each read is some whole write, neighbours take nothing from each
 * other, and a name that is replaced is never away.
 *
 *   readers [--seconds N]     for each of the scenes
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scene.h"

enum { BLOCK_MAX = 65536, NEIGHBOURS = 4 };

static const struct shmfs_maker maker = { 0, 0, 0 };

static uint32_t make(struct shmfs *fs, uint32_t dir, const char *name)
{
    struct shmfs_attr attr = { 0 };

    must(shmfs_node_mknod(fs, dir, name, S_IFREG | 0644, 0, &maker, false, &attr), "mknod");
    return attr.ino;
}

static uint32_t find(struct shmfs *fs, const char *name)
{
    struct shmfs_attr attr = { 0 };
    int r = shmfs_node_lookup(fs, SHMFS_ROOT, name, false, &attr);

    if (r < 0)
        fail("%s: lookup gave %s", name, strerror(-r));
    return r < 0 ? 0 : attr.ino;
}

/* ---- blocks written as a whole ------------------------------------------------------------------- */

static void stamped_read(struct shmfs *fs, uint32_t ino, size_t n, off_t off, const char *what)
{
    static uint64_t buf[BLOCK_MAX / 8];
    ssize_t r = shmfs_node_read(fs, ino, buf, n, off);

    if (r != (ssize_t)n) {
        fail("%s: a read of %zu bytes gave %zd", what, n, r);
        return;
    }
    stamp_check(buf, n, what);
}

static const struct {
    size_t n;
    off_t off;
} blocks[] = { { 4096, 0 }, { 4096, 10000 }, { 65536, 16384 }, { 65536, 100001 }, { 40, 200000 } };

static void blocks_prepare(struct shmfs *fs)
{
    static uint64_t buf[BLOCK_MAX / 8];
    uint32_t ino = make(fs, SHMFS_ROOT, "blocks");

    for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
        stamp(buf, blocks[i].n, 1);
        must(shmfs_node_write(fs, ino, buf, blocks[i].n, blocks[i].off, 0, NULL), "write");
    }
}

static void blocks_write(struct shmfs *fs, unsigned number, uint64_t turn)
{
    static uint64_t buf[BLOCK_MAX / 8];
    size_t i = turn % (sizeof(blocks) / sizeof(blocks[0]));

    stamp(buf, blocks[i].n, (uint64_t)(number + 1) << 56 | turn << 20);
    must(shmfs_node_write(fs, find(fs, "blocks"), buf, blocks[i].n, blocks[i].off, 0, NULL), "write");
}

static void blocks_read(struct shmfs *fs, unsigned number, uint64_t turn)
{
    size_t i = turn % (sizeof(blocks) / sizeof(blocks[0]));

    stamped_read(fs, find(fs, "blocks"), blocks[i].n, blocks[i].off, "blocks");
}

/* The same where the block is punched out and filled again: all old, all zeros, or all new. */
static void holes_write(struct shmfs *fs, unsigned number, uint64_t turn)
{
    static uint64_t buf[BLOCK_MAX / 8];
    uint32_t ino = find(fs, "blocks");

    stamp(buf, BLOCK_MAX, (uint64_t)(number + 1) << 56 | turn << 20);
    if (turn % 2 == 0)
        must(shmfs_node_fallocate(fs, ino, 3 /* punch, keep size */, 16384, BLOCK_MAX), "punch");
    else
        must(shmfs_node_write(fs, ino, buf, BLOCK_MAX, 16384, 0, NULL), "write");
}

static void holes_read(struct shmfs *fs, unsigned number, uint64_t turn)
{
    static uint64_t buf[BLOCK_MAX / 8];
    size_t zeros = 0;

    if (shmfs_node_read(fs, find(fs, "blocks"), buf, BLOCK_MAX, 16384) != BLOCK_MAX)
        fail("holes: short read");
    for (size_t i = 0; i < BLOCK_MAX / 8; i++)
        zeros += buf[i] == 0;
    if (zeros != 0 && zeros != BLOCK_MAX / 8)
        fail("holes: %zu words of %d are zeros", zeros, BLOCK_MAX / 8);
    for (size_t i = 1; zeros == 0 && i < BLOCK_MAX / 8; i++) {
        if (buf[i] != buf[0] + i) {
            fail("holes: word %zu is of another write than the first", i);
            return;
        }
    }
}

/* ---- appends ------------------------------------------------------------------------------------- */

static void append_prepare(struct shmfs *fs)
{
    make(fs, SHMFS_ROOT, "log");
}

/* Records of 24 bytes: who, how many before, and their sum. */
static void append_write(struct shmfs *fs, unsigned number, uint64_t turn)
{
    uint64_t record[3] = { number, turn, number + turn };
    uint32_t ino = find(fs, "log");
    struct shmfs_attr attr = { 0 };

    must(shmfs_node_getattr(fs, ino, &attr), "getattr");
    if (attr.size > 2000000) {
        usleep(1000);
        return;
    }
    must(shmfs_node_write(fs, ino, record, sizeof(record), 0, SHMFS_WRITE_APPEND, NULL), "append");
    __atomic_store_n(&board->last[number], turn, __ATOMIC_RELEASE);
}

/* Whoever reads the end of a log sees whole records; and those before it do not change. */
static void append_read(struct shmfs *fs, unsigned number, uint64_t turn)
{
    uint64_t record[30] = { 0 };
    uint32_t ino = find(fs, "log");
    struct shmfs_attr attr = { 0 };

    must(shmfs_node_getattr(fs, ino, &attr), "getattr");
    if (attr.size % 24 != 0)
        fail("append: the log has %" PRIu64 " bytes", attr.size);
    off_t off = attr.size > 72 ? (off_t)attr.size - 72 : 0;
    ssize_t n = shmfs_node_read(fs, ino, record, sizeof(record), off);
    if (n < 0 || n % 24 != 0)
        fail("append: a read at the end gave %zd", n);
    for (ssize_t i = 0; i < n / 24; i++) {
        if (record[i * 3] + record[i * 3 + 1] != record[i * 3 + 2])
            fail("append: a record is torn");
    }
}

static void append_after(struct shmfs *fs)
{
    uint32_t ino = find(fs, "log");
    uint64_t record[3], next[NEIGHBOURS] = { 0 };
    off_t off = 0;

    for (; shmfs_node_read(fs, ino, record, sizeof(record), off) == sizeof(record); off += sizeof(record)) {
        if (record[0] >= NEIGHBOURS || record[1] < next[record[0]]) {
            fail("append: a record at %jd is out of order", (intmax_t)off);
            return;
        }
        next[record[0]] = record[1] + 1;
    }
    for (unsigned i = 0; i < NEIGHBOURS; i++) {
        if (next[i] > 0 && next[i] - 1 < board->last[i])
            fail("append: record %" PRIu64 " of writer %u is lost", board->last[i], i);
    }
}

/* ---- neighbours ---------------------------------------------------------------------------------- */

/* Four writers, each with 8 bytes that touch those of the next; across a block's end as well. */
static off_t neighbour_off(unsigned number, unsigned spot)
{
    static const off_t spots[] = { 0, 4096 - 16, 4096 - 13, 3 * 4096 };

    return 20000 * (off_t)spot + spots[spot] + number * 8;
}

static void neighbours_prepare(struct shmfs *fs)
{
    uint64_t zero = 0;
    uint32_t ino = make(fs, SHMFS_ROOT, "neighbours");

    must(shmfs_node_write(fs, ino, &zero, 8, 100000, 0, NULL), "write");
}

static void neighbours_write(struct shmfs *fs, unsigned number, uint64_t turn)
{
    uint32_t ino = find(fs, "neighbours");
    uint64_t value = turn << 8 | number, got = 0;

    for (unsigned spot = 0; spot < 4; spot++) {
        must(shmfs_node_write(fs, ino, &value, 8, neighbour_off(number, spot), 0, NULL), "write");
        must(shmfs_node_read(fs, ino, &got, 8, neighbour_off(number, spot)), "read");
        if (got != value)
            fail("neighbours: %u wrote %" PRIx64 " and reads %" PRIx64, number, value, got);
    }
    board->last[number] = value;
}

static void neighbours_after(struct shmfs *fs)
{
    uint32_t ino = find(fs, "neighbours");

    for (unsigned number = 0; number < NEIGHBOURS; number++) {
        for (unsigned spot = 0; spot < 4; spot++) {
            uint64_t got = 0;
            must(shmfs_node_read(fs, ino, &got, 8, neighbour_off(number, spot)), "read");
            if (got >> 8 < board->last[number] >> 8 || (got & 0xff) != number)
                fail("neighbours: what %u wrote last at spot %u is lost", number, spot);
        }
    }
}

/* ---- names --------------------------------------------------------------------------------------- */

static void names_prepare(struct shmfs *fs)
{
    struct shmfs_attr attr;
    uint64_t buf[512];
    uint32_t ino = make(fs, SHMFS_ROOT, "target");

    stamp(buf, sizeof(buf), 0);
    must(shmfs_node_write(fs, ino, buf, sizeof(buf), 0, 0, NULL), "write");
    make(fs, SHMFS_ROOT, "here");
    must(shmfs_node_mkdir(fs, SHMFS_ROOT, "left", 0755, &maker, false, &attr), "mkdir");
    must(shmfs_node_mkdir(fs, SHMFS_ROOT, "right", 0755, &maker, false, &attr), "mkdir");
}

static void names_write(struct shmfs *fs, unsigned number, uint64_t turn)
{
    char temp[32];

    if (number == 0) { /* back and forth under two names, and from one name to another */
        must(shmfs_node_rename(fs, SHMFS_ROOT, turn % 2 == 0 ? "here" : "there", SHMFS_ROOT,
                               turn % 2 == 0 ? "there" : "here", 0, &maker),
             "rename");
        must(shmfs_node_rename(fs, SHMFS_ROOT, "left", SHMFS_ROOT, "right", RENAME_EXCHANGE, &maker),
             "exchange");
        return;
    }
    /* a new file in place of the old one */
    uint64_t buf[512];
    snprintf(temp, sizeof(temp), "temp%u", number);
    uint32_t ino = make(fs, SHMFS_ROOT, temp);
    stamp(buf, sizeof(buf), (uint64_t)number << 56 | turn << 20);
    must(shmfs_node_write(fs, ino, buf, sizeof(buf), 0, 0, NULL), "write");
    must(shmfs_node_rename(fs, SHMFS_ROOT, temp, SHMFS_ROOT, "target", 0, &maker), "rename over");
}

static void names_read(struct shmfs *fs, unsigned number, uint64_t turn)
{
    static struct shmfs_dirent e[32];
    struct shmfs_attr attr;
    uint64_t buf[512];
    int here = 0, there = 0, pairs = 0;

    uint32_t ino = find(fs, "target");
    find(fs, "left");
    find(fs, "right");
    /* Between lookup and read it may be replaced, and the number given to another file. */
    ssize_t got = shmfs_node_read(fs, ino, buf, sizeof(buf), 0);
    if (got == (ssize_t)sizeof(buf) && shmfs_node_lookup(fs, SHMFS_ROOT, "target", false, &attr) == 0 &&
        attr.ino == ino) {
        for (size_t i = 1; i < 512; i++) {
            if (buf[i] != buf[0] + i) {
                fail("names: the target is a mixture");
                return;
            }
        }
    }
    int n = shmfs_node_readdir(fs, SHMFS_ROOT, 0, e, 32); /* one bucket: one state */
    for (int i = 0; i < n; i++) {
        here += strcmp(e[i].name, "here") == 0;
        there += strcmp(e[i].name, "there") == 0;
        pairs += strcmp(e[i].name, "left") == 0 || strcmp(e[i].name, "right") == 0;
    }
    if (here + there != 1)
        fail("names: a listing shows %s", here == 0 ? "neither name" : "both names");
    if (pairs != 2)
        fail("names: a listing shows %d of two names that were exchanged", pairs);
}

/* ---- scenes -------------------------------------------------------------------------------------- */

static const struct scene scenes[] = {
    { "blocks", blocks_prepare, 2, 2, blocks_write, blocks_read, NULL },
    { "holes", blocks_prepare, 1, 2, holes_write, holes_read, NULL },
    { "append", append_prepare, NEIGHBOURS, 1, append_write, append_read, append_after },
    { "neighbours", neighbours_prepare, NEIGHBOURS, 0, neighbours_write, NULL, neighbours_after },
    { "names", names_prepare, 3, 2, names_write, names_read, NULL },
};

static struct shmfs *attach(bool reads, unsigned number)
{
    struct shmfs_diag diag;
    struct shmfs *fs;
    char text[200];
    int r = shmfs_region_attach(scene_path, 0, &fs, &diag);

    (void)reads;
    (void)number;
    if (r < 0) {
        fail("%s", shmfs_diag_text(&diag, r, scene_path, text, sizeof(text)));
        return NULL;
    }
    return fs;
}

int main(int argc, char **argv)
{
    static const struct scene_client client = { attach, shmfs_region_detach };

    return scene_main(argc, argv, &client, scenes, sizeof(scenes) / sizeof(scenes[0]));
}
