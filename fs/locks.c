/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "locks.h"
#include "ops.h"
#include "owners.h"

enum {
    /*
     * How long a wait goes on before it asks whether it was interrupted. Now and then longer: a circle
     * of waiters is found only by who has seen it stand for a while within one call.
     */
    SLICE_MS = 50,
    LONG_SLICE_MS = 200,
    LONG_EACH = 8,
    STACK = 256 << 10,
};

struct locks {
    struct shmfs *fs;
    struct owners *owners;
    _Atomic uint64_t handles;
    atomic_bool ending;
    pthread_mutex_t mutex;
    pthread_cond_t idle;
    unsigned waiting; /* threads */
};

struct wait {
    struct locks *locks;
    fuse_req_t req;
    uint32_t ino;
    struct shmfs_range range;
    uint64_t handle;
};

int locks_start(struct shmfs *fs, struct locks **ret)
{
    struct locks *l = calloc(1, sizeof(*l));

    if (!l)
        return -ENOMEM;
    l->fs = fs;
    l->owners = owners_new();
    if (!l->owners) {
        free(l);
        return -ENOMEM;
    }
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->idle, NULL);
    *ret = l;
    return 0;
}

void locks_stop(struct locks *l)
{
    l->ending = true;
    pthread_mutex_lock(&l->mutex);
    while (l->waiting > 0)
        pthread_cond_wait(&l->idle, &l->mutex);
    pthread_mutex_unlock(&l->mutex);
}

void locks_free(struct locks *l)
{
    owners_free(l->owners);
    free(l);
}

uint64_t locks_handle(struct locks *l)
{
    return atomic_fetch_add_explicit(&l->handles, 1, memory_order_relaxed) + 1;
}

/* ---- taking --------------------------------------------------------------------------------------- */

/*
 * The owner is noted before the answer goes out, and not before the lock is there: a close that comes in
 * between finds nothing to drop, and is as if it had come before; the note stays for the next one.
 */
static int take(struct locks *l, uint32_t ino, const struct shmfs_range *range, uint64_t handle,
                int timeout_ms)
{
    bool noted = range->kind == SHMFS_LOCK_POSIX && range->type != F_UNLCK;
    struct owner *owner = noted ? owner_new(ino, range->key, handle) : NULL;
    int r;

    if (noted && !owner)
        return -ENOLCK;
    r = shmfs_node_setlk(l->fs, ino, range, timeout_ms);
    if (r == 0 && owner)
        owners_add(l->owners, owner);
    else
        free(owner);
    return r == -EUSERS ? -ENOLCK : r;
}

static int wait_for(const struct wait *w)
{
    int r;

    for (unsigned i = 1;; i++) {
        r = take(w->locks, w->ino, &w->range, w->handle, i % LONG_EACH ? SLICE_MS : LONG_SLICE_MS);
        if (r != -EAGAIN)
            return r;
        if (fuse_req_interrupted(w->req))
            return -EINTR;
        /* EINTR without a signal would reach the program as an ERESTARTSYS that is the kernel's own affair. */
        if (w->locks->ending)
            return -ENOTCONN;
    }
}

static void *wait_here(void *data)
{
    struct wait *w = data;
    struct locks *l = w->locks;

    op_error(w->req, wait_for(w));
    free(w);
    pthread_mutex_lock(&l->mutex);
    if (--l->waiting == 0)
        pthread_cond_signal(&l->idle);
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

/* False: no thread can be had. */
static bool start_waiting(const struct wait *wait)
{
    struct locks *l = wait->locks;
    struct wait *w = malloc(sizeof(*w));
    pthread_attr_t attr;
    pthread_t thread;
    bool started;

    if (!w)
        return false;
    *w = *wait;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, STACK);
    pthread_mutex_lock(&l->mutex);
    started = pthread_create(&thread, &attr, wait_here, w) == 0;
    if (started)
        l->waiting++;
    pthread_mutex_unlock(&l->mutex);
    pthread_attr_destroy(&attr);
    if (!started)
        free(w);
    return started;
}

void locks_set(struct locks *l, fuse_req_t req, uint32_t ino, const struct shmfs_range *range,
               uint64_t handle, bool wait)
{
    int r = take(l, ino, range, handle, 0);

    if (r == -EAGAIN && wait) {
        struct wait w = { .locks = l, .req = req, .ino = ino, .range = *range, .handle = handle };

        if (start_waiting(&w))
            return;
        r = -ENOLCK;
    }
    op_error(req, r);
}

/* ---- giving up ------------------------------------------------------------------------------------ */

int locks_close(struct locks *l, uint32_t ino, uint64_t key)
{
    const struct shmfs_range all = {
        .kind = SHMFS_LOCK_POSIX, .key = key, .type = F_UNLCK, .start = 0, .end = UINT64_MAX
    };

    return owners_close(l->owners, ino, key) ? shmfs_node_setlk(l->fs, ino, &all, 0) : 0;
}

void locks_release(struct locks *l, uint32_t ino, uint64_t handle)
{
    struct shmfs_range all = { .kind = SHMFS_LOCK_POSIX, .type = F_UNLCK, .start = 0, .end = UINT64_MAX };

    while (owners_release(l->owners, ino, handle, &all.key))
        shmfs_node_setlk(l->fs, ino, &all, 0);
}
