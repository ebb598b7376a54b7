/* SPDX-License-Identifier: MIT */
/*
 * Kinds in which everybody is at work at once. A race counts 1, 2, 3, ... into something (a size, a mode, names), and
 * says on the board which value it begins with and which call has returned. Who looks may see nothing older than what
 * had returned before, nor what was not begun. This finds the answer that was on its way while its object changed, and
 * is kept in a cache. In a chain, the value goes through the hands of all: each sees what the one before made, by
 * the other side, and makes the next.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "litmus.h"

#define A r->path[0]

enum { OF, MIXED, STEPS = 48, LAPS = 3, ITEM = 10 };

/* make: by nobody else at a time; V is at least 1. see: the value as it seems; START by setup is 0. */
struct counter {
    const char *name;
    bool dir; /* A is one */
    void (*make)(struct round *r, const struct face *f, uint64_t v);
    uint64_t (*see)(struct round *r, const struct face *f, uint64_t lo);
};

struct name {
    char path[2 * LITMUS_PATH];
};
static struct name name_of(const struct round *r, uint64_t v)
{
    struct name ret;

    snprintf(ret.path, sizeof(ret.path), "%s/%" PRIu64, A, v);
    return ret;
}

static const struct handle *held(const struct round *r, const struct face *f)
{
    const struct handle *h = &r->held[side_of(f)][0];

    return h->file != NULL || h->fd > 0 ? h : NULL;
}

/* ---- counters ------------------------------------------------------------------------------------ */

static void make_content(struct round *r, const struct face *f, uint64_t v)
{
    expect(r, f, "write", A, face_write(f, A, &v, sizeof(v), 0, false), sizeof(v));
    publish(r, f, A);
}

/* By turns by an open file and by a new one. */
static uint64_t see_content(struct round *r, const struct face *f, uint64_t lo)
{
    const struct handle *h = held(r, f);
    uint64_t v = 0;
    ssize_t n = h != NULL && r->seen[0][0]++ % 2 == 0 ? face_pread(h, &v, sizeof(v), 0)
                                                      : face_read(f, A, &v, sizeof(v), 0);

    if (n != (lo > 0 ? (ssize_t)sizeof(v) : n))
        expect(r, f, "read", A, n, sizeof(v));
    return v;
}

static uint64_t size_of(struct round *r, const struct face *f)
{
    struct stat st;

    return look(r, f, A, &st) ? (uint64_t)st.st_size : 0;
}

static void make_append(struct round *r, const struct face *f, uint64_t v)
{
    char item[ITEM + 1];

    snprintf(item, sizeof(item), "%09" PRIu64 "\n", v);
    expect(r, f, "append", A, face_write(f, A, item, ITEM, 0, true), ITEM);
    publish(r, f, A);
}

/* The size, and the last item whose call has returned. */
static uint64_t see_append(struct round *r, const struct face *f, uint64_t lo)
{
    uint64_t v = size_of(r, f) / ITEM;
    char seen[ITEM + 1] = { 0 };

    if (lo > 0) {
        ssize_t n = face_read(f, A, seen, ITEM, (off_t)((lo - 1) * ITEM));
        if (n != ITEM || strtoull(seen, NULL, 10) != lo)
            wrong(r, f, "%" PRIu64 " items were appended; reading the last gives %zd bytes, '%.9s'", lo, n,
                  seen);
    }
    return v;
}

/* From long to short. */
static void make_shrink(struct round *r, const struct face *f, uint64_t v)
{
    expect(r, f, "truncate", A, face_truncate(f, A, (off_t)((STEPS - v) * 1000)), 0);
    publish(r, f, A);
}

static uint64_t see_shrink(struct round *r, const struct face *f, uint64_t lo)
{
    uint64_t size = size_of(r, f);

    (void)lo;
    return size == 0 ? STEPS : STEPS - size / 1000; /* before the first, by the setup: 48000 */
}

static void make_mtime(struct round *r, const struct face *f, uint64_t v)
{
    const struct timespec times[2] = { { .tv_sec = (time_t)v }, { .tv_sec = (time_t)v } };

    expect(r, f, "utimensat", A, face_utimens(f, A, times), 0);
}

static uint64_t see_mtime(struct round *r, const struct face *f, uint64_t lo)
{
    struct stat st;

    (void)lo;
    return look(r, f, A, &st) ? (uint64_t)st.st_mtim.tv_sec : 0;
}

