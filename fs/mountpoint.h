/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_MOUNTPOINT_H
#define SHMFS_MOUNTPOINT_H

/* Where a mount goes, and what is mounted already. */
#include <stdbool.h>

#include "options.h"

/*
 * Whether the mount point and this machine can take a mount; says why not, and what to do. ret_path
 * gets the mount point's full path (for free()).
 */
bool mountpoint_check(const struct options *options, char **ret_path);

/* Mounting on a directory with files is allowed, but seldom meant. */
bool mountpoint_is_empty(const char *path);

/* Whether a shmfs with this source is mounted, as far as this process can see. */
bool mountpoint_lists_source(const char *source);

#endif
