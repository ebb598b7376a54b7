/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_TEND_H
#define SHMFS_TEND_H

/*
 * Looks after the region while it is mounted: buries who dies within 10 ms, gives free memory back to the
 * host, and sees to stalls (stall.h). Costs one wake-up a second while nobody else is attached.
 */
#include "stall.h"

struct tend;

/* 0 or -errno. */
int tend_start(const struct stall_settings *settings, struct tend **ret);

/* Ends it. Waits for a burial at hand. */
void tend_stop(struct tend *tend);

#endif
