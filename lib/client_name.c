/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <linux/capability.h>
#include <stdio.h> /* RENAME_* */
#include <sys/sysmacros.h>

#include "attr.h"
#include "client.h"
#include "file.h"

/* Names and attributes, by path. */

enum { RETRIES = 1000 };

/* ---- looking ----------------------------------------------------------------------------------- */

/* Where a path leads. */
static int find(struct shmfs *fs, const char *path, unsigned flags, struct path_end *ret)
{
    struct path_at at;
    int r = path_walk(fs, client_cred(fs), path, flags | PATH_KEEP, &at);

    if (r < 0)
        return r;
    *ret = (struct path_end){ at.e.ino, at.e.generation };
    path_done(&at);
    return 0;
}

/* Where a path leads, and the scalar fields of what is there. */
static int look(struct shmfs *fs, const char *path, unsigned flags, uint32_t *ret_ino, struct inode *ret_head)
{
    int r = client_enter(fs);

    for (int tries = 0; r == 0 && tries < RETRIES; tries++) {
        struct path_end end;

        r = path_known(fs, client_cred(fs), path, &end) ? 0 : find(fs, path, flags, &end);
        if (r < 0)
            break;
        r = inode_head(fs, end.ino, end.generation, ret_head);
        if (r == 0) {
            *ret_ino = end.ino;
            return (int)client_leave(fs, 0);
        }
        if (r == -ESTALE)
            r = 0; /* replaced between the two looks */
    }
    return (int)client_leave(fs, r == 0 ? -EUCLEAN : r);
}

/*
 * The same for stat: straight from the inode, field by field. A copy of the whole would be read again in other
 * pieces than it was written in, which the processor waits for.
 */
static int stat_read(struct shmfs *fs, struct path_end end, struct stat *ret)
{
    const struct inode *in = inode_at(fs, end.ino);
    uint64_t size, blocks, rdev;
    int64_t sec[3];
    uint32_t mode, nlink, uid, gid, nsec[3];
    struct reading rd;
    int r;

    if (!region_inode_ok(fs, end.ino))
        return -EUCLEAN;
    reading_init(&rd, fs, end.ino);
    do {
        r = reading_begin(&rd);
        if (r < 0)
            return r;
        r = inode_is_valid(in);
        if (r == 0 && LOAD_RELAXED(&in->generation) != end.generation)
            r = -ESTALE;
        mode = LOAD_RELAXED(&in->mode);
        nlink = LOAD_RELAXED(&in->nlink);
        uid = LOAD_RELAXED(&in->uid);
        gid = LOAD_RELAXED(&in->gid);
        rdev = LOAD_RELAXED(&in->rdev);
        size = LOAD_RELAXED(&in->size);
        blocks = LOAD_RELAXED(&in->blocks);
        sec[0] = LOAD_RELAXED(&in->atime.sec);
        nsec[0] = LOAD_RELAXED(&in->atime.nsec);
        sec[1] = LOAD_RELAXED(&in->mtime.sec);
        nsec[1] = LOAD_RELAXED(&in->mtime.nsec);
        sec[2] = LOAD_RELAXED(&in->ctime.sec);
        nsec[2] = LOAD_RELAXED(&in->ctime.nsec);
    } while (reading_again(&rd));
    if (r < 0)
        return r;
    *ret = (struct stat){
        .st_dev = (dev_t)fs->hash_seed,
        .st_ino = end.ino,
        .st_mode = mode,
        .st_nlink = nlink,
        .st_uid = uid,
        .st_gid = gid,
        .st_rdev = rdev,
        .st_size = (off_t)(S_ISDIR(mode) ? blocks * BLOCK_SIZE : size),
        .st_blksize = BLOCK_SIZE,
        .st_blocks = (blkcnt_t)(blocks * (BLOCK_SIZE / 512)),
        .st_atim = { sec[0], nsec[0] },
        .st_mtim = { sec[1], nsec[1] },
        .st_ctim = { sec[2], nsec[2] },
    };
    return 0;
}

static int stat_path(struct shmfs *fs, const char *path, unsigned flags, struct stat *ret)
{
    int r = client_enter(fs);

    for (int tries = 0; r == 0 && tries < RETRIES; tries++) {
        struct path_end end;

        r = path_known(fs, client_cred(fs), path, &end) ? 0 : find(fs, path, flags, &end);
        if (r < 0)
            break;
        r = stat_read(fs, end, ret);
        if (r != -ESTALE)
            return (int)client_leave(fs, r);
        r = 0;
    }
    return (int)client_leave(fs, r == 0 ? -EUCLEAN : r);
}

