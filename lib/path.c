/* SPDX-License-Identifier: MIT */
#include "path.h"

#include <dirent.h>

enum { PATH_BYTES = 4096, LINKS = 40, RESTARTS = 100, STEPS_KEPT = 8 };

/* A directory that was passed, and at which sequence: while that stands, so does what was found in it. */
struct passed {
    uint32_t ino;
    uint64_t seq;
};

struct walk {
    struct shmfs *fs;
    const struct cred *cred;
    unsigned flags;
    uint32_t ino, generation; /* where we are */
    const char *p;            /* what is left */
    char *buf;                /* what p points into, once a link was followed */
    int links;
    bool writable;           /* as path_at has it, of where we just looked */
    const struct kept *from; /* began behind a prefix that was kept: what that passed */
    uint32_t npassed;        /* more than STEPS_KEPT: not to be kept */
    struct passed passed[STEPS_KEPT];
};

/* ---- paths that are kept ------------------------------------------------------------------------ */

/*
 * Each thread keeps where some paths led, whole ones and their directory parts. Such a path holds as long as the
 * sequences of all directories that it passes do: whoever changes names, modes or ACLs in them moves these.
 */
enum { KEPT = 512, KEPT_BYTES = 104 };

struct kept {
    uint64_t fs_id;
    const struct cred *cred; /* whose search permissions were looked at; one is never changed */
    uint32_t len, npassed;
    uint32_t ino, generation;
    struct passed passed[STEPS_KEPT];
    char bytes[KEPT_BYTES];
};

static _Thread_local struct kept *kept __attribute__((tls_model("initial-exec")));
static pthread_key_t kept_key;
static pthread_once_t kept_once = PTHREAD_ONCE_INIT;

static void kept_free(void *p)
{
    free(p);
    kept = NULL;
}

static void kept_key_make(void)
{
    pthread_key_create(&kept_key, kept_free);
}

static bool kept_begin(void)
{
    pthread_once(&kept_once, kept_key_make);
    kept = calloc(KEPT, sizeof(*kept));
    if (kept != NULL)
        pthread_setspecific(kept_key, kept);
    return kept != NULL;
}

/* The place of a path of 1 to KEPT_BYTES bytes; NULL: no memory. */
static struct kept *kept_at(const char *path, size_t len)
{
    uint64_t tail = 0;

    if (unlikely(kept == NULL) && !kept_begin())
        return NULL;
    if (likely(len >= sizeof(tail)))
        memcpy(&tail, path + len - sizeof(tail), sizeof(tail));
    else
        for (size_t i = 0; i < len; i++)
            tail = tail << 8 | (uint8_t)path[i];
    return &kept[((tail ^ len) * UINT64_C(0x9e3779b97f4a7c15) >> 52) % KEPT];
}

static const struct kept *kept_find(const struct shmfs *fs, const struct cred *cred, const char *path,
                                    size_t len)
{
    const struct kept *k = kept_at(path, len);

    if (k == NULL || k->fs_id != fs->id || k->cred != cred || k->len != len ||
        memcmp(k->bytes, path, len) != 0)
        return NULL;
    for (uint32_t i = 0; i < k->npassed; i++) {
        if (LOAD(&fs->inode_rts[k->passed[i].ino].seq) != k->passed[i].seq)
            return NULL;
    }
    return k;
}

/* Keeps that the first `len` bytes lead to an inode, by what the walk passed and, if not NULL, `last`. */
static void kept_put(const struct walk *w, const char *path, size_t len, const struct passed *last,
                     uint32_t ino, uint32_t generation)
{
    const struct passed *passed = w->from != NULL ? w->from->passed : w->passed;
    uint32_t n = w->from != NULL ? w->from->npassed : w->npassed;
    struct kept *k = kept_at(path, len);

    if (k == NULL || n + (last != NULL) > STEPS_KEPT)
        return;
    k->fs_id = 0; /* nothing is kept, should the caller's memory fault below */
    memmove(k->passed, passed, n * sizeof(*passed));
    if (last != NULL)
        k->passed[n++] = *last;
    k->cred = w->cred;
    k->len = (uint32_t)len;
    k->npassed = n;
    k->ino = ino;
    k->generation = generation;
    memcpy(k->bytes, path, len);
    ORDER();
    k->fs_id = w->fs->id;
}

