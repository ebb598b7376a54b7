/* SPDX-License-Identifier: MIT */
/*
 * Real deaths: processes at work in one region are killed at random, all the time, and others take their
 * places. Nobody waits for long; what somebody was told is done, is done; what somebody died in is done or
 * is not; nothing is lost, and nothing is left behind.
 *
 *   kill_storm [--seconds N] [--workers N] [--seed N] [--pace MS] [--patience MS] [--keep]
 */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "storm_model.h"

enum { WORKERS_MAX = 64, LOG_MAX = 4 << 20, REGION_SIZE = 64 << 20 };

static struct {
    unsigned seconds, workers, pace, patience; /* pace and patience in ms */
    uint64_t seed;
    bool keep;
    char path[64];
    uint32_t shared, log; /* inode numbers */
    uint64_t free_blocks, free_inodes;
} storm = { .seconds = 15, .workers = 4, .pace = 6, .patience = 1000, .seed = 1 };

static struct worker *workers; /* shared with all of them */

static uint64_t clock_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint64_t rng;

static uint64_t below(uint64_t n)
{
    uint64_t z = rng += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (z ^ z >> 31) % n;
}

static int complain(const char *who, const char *what)
{
    fprintf(stderr, "FAIL %s: %s\n  again: kill_storm --seed %" PRIu64 " --workers %u --seconds %u --pace %u\n", who,
            what, storm.seed, storm.workers, storm.seconds, storm.pace);
    return 1;
}

static __attribute__((format(printf, 2, 3), noreturn)) void fail(struct worker *w, const char *format, ...)
{
    char text[sizeof(w->failure)];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    if (w->pid == 0) /* the parent itself */
        complain("the parent", text);
    memcpy(w->failure, text, sizeof(text));
    _exit(1);
}

/* ---- a worker's operations ----------------------------------------------------------------------- */

static const struct shmfs_maker maker = { 0, 0, 0 };

struct pick {
    uint32_t place, index;
    struct entry *e;
    char name[64], twin[64];
    uint32_t dir;
    uint32_t ino; /* 0: no such name */
};

static void begin(struct worker *w)
{
    __atomic_store_n(&w->began, clock_ns(), __ATOMIC_RELEASE);
}

static void end(struct worker *w, long r, const char *what)
{
    uint64_t took = clock_ns() - w->began;

    __atomic_store_n(&w->began, 0, __ATOMIC_RELEASE);
    w->operations++;
    if (took > w->slowest)
        w->slowest = took;
    if (took > storm.patience * UINT64_C(1000000))
        fail(w, "%s took %" PRIu64 " ms", what, took / 1000000);
    if (r < 0)
        fail(w, "%s gave %s", what, strerror((int)-r));
}

static struct pick pick(struct shmfs *fs, struct worker *w)
{
    struct pick p = { .place = (uint32_t)below(PLACES), .index = (uint32_t)below(NAMES) };
    struct shmfs_attr attr;

