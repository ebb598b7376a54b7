/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_PROC_H
#define SHMFS_PROC_H

/*
 * The process table, and the one question that all recovery rests on: is this process dead?
 * The kernel answers it: a living process holds an OFD lock on the first byte of its entry, which
 * lasts as long as its address space (A8).
 */
#include "region.h"

static inline struct procref proc_ref(uint32_t index, uint64_t inc)
{
    return (struct procref){ inc << 16 | (index + 1) };
}
static inline uint32_t proc_index(struct procref ref)
{
    return (uint32_t)(ref.v & 0xffff) - 1;
}
static inline uint64_t proc_inc(struct procref ref)
{
    return ref.v >> 16;
}

/*
 * Takes a free entry and its life lock. Call under the attach lock.
 * -EUSERS: the table is full (of the living: bury the dead first).
 */
int proc_enroll(struct shmfs *fs);
/* Takes the one entry that nobody keeps: for who finds all others taken by the dead, to bury them. */
int proc_enroll_to_bury(struct shmfs *fs);
/* Who had that entry died in it: becomes that process, to bury what it left. Under the attach lock. -EBUSY. */
int proc_inherit_to_bury(struct shmfs *fs);
/*
 * A place for a child that is about to be forked; under the attach lock. Its life lock is kept by a mapping
 * that the child inherits, and that the parent is to unmap once it has.
 */
int proc_enroll_child(struct shmfs *fs, struct procref *ret, void **ret_life);
/* Raises runtime.nattach and wakes who sleeps on it: an entry changed, or use records were copied for a child. */
void proc_say_changed(struct shmfs *fs);
/* In the child: that is who we are now. */
void proc_become_child(struct shmfs *fs, struct procref child, void *life);
/* Gives the entry up; whatever the process held must be gone. */
void proc_leave(struct shmfs *fs);

/*
 * False once the process is dead or has left; true as long as any of its threads may still store
 * into the region. A system call: keep it off fast paths. Dead stays dead.
 */
bool proc_alive(struct shmfs *fs, struct procref ref);

/* Copies entry INDEX; false where it is free or malformed. */
bool proc_get(struct shmfs *fs, uint32_t index, struct proc_entry *ret, struct procref *ret_ref);

/* Inode number of our PID namespace. */
uint64_t proc_own_ns(void);

/* Is some process other than this one alive? Its pid, as its entry has it, goes to ret_pid (may be NULL). */
bool proc_other(struct shmfs *fs, uint32_t *ret_pid);

/* Is what is at PATH a region that somebody has attached? -EBUSY, -EINVAL: *ret_diag says why; 0 also where it is none. */
int proc_file_in_use(const char *path, struct shmfs_diag *ret_diag);

#endif
