/* SPDX-License-Identifier: MIT */
/*
 * Kinds that change what is in a file. The plan has the bytes before and after; the readers have read them all, and
 * hold the file open, some also mapped.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "litmus.h"

#define A r->path[0]

enum { OFF, LEN, TAG, MIDDLE, PAGE = 4096 };

/* ---- plans --------------------------------------------------------------------------------------- */

static void begin(struct round *r, size_t size)
{
    pattern(r->before, size, draw(r, UINT64_MAX));
    memcpy(r->after, r->before, size);
    r->before_size = r->after_size = size;
}

static size_t some_size(struct round *r)
{
    static const size_t sizes[] = { 1, 100, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE };
    uint64_t n = draw(r, 12);

    return n < 6 ? sizes[n] : 1 + draw(r, 30000);
}

static void overwrite(struct round *r, size_t off, size_t len)
{
    r->n[OFF] = off;
    r->n[LEN] = len;
    r->n[TAG] = draw(r, UINT64_MAX);
    if (off > r->after_size)
        memset(r->after + r->after_size, 0, off - r->after_size);
    pattern(r->after + off, len, r->n[TAG]);
    if (off + len > r->after_size)
        r->after_size = off + len;
}

static void plan_write_byte(struct round *r)
{
    begin(r, some_size(r));
    overwrite(r, draw(r, r->before_size), 1);
}

static void plan_write_page(struct round *r)
{
    size_t off, len;

    begin(r, 5 * PAGE);
    off = draw(r, PAGE);
    len = 1 + draw(r, PAGE - off);
    overwrite(r, draw(r, 5) * PAGE + off, len);
}

static void plan_write_pages(struct round *r)
{
    begin(r, 8 * PAGE + draw(r, PAGE));
    overwrite(r, draw(r, 3 * PAGE), PAGE + draw(r, 4 * PAGE));
}

static void plan_write_64k(struct round *r)
{
    begin(r, 96 << 10);
    overwrite(r, draw(r, 32 << 10), 64 << 10);
}

static void plan_write_big(struct round *r)
{
    begin(r, LITMUS_BIG - 1000);
    overwrite(r, draw(r, LITMUS_BIG - (64 << 10) - 1000), 1 + draw(r, 64 << 10));
}

/* Beyond the end, with a hole between or not. */
static void plan_write_beyond(struct round *r)
{
    begin(r, some_size(r));
    overwrite(r, r->before_size + draw(r, 3) * draw(r, 2 * PAGE), 1 + draw(r, 2 * PAGE));
}

static void plan_append(struct round *r)
{
    begin(r, some_size(r));
    overwrite(r, r->before_size, 1 + draw(r, 9000));
}

/* Twice: directly, and then through a mount that has not heard of it, by two requests. */
static void plan_append_behind(struct round *r)
{
    begin(r, 3 * PAGE + draw(r, PAGE / 2) + 1);
    overwrite(r, r->before_size, PAGE + draw(r, 9000));
    r->n[MIDDLE] = r->after_size;
    overwrite(r, r->after_size, PAGE + draw(r, 9000));
}

static void plan_truncate_down(struct round *r)
{
    begin(r, some_size(r));
    r->after_size = draw(r, r->before_size);
}

static void grow(struct round *r, size_t size)
{
    if (size > r->after_size)
        memset(r->after + r->after_size, 0, size - r->after_size);
    r->after_size = size;
}

static void plan_truncate_up(struct round *r)
{
    begin(r, some_size(r));
    grow(r, r->before_size + 1 + draw(r, 3 * PAGE));
}

static void plan_truncate_both(struct round *r)
{
    begin(r, some_size(r));
    r->n[LEN] = r->after_size = draw(r, r->before_size);
    grow(r, r->n[LEN] + 1 + draw(r, 4 * PAGE));
}

static void plan_open_trunc(struct round *r)
{
    begin(r, some_size(r));
    r->after_size = 0;
}

static void plan_fallocate(struct round *r)
{
    begin(r, some_size(r));
    r->n[OFF] = draw(r, r->before_size);
    r->n[LEN] = 1 + draw(r, 5 * PAGE);
    if (r->n[OFF] + r->n[LEN] > r->before_size)
        grow(r, r->n[OFF] + r->n[LEN]);
}

