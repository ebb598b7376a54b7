/* SPDX-License-Identifier: MIT */
/* What is in files. */
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "keep.h"
#include "later.h"
#include "ops.h"
#include "raw.h"
#include "serve.h"
#include "told.h"

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct shmfs *fs = op_driver(req)->fs;
    void *buf = serve_buffer(size);
    ssize_t n = -ENOMEM;

    if (buf)
        n = op_lease(op_driver(req), ino, SHMFS_LEASE_DATA);
    if (n == 0)
        n = fi->flags & O_NOATIME ? shmfs_node_peek(fs, (uint32_t)ino, buf, size, off)
                                  : shmfs_node_read(fs, (uint32_t)ino, buf, size, off);
    if (n < 0)
        op_error(req, (int)n);
    else
        fuse_reply_buf(req, buf, (size_t)n);
}

/* ---- appends ------------------------------------------------------------------------------------ */

/*
 * How long a write waits for the kernel to drop pages, in ms: those that nobody but a reader can have locked, and
 * the one that its request may have locked itself, which is then not dropped before the answer.
 */
enum { PAGE = 4096, MOST_MS = 20, LOCKED_MS = 2 };

/* What a write has in the wrong pages: bytes [from, to), and of their pages the one that the request ends in. */
struct misplaced {
    const struct driver *driver;
    fuse_ino_t ino;
    off_t from, to, last;
    off_t end;       /* of what was written */
    sem_t most, all; /* is dropped: but for the last page; that, too */
    atomic_int users;
};

static void misplaced_put(struct misplaced *m)
{
    if (atomic_fetch_sub(&m->users, 1) == 1) {
        sem_destroy(&m->most);
        sem_destroy(&m->all);
        free(m);
    }
}

static void misplaced_drop(const struct misplaced *m, off_t from, off_t to)
{
    if (from < to)
        fuse_lowlevel_notify_inval_inode(m->driver->session, m->ino, from, to - from);
}

static void misplaced_later(void *arg)
{
    struct misplaced *m = arg;
    off_t behind = m->last + PAGE;

    misplaced_drop(m, m->from, m->last < m->to ? m->last : m->to);
    misplaced_drop(m, behind > m->from ? behind : m->from, m->to);
    sem_post(&m->most);
    raw_raise_size(m->driver, (uint32_t)m->ino, (uint64_t)m->end);
    misplaced_drop(m, m->last, behind);
    sem_post(&m->all);
    misplaced_put(m);
}

static void await(sem_t *what, long ms)
{
    struct timespec end;

    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += ms * 1000000L;
    end.tv_sec += end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    while (sem_clockwait(what, CLOCK_MONOTONIC, &end) < 0 && errno == EINTR)
        ;
}

/*
 * The kernel has what it wrote in the wrong pages (an append that went to `at`, and not to `off`), or may have read a
 * page again before that was written, and drops them before who wrote hears of it. The page that the request ends in
 * cannot be dropped so long if the request has it locked, but then it is not kept either.
 */
static void drop_misplaced(const struct driver *d, fuse_ino_t ino, off_t off, off_t at, off_t n)
{
    struct misplaced *m = calloc(1, sizeof(*m));

    if (!m)
        return;
    *m = (struct misplaced){
        .driver = d,
        .ino = ino,
        .from = at < off ? at : off,
        .to = (at < off ? off : at) + n,
        .last = (off + n - 1) / PAGE * PAGE,
        .end = at + n,
        .users = 2,
    };
    sem_init(&m->most, 0, 0);
    sem_init(&m->all, 0, 0);
    if (!later_do(d->later, misplaced_later, m)) {
        misplaced_put(m);
    } else {
        serve_sleeps(true);
        await(&m->most, MOST_MS);
        await(&m->all, LOCKED_MS);
        serve_sleeps(false);
    }
    misplaced_put(m);
}

/* The data lies in the request's own memory; there is nothing that write_buf() could spare. */
void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
              struct fuse_file_info *fi)
{
    unsigned flags = 0, tries = 0;
    const struct driver *d = op_driver(req);
    uint64_t end = (uint64_t)off + size; /* beyond what a file can have, perhaps: that is found out below */
    off_t at = off;
    ssize_t n;

