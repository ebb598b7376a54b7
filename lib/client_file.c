/* SPDX-License-Identifier: MIT */
#include <limits.h>
#include <linux/capability.h>
#include <linux/falloc.h>
#include <sys/ioctl.h>

#include "attr.h"
#include "client.h"
#include "file.h"

/* Open files. */

/* ---- handles ----------------------------------------------------------------------------------- */

static bool slab_add(struct client *c)
{
    struct slab *s = calloc(1, sizeof(*s));

    if (s == NULL)
        return false;
    for (size_t i = FILES_PER_SLAB; i-- > 0;) {
        s->files[i].next = c->free;
        c->free = &s->files[i];
    }
    s->next = c->slabs;
    c->slabs = s;
    return true;
}

/*
 * The handle that this thread closed last, for its next open: saves taking the lock twice. When the thread
 * ends it goes back, if the attach is still there.
 */
struct spare {
    uint64_t fs_id; /* 0: none */
    struct shmfs_file *f;
    bool keyed; /* the thread's end will be told */
};
static _Thread_local struct spare spare __attribute__((tls_model("initial-exec")));
static pthread_key_t spare_key;
static pthread_once_t spare_once = PTHREAD_ONCE_INIT;

static void free_push(struct client *c, struct shmfs_file *f)
{
    spin_lock(&c->busy);
    f->next = c->free;
    c->free = f;
    spin_unlock(&c->busy);
}

static void spare_back(void *unused)
{
    struct shmfs *fs = spare.fs_id != 0 ? client_list_hold(spare.fs_id) : NULL;

    if (fs != NULL) {
        free_push(client_of(fs), spare.f);
        client_list_let_go();
    }
    spare.fs_id = 0;
}

static void spare_key_make(void)
{
    pthread_key_create(&spare_key, spare_back);
}

static void file_init(struct shmfs_file *f)
{
    f->use = NO_USE;
    f->next_use = NO_USE;
    f->has_owned = false;
    f->was_named = false;
    f->key += UINT64_C(1) << 32; /* among lock owners, somebody else each time */
}

struct shmfs_file *client_file_new(struct shmfs *fs)
{
    struct client *c = client_of(fs);
    struct shmfs_file *f = NULL;

    if (likely(spare.fs_id == fs->id)) {
        spare.fs_id = 0;
        file_init(spare.f);
        return spare.f;
    }
    spin_lock(&c->busy);
    if (likely(c->free != NULL) || slab_add(c)) {
        f = c->free;
        c->free = f->next;
        f->fs = fs;
        if (f->key == 0)
            f->key = ++c->next_key;
        file_init(f);
    }
    spin_unlock(&c->busy);
    return f;
}

void client_file_free(struct shmfs_file *f)
{
    f->in_use = false;
    if (unlikely(spare.fs_id != 0)) {
        free_push(client_of(f->fs), f);
        return;
    }
    if (unlikely(!spare.keyed)) {
        pthread_once(&spare_once, spare_key_make);
        pthread_setspecific(spare_key, &spare);
        spare.keyed = true;
    }
    spare.f = f;
    spare.fs_id = f->fs->id;
}

static void file_ready(struct shmfs_file *f)
{
    STORE(&f->in_use, true);
}

int client_head(struct shmfs_file *f, struct inode *ret)
{
    return inode_head(f->fs, f->ino, f->generation, ret);
}

/* Attached read-only there is no record that keeps the file: is it still there? */
static int still_there(struct shmfs_file *f)
{
    struct inode head;

    return likely(f->use != NO_USE) ? 0 : client_head(f, &head);
}

static int enter_file(struct shmfs_file *f, int want_flags)
{
    int r = client_enter(f->fs), mode = f->oflags & O_ACCMODE;

    if (r < 0)
        return r;
    if (unlikely((f->oflags & O_PATH) != 0 || (want_flags == WANT_READ && mode == O_WRONLY) ||
                 (want_flags == WANT_WRITE && mode == O_RDONLY)))
        return -EBADF;
    return still_there(f);
}

/* ---- opening ----------------------------------------------------------------------------------- */

enum {
    O_KNOWN = O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | O_NOFOLLOW | O_DIRECTORY | O_TMPFILE |
              O_NOATIME | O_PATH | O_CLOEXEC | O_NONBLOCK | O_SYNC | O_DSYNC | O_LARGEFILE | O_NOCTTY
};

