/* SPDX-License-Identifier: MIT */
#include "extent.h"

#include <sys/stat.h>

/* One level of the way from the root to a leaf. */
struct level {
    struct extent *entries;
    uint32_t *count;
    uint32_t n; /* the count, read once and checked */
    uint32_t max;
    uint32_t index;    /* of the entry that was followed; in the leaf: where a new one would go */
    struct blkref blk; /* of the node; none for the root */
};

struct path {
    struct level level[MAP_LEVELS_MAX + 1]; /* [0] is the leaf */
    uint32_t top;                           /* index of the root */
};

/* How many entries have a pos not above the key. */
static uint32_t entries_upto(const struct extent *e, uint32_t n, uint64_t key)
{
    const struct extent *base = e;

    if (n == 0 || LOAD_RELAXED(&e[n - 1].pos) <= key) /* appending is the common case */
        return n;
    while (n > 1) { /* without a branch: hashes cannot be predicted */
        uint32_t half = n / 2;

        base += half & -(uint32_t)(LOAD_RELAXED(&base[half - 1].pos) <= key);
        n -= half;
    }
    return (uint32_t)(base - e) + (LOAD_RELAXED(&base->pos) <= key);
}

const struct node *map_node(const struct shmfs *fs, uint32_t ino, struct blkref blk, uint32_t level)
{
    const struct node *node = region_block(fs, blk);

    if (node == NULL || node->magic != NODE_MAGIC || node->owner.n != ino || node->level != level)
        return NULL;
    return node;
}

int map_find(const struct shmfs *fs, uint32_t ino, const struct inode *in, uint64_t key, struct map_at *ret)
{
    const struct extent *e = in->root;
    uint32_t n = LOAD_RELAXED(&in->map_count), level = LOAD_RELAXED(&in->map_level), i;
    uint64_t next = UINT64_MAX;

    if (n > INODE_EXTENTS || level > MAP_LEVELS_MAX)
        return -EUCLEAN;
    for (;;) {
        i = entries_upto(e, n, key);
        if (i < n)
            next = LOAD_RELAXED(&e[i].pos);
        if (level == 0)
            break;
        if (n == 0)
            return -EUCLEAN;
        const struct node *node = map_node(fs, ino, e[i > 0 ? i - 1 : 0].blk, level - 1);
        if (node == NULL)
            return -EUCLEAN;
        n = LOAD_RELAXED(&node->count);
        if (n == 0 || n > NODE_ENTRIES)
            return -EUCLEAN;
        e = node->entries;
        level--;
    }
    ret->found = i > 0;
    ret->next = next;
    if (likely(i > 0)) { /* field by field: what follows reads them so, at once */
        uint64_t nblocks = region_nblocks(fs);
        uint32_t len = LOAD_RELAXED(&e[i - 1].len), blk = LOAD_RELAXED(&e[i - 1].blk.n);

        if (unlikely(len == 0 || blk == 0 || blk >= nblocks || len > nblocks - blk))
            return -EUCLEAN;
        ret->ext.pos = LOAD_RELAXED(&e[i - 1].pos);
        ret->ext.blk.n = blk;
        ret->ext.len = len;
    }
    return 0;
}

int map_reaches(const struct shmfs *fs, uint32_t ino, const struct inode *in, uint64_t pos)
{
    struct map_at at;
    int r = map_find(fs, ino, in, UINT64_MAX - 1, &at);

    return r < 0 ? r : at.found && at.ext.pos + at.ext.len > pos;
}

int map_mark(struct shmfs *fs, uint32_t ino, const struct inode *in, uint64_t from, uint64_t to)
{
    while (from < to) {
        struct map_at at;
        struct blkref blk;
        uint64_t len;
        int r = S_ISREG(in->mode) ? map_find(fs, ino, in, from, &at) : -EUCLEAN;

        if (r < 0)
            return r;
        if (map_at_block(&at, from, &blk, &len)) {
            len = MIN(len, to - from);
            dirty_mark_at(fs, fs->l.blocks + (uint64_t)blk.n * BLOCK_SIZE, len * BLOCK_SIZE);
        }
        if (len == 0)
            return -EUCLEAN;
        from += MIN(len, to - from);
    }
    return 0;
}

/* The way to where `key` is or would be; level[0].index counts the entries not above it. */
static int path_find(struct shmfs *fs, uint32_t ino, struct inode *in, uint64_t key, struct path *p)
{
    struct level lv = { .entries = in->root, .count = &in->map_count, .max = INODE_EXTENTS };

    p->top = LOAD_RELAXED(&in->map_level);
    lv.n = LOAD_RELAXED(&in->map_count);
    if (p->top > MAP_LEVELS_MAX || lv.n > INODE_EXTENTS)
        return -EUCLEAN;
    for (uint32_t level = p->top;; level--) {
        lv.index = entries_upto(lv.entries, lv.n, key);
        if (level > 0 && lv.index > 0)
            lv.index--;
        p->level[level] = lv;
        if (level == 0)
            return 0;
        if (lv.n == 0)
            return -EUCLEAN;
        struct blkref blk = lv.entries[lv.index].blk;
        struct node *node = (struct node *)map_node(fs, ino, blk, level - 1);
        if (node == NULL)
            return -EUCLEAN;
        lv = (struct level){
            .entries = node->entries, .count = &node->count, .max = NODE_ENTRIES, .blk = blk
        };
        lv.n = LOAD_RELAXED(&node->count);
        if (lv.n == 0 || lv.n > NODE_ENTRIES)
            return -EUCLEAN;
    }
}

