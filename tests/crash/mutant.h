/* SPDX-License-Identifier: MIT */
#ifndef CRASH_MUTANT_H
#define CRASH_MUTANT_H

/*
 * Undo records, counted, and one of them left out: does anybody notice? txn_save() and txn_todo()
 * are replaced (ld --wrap) for their callers in other files, which are all there are.
 */
#include "txn.h"

enum mutant_kind {
    MUTANT_PLAIN,   /* nothing speaks against its being noticed */
    MUTANT_COVERED, /* the same bytes were recorded before, in the same transaction */
};

extern struct mutant {
    const struct shmfs *fs; /* of whose transactions */
    uint64_t count;         /* records so far */
    uint64_t drop;          /* number of the record to leave out; 0: none */
    /* of the one that was left out */
    enum mutant_kind kind;
    const uint8_t *at;
    uint32_t len;
    const void *pc;
    uint8_t old[BLOCK_SIZE];
    bool over; /* its transaction, or the step to a checkpoint, has ended: with these bytes */
    uint8_t new[BLOCK_SIZE];
} mutant;

/* The transaction that it was left out of has ended. */
void mutant_over(void);

/* Begins to count. */
void mutant_begin(const struct shmfs *fs, uint64_t drop);

#endif
