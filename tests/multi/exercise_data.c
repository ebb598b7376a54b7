/* SPDX-License-Identifier: MIT */
/* Operations that read and write: by calls, and by pointers. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "exercise.h"

enum { PIECES = 5 };

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

/* ---- plans ----------------------------------------------------------------------------------------- */

struct span {
    size_t off, len; /* len >= 1 */
};

/* Mostly some bytes or some pages, at times more than the library writes at once; on, across and near the edges of pages and the end. */
static struct span draw_span(struct exercise *x)
{
    struct span ret;

    switch (draw(x, 4)) {
    case 0:
        ret.off = draw(x, LIMIT / PAGE) * PAGE;
        break;
    case 1: /* around the end */
        ret.off = x->size + draw(x, 2 * PAGE);
        ret.off -= least(ret.off, PAGE);
        break;
    default:
        ret.off = draw(x, x->size + PAGE);
        break;
    }
    ret.off = least(ret.off, LIMIT - 1);
    ret.len = draw(x, 3) != 0   ? 1 + draw(x, 2 * PAGE)
              : draw(x, 3) != 0 ? (1 + draw(x, 4)) * PAGE
                                : 1 + draw(x, 100 << 10);
    ret.len = least(ret.len, LIMIT - ret.off);
    return ret;
}

/* Bytes that are not zero, and differ from place to place and each time. */
static const char *fill(struct exercise *x, size_t n)
{
    uint64_t v = draw(x, UINT64_MAX);

    for (size_t i = 0; i < n; i += sizeof(v)) {
        uint64_t bytes = v | UINT64_C(0x0101010101010101);

        memcpy(x->scratch + i, &bytes, sizeof(bytes)); /* there is a page more */
        v = v * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    }
    return x->scratch;
}

/* Cuts the scratch memory into pieces, some of them empty. */
static int cut(struct exercise *x, size_t n, struct iovec iov[PIECES])
{
    size_t done = 0;

    for (int i = 0; i < PIECES; i++) {
        iov[i].iov_base = x->scratch + done;
        iov[i].iov_len = i == PIECES - 1 ? n - done : (size_t)draw(x, n - done + 1);
        done += iov[i].iov_len;
    }
    return PIECES;
}

/* ---- reading --------------------------------------------------------------------------------------- */

static void has_read(struct exercise *x, const struct side *s, struct span at, long n)
{
    size_t there = at.off < x->size ? least(at.len, x->size - at.off) : 0;

    if (gave(x, "read", n, (long)there))
        same(x, s, "what was read", x->scratch, at.off, there);
}

static bool do_read(struct exercise *x, struct side *s)
{
    struct span at = draw_span(x);

    note(x, "read %#zx, %zu bytes", at.off, at.len);
    has_read(x, s, at, face_pread(&s->file, x->scratch, at.len, (off_t)at.off));
    return true;
}

static bool do_read_unbuffered(struct exercise *x, struct side *s)
{
    struct span at = draw_span(x);

    if (!chance(x, 4)) {
        at.off &= ~(size_t)511;
        at.len = least((at.len + 511) & ~(size_t)511, LIMIT - at.off);
    }
    note(x, "read with O_DIRECT %#zx, %zu bytes", at.off, at.len);
    has_read(x, s, at, face_pread(&s->unbuffered, x->scratch, at.len, (off_t)at.off));
    return true;
}

static bool do_readv(struct exercise *x, struct side *s)
{
    struct span at = draw_span(x);
    struct iovec iov[PIECES];
    bool two = chance(x, 2);
    int n = cut(x, at.len, iov);

    note(x, "%s %#zx, %zu bytes in pieces", two ? "preadv2" : "preadv", at.off, at.len);
    has_read(x, s, at,
             error(two ? preadv2(fd_of(&s->file), iov, n, (off_t)at.off, 0)
                       : preadv(fd_of(&s->file), iov, n, (off_t)at.off)));
    return true;
}

/* ---- writing --------------------------------------------------------------------------------------- */

/* The bytes are in the scratch memory. */
static void has_written(struct exercise *x, struct span at, long n)
{
    x->times = TIMES_MOVE;
    if (gave(x, "write", n, (long)at.len))
        model_write(x, at.off, x->scratch, at.len);
}

static bool do_write(struct exercise *x, struct side *s)
{
    struct span at = draw_span(x);

    note(x, "write %#zx, %zu bytes", at.off, at.len);
    has_written(x, at, face_pwrite(&s->file, fill(x, at.len), at.len, (off_t)at.off));
    return true;
}