static void plan_punch(struct round *r)
{
    begin(r, 6 * PAGE + draw(r, PAGE));
    r->n[OFF] = draw(r, 2) ? draw(r, 5 * PAGE) : draw(r, 4) * PAGE;
    r->n[LEN] = draw(r, 2) ? 1 + draw(r, PAGE) : PAGE * (1 + draw(r, 2));
    memset(r->after + r->n[OFF], 0, r->n[LEN]);
}

/* A part of it may lie behind the end, which then moves, as on ext4 and xfs. */
static void plan_zero_range(struct round *r)
{
    plan_punch(r);
    if (r->n[OFF] + r->n[LEN] > r->before_size)
        grow(r, r->n[OFF] + r->n[LEN]);
}

static void plan_copy(struct round *r)
{
    begin(r, 10 * PAGE + draw(r, PAGE));
    r->n[OFF] = 5 * PAGE + draw(r, 2 * PAGE); /* to there, from the start */
    r->n[LEN] = 1 + draw(r, 4 * PAGE);
    memcpy(r->after + r->n[OFF], r->before, r->n[LEN]);
    if (r->n[OFF] + r->n[LEN] > r->after_size)
        r->after_size = r->n[OFF] + r->n[LEN];
}

/* ---- before -------------------------------------------------------------------------------------- */

static void setup(struct round *r, const struct face *f)
{
    expect(r, f, "create", A, face_make(f, A, 0644), 0);
    expect(r, f, "write", A, face_write(f, A, r->before, r->before_size, 0, false), (long)r->before_size);
    publish(r, f, A);
}

static void warm(struct round *r, const struct face *f)
{
    struct handle *h = &r->held[side_of(f)][0];
    struct stat st;
    int error;

    if (look(r, f, A, &st))
        equal(r, f, "size", (uint64_t)st.st_size, r->before_size);
    content(r, f, A, r->before, r->before_size);
    error = face_open(f, A, O_RDONLY, h);
    expect(r, f, "open", A, error, 0);
    if (error == 0)
        content_of(r, f, h, r->before, r->before_size);
}

static void warm_mapped(struct round *r, const struct face *f)
{
    unsigned side = (unsigned)side_of(f);
    int error;

    warm(r, f);
    r->mapped_size = r->before_size;
    error = face_map(&r->held[side][0], r->mapped_size, false, &r->mapped[side]);
    expect(r, f, "mmap", A, error, 0);
    if (error == 0)
        compare(r, f, "what is mapped", r->mapped[side], r->mapped_size, r->before, r->mapped_size);
}

/* ---- after --------------------------------------------------------------------------------------- */

static void check(struct round *r, const struct face *f)
{
    const struct handle *h = &r->held[side_of(f)][0];
    struct stat st;

    if (look(r, f, A, &st))
        equal(r, f, "size", (uint64_t)st.st_size, r->after_size);
    content(r, f, A, r->after, r->after_size);
    if (h->file == NULL && h->fd == 0)
        return;
    content_of(r, f, h, r->after, r->after_size);
    expect(r, f, "fstat", A, face_fstat(h, &st), 0);
    equal(r, f, "size of the open file", (uint64_t)st.st_size, r->after_size);
}

/* The pointer comes first: a read might mend what it shows. */
static void check_mapped(struct round *r, const struct face *f)
{
    const char *p = r->mapped[side_of(f)];

    if (p != NULL)
        compare(r, f, "what is mapped", p, r->mapped_size, r->after, r->mapped_size);
    check(r, f);
}

/* ---- acts ---------------------------------------------------------------------------------------- */

static bool opened(struct round *r, const struct face *f, int flags, struct handle *h)
{
    int error = face_open(f, A, flags, h);

    expect(r, f, "open", A, error, 0);
    return error == 0;
}

static void close_it(struct round *r, const struct face *f, struct handle *h)
{
    expect(r, f, "close", A, face_close(h), 0);
    publish(r, f, A);
}

