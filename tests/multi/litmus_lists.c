/* SPDX-License-Identifier: MIT */
/*
 * Listings of a directory A: of names s0, s1, ... that are there all the while, and of some v0, v1, ... that come and
 * go. The readers have listed it, and are half-way through another listing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "litmus.h"

#define A r->path[0]

enum { STABLE, WAS, IS, RENAMES, NV = 16, NS = 400 };

/* What of a listing has come: how often each. */
struct tally {
    unsigned stable[NS], volatiles[NV], strange;
};
static struct {
    struct listing listing;
    struct tally tally;
} half[2]; /* by side; of this round's reader */

static bool is_set(uint64_t mask, unsigned i)
{
    return (mask >> i & 1) != 0;
}

static void name_of(const struct round *r, char which, unsigned i, char path[2 * LITMUS_PATH])
{
    /* Lengths differ, so that entries end anywhere in a page. */
    snprintf(path, 2 * LITMUS_PATH, "%s/%c%u%.*s", A, which, i, (int)(i * 7 % 41),
             "-----------------------------------------");
}

static void count(struct tally *t, const struct listed *e)
{
    unsigned long i = strtoul(e->name + 1, NULL, 10);

    if (e->name[0] == 's' && i < NS)
        t->stable[i]++;
    else if (e->name[0] == 'v' && i < NV)
        t->volatiles[i]++;
    else
        t->strange++;
}

/* Goes on for so many names at most. */
static void list(struct round *r, const struct face *f, struct listing *l, unsigned limit, struct tally *t)
{
    struct listed e;
    int error = 1;

    for (unsigned i = 0; i < limit && (error = face_readdir(l, &e)) == 1; i++)
        count(t, &e);
    if (error < 0)
        expect(r, f, "readdir", A, error, 0);
}

/* Exactly these. */
static void compare_tally(struct round *r, const struct face *f, const char *which, const struct tally *t,
                          uint64_t mask)
{
    for (unsigned i = 0; i < NS; i++) {
        if (t->stable[i] != (i < r->n[STABLE]))
            wrong(r, f, "%s: s%u comes %u times", which, i, t->stable[i]);
    }
    for (unsigned i = 0; i < NV; i++) {
        if (t->volatiles[i] != is_set(mask, i))
            wrong(r, f, "%s: v%u comes %u times, expected %d", which, i, t->volatiles[i], is_set(mask, i));
    }
    if (t->strange != 0)
        wrong(r, f, "%s: names that never were", which);
}

/* What came and went meanwhile may be there or not, but not twice. */
static void compare_half(struct round *r, const struct face *f, const struct tally *t)
{
    for (unsigned i = 0; i < NS; i++) {
        if (t->stable[i] != (i < r->n[STABLE]))
            wrong(r, f, "listing over the change: s%u comes %u times", i, t->stable[i]);
    }
    for (unsigned i = 0; i < NV; i++) {
        unsigned least = is_set(r->n[WAS] & r->n[IS], i), most = is_set(r->n[WAS] | r->n[IS], i);

        if (t->volatiles[i] < least || t->volatiles[i] > most)
            wrong(r, f, "listing over the change: v%u comes %u times, expected %u to %u", i, t->volatiles[i],
                  least, most);
    }
}

static void list_anew(struct round *r, const struct face *f, const char *which, uint64_t mask)
{
    struct tally t = { 0 };
    struct listing l;
    int error = face_opendir(f, A, &l);

    expect(r, f, "opendir", A, error, 0);
    if (error < 0)
        return;
    list(r, f, &l, UINT32_MAX, &t);
    face_closedir(&l);
    compare_tally(r, f, which, &t, mask);
}

/* As ls -l does: each entry's inode and type are those that stat tells. */
static void list_with_stat(struct round *r, const struct face *f)
{
    char path[2 * LITMUS_PATH];
    struct listing l;
    struct listed e;
    struct stat st;
    int error = face_opendir(f, A, &l);

    if (error < 0)
        return;
    for (unsigned i = 0; face_readdir(&l, &e) == 1; i++) {
        if (e.name[0] == 's' && i % 8 != 0)
            continue;
        snprintf(path, sizeof(path), "%s/%.60s", A, e.name);
        error = face_lstat(f, path, &st);
        expect(r, f, "lstat of what is listed", path, error, 0);
        if (error == 0) {
            equal(r, f, "inode that is listed", e.ino, st.st_ino);
            equal(r, f, "type that is listed", e.type, S_ISDIR(st.st_mode) ? 4 : 8);
        }
    }
    face_closedir(&l);
    for (unsigned i = 0; i < NV; i++) {
        name_of(r, 'v', i, path);
        error = face_lstat(f, path, &st);
        expect(r, f, "lstat", path, error, is_set(r->n[IS], i) ? 0 : -ENOENT);
    }
}