static bool do_write_nothing(struct exercise *x, struct side *s)
{
    struct span at = draw_span(x);

    note(x, "write %#zx, nothing", at.off);
    gave(x, "write", face_pwrite(&s->file, x->scratch, 0, (off_t)at.off), 0);
    return true;
}

static bool do_write_unbuffered(struct exercise *x, struct side *s)
{
    struct span at = draw_span(x);

    if (!chance(x, 4)) {
        at.off &= ~(size_t)511;
        at.len = least((at.len + 511) & ~(size_t)511, LIMIT - at.off);
    }
    note(x, "write with O_DIRECT %#zx, %zu bytes", at.off, at.len);
    has_written(x, at, face_pwrite(&s->unbuffered, fill(x, at.len), at.len, (off_t)at.off));
    return true;
}

/*
 * The kernel must know the end where it alone takes it from there, or it takes the one that it knew before a direct
 * change (docs/COHERENCE.md, "What is not kept"). False: told.
 */
bool knows_end(struct exercise *x, const struct side *s)
{
    struct stat st;

    return x->way != WAY_BOTH || gave(x, "fstat", face_fstat(&s->file, &st), 0);
}

static bool do_writev(struct exercise *x, struct side *s)
{
    static const int flags[] = { 0, RWF_DSYNC, RWF_SYNC, RWF_APPEND };
    struct span at = draw_span(x);
    struct iovec iov[PIECES];
    bool two = chance(x, 2);
    int flag = two ? flags[draw(x, 4)] : 0;
    off_t off = (off_t)at.off;

    if (flag == RWF_APPEND) {
        at.off = x->size;
        at.len = least(at.len, LIMIT - x->size);
    }
    if (at.len == 0)
        return false;
    int n = cut(x, at.len, iov);
    fill(x, at.len);
    note(x, "%s %#zx, %zu bytes in pieces, flags %#x", two ? "pwritev2" : "pwritev", at.off, at.len,
         (unsigned)flag);
    if (flag != RWF_APPEND || knows_end(x, s))
        has_written(x, at,
                    error(two ? pwritev2(fd_of(&s->file), iov, n, off, flag)
                              : pwritev(fd_of(&s->file), iov, n, off)));
    return true;
}

static bool do_append(struct exercise *x, struct side *s)
{
    struct span at = draw_span(x);

    at.off = x->size;
    at.len = least(at.len, LIMIT - x->size);
    if (at.len == 0)
        return false;
    note(x, "append at %#zx, %zu bytes", at.off, at.len);
    has_written(x, at, face_append(&s->appending, fill(x, at.len), at.len));
    return true;
}

/* ---- pointers -------------------------------------------------------------------------------------- */

/* A range of the file to map: whole pages, up to that of the end. False: the file is empty. */
static bool draw_pages(struct exercise *x, struct span *ret)
{
    size_t pages = (x->size + PAGE - 1) / PAGE;

    if (pages == 0)
        return false;
    ret->off = (size_t)draw(x, pages) * PAGE;
    ret->len = least(x->size - ret->off, (size_t)(1 + draw(x, 8)) * PAGE);
    return true;
}

/* Of the mount: behind what its kernel takes for the end there is SIGBUS. */
static char *map(struct exercise *x, const struct side *s, struct span at)
{
    int prot = PROT_READ | PROT_WRITE;
    void *p = NULL;

    if (s->face.fs != NULL) {
        x->times = TIMES_MAY; /* holes are filled */
        gave(x, "shmfs_map", shmfs_map(s->file.file, (off_t)at.off, at.len, prot, &p), 0);
        return p;
    }
    if (!knows_end(x, s))
        return NULL;
    p = mmap(NULL, at.len, prot, MAP_SHARED, fd_of(&s->file), (off_t)at.off);
    if (p == MAP_FAILED) {
        gave(x, "mmap", -errno, 0);
        return NULL;
    }
    return p;
}

static void unmap(struct exercise *x, const struct side *s, void *p, size_t len)
{
    gave(x, "munmap", face_unmap(&s->face, p, len), 0);
}

static bool do_map_read(struct exercise *x, struct side *s)
{
    struct span at;

    if (!draw_pages(x, &at))
        return false;
    note(x, "read by a pointer %#zx, %zu bytes", at.off, at.len);
    char *p = map(x, s, at);
    if (p != NULL) {
        same(x, s, "what is mapped", p, at.off, at.len);
        unmap(x, s, p, at.len);
    }
    return true;
}

static void publish(struct exercise *x, const struct side *s, char *p, size_t page, struct span at)
{
    int r = s->face.fs != NULL ? shmfs_msync(s->file.file, (off_t)at.off, at.len)
                               : (int)error(msync(p, at.off - page + at.len, MS_SYNC));

    gave(x, "msync", r, 0);
}