static uint32_t access_wanted(int oflags)
{
    static const uint32_t want[] = { WANT_READ, WANT_WRITE, WANT_READ | WANT_WRITE };

    return want[oflags & O_ACCMODE] | ((oflags & O_TRUNC) != 0 ? WANT_WRITE : 0u);
}

/* May this file be opened like this? */
static int open_permitted(struct shmfs *fs, uint32_t ino, const struct inode *head, int oflags)
{
    int r;

    if ((oflags & O_PATH) != 0)
        return (oflags & O_DIRECTORY) != 0 && !S_ISDIR(head->mode) ? -ENOTDIR : 0;
    switch (head->mode & S_IFMT) {
    case S_IFLNK:
        return (oflags & O_DIRECTORY) != 0 ? -ENOTDIR : -ELOOP;
    case S_IFDIR:
        if ((oflags & (O_ACCMODE | O_TRUNC)) != O_RDONLY)
            return -EISDIR;
        break;
    case S_IFREG:
        if ((oflags & O_DIRECTORY) != 0)
            return -ENOTDIR;
        break;
    default:
        return (oflags & O_DIRECTORY) != 0 ? -ENOTDIR : -ENXIO;
    }
    r = cred_permits(fs, client_cred(fs), ino, head, access_wanted(oflags));
    if (r == 0 && (oflags & O_NOATIME) != 0)
        r = cred_owns(client_cred(fs), head);
    return r;
}

static int truncate_at_open(struct shmfs_file *f, const struct inode *head)
{
    const struct shmfs_attr attr = { .size = 0 };
    struct shmfs_attr after;

    if (!S_ISREG(head->mode))
        return 0;
    return shmfs_node_setattr(f->fs, f->ino, &attr,
                              SHMFS_SET_SIZE | cred_kills(client_cred(f->fs), head->mode, head->gid), &after);
}

static int open_found(struct shmfs_file *f, struct path_end e)
{
    struct inode head;
    int r;

    if ((f->oflags & O_PATH) != 0 || f->fs->readonly)
        r = inode_head(f->fs, e.ino, e.generation, &head);
    else
        r = inode_use(f->fs, e.ino, e.generation, &f->use, &head);
    if (r < 0)
        return r;
    f->ino = e.ino;
    f->generation = e.generation;
    f->is_dir = S_ISDIR(head.mode);
    r = open_permitted(f->fs, e.ino, &head, f->oflags);
    if (r == 0 && f->fs->readonly && (access_wanted(f->oflags) & WANT_WRITE) != 0)
        r = -EROFS;
    if (r == 0 && (f->oflags & O_TRUNC) != 0 && (f->oflags & O_PATH) == 0)
        r = truncate_at_open(f, &head);
    if (r < 0) {
        inode_unuse(f->fs, f->use);
        f->use = NO_USE;
    }
    return r;
}

static int open_new(struct shmfs_file *f, const struct path_at *at, mode_t mode)
{
    struct shmfs_maker maker = client_maker(f->fs);
    struct namei_new new = { .mode = S_IFREG | (mode & 07777), .maker = &maker, .ret_use = &f->use };
    struct inode head;
    int r;

    if (f->fs->readonly)
        return -EROFS;
    r = path_dir_writable(f->fs, client_cred(f->fs), at, &head);
    if (r == 0)
        r = client_strip_sgid(f->fs, at, &new.mode);
    if (r == 0)
        r = namei_make(f->fs, at->dir, &at->name, &at->e, &new, NULL);
    if (r < 0)
        return r;
    f->ino = use_ino(LOAD_RELAXED(use_at(f->fs, f->use)));
    f->generation = LOAD_RELAXED(&inode_at(f->fs, f->ino)->generation); /* stays, as long as we use it */
    f->is_dir = false;
    return 0;
}

static int open_path(struct shmfs_file *f, const char *path, mode_t mode)
{
    bool create = (f->oflags & O_CREAT) != 0 && (f->oflags & O_PATH) == 0, excl = (f->oflags & O_EXCL) != 0;
    unsigned flags = (create ? PATH_PARENT | PATH_MAKE : 0u) |
                     ((f->oflags & O_NOFOLLOW) != 0 || (create && excl) ? 0u : PATH_FOLLOW);

    for (int tries = 0; tries < 1000; tries++) {
        struct path_end end;
        struct path_at at;
        int r;

        if (!create && path_known(f->fs, client_cred(f->fs), path, &end)) {
            r = open_found(f, end);
            if (r != -ESTALE)
                return r;
        }
        r = path_walk(f->fs, client_cred(f->fs), path, flags | (create ? 0u : (unsigned)PATH_KEEP), &at);
        if (r < 0)
            return r;
        if (!at.found)
            r = open_new(f, &at, mode);
        else if (create && excl)
            r = -EEXIST;
        else if (create && at.e.type == DT_DIR)
            r = -EISDIR;
        else
            r = open_found(f, (struct path_end){ at.e.ino, at.e.generation });
        path_done(&at);
        if (r == -ESTALE || (r == -EEXIST && !excl))
            continue; /* it came or went meanwhile */
        return r;
    }
    return -EUCLEAN; /* an entry that names what is not there */
}

