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
/*
 * There are parts of listings of this directory that the kernel must not keep (shmfs_lease_listing_is_old()): has them dropped
 * when there is nothing else to do. Until then each listing of it is dropped at its end. From any thread, does not wait.
 */
void notify_listing_is_old(struct notify *notify, uint32_t ino);
void notify_stop(struct notify *notify);

#endif
