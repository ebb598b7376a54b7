/* SPDX-License-Identifier: MIT */
#ifndef CRASH_EXAM_H
#define CRASH_EXAM_H

/*
 * The examination: at a store on one level somebody dies; on the next level the state is recovered,
 * checked and compared with the states that it may be.
 */
#include "cases.h"
#include "level.h"
#include "script.h"
#include "view.h"

enum { ALLOWED_MAX = 10, PREFIX_MAX = 1 << 20 };

struct allowed {
    const struct view *view;
    const char *name;
};

/* A file's contents before and after, for JUDGE_PREFIX and JUDGE_BLOCKS. */
struct part {
    uint32_t ino;
    uint32_t index; /* in the views */
    size_t before_size, after_size;
    uint8_t before[PREFIX_MAX], after[PREFIX_MAX];
};

struct exam {
    const char *mode, *name, *op, *heir; /* for reports; heir: what level 1 does first, or NULL */
    uint64_t seed, salt;
    uint32_t held; /* the script's "." for the heir */

    /* Which stores: on level 0 and 1, one of `every`, chosen by seed; 0: none. Or `only`, if not 0. */
    uint32_t every[LEVELS];
    uint64_t only[LEVELS];
    uint64_t most; /* states of one mutant */

    bool loose;
    enum judge judge;
    struct part part;
    /*
     * What may be found: on level 1, where the heir lives; there, once the heir has done its work; and where
     * nobody lives of those who were there before.
     */
    struct allowed allowed[ALLOWED_MAX], heirs[ALLOWED_MAX], late[ALLOWED_MAX];
    uint32_t nallowed, nheirs, nlate;
    void (*mend)(struct seat *seat); /* takes back what a mutant shall not have stored; or NULL */

    /* what happened */
    uint64_t store[LEVELS];
    const void *pc[LEVELS];
    const uint8_t *at[LEVELS];
    uint64_t states, failures, rounds;
    uint64_t failed_here; /* of this operation */
    bool quiet;           /* failures are expected: counted, not told */
    uint64_t ticks;       /* moves as long as nothing hangs */
};

extern struct exam exam;

/* Numbers the stores anew, for another run of an operation. */
void exam_begin(const char *mode, const char *name, const char *op);

/* Counts a store of level 0 or 1; is it one that somebody shall die at? */
bool exam_count(struct seat *seat, const uint8_t *at, const void *pc);
/* What exam_begin() sets as the callback of stores. */
void exam_on_store(struct seat *seat, const uint8_t *at, size_t n, const void *pc);

/* Arms the hooks of a seat on level 0 while `text` runs there. */
struct script_result exam_run(struct seat *seat, const char *text);

/* Sets handlers: a crash or a hang is told like any other failure. Unless NULL, ESCAPE is called then. */
void exam_guard(void (*escape)(const char *what));

uint64_t exam_chance(uint64_t a, uint64_t b);

/* Looks at the level as it is: "" if it is one of the allowed states, or what is wrong with it. */
const char *exam_verdict(struct level *l, const struct allowed *allowed, uint32_t n);

/*
 * Looks at what level 0 is to be, once whoever is dead there is buried: views of level 1 (RET, unless NULL),
 * where the heir lives and has done HEIR (unless NULL), and of level 2, where nobody does.
 */
void exam_foresee(const char *heir, bool loose, struct view *ret, struct view *ret_late);

/* Everybody but the level's own seat is dead: buries them. False: they would not be buried. */
bool exam_bury(struct level *l);

/* Says what is wrong, and with which command to see it again. */
void exam_fail(struct level *l, const char *what, const struct allowed *allowed, uint32_t n);
void exam_print_place(void);
void exam_print_pc(const void *pc);

#endif
