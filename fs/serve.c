/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "later.h"
#include "locks.h"
#include "notify.h"
#include "ops.h"
#include "place.h"
#include "raw.h"
#include "say.h"
#include "serve.h"
#include "told.h"
#include "watch.h"

#define WAKE SIGUSR1 /* takes a worker out of its read() */

enum {
    BUFFER_SIZE = (1 << 20) + 4096, /* the largest READ that Linux sends by default */
};

#define STUCK_AFTER 250000000 /* ns at one request, after which somebody else reads, too */
#define STUCK (-1)

struct worker {
    struct server *server;
    _Atomic int64_t since; /* when it began with the request at hand; 0: none; STUCK: long ago */
    pthread_t thread;
    bool started;
    struct place place;
    struct fuse_buf request; /* libfuse allocates its memory once */
    void *buffer;
    size_t buffer_size;
};

struct server {
    struct driver *driver;
    struct fuse_session *session;
    int fd;
    pthread_t owner;
    atomic_uint running;
    bool stopped;
    unsigned nworkers;
    struct worker *workers;
    struct place_group *places;
};

static _Thread_local struct worker *self;

/* ---- device ------------------------------------------------------------------------------------- */

static ssize_t device_read(int fd, void *buf, size_t n, void *data)
{
    (void)data;
    return read(fd, buf, n);
}

static ssize_t device_writev(int fd, struct iovec *iov, int count, void *data)
{
    ssize_t r;

    raw_patch_reply(data, iov, count);
    r = writev(fd, iov, count);
    /* The mount is gone, and so is who asked: for libfuse, as if the request had been interrupted. */
    if (r < 0 && errno == ENODEV)
        errno = ENOENT;
    return r;
}

/* ---- space that is about to come ---------------------------------------------------------------- */

#define FORGOTTEN_BY 500000000 /* ns after a removal */
enum { TRIES = 250 };

static _Atomic int64_t last_removal;

static int64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void serve_removed(void)
{
    atomic_store_explicit(&last_removal, now(), memory_order_relaxed);
}

void serve_sleeps(bool begins)
{
    if (self == NULL)
        return;
    if (begins)
        place_block(self->server->places);
    else
        place_unblock(self->server->places);
}

bool serve_again(int r, unsigned *tries)
{
    const struct timespec pause = { .tv_nsec = 1000000 };

    if (r != -ENOSPC || (*tries)++ == TRIES || now() - atomic_load(&last_removal) > FORGOTTEN_BY)
        return false;
    serve_sleeps(true);
    nanosleep(&pause, NULL);
    serve_sleeps(false);
    return true;
}

/* ---- workers ------------------------------------------------------------------------------------ */

void *serve_buffer(size_t n)
{
    size_t size = n > BUFFER_SIZE ? (n + 4095) / 4096 * 4096 : BUFFER_SIZE;

    if (!self->buffer || self->buffer_size < n) {
        free(self->buffer);
        self->buffer = aligned_alloc(4096, size);
        self->buffer_size = self->buffer ? size : 0;
    }
    return self->buffer;
}

static void serve_one(struct server *s, const struct fuse_buf *request)
{
    bool slow = raw_may_take_long(request->mem);

    if (slow)
        place_block(s->places);
    if (!raw_serve(s->driver, s->fd, request->mem, request->size))
        fuse_session_process_buf(s->session, request);
    if (slow)
        place_unblock(s->places);
}

/* So that serve_look() sees how long it takes. */
static void serve_noted(struct server *s, const struct fuse_buf *request)
{
    atomic_store_explicit(&self->since, now(), memory_order_relaxed);
    serve_one(s, request);
    if (atomic_exchange_explicit(&self->since, 0, memory_order_relaxed) == STUCK)
        place_unblock(s->places);
}

static void *work(void *data)
{
    struct server *s;
    int r = 0;

    self = data;
    s = self->server;
    shmfs_lease_serve_kernel();
    place_init(&self->place, s->places, (unsigned)(self - s->workers));
    while (!fuse_session_exited(s->session)) {
        place_wait(&self->place);
        r = fuse_session_receive_buf(s->session, &self->request);
        if (r > 0) {
            serve_noted(s, &self->request);
            place_served(&self->place, raw_pid(self->request.mem));
        } else if (r < 0 && r != -EINTR && r != -EAGAIN) {
            break;
        }
    }
    if (r < 0 && r != -EINTR && r != -EAGAIN)
        say("/dev/fuse: reading requests failed: %s; the mount ends", strerror(-r));
    fuse_session_exit(s->session);
    place_stop(s->places); /* who is parked looks again, and goes too */
    if (atomic_fetch_sub(&s->running, 1) == 1)
        pthread_kill(s->owner, SERVE_ENDED);
    return NULL;
}

static void woken(int sig)
{
    (void)sig;
}

static int start_worker(struct server *s, struct worker *w)
{
    int r;

    w->server = s;
    atomic_fetch_add(&s->running, 1);
    r = pthread_create(&w->thread, NULL, work, w);
    if (r != 0)
        atomic_fetch_sub(&s->running, 1);
    else
        w->started = true;
    return -r;
}