static void act_write(struct round *r, const struct face *f)
{
    struct handle h;

    if (!opened(r, f, O_WRONLY, &h))
        return;
    expect(r, f, "pwrite", A, face_pwrite(&h, r->after + r->n[OFF], r->n[LEN], (off_t)r->n[OFF]),
           (long)r->n[LEN]);
    close_it(r, f, &h);
}

static void act_append(struct round *r, const struct face *f)
{
    struct handle h;

    if (!opened(r, f, O_WRONLY | O_APPEND, &h))
        return;
    expect(r, f, "append", A, face_append(&h, r->after + r->n[OFF], r->n[LEN]), (long)r->n[LEN]);
    close_it(r, f, &h);
}

/* The kernel learns where the end is when it asks: what it is told to drop must not make it ignore the answer. */
static void act_append_behind(struct round *r, const struct face *f)
{
    size_t start = r->before_size, middle = r->n[MIDDLE];
    struct handle h;

    if (!opened(r, f, O_WRONLY | O_APPEND, &h)) /* first: opening asks, too */
        return;
    expect(r, F_DIRECT, "append", A, face_write(F_DIRECT, A, r->after + start, middle - start, 0, true),
           (long)(middle - start));
    expect(r, f, "append", A, face_append(&h, r->after + middle, r->after_size - middle),
           (long)(r->after_size - middle));
    equal(r, f, "end", (uint64_t)lseek(h.fd - 1, 0, SEEK_END), r->after_size);
    close_it(r, f, &h);
}

static void act_truncate(struct round *r, const struct face *f)
{
    expect(r, f, "truncate", A, face_truncate(f, A, (off_t)r->after_size), 0);
    publish(r, f, A);
}

static void act_truncate_both(struct round *r, const struct face *f)
{
    expect(r, f, "truncate", A, face_truncate(f, A, (off_t)r->n[LEN]), 0);
    act_truncate(r, f);
}

static void act_open_trunc(struct round *r, const struct face *f)
{
    struct handle h;

    if (opened(r, f, O_WRONLY | O_TRUNC, &h))
        close_it(r, f, &h);
}

static void do_fallocate(struct round *r, const struct face *f, int mode)
{
    struct handle h;

    if (!opened(r, f, O_RDWR, &h))
        return;
    expect(r, f, "fallocate", A, face_fallocate(&h, mode, (off_t)r->n[OFF], (off_t)r->n[LEN]), 0);
    close_it(r, f, &h);
}

static void act_fallocate(struct round *r, const struct face *f)
{
    do_fallocate(r, f, 0);
}

