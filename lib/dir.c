/* SPDX-License-Identifier: MIT */
#include "dir.h"

#include <dirent.h>
#define XXH_INLINE_ALL /* a name is short: the call would cost more than the hash */
#include <xxhash.h>

#define TIES (UINT64_C(1) << KEY_TIE_BITS)
#define DNAME_HEAD ((uint32_t)sizeof(struct dname))

enum { BUCKET_SLOTS_MAX = (BLOCK_SIZE - BUCKET_HEAD) / (int)sizeof(struct dslot) };

int dir_name_make(const struct shmfs *fs, const char *s, struct dir_name *ret)
{
    size_t len = strnlen(s, NAME_MAX_BYTES + 1);

    if (len == 0 || strcmp(s, ".") == 0 || strcmp(s, "..") == 0 || memchr(s, '/', len) != NULL)
        return -EINVAL;
    return dir_name_hash(fs, s, len, ret);
}

int dir_name_hash(const struct shmfs *fs, const char *s, size_t n, struct dir_name *ret)
{
    if (n > NAME_MAX_BYTES)
        return -ENAMETOOLONG;
    uint64_t hash = XXH3_64bits_withSeed(s, n, fs->hash_seed) & fs->hash_mask;
    *ret = (struct dir_name){ s, (uint32_t)n, hash >> (64 - KEY_HASH_BITS) << KEY_TIE_BITS };
    return 0;
}

/* ---- buckets ----------------------------------------------------------------------------------- */

/* A bucket on the way, with what of its header was read once. */
struct place {
    struct bucket *b;
    uint32_t count, low, live;
    uint64_t pos;
    uint64_t next; /* pos of the next bucket */
    struct blkref blk;
};

/* The bucket of a key. -ENOENT: the directory has none. */
static int place_find(const struct shmfs *fs, uint32_t dino, const struct inode *in, uint64_t key,
                      struct place *ret)
{
    struct map_at at;
    int r = map_find(fs, dino, in, key, &at);

    if (r < 0)
        return r;
    if (!at.found)
        return at.next == UINT64_MAX ? -ENOENT : -EUCLEAN;
    struct bucket *b = region_block(fs, at.ext.blk);
    if (b == NULL || at.ext.len != 1 || b->magic != BUCKET_MAGIC || b->owner.n != dino)
        return -EUCLEAN;
    ret->b = b;
    ret->count = LOAD_RELAXED(&b->count);
    ret->low = LOAD_RELAXED(&b->low);
    ret->live = LOAD_RELAXED(&b->live);
    ret->pos = at.ext.pos;
    ret->next = at.next;
    ret->blk = at.ext.blk;
    return ret->count <= BUCKET_SLOTS_MAX ? 0 : -EUCLEAN;
}

/* The first slot whose key is not below `key`. */
static uint32_t slot_from(const struct place *p, uint64_t key)
{
    const struct dslot *base = p->b->slots;
    uint32_t n = p->count;

    if (n == 0)
        return 0;
    while (n > 1) { /* without a branch on what was found: hashes cannot be predicted */
        uint32_t half = n / 2;

        base += half & -(uint32_t)(LOAD_RELAXED(&base[half - 1].key) < key);
        n -= half;
    }
    return (uint32_t)(base - p->b->slots) + (LOAD_RELAXED(&base->key) < key);
}

static bool slot_name_ok(const struct dslot *s)
{
    return s->len > 0 && s->off >= BUCKET_HEAD && s->off + DNAME_HEAD + s->len <= BLOCK_SIZE;
}

static const struct dname *slot_name(const struct bucket *b, const struct dslot *s)
{
    return (const void *)((const uint8_t *)b + s->off);
}

static uint32_t name_generation(const struct dname *d)
{
    uint32_t g;

    memcpy(&g, d->generation, sizeof(g));
    return g;
}

int dir_find(const struct shmfs *fs, uint32_t dino, const struct inode *in, const struct dir_name *name,
             struct dir_entry *ret)
{
    uint64_t at = name->key, end = name->key + TIES, tie = 0; /* the lowest that no entry seen has */
    struct dir_entry spot = { 0 };

