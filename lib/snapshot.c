/* SPDX-License-Identifier: MIT */
#include "snapshot.h"

#include <fcntl.h>
#include <stdio.h>

enum {
    GATE_PAGES = 1024,     /* copied while the gate is shut */
    SLICE_WORDS = 4096,    /* of marks, taken while it is */
    ROUNDS_MAX = 16,       /* then it is shut for as long as it takes */
    STUCK_TRIES = 100,     /* for those who are inside to come out, */
    STUCK_NAP_MS = 20,     /* and between them */
    OTHER_WAIT_MS = 60000, /* for another snapshot to end */
    STEP_PAGES = 1024,     /* between calls of progress */
    FRESH_PAGES = 65536,   /* more than this, and most of what there is: then a fresh image is written */
};

/* 64 pages of which some were marked. */
struct word {
    uint64_t page, bits;
};

struct shmfs_snapshot {
    struct shmfs *fs;
    char *path;
    struct image *img; /* NULL: the next one makes it */
    bool keeps;

    /* Of the one that is being made: */
    struct word *words;       /* marks that were taken */
    size_t nwords, room, put; /* put: how many of them went to the image */
    bool no_memory;
    uint8_t *pages; /* copied at the gate */
    size_t npages, pages_room;
    uint64_t *numbers; /* of those, in the image */
    struct image_region *head;
    struct superblock sb;
    struct txn txn; /* for its slot: the gate is shut in its name */
    const struct shmfs_progress *progress;
    uint64_t done, total; /* pages */
    struct shmfs_snapshot_result result;
};

/* ---- one at a time ------------------------------------------------------------------------------ */

/*
 * A lock that the kernel drops with its owner: so a snapshot that was stopped, and whose gate others have opened, is still the
 * only one; and none is begun before it is dead (A8).
 */
static int lock_snapshots(struct shmfs *fs, short type)
{
    struct flock fl = { .l_type = type,
                        .l_whence = SEEK_SET,
                        .l_start = (off_t)(fs->l.runtime + offsetof(struct runtime, gate)),
                        .l_len = 1 };

    if (!region_fd_ok(fs))
        return -EIO;
    return fcntl(fs->fd, F_OFD_SETLK, &fl) < 0 ? -errno : 0;
}

static int begin_alone(struct shmfs *fs, struct shmfs_diag *diag)
{
    int r;

    for (int ms = 0; (r = lock_snapshots(fs, F_WRLCK)) == -EAGAIN || r == -EACCES; ms++) {
        if (ms == OTHER_WAIT_MS) {
            *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_SNAPSHOT_BUSY };
            return -EBUSY;
        }
        nap_us(1000);
    }
    return r;
}

/* ---- pages to the image ------------------------------------------------------------------------- */

static const uint8_t *page_bytes(const struct shmfs *fs, uint64_t page)
{
    return fs->base + fs->l.group_desc + page * BLOCK_SIZE;
}

/* Is it a block that is free, or behind the end? May be wrong while the gate is open: then the page is marked again. */
static bool page_is_free(const struct shmfs *fs, uint64_t page)
{
    uint64_t first = snapshot_first_block(&fs->l), blk = page - first;

    if (page < first)
        return false;
    if (blk >= region_nblocks(fs))
        return true;
    uint64_t bit = blk % fs->l.group_blocks;
    return (region_block_map(fs, (uint32_t)(blk / fs->l.group_blocks))[bit / 64] >> bit % 64 & 1) == 0;
}

static int step(struct shmfs_snapshot *s)
{
    s->result.looked_at += BLOCK_SIZE;
    if (++s->done % STEP_PAGES != 0 || !s->progress || !s->progress->step)
        return 0;
    return s->progress->step(s->progress->arg, s->done * BLOCK_SIZE, MAX(s->total, s->done) * BLOCK_SIZE) != 0
               ? -ECANCELED
               : 0;
}

/* By way of a copy: whoever stores to it meanwhile must not come between its hash and its bytes. */
static int put_page(struct shmfs_snapshot *s, uint64_t page)
{
    _Alignas(64) uint8_t copy[BLOCK_SIZE];
    int r;

    if (page_is_free(s->fs, page))
        return image_put(s->img, snapshot_page(page), NULL);
    memcpy(copy, page_bytes(s->fs, page), sizeof(copy));
    r = image_put(s->img, snapshot_page(page), copy);
    return r < 0 ? r : step(s);
}

