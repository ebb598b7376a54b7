/* SPDX-License-Identifier: MIT */
#include "storm_ops.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { LOG_MAX = 4 << 20 };

const struct shmfs_maker storm_maker = { 0, 0, 0 };

uint64_t storm_clock(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

uint64_t storm_rng;

uint64_t storm_below(uint64_t n)
{
    uint64_t z = storm_rng += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (z ^ z >> 31) % n;
}

struct pick {
    uint32_t place, index;
    struct entry *e;
    char name[64], twin[64];
    uint32_t dir;
    uint32_t ino; /* 0: no such name */
};

/* On a machine with too much to do everybody waits, the parent as well. */
uint64_t storm_patience(void)
{
    return storm.patience * UINT64_C(1000000) + 10 * __atomic_load_n(storm.lag, __ATOMIC_RELAXED);
}

void storm_begin(struct worker *w)
{
    __atomic_store_n(&w->began, storm_clock(), __ATOMIC_RELEASE);
}

void storm_end(struct worker *w, long r, const char *what)
{
    uint64_t took = storm_clock() - w->began;

    __atomic_store_n(&w->began, 0, __ATOMIC_RELEASE);
    w->operations++;
    if (took > w->slowest)
        w->slowest = took;
    if (took > storm_patience())
        storm_fail(w, "%s took %" PRIu64 " ms", what, took / 1000000);
    if (r < 0)
        storm_fail(w, "%s gave %s", what, strerror((int)-r));
}

static struct pick pick(struct shmfs *fs, struct worker *w)
{
    struct pick p = { .place = (uint32_t)storm_below(PLACES), .index = (uint32_t)storm_below(NAMES) };
    struct shmfs_attr attr;

    p.e = &w->entries[p.place][p.index];
    p.dir = w->dirs[p.place];
    model_name(w, p.place, p.index, false, p.name, sizeof(p.name));
    model_name(w, p.place, p.index, true, p.twin, sizeof(p.twin));
    if (p.e->kind != KIND_NONE) {
        int r = shmfs_node_lookup(fs, p.dir, p.name, false, &attr);
        if (r < 0)
            storm_fail(w, "%s: lookup gives %s", p.name, strerror(-r));
        p.ino = attr.ino;
    }
    return p;
}

/* Writes down that an operation will make this of the name. */
static void intend(struct worker *w, const struct pick *p, const struct entry *after, const char *what)
{
    struct intent *it = &w->intent;

    it->change[0].place = p->place;
    it->change[0].index = p->index;
    it->change[0].after = *after;
    it->n = 1;
    it->big = it->record = 0;
    snprintf(it->what, sizeof(it->what), "%s %.30s", what, p->name);
    __atomic_store_n(&it->valid, 1, __ATOMIC_RELEASE);
    storm_begin(w);
}

static void intend_also(struct worker *w, const struct pick *p, const struct entry *after)
{
    struct intent *it = &w->intent;

    it->change[1].place = p->place;
    it->change[1].index = p->index;
    it->change[1].after = *after;
    __atomic_store_n(&it->n, 2, __ATOMIC_RELEASE);
}

/* The operation returned: what was intended is the state. Killed between the stores: settled as if in flight. */
static void done(struct worker *w, long r)
{
    struct intent *it = &w->intent;

    storm_end(w, r, it->what);
    for (uint32_t i = 0; i < it->n; i++)
        w->entries[it->change[i].place][it->change[i].index] = it->change[i].after;
    __atomic_store_n(&it->valid, 0, __ATOMIC_RELEASE);
}

static void op_make(struct shmfs *fs, struct worker *w, struct pick *p)
{
    struct entry after = { .kind = (uint8_t)(KIND_FILE + storm_below(3)) };
    struct shmfs_attr attr;
    char target[2000];
    int r;

    after.mode = after.kind == KIND_LINK ? 0777 : (uint16_t)(0600 | storm_below(64));
    if (after.kind == KIND_LINK)
        after.size = (uint32_t)(1 + storm_below(sizeof(target) - 1));
    intend(w, p, &after, "make");
    if (after.kind == KIND_LINK) {
        memset(target, 't', after.size);
        target[after.size] = 0;
        r = shmfs_node_symlink(fs, target, p->dir, p->name, &storm_maker, false, &attr);
    } else if (after.kind == KIND_DIR) {
        r = shmfs_node_mkdir(fs, p->dir, p->name, after.mode, &storm_maker, false, &attr);
    } else {
        r = shmfs_node_mknod(fs, p->dir, p->name, S_IFREG | after.mode, 0, &storm_maker, false, &attr);
    }
    done(w, r);
}

static void op_remove(struct shmfs *fs, struct worker *w, struct pick *p)
{
    struct entry after = { 0 };

    if (p->e->twin) {
        after = *p->e;
        after.twin = 0;
        intend(w, p, &after, "unlink twin");
        done(w, shmfs_node_unlink(fs, p->dir, p->twin));
        return;
    }
    intend(w, p, &after, "remove");
    done(w, p->e->kind == KIND_DIR ? shmfs_node_rmdir(fs, p->dir, p->name)
                                   : shmfs_node_unlink(fs, p->dir, p->name));
}

static void op_write(struct shmfs *fs, struct worker *w, struct pick *p)
{
    static uint8_t buf[SMALL_MAX];
    struct entry after = *p->e;
    uint32_t from = 0, n;
    unsigned flags = 0;

    if (storm_below(2) == 0 && after.size < SMALL_MAX) { /* append */
        from = after.size;
        n = (uint32_t)(1 + storm_below(storm_below(4) == 0 ? SMALL_MAX - from : (SMALL_MAX - from) / 16 + 1));
        flags = SHMFS_WRITE_APPEND;
    } else { /* all of it, and perhaps more */
        after.seed = (uint32_t)storm_below(UINT32_MAX);
        n = after.size + (uint32_t)storm_below((SMALL_MAX - after.size) / (storm_below(4) == 0 ? 1 : 16) + 1);
        if (n == 0)
            return;
    }
    after.size = from + n;
    model_fill(after.seed, from, buf, n);
    intend(w, p, &after, flags != 0 ? "append to" : "write");
    ssize_t r = shmfs_node_write(fs, p->ino, buf, n, from, flags, NULL);
    done(w, r >= 0 && r != (ssize_t)n ? -EIO : r);
}

static void op_size(struct shmfs *fs, struct worker *w, struct pick *p)
{
    struct entry after = *p->e;
    struct shmfs_attr attr = { 0 };

    after.size = (uint32_t)storm_below(after.size + 1);
    attr.size = after.size;
    intend(w, p, &after, "truncate");
    done(w, shmfs_node_setattr(fs, p->ino, &attr, SHMFS_SET_SIZE, &attr));
}

static void op_attr(struct shmfs *fs, struct worker *w, struct pick *p)
{
    struct entry after = *p->e;
    struct shmfs_attr attr = { 0 };
    uint8_t value[8000];

    if (storm_below(2) == 0) {
        after.mode = (uint16_t)(0600 | storm_below(64));
        attr.mode = after.mode;
        intend(w, p, &after, "chmod");
        done(w, shmfs_node_setattr(fs, p->ino, &attr, SHMFS_SET_MODE, &attr));
        return;
    }
    after.attr = after.attr != 0 && storm_below(3) == 0 ? 0 : (uint32_t)(1 + storm_below(1 << 30));
    model_fill(after.attr, 0, value, sizeof(value));
    intend(w, p, &after, "setxattr");
    done(w, after.attr == 0 ? shmfs_node_removexattr(fs, p->ino, "user.v")
                            : shmfs_node_setxattr(fs, p->ino, "user.v", value, after.attr % 7000 + 1, 0));
}

static void op_link(struct shmfs *fs, struct worker *w, struct pick *p)
{
    struct entry after = *p->e;
    struct shmfs_attr attr;

    after.twin = 1;
    intend(w, p, &after, "link");
    done(w, shmfs_node_link(fs, p->ino, p->dir, p->twin, false, &attr));
}

static void op_rename(struct shmfs *fs, struct worker *w, struct pick *p)
{
    struct pick q = pick(fs, w);
    struct entry none = { 0 };
    bool exchange = q.e->kind != KIND_NONE && storm_below(3) == 0;

    if (p->e == q.e || p->e->twin || q.e->twin)
        return;
    if (!exchange && q.e->kind != KIND_NONE && (p->e->kind == KIND_DIR) != (q.e->kind == KIND_DIR))
        return;
    intend(w, p, exchange ? q.e : &none, exchange ? "exchange" : "rename");
    intend_also(w, &q, p->e);
    done(w,
         shmfs_node_rename(fs, p->dir, p->name, q.dir, q.name, exchange ? RENAME_EXCHANGE : 0, &storm_maker));
}

/* Everybody's, under one name: whose it is in the end nobody knows, but somebody's it is. */
static void op_publish(struct shmfs *fs, struct worker *w, struct pick *p)
{
    struct entry none = { 0 };

    if (p->e->kind != KIND_FILE || p->e->twin)
        return;
    intend(w, p, &none, "publish");
    done(w, shmfs_node_rename(fs, p->dir, p->name, storm.shared, "published", 0, &storm_maker));
}

static void op_big(struct shmfs *fs, struct worker *w)
{
    static uint8_t buf[BIG_SIZE];
    struct shmfs_attr attr;
    uint32_t seed = (uint32_t)(1 + storm_below(1 << 30));

    if (shmfs_node_lookup(fs, w->dirs[0], "big", false, &attr) < 0)
        storm_fail(w, "the big file is gone");
    model_fill(seed, 0, buf, sizeof(buf));
    w->intent.big = seed;
    w->intent.n = w->intent.record = 0;
    snprintf(w->intent.what, sizeof(w->intent.what), "write the big file");
    __atomic_store_n(&w->intent.valid, 1, __ATOMIC_RELEASE);
    storm_begin(w);
    ssize_t r = shmfs_node_write(fs, attr.ino, buf, sizeof(buf), 0, 0, NULL);
    storm_end(w, r == BIG_SIZE ? 0 : r < 0 ? r : -EIO, w->intent.what);
    w->big = seed;
    __atomic_store_n(&w->intent.valid, 0, __ATOMIC_RELEASE);
}

static void op_log(struct shmfs *fs, struct worker *w)
{
    struct shmfs_attr attr;
    uint8_t buf[RECORD];

    if (shmfs_node_getattr(fs, storm.log, &attr) < 0 || attr.size > LOG_MAX)
        return;
    model_record(w->id, w->records + 1, buf);
    w->intent.record = w->records + 1;
    w->intent.n = w->intent.big = 0;
    snprintf(w->intent.what, sizeof(w->intent.what), "append to the log");
    __atomic_store_n(&w->intent.valid, 1, __ATOMIC_RELEASE);
    storm_begin(w);
    ssize_t r = shmfs_node_write(fs, storm.log, buf, RECORD, 0, SHMFS_WRITE_APPEND, NULL);
    storm_end(w, r == RECORD ? 0 : r < 0 ? r : -EIO, w->intent.what);
    w->records++;
    __atomic_store_n(&w->intent.valid, 0, __ATOMIC_RELEASE);
}

/* What everybody makes and removes under the same names; any answer will do but a strange one. */
static void op_quarrel(struct shmfs *fs, struct worker *w)
{
    char a[16], b[16];
    struct shmfs_attr attr = { 0 };
    uint8_t buf[9000] = { 1 };
    int r;

    snprintf(a, sizeof(a), "any%u", (unsigned)storm_below(6));
    snprintf(b, sizeof(b), "any%u", (unsigned)storm_below(6));
    storm_begin(w);
    switch (storm_below(7)) {
    case 0:
        r = shmfs_node_mkdir(fs, storm.shared, a, 0755, &storm_maker, false, &attr);
        break;
    case 1:
        r = shmfs_node_mknod(fs, storm.shared, a, S_IFREG | 0644, 0, &storm_maker, false, &attr);
        break;
    case 2:
        r = shmfs_node_rename(fs, storm.shared, a, storm.shared, b, 0, &storm_maker);
        break;
    case 3:
        r = shmfs_node_unlink(fs, storm.shared, a);
        break;
    case 4:
        r = shmfs_node_rmdir(fs, storm.shared, a);
        break;
    case 5: /* a file that stays: the number of another might be somebody else's by now */
        attr.size = storm_below(40000);
        r = shmfs_node_setattr(fs, storm.scribble, &attr, SHMFS_SET_SIZE, &attr);
        break;
    default:
        r = (int)shmfs_node_write(fs, storm.scribble, buf, sizeof(buf), (off_t)storm_below(40000), 0, NULL);
    }
    storm_end(w, r == -EEXIST || r == -ENOENT || r == -ENOTDIR || r == -EISDIR || r == -ENOTEMPTY ? 0 : r,
              "a quarrel");
}

void storm_operate(struct shmfs *fs, struct worker *w)
{
    uint64_t what = storm_below(100);

    if (what < 2) {
        op_big(fs, w);
        return;
    }
    if (what < 12) {
        op_log(fs, w);
        return;
    }
    if (what < 24) {
        op_quarrel(fs, w);
        return;
    }
    struct pick p = pick(fs, w);
    bool file = p.e->kind == KIND_FILE;
    if (p.e->kind == KIND_NONE)
        op_make(fs, w, &p);
    else if (what < 34)
        op_remove(fs, w, &p);
    else if (what < 50)
        op_rename(fs, w, &p);
    else if (what < 54)
        op_publish(fs, w, &p);
    else if (what < 76 && file)
        op_write(fs, w, &p);
    else if (what < 84 && file)
        op_size(fs, w, &p);
    else if (what < 92 && p.e->kind != KIND_LINK)
        op_attr(fs, w, &p);
    else if (what < 96 && file && !p.e->twin)
        op_link(fs, w, &p);
}
