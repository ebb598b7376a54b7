/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_SNAPSHOT_H
#define SHMFS_SNAPSHOT_H

/* What the files of snapshots share: node.h has what they do, docs/SNAPSHOT.md the protocol. */
#include "image.h"
#include "image_format.h"
#include "inode.h"
#include "node.h"

/* Page of the persistent area, in the image. */
static inline uint64_t snapshot_page(uint64_t page)
{
    return IMAGE_PERSISTENT + page;
}
static inline uint64_t snapshot_first_block(const struct layout *l)
{
    return (l->blocks - l->group_desc) / BLOCK_SIZE;
}

/* Says in the terms of node.h what is wrong with an image. */
void snapshot_diag(const struct image_diag *image, int r, struct shmfs_diag *ret);

/* The superblock and the rest of what an image says of its region, looked at. -EUCLEAN. */
int snapshot_read_head(struct image *img, struct image_region *ret_region, struct superblock *ret_sb,
                       struct layout *ret_layout, struct shmfs_diag *ret_diag);

/*
 * The region at PATH, which nobody uses, lacks these pages of its persistent area (ascending; they are zeros). Tells which files that
 * hits; and with how->salvage a sound one takes its place, that has all the rest.
 */
int snapshot_salvage(const char *path, const uint64_t *bad, size_t nbad, const struct shmfs_restore *how,
                     struct shmfs_restore_result *result);

#endif
