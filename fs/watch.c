/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>

#include "ops.h"
#include "raw.h"
#include "watch.h"

enum {
    WATCHED_MAX = 256,
    LOOK_MS = 5, /* between looks, while somebody sleeps */
};

/* An open file that was polled. */
struct watched {
    uint64_t open; /* what the kernel calls it; 0: the entry is free */
    uint64_t version;
    uint64_t used; /* when: the order of polls */
    fuse_ino_t ino;
    struct fuse_pollhandle *sleeper; /* or NULL */
};

struct watch {
    struct driver *driver;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct watched files[WATCHED_MAX];
    unsigned sleepers;
    uint64_t polls;
    bool ending;
};

static uint64_t version_of(const struct watch *w, fuse_ino_t ino)
{
    struct shmfs_attr attr;

    return shmfs_node_getattr(w->driver->fs, (uint32_t)ino, &attr) == 0 ? attr.version : 0;
}

/* Under the mutex. The kernel polls again, and is told then. */
static void wake(struct watch *w, struct watched *f)
{
    if (f->sleeper == NULL)
        return;
    fuse_lowlevel_notify_poll(f->sleeper);
    fuse_pollhandle_destroy(f->sleeper);
    f->sleeper = NULL;
    w->sleepers--;
}

static struct watched *find(struct watch *w, uint64_t open, fuse_ino_t ino)
{
    struct watched *oldest = &w->files[0];

    for (unsigned i = 0; i < WATCHED_MAX; i++) {
        if (w->files[i].open == open && w->files[i].ino == ino)
            return &w->files[i];
        if (w->files[i].used < oldest->used)
            oldest = &w->files[i];
    }
    wake(w, oldest);
    *oldest = (struct watched){ .open = open, .ino = ino, .version = version_of(w, ino) };
    return oldest;
}

void op_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct fuse_pollhandle *handle)
{
    struct watch *w = op_driver(req)->watch;
    unsigned ready = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;

    (void)fi;
    pthread_mutex_lock(&w->mutex);
    struct watched *f = find(w, raw_poll_open(), ino);
    uint64_t version = version_of(w, ino);
    if (version != f->version)
        ready |= POLLPRI;
    f->version = version;
    f->used = ++w->polls;
    if (handle != NULL) {
        if (f->sleeper != NULL)
            fuse_pollhandle_destroy(f->sleeper);
        else
            w->sleepers++;
        f->sleeper = handle;
        pthread_cond_signal(&w->changed);
    }
    pthread_mutex_unlock(&w->mutex);
    fuse_reply_poll(req, ready);
}

static void *work(void *data)
{
    struct watch *w = data;

    pthread_mutex_lock(&w->mutex);
    while (!w->ending) {
        if (w->sleepers == 0) {
            pthread_cond_wait(&w->changed, &w->mutex);
            continue;
        }
        for (unsigned i = 0; i < WATCHED_MAX; i++) {
            if (w->files[i].sleeper != NULL && version_of(w, w->files[i].ino) != w->files[i].version)
                wake(w, &w->files[i]);
        }
        pthread_mutex_unlock(&w->mutex);
        nanosleep(&(struct timespec){ .tv_nsec = LOOK_MS * 1000000L }, NULL);
        pthread_mutex_lock(&w->mutex);
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

int watch_start(struct driver *driver, struct watch **ret)
{
    struct watch *w = calloc(1, sizeof(*w));
    int r;

    if (!w)
        return -ENOMEM;
    w->driver = driver;
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->changed, NULL);
    r = pthread_create(&w->thread, NULL, work, w);
    if (r != 0) {
        free(w);
        return -r;
    }
    *ret = w;
    return 0;
}

void watch_stop(struct watch *w)
{
    pthread_mutex_lock(&w->mutex);
    w->ending = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->mutex);
    pthread_join(w->thread, NULL);
    for (unsigned i = 0; i < WATCHED_MAX; i++) {
        if (w->files[i].sleeper != NULL)
            fuse_pollhandle_destroy(w->files[i].sleeper);
    }
    pthread_mutex_destroy(&w->mutex);
    pthread_cond_destroy(&w->changed);
    free(w);
}
