/* SPDX-License-Identifier: MIT */
/* The table of an image: the hash of each page, and the root over it. */
#include <sys/mman.h>

#include <xxhash.h>

#include "image_impl.h"

enum { STEP = 256 }; /* blocks read or written at once */

static uint64_t table_at(uint64_t block)
{
    return (IMAGE_HEADERS + 1 + block) * IMAGE_BLOCK;
}

uint64_t image_block_hash(const void *block)
{
    return XXH3_64bits(block, IMAGE_BLOCK - 8);
}

static bool all_zero(const void *p, size_t n)
{
    const uint8_t *bytes = p;

    return bytes[0] == 0 && memcmp(bytes, bytes + 1, n - 1) == 0;
}

uint64_t image_hash_of(const void *page)
{
    uint64_t hash;

    if (all_zero(page, IMAGE_PAGE))
        return 0;
    hash = XXH3_64bits(page, IMAGE_PAGE);
    return hash ? hash : 1;
}

/* ---- in memory ---------------------------------------------------------------------------------- */

int image_table_map(struct image *img)
{
    size_t entries = img->nblocks * IMAGE_HASHES * 8, blocks = img->nblocks * 8;
    uint8_t *p;

    if (img->npages > SIZE_MAX / 64) /* of a process of 32 bits */
        return -ENOMEM;
    img->memory_size = 2 * entries + 2 * blocks + 2 * img->nblocks;
    p = mmap(NULL, img->memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
             0);
    if (p == MAP_FAILED)
        return -ENOMEM;
    img->memory = p;
    img->hashes = (uint64_t *)(void *)p;
    img->at = (uint64_t *)(void *)(p += entries);
    img->block_hashes = (uint64_t *)(void *)(p += entries);
    img->stale = (uint64_t *)(void *)(p += blocks);
    img->block_stale = (bool *)(p += blocks);
    img->block_bad = (bool *)(p + img->nblocks);
    return 0;
}

void image_table_unmap(struct image *img)
{
    if (img->memory)
        munmap(img->memory, img->memory_size);
}

void image_set(struct image *img, uint64_t page, uint64_t hash, uint64_t at)
{
    uint64_t block = page / IMAGE_HASHES;

    img->used += (hash != 0) - (uint64_t)(img->hashes[page] != 0);
    img->hashes[page] = hash;
    img->at[page] = at;
    if (!img->block_stale[block]) {
        img->block_stale[block] = true;
        img->stale[img->nstale++] = block;
    }
}

static uint64_t hash_of_hashes(const uint64_t *hashes)
{
    return all_zero(hashes, IMAGE_HASHES * 8) ? 0 : XXH3_64bits(hashes, IMAGE_HASHES * 8);
}

static uint64_t block_hash(struct image *img, uint64_t block)
{
    return hash_of_hashes(&img->hashes[block * IMAGE_HASHES]);
}

uint64_t image_root(struct image *img)
{
    for (; img->nstale > 0; img->nstale--) {
        uint64_t block = img->stale[img->nstale - 1];

        img->block_hashes[block] = block_hash(img, block);
        img->block_stale[block] = false;
    }
    return XXH3_64bits(img->block_hashes, img->nblocks * 8);
}

/* ---- in the file -------------------------------------------------------------------------------- */

/* The block's own hash tells only where the damage is: whether there is any, the root tells. */
static void take_block(struct image *img, uint64_t block, const struct image_table *table)
{
    uint64_t first = block * IMAGE_HASHES, n = MIN((uint64_t)IMAGE_HASHES, img->npages - first);

    img->block_bad[block] = table->hash != hash_of_hashes(table->hashes);
    memcpy(&img->hashes[first], table->hashes, n * sizeof(uint64_t)); /* nothing was there before */
    for (uint64_t i = 0; i < n; i++)
        img->used += table->hashes[i] != 0;
    if (!img->block_stale[block]) {
        img->block_stale[block] = true;
        img->stale[img->nstale++] = block;
    }
}

int image_table_read(struct image *img)
{
    AUTO_FREE struct image_table *tables = malloc(STEP * sizeof(*tables));

    if (!tables)
        return -ENOMEM;
    for (uint64_t first = 0; first < img->nblocks && table_at(first) < storage_size(img->file);
         first += STEP) {
        uint64_t data = storage_next_data(img->file, table_at(first)), n;
        int r;

        if (data >= table_at(img->nblocks))
            break;
        first = (data - table_at(0)) / IMAGE_BLOCK;
        n = MIN((uint64_t)STEP, img->nblocks - first);
        r = storage_read(img->file, table_at(first), tables, n * sizeof(*tables));
        if (r < 0)
            return r;
        for (uint64_t i = 0; i < n; i++) {
            if (!all_zero(&tables[i], sizeof(tables[i])))
                take_block(img, first + i, &tables[i]);
        }
    }
    return 0;
}

int image_table_write(struct image *img, const uint64_t *blocks, uint64_t n)
{
    AUTO_FREE struct image_table *tables = malloc(STEP * sizeof(*tables));
    uint64_t first = 0, run = 0;
    int r = 0;

    if (!tables)
        return -ENOMEM;
    image_root(img);
    if (!blocks)
        n = img->nblocks;
    for (uint64_t i = 0; i < n && r == 0; i++) {
        uint64_t block = blocks ? blocks[i] : i;

        if (!blocks && img->block_hashes[block] == 0)
            continue;
        if (run > 0 && (run == STEP || block != first + run)) {
            r = storage_write(img->file, table_at(first), tables, run * sizeof(*tables));
            run = 0;
        }
        if (run == 0)
            first = block;
        memcpy(tables[run].hashes, &img->hashes[block * IMAGE_HASHES], sizeof(tables[run].hashes));
        tables[run++].hash = img->block_hashes[block];
    }
    if (run > 0 && r == 0)
        r = storage_write(img->file, table_at(first), tables, run * sizeof(*tables));
    return r;
}
