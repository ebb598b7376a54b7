/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <time.h>

#include "range.h"

/* Who is attached, and what they hold: for shmfsctl and the driver. Looks, and takes no lock. */

static void count_uses(const struct shmfs *fs, uint32_t proc, struct shmfs_process *ret)
{
    for (uint32_t i = 0; i < use_count(fs); i++) {
        uint64_t word = LOAD(use_at(fs, i));

        if (word == 0 || use_proc(word) != proc)
            continue;
        ret->opens += use_kind(word) == USE_OPEN;
        ret->pins += use_kind(word) == USE_PIN;
    }
}

static bool range_counts(const struct range *r)
{
    return r->owner.v != 0 && r->ino.n != 0 && (r->kind & RANGE_WAITS) == 0;
}

/* The word of a lock that a slot says it holds, if it does. */
static struct lockword *held_word(struct shmfs *fs, uint32_t slot, uint32_t i, enum held_kind *ret_kind,
                                  uint32_t *ret_id)
{
    struct slot *s = &fs->slots[slot];
    uint64_t stamp = lock_stamp(slot, LOAD_RELAXED(&s->inc));
    struct lockword *w = txn_lock_at(fs, s->locks[i], ret_kind, ret_id);

    return w != NULL && lock_is_held_by(LOAD(&w->v), stamp) ? w : NULL;
}

static void fill(struct shmfs *fs, const struct proc_entry *e, struct procref ref, struct shmfs_process *ret)
{
    *ret = (struct shmfs_process){
        .entry = proc_index(ref),
        .pid = e->pid,
        .uid = e->uid,
        .start_time = e->start_time,
        .attached = e->attached,
        .driver = (e->flags & PROC_DRIVER) != 0,
        .alive = proc_alive(fs, ref),
        .same_ns = e->pid_ns == proc_own_ns(),
    };
    memcpy(ret->name, e->name, sizeof(ret->name));
    ret->name[sizeof(ret->name) - 1] = 0;
}

int shmfs_region_next_process(struct shmfs *fs, uint32_t *cursor, struct shmfs_process *ret)
{
    for (uint32_t i = *cursor; i < fs->l.nprocs; i++) {
        struct proc_entry e;
        struct procref ref;

        if (!proc_get(fs, i, &e, &ref))
            continue;
        fill(fs, &e, ref, ret);
        count_uses(fs, i, ret);
        for (uint32_t n = 0; n < fs->l.nranges; n++)
            ret->ranges += fs->ranges[n].owner.v == ref.v && range_counts(&fs->ranges[n]);
        for (uint32_t s = 0; s < fs->l.nslots; s++) {
            enum held_kind kind;
            uint32_t id, n = MIN(LOAD(&fs->slots[s].nlocks), (uint32_t)SLOT_LOCKS);

            if (LOAD(&fs->slots[s].owner.v) != ref.v)
                continue;
            ret->slots++;
            for (uint32_t k = 0; k < n; k++)
                ret->holds += held_word(fs, s, k, &kind, &id) != NULL;
        }
        *cursor = i + 1;
        return 1;
    }
    *cursor = fs->l.nprocs;
    return 0;
}

/* Fills the owner. False: it is gone. */
static bool owner_fill(struct shmfs *fs, struct procref owner, struct shmfs_lock *ret)
{
    struct proc_entry e;
    struct procref ref;

    if (owner.v == 0 || !proc_get(fs, proc_index(owner), &e, &ref) || ref.v != owner.v)
        return false;
    fill(fs, &e, ref, &ret->owner);
    return true;
}

static bool slot_lock(struct shmfs *fs, uint32_t slot, uint32_t i, struct shmfs_lock *ret)
{
    static const enum shmfs_lock_kind kinds[] = {
        [HELD_RENAME] = SHMFS_LOCK_RENAME,
        [HELD_INODE] = SHMFS_LOCK_INODE,
        [HELD_GROUP] = SHMFS_LOCK_GROUP,
        [HELD_RECOVERY] = SHMFS_LOCK_RECOVERY,
    };
    const struct slot *s = &fs->slots[slot];
    enum held_kind kind;
    uint32_t id;

    if (held_word(fs, slot, i, &kind, &id) == NULL)
        return false;
    *ret = (struct shmfs_lock){ .kind = kinds[kind], .id = id, .write = true, .end = UINT64_MAX };
    uint64_t since = LOAD_RELAXED(&s->waited_since), now = lock_now_ns();
    ret->held_ns = since != 0 && since < now ? now - since : 0;
    if (!owner_fill(fs, (struct procref){ LOAD(&s->owner.v) }, ret))
        return false;
    ret->pid = ret->owner.pid;
    return true;
}

static bool range_lock(struct shmfs *fs, uint32_t i, struct shmfs_lock *ret)
{
    struct range r = fs->ranges[i];
    struct timespec now;

    if (!range_counts(&r))
        return false;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t age = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec - r.since;
    *ret = (struct shmfs_lock){ .kind = (enum shmfs_lock_kind)r.kind,
                                .id = r.ino.n,
                                .pid = r.pid,
                                .write = r.type == F_WRLCK,
                                .start = r.start,
                                .end = r.end,
                                .held_ns = (uint64_t)MAX(age, INT64_C(0)) };
    return owner_fill(fs, r.owner, ret);
}

int shmfs_region_next_lock(struct shmfs *fs, uint64_t *cursor, struct shmfs_lock *ret)
{
    uint64_t slot_locks = (uint64_t)fs->l.nslots * SLOT_LOCKS, end = slot_locks + fs->l.nranges;
    struct shmfs_lock lock;

    for (uint64_t i = *cursor; i < end; i++) {
        bool found;

        if (i < slot_locks) {
            uint32_t slot = (uint32_t)(i / SLOT_LOCKS), k = (uint32_t)(i % SLOT_LOCKS);

            if (k >= LOAD(&fs->slots[slot].nlocks)) {
                i += SLOT_LOCKS - 1 - k;
                continue;
            }
            found = slot_lock(fs, slot, k, &lock);
        } else {
            found = range_lock(fs, (uint32_t)(i - slot_locks), &lock);
        }
        if (found) {
            *ret = lock;
            *cursor = i + 1;
            return 1;
        }
    }
    *cursor = end;
    return 0;
}