    for (;;) { /* the entries of one hash may lie in several buckets */
        struct place p;
        int r = place_find(fs, dino, in, at, &p);
        if (r == -ENOENT)
            break;
        if (r < 0)
            return r;
        uint32_t i = slot_from(&p, name->key);
        if (at == name->key) {
            spot.at = (uint16_t)i;
            spot.blk = p.blk;
            spot.pos = p.pos;
        }
        for (; i < p.count; i++) {
            const struct dslot *slot = &p.b->slots[i];
            uint64_t key = LOAD_RELAXED(&slot->key);
            uint32_t off = LOAD_RELAXED(&slot->off), ino = LOAD_RELAXED(&slot->ino.n);

            if (key >= end)
                break;
            tie += key == name->key + tie;
            if (LOAD_RELAXED(&slot->len) != name->len)
                continue;
            if (off < BUCKET_HEAD || off + DNAME_HEAD + name->len > BLOCK_SIZE)
                return -EUCLEAN;
            const struct dname *d = (const void *)((const uint8_t *)p.b + off);
            if (memcmp(d->name, name->s, name->len) == 0) {
                if (!region_inode_ok(fs, ino))
                    return -EUCLEAN;
                ret->key = key;
                ret->ino = ino;
                ret->generation = name_generation(d);
                ret->type = LOAD_RELAXED(&slot->type);
                ret->at = (uint16_t)i;
                ret->blk = p.blk;
                ret->pos = p.pos;
                ret->seq = 0;
                return 0;
            }
        }
        if (i < p.count || p.next >= end)
            break;
        if (p.next <= at && at != name->key)
            return -EUCLEAN; /* the map runs in a circle */
        at = p.next;
    }
    *ret = spot;
    ret->key = name->key + tie;
    if (tie > 0)
        ret->blk.n = 0; /* behind its equals, perhaps in another bucket */
    return -ENOENT;
}

int dir_lookup(struct shmfs *fs, uint32_t dino, const struct dir_name *name, struct dir_entry *ret)
{
    struct dir_entry e = { 0 };
    struct reading rd;
    int r;

    reading_init(&rd, fs, dino);
    do {
        r = reading_begin(&rd);
        if (r < 0)
            return r;
        const struct inode *in = inode_at(fs, dino);
        r = inode_is_valid(in);
        if (r == 0)
            r = S_ISDIR(in->mode) ? dir_find(fs, dino, in, name, &e) : -ENOTDIR;
    } while (reading_again(&rd));
    if (r == 0)
        *ret = e;
    if (r == 0 && !rd.locked)
        ret->seq = rd.seq;
    return r;
}

/* ---- changes ----------------------------------------------------------------------------------- */

static void bucket_init(struct bucket *b, uint32_t dino)
{
    memset(b, 0, BUCKET_HEAD);
    b->magic = BUCKET_MAGIC;
    b->owner.n = dino;
    b->low = BLOCK_SIZE;
}

static void head_save(struct txn *t, struct bucket *b)
{
    txn_save(t, &b->count, offsetof(struct bucket, pad) - offsetof(struct bucket, count));
}

/* Copies slots [from, to) of a bucket, and their names, packed, to a bucket that is empty. -EUCLEAN. */
static int slots_copy(struct bucket *dst, const struct bucket *src, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        struct dslot s = src->slots[i];
        uint32_t n = DNAME_HEAD + s.len;

        if (!slot_name_ok(&s) || dst->low < BUCKET_HEAD + (dst->count + 1u) * sizeof(s) + n)
            return -EUCLEAN;
        dst->low = (uint16_t)(dst->low - n);
        dst->live = (uint16_t)(dst->live + n);
        memcpy((uint8_t *)dst + dst->low, (const uint8_t *)src + s.off, n);
        s.off = dst->low;
        dst->slots[dst->count++] = s;
    }
    return 0;
}

