/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_WATCH_H
#define SHMFS_WATCH_H

/*
 * poll(2) on files and directories of the mount. They are always ready, as on tmpfs; whoever asks for POLLPRI, too, sleeps
 * until the file changes, through the mount or directly, and has it once for all changes since the last poll() of the same
 * open file. The kernel does not tell when a file is closed: the open files polled last are remembered.
 */
#include "driver.h"

struct watch;

/* 0 or -errno. */
int watch_start(struct driver *driver, struct watch **ret);
/* Ends its thread. No request may come any more. */
void watch_stop(struct watch *watch);

void op_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct fuse_pollhandle *handle);

#endif
