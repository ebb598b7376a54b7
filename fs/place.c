/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "place.h"

/* All times in ns. */
enum {
    PERIOD = 250000,      /* between looks at the client's CPU: 2 of 250 µs */
    PERIOD_MAX = 1000000, /* where following does not help */
    WINDOW = 2000000,     /* in which clients are counted */
    MANY_LAST = 20000000, /* the others stay so long after the last window with several clients */
};

#define NOBODY_MORE UINT_MAX /* the scout is to end */

struct place_group {
    unsigned workers;
    cpu_set_t cpus;
    _Atomic bool stopped;
    _Atomic unsigned allowed; /* futex: workers 0 to allowed - 1 read */
    _Atomic bool many;        /* several clients take turns */
    _Atomic uint64_t many_seen;
    _Atomic pid_t last;      /* client */
    _Atomic unsigned turns;  /* how often that changed in this window */
    _Atomic unsigned wanted; /* futex: the client whose CPU the scout is to look up, or 0 */
    _Atomic uint64_t found;  /* what it found last: the client << 32 | its CPU */
    bool scouted;            /* it runs, and frees this at its end */
};

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void futex(_Atomic unsigned *word, int op, unsigned n)
{
    syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, n, NULL, NULL, 0);
}

/* ---- following the client ----------------------------------------------------------------------- */

/* The CPU that a thread runs on or ran on last, from field 39 of its stat; -1: no such thread to be seen. */
static int cpu_of(pid_t tid)
{
    char text[1024], *at;
    ssize_t n;
    int fd, field = 2;

    snprintf(text, sizeof(text), "/proc/%d/task/%d/stat", (int)tid, (int)tid);
    fd = open(text, O_RDONLY | O_CLOEXEC);
    if (fd < 0) { /* not the leader: only this way */
        snprintf(text, sizeof(text), "/proc/%d/stat", (int)tid);
        fd = open(text, O_RDONLY | O_CLOEXEC);
    }
    if (fd < 0)
        return -1;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0)
        return -1;
    text[n] = 0;
    at = strrchr(text, ')'); /* the name may have blanks */
    for (; at && *at; at++) {
        if (*at == ' ' && ++field == 39)
            return atoi(at + 1);
    }
    return -1;
}

/*
 * The files of a process in /proc are read by this thread alone, on which nobody waits: the kernel may hold the reader
 * until the process has got on with its execve(), and that closes files, for which it may wait for the very worker that
 * would read.
 */
static void *scout(void *data)
{
    struct place_group *g = data;
    unsigned pid;

    while ((pid = g->wanted) != NOBODY_MORE) {
        int cpu = pid ? cpu_of((pid_t)pid) : -1;

        if (cpu >= 0)
            g->found = (uint64_t)pid << 32 | (unsigned)cpu;
        if (atomic_compare_exchange_strong(&g->wanted, &pid, 0))
            futex(&g->wanted, FUTEX_WAIT, 0);
    }
    free(g);
    return NULL;
}

static void pin(struct place *p, int cpu)
{
    cpu_set_t one;

    if (p->cpu == cpu)
        return;
    CPU_ZERO(&one);
    if (cpu >= 0)
        CPU_SET(cpu, &one);
    p->cpu = sched_setaffinity(0, sizeof(one), cpu >= 0 ? &one : &p->group->cpus) == 0 ? cpu : -1;
}

/* By what the scout found when it was asked last, and asks it again. */
static void follow(struct place *p, pid_t pid)
{
    struct place_group *g = p->group;
    uint64_t found = g->found;
    int here = sched_getcpu(), cpu = (int)(uint32_t)found;
    unsigned none = 0;

    if (atomic_compare_exchange_strong(&g->wanted, &none, (unsigned)pid))
        futex(&g->wanted, FUTEX_WAKE, 1);
    if (found >> 32 != (uint64_t)pid || !CPU_ISSET(cpu, &g->cpus))
        return;
    p->missed = cpu == here ? 0 : p->missed + 1;
    p->period = p->missed < 5 ? PERIOD : p->period * 2 < PERIOD_MAX ? p->period * 2 : PERIOD_MAX;
    pin(p, cpu);
}

/* ---- how many workers --------------------------------------------------------------------------- */

static void allow(struct place_group *g, int more)
{
    atomic_fetch_add(&g->allowed, (unsigned)more);
    if (more > 0)
        futex(&g->allowed, FUTEX_WAKE, INT_MAX);
}

void place_block(struct place_group *g)
{
    allow(g, 1);
}

void place_unblock(struct place_group *g)
{
    allow(g, -1);
}

/* Two clients take turns if at least each eighth request is from another one than the one before. */
static void count_clients(struct place *p, uint64_t t)
{
    struct place_group *g = p->group;
    unsigned turns = atomic_exchange(&g->turns, 0);

    if (turns >= 8 && turns * 8 >= p->served) {
        g->many_seen = t;
        if (!atomic_exchange(&g->many, true))
            allow(g, (int)g->workers - 1);
    } else if (g->many && (int64_t)(t - g->many_seen) > MANY_LAST && atomic_exchange(&g->many, false)) {
        allow(g, 1 - (int)g->workers);
    }
    p->served = 0;
    p->window = t + WINDOW;
}

/* ---- what workers call -------------------------------------------------------------------------- */

void place_wait(struct place *p)
{
    struct place_group *g = p->group;
    unsigned allowed;

    while (p->id >= (allowed = g->allowed) && !g->stopped) {
        pin(p, -1);
        futex(&g->allowed, FUTEX_WAIT, allowed);
    }
}

void place_served(struct place *p, pid_t pid)
{
    struct place_group *g = p->group;
    uint64_t t;

    if (pid == 0) /* the kernel's own, or from another PID namespace */
        return;
    if (atomic_load_explicit(&g->last, memory_order_relaxed) != pid) {
        atomic_store_explicit(&g->last, pid, memory_order_relaxed);
        atomic_fetch_add_explicit(&g->turns, 1, memory_order_relaxed);
    }
    p->served++;
    t = now();
    if (t - p->looked < p->period)
        return;
    p->looked = t;
    if (g->workers > 1 && t >= p->window)
        count_clients(p, t);
    if (!g->many)
        follow(p, pid);
    else if (CPU_COUNT(&g->cpus) == 2) /* both clients have a worker at hand */
        pin(p, CPU_ISSET(p->id % 2, &g->cpus) ? (int)(p->id % 2) : -1);
    else
        pin(p, -1);
}

void place_init(struct place *p, struct place_group *g, unsigned id)
{
    *p = (struct place){ .group = g, .id = id, .cpu = -1, .period = PERIOD };
}

struct place_group *place_new(unsigned workers)
{
    struct place_group *g = calloc(1, sizeof(*g));
    pthread_t thread;

    if (!g)
        return NULL;
    g->workers = workers;
    g->allowed = 1;
    sched_getaffinity(0, sizeof(g->cpus), &g->cpus);
    g->scouted = true;
    if (pthread_create(&thread, NULL, scout, g) == 0)
        pthread_detach(thread); /* it may be held up for as long as a client is */
    else
        g->scouted = false; /* nobody is followed */
    return g;
}

void place_stop(struct place_group *g)
{
    g->stopped = true;
    g->allowed = g->workers;
    futex(&g->allowed, FUTEX_WAKE, INT_MAX);
}

void place_free(struct place_group *g)
{
    if (g->scouted) {
        g->wanted = NOBODY_MORE;
        futex(&g->wanted, FUTEX_WAKE, 1); /* of what may be gone by now, only the address counts */
    } else {
        free(g);
    }
}
