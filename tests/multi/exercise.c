/* SPDX-License-Identifier: MIT */
/*
 * One file, drawn operations one after the other, and a model of what must be in it: after each operation the file's
 * content, size and times must be as the model says.
 *
 *   exercise [--way mount|direct|both|tmpfs] [--cache coherent|none|writeback] [--ops N] [--seed N] [--only KIND]
 *
 * both: each operation by a side that is drawn, the mount or the library. tmpfs: without any of shmfs, to see that the
 * exerciser itself is right. --only: of that kind alone, and writes. What is drawn depends on the seed only, so a
 * failure comes again at the same operation. All but direct and tmpfs needs root and /dev/fuse; BUILD, or the
 * programs in build/.
 */
#include "exercise.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const ways[] = { "mount", "direct", "both", "tmpfs" };
static const char *const caches[] = { "coherent", "none", "writeback" };
/* Some 15 s. */
static const uint64_t ops_of_way[] = { 150000, 500000, 150000, 500000 };

static struct exercise exercise = { .seed = 1, .way = WAY_BOTH };

/* ---- what the parts use ---------------------------------------------------------------------------- */

/* splitmix64 */
uint64_t draw(struct exercise *x, uint64_t n)
{
    uint64_t z = x->rng += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return (z ^ (z >> 31)) % n;
}

void note(struct exercise *x, const char *format, ...)
{
    char *text = x->history[x->done % HISTORY];
    int n = snprintf(text, HISTORY_TEXT, "%8" PRIu64 " %-6s size %#zx: ", x->done + 1, x->by->name, x->size);
    va_list args;

    va_start(args, format);
    vsnprintf(text + n, HISTORY_TEXT - (size_t)n, format, args);
    va_end(args);
}

void differs(struct exercise *x, const char *format, ...)
{
    va_list args;

    if (x->failed) /* the first says most */
        return;
    x->failed = true;
    fprintf(stderr, "FAIL exercise, operation %" PRIu64 ": ", x->done + 1);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

bool gave(struct exercise *x, const char *call, long got, long want)
{
    if (got == want)
        return true;
    differs(x, "%s gave %ld%s%s, expected %ld%s%s", call, got, got < 0 ? ", " : "",
            got < 0 ? strerror((int)-got) : "", want, want < 0 ? ", " : "",
            want < 0 ? strerror((int)-want) : "");
    return false;
}

void same(struct exercise *x, const struct side *s, const char *what, const char *seen, size_t off, size_t n)
{
    size_t first = 0, count = 0, last = 0;

    if (n == 0 || memcmp(seen, x->model + off, n) == 0)
        return;
    for (size_t i = n; i-- > 0;) {
        if (seen[i] == x->model[off + i])
            continue;
        first = i;
        last = count++ == 0 ? i : last;
    }
    differs(x, "%s by the %s side: %zu bytes differ from %#zx to %#zx, first %#04x, expected %#04x", what,
            s->name, count, off + first, off + last, (unsigned char)seen[first],
            (unsigned char)x->model[off + first]);
}

/* ---- the run --------------------------------------------------------------------------------------- */

static const struct exercise_kind *kinds[KINDS];
static unsigned nkinds, total_weight;

static void collect(const struct exercise_kind *table, const char *only)
{
    for (; table->name != NULL; table++) {
        if (only != NULL && strcmp(only, table->name) != 0 && strcmp("write", table->name) != 0)
            continue;
        kinds[nkinds++] = table;
        total_weight += table->weight;
    }
}

static unsigned draw_kind(struct exercise *x)
{
    uint64_t at = draw(x, total_weight);
    unsigned i = 0;

    for (; at >= kinds[i]->weight; i++)
        at -= kinds[i]->weight;
    return i;
}

/* One operation, and what the file is like after it. */
static void step(struct exercise *x)
{
    for (;;) {
        struct side *s = &x->sides[x->nsides == 2 ? draw(x, 2) : 0];
        unsigned here = s->face.fs != NULL ? FOR_DIRECT : x->way == WAY_TMPFS ? FOR_TMPFS : FOR_MOUNT;
        unsigned k = draw_kind(x);

        x->by = s;
        x->from = LIMIT;
        x->to = 0;
        x->times = TIMES_STAY;
        if ((kinds[k]->where & here) == 0 || !kinds[k]->run(x, s))
            continue;
        x->counts[k]++;
        break;
    }
    if (!x->failed)
        check(x);
    x->done += !x->failed;
}

static void fault(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    exercise.fault_at = info->si_addr;
    siglongjmp(exercise.on_fault, 1);
}

static void tell_fault(struct exercise *x)
{
    for (unsigned i = 0; i < x->nsides; i++) {
        const struct side *s = &x->sides[i];

        if (s->held != NULL && x->fault_at >= s->held && x->fault_at < s->held + s->held_len)
            differs(x, "SIGBUS at %#zx of what is held by the %s side",
                    s->held_off + (size_t)(x->fault_at - s->held), s->name);
    }
    differs(x, "SIGBUS at %p",
            (const void *)x->fault_at); /* of what is mapped for this operation, or the library's */
}

static void run(struct exercise *x)
{
    struct sigaction act = { .sa_sigaction = fault, .sa_flags = SA_SIGINFO };

    sigaction(SIGBUS, &act, NULL);
    x->times = TIMES_MAY;
    x->by = &x->sides[0];
    note(x, "make the file");
    check(x);
    if (sigsetjmp(x->on_fault, 1) != 0)
        tell_fault(x);
    while (!x->failed && x->done < x->ops)
        step(x);
}

static void show_history(const struct exercise *x)
{
    uint64_t first = x->done + 1 > HISTORY ? x->done + 1 - HISTORY : 0;

    fprintf(stderr, "the last operations, and the size before each:\n");
    for (uint64_t i = first; i <= x->done; i++)
        fprintf(stderr, "%s\n", x->history[i % HISTORY]);
    fprintf(stderr, "seed %" PRIu64 "; again: exercise --way %s --cache %s --seed %" PRIu64 " --ops %" PRIu64,
            x->seed, ways[x->way], caches[x->cache], x->seed, x->done + 1);
    fprintf(stderr, "%s%s\n", x->only != NULL ? " --only " : "", x->only != NULL ? x->only : "");
}

static double seconds_since(const struct timespec *from)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - from->tv_sec) + (double)(now.tv_nsec - from->tv_nsec) / 1e9;
}

