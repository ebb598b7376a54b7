/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_IMAGE_FORMAT_H
#define SHMFS_IMAGE_FORMAT_H

/*
 * An image: every structure in the file, and nothing else. docs/SNAPSHOT.md has the protocol and its invariants.
 *
 *   block 0    1        2      3 …       home …                        journal …
 *   | header | header | seen | table   | page 0 | page 1 | page 2 …  | chunk | chunk | …
 *
 *   chunk: a descriptor, then the pages that it lists whose hash is not 0, in that order
 *
 * All integers are little-endian; offsets and sizes are in bytes unless they say blocks. A block is 4 KiB.
 * Where table, home and journal begin follows from `npages` (image_layout(), image.h).
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* Owner of this number: whoever changes a structure below raises it in the same commit, and keeps reading the old. */
#define IMAGE_VERSION 1

#define IMAGE_MAGIC "shmfs\r\nI"
#define IMAGE_CHUNK_MAGIC "shmfs\r\nC"
#define IMAGE_SEEN_MAGIC "shmfs\r\nS"
#define IMAGE_REGION_MAGIC "shmfs\r\nR"

enum {
    IMAGE_BLOCK = 4096,
    IMAGE_HEADERS = 2, /* they take turns: generation modulo 2 */
    IMAGE_HASHES = IMAGE_BLOCK / 8 - 1,
    IMAGE_CHUNK_PAGES = (IMAGE_BLOCK - 72) / 16,
};

struct image_header {
    char magic[8];
    uint32_t version;
    uint32_t block_size;
    uint8_t uuid[16];    /* of this file: a fresh image has another */
    uint64_t npages;     /* of the array, holes included */
    uint64_t generation; /* the higher of the two headers counts */
    uint64_t sequence;   /* of the last commit that is home; the journal begins with the next */
    uint64_t root; /* of the table with it: hash over the hashes that its blocks end with, 0 for a hole */
    uint8_t pad[IMAGE_BLOCK - 72];
    uint64_t hash; /* XXH3 of all before it; the last 8 bytes of each block with a hash of its own */
};
static_assert(sizeof(struct image_header) == IMAGE_BLOCK, "image_header");

/* Somebody was told that commit `sequence` is durable (S7). */
struct image_seen {
    char magic[8];
    uint8_t uuid[16];
    uint64_t sequence;
    uint8_t pad[IMAGE_BLOCK - 40];
    uint64_t hash;
};
static_assert(sizeof(struct image_seen) == IMAGE_BLOCK, "image_seen");

/* XXH3 of a page of zeros is never asked for: 0 says that the page is a hole. A page that hashes to 0 counts as 1. */
struct image_table {
    uint64_t hashes[IMAGE_HASHES];
    uint64_t hash; /* 0 with a block of holes, which is a hole itself */
};
static_assert(sizeof(struct image_table) == IMAGE_BLOCK, "image_table");

enum image_chunk_flags {
    IMAGE_COMMIT = 1, /* the last of its commit */
};

struct image_entry {
    uint64_t page;
    uint64_t hash;
};

struct image_chunk {
    char magic[8];
    uint8_t uuid[16];
    uint64_t sequence;
    uint64_t before; /* hash of the descriptor before it in this commit; 0 with the first */
    uint64_t root;   /* with IMAGE_COMMIT: of the table with it */
    uint32_t number; /* within the commit, from 0 */
    uint32_t npages;
    uint32_t flags;
    uint32_t pad;
    struct image_entry pages[IMAGE_CHUNK_PAGES]; /* a page may come again in a later chunk, which counts */
    uint8_t pad1[IMAGE_BLOCK - 64 - IMAGE_CHUNK_PAGES * 16 - 8];
    uint64_t hash;
};
static_assert(sizeof(struct image_chunk) == IMAGE_BLOCK, "image_chunk");
static_assert(offsetof(struct image_chunk, pages) == 64, "image_chunk");

/* ---- what the pages are: a region ------------------------------------------------------------- */

/*
 *   page 0, 1   struct image_region
 *   page 2      the superblock (format.h), as of a clean detach
 *   page 3 …    the persistent area: from its first page on, blocks in use and fixed metadata
 */
enum {
    IMAGE_REGION_PAGES = 2,
    IMAGE_SUPERBLOCK = IMAGE_REGION_PAGES,
    IMAGE_PERSISTENT,
    IMAGE_TODOS = 336,
};

/* A slot's todo (format.h): work that was under way, and that whoever restores must finish. */
struct image_todo {
    uint32_t op, ino;
    uint64_t from, to;
};

struct image_region {
    char magic[8];
    uint32_t version; /* FORMAT_VERSION of superblock and persistent area */
    uint32_t ntodos;
    int64_t sec; /* when it was like that */
    uint32_t nsec;
    uint32_t pad;
    uint64_t used_blocks, used_inodes;
    struct image_todo todos[IMAGE_TODOS];
    uint8_t pad1[IMAGE_REGION_PAGES * IMAGE_BLOCK - 48 - IMAGE_TODOS * 24];
};
static_assert(sizeof(struct image_region) == IMAGE_REGION_PAGES * IMAGE_BLOCK, "image_region");
#endif