static int bucket_compact(struct txn *t, uint32_t dino, const struct place *p)
{
    struct bucket packed, *b = p->b;
    int r;

    bucket_init(&packed, dino);
    r = slots_copy(&packed, b, 0, p->count);
    if (r < 0)
        return r;
    txn_save(t, b, sizeof(*b));
    memcpy(b, &packed, BUCKET_HEAD + packed.count * sizeof(struct dslot));
    memcpy((uint8_t *)b + packed.low, (uint8_t *)&packed + packed.low, BLOCK_SIZE - packed.low);
    return 0;
}

/* Moves the upper half of a full bucket to a new one. */
static int bucket_split(struct txn *t, uint32_t dino, struct inode *in, struct place *p)
{
    uint32_t half = p->count / 2;
    struct blkref blk;
    int r;

    if (half == 0)
        return -EUCLEAN;
    r = alloc_block(t, p->blk, &blk);
    if (r < 0)
        return r;
    struct bucket *b = region_known_block(t->fs, blk);
    bucket_init(b, dino);
    r = slots_copy(b, p->b, half, p->count);
    if (r < 0)
        return r;
    in->blocks++;
    head_save(t, p->b);
    /* The slots that were moved are dead space now, but a rollback would need them. */
    txn_save(t, &p->b->slots[half], (p->count - half) * sizeof(struct dslot));
    p->b->count = (uint16_t)half; /* the names stay as holes until the bucket is compacted */
    p->b->live = (uint16_t)(p->live - MIN(b->live, p->live));
    return map_insert(t, dino, in, (struct extent){ .pos = b->slots[0].key, .blk = blk, .len = 1 }, false);
}

static int first_bucket(struct txn *t, uint32_t dino, struct inode *in)
{
    struct blkref blk;
    int r = alloc_block(t, (struct blkref){ 0 }, &blk);

    if (r < 0)
        return r;
    bucket_init(region_known_block(t->fs, blk), dino);
    in->blocks++;
    return map_insert(t, dino, in, (struct extent){ .pos = 0, .blk = blk, .len = 1 }, false);
}

/* The bucket that the entry names; false: look it up. */
static bool place_known(const struct shmfs *fs, uint32_t dino, const struct dir_entry *e, struct place *ret)
{
    /* The sequence may be odd by now, by our own doing. */
    if (e->seq == 0 || e->blk.n == 0 || (LOAD_RELAXED(&fs->inode_rts[dino].seq) & ~UINT64_C(1)) != e->seq)
        return false;
    struct bucket *b = region_known_block(fs, e->blk);
    *ret = (struct place){
        .b = b, .count = b->count, .low = b->low, .live = b->live, .pos = e->pos, .blk = e->blk
    };
    return ret->count <= BUCKET_SLOTS_MAX && e->at <= ret->count;
}

static void slot_put(struct txn *t, struct place *p, uint32_t at, struct dslot s, const struct dir_name *name,
                     uint32_t generation)
{
    struct bucket *b = p->b;
    uint32_t n = DNAME_HEAD + name->len;

    /* Below `low` and behind the last slot is dead space: no undo for it, but the page is to be marked (S8). */
    head_save(t, b);
    s.off = (uint16_t)(p->low - n);
    struct dname *d = (struct dname *)(void *)((uint8_t *)b + s.off);
    memcpy(d->generation, &generation, sizeof(generation));
    memcpy(d->name, name->s, name->len);
    if (at < p->count) {
        txn_save(t, &b->slots[at], (p->count - at) * sizeof(s));
        memmove(&b->slots[at + 1], &b->slots[at], (p->count - at) * sizeof(s));
    }
    b->slots[at] = s;
    b->count = (uint16_t)(p->count + 1);
    b->low = s.off;
    b->live = (uint16_t)(p->live + n);
}

