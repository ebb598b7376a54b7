/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>

#include "check_impl.h"

/* The maps of the groups follow each other without a gap, so that a block's bit is at its own index. */
static const uint64_t *block_map(const struct check *ck)
{
    return region_block_map(ck->fs, 0);
}

uint64_t check_run_end(const uint64_t *map, uint64_t from, uint64_t end)
{
    uint64_t flip = check_bit(map, from) ? UINT64_MAX : 0;
    uint64_t word = (map[from / 64] ^ flip) & (UINT64_MAX << (from % 64));
    uint64_t base = from & ~UINT64_C(63);

    while (word == 0) {
        base += 64;
        if (base >= end)
            return end;
        word = map[base / 64] ^ flip;
    }
    return MIN(base + (uint64_t)__builtin_ctzll(word), end);
}

static void set_bits(uint64_t *map, uint64_t from, uint64_t end)
{
    while (from < end) {
        uint64_t next = MIN((from | 63) + 1, end);
        uint64_t n = next - from;
        map[from / 64] |= (n == 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1) << (from % 64);
        from = next;
    }
}

/* "block 7", "blocks 7 to 9" */
static const char *range_text(uint64_t from, uint64_t end, char *buf, size_t n)
{
    if (end - from == 1)
        snprintf(buf, n, "block %" PRIu64, from);
    else
        snprintf(buf, n, "blocks %" PRIu64 " to %" PRIu64, from, end - 1);
    return buf;
}

void check_space_reset(struct check *ck)
{
    memset(ck->seen, 0, (size_t)div_up(ck->nblocks, 64) * 8);
    check_bit_set(ck->seen, 0); /* block 0 is nobody's */
    ck->patience = ck->nblocks + (1u << 20);
}

/* ---- references ------------------------------------------------------------------------------ */

/* CHECK_OWNERS: `ino` is the first to refer to these blocks. Tells, if somebody else followed. */
static void first_owner(struct check *ck, uint32_t ino, uint64_t from, uint64_t end)
{
    char range[64], other[1200];

    for (uint32_t i = 0; i < ck->ndups; i++) {
        const struct check_dup *dup = &ck->dups[i];
        uint64_t a = MAX(from, dup->blk);
        uint64_t b = MIN(end, dup->end);
        if (a >= b)
            continue;
        ck->pass = CHECK_REGION;
        range_text(a, b, range, sizeof(range));
        if (ino == dup->ino)
            check_problem(ck, ino, "%s used twice by it", range);
        else
            check_problem(ck, ino, "%s used by it and by %s", range,
                          check_inode_text(ck, dup->ino, other, sizeof(other)));
        ck->pass = CHECK_OWNERS;
    }
}

static void claim_fresh(struct check *ck, uint32_t ino, uint64_t from, uint64_t end)
{
    char range[64];

    set_bits(ck->seen, from, end);
    if (ck->pass == CHECK_OWNERS && ck->ndups > 0)
        first_owner(ck, ino, from, end);
    if (ck->pass != CHECK_ALL)
        return;
    ck->result.blocks += end - from;
    while (from < end) {
        uint64_t next = check_run_end(block_map(ck), from, end);
        if (!check_bit(block_map(ck), from))
            check_problem(ck, ino, "%s used by it but marked free",
                          range_text(from, next, range, sizeof(range)));
        from = next;
    }
}

static void claim_again(struct check *ck, uint32_t ino, uint64_t from, uint64_t end)
{
    char range[64];

    ck->patience -= MIN(ck->patience, end - from);
    if (ck->pass != CHECK_ALL)
        return;
    if (ck->ndups < CHECK_DUPS_MAX)
        ck->dups[ck->ndups++] = (struct check_dup){ .blk = from, .end = end, .ino = ino };
    else
        check_problem(ck, ino, "%s used by it and by another", range_text(from, end, range, sizeof(range)));
}

enum check_claim check_claim(struct check *ck, uint32_t ino, struct blkref blk, uint32_t len,
                             const char *what)
{
    uint64_t at = blk.n;
    uint64_t end = at + len;
    enum check_claim claim = CHECK_CLAIM_OK;
    char range[64];

    if (at == 0) {
        check_problem(ck, ino, "%s: refers to block 0, which is nobody's", what);
        return CHECK_CLAIM_BAD;
    }
    if (end > ck->nblocks) {
        check_problem(ck, ino, "%s: points past the region (%s of %" PRIu64 ")", what,
                      range_text(at, end, range, sizeof(range)), ck->nblocks);
        return CHECK_CLAIM_BAD;
    }
    while (at < end) {
        uint64_t next = check_run_end(ck->seen, at, end);
        if (!check_bit(ck->seen, at)) {
            claim_fresh(ck, ino, at, next);
        } else {
            claim_again(ck, ino, at, next);
            claim = CHECK_CLAIM_TWICE;
            /* Bytes made to be slow: the rest of what overlaps is not looked at. */
            if (ck->patience == 0)
                break;
        }
        at = next;
    }
    return claim;
}

/* ---- groups ---------------------------------------------------------------------------------- */

