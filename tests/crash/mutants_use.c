/* SPDX-License-Identifier: MIT */
/*
 * Mutants of what keeps files that are open, pinned or locked: a store is taken back as soon as the next one
 * comes, or an undo record is left out; and each of them must be noticed.
 */
#include <inttypes.h>
#include <stdio.h>

#include "modes.h"
#include "mutant.h"

static uint32_t file; /* "." of the setup */

/* slot.closing is not stored. */
static void mend_closing(struct seat *seat)
{
    seat->fs->slots[seat->slot].closing.n = 0;
}

/* A pin's record is cleared at once, and not brought back when what follows from it is. */
static void mend_record(struct seat *seat)
{
    uint64_t pin = use_word(file, seat->role, USE_PIN), was;
    struct slot *slot = &seat->fs->slots[seat->slot];

    for (uint32_t i = 0; i < use_count(seat->fs); i++) {
        if (*use_at(seat->fs, i) == (pin | USE_ENDING))
            *use_at(seat->fs, i) = 0;
    }
    for (uint32_t at = 0; at + 8 <= (slot->word & 0xffffff); at += 8) {
        memcpy(&was, slot->log + at, 8);
        if (was == pin)
            memset(slot->log + at, 0, 8);
    }
}

/* INODE_LOOSE is not set. */
static void mend_loose(struct seat *seat)
{
    seat->fs->inodes[file].flags &= ~(uint32_t)INODE_LOOSE;
}

/* An open is relied on before its record is there. */
static void mend_open(struct seat *seat)
{
    struct shmfs *fs = seat->fs;

    for (uint32_t i = 0; i < use_count(fs); i++) {
        if (*use_at(fs, i) == use_word(file, seat->role, USE_OPEN))
            *use_at(fs, i) = 0;
    }
}

static const struct {
    const char *name, *setup, *op;
    void (*mend)(struct seat *seat);
} stores[] = {
    { "closing", "file /a 9000; open /a; unlink /a", "close .", mend_closing },
    { "record", "file /a 60000 1; open /a; map /a 0 60000; truncate /a 5000; poke /a 5000 9000 9", "unmap .",
      mend_record },
    { "loose", "file /a 9000 1; open /a", "map . 0 9000; poke . 9000 100 9", mend_loose },
    { "open", "file /a 9000 1; open /a; close /a", "open /a; unlink /a; write . 0 100 2", mend_open },
};

static struct view before, after, late_before, late_after, alive;

/* Knows what may be found after this operation, of which no part is looked at by itself. */
static void foresee(const char *op)
{
    struct shmfs *fs = levels[0].seats[0].fs;

    exam.judge = JUDGE_WHOLE;
    script_held = file;
    exam_foresee(NULL, false, &before, &late_before);
    script_run(fs, op, true);
    view_take(fs, false, &alive);
    exam_foresee(NULL, false, &after, &late_after);
    image_back();
    exam.allowed[0] = (struct allowed){ &before, "before" };
    exam.allowed[1] = (struct allowed){ &after, "after" };
    exam.nallowed = 2;
}

/* Runs the operation as it is or as a mutant. Does anybody notice, of the dead or of the living? */
static bool noticed(const char *name, const char *op)
{
    struct allowed lives = { &alive, "after" };

    exam_begin("mutant", name, op);
    exam.most = UINT64_MAX;
    script_held = file;
    exam_run(&levels[0].seats[0], op);
    bool bad = exam.failed_here > 0 || exam_verdict(&levels[0], &lives, 1)[0] != 0;
    image_back();
    return bad;
}

static void must(const char *name, const char *what, bool good)
{
    if (good)
        return;
    fprintf(stderr, "FAIL mutant %s: %s\n", name, what);
    exam.failures++;
}

static bool prepare(const char *name, const char *setup, const char *op)
{
    if (want.name != NULL && strcmp(want.name, name) != 0)
        return false;
    modes_setup(name, setup);
    file = script_held;
    foresee(op);
    return true;
}

static void store_mutants(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(stores); i++) {
        if (!prepare(stores[i].name, stores[i].setup, stores[i].op))
            continue;
        must(stores[i].name, "it fails as it is", !noticed(stores[i].name, stores[i].op));
        exam.mend = stores[i].mend;
        must(stores[i].name, "nobody notices it", noticed(stores[i].name, stores[i].op));
        exam.mend = NULL;
    }
}

/*
 * The links of locks: who dies has all of his own dropped, so most of their undo records count where the living
 * take back what they began.
 */
static void range_mutants(void)
{
    static const char name[] = "ranges", op[] = "lock /a 10 19 r";
    struct shmfs *fs = levels[0].seats[0].fs;
    uint32_t links = 0;
    uint64_t n;

    if (!prepare(name,
                 "create /a; other lock /a 50 59 r; lock /a 0 9 r; other lock /a 70 79 r; lock /a 20 29 r; "
                 "fullranges 0",
                 op))
        return;
    mutant_begin(fs, 0);
    must(name, "it fails as it is", !noticed(name, op));
    n = mutant.count;
    for (uint64_t k = 1; k <= n; k++) {
        char what[80];

        mutant_begin(fs, k);
        bool seen = noticed(name, op);
        mutant_over();
        if (mutant.at < (const uint8_t *)fs->ranges || mutant.at >= (const uint8_t *)fs->group_rts)
            continue;
        links++;
        snprintf(what, sizeof(what), "nobody notices that undo record %" PRIu64 " is left out", k);
        must(name, what, seen);
    }
    mutant_begin(NULL, 0);
    must(name, "there are no links", links >= 4);
    printf("  %u undo records of links left out\n", links);
}

void mode_mutant_use(void)
{
    exam.every[0] = 1;
    exam.every[1] = 0;
    exam.quiet = true;
    levels_open(REGION_SIZE, REGION_INODES, 0);
    store_mutants();
    range_mutants();
    levels_close();
    exam.quiet = false;
}
