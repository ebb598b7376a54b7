/* SPDX-License-Identifier: MIT */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "power_disk.h"
#include "storage.h"

enum { SECTOR = 512, ALL_BELOW = 12, SAMPLES = 256, TORN = 64, PENDING_MAX = 4096 };
enum kind { WRITE, SYNC, RENAME, SYNC_NAME, TOLD, RESIZE };

struct step {
    enum kind kind;
    int file;
    uint64_t off; /* TOLD: the state */
    uint64_t n;
    uint8_t *data;
    bool needless;
};

static bool needless;
static struct step *steps;
static int nsteps, room, current = -1;

static void add(struct step s)
{
    if (nsteps == room) {
        room = room ? room * 2 : 256;
        steps = realloc(steps, (size_t)room * sizeof(*steps));
        if (!steps)
            err(1, "steps");
    }
    steps[nsteps++] = s;
}

static int recorder(enum storage_step what, const char *path, uint64_t off, const void *buf, uint64_t n)
{
    static const enum kind kinds[] = { [STORAGE_WRITE] = WRITE,
                                       [STORAGE_RESIZE] = RESIZE,
                                       [STORAGE_SYNC] = SYNC,
                                       [STORAGE_RENAME] = RENAME,
                                       [STORAGE_SYNC_NAME] = SYNC_NAME };
    struct step s = { .file = current, .off = off, .n = n, .needless = needless };

    (void)path;
    if (what == STORAGE_RESERVE) /* zeros, which are there anyway */
        return 0;
    s.kind = kinds[what];
    if (buf) {
        s.data = malloc(n);
        if (!s.data)
            err(1, "step");
        memcpy(s.data, buf, n);
    }
    add(s);
    return 0;
}

void disk_record(void)
{
    storage_hook = recorder;
}

void disk_new_file(void)
{
    current++;
}

void disk_told(unsigned state)
{
    add((struct step){ .kind = TOLD, .off = state });
}

void disk_end(void)
{
    storage_hook = NULL;
}

int disk_steps(void)
{
    return nsteps;
}

void disk_needless(bool on)
{
    needless = on;
}

bool disk_is_needed(int i)
{
    return (steps[i].kind == SYNC || steps[i].kind == SYNC_NAME) && !steps[i].needless;
}

/* ---- cuts --------------------------------------------------------------------------------------- */

struct cuts {
    const char *path;
    int fds[DISK_FILES]; /* each with what is durable, between two states */
    int pending[DISK_FILES][PENDING_MAX];
    int npending[DISK_FILES];
    int named, renamed; /* file that the name leads to durably, and that it may lead to; -1: none */
    unsigned told;
    uint64_t random, states;
    int (*check)(const char *path, unsigned told);
};

static uint64_t draw(struct cuts *c)
{
    c->random ^= c->random << 13;
    c->random ^= c->random >> 7;
    c->random ^= c->random << 17;
    return c->random;
}

static void put(int fd, const struct step *s, uint64_t from, uint64_t n)
{
    if (pwrite(fd, s->data + from, n, (off_t)(s->off + from)) != (ssize_t)n)
        err(1, "pwrite");
}

static void apply(int fd, const struct step *s)
{
    if (s->kind == RESIZE) {
        if (ftruncate(fd, (off_t)s->off) < 0)
            err(1, "ftruncate");
    } else {
        put(fd, s, 0, s->n);
    }
}

/* Any subset of the sectors. */
static void apply_torn(struct cuts *c, int fd, const struct step *s)
{
    for (uint64_t at = 0; at < s->n; at += SECTOR) {
        if (draw(c) & 1)
            put(fd, s, at, s->n - at < SECTOR ? s->n - at : SECTOR);
    }
}

static char *name_of(const struct cuts *c, int file)
{
    static char name[4096];

    snprintf(name, sizeof(name), "%s.%d", c->path, file);
    return name;
}

