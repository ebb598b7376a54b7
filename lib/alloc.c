/* SPDX-License-Identifier: MIT */
#include "alloc.h"

#include <sys/mman.h>

/* ---- bits -------------------------------------------------------------------------------------- */

uint32_t alloc_bit_find(const uint64_t *map, uint32_t from, uint32_t to, bool set)
{
    while (from < to) {
        uint64_t word = set ? map[from / 64] : ~map[from / 64];

        word &= ~UINT64_C(0) << from % 64;
        if (word != 0) {
            uint32_t bit = (from & ~63u) + (uint32_t)__builtin_ctzll(word);
            return MIN(bit, to);
        }
        from = (from & ~63u) + 64;
    }
    return to;
}

static void bits_change(struct txn *t, uint64_t *map, uint32_t from, uint32_t len, bool set)
{
    uint32_t first = from / 64, last = (from + len - 1) / 64;

    txn_save(t, &map[first], (size_t)(last - first + 1) * 8);
    for (uint32_t w = first; w <= last; w++) {
        uint64_t mask = ~UINT64_C(0);

        if (w == first)
            mask &= ~UINT64_C(0) << from % 64;
        if (w == last)
            mask &= ~UINT64_C(0) >> (63 - (from + len - 1) % 64);
        map[w] = set ? map[w] | mask : map[w] & ~mask;
    }
}

/* ---- memory of the host ------------------------------------------------------------------------ */

static uint32_t group_bits(const struct shmfs *fs, uint32_t group)
{
    uint64_t start = (uint64_t)group * fs->l.group_blocks, n = region_nblocks(fs);

    return n <= start ? 0 : (uint32_t)MIN(n - start, (uint64_t)fs->l.group_blocks);
}

static bool chunk_reserved(const struct shmfs *fs, uint32_t group, uint32_t chunk)
{
    return (fs->group_rts[group].reserved[chunk / 64] >> chunk % 64 & 1) != 0;
}

/* For the first chunk of a group: memory in which its blocks are marked. */
static int marks_reserve(struct shmfs *fs, uint32_t group)
{
    const struct group_rt *g = &fs->group_rts[group];

    for (uint32_t i = 0; i < ARRAY_SIZE(g->reserved); i++) {
        if (g->reserved[i] != 0)
            return 0;
    }
    return dirty_reserve(fs, fs->l.blocks + (uint64_t)group * fs->l.group_blocks * BLOCK_SIZE,
                         (uint64_t)group_bits(fs, group) * BLOCK_SIZE);
}

/* Under the group's lock. The bit is not in the undo log: memory that is there stays there. */
static int chunk_reserve(struct shmfs *fs, uint32_t group, uint32_t chunk)
{
    uint64_t *word = &fs->group_rts[group].reserved[chunk / 64];
    uint32_t first = chunk * CHUNK_BLOCKS;
    uint32_t len = MIN(group_bits(fs, group) - first, (uint32_t)CHUNK_BLOCKS);
    uint64_t off = fs->l.blocks + ((uint64_t)group * fs->l.group_blocks + first) * BLOCK_SIZE;
    int r;

    if (chunk_reserved(fs, group, chunk))
        return 0;
    r = marks_reserve(fs, group);
    if (r == 0)
        r = region_reserve(fs, off, (uint64_t)len * BLOCK_SIZE);
    if (r < 0)
        return r;
#ifdef MADV_POPULATE_WRITE
    if (!fs->private_) /* one call instead of a fault for each page; a kernel without it does as well */
        madvise(fs->base + off, (size_t)len * BLOCK_SIZE, MADV_POPULATE_WRITE);
#endif
    STORE_RELAXED(word, *word | UINT64_C(1) << chunk % 64);
    return 0;
}

/* How much of [from, from + len) the host has memory for, from its start on. */
static uint32_t reserve_run(struct shmfs *fs, uint32_t group, uint32_t from, uint32_t len)
{
    uint32_t at = from;

    while (at < from + len) {
        if (chunk_reserve(fs, group, at / CHUNK_BLOCKS) < 0)
            break;
        at = (at / CHUNK_BLOCKS + 1) * CHUNK_BLOCKS;
    }
    return MIN(at, from + len) - from;
}

/* ---- blocks ------------------------------------------------------------------------------------ */

struct run {
    uint32_t start, len;
};

enum { WINDOWS_TRIED = 64 };
enum { LOOK_AHEAD = 4096 }; /* bits: how far to look for more than what was found */

