/* SPDX-License-Identifier: MIT */
/* Extended attributes; ACLs are such, and the kernel acts on them. */
#include <errno.h>

#include "ops.h"
#include "serve.h"

/* The kernel's longer form of this request is served in raw.c. */
void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
    op_error(req, shmfs_node_setxattr(op_driver(req)->fs, (uint32_t)ino, name, value, size, flags));
}

/* For size 0 only how long the answer is. */
static void reply_bytes(fuse_req_t req, ssize_t n, size_t size, const char *buf)
{
    if (n < 0)
        op_error(req, (int)n);
    else if (size == 0)
        fuse_reply_xattr(req, (size_t)n);
    else
        fuse_reply_buf(req, buf, (size_t)n);
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    char *buf = serve_buffer(size);
    ssize_t n = -ENOMEM;

    if (buf)
        n = shmfs_node_getxattr(op_driver(req)->fs, (uint32_t)ino, name, buf, size);
    reply_bytes(req, n, size, buf);
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
    char *buf = serve_buffer(size);
    ssize_t n = -ENOMEM;

    if (buf)
        n = shmfs_node_listxattr(op_driver(req)->fs, (uint32_t)ino, buf, size);
    reply_bytes(req, n, size, buf);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    op_error(req, shmfs_node_removexattr(op_driver(req)->fs, (uint32_t)ino, name));
}