/* After the first entry of a level changed: the separators above follow. */
static void separators_fix(struct txn *t, struct path *p, uint32_t level)
{
    uint64_t pos = p->level[level].entries[0].pos;

    for (uint32_t l = level + 1; l <= p->top; l++) {
        struct extent *e = &p->level[l].entries[p->level[l].index];

        if (e->pos != pos)
            TXN_SET(t, &e->pos, pos);
        if (p->level[l].index > 0)
            break;
    }
}

static int node_new(struct txn *t, uint32_t ino, struct inode *in, struct blkref near, uint32_t level,
                    struct blkref *ret_blk, struct node **ret_node)
{
    struct blkref blk;
    int r = alloc_block(t, near, &blk);

    if (r < 0)
        return r;
    struct node *node = region_known_block(t->fs, blk);
    memset(node, 0, offsetof(struct node, entries));
    node->magic = NODE_MAGIC;
    node->owner.n = ino;
    node->level = level;
    in->blocks++;
    *ret_blk = blk;
    *ret_node = node;
    return 0;
}

/* The root is full: its entries move to a node of their own, to which the root then points. */
static int root_grow(struct txn *t, uint32_t ino, struct inode *in, struct path *p)
{
    struct level *root = &p->level[p->top];
    struct node *node;
    struct blkref blk;
    int r;

    if (p->top == MAP_LEVELS_MAX)
        return -EFBIG;
    r = node_new(t, ino, in, root->entries[0].blk, p->top, &blk, &node);
    if (r < 0)
        return r;
    memcpy(node->entries, root->entries, INODE_EXTENTS * sizeof(struct extent));
    node->count = INODE_EXTENTS;
    p->level[p->top + 1] = (struct level){ in->root, &in->map_count, 1, INODE_EXTENTS, 0, { 0 } };
    p->level[p->top] =
        (struct level){ node->entries, &node->count, INODE_EXTENTS, NODE_ENTRIES, root->index, blk };
    p->top++;
    txn_save(t, in->root, sizeof(in->root));
    in->root[0] = (struct extent){ .pos = node->entries[0].pos, .blk = blk };
    TXN_SET(t, &in->map_count, 1);
    TXN_SET(t, &in->map_level, p->top);
    return 0;
}

static void entry_put(struct txn *t, struct path *p, uint32_t level, uint32_t at, struct extent ext)
{
    struct level *lv = &p->level[level];
    uint32_t n = lv->n;

    assert(level <= p->top && lv->entries != NULL); /* a full root has grown before it could be split */
    dirty_mark(t->fs, &lv->entries[n], sizeof(struct extent));
    if (at < n) { /* the slot behind the last one is dead space and needs no undo */
        txn_save(t, &lv->entries[at], (n - at) * sizeof(struct extent));
        memmove(&lv->entries[at + 1], &lv->entries[at], (n - at) * sizeof(struct extent));
    }
    lv->entries[at] = ext;
    TXN_SET(t, lv->count, n + 1);
    lv->n = n + 1;
    if (at == 0)
        separators_fix(t, p, level);
}

static int entry_insert(struct txn *t, uint32_t ino, struct inode *in, struct path *p, struct extent ext)
{
    for (uint32_t level = 0;; level++) {
        struct level *lv = &p->level[level];
        struct blkref blk;
        struct node *node;
        int r;

        if (lv->n == lv->max && level == p->top) {
            r = root_grow(t, ino, in, p);
            if (r < 0)
                return r;
        }
        if (lv->n < lv->max) {
            entry_put(t, p, level, lv->index, ext);
            return 0;
        }
        /* Full: split. Behind the last entry, the new node gets the new entry alone: appending fills. */
        uint32_t n = lv->n, keep = lv->index == n ? n : n / 2;
        r = node_new(t, ino, in, lv->blk, level, &blk, &node);
        if (r < 0)
            return r;
        memcpy(node->entries, &lv->entries[keep], (n - keep) * sizeof(struct extent));
        node->count = n - keep;
        if (keep < n) /* they are overwritten below, and a rollback would need them */
            txn_save(t, &lv->entries[keep], (n - keep) * sizeof(struct extent));
        TXN_SET(t, lv->count, keep);
        lv->n = keep;
        if (keep == n) {
            node->entries[0] = ext;
            node->count = 1;
        } else if (lv->index <= keep) {
            entry_put(t, p, level, lv->index, ext);
        } else {
            uint32_t at = lv->index - keep; /* never 0; the node is new and needs no undo */
            memmove(&node->entries[at + 1], &node->entries[at], (node->count - at) * sizeof(struct extent));
            node->entries[at] = ext;
            node->count++;
        }
        /* Its separator goes behind ours, one level up. */
        ext = (struct extent){ .pos = node->entries[0].pos, .blk = blk };
        p->level[level + 1].index++;
    }
}