/*
 * The first free run in [lo, hi) of at least `want` bits, else the longest one seen within a bounded look
 * ahead: free space in shreds must not make every block cost a whole map. len 0: all are used.
 */
static struct run run_find(const uint64_t *map, uint32_t lo, uint32_t hi, uint32_t want)
{
    struct run best = { 0, 0 };

    while (lo < hi && (best.len == 0 || lo - best.start < LOOK_AHEAD)) {
        uint32_t start = alloc_bit_find(map, lo, hi, false);
        uint32_t limit = want < hi - start ? start + want : hi;
        uint32_t end = alloc_bit_find(map, start, limit, true);

        if (end - start > best.len)
            best = (struct run){ start, end - start };
        if (best.len >= want)
            break;
        lo = end + 1;
    }
    return best;
}

/* As run_find(), searching [hint, hi) and then [0, hint). */
static struct run run_find_around(const uint64_t *map, uint32_t hint, uint32_t hi, uint32_t want)
{
    struct run a, b;

    if (hint >= hi)
        hint = 0;
    a = run_find(map, hint, hi, want);
    if (a.len >= want || hint == 0)
        return a;
    b = run_find(map, 0, MIN(hi, hint + want), want);
    return b.len > a.len ? b : a;
}

/* An aligned window of free blocks, within a bounded number of windows from the hint on. */
static struct run window_find(const uint64_t *map, uint32_t hint, uint32_t bits, uint32_t window)
{
    uint32_t windows = bits / window, first = windows > 0 ? hint / window % windows : 0;

    for (uint32_t i = 0; i < MIN(windows, (uint32_t)WINDOWS_TRIED); i++) {
        uint32_t start = (first + i) % windows * window;

        if (alloc_bit_find(map, start, start + window, true) == start + window)
            return (struct run){ start, alloc_bit_find(map, start, bits, true) - start };
    }
    return (struct run){ 0, 0 };
}

static struct run run_choose(const struct shmfs *fs, uint32_t group, const struct alloc_want *w)
{
    const uint64_t *map = region_block_map(fs, group);
    uint32_t bits = group_bits(fs, group), base = group * fs->l.group_blocks;
    struct run run;

    if (w->goal >= base && w->goal - base < bits) {
        uint32_t from = w->goal - base;
        uint32_t end = alloc_bit_find(map, from, MIN(bits, from + w->len), true);
        if (end > from)
            return (struct run){ from, end - from };
    }
    if (w->window > 1) {
        run = window_find(map, fs->group_rts[group].block_hint, bits, w->window);
        if (run.len > 0)
            return (struct run){ run.start, MIN(w->len, run.len) };
    }
    run = run_find_around(map, fs->group_rts[group].block_hint, bits, w->len);
    run.len = MIN(run.len, w->len);
    return run;
}

/* The host has no more memory: what is free in chunks that it gave before? */
static struct run run_in_reserved(const struct shmfs *fs, uint32_t group, uint32_t want)
{
    const uint64_t *map = region_block_map(fs, group);
    uint32_t bits = group_bits(fs, group);
    struct run best = { 0, 0 };

    for (uint32_t c = 0; c * CHUNK_BLOCKS < bits && best.len < want; c++) {
        if (!chunk_reserved(fs, group, c))
            continue;
        uint32_t lo = c * CHUNK_BLOCKS;
        struct run run = run_find(map, lo, MIN(bits, lo + CHUNK_BLOCKS), want);
        if (run.len > best.len)
            best = run;
    }
    best.len = MIN(best.len, want);
    return best;
}

static void mark_blocks(struct shmfs *fs, uint32_t group, struct run run)
{
    uint64_t first = (uint64_t)group * fs->l.group_blocks + run.start;

    dirty_mark_at(fs, fs->l.blocks + first * BLOCK_SIZE, (uint64_t)run.len * BLOCK_SIZE);
}

static void run_take(struct txn *t, uint32_t group, struct run run)
{
    struct shmfs *fs = t->fs;
    struct group_desc *g = &fs->groups[group];

    bits_change(t, region_block_map(fs, group), run.start, run.len, true);
    mark_blocks(fs, group, run); /* whatever is stored there in this transaction */
    TXN_SET(t, &g->free_blocks, g->free_blocks - MIN(run.len, g->free_blocks));
    STORE_RELAXED(&fs->group_rts[group].block_hint, run.start + run.len);
}

