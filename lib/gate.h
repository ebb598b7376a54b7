/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_GATE_H
#define SHMFS_GATE_H

/*
 * The gate that every change of the persistent area passes (docs/SNAPSHOT.md, "The gate"). A slot is *inside* while it has
 * an intent (slot.nlocks) and is not marked as outside. Who shuts the gate and has seen every slot outside has the
 * persistent area to himself, with nothing half-changed in it.
 *
 *   first lock: intent, compare-and-swap (a full fence), gate: shut? Then the lock and the intent are given back, and it waits
 *   sleeping for a lock, or stopping at the gate after a checkpoint: marked as outside, with the locks it has
 */
#include "lock.h"

/* For who is inside by his intent, after a full fence: must he step back? */
static inline bool gate_is_shut(const struct shmfs *fs)
{
    return unlikely(LOAD(&fs->rt->gate) != 0); /* marks are read only after this */
}

/* Until it was open for a moment. For who is outside. Opens it itself where who shut it is dead, or was stopped for a second. */
void gate_await(struct shmfs *fs);

static inline void gate_step_out(struct slot *slot)
{
    STORE(&slot->outside, 1u);
}
/* False: it is shut, and he is outside still. */
static inline bool gate_step_in(struct shmfs *fs, struct slot *slot)
{
    STORE(&slot->outside, 0u);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (likely(!gate_is_shut(fs)) || LOAD_RELAXED(&fs->broken)) /* of a file that is gone, nothing is kept */
        return true;
    STORE(&slot->outside, 1u);
    return false;
}
/* Has stepped out, and comes in as soon as nobody has shut it. */
static inline void gate_pass(struct shmfs *fs, struct slot *slot)
{
    while (!gate_step_in(fs, slot))
        gate_await(fs);
}

enum {
    GATE_PATIENCE_MS = 50, /* for those who are inside to come out */
};

/*
 * For one at a time (snapshot.c has a lock for that), who has slot ME and nothing in it: shuts the gate, and waits until all others are
 * outside. Who died inside is buried, with the gate open. -EBUSY: *ret_slot was inside for too long, and the gate is open;
 * -EIO: the region file is gone.
 */
int gate_shut(struct shmfs *fs, uint32_t me, uint64_t *ret_word, uint32_t *ret_slot);
/* A sign of life, for who has it for long. */
void gate_hold(struct shmfs *fs, uint64_t *word);
/* False: somebody opened it meanwhile: what was seen under it counts for nothing. */
bool gate_open(struct shmfs *fs, uint64_t word);
/* The slot is given up, its owner being dead: he does not have the gate. */
void gate_forget(struct shmfs *fs, uint32_t slot);

#endif
