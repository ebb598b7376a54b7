/* SPDX-License-Identifier: MIT */
#ifndef CRASH_VIEW_H
#define CRASH_VIEW_H

/*
 * What can be seen of a filesystem: names, attributes but times, contents, extended attributes, uses,
 * byte-range locks, free space. Taken with the library's reading functions, by a walk from the root and then over the
 * inodes that have no names. Read by one who is alone.
 */
#include "file.h"

enum { VIEW_NODES_MAX = 1024, VIEW_NAMES_MAX = 1 << 16 };

struct view_node {
    uint32_t ino, generation; /* 0 in a loose view, as is version: they tell who came first */
    uint64_t version;
    uint32_t mode, nlink, uid, gid;
    uint64_t rdev, size, blocks;
    uint32_t flags;
    uint32_t lookups, opens, pins;
    uint64_t ranges;  /* a hash of byte-range locks, in any order */
    uint64_t content; /* a hash: of data, of a symlink's target, or of a directory's entries */
    uint64_t xattrs;  /* a hash */
};

struct view {
    struct view_node nodes[VIEW_NODES_MAX];
    uint32_t n;
    uint64_t free_blocks, free_inodes;
    char trouble[160]; /* "" or why it could not be looked at */
    struct {
        uint32_t parent;
        uint32_t name; /* in `names` */
    } where[VIEW_NODES_MAX];
    char names[VIEW_NAMES_MAX];
    uint32_t names_len;
};

void view_take(struct shmfs *fs, bool loose, struct view *ret);

/*
 * Equal? `but` is the index of a node whose size, blocks, content and version do not count (nor does
 * free space then), or VIEW_ALL.
 */
#define VIEW_ALL UINT32_MAX
bool view_same(const struct view *a, const struct view *b, uint32_t but);

/* Index of the node with this inode number (not of a loose view), or VIEW_ALL. */
uint32_t view_index(const struct view *v, uint32_t ino);

/* Lines on stderr that tell in what B is not as A. */
void view_diff(const struct view *a, const struct view *b, const char *a_name);

#endif
