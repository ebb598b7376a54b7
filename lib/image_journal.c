/* SPDX-License-Identifier: MIT */
/* The journal of an image: commits, each in chunks of a descriptor and its pages (docs/SNAPSHOT.md, S1). */
#include "image_impl.h"

enum { RESERVE = 16 << 20 }; /* bytes of the disk that are asked for at once */

static uint8_t *chunk_pages(const struct image *img)
{
    return (uint8_t *)(img->chunk + 1);
}

static uint64_t chunk_size(uint32_t pages_with_data)
{
    return IMAGE_BLOCK + (uint64_t)pages_with_data * IMAGE_PAGE;
}

/* ---- writing ------------------------------------------------------------------------------------ */

static void chunk_begin(struct image *img, uint32_t number)
{
    memset(img->chunk, 0, sizeof(*img->chunk));
    img->chunk->number = number;
    img->chunk_data = 0;
}

static int chunk_write(struct image *img, uint32_t flags)
{
    struct image_chunk *c = img->chunk;
    uint64_t size = chunk_size(img->chunk_data);
    int r = 0;

    memcpy(c->magic, IMAGE_CHUNK_MAGIC, sizeof(c->magic));
    memcpy(c->uuid, img->uuid, sizeof(c->uuid));
    c->sequence = img->sequence + 1;
    c->before = img->before;
    c->root = flags & IMAGE_COMMIT ? image_root(img) : 0;
    c->flags = flags;
    c->hash = image_block_hash(c);
    if (img->next + size > img->ready) {
        r = storage_reserve(img->file, img->next, RESERVE, size);
        img->ready = img->next + (r > 0 ? size : RESERVE);
        r = MIN(r, 0);
    }
    if (r == 0)
        r = storage_write(img->file, img->next, c, size);
    if (r < 0)
        return r;
    img->next += size;
    img->before = c->hash;
    chunk_begin(img, c->number + 1);
    return 0;
}

int journal_add(struct image *img, uint64_t page, uint64_t hash, const void *data, uint64_t *ret_at)
{
    struct image_chunk *c = img->chunk;
    int r;

    if (c->npages == IMAGE_CHUNK_PAGES) {
        r = chunk_write(img, 0);
        if (r < 0)
            return r;
    }
    c->pages[c->npages++] = (struct image_entry){ page, hash };
    *ret_at = 0;
    if (hash) {
        memcpy(chunk_pages(img) + (size_t)img->chunk_data * IMAGE_PAGE, data, IMAGE_PAGE);
        *ret_at = img->next + chunk_size(img->chunk_data++);
    }
    return 0;
}

int journal_end(struct image *img)
{
    return chunk_write(img, IMAGE_COMMIT);
}

void journal_forget(struct image *img)
{
    img->next = img->tail;
    img->before = 0;
    chunk_begin(img, 0);
}

const void *journal_in_chunk(const struct image *img, uint64_t at)
{
    return at >= img->next ? chunk_pages(img) + (at - img->next - IMAGE_BLOCK) : NULL;
}

/* ---- reading ------------------------------------------------------------------------------------ */

/* The commit that is being read: where it is, and what it has so far. */
struct reading {
    uint64_t pos, before;
    uint32_t number;
    struct image_list places; /* of image_place */
};

static bool descriptor_is_valid(const struct image *img, const struct image_chunk *c)
{
    return memcmp(c->magic, IMAGE_CHUNK_MAGIC, sizeof(c->magic)) == 0 && c->hash == image_block_hash(c) &&
           memcmp(c->uuid, img->uuid, sizeof(c->uuid)) == 0 && c->npages <= IMAGE_CHUNK_PAGES;
}

/* S1. 1: the chunk is part of this commit, and was collected; 0: it is none. */
static int read_chunk(struct image *img, struct reading *rd, bool believed)
{
    struct image_chunk *c = img->chunk;
    uint32_t ndata = 0;
    int r = storage_read(img->file, rd->pos, c, sizeof(*c));

    if (r < 0)
        return r;
    if (!descriptor_is_valid(img, c) || c->sequence != img->sequence + 1 || c->number != rd->number ||
        c->before != rd->before)
        return 0;
    for (uint32_t i = 0; i < c->npages; i++)
        ndata += c->pages[i].hash != 0;
    if (!believed)
        r = storage_read(img->file, rd->pos + IMAGE_BLOCK, chunk_pages(img), (size_t)ndata * IMAGE_PAGE);
    ndata = 0;
    for (uint32_t i = 0; i < c->npages && r == 0; i++) {
        struct image_entry e = c->pages[i];
        struct image_place place = { e.page, e.hash, e.hash ? rd->pos + chunk_size(ndata) : 0 };

        if (e.page >= img->npages)
            return 0;
        if (e.hash && !believed && image_hash_of(chunk_pages(img) + (size_t)ndata * IMAGE_PAGE) != e.hash)
            return 0;
        ndata += e.hash != 0;
        r = image_list_add(&rd->places, &place, sizeof(place));
    }
    if (r < 0)
        return r;
    rd->pos += chunk_size(ndata);
    rd->before = c->hash;
    rd->number++;
    return 1;
}

/* 1: a whole commit was taken; 0: here the journal ends. */
static int read_commit(struct image *img, struct reading *rd, uint64_t seen, uint64_t *root)
{
    /* It was synced. Who writes goes on behind it, and each page answers for itself when it is read (S4). */
    bool believed = img->mode == IMAGE_WRITE && img->sequence < seen;
    const struct image_place *place;
    int r;

    rd->pos = img->tail;
    rd->before = rd->number = 0;
    rd->places.n = 0;
    do
        r = read_chunk(img, rd, believed);
    while (r > 0 && !(img->chunk->flags & IMAGE_COMMIT));
    if (r <= 0)
        return r;
    place = rd->places.items;
    for (size_t i = 0; i < rd->places.n; i++) {
        image_set(img, place[i].page, place[i].hash, place[i].at);
        if (image_list_add(&img->away, &place[i].page, sizeof(place[i].page)) < 0)
            return -ENOMEM;
    }
    *root = img->chunk->root;
    img->sequence++;
    img->tail = rd->pos;
    return 1;
}

/* A journal that begins with a later commit is another header's: the one that led to it is lost. */
static bool begins_later(struct image *img)
{
    return storage_read(img->file, img->journal, img->chunk, sizeof(*img->chunk)) == 0 &&
           descriptor_is_valid(img, img->chunk) && img->chunk->sequence > img->settled + 1;
}

static int damaged(struct image *img, enum image_damage what, uint64_t a, uint64_t b)
{
    if (img->diag.damage == IMAGE_SOUND)
        img->diag = (struct image_diag){ what, a, b };
    return img->mode == IMAGE_SALVAGE ? 0 : -EUCLEAN;
}

int journal_read(struct image *img, uint64_t seen, uint64_t root)
{
    struct reading rd = { 0 };
    int r;

    img->tail = img->journal;
    do
        r = read_commit(img, &rd, seen, &root);
    while (r > 0);
    free(rd.places.items);
    if (r == 0 && img->sequence == img->settled && begins_later(img))
        r = damaged(img, IMAGE_BAD_HEADER, 0, 0);
    if (r == 0 && img->sequence < seen)
        r = damaged(img, IMAGE_BAD_JOURNAL, img->sequence, seen);
    if (r == 0 && image_root(img) != root)
        r = damaged(img, IMAGE_BAD_TABLE, 0, 0);
    else if (r == 0) /* whatever was torn, the journal has it */
        memset(img->block_bad, 0, img->nblocks);
    journal_forget(img);
    return r;
}