int dir_insert(struct txn *t, uint32_t dino, struct inode *in, const struct dir_name *name,
               const struct dir_entry *entry)
{
    struct dslot s = { entry->key, { entry->ino }, 0, (uint8_t)name->len, entry->type };
    uint32_t need = (uint32_t)sizeof(s) + DNAME_HEAD + name->len;
    struct place p;
    int r;

    if (s.key >= name->key + TIES)
        return -ENOSPC;
    for (int tries = 0; tries < 4; tries++) {
        bool known = tries == 0 && place_known(t->fs, dino, entry, &p);

        r = known ? 0 : place_find(t->fs, dino, in, s.key, &p);
        if (r == -ENOENT)
            r = first_bucket(t, dino, in);
        else if (r == 0) {
            uint32_t slots_end = BUCKET_HEAD + p.count * (uint32_t)sizeof(s);

            if (p.low > BLOCK_SIZE || p.low < slots_end || p.live > BLOCK_SIZE - slots_end)
                return -EUCLEAN;
            if (p.low - slots_end >= need) {
                slot_put(t, &p, known ? entry->at : slot_from(&p, s.key), s, name, entry->generation);
                in->size++;
                return 0;
            }
            if (BLOCK_SIZE - slots_end - p.live >= need)
                r = bucket_compact(t, dino, &p);
            else
                r = bucket_split(t, dino, in, &p);
        }
        if (r < 0)
            return r;
    }
    return -EUCLEAN; /* a split or a compaction made no room: its numbers lie */
}

static int slot_at(struct shmfs *fs, uint32_t dino, struct inode *in, const struct dir_entry *e,
                   struct place *ret_p, uint32_t *ret_at)
{
    if (place_known(fs, dino, e, ret_p)) {
        /* What was inserted into the directory by ourselves meanwhile has moved it by one at most, or away. */
        for (*ret_at = e->at; *ret_at < MIN(ret_p->count, e->at + 2u); ++*ret_at) {
            if (ret_p->b->slots[*ret_at].key == e->key)
                return 0;
        }
    }
    int r = place_find(fs, dino, in, e->key, ret_p);
    if (r < 0)
        return r;
    *ret_at = slot_from(ret_p, e->key);
    return *ret_at < ret_p->count && ret_p->b->slots[*ret_at].key == e->key ? 0 : -ENOENT;
}

int dir_replace(struct txn *t, uint32_t dino, struct inode *in, const struct dir_entry *entry)
{
    struct place p;
    uint32_t at;
    int r = slot_at(t->fs, dino, in, entry, &p, &at);

    if (r < 0)
        return r;
    struct dslot *s = &p.b->slots[at];
    if (!slot_name_ok(s))
        return -EUCLEAN;
    struct dname *d = (struct dname *)slot_name(p.b, s);
    txn_save(t, s, sizeof(*s));
    s->ino.n = entry->ino;
    s->type = entry->type;
    txn_save(t, d->generation, sizeof(d->generation));
    memcpy(d->generation, &entry->generation, sizeof(entry->generation));
    return 0;
}

/* An empty bucket is freed; the one at 0 with the last name. */
static int bucket_remove(struct txn *t, uint32_t dino, struct inode *in, uint64_t pos)
{
    int r = map_remove(t, dino, in, pos);

    if (r == 0 && pos != 0 && in->size == 0)
        r = map_remove(t, dino, in, 0);
    return r;
}

int dir_remove(struct txn *t, uint32_t dino, struct inode *in, const struct dir_entry *entry)
{
    struct place p;
    uint32_t at;
    int r = slot_at(t->fs, dino, in, entry, &p, &at);

    if (r < 0)
        return r;
    struct bucket *b = p.b;
    in->size -= in->size > 0;
    if (p.count == 1 && (p.pos != 0 || in->size == 0))
        return bucket_remove(t, dino, in, p.pos);
    uint32_t n = DNAME_HEAD + b->slots[at].len;
    if (at + 1 < p.count) {
        txn_save(t, &b->slots[at], (p.count - at - 1) * sizeof(struct dslot));
        memmove(&b->slots[at], &b->slots[at + 1], (p.count - at - 1) * sizeof(struct dslot));
    }
    head_save(t, b);
    b->count--;
    b->live = (uint16_t)(b->live - MIN(n, b->live));
    if (b->count == 0)
        b->low = BLOCK_SIZE;
    return 0;
}

