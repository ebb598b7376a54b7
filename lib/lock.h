/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_LOCK_H
#define SHMFS_LOCK_H

/*
 * The robust owner-word lock (docs/LOCKING.md). Only txn.c and recover.c take locks; everybody else
 * asks a transaction for them, so that the intent is written first (I7).
 */
#include "proc.h"

#define LOCK_WAITERS UINT64_C(1)

static inline uint64_t lock_stamp(uint32_t slot, uint64_t inc)
{
    return inc << 16 | (uint64_t)(slot + 1) << 1;
}
static inline uint32_t lock_slot(uint64_t word)
{
    return (uint32_t)(word >> 1 & 0x7fff) - 1;
}
static inline bool lock_is_held_by(uint64_t word, uint64_t stamp)
{
    return (word & ~LOCK_WAITERS) == stamp;
}

/*
 * Takes the lock for the slot whose stamp this is. Waits as long as the owner lives; has a dead owner
 * buried and goes on. -EUCLEAN: the word names no owner that could be (scribbled on).
 */
int lock_wait(struct shmfs *fs, struct lockword *w, uint64_t stamp);

static inline bool lock_try(struct lockword *w, uint64_t stamp)
{
    uint64_t free_word = 0;

    return CAS(&w->v, &free_word, stamp);
}

static inline int lock_take(struct shmfs *fs, struct lockword *w, uint64_t stamp)
{
    return likely(lock_try(w, stamp)) ? 0 : lock_wait(fs, w, stamp);
}

void lock_wake(struct lockword *w);

/* Futexes on words of the region, of 64-bit ones the low half. us: at most so long; < 0: for ever. */
int lock_futex_wait(uint64_t *word, uint32_t seen, long us); /* 0; -EINTR: a signal was handled */
void lock_futex_wake(uint64_t *word, int n);
int lock_futex_wait32(uint32_t *word, uint32_t seen, long us);
void lock_futex_wake32(uint32_t *word, int n);
uint64_t lock_now_ns(void); /* CLOCK_MONOTONIC */

static inline void lock_release(struct lockword *w)
{
    if (unlikely((__atomic_exchange_n(&w->v, 0, __ATOMIC_RELEASE) & LOCK_WAITERS) != 0))
        lock_wake(w);
}

/* Releases the lock if, and only if, it is held under this stamp (the undertaker's release). */
void lock_release_of(struct lockword *w, uint64_t stamp);

#endif
