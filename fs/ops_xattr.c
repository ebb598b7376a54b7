/* SPDX-License-Identifier: MIT */
/* Extended attributes; ACLs are such, and the kernel acts on them. */
#include <errno.h>
#include <string.h>

#include "caller.h"
#include "ops.h"
#include "serve.h"
#include "told.h"

/* The kernel's longer form of this request is served in raw.c. */
void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
    const struct driver *d = op_driver(req);
    int r = shmfs_node_setxattr(d->fs, (uint32_t)ino, name, value, size, flags);

    told_changed(d, ino, r);
    op_error(req, r);
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
        n = strncmp(name, "system.posix_acl_", 17) == 0 ? op_lease(op_driver(req), ino, SHMFS_LEASE_ACL) : 0;
    if (buf && n == 0)
        n = shmfs_node_getxattr(op_driver(req)->fs, (uint32_t)ino, name, buf, size);
    reply_bytes(req, n, size, buf);
}

/* Only an administrator sees trusted attributes. */
static ssize_t hide_trusted(char *names, ssize_t n)
{
    ssize_t kept = 0;

    for (ssize_t at = 0, len; at < n; at += len) {
        len = (ssize_t)strlen(names + at) + 1;
        if (strncmp(names + at, "trusted.", 8) == 0)
            continue;
        memmove(names + kept, names + at, (size_t)len);
        kept += len;
    }
    return kept;
}

static bool has_trusted(const char *names, ssize_t n)
{
    for (ssize_t at = 0; at < n; at += (ssize_t)strlen(names + at) + 1) {
        if (strncmp(names + at, "trusted.", 8) == 0)
            return true;
    }
    return false;
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
    enum { LIST_MAX = 1 << 18 }; /* more than all attributes of a file can be */
    char *buf = serve_buffer(LIST_MAX);
    ssize_t n = -ENOMEM;

    if (buf)
        n = shmfs_node_listxattr(op_driver(req)->fs, (uint32_t)ino, buf, LIST_MAX);
    if (has_trusted(buf, n)) {
        struct caller caller = caller_of(fuse_req_ctx(req)->pid);

        if (!caller_can(&caller, CAP_SYS_ADMIN))
            n = hide_trusted(buf, n);
    }
    if (size > 0 && n > (ssize_t)size)
        n = -ERANGE;
    reply_bytes(req, n, size, buf);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    const struct driver *d = op_driver(req);
    int r = shmfs_node_removexattr(d->fs, (uint32_t)ino, name);

    told_changed(d, ino, r);
    op_error(req, r);
}
