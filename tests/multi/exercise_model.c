/* SPDX-License-Identifier: MIT */
/* What must be in the file, and whether it is. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "exercise.h"

enum { NEAR = 2 * PAGE, WHOLE_EVERY = 8, BOTH_EVERY = 4 };

static void changed(struct exercise *x, size_t from, size_t to)
{
    x->from = from < x->from ? from : x->from;
    x->to = to > x->to ? to : x->to;
}

void model_resize(struct exercise *x, size_t size)
{
    if (size < x->size)
        memset(x->model + size, 0, x->size - size);
    changed(x, size < x->size ? size : x->size, size);
    x->size = size;
}

void model_write(struct exercise *x, size_t off, const char *src, size_t n)
{
    if (off + n > x->size)
        model_resize(x, off + n);
    memcpy(x->model + off, src, n);
    changed(x, off, off + n);
}

void model_zero(struct exercise *x, size_t from, size_t to)
{
    to = to < x->size ? to : x->size;
    if (from >= to)
        return;
    memset(x->model + from, 0, to - from);
    changed(x, from, to);
}

/* ---- looking --------------------------------------------------------------------------------------- */

static int order(struct timespec a, struct timespec b)
{
    if (a.tv_sec != b.tv_sec)
        return a.tv_sec < b.tv_sec ? -1 : 1;
    return a.tv_nsec < b.tv_nsec ? -1 : a.tv_nsec > b.tv_nsec;
}

/*
 * The region's clock is that of CLOCK_REALTIME, and each change has a time of its own. Times that the kernel keeps are
 * those of its last tick: two changes may have the same.
 */
static void check_time(struct exercise *x, const struct side *s, const char *which, struct timespec was,
                       struct timespec is)
{
    bool ticks = x->way == WAY_TMPFS || x->cache == CACHE_WRITEBACK;
    int moved = order(is, was);

    if (moved < 0)
        differs(x, "%s by the %s side went back, from %jd.%09ld to %jd.%09ld", which, s->name,
                (intmax_t)was.tv_sec, was.tv_nsec, (intmax_t)is.tv_sec, is.tv_nsec);
    else if (x->times == TIMES_STAY && moved != 0)
        differs(x, "%s by the %s side moved, and nothing was changed", which, s->name);
    else if (x->times == TIMES_MOVE && moved == 0 && !ticks)
        differs(x, "%s by the %s side did not move", which, s->name);
}

static void check_stat(struct exercise *x, const struct side *s, struct stat *ret)
{
    if (!gave(x, "fstat", face_fstat(&s->file, ret), 0))
        return;
    if ((uint64_t)ret->st_size != x->size)
        differs(x, "size by the %s side is %jd, expected %zu", s->name, (intmax_t)ret->st_size, x->size);
    check_time(x, s, "mtime", x->mtime, ret->st_mtim);
    check_time(x, s, "ctime", x->ctime, ret->st_ctim);
}

static void check_bytes(struct exercise *x, const struct side *s, size_t from, size_t to)
{
    ssize_t want = (ssize_t)((to < x->size ? to : x->size) - from);
    ssize_t n = face_pread(&s->file, x->scratch, to - from, (off_t)from);

    if (gave(x, "pread to check", n, want))
        same(x, s, "content", x->scratch, from, (size_t)n);
}

/* Not behind the end, where other rules hold; of the mount, only as far as its kernel knows the end (fstat came before). */
static void check_held(struct exercise *x, const struct side *s)
{
    if (s->held == NULL || s->held_off >= x->size)
        return;
    size_t n = x->size - s->held_off;
    same(x, s, "what is mapped", s->held, s->held_off, n < s->held_len ? n : s->held_len);
}

static void check_by(struct exercise *x, const struct side *s, struct stat *ret, bool whole)
{
    size_t from = x->from > NEAR ? x->from - NEAR : 0;
    size_t to = x->to + NEAR < LIMIT ? x->to + NEAR : LIMIT;

    check_stat(x, s, ret);
    check_held(x, s);
    if (whole || from > x->size)
        check_bytes(x, s, 0, LIMIT + 1); /* and no more */
    else
        check_bytes(x, s, from, to);
}

static void check_agree(struct exercise *x, const struct stat *a, const struct stat *b)
{
    if (order(a->st_mtim, b->st_mtim) != 0 || order(a->st_ctim, b->st_ctim) != 0)
        differs(x, "times are not the same by both sides");
    if (a->st_blocks != b->st_blocks)
        differs(x, "blocks by the %s side are %jd, by the %s side %jd", x->sides[0].name,
                (intmax_t)a->st_blocks, x->sides[1].name, (intmax_t)b->st_blocks);
}

/*
 * By one side only, as a rule: what the other has cached, or has not, must still be so at the next operation.
 */
void check(struct exercise *x)
{
    bool both = x->nsides == 2 && chance(x, BOTH_EVERY), whole = chance(x, WHOLE_EVERY);
    unsigned first = x->nsides == 2 ? (unsigned)draw(x, 2) : 0;
    struct stat st[2];

    if (x->to < x->from) /* nothing was changed */
        x->from = x->to = (size_t)draw(x, x->size + 1);
    check_by(x, &x->sides[first], &st[first], whole);
    if (both && !x->failed)
        check_by(x, &x->sides[!first], &st[!first], whole);
    if (x->failed)
        return;
    if (both)
        check_agree(x, &st[0], &st[1]);
    x->mtime = st[first].st_mtim;
    x->ctime = st[first].st_ctim;
}

/* A failure that is gone by now was one of time; one that a side alone still sees, of what that side keeps. */
void look_again(struct exercise *x)
{
    for (unsigned i = 0; i < x->nsides; i++) {
        const struct side *s = &x->sides[i];
        ssize_t n = face_pread(&s->file, x->scratch, LIMIT + 1, 0);
        bool right = n == (ssize_t)x->size && memcmp(x->scratch, x->model, x->size) == 0;

        fprintf(stderr, "read again by the %s side it is %s (%zd bytes, expected %zu)\n", s->name,
                right ? "right" : "wrong", n, x->size);
    }
}
