/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_IMAGE_H
#define SHMFS_IMAGE_H

/*
 * An image: an array of pages in a file, changed in commits that are durable together or not at all. What it
 * promises, and what each power cut leaves, is in docs/SNAPSHOT.md. Every function is for one thread at a time.
 *
 *   image_create | image_open → (image_put… → image_commit | image_abort)… → image_close
 *
 * After a write or sync has failed (-EIO, -ENOSPC, …) the file is left as it is, and every change of it gives the same
 * error (S5): the caller makes a fresh image, which takes its place. -ENOMEM alone ends nothing.
 */
#include <stdbool.h>
#include <stdint.h>

#include "error.h"

enum { IMAGE_PAGE = 4096 }; /* bytes */

struct image;

enum image_mode {
    IMAGE_READ,    /* the file is not changed, nor locked: who writes it meanwhile is seen as damage */
    IMAGE_WRITE,   /* nobody else may write */
    IMAGE_SALVAGE, /* as IMAGE_READ; opens what is damaged, too, and then each page says whether it is */
};

enum image_damage {
    IMAGE_SOUND = 0,
    IMAGE_NOT_IMAGE,
    IMAGE_NEWER,        /* a: its version, b: ours */
    IMAGE_BAD_HEADER,   /* neither is right, or the newer one is lost */
    IMAGE_BAD_GEOMETRY, /* a: pages */
    IMAGE_BAD_JOURNAL,  /* a: the last commit that is there, b: the one that somebody was told of */
    IMAGE_BAD_TABLE,    /* the table's root is wrong */
};
struct image_diag {
    enum image_damage damage;
    uint64_t a, b;
};

/*
 * Begins a fresh image of `npages` pages, all holes. With its first commit it takes the place of what was at `path`,
 * and until then that is untouched. -EINVAL: no pages, or too many; -EBUSY: somebody else writes there.
 */
int image_create(const char *path, uint64_t npages, struct image **ret_img);
/*
 * Opens the image with its last durable commit. -EUCLEAN: damaged, *ret_diag says how; -ENOTSUP: of a newer version;
 * -EBUSY: to be written, and somebody else does; or what open(2) says.
 */
int image_open(const char *path, enum image_mode mode, struct image **ret_img, struct image_diag *ret_diag);
/* What was not committed is forgotten. A journal is left as it is: the next one reads it. */
void image_close(struct image *img);

uint64_t image_npages(const struct image *img);
uint64_t image_used(const struct image *img);       /* pages that are no holes, with what was put */
uint64_t image_sequence(const struct image *img);   /* of the last commit */
const uint8_t *image_uuid(const struct image *img); /* 16 bytes; a fresh image has its own */
bool image_is_named(const struct image *img);       /* its path leads to it */
int image_failed(const struct image *img);          /* what ended the use of the file (S5), or 0 */
uint64_t image_root_hash(
    struct image *img); /* over all pages, as of the last commit: for who has put nothing since */
uint64_t image_written(const struct image *img); /* bytes of pages, since it was opened or made */
const struct image_diag *image_diag(
    const struct image *img); /* with IMAGE_SALVAGE: what was found at opening */

bool image_is_hole(const struct image *img, uint64_t page);
/* One page, as it was put last. -EUCLEAN: it has not the hash it should have; -ERANGE: no such page. */
int image_read(struct image *img, uint64_t page, void *ret_page);

/*
 * Puts one page into the commit that is being made; data NULL, or all zeros: a hole. What the image has already
 * costs its hash only. -ERANGE: no such page.
 */
int image_put(struct image *img, uint64_t page, const void *data);
/*
 * Makes what was put durable, in one sync. Nothing put: nothing is done. A crash before its return leaves either. -ESTALE: the file
 * was removed, or its name given to another; -EBUSY: a fresh one's name is somebody else's, who writes there.
 */
int image_commit(struct image *img);
void image_abort(struct image *img); /* the image is as of the last commit */
/* Copies the journal home, and begins it anew. image_commit() does it past IMAGE_JOURNAL_LIMIT. */
int image_settle(struct image *img);

#define IMAGE_JOURNAL_LIMIT (UINT64_C(64) << 20) /* bytes */
#define IMAGE_PAGES_MAX (UINT64_C(1) << 33)

#endif
