/* SPDX-License-Identifier: MIT */
#include "file.h"

#include <linux/falloc.h>
#include <time.h>

/* ---- reading ----------------------------------------------------------------------------------- */

static int is_file(const struct inode *in)
{
    int r = inode_is_valid(in);

    if (r < 0)
        return r;
    return S_ISREG(in->mode) ? 0 : S_ISDIR(in->mode) ? -EISDIR : -EINVAL;
}

/* Copies out what is there now; the caller checks that it did not change meanwhile. */
static ssize_t copy_out(const struct shmfs *fs, uint32_t ino, const struct inode *in, uint8_t *buf, size_t n,
                        uint64_t off)
{
    uint64_t size = LOAD_RELAXED(&in->size);
    size_t done = 0;

    if (off >= size)
        return 0;
    n = (size_t)MIN((uint64_t)n, size - off);
    while (done < n) {
        uint64_t pos = (off + done) >> BLOCK_SHIFT, len;
        size_t within = (off + done) & (BLOCK_SIZE - 1), bytes;
        struct map_at at;
        struct blkref blk;
        int r = map_find(fs, ino, in, pos, &at);

        if (r < 0)
            return r;
        bool mapped = map_at_block(&at, pos, &blk, &len);
        len = MIN(len, (uint64_t)INT64_MAX >> BLOCK_SHIFT);
        bytes = (size_t)MIN((uint64_t)(n - done), (len << BLOCK_SHIFT) - within);
        if (bytes == 0)
            return -EUCLEAN;
        if (mapped)
            memcpy(buf + done, (uint8_t *)region_known_block(fs, blk) + within, bytes);
        else
            memset(buf + done, 0, bytes);
        done += bytes;
    }
    return (ssize_t)n;
}

/*
 * One state of the file. Under the lock, if it comes to that, it goes by way of a buffer of our own, at most
 * SLOT_STAGE bytes: the caller's memory may be mapped from a file whose pages wait for that very lock (A9).
 */
static ssize_t read_once(struct shmfs *fs, uint32_t ino, uint8_t *buf, size_t n, uint64_t off)
{
    AUTO_FREE uint8_t *bounce = NULL;
    struct reading rd;
    ssize_t r;

    reading_init(&rd, fs, ino);
    do {
        r = reading_begin(&rd);
        if (r < 0)
            return r;
        r = is_file(inode_at(fs, ino));
        if (unlikely(rd.locked) && r == 0) {
            n = MIN(n, (size_t)SLOT_STAGE);
            bounce = malloc(MAX(n, (size_t)1));
            r = bounce == NULL ? -ENOMEM : 0;
        }
        if (r == 0)
            r = copy_out(fs, ino, inode_at(fs, ino), bounce != NULL ? bounce : buf, n, off);
    } while (reading_again(&rd));
    if (bounce != NULL && r > 0)
        memcpy(buf, bounce, (size_t)r);
    return r;
}

ssize_t file_read(struct shmfs *fs, uint32_t ino, void *buf, size_t n, off_t off)
{
    size_t done = 0;
    ssize_t r;

    if (off < 0)
        return -EINVAL;
    do {
        r = read_once(fs, ino, (uint8_t *)buf + done, n - done, (uint64_t)off + done);
        done += r > 0 ? (size_t)r : 0;
    } while (r >= SLOT_STAGE && done < n); /* it was short by way of the buffer, or that was the end */
    return r < 0 && done == 0 ? r : (ssize_t)done;
}

static bool stamp_not_after(struct stamp a, struct stamp b)
{
    return a.sec < b.sec || (a.sec == b.sec && a.nsec <= b.nsec);
}