/* ---- listing ----------------------------------------------------------------------------------- */

int dir_bucket(struct shmfs *fs, uint32_t dino, uint64_t key, struct bucket *ret, uint64_t *ret_next,
               uint32_t *ret_parent)
{
    struct reading rd;
    struct place p;
    int r;

    reading_init(&rd, fs, dino);
    do {
        r = reading_begin(&rd);
        if (r < 0)
            return r;
        const struct inode *in = inode_at(fs, dino);
        *ret_parent = in->parent.n;
        r = inode_is_valid(in);
        if (r == 0)
            r = S_ISDIR(in->mode) ? place_find(fs, dino, in, key, &p) : -ENOTDIR;
        if (r == 0) {
            memcpy(ret, p.b, sizeof(*ret));
            *ret_next = p.next;
        }
    } while (reading_again(&rd));
    return r == 0 && ret->count > BUCKET_SLOTS_MAX ? -EUCLEAN : r;
}

uint32_t dir_bucket_from(const struct bucket *copy, uint64_t key)
{
    const struct place p = { .b = (struct bucket *)copy, .count = copy->count };

    return slot_from(&p, key);
}

int dir_bucket_name(const struct bucket *copy, const struct dslot *s, const char **ret_name)
{
    if (!slot_name_ok(s))
        return -EUCLEAN;
    *ret_name = slot_name(copy, s)->name;
    return 0;
}

static void dot_fill(struct shmfs_dirent *e, const char *name, uint32_t ino, uint64_t next)
{
    *e = (struct shmfs_dirent){ .next = next, .ino = ino, .type = DT_DIR, .len = (uint8_t)strlen(name) };
    strcpy(e->name, name);
}

static int entry_fill(struct shmfs_dirent *e, const struct bucket *b, const struct dslot *s)
{
    if (!slot_name_ok(s))
        return -EUCLEAN;
    const struct dname *d = slot_name(b, s);
    e->next = s->key + COOKIE_FIRST + 1;
    e->ino = s->ino.n;
    e->generation = name_generation(d);
    e->type = s->type;
    e->len = s->len;
    memcpy(e->name, d->name, s->len);
    e->name[s->len] = 0;
    return 0;
}

int dir_list(struct shmfs *fs, uint32_t dino, uint64_t cookie, struct shmfs_dirent *ret, int n)
{
    uint64_t key = cookie < COOKIE_FIRST ? 0 : cookie - COOKIE_FIRST;
    struct bucket copy;
    int filled = 0;

    while (filled < n) {
        struct place p = { .b = &copy };
        uint32_t parent = ROOT_INO;
        uint64_t seq = region_inode_ok(fs, dino) ? LOAD(&fs->inode_rts[dino].seq) : 0;
        int r = dir_bucket(fs, dino, key, &copy, &p.next, &parent);

        if (r < 0 && r != -ENOENT)
            return r;
        if (cookie < COOKIE_DOTDOT)
            dot_fill(&ret[filled++], ".", dino, COOKIE_DOTDOT);
        if (cookie < COOKIE_FIRST && filled < n)
            dot_fill(&ret[filled++], "..", parent, COOKIE_FIRST);
        cookie = COOKIE_FIRST;
        if (r == -ENOENT)
            break;
        p.count = copy.count;
        for (uint32_t i = slot_from(&p, key); i < p.count && filled < n; i++) {
            if (copy.slots[i].key < key || copy.slots[i].key >= MIN(p.next, KEYS))
                return -EUCLEAN; /* out of order: the listing would never end */
            r = entry_fill(&ret[filled], &copy, &copy.slots[i]);
            if (r < 0)
                return r;
            ret[filled].seen = (seq & 1) == 0 ? seq : 0;
            key = copy.slots[i].key + 1;
            filled++;
        }
        if (filled == n || p.next >= KEYS || p.next < key)
            break;
        key = p.next;
    }
    return filled;
}
