/* SPDX-License-Identifier: MIT */
/* Names: finding, making, moving and removing them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "ops.h"
#include "serve.h"

static struct shmfs_maker maker_of(fuse_req_t req)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);

    return (struct shmfs_maker){ .uid = ctx->uid, .gid = ctx->gid, .umask = ctx->umask };
}

/* What op_entry() wants, or the error. */
static void reply_made(fuse_req_t req, int r, const struct shmfs_attr *attr)
{
    if (r < 0)
        op_error(req, r);
    else
        op_entry(req, attr);
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
        reply_made(req, r, &attr);
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
    reply_made(req, r, &attr);
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
    reply_made(req, r, &attr);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    const struct driver *d = op_driver(req);
    struct shmfs_maker maker = maker_of(req);
    struct shmfs_attr attr;

    reply_made(req, shmfs_node_symlink(d->fs, target, (uint32_t)parent, name, &maker, d->counting, &attr),
               &attr);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
    const struct driver *d = op_driver(req);
    struct shmfs_attr attr;

    reply_made(req, shmfs_node_link(d->fs, (uint32_t)ino, (uint32_t)newparent, newname, d->counting, &attr),
               &attr);
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
    op_opened(d, fi);
    e = op_entry_param(d, &attr);
    if (fuse_reply_create(req, &e, fi) < 0 && d->counting)
        shmfs_node_forget(d->fs, attr.ino, 1);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    serve_removed();
    op_error(req, shmfs_node_unlink(op_driver(req)->fs, (uint32_t)parent, name));
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    serve_removed();
    op_error(req, shmfs_node_rmdir(op_driver(req)->fs, (uint32_t)parent, name));
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
               unsigned int flags)
{
    struct shmfs_maker maker = maker_of(req); /* of a whiteout */

    serve_removed();
    op_error(req, shmfs_node_rename(op_driver(req)->fs, (uint32_t)parent, name, (uint32_t)newparent, newname,
                                    flags, &maker));
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
