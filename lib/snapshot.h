/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_SNAPSHOT_H
#define SHMFS_SNAPSHOT_H

/* What the files of snapshots share: node.h has what they do, docs/SNAPSHOT.md the protocol. */
#include "image.h"
#include "image_format.h"
#include "inode.h"
#include "node.h"

/* 64 pages of the persistent area, of which some were marked. */
struct snapshot_word {
    uint64_t page, bits;
};

struct shmfs_snapshot {
    struct shmfs *fs;
    char *path;
    struct image *img; /* NULL: the next one makes it */
    bool keeps;
    bool
        by_file; /* few pages, and this process has none of them mapped yet: read(2) costs less than faults */

    /* Of the one that is being made: */
    struct snapshot_word *words; /* marks that were taken */
    size_t nwords, room, put;    /* put: how many of them went to the image */
    bool no_memory;
    uint8_t *pages; /* copied at the gate */
    size_t npages, pages_room;
    uint64_t *numbers; /* of those, in the image */
    struct image_region *head;
    struct superblock sb;
    struct txn txn;   /* for its slot: the gate is shut in its name */
    uint64_t gate;    /* as it was shut last */
    unsigned squeeze; /* how much those who write are held back while pages are put: 0 not at all */
    const struct shmfs_progress *progress;
    uint64_t done, total; /* pages */
    struct shmfs_snapshot_result result;
};

/* Page of the persistent area, in the image. */
static inline uint64_t snapshot_page(uint64_t page)
{
    return IMAGE_PERSISTENT + page;
}
static inline uint64_t snapshot_first_block(const struct layout *l)
{
    return (l->blocks - l->group_desc) / BLOCK_SIZE;
}
static inline const uint8_t *snapshot_bytes(const struct shmfs *of, uint64_t page)
{
    return of->base + of->l.group_desc + page * BLOCK_SIZE;
}

/* Is it a block that is free, or behind the end? May be wrong while the gate is open: then the page is marked again. */
bool snapshot_is_free(const struct shmfs *fs, uint64_t page);
/* The page as it is now; zeros where it has no memory. */
void snapshot_copy(struct shmfs_snapshot *s, uint64_t page, void *ret);
/* After each page: -ECANCELED. */
int snapshot_step(struct shmfs_snapshot *s);
/* What the marks that were not put yet stand for, or whatever there is, to the image: while others go on. */
int snapshot_put_words(struct shmfs_snapshot *s);
int snapshot_put_everything(struct shmfs_snapshot *s);
uint64_t snapshot_marked(const struct shmfs *fs); /* pages */
uint64_t snapshot_used(const struct shmfs *fs);
uint64_t snapshot_count(const struct snapshot_word *words, size_t n);

/* Shuts the gate, patiently; *ret_diag names who is inside. Opens it: -EAGAIN where somebody else has. Counts the pause. */
int snapshot_shut(struct shmfs_snapshot *s, struct shmfs_diag *ret_diag);
int snapshot_open_gate(struct shmfs_snapshot *s, uint64_t since);

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