static int copy_of(struct cuts *c, int file)
{
    static uint8_t buf[1 << 20];
    int fd = open(c->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    off_t off = 0, end = lseek(c->fds[file], 0, SEEK_END);

    if (fd < 0 || ftruncate(fd, end) < 0)
        err(1, "%s", c->path);
    while ((off = lseek(c->fds[file], off, SEEK_DATA)) >= 0) {
        ssize_t n = pread(c->fds[file], buf, sizeof(buf), off);

        if (n < 0 || pwrite(fd, buf, (size_t)n, off) != n)
            err(1, "%s", c->path);
        off += n;
    }
    return fd;
}

static int one_state(struct cuts *c, int file, uint64_t subset, bool sampled, bool torn)
{
    int fd = copy_of(c, file);

    for (int i = 0; i < c->npending[file]; i++) {
        const struct step *s = &steps[c->pending[file][i]];
        bool landed = sampled ? draw(c) & 1 : subset >> i & 1;

        if (landed && torn && s->kind == WRITE)
            apply_torn(c, fd, s);
        else if (landed)
            apply(fd, s);
    }
    close(fd);
    c->states++;
    return c->check(c->path, c->told);
}

static int states_of(struct cuts *c, int file)
{
    int n, r = 0;

    if (file < 0) {
        c->states++;
        return c->check(NULL, c->told);
    }
    n = c->npending[file];
    if (n <= ALL_BELOW) {
        for (uint64_t subset = 0; subset < UINT64_C(1) << n && r == 0; subset++)
            r = one_state(c, file, subset, false, false);
    } else {
        for (int i = 0; i < SAMPLES && r == 0; i++)
            r = one_state(c, file, 0, true, false);
    }
    for (int i = 0; i < TORN && r == 0 && n > 0; i++)
        r = one_state(c, file, ~UINT64_C(0), i % 2, true);
    return r;
}

/* Every state that this moment may leave. */
static int cut(struct cuts *c)
{
    int r = states_of(c, c->named);

    return r == 0 && c->renamed != c->named ? states_of(c, c->renamed) : r;
}

static void sync_file(struct cuts *c, int file)
{
    for (int i = 0; i < c->npending[file]; i++)
        apply(c->fds[file], &steps[c->pending[file][i]]);
    c->npending[file] = 0;
}

/*
 * What is left before the sync that is left out is as it would be with it. What is pending before a sync has all earlier subsets in it, so cuts are made there, and around names.
 */
static int go_through(struct cuts *c, int without)
{
    int r = 0;

    for (int i = 0; i < nsteps && r == 0; i++) {
        const struct step *s = &steps[i];

        if (s->kind != WRITE && s->kind != RESIZE && i > without)
            r = cut(c);
        if (r != 0 || i == without)
            continue;
        switch (s->kind) {
        case WRITE:
        case RESIZE:
            if (c->npending[s->file] == PENDING_MAX)
                errx(1, "too many writes without a sync");
            c->pending[s->file][c->npending[s->file]++] = i;
            break;
        case SYNC:
            sync_file(c, s->file);
            break;
        case RENAME:
            c->renamed = s->file;
            break;
        case SYNC_NAME:
            c->named = c->renamed;
            break;
        case TOLD:
            c->told = (unsigned)s->off;
        }
    }
    return r == 0 ? cut(c) : r;
}

int disk_cuts(const char *path, int without, uint64_t seed, int (*check)(const char *path, unsigned told),
              uint64_t *ret_states)
{
    struct cuts *c = calloc(1, sizeof(*c));
    int r;

    if (!c)
        err(1, "cuts");
    c->path = path;
    c->named = c->renamed = -1;
    c->random = seed | 1;
    c->check = check;
    for (int i = 0; i <= current; i++) {
        c->fds[i] = open(name_of(c, i), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (c->fds[i] < 0)
            err(1, "%s", name_of(c, i));
        unlink(name_of(c, i));
    }
    r = go_through(c, without);
    for (int i = 0; i <= current; i++)
        close(c->fds[i]);
    unlink(path);
    *ret_states = c->states;
    free(c);
    return r != 0;
}