    p.e = &w->entries[p.place][p.index];
    p.dir = w->dirs[p.place];
    model_name(w, p.place, p.index, false, p.name, sizeof(p.name));
    model_name(w, p.place, p.index, true, p.twin, sizeof(p.twin));
    if (p.e->kind != KIND_NONE) {
        int r = shmfs_node_lookup(fs, p.dir, p.name, false, &attr);
        if (r < 0)
            fail(w, "%s: lookup gives %s", p.name, strerror(-r));
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
    begin(w);
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

    end(w, r, it->what);
    for (uint32_t i = 0; i < it->n; i++)
        w->entries[it->change[i].place][it->change[i].index] = it->change[i].after;
    __atomic_store_n(&it->valid, 0, __ATOMIC_RELEASE);
}

static void op_make(struct shmfs *fs, struct worker *w, struct pick *p)
{
    struct entry after = { .kind = (uint8_t)(KIND_FILE + below(3)) };
    struct shmfs_attr attr;
    char target[2000];
    int r;

    after.mode = after.kind == KIND_LINK ? 0777 : (uint16_t)(0600 | below(64));
    if (after.kind == KIND_LINK)
        after.size = (uint32_t)(1 + below(sizeof(target) - 1));
    intend(w, p, &after, "make");
    if (after.kind == KIND_LINK) {
        memset(target, 't', after.size);
        target[after.size] = 0;
        r = shmfs_node_symlink(fs, target, p->dir, p->name, &maker, false, &attr);
    } else if (after.kind == KIND_DIR) {
        r = shmfs_node_mkdir(fs, p->dir, p->name, after.mode, &maker, false, &attr);
    } else {
        r = shmfs_node_mknod(fs, p->dir, p->name, S_IFREG | after.mode, 0, &maker, false, &attr);
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

    if (below(2) == 0 && after.size < SMALL_MAX) { /* append */
        from = after.size;
        n = (uint32_t)(1 + below(below(4) == 0 ? SMALL_MAX - from : (SMALL_MAX - from) / 16 + 1));
        flags = SHMFS_WRITE_APPEND;
    } else { /* all of it, and perhaps more */
        after.seed = (uint32_t)below(UINT32_MAX);
        n = after.size + (uint32_t)below((SMALL_MAX - after.size) / (below(4) == 0 ? 1 : 16) + 1);
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

    after.size = (uint32_t)below(after.size + 1);
    attr.size = after.size;
    intend(w, p, &after, "truncate");
    done(w, shmfs_node_setattr(fs, p->ino, &attr, SHMFS_SET_SIZE, &attr));
}

static void op_attr(struct shmfs *fs, struct worker *w, struct pick *p)
{
    struct entry after = *p->e;
    struct shmfs_attr attr = { 0 };
    uint8_t value[8000];

    if (below(2) == 0) {
        after.mode = (uint16_t)(0600 | below(64));
        attr.mode = after.mode;
        intend(w, p, &after, "chmod");
        done(w, shmfs_node_setattr(fs, p->ino, &attr, SHMFS_SET_MODE, &attr));
        return;
    }
    after.attr = after.attr != 0 && below(3) == 0 ? 0 : (uint32_t)(1 + below(1 << 30));
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
    bool exchange = q.e->kind != KIND_NONE && below(3) == 0;

    if (p->e == q.e || p->e->twin || q.e->twin)
        return;
    if (!exchange && q.e->kind != KIND_NONE && (p->e->kind == KIND_DIR) != (q.e->kind == KIND_DIR))
        return;
    intend(w, p, exchange ? q.e : &none, exchange ? "exchange" : "rename");
    intend_also(w, &q, p->e);
    done(w, shmfs_node_rename(fs, p->dir, p->name, q.dir, q.name, exchange ? RENAME_EXCHANGE : 0, &maker));
}

/* Everybody's, under one name: whose it is in the end nobody knows, but somebody's it is. */
static void op_publish(struct shmfs *fs, struct worker *w, struct pick *p)
{
    struct entry none = { 0 };

    if (p->e->kind != KIND_FILE || p->e->twin)
        return;
    intend(w, p, &none, "publish");
    done(w, shmfs_node_rename(fs, p->dir, p->name, storm.shared, "published", 0, &maker));
}

static void op_big(struct shmfs *fs, struct worker *w)
{
    static uint8_t buf[BIG_SIZE];
    struct shmfs_attr attr;
    uint32_t seed = (uint32_t)(1 + below(1 << 30));

    if (shmfs_node_lookup(fs, w->dirs[0], "big", false, &attr) < 0)
        fail(w, "the big file is gone");
    model_fill(seed, 0, buf, sizeof(buf));
    w->intent.big = seed;
    w->intent.n = w->intent.record = 0;
    snprintf(w->intent.what, sizeof(w->intent.what), "write the big file");
    __atomic_store_n(&w->intent.valid, 1, __ATOMIC_RELEASE);
    begin(w);
    ssize_t r = shmfs_node_write(fs, attr.ino, buf, sizeof(buf), 0, 0, NULL);
    end(w, r == BIG_SIZE ? 0 : r < 0 ? r : -EIO, w->intent.what);
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
    begin(w);
    ssize_t r = shmfs_node_write(fs, storm.log, buf, RECORD, 0, SHMFS_WRITE_APPEND, NULL);
    end(w, r == RECORD ? 0 : r < 0 ? r : -EIO, w->intent.what);
    w->records++;
    __atomic_store_n(&w->intent.valid, 0, __ATOMIC_RELEASE);
}

/* What everybody makes and removes under the same names; any answer will do but a strange one. */
static void op_quarrel(struct shmfs *fs, struct worker *w)
{
    char a[16], b[16];
    struct shmfs_attr attr;
    uint8_t buf[9000] = { 1 };
    int r;

    snprintf(a, sizeof(a), "any%u", (unsigned)below(6));
    snprintf(b, sizeof(b), "any%u", (unsigned)below(6));
    begin(w);
    switch (below(6)) {
    case 0:
        r = shmfs_node_mkdir(fs, storm.shared, a, 0755, &maker, false, &attr);
        break;
    case 1:
        r = shmfs_node_mknod(fs, storm.shared, a, S_IFREG | 0644, 0, &maker, false, &attr);
        break;
    case 2:
        r = shmfs_node_rename(fs, storm.shared, a, storm.shared, b, 0, &maker);
        break;
    case 3:
        r = shmfs_node_unlink(fs, storm.shared, a);
        break;
    case 4:
        r = shmfs_node_rmdir(fs, storm.shared, a);
        break;
    default:
        r = shmfs_node_lookup(fs, storm.shared, a, false, &attr);
        if (r == 0 && S_ISREG(attr.mode)) {
            ssize_t n = shmfs_node_write(fs, attr.ino, buf, sizeof(buf), (off_t)below(20000), 0, NULL);
            r = n == -ESTALE ? 0 : (int)n;
        }
    }
    end(w, r == -EEXIST || r == -ENOENT || r == -ENOTDIR || r == -EISDIR || r == -ENOTEMPTY ? 0 : r, "a quarrel");
}

static void operate(struct shmfs *fs, struct worker *w)
{
    uint64_t what = below(100);

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

/* ---- a worker's life ----------------------------------------------------------------------------- */

static struct shmfs *attach(struct worker *w, unsigned flags)
{
    struct shmfs_diag diag;
    struct shmfs *fs;
    char text[200];
    int r = shmfs_region_attach(storm.path, flags, &fs, &diag);

    if (r < 0)
        fail(w, "%s", shmfs_diag_text(&diag, r, storm.path, text, sizeof(text)));
    return fs;
}

static __attribute__((noreturn)) void live(struct worker *w)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    rng = storm.seed * 1000003 + w->id * 7919 + w->life * UINT64_C(104729);
    begin(w);
    struct shmfs *fs = attach(w, 0);
    end(w, 0, "attaching");
    begin(w);
    const char *what = model_settle(fs, w, storm.log);
    __atomic_store_n(&w->began, 0, __ATOMIC_RELEASE);
    if (what[0] != 0)
        fail(w, "%s", what);
    for (;;) {
        for (int i = 0; i < 200; i++)
            operate(fs, w);
        what = below(8) == 0 ? model_check(fs, w) : "";
        if (what[0] != 0)
            fail(w, "with nobody dead: %s", what);
        if (below(10) == 0) {
            begin(w);
            shmfs_region_detach(fs);
            fs = attach(w, 0);
            end(w, 0, "attaching again");
        }
    }
}

static void spawn(struct worker *w)
{
    w->life++;
    w->began = 0;
    pid_t pid = fork();
    if (pid == 0) {
        w->pid = getpid();
        live(w);
    }
    if (pid < 0) {
        perror("fork");
        exit(1);
    }
    w->pid = pid;
}

/* ---- the parent ---------------------------------------------------------------------------------- */

static void prepare(void)
{
    struct shmfs_make make = { .size = REGION_SIZE, .max_size = REGION_SIZE, .mode = 0600, .root_mode = 0755,
                               .force = true };
    struct shmfs_geometry geometry;
    struct shmfs_space space;
    struct shmfs_diag diag;
    struct shmfs_attr attr;
    uint8_t *buf = malloc(BIG_SIZE);

    snprintf(storm.path, sizeof(storm.path), "/dev/shm/shmfs-storm-%d", (int)getpid());
    if (buf == NULL || shmfs_region_make(storm.path, &make, &geometry, &diag) < 0)
        abort();
    struct shmfs *fs = attach(&workers[0], 0);
    shmfs_node_statfs(fs, &space);
    storm.free_blocks = space.free_blocks;
    storm.free_inodes = space.free_inodes;
    if (shmfs_node_mkdir(fs, SHMFS_ROOT, "shared", 0755, &maker, false, &attr) < 0)
        abort();
    storm.shared = attr.ino;
    if (shmfs_node_mknod(fs, SHMFS_ROOT, "log", S_IFREG | 0644, 0, &maker, false, &attr) < 0)
        abort();
    storm.log = attr.ino;
    for (uint32_t i = 0; i < storm.workers; i++) {
        char name[32];

        snprintf(name, sizeof(name), "worker%u", i);
        if (shmfs_node_mkdir(fs, SHMFS_ROOT, name, 0755, &maker, false, &attr) < 0)
            abort();
        workers[i].id = i;
        workers[i].dirs[0] = attr.ino;
        workers[i].dirs[1] = storm.shared;
        workers[i].big = 1;
        model_fill(1, 0, buf, BIG_SIZE);
        if (shmfs_node_mknod(fs, attr.ino, "big", S_IFREG | 0644, 0, &maker, false, &attr) < 0 ||
            shmfs_node_write(fs, attr.ino, buf, BIG_SIZE, 0, 0, NULL) != BIG_SIZE)
            abort();
    }
    free(buf);
    shmfs_region_detach(fs);
}

/* Did a worker end by itself, or is it at one operation for too long? */
static int watch(struct worker *w)
{
    uint64_t began = __atomic_load_n(&w->began, __ATOMIC_ACQUIRE), now = clock_ns();
    char text[400];
    int status;

    if (w->failure[0] != 0)
        return complain("a worker", w->failure);
    if (w->pid != 0 && waitpid(w->pid, &status, WNOHANG) == w->pid) {
        snprintf(text, sizeof(text), "ended by itself, with status %#x; its last intent: '%s'", status,
                 w->intent.what);
        w->pid = 0;
        return complain("a worker", w->failure[0] != 0 ? w->failure : text);
    }
    if (began == 0 || now < began || now - began < 5 * storm.patience * UINT64_C(1000000))
        return 0;
    snprintf(text, sizeof(text), "hangs for %" PRIu64 " ms; its last intent: '%s'", (now - began) / 1000000,
             w->intent.what);
    return complain("a worker", text);
}

static void reap(struct worker *w, int signal)
{
    if (w->pid == 0)
        return;
    kill(w->pid, signal);
    waitpid(w->pid, NULL, 0);
    w->pid = 0;
}

static int rage(uint64_t *ret_kills)
{
    uint64_t until = clock_ns() + storm.seconds * UINT64_C(1000000000);
    int failed = 0;

    for (uint32_t i = 0; i < storm.workers; i++)
        spawn(&workers[i]);
    while (clock_ns() < until && failed == 0) {
        struct timespec nap = { .tv_nsec = (long)(below(storm.pace * 2000 + 1) * 1000) };
        /* Mostly one; sometimes some in a row, so that undertakers die too. */
        uint64_t n = below(6) == 0 ? 1 + below(storm.workers) : 1;

        nanosleep(&nap, NULL);
        for (uint32_t i = 0; i < storm.workers; i++)
            failed |= watch(&workers[i]);
        for (; n > 0 && failed == 0; n--) {
            struct worker *w = &workers[below(storm.workers)];

            failed |= watch(w); /* has it ended by itself? */
            reap(w, SIGKILL);
            ++*ret_kills;
            if (failed == 0)
                failed = watch(w); /* or just before */
            spawn(w);
        }
    }
    for (uint32_t i = 0; i < storm.workers; i++) {
        reap(&workers[i], SIGKILL);
        if (failed == 0 && workers[i].failure[0] != 0)
            failed = complain("a worker", workers[i].failure);
    }
    return failed;
}

/* ---- what is left -------------------------------------------------------------------------------- */

static void on_problem(void *arg, const struct shmfs_problem *p)
{
    fprintf(stderr, "  inode %u: %s\n", p->ino, p->text);
}

static int check(const char *when)
{
    const struct shmfs_check callbacks = { .problem = on_problem };
    struct shmfs_check_result result = { 0 };
    struct shmfs *fs = attach(&workers[0], SHMFS_ATTACH_PRIVATE);
    int r = shmfs_check_run(fs, &callbacks, &result);

    shmfs_region_detach(fs);
    return r < 0 || result.problems > 0 ? complain("the check", when) : 0;
}

static void remove_all(struct shmfs *fs, uint32_t dir)
{
    static struct shmfs_dirent list[256];
    struct shmfs_dirent e;
    int n;

    while ((n = shmfs_node_readdir(fs, dir, 2, list, 1)) == 1) {
        e = list[0];
        if (e.type == DT_DIR)
            remove_all(fs, e.ino);
        int r = e.type == DT_DIR ? shmfs_node_rmdir(fs, dir, e.name) : shmfs_node_unlink(fs, dir, e.name);
        if (r < 0) {
            fprintf(stderr, "  removing %s: %s\n", e.name, strerror(-r));
            return;
        }
    }
}

static int aftermath(void)
{
    struct shmfs_space space;
    int failed = check("after the last death");

    struct shmfs *fs = attach(&workers[0], 0);
    for (uint32_t i = 0; i < storm.workers; i++) {
        const char *what = model_settle(fs, &workers[i], storm.log);
        if (what[0] == 0)
            what = model_check(fs, &workers[i]);
        if (what[0] != 0)
            failed |= complain("what is left of a worker", what);
    }
    const char *what = model_check_log(fs, storm.log, workers, storm.workers);
    if (what[0] != 0)
        failed |= complain("the log", what);
    remove_all(fs, SHMFS_ROOT);
    shmfs_node_statfs(fs, &space);
    if (space.free_blocks != storm.free_blocks || space.free_inodes != storm.free_inodes) {
        fprintf(stderr, "  free: %" PRIu64 " of %" PRIu64 " blocks, %" PRIu64 " of %" PRIu64 " inodes\n",
                space.free_blocks, storm.free_blocks, space.free_inodes, storm.free_inodes);
        failed |= complain("leak", "not everything came back");
    }
    shmfs_region_detach(fs);
    return failed | check("after everything was removed");
}

static int options(int argc, char **argv)
{
    static const struct option list[] = {
        { "seconds", required_argument, NULL, 's' }, { "workers", required_argument, NULL, 'w' },
        { "seed", required_argument, NULL, 'r' },    { "pace", required_argument, NULL, 'p' },
        { "patience", required_argument, NULL, 'q' }, { "keep", no_argument, NULL, 'k' },
        { NULL, 0, NULL, 0 },
    };
    int opt;

    while ((opt = getopt_long(argc, argv, "", list, NULL)) != -1) {
        unsigned long v = optarg != NULL ? strtoul(optarg, NULL, 0) : 0;

        if (opt == 's')
            storm.seconds = (unsigned)v;
        else if (opt == 'w')
            storm.workers = (unsigned)v;
        else if (opt == 'r')
            storm.seed = v;
        else if (opt == 'p')
            storm.pace = (unsigned)v;
        else if (opt == 'q')
            storm.patience = (unsigned)v;
        else if (opt == 'k')
            storm.keep = true;
        else
            return -1;
    }
    return optind != argc || storm.workers < 1 || storm.workers > WORKERS_MAX ? -1 : 0;
}

int main(int argc, char **argv)
{
    uint64_t kills = 0, operations = 0, slowest = 0;

    if (options(argc, argv) < 0)
        return 2;
    workers = mmap(NULL, WORKERS_MAX * sizeof(*workers), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (workers == MAP_FAILED)
        return 1;
    rng = storm.seed;
    prepare();
    int failed = rage(&kills);
    if (failed == 0)
        failed = aftermath();
    for (uint32_t i = 0; i < storm.workers; i++) {
        operations += workers[i].operations;
        slowest = workers[i].slowest > slowest ? workers[i].slowest : slowest;
    }
    printf("%" PRIu64 " kills among %" PRIu64 " operations; the slowest took %.1f ms (seed %" PRIu64 ")\n", kills,
           operations, (double)slowest / 1e6, storm.seed);
    if (storm.keep || failed != 0)
        printf("the region is left at %s\n", storm.path);
    else
        unlink(storm.path);
    return failed;
}