int shmfs_stat(struct shmfs *fs, const char *path, struct stat *ret)
{
    return stat_path(fs, path, PATH_FOLLOW, ret);
}

int shmfs_lstat(struct shmfs *fs, const char *path, struct stat *ret)
{
    return stat_path(fs, path, 0, ret);
}

int shmfs_fstat(struct shmfs_file *f, struct stat *ret)
{
    int r = client_enter(f->fs);

    if (r == 0)
        r = stat_read(f->fs, (struct path_end){ f->ino, f->generation }, ret);
    return (int)client_leave(f->fs, r);
}

int shmfs_access(struct shmfs *fs, const char *path, int mode)
{
    struct inode head;
    uint32_t ino;
    int r;

    if ((mode & ~(R_OK | W_OK | X_OK)) != 0)
        return -EINVAL;
    r = look(fs, path, PATH_FOLLOW, &ino, &head);
    if (r == 0)
        r = cred_permits(fs, client_cred(fs), ino, &head, (uint32_t)mode);
    return r == 0 && (mode & W_OK) != 0 && fs->readonly ? -EROFS : r;
}

ssize_t shmfs_readlink(struct shmfs *fs, const char *path, char *ret, size_t n)
{
    char target[BLOCK_SIZE]; /* the caller's memory may be anything, and is not looked at under a lock (A9) */
    struct inode head;
    uint32_t ino;
    ssize_t r;

    if (n == 0)
        return -EINVAL;
    do {
        r = look(fs, path, 0, &ino, &head);
        if (r == 0)
            r = !S_ISLNK(head.mode)
                    ? -EINVAL
                    : namei_readlink(fs, (struct namei_dir){ ino, head.generation }, target, sizeof(target));
    } while (r == -ESTALE); /* replaced between the two looks */
    if (r < 0)
        return r;
    if ((fs->flags & SHMFS_NOATIME) == 0)
        file_read_time(fs, ino);
    memcpy(ret, target, MIN(n, (size_t)r));
    return MIN(r, (ssize_t)n);
}

/* ---- making and removing ----------------------------------------------------------------------- */

static int dir_writable(struct shmfs *fs, const struct path_at *at, struct inode *ret_head)
{
    return path_dir_writable(fs, client_cred(fs), at, ret_head);
}

/* May this name be taken away? Sticky directories: only by one of the two owners. */
static int removable(struct shmfs *fs, const struct path_at *at, const struct inode *dir)
{
    const struct cred *cred = client_cred(fs);
    struct inode head;
    int r;

    if (at->writable || (dir->mode & S_ISVTX) == 0 || dir->uid == cred->uid)
        return 0;
    r = inode_head(fs, at->e.ino, at->e.generation, &head);
    return r < 0 ? r : cred_owns(cred, &head);
}

int client_strip_sgid(struct shmfs *fs, const struct path_at *at, mode_t *mode)
{
    const struct cred *cred = client_cred(fs);
    struct inode dir;
    int r;

    if (likely((*mode & (S_ISGID | S_IXGRP)) != (S_ISGID | S_IXGRP)) || S_ISDIR(*mode) ||
        cred_capable(cred, CAP_FSETID))
        return 0;
    r = inode_head(fs, at->dir.ino, (uint32_t)at->dir.generation, &dir);
    if (r == 0 && (dir.mode & S_ISGID) != 0 && !cred_in_group(cred, dir.gid))
        *mode &= ~(mode_t)S_ISGID;
    return r;
}

/* A whiteout is none. */
static bool is_device(const struct namei_new *new)
{
    return S_ISBLK(new->mode) || (S_ISCHR(new->mode) && new->rdev != 0);
}

static int make(struct shmfs *fs, const char *path, const struct namei_new *what)
{
    struct shmfs_maker maker = client_maker(fs);
    struct namei_new new = *what;
    struct path_at at;
    struct inode head;
    int r = client_enter(fs);

    if (r == 0)
        r = path_walk(fs, client_cred(fs), path, PATH_PARENT | PATH_ENTRY, &at);
    if (r < 0)
        return r;
    new.maker = &maker;
    if (at.found)
        r = -EEXIST;
    else if (at.slash && !S_ISDIR(new.mode))
        r = -ENOENT;
    else if (fs->readonly)
        r = -EROFS;
    else
        r = dir_writable(fs, &at, &head);
    if (r == 0 && is_device(&new) && !cred_capable(client_cred(fs), CAP_MKNOD))
        r = -EPERM;
    if (r == 0)
        r = client_strip_sgid(fs, &at, &new.mode);
    if (r == 0)
        r = namei_make(fs, at.dir, &at.name, &at.e, &new, NULL);
    path_done(&at);
    return (int)client_leave(fs, r == -ESTALE ? -ENOENT : r);
}

