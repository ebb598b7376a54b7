/* SPDX-License-Identifier: MIT */
#include "node.h"
#include "recover.h"

/*
 * Attaching and detaching: who may, and what the first and the last do (docs/LOCKING.md, "Attach").
 * All of it under the attach lock.
 */

enum { SLOTS_READY = 4 };

static int refuse(struct shmfs_diag *diag, enum shmfs_reason reason, uint64_t a)
{
    *diag = (struct shmfs_diag){ .reason = reason, .a = a };
    return reason == SHMFS_REASON_FULL ? -EUSERS : -EBUSY;
}

/* The runtime area belongs to another boot or another file: makes it afresh. */
static int runtime_make(struct shmfs *fs, const struct runtime_id *id)
{
    const struct layout *l = &fs->l;
    int r;

    region_punch(fs, l->runtime, l->group_desc - l->runtime);
    r = region_reserve(fs, l->runtime, l->slots - l->runtime);
    if (r == 0)
        r = region_reserve(fs, l->uses, l->inode_rt - l->uses);
    if (r == 0)
        r = region_reserve(fs, l->group_rt, l->dirty - l->group_rt);
    if (r == 0)
        r = region_reserve(fs, l->group_desc, l->inodes - l->group_desc);
    if (r == 0)
        r = dirty_reserve(fs, l->group_desc, l->blocks - l->group_desc);
    if (r < 0)
        return r;
    /* Heads are looked at by everybody, logs by their owner; some are ready for when the host is full. */
    for (uint32_t i = 0; r == 0 && i < l->nslots; i++)
        r = region_reserve(fs, l->slots + (uint64_t)i * SLOT_SIZE, i < SLOTS_READY ? SLOT_SIZE : SLOT_HEAD);
    if (r < 0)
        return r;
    memset(fs->base + l->runtime, 0, l->slots - l->runtime);
    memset(fs->base + l->uses, 0, l->inode_rt - l->uses);
    memset(fs->base + l->group_rt, 0, l->dirty - l->group_rt);
    r = alloc_reserve_used(fs);
    if (r < 0)
        return r;
    fs->rt->id = *id; /* last: killed before, the next one makes it afresh */
    return 0;
}

static int runtime_ready(struct shmfs *fs, struct shmfs_diag *diag)
{
    struct runtime_id id;
    int r = region_identity(fs, &id);

    if (r < 0)
        return r;
    if (memcmp(&fs->rt->id, &id, sizeof(id)) == 0)
        return 0;
    /* Undo logs of another boot, or of a file that was copied while in use, prove nothing (A17). */
    if (LOAD_RELAXED(&fs->sb->clean) != 1) {
        *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_UNCLEAN };
        return -EUCLEAN;
    }
    return runtime_make(fs, &id);
}

static int become_driver(struct shmfs *fs, struct shmfs_diag *diag)
{
    struct procref ref = { LOAD(&fs->rt->driver.v) };

    uint32_t pid;

    if (ref.v != 0 && ref.v != fs->self.v && proc_alive(fs, ref))
        return refuse(diag, SHMFS_REASON_MOUNTED, fs->procs[proc_index(ref)].pid);
    if ((fs->flags & SHMFS_ATTACH_ALONE) != 0 && proc_other(fs, &pid))
        return refuse(diag, SHMFS_REASON_IN_USE, pid);
    lease_reset(fs, ((fs->flags & SHMFS_ATTACH_LEASES) != 0 ? DRIVER_LEASES : 0u) |
                        ((fs->flags & SHMFS_ATTACH_ALONE) != 0 ? DRIVER_ALONE : 0u));
    ref.v = LOAD(&fs->rt->keeper.v);
    if (ref.v != 0 && !proc_alive(fs, ref)) /* its image is no more kept, unless we open it again */
        STORE(&fs->rt->keeper.v, UINT64_C(0));
    STORE(&fs->rt->driver.v, fs->self.v);
    STORE(&fs->rt->mount_epoch, fs->rt->mount_epoch + 1); /* lookups of mounts that are gone count no more */
    return recover_orphans(fs);
}

/* Who is attached can change something: the first slot is had, or the attach fails. */
static int slot_ready(struct shmfs *fs)
{
    struct txn t;
    int r = txn_begin(fs, &t);

    if (r == 0)
        txn_commit(&t);
    return r;
}

/* All entries are taken, and we have none to bury by: there is one for just that, for a moment. */
static void bury_for_a_place(struct shmfs *fs)
{
    recover_entries(fs);
    if (proc_enroll_to_bury(fs) < 0 && proc_inherit_to_bury(fs) < 0)
        return;
    recover_dead(fs);
    txn_give_slots_back(fs);
    recover_process(fs, fs->self); /* of who died in this place before */
    txn_give_slots_back(fs);
    proc_leave(fs);
}

/* Is the driver one whose kernel keeps dirty pages? Then nobody else may write. */
static int check_driver_alone(struct shmfs *fs, struct shmfs_diag *diag)
{
    struct procref driver = { LOAD(&fs->rt->driver.v) };

    if ((LOAD(&fs->rt->driver_mode) & DRIVER_ALONE) == 0 || driver.v == 0 || !proc_alive(fs, driver))
        return 0;
    return refuse(diag, SHMFS_REASON_ALONE, fs->procs[proc_index(driver)].pid);
}

