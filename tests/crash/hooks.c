/* SPDX-License-Identifier: MIT */
#include "hooks.h"

#include <errno.h>

#define EXPORT __attribute__((visibility("default")))

void *__real_memcpy(void *to, const void *from, size_t n);
void *__real_memmove(void *to, const void *from, size_t n);
void *__real_memset(void *to, int c, size_t n);
void *__wrap_memcpy(void *to, const void *from, size_t n);
void *__wrap_memmove(void *to, const void *from, size_t n);
void *__wrap_memset(void *to, int c, size_t n);

int hooks_fine;

static struct watch *watched[HOOKS_WATCHED_MAX];
static size_t nwatched;

/* An uncut store that was announced; it is over when the next thing but a read is announced. */
static struct {
    struct watch *w;
    uint8_t *at;
    size_t n;
    const void *pc;
    uint8_t old[HOOKS_TORN_MAX];
} pending;

void hooks_watch(struct watch *w)
{
    for (size_t i = 0; i < nwatched; i++) {
        if (watched[i] == w)
            return;
    }
    if (nwatched == HOOKS_WATCHED_MAX)
        __builtin_trap();
    watched[nwatched++] = w;
}

void hooks_unwatch(struct watch *w)
{
    for (size_t i = 0; i < nwatched; i++) {
        if (watched[i] == w)
            watched[i--] = watched[--nwatched];
    }
}

void *hooks_copy(void *to, const void *from, size_t n)
{
    return __real_memcpy(to, from, n);
}

static struct watch *find(const void *at)
{
    for (size_t i = 0; i < nwatched; i++) {
        if ((size_t)((const uint8_t *)at - watched[i]->base) < watched[i]->len)
            return watched[i];
    }
    return NULL;
}

static __attribute__((noinline)) void settle_pending(void)
{
    uint8_t old[HOOKS_TORN_MAX]; /* the callback runs instrumented code, which may use `pending` */
    struct watch *w = pending.w;
    int saved = errno;

    pending.w = NULL;
    __real_memcpy(old, pending.old, pending.n);
    if (w->armed)
        w->torn(w, pending.at, pending.n, old, pending.pc);
    errno = saved;
}

static inline void settle(void)
{
    if (__builtin_expect(pending.w != NULL, 0))
        settle_pending();
}

static void announce(struct watch *w, void *at, size_t n, const void *pc)
{
    int saved = errno;

    if (w->armed)
        w->store(w, at, n, pc);
    w->dirty(w, at, n);
    errno = saved;
}

/* A store that the compiler makes itself. */
static void store(void *at, size_t n, const void *pc)
{
    settle();
    struct watch *w = find(at);
    if (w == NULL || n == 0)
        return;
    announce(w, at, n, pc);
    if (!w->armed || n <= 8 || n > HOOKS_TORN_MAX)
        return;
    pending.at = at;
    pending.n = n;
    pending.pc = pc;
    __real_memcpy(pending.old, at, n);
    pending.w = w;
}

/* ---- copies -------------------------------------------------------------------------------------- */

/* Where the next piece of n bytes ends. */
static size_t piece_end(size_t done, size_t n)
{
    if (n <= 8)
        return n;
    if (hooks_fine || done == 0)
        return done + 8 < n ? done + 8 : n;
    size_t step = n / 12 < 64 ? 64 : n / 12;
    size_t end = ((done + step) & ~(size_t)7);
    if (end + 8 <= n)
        return end;
    return done < n - 8 ? n - 8 : n; /* the last bytes by themselves */
}

enum copy_kind { COPY_FORWARD, COPY_BACKWARD, COPY_FILL };

