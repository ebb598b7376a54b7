/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "check_impl.h"

/*
 * Names with equal hashes lie side by side, so that equal names are found by comparing within such
 * a run. There is hardly ever a run of two; of one made longer than this only the first are compared.
 */
enum { RUN_NAMES = 32, NAME_TEXT = 256 };

struct walk {
    struct check *ck;
    uint32_t ino;
    struct check_dir found;

    struct extent pending; /* a bucket is checked once it is known where the next begins */
    bool any;              /* there is one */
    bool first;            /* it is the first of the directory */

    uint64_t hash; /* of the run; of all its names */
    unsigned nrun;
    struct {
        uint8_t len;
        char name[NAME_MAX_BYTES];
    } run[RUN_NAMES];
};

static void name_problem(struct walk *w, const struct bucket *b, const struct dslot *s, const char *what)
{
    char text[NAME_TEXT];
    size_t start = s->off + sizeof(struct dname);

    check_name_text((const char *)b + start, s->len, text, sizeof(text));
    check_problem(w->ck, w->ino, "entry '%s': %s", text, what);
}

/* ---- a bucket's form ------------------------------------------------------------------------- */

static bool bucket_good(struct walk *w, const struct bucket *b, uint64_t pos)
{
    if (b->magic != BUCKET_MAGIC)
        check_problem(w->ck, w->ino, "bucket at %#" PRIx64 ": bad magic %08x", pos, b->magic);
    else if (b->owner.n != w->ino)
        check_problem(w->ck, w->ino, "bucket at %#" PRIx64 ": says that it belongs to inode %u", pos,
                      b->owner.n);
    else if (b->count > ARRAY_SIZE(b->slots))
        check_problem(w->ck, w->ino, "bucket at %#" PRIx64 ": has %u entries, it has room for %zu", pos,
                      b->count, ARRAY_SIZE(b->slots));
    else
        return true;
    return false;
}

/* Where the names lie. Slots whose name cannot be read get len 0. */
static void check_room(struct walk *w, struct bucket *b, uint64_t pos)
{
    uint64_t used[BLOCK_SIZE / 64] = { 0 };
    unsigned head = BUCKET_HEAD + b->count * (unsigned)sizeof(struct dslot);
    unsigned live = 0, low = BLOCK_SIZE;
    bool overlap = false;

    for (unsigned i = 0; i < b->count; i++) {
        struct dslot *s = &b->slots[i];
        unsigned end = s->off + (unsigned)sizeof(struct dname) + s->len;
        live += end - s->off;
        if (s->len == 0 || s->off < head || end > BLOCK_SIZE) {
            check_problem(w->ck, w->ino,
                          "bucket at %#" PRIx64 ": slot %u has no name within it (offset %u, length %u)", pos,
                          i, s->off, s->len);
            s->len = 0;
            continue;
        }
        low = MIN(low, s->off);
        for (unsigned at = s->off; at < end; at++) {
            overlap = overlap || check_bit(used, at);
            check_bit_set(used, at);
        }
    }
    if (b->low < head || b->low > low)
        check_problem(w->ck, w->ino,
                      "bucket at %#" PRIx64 ": says that names begin at %u, should be %u to %u", pos, b->low,
                      head, low);
    if (overlap)
        check_problem(w->ck, w->ino, "bucket at %#" PRIx64 ": names overlap", pos);
    if (live != b->live)
        check_problem(w->ck, w->ino, "bucket at %#" PRIx64 ": says %u bytes of names, they are %u", pos,
                      b->live, live);
}

static void check_order(struct walk *w, const struct bucket *b, uint64_t pos, uint64_t high)
{
    for (unsigned i = 0; i < b->count; i++) {
        uint64_t key = b->slots[i].key;
        if (i > 0 && key <= b->slots[i - 1].key)
            check_problem(w->ck, w->ino, "bucket at %#" PRIx64 ": slot %u: key %#" PRIx64 " is out of order",
                          pos, i, key);
        else if (key < pos || key >= high)
            check_problem(w->ck, w->ino,
                          "bucket at %#" PRIx64 ": slot %u: key %#" PRIx64 " belongs to another bucket", pos,
                          i, key);
    }
}

/* ---- a name ---------------------------------------------------------------------------------- */

static bool name_seen(struct walk *w, uint64_t hash, const char *name, uint8_t len)
{
    if (w->nrun == 0 || w->hash != hash)
        w->nrun = 0;
    w->hash = hash;
    for (unsigned i = 0; i < w->nrun; i++)
        if (w->run[i].len == len && memcmp(w->run[i].name, name, len) == 0)
            return true;
    if (w->nrun < RUN_NAMES) {
        memcpy(w->run[w->nrun].name, name, len);
        w->run[w->nrun++].len = len;
    }
    return false;
}

