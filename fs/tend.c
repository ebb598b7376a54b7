/* SPDX-License-Identifier: MIT */
/*
 * Two threads. One sleeps until somebody attaches or detaches, and looks for stalls; it takes no lock of
 * the region. The other buries and gives memory back, for which it takes locks: it may have to wait for
 * somebody who is stopped, of whom the first one then tells.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "peer.h"
#include "tend.h"

#define MS UINT64_C(1000000)
#define WAKE SIGUSR1 /* takes the watcher out of its sleep */

enum {
    TEND_MS = 1000,   /* between looks for free memory */
    POLL_MS = 5,      /* between looks at who cannot be watched */
    HURRY_MS = 1,     /* the same right after an exit: the life lock falls a moment later */
    HURRY_TIMES = 10, /* so often, then at leisure */
    EVENTS = 16,
};

/* A process that is attached, besides ourselves. */
struct watched {
    uint32_t pid;
    bool same_ns;
    uint64_t start_time;
    int fd; /* its pidfd, or -1: it is looked at again and again */
    bool still;
};

struct tend {
    struct shmfs *fs;
    struct stall *stall;
    uint64_t look_ns; /* between looks for stalls */
    pthread_t watcher, undertaker;
    atomic_bool ending, watching;
    int epoll, wake; /* wake: somebody came or went, or it is the end */

