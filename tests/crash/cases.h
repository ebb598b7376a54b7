/* SPDX-License-Identifier: MIT */
#ifndef CRASH_CASES_H
#define CRASH_CASES_H

/* The operations that somebody dies in. Scripts are those of script.h. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum judge {
    JUDGE_WHOLE, /* the state before or the state after */
    JUDGE_PREFIX, /* or, in the file that `ops` names first, a part of what was to be written, from its start */
    JUDGE_BLOCKS, /* or the contents before or after, with any number of blocks */
    JUDGE_STEPS,  /* or the state after the script `step` */
};

struct crash_case {
    const char *name;
    const char *setup;
    const char *ops; /* each command is an operation to be looked at by itself, after the ones before it */
    enum judge judge;
    const char *step;
    int repeat; /* > 1: of `ops`, with its number for each %d */
};

extern const struct crash_case cases[];
extern const size_t ncases;

/* Operations that get into each other's way, in one and the same filesystem. */
struct crash_world {
    const char *name;
    uint64_t size;
    uint32_t shift; /* see levels_open() */
    const char *setup;
    const char *ops[32];
};

extern const struct crash_world worlds[];
extern const size_t nworlds;

#endif