void file_read_time(struct shmfs *fs, uint32_t ino)
{
    const struct inode *in = inode_at(fs, ino);
    struct stamp atime = in->atime; /* a torn copy costs a needless update at worst */
    struct timespec now;
    struct txn t;
    int r;

    if (fs->readonly || (fs->flags & SHMFS_ATTACH_NOATIME) != 0 ||
        ((fs->flags & SHMFS_ATTACH_NODIRATIME) != 0 && S_ISDIR(LOAD_RELAXED(&in->mode))))
        return;
    if ((fs->flags & SHMFS_ATTACH_STRICTATIME) == 0 && !stamp_not_after(atime, in->mtime) &&
        !stamp_not_after(atime, in->ctime)) {
        clock_gettime(CLOCK_REALTIME_COARSE, &now); /* the day is all that counts */
        if (now.tv_sec - atime.sec < 24 * 60 * 60)
            return;
    }
    do {
        if (txn_begin(fs, &t) < 0)
            return;
        r = inode_lock(&t, ino, (struct inode **)&in);
        if (r == 0 && !lease_break_attr(&t, ino)) {
            inode_edit(&t, ino)->atime = inode_now(&t);
            txn_commit(&t);
            return;
        }
        r = txn_abort_for(&t, r < 0 ? r : -EAGAIN);
    } while (r == -EAGAIN);
}

/* ---- writing ----------------------------------------------------------------------------------- */

void file_kill_priv(struct inode *in, bool outside)
{
    in->mode &= ~(uint32_t)S_ISUID;
    if (outside || (in->mode & S_IXGRP) != 0)
        in->mode &= ~(uint32_t)S_ISGID;
}

/* Of one step of a large write: whoever shuts the gate waits for no more. */
#define STEP_BLOCKS UINT64_C(256)

/* A write on its way. */
struct writer {
    struct txn *t;
    uint32_t ino;
    struct inode *in;
    const uint8_t *src; /* what is left of the data */
    size_t n;
    uint64_t start, off; /* where it began and where it goes on */
    bool staged;         /* src lies in the slot's stage: all or nothing */
};

/* A goal that keeps a file contiguous, and room to grow for one that has grown. */
static struct alloc_want want_for(const struct inode *in, const struct map_at *at, uint64_t pos,
                                  uint64_t blocks)
{
    struct alloc_want want = { .len = (uint32_t)MIN(blocks, (uint64_t)GROUP_BLOCKS_MAX) };

    if (at->found && pos - at->ext.pos < UINT32_MAX - at->ext.blk.n)
        want.goal = at->ext.blk.n + (uint32_t)(pos - at->ext.pos);
    want.window = in->blocks < 16 ? 1 : in->blocks < 512 ? 64 : 512;
    return want;
}

/* Fills a hole (or what is behind the last block) with as much as one run takes. Returns bytes. */
static ssize_t write_hole(struct writer *w, const struct map_at *at, uint64_t pos, uint64_t hole)
{
    size_t within = w->off & (BLOCK_SIZE - 1);
    uint64_t blocks = MIN(MIN(hole, STEP_BLOCKS), (within + w->n + BLOCK_SIZE - 1) >> BLOCK_SHIFT);
    struct alloc_want want = want_for(w->in, at, pos, blocks);
    struct blkref blk;
    uint32_t got;
    int r = alloc_blocks(w->t, &want, &blk, &got);

    if (r < 0)
        return r;
    uint8_t *dst = region_known_block(w->t->fs, blk);
    size_t room = (size_t)got << BLOCK_SHIFT, bytes = MIN(w->n, room - within);
    memset(dst, 0, within); /* a reused block never shows old bytes */
    memcpy(dst + within, w->src, bytes);
    memset(dst + within + bytes, 0, room - within - bytes);
    w->in->blocks += got;
    r = map_insert(w->t, w->ino, w->in, (struct extent){ .pos = pos, .blk = blk, .len = got }, true);
    return r < 0 ? r : (ssize_t)bytes;
}

/*
 * Overwrites blocks that are there. Staged data is copied home after the commit point. Other data below
 * the end goes straight home, where death leaves a prefix of it; past the end, where it would break I10,
 * it goes by way of the stage.
 */
