/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_DRIVER_H
#define SHMFS_DRIVER_H

/*
 * What all parts of a running driver share. It holds nothing of its own that matters: everything
 * here is a setting, and the files are in the region.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "fuse.h"
#include "node.h"
#include "options.h"

struct driver {
    struct shmfs *fs;
    enum cache_mode cache;
    double timeout;   /* seconds for which the kernel may keep names and attributes */
    bool counting;    /* the region counts the kernel's lookups: not where it is attached read-only */
    bool share_locks; /* of programs, with direct processes: they are kept in the region */
    bool debug;
    void *unreadable; /* a page that cannot be read */
    struct fuse_session *session;
    struct later *later;
    struct watch *watch;
    struct locks *locks;   /* NULL: they are the kernel's own */
    struct notify *notify; /* NULL: the kernel is leased nothing */
    struct keep *keep;     /* NULL: no image is kept */
    struct told *told;     /* NULL: it keeps no attributes */

    /* Set by the INIT exchange, before any other request. */
    bool keeps_names;  /* and listings */
    bool no_open;      /* the kernel can do without OPEN and RELEASE, */
    bool no_opendir;   /* and the same for directories */
    bool setxattr_ext; /* SETXATTR requests have the longer header */
};

/* Seconds for which the kernel may keep a name or attributes of an answer, which leases, or does not, KIND of it. */
static inline double driver_keeps(const struct driver *d, unsigned leases, enum shmfs_lease kind)
{
    if (d->cache == CACHE_COHERENT && ((leases & kind) == 0 || (kind == SHMFS_LEASE_NAME && !d->keeps_names)))
        return 0;
    return d->timeout;
}

/* Attributes in libfuse's form. */
void driver_stat(const struct shmfs_attr *attr, struct stat *ret);

/* The kernel wants 0 for the root. */
static inline uint64_t driver_generation(const struct shmfs_attr *attr)
{
    return attr->ino == SHMFS_ROOT ? 0 : attr->generation;
}

#endif
