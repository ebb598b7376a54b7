/* SPDX-License-Identifier: MIT */
#include "path.h"

#include <dirent.h>

enum { PATH_BYTES = 4096, LINKS = 40, RESTARTS = 100 };

struct walk {
    struct shmfs *fs;
    const struct cred *cred;
    unsigned flags;
    uint32_t ino, generation; /* where we are */
    const char *p;            /* what is left */
    char *buf;                /* what p points into, once a link was followed */
    int links;
};

int path_head(struct shmfs *fs, uint32_t ino, uint32_t generation, struct inode *ret)
{
    const struct inode *in;
    struct reading rd;
    int r;

    if (!region_inode_ok(fs, ino))
        return -EUCLEAN;
    in = inode_at(fs, ino);
    reading_init(&rd, fs, ino);
    do {
        r = reading_begin(&rd);
        if (r < 0)
            return r;
        r = inode_is_valid(in);
        if (r == 0 && in->generation != generation)
            r = -ESTALE;
        memcpy(ret, in, offsetof(struct inode, root));
    } while (reading_again(&rd));
    return r;
}

/* Is what we look at the directory that we came to? 0: yes, and the mode bits alone let us search it. */
static inline int search_quickly(const struct walk *w, const struct inode *in)
{
    uint32_t mode = LOAD_RELAXED(&in->mode);

    if (unlikely(in->generation != w->generation || mode == 0))
        return -ESTALE;
    if (unlikely(!S_ISDIR(mode)))
        return -ENOTDIR;
    return likely(in->uid == w->cred->uid && (mode & S_IXUSR) != 0) ||
                   (mode & (S_IXUSR | S_IXGRP | S_IXOTH)) == (S_IXUSR | S_IXGRP | S_IXOTH)
               ? (in->xattr.n != 0 && in->uid != w->cred->uid ? -EACCES : 0)
               : -EACCES;
}

/* Looks a name up where we are. -ENOENT leaves ret->key for an insertion. */
static int step(struct walk *w, const struct dir_name *name, struct dir_entry *ret)
{
    const struct inode *in = inode_at(w->fs, w->ino);
    bool permitted = false;
    struct reading rd;
    struct inode head;
    int r, allowed;

    for (;;) {
        reading_init(&rd, w->fs, w->ino);
        do {
            r = reading_begin(&rd);
            if (r < 0)
                return r;
            r = allowed = search_quickly(w, in);
            if (r == 0 || (r == -EACCES && permitted))
                r = dir_find(w->fs, w->ino, in, name, ret);
        } while (reading_again(&rd));
        ret->seq = likely(rd.tries == 0) ? rd.seq : 0;
        if (likely(allowed != -EACCES) || permitted)
            return r;
        r = path_head(w->fs, w->ino, w->generation, &head);
        if (r == 0)
            r = cred_permits(w->fs, w->cred, w->ino, &head, WANT_EXEC);
        if (r < 0)
            return r;
        permitted = true;
    }
}

/* "." and ".." want search permission too. */
static int dots(struct walk *w, bool parent)
{
    struct inode head;
    int r = path_head(w->fs, w->ino, w->generation, &head);

    if (r == 0 && !S_ISDIR(head.mode))
        r = -ENOTDIR;
    if (r == 0)
        r = cred_permits(w->fs, w->cred, w->ino, &head, WANT_EXEC);
    if (r < 0 || !parent)
        return r;
    if (!region_inode_ok(w->fs, head.parent.n))
        return -EUCLEAN;
    /* A directory that is there has a parent that is there. */
    w->ino = head.parent.n;
    w->generation = LOAD_RELAXED(&inode_at(w->fs, w->ino)->generation);
    return 0;
}