static ssize_t write_mapped(struct writer *w, struct blkref blk, uint64_t blocks)
{
    size_t within = w->off & (BLOCK_SIZE - 1);
    size_t bytes = (size_t)MIN((uint64_t)w->n, (blocks << BLOCK_SHIFT) - within);
    uint8_t *dst = (uint8_t *)region_known_block(w->t->fs, blk) + within;
    uint8_t *stage = w->t->slot->stage;

    if (w->staged) {
        txn_redo(w->t, dst, (uint32_t)bytes, (uint32_t)(w->src - stage));
    } else if (w->off < w->in->size) {
        bytes = (size_t)MIN((uint64_t)bytes, w->in->size - w->off);
        bytes = MIN(bytes, (size_t)STEP_BLOCKS << BLOCK_SHIFT);
        dirty_mark(w->t->fs, dst, bytes);
        memcpy(dst, w->src, bytes);
    } else {
        bytes = MIN(bytes, (size_t)SLOT_STAGE);
        memcpy(stage, w->src, bytes);
        txn_redo(w->t, dst, (uint32_t)bytes, 0);
    }
    return (ssize_t)bytes;
}

/* One run of the data: in a hole or in blocks that are there. Returns bytes. */
static ssize_t write_piece(struct writer *w)
{
    uint64_t pos = w->off >> BLOCK_SHIFT, len;
    struct map_at at;
    struct blkref blk;
    int r = map_find(w->t->fs, w->ino, w->in, pos, &at);

    if (r < 0)
        return r;
    bool mapped = map_at_block(&at, pos, &blk, &len);
    ssize_t bytes =
        mapped ? write_mapped(w, blk, MIN(len, (uint64_t)UINT32_MAX)) : write_hole(w, &at, pos, len);
    if (bytes == 0)
        return -EUCLEAN;
    if (bytes > 0) {
        w->src += bytes;
        w->n -= (size_t)bytes;
        w->off += (uint64_t)bytes;
    }
    return bytes;
}

/*
 * How many bytes from `off` on, and at most up to `to`, lie in one run of blocks or in one hole. *ret_p: where the
 * first of them is, or NULL in a hole. -EUCLEAN.
 */
static int64_t run_from(const struct shmfs *fs, uint32_t ino, const struct inode *in, uint64_t off,
                        uint64_t to, uint8_t **ret_p)
{
    uint64_t pos = off >> BLOCK_SHIFT, bytes = to - off, len;
    size_t within = off & (BLOCK_SIZE - 1);
    struct blkref blk = { 0 };
    struct map_at at;
    int r = map_find(fs, ino, in, pos, &at);

    if (r < 0)
        return r;
    bool mapped = map_at_block(&at, pos, &blk, &len);
    if (len == 0)
        return -EUCLEAN;
    if (len <= (bytes + within) >> BLOCK_SHIFT)
        bytes = (len << BLOCK_SHIFT) - within;
    *ret_p = mapped ? (uint8_t *)region_known_block(fs, blk) + within : NULL;
    return (int64_t)bytes;
}

/*
 * The file's end moves from in->size up to `to`. Where it was mapped by pointer the blocks between may hold
 * anything (I10 does not hold for INODE_LOOSE): they become zeros. No undo, nobody can read them yet.
 */
static int grow_zero(struct txn *t, uint32_t ino, const struct inode *in, uint64_t to)
{
    uint64_t off = in->size;

    if (likely((in->flags & INODE_LOOSE) == 0))
        return 0;
    while (off < to) {
        uint8_t *p;
        int64_t bytes = run_from(t->fs, ino, in, off, to, &p);

        if (bytes < 0)
            return (int)bytes;
        if (p != NULL) {
            dirty_mark(t->fs, p, (size_t)bytes);
            memset(p, 0, (size_t)bytes);
        }
        off += (uint64_t)bytes;
    }
    return 0;
}

/* Beside enum shmfs_write_flags. */
enum {
    WRITE_IN_PARTS = 1 << 30,
    WRITE_OUT_OF_TURN = 1 << 29,
};