int shmfs_mkdir(struct shmfs *fs, const char *path, mode_t mode)
{
    struct namei_new new = { .mode = S_IFDIR | (mode & 01777) };

    return make(fs, path, &new);
}

int shmfs_symlink(struct shmfs *fs, const char *target, const char *path)
{
    char copy[BLOCK_SIZE]; /* not to be looked at under a lock (A9) */
    struct namei_new new = { .mode = S_IFLNK | 0777, .target = copy };
    size_t n = strnlen(target, sizeof(copy));

    if (n == sizeof(copy))
        return -ENAMETOOLONG;
    memcpy(copy, target, n + 1);
    return make(fs, path, &new);
}

int shmfs_mknod(struct shmfs *fs, const char *path, mode_t mode, dev_t dev)
{
    struct namei_new new = { .mode = mode & (S_IFMT | 07777) };

    if ((mode & S_IFMT) == 0)
        new.mode |= S_IFREG;
    switch (new.mode &S_IFMT) {
    case S_IFCHR:
    case S_IFBLK:
        new.rdev = dev;
        break;
    case S_IFREG:
    case S_IFIFO:
    case S_IFSOCK:
        break;
    case S_IFDIR:
        return -EPERM;
    default:
        return -EINVAL;
    }
    return make(fs, path, &new);
}

/* rmdir(2) of what ends in the root, "." or "..". */
static int last_is_dots(const char *path)
{
    size_t n = strlen(path);

    while (n > 0 && path[n - 1] == '/')
        n--;
    if (n == 0 || path[n - 1] != '.')
        return -EBUSY;
    return n > 1 && path[n - 2] == '.' ? -ENOTEMPTY : -EINVAL;
}

static int remove_path(struct shmfs *fs, const char *path, bool dir)
{
    int r = client_enter(fs);

    for (int tries = 0; r == 0 && tries < RETRIES; tries++) {
        struct path_at at;
        struct inode head;

        r = path_walk(fs, client_cred(fs), path, PATH_ENTRY, &at);
        if (r < 0)
            break;
        if (at.nameless)
            r = dir ? last_is_dots(path) : -EISDIR;
        else if (at.slash && !dir)
            r = at.e.type == DT_DIR ? -EISDIR : -ENOTDIR;
        else
            r = fs->readonly ? -EROFS : dir_writable(fs, &at, &head);
        if (r == 0)
            r = removable(fs, &at, &head);
        if (r == 0)
            r = namei_remove(fs, at.dir, &at.name, &at.e, dir);
        path_done(&at);
        if (r != -ESTALE)
            return (int)client_leave(fs, r);
        r = 0;
    }
    return r == 0 ? -EUCLEAN : r;
}

int shmfs_unlink(struct shmfs *fs, const char *path)
{
    return remove_path(fs, path, false);
}

int shmfs_rmdir(struct shmfs *fs, const char *path)
{
    return remove_path(fs, path, true);
}

/* ---- linking and renaming ---------------------------------------------------------------------- */

/* What fs.protected_hardlinks (proc(5)) is about: whose files may be linked to? */
static int linkable(struct shmfs *fs, uint32_t ino, const struct inode *head)
{
    const struct cred *cred = client_cred(fs);

    if (!cred->protect_links || cred_owns(cred, head) == 0)
        return 0;
    return S_ISREG(head->mode) && (head->mode & S_ISUID) == 0 &&
                   (head->mode & (S_ISGID | S_IXGRP)) != (S_ISGID | S_IXGRP) &&
                   cred_permits(fs, cred, ino, head, WANT_READ | WANT_WRITE) == 0
               ? 0
               : -EPERM;
}

static int link_to(struct shmfs *fs, uint32_t ino, const struct inode *what, const char *to, bool nameless)
{
    struct shmfs_attr attr;
    struct path_at at;
    struct inode head;
    int r = path_walk(fs, client_cred(fs), to, PATH_PARENT | PATH_ENTRY, &at);

    if (r < 0)
        return r;
    if (at.found)
        r = -EEXIST;
    else if (at.slash)
        r = -ENOENT;
    else
        r = fs->readonly ? -EROFS : linkable(fs, ino, what);
    if (r == 0)
        r = dir_writable(fs, &at, &head);
    if (r == 0)
        r = namei_link(fs, ino, at.dir, &at.name, false, nameless, &attr);
    path_done(&at);
    return r == -ESTALE ? -ENOENT : r;
}