static void make_mode(struct round *r, const struct face *f, uint64_t v)
{
    expect(r, f, "chmod", A, face_chmod(f, A, (mode_t)v), 0);
}

static uint64_t see_mode(struct round *r, const struct face *f, uint64_t lo)
{
    struct stat st;

    (void)lo;
    return look(r, f, A, &st) ? st.st_mode & 07777 : 0;
}

static void make_xattr(struct round *r, const struct face *f, uint64_t v)
{
    expect(r, f, "setxattr", A, face_setxattr(f, A, "user.litmus", &v, sizeof(v)), 0);
}

static uint64_t see_xattr(struct round *r, const struct face *f, uint64_t lo)
{
    uint64_t v = 0;
    ssize_t n = face_getxattr(f, A, "user.litmus", &v, sizeof(v));

    if (n != sizeof(v) && !(n == -ENODATA && lo == 0))
        expect(r, f, "getxattr", A, n, sizeof(v));
    return v;
}

static bool exists(struct round *r, const struct face *f, uint64_t v)
{
    struct stat st;
    int error = face_lstat(f, name_of(r, v).path, &st);

    if (error != -ENOENT)
        expect(r, f, "lstat", name_of(r, v).path, error, 0);
    return error == 0;
}

static void make_create(struct round *r, const struct face *f, uint64_t v)
{
    expect(r, f, "create", name_of(r, v).path, face_make(f, name_of(r, v).path, 0644), 0);
}

/* Looks beyond, too: so that it is cached as missing while it comes. */
static uint64_t see_create(struct round *r, const struct face *f, uint64_t lo)
{
    if (exists(r, f, lo + 1))
        return lo + 1;
    return lo == 0 || exists(r, f, lo) ? lo : lo - 1;
}

/* One name after another goes: 1, 2, ... */
static void make_unlink(struct round *r, const struct face *f, uint64_t v)
{
    expect(r, f, "unlink", name_of(r, v).path, face_unlink(f, name_of(r, v).path), 0);
}

static uint64_t see_unlink(struct round *r, const struct face *f, uint64_t lo)
{
    if (lo < STEPS && !exists(r, f, lo + 1))
        return lo + 1;
    return lo > 0 && exists(r, f, lo) ? lo - 1 : lo;
}

/* One file that moves on from name to name. */
static void make_rename(struct round *r, const struct face *f, uint64_t v)
{
    expect(r, f, "rename to", name_of(r, v).path,
           face_rename(f, name_of(r, v - 1).path, name_of(r, v).path, 0), 0);
}

/* The old name cannot be there any more; the new one is there if nothing was begun meanwhile. */
static uint64_t see_rename(struct round *r, const struct face *f, uint64_t lo)
{
    exists(r, f, lo + 1);
    if (lo > 0 && exists(r, f, lo - 1))
        return lo - 1;
    if (!exists(r, f, lo) && __atomic_load_n(&team_of(r)->begun, __ATOMIC_ACQUIRE) == lo)
        wrong(r, f, "%s is not there, and nobody has begun to move it on", name_of(r, lo).path);
    return lo;
}

/* Links of one file; its count tells. */
static void make_link(struct round *r, const struct face *f, uint64_t v)
{
    expect(r, f, "link", name_of(r, v).path, face_link(f, name_of(r, 0).path, name_of(r, v).path), 0);
}

static uint64_t see_link(struct round *r, const struct face *f, uint64_t lo)
{
    struct stat st;

    if (lo > 0 && look(r, f, name_of(r, lo).path, &st) && st.st_nlink - 1 < lo)
        return st.st_nlink - 1;
    return look(r, f, name_of(r, 0).path, &st) ? st.st_nlink - 1 : 0;
}

/* All names that were there before have to come, each once. */
static uint64_t see_list(struct round *r, const struct face *f, uint64_t lo)
{
    unsigned times[STEPS + 2] = { 0 };
    struct listing l;
    struct listed e;
    uint64_t v = lo;
    int error = face_opendir(f, A, &l);

    expect(r, f, "opendir", A, error, 0);
    if (error < 0)
        return lo;
    while ((error = face_readdir(&l, &e)) == 1) {
        unsigned long i = strtoul(e.name, NULL, 10);
        if (i <= STEPS && ++times[i] > 1)
            wrong(r, f, "name %lu comes %u times", i, times[i]);
    }
    expect(r, f, "readdir", A, error, 0);
    face_closedir(&l);
    for (uint64_t i = 1; i <= STEPS; i++) {
        if (i <= lo && times[i] == 0)
            wrong(r, f, "name %" PRIu64 " is not listed; %" PRIu64 " had returned", i, lo);
        if (times[i] > 0 && i > v)
            v = i;
    }
    return v;
}

