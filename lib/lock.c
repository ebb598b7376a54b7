/* SPDX-License-Identifier: MIT */
#include "lock.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

enum {
    SPINS = 100,
    FIRST_WAIT_US = 500, /* the dead are noticed within this, if nobody wakes us before */
    LONGEST_WAIT_US = 8000,
};

/* Where the waiters bit is (the region is little-endian). */
static uint32_t *low_half(uint64_t *word)
{
    return (uint32_t *)(void *)word;
}

int lock_futex_wait32(uint32_t *word, uint32_t seen, long us)
{
    struct timespec ts = { .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000 };

    return syscall(SYS_futex, word, FUTEX_WAIT, seen, us < 0 ? NULL : &ts, NULL, 0) < 0 && errno == EINTR
               ? -EINTR
               : 0;
}

void lock_futex_wake32(uint32_t *word, int n)
{
    syscall(SYS_futex, word, FUTEX_WAKE, n, NULL, NULL, 0);
}

int lock_futex_wait(uint64_t *word, uint32_t seen, long us)
{
    return lock_futex_wait32(low_half(word), seen, us);
}

void lock_futex_wake(uint64_t *word, int n)
{
    lock_futex_wake32(low_half(word), n);
}

uint64_t lock_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

void lock_wake(struct lockword *w)
{
    lock_futex_wake(&w->v, 1);
}

void lock_release_of(struct lockword *w, uint64_t stamp)
{
    uint64_t v = LOAD(&w->v);

    while (lock_is_held_by(v, stamp)) {
        if (!CAS(&w->v, &v, UINT64_C(0)))
            continue;
        if ((v & LOCK_WAITERS) != 0)
            lock_wake(w);
        return;
    }
}

/*
 * The word did not move since `since`: is its owner dead? 0, or -EUCLEAN for a word without an owner. One that
 * lives is told how long it is being waited for, so that a stalled process can be named.
 */
static int look_at_owner(struct shmfs *fs, struct lockword *w, uint64_t word, uint64_t stamp, uint64_t since)
{
    uint32_t index = lock_slot(word);

    if (index >= fs->l.nslots || lock_is_held_by(word, stamp))
        return LOAD(&w->v) == word ? -EUCLEAN : 0;
    struct slot *owner = &fs->slots[index];
    struct procref proc = { LOAD(&owner->owner.v) };
    /* An owner's slot is given up only after its locks are, so this combination cannot last. */
    if (proc.v == 0 || lock_stamp(index, LOAD(&owner->inc)) != (word & ~LOCK_WAITERS))
        return LOAD(&w->v) == word ? -EUCLEAN : 0;
    if (proc_alive(fs, proc) || fs->bury == NULL) {
        if (LOAD_RELAXED(&owner->waited_since) == 0 && LOAD(&w->v) == word)
            STORE_RELAXED(&owner->waited_since, since);
        return 0;
    }
    int r = fs->bury(fs, lock_slot(stamp), index);
    return r == -EBUSY ? 0 : r;
}

int lock_wait(struct shmfs *fs, struct lockword *w, uint64_t stamp)
{
    uint64_t mine = stamp;
    long us = FIRST_WAIT_US;
    uint64_t since = 0;
    int spins = 0;

    for (;;) {
        uint64_t v = LOAD(&w->v);

        if (v == 0) {
            if (CAS(&w->v, &v, mine))
                return 0;
            continue;
        }
        if (spins < SPINS) {
            spins++;
            cpu_pause();
            continue;
        }
        if ((v & LOCK_WAITERS) == 0) {
            if (!CAS(&w->v, &v, v | LOCK_WAITERS))
                continue;
            v |= LOCK_WAITERS;
        }
        since = since != 0 ? since : lock_now_ns();
        lock_futex_wait(&w->v, (uint32_t)v, us);
        mine = stamp | LOCK_WAITERS; /* others may sleep behind us: whoever slept wakes the next */
        if (LOAD(&w->v) != v) {
            since = 0;
            continue;
        }
        int r = look_at_owner(fs, w, v, stamp, since);
        if (r < 0)
            return r;
        if (unlikely(LOAD_RELAXED(&fs->broken)) || !region_fd_ok(fs))
            return -EIO; /* without a descriptor nobody can be seen to be dead */
        us = MIN(us * 2, (long)LONGEST_WAIT_US);
    }
}
