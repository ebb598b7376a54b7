/* SPDX-License-Identifier: MIT */
/*
 * Two processes, each on a CPU and in a directory of its own, against one. A round is: the first alone,
 * both, the second alone; who is not at work sleeps. What counts is the speed of each while both are at
 * work, by its speed alone, summed: 2 where neither is in the other's way.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "direct.h"

enum { WORKERS = 2, FIRST = 0, BOTH = 1, SECOND = 2 };

struct pair_op {
    const char *name;
    const struct op *op;
    unsigned batches; /* of the operation in one of ours: more than a wake-up may disturb */
    double target;
};

/* What the processes share; they go through the same measurements in step. */
struct shared {
    pthread_barrier_t barrier;
    atomic_uint arrived;
    uint64_t alone[WORKERS], both[WORKERS];
    bool disturbed[WORKERS];
    unsigned repeated;
    double ratio[ROUNDS_MAX];
    struct spread result[LINES_MAX][SIDES];
};

struct worker {
    struct shared *shared;
    unsigned id, meetings;
};

static volatile uint64_t computed;

/*
 * What the machine gives to two at once. Nothing is shared and nothing waits: CPUs that are two threads
 * of one core show here that they are.
 */
static void compute(struct bench *b, unsigned n)
{
    const uint64_t *p = (const uint64_t *)(const void *)b->buf;
    uint64_t sum[4] = { 0 };

    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = 0; k < BLOCK / sizeof(*p); k += 4) {
            sum[0] = (sum[0] ^ p[k]) + i;
            sum[1] = (sum[1] ^ p[k + 1]) + i;
            sum[2] = (sum[2] ^ p[k + 2]) + i;
            sum[3] = (sum[3] ^ p[k + 3]) + i;
        }
    }
    computed = sum[0] + sum[1] + sum[2] + sum[3];
}

static const struct op op_compute = {
    .name = "compute",
    .what = "computing, nothing shared: what the machine gives",
    .count = NAMES,
    .run = { NULL, compute },
    .repeats = true,
};

static const struct pair_op *pair_ops(void)
{
    static struct pair_op ops[] = {
        { .name = "compute-2", .batches = 4 },
        { .name = "churn-2", .batches = 1, .target = 1.8 },
        { .name = "stat-2", .batches = 4, .target = 1.8 },
        { .name = "write-4k-2", .batches = 2, .target = 1.8 },
        { .name = NULL },
    };

    ops[0].op = &op_compute;
    ops[1].op = op_find("churn");
    ops[2].op = op_find("stat");
    ops[3].op = op_find("write-4k");
    return ops;
}

/* Both processes leave this at once: the sleepers' wake-ups are over before. */
static void meet(void *arg)
{
    struct worker *w = arg;
    unsigned all = ++w->meetings * WORKERS;

    pthread_barrier_wait(&w->shared->barrier);
    atomic_fetch_add(&w->shared->arrived, 1);
    while (atomic_load(&w->shared->arrived) < all)
        ;
}

/* Whether it counts: nobody lost the CPU. */
static bool one_round(struct worker *w, struct bench *b, const struct pair_op *pair, enum side side)
{
    struct shared *shared = w->shared;
    unsigned count = pair->op->count * pair->batches;

    b->disturbed = false;
    for (unsigned part = FIRST; part <= SECOND; part++) {
        if (part == BOTH)
            shared->both[w->id] = batch(pair->op, b, side, count, meet, w);
        else if (w->id == (part == FIRST ? 0 : 1))
            shared->alone[w->id] = batch(pair->op, b, side, count, NULL, NULL);
        shared->disturbed[w->id] = b->disturbed;
        pthread_barrier_wait(&shared->barrier);
    }
    return !shared->disturbed[0] && !shared->disturbed[1];
}