static int attach_shared(struct shmfs *fs, struct shmfs_diag *diag)
{
    int r = runtime_ready(fs, diag);
    bool alone;

    if (r == 0 && (fs->flags & SHMFS_ATTACH_DRIVER) == 0)
        r = check_driver_alone(fs, diag);
    if (r < 0)
        return r;
    alone = !proc_other(fs, NULL);
    if (alone)
        recover_alone(fs);
    r = proc_enroll(fs);
    if (r == -EUSERS) {
        bury_for_a_place(fs);
        r = proc_enroll(fs);
    }
    if (r < 0)
        return r == -EUSERS ? refuse(diag, SHMFS_REASON_FULL, fs->l.nprocs) : r;
    STORE(&fs->sb->clean, 0u);
    r = slot_ready(fs);
    if (r == 0 && alone)
        recover_uses(fs); /* whatever there is, is nobody's: we have nothing yet */
    else if (r == 0)
        recover_dead(fs); /* what another undertaker is at will be done */
    if (r == 0 && (fs->flags & SHMFS_ATTACH_DRIVER) != 0)
        r = become_driver(fs, diag);
    return r;
}

/* Copy-on-write: the dead are buried in our copy alone, and everybody is dead. */
static int attach_private(struct shmfs *fs, struct shmfs_diag *diag)
{
    uint32_t pid;

    if (proc_other(fs, &pid))
        return refuse(diag, SHMFS_REASON_IN_USE, pid);
    if (LOAD_RELAXED(&fs->sb->clean) != 1)
        recover_alone(fs);
    fs->procs[0].inc = fs->rt->next_inc + 1;
    fs->self = proc_ref(0, fs->procs[0].inc);
    if (LOAD_RELAXED(&fs->sb->clean) != 1)
        recover_uses(fs);
    return 0;
}

/* -EBUSY, IN_USE/MOUNTED: as node.h has it. */
static int attach_locked(struct shmfs *fs, struct shmfs_diag *diag)
{
    if (fs->readonly)
        return 0;
    return fs->private_ ? attach_private(fs, diag) : attach_shared(fs, diag);
}

/* Without the attach lock, a stopped process having it, nobody can know that it is the last. */
static void leave(struct shmfs *fs, bool locked)
{
    if (fs->self.v != 0 && LOAD_RELAXED(&fs->rt->driver.v) == fs->self.v) {
        STORE(&fs->rt->mount_epoch, fs->rt->mount_epoch + 1);
        recover_orphans(fs);
        STORE(&fs->rt->driver_mode, 0u);
        STORE(&fs->rt->driver.v, UINT64_C(0));
    }
    if (fs->self.v != 0) {
        recover_dead(fs);
        recover_process(fs, fs->self); /* what is left of our own: nothing, as a rule */
    }
    /* All others dead? Then nobody new comes before the attach lock is free. */
    bool last = locked && fs->self.v != 0 && !proc_other(fs, NULL);
    txn_detach(fs);
    proc_leave(fs);
    if (last)
        recover_alone(fs);
    if (last && !fs->broken && recover_nobody_left(fs))
        STORE(&fs->sb->clean, 1u);
}

int shmfs_region_attach(const char *path, unsigned flags, struct shmfs **ret_fs, struct shmfs_diag *diag)
{
    struct shmfs *fs;
    int r;

    r = region_open(path, flags, &fs, diag);
    if (r < 0)
        return r;
    fs->bury = recover_bury;
    fs->bury_all = recover_dead;
    fs->abandon = recover_slot;
    fs->recall = lease_recall;
    fs->confirm_list = lease_confirm_list;
    fs->confirm = lease_confirm;
    r = fs->readonly ? 0 : region_lock(fs);
    if (r == 0)
        r = txn_attach(fs);
    if (r == 0) {
        r = attach_locked(fs, diag);
        if (r == 0 && fs->broken)
            r = -EIO;
        if (r < 0 && !fs->readonly && !fs->private_)
            leave(fs, true);
        else if (r < 0)
            txn_detach(fs);
    }
    if (!fs->readonly)
        region_unlock(fs);
    if (r < 0) {
        region_close(fs);
        return r;
    }
    *ret_fs = fs;
    return 0;
}

void shmfs_region_detach(struct shmfs *fs)
{
    bool locked = !fs->readonly && region_lock(fs) == 0;

    if (fs->readonly || fs->private_)
        txn_detach(fs);
    else
        leave(fs, locked);
    if (locked)
        region_unlock(fs);
    region_close(fs);
}

int shmfs_region_bury(struct shmfs *fs)
{
    int r = recover_dead(fs);

    return LOAD_RELAXED(&fs->broken) ? -EIO : MIN(r, 0);
}

int shmfs_region_watch(struct shmfs *fs, uint32_t *ticket, int timeout_ms)
{
    uint32_t now = LOAD(&fs->rt->nattach);

    if (now == *ticket)
        lock_futex_wait32(&fs->rt->nattach, now, timeout_ms < 0 ? -1 : (long)timeout_ms * 1000);
    now = LOAD(&fs->rt->nattach);
    if (now == *ticket)
        return -ETIMEDOUT;
    *ticket = now;
    return 0;
}

int shmfs_region_tend(struct shmfs *fs)
{
    int r = recover_dead(fs);

    if (r >= 0 || r == -EBUSY)
        r = alloc_trim(fs);
    return LOAD_RELAXED(&fs->broken) ? -EIO : r;
}

void shmfs_region_geometry(struct shmfs *fs, struct shmfs_geometry *ret)
{
    region_geometry(fs->sb, &fs->l, ret);
}
