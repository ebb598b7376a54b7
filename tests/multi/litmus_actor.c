/* SPDX-License-Identifier: MIT */
/* What each actor does: the rounds of its team, and telling what it saw. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "litmus.h"

enum {
    TOLD_MAX = 4,     /* stale answers of one kind and side that are printed, and looked at again */
    SHARED_TEAMS = 2, /* every so many-th team is in one directory with others */
};

uint64_t litmus_clock(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* splitmix64 */
static uint64_t next(uint64_t *rng)
{
    uint64_t z = *rng += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t draw(struct round *r, uint64_t n)
{
    return next(&r->rng) % n;
}

void doing(const struct round *r, const char *what)
{
    struct litmus_actor *a = &team_of(r)->actors[r->me];

    __atomic_store_n(&a->doing, what, __ATOMIC_RELAXED);
    __atomic_store_n(&a->round, r->number, __ATOMIC_RELAXED);
    __atomic_store_n(&a->kind, r->kind != NULL ? r->kind->name : "", __ATOMIC_RELAXED);
    __atomic_store_n(&a->beat, litmus_clock(), __ATOMIC_RELEASE);
}

static __attribute__((noreturn)) void die(const struct round *r, const char *what)
{
    fprintf(stderr, "FAIL team %u actor %u round %" PRIu64 " (%s): %s: %s\n", r->team, r->me, r->number,
            r->kind != NULL ? r->kind->name : "", what, strerror(errno));
    _exit(3);
}

/* ---- tokens -------------------------------------------------------------------------------------- */

void token_send(const struct round *r, uint32_t to, uint32_t phase, uint64_t value)
{
    struct litmus_token token = r->token;

    token.round = r->number;
    token.phase = phase;
    token.from = r->me;
    token.value = value;
    if (write(run.inbox[r->team][to][1], &token, sizeof(token)) != sizeof(token))
        die(r, "sending a token");
}

static void send_all(const struct round *r, uint32_t phase, uint64_t value)
{
    for (uint32_t i = 0; i < run.actors; i++) {
        if (i != r->me)
            token_send(r, i, phase, value);
    }
}

/* What comes is never ahead of its time: the writer goes on when all have answered. */
uint64_t token_await(struct round *r, uint32_t phase)
{
    const char *was = team_of(r)->actors[r->me].doing;

    doing(r, "waiting for a token");
    if (read(run.inbox[r->team][r->me][0], &r->token, sizeof(r->token)) != sizeof(r->token))
        die(r, "waiting for a token");
    if (r->token.phase != phase || r->token.round != r->number) {
        fprintf(stderr, "FAIL team %u actor %u: token %u of round %" PRIu64 " came, not %u of %" PRIu64 "\n",
                r->team, r->me, r->token.phase, r->token.round, phase, r->number);
        _exit(3);
    }
    doing(r, was);
    return r->token.value;
}

static void await_all(struct round *r, uint32_t phase)
{
    struct litmus_token mine = r->token;

    for (uint32_t i = 1; i < run.actors; i++)
        token_await(r, phase);
    r->token = mine;
}

/* ---- what is seen -------------------------------------------------------------------------------- */

void wrong(struct round *r, const struct face *f, const char *format, ...)
{
    size_t used = strlen(r->text);
    va_list ap;

    r->wrongs++;
    if (r->wrongs > 4)
        return;
    used += (size_t)snprintf(r->text + used, sizeof(r->text) - used, "    %s, by the %s side: ", r->when,
                             side_name(f));
    if (used >= sizeof(r->text) - 2)
        return;
    va_start(ap, format);
    vsnprintf(r->text + used, sizeof(r->text) - used - 1, format, ap);
    va_end(ap);
    strcat(r->text, "\n");
}

static const char *result(long r, char *buf, size_t n)
{
    if (r < 0)
        snprintf(buf, n, "%s", strerror((int)-r));
    else
        snprintf(buf, n, "%ld", r);
    return buf;
}

void expect(struct round *r, const struct face *f, const char *what, const char *path, long got, long want)
{
    char a[80], b[80];

    if (got == want || (want == MUST_WORK && got >= 0))
        return;
    wrong(r, f, "%s %s: %s, expected %s", what, path, result(got, a, sizeof(a)),
          want == MUST_WORK ? "success" : result(want, b, sizeof(b)));
}

void equal(struct round *r, const struct face *f, const char *what, uint64_t seen, uint64_t expected)
{
    if (seen != expected)
        wrong(r, f, "%s: %" PRIu64 " (%#" PRIx64 "), expected %" PRIu64 " (%#" PRIx64 ")", what, seen, seen,
              expected, expected);
}

bool look(struct round *r, const struct face *f, const char *path, struct stat *ret)
{
    int error = face_lstat(f, path, ret);

    expect(r, f, "lstat", path, error, 0);
    return error == 0;
}

void gone(struct round *r, const struct face *f, const char *path)
{
    struct stat st;

    expect(r, f, "lstat", path, face_lstat(f, path, &st), -ENOENT);
}

void pattern(char *p, size_t n, uint64_t tag)
{
    uint64_t state = tag;

    for (size_t i = 0; i < n; i += 8) {
        uint64_t word = next(&state) | UINT64_C(0x0101010101010101); /* no zeros: those are of holes */
        memcpy(p + i, &word, n - i < 8 ? n - i : 8);
    }
}

void compare(struct round *r, const struct face *f, const char *what, const char *seen, size_t seen_size,
             const char *want, size_t n)
{
    size_t at = 0, bad = 0;

    if (seen_size != n)
        wrong(r, f, "%s: %zu bytes, expected %zu", what, seen_size, n);
    if (seen_size < n)
        n = seen_size;
    if (memcmp(seen, want, n) == 0)
        return;
    while (seen[at] == want[at])
        at++;
    for (size_t i = at; i < n; i++)
        bad += seen[i] != want[i];
    wrong(r, f, "%s: byte %zu is %#x, expected %#x; %zu of %zu bytes differ%s", what, at, (uint8_t)seen[at],
          (uint8_t)want[at], bad, n,
          at < r->before_size && seen[at] == r->before[at] ? " (the old one)" : "");
}

void content_of(struct round *r, const struct face *f, const struct handle *h, const char *want, size_t n)
{
    static char seen[LITMUS_BIG + 1];
    ssize_t got = face_pread(h, seen, n + 1, 0);

    if (got < 0)
        expect(r, f, "pread", "", got, MUST_WORK);
    else
        compare(r, f, "content", seen, (size_t)got, want, n);
}

void content(struct round *r, const struct face *f, const char *path, const char *want, size_t n)
{
    struct handle h;
    int error = face_open(f, path, O_RDONLY, &h);

    expect(r, f, "open", path, error, 0);
    if (error < 0)
        return;
    content_of(r, f, &h, want, n);
    face_close(&h);
}

void publish(struct round *r, const struct face *f, const char *path)
{
    if (strcmp(run.cache, "writeback") == 0)
        expect(r, f, "fsync", path, face_fsync(f, path), 0);
}

/* ---- the same from both sides -------------------------------------------------------------------- */

static struct litmus_stat stat_by(const struct face *f, const char *path)
{
    struct litmus_stat ret = { 0 };
    struct stat st;

    ret.error = face_lstat(f, path, &st);
    if (ret.error == 0) {
        ret.mode = st.st_mode;
        ret.uid = st.st_uid;
        ret.gid = st.st_gid;
        ret.ino = st.st_ino;
        ret.nlink = st.st_nlink;
        ret.size = (uint64_t)st.st_size;
        ret.blocks = (uint64_t)st.st_blocks;
        ret.mtime = st.st_mtim;
        ret.ctime = st.st_ctim;
    }
    return ret;
}

static void same_time(struct round *r, const struct face *f, const char *what, const char *path,
                      const struct timespec *a, const struct timespec *b)
{
    if (a->tv_sec != b->tv_sec || a->tv_nsec != b->tv_nsec)
        wrong(r, f, "%s of %s: %jd.%09ld, expected %jd.%09ld", what, path, (intmax_t)a->tv_sec, a->tv_nsec,
              (intmax_t)b->tv_sec, b->tv_nsec);
}

static void same_stat(struct round *r, const struct face *f, const char *path, const struct litmus_stat *want)
{
    struct litmus_stat st = stat_by(f, path);
    char text[LITMUS_PATH + 20];
#define SAME(field) \
    do { \
        snprintf(text, sizeof(text), #field " of %s", path); \
        equal(r, f, text, st.field, want->field); \
    } while (0)

    expect(r, f, "lstat", path, st.error, want->error);
    if (st.error != 0 || want->error != 0)
        return;
    SAME(ino);
    SAME(mode);
    SAME(nlink);
    SAME(uid);
    SAME(gid);
    SAME(size);
    SAME(blocks);
    same_time(r, f, "mtime", path, &st.mtime, &want->mtime);
    same_time(r, f, "ctime", path, &st.ctime, &want->ctime);
#undef SAME
}

/* The kind's paths, and their directory if nobody else changes that. */
static bool is_compared(const struct round *r, uint32_t i)
{
    return i < r->kind->paths || (i == LITMUS_PATHS && r->private && r->kind->paths > 0);
}

static void take_stats(struct round *r)
{
    for (uint32_t i = 0; i <= LITMUS_PATHS; i++) {
        if (is_compared(r, i))
            r->token.st[i] = stat_by(F_DIRECT, r->path[i]);
    }
}

static void look_once(struct round *r, const struct face *f)
{
    if (r->kind->check != NULL)
        r->kind->check(r, f);
    for (uint32_t i = 0; i <= LITMUS_PATHS; i++) {
        if (is_compared(r, i))
            same_stat(r, f, r->path[i], &r->token.st[i]);
    }
}

/* ---- telling ------------------------------------------------------------------------------------- */

static void nap(long ms)
{
    struct timespec t = { .tv_nsec = ms * 1000000 };

    nanosleep(&t, NULL);
}

/* Looks again, to say whether time heals it. 0: after 1 ms; 1: after 100 ms; 2: not. */
static unsigned look_again(struct round *r, const struct face *f)
{
    static const long waits[] = { 1, 100 };
    char text[sizeof(r->text)];
    unsigned i;

    memcpy(text, r->text, sizeof(text));
    for (i = 0; i < 2; i++) {
        r->wrongs = 0;
        r->text[0] = 0;
        nap(waits[i]);
        look_once(r, f);
        if (r->wrongs == 0)
            break;
    }
    memcpy(r->text, text, sizeof(text));
    return i;
}

static void tell(const struct round *r, const char *how)
{
    char text[2500];
    int n = snprintf(text, sizeof(text),
                     "STALE %s: team %u round %" PRIu64
                     ", writer %u by the %s side, seen by actor %u%s in %s; %s\n%s",
                     r->kind->name, r->team, r->number, r->writer, side_name(r->by), r->me,
                     r->me == r->writer ? " (the writer)" : "", r->dir, how, r->text);

    if (n > (int)sizeof(text) - 1)
        n = (int)sizeof(text) - 1;
    n = (int)write(STDERR_FILENO, text, (size_t)n);
    (void)n;
}

static struct litmus_count *count_of(const struct round *r)
{
    unsigned i = 0;

    while (run.all[i] != r->kind)
        i++;
    return &run.board->counts[i][side_of(r->by)];
}

/* Counts what is wrong, and forgets it. F: what to look by again; or NULL. */
static void settle(struct round *r, const struct face *f)
{
    static const char *const hows[] = { "right after 1 ms", "right after 100 ms", "still so after 101 ms" };
    struct litmus_count *count = count_of(r);

    if (r->wrongs == 0)
        return;
    __atomic_add_fetch(&count->stale, 1, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&count->told, 1, __ATOMIC_RELAXED) <= TOLD_MAX) {
        const char *how = "not looked at again";
        if (f != NULL && !r->kind->once) {
            unsigned i = look_again(r, f);
            how = hows[i];
            __atomic_add_fetch(&run.board->healed[i], 1, __ATOMIC_RELAXED);
        }
        tell(r, how);
    }
    r->wrongs = 0;
    r->text[0] = 0;
}

/* ---- rounds -------------------------------------------------------------------------------------- */

static const struct litmus_kind *draw_kind(struct round *r)
{
    uint64_t n = draw(r, run.total_weight);
    unsigned i = 0;

    while (n >= run.kinds[i]->weight)
        n -= run.kinds[i++]->weight;
    return run.kinds[i];
}

/* Names come back after a while: what was known of the one before must not be taken for the new one. */
static void plan(struct round *r)
{
    r->rng = run.seed * UINT64_C(0xd6e8feb86659fd93) + r->team * UINT64_C(1000003) + r->number;
    next(&r->rng);
    r->kind = draw_kind(r);
    r->writer = (uint32_t)(r->number % run.actors);
    unsigned side = (unsigned)draw(r, 2);
    if (r->kind->only != 0)
        side = r->kind->only == ONLY_DIRECT;
    r->by = &run.faces[side];
    r->private = r->kind->lonely || r->team % SHARED_TEAMS == 0;
    if (r->private)
        snprintf(r->dir, sizeof(r->dir), "/t%u", r->team);
    else
        snprintf(r->dir, sizeof(r->dir), "/all");
    uint64_t name = draw(r, 24);
    for (unsigned i = 0; i < LITMUS_PATHS; i++)
        snprintf(r->path[i], sizeof(r->path[i]), "%s/%u%c%u", r->dir, r->team, 'a' + i,
                 (unsigned)(name + i) % 24);
    snprintf(r->path[LITMUS_PATHS], LITMUS_PATH, "%s", r->dir);
    memset(r->n, 0, sizeof(r->n));
    memset(r->seen, 0, sizeof(r->seen));
    memset(&r->token, 0, sizeof(r->token));
    r->before_size = r->after_size = 0;
    r->wrongs = 0;
    r->text[0] = 0;
    if (r->kind->plan != NULL)
        r->kind->plan(r);
}

static int remove_by(const struct face *f, const char *path, const struct stat *st)
{
    return S_ISDIR(st->st_mode) ? face_rmdir(f, path) : face_unlink(f, path);
}

/* Directly, with what is below: whatever the mount thinks of it. */
static void wipe(const char *path)
{
    struct listing l;
    struct listed e;
    struct stat st;
    char below[400];

    if (face_lstat(F_DIRECT, path, &st) < 0)
        return;
    if (S_ISDIR(st.st_mode) && face_opendir(F_DIRECT, path, &l) == 0) {
        while (face_readdir(&l, &e) == 1) {
            snprintf(below, sizeof(below), "%.100s/%s", path, e.name);
            wipe(below);
        }
        face_closedir(&l);
    }
    remove_by(F_DIRECT, path, &st);
}

/* By the writer, when all have looked. A name that is there can be removed by either side. */
static void clean(struct round *r)
{
    const struct face *f = &run.faces[next(&r->rng) % 2];
    struct stat st;

    r->when = "cleaning";
    for (unsigned i = 0; i < LITMUS_PATHS; i++) {
        if (face_lstat(F_DIRECT, r->path[i], &st) < 0)
            continue;
        int error = remove_by(f, r->path[i], &st);
        if (error != -ENOTEMPTY)
            expect(r, f, "removing", r->path[i], error, 0);
        wipe(r->path[i]);
    }
    settle(r, NULL);
}

static void write_round(struct round *r)
{
    const struct litmus_kind *k = r->kind;
    const struct face *setter = &run.faces[next(&r->rng) % 2];
    bool over = r->number >= run.rounds || litmus_clock() >= run.until;

    doing(r, r->when = "setup");
    if (!over && k->setup != NULL)
        k->setup(r, setter);
    settle(r, NULL);
    send_all(r, LITMUS_READY, over);
    if (over)
        exit(0);
    await_all(r, LITMUS_WARM);
    doing(r, r->when = "act");
    k->act(r, r->by);
    take_stats(r);
    send_all(r, LITMUS_ACTED, 0);
    settle(r, NULL);
    doing(r, r->when = "check");
    if (!k->no_self) {
        look_once(r, r->by);
        settle(r, r->by);
    }
    await_all(r, LITMUS_CHECKED);
    doing(r, "cleaning");
    clean(r);
    __atomic_add_fetch(&count_of(r)->rounds, 1, __ATOMIC_RELAXED);
    token_send(r, (r->writer + 1) % run.actors, LITMUS_NEXT, 0);
}

static void let_go(struct round *r)
{
    for (unsigned i = 0; i < 2; i++) {
        if (r->mapped[i] != NULL)
            face_unmap(&run.faces[i], r->mapped[i], r->mapped_size);
        r->mapped[i] = NULL;
        face_close(&r->held[i][0]);
        face_close(&r->held[i][1]);
    }
}

/* Readers begin with different sides: what one has seen must not help the other. */
static void read_round(struct round *r)
{
    const struct litmus_kind *k = r->kind;
    unsigned first = (r->me + r->number / run.actors) % 2;

    if (token_await(r, LITMUS_READY) != 0)
        exit(0);
    doing(r, r->when = "warming");
    for (unsigned i = 0; i < 2; i++) {
        if (k->warm != NULL)
            k->warm(r, &run.faces[(first + i) % 2]);
    }
    settle(r, NULL);
    token_send(r, r->writer, LITMUS_WARM, 0);
    doing(r, r->when = "meanwhile");
    if (k->meanwhile != NULL)
        k->meanwhile(r);
    settle(r, NULL);
    token_await(r, LITMUS_ACTED);
    doing(r, r->when = "check");
    for (unsigned i = 0; i < 2; i++) {
        const struct face *f = &run.faces[(first + i) % 2];

        look_once(r, f);
        settle(r, f);
    }
    let_go(r);
    token_send(r, r->writer, LITMUS_CHECKED, 0);
    if (r->me == (r->writer + 1) % run.actors)
        token_await(r, LITMUS_NEXT);
}

static struct shmfs *attach(const struct round *r)
{
    struct shmfs *fs;

    if (shmfs_attach(run.region, 0, &fs) < 0) {
        fprintf(stderr, "FAIL team %u actor %u: %s\n", r->team, r->me, shmfs_attach_error());
        _exit(3);
    }
    shmfs_umask(fs, 0);
    return fs;
}

static struct shmfs *attach_as_nobody(const struct round *r)
{
    struct shmfs *fs = attach(r);

    if (setegid(65534) < 0 || seteuid(65534) < 0)
        die(r, "becoming nobody");
    if (shmfs_setcreds(fs) < 0 || seteuid(0) < 0 || setegid(0) < 0)
        die(r, "becoming root again");
    return fs;
}

void litmus_live(uint32_t team, uint32_t id)
{
    static struct round r;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    r.team = team;
    r.me = id;
    doing(&r, "attaching");
    r.before = malloc(LITMUS_BIG);
    r.after = malloc(LITMUS_BIG);
    if (r.before == NULL || r.after == NULL)
        die(&r, "memory");
    run.faces[1].fs = attach(&r);
    if (setgroups(0, NULL) < 0)
        die(&r, "leaving the groups");
    run.nobody = attach_as_nobody(&r);
    for (;; r.number++) {
        plan(&r);
        if (r.me != r.writer) {
            read_round(&r);
            continue;
        }
        write_round(&r);
    }
}
