/* SPDX-License-Identifier: MIT */
/* Making a snapshot: docs/SNAPSHOT.md, "A point in time". */
#include "snapshot.h"

#include <fcntl.h>

enum {
    LEAST_PAGES = 64,      /* that there is room for then */
    GATE_PAGES = 1024,     /* copied while the gate is shut */
    SLICE_WORDS = 4096,    /* of marks, taken while it is */
    SQUEEZE_ROUND = 3,     /* from this round on who writes is held back, */
    ROUNDS_MAX = 16,       /* and after this one the gate is shut for as long as it takes */
    HOLD_PAGES = 4096,     /* then a sign of life comes that often */
    STUCK_TRIES = 20,      /* for those who are inside to come out, */
    STUCK_NAP_MS = 20,     /* and between them, more each time */
    OTHER_WAIT_MS = 60000, /* for another snapshot to end */
    FRESH_PAGES = 65536,   /* more than this, and most of what there is: then a fresh image is written */
    FORCED_TRIES = 3,      /* when somebody opened the gate, for we were stopped */
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

/* Who keeps the image waits for as long as it takes: fsync is for nothing else. */
static int begin_alone(struct shmfs_snapshot *s, struct shmfs_diag *diag)
{
    int r;

    if (pthread_mutex_trylock(&s->fs->snapshots) !=
        0) { /* another thread of this attach, for whom the lock is the same */
        *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_SNAPSHOT_BUSY };
        return -EBUSY;
    }
    for (int ms = 0; (r = lock_snapshots(s->fs, F_WRLCK)) == -EAGAIN || r == -EACCES; ms++) {
        if (ms == OTHER_WAIT_MS && !s->keeps) {
            *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_SNAPSHOT_BUSY };
            r = -EBUSY;
            break;
        }
        if (s->progress && s->progress->step && s->progress->step(s->progress->arg, 0, 0) != 0) {
            r = -ECANCELED;
            break;
        }
        nap_us(1000);
    }
    if (r < 0)
        pthread_mutex_unlock(&s->fs->snapshots);
    return r;
}

static void end_alone(struct shmfs_snapshot *s)
{
    lock_snapshots(s->fs, F_UNLCK);
    pthread_mutex_unlock(&s->fs->snapshots);
}

/* ---- the gate ----------------------------------------------------------------------------------- */

int snapshot_shut(struct shmfs_snapshot *s, struct shmfs_diag *diag)
{
    uint32_t stuck = 0;
    int r;

    for (int tries = 1;; tries++) {
        r = gate_shut(s->fs, s->txn.index, &s->gate, &stuck);
        if (r != -EBUSY || tries == STUCK_TRIES)
            break;
        nap_us(STUCK_NAP_MS * 1000L * tries);
    }
    if (r == -EBUSY) {
        struct procref owner = { LOAD(&s->fs->slots[stuck].owner.v) };
        uint32_t index = proc_index(owner);

        *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_SNAPSHOT_STUCK,
                                     .a = index < s->fs->l.nprocs ? s->fs->procs[index].pid : 0 };
    }
    return r;
}

int snapshot_open_gate(struct shmfs_snapshot *s, uint64_t since)
{
    bool had = gate_open(s->fs, s->gate);
    uint64_t pause = lock_now_ns() - since;

    s->result.pause_ns = MAX(s->result.pause_ns, pause);
    s->result.pauses++;
    return had ? 0 : -EAGAIN;
}

/* ---- marks -------------------------------------------------------------------------------------- */

static void word_found(void *arg, uint64_t page, uint64_t bits)
{
    struct shmfs_snapshot *s = arg;

    if (s->nwords == s->room) {
        size_t room = s->room ? s->room * 2 : 8192;
        struct snapshot_word *p = realloc(s->words, room * sizeof(*p));

        if (!p) {
            s->no_memory = true; /* the mark is lost, and so is the attempt */
            return;
        }
        s->words = p;
        s->room = room;
    }
    s->words[s->nwords++] = (struct snapshot_word){ page, bits };
}

