/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_H
#define SHMFS_H

/*
 * libshmfs: a filesystem in shared memory, used directly and without system calls.
 *
 * The calls themselves come with the next version; until then programs use the mount, shmfs(8).
 */

#define SHMFS_VERSION_MAJOR 0
#define SHMFS_VERSION_MINOR 1
#define SHMFS_VERSION_PATCH 0

#endif
