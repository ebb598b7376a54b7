/* SPDX-License-Identifier: MIT */
/*
 * Two at once. What is left must be what some order of the two would leave, each wholly there or
 * wholly not. Inode numbers and the like tell who came first, and are not compared.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>

#include "modes.h"
#include "mutant.h"
#include "wraps.h"

enum {
    PATIENCE = 300,      /* waits and tries in a row: seconds, in the life of a lock */
    STORES_MAX = 300000, /* of one operation; the longest has some tens of thousands */
};

enum { VIEWS = 8 };

static struct view views[VIEWS], late[VIEWS];
static uint32_t held; /* by the setup; the script's "." */
static sigjmp_buf escape;
static uint64_t waits;
static bool broken; /* somebody was left in the middle: the levels must be made anew */

static struct script_result run(struct seat *seat, const char *text)
{
    script_held = held;
    return script_run(seat->fs, text, true);
}

static void each_pair(void (*rehearse)(const char *a, const char *b),
                      void (*one)(const struct crash_world *w, const char *a, const char *b))
{
    for (size_t i = 0; i < nworlds; i++) {
        const struct crash_world *w = &worlds[i];
        uint64_t states = exam.states, failures = exam.failures;
        double from = modes_clock();

        if (want.name != NULL && strcmp(want.name, w->name) != 0)
            continue;
        levels_open(w->size, REGION_INODES, w->shift);
        modes_setup(w->name, w->setup);
        held = script_held;
        for (size_t k = 0; w->ops[k] != NULL; k++) {
            for (size_t n = 0; w->ops[n] != NULL; n++) {
                if ((want.op != NULL && strcmp(want.op, w->ops[k]) != 0) ||
                    (want.heir != NULL && strcmp(want.heir, w->ops[n]) != 0))
                    continue;
                exam.loose = true;
                exam.judge = JUDGE_WHOLE;
                rehearse(w->ops[k], w->ops[n]);
                exam.heir = w->ops[n];
                one(w, w->ops[k], w->ops[n]);
                if (broken) {
                    levels_close();
                    levels_open(w->size, REGION_INODES, w->shift);
                    modes_setup(w->name, w->setup);
                    broken = false;
                }
                image_back();
            }
        }
        levels_close();
        printf("  %-26s %8" PRIu64 " states  %6.0f/s%s\n", w->name, exam.states - states,
               (double)(exam.states - states) / (modes_clock() - from),
               exam.failures > failures ? "  FAILED" : "");
    }
    exam.heir = NULL;
    exam.loose = false;
}

/* ---- A dies; B meets what it left, and dies as well ---------------------------------------------- */

static void heir_waits(void)
{
    exam.ticks++;
    if (waits++ < PATIENCE)
        return;
    exam.failed_here = 0;
    exam_fail(&levels[1], "the living wait for the dead, for ever", NULL, 0);
    siglongjmp(escape, 1);
}

static void first_store(struct seat *seat, const uint8_t *at, size_t n, const void *pc)
{
    waits = 0; /* a new death, a new patience */
    exam_on_store(seat, at, n, pc);
}

static void heir_store(struct seat *seat, const uint8_t *at, size_t n, const void *pc)
{
    if (exam.store[1] > STORES_MAX) {
        exam.failed_here = 0; /* to be told in any case */
        exam_fail(&levels[1], "the living try again and again, for ever", NULL, 0);
        siglongjmp(escape, 1);
    }
    exam_on_store(seat, at, n, pc);
}

/* A does FIRST, the heir SECOND; in the end A is dead. */
static void foresee(uint32_t i, const char *first, const char *second, const char *name)
{
    run(&levels[0].seats[0], first);
    script_held = held;
    exam_foresee(second, true, &views[i], &late[i]);
    image_back();
    exam.allowed[i] = (struct allowed){ &views[i], name };
    exam.late[i] = (struct allowed){ &late[i], name };
}

