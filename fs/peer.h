/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_PEER_H
#define SHMFS_PEER_H

/*
 * Another process that is attached to our region, as the kernel knows it. Whoever may write the region
 * can put any pid into its table: so what is done to a process is done only after /proc has borne out
 * who it is, and through a pidfd, which never comes to mean another.
 */
#include <stdbool.h>
#include <sys/types.h>

#include "node.h"

/* A pidfd; -ESRCH: there is no such process (any more), or its pid means nothing here; or -errno. */
int peer_open(const struct shmfs_process *process);

/* The letter of its state as in proc(5), or 0. */
char peer_state(const struct shmfs_process *process);

/*
 * Kills it, if it has the file REGION mapped. -ENXIO: it has not; -EPERM, -EACCES: not ours to look at, or to
 * kill; -ESRCH; or -errno.
 */
int peer_kill(const struct shmfs_process *process, ino_t region);

#endif
