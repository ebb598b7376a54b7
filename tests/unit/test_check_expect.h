/* SPDX-License-Identifier: MIT */
#ifndef TEST_CHECK_EXPECT_H
#define TEST_CHECK_EXPECT_H

/*
 * How the tests of the check are written: each gets a good region of its own (a private mapping of
 * one file), damages a few bytes of it, says with expect() which lines the check must print, and ends
 * with verify(): exactly those, in any order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test_check_world.h"

enum { LINES_MAX = 32, LINE_MAX_BYTES = 600 };

struct lines {
    unsigned n;
    char text[LINES_MAX][LINE_MAX_BYTES];
};

static char world_name[128];
static struct shmfs *fs;
static struct lines wanted, got;
static struct shmfs_check_result result;

static inline int make_world(void **state)
{
    world_path("test-check", world_name, sizeof(world_name));
    unlink(world_name);
    /* Neither the region nor its size is a multiple of a group, so that there are ends to test. */
    world_make(world_name, (UINT64_C(40) << 20) + 5 * BLOCK_SIZE);
    struct shmfs *made = world_attach(world_name, 0);
    world_populate(made, 1900, 1000);
    shmfs_region_detach(made);
    return 0;
}

static inline int remove_world(void **state)
{
    unlink(world_name);
    return 0;
}

static inline int open_world(void **state)
{
    fs = world_attach(world_name, SHMFS_ATTACH_PRIVATE);
    memset(&wanted, 0, sizeof(wanted));
    memset(&got, 0, sizeof(got));
    return 0;
}

static inline int close_world(void **state)
{
    shmfs_region_detach(fs);
    return 0;
}

__attribute__((format(printf, 1, 2))) static inline void expect(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(wanted.text[wanted.n++], LINE_MAX_BYTES, format, args);
    va_end(args);
}

static inline void note_line(void *arg, const struct shmfs_problem *problem)
{
    unsigned ino = 0;

    assert_null(strchr(problem->text, '\n'));
    /* What the text names is what the field says. */
    if (sscanf(problem->text, "inode %u (", &ino) == 1 && problem->ino != 0)
        assert_int_equal(ino, problem->ino);
    if (got.n < LINES_MAX)
        snprintf(got.text[got.n], LINE_MAX_BYTES, "%s", problem->text);
    got.n++;
}

static inline void run_check(void)
{
    struct shmfs_check check = { .problem = note_line };

    assert_int_equal(shmfs_check_run(fs, &check, &result), 0);
    assert_int_equal(result.problems, got.n);
}

/* Is each line of a also in b? Prints those that are not. */
static inline bool lines_within(const struct lines *a, const struct lines *b, const char *what)
{
    bool all = true;

    for (unsigned i = 0; i < a->n && i < LINES_MAX; i++) {
        bool found = false;
        for (unsigned k = 0; k < b->n && k < LINES_MAX; k++)
            found = found || strcmp(a->text[i], b->text[k]) == 0;
        if (!found)
            print_error("%s: %s\n", what, a->text[i]);
        all = all && found;
    }
    return all;
}

static inline void verify(void)
{
    run_check();
    bool good = lines_within(&wanted, &got, "missing");
    good = lines_within(&got, &wanted, "not expected") && good;
    assert_true(good);
    assert_int_equal(wanted.n, got.n);
}

/* For damage that takes a lot else with it. */
static inline void verify_among_others(void)
{
    run_check();
    assert_true(lines_within(&wanted, &got, "missing"));
}

/* ---- the bytes ------------------------------------------------------------------------------- */

static inline struct inode *inode_of(const char *path)
{
    return &fs->inodes[world_ino(fs, path)];
}

static inline uint32_t number_of(const struct inode *inode)
{
    return (uint32_t)(inode - fs->inodes);
}

/* Sets a block's bit and keeps the group's count right. */
static inline void mark_block(uint64_t blk, bool used)
{
    uint64_t *word = (uint64_t *)(void *)fs->block_maps + blk / 64;
    uint64_t bit = UINT64_C(1) << blk % 64;

    if (((*word & bit) != 0) == used)
        return;
    *word ^= bit;
    fs->groups[blk / fs->l.group_blocks].free_blocks += used ? -1u : 1u;
}

static inline void mark_inode(uint32_t ino, bool used)
{
    uint64_t *word = (uint64_t *)(void *)fs->inode_maps + ino / 64;
    uint64_t bit = UINT64_C(1) << ino % 64;

    if (((*word & bit) != 0) == used)
        return;
    *word ^= bit;
    fs->groups[ino / fs->l.group_inodes].free_inodes += used ? -1u : 1u;
}

/* A block that is free and has free neighbours. */
static inline uint32_t free_block(void)
{
    for (uint32_t blk = 1; blk + 8 < fs->sb->nblocks; blk++) {
        unsigned n = 0;
        while (n < 8 && !world_block_used(fs, blk + n))
            n++;
        if (n == 8)
            return blk;
    }
    fail_msg("no free blocks");
    return 0;
}

static inline uint32_t free_inode(void)
{
    for (uint32_t ino = 2; ino < fs->l.ninodes; ino++)
        if (fs->inodes[ino].mode == 0)
            return ino;
    fail_msg("no free inodes");
    return 0;
}

/* Takes a name's slot out of its bucket, and nothing else. */
static inline void drop_slot(const char *dir, const char *name)
{
    struct bucket *b = NULL;
    struct dslot *s = world_slot(fs, world_ino(fs, dir), name, &b);
    struct dslot *end = b->slots + b->count;

    b->live = (uint16_t)(b->live - 4 - s->len);
    b->count--;
    memmove(s, s + 1, (size_t)((char *)end - (char *)(s + 1)));
    fs->inodes[b->owner.n].size--;
}

#endif
