/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_CHECK_IMPL_H
#define SHMFS_CHECK_IMPL_H

/*
 * What the parts of the check share. The check walks the structures of format.h by itself: it uses
 * nothing of the code that writes them, so that the two cannot share a mistake.
 *
 *   check.c         the passes, the superblock and the runtime area
 *   check_report.c  problems as text, paths of inodes
 *   check_space.c   which blocks are reached, and how that compares with the maps
 *   check_map.c     the B+tree from positions to blocks
 *   check_dir.c     buckets and names
 *   check_inode.c   all else that an inode says
 *   check_use.c     opens, pins and locks of programs
 *
 * The bytes are hostile: each is copied before it is judged, each reference is bounds-checked, no
 * block is walked into twice in a pass (so there are no loops), recursion is as deep as
 * MAP_LEVELS_MAX, and memory is one bit a block and 8 bytes and 2 bits an inode.
 */
#include "region.h"

enum check_pass {
    CHECK_REGION, /* what is not in inodes */
    CHECK_NAMES,  /* quiet: which names refer to which inode */
    CHECK_ALL,
    CHECK_OWNERS, /* quiet: who was first at the blocks that are used twice */
};

enum { CHECK_DUPS_MAX = 1024 };

/* Blocks that `ino` refers to although somebody had been there before. */
struct check_dup {
    uint64_t blk, end;
    uint32_t ino;
};

struct check {
    struct shmfs *fs;
    const struct shmfs_check *cb;
    struct shmfs_check_result result;
    enum check_pass pass;

    uint64_t nblocks;  /* blocks that may be touched */
    uint64_t *seen;    /* a bit a block: reached in this pass */
    uint32_t *links;   /* an inode: entries that refer to it */
    uint32_t *where;   /* an inode: block of the bucket with the first such entry, or 0 */
    uint64_t *settled; /* a bit an inode: known not to hang below a cycle not yet told of */
    uint64_t *climbed; /* a bit an inode: on the way up that is being climbed */
    uint8_t *attrs;    /* room for the bytes of one inode's attributes */
    uint32_t *names;   /* offsets of names in them */

    struct check_dup dups[CHECK_DUPS_MAX];
    uint32_t ndups;
    uint64_t patience; /* blocks used twice that may still be looked at one by one */
    bool lost;         /* a part of some object could not be walked: its blocks seem unused */

    /* The file has bytes (or a hole) in [from, to): see check_has_data(). */
    uint64_t span_from, span_to;
    bool span_data;
};

/* ---- bits: maps are little-endian arrays of words -------------------------------------------- */

static inline bool check_bit(const uint64_t *map, uint64_t i)
{
    return (map[i / 64] >> (i % 64) & 1) != 0;
}

static inline void check_bit_set(uint64_t *map, uint64_t i)
{
    map[i / 64] |= UINT64_C(1) << (i % 64);
}

static inline void check_bit_clear(uint64_t *map, uint64_t i)
{
    map[i / 64] &= ~(UINT64_C(1) << (i % 64));
}

/* The first index in (from, end) whose bit differs from that of `from`, or end. */
uint64_t check_run_end(const uint64_t *map, uint64_t from, uint64_t end);

/* ---- check_report.c ---------------------------------------------------------------------------- */

/* Tells of a problem; ino 0: of no inode. The text gets "inode N (path): " before it. Silent in quiet passes. */
void check_problem(struct check *ck, uint32_t ino, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* "inode 12 (/a/b)", or without the path where no name leads there. Returns buf. */
const char *check_inode_text(struct check *ck, uint32_t ino, char *buf, size_t n);
/* The name with what would break a line as \ooo; truncated to n. Returns buf. */
const char *check_name_text(const char *name, size_t len, char *buf, size_t n);
/* The directory whose entry was the first found for this inode; 0: none. */
uint32_t check_parent(struct check *ck, uint32_t ino);

/* ---- check_space.c ------------------------------------------------------------------------------ */

enum check_claim {
    CHECK_CLAIM_OK,
    CHECK_CLAIM_TWICE, /* reached before: do not walk into it */
    CHECK_CLAIM_BAD,   /* out of bounds */
};

/* Notes that `ino` refers to the blocks [blk, blk + len); `what` names the reference in messages. */
enum check_claim check_claim(struct check *ck, uint32_t ino, struct blkref blk, uint32_t len,
                             const char *what);
/* Forgets what was reached. */
void check_space_reset(struct check *ck);
/* Compares what was reached with the maps and counts of the groups. */
void check_space(struct check *ck);
/* The bytes of a block that was claimed. */
static inline const void *check_block(const struct check *ck, uint32_t blk)
{
    return ck->fs->blocks + (uint64_t)blk * BLOCK_SIZE;
}

/* ---- check_map.c -------------------------------------------------------------------------------- */

struct check_map {
    struct check *ck;
    uint32_t ino;
    bool dir;      /* entries are buckets */
    bool damaged;  /* not all could be walked */
    uint64_t next; /* where the next entry may begin */
    uint64_t blocks;
    uint64_t entries;
    /* For each entry of a leaf, in the order found, that lies in the region. */
    void (*leaf)(struct check_map *map, const struct extent *e, enum check_claim claim);
    void *arg;
};

void check_map_walk(struct check_map *map, const struct inode *inode);

/* ---- check_dir.c -------------------------------------------------------------------------------- */

struct check_dir {
    uint64_t entries, subdirs;
};

/* CHECK_NAMES: fills links and where. Else: checks all and fills ret. */
void check_dir(struct check *ck, uint32_t ino, const struct inode *inode, struct check_map *map,
               struct check_dir *ret);

/* ---- check_inode.c ------------------------------------------------------------------------------ */

void check_inode(struct check *ck, uint32_t ino, const struct inode *inode);

/* ---- check.c ------------------------------------------------------------------------------------ */

/* False: the region file has a hole there, so that there are zeros; reading it would cost memory (A15). */
bool check_has_data(struct check *ck, const void *at);

void check_uses(struct check *ck);
/* Is there a use record of this kind (0: any) for the inode? */
bool check_used(const struct check *ck, uint32_t ino, enum use_kind kind);

#endif
