/* SPDX-License-Identifier: MIT */
/* Operations on the file's size, holes and handles. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <unistd.h>

#include "exercise.h"

static int fd_of(const struct handle *h)
{
    return h->fd - 1;
}

static long error(long r)
{
    return r < 0 ? -errno : r;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* ---- size ------------------------------------------------------------------------------------------ */

static bool truncate_to(struct exercise *x, const struct side *s, size_t size)
{
    const struct handle *h = &s->file;

    note(x, "truncate from %#zx to %#zx", x->size, size);
    gave(x, "ftruncate",
         h->file != NULL ? shmfs_ftruncate(h->file, (off_t)size) : error(ftruncate(fd_of(h), (off_t)size)),
         0);
    x->times = TIMES_MOVE;
    model_resize(x, size);
    return true;
}

static size_t near_edge(struct exercise *x, size_t size)
{
    return chance(x, 4) ? size & ~(size_t)(PAGE - 1) : size;
}

static bool do_truncate_down(struct exercise *x, struct side *s)
{
    size_t by = chance(x, 2) ? (size_t)draw(x, x->size + 1) : least(x->size, (size_t)draw(x, 2 * PAGE));

    return truncate_to(x, s, near_edge(x, x->size - by));
}

static bool do_truncate_up(struct exercise *x, struct side *s)
{
    size_t by = (size_t)(chance(x, 4) ? draw(x, LIMIT / 2) : draw(x, 3 * PAGE));
    size_t to = near_edge(x, least(x->size + by, LIMIT));

    return truncate_to(x, s, to < x->size ? x->size : to);
}

/* ---- fallocate ------------------------------------------------------------------------------------- */

static void draw_range(struct exercise *x, size_t *ret_off, size_t *ret_len)
{
    *ret_off = (size_t)draw(x, least(x->size + 2 * PAGE, LIMIT));
    *ret_len = 1 + (size_t)draw(x, chance(x, 4) ? LIMIT : 3 * PAGE);
    if (chance(x, 2))
        *ret_off &= ~(size_t)(PAGE - 1);
    if (chance(x, 2))
        *ret_len = (*ret_len + PAGE - 1) & ~(size_t)(PAGE - 1);
    *ret_len = least(*ret_len, LIMIT - *ret_off);
}

/* True: it was done. */
static bool allocate(struct exercise *x, const struct side *s, const char *name, int mode, size_t off,
                     size_t len, long want)
{
    note(x, "%s%s %#zx, %zu bytes", name, (mode & FALLOC_FL_KEEP_SIZE) != 0 ? ", same size," : "", off, len);
    if (!gave(x, "fallocate", face_fallocate(&s->file, mode, (off_t)off, (off_t)len), want) || want < 0)
        return false;
    x->times = TIMES_MOVE;
    if ((mode & FALLOC_FL_KEEP_SIZE) == 0 && off + len > x->size)
        model_resize(x, off + len);
    return true;
}

static bool do_fallocate(struct exercise *x, struct side *s)
{
    size_t off, len;

    draw_range(x, &off, &len);
    allocate(x, s, "fallocate", chance(x, 2) ? FALLOC_FL_KEEP_SIZE : 0, off, len, 0);
    return true;
}

static bool do_punch(struct exercise *x, struct side *s)
{
    size_t off, len;

    draw_range(x, &off, &len);
    if (allocate(x, s, "punch", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len, 0))
        model_zero(x, off, off + len);
    return true;
}

/* More than tmpfs can: it does not zero ranges. */
static bool do_zero_range(struct exercise *x, struct side *s)
{
    int mode = FALLOC_FL_ZERO_RANGE | (chance(x, 2) ? FALLOC_FL_KEEP_SIZE : 0);
    size_t off, len;

    draw_range(x, &off, &len);
    if (allocate(x, s, "zero", mode, off, len, x->way == WAY_TMPFS ? -EOPNOTSUPP : 0))
        model_zero(x, off, off + len);
    return true;
}

/*
 * What tmpfs refuses is refused in the same way: a mode, or a range. Of a call with both the kernel looks at some modes
 * before the range, and at some after.
 */
static bool do_refused(struct exercise *x, struct side *s)
{
    static const struct {
        int mode;
        off_t off, len;
    } calls[] = {
        { FALLOC_FL_COLLAPSE_RANGE, 0, PAGE },
        { FALLOC_FL_COLLAPSE_RANGE, 1, 10 },
        { FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_KEEP_SIZE, 0, PAGE },
        { FALLOC_FL_INSERT_RANGE, 0, PAGE },
        { FALLOC_FL_INSERT_RANGE, 1, 10 },
        { FALLOC_FL_UNSHARE_RANGE, 0, PAGE },
        { FALLOC_FL_PUNCH_HOLE, 0, PAGE },
        { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, PAGE },
        { 0x4000, 0, PAGE },
        { 0, 0, 0 },
        { 0, -1, PAGE },
        { 0, PAGE, -1 },
        { 0, INT64_MAX, 1 },
        { FALLOC_FL_KEEP_SIZE, 1, INT64_MAX },
        { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 0 },
        { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, INT64_MAX, INT64_MAX },
    };
    uint64_t call = draw(x, sizeof(calls) / sizeof(calls[0]));
    int mode = calls[call].mode;
    off_t off = calls[call].off, len = calls[call].len;

    note(x, "fallocate in mode %#x from %jd, %jd bytes, as tmpfs refuses it", (unsigned)mode, (intmax_t)off,
         (intmax_t)len);
    long want = error(fallocate(x->twin, mode, off, len));
    if (want == 0)
        differs(x, "tmpfs does what it should refuse");
    else
        gave(x, "fallocate", face_fallocate(&s->file, mode, off, len), want);
    return true;
}

