/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_ERROR_H
#define SHMFS_ERROR_H

/*
 * The error contract of lib/, in one place.
 *
 *   A function returns 0, or a count, or a negative errno. Out-parameters come last, are named
 *   ret_x and are untouched on failure. Nothing in lib/ prints.
 *
 *   -EUCLEAN  bytes in the region make no sense. Lock-free readers report it only after the
 *             sequence check has shown that the bytes were not merely changing (A10).
 *   -EAGAIN   within lib/: a group lock could not be had without a risk of deadlock. The
 *             transaction is undone and the operation tried again; callers never see it so.
 *   -EUSERS   all transaction slots are taken by the living.
 *   -ESTALE   the inode number is free, or was used again.
 *   -EIO      the region file was shortened under the mapping.
 *
 * Assertions are for programmer errors only, never for bytes of the region.
 */
#include <errno.h>

#endif