/* A group in which nothing was found is let go again, lest a search collects every lock there is. */
static int give_up_group(struct txn *t, uint32_t held_before, int r)
{
    if (t->nheld > held_before)
        txn_drop_last(t);
    return r;
}

/* 0, -EAGAIN (busy) or -ENOSPC (nothing there). */
static int alloc_in_group(struct txn *t, uint32_t group, const struct alloc_want *w, bool host_full,
                          struct blkref *ret_blk, uint32_t *ret_len)
{
    struct shmfs *fs = t->fs;
    uint32_t held = t->nheld;
    struct run run;
    int r;

    r = txn_lock_group(t, group);
    if (r < 0)
        return r;
    run = host_full ? run_in_reserved(fs, group, w->len) : run_choose(fs, group, w);
    if (run.len > 0)
        run.len = reserve_run(fs, group, run.start, run.len);
    if (run.len == 0)
        return give_up_group(t, held, -ENOSPC);
    run_take(t, group, run);
    ret_blk->n = group * fs->l.group_blocks + run.start;
    *ret_len = run.len;
    return 0;
}

static uint32_t home_group(const struct txn *t)
{
    return t->index % region_ngroups(t->fs);
}

/* Nothing is free. But what others took is not settled while they hold the group: they may die of it. */
static int full_or_busy(struct txn *t, uint32_t ngroups)
{
    for (uint32_t group = 0; group < ngroups; group++) {
        if (LOAD(&t->fs->group_rts[group].lock.v) != 0 && !txn_holds(t, HELD_GROUP, group)) {
            t->busy_group = group;
            return -EAGAIN;
        }
    }
    return -ENOSPC;
}

int alloc_blocks(struct txn *t, const struct alloc_want *w, struct blkref *ret_blk, uint32_t *ret_len)
{
    struct shmfs *fs = t->fs;
    uint32_t ngroups = region_ngroups(fs);
    uint32_t first = w->goal != 0 ? w->goal / fs->l.group_blocks : home_group(t);

    assert(!t->freed);
    for (int host_full = 0; host_full < 2; host_full++) {
        bool busy = false, any = false;

        for (uint32_t i = 0; i < ngroups; i++) {
            uint32_t group = (first + i) % ngroups;
            int r;

            if (LOAD_RELAXED(&fs->groups[group].free_blocks) == 0)
                continue;
            any = true;
            r = alloc_in_group(t, group, w, host_full != 0, ret_blk, ret_len);
            if (r == 0 || (r != -EAGAIN && r != -ENOSPC))
                return r == -ENOLCK ? -ENOSPC : r; /* scattered over more groups than one step can hold */
            busy |= r == -EAGAIN;
        }
        if (busy)
            return -EAGAIN;
        if (!any)
            break;
    }
    return full_or_busy(t, ngroups);
}

int alloc_block(struct txn *t, struct blkref near, struct blkref *ret_blk)
{
    struct alloc_want w = { .goal = near.n, .len = 1 };
    uint32_t len;

    return alloc_blocks(t, &w, ret_blk, &len);
}

uint32_t alloc_tail_in_group(const struct shmfs *fs, struct blkref blk, uint32_t len)
{
    uint32_t last = blk.n + len - 1;

    return MIN(len, last % fs->l.group_blocks + 1);
}

int alloc_free(struct txn *t, struct blkref blk, uint32_t len)
{
    struct shmfs *fs = t->fs;
    uint32_t group, from;
    int r;

    if (len == 0 || !region_block_ok(fs, blk) || len > region_nblocks(fs) - blk.n)
        return -EUCLEAN;
    group = region_block_group(fs, blk.n);
    from = blk.n % fs->l.group_blocks;
    if (len > fs->l.group_blocks - from)
        return -EUCLEAN;
    r = txn_lock_group(t, group);
    if (r < 0)
        return r;
    if (alloc_bit_find(region_block_map(fs, group), from, from + len, false) != from + len)
        return -EUCLEAN;
    bits_change(t, region_block_map(fs, group), from, len, false);
    mark_blocks(fs, group, (struct run){ from, len }); /* an image has no free blocks */
    TXN_SET(t, &fs->groups[group].free_blocks, fs->groups[group].free_blocks + len);
    if (from < fs->group_rts[group].block_hint)
        STORE_RELAXED(&fs->group_rts[group].block_hint, from);
    t->freed = true;
    return 0;
}

/* ---- inodes ------------------------------------------------------------------------------------ */

