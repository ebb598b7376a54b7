/* SPDX-License-Identifier: MIT */
#include <linux/falloc.h>
#include <sys/mman.h>

#include "client.h"
#include "file.h"

/* Pointers into the region: shmfs_map() and what goes with it (docs/LOCKING.md, "Pins"). */

/* The blocks of a range, in the order of the file. */
struct runs {
    struct run {
        uint32_t blk, len;
    } * run;
    size_t n, room;
};

static int runs_add(struct runs *runs, uint32_t blk, uint32_t len)
{
    struct run *last = runs->n > 0 ? &runs->run[runs->n - 1] : NULL;

    if (last != NULL && last->blk + last->len == blk) {
        last->len += len;
        return 0;
    }
    if (runs->n == runs->room) {
        size_t room = MAX(runs->room * 2, (size_t)8);
        struct run *more = realloc(runs->run, room * sizeof(*more));
        if (more == NULL)
            return -ENOMEM;
        runs->run = more;
        runs->room = room;
    }
    runs->run[runs->n++] = (struct run){ blk, len };
    return 0;
}

/* The runs of blocks [pos, end). 1: there is a hole. */
static int runs_find(struct shmfs *fs, uint32_t ino, const struct inode *in, uint64_t pos, uint64_t end,
                     struct runs *runs)
{
    runs->n = 0;
    while (pos < end) {
        struct blkref blk;
        struct map_at at;
        uint64_t len;
        int r = map_find(fs, ino, in, pos, &at);

        if (r < 0)
            return r;
        if (!map_at_block(&at, pos, &blk, &len))
            return 1;
        len = MIN(len, end - pos);
        r = runs_add(runs, blk.n, (uint32_t)len);
        if (r < 0)
            return r;
        pos += len;
    }
    return 0;
}

static int range_is_there(const struct inode *in, uint64_t pos, uint64_t end)
{
    if (!S_ISREG(in->mode))
        return -EINVAL;
    return end > div_up(in->size, BLOCK_SIZE) || pos >= end ? -ENXIO : 0;
}

/* One try, in a transaction. 1: there is a hole. */
static int pin_locked(struct txn *t, struct shmfs_file *f, uint64_t pos, uint64_t end, struct runs *runs,
                      uint32_t *ret_use)
{
    struct inode *in;
    int r = inode_lock(t, f->ino, &in);

    if (r == 0)
        r = range_is_there(in, pos, end);
    if (r == 0)
        r = runs_find(f->fs, f->ino, in, pos, end, runs);
    if (r == 0 && (in->flags & INODE_LOOSE) == 0)
        inode_edit(t, f->ino)->flags |= INODE_LOOSE;
    if (r == 0)
        r = use_add(f->fs, f->ino, proc_index(f->fs->self), USE_PIN, ret_use); /* seen before we let go */
    return r;
}

static int pin(struct shmfs_file *f, uint64_t pos, uint64_t end, struct runs *runs, uint32_t *ret_use)
{
    int r;

    do {
        struct txn t;

        r = txn_begin(f->fs, &t);
        if (r < 0)
            return r;
        r = pin_locked(&t, f, pos, end, runs, ret_use);
        if (r == 0) {
            txn_commit(&t);
            return 0;
        }
        if (r < 0) {
            r = txn_abort_for(&t, r);
            continue;
        }
        txn_abort(&t);
        r = file_fallocate(f->fs, f->ino, FALLOC_FL_KEEP_SIZE, (off_t)(pos << BLOCK_SHIFT),
                           (off_t)((end - pos) << BLOCK_SHIFT));
        r = r < 0 ? r : -EAGAIN; /* somebody may punch it again before we have pinned it */
    } while (r == -EAGAIN);
    return r;
}

