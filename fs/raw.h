/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_RAW_H
#define SHMFS_RAW_H

/*
 * The FUSE protocol beyond libfuse 3.14: requests that it does not know, flags of requests that it
 * drops, and features that it does not ask the kernel for. Numbers and layouts are the kernel's
 * (include/uapi/linux/fuse.h, protocol 7.41); they never change.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "driver.h"

/*
 * Answers a request of `size` bytes itself, if it is one of ours, and returns true. Otherwise it is
 * libfuse's: until the next call from this thread, the functions below tell of it.
 */
bool raw_serve(struct driver *driver, int fd, const void *request, size_t size);

/* Looks at the reply that libfuse is about to send: adds to that of INIT what we want of the kernel. */
void raw_patch_reply(struct driver *driver, const struct iovec *iov, int count);

/* Of the POLL that this thread serves: what the kernel calls the open file. */
uint64_t raw_poll_open(void);

/* Has the kernel look each name up again before it uses it. 0, or -errno: it cannot (before Linux 6.16). */
int raw_drop_all_names(const struct driver *driver);

/*
 * The kernel is to know that the file reaches to `size` bytes at least. It does so at once; but this returns when
 * nobody reads or writes the page with the last of them.
 */
void raw_raise_size(const struct driver *driver, uint32_t ino, uint64_t size);

/* The WRITE at hand comes from somebody who may not keep set-id bits. */
bool raw_write_kills_priv(void);

/* The process that the lock at hand is for; 0 where one is given up. */
pid_t raw_lock_pid(void);

/* Who sent a request: a thread id, or 0 where it is of no PID namespace that we see. */
pid_t raw_pid(const void *request);
/* Is it one that may keep a worker busy for milliseconds? */
bool raw_may_take_long(const void *request);

/* The SETATTR at hand is to clear set-id bits, besides what else it does. */
bool raw_setattr_kills_priv(void);
/*
 * It changes nothing. This is what is left of the kernel's wish to clear set-id bits before a
 * copy_file_range or fallocate, once we have said that we see to it ourselves; and of
 * chown(path, -1, -1), which clears them too but is the owner's to do.
 */
bool raw_setattr_is_empty(void);

#endif