/* Zero bits in [from, end). */
static uint64_t count_zeros(const uint64_t *map, uint64_t from, uint64_t end)
{
    uint64_t zeros = 0;

    while (from < end) {
        uint64_t next = MIN((from | 63) + 1, end);
        uint64_t word = ~map[from / 64] >> (from % 64);
        uint64_t n = next - from;
        if (n < 64)
            word &= (UINT64_C(1) << n) - 1;
        zeros += (uint64_t)__builtin_popcountll(word);
        from = next;
    }
    return zeros;
}

static void check_unused(struct check *ck)
{
    const uint64_t *map = block_map(ck);
    uint64_t lost = 0;
    char range[64];

    for (uint64_t at = 1, next; at < ck->nblocks; at = next) {
        next = at + 1;
        if (at % 64 == 0 && (map[at / 64] & ~ck->seen[at / 64]) == 0) {
            next = at + 64;
            continue;
        }
        if (!check_bit(map, at) || check_bit(ck->seen, at))
            continue;
        while (next < ck->nblocks && check_bit(map, next) && !check_bit(ck->seen, next))
            next++;
        if (ck->lost)
            lost += next - at;
        else
            check_problem(ck, 0, "%s marked used but nothing refers to %s",
                          range_text(at, next, range, sizeof(range)), next - at == 1 ? "it" : "them");
    }
    if (lost > 0)
        check_problem(ck, 0,
                      "%" PRIu64 " blocks marked used but nothing refers to them; "
                      "they may belong to the damaged objects above",
                      lost);
}

/* Is any bit of [from, end) set? */
static bool any_set(const uint64_t *map, uint64_t from, uint64_t end)
{
    return from < end && (check_bit(map, from) || check_run_end(map, from, end) < end);
}

/* What is in use has had memory set aside for it: a chunk that is not reserved may have been punched out (P5). */
static void check_reserved(struct check *ck, uint32_t g)
{
    const struct layout *l = &ck->fs->l;
    struct group_rt rt = ck->fs->group_rts[g];
    uint64_t end = MIN((uint64_t)(g + 1ull) * l->group_blocks, ck->nblocks);
    uint64_t at = (uint64_t)g * l->group_blocks;
    char range[64];

    if (ck->fs->rt->id.boot_id[0] == '\0') /* nobody has attached yet */
        return;
    for (uint64_t chunk = 0; at < end; chunk++, at += CHUNK_BLOCKS) {
        uint64_t to = MIN(at + CHUNK_BLOCKS, end);
        if (!check_bit(rt.reserved, chunk) && any_set(block_map(ck), at, to))
            check_problem(ck, 0, "group %u: no memory is reserved for %s, and some are in use", g,
                          range_text(at, to, range, sizeof(range)));
    }
    at = (uint64_t)g * l->group_inodes;
    for (uint32_t i = 0; i < l->group_inodes; i += INODE_CHUNK) {
        uint64_t to = at + MIN(i + INODE_CHUNK, l->group_inodes);
        if (!check_bit(&rt.inode_reserved, i / INODE_CHUNK) &&
            any_set(region_inode_map(ck->fs, 0), at + i, to))
            check_problem(ck, 0, "group %u: no memory is reserved for inodes %ju to %ju, and some are in use",
                          g, (uintmax_t)at + i, (uintmax_t)to - 1);
    }
}

static void check_group(struct check *ck, uint32_t g)
{
    const struct layout *l = &ck->fs->l;
    struct group_desc desc = ck->fs->groups[g];
    uint64_t from = (uint64_t)g * l->group_blocks;
    uint64_t end = from + l->group_blocks;
    uint64_t used_end = MIN(end, ck->nblocks);
    uint64_t zeros = from < used_end ? count_zeros(block_map(ck), from, used_end) : 0;
    char range[64];

    if (desc.free_blocks != zeros)
        check_problem(ck, 0, "group %u: says %u free blocks, its map has %" PRIu64, g, desc.free_blocks,
                      zeros);
    if (from < used_end && used_end < end) {
        uint64_t next = check_run_end(block_map(ck), used_end, end);
        if (!check_bit(block_map(ck), used_end))
            check_problem(ck, 0, "group %u: %s past the region marked free", g,
                          range_text(used_end, next, range, sizeof(range)));
        else if (next < end)
            check_problem(ck, 0, "group %u: %s past the region marked free", g,
                          range_text(next, check_run_end(block_map(ck), next, end), range, sizeof(range)));
    }

    uint64_t inode = (uint64_t)g * l->group_inodes;
    zeros = count_zeros(region_inode_map(ck->fs, 0), inode, inode + l->group_inodes);
    if (desc.free_inodes != zeros)
        check_problem(ck, 0, "group %u: says %u free inodes, its map has %" PRIu64, g, desc.free_inodes,
                      zeros);
}

void check_space(struct check *ck)
{
    if (!check_bit(block_map(ck), 0))
        check_problem(ck, 0, "block 0 marked free; it must never be given away");
    check_unused(ck);
    for (uint32_t g = 0; g < ck->fs->l.ngroups; g++)
        check_group(ck, g);
    for (uint32_t g = 0; g < ck->fs->l.ngroups; g++)
        check_reserved(ck, g);
}
