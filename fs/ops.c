/* SPDX-License-Identifier: MIT */
/* The mount as a whole, and attributes. */
#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "caller.h"
#include "ops.h"
#include "raw.h"
#include "serve.h"
#include "told.h"
#include "watch.h"

/* ---- answers ------------------------------------------------------------------------------------ */

struct driver *op_driver(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

void op_error(fuse_req_t req, int error)
{
    /* ENOSYS would make the kernel never ask again, for any file. */
    fuse_reply_err(req, error == -ENOSYS ? EOPNOTSUPP : -error);
}

void driver_stat(const struct shmfs_attr *attr, struct stat *ret)
{
    *ret = (struct stat){
        .st_ino = attr->ino,
        .st_mode = attr->mode,
        .st_nlink = attr->nlink,
        .st_uid = attr->uid,
        .st_gid = attr->gid,
        .st_rdev = attr->rdev,
        .st_size = (off_t)attr->size,
        .st_blocks = (blkcnt_t)attr->blocks,
        .st_blksize = 4096,
        .st_atim = attr->atime,
        .st_mtim = attr->mtime,
        .st_ctim = attr->ctime,
    };
}

static void op_settle(const struct driver *d, uint32_t ino)
{
    if (d->cache != CACHE_COHERENT || shmfs_lease_is_settled(d->fs, ino))
        return;
    serve_sleeps(true); /* what we wait for may need a worker */
    shmfs_lease_settle(d->fs, ino);
    serve_sleeps(false);
}

struct fuse_entry_param op_entry_param(const struct driver *d, const struct shmfs_attr *attr)
{
    op_settle(d, attr->ino);
    struct fuse_entry_param e = {
        .ino = attr->ino,
        .generation = driver_generation(attr),
        .attr_timeout = driver_keeps(d, attr->leases, SHMFS_LEASE_ATTR),
        .entry_timeout = driver_keeps(d, attr->leases, SHMFS_LEASE_NAME),
    };

    driver_stat(attr, &e.attr);
    if (e.attr_timeout > 0) {
        struct shmfs_attr again;

        told_attr(d, attr->ino); /* and what was changed before this is answered as it is now */
        if (shmfs_node_getattr(d->fs, attr->ino, &again) == 0 && again.generation == attr->generation)
            driver_stat(&again, &e.attr);
    }
    return e;
}

void op_entry(fuse_req_t req, const struct shmfs_attr *attr)
{
    struct driver *d = op_driver(req);
    struct fuse_entry_param e = op_entry_param(d, attr);

    if (fuse_reply_entry(req, &e) < 0 && d->counting)
        shmfs_node_forget(d->fs, attr->ino, 1);
}

/* ---- the mount ---------------------------------------------------------------------------------- */

/*
 * Linux 6.19 to 7.0 drops a name without waiting for who is just looking it up, or listing the directory: an answer on
 * its way would stay (docs/COHERENCE.md).
 */
static bool kernel_orders_names(void)
{
    unsigned major = 0, minor = 0;
    struct utsname name;

    if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2)
        return true;
    return !(major == 6 && minor >= 19) && !(major == 7 && minor == 0);
}

static void op_init(void *data, struct fuse_conn_info *conn)
{
    struct driver *d = data;
    unsigned want = FUSE_CAP_ASYNC_READ | FUSE_CAP_DONT_MASK | FUSE_CAP_POSIX_ACL | FUSE_CAP_EXPORT_SUPPORT |
                    FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_ASYNC_DIO |
                    FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_IOCTL_DIR;

    if (d->cache == CACHE_NONE)
        want |= FUSE_CAP_AUTO_INVAL_DATA; /* of what is mapped: pages there are, then */
    else
        want |= FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_EXPLICIT_INVAL_DATA;
    if (d->cache == CACHE_WRITEBACK)
        want |= FUSE_CAP_WRITEBACK_CACHE;
    /*
     * Exactly these: of libfuse's own defaults, ATOMIC_O_TRUNC would lose O_TRUNC where there is no
     * OPEN request, and locks are the kernel's own unless direct processes are to share them, so that
     * opening and closing a file cost no message either.
     */
    if (d->locks)
        want |= FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS;
    conn->want = want & conn->capable;
    d->no_open = d->cache != CACHE_NONE && !d->locks && (conn->capable & FUSE_CAP_NO_OPEN_SUPPORT);
    d->keeps_names = d->cache != CACHE_COHERENT || kernel_orders_names();
    d->no_opendir = d->cache != CACHE_NONE && d->keeps_names && (conn->capable & FUSE_CAP_NO_OPENDIR_SUPPORT);
    conn->max_background = 64; /* pages being read ahead or written back, in requests */
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct shmfs_space space;
    struct statvfs st = { 0 };

    (void)ino;
    shmfs_node_statfs(op_driver(req)->fs, &space);
    st.f_bsize = space.block_size;
    st.f_frsize = space.block_size;
    st.f_blocks = space.blocks;
    st.f_bfree = space.free_blocks;
    st.f_bavail = space.free_blocks;
    st.f_files = space.inodes;
    st.f_ffree = space.free_inodes;
    st.f_favail = space.free_inodes;
    st.f_namemax = 255;
    fuse_reply_statfs(req, &st);
}