/* The kernel must have none of what is written, unless it is the kernel that writes, and keeps it. -EAGAIN. */
static int writer_leases(struct writer *w, unsigned flags)
{
    bool append = (flags & SHMFS_WRITE_APPEND) != 0;

    if ((flags & SHMFS_WRITE_CACHED) != 0) {
        lease_give(w->t, w->ino, LEASE_WRITTEN | ((flags & SHMFS_WRITE_PAGES) != 0 ? LEASE_DATA : 0));
        if (append)
            lease_turn(w->t, w->ino, (flags & SHMFS_WRITE_HALF) != 0);
    }
    if (append && (flags & (SHMFS_WRITE_CACHED | WRITE_OUT_OF_TURN)) == 0 && lease_turn_taken(w->t, w->ino))
        return -EBUSY;
    return lease_break(w->t, w->ino, LEASE_ATTR | LEASE_PAGES, w->off, w->off + w->n) ? -EAGAIN : 0;
}

static int writer_start(struct writer *w, uint32_t ino, off_t off, unsigned flags)
{
    int r = inode_lock(w->t, ino, &w->in);

    if (r == 0)
        r = is_file(w->in);
    if (r < 0)
        return r;
    w->ino = ino;
    w->off = (flags & SHMFS_WRITE_APPEND) != 0 ? w->in->size : (uint64_t)off;
    if (w->off > (uint64_t)FILE_SIZE_MAX - w->n)
        return -EFBIG;
    w->start = w->off;
    r = writer_leases(w, flags);
    if (r < 0)
        return r;
    inode_edit(w->t, ino);
    return grow_zero(w->t, ino, w->in, w->off);
}

static void writer_done(struct writer *w, unsigned flags)
{
    if ((flags & SHMFS_WRITE_KILL_PRIV) != 0)
        file_kill_priv(w->in, (flags & SHMFS_WRITE_KILL_SGID) != 0);
    w->in->size = MAX(w->in->size, w->off);
    inode_changed(w->t, w->in, CHANGE_DATA);
}

/* Up to SLOT_STAGE bytes: one transaction. */
static ssize_t write_small(struct shmfs *fs, uint32_t ino, const void *buf, size_t n, off_t off,
                           unsigned flags, uint64_t *ret_start)
{
    struct txn t;
    struct writer w = { .t = &t, .n = n, .staged = true };
    ssize_t r;

    r = txn_begin(fs, &t);
    if (r < 0)
        return r;
    memcpy(t.slot->stage, buf, n); /* the caller's memory is not touched under a lock (A9) */
    w.src = t.slot->stage;
    r = writer_start(&w, ino, off, flags);
    while (r >= 0 && w.n > 0)
        r = write_piece(&w);
    if (r < 0)
        return txn_abort_for(&t, (int)r);
    writer_done(&w, flags);
    txn_commit(&t);
    *ret_start = w.start;
    return (ssize_t)n;
}

/* More: a chain of transactions, one for each run, under one hold of the lock. */
static ssize_t write_large(struct shmfs *fs, uint32_t ino, const void *buf, size_t n, off_t off,
                           unsigned flags, uint64_t *ret_start)
{
    struct txn t;
    struct writer w = { .t = &t, .n = n, .src = buf };
    ssize_t r;

    r = txn_begin(fs, &t);
    if (r < 0)
        return r;
    r = writer_start(&w, ino, off, flags);
    if (r < 0)
        return txn_abort_for(&t, (int)r);
    while (w.n > 0) {
        inode_edit(&t, ino);
        r = write_piece(&w);
        if (r < 0) {
            int waited = txn_retreat(&t);
            if (r == -EAGAIN && waited == 0)
                continue;
            r = r == -EAGAIN ? waited : r;
            break;
        }
        writer_done(&w, flags);
        txn_checkpoint(&t);
    }
    txn_commit(&t);
    *ret_start = w.start;
    return w.n < n ? (ssize_t)(n - w.n) : r;
}