static const struct counter counters[] = {
    { "content", false, make_content, see_content }, { "append", false, make_append, see_append },
    { "shrink", false, make_shrink, see_shrink },    { "mtime", false, make_mtime, see_mtime },
    { "mode", false, make_mode, see_mode },          { "xattr", false, make_xattr, see_xattr },
    { "create", true, make_create, see_create },     { "unlink", true, make_unlink, see_unlink },
    { "rename", true, make_rename, see_rename },     { "link", true, make_link, see_link },
    { "list", true, make_create, see_list },
};
enum { NCOUNTERS = sizeof(counters) / sizeof(counters[0]) };

static const struct counter *counter_of(const struct round *r)
{
    return &counters[r->n[OF]];
}

static void plan_counter(struct round *r)
{
    const char *name = strchr(r->kind->name, '-') + 1;

    while (strcmp(counter_of(r)->name, name) != 0)
        r->n[OF]++;
    r->n[MIXED] = draw(r, 2);
}

/* Value 0. */
static void setup_counter(struct round *r, const struct face *f)
{
    static const char zeros[STEPS * 1000];
    const struct counter *c = counter_of(r);

    team_of(r)->begun = team_of(r)->done = 0;
    if (c->dir) {
        expect(r, f, "mkdir", A, face_mkdir(f, A, 0755), 0);
        make_create(r, f, 0);
    } else {
        expect(r, f, "create", A, face_make(f, A, 0), 0);
    }
    if (c->make == make_shrink)
        expect(r, f, "write", A, face_write(f, A, zeros, sizeof(zeros), 0, false), sizeof(zeros));
    if (c->make == make_mtime)
        make_mtime(r, f, 0);
    for (uint64_t v = 1; c->make == make_unlink && v <= STEPS; v++)
        make_create(r, F_DIRECT, v);
    if (!c->dir)
        publish(r, f, A);
}

static void warm_counter(struct round *r, const struct face *f)
{
    const struct counter *c = counter_of(r);

    if (c->make == make_content)
        expect(r, f, "open", A, face_open(f, A, O_RDONLY, &r->held[side_of(f)][0]), 0);
    equal(r, f, "value", c->see(r, f, 0), 0);
}

/* ---- races --------------------------------------------------------------------------------------- */

/* The writer's sides: the same all the time, or by turns. */
static void act_race(struct round *r, const struct face *f)
{
    struct litmus_team *team = team_of(r);

    for (uint64_t v = 1; v <= STEPS && r->wrongs == 0; v++) {
        __atomic_store_n(&team->begun, v, __ATOMIC_SEQ_CST);
        counter_of(r)->make(r, r->n[MIXED] ? &run.faces[v % 2] : f, v);
        __atomic_store_n(&team->done, v, __ATOMIC_SEQ_CST);
    }
    __atomic_store_n(&team->race_over, r->number + 1, __ATOMIC_SEQ_CST);
}

static void see_once(struct round *r, const struct face *f)
{
    struct litmus_team *team = team_of(r);
    uint64_t lo = __atomic_load_n(&team->done, __ATOMIC_SEQ_CST);
    uint64_t v = counter_of(r)->see(r, f, lo);
    uint64_t hi = __atomic_load_n(&team->begun, __ATOMIC_SEQ_CST);

    if (v < lo)
        wrong(r, f, "sees %" PRIu64 ", though the call that made it %" PRIu64 " had returned", v, lo);
    if (v > hi)
        wrong(r, f, "sees %" PRIu64 ", though no more than %" PRIu64 " was begun", v, hi);
}

static void meanwhile_race(struct round *r)
{
    for (unsigned i = r->me; __atomic_load_n(&team_of(r)->race_over, __ATOMIC_SEQ_CST) <= r->number; i++) {
        if (r->wrongs == 0)
            see_once(r, &run.faces[i % 2]);
    }
}

static void check_race(struct round *r, const struct face *f)
{
    see_once(r, f);
}