    /* The undertaker's. */
    struct watched *watched;
    unsigned n, room;
    unsigned hurry;
};

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void wake_undertaker(const struct tend *t)
{
    const uint64_t one = 1;

    while (write(t->wake, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

/* ---- who is attached ------------------------------------------------------------------------------ */

static bool is_self(const struct shmfs_process *p)
{
    return p->same_ns && p->pid == (uint32_t)getpid();
}

/* The pidfd goes into the epoll as its own name. -1: it cannot be watched. */
static int watch_exit(const struct tend *t, const struct shmfs_process *p)
{
    int fd = p->alive ? peer_open(p) : -1;
    struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

    if (fd < 0)
        return -1;
    if (epoll_ctl(t->epoll, EPOLL_CTL_ADD, fd, &event) == 0)
        return fd;
    close(fd);
    return -1;
}

static void unwatch(struct watched *w)
{
    if (w->fd >= 0)
        close(w->fd); /* which takes it out of the epoll, too */
    w->fd = -1;
}

static bool make_room(struct tend *t)
{
    unsigned room = t->room ? t->room * 2 : 16;
    struct watched *more;

    if (t->n < t->room)
        return true;
    more = realloc(t->watched, room * sizeof(*more));
    if (!more)
        return false;
    t->watched = more;
    t->room = room;
    return true;
}

/* A process may be attached more than once; it dies once. */
static void note(struct tend *t, const struct shmfs_process *p)
{
    for (unsigned i = 0; i < t->n; i++) {
        struct watched *w = &t->watched[i];

        if (w->pid == p->pid && w->start_time == p->start_time && w->same_ns == p->same_ns) {
            w->still = true;
            return;
        }
    }
    /* Without memory it is left to tend(), and to who meets it. */
    if (make_room(t))
        t->watched[t->n++] = (struct watched){ p->pid, p->same_ns, p->start_time, watch_exit(t, p), true };
}

/* Returns whether there is somebody who must be looked at again and again. */
static bool refresh(struct tend *t)
{
    struct shmfs_process p;
    uint32_t cursor = 0;
    unsigned kept = 0;
    bool blind = false;

    for (unsigned i = 0; i < t->n; i++)
        t->watched[i].still = false;
    while (shmfs_region_next_process(t->fs, &cursor, &p) > 0) {
        if (!is_self(&p))
            note(t, &p);
    }
    for (unsigned i = 0; i < t->n; i++) {
        if (!t->watched[i].still) {
            unwatch(&t->watched[i]);
            continue;
        }
        blind = blind || t->watched[i].fd < 0;
        t->watched[kept++] = t->watched[i];
    }
    t->n = kept;
    return blind;
}

/* ---- the undertaker ------------------------------------------------------------------------------- */

static void take_event(struct tend *t, int fd)
{
    uint64_t count;

    if (fd == t->wake) {
        while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR)
            ;
        return;
    }
    for (unsigned i = 0; i < t->n; i++) {
        if (t->watched[i].fd == fd)
            unwatch(&t->watched[i]);
    }
    t->hurry = HURRY_TIMES;
}

/* Until something happens, or `end`. */
static void sleep_until(struct tend *t, uint64_t end)
{
    struct epoll_event events[EVENTS];
    uint64_t start = now();
    int ms = start >= end ? 0 : (int)((end - start) / MS) + 1;
    int n = epoll_wait(t->epoll, events, EVENTS, ms);

    for (int i = 0; i < n; i++)
        take_event(t, events[i].data.fd);
}

/* What goes wrong here is met again by who needs it. */
static void *bury(void *data)
{
    struct tend *t = data;
    uint64_t next_tend = now() + TEND_MS * MS;
    bool blind = refresh(t);

    while (!t->ending) {
        uint64_t end = now() + (t->hurry > 0 ? HURRY_MS : POLL_MS) * MS;

        sleep_until(t, blind && end < next_tend ? end : next_tend);
        if (t->hurry > 0)
            t->hurry--;
        if (now() >= next_tend) {
            shmfs_region_tend(t->fs);
            next_tend = now() + TEND_MS * MS;
        } else {
            shmfs_region_bury(t->fs);
        }
        blind = refresh(t);
    }
    return NULL;
}

/* ---- the watcher ---------------------------------------------------------------------------------- */

static bool has_company(const struct tend *t)
{
    struct shmfs_process p;
    uint32_t cursor = 0;

    while (shmfs_region_next_process(t->fs, &cursor, &p) > 0) {
        if (!is_self(&p))
            return true;
    }
    return false;
}

/* While we are alone nobody can stall, and whoever comes wakes us. */
static int watch_ms(const struct tend *t, uint64_t next_look)
{
    uint64_t t0 = now();

    if (!has_company(t))
        return -1;
    return t0 < next_look ? (int)((next_look - t0) / MS) + 1 : 0;
}

static void *watch(void *data)
{
    struct tend *t = data;
    uint32_t ticket = 0;
    uint64_t next_look = 0;

    while (!t->ending) {
        if (shmfs_region_watch(t->fs, &ticket, watch_ms(t, next_look)) == 0)
            wake_undertaker(t);
        if (now() < next_look)
            continue;
        stall_look(t->stall);
        next_look = now() + t->look_ns;
    }
    t->watching = false;
    return NULL;
}

/* ---- start and end -------------------------------------------------------------------------------- */

static void end_undertaker(struct tend *t)
{
    t->ending = true;
    wake_undertaker(t);
    pthread_join(t->undertaker, NULL);
}

static void woken(int sig)
{
    (void)sig;
}

/* Again and again: a signal that comes just before it sleeps wakes nobody. */
static void end_watcher(struct tend *t)
{
    while (t->watching) {
        pthread_kill(t->watcher, WAKE);
        nanosleep(&(struct timespec){ .tv_nsec = MS }, NULL);
    }
    pthread_join(t->watcher, NULL);
}

static void free_tend(struct tend *t)
{
    for (unsigned i = 0; i < t->n; i++)
        unwatch(&t->watched[i]);
    if (t->epoll >= 0)
        close(t->epoll);
    if (t->wake >= 0)
        close(t->wake);
    free(t->watched);
    stall_free(t->stall);
    free(t);
}

static int open_epoll(struct tend *t)
{
    struct epoll_event event = { .events = EPOLLIN };

    t->epoll = epoll_create1(EPOLL_CLOEXEC);
    t->wake = t->epoll < 0 ? -1 : eventfd(0, EFD_CLOEXEC);
    event.data.fd = t->wake;
    return t->wake < 0 || epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->wake, &event) < 0 ? -errno : 0;
}

static int start_threads(struct tend *t)
{
    const struct sigaction action = { .sa_handler = woken }; /* without SA_RESTART */
    int r = pthread_create(&t->undertaker, NULL, bury, t);

    if (r != 0)
        return -r;
    sigaction(WAKE, &action, NULL);
    t->watching = true;
    r = pthread_create(&t->watcher, NULL, watch, t);
    if (r != 0)
        end_undertaker(t);
    return -r;
}

int tend_start(const struct stall_settings *settings, struct tend **ret)
{
    struct tend *t = calloc(1, sizeof(*t));
    int r;

    if (!t)
        return -ENOMEM;
    t->fs = settings->fs;
    t->look_ns = settings->timeout_ns / 2;
    t->epoll = t->wake = -1;
    t->stall = stall_new(settings);
    r = t->stall ? open_epoll(t) : -ENOMEM;
    if (r == 0)
        r = start_threads(t);
    if (r < 0) {
        free_tend(t);
        return r;
    }
    *ret = t;
    return 0;
}

void tend_stop(struct tend *t)
{
    end_undertaker(t); /* first: it may wait for somebody whom the watcher sees to */
    end_watcher(t);
    free_tend(t);
}