enum { TURNS_MAX = 8 }; /* of others, which may never end */

/* Tries until the kernel has dropped what is in the way, and it is our turn. */
static ssize_t write_some(struct shmfs *fs, uint32_t ino, const void *buf, size_t n, off_t off,
                          unsigned flags, uint64_t *ret_start)
{
    bool large = n > SLOT_STAGE || (flags & WRITE_IN_PARTS) != 0;
    unsigned turns = 0;
    ssize_t r;

    do {
        if (unlikely(turns == TURNS_MAX))
            flags |= WRITE_OUT_OF_TURN;
        r = large ? write_large(fs, ino, buf, n, off, flags, ret_start)
                  : write_small(fs, ino, buf, n, off, flags, ret_start);
        if (unlikely(r == -EBUSY)) {
            lease_turn_wait(fs, ino);
            turns++;
        }
    } while (r == -EAGAIN || r == -EBUSY);
    return r;
}

ssize_t file_write(struct shmfs *fs, uint32_t ino, const void *buf, size_t n, off_t off, unsigned flags,
                   off_t *ret_off)
{
    uint64_t start = 0;
    ssize_t r;

    if (off < 0)
        return -EINVAL;
    n = MIN(n, (size_t)INT32_MAX & ~(size_t)(BLOCK_SIZE - 1));
    if (n == 0)
        return 0;
    r = write_some(fs, ino, buf, n, off, flags, &start);
    if (r == -ENOSPC && n <= SLOT_STAGE) {
        /* Not as a whole: then as much as there is room for, as tmpfs does. Again from memory of our own (A9). */
        AUTO_FREE void *copy = malloc(n);

        if (copy != NULL) {
            memcpy(copy, buf, n);
            r = write_some(fs, ino, copy, n, off, flags | WRITE_IN_PARTS, &start);
        }
    }
    if (r >= 0 && ret_off != NULL)
        *ret_off = (off_t)start;
    return r;
}

/* ---- size and holes ---------------------------------------------------------------------------- */

/* Zeroes bytes [from, to) of one block, if it is there; to the undo log goes what was in use. */
static int zero_within(struct txn *t, uint32_t ino, const struct inode *in, uint64_t from, uint64_t to)
{
    struct map_at at;
    struct blkref blk;
    uint64_t len;
    int r = map_find(t->fs, ino, in, from >> BLOCK_SHIFT, &at);

    to = MIN(to, in->size); /* beyond are zeros already (I10) */
    if (r < 0 || from >= to || !map_at_block(&at, from >> BLOCK_SHIFT, &blk, &len))
        return r;
    uint8_t *p = (uint8_t *)region_known_block(t->fs, blk) + (from & (BLOCK_SIZE - 1));
    txn_save(t, p, (size_t)(to - from));
    memset(p, 0, (size_t)(to - from));
    return 0;
}

/* Shrinks a file. One that is pinned keeps its blocks behind the end, for who has them mapped (A16). */
static int shrink(struct txn *t, uint32_t ino, struct inode *in, uint64_t size)
{
    uint64_t keep = div_up(size, BLOCK_SIZE);
    int r = 0;

    if (size % BLOCK_SIZE != 0)
        r = zero_within(t, ino, in, size, keep << BLOCK_SHIFT);
    if (r < 0)
        return r;
    in->size = size;
    if (use_any(t->fs, ino, USE_PIN, NO_USE)) {
        in->flags |= INODE_LOOSE;
        return 0;
    }
    if ((in->flags & INODE_LOOSE) != 0)
        return inode_tighten(t, ino, in);
    r = map_reaches(t->fs, ino, in, keep);
    if (r > 0)
        txn_todo(t, TODO_TRIM, ino, keep, UINT64_MAX);
    return MIN(r, 0);
}

