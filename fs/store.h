/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_STORE_H
#define SHMFS_STORE_H

/* The region behind a mount: which file it is, making it, attaching to it, removing it. */
#include <stdbool.h>
#include <sys/types.h>

#include "node.h"
#include "options.h"

struct store {
    struct shmfs *fs;
    char *path;     /* full */
    char *image;    /* likewise, of the image that it is kept in; or NULL */
    bool made;      /* just now, by us */
    bool restored;  /* likewise, from the image */
    bool readonly;  /* attached without being the driver: the file may not be written */
    bool untrusted; /* others than the caller can write it, whatever they like */
    dev_t dev;      /* which file it was */
    ino_t ino;
};

/* Makes the region if it is not there, and attaches to it as its driver. Says what is wrong. */
bool store_open(const struct options *options, const char *mountpoint, struct store *ret);

/* Detaches; with `dispose` also removes the file, unless another one is there by now. */
void store_close(struct store *store, bool dispose);

/* The default region of a mount point; for free(). NULL: no memory, or the name would be too long. */
char *store_default_path(const char *mountpoint);

#endif