static int put_words(struct shmfs_snapshot *s)
{
    for (; s->put < s->nwords; s->put++) {
        const struct word *w = &s->words[s->put];

        for (uint64_t bits = w->bits; bits != 0; bits &= bits - 1) {
            int r = put_page(s, w->page + (uint64_t)__builtin_ctzll(bits));

            if (r < 0)
                return r;
        }
    }
    return 0;
}

/* Have the inodes of this page of the table ever been given out? The others have no memory. */
static bool inode_page_is_there(const struct shmfs *fs, uint64_t page)
{
    uint64_t off = fs->l.group_desc + page * BLOCK_SIZE;
    uint64_t last = MIN((off + BLOCK_SIZE - fs->l.inodes) / INODE_SIZE, (uint64_t)fs->l.ninodes);

    for (uint64_t ino = (off - fs->l.inodes) / INODE_SIZE; ino < last; ino++) {
        uint32_t bit = (uint32_t)(ino % fs->l.group_inodes);

        if ((fs->group_rts[ino / fs->l.group_inodes].inode_reserved >> (bit / INODE_CHUNK) & 1) != 0)
            return true;
        ino += INODE_CHUNK - 1 - bit % INODE_CHUNK; /* nor any other of its chunk */
    }
    return false;
}

static bool page_is_there(const struct shmfs *fs, uint64_t page)
{
    uint64_t off = fs->l.group_desc + page * BLOCK_SIZE;

    if (off >= fs->l.blocks)
        return !page_is_free(fs, page);
    return off < fs->l.inodes ||
           (off < fs->l.inodes + (uint64_t)fs->l.ninodes * INODE_SIZE && inode_page_is_there(fs, page));
}