static void check_name(struct walk *w, const struct bucket *b, const struct dslot *s)
{
    const char *name = (const char *)b + s->off + sizeof(struct dname);
    uint64_t hash = XXH3_64bits_withSeed(name, s->len, w->ck->fs->sb->hash_seed) & w->ck->fs->hash_mask;

    if (memchr(name, '/', s->len) != NULL || memchr(name, '\0', s->len) != NULL)
        name_problem(w, b, s, "has a slash or a NUL in its name");
    if ((s->len == 1 && name[0] == '.') || (s->len == 2 && name[0] == '.' && name[1] == '.'))
        name_problem(w, b, s, "is a name that may not be stored");
    hash >>= 64 - KEY_HASH_BITS;
    if (hash != s->key >> KEY_TIE_BITS)
        name_problem(w, b, s, "its key is not the hash of its name");
    else if (name_seen(w, hash, name, s->len))
        name_problem(w, b, s, "is there twice");
}

/* ---- what a name refers to ------------------------------------------------------------------- */

static void check_target(struct walk *w, const struct bucket *b, const struct dslot *s)
{
    const struct inode *target;
    uint32_t generation;
    char text[128];

    if (!region_inode_ok(w->ck->fs, s->ino.n)) {
        snprintf(text, sizeof(text), "refers to inode %u of %u", s->ino.n, w->ck->fs->l.ninodes);
        name_problem(w, b, s, text);
        return;
    }
    target = &w->ck->fs->inodes[s->ino.n];
    uint32_t mode = target->mode;
    if (mode == 0) {
        snprintf(text, sizeof(text), "refers to inode %u, which is free", s->ino.n);
        name_problem(w, b, s, text);
        return;
    }
    if (s->len != 0) /* else there is nothing to read (check_room()) */
        memcpy(&generation, (const char *)b + s->off + offsetof(struct dname, generation),
               sizeof(generation));
    if (s->len != 0 && generation != target->generation) {
        snprintf(text, sizeof(text), "refers to inode %u generation %u, which now has generation %u",
                 s->ino.n, generation, target->generation);
        name_problem(w, b, s, text);
    }
    if (s->type != IFTODT(mode)) {
        snprintf(text, sizeof(text), "has type %u, inode %u has type %u", s->type, s->ino.n, IFTODT(mode));
        name_problem(w, b, s, text);
    }
    if (S_ISDIR(mode))
        w->found.subdirs++;
}

/* CHECK_NAMES */
static void note_names(struct walk *w, const struct bucket *b, uint32_t blk)
{
    struct check *ck = w->ck;

    for (unsigned i = 0; i < b->count; i++) {
        uint32_t ino = b->slots[i].ino.n;
        if (!region_inode_ok(ck->fs, ino) || ck->fs->inodes[ino].mode == 0)
            continue;
        if (ck->links[ino] < UINT32_MAX)
            ck->links[ino]++;
        if (ck->where[ino] == 0)
            ck->where[ino] = blk;
    }
}

/* ---- all buckets ----------------------------------------------------------------------------- */

static void check_bucket(struct check_map *map, uint64_t high)
{
    struct walk *w = map->arg;
    struct bucket b; /* a copy: nothing of it can change between check and use */

    memcpy(&b, check_block(w->ck, w->pending.blk.n), sizeof(b));
    if (!bucket_good(w, &b, w->pending.pos)) {
        map->damaged = true;
        return;
    }
    w->found.entries += b.count;
    if (w->ck->pass == CHECK_NAMES) {
        note_names(w, &b, w->pending.blk.n);
        return;
    }
    if (w->ck->pass != CHECK_ALL)
        return;
    /* Lookups of keys below the first bucket rely on this. */
    if (w->first && w->pending.pos != 0)
        check_problem(w->ck, w->ino, "bucket at %#" PRIx64 ": is the first, should be at 0", w->pending.pos);
    if (b.count == 0 && w->pending.pos != 0)
        check_problem(w->ck, w->ino, "bucket at %#" PRIx64 ": is empty, should have been freed",
                      w->pending.pos);
    check_order(w, &b, w->pending.pos, high);
    check_room(w, &b, w->pending.pos);
    for (unsigned i = 0; i < b.count; i++) {
        check_target(w, &b, &b.slots[i]);
        if (b.slots[i].len != 0)
            check_name(w, &b, &b.slots[i]);
    }
}

static void next_bucket(struct check_map *map, const struct extent *e, enum check_claim claim)
{
    struct walk *w = map->arg;

    if (w->any)
        check_bucket(map, e->pos);
    w->first = map->entries == 1;
    w->pending = *e;
    w->any = claim == CHECK_CLAIM_OK;
    if (!w->any)
        map->damaged = true;
}

void check_dir(struct check *ck, uint32_t ino, const struct inode *inode, struct check_map *map,
               struct check_dir *ret)
{
    struct walk w = { .ck = ck, .ino = ino };

    map->dir = true;
    map->leaf = next_bucket;
    map->arg = &w;
    check_map_walk(map, inode);
    if (w.any)
        check_bucket(map, UINT64_C(1) << (KEY_HASH_BITS + KEY_TIE_BITS));
    map->arg = NULL;
    *ret = w.found;
}