static int open_nameless(struct shmfs_file *f, const char *path, mode_t mode)
{
    struct shmfs_maker maker = client_maker(f->fs);
    struct namei_new new = { .mode = S_IFREG | (mode & 07777), .maker = &maker, .ret_use = &f->use };
    struct shmfs_attr attr;
    struct path_at at;
    struct inode head;
    int r;

    if ((f->oflags & O_ACCMODE) == O_RDONLY)
        return -EINVAL;
    if (f->fs->readonly)
        return -EROFS;
    r = path_walk(f->fs, client_cred(f->fs), path, PATH_FOLLOW, &at);
    if (r < 0)
        return r;
    r = inode_head(f->fs, at.e.ino, at.e.generation, &head);
    if (r == 0)
        r = S_ISDIR(head.mode)
                ? cred_permits(f->fs, client_cred(f->fs), at.e.ino, &head, WANT_WRITE | WANT_EXEC)
                : -ENOTDIR;
    if (r == 0)
        r = namei_tmpfile(f->fs, (struct namei_dir){ at.e.ino, at.e.generation }, &new, &attr);
    path_done(&at);
    if (r < 0)
        return r == -ESTALE ? -ENOENT : r;
    f->ino = attr.ino;
    f->generation = attr.generation;
    f->is_dir = false;
    return 0;
}

int shmfs_open(struct shmfs *fs, const char *path, int oflags, mode_t mode, struct shmfs_file **ret)
{
    int r = client_enter(fs);

    if (r < 0)
        return r;
    if ((oflags & ~(int)O_KNOWN) != 0 || (oflags & O_ACCMODE) == O_ACCMODE ||
        ((oflags & O_DIRECTORY) != 0 && (oflags & O_CREAT) != 0))
        return -EINVAL;
    struct shmfs_file *f = client_file_new(fs);
    if (f == NULL)
        return -ENOMEM;
    f->oflags = oflags;
    if (unlikely((oflags & O_TMPFILE) == O_TMPFILE))
        r = open_nameless(f, path, mode);
    else
        r = open_path(f, path, mode);
    r = (int)client_leave(fs, r);
    if (r < 0) {
        client_file_free(f);
        return r;
    }
    file_ready(f);
    *ret = f;
    return 0;
}

int shmfs_close(struct shmfs_file *f)
{
    struct shmfs *fs = f->fs;
    int r = client_enter(fs);

    if (r == -EBADF)
        return r;
    if (unlikely(f->use != NO_USE &&
                 (f->has_owned || (client_of(fs)->has_posix && fs->inode_rts[f->ino].ranges != 0))))
        client_unlock_all(f);
    inode_unuse(fs, f->use);
    client_file_free(f);
    return r;
}

/* ---- data -------------------------------------------------------------------------------------- */

ssize_t shmfs_pread(struct shmfs_file *f, void *buf, size_t n, off_t off)
{
    int r = enter_file(f, WANT_READ);
    ssize_t got;

    if (r < 0)
        return r;
    if (unlikely(f->is_dir))
        return -EISDIR;
    if (unlikely(off >= 0 && n > (size_t)(INT64_MAX - off)))
        return -EINVAL;
    got = file_read(f->fs, f->ino, buf, MIN(n, (size_t)INT_MAX), off);
    if (got >= 0 && (f->oflags & O_NOATIME) == 0)
        file_read_time(f->fs, f->ino);
    if (unlikely(f->use == NO_USE) && got >= 0) {
        r = still_there(f); /* or was it another file's by then? */
        got = r < 0 ? r : got;
    }
    return client_leave(f->fs, got);
}

/* As the kernel has it since 6.11 (PROCMAP_QUERY); our own, since headers are older. */
struct map_query {
    uint64_t size, query_flags, query_addr;
    uint64_t start, end, flags, page_size, offset, inode;
    uint32_t dev_major, dev_minor, name_size, build_id_size;
    uint64_t name_addr, build_id_addr;
};
enum { MAP_IS_READABLE = 1, MAP_IS_SHARED = 8, LARGE = 512 * 1024, MAPS_LOOKED_AT = 8 };