/* Whatever there is; and what the image has beside it goes. */
static int put_everything(struct shmfs_snapshot *s)
{
    for (uint64_t page = 0; page < s->fs->l.npages; page++) {
        int r = 0;

        if (page_is_there(s->fs, page))
            r = put_page(s, page);
        else if (!image_is_hole(s->img, snapshot_page(page)))
            r = image_put(s->img, snapshot_page(page), NULL);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- marks -------------------------------------------------------------------------------------- */

static void word_found(void *arg, uint64_t page, uint64_t bits)
{
    struct shmfs_snapshot *s = arg;

    if (s->nwords == s->room) {
        size_t room = s->room ? s->room * 2 : 8192;
        struct word *p = realloc(s->words, room * sizeof(*p));

        if (!p) {
            s->no_memory = true; /* the mark is lost, and so is the attempt */
            return;
        }
        s->words = p;
        s->room = room;
    }
    s->words[s->nwords++] = (struct word){ page, bits };
}

static uint64_t count_pages(const struct word *words, size_t n)
{
    uint64_t pages = 0;

    for (size_t i = 0; i < n; i++)
        pages += (uint64_t)__builtin_popcountll(words[i].bits);
    return pages;
}

/* Blocks that programs have mapped may have changed without a mark. */
static int mark_pinned(struct shmfs *fs)
{
    for (uint32_t i = 0; i < use_count(fs); i++) {
        uint64_t word = LOAD_RELAXED(use_at(fs, i));
        struct txn t;
        int r;

        if (word == 0 || use_kind(word) != USE_PIN || !region_inode_ok(fs, use_ino(word)))
            continue;
        r = txn_begin(fs, &t);
        if (r < 0)
            return r;
        if (txn_lock_inode(&t, use_ino(word)) == 0)
            map_mark(&t, use_ino(word), &fs->inodes[use_ino(word)], 0, UINT64_MAX);
        txn_abort(&t);
    }
    return 0;
}

static uint64_t marked_pages(const struct shmfs *fs)
{
    uint64_t n = 0;

    for (uint64_t s = 0; s < div_up(fs->l.npages, DIRTY_SUM); s++) {
        if ((LOAD_RELAXED(&fs->dirty_sums[s / 64]) >> s % 64 & 1) == 0)
            continue;
        for (uint64_t w = s * 64; w < s * 64 + 64; w++)
            n += (uint64_t)__builtin_popcountll(LOAD_RELAXED(&fs->dirty[w]));
    }
    return n;
}

/* They are marked again, for the image that was to have them: without the gate, for a mark too many does no harm. */
static void give_back(struct shmfs_snapshot *s)
{
    for (size_t i = 0; i < s->nwords; i++) {
        const struct word *w = &s->words[i];

        for (uint64_t bits = w->bits; bits != 0; bits &= bits - 1) {
            uint64_t page = w->page + (uint64_t)__builtin_ctzll(bits);

            dirty_mark_at(s->fs, s->fs->l.group_desc + page * BLOCK_SIZE, 1);
        }
    }
}

/* ---- the gate ----------------------------------------------------------------------------------- */

static int shut(struct shmfs_snapshot *s, struct shmfs_diag *diag)
{
    uint32_t stuck = 0;
    int r;

    for (int tries = 1;; tries++) {
        r = gate_shut(s->fs, s->txn.index, s->txn.stamp, &stuck);
        if (r != -EBUSY || tries == STUCK_TRIES)
            break;
        nap_us(STUCK_NAP_MS * 1000L);
    }
    if (r == -EBUSY) {
        struct procref owner = { LOAD(&s->fs->slots[stuck].owner.v) };
        uint32_t index = proc_index(owner);

        *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_SNAPSHOT_STUCK,
                                     .a = index < s->fs->l.nprocs ? s->fs->procs[index].pid : 0 };
    }
    return r;
}

/* At the gate: all that makes the point in time, but for what is in the image already. */
static int copy_rest(struct shmfs_snapshot *s)
{
    const struct shmfs *fs = s->fs;

    s->npages = 0;
    for (size_t i = s->put; i < s->nwords; i++) {
        for (uint64_t bits = s->words[i].bits; bits != 0; bits &= bits - 1) {
            uint64_t page = s->words[i].page + (uint64_t)__builtin_ctzll(bits);
            bool is_free = page_is_free(fs, page);

            if (!is_free)
                memcpy(s->pages + s->npages * BLOCK_SIZE, page_bytes(fs, page), BLOCK_SIZE);
            /* The highest bit: it is a hole by now. */
            s->numbers[s->npages++] = snapshot_page(page) | (uint64_t)is_free << 63;
        }
    }
    s->put = s->nwords;
    s->head->ntodos = 0;
    for (uint32_t i = 0; i < fs->l.nslots; i++) {
        struct todo todo = fs->slots[i].todo;

        if (todo.op == TODO_NONE)
            continue;
        if (s->head->ntodos == IMAGE_TODOS)
            return -EAGAIN;
        s->head->todos[s->head->ntodos++] =
            (struct image_todo){ .op = todo.op, .ino = todo.ino.n, .from = todo.from, .to = todo.to };
    }
    s->sb = *fs->sb;
    s->sb.clean = 1;
    return 0;
}

static int rest_room(struct shmfs_snapshot *s, uint64_t pages)
{
    uint64_t room = MAX(pages, (uint64_t)GATE_PAGES);

    if (room <= s->pages_room)
        return 0;
    free(s->pages);
    free(s->numbers);
    s->pages = malloc(room * BLOCK_SIZE);
    s->numbers = malloc(room * sizeof(*s->numbers));
    s->pages_room = s->pages && s->numbers ? room : 0;
    if (s->pages_room == 0)
        return -ENOMEM;
    memset(s->pages, 0xff, room * BLOCK_SIZE); /* no faults at the gate */
    return 0;
}

static void count_pause(struct shmfs_snapshot *s, uint64_t since)
{
    uint64_t pause = lock_now_ns() - since;

    s->result.pause_ns = MAX(s->result.pause_ns, pause);
    s->result.pauses++;
}

/*
 * Shuts the gate, takes marks, opens it. 1: and what they stand for was little, and is copied: that is the point in
 * time. 0: it goes to the image now, while others go on, and then again. At the LAST one, however much it is.
 */
static int visit_gate(struct shmfs_snapshot *s, uint64_t *from, bool last, struct shmfs_diag *diag)
{
    bool whole = *from == 0, more;
    size_t before = s->nwords;
    uint64_t since = lock_now_ns(), pages;
    int r = shut(s, diag);

    if (r < 0)
        return r;
    more = dirty_take(s->fs, from, last ? UINT32_MAX : (uint32_t)SLICE_WORDS, word_found, s);
    pages = count_pages(s->words + before, s->nwords - before);
    if (s->no_memory)
        r = -ENOMEM;
    else if (whole && !more && (pages <= GATE_PAGES || last))
        r = rest_room(s, pages);
    else
        pages = UINT64_MAX;
    if (r == 0 && pages != UINT64_MAX)
        r = copy_rest(s);
    if (!gate_open(s->fs, s->txn.stamp) && r == 0)
        r = -EAGAIN; /* we were stopped, and others went on */
    count_pause(s, since);
    if (r < 0)
        return r;
    return pages != UINT64_MAX;
}

/* ---- making one --------------------------------------------------------------------------------- */

static int put_head(struct shmfs_snapshot *s)
{
    _Alignas(64) uint8_t page[BLOCK_SIZE] = { 0 };
    struct image_region *head = s->head;
    struct timespec now;
    int r;

    clock_gettime(CLOCK_REALTIME, &now);
    memcpy(head->magic, IMAGE_REGION_MAGIC, sizeof(head->magic));
    head->version = FORMAT_VERSION;
    head->sec = now.tv_sec;
    head->nsec = (uint32_t)now.tv_nsec;
    head->used_blocks = head->used_inodes = 0;
    for (uint32_t g = 0; g < s->fs->l.ngroups; g++) {
        head->used_inodes += s->fs->l.group_inodes - s->fs->groups[g].free_inodes;
        head->used_blocks += LOAD_RELAXED(&s->fs->groups[g].free_blocks);
    }
    head->used_blocks = s->sb.nblocks - MIN(head->used_blocks, s->sb.nblocks);
    r = image_put(s->img, 0, head);
    if (r == 0)
        r = image_put(s->img, 1, (uint8_t *)head + BLOCK_SIZE);
    memcpy(page, &s->sb, sizeof(s->sb));
    return r == 0 ? image_put(s->img, IMAGE_SUPERBLOCK, page) : r;
}

static int put_rest(struct shmfs_snapshot *s)
{
    const uint64_t hole = UINT64_C(1) << 63;
    int r = 0;

    for (size_t i = 0; i < s->npages && r == 0; i++) {
        uint64_t page = s->numbers[i];

        r = image_put(s->img, page & ~hole, (page & hole) != 0 ? NULL : s->pages + i * BLOCK_SIZE);
        if (r == 0)
            r = step(s);
    }
    return r == 0 ? put_head(s) : r;
}

/* All marks go: everything is looked at after this. */
static int take_all_marks(struct shmfs_snapshot *s, struct shmfs_diag *diag)
{
    uint64_t from = 0;
    bool more = true;

    while (more) {
        uint64_t since = lock_now_ns();
        int r = shut(s, diag);

        if (r < 0)
            return r;
        more = dirty_take(s->fs, &from, SLICE_WORDS, word_found, s);
        if (!gate_open(s->fs, s->txn.stamp))
            return -EAGAIN;
        count_pause(s, since);
        if (s->no_memory)
            return -ENOMEM;
    }
    s->put = s->nwords;
    return 0;
}

static int make_point(struct shmfs_snapshot *s, bool full, struct shmfs_diag *diag)
{
    uint64_t from = 0;
    int r = rest_room(s, 0);

    if (r == 0 && full)
        r = take_all_marks(s, diag);
    if (r == 0 && full)
        r = put_everything(s);
    for (int round = 0; r == 0; round += from == 0) {
        r = visit_gate(s, &from, round >= ROUNDS_MAX, diag);
        if (r == 0)
            r = put_words(s);
    }
    if (r == 1)
        r = put_rest(s);
    return r == 0 && s->fs->broken ? -EIO : r;
}

/* Is there another who keeps an image of this region, which is to find its marks? */
static bool kept_by_other(struct shmfs_snapshot *s)
{
    struct procref keeper = { LOAD(&s->fs->rt->keeper.v) };

    return !s->keeps && keeper.v != 0 && proc_alive(s->fs, keeper);
}

static bool is_base(const struct shmfs_snapshot *s)
{
    const struct runtime *rt = s->fs->rt;

    return s->img && rt->base_sequence != 0 && rt->base_sequence == image_sequence(s->img) &&
           memcmp(rt->base, image_uuid(s->img), sizeof(rt->base)) == 0;
}

static uint64_t used_pages(const struct shmfs *fs)
{
    uint64_t n = region_nblocks(fs);

    for (uint32_t g = 0; g < region_ngroups(fs); g++)
        n -= MIN(n, (uint64_t)LOAD_RELAXED(&fs->groups[g].free_blocks));
    return n + snapshot_first_block(&fs->l) / 64;
}

/* An image to write to; a fresh one if most of it would go through the journal. */
static int image_ready(struct shmfs_snapshot *s, bool *full)
{
    uint64_t marked = *full ? 0 : marked_pages(s->fs);

    s->total = *full ? used_pages(s->fs) : marked;
    if (s->img && marked > FRESH_PAGES && marked > used_pages(s->fs) / 2) {
        image_close(s->img);
        s->img = NULL;
    }
    if (s->img)
        return 0;
    *full = true;
    s->total = used_pages(s->fs);
    s->result.fresh = true;
    return image_create(s->path, snapshot_page(s->fs->l.npages), &s->img);
}

/* After a failure R. Where it was not the disk's, the image is as it was, and the next one goes on with it. */
static void image_leave(struct shmfs_snapshot *s, int r)
{
    bool disk = r != -ECANCELED && r != -EBUSY && r != -EAGAIN && r != -ENOMEM;

    if (disk || s->result.fresh) {
        image_close(s->img);
        s->img = NULL;
    } else {
        image_abort(s->img);
    }
}

static void base_set(struct shmfs *fs, const uint8_t *uuid, uint64_t sequence)
{
    memcpy(fs->rt->base, uuid, sizeof(fs->rt->base));
    STORE(&fs->rt->base_sequence, sequence); /* last: killed before, everything is looked at the next time */
}

/*
 * Within the lock of snapshots. As long as marks are taken and not in a durable image, no image is the base: who dies here, or
 * fails, costs the next one a look at everything.
 */
static int take_locked(struct shmfs_snapshot *s, bool fast, struct shmfs_diag *diag)
{
    struct runtime *rt = s->fs->rt;
    bool lend = kept_by_other(s), full = !is_base(s);
    uint64_t was = rt->base_sequence, written;
    int r = fast ? 0 : mark_pinned(s->fs);

    if (r == 0)
        r = image_ready(s, &full);
    if (r < 0)
        return r;
    written = image_written(s->img);
    STORE(&rt->base_sequence, UINT64_C(0));
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    r = make_point(s, full, diag);
    if (r == 0)
        r = image_commit(s->img);
    s->result.written = image_written(s->img) - written;
    if (r < 0)
        image_leave(s, r);
    if (lend && !s->no_memory) {
        give_back(s);
        STORE(&rt->base_sequence, was);
    } else if (r == 0) {
        base_set(s->fs, image_uuid(s->img), image_sequence(s->img));
    }
    return r;
}

int shmfs_snapshot_take(struct shmfs_snapshot *s, bool fast, const struct shmfs_progress *progress,
                        struct shmfs_snapshot_result *ret, struct shmfs_diag *diag)
{
    int r;

    *diag = (struct shmfs_diag){ 0 };
    s->result = (struct shmfs_snapshot_result){ 0 };
    s->nwords = s->put = s->npages = 0;
    s->no_memory = false;
    s->progress = progress;
    s->done = 0;
    r = begin_alone(s->fs, diag);
    if (r < 0)
        return r;
    r = txn_begin(s->fs, &s->txn);
    if (r == 0) {
        r = take_locked(s, fast, diag);
        txn_abort(&s->txn);
    }
    lock_snapshots(s->fs, F_UNLCK);
    if (r < 0)
        return r == -EAGAIN ? -EBUSY : r;
    s->result.sequence = image_sequence(s->img);
    *ret = s->result;
    return 0;
}

bool shmfs_snapshot_is_due(struct shmfs_snapshot *s)
{
    if (!is_base(s))
        return true;
    for (uint32_t i = 0; i < use_count(s->fs); i++) {
        if (use_kind(LOAD_RELAXED(use_at(s->fs, i))) == USE_PIN)
            return true; /* what is stored by pointer is not marked */
    }
    for (uint64_t i = 0; i < div_up(s->fs->l.npages, DIRTY_SUM * 64); i++) {
        if (LOAD_RELAXED(&s->fs->dirty_sums[i]) != 0)
            return true;
    }
    return false;
}

/* ---- opening ------------------------------------------------------------------------------------ */

void snapshot_diag(const struct image_diag *image, int r, struct shmfs_diag *ret)
{
    static const enum shmfs_reason reasons[] = {
        [IMAGE_NOT_IMAGE] = SHMFS_REASON_NOT_IMAGE,       [IMAGE_NEWER] = SHMFS_REASON_IMAGE_VERSION,
        [IMAGE_BAD_HEADER] = SHMFS_REASON_IMAGE_HEADER,   [IMAGE_BAD_GEOMETRY] = SHMFS_REASON_IMAGE_GEOMETRY,
        [IMAGE_BAD_JOURNAL] = SHMFS_REASON_IMAGE_JOURNAL, [IMAGE_BAD_TABLE] = SHMFS_REASON_IMAGE_TABLE,
    };

    *ret = (struct shmfs_diag){ 0 };
    if (r == -EBUSY)
        ret->reason = SHMFS_REASON_IMAGE_BUSY;
    else if (image->damage != IMAGE_SOUND)
        *ret = (struct shmfs_diag){ reasons[image->damage], image->a, image->b };
}

/* Does the image belong to this filesystem? */
static int check_owner(struct shmfs_snapshot *s, struct shmfs_diag *diag)
{
    struct image_region *head = s->head;
    struct superblock sb;
    struct layout l;
    int r = snapshot_read_head(s->img, head, &sb, &l, diag);

    if (r < 0)
        return r;
    if (memcmp(sb.uuid, s->fs->sb->uuid, sizeof(sb.uuid)) != 0 || l.npages != s->fs->l.npages ||
        head->version != FORMAT_VERSION) {
        *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_IMAGE_OTHER };
        return -EEXIST;
    }
    return 0;
}

