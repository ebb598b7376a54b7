/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "ops.h"
#include "raw.h"
#include "told.h"

/* ---- the wire ----------------------------------------------------------------------------------- */

enum opcode {
    OP_SETATTR = 4,
    OP_WRITE = 16,
    OP_SETXATTR = 21,
    OP_INIT = 26,
    OP_SETLK = 32,
    OP_SETLKW = 33,
    OP_FALLOCATE = 43,
    OP_COPY_FILE_RANGE = 47,
    OP_SYNCFS = 50,
    OP_POLL = 40,
    OP_TMPFILE = 51,
    OP_STATX = 52,
};

/* INIT: the low word of the flags, and the high one as it comes in flags2. */
#define INIT_PARALLEL_DIROPS (1u << 18)
#define INIT_HANDLE_KILLPRIV_V2 (1u << 28)
#define INIT_SETXATTR_EXT (1u << 29)
#define INIT_EXT (1u << 30)
#define INIT2_DIRECT_IO_ALLOW_MMAP (1u << (36 - 32))
#define INIT2_ALLOW_IDMAP (1u << (40 - 32))

#define WRITE_KILL_SUIDGID (1u << 2)
#define FATTR_FH (1u << 6)
#define FATTR_LOCKOWNER (1u << 9)
#define FATTR_CTIME (1u << 10)
#define FATTR_KILL_SUIDGID (1u << 11)
#define SETXATTR_ACL_KILL_SGID (1u << 0)
#define FOPEN_DIRECT_IO (1u << 0)
#define FOPEN_KEEP_CACHE (1u << 1)

struct in_header {
    uint32_t len, opcode;
    uint64_t unique, nodeid;
    uint32_t uid, gid, pid;
    uint16_t total_extlen, padding;
};
_Static_assert(sizeof(struct in_header) == 40, "fuse_in_header");

struct out_header {
    uint32_t len;
    int32_t error;
    uint64_t unique;
};
_Static_assert(sizeof(struct out_header) == 16, "fuse_out_header");

struct poll_in {
    uint64_t fh, open;
    uint32_t flags, events;
};

struct init_in {
    uint32_t major, minor, max_readahead, flags, flags2;
    uint32_t unused[11];
};
_Static_assert(sizeof(struct init_in) == 64, "fuse_init_in");

struct init_out {
    uint32_t major, minor, max_readahead, flags;
    uint16_t max_background, congestion_threshold;
    uint32_t max_write, time_gran;
    uint16_t max_pages, map_alignment;
    uint32_t flags2;
    uint32_t unused[7];
};
_Static_assert(sizeof(struct init_out) == 64, "fuse_init_out");

struct attr {
    uint64_t ino, size, blocks, atime, mtime, ctime;
    uint32_t atimensec, mtimensec, ctimensec, mode, nlink, uid, gid, rdev, blksize, flags;
};
_Static_assert(sizeof(struct attr) == 88, "fuse_attr");

struct entry_out {
    uint64_t nodeid, generation, entry_valid, attr_valid;
    uint32_t entry_valid_nsec, attr_valid_nsec;
    struct attr attr;
};
_Static_assert(sizeof(struct entry_out) == 128, "fuse_entry_out");

struct open_out {
    uint64_t fh;
    uint32_t open_flags;
    int32_t backing_id;
};

struct create_in {
    uint32_t flags, mode, umask, open_flags;
};

struct write_in {
    uint64_t fh, offset;
    uint32_t size, write_flags;
    uint64_t lock_owner;
    uint32_t flags, padding;
};
_Static_assert(sizeof(struct write_in) == 40, "fuse_write_in");

struct lk_in {
    uint64_t fh, owner, start, end;
    uint32_t type, pid, lk_flags, padding;
};
_Static_assert(sizeof(struct lk_in) == 48, "fuse_lk_in");

struct setxattr_in {
    uint32_t size, flags, setxattr_flags, padding;
};

struct sx_time {
    int64_t sec;
    uint32_t nsec;
    int32_t reserved;
};

struct statx_in {
    uint32_t getattr_flags, reserved;
    uint64_t fh;
    uint32_t sx_flags, sx_mask;
};

struct statx_out {
    uint64_t attr_valid;
    uint32_t attr_valid_nsec, flags;
    uint64_t spare[2];
    uint32_t mask, blksize;
    uint64_t attributes;
    uint32_t nlink, uid, gid;
    uint16_t mode, spare0;
    uint64_t ino, size, blocks, attributes_mask;
    struct sx_time atime, btime, ctime, mtime;
    uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
    uint64_t spare2[14];
};
_Static_assert(sizeof(struct statx_out) == 32 + 256, "fuse_statx_out");

/* ---- the request at hand ------------------------------------------------------------------------ */

static _Thread_local struct {
    const struct in_header *header;
    size_t size;
} current;

/* What follows the header, if that much has come; the kernel sends whole structures. */
static const void *body_of(uint32_t opcode, size_t size)
{
    if (!current.header || current.header->opcode != opcode || current.size < sizeof(struct in_header) + size)
        return NULL;
    return current.header + 1;
}

