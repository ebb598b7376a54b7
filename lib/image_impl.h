/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_IMAGE_IMPL_H
#define SHMFS_IMAGE_IMPL_H

/* What image.c, image_journal.c and image_table.c share. */
#include "base.h"
#include "image.h"
#include "image_format.h"
#include "storage.h"

/* What a page is, or was: its hash, and where in the journal it lies (0: home). */
struct image_place {
    uint64_t page, hash, at;
};

/* A list that grows; zeroed, it is empty. `items` is the caller's to free. */
struct image_list {
    void *items;
    size_t n, room;
};

struct image {
    struct storage *file;
    enum image_mode mode;
    bool fresh;    /* not published yet: pages go home at once */
    bool damaged;  /* a page of it that was to be copied home is: a fresh one must take its place */
    bool seen_new; /* `seen` was written, and not synced */
    uint8_t uuid[16];
    struct image_diag diag;

    uint64_t npages, nblocks; /* nblocks: of the table */
    uint64_t home, journal;   /* bytes: where they begin */
    uint64_t generation;      /* of the newest header */
    uint64_t settled;         /* sequence of the last commit that is home */
    uint64_t sequence;        /* of the last commit */
    uint64_t used;
    uint64_t written; /* bytes of pages */

    /* By page, and by block of the table; mapped, so that holes cost nothing here either. */
    uint64_t *hashes;
    uint64_t *at; /* as in image_place */
    uint64_t *block_hashes;
    uint64_t *stale; /* blocks whose block_hashes is */
    uint64_t nstale;
    bool *block_stale; /* it is among those */
    bool *block_bad;   /* IMAGE_SALVAGE: its own hash is wrong */
    void *memory;
    size_t memory_size;

    /* The commit that is being made. */
    struct image_list undo;    /* of image_place: what its pages were before */
    struct image_chunk *chunk; /* being filled; its pages follow it */
    uint32_t chunk_data;       /* pages with data; in a fresh image, of a run from page run_first on */
    uint64_t run_first;
    uint64_t before; /* hash of the last descriptor */
    uint64_t tail;   /* bytes: where the journal of the last commit ends */
    uint64_t next;   /* where the chunk goes that is being filled */
    uint64_t ready;  /* reserved up to here */

    struct image_list away; /* of uint64_t: pages that commits have changed, and that are not home */
};

/* Adds a copy of *item, of `size` bytes like the others. -ENOMEM. */
int image_list_add(struct image_list *list, const void *item, size_t size);

uint64_t image_hash_of(const void *page);     /* 0: a hole */
uint64_t image_block_hash(const void *block); /* of all but its last 8 bytes */
/* Page is so from now on. */
void image_set(struct image *img, uint64_t page, uint64_t hash, uint64_t at);
uint64_t image_root(struct image *img);

/* image_table.c */
int image_table_map(struct image *img);
void image_table_unmap(struct image *img);
int image_table_read(struct image *img);
/* These blocks, ascending; NULL: all that are no holes. */
int image_table_write(struct image *img, const uint64_t *blocks, uint64_t n);

/* image_journal.c */
/* Reads the commits that the journal has; `seen`: one that should be there. -EUCLEAN: image.diag says why. */
int journal_read(struct image *img, uint64_t seen, uint64_t root);
int journal_add(struct image *img, uint64_t page, uint64_t hash, const void *data, uint64_t *ret_at);
int journal_end(struct image *img); /* the commit's last chunk */
void journal_forget(struct image *img);
/* The page at `at`, if it is not in the file yet; or NULL. */
const void *journal_in_chunk(const struct image *img, uint64_t at);

#endif