/*
 * Is all of this memory anonymous and the process's alone? False also where nobody can tell. It is looked at
 * once here, so that what would fault does it before the lock is taken.
 */
static bool memory_is_private(const void *buf, size_t n)
{
    uint64_t at = (uintptr_t)buf, end = at + n;
    UNCANCELLED;
    AUTO_CLOSE int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

    for (int i = 0; fd >= 0 && at < end && i < MAPS_LOOKED_AT; i++) {
        struct map_query q = { .size = sizeof(q), .query_addr = at };

        if (ioctl(fd, _IOWR('f', 17, struct map_query), &q) < 0 ||
            (q.flags & (MAP_IS_READABLE | MAP_IS_SHARED)) != MAP_IS_READABLE)
            return false;
        if (q.inode != 0 || q.dev_major != 0 || q.dev_minor != 0)
            return false;
        at = q.end;
    }
    if (fd < 0 || at < end)
        return false;
    for (size_t i = 0; i < n; i += BLOCK_SIZE)
        (void)LOAD_RELAXED((const uint8_t *)buf + i);
    return true;
}

/*
 * More than a slot's stage, from memory that may not be touched under a lock (A9): it may be mapped from a file
 * that waits for that very lock. By way of the stage, piece by piece; an append must stay in one piece, and
 * goes by way of a copy.
 */
static ssize_t write_staged(struct shmfs_file *f, const uint8_t *buf, size_t n, off_t off, unsigned flags,
                            off_t *ret_off)
{
    size_t done = 0;
    ssize_t r = 0;

    if ((flags & SHMFS_WRITE_APPEND) != 0) {
        AUTO_FREE uint8_t *copy = malloc(n);

        if (copy == NULL)
            return -ENOMEM;
        memcpy(copy, buf, n);
        return shmfs_node_write(f->fs, f->ino, copy, n, off, flags, ret_off);
    }
    while (done < n) {
        size_t piece = MIN(n - done, (size_t)SLOT_STAGE);

        r = shmfs_node_write(f->fs, f->ino, buf + done, piece, off + (off_t)done, flags, NULL);
        done += r > 0 ? (size_t)r : 0;
        if (r < (ssize_t)piece)
            break;
    }
    return done > 0 ? (ssize_t)done : r;
}

static ssize_t write_out(struct shmfs_file *f, const void *buf, size_t n, off_t off, unsigned flags,
                         off_t *ret_off)
{
    const struct cred *cred = client_cred(f->fs);
    const struct inode *in = inode_at(f->fs, f->ino);
    uint64_t at = (flags & SHMFS_WRITE_APPEND) != 0 ? LOAD_RELAXED(&in->size) : (uint64_t)off;
    unsigned kills;

    if (off < 0 || n > (size_t)(INT64_MAX - off))
        return -EINVAL;
    if (unlikely(cred->fsize_limit < INT64_MAX && n > 0)) {
        if (at >= cred->fsize_limit)
            return -EFBIG;
        n = (size_t)MIN((uint64_t)n, cred->fsize_limit - at);
    }
    kills = cred_kills(cred, LOAD_RELAXED(&in->mode), LOAD_RELAXED(&in->gid));
    if (unlikely(kills != 0))
        flags |= SHMFS_WRITE_KILL_PRIV | ((kills & SHMFS_SET_KILL_SGID) != 0 ? SHMFS_WRITE_KILL_SGID : 0u);
    n = MIN(n, (size_t)INT_MAX & ~(size_t)(BLOCK_SIZE - 1));
    if (n > INT64_MAX - at)
        return -EFBIG;
    if (n > SLOT_STAGE && (n < LARGE || !memory_is_private(buf, n)))
        return write_staged(f, buf, n, off, flags, ret_off);
    return shmfs_node_write(f->fs, f->ino, buf, n, off, flags, ret_off);
}

ssize_t shmfs_pwrite(struct shmfs_file *f, const void *buf, size_t n, off_t off)
{
    int r = enter_file(f, WANT_WRITE);

    if (r < 0)
        return r;
    return write_out(f, buf, n, off, (f->oflags & O_APPEND) != 0 ? SHMFS_WRITE_APPEND : 0u, NULL);
}

