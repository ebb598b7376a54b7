/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_BASE_H
#define SHMFS_BASE_H

/* Small things that every floor needs: arithmetic, atomics on shared words, cleanup attributes. */
#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

static inline uint64_t round_up(uint64_t x, uint64_t unit)
{
    return (x + unit - 1) / unit * unit;
}

static inline uint64_t div_up(uint64_t x, uint64_t unit)
{
    return x / unit + (x % unit != 0);
}

/* Shared words are plain integers in format.h; these are the only ways to touch them unlocked. */
#define LOAD(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define LOAD_RELAXED(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define STORE_RELAXED(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define CAS(p, expected, desired) \
    __atomic_compare_exchange_n((p), (expected), (desired), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)

/*
 * Keeps the compiler from moving a store across. That is all that death needs: a killed thread has
 * retired a prefix of its stores, and whoever learns of the death sees them all.
 */
#define ORDER() __atomic_signal_fence(__ATOMIC_SEQ_CST)

/* Makes a sequentially consistent read-modify-write a full fence, where it is not one already. */
static inline void fence_after_rmw(void)
{
#if !defined(__x86_64__) && !defined(__i386__)
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

static inline void cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Within it a thread is not cancelled: no function of the library is a cancellation point. */
static inline int uncancelled_begin(void)
{
    int old;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    return old;
}
static inline void uncancelled_end(const int *old)
{
    pthread_setcancelstate(*old, NULL);
}
#define UNCANCELLED \
    __attribute__((cleanup(uncancelled_end), unused)) const int uncancelled_ = uncancelled_begin()

/* False: a signal was handled meanwhile. */
static inline bool nap_us(long us)
{
    UNCANCELLED;
    struct timespec ts = { .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000 };

    return nanosleep(&ts, NULL) == 0;
}

/* Process-local things only: what lies in the region ends by commit or abort (STYLE). */
static inline void cleanup_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
static inline void cleanup_free(void *p)
{
    free(*(void **)p);
}
#define AUTO_CLOSE __attribute__((cleanup(cleanup_close)))
#define AUTO_FREE __attribute__((cleanup(cleanup_free)))

#endif