/* ---- chains -------------------------------------------------------------------------------------- */

static const struct face *face_of(const struct round *r, uint64_t hop)
{
    return &run.faces[(hop + (unsigned)side_of(r->by)) % 2];
}

static void hop(struct round *r, uint64_t n)
{
    const struct face *f = face_of(r, n);

    equal(r, f, "value that came along", counter_of(r)->see(r, f, n), n);
    team_of(r)->begun = n + 1;
    counter_of(r)->make(r, f, n + 1);
    token_send(r, (r->me + 1) % run.actors, LITMUS_HOP, n + 1);
}

static void act_chain(struct round *r, const struct face *f)
{
    (void)f;
    hop(r, 0);
    for (unsigned lap = 1; lap <= LAPS; lap++) {
        uint64_t n = token_await(r, LITMUS_HOP);

        if (lap < LAPS)
            hop(r, n);
        else
            team_of(r)->done = n;
    }
}

static void meanwhile_chain(struct round *r)
{
    for (unsigned lap = 0; lap < LAPS; lap++)
        hop(r, token_await(r, LITMUS_HOP));
}

/* ---- one log for all ----------------------------------------------------------------------------- */

enum { LINES = 16, LINE_MAX_BYTES = 5000 };

/* Who, which, how long, and as many letters as that takes. */
static size_t line_of(const struct round *r, uint32_t who, unsigned i, char text[LINE_MAX_BYTES + 1])
{
    uint64_t chance = (r->n[2] + who * 31 + i * UINT64_C(2654435761)) >> 3;
    size_t n = 30 + (chance % 32 == 0 ? chance % (LINE_MAX_BYTES - 30) : chance % 300);
    int head = snprintf(text, LINE_MAX_BYTES + 1, "%u %u %zu ", who, i, n);

    memset(text + head, 'a' + (int)((who + i) % 26), n - (size_t)head - 1);
    text[n - 1] = '\n';
    text[n] = 0;
    return n;
}

/* By turns by both sides, or by one. */
static void append_all(struct round *r)
{
    char text[LINE_MAX_BYTES + 1];
    struct handle h[2] = { 0 };

    for (unsigned side = 0; side < 2; side++)
        expect(r, &run.faces[side], "open", A, face_open(&run.faces[side], A, O_WRONLY | O_APPEND, &h[side]),
               0);
    for (unsigned i = 0; i < LINES && r->wrongs == 0; i++) {
        unsigned side = r->n[MIXED] ? (r->me + i) % 2 : (r->me + r->n[3]) % 2;
        size_t n = line_of(r, r->me, i, text);

        expect(r, &run.faces[side], "append", A, face_append(&h[side], text, n), (long)n);
    }
    face_close(&h[0]);
    face_close(&h[1]);
    publish(r, F_MOUNT, A);
}

static void plan_log(struct round *r)
{
    r->n[MIXED] = draw(r, 2);
    r->n[2] = draw(r, 1u << 30);
    r->n[3] = draw(r, 2);
}

static void setup_log(struct round *r, const struct face *f)
{
    expect(r, f, "create", A, face_make(f, A, 0644), 0);
}

static void warm_log(struct round *r, const struct face *f)
{
    content(r, f, A, "", 0);
}

/* All begin when all have looked. */
static void act_log(struct round *r, const struct face *f)
{
    (void)f;
    for (unsigned i = 1; i < run.actors; i++)
        token_send(r, (r->me + i) % run.actors, LITMUS_HOP, 0);
    append_all(r);
    for (unsigned i = 1; i < run.actors; i++)
        token_await(r, LITMUS_HOP);
}

static void meanwhile_log(struct round *r)
{
    token_await(r, LITMUS_HOP);
    append_all(r);
    token_send(r, r->writer, LITMUS_HOP, 0);
}

/* Every line is one that comes next of somebody's. */
static void check_log(struct round *r, const struct face *f)
{
    unsigned at[LITMUS_ACTORS] = { 0 };
    char text[LINE_MAX_BYTES + 1];
    ssize_t n = face_read(f, A, r->before, LITMUS_BIG - 1, 0);

    expect(r, f, "read", A, n, MUST_WORK);
    if (n < 0)
        return;
    r->before[n] = 0;
    for (const char *p = r->before; *p != 0;) {
        uint32_t who = (uint32_t)strtoul(p, NULL, 10);
        size_t len = who < run.actors && at[who] < LINES ? line_of(r, who, at[who], text) : 0;

        if (len == 0 || strncmp(p, text, len) != 0) {
            wrong(r, f, "the log of %zd bytes: at %td is '%.20s...', which is none of the next lines", n,
                  p - r->before, p);
            return;
        }
        at[who]++;
        p += len;
    }
    for (uint32_t i = 0; i < run.actors; i++)
        equal(r, f, "lines of an actor", at[i], LINES);
}

