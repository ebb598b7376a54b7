/* SPDX-License-Identifier: MIT */
#include "api_ops.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { LOG_MAX = 2 << 20 };

struct pick {
    uint32_t place, index;
    struct entry *e;
    char path[100], twin[100];
};

static void path_of(const struct worker *w, uint32_t place, uint32_t index, bool twin, char *ret, size_t n)
{
    char name[64];

    model_name(w, place, index, twin, name, sizeof(name));
    if (place == 0)
        snprintf(ret, n, "/worker%u/%s", w->id, name);
    else
        snprintf(ret, n, "%s/%s", api_shared(w), name);
}

static struct pick pick(struct worker *w)
{
    struct pick p = { .place = (uint32_t)storm_below(PLACES), .index = (uint32_t)storm_below(NAMES) };

    p.e = &w->entries[p.place][p.index];
    path_of(w, p.place, p.index, false, p.path, sizeof(p.path));
    path_of(w, p.place, p.index, true, p.twin, sizeof(p.twin));
    return p;
}

/* ---- what is at work ----------------------------------------------------------------------------- */

static uint32_t epoch; /* as the operation began */

/* Without an intent: an operation that changes nothing that the model knows of. */
static void begin_plainly(struct worker *w, const char *what, const char *path)
{
    snprintf(w->intent.what, sizeof(w->intent.what), "%s %.30s", what, path);
    epoch = __atomic_load_n(&api_board->epoch, __ATOMIC_ACQUIRE);
    storm_begin(w);
}

static void begin(struct worker *w, const char *what, const char *path)
{
    __atomic_store_n(&w->intent.valid, 1, __ATOMIC_RELEASE);
    begin_plainly(w, what, path);
}

static void intend(struct worker *w, const struct pick *p, const struct entry *after)
{
    struct intent *it = &w->intent;

    it->change[0].place = p->place;
    it->change[0].index = p->index;
    it->change[0].after = *after;
    it->n = 1;
    it->big = it->record = 0;
    it->prefix = 0;
}

static void intend_also(struct worker *w, const struct pick *q, const struct entry *after)
{
    struct intent *it = &w->intent;

    it->change[1].place = q->place;
    it->change[1].index = q->index;
    it->change[1].after = *after;
    it->n = 2;
}

static void intend_record(struct worker *w, uint32_t record)
{
    w->intent.n = w->intent.big = 0;
    w->intent.record = record;
}

/* Was there no driver at some time since the operation began? Then a program may be told any error, and wait. */
static bool is_excused(const struct face *f)
{
    return f->fs == NULL &&
           ((epoch & 1) != 0 || __atomic_load_n(&api_board->epoch, __ATOMIC_ACQUIRE) != epoch);
}

/* False: excused, and perhaps done. */
static bool end(const struct face *f, struct worker *w, long r)
{
    if (is_excused(f)) {
        __atomic_store_n(&w->began, 0, __ATOMIC_RELEASE);
        if (r >= 0)
            return true;
        __atomic_add_fetch(&api_board->excused, 1, __ATOMIC_RELAXED);
        return false;
    }
    storm_end(w, r, w->intent.what);
    return true;
}

static bool done(const struct face *f, struct worker *w, long r)
{
    struct intent *it = &w->intent;

    if (!end(f, w, r))
        return false;
    for (uint32_t i = 0; i < it->n; i++)
        w->entries[it->change[i].place][it->change[i].index] = it->change[i].after;
    if (it->record != 0)
        w->records = it->record;
    __atomic_store_n(&it->valid, 0, __ATOMIC_RELEASE);
    return true;
}

/* ---- operations on one's own names --------------------------------------------------------------- */

static bool op_make(const struct face *f, struct worker *w, struct pick *p)
{
    struct entry after = { .kind = (uint8_t)(KIND_FILE + storm_below(3)) };
    char target[2000];

    after.mode = after.kind == KIND_LINK ? 0777 : (uint16_t)(0600 | storm_below(64));
    if (after.kind == KIND_LINK)
        after.size = (uint32_t)(1 + storm_below(sizeof(target) - 1));
    intend(w, p, &after);
    begin(w, "make", p->path);
    if (after.kind == KIND_DIR)
        return done(f, w, face_mkdir(f, p->path, after.mode));
    if (after.kind == KIND_FILE)
        return done(f, w, face_make(f, p->path, after.mode));
    memset(target, 't', after.size);
    target[after.size] = 0;
    return done(f, w, face_symlink(f, target, p->path));
}