static int inode_chunk_reserve(struct shmfs *fs, uint32_t group, uint32_t chunk)
{
    struct group_rt *g = &fs->group_rts[group];
    uint64_t first = (uint64_t)group * fs->l.group_inodes + (uint64_t)chunk * INODE_CHUNK;
    uint64_t len = MIN(fs->l.group_inodes - chunk * INODE_CHUNK, (uint32_t)INODE_CHUNK);
    int r;

    if ((g->inode_reserved >> chunk & 1) != 0)
        return 0;
    r = region_reserve(fs, fs->l.inodes + first * INODE_SIZE, len * INODE_SIZE);
    if (r == 0)
        r = region_reserve(fs, fs->l.inode_rt + first * sizeof(struct inode_rt),
                           len * sizeof(struct inode_rt));
    if (r < 0)
        return r;
    STORE_RELAXED(&g->inode_reserved, g->inode_reserved | UINT64_C(1) << chunk);
    return 0;
}

/* Is there memory for the chunk? Once the host has refused some, only what it gave before counts. */
static bool inode_chunk_ready(struct shmfs *fs, uint32_t group, uint32_t chunk, bool *host_full)
{
    if ((fs->group_rts[group].inode_reserved >> chunk & 1) != 0)
        return true;
    if (!*host_full && inode_chunk_reserve(fs, group, chunk) == 0)
        return true;
    *host_full = true;
    return false;
}

static int alloc_inode_in_group(struct txn *t, uint32_t group, bool *host_full, uint32_t *ret_ino)
{
    struct shmfs *fs = t->fs;
    struct group_rt *g = &fs->group_rts[group];
    uint64_t *map = region_inode_map(fs, group);
    uint32_t n = fs->l.group_inodes;
    uint32_t hint = MIN(g->inode_hint, n);
    bool busy = false;

    for (uint32_t pass = 0; pass < 2; pass++) {
        uint32_t end = pass == 0 ? n : hint;

        for (uint32_t i = pass == 0 ? hint : 0; (i = alloc_bit_find(map, i, end, false)) < end; i++) {
            uint32_t ino = group * n + i;

            if (!region_inode_ok(fs, ino))
                continue;
            if (!inode_chunk_ready(fs, group, i / INODE_CHUNK, host_full)) {
                i = (i / INODE_CHUNK + 1) * INODE_CHUNK - 1;
                continue;
            }
            if (txn_try_inode(t, ino) < 0) { /* somebody with a stale number looks at it just now */
                busy = true;
                continue;
            }
            if (fs->inodes[ino].mode != 0 || fs->groups[group].free_inodes == 0) /* the map lies */
                return -EUCLEAN;
            bits_change(t, map, i, 1, true);
            TXN_SET(t, &fs->groups[group].free_inodes, fs->groups[group].free_inodes - 1);
            STORE_RELAXED(&g->inode_hint, i + 1);
            *ret_ino = ino;
            return 0;
        }
    }
    return busy ? -EAGAIN : -ENOSPC;
}

int alloc_inode(struct txn *t, uint32_t near, uint32_t *ret_ino)
{
    struct shmfs *fs = t->fs;
    uint32_t ngroups = fs->l.ngroups;
    uint32_t first = near != 0 ? near / fs->l.group_inodes % ngroups : home_group(t);
    bool busy = false, host_full = false;

    assert(!t->freed);
    for (uint32_t i = 0; i < ngroups; i++) {
        uint32_t group = (first + i) % ngroups, held = t->nheld;
        int r;

        if (LOAD_RELAXED(&fs->groups[group].free_inodes) == 0)
            continue;
        r = txn_lock_group(t, group);
        if (r == 0) {
            r = alloc_inode_in_group(t, group, &host_full, ret_ino);
            if (r < 0)
                give_up_group(t, held, r);
        }
        if (r == 0 || (r != -EAGAIN && r != -ENOSPC))
            return r;
        busy |= r == -EAGAIN;
    }
    return busy ? -EAGAIN : full_or_busy(t, ngroups);
}

int alloc_inode_free(struct txn *t, uint32_t ino)
{
    struct shmfs *fs = t->fs;
    uint32_t group = ino / fs->l.group_inodes, bit = ino % fs->l.group_inodes;
    int r;

    r = txn_lock_group(t, group);
    if (r < 0)
        return r;
    if (!alloc_inode_used(fs, ino))
        return -EUCLEAN;
    bits_change(t, region_inode_map(fs, group), bit, 1, false);
    TXN_SET(t, &fs->groups[group].free_inodes, fs->groups[group].free_inodes + 1);
    if (bit < fs->group_rts[group].inode_hint)
        STORE_RELAXED(&fs->group_rts[group].inode_hint, bit);
    t->freed = true;
    return 0;
}

