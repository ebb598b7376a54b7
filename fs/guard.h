/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_GUARD_H
#define SHMFS_GUARD_H

/*
 * A small process that outlives the driver, in order to end its mount. A driver that is killed while it tells the
 * kernel to drop pages leaves a thread there, which waits for a page whose request nobody will answer any more; with it
 * the device stays open, and programs would hang instead of getting errors. The guard then aborts the connection. It has
 * no mapping, no device and no lock; killed as well, it leaves `umount -f`.
 */
#include <sys/types.h>

/* Starts it, for the mount just made, from the thread that lives as long as the driver. Its pid, or 0: there is none. */
pid_t guard_start(const char *mountpoint);
/* The driver ends by itself. */
void guard_stop(pid_t guard);

/* What the guard does: main() with these arguments, when the first is GUARD_OPTION. */
#define GUARD_OPTION "--guard"
int guard_main(int argc, char **argv);

#endif
