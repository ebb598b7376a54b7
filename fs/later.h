/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_LATER_H
#define SHMFS_LATER_H

/*
 * Threads for what no worker may do: telling the kernel to write back or drop pages. That does not
 * return before those pages are written and unlocked, for which it may need every worker that there
 * is. Whoever works here takes no request and holds no lock.
 *
 * There are as many as there are jobs at one time. A job that waits for a page must not keep the next from being begun: once
 * told, the kernel ignores the attributes that it was asking for, and so it must be told before the request is answered.
 */
#include <stdbool.h>

struct later;

/* 0 or -errno. */
int later_start(struct later **ret);

/* Does all that is still to be done, and ends the threads. Workers must be serving, or the mount be gone. */
void later_stop(struct later *later);
void later_free(struct later *later);

/* Calls work(arg) there, at once. False: they are ending, or there is no memory. */
bool later_do(struct later *later, void (*work)(void *arg), void *arg);

#endif
