/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_DIRTY_H
#define SHMFS_DIRTY_H

/*
 * Which pages of the persistent area have changed since a snapshot took note of them (docs/SNAPSHOT.md, "A point in time").
 *
 * S8: a page is marked before it is stored to, by who stores, and both happen within one stay inside the gate. Marks are
 * taken back by who holds the gate only, so that none is lost between the two.
 *
 * A word of 64 pages; over 64 words, one bit of a summary, set before the first bit of those words.
 */
#include "region.h"

void dirty_mark_slowly(struct shmfs *fs, uint64_t first, uint64_t last);

/* Marks the pages of [off, off + n), n > 0. What lies before the persistent area has none. */
static inline void dirty_mark_at(struct shmfs *fs, uint64_t off, uint64_t n)
{
    if (off < fs->l.group_desc)
        return;
    uint64_t first = (off - fs->l.group_desc) >> BLOCK_SHIFT;
    uint64_t last = (off + n - 1 - fs->l.group_desc) >> BLOCK_SHIFT;

    if (likely(first == last && (LOAD_RELAXED(&fs->dirty[first / 64]) >> first % 64 & 1) != 0))
        return;
    dirty_mark_slowly(fs, first, last);
}

static inline void dirty_mark(struct shmfs *fs, const void *p, size_t n)
{
    dirty_mark_at(fs, region_offset(fs, p).n, n);
}

/* Has the host memory for the marks of the pages of [off, off + n): before they are first used. -ENOSPC. */
int dirty_reserve(struct shmfs *fs, uint64_t off, uint64_t n);

/*
 * Takes marks back, from page *from on, until `words` words of them were had or there are no more; calls `found` for
 * each word that had some. Moves *from on; false: it came to the end. For who holds the gate.
 */
bool dirty_take(struct shmfs *fs, uint64_t *from, uint32_t words,
                void (*found)(void *arg, uint64_t page, uint64_t bits), void *arg);

#endif