static void rehearse_pair(const char *a, const char *b)
{
    foresee(0, "", "", "before");
    foresee(1, a, "", "after the first");
    foresee(2, "", b, "after the second");
    foresee(3, a, b, "after both");
    exam.nallowed = exam.nlate = 4;
    exam.heirs[0] = exam.allowed[2];
    exam.heirs[1] = exam.allowed[3];
    exam.nheirs = 2;
}

static void pair_one(const struct crash_world *w, const char *a, const char *b)
{
    exam_begin("pair", w->name, a);
    levels[0].store = first_store;
    levels[1].store = heir_store;
    wraps_wait = heir_waits;
    waits = 0;
    script_held = exam.held = held;
    if (sigsetjmp(escape, 1) == 0)
        exam_run(&levels[0].seats[0], a);
    else
        broken = true;
    wraps_wait = NULL;
}

void mode_pair(void)
{
    exam.every[0] = want.all ? 1 : 16;
    exam.every[1] = want.all ? 24 : 400;
    each_pair(rehearse_pair, pair_one);
    exam.every[1] = 0;
}

/* ---- A stands still; B dies and is buried; A goes on --------------------------------------------- */

static struct {
    uint64_t at, b_at; /* stores at which A stops and B dies */
    uint64_t stores, b_stores;
    sigjmp_buf dies;
} frozen;

static struct seat *const seat_a = &levels[0].seats[0], *const seat_b = &levels[0].seats[1],
                          *const seat_c = &levels[0].seats[2];

/* B, or C at B's burial, waits for A. Somebody dies waiting, too. */
static void other_waits(void)
{
    if (waits++ > 3)
        siglongjmp(frozen.dies, 1);
}

static void a_waits(void)
{
    exam.ticks++;
    if (waits++ < PATIENCE)
        return;
    exam.failed_here = 0;
    exam_fail(&levels[0], "A waits for ever for what others left", NULL, 0);
    siglongjmp(escape, 1);
}

static void seat_dead(struct seat *seat)
{
    seat->watch.armed = false;
    seat_die(seat);
    seat->fs->free_slots[0] = seat->slot; /* for its next life */
    seat->fs->nfree_slots = 1;
}

static void c_buries(void)
{
    waits = 0;
    if (sigsetjmp(frozen.dies, 1) != 0) {
        seat_dead(seat_c);
        return;
    }
    for (int i = 0; i < 4 && recover_dead(seat_c->fs) == 0; i++)
        continue;
    if (seat_c->fs->procs[seat_b->role].inc != 0 || seat_c->fs->slots[seat_b->slot].owner.v != 0)
        exam_fail(&levels[0], "B is not buried", NULL, 0);
}

static void others_work(void)
{
    waits = 0;
    wraps_wait = other_waits;
    if (sigsetjmp(frozen.dies, 1) == 0) {
        seat_b->watch.armed = true;
        run(seat_b, exam.heir);
        seat_b->watch.armed = false;
    } else {
        seat_dead(seat_b);
        c_buries();
    }
    waits = 0;
    wraps_wait = a_waits;
}

static void frozen_store(struct seat *seat, const uint8_t *at, size_t n, const void *pc)
{
    if (seat == seat_b) {
        exam.store[1]++;
        exam.pc[1] = pc;
        exam.at[1] = level_fs(&levels[1])->base + (at - seat->fs->base);
        if (++frozen.b_stores == frozen.b_at)
            siglongjmp(frozen.dies, 1);
    } else if (seat == seat_a && ++frozen.stores == frozen.at) {
        exam.store[0] = frozen.stores;
        exam.pc[0] = pc;
        exam.at[0] = at;
        others_work();
    }
}

static void frozen_torn(struct seat *seat, uint8_t *at, size_t n, const uint8_t *old, const void *pc)
{
}

/*
 * An operation on a number is one on that file, whatever happens to the name meanwhile: so A looks the name up
 * before B comes, and goes on with "." (which may be gone: only lookups and opens keep it, and here they need
 * not be there).
 */