    if (raw_write_kills_priv())
        flags |= SHMFS_WRITE_KILL_PRIV | (op_kill_sgid(req, ino) ? SHMFS_WRITE_KILL_SGID : 0);
    if (d->cache == CACHE_COHERENT)
        flags |= SHMFS_WRITE_CACHED;
    if (d->cache == CACHE_COHERENT && end / PAGE > ((uint64_t)off + PAGE - 1) / PAGE)
        flags |= SHMFS_WRITE_PAGES;
    /* Where the kernel believes the end to be counts for nothing; what it writes back is no append. */
    if ((fi->flags & O_APPEND) && !fi->writepage && d->cache != CACHE_WRITEBACK) {
        flags |= SHMFS_WRITE_APPEND;
        if (off % PAGE != 0 && end % PAGE == 0 && size < PAGE)
            flags |= SHMFS_WRITE_HALF;
    }
    bool dropped = shmfs_lease_dropped_lately(d->fs, (uint32_t)ino);
    do
        n = shmfs_node_write(d->fs, (uint32_t)ino, buf, size, off, flags, &at);
    while (serve_again((int)n, &tries));
    /* A page that is being written back stays where it is until we have answered. */
    bool doubtful = !fi->writepage && shmfs_lease_has_pages(d->fs, (uint32_t)ino) &&
                    (dropped || shmfs_lease_dropped_lately(d->fs, (uint32_t)ino));
    if (n > 0 && d->cache == CACHE_COHERENT && (at != off || doubtful))
        drop_misplaced(d, ino, off, at, n);
    if (flags & SHMFS_WRITE_HALF)
        shmfs_lease_half_done(d->fs, (uint32_t)ino);
    if (n < 0)
        op_error(req, (int)n);
    else if (d->keep && d->cache == CACHE_NONE && n > 0 && (fi->flags & (O_SYNC | O_DSYNC)))
        keep_written(d->keep, req,
                     (size_t)n); /* after a write that passes its cache by, the kernel asks for no fsync */
    else
        fuse_reply_write(req, (size_t)n);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    struct driver *d = op_driver(req);

    (void)datasync;
    (void)fi;
    if (d->keep)
        keep_fsync(d->keep, req); /* all that there is: a snapshot has no parts */
    else
        op_error(req, shmfs_node_fsync(d->fs, (uint32_t)ino));
}

/*
 * RLIMIT_FSIZE of the caller: the kernel looks at it only where the size is to grow, but on tmpfs also for blocks
 * behind the end.
 */
static bool beyond_limit(fuse_req_t req, fuse_ino_t ino, int mode, uint64_t end)
{
    pid_t tid = fuse_req_ctx(req)->pid; /* 0: of another PID namespace */
    struct shmfs_attr attr;
    struct rlimit limit;

    if (tid <= 0 || (mode & (FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE)) != FALLOC_FL_KEEP_SIZE ||
        prlimit(tid, RLIMIT_FSIZE, NULL, &limit) < 0 || end <= limit.rlim_cur)
        return false;
    return shmfs_node_getattr(op_driver(req)->fs, (uint32_t)ino, &attr) == 0 && end > attr.size;
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t length,
                  struct fuse_file_info *fi)
{
    struct shmfs *fs = op_driver(req)->fs;
    unsigned tries = 0;
    int r = beyond_limit(req, ino, mode, (uint64_t)off + (uint64_t)length) ? -EFBIG : op_kill_priv(req, ino);

    (void)fi;
    if (r == 0) {
        do
            r = shmfs_node_fallocate(fs, (uint32_t)ino, mode, off, length);
        while (serve_again(r, &tries));
    }
    told_changed(op_driver(req), ino, r);
    op_error(req, r);
}

/* ---- holes -------------------------------------------------------------------------------------- */

struct seek {
    fuse_req_t req;
    fuse_ino_t ino;
    off_t off;
    int whence;
};

/*
 * What programs have stored through a mapping may still be dirty in the kernel, which does not think
 * of it before it asks us for holes: a copy that skips holes would lose it. So it is told to write
 * back first.
 */
static void seek_later(void *arg)
{
    struct seek *s = arg;
    const struct driver *d = op_driver(s->req);
    off_t at;

    fuse_lowlevel_notify_inval_inode(d->session, s->ino, s->off, 0);
    at = shmfs_node_lseek(d->fs, (uint32_t)s->ino, s->off, s->whence);
    if (at < 0)
        op_error(s->req, (int)at);
    else
        fuse_reply_lseek(s->req, at);
    free(s);
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
    struct seek *s = malloc(sizeof(*s));

    (void)fi;
    if (s) {
        *s = (struct seek){ .req = req, .ino = ino, .off = off, .whence = whence };
        if (later_do(op_driver(req)->later, seek_later, s))
            return;
    }
    free(s);
    op_error(req, -ENOMEM);
}

void op_copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_off, struct fuse_file_info *from_fi,
                        fuse_ino_t to, off_t to_off, struct fuse_file_info *to_fi, size_t n, int flags)
{
    ssize_t copied;

    (void)from_fi;
    (void)to_fi;
    if (flags != 0) {
        op_error(req, -EINVAL);
        return;
    }
    copied = op_kill_priv(req, to);
    if (copied == 0)
        copied = shmfs_node_copy(op_driver(req)->fs, (uint32_t)from, from_off, (uint32_t)to, to_off, n);
    if (copied < 0)
        op_error(req, (int)copied);
    else
        fuse_reply_write(req, (size_t)copied);
}