static bool op_remove(const struct face *f, struct worker *w, struct pick *p)
{
    struct entry after = { 0 };
    bool twin = p->e->twin;

    if (twin) {
        after = *p->e;
        after.twin = 0;
    }
    intend(w, p, &after);
    begin(w, "remove", twin ? p->twin : p->path);
    return done(f, w,
                p->e->kind == KIND_DIR ? face_rmdir(f, p->path) : face_unlink(f, twin ? p->twin : p->path));
}

static bool op_size(const struct face *f, struct worker *w, struct pick *p, uint32_t size)
{
    struct entry after = *p->e;

    after.size = size;
    if (size == 0)
        after.tail_from = 0;
    intend(w, p, &after);
    begin(w, "truncate", p->path);
    return done(f, w, face_truncate(f, p->path, after.size));
}

/*
 * Killed within it, a program may leave a part: the kernel makes a request of its own of a first page that it has not
 * got, and gives the rest up.
 */
static bool op_write(const struct face *f, struct worker *w, struct pick *p)
{
    static uint8_t buf[SMALL_MAX], back[SMALL_MAX];
    struct entry after = *p->e;
    uint32_t from = 0, n;
    bool append = storm_below(2) == 0 && after.size < SMALL_MAX;

    if (append) {
        from = after.size;
        n = (uint32_t)(1 + storm_below(storm_below(4) == 0 ? SMALL_MAX - from : (SMALL_MAX - from) / 16 + 1));
    } else if (after.tail_from != 0) {
        return op_size(f, w, p, 0);
    } else { /* all of it, and perhaps more */
        after.seed = (uint32_t)storm_below(UINT32_MAX);
        n = after.size + (uint32_t)storm_below((SMALL_MAX - after.size) / (storm_below(4) == 0 ? 1 : 16) + 1);
        if (n == 0)
            return true;
    }
    after.size = from + n;
    model_fill_entry(&after, from, buf, n);
    intend(w, p, &after);
    w->intent.prefix = f->fs == NULL;
    begin(w, append ? "append to" : "write", p->path);
    ssize_t r = face_write(f, p->path, buf, n, from, append);
    if (!done(f, w, r >= 0 && r != (ssize_t)n ? -EIO : r))
        return false;
    /* What was returned is seen by the next call. */
    begin_plainly(w, "read", p->path);
    r = face_read(f, p->path, back, n, from);
    if (!end(f, w, r))
        return false;
    if (r >= 0 && !is_excused(f) && (r != (ssize_t)n || memcmp(buf, back, n) != 0))
        storm_fail(w, "%s: what was written is not what is read (%zd of %u bytes)", p->path, r, n);
    return true;
}

static bool op_attr(const struct face *f, struct worker *w, struct pick *p)
{
    struct entry after = *p->e;
    uint8_t value[8000];

    if (storm_below(2) == 0) {
        after.mode = (uint16_t)(0600 | storm_below(64));
        intend(w, p, &after);
        begin(w, "chmod", p->path);
        return done(f, w, face_chmod(f, p->path, after.mode));
    }
    after.attr = after.attr != 0 && storm_below(3) == 0 ? 0 : (uint32_t)(1 + storm_below(1 << 30));
    model_fill(after.attr, 0, value, sizeof(value));
    intend(w, p, &after);
    begin(w, "setxattr", p->path);
    return done(f, w,
                after.attr == 0 ? face_removexattr(f, p->path, "user.v")
                                : face_setxattr(f, p->path, "user.v", value, after.attr % 7000 + 1));
}

static bool op_link(const struct face *f, struct worker *w, struct pick *p)
{
    struct entry after = *p->e;

    after.twin = 1;
    intend(w, p, &after);
    begin(w, "link", p->path);
    return done(f, w, face_link(f, p->path, p->twin));
}

static bool op_rename(const struct face *f, struct worker *w, struct pick *p)
{
    struct pick q = pick(w);
    struct entry none = { 0 };
    bool exchange = q.e->kind != KIND_NONE && storm_below(3) == 0;

    if (p->e == q.e || p->e->twin || q.e->twin)
        return true;
    if (!exchange && q.e->kind != KIND_NONE && (p->e->kind == KIND_DIR) != (q.e->kind == KIND_DIR))
        return true;
    intend(w, p, exchange ? q.e : &none);
    intend_also(w, &q, p->e);
    begin(w, exchange ? "exchange" : "rename", p->path);
    return done(f, w, face_rename(f, p->path, q.path, exchange ? RENAME_EXCHANGE : 0));
}