ssize_t shmfs_append(struct shmfs_file *f, const void *buf, size_t n, off_t *ret_off)
{
    int r = enter_file(f, WANT_WRITE);

    if (r < 0)
        return r;
    return write_out(f, buf, n, 0, SHMFS_WRITE_APPEND, ret_off);
}

int shmfs_fallocate(struct shmfs_file *f, int mode, off_t off, off_t len)
{
    const struct cred *cred = client_cred(f->fs);
    const struct inode *in = inode_at(f->fs, f->ino);
    struct shmfs_attr attr = { 0 }, after;
    unsigned kills;
    int r = enter_file(f, WANT_WRITE);

    if (r < 0)
        return r;
    /* As tmpfs has it: also blocks behind the end count against the limit. */
    if ((mode & FALLOC_FL_PUNCH_HOLE) == 0 && off >= 0 && len > 0 && off <= INT64_MAX - len &&
        (uint64_t)(off + len) > MAX(cred->fsize_limit, LOAD_RELAXED(&in->size)))
        return -EFBIG;
    r = shmfs_node_fallocate(f->fs, f->ino, mode, off, len);
    kills = cred_kills(cred, LOAD_RELAXED(&in->mode), LOAD_RELAXED(&in->gid));
    if (r == 0 && kills != 0)
        r = shmfs_node_setattr(f->fs, f->ino, &attr, kills, &after);
    return r;
}

off_t shmfs_lseek_data(struct shmfs_file *f, off_t off)
{
    int r = enter_file(f, 0);

    return r < 0 ? r : shmfs_node_lseek(f->fs, f->ino, off, SEEK_DATA);
}

off_t shmfs_lseek_hole(struct shmfs_file *f, off_t off)
{
    int r = enter_file(f, 0);

    return r < 0 ? r : shmfs_node_lseek(f->fs, f->ino, off, SEEK_HOLE);
}

int shmfs_fsync(struct shmfs_file *f)
{
    int r = enter_file(f, 0);

    return r < 0 ? r : shmfs_node_fsync(f->fs, f->ino);
}

/* ---- waiting ----------------------------------------------------------------------------------- */

enum { WAIT_NAP_US = 50000, POLL_FIRST_US = 1000, POLL_LONGEST_US = 20000 };

/* Naps until the inode's sequence moves from what it was when its version was read. */
static int wait_nap(struct shmfs *fs, uint32_t ino, uint64_t seq, long us)
{
    if (!fs->readonly)
        return lock_futex_wait(&fs->inode_rts[ino].seq, (uint32_t)seq, us);
    return nap_us(us) ? 0 : -EINTR;
}

static int version_now(struct shmfs_file *f, uint64_t *ret_version, uint64_t *ret_seq)
{
    const struct inode *in = inode_at(f->fs, f->ino);
    struct reading rd;
    int r;

    if (!f->fs->readonly) /* before we look: whoever changes it from now on wakes us */
        __atomic_exchange_n(&f->fs->inode_rts[f->ino].waiting, 1, __ATOMIC_SEQ_CST);
    reading_init(&rd, f->fs, f->ino);
    do {
        *ret_seq = LOAD(&f->fs->inode_rts[f->ino].seq);
        r = reading_begin(&rd);
        if (r < 0)
            return r;
        r = inode_is_valid(in);
        if (r == 0 && in->generation != f->generation)
            r = -ESTALE;
        *ret_version = in->version;
    } while (reading_again(&rd));
    return r;
}

int shmfs_wait(struct shmfs_file *f, uint64_t *version, int timeout_ms)
{
    uint64_t end = lock_now_ns() + (uint64_t)MAX(timeout_ms, 0) * 1000000, now, v, seq;
    long nap = f->fs->readonly ? POLL_FIRST_US : WAIT_NAP_US;
    int r = client_enter(f->fs);

    if (r == 0 && (f->oflags & O_PATH) != 0)
        r = -EBADF;
    while (r == 0) {
        r = version_now(f, &v, &seq);
        if (r < 0)
            break;
        if (v != *version) {
            *version = v;
            return (int)client_leave(f->fs, 0);
        }
        now = lock_now_ns();
        if (timeout_ms >= 0 && now >= end)
            return -ETIMEDOUT;
        long us = timeout_ms < 0 ? nap : (long)MIN((uint64_t)nap, (end - now) / 1000 + 1);
        if (wait_nap(f->fs, f->ino, seq, us) < 0)
            return -EINTR;
        if (f->fs->readonly)
            nap = MIN(nap * 2, (long)POLL_LONGEST_US);
        r = client_enter(f->fs);
    }
    return r;
}