int file_resize(struct txn *t, uint32_t ino, struct inode *in, uint64_t size)
{
    int r;

    if (size > (uint64_t)FILE_SIZE_MAX)
        return -EFBIG;
    if (size < in->size)
        return shrink(t, ino, in, size);
    r = grow_zero(t, ino, in, size);
    if (r == 0)
        in->size = size;
    return r;
}

/* A transaction on one file: locks it, lets `change` work, and tries again while a group is busy. */
struct span {
    uint64_t from, to; /* bytes */
    bool keep_size;
    bool all_missing; /* nothing was allocated in it before */
};

static int change_file(struct shmfs *fs, uint32_t ino,
                       int (*change)(struct txn *t, uint32_t ino, struct inode *in, struct span *range),
                       struct span *range)
{
    for (;;) {
        struct inode *in;
        struct txn t;
        int r = txn_begin(fs, &t);

        if (r < 0)
            return r;
        r = inode_lock(&t, ino, &in);
        if (r == 0)
            r = is_file(in);
        if (r == 0 && lease_break(&t, ino, LEASE_ATTR | LEASE_PAGES, range->from, range->to))
            r = -EAGAIN;
        if (r == 0) {
            inode_edit(&t, ino);
            r = change(&t, ino, in, range);
        }
        if (r >= 0) {
            inode_settle(&t);
            txn_commit(&t);
            return r;
        }
        r = txn_abort_for(&t, r);
        if (r != -EAGAIN)
            return r;
    }
}

/*
 * Instead of a punch, where the file is pinned: zeroes the blocks in place, a piece that fits the undo log
 * at a time. 1: there may be more.
 */
static int zero_pinned(struct txn *t, uint32_t ino, struct inode *in, struct span *range)
{
    uint64_t end = MIN(range->to, in->size);

    while (range->from < end) {
        uint8_t *p;
        int64_t bytes = run_from(t->fs, ino, in, range->from, end, &p);

        if (bytes < 0)
            return (int)bytes;
        if (p != NULL) {
            bytes = MIN(bytes, (int64_t)SLOT_STAGE);
            txn_save(t, p, (size_t)bytes);
            memset(p, 0, (size_t)bytes);
        }
        range->from += (uint64_t)bytes;
        if (p != NULL)
            return 1;
    }
    inode_changed(t, in, CHANGE_DATA);
    return 0;
}

static int punch(struct txn *t, uint32_t ino, struct inode *in, struct span *range)
{
    uint64_t from = div_up(range->from, BLOCK_SIZE), to = range->to >> BLOCK_SHIFT;
    int r = 0;

    if (use_any(t->fs, ino, USE_PIN, NO_USE))
        return -EBUSY;
    if (range->from % BLOCK_SIZE != 0)
        r = zero_within(t, ino, in, range->from, MIN(range->to, from << BLOCK_SHIFT));
    if (r == 0 && range->to % BLOCK_SIZE != 0 && (to << BLOCK_SHIFT) >= range->from)
        r = zero_within(t, ino, in, to << BLOCK_SHIFT, range->to);
    if (r < 0)
        return r;
    inode_changed(t, in, CHANGE_DATA);
    if (from >= to)
        return 0;
    r = map_split(t, ino, in, to); /* all that may need memory, before anything is freed */
    if (r == 0)
        txn_todo(t, TODO_TRIM, ino, from, to);
    return r;
}

/* Blocks that are missing in the range, counted before anything is taken: full is all or nothing. */
static int missing_blocks(struct txn *t, uint32_t ino, const struct inode *in, const struct span *range,
                          uint64_t *ret)
{
    uint64_t pos = range->from >> BLOCK_SHIFT, end = div_up(range->to, BLOCK_SIZE), missing = 0;

    while (pos < end) {
        struct map_at at;
        struct blkref blk;
        uint64_t len;
        int r = map_find(t->fs, ino, in, pos, &at);

        if (r < 0)
            return r;
        if (!map_at_block(&at, pos, &blk, &len))
            missing += MIN(len, end - pos);
        if (len == 0)
            return -EUCLEAN;
        pos += MIN(len, end - pos);
    }
    *ret = missing;
    return 0;
}