/* Attached read-only: the blocks as they are now. */
static int look(struct shmfs_file *f, uint64_t pos, uint64_t end, struct runs *runs)
{
    const struct inode *in = inode_at(f->fs, f->ino);
    struct reading rd;
    int r;

    reading_init(&rd, f->fs, f->ino);
    do {
        r = reading_begin(&rd);
        if (r < 0)
            return r;
        r = inode_is_valid(in);
        if (r == 0)
            r = in->generation == f->generation ? range_is_there(in, pos, end) : -ESTALE;
        if (r == 0)
            r = runs_find(f->fs, f->ino, in, pos, end, runs);
    } while (reading_again(&rd));
    return r == 1 ? -ENXIO : r;
}

/* ---- addresses --------------------------------------------------------------------------------- */

/* The whole region once more, for those who are not to store into it. */
static uint8_t *readonly_base(struct shmfs *fs)
{
    struct client *c = client_of(fs);
    uint8_t *base;

    if (fs->readonly)
        return fs->base;
    pthread_mutex_lock(&c->lists_lock);
    base = c->ro_base;
    if (base == NULL && region_fd_ok(fs)) {
        void *p = mmap(NULL, (size_t)fs->map_len, PROT_READ, MAP_SHARED | MAP_NORESERVE, fs->fd, 0);
        if (p != MAP_FAILED && region_guard(fs, p, fs->map_len) < 0) {
            munmap(p, (size_t)fs->map_len);
            p = MAP_FAILED;
        }
        if (p != MAP_FAILED) {
            madvise(p, (size_t)fs->map_len, MADV_DONTFORK);
            c->ro_base = base = p;
        }
    }
    pthread_mutex_unlock(&c->lists_lock);
    return base;
}

/* Scattered blocks, page by page in one range. */
static uint8_t *stitch(struct shmfs *fs, const struct runs *runs, size_t len, int prot)
{
    uint8_t *p;
    size_t done = 0;

    if (!region_fd_ok(fs)) /* a program that closed all that it had; its number may be another file's */
        return NULL;
    p = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    for (size_t i = 0; i < runs->n; i++) {
        size_t bytes = (size_t)runs->run[i].len << BLOCK_SHIFT;
        off_t off = (off_t)(fs->l.blocks + ((uint64_t)runs->run[i].blk << BLOCK_SHIFT));

        if (mmap(p + done, bytes, prot, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fs->fd, off) == MAP_FAILED)
            break;
        done += bytes;
    }
    if (done < len || region_guard(fs, p, len) < 0) {
        munmap(p, len);
        return NULL;
    }
    madvise(p, len, MADV_DONTFORK);
    return p;
}

static int address(struct shmfs *fs, const struct runs *runs, int prot, struct mapping *m)
{
    if (runs->n == 1) {
        uint8_t *base = (prot & PROT_WRITE) != 0 ? fs->base : readonly_base(fs);

        if (base == NULL)
            return -ENOMEM;
        m->addr = base + fs->l.blocks + ((uint64_t)runs->run[0].blk << BLOCK_SHIFT);
        return 0;
    }
    if (sysconf(_SC_PAGESIZE) != BLOCK_SIZE)
        return -ENOMEM; /* blocks are smaller than pages here: only one run can be shown */
    m->stitched = true;
    m->addr = stitch(fs, runs, m->len, prot);
    return m->addr == NULL ? -ENOMEM : 0;
}

static int map_args(const struct shmfs_file *f, off_t off, size_t len, int prot)
{
    if (off < 0 || off % BLOCK_SIZE != 0 || len == 0 ||
        (prot != PROT_READ && prot != (PROT_READ | PROT_WRITE)))
        return -EINVAL;
    if (len > SIZE_MAX - BLOCK_SIZE || (uint64_t)off > INT64_MAX - round_up(len, BLOCK_SIZE))
        return -ENXIO;
    if ((f->oflags & O_PATH) != 0)
        return -EBADF;
    if ((f->oflags & O_ACCMODE) == O_WRONLY ||
        ((prot & PROT_WRITE) != 0 && (f->oflags & O_ACCMODE) != O_RDWR))
        return -EACCES;
    return 0;
}

