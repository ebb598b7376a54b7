/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_FUSE_H
#define SHMFS_FUSE_H

/* libfuse as this driver wants it: the one place that names the version of its interface. */
#define FUSE_USE_VERSION 314
#include <fuse3/fuse_log.h>
#include <fuse3/fuse_lowlevel.h>
#include <fuse3/fuse_opt.h>

#endif
