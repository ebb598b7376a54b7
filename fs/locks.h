/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_LOCKS_H
#define SHMFS_LOCKS_H

/*
 * Locks of programs, kept in the region so that they hold against direct processes too
 * (local_lock=none). Whoever waits for one does so in a thread of its own: it may wait for ever, and its
 * turn may depend on any worker.
 */
#include <stdbool.h>
#include <stdint.h>

#include "fuse.h"
#include "node.h"

struct locks;

/* 0 or -ENOMEM. */
int locks_start(struct shmfs *fs, struct locks **ret);

/* Ends all waits, with ENOTCONN. None may begin any more, or it ends at once. */
void locks_stop(struct locks *locks);
void locks_free(struct locks *locks);

/* A number for a file that is being opened, by which locks_release() will know it. */
uint64_t locks_handle(struct locks *locks);

/*
 * Answers a request that takes, changes or gives up a lock, at once or when its turn has come. `handle` is
 * the open file through which it comes.
 */
void locks_set(struct locks *locks, fuse_req_t req, uint32_t ino, const struct shmfs_range *range,
               uint64_t handle, bool wait);

/* The owner `key` has closed a descriptor of the file: its fcntl() locks go. */
int locks_close(struct locks *locks, uint32_t ino, uint64_t key);

/* An open file is gone, and with it the locks that were its own. */
void locks_release(struct locks *locks, uint32_t ino, uint64_t handle);

#endif
