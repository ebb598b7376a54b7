/* SPDX-License-Identifier: MIT */
/* Names: finding, making, moving and removing them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "ops.h"
#include "serve.h"
#include "told.h"

static void reply_found(fuse_req_t req, int r, const struct shmfs_attr *attr)
{
    if (r < 0)
        op_error(req, r);
    else
        op_entry(req, attr);
}

static struct shmfs_maker maker_of(fuse_req_t req)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);

    return (struct shmfs_maker){ .uid = ctx->uid, .gid = ctx->gid, .umask = ctx->umask };
}

/* What op_entry() wants, or the error; of what was made in PARENT. */
static void reply_made(fuse_req_t req, int r, fuse_ino_t parent, const struct shmfs_attr *attr)
{
    told_changed(op_driver(req), parent, r);
    reply_found(req, r, attr);
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    const struct driver *d = op_driver(req);
    struct fuse_entry_param none = { .entry_timeout = d->timeout };
    struct shmfs_attr attr;
    bool keep = d->timeout > 0 && d->keeps_names; /* that it does not exist */
    int r, absent;

    do {
        r = shmfs_node_lookup(d->fs, (uint32_t)parent, name, d->counting, &attr);
        absent = r == -ENOENT && d->cache == CACHE_COHERENT && keep
                     ? shmfs_lease_absent(d->fs, (uint32_t)parent, name)
                     : keep;
    } while (r == -ENOENT && absent == -EEXIST);
    if (r == -ENOENT && absent > 0)
        fuse_reply_entry(req, &none);
    else
        reply_found(req, r, &attr);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    const struct driver *d = op_driver(req);
    struct shmfs_maker maker = maker_of(req);
    struct shmfs_attr attr;
    unsigned tries = 0;
    int r;

    do
        r = shmfs_node_mknod(d->fs, (uint32_t)parent, name, mode, rdev, &maker, d->counting, &attr);
    while (serve_again(r, &tries));
    reply_made(req, r, parent, &attr);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    const struct driver *d = op_driver(req);
    struct shmfs_maker maker = maker_of(req);
    struct shmfs_attr attr;
    unsigned tries = 0;
    int r;

    do
        r = shmfs_node_mkdir(d->fs, (uint32_t)parent, name, mode, &maker, d->counting, &attr);
    while (serve_again(r, &tries));
    reply_made(req, r, parent, &attr);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    const struct driver *d = op_driver(req);
    struct shmfs_maker maker = maker_of(req);
    struct shmfs_attr attr;
    int r = shmfs_node_symlink(d->fs, target, (uint32_t)parent, name, &maker, d->counting, &attr);

    reply_made(req, r, parent, &attr);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
    const struct driver *d = op_driver(req);
    struct shmfs_attr attr;
    int r = shmfs_node_link(d->fs, (uint32_t)ino, (uint32_t)newparent, newname, d->counting, &attr);

    told_changed(d, ino, r);
    reply_made(req, r, newparent, &attr);
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    const struct driver *d = op_driver(req);
    struct shmfs_maker maker = maker_of(req);
    struct fuse_entry_param e;
    struct shmfs_attr attr;
    unsigned tries = 0;
    int r;

    do
        r = shmfs_node_mknod(d->fs, (uint32_t)parent, name, S_IFREG | (mode & 07777), 0, &maker, d->counting,
                             &attr);
    while (serve_again(r, &tries));
    /*
     * Somebody else has just made it, behind the kernel's back. It has not checked that file's
     * permissions: let it look the name up again and open what is there.
     */
    if (r == -EEXIST && !(fi->flags & O_EXCL))
        r = -ESTALE;
    if (r < 0) {
        op_error(req, r);
        return;
    }
    told_changed(d, parent, r);
    op_opened(d, fi);
    e = op_entry_param(d, &attr);
    if (fuse_reply_create(req, &e, fi) < 0 && d->counting)
        shmfs_node_forget(d->fs, attr.ino, 1);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    const struct driver *d = op_driver(req);
    int r;

    serve_removed();
    r = shmfs_node_unlink(d->fs, (uint32_t)parent, name);
    told_changed(d, parent, r);
    op_error(req, r);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    const struct driver *d = op_driver(req);
    int r;

    serve_removed();
    r = shmfs_node_rmdir(d->fs, (uint32_t)parent, name);
    told_changed(d, parent, r);
    op_error(req, r);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
               unsigned int flags)
{
    const struct driver *d = op_driver(req);
    struct shmfs_maker maker = maker_of(req); /* of a whiteout */
    struct shmfs_attr moved = { 0 };
    int r;

    serve_removed();
    shmfs_node_lookup(d->fs, (uint32_t)parent, name, false, &moved);
    r = shmfs_node_rename(d->fs, (uint32_t)parent, name, (uint32_t)newparent, newname, flags, &maker);
    told_changed(d, moved.ino, r); /* its ctime */
    told_changed(d, parent, r);
    if (newparent != parent)
        told_changed(d, newparent, r);
    op_error(req, r);
}

void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
    enum { TARGET_MAX = 4096 };
    char *target = serve_buffer(TARGET_MAX + 1);
    ssize_t n;

    if (!target) {
        op_error(req, -ENOMEM);
        return;
    }
    n = shmfs_node_readlink(op_driver(req)->fs, (uint32_t)ino, target, TARGET_MAX);
    if (n < 0) {
        op_error(req, (int)n);
        return;
    }
    target[n < TARGET_MAX ? n : TARGET_MAX] = '\0';
    fuse_reply_readlink(req, target);
}