/* Each by its own speed alone, for the two need not be equally fast. */
static double gain(const struct shared *shared)
{
    double sum = 0;

    for (unsigned i = 0; i < WORKERS; i++)
        sum += (double)shared->alone[i] / (double)shared->both[i];
    return sum;
}

/* One side; both processes count alike. */
static void measure_side(struct worker *w, struct bench *b, const struct pair_op *pair, enum side side,
                         unsigned rounds)
{
    struct shared *shared = w->shared;
    unsigned disturbed = 0;

    one_round(w, b, pair, side); /* warms up */
    for (unsigned i = 0; i < rounds;) {
        bool counts = one_round(w, b, pair, side);

        if (counts || disturbed == PATIENCE * rounds) {
            if (w->id == 0)
                shared->ratio[i] = gain(shared);
            i++;
        } else {
            disturbed++;
        }
        pthread_barrier_wait(&shared->barrier); /* before the times are written again */
    }
    if (w->id == 0)
        shared->repeated += disturbed;
}

static void measure_pair(struct worker *w, struct bench *b, const struct pair_op *pair, unsigned rounds,
                         struct spread ret[SIDES])
{
    both_sides(b, pair->op->prep);
    for (enum side side = 0; side < SIDES; side++) {
        if (!pair->op->run[side])
            continue;
        measure_side(w, b, pair, side, rounds);
        if (w->id == 0)
            ret[side] = spread_of(w->shared->ratio, rounds);
    }
    both_sides(b, pair->op->clean);
}

_Noreturn static void work(struct worker *w, const char *region, const char *dir, int cpu, unsigned rounds)
{
    static const char *const prefixes[WORKERS] = { "left/", "right/" };
    static const char *const own[WORKERS] = { "left", "right" };
    struct bench b;
    unsigned n = 0;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pin(cpu);
    bench_open(&b, region, dir, prefixes[w->id]);
    for (enum side side = 0; side < SIDES; side++)
        make_directory(&b, side, own[w->id]);
    for (const struct pair_op *pair = pair_ops(); pair->name; pair++) {
        if (wanted(pair->name))
            measure_pair(w, &b, pair, rounds, w->shared->result[n++]);
    }
    for (enum side side = 0; side < SIDES; side++)
        remove_directory(&b, side, own[w->id]);
    bench_close(&b);
    exit(0);
}

/* One that fails takes the other, who would wait for it, with it. */
static void wait_for(const pid_t pids[WORKERS])
{
    for (unsigned i = 0; i < WORKERS; i++) {
        int status;
        pid_t pid = wait(&status);

        if (pid < 0 || status != 0) {
            kill(pids[pid == pids[0] ? 1 : 0], SIGKILL);
            die(0, "one of two processes has failed (status 0x%x)", (unsigned)status);
        }
    }
}

static struct shared *share(void)
{
    struct shared *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_barrierattr_t attr;

    if (shared == MAP_FAILED)
        die(errno, "mmap");
    pthread_barrierattr_init(&attr);
    pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&shared->barrier, &attr, WORKERS);
    return shared;
}

void pairs_measure(const char *region, const char *dir, const int cpus[2], struct report *report)
{
    struct shared *shared = share();
    struct worker workers[WORKERS];
    pid_t pids[WORKERS];
    unsigned n = 0;

    fflush(stdout);
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){ .shared = shared, .id = i };
        pids[i] = fork();
        if (pids[i] < 0)
            die(errno, "fork");
        if (pids[i] == 0)
            work(&workers[i], region, dir, cpus[i], report->rounds);
    }
    wait_for(pids);
    report->repeated += shared->repeated;
    for (const struct pair_op *pair = pair_ops(); pair->name; pair++) {
        struct line *line;

        if (!wanted(pair->name))
            continue;
        line = report_add(report, pair->op, pair->name, true);
        line->target = pair->target;
        for (enum side side = 0; side < SIDES; side++)
            line->ratio[side] = shared->result[n][side];
        n++;
    }
    munmap(shared, sizeof(*shared));
}