static void report(const struct exercise *x, double took)
{
    printf("%" PRIu64 " operations, way %s, cache %s, seed %" PRIu64 ", %.1f s:", x->done, ways[x->way],
           caches[x->cache], x->seed, took);
    for (unsigned k = 0; k < nkinds; k++) {
        if (x->counts[k] > 0)
            printf(" %s %" PRIu64, kinds[k]->name, x->counts[k]);
    }
    putchar('\n');
}

static int name_in(const char *const *names, unsigned n, const char *name)
{
    for (unsigned i = 0; i < n; i++) {
        if (strcmp(names[i], name) == 0)
            return (int)i;
    }
    return -1;
}

static bool options(struct exercise *x, int argc, char **argv)
{
    static const struct option list[] = {
        { "way", required_argument, NULL, 'w' },  { "cache", required_argument, NULL, 'c' },
        { "ops", required_argument, NULL, 'n' },  { "seed", required_argument, NULL, 's' },
        { "only", required_argument, NULL, 'o' }, { NULL, 0, NULL, 0 },
    };
    int opt, way = WAY_BOTH, cache = CACHE_COHERENT;

    while ((opt = getopt_long(argc, argv, "", list, NULL)) != -1) {
        if (opt == 'w')
            way = name_in(ways, 4, optarg);
        else if (opt == 'c')
            cache = name_in(caches, 3, optarg);
        else if (opt == 'n')
            x->ops = strtoull(optarg, NULL, 0);
        else if (opt == 's')
            x->seed = strtoull(optarg, NULL, 0);
        else if (opt == 'o')
            x->only = optarg;
        else
            return false;
    }
    /* With a cache that writes back, the mount alone may write. */
    if (optind != argc || way < 0 || cache < 0 || (way == WAY_BOTH && cache == CACHE_WRITEBACK))
        return false;
    x->way = (enum way)way;
    x->cache = (enum cache)cache;
    x->rng = x->seed;
    if (x->ops == 0)
        x->ops = ops_of_way[x->way];
    return true;
}

int main(int argc, char **argv)
{
    struct exercise *x = &exercise;
    struct timespec from;

    if (!options(x, argc, argv)) {
        fprintf(stderr, "exercise: see the head of tests/multi/exercise.c for its options\n");
        return 2;
    }
    collect(exercise_data, x->only);
    collect(exercise_shape, x->only);
    int failed = world_open(x);
    clock_gettime(CLOCK_MONOTONIC, &from);
    if (failed == 0) {
        run(x);
        report(x, seconds_since(&from));
        failed = x->failed;
        if (failed) {
            look_again(x);
            show_history(x);
        }
    }
    int closed = world_close(x);
    return failed != 0 ? failed : closed;
}
