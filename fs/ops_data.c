/* SPDX-License-Identifier: MIT */
/* What is in files. */
#include <errno.h>
#include <stdlib.h>

#include "later.h"
#include "ops.h"
#include "raw.h"
#include "serve.h"

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    void *buf = serve_buffer(size);
    ssize_t n = -ENOMEM;

    (void)fi;
    if (buf)
        n = shmfs_node_read(op_driver(req)->fs, (uint32_t)ino, buf, size, off);
    if (n < 0)
        op_error(req, (int)n);
    else
        fuse_reply_buf(req, buf, (size_t)n);
}

/* The data lies in the request's own memory; there is nothing that write_buf() could spare. */
void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
              struct fuse_file_info *fi)
{
    unsigned flags = raw_write_kills_priv() ? SHMFS_WRITE_KILL_PRIV : 0, tries = 0;
    ssize_t n;

    (void)fi;
    do
        n = shmfs_node_write(op_driver(req)->fs, (uint32_t)ino, buf, size, off, flags, NULL);
    while (serve_again((int)n, &tries));
    if (n < 0)
        op_error(req, (int)n);
    else
        fuse_reply_write(req, (size_t)n);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    (void)datasync;
    (void)fi;
    op_error(req, shmfs_node_fsync(op_driver(req)->fs, (uint32_t)ino));
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t length,
                  struct fuse_file_info *fi)
{
    struct shmfs *fs = op_driver(req)->fs;
    unsigned tries = 0;
    int r = op_kill_priv(req, ino);

    (void)fi;
    if (r == 0) {
        do
            r = shmfs_node_fallocate(fs, (uint32_t)ino, mode, off, length);
        while (serve_again(r, &tries));
    }
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