/* Replaces what is left by the target of a link and what comes after it. */
static int follow(struct walk *w, const struct dir_entry *e, const char *rest)
{
    char target[PATH_BYTES];
    struct inode head;
    ssize_t n;
    int r;

    if (++w->links > LINKS)
        return -ELOOP;
    r = path_head(w->fs, e->ino, e->generation, &head);
    if (r < 0)
        return r;
    n = shmfs_node_readlink(w->fs, e->ino, target, sizeof(target));
    if (n < 0)
        return n == -EINVAL ? -ESTALE : (int)n;
    size_t left = strlen(rest);
    if ((size_t)n + left + 2 > PATH_BYTES)
        return -ENAMETOOLONG;
    char *buf = malloc((size_t)n + left + 2);
    if (buf == NULL)
        return -ENOMEM;
    memcpy(buf, target, (size_t)n);
    memcpy(buf + n, rest, left + 1);
    free(w->buf);
    w->buf = buf;
    w->p = buf;
    if (buf[0] == '/') {
        w->ino = ROOT_INO;
        w->generation = LOAD_RELAXED(&inode_at(w->fs, ROOT_INO)->generation);
    }
    return 0;
}

static void at_directory(const struct walk *w, bool slash, struct path_at *ret)
{
    *ret = (struct path_at){ .nameless = true, .found = true, .slash = slash };
    ret->e = (struct dir_entry){ .ino = w->ino, .generation = w->generation, .type = DT_DIR };
}

/* One component, looked up straight into `ret`. 1: go on; 0: that was the last. */
static int component(struct walk *w, struct path_at *ret)
{
    const char *s = w->p, *end = s;
    int r;

    while (*end != 0 && *end != '/')
        end++;
    const char *rest = end;
    while (*rest == '/')
        rest++;
    bool last = *rest == 0, slash = end != rest;

    if (unlikely(s[0] == '.' && (end - s == 1 || (end - s == 2 && s[1] == '.')))) {
        r = dots(w, end - s == 2);
        w->p = rest;
        if (r < 0 || !last)
            return r < 0 ? r : 1;
        at_directory(w, slash, ret);
        return 0;
    }
    r = dir_name_hash(w->fs, s, (size_t)(end - s), &ret->name);
    if (likely(r == 0))
        r = step(w, &ret->name, &ret->e);
    if (r == 0 && unlikely(ret->e.type == DT_LNK) && (!last || slash || (w->flags & PATH_FOLLOW) != 0)) {
        r = follow(w, &ret->e, end);
        return r < 0 ? r : 1;
    }
    if (last && (r == 0 || (r == -ENOENT && (w->flags & PATH_PARENT) != 0))) {
        ret->dir.ino = w->ino;
        ret->dir.generation = w->generation;
        ret->found = r == 0;
        ret->nameless = false;
        ret->slash = slash;
        w->p = end;
        return 0;
    }
    if (r == 0 && ret->e.type != DT_DIR)
        r = -ENOTDIR;
    w->ino = ret->e.ino;
    w->generation = ret->e.generation;
    w->p = rest;
    return r < 0 ? r : 1;
}

static int walk_once(struct walk *w, const char *path, struct path_at *ret)
{
    int r;

    w->ino = ROOT_INO;
    w->generation = LOAD_RELAXED(&inode_at(w->fs, ROOT_INO)->generation);
    w->links = 0;
    w->p = path;
    do {
        while (*w->p == '/')
            w->p++;
        if (*w->p == 0) {
            at_directory(w, true, ret);
            return 0;
        }
        r = component(w, ret);
    } while (r == 1);
    if (r == 0 && ret->found && ret->slash && ret->e.type != DT_DIR)
        return -ENOTDIR;
    return r;
}

int path_walk(struct shmfs *fs, const struct cred *cred, const char *path, unsigned flags,
              struct path_at *ret)
{
    struct walk w = { .fs = fs, .cred = cred, .flags = flags };
    int r = -ENOENT;

    if (path[0] == 0)
        return -ENOENT;
    for (int i = 0; i < RESTARTS; i++) {
        r = walk_once(&w, path, ret);
        if (w.buf == NULL && unlikely(w.p - path >= PATH_BYTES || (r < 0 && strlen(path) >= PATH_BYTES)))
            return -ENAMETOOLONG;
        if (likely(r == 0)) {
            ret->buf = w.buf;
            return 0;
        }
        free(w.buf);
        w.buf = NULL;
        if (r != -ESTALE)
            return r;
    }
    return r == -ESTALE ? -ENOENT : r;
}