int shmfs_map(struct shmfs_file *f, off_t off, size_t len, int prot, void **ret)
{
    struct shmfs *fs = f->fs;
    struct client *c = client_of(fs);
    uint64_t pos = (uint64_t)off >> BLOCK_SHIFT, end = div_up((uint64_t)off + len, BLOCK_SIZE);
    struct runs runs = { 0 };
    int r = client_enter(fs);

    if (r == 0)
        r = map_args(f, off, len, prot);
    if (r < 0)
        return r;
    struct mapping *m = calloc(1, sizeof(*m));
    if (m == NULL)
        return -ENOMEM;
    m->len = round_up(len, BLOCK_SIZE);
    m->use = NO_USE;
    r = fs->readonly ? look(f, pos, end, &runs) : pin(f, pos, end, &runs, &m->use);
    if (r == 0) {
        m->word = use_word(f->ino, proc_index(fs->self), USE_PIN);
        r = address(fs, &runs, prot, m);
        if (r < 0 && m->use != NO_USE)
            inode_drop_use(fs, m->use, m->word, proc_inc(fs->self));
    }
    free(runs.run);
    if (r < 0) {
        free(m);
        return (int)client_leave(fs, r);
    }
    pthread_mutex_lock(&c->lists_lock);
    m->next = c->maps;
    c->maps = m;
    pthread_mutex_unlock(&c->lists_lock);
    *ret = m->addr;
    return 0;
}

static void mapping_end(struct shmfs *fs, struct mapping *m)
{
    if (m->stitched) {
        region_unguard(fs, m->addr);
        munmap(m->addr, m->len);
    }
    if (m->use != NO_USE)
        inode_drop_use(fs, m->use, m->word, proc_inc(fs->self));
    free(m);
}

int shmfs_unmap(struct shmfs *fs, void *addr, size_t len)
{
    struct client *c = client_of(fs);
    struct mapping **at, *m;
    int r = client_enter(fs);

    if (r == -EBADF)
        return r;
    pthread_mutex_lock(&c->lists_lock);
    for (at = &c->maps; (m = *at) != NULL; at = &m->next) {
        if (m->addr == addr && m->len == round_up(len, BLOCK_SIZE))
            break;
    }
    if (m != NULL)
        *at = m->next;
    pthread_mutex_unlock(&c->lists_lock);
    if (m == NULL)
        return -EINVAL;
    mapping_end(fs, m);
    return r;
}

void client_unmap_all(struct shmfs *fs)
{
    struct client *c = client_of(fs);

    while (c->maps != NULL) {
        struct mapping *m = c->maps;

        c->maps = m->next;
        mapping_end(fs, m);
    }
}

int shmfs_msync(struct shmfs_file *f, off_t off, size_t len)
{
    struct inode *in;
    struct txn t;
    int r = client_enter(f->fs);

    if (r < 0)
        return r;
    if (off < 0 || len > (size_t)INT64_MAX)
        return -EINVAL;
    if ((f->oflags & O_PATH) != 0 || (f->oflags & O_ACCMODE) == O_RDONLY)
        return -EBADF;
    do {
        r = txn_begin(f->fs, &t);
        if (r < 0)
            return r;
        r = inode_lock(&t, f->ino, &in);
        if (r == 0 &&
            lease_break(&t, f->ino, LEASE_ATTR | LEASE_PAGES, (uint64_t)off, (uint64_t)off + (uint64_t)len))
            r = -EAGAIN;
        if (r < 0) {
            r = txn_abort_for(&t, r);
            continue;
        }
        inode_changed(&t, inode_edit(&t, f->ino), CHANGE_DATA);
        map_mark(f->fs, f->ino, in, (uint64_t)off >> BLOCK_SHIFT, div_up((uint64_t)off + len, BLOCK_SIZE));
        txn_commit(&t);
    } while (r == -EAGAIN);
    return (int)client_leave(f->fs, r);
}