/* ---- server ------------------------------------------------------------------------------------- */

int serve_new(struct driver *driver, struct server **ret)
{
    char *argv[] = { "shmfs", "-d", NULL };
    struct fuse_args args = FUSE_ARGS_INIT(driver->debug ? 2 : 1, argv);
    struct server *s = calloc(1, sizeof(*s));

    if (!s)
        return -ENOMEM;
    s->driver = driver;
    s->fd = -1;
    s->session = fuse_session_new(&args, &ops_table, sizeof(ops_table), driver);
    fuse_opt_free_args(&args);
    if (!s->session) {
        free(s);
        return -EIO;
    }
    driver->session = s->session;
    *ret = s;
    return 0;
}

int serve_start(struct server *s, int fd, unsigned n)
{
    static const struct fuse_custom_io io = { .writev = device_writev, .read = device_read };
    struct sigaction action = { .sa_handler = woken }; /* without SA_RESTART */
    int r;

    s->fd = fd;
    s->owner = pthread_self();
    if (s->driver->cache == CACHE_COHERENT && n < 2)
        n = 2; /* one may wait for what the kernel does only after another one's answer */
    s->workers = calloc(n, sizeof(*s->workers));
    if (!s->workers)
        return -ENOMEM;
    s->nworkers = n;
    s->places = place_new(n);
    if (!s->places)
        return -ENOMEM;
    r = fuse_session_custom_io(s->session, &io, fd);
    if (r == 0)
        r = later_start(&s->driver->later);
    if (r == 0)
        r = watch_start(s->driver, &s->driver->watch);
    if (r == 0 && s->driver->share_locks)
        r = locks_start(s->driver->fs, &s->driver->locks);
    if (r == 0 && s->driver->cache != CACHE_NONE)
        r = told_make(&s->driver->told);
    if (r == 0 && s->driver->cache == CACHE_COHERENT)
        r = notify_start(s->driver, &s->driver->notify);
    if (r < 0)
        return r;
    sigaction(WAKE, &action, NULL);
    for (unsigned i = 0; i < n; i++) {
        r = start_worker(s, &s->workers[i]);
        if (r < 0)
            return r;
    }
    return 0;
}

unsigned serve_running(const struct server *s)
{
    return atomic_load(&s->running);
}

void serve_look(const struct server *s)
{
    for (unsigned i = 0; i < s->nworkers; i++) {
        int64_t since = atomic_load_explicit(&s->workers[i].since, memory_order_relaxed);

        if (since > 0 && now() - since > STUCK_AFTER &&
            atomic_compare_exchange_strong(&s->workers[i].since, &since, STUCK))
            place_block(s->places);
    }
}

static void pause_milliseconds(long n)
{
    nanosleep(&(struct timespec){ .tv_sec = n / 1000, .tv_nsec = n % 1000 * 1000000 }, NULL);
}

bool serve_wait(const struct server *s, unsigned milliseconds)
{
    for (unsigned waited = 0; serve_running(s) > 0; waited += 5) {
        if (waited >= milliseconds)
            return false;
        pause_milliseconds(5);
    }
    return true;
}

void serve_stop(struct server *s)
{
    if (s->driver->later && !s->stopped)
        later_stop(s->driver->later);
    if (s->driver->locks && !s->stopped)
        locks_stop(s->driver->locks);
    if (s->driver->notify && !s->stopped)
        notify_stop(s->driver->notify);
    s->stopped = true;
    fuse_session_exit(s->session);
    if (s->places)
        place_stop(s->places);
    /* Again and again: a signal that comes just before a read() wakes nobody. */
    while (!serve_wait(s, 10)) {
        for (unsigned i = 0; i < s->nworkers; i++) {
            if (s->workers[i].started)
                pthread_kill(s->workers[i].thread, WAKE);
        }
    }
    for (unsigned i = 0; i < s->nworkers; i++) {
        if (s->workers[i].started)
            pthread_join(s->workers[i].thread, NULL);
        s->workers[i].started = false;
    }
}

void serve_free(struct server *s)
{
    bool owned = s->fd >= 0 && fuse_session_fd(s->session) != s->fd;

    serve_stop(s);
    for (unsigned i = 0; i < s->nworkers; i++) {
        free(s->workers[i].request.mem);
        free(s->workers[i].buffer);
    }
    free(s->workers);
    if (s->places)
        place_free(s->places);
    if (s->driver->later)
        later_free(s->driver->later);
    told_free(s->driver->told);
    if (s->driver->watch)
        watch_stop(s->driver->watch);
    if (s->driver->locks)
        locks_free(s->driver->locks);
    if (owned)
        close(s->fd); /* the session never had it */
    fuse_session_destroy(s->session);
    free(s);
}

unsigned serve_default_workers(void)
{
    cpu_set_t cpus;
    int n = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? CPU_COUNT(&cpus) : 2;

    return n < 2 ? 2 : n > 4 ? 4 : (unsigned)n;
}
