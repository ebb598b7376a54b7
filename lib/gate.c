/* SPDX-License-Identifier: MIT */
#include "gate.h"

#include <limits.h>

enum {
    LOOK_US = 500, /* between looks whether who shut it is alive */
    STOPPED_MS = 1000,
    SPINS = 200,
    NAP_US = 20,
};

static bool slot_is_living(struct shmfs *fs, uint32_t index)
{
    struct procref owner = { LOAD(&fs->slots[index].owner.v) };

    return owner.v != 0 && proc_alive(fs, owner);
}

static uint64_t word_make(uint32_t slot, uint64_t count)
{
    return count << 16 | (slot + 1);
}
static uint32_t word_slot(uint64_t word)
{
    return (uint32_t)(word & 0xffff) - 1;
}

static void force(struct shmfs *fs, uint64_t word)
{
    if (CAS(&fs->rt->gate, &word, UINT64_C(0)))
        lock_futex_wake(&fs->rt->gate, INT_MAX);
}

void gate_forget(struct shmfs *fs, uint32_t slot)
{
    uint64_t word = LOAD_RELAXED(&fs->rt->gate);

    if (unlikely(word != 0) && word_slot(word) == slot)
        force(fs, word);
}

void gate_await(struct shmfs *fs)
{
    uint64_t since = 0, seen = 0, word;

    while ((word = LOAD(&fs->rt->gate)) != 0 && !LOAD_RELAXED(&fs->broken)) {
        uint64_t now = lock_now_ns();

        if (word != seen) {
            since = now;
            seen = word;
        }
        lock_futex_wait(&fs->rt->gate, (uint32_t)word, LOOK_US);
        if (LOAD(&fs->rt->gate) != word)
            continue;
        /*
         * Of one who is stopped, the snapshot alone is lost: nothing is half-changed while the gate is shut. He sees it when he opens
         * it, and no other can have begun one meanwhile.
         */
        if (word_slot(word) >= fs->l.nslots || !slot_is_living(fs, word_slot(word)) ||
            now - since > STOPPED_MS * UINT64_C(1000000))
            force(fs, word);
    }
}

static bool is_inside(const struct slot *s)
{
    return LOAD(&s->nlocks) != 0 && LOAD(&s->outside) == 0 && LOAD(&s->owner.v) != 0;
}

/* -EBUSY: it is inside, and lives; -EOWNERDEAD: it died there. */
static int await_outside(struct shmfs *fs, uint32_t index, uint64_t until)
{
    const struct slot *s = &fs->slots[index];

    for (unsigned tries = 0; is_inside(s); tries++) {
        if (tries < SPINS) {
            cpu_pause();
            continue;
        }
        nap_us(NAP_US);
        if (!is_inside(s))
            break;
        if (!slot_is_living(fs, index))
            return -EOWNERDEAD;
        if (lock_now_ns() > until)
            return -EBUSY;
    }
    return 0;
}

static uint64_t next_word(struct shmfs *fs, uint32_t me)
{
    return word_make(me, __atomic_add_fetch(&fs->rt->gate_count, 1, __ATOMIC_SEQ_CST));
}

static int shut_once(struct shmfs *fs, uint32_t me, uint64_t word, uint64_t until, uint32_t *ret_slot)
{
    uint64_t none = 0;
    int r = 0;

    while (!CAS(&fs->rt->gate, &none, word)) { /* of one who died */
        if (LOAD_RELAXED(&fs->broken))
            return -EIO;
        gate_await(fs);
        none = 0;
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for (uint32_t i = 0; i < fs->l.nslots && r == 0; i++) {
        *ret_slot = i;
        if (i != me)
            r = await_outside(fs, i, until);
    }
    if (r < 0)
        gate_open(fs, word);
    return r;
}

int gate_shut(struct shmfs *fs, uint32_t me, uint64_t *ret_word, uint32_t *ret_slot)
{
    uint64_t until = lock_now_ns() + GATE_PATIENCE_MS * UINT64_C(1000000);
    int r;

    for (;;) {
        *ret_word = next_word(fs, me);
        r = shut_once(fs, me, *ret_word, until, ret_slot);
        if (LOAD_RELAXED(&fs->broken) || !region_fd_ok(fs)) {
            if (r == 0)
                gate_open(fs, *ret_word);
            return -EIO;
        }
        if (r != -EOWNERDEAD)
            return r;
        if (lock_now_ns() > until)
            return -EBUSY;
        fs->bury(fs, me, *ret_slot); /* which may take its time: with the gate open */
    }
}

void gate_hold(struct shmfs *fs, uint64_t *word)
{
    uint64_t was = *word, now = next_word(fs, word_slot(was));

    if (CAS(&fs->rt->gate, &was, now)) /* who waits sees that it moves */
        *word = now;
}

bool gate_open(struct shmfs *fs, uint64_t word)
{
    bool had = CAS(&fs->rt->gate, &word, UINT64_C(0));

    lock_futex_wake(&fs->rt->gate, INT_MAX);
    return had;
}
