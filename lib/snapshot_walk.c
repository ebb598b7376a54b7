/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <unistd.h>

#include "dir.h"
#include "snapshot_salvage.h"

/* ---- damaged pages ------------------------------------------------------------------------------ */

size_t salvage_bad_from(const struct salvage *s, uint64_t page)
{
    size_t low = 0, high = s->nbad;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (s->bad[middle] < page)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool salvage_page_bad(struct salvage *s, uint64_t page)
{
    size_t i = salvage_bad_from(s, page);

    if (i == s->nbad || s->bad[i] != page)
        return false;
    salvage_set(s->told, i);
    return true;
}

/* ---- maps --------------------------------------------------------------------------------------- */

/* Entries of one node or of the root, for positions [map->at, high). */
struct scope {
    const struct extent *entries;
    uint32_t count, level;
    uint64_t high;
};

static int walk_scope(struct salvage_map *map, struct scope scope);

static int lose(struct salvage_map *map, uint64_t to)
{
    uint64_t from = map->at;

    map->at = MAX(from, to);
    return from < to ? map->lost(map, from, to) : 0;
}

static int walk_extent(struct salvage_map *map, const struct extent *e, uint64_t high)
{
    uint64_t nblocks = region_nblocks(map->s->old);

    if (e->len == 0 || e->len > high - e->pos || !region_block_ok(map->s->old, e->blk) ||
        e->len > nblocks - e->blk.n)
        return lose(map, high);
    map->at = e->pos + e->len;
    return map->extent(map, e, high);
}

static int walk_child(struct salvage_map *map, struct extent e, uint32_t level, uint64_t high)
{
    const struct node *node = map_node(map->s->old, map->ino, e.blk, level);
    bool bad =
        region_block_ok(map->s->old, e.blk) && salvage_page_bad(map->s, salvage_block_page(map->s, e.blk.n));

    if (bad || !node || node->count == 0 || node->count > NODE_ENTRIES)
        return lose(map, high);
    return walk_scope(map, (struct scope){ node->entries, node->count, level, high });
}

/*
 * The scopes of one level do not overlap, and an entry counts only within its scope: so each counts once, however the nodes hang
 * together, and this ends.
 */
static int walk_scope(struct salvage_map *map, struct scope scope)
{
    int r = 0;

    for (uint32_t i = 0; i < scope.count && r == 0; i++) {
        const struct extent e = scope.entries[i];
        uint64_t next = i + 1 < scope.count ? MIN(scope.entries[i + 1].pos, scope.high) : scope.high;

        if (e.pos < map->at || e.pos >= next) {
            r = lose(map, next);
            continue;
        }
        map->at = e.pos; /* before it there is nothing */
        r = scope.level > 0 ? walk_child(map, e, scope.level - 1, next) : walk_extent(map, &e, next);
    }
    return r;
}

int salvage_map_walk(struct salvage_map *map, const struct inode *in)
{
    map->at = 0;
    return walk_scope(map, (struct scope){ in->root, in->map_count, in->map_level, UINT64_MAX });
}

/* ---- directories -------------------------------------------------------------------------------- */

const struct bucket *salvage_bucket(struct salvage_map *map, const struct extent *e)
{
    const struct bucket *b = region_known_block(map->s->old, e->blk);

    if (salvage_page_bad(map->s, salvage_block_page(map->s, e->blk.n)) || e->len != 1 ||
        b->magic != BUCKET_MAGIC || b->owner.n != map->ino || b->count > ARRAY_SIZE(b->slots))
        return NULL;
    return b;
}

bool salvage_slot(const struct bucket *b, unsigned i, uint64_t from, uint64_t to, struct salvage_entry *ret)
{
    const struct dslot *slot = &b->slots[i];
    const char *name;

    if (slot->key < from || slot->key >= to || dir_bucket_name(b, slot, &name) < 0)
        return false;
    ret->ino = slot->ino.n;
    ret->type = slot->type;
    memcpy(&ret->generation, name - sizeof(ret->generation), sizeof(ret->generation));
    memcpy(ret->name, name, slot->len);
    ret->name[slot->len] = 0;
    return strlen(ret->name) == slot->len && strchr(ret->name, '/') == NULL && strcmp(ret->name, ".") != 0 &&
           strcmp(ret->name, "..") != 0;
}

bool salvage_inode_is(const struct salvage *s, const struct salvage_entry *e)
{
    const struct inode *in;

    if (!region_inode_ok(s->old, e->ino))
        return false;
    in = inode_at(s->old, e->ino);
    return inode_is_valid(in) == 0 && in->generation == e->generation && IFTODT(in->mode) == e->type;
}

/* ---- the inode table ---------------------------------------------------------------------------- */

/* Goes on to where the file has bytes. False: there are none. */
static bool skip_hole(const struct salvage *s, struct salvage_scan *scan)
{
    uint64_t table = s->old->l.inodes, off = table + scan->ino * INODE_SIZE;
    off_t data, hole;

    if (off < scan->data)
        return true;
    data = lseek(s->old->fd, (off_t)off, SEEK_DATA);
    if (data < 0 && errno == ENXIO)
        return false;
    hole = data < 0 ? -1 : lseek(s->old->fd, data, SEEK_HOLE);
    scan->data = hole > data ? (uint64_t)hole : UINT64_MAX; /* a file that does not tell has no holes */
    if (data > (off_t)off)
        scan->ino = ((uint64_t)data - table) / INODE_SIZE;
    return true;
}

bool salvage_next_inode(const struct salvage *s, struct salvage_scan *scan)
{
    for (scan->ino++; scan->ino < s->old->l.ninodes; scan->ino++) {
        const struct inode *in;

        if (!skip_hole(s, scan) || scan->ino >= s->old->l.ninodes)
            return false;
        in = inode_at(s->old, (uint32_t)scan->ino);
        if (inode_is_valid(in) == 0 && in->nlink > 0)
            return true;
    }
    return false;
}