static void cut(struct watch *w, enum copy_kind kind, uint8_t *to, const uint8_t *from, int c, size_t n,
                const void *pc)
{
    for (size_t done = 0, end; done < n; done = end) {
        end = piece_end(done, n);
        if (kind == COPY_BACKWARD) {
            announce(w, to + n - end, end - done, pc);
            __real_memmove(to + n - end, from + n - end, end - done);
        } else {
            announce(w, to + done, end - done, pc);
            if (kind == COPY_FILL)
                __real_memset(to + done, c, end - done);
            else
                __real_memmove(to + done, from + done, end - done);
        }
    }
}

static void *copy(void *to, const void *from, size_t n, const void *pc)
{
    settle();
    struct watch *w = n > 0 ? find(to) : NULL;
    if (w == NULL)
        return __real_memmove(to, from, n);
    if (!w->armed) {
        w->dirty(w, to, n);
        return __real_memmove(to, from, n);
    }
    bool backward =
        (const uint8_t *)to > (const uint8_t *)from && (const uint8_t *)to < (const uint8_t *)from + n;
    cut(w, backward ? COPY_BACKWARD : COPY_FORWARD, to, from, 0, n, pc);
    return to;
}

static void *fill(void *to, int c, size_t n, const void *pc)
{
    settle();
    struct watch *w = n > 0 ? find(to) : NULL;
    if (w == NULL)
        return __real_memset(to, c, n);
    if (!w->armed) {
        w->dirty(w, to, n);
        return __real_memset(to, c, n);
    }
    cut(w, COPY_FILL, to, NULL, c, n, pc);
    return to;
}

#define PC __builtin_return_address(0)

void *__wrap_memcpy(void *to, const void *from, size_t n)
{
    return copy(to, from, n, PC);
}
void *__wrap_memmove(void *to, const void *from, size_t n)
{
    return copy(to, from, n, PC);
}
void *__wrap_memset(void *to, int c, size_t n)
{
    return fill(to, c, n, PC);
}

/* clang calls these. */
EXPORT void *__tsan_memcpy(void *to, const void *from, size_t n);
EXPORT void *__tsan_memmove(void *to, const void *from, size_t n);
EXPORT void *__tsan_memset(void *to, int c, size_t n);
void *__tsan_memcpy(void *to, const void *from, size_t n)
{
    return copy(to, from, n, PC);
}
void *__tsan_memmove(void *to, const void *from, size_t n)
{
    return copy(to, from, n, PC);
}
void *__tsan_memset(void *to, int c, size_t n)
{
    return fill(to, c, n, PC);
}

/* ---- plain loads and stores ---------------------------------------------------------------------- */

EXPORT void __tsan_init(void);
void __tsan_init(void)
{
}
EXPORT void __tsan_func_entry(void *pc);
void __tsan_func_entry(void *pc)
{
    (void)pc;
    settle();
}
EXPORT void __tsan_func_exit(void *pc);
void __tsan_func_exit(void *pc)
{
    (void)pc;
    settle();
}
EXPORT void __tsan_vptr_update(void **at, void *to);
void __tsan_vptr_update(void **at, void *to)
{
    (void)at;
    (void)to;
}
/* A read may be announced between an uncut store and its doing (a = b): it settles nothing. */
EXPORT void __tsan_read_range(void *at, size_t n);
void __tsan_read_range(void *at, size_t n)
{
    (void)at;
    (void)n;
}
EXPORT void __tsan_write_range(void *at, size_t n);
void __tsan_write_range(void *at, size_t n)
{
    store(at, n, PC);
}

#define PLAIN(read_name, write_name, n) \
    EXPORT void read_name(void *at); \
    EXPORT void write_name(void *at); \
    void read_name(void *at) \
    { \
        (void)at; \
    } \
    void write_name(void *at) \
    { \
        store(at, (n), PC); \
    }
/* clang: a load and a store of the same place, announced at once. */
#define BOTH(name, n) \
    EXPORT void name(void *at); \
    void name(void *at) \
    { \
        store(at, (n), PC); \
    }