int shmfs_link(struct shmfs *fs, const char *from, const char *to)
{
    struct target t;
    int r = client_target_open(fs, from, 0, &t); /* held, so that it stays that inode */

    if (r < 0)
        return r;
    r = S_ISDIR(t.head.mode) ? -EPERM : fs->readonly ? -EROFS : link_to(fs, t.ino, &t.head, to, false);
    return (int)client_target_close(&t, r);
}

int shmfs_flink(struct shmfs_file *f, const char *to)
{
    struct inode head;
    int r = client_enter(f->fs);

    if (r == 0)
        r = client_head(f, &head);
    if (r == 0 && S_ISDIR(head.mode))
        r = -EPERM;
    if (r == 0 && (f->oflags & O_PATH) != 0)
        r = -EBADF;
    /* A file that was made without a name may get one, once; who lost all names gets none again. */
    bool nameless = (f->oflags & O_TMPFILE) == O_TMPFILE && (f->oflags & O_EXCL) == 0 && !f->was_named;
    if (r == 0 && head.nlink == 0 && !nameless)
        r = -ENOENT;
    if (r == 0)
        r = link_to(f->fs, f->ino, &head, to, nameless);
    if (r == 0)
        f->was_named = true;
    return (int)client_leave(f->fs, r);
}

static int rename_permitted(struct shmfs *fs, const struct path_at *from, const struct path_at *to,
                            unsigned flags)
{
    struct inode fromdir, todir, head;
    int r = dir_writable(fs, from, &fromdir);

    if (r == 0)
        r = removable(fs, from, &fromdir);
    if (r == 0)
        r = dir_writable(fs, to, &todir);
    if (r == 0 && to->found)
        r = removable(fs, to, &todir);
    /* A directory that moves has its ".." changed, and so must be writable. */
    if (r == 0 && from->e.type == DT_DIR && from->dir.ino != to->dir.ino) {
        r = inode_head(fs, from->e.ino, from->e.generation, &head);
        if (r == 0)
            r = cred_permits(fs, client_cred(fs), from->e.ino, &head, WANT_WRITE);
    }
    if (r == 0 && (flags & RENAME_EXCHANGE) != 0 && to->found && to->e.type == DT_DIR &&
        from->dir.ino != to->dir.ino) {
        r = inode_head(fs, to->e.ino, to->e.generation, &head);
        if (r == 0)
            r = cred_permits(fs, client_cred(fs), to->e.ino, &head, WANT_WRITE);
    }
    return r;
}

static int rename_once(struct shmfs *fs, const struct path_at *from, const struct path_at *to, unsigned flags)
{
    struct shmfs_maker maker = client_maker(fs);
    bool isdir = from->e.type == DT_DIR;
    int r;

    if (from->nameless || to->nameless)
        return !from->nameless && (flags & RENAME_NOREPLACE) != 0 ? -EEXIST : -EBUSY;
    if (!from->found)
        return -ENOENT;
    if ((flags & RENAME_NOREPLACE) != 0 && to->found)
        return -EEXIST;
    if (!isdir && (from->slash || (to->slash && (flags & RENAME_EXCHANGE) == 0)))
        return -ENOTDIR;
    if ((flags & RENAME_EXCHANGE) != 0 && to->found && to->slash && to->e.type != DT_DIR)
        return -ENOTDIR;
    if (fs->readonly)
        return -EROFS;
    if (to->found && to->e.ino == from->e.ino && to->e.generation == from->e.generation)
        return 0; /* two names of one file, or one: nothing to do, and so nothing to permit */
    r = rename_permitted(fs, from, to, flags);
    if (r < 0)
        return r;
    struct dir_entry seen[2] = { from->e, to->e };
    return namei_rename(fs, from->dir, &from->name, to->dir, &to->name, seen, flags, &maker);
}

int shmfs_rename(struct shmfs *fs, const char *from, const char *to, unsigned flags)
{
    int r = client_enter(fs);

    if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) != 0 ||
        ((flags & RENAME_EXCHANGE) != 0 && (flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)) != 0))
        return -EINVAL;

    for (int tries = 0; r == 0 && tries < RETRIES; tries++) {
        struct path_at a, b;

        /* Both directories must be searched before it counts whether FROM is there. */
        r = path_walk(fs, client_cred(fs), from, PATH_PARENT | PATH_ENTRY, &a);
        if (r < 0)
            break;
        r = path_walk(fs, client_cred(fs), to, PATH_PARENT | PATH_ENTRY, &b);
        if (r == 0) {
            r = rename_once(fs, &a, &b, flags);
            path_done(&b);
        }
        path_done(&a);
        if (r != -ESTALE)
            return (int)client_leave(fs, r);
        r = 0;
    }
    return r == 0 ? -ENOENT : r;
}