bool alloc_inode_used(const struct shmfs *fs, uint32_t ino)
{
    uint32_t group = ino / fs->l.group_inodes, bit = ino % fs->l.group_inodes;

    return region_inode_ok(fs, ino) && (region_inode_map(fs, group)[bit / 64] >> bit % 64 & 1) != 0;
}

/* ---- the whole --------------------------------------------------------------------------------- */

int alloc_reserve_used(struct shmfs *fs)
{
    for (uint32_t g = 0; g < fs->l.ngroups; g++) {
        uint32_t bits = group_bits(fs, g);
        const uint64_t *map = region_block_map(fs, g);
        int r;

        for (uint32_t i = 0; bits > 0 && (i = alloc_bit_find(map, i, bits, true)) < bits;
             i = (i / CHUNK_BLOCKS + 1) * CHUNK_BLOCKS) {
            r = chunk_reserve(fs, g, i / CHUNK_BLOCKS);
            if (r < 0)
                return r;
        }
        map = region_inode_map(fs, g);
        for (uint32_t i = 0; (i = alloc_bit_find(map, i, fs->l.group_inodes, true)) < fs->l.group_inodes;
             i = (i / INODE_CHUNK + 1) * INODE_CHUNK) {
            r = inode_chunk_reserve(fs, g, i / INODE_CHUNK);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

/* Reserved chunks of a group in which no block is used. */
static uint32_t spare_chunks(const struct shmfs *fs, uint32_t group, uint64_t *ret_spare)
{
    const uint64_t *map = region_block_map(fs, group);
    uint32_t bits = group_bits(fs, group), n = 0;

    memset(ret_spare, 0, GROUP_CHUNKS_MAX / 8);
    for (uint32_t c = 0; (c + 1) * CHUNK_BLOCKS <= bits; c++) {
        uint32_t lo = c * CHUNK_BLOCKS;
        if (!chunk_reserved(fs, group, c) ||
            alloc_bit_find(map, lo, lo + CHUNK_BLOCKS, true) != lo + CHUNK_BLOCKS)
            continue;
        ret_spare[c / 64] |= UINT64_C(1) << c % 64;
        n++;
    }
    return n;
}

/* Under the group's lock: looks again, forgets the reservation, then gives the memory back. */
static int trim_group(struct shmfs *fs, uint32_t group, uint32_t most)
{
    uint64_t spare[GROUP_CHUNKS_MAX / 64];
    struct txn t;
    int r;

    r = txn_begin(fs, &t);
    if (r < 0)
        return r;
    r = txn_lock_group(&t, group);
    if (r == 0 && spare_chunks(fs, group, spare) > 0) {
        for (uint32_t c = GROUP_CHUNKS_MAX; c-- > 0 && most > 0;) {
            uint64_t *word = &fs->group_rts[group].reserved[c / 64];
            uint64_t first = (uint64_t)group * fs->l.group_blocks + (uint64_t)c * CHUNK_BLOCKS;

            if ((spare[c / 64] >> c % 64 & 1) == 0)
                continue;
            STORE_RELAXED(word, *word & ~(UINT64_C(1) << c % 64));
            ORDER(); /* killed here, the memory is merely not counted; the other way it would be missed */
            region_punch(fs, fs->l.blocks + first * BLOCK_SIZE, CHUNK_SIZE);
            most--;
        }
    }
    txn_commit(&t);
    return r;
}

enum { SPARE_KEPT = 64 }; /* chunks kept for the next files: giving back and taking again costs faults */

int alloc_trim(struct shmfs *fs)
{
    uint64_t unused[GROUP_CHUNKS_MAX / 64];
    uint32_t ngroups = region_ngroups(fs), total = 0;

    for (uint32_t g = 0; g < ngroups; g++)
        total += spare_chunks(fs, g, unused);
    for (uint32_t g = ngroups; g-- > 0 && total > SPARE_KEPT;) {
        uint32_t spare = spare_chunks(fs, g, unused);
        uint32_t most = MIN(spare, total - SPARE_KEPT);

        if (spare == 0)
            continue;
        int r = trim_group(fs, g, most);
        if (r < 0)
            return r;
        total -= most;
    }
    return 0;
}
