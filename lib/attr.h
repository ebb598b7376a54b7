/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_ATTR_H
#define SHMFS_ATTR_H

/* setattr: mode, owner, times and size in one transaction. */
#include "inode.h"

/* As shmfs_node_setattr(). */
int attr_set(struct shmfs *fs, uint32_t ino, const struct shmfs_attr *attr, unsigned set,
             struct shmfs_attr *ret);

#endif
