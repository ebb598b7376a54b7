/* SPDX-License-Identifier: MIT */
/* fsync: tickets that the keeper of an image decides. */
#include <limits.h>

#include "snapshot.h"

enum { LOOK_MS = 50 }; /* between looks whether the keeper is alive */

uint64_t shmfs_sync_ticket(struct shmfs *fs)
{
    uint64_t ticket;

    if (fs->readonly || LOAD(&fs->rt->keeper.v) == 0)
        return 0;
    ticket = __atomic_add_fetch(&fs->rt->sync_wanted, 1, __ATOMIC_SEQ_CST);
    lock_futex_wake(&fs->rt->sync_wanted, 1);
    return ticket;
}

int shmfs_sync_wait(struct shmfs *fs, uint64_t ticket)
{
    uint64_t done;

    if (ticket == 0)
        return 0;
    while ((done = LOAD(&fs->rt->sync_done)) < ticket) {
        struct procref keeper;

        lock_futex_wait(&fs->rt->sync_done, (uint32_t)done, LOOK_MS * 1000L);
        keeper.v = LOAD(&fs->rt->keeper.v);
        if (LOAD(&fs->rt->sync_done) >= ticket)
            break;
        if (LOAD_RELAXED(&fs->broken) || keeper.v == 0 || !proc_alive(fs, keeper))
            return -EIO;
    }
    /* One that failed later counts, too: better told than missed. */
    return LOAD(&fs->rt->sync_failed) >= ticket ? -(int)(LOAD(&fs->rt->sync_error) & 0xfff) : 0;
}

uint64_t shmfs_sync_wanted(struct shmfs *fs, int timeout_ms)
{
    uint64_t wanted = LOAD(&fs->rt->sync_wanted);

    if (wanted <= LOAD(&fs->rt->sync_done) && timeout_ms != 0) {
        lock_futex_wait(&fs->rt->sync_wanted, (uint32_t)wanted, timeout_ms * 1000L);
        wanted = LOAD(&fs->rt->sync_wanted);
    }
    return wanted > LOAD(&fs->rt->sync_done) ? wanted : 0;
}

void shmfs_sync_decide(struct shmfs *fs, uint64_t ticket, int error)
{
    if (error < 0) {
        STORE(&fs->rt->sync_error, (uint32_t)-error);
        STORE(&fs->rt->sync_failed, ticket);
    }
    STORE(&fs->rt->sync_done, ticket);
    lock_futex_wake(&fs->rt->sync_done, INT_MAX);
}
