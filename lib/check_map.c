/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>

#include "check_impl.h"

/* What the entries of one node may say. */
struct scope {
    uint64_t high;  /* positions lie below */
    uint32_t level; /* of these entries; 0: extents */
};

#define FILE_POS_END ((UINT64_C(1) << 63) >> BLOCK_SHIFT)
#define DIR_POS_END (UINT64_C(1) << (KEY_HASH_BITS + KEY_TIE_BITS))

static void walk_entries(struct check_map *map, const struct extent *entries, uint32_t count,
                         struct scope scope);

static const char *entry_text(const struct check_map *map, uint64_t pos, uint32_t level, char *buf, size_t n)
{
    const char *kind = level > 0 ? "node" : map->dir ? "bucket" : "extent";

    snprintf(buf, n, map->dir ? "%s at %#" PRIx64 : "%s at %" PRIu64, kind, pos);
    return buf;
}

static void damage(struct check_map *map)
{
    map->damaged = true;
    map->ck->lost = true;
}

static void check_leaf_entry(struct check_map *map, struct extent e, const struct scope *scope)
{
    struct check *ck = map->ck;
    char what[64];

    entry_text(map, e.pos, 0, what, sizeof(what));
    map->entries++;
    if (e.len == 0 || (map->dir && e.len != 1)) {
        check_problem(ck, map->ino, "%s: its length is %u, should be %s", what, e.len,
                      map->dir ? "1" : "at least 1");
        damage(map);
        if (e.len == 0)
            return;
        e.len = 1;
    }
    if (e.pos >= (map->dir ? DIR_POS_END : FILE_POS_END) || (!map->dir && e.len > FILE_POS_END - e.pos))
        check_problem(ck, map->ino, "%s: ends past the largest position", what);
    else if (e.pos < map->next)
        check_problem(ck, map->ino, "%s: out of order, or overlaps the one before", what);
    else if (e.pos + e.len > scope->high)
        check_problem(ck, map->ino, "%s: outside of what its node covers", what);
    if (e.pos < UINT64_MAX - e.len)
        map->next = e.pos + e.len; /* of this entry, right or wrong: one mistake is told of once */

    enum check_claim claim = check_claim(ck, map->ino, e.blk, e.len, what);
    if (claim == CHECK_CLAIM_BAD) {
        damage(map);
        return;
    }
    map->blocks += e.len;
    map->leaf(map, &e, claim);
}

static bool node_good(struct check_map *map, const struct node *node, const char *what, uint32_t level,
                      uint32_t *ret_count)
{
    struct check *ck = map->ck;
    uint32_t magic = node->magic, owner = node->owner.n, node_level = node->level, count = node->count;

    if (magic != NODE_MAGIC)
        check_problem(ck, map->ino, "%s: bad magic %08x", what, magic);
    else if (owner != map->ino)
        check_problem(ck, map->ino, "%s: says that it belongs to inode %u", what, owner);
    else if (node_level != level)
        check_problem(ck, map->ino, "%s: level is %u, should be %u", what, node_level, level);
    else if (count == 0 || count > NODE_ENTRIES)
        check_problem(ck, map->ino, "%s: has %u entries, should be 1 to %d", what, count, NODE_ENTRIES);
    else {
        *ret_count = count;
        return true;
    }
    return false;
}

static void walk_child(struct check_map *map, struct extent e, struct scope scope)
{
    char what[64];
    uint32_t count;

    entry_text(map, e.pos, scope.level + 1, what, sizeof(what));
    if (e.len != 0)
        check_problem(map->ck, map->ino, "%s: its length is %u, should be 0", what, e.len);
    enum check_claim claim = check_claim(map->ck, map->ino, e.blk, 1, what);
    if (claim != CHECK_CLAIM_BAD)
        map->blocks++;
    if (claim != CHECK_CLAIM_OK) {
        damage(map);
        return;
    }
    const struct node *node = check_block(map->ck, e.blk.n);
    if (!node_good(map, node, what, scope.level, &count)) {
        damage(map);
        return;
    }
    uint64_t first = node->entries[0].pos;
    if (first != e.pos)
        check_problem(map->ck, map->ino,
                      map->dir ? "%s: its first entry is at %#" PRIx64 : "%s: its first entry is at %" PRIu64,
                      what, first);
    walk_entries(map, node->entries, count, scope);
}

/* `count` has been checked. A separator is the position of the first entry below it. */
static void walk_entries(struct check_map *map, const struct extent *entries, uint32_t count,
                         struct scope scope)
{
    char what[64];

    for (uint32_t i = 0; i < count; i++) {
        struct extent e = entries[i];
        if (scope.level == 0) {
            check_leaf_entry(map, e, &scope);
            continue;
        }
        struct scope child = { .high = scope.high, .level = scope.level - 1 };
        if (i + 1 < count) {
            uint64_t next = entries[i + 1].pos;
            entry_text(map, next, scope.level, what, sizeof(what));
            if (next <= e.pos)
                check_problem(map->ck, map->ino, "%s: out of order", what);
            else if (next >= scope.high)
                check_problem(map->ck, map->ino, "%s: outside of what its node covers", what);
            child.high = next;
        }
        walk_child(map, e, child);
    }
}

void check_map_walk(struct check_map *map, const struct inode *inode)
{
    struct scope scope = { .high = UINT64_MAX, .level = inode->map_level };

    if (inode->map_level > MAP_LEVELS_MAX)
        check_problem(map->ck, map->ino, "map has %u levels, at most %d are possible", inode->map_level,
                      MAP_LEVELS_MAX);
    else if (inode->map_count > INODE_EXTENTS)
        check_problem(map->ck, map->ino, "map has %u entries in the inode, which has room for %d",
                      inode->map_count, INODE_EXTENTS);
    else if (inode->map_level > 0 && inode->map_count == 0)
        check_problem(map->ck, map->ino, "map has %u levels but no entry", inode->map_level);
    else {
        walk_entries(map, inode->root, inode->map_count, scope);
        return;
    }
    damage(map);
}
