/* SPDX-License-Identifier: MIT */
#ifndef STORM_OPS_H
#define STORM_OPS_H

/* What a worker of kill_storm does, one operation after another. */
#include "storm_model.h"

/* The same in all processes. */
extern struct storm {
    unsigned seconds, workers, pace, patience; /* pace and patience in ms */
    uint64_t seed;
    bool keep;
    char path[64];
    uint32_t shared, log, scribble; /* inode numbers */
    uint64_t free_blocks, free_inodes;
    uint64_t *lag; /* shared: the longest that the parent's naps took over time, in ns */
} storm;

extern const struct shmfs_maker storm_maker;

uint64_t storm_clock(void); /* ns */

extern uint64_t storm_rng;
uint64_t storm_below(uint64_t n);

/* How long an operation may take, in ns. */
uint64_t storm_patience(void);

/* Around everything that may wait. An end with an error, or too late, is a failure. */
void storm_begin(struct worker *w);
void storm_end(struct worker *w, long r, const char *what);

/* Says what is wrong and ends the process. */
void storm_fail(struct worker *w, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));

/* One operation, chosen at random. */
void storm_operate(struct shmfs *fs, struct worker *w);

#endif