static void act_punch(struct round *r, const struct face *f)
{
    do_fallocate(r, f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
}

static void act_zero_range(struct round *r, const struct face *f)
{
    do_fallocate(r, f, FALLOC_FL_ZERO_RANGE);
}

static void act_copy(struct round *r, const struct face *f)
{
    off_t from = 0, to = (off_t)r->n[OFF];
    struct handle h;

    if (!opened(r, f, O_RDWR, &h))
        return;
    ssize_t n = copy_file_range(h.fd - 1, &from, h.fd - 1, &to, r->n[LEN], 0);
    expect(r, f, "copy_file_range", A, n < 0 ? -errno : n, (long)r->n[LEN]);
    close_it(r, f, &h);
}

/* By a pointer, and told to others. */
static void act_store(struct round *r, const struct face *f)
{
    struct handle h;
    void *p;

    if (!opened(r, f, O_RDWR, &h))
        return;
    int error = face_map(&h, r->before_size, true, &p);
    expect(r, f, "mmap", A, error, 0);
    if (error == 0) {
        memcpy((char *)p + r->n[OFF], r->after + r->n[OFF], r->n[LEN]);
        expect(r, f, "msync", A, face_msync(&h, p, r->n[OFF], r->n[LEN]), 0);
        face_unmap(f, p, r->before_size);
    }
    close_it(r, f, &h);
}

/* ---- one page that all teams share --------------------------------------------------------------- */

enum { SLOT = 48, SLOTS_PER_TEAM = 3 };
static const char slots[] = "/slots";

/* Slots of all teams lie side by side; those of the last row across two pages. */
static off_t slot_of(const struct round *r)
{
    static const unsigned rows[SLOTS_PER_TEAM] = { 0, 1536, PAGE - 256 };

    return rows[r->n[OFF]] + (off_t)(r->team * SLOT);
}

static void plan_slot(struct round *r)
{
    begin(r, SLOT);
    overwrite(r, 0, SLOT);
    r->n[OFF] = draw(r, SLOTS_PER_TEAM);
}

static void put_slot(struct round *r, const struct face *f, const char *what)
{
    expect(r, f, "write", slots, face_write(f, slots, what, SLOT, slot_of(r), false), SLOT);
    publish(r, f, slots);
}

static void has_slot(struct round *r, const struct face *f, const struct handle *h, const char *want)
{
    char seen[SLOT];
    ssize_t n =
        h != NULL ? face_pread(h, seen, SLOT, slot_of(r)) : face_read(f, slots, seen, SLOT, slot_of(r));

    expect(r, f, "read", slots, n, MUST_WORK);
    if (n >= 0)
        compare(r, f, "the team's slot", seen, (size_t)n, want, SLOT);
}

static void setup_slot(struct round *r, const struct face *f)
{
    put_slot(r, f, r->before);
}

static void warm_slot(struct round *r, const struct face *f)
{
    has_slot(r, f, NULL, r->before);
    expect(r, f, "open", slots, face_open(f, slots, O_RDONLY, &r->held[side_of(f)][0]), 0);
}

static void act_slot(struct round *r, const struct face *f)
{
    put_slot(r, f, r->after);
}

static void check_slot(struct round *r, const struct face *f)
{
    const struct handle *h = &r->held[side_of(f)][0];

    has_slot(r, f, h->file != NULL || h->fd > 0 ? h : NULL, r->after);
}

#define DATA(kind, planner, actor, often) \
    { \
        .name = kind, .plan = planner, .setup = setup, .warm = warm, .act = actor, .check = check, \
        .weight = often, .paths = 1 \
    }
#define MAPPED(kind, planner, actor, often) \
    { \
        .name = kind, .plan = planner, .setup = setup, .warm = warm_mapped, .act = actor, \
        .check = check_mapped, .weight = often, .paths = 1 \
    }
const struct litmus_kind litmus_data[] = {
    DATA("write-byte", plan_write_byte, act_write, 10),
    DATA("write-page", plan_write_page, act_write, 10),
    DATA("write-pages", plan_write_pages, act_write, 8),
    DATA("write-64k", plan_write_64k, act_write, 4),
    DATA("write-big", plan_write_big, act_write, 1),
    DATA("write-beyond", plan_write_beyond, act_write, 8),
    DATA("append", plan_append, act_append, 8),
    { .name = "append-behind",
      .plan = plan_append_behind,
      .setup = setup,
      .warm = warm,
      .act = act_append_behind,
      .check = check,
      .weight = 6,
      .paths = 1,
      .only = ONLY_MOUNT },
    DATA("truncate-down", plan_truncate_down, act_truncate, 8),
    DATA("truncate-up", plan_truncate_up, act_truncate, 8),
    DATA("truncate-both", plan_truncate_both, act_truncate_both, 8),
    DATA("open-trunc", plan_open_trunc, act_open_trunc, 6),
    DATA("fallocate", plan_fallocate, act_fallocate, 6),
    DATA("punch", plan_punch, act_punch, 6),
    DATA("zero-range", plan_zero_range, act_zero_range, 6),
    { .name = "copy-range",
      .plan = plan_copy,
      .setup = setup,
      .warm = warm,
      .act = act_copy,
      .check = check,
      .weight = 6,
      .paths = 1,
      .only = ONLY_MOUNT },
    DATA("store", plan_write_pages, act_store, 6),
    MAPPED("mapped-write", plan_write_page, act_write, 6),
    MAPPED("mapped-punch", plan_punch, act_punch, 4),
    MAPPED("mapped-store", plan_write_pages, act_store, 6),
    { .name = "slots",
      .plan = plan_slot,
      .setup = setup_slot,
      .warm = warm_slot,
      .act = act_slot,
      .check = check_slot,
      .weight = 8 },
    { .name = NULL },
};
