/* SPDX-License-Identifier: MIT */
#include <linux/capability.h>

#include "attr.h"
#include "client.h"

/* Attributes, by path and by handle. */

enum { RETRIES = 1000 };

int client_target_open(struct shmfs *fs, const char *path, unsigned flags, struct target *ret)
{
    int r = client_enter(fs);

    for (int tries = 0; r == 0 && tries < RETRIES; tries++) {
        struct path_at at;

        r = path_walk(fs, client_cred(fs), path, flags, &at);
        if (r < 0)
            break;
        *ret = (struct target){ .fs = fs, .ino = at.e.ino, .use = NO_USE };
        if (fs->readonly)
            r = inode_head(fs, at.e.ino, at.e.generation, &ret->head);
        else
            r = inode_use(fs, at.e.ino, at.e.generation, &ret->use, &ret->head);
        path_done(&at);
        if (r != -ESTALE)
            return r;
        r = 0;
    }
    return r == 0 ? -EUCLEAN : r;
}

static int target_file(struct shmfs_file *f, struct target *ret)
{
    int r = client_enter(f->fs);

    *ret = (struct target){ .fs = f->fs, .ino = f->ino, .use = NO_USE };
    if (r == 0 && (f->oflags & O_PATH) != 0)
        r = -EBADF;
    return r < 0 ? r : client_head(f, &ret->head);
}

ssize_t client_target_close(struct target *t, ssize_t r)
{
    inode_unuse(t->fs, t->use);
    return client_leave(t->fs, r);
}

static int set_attr(struct target *t, const struct shmfs_attr *attr, unsigned set)
{
    struct shmfs_attr after;

    return t->fs->readonly ? -EROFS : shmfs_node_setattr(t->fs, t->ino, attr, set, &after);
}

static int do_chmod(struct target *t, mode_t mode)
{
    const struct cred *cred = client_cred(t->fs);
    struct shmfs_attr attr = { .mode = mode & 07777 };
    int r = S_ISLNK(t->head.mode) ? -EOPNOTSUPP : cred_owns(cred, &t->head);

    if ((mode & S_ISGID) != 0 && cred_outside(cred, t->head.gid))
        attr.mode &= ~(uint32_t)S_ISGID;
    return r < 0 ? r : set_attr(t, &attr, SHMFS_SET_MODE);
}

static bool sgid_goes(const struct cred *cred, const struct inode *head)
{
    return (head->mode & S_ISGID) != 0 && ((head->mode & S_IXGRP) != 0 || cred_outside(cred, head->gid));
}

static int do_chown(struct target *t, uid_t uid, gid_t gid)
{
    const struct cred *cred = client_cred(t->fs);
    struct shmfs_attr attr = { .uid = uid, .gid = gid };
    unsigned set = (uid != (uid_t)-1 ? SHMFS_SET_UID : 0u) | (gid != (gid_t)-1 ? SHMFS_SET_GID : 0u);
    bool owner = cred->uid == t->head.uid;

    if (!cred_capable(cred, CAP_CHOWN)) {
        if ((set & SHMFS_SET_UID) != 0 && (!owner || uid != t->head.uid))
            return -EPERM;
        if ((set & SHMFS_SET_GID) != 0 && (!owner || (gid != t->head.gid && !cred_in_group(cred, gid))))
            return -EPERM;
    }
    if (!S_ISDIR(t->head.mode)) {
        /* To clear these is a chmod, though nobody be given the file. */
        if (set == 0 && ((t->head.mode & S_ISUID) != 0 || sgid_goes(cred, &t->head))) {
            int r = cred_owns(cred, &t->head);
            if (r < 0)
                return r;
        }
        set |= SHMFS_SET_KILL_PRIV | (cred_outside(cred, t->head.gid) ? SHMFS_SET_KILL_SGID : 0u);
    }
    return set_attr(t, &attr, set);
}

