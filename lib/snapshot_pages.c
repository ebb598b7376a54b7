/* SPDX-License-Identifier: MIT */
/* Pages of a region to its image, while others go on. */
#include "snapshot.h"

enum {
    STEP_PAGES = 1024, /* between calls of progress */
    OPEN_US =
        1000, /* while others are squeezed: the gate is open for so long, halved with each turn of the screw, */
    OPEN_LEAST_US = 60,
    SHUT_US = 3000, /* and shut for so long */
    LOOK_PAGES = 32,
};

bool snapshot_is_free(const struct shmfs *fs, uint64_t page)
{
    uint64_t first = snapshot_first_block(&fs->l), blk = page - first;

    if (page < first)
        return false;
    if (blk >= region_nblocks(fs))
        return true;
    uint64_t bit = blk % fs->l.group_blocks;
    return (region_block_map(fs, (uint32_t)(blk / fs->l.group_blocks))[bit / 64] >> bit % 64 & 1) == 0;
}

int snapshot_step(struct shmfs_snapshot *s)
{
    s->result.looked_at += BLOCK_SIZE;
    if (++s->done % STEP_PAGES != 0 || !s->progress || !s->progress->step)
        return 0;
    return s->progress->step(s->progress->arg, s->done * BLOCK_SIZE, MAX(s->total, s->done) * BLOCK_SIZE) != 0
               ? -ECANCELED
               : 0;
}

/* It may be freed just now, and given back to a host that is full: then it does not count. */
void snapshot_copy(struct shmfs_snapshot *s, uint64_t page, void *ret)
{
    const struct shmfs *fs = s->fs;

    if (s->by_file &&
        pread(fs->fd, ret, BLOCK_SIZE, (off_t)(fs->l.group_desc + page * BLOCK_SIZE)) == BLOCK_SIZE)
        return;
    region_reading++;
    memcpy(ret, snapshot_bytes(fs, page), BLOCK_SIZE);
    region_reading--;
    if (unlikely(LOAD_RELAXED(&fs->any_hole) != 0))
        region_mend(s->fs);
}

/* By way of a copy: whoever stores to it meanwhile must not come between its hash and its bytes. */
static int put_page(struct shmfs_snapshot *s, uint64_t page)
{
    _Alignas(64) uint8_t copy[BLOCK_SIZE];
    int r;

    if (snapshot_is_free(s->fs, page))
        return image_put(s->img, snapshot_page(page), NULL);
    snapshot_copy(s, page, copy);
    r = image_put(s->img, snapshot_page(page), copy);
    return r < 0 ? r : snapshot_step(s);
}

/* ---- a writer that is faster than the image --------------------------------------------------------- */

/* Where each round finds as much as the one before, those who write have to wait for a part of the time. */
struct squeeze {
    uint64_t turned; /* ns: when the gate was shut or opened last */
    bool shut;
};

static int squeeze_on(struct shmfs_snapshot *s, struct squeeze *q)
{
    uint64_t now = lock_now_ns(), open_us = MAX(OPEN_US >> MIN(s->squeeze, 16u), OPEN_LEAST_US);
    struct shmfs_diag unused;

    if (now - q->turned < (q->shut ? SHUT_US : open_us) * 1000)
        return 0;
    uint64_t since = q->turned;
    int r = q->shut ? snapshot_open_gate(s, since) : snapshot_shut(s, &unused);

    q->shut = r == 0 && !q->shut;
    q->turned = lock_now_ns();
    return r;
}

static int squeeze_end(struct shmfs_snapshot *s, struct squeeze *q, int r)
{
    int open = q->shut ? snapshot_open_gate(s, q->turned) : 0;

    return r < 0 ? r : open;
}

int snapshot_put_words(struct shmfs_snapshot *s)
{
    struct squeeze q = { .turned = lock_now_ns() };
    uint64_t n = 0;
    int r = 0;

    for (; s->put < s->nwords && r == 0; s->put++) {
        const struct snapshot_word *w = &s->words[s->put];

        for (uint64_t bits = w->bits; bits != 0 && r == 0; bits &= bits - 1) {
            r = put_page(s, w->page + (uint64_t)__builtin_ctzll(bits));
            if (r == 0 && s->squeeze > 0 && ++n % LOOK_PAGES == 0)
                r = squeeze_on(s, &q);
        }
    }
    return squeeze_end(s, &q, r);
}

/* ---- everything ------------------------------------------------------------------------------------- */

/* Have the inodes of this page of the table ever been given out? The others have no memory. */
static bool inode_page_is_there(const struct shmfs *fs, uint64_t off)
{
    uint64_t last = MIN((off + BLOCK_SIZE - fs->l.inodes) / INODE_SIZE, (uint64_t)fs->l.ninodes);

    for (uint64_t ino = (off - fs->l.inodes) / INODE_SIZE; ino < last; ino++) {
        uint32_t bit = (uint32_t)(ino % fs->l.group_inodes);

        if ((fs->group_rts[ino / fs->l.group_inodes].inode_reserved >> (bit / INODE_CHUNK) & 1) != 0)
            return true;
        ino += INODE_CHUNK - 1 - bit % INODE_CHUNK; /* nor any other of its chunk */
    }
    return false;
}

static bool page_is_there(const struct shmfs *fs, uint64_t page)
{
    uint64_t off = fs->l.group_desc + page * BLOCK_SIZE;

    if (off >= fs->l.blocks)
        return !snapshot_is_free(fs, page);
    return off < fs->l.inodes ||
           (off < fs->l.inodes + (uint64_t)fs->l.ninodes * INODE_SIZE && inode_page_is_there(fs, off));
}

/* And what the image has beside it goes. */
int snapshot_put_everything(struct shmfs_snapshot *s)
{
    for (uint64_t page = 0; page < s->fs->l.npages; page++) {
        int r = 0;

        if (page_is_there(s->fs, page))
            r = put_page(s, page);
        else if (!image_is_hole(s->img, snapshot_page(page)))
            r = image_put(s->img, snapshot_page(page), NULL);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- how much --------------------------------------------------------------------------------------- */

uint64_t snapshot_count(const struct snapshot_word *words, size_t n)
{
    uint64_t pages = 0;

    for (size_t i = 0; i < n; i++)
        pages += (uint64_t)__builtin_popcountll(words[i].bits);
    return pages;
}

uint64_t snapshot_marked(const struct shmfs *fs)
{
    uint64_t n = 0;

    for (uint64_t s = 0; s < div_up(fs->l.npages, DIRTY_SUM); s++) {
        if ((LOAD_RELAXED(&fs->dirty_sums[s / 64]) >> s % 64 & 1) == 0)
            continue;
        for (uint64_t w = s * 64; w < s * 64 + 64; w++)
            n += (uint64_t)__builtin_popcountll(LOAD_RELAXED(&fs->dirty[w]));
    }
    return n;
}

uint64_t snapshot_used(const struct shmfs *fs)
{
    uint64_t n = region_nblocks(fs);

    for (uint32_t g = 0; g < region_ngroups(fs); g++)
        n -= MIN(n, (uint64_t)LOAD_RELAXED(&fs->groups[g].free_blocks));
    return n + snapshot_first_block(&fs->l) / 64;
}