enum { ZERO_AT_ONCE = 256 }; /* blocks; the lock is not kept for longer than these take */

/* Fills the first hole of the range with zeros. 1: there may be more. */
static int fill(struct txn *t, uint32_t ino, struct inode *in, struct span *range)
{
    uint64_t pos = range->from >> BLOCK_SHIFT, end = div_up(range->to, BLOCK_SIZE), len = 0;
    struct map_at at;
    struct blkref blk;
    uint32_t got;
    int r;

    for (; pos < end; pos += len) {
        r = map_find(t->fs, ino, in, pos, &at);
        if (r < 0)
            return r;
        if (!map_at_block(&at, pos, &blk, &len))
            break;
    }
    if (pos >= end) {
        if (!range->keep_size && range->to > in->size) {
            r = grow_zero(t, ino, in, range->to);
            if (r < 0)
                return r;
            in->size = range->to;
        }
        inode_changed(t, in, CHANGE_DATA);
        return 0;
    }
    struct alloc_want want = want_for(in, &at, pos, MIN(MIN(len, end - pos), (uint64_t)ZERO_AT_ONCE));
    want.window = 512;
    r = alloc_blocks(t, &want, &blk, &got);
    if (r < 0)
        return r;
    memset(region_known_block(t->fs, blk), 0, (size_t)got << BLOCK_SHIFT);
    in->blocks += got;
    r = map_insert(t, ino, in, (struct extent){ .pos = pos, .blk = blk, .len = got }, true);
    if (r < 0)
        return r;
    range->from = (pos + got) << BLOCK_SHIFT;
    return 1;
}

/* Free blocks that files may take, without a lock. */
static uint64_t free_blocks(const struct shmfs *fs)
{
    uint64_t n = 0;

    for (uint32_t g = 0; g < region_ngroups(fs); g++)
        n += LOAD_RELAXED(&fs->groups[g].free_blocks);
    return n;
}

static int allocate_checked(struct txn *t, uint32_t ino, struct inode *in, struct span *range)
{
    uint64_t blocks = div_up(range->to, BLOCK_SIZE) - (range->from >> BLOCK_SHIFT), missing = 0;
    int r = missing_blocks(t, ino, in, range, &missing);

    if (r == 0 && missing > free_blocks(t->fs))
        r = -ENOSPC;
    range->all_missing = missing == blocks;
    return r < 0 ? r : fill(t, ino, in, range);
}

/* Memory ran out after all (nodes, or somebody else's files): takes back what was a hole before. */
static int give_back(struct txn *t, uint32_t ino, struct inode *in, struct span *range)
{
    if (use_any(t->fs, ino, USE_PIN, NO_USE))
        return 0;
    int r = map_split(t, ino, in, div_up(range->to, BLOCK_SIZE));

    if (r == 0)
        txn_todo(t, TODO_TRIM, ino, range->from >> BLOCK_SHIFT, div_up(range->to, BLOCK_SIZE));
    return r;
}

int file_fallocate(struct shmfs *fs, uint32_t ino, int mode, off_t off, off_t len)
{
    struct span range = { .keep_size = (mode & FALLOC_FL_KEEP_SIZE) != 0 };
    int kind = mode & ~FALLOC_FL_KEEP_SIZE, r;
    bool known =
        kind == 0 || kind == FALLOC_FL_ZERO_RANGE || mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);

    if (off < 0 || len <= 0)
        return -EINVAL;
    if (!known && kind != FALLOC_FL_COLLAPSE_RANGE && kind != FALLOC_FL_INSERT_RANGE)
        return -EOPNOTSUPP;
    if (off > FILE_SIZE_MAX - len)
        return -EFBIG;
    if (!known) /* the kernel knows these, and looks at the range before it asks a filesystem for them */
        return -EOPNOTSUPP;
    range.from = (uint64_t)off;
    range.to = (uint64_t)off + (uint64_t)len;
    if (kind != 0) {
        r = change_file(fs, ino, punch, &range);
        if (r == -EBUSY)
            do
                r = change_file(fs, ino, zero_pinned, &range);
            while (r == 1);
        range.from = (uint64_t)off;
        if (r < 0 || kind == FALLOC_FL_PUNCH_HOLE)
            return r;
    }
    r = change_file(fs, ino, allocate_checked, &range);
    while (r == 1)
        r = change_file(fs, ino, fill, &range);
    if (r == -ENOSPC && range.all_missing) {
        range.from = (uint64_t)off;
        change_file(fs, ino, give_back, &range);
    }
    return r;
}

