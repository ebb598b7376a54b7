/* SPDX-License-Identifier: MIT */
/* Locks, as ps and locks need them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

bool ctl_lock_is_library(const struct shmfs_lock *lock)
{
    return lock->kind >= SHMFS_LOCK_RENAME && lock->kind <= SHMFS_LOCK_RECOVERY;
}

const char *ctl_lock_kind(const struct shmfs_lock *lock)
{
    switch (lock->kind) {
    case SHMFS_LOCK_RENAME:
        return "rename";
    case SHMFS_LOCK_INODE:
        return "inode";
    case SHMFS_LOCK_GROUP:
        return "group";
    case SHMFS_LOCK_RECOVERY:
        return "recovery";
    case SHMFS_LOCK_POSIX:
        return "posix";
    case SHMFS_LOCK_OFD:
        return "ofd";
    case SHMFS_LOCK_FLOCK:
        return "flock";
    }
    return "unknown";
}

const char *ctl_lock_of(const struct shmfs_lock *lock)
{
    switch (lock->kind) {
    case SHMFS_LOCK_RENAME:
        return NULL;
    case SHMFS_LOCK_GROUP:
        return "group";
    case SHMFS_LOCK_RECOVERY:
        return "slot";
    default:
        return "inode";
    }
}

static void append(struct ctl_locks *locks, const struct shmfs_lock *lock)
{
    if (locks->n == locks->room) {
        size_t room = locks->room * 2 + 64;
        struct shmfs_lock *larger = reallocarray(locks->lock, room, sizeof(*larger));

        if (!larger)
            ctl_die(CTL_FAILED, "%s", strerror(ENOMEM));
        locks->lock = larger;
        locks->room = room;
    }
    locks->lock[locks->n++] = *lock;
}

void ctl_locks_read(const struct ctl_call *call, bool (*keep)(const struct shmfs_lock *lock),
                    struct ctl_locks *ret)
{
    struct ctl_locks locks = { .lock = NULL };
    struct shmfs_lock lock;
    uint64_t cursor = 0;
    int r;

    while ((r = shmfs_region_next_lock(call->fs, &cursor, &lock)) > 0)
        if (!keep || keep(&lock))
            append(&locks, &lock);
    if (r < 0)
        ctl_die(CTL_FAILED, "%s: its locks cannot be read: %s", call->where, ctl_reason(r));
    *ret = locks;
}