/* Blocks that programs have mapped may have changed without a mark. At the gate, where no map changes. */
static int mark_pinned(struct shmfs_snapshot *s, struct shmfs_diag *diag)
{
    struct shmfs *fs = s->fs;
    uint64_t since = lock_now_ns();
    uint32_t i = 0, before = 0;
    int r;

    while (i < use_count(fs) && use_kind(LOAD_RELAXED(use_at(fs, i))) != USE_PIN)
        i++;
    if (i == use_count(fs))
        return 0;
    r = snapshot_shut(s, diag);
    if (r < 0)
        return r;
    for (; i < use_count(fs); i++) {
        uint64_t word = LOAD_RELAXED(use_at(fs, i));
        uint32_t ino = use_ino(word);

        if (word == 0 || use_kind(word) != USE_PIN || !region_inode_ok(fs, ino) || ino == before)
            continue;
        map_mark(fs, ino, &fs->inodes[ino], 0, UINT64_MAX);
        before = ino;
    }
    return snapshot_open_gate(s, since);
}

/* They are marked again, for the image that was to have them: without the gate, for a mark too many does no harm. */
static void give_back(struct shmfs_snapshot *s)
{
    for (size_t i = 0; i < s->nwords; i++) {
        const struct snapshot_word *w = &s->words[i];

        for (uint64_t bits = w->bits; bits != 0; bits &= bits - 1) {
            uint64_t page = w->page + (uint64_t)__builtin_ctzll(bits);

            dirty_mark_at(s->fs, s->fs->l.group_desc + page * BLOCK_SIZE, 1);
        }
    }
}

/* All marks go: everything is looked at after this. */
static int take_all_marks(struct shmfs_snapshot *s, struct shmfs_diag *diag)
{
    uint64_t from = 0;
    bool more = true;

    while (more) {
        uint64_t since = lock_now_ns();
        int r = snapshot_shut(s, diag);

        if (r < 0)
            return r;
        more = dirty_take(s->fs, &from, SLICE_WORDS, word_found, s);
        r = snapshot_open_gate(s, since);
        if (r < 0 || s->no_memory)
            return r < 0 ? r : -ENOMEM;
    }
    s->put = s->nwords;
    return 0;
}

/* ---- the point in time -------------------------------------------------------------------------- */

static int copy_todos(struct shmfs_snapshot *s)
{
    const struct shmfs *fs = s->fs;

    s->head->ntodos = 0;
    for (uint32_t i = 0; i < fs->l.nslots; i++) {
        struct todo todo = fs->slots[i].todo;

        if (todo.op == TODO_NONE || todo.op > TODO_CHAIN || !region_inode_ok(fs, todo.ino.n))
            continue;
        if (s->head->ntodos == IMAGE_TODOS)
            return -EAGAIN;
        s->head->todos[s->head->ntodos++] =
            (struct image_todo){ .op = todo.op, .ino = todo.ino.n, .from = todo.from, .to = todo.to };
    }
    return 0;
}

/* At the gate: all that makes the point in time, but for what is in the image already. */
static int copy_rest(struct shmfs_snapshot *s)
{
    const struct shmfs *fs = s->fs;

    s->npages = 0;
    for (size_t i = s->put; i < s->nwords; i++) {
        for (uint64_t bits = s->words[i].bits; bits != 0; bits &= bits - 1) {
            uint64_t page = s->words[i].page + (uint64_t)__builtin_ctzll(bits);
            bool is_free = snapshot_is_free(fs, page);

            if (!is_free)
                snapshot_copy(s, page, s->pages + s->npages * BLOCK_SIZE);
            /* The highest bit: it is a hole by now. */
            s->numbers[s->npages++] = snapshot_page(page) | (uint64_t)is_free << 63;
            if (s->npages % HOLD_PAGES == 0)
                gate_hold(s->fs, &s->gate);
        }
    }
    s->put = s->nwords;
    s->sb = *fs->sb;
    s->sb.clean = 1;
    return copy_todos(s);
}

static int rest_room(struct shmfs_snapshot *s, uint64_t pages)
{
    if (pages <= s->pages_room)
        return 0;
    free(s->pages);
    free(s->numbers);
    s->pages = malloc(pages * BLOCK_SIZE);
    s->numbers = malloc(pages * sizeof(*s->numbers));
    s->pages_room = s->pages && s->numbers ? pages : 0;
    if (s->pages_room == 0)
        return -ENOMEM;
    memset(s->pages, 0xff, pages * BLOCK_SIZE); /* no faults at the gate */
    return 0;
}

