/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "keep.h"
#include "say.h"

enum { LONGEST_MS = 1000 }; /* between looks whether it is the end */

/* An fsync that waits. */
struct waiter {
    struct waiter *next;
    fuse_req_t req;
    uint64_t ticket;
    size_t written; /* of a write that is to be synced; 0: an fsync */
};

struct keep {
    struct shmfs *fs;
    char *path;
    struct shmfs_snapshot *snapshot;
    int64_t every_ms; /* 0: only for fsync, and at the end */
    pthread_t thread;
    bool started;
    atomic_bool ending;
    int failed; /* what was said last, or 0 */

    pthread_mutex_t mutex; /* of the following */
    struct waiter *waiters;
};

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- snapshots ------------------------------------------------------------------------------------ */

/* A failure is said once, and once that it is over. */
static void say_result(struct keep *k, int r, const struct shmfs_diag *diag)
{
    char text[1024];

    if (r < 0 && r != k->failed)
        say("the snapshot failed, and is tried again: %s",
            shmfs_diag_text(diag, r, k->path, text, sizeof(text)));
    else if (r == 0 && k->failed != 0)
        say("%s: has everything again", k->path);
    k->failed = r;
}

static int take(struct keep *k, bool fast)
{
    struct shmfs_snapshot_result result;
    struct shmfs_diag diag;
    int r = shmfs_snapshot_take(k->snapshot, fast, NULL, &result, &diag);

    say_result(k, r, &diag);
    return r;
}

/* ---- fsync ---------------------------------------------------------------------------------------- */

static struct waiter *waiters_until(struct keep *k, uint64_t ticket)
{
    struct waiter *found = NULL, **at;

    pthread_mutex_lock(&k->mutex);
    for (at = &k->waiters; *at;) {
        struct waiter *w = *at;

        if (w->ticket > ticket) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->next = found;
        found = w;
    }
    pthread_mutex_unlock(&k->mutex);
    return found;
}

static void decide(struct keep *k, uint64_t ticket, int r)
{
    struct waiter *w = waiters_until(k, ticket);

    shmfs_sync_decide(k->fs, ticket, r);
    while (w) {
        struct waiter *next = w->next;

        if (r == 0 && w->written > 0)
            fuse_reply_write(w->req, w->written);
        else
            fuse_reply_err(w->req, -r);
        free(w);
        w = next;
    }
}

static void answer_later(struct keep *k, fuse_req_t req, size_t written)
{
    struct waiter *w = malloc(sizeof(*w));

    if (!w) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    w->req = req;
    w->written = written;
    pthread_mutex_lock(&k->mutex);
    w->next = k->waiters;
    k->waiters = w;
    w->ticket = shmfs_sync_ticket(k->fs); /* seen by who decides it only after this lock */
    pthread_mutex_unlock(&k->mutex);
}

void keep_fsync(struct keep *k, fuse_req_t req)
{
    answer_later(k, req, 0);
}

void keep_written(struct keep *k, fuse_req_t req, size_t n)
{
    answer_later(k, req, n);
}

/* ---- the thread ----------------------------------------------------------------------------------- */

static void *work(void *data)
{
    struct keep *k = data;
    int64_t next = now_ms(); /* the first one at once: then there is an image */

    while (!k->ending) {
        int64_t left = k->every_ms == 0 && next == 0 ? LONGEST_MS : next - now_ms();
        uint64_t wanted = shmfs_sync_wanted(k->fs, left <= 0           ? 0
                                                   : left < LONGEST_MS ? (int)left
                                                                       : LONGEST_MS);
        bool due = (k->every_ms != 0 || next != 0) && now_ms() >= next;

        if (wanted != 0)
            decide(k, wanted, take(k, !due));
        else if (due && shmfs_snapshot_is_due(k->snapshot))
            take(k, false);
        if (due)
            next = k->every_ms == 0 ? 0 : now_ms() + k->every_ms;
    }
    return NULL;
}

/* ---- beginning and end ---------------------------------------------------------------------------- */

bool keep_open(struct shmfs *fs, const char *path, double sync_seconds, struct keep **ret)
{
    struct keep *k = calloc(1, sizeof(*k));
    struct shmfs_snapshot_result result;
    struct shmfs_diag diag;
    char text[1024];
    int r = -ENOMEM;

    if (k) {
        k->fs = fs;
        k->every_ms = (int64_t)(sync_seconds * 1000);
        pthread_mutex_init(&k->mutex, NULL);
        k->path = strdup(path);
    }
    if (k && k->path) {
        bool there = access(path, F_OK) == 0;

        r = shmfs_snapshot_open(fs, path, SHMFS_SNAPSHOT_KEEP, &k->snapshot, &diag);
        if (r == 0 && !there) /* that it can be made is known before the mount is there */
            r = shmfs_snapshot_take(k->snapshot, false, NULL, &result, &diag);
    }
    if (r == 0) {
        *ret = k;
        return true;
    }
    if (r == -ENOMEM)
        diag = (struct shmfs_diag){ 0 };
    say("%s", shmfs_diag_text(&diag, r, path, text, sizeof(text)));
    if (k) {
        shmfs_snapshot_close(k->snapshot);
        free(k->path);
    }
    free(k);
    return false;
}

int keep_start(struct keep *k)
{
    int r = pthread_create(&k->thread, NULL, work, k);

    k->started = r == 0;
    return -r;
}

bool keep_close(struct keep *k)
{
    int r = 0;

    if (k->started) {
        uint64_t wanted;

        k->ending = true;
        shmfs_sync_ticket(k->fs); /* which wakes it */
        pthread_join(k->thread, NULL);
        wanted = shmfs_sync_wanted(k->fs, 0);
        if (wanted != 0 || shmfs_snapshot_is_due(k->snapshot))
            r = take(k, false);
        if (wanted != 0)
            decide(k, wanted, r);
    }
    shmfs_snapshot_close(k->snapshot);
    pthread_mutex_destroy(&k->mutex);
    free(k->path);
    free(k);
    return r == 0;
}