static struct {
    char op[OP_MAX];
    uint32_t ino; /* "." for A, if `op` says so */
} handle;

static void handle_take(const char *a)
{
    static const char *const by_number[] = { "link",     "write",  "fallocate", "copy",
                                             "truncate", "chmod",  "setxattr",  "removexattr",
                                             "read",     "list",   "map",       "unmap",
                                             "lock",     "unlock", "close",     "msync" };
    size_t word = strcspn(a, " "), path = a[word] == ' ' ? strcspn(a + word + 1, " ") : 0;
    char name[OP_MAX];

    snprintf(handle.op, sizeof(handle.op), "%s", a);
    handle.ino = held;
    for (size_t i = 0; i < ARRAY_SIZE(by_number); i++) {
        if (strlen(by_number[i]) != word || strncmp(a, by_number[i], word) != 0 || a[word + 1] != '/')
            continue;
        snprintf(name, sizeof(name), "%.*s", (int)path, a + word + 1);
        handle.ino = script_ino(seat_a->fs, name);
        snprintf(handle.op, sizeof(handle.op), "%.*s .%s", (int)word, a, a + word + 1 + path);
    }
}

static void handle_run(void)
{
    script_held = handle.ino;
    script_run(seat_a->fs, handle.op, true);
}

static void frozen_try(const struct crash_world *w, const char *a, uint64_t at, uint64_t b_at)
{
    frozen.at = at;
    frozen.b_at = b_at;
    frozen.stores = frozen.b_stores = 0;
    exam_begin("frozen", w->name, a);
    levels[0].store = frozen_store;
    levels[0].torn = frozen_torn;
    exam.ticks++;
    exam.states++;
    seat_a->watch.armed = true;
    if (sigsetjmp(escape, 1) == 0) {
        handle_run();
        seat_a->watch.armed = false;
        waits = 0;
        for (int i = 0; i < 4 && (seat_b->stood || seat_c->stood); i++)
            recover_dead(seat_a->fs);
        const char *what = exam_verdict(&levels[0], exam.allowed, exam.nallowed);
        if (what[0] != 0)
            exam_fail(&levels[0], what, exam.allowed, exam.nallowed);
    } else {
        broken = true;
    }
    seat_a->watch.armed = false;
    wraps_wait = NULL;
}

/* What the two do, one after another: a and b; x: B dies and is buried. */
static void order_view(uint32_t i, const char *order, const char *b)
{
    for (; *order != 0; order++) {
        if (*order == 'a') {
            handle_run();
        } else if (*order == 'b') {
            run(seat_b, b);
        } else {
            seat_dead(seat_b);
            recover_dead(seat_a->fs);
        }
    }
    view_take(seat_a->fs, true, &views[i]);
    image_back();
}

static void rehearse_frozen(const char *a, const char *b)
{
    static const char *const orders[VIEWS] = { "a", "ax", "ab", "ba", "abx", "bax", "xa", "bxa" };

    handle_take(a);
    for (uint32_t i = 0; i < VIEWS; i++) {
        order_view(i, orders[i], b);
        exam.allowed[i] = (struct allowed){ &views[i], orders[i] };
    }
    exam.nallowed = VIEWS;
}

static void frozen_one(const struct crash_world *w, const char *a, const char *b)
{
    uint64_t tries = want.all ? 400 : 8, nstores;

    frozen_try(w, a, 0, 0);
    nstores = frozen.stores;
    image_back();
    if (exam.only[0] != 0) {
        frozen_try(w, a, exam.only[0], exam.only[1]);
        return;
    }
    for (uint64_t i = 0; i < tries && !broken && nstores > 0; i++) {
        frozen_try(w, a, 1 + exam_chance(i, exam.salt) % nstores, 1 + exam_chance(i, exam.salt + 1) % 150);
        image_back();
    }
}

void mode_frozen(void)
{
    modes_other = seat_b;
    each_pair(rehearse_frozen, frozen_one);
    modes_other = &levels[1].seats[0];
}