/*
 * Shuts the gate, takes marks, opens it. 1: and what they stand for was little, and is copied: that is the point in
 * time. 0: it goes to the image now, while others go on, and then again. At the LAST one, all that there is room for.
 */
static int visit_gate(struct shmfs_snapshot *s, uint64_t *from, bool last, struct shmfs_diag *diag)
{
    uint64_t room = last ? s->pages_room : MIN(s->pages_room, (uint64_t)GATE_PAGES), since;
    bool whole = *from == 0, more, little;
    size_t before = s->nwords;
    int r, opened;

    since = lock_now_ns();
    r = snapshot_shut(s, diag);
    if (r < 0)
        return r;
    more = dirty_take(s->fs, from, last ? UINT32_MAX : (uint32_t)SLICE_WORDS, word_found, s);
    little = whole && !more && snapshot_count(s->words + before, s->nwords - before) <= room;
    r = s->no_memory ? -ENOMEM : little ? copy_rest(s) : 0;
    opened = snapshot_open_gate(s, since);
    if (r == 0)
        r = opened;
    return r < 0 ? r : little;
}

/* Round after round, until little is left. Who writes faster than the image can be written is held back more and more. */
static int make_rounds(struct shmfs_snapshot *s, struct shmfs_diag *diag)
{
    uint64_t from = 0;
    int r = 0;

    for (int round = 0; r == 0; round += from == 0) {
        uint64_t marked = snapshot_marked(s->fs);
        bool last = round >= ROUNDS_MAX;

        s->squeeze = round > SQUEEZE_ROUND ? (unsigned)(round - SQUEEZE_ROUND) : 0;
        /* Room for what is likely to be found; for more, there is the next round. */
        r = rest_room(s, last || marked < GATE_PAGES ? marked * 5 / 4 + LEAST_PAGES : LEAST_PAGES);
        if (r == 0)
            r = visit_gate(s, &from, last, diag);
        if (r == 0)
            r = snapshot_put_words(s);
    }
    return r;
}

static int put_head(struct shmfs_snapshot *s)
{
    _Alignas(64) uint8_t page[BLOCK_SIZE] = { 0 };
    struct image_region *head = s->head;
    struct timespec now;
    uint64_t free_blocks = 0;
    int r;

    clock_gettime(CLOCK_REALTIME, &now);
    memcpy(head->magic, IMAGE_REGION_MAGIC, sizeof(head->magic));
    head->version = FORMAT_VERSION;
    head->sec = now.tv_sec;
    head->nsec = (uint32_t)now.tv_nsec;
    head->used_inodes = 0;
    for (uint32_t g = 0; g < s->fs->l.ngroups; g++) {
        head->used_inodes += s->fs->l.group_inodes - LOAD_RELAXED(&s->fs->groups[g].free_inodes);
        free_blocks += LOAD_RELAXED(&s->fs->groups[g].free_blocks);
    }
    head->used_inodes -= MIN(head->used_inodes, UINT64_C(1)); /* number 0, which is nobody's */
    head->used_blocks = s->sb.nblocks - MIN(free_blocks, s->sb.nblocks);
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
            r = snapshot_step(s);
    }
    return r == 0 ? put_head(s) : r;
}

static int make_point(struct shmfs_snapshot *s, bool full, struct shmfs_diag *diag)
{
    int r = full ? take_all_marks(s, diag) : 0;

    if (r == 0 && full)
        r = snapshot_put_everything(s);
    if (r == 0)
        r = make_rounds(s, diag);
    if (r < 0)
        return r;
    /* Nothing has changed: the image is this point in time, too. */
    if (!full && s->nwords == 0 && s->head->ntodos == 0)
        return image_is_named(s->img) ? 0 : -ESTALE;
    r = put_rest(s);
    if (r == 0 && s->fs->broken)
        r = -EIO;
    return r == 0 ? image_commit(s->img) : r;
}

