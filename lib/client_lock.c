/* SPDX-License-Identifier: MIT */
#include <sys/file.h>

#include "client.h"

/* Locks between programs: fcntl(2) and flock(2), in the region. */

#define TO_THE_END UINT64_MAX

static int range_from(struct shmfs_file *f, const struct flock *fl, struct shmfs_range *ret)
{
    off_t start = fl->l_start;
    struct inode head;

    if (fl->l_whence == SEEK_END) {
        int r = client_head(f, &head);
        if (r < 0)
            return r;
        if (__builtin_add_overflow(start, (off_t)head.size, &start))
            return -EOVERFLOW;
    } else if (fl->l_whence != SEEK_SET) {
        return -EINVAL; /* a handle has no position */
    }
    off_t end = start;
    if (start < 0)
        return -EINVAL;
    if (fl->l_len > 0 && __builtin_add_overflow(start, fl->l_len - 1, &end))
        return -EOVERFLOW;
    if (fl->l_len < 0) {
        end = start - 1;
        if (__builtin_add_overflow(start, fl->l_len, &start))
            return -EOVERFLOW;
    }
    if (start < 0)
        return -EINVAL;
    ret->start = (uint64_t)start;
    ret->end = fl->l_len == 0 || end == INT64_MAX ? TO_THE_END : (uint64_t)end;
    ret->type = fl->l_type;
    ret->pid = (uint32_t)getpid();
    return 0;
}

static int query(struct shmfs_file *f, const struct shmfs_range *want, struct flock *fl)
{
    struct shmfs_range other;
    int r = shmfs_node_getlk(f->fs, f->ino, want, &other);

    if (r < 0)
        return r;
    fl->l_type = (short)other.type;
    if (other.type == F_UNLCK)
        return 0;
    fl->l_whence = SEEK_SET;
    fl->l_start = (off_t)other.start;
    fl->l_len = other.end == TO_THE_END ? 0 : (off_t)(other.end - other.start + 1);
    fl->l_pid = other.kind == SHMFS_LOCK_OFD ? -1 : (pid_t)other.pid;
    return 0;
}

static int permitted(const struct shmfs_file *f, short type)
{
    int mode = f->oflags & O_ACCMODE;

    if (type != F_RDLCK && type != F_WRLCK && type != F_UNLCK)
        return -EINVAL;
    return (type == F_RDLCK && mode == O_WRONLY) || (type == F_WRLCK && mode == O_RDONLY) ? -EBADF : 0;
}

static int enter(const struct shmfs_file *f)
{
    int r = client_enter(f->fs);

    if (r == 0 && (f->oflags & O_PATH) != 0)
        r = -EBADF;
    return r == 0 && f->fs->readonly ? -EROFS : r;
}

int shmfs_fcntl(struct shmfs_file *f, int cmd, struct flock *fl)
{
    bool ofd = cmd == F_OFD_GETLK || cmd == F_OFD_SETLK || cmd == F_OFD_SETLKW;
    bool get = cmd == F_GETLK || cmd == F_OFD_GETLK, wait = cmd == F_SETLKW || cmd == F_OFD_SETLKW;
    struct shmfs_range want = { .kind = ofd ? SHMFS_LOCK_OFD : SHMFS_LOCK_POSIX, .key = ofd ? f->key : 0 };
    int r = enter(f);

    if (r < 0)
        return r;
    if (!ofd && !get && !wait && cmd != F_SETLK)
        return -EINVAL;
    if (ofd && fl->l_pid != 0)
        return -EINVAL;
    r = range_from(f, fl, &want);
    if (r < 0)
        return r;
    if (get)
        return fl->l_type == F_RDLCK || fl->l_type == F_WRLCK ? query(f, &want, fl) : -EINVAL;
    r = permitted(f, fl->l_type);
    if (r < 0)
        return r;
    if (ofd)
        f->has_owned = true;
    else
        client_of(f->fs)->has_posix = true;
    return shmfs_node_setlk(f->fs, f->ino, &want, wait ? -1 : 0);
}

int shmfs_flock(struct shmfs_file *f, int operation)
{
    struct shmfs_range want = {
        .kind = SHMFS_LOCK_FLOCK, .key = f->key, .end = TO_THE_END, .pid = (uint32_t)getpid()
    };
    int r = enter(f);

    if (r < 0)
        return r;
    switch (operation & ~LOCK_NB) {
    case LOCK_SH:
        want.type = F_RDLCK;
        break;
    case LOCK_EX:
        want.type = F_WRLCK;
        break;
    case LOCK_UN:
        want.type = F_UNLCK;
        break;
    default:
        return -EINVAL;
    }
    f->has_owned = true;
    return shmfs_node_setlk(f->fs, f->ino, &want, (operation & LOCK_NB) != 0 ? 0 : -1);
}

void client_unlock_all(struct shmfs_file *f)
{
    struct shmfs_range all = { .type = F_UNLCK, .end = TO_THE_END };

    if (client_of(f->fs)->has_posix) {
        all.kind = SHMFS_LOCK_POSIX;
        shmfs_node_setlk(f->fs, f->ino, &all, 0);
    }
    if (f->has_owned) {
        all.key = f->key;
        all.kind = SHMFS_LOCK_OFD;
        shmfs_node_setlk(f->fs, f->ino, &all, 0);
        all.kind = SHMFS_LOCK_FLOCK;
        shmfs_node_setlk(f->fs, f->ino, &all, 0);
    }
}
