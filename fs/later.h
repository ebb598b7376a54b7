/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_LATER_H
#define SHMFS_LATER_H

/*
 * A thread for what no worker may do: telling the kernel to write back or drop pages. It does not
 * return before those pages are written and unlocked, for which it may need every worker that there
 * is. Whoever works here takes no request and holds no lock.
 */
#include <stdbool.h>

struct later;

/* 0 or -errno. */
int later_start(struct later **ret);

/* Does all that is still to be done, and ends the thread. Workers must be serving, or the mount be gone. */
void later_stop(struct later *later);
void later_free(struct later *later);

/* Calls work(arg) there, in order. False: the thread is ending, or there is no memory. */
bool later_do(struct later *later, void (*work)(void *arg), void *arg);

#endif
