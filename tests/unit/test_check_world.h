/* SPDX-License-Identifier: MIT */
#ifndef TEST_CHECK_WORLD_H
#define TEST_CHECK_WORLD_H

/*
 * A region with one of everything, for the tests of the check and for fuzzing, and ways to find the
 * bytes in it that are to be damaged. Finding goes by magic numbers over all blocks in use, so that it
 * shares nothing with the code under test.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "region.h"

#define WORLD_MUST(x) \
    do { \
        long long must_ = (long long)(x); \
        if (must_ < 0) { \
            fprintf(stderr, "%s:%d: %s gave %lld\n", __FILE__, __LINE__, #x, must_); \
            abort(); \
        } \
    } while (0)

/* In a directory of memory if there is one: the check reads holes of the file otherwise (A15). */
static inline const char *world_path(const char *name, char *buf, size_t n)
{
    const char *dir = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

    snprintf(buf, n, "%s/shmfs-%s-%d", dir, name, (int)getpid());
    return buf;
}

/* Names lie in the same buckets each time. */
static inline void world_fix_seed(const char *path)
{
    struct superblock sb;
    int fd = open(path, O_RDWR | O_CLOEXEC);

    WORLD_MUST(fd);
    WORLD_MUST(pread(fd, &sb, sizeof(sb), 0));
    sb.hash_seed = 42;
    sb.checksum = layout_checksum(&sb);
    WORLD_MUST(pwrite(fd, &sb, sizeof(sb), 0));
    close(fd);
}

static inline void world_make(const char *path, uint64_t size)
{
    struct shmfs_make make = { .size = size, .max_size = 2 * size, .mode = 0600, .root_mode = 0755 };
    struct shmfs_geometry geometry;
    struct shmfs_diag diag;

    make.uuid[0] = 7;
    WORLD_MUST(shmfs_region_make(path, &make, &geometry, &diag));
    world_fix_seed(path);
}

static inline struct shmfs *world_attach(const char *path, unsigned flags)
{
    struct shmfs *fs = NULL;
    struct shmfs_diag diag;
    char text[512];

    int r = shmfs_region_attach(path, flags, &fs, &diag);
    if (r < 0) {
        fprintf(stderr, "%s\n", shmfs_diag_text(&diag, r, path, text, sizeof(text)));
        abort();
    }
    return fs;
}

/* The inode that a path from the root names. */
static inline uint32_t world_ino(struct shmfs *fs, const char *path)
{
    struct shmfs_attr attr = { .ino = ROOT_INO };
    char copy[1024], *save = NULL;

    snprintf(copy, sizeof(copy), "%s", path);
    for (char *part = strtok_r(copy, "/", &save); part != NULL; part = strtok_r(NULL, "/", &save))
        WORLD_MUST(shmfs_node_lookup(fs, attr.ino, part, false, &attr));
    return attr.ino;
}

/* ---- making ---------------------------------------------------------------------------------- */

static const struct shmfs_maker world_maker = { .uid = 0, .gid = 0, .umask = 022 };

static inline uint32_t world_file(struct shmfs *fs, uint32_t dir, const char *name, size_t size)
{
    struct shmfs_attr attr;
    char *data = malloc(size + 1);

    memset(data, 'x', size);
    WORLD_MUST(shmfs_node_mknod(fs, dir, name, S_IFREG | 0644, 0, &world_maker, false, &attr));
    if (shmfs_node_write(fs, attr.ino, data, size, 0, 0, NULL) != (ssize_t)size)
        WORLD_MUST(-ENOSPC);
    free(data);
    return attr.ino;
}

static inline uint32_t world_dir(struct shmfs *fs, uint32_t dir, const char *name)
{
    struct shmfs_attr attr;

    WORLD_MUST(shmfs_node_mkdir(fs, dir, name, 0755, &world_maker, false, &attr));
    return attr.ino;
}

/* Every second block: `n` extents, and so a tree of nodes. */
static inline void world_sparse(struct shmfs *fs, uint32_t dir, const char *name, unsigned n)
{
    uint32_t ino = world_file(fs, dir, name, 0);

    for (unsigned i = 0; i < n; i++)
        WORLD_MUST(shmfs_node_write(fs, ino, "y", 1, (off_t)i * 2 * BLOCK_SIZE, 0, NULL));
}

/* Links to one file, and so a tree of buckets: 30 names or so a bucket. */
static inline void world_many(struct shmfs *fs, uint32_t dir, const char *name, unsigned n)
{
    uint32_t many = world_dir(fs, dir, name);
    uint32_t file = world_file(fs, many, "first", 10);
    struct shmfs_attr attr;
    char text[160];

    for (unsigned i = 1; i < n; i++) {
        snprintf(text, sizeof(text), "name-%0100u", i);
        WORLD_MUST(shmfs_node_link(fs, file, many, text, false, &attr));
    }
}