/* ---- the kind ------------------------------------------------------------------------------------ */

static void plan_list(struct round *r)
{
    r->n[STABLE] = draw(r, 4) == 0 ? 40 + draw(r, NS - 40) : draw(r, 40);
    r->n[WAS] = draw(r, 1 << NV);
    r->n[IS] = draw(r, 2) ? draw(r, 1 << NV) : r->n[WAS] ^ UINT64_C(1) << draw(r, NV);
    r->n[RENAMES] = draw(r, 2);
}

static void make(struct round *r, const struct face *f, char which, unsigned i)
{
    char path[2 * LITMUS_PATH];

    name_of(r, which, i, path);
    expect(r, f, "create", path, face_make(f, path, 0644), 0);
}

/* Many names are made directly: that is so much faster. */
static void setup_list(struct round *r, const struct face *f)
{
    expect(r, f, "mkdir", A, face_mkdir(f, A, 0755), 0);
    for (unsigned i = 0; i < r->n[STABLE]; i++)
        make(r, r->n[STABLE] > 8 ? F_DIRECT : f, 's', i);
    for (unsigned i = 0; i < NV; i++) {
        if (is_set(r->n[WAS], i))
            make(r, f, 'v', i);
    }
}

static void warm_list(struct round *r, const struct face *f)
{
    struct listing *l = &half[side_of(f)].listing;
    struct tally *t = &half[side_of(f)].tally;

    list_anew(r, f, "listing", r->n[WAS]);
    list_anew(r, f, "listing again", r->n[WAS]);
    memset(t, 0, sizeof(*t));
    int error = face_opendir(f, A, l);
    expect(r, f, "opendir", A, error, 0);
    if (error == 0)
        list(r, f, l, (unsigned)(r->n[STABLE] / 2), t);
}

static void rename_one(struct round *r, const struct face *f, unsigned from, unsigned to)
{
    char a[2 * LITMUS_PATH], b[2 * LITMUS_PATH];

    name_of(r, 'v', from, a);
    name_of(r, 'v', to, b);
    expect(r, f, "rename", a, face_rename(f, a, b, 0), 0);
}

static void act_list(struct round *r, const struct face *f)
{
    uint64_t go = r->n[WAS] & ~r->n[IS], come = r->n[IS] & ~r->n[WAS];
    char path[2 * LITMUS_PATH];

    while (r->n[RENAMES] && go != 0 && come != 0) {
        rename_one(r, f, (unsigned)__builtin_ctzll(go), (unsigned)__builtin_ctzll(come));
        go &= go - 1;
        come &= come - 1;
    }
    for (unsigned i = 0; i < NV; i++) {
        name_of(r, 'v', i, path);
        if (is_set(go, i))
            expect(r, f, "unlink", path, face_unlink(f, path), 0);
        if (is_set(come, i))
            expect(r, f, "create", path, face_make(f, path, 0644), 0);
    }
}

static void check_list(struct round *r, const struct face *f)
{
    struct listing *l = &half[side_of(f)].listing;
    struct tally *t = &half[side_of(f)].tally;

    if (r->me != r->writer && (l->direct != NULL || l->fd > 0)) {
        list(r, f, l, UINT32_MAX, t);
        compare_half(r, f, t);
        face_rewind(l);
        memset(t, 0, sizeof(*t));
        list(r, f, l, UINT32_MAX, t);
        compare_tally(r, f, "from the start again", t, r->n[IS]);
        face_closedir(l);
    }
    list_anew(r, f, "listing", r->n[IS]);
    list_with_stat(r, f);
}

const struct litmus_kind litmus_lists[] = {
    { .name = "list",
      .plan = plan_list,
      .setup = setup_list,
      .warm = warm_list,
      .act = act_list,
      .check = check_list,
      .weight = 6,
      .paths = 1 },
    { .name = NULL },
};