/* ---- with others --------------------------------------------------------------------------------- */

static void log_path(const struct worker *w, char *ret, size_t n)
{
    snprintf(ret, n, "%s", api_log(w));
}

static bool op_log(const struct face *f, struct worker *w)
{
    uint8_t buf[RECORD];
    char path[64];

    if (w->records * RECORD > LOG_MAX / storm.workers)
        return true;
    log_path(w, path, sizeof(path));
    model_record(w->id, w->records + 1, buf);
    intend_record(w, w->records + 1);
    begin(w, "append to", path);
    ssize_t r = face_write(f, path, buf, RECORD, 0, true);
    return done(f, w, r == RECORD ? 0 : r < 0 ? r : -EIO);
}

/*
 * Any answer will do but a strange one: everybody uses the same names. ESTALE: of a program that was to make what a
 * direct process just made; the kernel looks again, but once.
 */
static bool op_fiddle(const struct face *f, struct worker *w)
{
    char path[64];

    snprintf(path, sizeof(path), "%s/any%u", api_shared(w), (unsigned)storm_below(5));
    begin_plainly(w, "fiddle with", path);
    int r = face_fiddle(f, api_shared(w), path, storm_below(1 << 20));
    return end(f, w, r == -ENOENT || r == -EEXIST || (r == -ESTALE && f->fs == NULL) ? 0 : r);
}

bool api_operate(const struct face *f, struct worker *w)
{
    uint64_t what = storm_below(100);

    if (what < 12)
        return op_log(f, w);
    if (what < 26)
        return op_fiddle(f, w);
    struct pick p = pick(w);
    bool file = p.e->kind == KIND_FILE;
    if (p.e->kind == KIND_NONE)
        return op_make(f, w, &p);
    if (what < 36)
        return op_remove(f, w, &p);
    if (what < 52)
        return op_rename(f, w, &p);
    if (what < 76 && file)
        return op_write(f, w, &p);
    if (what < 84 && file)
        return op_size(f, w, &p, (uint32_t)storm_below(p.e->size + 1));
    if (what < 92 && p.e->kind != KIND_LINK)
        return op_attr(f, w, &p);
    if (what < 96 && file && !p.e->twin)
        return op_link(f, w, &p);
    return true;
}

/* ---- readers ------------------------------------------------------------------------------------- */

static void look_log(const struct face *f, struct worker *w)
{
    static uint8_t buf[RECORD * 1024];
    static off_t at;
    uint8_t want[RECORD];
    uint32_t head[2];
    char path[64];

    log_path(w, path, sizeof(path));
    ssize_t n = face_read(f, path, buf, sizeof(buf), at);
    if (n < 0 || n % RECORD != 0) {
        if (n != -EAGAIN)
            storm_fail(w, "a reader of the log gets %zd at %jd", n, (intmax_t)at);
        return;
    }
    for (ssize_t i = 0; i < n; i += RECORD) {
        memcpy(head, buf + i, sizeof(head));
        model_record(head[0], head[1], want);
        if (memcmp(buf + i, want, RECORD) != 0)
            storm_fail(w, "the record at %jd of the log is torn", (intmax_t)(at + i));
    }
    at = n > 0 && storm_below(100) > 0 ? at + n : 0;
}

/* Names that are in a listing, and all that is known of them. */
static void look_names(const struct face *f, struct worker *w)
{
    const struct dirent *e;
    struct shmfs_dir *dir;
    char path[512];
    struct stat st;
    int r = shmfs_opendir(f->fs, api_shared(w), &dir);

    if (r < 0 && r != -EAGAIN)
        storm_fail(w, "a reader's opendir gave %s", strerror(-r));
    if (r < 0)
        return;
    while ((r = shmfs_readdir(dir, &e)) == 1) {
        snprintf(path, sizeof(path), "%s/%s", api_shared(w), e->d_name);
        int got = shmfs_lstat(f->fs, path, &st);
        if (got < 0 && got != -ENOENT && got != -EAGAIN)
            storm_fail(w, "a reader's stat of %s gave %s", path, strerror(-got));
    }
    shmfs_closedir(dir);
    if (r < 0 && r != -EAGAIN && r != -ESTALE)
        storm_fail(w, "a reader's listing ends with %s", strerror(-r));
}

void api_look(const struct face *f, struct worker *w)
{
    storm_begin(w);
    if (storm_below(4) == 0)
        look_names(f, w);
    else
        look_log(f, w);
    storm_end(w, 0, "a look");
}
