/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_TOLD_H
#define SHMFS_TOLD_H

/*
 * Of which inodes the kernel was told attributes a moment ago: the answer may still be on its way to the program that asked.
 * Of some changes the kernel only notes that what it has is old, and then takes such an answer for new (docs/COHERENCE.md,
 * "What is under way in the kernel"). From any thread; does not wait.
 */
#include "driver.h"

struct told;

int told_make(struct told **ret); /* -ENOMEM */
void told_free(struct told *told);

/* Attributes that it may keep are about to be read, and answered. */
void told_attr(const struct driver *driver, uint32_t ino);
/* A request has changed them, by R (< 0: has not), and is about to be answered. */
void told_changed(const struct driver *driver, fuse_ino_t ino, int r);

#endif