/* ---- whose image -------------------------------------------------------------------------------- */

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
           memcmp(rt->base, image_uuid(s->img), sizeof(rt->base)) == 0 &&
           rt->base_root == image_root_hash(s->img);
}

/* Unless somebody else has taken marks since: then there was no lock of snapshots. */
static void base_set(struct shmfs_snapshot *s)
{
    struct runtime *rt = s->fs->rt;

    if (LOAD(&rt->gate_count) != s->gate >> 16 || rt->base_sequence != 0)
        return;
    memcpy(rt->base, image_uuid(s->img), sizeof(rt->base));
    rt->base_root = image_root_hash(s->img);
    /* Last: killed before, everything is looked at the next time. */
    STORE(&rt->base_sequence, image_sequence(s->img));
}

/* An image to write to; a fresh one if most of it would go through the journal. */
static int image_ready(struct shmfs_snapshot *s, bool *full)
{
    uint64_t marked = *full ? 0 : snapshot_marked(s->fs);

    s->total = *full ? snapshot_used(s->fs) : marked;
    if (s->img && marked > FRESH_PAGES && marked > snapshot_used(s->fs) / 2) {
        image_close(s->img);
        s->img = NULL;
    }
    if (s->img)
        return 0;
    *full = true;
    s->total = snapshot_used(s->fs);
    s->result.fresh = true;
    return image_create(s->path, snapshot_page(s->fs->l.npages), &s->img);
}

/* After a failure R. Where it was not the disk's, the image is as it was, and the next one goes on with it. */
static void image_leave(struct shmfs_snapshot *s, int r)
{
    if (image_failed(s->img) != 0 || s->result.fresh || r == -ESTALE) {
        image_close(s->img);
        s->img = NULL;
    } else {
        image_abort(s->img);
    }
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
    int r = fast ? 0 : mark_pinned(s, diag);

    if (r == 0)
        r = image_ready(s, &full);
    if (r < 0)
        return r;
    written = image_written(s->img);
    s->by_file = !s->keeps && !full;
    STORE(&rt->base_sequence, UINT64_C(0));
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    r = make_point(s, full, diag);
    s->result.written = image_written(s->img) - written;
    if (r < 0)
        image_leave(s, r);
    else
        s->result.sequence = image_sequence(s->img);
    if (lend && !s->no_memory) {
        give_back(s);
        STORE(&rt->base_sequence, was);
    } else if (r == 0) {
        base_set(s);
    }
    if (r == 0 && image_failed(s->img) != 0) { /* found afterwards: the next one writes a fresh image */
        image_close(s->img);
        s->img = NULL;
    }
    return r;
}

static int take_once(struct shmfs_snapshot *s, bool fast, struct shmfs_diag *diag)
{
    int r;

    *diag = (struct shmfs_diag){ 0 };
    s->result = (struct shmfs_snapshot_result){ 0 };
    s->nwords = s->put = s->npages = 0;
    s->no_memory = false;
    s->done = 0;
    r = txn_begin(s->fs, &s->txn);
    if (r == 0) {
        r = take_locked(s, fast, diag);
        txn_abort(&s->txn);
    }
    return r;
}

int shmfs_snapshot_take(struct shmfs_snapshot *s, bool fast, const struct shmfs_progress *progress,
                        struct shmfs_snapshot_result *ret, struct shmfs_diag *diag)
{
    int r;

    *diag = (struct shmfs_diag){ 0 };
    s->progress = progress;
    r = begin_alone(s, diag);
    if (r < 0)
        return r;
    for (int tries = 1;; tries++) {
        r = take_once(s, fast, diag);
        /* Somebody opened our gate, or took the image's file away. */
        if ((r != -EAGAIN && r != -ESTALE) || tries == FORCED_TRIES)
            break;
    }
    end_alone(s);
    if (r == -EAGAIN) {
        *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_SNAPSHOT_STOPPED };
        return -EBUSY;
    }
    if (r == -EBUSY && diag->reason == SHMFS_REASON_NONE)
        diag->reason = SHMFS_REASON_IMAGE_BUSY;
    if (r == 0)
        *ret = s->result;
    return r;
}

bool shmfs_snapshot_is_due(struct shmfs_snapshot *s)
{
    if (!is_base(s) || !image_is_named(s->img))
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
