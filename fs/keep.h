/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_KEEP_H
#define SHMFS_KEEP_H

/*
 * Keeps the region in an image on disk: every so often, for each fsync, and at the end. A thread of its own makes all
 * snapshots; fsyncs that come while it makes one share the next.
 */
#include "fuse.h"
#include "node.h"

struct keep;

#define KEEP_SYNC_DEFAULT 30.0 /* seconds */

/* Opens the image at PATH, which need not exist yet; has said what is wrong. From then on fsync waits for it. */
bool keep_open(struct shmfs *fs, const char *path, double sync_seconds, struct keep **ret);
/* From here on snapshots are made. 0 or -errno. */
int keep_start(struct keep *keep);
/* Answers the request once all that was changed until now is in the image. From any thread, does not wait. */
void keep_fsync(struct keep *keep, fuse_req_t req);
/* The same for a write of n > 0 bytes that is to be durable when it is answered. */
void keep_written(struct keep *keep, fuse_req_t req, size_t n);
/* The last snapshot, if it was started, and the end. False: it failed, as was said, and the region alone has everything. */
bool keep_close(struct keep *keep);

#endif
