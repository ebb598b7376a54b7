/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "told.h"

enum {
    PLACES = 4096, /* inodes share them: then one is dropped for nothing */
    UNDER_WAY_MS = 2000,
};

struct told {
    atomic_uint when[PLACES]; /* ms that wrap, never 0; or 0 */
};

static unsigned now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    return (unsigned)(ts.tv_sec * 1000 + ts.tv_nsec / 1000000) | 1;
}

int told_make(struct told **ret)
{
    *ret = calloc(1, sizeof(**ret));
    return *ret ? 0 : -ENOMEM;
}

void told_free(struct told *told)
{
    free(told);
}

void told_attr(const struct driver *d, uint32_t ino)
{
    if (d->told)
        atomic_store_explicit(&d->told->when[ino % PLACES], now_ms(), memory_order_relaxed);
}

void told_changed(const struct driver *d, fuse_ino_t ino, int r)
{
    unsigned when;

    if (!d->told || r < 0)
        return;
    when = atomic_load_explicit(&d->told->when[ino % PLACES], memory_order_relaxed);
    if (when != 0 && now_ms() - when < UNDER_WAY_MS)
        fuse_lowlevel_notify_inval_inode(d->session, ino, -1, 0);
}