/* ---- lookup counts ------------------------------------------------------------------------------ */

static void forget(const struct driver *d, fuse_ino_t ino, uint64_t n)
{
    if (d->counting && ino != FUSE_ROOT_ID)
        shmfs_node_forget(d->fs, (uint32_t)ino, n);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
    forget(op_driver(req), ino, n);
    fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    for (size_t i = 0; i < count; i++)
        forget(op_driver(req), forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

/* ---- attributes --------------------------------------------------------------------------------- */

int op_lease(const struct driver *d, fuse_ino_t ino, enum shmfs_lease kind)
{
    int r = d->cache == CACHE_COHERENT ? shmfs_lease_grant(d->fs, (uint32_t)ino, kind) : 0;

    return r < 0 ? r : 0;
}

int op_getattr_leased(const struct driver *d, uint32_t ino, struct shmfs_attr *ret)
{
    /* First: what changes from then on is recalled. Without one they are answered, and not kept. */
    int leases = d->cache == CACHE_COHERENT ? shmfs_lease_grant(d->fs, ino, SHMFS_LEASE_ATTR) : 0, r;

    told_attr(d, ino);
    r = shmfs_node_getattr(d->fs, ino, ret);

    if (r == 0)
        op_settle(d, ino);
    ret->leases = leases > 0 ? (unsigned)leases : 0;
    return r;
}

static void reply_attr(fuse_req_t req, const struct shmfs_attr *attr)
{
    struct stat st;

    driver_stat(attr, &st);
    fuse_reply_attr(req, &st, driver_keeps(op_driver(req), attr->leases, SHMFS_LEASE_ATTR));
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct shmfs_attr attr;
    int r = op_getattr_leased(op_driver(req), (uint32_t)ino, &attr);

    (void)fi;
    if (r < 0)
        op_error(req, r);
    else
        reply_attr(req, &attr);
}

static unsigned set_of(int to_set)
{
    static const struct {
        int fuse;
        unsigned ours;
    } map[] = {
        { FUSE_SET_ATTR_MODE, SHMFS_SET_MODE },   { FUSE_SET_ATTR_UID, SHMFS_SET_UID },
        { FUSE_SET_ATTR_GID, SHMFS_SET_GID },     { FUSE_SET_ATTR_SIZE, SHMFS_SET_SIZE },
        { FUSE_SET_ATTR_CTIME, SHMFS_SET_CTIME },
    };
    unsigned set = 0;

    for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++) {
        if (to_set & map[i].fuse)
            set |= map[i].ours;
    }
    /* "Now" comes along with the plain flag, and with a time that does not count. */
    if (to_set & FUSE_SET_ATTR_ATIME_NOW)
        set |= SHMFS_SET_ATIME_NOW;
    else if (to_set & FUSE_SET_ATTR_ATIME)
        set |= SHMFS_SET_ATIME;
    if (to_set & FUSE_SET_ATTR_MTIME_NOW)
        set |= SHMFS_SET_MTIME_NOW;
    else if (to_set & FUSE_SET_ATTR_MTIME)
        set |= SHMFS_SET_MTIME;
    return set;
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi)
{
    struct shmfs_attr attr = {
        .mode = st->st_mode,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .size = (uint64_t)st->st_size,
        .atime = st->st_atim,
        .mtime = st->st_mtim,
        .ctime = st->st_ctim,
    };
    struct shmfs *fs = op_driver(req)->fs;
    unsigned set = set_of(to_set);
    int r = 0;

    (void)fi;
    if (raw_setattr_kills_priv())
        set |= SHMFS_SET_KILL_PRIV | op_kill_sgid(req, ino);
    if (raw_setattr_is_empty()) {
        struct caller caller = caller_of(fuse_req_ctx(req)->pid);

        r = shmfs_node_getattr(fs, (uint32_t)ino, &attr);
        if (caller.uid == attr.uid || caller_can(&caller, CAP_FOWNER))
            set = SHMFS_SET_KILL_PRIV | op_kill_sgid(req, ino);
        else
            set = 0;
    }
    if (r == 0 && set != 0)
        r = shmfs_node_setattr(fs, (uint32_t)ino, &attr, set, &attr);
    if (r < 0)
        op_error(req, r);
    else
        reply_attr(req, &attr);
}

unsigned op_kill_sgid(fuse_req_t req, fuse_ino_t ino)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    struct shmfs_attr attr;
    struct caller caller;

    if (shmfs_node_getattr(op_driver(req)->fs, (uint32_t)ino, &attr) < 0 ||
        (attr.mode & (S_ISGID | S_IXGRP)) != S_ISGID || ctx->gid == attr.gid ||
        caller_in_group(ctx->pid, attr.gid))
        return 0;
    caller = caller_of(ctx->pid);
    return caller_can(&caller, CAP_FSETID) ? 0 : SHMFS_SET_KILL_SGID;
}

