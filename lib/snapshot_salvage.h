/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_SNAPSHOT_SALVAGE_H
#define SHMFS_SNAPSHOT_SALVAGE_H

/*
 * What the parts of salvaging share: a damaged region is read, what is missing is told of by name, and what is there is
 * copied to a sound one.
 *
 *   snapshot_walk.c     maps, buckets and the inode table, as far as they can be read
 *   snapshot_damage.c   what is told
 *   snapshot_copy.c     what is made in the sound region
 *   snapshot_salvage.c  the tree, from the root and from wherever else something hangs
 *
 * No byte of the damaged region is believed: a map is walked in scopes that do not overlap, so each entry counts once; a
 * directory is gone into once; recursion is as deep as MAP_LEVELS_MAX.
 */
#include "snapshot.h"

/* A directory that was found, in the order of finding. */
struct salvage_dir {
    uint32_t ino;  /* 0: made for what has no name */
    uint32_t copy; /* in the sound region */
    size_t above;  /* index of the directory that has its name */
    char *name;    /* NULL: the root */
};

/* A name in a directory. */
struct salvage_name {
    size_t dir;
    const char *name; /* NULL: the directory itself */
};

struct salvage {
    struct shmfs *old;
    struct shmfs *sound; /* NULL: damage is told, and nothing is made */
    const struct shmfs_restore *how;
    struct shmfs_restore_result *result;
    const uint64_t *bad; /* damaged pages, ascending */
    size_t nbad;
    uint64_t *told;    /* a bit for each of them: what it means is known */
    uint64_t *reached; /* a bit an inode: a name leads to it, and it was looked at */
    uint64_t *hit;     /* a bit an inode: something of it is missing */
    uint64_t *named;   /* a bit an inode: has a name in a directory without one */
    uint32_t *copies;  /* an inode: its copy; 0: it has none */
    struct salvage_dir *dirs;
    size_t ndirs, room;
    size_t lost_found; /* index in dirs; 0: there is none yet */
    uint8_t *buffer;   /* SALVAGE_BUFFER bytes */
    bool no_memory;    /* for what was to be told */
};

enum { SALVAGE_BUFFER = 256 * 1024 };

static inline bool salvage_bit(const uint64_t *bits, uint64_t i)
{
    return (bits[i / 64] >> i % 64 & 1) != 0;
}
static inline void salvage_set(uint64_t *bits, uint64_t i)
{
    bits[i / 64] |= UINT64_C(1) << i % 64;
}
static inline void salvage_clear(uint64_t *bits, uint64_t i)
{
    bits[i / 64] &= ~(UINT64_C(1) << i % 64);
}

/* ---- snapshot_walk.c ---------------------------------------------------------------------------- */

/* Index of the first damaged page at or behind this one. */
size_t salvage_bad_from(const struct salvage *s, uint64_t page);
/* Is the page damaged? Then it is from here on known what that means. */
bool salvage_page_bad(struct salvage *s, uint64_t page);
static inline uint64_t salvage_block_page(const struct salvage *s, uint32_t blk)
{
    return snapshot_first_block(&s->old->l) + blk;
}
static inline uint64_t salvage_inode_page(const struct salvage *s, uint32_t ino)
{
    const struct layout *l = &s->old->l;

    return (l->inodes + (uint64_t)ino * INODE_SIZE - l->group_desc) / BLOCK_SIZE;
}

struct salvage_map {
    struct salvage *s;
    uint32_t ino;
    /* Each entry that makes sense, in order; `next` is where another one may begin. */
    int (*extent)(struct salvage_map *map, const struct extent *e, uint64_t next);
    /* Positions of which nothing can be known. */
    int (*lost)(struct salvage_map *map, uint64_t from, uint64_t to);
    uint64_t at; /* lowest position that an entry may have */
};
/* What the callbacks return, if that is not 0, ends it and is returned. */
int salvage_map_walk(struct salvage_map *map, const struct inode *in);

/* One entry of a directory. */
struct salvage_entry {
    uint32_t ino, generation;
    uint8_t type; /* DT_* */
    char name[NAME_MAX_BYTES + 1];
};
/* The bucket of a map entry, or NULL. */
const struct bucket *salvage_bucket(struct salvage_map *map, const struct extent *e);
/* The entry in slot `i` of a bucket whose keys are in [from, to). False: it makes no sense. */
bool salvage_slot(const struct bucket *b, unsigned i, uint64_t from, uint64_t to, struct salvage_entry *ret);
/* Is the inode that such an entry names there? */
bool salvage_inode_is(const struct salvage *s, const struct salvage_entry *e);

/* Goes through the inodes that are in use and have links; the file's holes, where none ever were, are not touched. */
struct salvage_scan {
    uint64_t ino;  /* starts with 0 */
    uint64_t data; /* the file has bytes up to there */
};
bool salvage_next_inode(const struct salvage *s, struct salvage_scan *scan);

/* ---- snapshot_damage.c -------------------------------------------------------------------------- */

/* One line about the file of that name; of none in particular, if it is NULL. */
void salvage_tell(struct salvage *s, const struct salvage_name *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void salvage_tell_groups(struct salvage *s);
/* Whatever damage was not told of, for nothing leads to it. */
void salvage_tell_rest(struct salvage *s);

/* Goes through a file's data: tells what is missing, and copies the rest to `copy`, if that is not 0. 1: something is missing. */
int salvage_data(struct salvage *s, const struct salvage_name *name, uint32_t ino, uint32_t copy);
/* The target of a symbolic link, with a NUL. 1: it is missing, which is told. */
int salvage_target(struct salvage *s, const struct salvage_name *name, uint32_t ino, char ret[BLOCK_SIZE]);
/* 1: the attributes are missing, which is told. */
int salvage_attributes(struct salvage *s, const struct salvage_name *name, uint32_t ino);

/* ---- snapshot_copy.c ---------------------------------------------------------------------------- */

/* Makes what inode `ino` is, or links to the copy that it has. 1: something else has the name. */
int salvage_make(struct salvage *s, const struct salvage_name *name, uint32_t ino, const char *target);
/* Blocks of the damaged region to byte `off` of a copy. */
int salvage_copy_data(struct salvage *s, uint32_t copy, uint32_t blk, uint64_t off, uint64_t len);
/* Owner, mode, extended attributes and times, last of all. */
int salvage_finish_copy(struct salvage *s, uint32_t ino);
/* A directory for what has no name; 1: something else has the name. */
int salvage_make_dir(struct salvage *s, uint32_t parent, const char *name, uint32_t *ret_copy);

#endif