static inline void world_attrs(struct shmfs *fs, uint32_t dir, const char *name)
{
    uint32_t ino = world_file(fs, dir, name, 1);
    char value[10000];

    memset(value, 'v', sizeof(value));
    WORLD_MUST(shmfs_node_setxattr(fs, ino, "user.aa", "one", 3, 0));
    WORLD_MUST(shmfs_node_setxattr(fs, ino, "user.bb", "two", 3, 0));
    WORLD_MUST(shmfs_node_setxattr(fs, ino, "user.big", value, sizeof(value), 0));
}

/*
 *   /file       10,000 bytes          /sub/deep/leaf   for paths and the tree of directories
 *   /sparse     `extents` extents     /sub/empty       a directory
 *   /attrs      3 attributes          /many/…          `names` links to one file
 *   /short /long symlinks             /fifo /chr /sock
 */
static inline void world_populate(struct shmfs *fs, unsigned extents, unsigned names)
{
    struct shmfs_attr attr;
    char target[301];

    world_file(fs, ROOT_INO, "file", 10000);
    world_file(fs, ROOT_INO, "other", 5000);
    uint32_t sub = world_dir(fs, ROOT_INO, "sub");
    uint32_t deep = world_dir(fs, sub, "deep");
    world_file(fs, deep, "leaf", 100);
    world_dir(fs, sub, "empty");
    memset(target, 't', sizeof(target) - 1);
    target[sizeof(target) - 1] = '\0';
    WORLD_MUST(shmfs_node_symlink(fs, "file", ROOT_INO, "short", &world_maker, false, &attr));
    WORLD_MUST(shmfs_node_symlink(fs, target, ROOT_INO, "long", &world_maker, false, &attr));
    WORLD_MUST(shmfs_node_mknod(fs, ROOT_INO, "fifo", S_IFIFO | 0644, 0, &world_maker, false, &attr));
    WORLD_MUST(shmfs_node_mknod(fs, ROOT_INO, "chr", S_IFCHR | 0644, 0x103, &world_maker, false, &attr));
    WORLD_MUST(shmfs_node_mknod(fs, ROOT_INO, "sock", S_IFSOCK | 0644, 0, &world_maker, false, &attr));
    world_attrs(fs, ROOT_INO, "attrs");
    world_sparse(fs, ROOT_INO, "sparse", extents);
    world_many(fs, ROOT_INO, "many", names);
}

/* ---- finding --------------------------------------------------------------------------------- */

static inline bool world_block_used(const struct shmfs *fs, uint64_t blk)
{
    const uint64_t *map = (const void *)fs->block_maps;

    return (map[blk / 64] >> blk % 64 & 1) != 0;
}

static inline void *world_block(const struct shmfs *fs, uint32_t blk)
{
    return fs->blocks + (uint64_t)blk * BLOCK_SIZE;
}

/* The nth block in use that begins with this magic number and owner; 0: none. */
static inline uint32_t world_find(const struct shmfs *fs, uint32_t magic, uint32_t owner, unsigned nth)
{
    for (uint32_t blk = 1; blk < fs->sb->nblocks; blk++) {
        const uint32_t *word = world_block(fs, blk);
        if (world_block_used(fs, blk) && word[0] == magic && word[1] == owner && nth-- == 0)
            return blk;
    }
    return 0;
}

/* A node of this level. */
static inline struct node *world_node(const struct shmfs *fs, uint32_t owner, uint32_t level, unsigned nth)
{
    for (unsigned i = 0;; i++) {
        uint32_t blk = world_find(fs, NODE_MAGIC, owner, i);
        struct node *node = world_block(fs, blk);
        if (blk == 0)
            WORLD_MUST(-ENOENT);
        if (node->level == level && nth-- == 0)
            return node;
    }
}

/* The slot of a name, and its bucket. */
static inline struct dslot *world_slot(const struct shmfs *fs, uint32_t dir, const char *name,
                                       struct bucket **ret_bucket)
{
    for (unsigned i = 0;; i++) {
        uint32_t blk = world_find(fs, BUCKET_MAGIC, dir, i);
        struct bucket *b = world_block(fs, blk);
        if (blk == 0)
            WORLD_MUST(-ENOENT);
        for (unsigned k = 0; k < b->count; k++) {
            struct dslot *s = &b->slots[k];
            if (s->len != strlen(name) || memcmp((char *)b + s->off + 4, name, s->len) != 0)
                continue;
            *ret_bucket = b;
            return s;
        }
    }
}

#endif