int map_insert(struct txn *t, uint32_t ino, struct inode *in, struct extent ext, bool merge)
{
    struct path p;
    int r = path_find(t->fs, ino, in, ext.pos, &p);

    if (r < 0)
        return r;
    uint32_t i = p.level[0].index;
    struct extent *before = i > 0 ? &p.level[0].entries[i - 1] : NULL;
    if (before != NULL && before->pos + before->len > ext.pos)
        return -EUCLEAN;
    if (merge && before != NULL && before->pos + before->len == ext.pos &&
        before->blk.n + before->len == ext.blk.n && before->len <= UINT32_MAX - ext.len) {
        TXN_SET(t, &before->len, before->len + ext.len);
        return 0;
    }
    return entry_insert(t, ino, in, &p, ext);
}

int map_split(struct txn *t, uint32_t ino, struct inode *in, uint64_t pos)
{
    struct path p;
    int r = path_find(t->fs, ino, in, pos, &p);

    if (r < 0)
        return r;
    uint32_t i = p.level[0].index;
    if (i == 0)
        return 0;
    struct extent *e = &p.level[0].entries[i - 1];
    uint64_t head = pos - e->pos;
    if (head == 0 || head >= e->len)
        return 0;
    struct extent tail = { .pos = pos, .blk = { e->blk.n + (uint32_t)head }, .len = e->len - (uint32_t)head };
    TXN_SET(t, &e->len, (uint32_t)head);
    return entry_insert(t, ino, in, &p, tail);
}

/* The root has one child, whose entries fit into it: they move there, and the child is freed. */
static int root_shrink(struct txn *t, struct inode *in, struct path *p)
{
    struct level *root = &p->level[p->top], *child = &p->level[p->top - 1];
    int r;

    if (root->n != 1 || child->n > INODE_EXTENTS)
        return 0;
    r = alloc_free(t, child->blk, 1); /* nobody else can have it before we commit */
    if (r < 0)
        return r;
    in->blocks--;
    txn_save(t, in->root, sizeof(in->root));
    memcpy(in->root, child->entries, child->n * sizeof(struct extent));
    TXN_SET(t, &in->map_count, child->n);
    TXN_SET(t, &in->map_level, p->top - 1);
    return 0;
}

/* Takes an entry out; a node that becomes empty is freed, and its entry above goes too. */
static int entry_remove(struct txn *t, struct inode *in, struct path *p, uint32_t at)
{
    for (uint32_t level = 0;; level++) {
        struct level *lv = &p->level[level];
        uint32_t n = lv->n;

        if (n == 1 && level < p->top) {
            int r = alloc_free(t, lv->blk, 1);
            if (r < 0)
                return r;
            in->blocks--;
            at = p->level[level + 1].index;
            continue;
        }
        if (at + 1 < n) {
            txn_save(t, &lv->entries[at], (n - at - 1) * sizeof(struct extent));
            memmove(&lv->entries[at], &lv->entries[at + 1], (n - at - 1) * sizeof(struct extent));
        }
        TXN_SET(t, lv->count, n - 1);
        lv->n = n - 1;
        if (n == 1)
            TXN_SET(t, &in->map_level, 0);
        else if (at == 0)
            separators_fix(t, p, level);
        return level + 1 == p->top ? root_shrink(t, in, p) : 0;
    }
}

int map_cut(struct txn *t, uint32_t ino, struct inode *in, uint64_t from, uint64_t to)
{
    struct path p;
    int r;

    if (from >= to)
        return 0;
    r = path_find(t->fs, ino, in, to - 1, &p);
    if (r < 0)
        return r;
    uint32_t i = p.level[0].index;
    if (i == 0)
        return 0;
    struct extent *e = &p.level[0].entries[i - 1];
    uint64_t end = e->pos + e->len;
    if (end <= from)
        return 0;
    if (end > to || e->len == 0)
        return -EUCLEAN;
    uint32_t n = (uint32_t)(end - MAX(from, e->pos));
    struct blkref first = { e->blk.n + (e->len - n) };
    n = alloc_tail_in_group(t->fs, first, n);
    r = alloc_free(t, (struct blkref){ e->blk.n + (e->len - n) }, n);
    if (r < 0)
        return r;
    in->blocks -= n;
    if (n < e->len) {
        TXN_SET(t, &e->len, e->len - n);
        return 1;
    }
    r = entry_remove(t, in, &p, i - 1);
    return r < 0 ? r : 1;
}

int map_remove(struct txn *t, uint32_t ino, struct inode *in, uint64_t pos)
{
    struct path p;
    int r = path_find(t->fs, ino, in, pos, &p);

    if (r < 0)
        return r;
    uint32_t i = p.level[0].index;
    if (i == 0 || p.level[0].entries[i - 1].pos != pos)
        return -ENOENT;
    r = alloc_free(t, p.level[0].entries[i - 1].blk, 1);
    if (r < 0)
        return r;
    in->blocks--;
    return entry_remove(t, in, &p, i - 1);
}