bool raw_write_kills_priv(void)
{
    const struct write_in *in = body_of(OP_WRITE, sizeof(*in));

    return in && (in->write_flags & WRITE_KILL_SUIDGID);
}

pid_t raw_lock_pid(void)
{
    const struct lk_in *in = body_of(OP_SETLK, sizeof(*in));

    if (!in)
        in = body_of(OP_SETLKW, sizeof(*in));
    return in ? (pid_t)in->pid : 0;
}

uint64_t raw_poll_open(void)
{
    const struct poll_in *in = body_of(OP_POLL, sizeof(*in));

    return in ? in->open : 0;
}

bool raw_setattr_kills_priv(void)
{
    const uint32_t *valid = body_of(OP_SETATTR, sizeof(*valid));

    return valid && (*valid & FATTR_KILL_SUIDGID);
}

bool raw_setattr_is_empty(void)
{
    const uint32_t *valid = body_of(OP_SETATTR, sizeof(*valid));

    return valid && (*valid & ~(FATTR_FH | FATTR_LOCKOWNER | FATTR_CTIME)) == 0;
}

/* ---- INIT --------------------------------------------------------------------------------------- */

void raw_patch_reply(struct driver *d, const struct iovec *iov, int count)
{
    const struct init_in *in = body_of(OP_INIT, offsetof(struct init_in, flags2));
    uint32_t want = INIT_PARALLEL_DIROPS | INIT_HANDLE_KILLPRIV_V2 | INIT_SETXATTR_EXT;
    uint32_t want2 = INIT2_ALLOW_IDMAP | (d->cache == CACHE_NONE ? INIT2_DIRECT_IO_ALLOW_MMAP : 0);
    struct init_out *out;

    if (!in || count != 2 || ((struct out_header *)iov[0].iov_base)->error != 0)
        return;
    if (iov[1].iov_len < offsetof(struct init_out, flags2) + sizeof(out->flags2))
        return; /* an old kernel, which has none of this */
    out = iov[1].iov_base;
    out->flags |= want & in->flags;
    if ((in->flags & INIT_EXT) && body_of(OP_INIT, sizeof(*in)) && (want2 & in->flags2)) {
        out->flags |= INIT_EXT;
        out->flags2 |= want2 & in->flags2;
    }
    d->setxattr_ext = out->flags & INIT_SETXATTR_EXT;
    if (d->debug)
        fprintf(stderr, "   INIT patched: flags=0x%08x flags2=0x%08x\n", out->flags, out->flags2);
}

/* ---- requests ----------------------------------------------------------------------------------- */

/* Returns 0, or the error that the kernel had with it. */
static int reply(struct driver *d, int fd, int error, const void *body, size_t size)
{
    struct out_header header = {
        .len = (uint32_t)(sizeof(header) + size),
        .error = error,
        .unique = current.header->unique,
    };
    struct iovec iov[2] = {
        { .iov_base = &header, .iov_len = sizeof(header) },
        { .iov_base = (void *)(uintptr_t)body, .iov_len = size },
    };

    if (d->debug)
        fprintf(stderr, "   unique: %llu, error: %i, outsize: %u\n", (unsigned long long)header.unique, error,
                header.len);
    return writev(fd, iov, size ? 2 : 1) < 0 ? -errno : 0;
}

static struct sx_time statx_time(const struct timespec *t)
{
    return (struct sx_time){ .sec = t->tv_sec, .nsec = (uint32_t)t->tv_nsec };
}

static void serve_statx(struct driver *d, int fd)
{
    struct shmfs_attr attr;
    struct statx_out out = { .blksize = 4096 };
    int r = op_getattr_leased(d, (uint32_t)current.header->nodeid, &attr);

    out.attr_valid = (uint64_t)driver_keeps(d, attr.leases, SHMFS_LEASE_ATTR);
    if (r < 0) {
        reply(d, fd, r, NULL, 0);
        return;
    }
    out.mask = STATX_BASIC_STATS | STATX_BTIME;
    out.ino = attr.ino;
    out.mode = (uint16_t)attr.mode;
    out.nlink = attr.nlink;
    out.uid = attr.uid;
    out.gid = attr.gid;
    out.size = attr.size;
    out.blocks = attr.blocks;
    out.atime = statx_time(&attr.atime);
    out.btime = statx_time(&attr.btime);
    out.ctime = statx_time(&attr.ctime);
    out.mtime = statx_time(&attr.mtime);
    out.rdev_major = major(attr.rdev);
    out.rdev_minor = minor(attr.rdev);
    reply(d, fd, 0, &out, sizeof(out));
}