/* ---- waiting ------------------------------------------------------------------------------------- */

enum { WAIT_MS = 5000 };
static struct {
    struct shmfs_file *file;
    uint64_t version;
} waiter;

static void plan_wait(struct round *r)
{
    r->n[OF] = draw(r, 5);
}

static void setup_wait(struct round *r, const struct face *f)
{
    expect(r, f, "mkdir", A, face_mkdir(f, A, 0755), 0);
    make_create(r, f, 1);
}

static void warm_wait(struct round *r, const struct face *f)
{
    struct stat st;

    look(r, f, name_of(r, 1).path, &st);
    if (f->fs == NULL)
        return;
    expect(r, f, "shmfs_open", A,
           shmfs_open(f->fs, r->n[OF] < 3 ? name_of(r, 1).path : A, O_RDONLY, 0, &waiter.file), 0);
    waiter.version = 0;
    if (waiter.file != NULL)
        expect(r, f, "shmfs_wait", "for the present", shmfs_wait(waiter.file, &waiter.version, 0), 0);
}

static void meanwhile_wait(struct round *r)
{
    if (waiter.file == NULL)
        return;
    expect(r, F_DIRECT, "shmfs_wait", A, shmfs_wait(waiter.file, &waiter.version, WAIT_MS), 0);
    shmfs_close(waiter.file);
    waiter.file = NULL;
}

static void act_wait(struct round *r, const struct face *f)
{
    struct name one = name_of(r, 1);
    const char *file = one.path;

    if (r->n[OF] == 0)
        expect(r, f, "write", file, face_write(f, file, "x", 1, 0, false), 1);
    else if (r->n[OF] == 1)
        expect(r, f, "chmod", file, face_chmod(f, file, 0600), 0);
    else if (r->n[OF] == 2)
        expect(r, f, "truncate", file, face_truncate(f, file, 100), 0);
    else if (r->n[OF] == 3)
        make_create(r, f, 2);
    else
        expect(r, f, "unlink", file, face_unlink(f, file), 0);
    if (r->n[OF] == 0)
        publish(r, f, file);
}

#define RACE(kind, often) \
    { \
        .name = kind, .plan = plan_counter, .setup = setup_counter, .warm = warm_counter, \
        .meanwhile = meanwhile_race, .act = act_race, .check = check_race, .weight = often, .paths = 1 \
    }
#define CHAIN(kind, often) \
    { \
        .name = kind, .plan = plan_counter, .setup = setup_counter, .warm = warm_counter, \
        .meanwhile = meanwhile_chain, .act = act_chain, .check = check_race, .weight = often, .paths = 1 \
    }
const struct litmus_kind litmus_races[] = {
    RACE("race-content", 2),
    RACE("race-append", 2),
    RACE("race-shrink", 2),
    RACE("race-mtime", 2),
    RACE("race-mode", 2),
    RACE("race-xattr", 1),
    RACE("race-create", 2),
    RACE("race-unlink", 2),
    RACE("race-rename", 2),
    RACE("race-link", 2),
    RACE("race-list", 2),
    CHAIN("chain-content", 3),
    CHAIN("chain-append", 3),
    CHAIN("chain-shrink", 3),
    CHAIN("chain-mode", 3),
    CHAIN("chain-xattr", 3),
    CHAIN("chain-create", 3),
    CHAIN("chain-rename", 3),
    CHAIN("chain-link", 3),
    { .name = "log",
      .plan = plan_log,
      .setup = setup_log,
      .warm = warm_log,
      .meanwhile = meanwhile_log,
      .act = act_log,
      .check = check_log,
      .weight = 3,
      .paths = 1 },
    { .name = "wait",
      .plan = plan_wait,
      .setup = setup_wait,
      .warm = warm_wait,
      .meanwhile = meanwhile_wait,
      .act = act_wait,
      .weight = 6 },
    { .name = NULL },
};