/* ---- copies and holes ------------------------------------------------------------------------------ */

static bool do_copy(struct exercise *x, struct side *s)
{
    size_t from, to, len;

    draw_range(x, &from, &len);
    to = (size_t)draw(x, LIMIT - len + 1);
    off_t from_off = (off_t)from, to_off = (off_t)to;
    size_t there = from < x->size ? least(len, x->size - from) : 0;
    bool overlaps = from < to + there && to < from + there;

    note(x, "copy from %#zx, %zu bytes, to %#zx", from, len, to);
    if (!knows_end(x, s))
        return true;
    long n = error(copy_file_range(fd_of(&s->file), &from_off, fd_of(&s->file), &to_off, len, 0));
    if (!gave(x, "copy_file_range", n, overlaps ? -EINVAL : (long)there) || n <= 0)
        return true;
    x->times = TIMES_MOVE;
    memcpy(x->scratch, x->model + from, there);
    model_write(x, to, x->scratch, there);
    return true;
}

static off_t seek(const struct side *s, size_t off, int whence)
{
    const struct handle *h = &s->file;

    if (h->file == NULL)
        return error(lseek(fd_of(h), (off_t)off, whence));
    return whence == SEEK_DATA ? shmfs_lseek_data(h->file, (off_t)off)
                               : shmfs_lseek_hole(h->file, (off_t)off);
}

/* True: all of [from, to) is zero, as what is no data must be. */
static bool may_be_hole(struct exercise *x, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        if (x->model[i] != 0) {
            differs(x, "from %#zx to %#zx shall be a hole; at %#zx there is data", from, to, i);
            return false;
        }
    }
    return true;
}

/* From somewhere to the end: holes and data take turns, and what is a hole is zero. */
static bool do_seek(struct exercise *x, struct side *s)
{
    size_t at = (size_t)draw(x, x->size + PAGE);

    note(x, "seek data and holes from %#zx", at);
    if (at >= x->size) {
        gave(x, "lseek for data behind the end", seek(s, at, SEEK_DATA), -ENXIO);
        gave(x, "lseek for a hole behind the end", seek(s, at, SEEK_HOLE), -ENXIO);
        return true;
    }
    while (at < x->size && !x->failed) {
        off_t data = seek(s, at, SEEK_DATA);

        if (data == -ENXIO) {
            may_be_hole(x, at, x->size);
            break;
        }
        if (data < (off_t)at || data >= (off_t)x->size)
            return differs(x, "lseek for data from %#zx gives %jd", at, (intmax_t)data), true;
        may_be_hole(x, at, (size_t)data);
        off_t hole = seek(s, (size_t)data, SEEK_HOLE);
        if (hole <= data || hole > (off_t)x->size)
            return differs(x, "lseek for a hole from %#jx, which is data, gives %jd", (intmax_t)data,
                           (intmax_t)hole),
                   true;
        at = (size_t)hole;
    }
    return true;
}

/* ---- handles and caches ---------------------------------------------------------------------------- */

static bool do_fsync(struct exercise *x, struct side *s)
{
    const struct handle *h = &s->file;

    note(x, "fsync");
    gave(x, "fsync", h->file != NULL ? shmfs_fsync(h->file) : error(fsync(fd_of(h))), 0);
    return true;
}

static bool do_reopen(struct exercise *x, struct side *s)
{
    bool empty = chance(x, 8);

    note(x, "close and open%s", empty ? ", with O_TRUNC" : "");
    if (side_close(x, s) && side_open(x, s, empty ? O_TRUNC : 0) && empty) {
        x->times = TIMES_MOVE;
        model_resize(x, 0);
    }
    return true;
}

static bool do_drop(struct exercise *x, struct side *s)
{
    note(x, "have the kernel drop its pages");
    gave(x, "posix_fadvise", posix_fadvise(fd_of(&s->file), 0, 0, POSIX_FADV_DONTNEED), 0);
    return true;
}

/* Another file takes blocks and gives them back, so that ours lies in pieces, and gets blocks that were used. */
static bool do_disturb(struct exercise *x, struct side *s)
{
    static char junk[2 * PAGE];
    off_t off = (off_t)draw(x, LIMIT / PAGE) * PAGE;
    struct handle h;

    note(x, "write to another file, or cut it");
    memset(junk, 0xEE, sizeof(junk));
    if (!gave(x, "open", face_open(&s->face, exercise_other, O_RDWR | O_CREAT, &h), 0))
        return true;
    if (chance(x, 3))
        gave(x, "truncate", face_truncate(&s->face, exercise_other, off), 0);
    else
        gave(x, "write", face_pwrite(&h, junk, sizeof(junk), off), sizeof(junk));
    gave(x, "close", face_close(&h), 0);
    return true;
}

const struct exercise_kind exercise_shape[] = {
    { "truncate-down", do_truncate_down, 6, FOR_ALL },
    { "truncate-up", do_truncate_up, 6, FOR_ALL },
    { "fallocate", do_fallocate, 5, FOR_ALL },
    { "punch", do_punch, 8, FOR_ALL },
    { "zero-range", do_zero_range, 5, FOR_ALL },
    { "refused", do_refused, 2, FOR_ALL },
    { "copy", do_copy, 6, FOR_FD },
    { "seek", do_seek, 6, FOR_ALL },
    { "fsync", do_fsync, 2, FOR_ALL },
    { "reopen", do_reopen, 3, FOR_ALL },
    { "drop", do_drop, 4, FOR_FD },
    { "disturb", do_disturb, 4, FOR_ALL },
    { .name = NULL },
};
