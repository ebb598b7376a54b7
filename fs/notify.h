/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_NOTIFY_H
#define SHMFS_NOTIFY_H

/*
 * The notifier: a thread that has the kernel drop what direct processes are about to change
 * (docs/COHERENCE.md). It takes no request and holds no lock, since the kernel may wait for any worker meanwhile.
 */
#include "driver.h"

struct notify;

/* 0 or -errno. After the session has its device. */
int notify_start(struct driver *driver, struct notify **ret);

/* Ends the thread; what is posted then waits for the driver to be gone. Workers must be serving, or the mount be gone. */
void notify_stop(struct notify *notify);

#endif