/* The length of the directory part, if it is one that may be kept: else 0. */
static size_t prefix_len(const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash != NULL ? (size_t)(slash - path) + 1 : 0;

    return len > 1 && len <= KEPT_BYTES && path[len] != 0 ? len : 0;
}

static bool prefix_find(struct walk *w, const char *path, size_t len)
{
    const struct kept *k = kept_find(w->fs, w->cred, path, len);

    if (k == NULL)
        return false;
    w->from = k;
    w->ino = k->ino;
    w->generation = k->generation;
    w->p = path + len;
    w->links = 0;
    w->npassed = 0;
    return true;
}

bool path_known(const struct shmfs *fs, const struct cred *cred, const char *path, struct path_end *ret)
{
    size_t len = strnlen(path, KEPT_BYTES + 1);
    const struct kept *k;

    if (len == 0 || len > KEPT_BYTES || path[len - 1] == '/')
        return false;
    k = kept_find(fs, cred, path, len);
    if (k == NULL)
        return false;
    ret->ino = k->ino;
    ret->generation = k->generation;
    return true;
}

/* ---- steps ------------------------------------------------------------------------------------- */

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
    uint64_t permitted_at = 0; /* the sequence at which it was permitted after a slower look */
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
            w->writable = in->uid == w->cred->uid && (in->mode & (S_ISVTX | 0300)) == 0300;
            if (r == 0 || (r == -EACCES && permitted))
                r = dir_find(w->fs, w->ino, in, name, ret);
        } while (reading_again(&rd));
        ret->seq = likely(rd.tries == 0 && (!permitted || rd.seq == permitted_at)) ? rd.seq : 0;
        if (likely(allowed != -EACCES) || permitted)
            return r;
        permitted_at = LOAD(&w->fs->inode_rts[w->ino].seq);
        r = inode_head(w->fs, w->ino, w->generation, &head);
        if (r == 0)
            r = cred_permits(w->fs, w->cred, w->ino, &head, WANT_EXEC);
        if (r < 0)
            return r;
        permitted = true;
    }
}

/* "." and ".." want search permission too; and what is refused without a look asks for no more. */
static int dots(struct walk *w, bool parent)
{
    struct inode head, again;
    uint32_t generation;
    int r = inode_head(w->fs, w->ino, w->generation, &head);

    if (r == 0 && !S_ISDIR(head.mode))
        r = -ENOTDIR;
    if (r == 0)
        r = cred_permits(w->fs, w->cred, w->ino, &head, WANT_EXEC);
    if (r < 0 || !parent)
        return r;
    if (!region_inode_ok(w->fs, head.parent.n))
        return -EUCLEAN;
    /* A directory that is there has a parent that is there: so look at both, and at the first again. */
    generation = LOAD(&inode_at(w->fs, head.parent.n)->generation);
    r = inode_head(w->fs, w->ino, w->generation, &again);
    if (r < 0)
        return r;
    if (again.nlink == 0)
        return -ENOENT;
    if (again.parent.n != head.parent.n)
        return -ESTALE;
    w->ino = head.parent.n;
    w->generation = generation;
    return 0;
}