/* Stores to p, which is the file at `base`, and publishes it at once: what is dirty is nobody else's. */
static void store(struct exercise *x, const struct side *s, char *p, size_t base, struct span at)
{
    size_t page = at.off & ~(size_t)(PAGE - 1);

    memcpy(p + (at.off - base), fill(x, at.len), at.len);
    publish(x, s, p + (page - base), page, at);
    x->times = TIMES_MOVE;
    model_write(x, at.off, x->scratch, at.len);
}

static bool do_store(struct exercise *x, struct side *s)
{
    struct span pages, at;

    if (!draw_pages(x, &pages))
        return false;
    at.off = pages.off + (size_t)draw(x, least(pages.len, PAGE));
    at.len = 1 + (size_t)draw(x, pages.off + pages.len - at.off);
    note(x, "store by a pointer %#zx, %zu bytes", at.off, at.len);
    char *p = map(x, s, pages);
    if (p != NULL) {
        store(x, s, p, pages.off, at);
        unmap(x, s, p, pages.len);
    }
    return true;
}

/* Maps a part, and leaves it so; or ends that. Pins change what truncate, punch and growing do. */
static bool do_hold(struct exercise *x, struct side *s)
{
    struct span at;

    if (s->held != NULL) {
        note(x, "let go what is held from %#zx, %zu bytes", s->held_off, s->held_len);
        unmap(x, s, s->held, s->held_len);
        s->held = NULL;
        return true;
    }
    /* With cache=none a mapping shows what others do only when it is made anew. */
    if ((s->face.fs == NULL && x->cache == CACHE_NONE) || !draw_pages(x, &at))
        return false;
    note(x, "hold %#zx, %zu bytes", at.off, at.len);
    s->held = map(x, s, at);
    s->held_off = at.off;
    s->held_len = at.len;
    return true;
}

static bool do_store_held(struct exercise *x, struct side *s)
{
    if (s->held == NULL || s->held_off >= x->size)
        return false;
    size_t n = least(s->held_len, x->size - s->held_off), skip = (size_t)draw(x, n);
    struct span at = { s->held_off + skip, 1 + (size_t)draw(x, n - skip) };
    note(x, "store to what is held %#zx, %zu bytes", at.off, at.len);
    if (knows_end(x, s))
        store(x, s, s->held, s->held_off, at);
    return true;
}

/*
 * Stores behind the end, in its page: nobody may ever see it (tmpfs shows it to who grows the file). Directly, also to
 * whole pages that are held and were cut off.
 */
static bool do_scribble(struct exercise *x, struct side *s)
{
    struct span last = { x->size & ~(size_t)(PAGE - 1), PAGE };
    size_t end = s->held_off + ((s->held_len + PAGE - 1) & ~(size_t)(PAGE - 1));

    if (s->face.fs != NULL && s->held != NULL && end > x->size) {
        size_t from = s->held_off > x->size ? s->held_off : x->size;

        note(x, "scribble behind the end to what is held, from %#zx to %#zx", from, end);
        memcpy(s->held + (from - s->held_off), fill(x, end - from), end - from);
        return true;
    }
    if (x->size % PAGE == 0)
        return false;
    note(x, "scribble behind the end to its page, from %#zx", x->size);
    char *p = map(x, s, last);
    if (p != NULL) {
        size_t within = x->size - last.off;

        memcpy(p + within, fill(x, PAGE - within), PAGE - within);
        publish(x, s, p, last.off, (struct span){ last.off, PAGE });
        x->times = TIMES_MAY; /* the page is written back, up to the end */
        unmap(x, s, p, PAGE);
    }
    return true;
}

const struct exercise_kind exercise_data[] = {
    { "read", do_read, 10, FOR_ALL },
    { "preadv", do_readv, 5, FOR_FD },
    { "read-unbuffered", do_read_unbuffered, 5, FOR_FD },
    { "write", do_write, 14, FOR_ALL },
    { "write-nothing", do_write_nothing, 1, FOR_ALL },
    { "pwritev", do_writev, 6, FOR_FD },
    { "write-unbuffered", do_write_unbuffered, 6, FOR_FD },
    { "append", do_append, 5, FOR_ALL },
    { "map-read", do_map_read, 6, FOR_ALL },
    { "store", do_store, 8, FOR_ALL },
    { "hold", do_hold, 6, FOR_ALL },
    { "store-held", do_store_held, 8, FOR_ALL },
    { "scribble", do_scribble, 4, FOR_MOUNT | FOR_DIRECT },
    { .name = NULL },
};