static void fill_entry(const struct driver *d, const struct shmfs_attr *attr, struct entry_out *ret)
{
    *ret = (struct entry_out){
        .nodeid = attr->ino,
        .generation = driver_generation(attr),
        .entry_valid = (uint64_t)driver_keeps(d, attr->leases, SHMFS_LEASE_NAME),
        .attr_valid = (uint64_t)driver_keeps(d, attr->leases, SHMFS_LEASE_ATTR),
        .attr = {
            .ino = attr->ino,
            .size = attr->size,
            .blocks = attr->blocks,
            .atime = (uint64_t)attr->atime.tv_sec,
            .mtime = (uint64_t)attr->mtime.tv_sec,
            .ctime = (uint64_t)attr->ctime.tv_sec,
            .atimensec = (uint32_t)attr->atime.tv_nsec,
            .mtimensec = (uint32_t)attr->mtime.tv_nsec,
            .ctimensec = (uint32_t)attr->ctime.tv_nsec,
            .mode = attr->mode,
            .nlink = attr->nlink,
            .uid = attr->uid,
            .gid = attr->gid,
            .rdev = (uint32_t)attr->rdev,
            .blksize = 4096,
        },
    };
}

/* open(dir, O_TMPFILE) */
static void serve_tmpfile(struct driver *d, int fd)
{
    const struct in_header *header = current.header;
    const struct create_in *in = body_of(OP_TMPFILE, sizeof(*in));
    struct {
        struct entry_out entry;
        struct open_out open;
    } out = {
        .open.fh = op_handle(d),
        .open.open_flags = d->cache == CACHE_NONE ? FOPEN_DIRECT_IO : FOPEN_KEEP_CACHE,
    };
    struct shmfs_attr attr;
    int r = -EINVAL;

    if (in) {
        struct shmfs_maker maker = { .uid = header->uid, .gid = header->gid, .umask = in->umask };

        r = shmfs_node_tmpfile(d->fs, (uint32_t)header->nodeid, in->mode, &maker, &attr);
    }
    if (r < 0) {
        reply(d, fd, r, NULL, 0);
        return;
    }
    fill_entry(d, &attr, &out.entry);
    if (reply(d, fd, 0, &out, sizeof(out)) < 0)
        shmfs_node_forget(d->fs, attr.ino, 1); /* nobody has it */
}

static void serve_setxattr(struct driver *d, int fd)
{
    const struct setxattr_in *in = body_of(OP_SETXATTR, sizeof(*in));
    const char *end = (const char *)current.header + current.size;
    int r = -EINVAL;

    if (in) {
        const char *name = (const char *)(in + 1);
        size_t length = strnlen(name, (size_t)(end - name));
        if (length < (size_t)(end - name) && in->size <= (size_t)(end - name) - length - 1) {
            int kill = in->setxattr_flags & SETXATTR_ACL_KILL_SGID ? SHMFS_XATTR_KILL_SGID : 0;

            r = shmfs_node_setxattr(d->fs, (uint32_t)current.header->nodeid, name, name + length + 1,
                                    in->size, (int)in->flags | kill);
            told_changed(d, current.header->nodeid, r);
        }
    }
    reply(d, fd, r, NULL, 0);
}

enum { NOTIFY_STORE = 4, NOTIFY_INC_EPOCH = 8 };

int raw_drop_all_names(const struct driver *d)
{
    struct out_header header = { .len = sizeof(header), .error = NOTIFY_INC_EPOCH };

    return write(fuse_session_fd(d->session), &header, sizeof(header)) < 0 ? -errno : 0;
}

struct notify_store {
    uint64_t nodeid, offset;
    uint32_t size, padding;
};

/*
 * A store into the page cache raises the size first. Its data cannot be read here, so that it ends with EFAULT then: what
 * is in the page may belong to a write that is on its way to us, and must stay.
 */
void raw_raise_size(const struct driver *d, uint32_t ino, uint64_t size)
{
    struct notify_store store = { .nodeid = ino, .offset = size - 1, .size = 1 };
    struct out_header header = { .len = sizeof(header) + sizeof(store) + 1, .error = NOTIFY_STORE };
    const struct iovec iov[3] = {
        { .iov_base = &header, .iov_len = sizeof(header) },
        { .iov_base = &store, .iov_len = sizeof(store) },
        { .iov_base = d->unreadable, .iov_len = 1 },
    };

    if (size > 0 && writev(fuse_session_fd(d->session), iov, 3) >= 0 && d->debug)
        fprintf(stderr, "   the kernel could read what it cannot\n");
}

pid_t raw_pid(const void *request)
{
    return (pid_t)((const struct in_header *)request)->pid;
}

bool raw_may_take_long(const void *request)
{
    uint32_t opcode = ((const struct in_header *)request)->opcode;

    return opcode == OP_FALLOCATE || opcode == OP_COPY_FILE_RANGE;
}

bool raw_serve(struct driver *d, int fd, const void *request, size_t size)
{
    current.header = request;
    current.size = size;
    switch (current.header->opcode) {
    case OP_STATX:
        serve_statx(d, fd);
        break;
    case OP_TMPFILE:
        serve_tmpfile(d, fd);
        break;
    case OP_SYNCFS: /* everything that was written is in the region */
        reply(d, fd, 0, NULL, 0);
        break;
    case OP_SETXATTR:
        if (!d->setxattr_ext)
            return false;
        serve_setxattr(d, fd);
        break;
    default:
        return false;
    }
    if (d->debug)
        fprintf(stderr, "unique: %llu was opcode %u, served without libfuse\n",
                (unsigned long long)current.header->unique, current.header->opcode);
    return true;
}