int op_kill_priv(fuse_req_t req, fuse_ino_t ino)
{
    struct shmfs *fs = op_driver(req)->fs;
    struct shmfs_attr attr;
    struct caller caller;
    int r = shmfs_node_getattr(fs, (uint32_t)ino, &attr);

    if (r < 0 || (attr.mode & (S_ISUID | S_ISGID)) == 0)
        return r;
    caller = caller_of(fuse_req_ctx(req)->pid);
    return caller_can(&caller, CAP_FSETID)
               ? 0
               : shmfs_node_setattr(fs, (uint32_t)ino, &attr, SHMFS_SET_KILL_PRIV | op_kill_sgid(req, ino),
                                    &attr);
}

/* ---- directories, and what there is not -------------------------------------------------------- */

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    const struct driver *d = op_driver(req);

    (void)ino;
    if (d->no_opendir) {
        fuse_reply_err(req, ENOSYS);
        return;
    }
    fi->keep_cache = fi->cache_readdir = d->cache != CACHE_NONE && d->keeps_names;
    fuse_reply_open(req, fi);
}

/*
 * lsattr(1) and chattr(1): no flag of tmpfs's could be kept to, since it is the kernel that would have to refuse to
 * open an immutable file. So none is ever set, and whoever clears them has what he wants.
 */
static void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg, struct fuse_file_info *fi,
                     unsigned flags, const void *in, size_t in_size, size_t out_size)
{
    static const struct fsxattr none;
    uint32_t wanted;

    (void)ino, (void)arg, (void)fi, (void)flags;
    if (cmd == (unsigned)FS_IOC_GETFLAGS && out_size <= sizeof(none)) {
        fuse_reply_ioctl(req, 0, &none, out_size);
    } else if (cmd == (unsigned)FS_IOC_FSGETXATTR && out_size == sizeof(none)) {
        fuse_reply_ioctl(req, 0, &none, sizeof(none));
    } else if (cmd == (unsigned)FS_IOC_SETFLAGS && in_size >= sizeof(wanted)) {
        memcpy(&wanted, in, sizeof(wanted));
        if (wanted != 0)
            fuse_reply_err(req, EOPNOTSUPP);
        else
            fuse_reply_ioctl(req, 0, NULL, 0);
    } else {
        fuse_reply_err(req, ENOTTY);
    }
}

/*
 * Not here on purpose: releasedir (nothing was opened), access (the kernel checks permissions), poll and
 * bmap (the kernel's defaults are right), write_buf (write does as well).
 */
const struct fuse_lowlevel_ops ops_table = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .symlink = op_symlink,
    .rename = op_rename,
    .link = op_link,
    .open = op_open,
    .create = op_create,
    .flush = op_flush,
    .release = op_release,
    .getlk = op_getlk,
    .setlk = op_setlk,
    .flock = op_flock,
    .read = op_read,
    .write = op_write,
    .fsync = op_fsync,
    .fallocate = op_fallocate,
    .lseek = op_lseek,
    .poll = op_poll,
    .copy_file_range = op_copy_file_range,
    .ioctl = op_ioctl,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .readdirplus = op_readdirplus,
    .fsyncdir = op_fsync,
    .statfs = op_statfs,
    .setxattr = op_setxattr,
    .getxattr = op_getxattr,
    .listxattr = op_listxattr,
    .removexattr = op_removexattr,
};
