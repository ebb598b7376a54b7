/* SPDX-License-Identifier: MIT */
/* Leaves out one undo record after another, and sees whether death at some store shows it. */
#include "mutant.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>

#include "modes.h"
#include "wraps.h"

enum {
    PLACES_MAX = 200,
    STORES_LOOKED_AT = 400, /* after the record: what it stood for is stored soon, if not at once */
};

static struct {
    uint64_t dropped, noticed, covered, unchanged, times, fresh, gone, ignored, others;
} sum;

static struct {
    const void *pc;
    const char *name;
    uint64_t number;
    uint32_t n;
} places[PLACES_MAX]; /* of survivors that nothing explains */
static uint32_t nplaces;

static sigjmp_buf escape;
static uint64_t waits;

static void on_crash(const char *what)
{
    siglongjmp(escape, 1);
}

static void on_wait(void)
{
    if (++waits > 2000)
        siglongjmp(escape, 1);
}

/* Do the bytes differ from what the record would have kept, other than in an inode's times? */
static bool changed(bool *ret_times)
{
    const struct shmfs *fs = mutant.fs;
    bool any = false, more = false;

    for (uint32_t i = 0; i < mutant.len; i++) {
        uint64_t off = (uint64_t)(mutant.at + i - fs->base);
        uint64_t in = (off - fs->l.inodes) % INODE_SIZE;
        bool time = off >= fs->l.inodes && off < fs->l.blocks && in >= offsetof(struct inode, atime) &&
                    in < offsetof(struct inode, map_level);

        if (mutant.new[i] == mutant.old[i])
            continue;
        any = true;
        more |= !time;
    }
    *ret_times = any && !more;
    return any;
}

/* Do the bytes lie in a block or an inode that was free before the operation, and so have nothing to go back to? */
static bool is_fresh(void)
{
    const struct shmfs *fs = mutant.fs;
    uint64_t off = (uint64_t)(mutant.at - fs->base);

    if (off >= fs->l.blocks) {
        const uint64_t *map = image_at(region_block_map(fs, 0));
        uint64_t blk = (off - fs->l.blocks) / BLOCK_SIZE;
        return (map[blk / 64] >> blk % 64 & 1) == 0;
    }
    return false;
}

/* Is the inode that they belong to gone in the end, however often one begins to take it apart? */
static bool is_gone(void)
{
    const struct shmfs *fs = mutant.fs;
    uint64_t off = (uint64_t)(mutant.at - fs->base);

    return off >= fs->l.inodes && off < fs->l.blocks &&
           fs->inodes[(off - fs->l.inodes) / INODE_SIZE].mode == 0;
}

static void survivor(const char *name, uint64_t number)
{
    bool times;

    mutant_over();
    if (mutant.kind == MUTANT_COVERED) {
        sum.covered++;
    } else if (!changed(&times)) {
        sum.unchanged++;
    } else if (times) {
        sum.times++;
    } else if (is_fresh()) {
        sum.fresh++;
    } else if (is_gone()) {
        sum.gone++;
    } else if (exam.judge != JUDGE_WHOLE && mutant.at == (const void *)inode_at(mutant.fs, exam.part.ino)) {
        sum.ignored++; /* size, blocks and version of a file that may have any part of the new data */
    } else {
        uint32_t i = 0;

        sum.others++;
        while (i < nplaces && places[i].pc != mutant.pc)
            i++;
        if (i == nplaces && nplaces < PLACES_MAX) {
            places[nplaces].pc = mutant.pc;
            places[nplaces].name = name;
            places[nplaces++].number = number;
        }
        if (i < nplaces)
            places[i].n++;
    }
}

static void mutant_try(const struct crash_case *c, const char *op, uint64_t number)
{
    struct seat *seat = &levels[0].seats[0];

    exam_begin("mutant", c->name, op);
    mutant_begin(seat->fs, number);
    exam.most = want.all ? UINT64_MAX : STORES_LOOKED_AT;
    waits = 0;
    sum.dropped++;
    if (sigsetjmp(escape, 1) == 0) {
        exam_run(seat, op);
        if (exam.failed_here > 0)
            sum.noticed++;
        else
            survivor(c->name, number);
    } else {
        sum.noticed++;
        mutant_begin(NULL, 0);
        modes_rebuild();
    }
    mutant_begin(NULL, 0);
}

static void mutant_one(const struct crash_case *c, const char *op, long result)
{
    uint64_t n;

    exam_begin("mutant", c->name, op);
    mutant_begin(levels[0].seats[0].fs, 0);
    script_run(levels[0].seats[0].fs, op, true);
    n = mutant.count;
    mutant_begin(NULL, 0);
    image_back();
    for (uint64_t k = 1; k <= n; k++) {
        if (exam.only[1] != 0 ? k != exam.only[1] : !want.all && exam_chance(k, exam.salt) % 8 != 0)
            continue;
        mutant_try(c, op, k);
        image_back();
    }
}

void mode_mutant(void)
{
    exam.every[0] = 1;
    exam.every[1] = 0;
    exam.quiet = true;
    exam_guard(on_crash);
    wraps_wait = on_wait;
    levels_open(REGION_SIZE, REGION_INODES, 0);
    modes_each(mutant_one);
    levels_close();
    wraps_wait = NULL;
    exam_guard(NULL);
    exam.quiet = false;
    printf("  %" PRIu64 " records left out, %" PRIu64 " noticed. Survivors: %" PRIu64
           " recorded before in the same transaction, %" PRIu64 " of bytes that did not change, %" PRIu64
           " of times alone, %" PRIu64 " in blocks that were free before, %" PRIu64
           " of inodes that are freed anyway, %" PRIu64 " of what is not compared, %" PRIu64 " others\n",
           sum.dropped, sum.noticed, sum.covered, sum.unchanged, sum.times, sum.fresh, sum.gone, sum.ignored,
           sum.others);
    for (uint32_t i = 0; i < nplaces; i++) {
        fprintf(stderr, "  survived %u times, first as record %" PRIu64 " of %s\n", places[i].n,
                places[i].number, places[i].name);
        exam_print_pc(places[i].pc);
    }
    if (sum.noticed == 0 || sum.others * 20 > sum.noticed) {
        fprintf(stderr, "FAIL too many undo records can be left out without anybody noticing\n");
        exam.failures++;
    }
}