static int open_image(struct shmfs_snapshot *s, unsigned flags, struct shmfs_diag *diag)
{
    struct image_diag found;
    int r = image_open(s->path, IMAGE_WRITE, &s->img, &found);

    if (r == -ENOENT)
        return 0;
    if (r < 0)
        snapshot_diag(&found, r, diag);
    else
        r = check_owner(s, diag);
    if (r == 0)
        return 0;
    if (s->img)
        image_close(s->img);
    s->img = NULL;
    /* What is no image at all is never replaced. */
    return (flags & SHMFS_SNAPSHOT_FORCE) != 0 && (r == -EUCLEAN || r == -EEXIST) &&
                   diag->reason != SHMFS_REASON_NOT_IMAGE
               ? 0
               : r;
}

/* Under the attach lock. */
static int become_keeper(struct shmfs_snapshot *s, struct shmfs_diag *diag)
{
    struct procref keeper;
    int r = region_lock(s->fs);

    if (r < 0)
        return r;
    keeper.v = LOAD(&s->fs->rt->keeper.v);
    if (keeper.v != 0 && keeper.v != s->fs->self.v && proc_alive(s->fs, keeper)) {
        *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_IMAGE_BUSY };
        r = -EBUSY;
    } else {
        STORE(&s->fs->rt->keeper.v, s->fs->self.v);
        s->keeps = true;
    }
    region_unlock(s->fs);
    return r;
}