#define PLAINS(n) \
    BOTH(__tsan_read_write##n, n) \
    BOTH(__tsan_unaligned_read_write##n, n) \
    PLAIN(__tsan_read##n, __tsan_write##n, n) \
    PLAIN(__tsan_unaligned_read##n, __tsan_unaligned_write##n, n) \
    PLAIN(__tsan_volatile_read##n, __tsan_volatile_write##n, n) \
    PLAIN(__tsan_unaligned_volatile_read##n, __tsan_unaligned_volatile_write##n, n)
PLAINS(1)
PLAINS(2)
PLAINS(4)
PLAINS(8)
PLAINS(16)

/* ---- atomics: done here, all of them with the strongest order ------------------------------------ */

#define FETCH(bits, type, name) \
    EXPORT type __tsan_atomic##bits##_fetch_##name(volatile type *at, type v, int mo); \
    type __tsan_atomic##bits##_fetch_##name(volatile type *at, type v, int mo) \
    { \
        (void)mo; \
        store((void *)(uintptr_t)at, sizeof(type), PC); \
        return __atomic_fetch_##name(at, v, __ATOMIC_SEQ_CST); \
    }

#define COMPARE(bits, type, name) \
    EXPORT int __tsan_atomic##bits##_compare_exchange_##name(volatile type *at, type *old, type v, int mo, \
                                                             int fail); \
    int __tsan_atomic##bits##_compare_exchange_##name(volatile type *at, type *old, type v, int mo, \
                                                      int fail) \
    { \
        (void)mo; \
        (void)fail; \
        store((void *)(uintptr_t)at, sizeof(type), PC); \
        return __atomic_compare_exchange_n(at, old, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
    }

#define ATOMICS(bits, type) \
    EXPORT type __tsan_atomic##bits##_load(const volatile type *at, int mo); \
    type __tsan_atomic##bits##_load(const volatile type *at, int mo) \
    { \
        (void)mo; \
        return __atomic_load_n(at, __ATOMIC_SEQ_CST); \
    } \
    EXPORT void __tsan_atomic##bits##_store(volatile type *at, type v, int mo); \
    void __tsan_atomic##bits##_store(volatile type *at, type v, int mo) \
    { \
        (void)mo; \
        store((void *)(uintptr_t)at, sizeof(type), PC); \
        __atomic_store_n(at, v, __ATOMIC_RELEASE); \
    } \
    EXPORT type __tsan_atomic##bits##_exchange(volatile type *at, type v, int mo); \
    type __tsan_atomic##bits##_exchange(volatile type *at, type v, int mo) \
    { \
        (void)mo; \
        store((void *)(uintptr_t)at, sizeof(type), PC); \
        return __atomic_exchange_n(at, v, __ATOMIC_SEQ_CST); \
    } \
    EXPORT type __tsan_atomic##bits##_compare_exchange_val(volatile type *at, type old, type v, int mo, \
                                                           int fail); \
    type __tsan_atomic##bits##_compare_exchange_val(volatile type *at, type old, type v, int mo, int fail) \
    { \
        (void)mo; \
        (void)fail; \
        store((void *)(uintptr_t)at, sizeof(type), PC); \
        __atomic_compare_exchange_n(at, &old, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
        return old; \
    } \
    COMPARE(bits, type, strong) \
    COMPARE(bits, type, weak) \
    FETCH(bits, type, add) \
    FETCH(bits, type, sub) \
    FETCH(bits, type, and) \
    FETCH(bits, type, or) \
    FETCH(bits, type, xor) \
    FETCH(bits, type, nand)

ATOMICS(8, uint8_t)
ATOMICS(16, uint16_t)
ATOMICS(32, uint32_t)
ATOMICS(64, uint64_t)

EXPORT void __tsan_atomic_thread_fence(int mo);
void __tsan_atomic_thread_fence(int mo)
{
    (void)mo;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
EXPORT void __tsan_atomic_signal_fence(int mo);
void __tsan_atomic_signal_fence(int mo)
{
    (void)mo;
    settle();
}
