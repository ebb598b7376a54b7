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

/* Did somebody who lives shut it? A slot's incarnation moves when it changes hands. */
static bool shut_by_living(struct shmfs *fs, uint64_t word)
{
    uint32_t index = lock_slot(word);

    return index < fs->l.nslots && lock_is_held_by(word, lock_stamp(index, LOAD(&fs->slots[index].inc))) &&
           slot_is_living(fs, index);
}

static void force(struct shmfs *fs, uint64_t word)
{
    if (CAS(&fs->rt->gate, &word, UINT64_C(0)))
        lock_futex_wake(&fs->rt->gate, INT_MAX);
}

void gate_await(struct shmfs *fs)
{
    uint64_t since = 0, count = 0, word;

    while ((word = LOAD(&fs->rt->gate)) != 0) {
        uint64_t now = lock_now_ns(), seen = LOAD_RELAXED(&fs->rt->gate_count);

        if (since == 0 || seen != count) {
            since = now;
            count = seen;
        }
        lock_futex_wait(&fs->rt->gate, (uint32_t)word, LOOK_US);
        if (LOAD(&fs->rt->gate) != word)
            continue;
        /*
         * Of one who is stopped, the snapshot alone is lost: nothing is half-changed while the gate is shut. He sees it when he opens
         * it, and no other can have begun one meanwhile.
         */
        if (LOAD_RELAXED(&fs->broken) || !shut_by_living(fs, word) ||
            (LOAD_RELAXED(&fs->rt->gate_count) == count && now - since > STOPPED_MS * UINT64_C(1000000)))
            force(fs, word);
    }
}

static bool is_inside(const struct slot *s)
{
    return LOAD(&s->nlocks) != 0 && LOAD(&s->outside) == 0;
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
        if (!slot_is_living(fs, index) && LOAD(&s->owner.v) != 0)
            return -EOWNERDEAD;
        if (lock_now_ns() > until)
            return -EBUSY;
    }
    return 0;
}

static int shut_once(struct shmfs *fs, uint32_t me, uint64_t stamp, uint64_t until, uint32_t *ret_slot)
{
    uint64_t none = 0;
    int r = 0;

    while (!CAS(&fs->rt->gate, &none, stamp)) { /* of one who died */
        gate_await(fs);
        none = 0;
    }
    STORE(&fs->rt->gate_count, fs->rt->gate_count + 1);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for (uint32_t i = 0; i < fs->l.nslots && r == 0; i++) {
        *ret_slot = i;
        if (i != me)
            r = await_outside(fs, i, until);
    }
    if (r < 0)
        gate_open(fs, stamp);
    return r;
}

int gate_shut(struct shmfs *fs, uint32_t me, uint64_t stamp, uint32_t *ret_slot)
{
    uint64_t until = lock_now_ns() + GATE_PATIENCE_MS * UINT64_C(1000000);
    int r;

    for (;;) {
        r = shut_once(fs, me, stamp, until, ret_slot);
        if (LOAD_RELAXED(&fs->broken) || !region_fd_ok(fs)) {
            if (r == 0)
                gate_open(fs, stamp);
            return -EIO;
        }
        if (r != -EOWNERDEAD)
            return r;
        if (lock_now_ns() > until)
            return -EBUSY;
        fs->bury(fs, me, *ret_slot); /* which may take its time: with the gate open */
    }
}

bool gate_open(struct shmfs *fs, uint64_t stamp)
{
    uint64_t word = stamp;
    bool had = CAS(&fs->rt->gate, &word, UINT64_C(0));

    lock_futex_wake(&fs->rt->gate, INT_MAX);
    return had;
}
