/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "notify.h"
#include "raw.h"
#include "say.h"

enum {
    LOOK_MS = 100,      /* between looks whether it is the end */
    AGAIN_US = 50,      /* until the kernel has an inode whose lookup is under way, or has forgotten it */
    AGAIN_TIMES = 4000, /* a fifth of a second */
    OLD_MAX = 16,
    BUSY_TURNS = 64,
};

struct notify {
    const struct driver *driver;
    pthread_t thread;
    atomic_bool ending;
    time_t said;
    unsigned turns;
    atomic_uint old[OLD_MAX]; /* directories whose listings are to be dropped some time; or 0 */
};

/* ---- what the kernel is told -------------------------------------------------------------------- */

/*
 * Drops a name. Also where there is none, this returns after whoever looks up or lists in the directory at this
 * moment is through: the kernel takes the directory's lock for it.
 */
static void drop_name(const struct notify *n, uint32_t dir, const char *name, size_t len)
{
    fuse_lowlevel_notify_inval_entry(n->driver->session, dir, name, len);
}

/*
 * The kernel ignores attributes that it asked for before the last invalidation, and reads on up to the end that it knew.
 * So it is told the true one first.
 */
static void tell_size(const struct notify *n, uint32_t ino)
{
    raw_raise_size(n->driver, ino, shmfs_lease_size(n->driver->fs, ino));
}

/* off < 0: attributes alone. */
static void drop_inode(const struct notify *n, uint32_t ino, off_t off, off_t len)
{
    const struct timespec pause = { .tv_nsec = AGAIN_US * 1000L };

    for (int i = 0; i < AGAIN_TIMES; i++) {
        if (fuse_lowlevel_notify_inval_inode(n->driver->session, ino, off, len) != -ENOENT ||
            !shmfs_lease_looked_up(n->driver->fs, ino) || fuse_session_exited(n->driver->session))
            return;
        nanosleep(&pause, NULL);
    }
}

/* Is a name of that directory dropped, so that nobody is listing it at this moment? */
static bool names_directory(const struct shmfs_drop *drop, uint32_t dir)
{
    for (unsigned i = 0; i < drop->nnames; i++) {
        if (drop->names[i].dir == dir)
            return true;
    }
    return false;
}

static void drop_inodes(const struct notify *n, const struct shmfs_drop *drop, bool dirs)
{
    for (unsigned i = 0; i < drop->ninodes; i++) {
        const struct shmfs_drop_inode *in = &drop->inodes[i];

        if (in->dir != dirs)
            continue;
        if (in->dir && in->pages && !names_directory(drop, in->ino))
            drop_name(n, in->ino, ".", 1);
        if (!in->dir)
            tell_size(n, in->ino);
        drop_inode(n, in->ino, in->pages ? (off_t)in->from : -1, in->pages ? (off_t)in->len : 0);
    }
}

/*
 * Files first: without its name the kernel forgets a file, and we would have to wait for that. Directories last:
 * who lists one brings its listing until the name is dropped.
 */
static void drop_these(const struct notify *n, const struct shmfs_drop *drop)
{
    drop_inodes(n, drop, false);
    for (unsigned i = 0; i < drop->nnames; i++)
        drop_name(n, drop->names[i].dir, drop->names[i].name, drop->names[i].len);
    drop_inodes(n, drop, true);
}

/* ---- everything --------------------------------------------------------------------------------- */

/* All names in a directory that exist; which others the kernel knows, nobody can tell. */
static void drop_names_of(const struct notify *n, uint32_t dir)
{
    struct shmfs_dirent batch[32];
    uint64_t cookie = 0;
    int got;

    while ((got = shmfs_lease_names(n->driver->fs, dir, cookie, batch, 32)) > 0) {
        for (int i = 0; i < got; i++)
            drop_name(n, dir, batch[i].name, batch[i].len);
        cookie = batch[got - 1].next;
    }
}

static void drop_everything(const struct notify *n)
{
    bool names = raw_drop_all_names(n->driver) < 0;
    bool dir;

    for (uint32_t ino = 0; shmfs_lease_each(n->driver->fs, &ino, &dir) && !n->ending;) {
        if (dir && names)
            drop_names_of(n, ino);
        else if (dir)
            drop_name(n, ino, ".", 1);
        else
            tell_size(n, ino);
        drop_inode(n, ino, 0, 0);
    }
}

/* Once a minute at most. */
static void say_late(struct notify *n)
{
    time_t now = time(NULL);

    if (n->said != 0 && now - n->said < 60)
        return;
    n->said = now;
    say("could not keep up with a process that changed the region: all that the kernel had cached is "
        "dropped");
}

/* ---- listings ----------------------------------------------------------------------------------- */

void notify_listing_is_old(struct notify *n, uint32_t ino)
{
    for (unsigned i = 0; i < OLD_MAX; i++) {
        unsigned was = 0;

        if (n->old[i] == ino || atomic_compare_exchange_strong(&n->old[i], &was, ino) || was == ino)
            return;
    }
}

static void drop_old_listings(struct notify *n)
{
    struct shmfs_drop drop;

    for (unsigned i = 0; i < OLD_MAX; i++) {
        uint32_t ino = atomic_exchange(&n->old[i], 0);

        if (ino == 0 || !shmfs_lease_next_listing(n->driver->fs, ino, &drop))
            continue;
        drop_these(n, &drop);
        shmfs_lease_dropped(n->driver->fs, &drop);
    }
}

/* ---- the thread --------------------------------------------------------------------------------- */

static void *work(void *data)
{
    struct notify *n = data;
    struct shmfs_drop drop;

    shmfs_lease_serve_kernel(); /* whatever we do, we do not wait for ourselves */
    while (!n->ending) {
        bool idle = shmfs_lease_next(n->driver->fs, LOOK_MS, &drop) == 0;

        if (idle || ++n->turns % BUSY_TURNS == 0)
            drop_old_listings(n);
        if (idle)
            continue;
        if (drop.everything) {
            say_late(n);
            drop_everything(n);
        } else {
            drop_these(n, &drop);
        }
        shmfs_lease_dropped(n->driver->fs, &drop);
    }
    return NULL;
}

int notify_start(struct driver *driver, struct notify **ret)
{
    struct notify *n = calloc(1, sizeof(*n));
    int r;

    driver->unreadable = mmap(NULL, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!n || driver->unreadable == MAP_FAILED) {
        free(n);
        return -ENOMEM;
    }
    n->driver = driver;
    r = pthread_create(&n->thread, NULL, work, n);
    if (r != 0) {
        free(n);
        return -r;
    }
    *ret = n;
    return 0;
}

void notify_stop(struct notify *n)
{
    shmfs_lease_stop(n->driver->fs);
    n->ending = true;
    pthread_join(n->thread, NULL);
    free(n);
}
