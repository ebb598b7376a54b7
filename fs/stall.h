/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_STALL_H
#define SHMFS_STALL_H

/*
 * A process that is stopped within a call of the library keeps the library's locks, and whoever needs
 * them waits (A7). A lock is never taken from the living: so they are named, or killed.
 */
#include <stdint.h>
#include <sys/types.h>

#include "node.h"
#include "options.h"

struct stall_settings {
    struct shmfs *fs;
    ino_t region; /* the file, as proof that somebody is attached */
    enum stall_policy policy;
    uint64_t timeout_ns;
};

struct stall; /* who has been named */

struct stall *stall_new(const struct stall_settings *settings); /* NULL: no memory */
void stall_free(struct stall *stall);

/* Goes through the locks once. Takes none, so that it gets on whoever is stalled. */
void stall_look(struct stall *stall);

#endif
