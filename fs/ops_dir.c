/* SPDX-License-Identifier: MIT */
/* Listing directories. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "later.h"
#include "notify.h"
#include "ops.h"
#include "serve.h"

enum {
    BATCH = 32,    /* entries that the library gives at a time */
    QUIET_SEC = 2, /* for which a directory has not changed when its listing is kept */
};

/* A reply being filled. */
struct listing {
    fuse_req_t req;
    const struct driver *driver;
    uint32_t ino;
    bool plus;
    char *buf;
    size_t size, used;
};

/* "." and "..": the kernel knows them, and counts no lookups for them. */
static bool is_dot(const struct shmfs_dirent *e)
{
    return e->name[0] == '.' && (e->len == 1 || (e->len == 2 && e->name[1] == '.'));
}

static size_t add(struct listing *l, const struct shmfs_dirent *e, const struct fuse_entry_param *param)
{
    char *at = l->buf ? l->buf + l->used : NULL;
    size_t left = l->size - l->used;

    if (l->plus)
        return fuse_add_direntry_plus(l->req, at, left, e->name, param, (off_t)e->next);
    return fuse_add_direntry(l->req, at, left, e->name, &param->attr, (off_t)e->next);
}

/* Attributes of an entry for READDIRPLUS. -ENOENT: it is gone. */
static int take_entry(const struct driver *d, uint32_t dir, const struct shmfs_dirent *e,
                      struct shmfs_attr *ret_attr)
{
    struct shmfs_attr attr;
    int r;

    if (d->counting) {
        r = shmfs_node_ref(d->fs, dir, e, &attr);
    } else {
        r = shmfs_node_getattr(d->fs, e->ino, &attr);
        if (r == 0 && attr.generation != e->generation)
            r = -ENOENT;
    }
    if (r == 0)
        *ret_attr = attr;
    return r == -ESTALE ? -ENOENT : r;
}

/* Adds an entry; false: it does not fit. A lookup is counted only for one that does. */
static bool add_entry(struct listing *l, const struct shmfs_dirent *e)
{
    struct fuse_entry_param param = {
        .attr = { .st_ino = e->ino, .st_mode = (mode_t)e->type << 12 },
    };
    struct shmfs_attr attr;
    struct listing measure = { .req = l->req, .plus = l->plus };
    int r;

    if (add(&measure, e, &param) > l->size - l->used)
        return false;
    if (l->plus && !is_dot(e)) {
        r = take_entry(l->driver, l->ino, e, &attr);
        if (r == -ENOENT)
            return true;
        /* One that cannot be read is listed all the same; stat() will say what is wrong with it. */
        if (r == 0)
            param = op_entry_param(l->driver, &attr);
    }
    l->used += add(l, e, &param);
    return true;
}

static int fill(struct listing *l, uint64_t cookie)
{
    struct shmfs_dirent batch[BATCH];
    int r = op_lease(l->driver, l->ino, SHMFS_LEASE_DATA);

    if (r < 0)
        return r;
    for (;;) {
        int n = shmfs_node_readdir(l->driver->fs, l->ino, cookie, batch, BATCH);

        if (n <= 0)
            return n;
        for (int i = 0; i < n; i++) {
            if (!add_entry(l, &batch[i]))
                return 0;
        }
        cookie = batch[n - 1].next;
    }
}

/* The end of a listing that is about to be answered. */
struct end {
    fuse_req_t req;
    fuse_ino_t ino;
};

static void end_later(void *arg)
{
    struct end *e = arg;
    const struct driver *d = op_driver(e->req);

    fuse_lowlevel_notify_inval_inode(d->session, e->ino, 0, 0);
    fuse_reply_buf(e->req, NULL, 0);
    if (shmfs_lease_listing_is_old(d->fs, (uint32_t)e->ino))
        notify_listing_is_old(d->notify, (uint32_t)e->ino);
    free(e);
}

static bool has_just_changed(const struct driver *d, fuse_ino_t ino)
{
    struct shmfs_attr attr;

    return shmfs_node_getattr(d->fs, (uint32_t)ino, &attr) < 0 ||
           labs((long)(time(NULL) - attr.ctime.tv_sec)) <= QUIET_SEC;
}

/*
 * With the answer that it has ended the kernel takes a listing for whole, and serves others from it. Whether it is old it
 * asks only where somebody begins: who has begun before, and comes to his second part, would get what was listed
 * before the last change. So where there was one the pages are dropped first; then he finds them missing, and asks us.
 */
static bool ends_without_keeping(fuse_req_t req, fuse_ino_t ino)
{
    const struct driver *d = op_driver(req);
    struct end *e;

    if (d->cache == CACHE_NONE || !d->keeps_names ||
        !(shmfs_lease_listing_is_old(d->fs, (uint32_t)ino) || has_just_changed(d, ino)))
        return false;
    e = malloc(sizeof(*e));
    if (!e)
        return false;
    *e = (struct end){ .req = req, .ino = ino };
    if (later_do(d->later, end_later, e)) /* it waits for pages, whose readers may wait for a worker */
        return true;
    free(e);
    return false;
}

/*
 * The kernel goes on after the last entry that it was given, so entries that were left out because
 * they are gone are simply looked at again. (If a reply with counted lookups does not arrive, the
 * mount is gone, and the counts with it.)
 */
static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
    struct listing l = {
        .req = req, .driver = op_driver(req), .ino = (uint32_t)ino, .plus = plus, .size = size
    };
    int r = -ENOMEM;

    l.buf = serve_buffer(size);
    if (l.buf)
        r = fill(&l, (uint64_t)off);
    if (r < 0 && l.used == 0)
        op_error(req, r);
    else if (l.used > 0 || !ends_without_keeping(req, ino))
        fuse_reply_buf(req, l.buf, l.used);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    (void)fi;
    list(req, ino, size, off, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    (void)fi;
    list(req, ino, size, off, true);
}