/* One step of a seek; 1: go on at *pos. */
static int seek_step(const struct shmfs *fs, uint32_t ino, const struct inode *in, uint64_t *pos, int whence)
{
    struct map_at at;
    struct blkref blk;
    uint64_t len;
    int r;

    if (*pos >= in->size)
        return whence == SEEK_HOLE ? 0 : -ENXIO;
    r = map_find(fs, ino, in, *pos >> BLOCK_SHIFT, &at);
    if (r < 0)
        return r;
    if (map_at_block(&at, *pos >> BLOCK_SHIFT, &blk, &len) == (whence == SEEK_DATA))
        return 0;
    if (len > (uint64_t)INT64_MAX >> BLOCK_SHIFT || len == 0)
        *pos = INT64_MAX;
    else
        *pos = ((*pos >> BLOCK_SHIFT) + len) << BLOCK_SHIFT;
    return 1;
}

off_t file_lseek(struct shmfs *fs, uint32_t ino, off_t off, int whence)
{
    struct reading rd;
    uint64_t pos, size;
    int r;

    if (off < 0 || (whence != SEEK_DATA && whence != SEEK_HOLE))
        return off < 0 ? -ENXIO : -EINVAL;
    reading_init(&rd, fs, ino);
    do {
        const struct inode *in = inode_at(fs, ino);

        r = reading_begin(&rd);
        if (r < 0)
            return r;
        pos = (uint64_t)off;
        size = in->size;
        r = is_file(in);
        if (r == 0)
            r = pos >= size ? -ENXIO : 1;
        for (uint64_t before = 0; r == 1 && pos >= before;) {
            before = pos + 1; /* always forward, whatever the bytes say */
            r = seek_step(fs, ino, in, &pos, whence);
        }
    } while (reading_again(&rd));
    if (r != 0)
        return r < 0 ? r : -EUCLEAN;
    return (off_t)MIN(pos, size);
}

ssize_t file_copy(struct shmfs *fs, uint32_t from, off_t from_off, uint32_t to, off_t to_off, size_t n)
{
    AUTO_FREE uint8_t *buf = malloc(SLOT_STAGE);
    size_t done = 0;

    if (buf == NULL)
        return -ENOMEM;
    if (from_off < 0 || to_off < 0)
        return -EINVAL;
    n = MIN(n, (size_t)(INT64_MAX - MAX(from_off, to_off)));
    if (from == to && from_off < to_off + (off_t)n && to_off < from_off + (off_t)n)
        return -EINVAL;
    ssize_t r = file_read(fs, from, buf, 0, from_off);
    if (r < 0)
        return r;
    /* What is appended on the way is not its own source. */
    uint64_t size = LOAD_RELAXED(&inode_at(fs, from)->size);
    n = (size_t)MIN((uint64_t)n, size - MIN(size, (uint64_t)from_off));
    while (done < n) {
        ssize_t got = file_read(fs, from, buf, MIN(n - done, (size_t)SLOT_STAGE), from_off + (off_t)done);
        if (got > 0)
            got = file_write(fs, to, buf, (size_t)got, to_off + (off_t)done, 0, NULL);
        if (got < 0)
            return done > 0 ? (ssize_t)done : got;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}