/* Replaces what is left by the target of a link and what comes after it. */
static int follow(struct walk *w, const struct dir_entry *e, const char *rest)
{
    char target[PATH_BYTES];
    ssize_t n;

    if (++w->links > LINKS)
        return -ELOOP;
    w->npassed = STEPS_KEPT + 1;
    n = namei_readlink(w->fs, (struct namei_dir){ e->ino, e->generation }, target, sizeof(target));
    if (n < 0)
        return n == -EINVAL ? -ESTALE : (int)n;
    size_t left = strlen(rest);
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
        w->npassed = STEPS_KEPT + 1;
        w->p = rest;
        if (r < 0 || !last)
            return r < 0 ? r : 1;
        at_directory(w, slash, ret);
        return 0;
    }
    if (unlikely(end - s > NAME_MAX_BYTES))
        return -ENAMETOOLONG;
    if (unlikely(last && slash && (w->flags & PATH_MAKE) != 0)) {
        r = dots(w, false);
        return r < 0 ? r : -EISDIR;
    }
    memcpy(ret->last, s, (size_t)(end - s)); /* under a lock the caller's memory is not looked at (A9) */
    r = dir_name_hash(w->fs, ret->last, (size_t)(end - s), &ret->name);
    if (likely(r == 0))
        r = step(w, &ret->name, &ret->e);
    if (r == 0 && unlikely(ret->e.type == DT_LNK) &&
        (!last || (slash && (w->flags & PATH_ENTRY) == 0) || (w->flags & PATH_FOLLOW) != 0)) {
        r = follow(w, &ret->e, end);
        return r < 0 ? r : 1;
    }
    if (last && (r == 0 || (r == -ENOENT && (w->flags & PATH_PARENT) != 0))) {
        ret->dir.ino = w->ino;
        ret->dir.generation = w->generation;
        ret->found = r == 0;
        ret->nameless = false;
        ret->writable = w->writable;
        ret->slash = slash;
        w->p = end;
        return 0;
    }
    if (r == 0 && ret->e.type != DT_DIR)
        r = -ENOTDIR;
    if (w->npassed < STEPS_KEPT && ret->e.seq != 0)
        w->passed[w->npassed++] = (struct passed){ w->ino, ret->e.seq };
    else
        w->npassed = STEPS_KEPT + 1;
    w->ino = ret->e.ino;
    w->generation = ret->e.generation;
    w->p = rest;
    return r < 0 ? r : 1;
}

/* Is what the walk passed all that counts, and all there was? */
static bool may_keep(const struct walk *w, const struct path_at *at)
{
    return w->buf == NULL && w->npassed <= STEPS_KEPT && (w->from == NULL || w->npassed == 0) &&
           !at->nameless && !at->slash;
}

static int walk_once(struct walk *w, const char *path, struct path_at *ret)
{
    size_t len = prefix_len(path);
    int r;

    w->from = NULL;
    if (len == 0 || !prefix_find(w, path, len)) {
        w->ino = ROOT_INO;
        w->generation = LOAD_RELAXED(&inode_at(w->fs, ROOT_INO)->generation);
        w->p = path;
        w->links = 0;
        w->npassed = 0;
    }
    do {
        while (*w->p == '/')
            w->p++;
        if (*w->p == 0) {
            at_directory(w, true, ret);
            return 0;
        }
        r = component(w, ret);
    } while (r == 1);
    if (r == 0 && ret->found && ret->slash && ret->e.type != DT_DIR && (w->flags & PATH_ENTRY) == 0)
        return -ENOTDIR;
    if (r < 0 || !may_keep(w, ret))
        return r;
    if (w->from == NULL && len > 0 && w->npassed > 0)
        kept_put(w, path, len, NULL, ret->dir.ino, (uint32_t)ret->dir.generation);
    if ((w->flags & PATH_KEEP) != 0 && ret->found && ret->e.type != DT_LNK && ret->e.seq != 0 &&
        w->p - path <= KEPT_BYTES) {
        struct passed last = { ret->dir.ino, ret->e.seq };
        kept_put(w, path, (size_t)(w->p - path), &last, ret->e.ino, ret->e.generation);
    }
    return 0;
}

int path_walk(struct shmfs *fs, const struct cred *cred, const char *path, unsigned flags,
              struct path_at *ret)
{
    struct walk w;
    int r = -ENOENT;

    w.fs = fs;
    w.cred = cred;
    w.flags = flags;
    w.buf = NULL;

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

int path_dir_writable(struct shmfs *fs, const struct cred *cred, const struct path_at *at, struct inode *ret)
{
    int r;

    if (likely(at->writable))
        return 0;
    r = inode_head(fs, at->dir.ino, (uint32_t)at->dir.generation, ret);
    return r < 0 ? r : cred_permits(fs, cred, at->dir.ino, ret, WANT_WRITE | WANT_EXEC);
}