int shmfs_snapshot_open(struct shmfs *fs, const char *path, unsigned flags, struct shmfs_snapshot **ret,
                        struct shmfs_diag *diag)
{
    struct shmfs_snapshot *s;
    int r;

    *diag = (struct shmfs_diag){ 0 };
    if (fs->readonly || fs->private_)
        return -EROFS;
    s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    s->fs = fs;
    s->path = strdup(path);
    s->head = calloc(1, sizeof(*s->head));
    r = s->path && s->head ? open_image(s, flags, diag) : -ENOMEM;
    if (r == 0 && (flags & SHMFS_SNAPSHOT_KEEP) != 0)
        r = become_keeper(s, diag);
    if (r < 0) {
        shmfs_snapshot_close(s);
        return r;
    }
    *ret = s;
    return 0;
}

void shmfs_snapshot_close(struct shmfs_snapshot *s)
{
    if (!s)
        return;
    if (s->keeps) {
        STORE(&s->fs->rt->keeper.v, UINT64_C(0)); /* from here on fsync waits for nothing; */
        if (shmfs_sync_wanted(s->fs, 0) != 0)     /* who waits still, has not got it */
            shmfs_sync_decide(s->fs, LOAD(&s->fs->rt->sync_wanted), -EIO);
    }
    image_close(s->img);
    free(s->words);
    free(s->pages);
    free(s->numbers);
    free(s->head);
    free(s->path);
    free(s);
}
