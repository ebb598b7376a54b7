/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_STORAGE_H
#define SHMFS_STORAGE_H

/*
 * All that is written to a disk goes through here: so a test can record the steps, cut the power between any two, or
 * have any of them fail. A file is used by one thread at a time. After a write or sync has failed nothing is known of
 * what it wrote, and every later step of that file but closing gives the same error (S5, docs/SNAPSHOT.md).
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "error.h"

struct storage;

/*
 * Opens the file at `path`, and if it is to be written locks it against every other who writes. -EBUSY: somebody else
 * does; -ELOOP: a symbolic link; -EINVAL: not a regular file; or what open(2) says.
 */
int storage_open(const char *path, bool write, struct storage **ret_s);
/*
 * Begins a file that is to be at `path` once it is published; until then it is called PATH.shmfs-new. One that somebody left
 * there when he died is removed. -EBUSY: somebody else is at it; or what open(2) says.
 */
int storage_create(const char *path, struct storage **ret_s);
/* Ends the use; what was created and not published is removed. */
void storage_close(struct storage *s);

uint64_t storage_size(const struct storage *s); /* bytes, as of the last step here */

/* Exactly n bytes from offset `off`; past the end are zeros. */
int storage_read(struct storage *s, uint64_t off, void *buf, size_t n);
/* Where the next byte at or behind `off` may be that is no zero: holes of the file are not read. */
uint64_t storage_next_data(const struct storage *s, uint64_t off);
int storage_write(struct storage *s, uint64_t off, const void *buf, size_t n);
/*
 * The disk has room for [off, off + n) from now on, where its filesystem can promise that; 1: only for the first `least` bytes.
 * -ENOSPC, -EDQUOT, -EFBIG.
 */
int storage_reserve(struct storage *s, uint64_t off, uint64_t n, uint64_t least);
/* The file ends here. */
int storage_resize(struct storage *s, uint64_t size);
/* All writes so far are durable. */
int storage_sync(struct storage *s);
/*
 * A file that was created and synced takes its name, in place of what had it, durably. -EBUSY: somebody else writes what has it,
 * and would go on with a file without a name.
 */
int storage_publish(struct storage *s);
/* Does the name lead to this file still? */
bool storage_is_named(const struct storage *s);
/* Why nothing more is written to it: what failed, or 0. */
int storage_failed(const struct storage *s);

/* For tests: called before each step that changes anything; what it returns, if not 0, the step fails with. */
enum storage_step {
    STORAGE_WRITE,
    STORAGE_RESERVE,
    STORAGE_RESIZE, /* off: the size */
    STORAGE_SYNC,
    STORAGE_RENAME,
    STORAGE_SYNC_NAME,
};
extern int (*storage_hook)(enum storage_step step, const char *path, uint64_t off, const void *buf,
                           uint64_t n);

#endif
