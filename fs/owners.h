/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_OWNERS_H
#define SHMFS_OWNERS_H

/*
 * Which open files the owners of fcntl() locks took them through. The kernel says when an owner closes
 * (FLUSH) and when an open file is gone (RELEASE), but not that an owner is the open file itself, as that
 * of OFD locks is: whoever has not closed by the time of the RELEASE was one of those.
 */
#include <stdbool.h>
#include <stdint.h>

struct owners;
struct owner;

struct owners *owners_new(void); /* NULL: no memory */
void owners_free(struct owners *owners);

/* An entry for owners_add(), made before the lock is taken, since memory may fail. For free(). */
struct owner *owner_new(uint32_t ino, uint64_t key, uint64_t handle);

/* After the lock was taken: the entry is the table's. */
void owners_add(struct owners *owners, struct owner *owner);

/* The owner has closed: forgets it for this inode. False: it had no locks. */
bool owners_close(struct owners *owners, uint32_t ino, uint64_t key);

/* The open file is gone. True, and an owner that had locks through it alone; to be called until false. */
bool owners_release(struct owners *owners, uint32_t ino, uint64_t handle, uint64_t *ret_key);

#endif
