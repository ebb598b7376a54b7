/* SPDX-License-Identifier: MIT */
#ifndef CRASH_HOOKS_H
#define CRASH_HOOKS_H

/*
 * Who stores what into a region, told before it happens. lib/ is compiled with -fsanitize=thread, so
 * that it calls __tsan_write8() and so on before each store; hooks.c has those functions in place of
 * the sanitizer's runtime, and memcpy(), memmove() and memset() (ld --wrap) besides, which it cuts in
 * pieces, as a processor might.
 *
 * Code that is not instrumented (the tests' own, system calls) is not seen.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HOOKS_WATCHED_MAX = 16, HOOKS_TORN_MAX = 4096 };

struct watch {
    uint8_t *base;
    size_t len;
    bool armed; /* else only `dirty` is called */
    /* Bytes [at, at + n) are about to change. */
    void (*dirty)(struct watch *w, const uint8_t *at, size_t n);
    /* The same, while armed. PC: where in the library. */
    void (*store)(struct watch *w, const uint8_t *at, size_t n, const void *pc);
    /* After a store of more than 8 bytes that was not cut: what was there before. */
    void (*torn)(struct watch *w, uint8_t *at, size_t n, const uint8_t *old, const void *pc);
};

void hooks_watch(struct watch *w);
void hooks_unwatch(struct watch *w);

/* What armed stores are cut to: 0, a few pieces each; 1, pieces of 8 bytes. */
extern int hooks_fine;

/* memcpy() that nobody is told of. */
void *hooks_copy(void *to, const void *from, size_t n);

#endif