static int do_utimens(struct target *t, const struct timespec times[2])
{
    const struct cred *cred = client_cred(t->fs);
    struct shmfs_attr attr = { 0 };
    unsigned set = 0;
    bool now = times == NULL || (times[0].tv_nsec == UTIME_NOW && times[1].tv_nsec == UTIME_NOW);
    int r;

    if (times == NULL) {
        set = SHMFS_SET_ATIME_NOW | SHMFS_SET_MTIME_NOW;
    } else {
        if (times[0].tv_nsec != UTIME_OMIT)
            set |= times[0].tv_nsec == UTIME_NOW ? SHMFS_SET_ATIME_NOW : SHMFS_SET_ATIME;
        if (times[1].tv_nsec != UTIME_OMIT)
            set |= times[1].tv_nsec == UTIME_NOW ? SHMFS_SET_MTIME_NOW : SHMFS_SET_MTIME;
        attr.atime = times[0];
        attr.mtime = times[1];
    }
    r = cred_owns(cred, &t->head);
    if (r < 0 && now) /* who may write may say that it was now */
        r = cred_permits(t->fs, cred, t->ino, &t->head, WANT_WRITE);
    return r < 0 ? r : set_attr(t, &attr, set);
}

static int do_truncate(struct target *t, off_t size)
{
    const struct cred *cred = client_cred(t->fs);
    struct shmfs_attr attr = { .size = (uint64_t)size };
    unsigned set = SHMFS_SET_SIZE | cred_kills(cred, t->head.mode, t->head.gid);

    if (size < 0)
        return -EINVAL;
    if ((uint64_t)size > cred->fsize_limit && (uint64_t)size > t->head.size)
        return -EFBIG;
    return set_attr(t, &attr, set);
}

int shmfs_chmod(struct shmfs *fs, const char *path, mode_t mode)
{
    struct target t;
    int r = client_target_open(fs, path, PATH_FOLLOW, &t);

    return r < 0 ? r : (int)client_target_close(&t, do_chmod(&t, mode));
}

int shmfs_fchmod(struct shmfs_file *f, mode_t mode)
{
    struct target t;
    int r = target_file(f, &t);

    return r < 0 ? r : (int)client_target_close(&t, do_chmod(&t, mode));
}

int shmfs_chown(struct shmfs *fs, const char *path, uid_t uid, gid_t gid)
{
    struct target t;
    int r = client_target_open(fs, path, PATH_FOLLOW, &t);

    return r < 0 ? r : (int)client_target_close(&t, do_chown(&t, uid, gid));
}

int shmfs_lchown(struct shmfs *fs, const char *path, uid_t uid, gid_t gid)
{
    struct target t;
    int r = client_target_open(fs, path, 0, &t);

    return r < 0 ? r : (int)client_target_close(&t, do_chown(&t, uid, gid));
}

int shmfs_fchown(struct shmfs_file *f, uid_t uid, gid_t gid)
{
    struct target t;
    int r = target_file(f, &t);

    return r < 0 ? r : (int)client_target_close(&t, do_chown(&t, uid, gid));
}

/* Then nothing else is looked at, not even whether there is a file. */
static bool omits_both(const struct timespec times[2])
{
    return times != NULL && times[0].tv_nsec == UTIME_OMIT && times[1].tv_nsec == UTIME_OMIT;
}

int shmfs_utimens(struct shmfs *fs, const char *path, const struct timespec times[2], int flags)
{
    struct target t;
    int r;

    if (omits_both(times))
        return client_enter(fs);
    if ((flags & ~AT_SYMLINK_NOFOLLOW) != 0)
        return -EINVAL;
    r = client_target_open(fs, path, flags == 0 ? PATH_FOLLOW : 0u, &t);
    return r < 0 ? r : (int)client_target_close(&t, do_utimens(&t, times));
}

int shmfs_futimens(struct shmfs_file *f, const struct timespec times[2])
{
    struct target t;
    int r;

    if (omits_both(times))
        return client_enter(f->fs);
    r = target_file(f, &t);

    return r < 0 ? r : (int)client_target_close(&t, do_utimens(&t, times));
}

int shmfs_truncate(struct shmfs *fs, const char *path, off_t size)
{
    struct target t;
    int r = size < 0 ? -EINVAL : client_target_open(fs, path, PATH_FOLLOW, &t);

    if (r < 0)
        return r;
    r = S_ISDIR(t.head.mode)    ? -EISDIR
        : !S_ISREG(t.head.mode) ? -EINVAL
                                : cred_permits(fs, client_cred(fs), t.ino, &t.head, WANT_WRITE);
    return (int)client_target_close(&t, r < 0 ? r : do_truncate(&t, size));
}

int shmfs_ftruncate(struct shmfs_file *f, off_t size)
{
    struct target t;
    int r = target_file(f, &t);

    if (r < 0)
        return r;
    r = f->is_dir || (f->oflags & O_ACCMODE) == O_RDONLY ? -EINVAL : do_truncate(&t, size);
    return (int)client_target_close(&t, r);
}
