/* SPDX-License-Identifier: MIT */
/*
 * Real deaths: processes at work in one region are killed at random, all the time, and others take their
 * places. Nobody waits for long; what somebody was told is done, is done; what somebody died in is done or
 * is not; nothing is lost, and nothing is left behind.
 *
 *   kill_storm [--seconds N] [--workers N] [--seed N] [--pace MS] [--patience MS] [--keep]
 */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "storm_ops.h"

enum { WORKERS_MAX = 64, REGION_SIZE = 64 << 20 };

struct storm storm = { .seconds = 15, .workers = 4, .pace = 6, .patience = 1000, .seed = 1 };

static struct worker *workers; /* shared with all of them */

static int complain(const char *who, const char *what)
{
    fprintf(stderr,
            "FAIL %s: %s\n  again: kill_storm --seed %" PRIu64 " --workers %u --seconds %u --pace %u\n", who,
            what, storm.seed, storm.workers, storm.seconds, storm.pace);
    return 1;
}

void storm_fail(struct worker *w, const char *format, ...)
{
    char text[sizeof(w->failure)];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    if (w->pid == 0) /* the parent itself */
        complain("the parent", text);
    memcpy(w->failure, text, sizeof(text));
    _exit(1);
}

/* ---- a worker's life ----------------------------------------------------------------------------- */

static struct shmfs *attach(struct worker *w, unsigned flags)
{
    struct shmfs_diag diag;
    struct shmfs *fs;
    char text[200];
    int r = shmfs_region_attach(storm.path, flags, &fs, &diag);

    if (r < 0)
        storm_fail(w, "%s", shmfs_diag_text(&diag, r, storm.path, text, sizeof(text)));
    return fs;
}

static __attribute__((noreturn)) void live(struct worker *w)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    storm_rng = storm.seed * 1000003 + w->id * 7919 + w->life * UINT64_C(104729);
    storm_begin(w);
    struct shmfs *fs = attach(w, 0);
    storm_end(w, 0, "attaching");
    storm_begin(w);
    const char *what = model_settle(fs, w);
    __atomic_store_n(&w->began, 0, __ATOMIC_RELEASE);
    if (what[0] != 0)
        storm_fail(w, "%s", what);
    for (;;) {
        for (int i = 0; i < 200; i++)
            storm_operate(fs, w);
        what = storm_below(8) == 0 ? model_check(fs, w) : "";
        if (what[0] != 0)
            storm_fail(w, "with nobody dead: %s", what);
        if (storm_below(10) == 0) {
            storm_begin(w);
            shmfs_region_detach(fs);
            fs = attach(w, 0);
            storm_end(w, 0, "attaching again");
        }
    }
}

static void spawn(struct worker *w)
{
    w->life++;
    w->began = 0;
    pid_t pid = fork();
    if (pid == 0) {
        w->pid = getpid();
        live(w);
    }
    if (pid < 0) {
        perror("fork");
        exit(1);
    }
    w->pid = pid;
}

/* ---- the parent ---------------------------------------------------------------------------------- */

static void prepare(void)
{
    struct shmfs_make make = {
        .size = REGION_SIZE, .max_size = REGION_SIZE, .mode = 0600, .root_mode = 0755, .force = true
    };
    struct shmfs_geometry geometry;
    struct shmfs_space space;
    struct shmfs_diag diag;
    struct shmfs_attr attr;
    uint8_t *buf = malloc(BIG_SIZE);

    snprintf(storm.path, sizeof(storm.path), "/dev/shm/shmfs-storm-%d", (int)getpid());
    if (buf == NULL || shmfs_region_make(storm.path, &make, &geometry, &diag) < 0)
        abort();
    struct shmfs *fs = attach(&workers[0], 0);
    shmfs_node_statfs(fs, &space);
    storm.free_blocks = space.free_blocks;
    storm.free_inodes = space.free_inodes;
    if (shmfs_node_mkdir(fs, SHMFS_ROOT, "shared", 0755, &storm_maker, false, &attr) < 0)
        abort();
    storm.shared = attr.ino;
    if (shmfs_node_mknod(fs, SHMFS_ROOT, "log", S_IFREG | 0644, 0, &storm_maker, false, &attr) < 0)
        abort();
    storm.log = attr.ino;
    if (shmfs_node_mknod(fs, SHMFS_ROOT, "scribble", S_IFREG | 0644, 0, &storm_maker, false, &attr) < 0)
        abort();
    storm.scribble = attr.ino;
    for (uint32_t i = 0; i < storm.workers; i++) {
        char name[32];

        snprintf(name, sizeof(name), "worker%u", i);
        if (shmfs_node_mkdir(fs, SHMFS_ROOT, name, 0755, &storm_maker, false, &attr) < 0)
            abort();
        workers[i].id = i;
        workers[i].dirs[0] = attr.ino;
        workers[i].dirs[1] = storm.shared;
        workers[i].log = storm.log;
        workers[i].big = 1;
        model_fill(1, 0, buf, BIG_SIZE);
        if (shmfs_node_mknod(fs, attr.ino, "big", S_IFREG | 0644, 0, &storm_maker, false, &attr) < 0 ||
            shmfs_node_write(fs, attr.ino, buf, BIG_SIZE, 0, 0, NULL) != BIG_SIZE)
            abort();
    }
    free(buf);
    shmfs_region_detach(fs);
}

/* Did a worker end by itself, or is it at one operation for too long? */
static int watch(struct worker *w)
{
    uint64_t began = __atomic_load_n(&w->began, __ATOMIC_ACQUIRE), now = storm_clock();
    char text[400];
    int status;

    if (w->failure[0] != 0)
        return complain("a worker", w->failure);
    if (w->pid != 0 && waitpid(w->pid, &status, WNOHANG) == w->pid) {
        snprintf(text, sizeof(text), "ended by itself, with status %#x; its last intent: '%s'", status,
                 w->intent.what);
        w->pid = 0;
        return complain("a worker", w->failure[0] != 0 ? w->failure : text);
    }
    if (began == 0 || now < began || now - began < 5 * storm_patience())
        return 0;
    snprintf(text, sizeof(text), "hangs for %" PRIu64 " ms; its last intent: '%s'", (now - began) / 1000000,
             w->intent.what);
    return complain("a worker", text);
}

static void reap(struct worker *w, int signal)
{
    if (w->pid == 0)
        return;
    kill(w->pid, signal);
    waitpid(w->pid, NULL, 0);
    w->pid = 0;
}

static int rage(uint64_t *ret_kills)
{
    uint64_t until = storm_clock() + storm.seconds * UINT64_C(1000000000);
    int failed = 0;

    for (uint32_t i = 0; i < storm.workers; i++)
        spawn(&workers[i]);
    while (storm_clock() < until && failed == 0) {
        struct timespec nap = { .tv_nsec = (long)(storm_below(storm.pace * 2000 + 1) * 1000) };
        /* Mostly one; sometimes some in a row, so that undertakers die too. */
        uint64_t n = storm_below(6) == 0 ? 1 + storm_below(storm.workers) : 1;

        uint64_t from = storm_clock();
        nanosleep(&nap, NULL);
        uint64_t over = storm_clock() - from - (uint64_t)nap.tv_nsec;
        if (over > *storm.lag)
            __atomic_store_n(storm.lag, over, __ATOMIC_RELAXED);
        for (uint32_t i = 0; i < storm.workers; i++)
            failed |= watch(&workers[i]);
        for (; n > 0 && failed == 0; n--) {
            struct worker *w = &workers[storm_below(storm.workers)];

            failed |= watch(w); /* has it ended by itself? */
            if (w->id == 0 && storm_below(100) > 0)
                continue; /* who dies every few milliseconds cannot wait for a second: one is mostly spared */
            reap(w, SIGKILL);
            ++*ret_kills;
            if (failed == 0)
                failed = watch(w); /* or just before */
            spawn(w);
        }
    }
    for (uint32_t i = 0; i < storm.workers; i++) {
        reap(&workers[i], SIGKILL);
        if (failed == 0 && workers[i].failure[0] != 0)
            failed = complain("a worker", workers[i].failure);
    }
    return failed;
}

/* ---- what is left -------------------------------------------------------------------------------- */

static void on_problem(void *arg, const struct shmfs_problem *p)
{
    fprintf(stderr, "  inode %u: %s\n", p->ino, p->text);
}

static int check(const char *when)
{
    const struct shmfs_check callbacks = { .problem = on_problem };
    struct shmfs_check_result result = { 0 };
    struct shmfs *fs = attach(&workers[0], SHMFS_ATTACH_PRIVATE);
    int r = shmfs_check_run(fs, &callbacks, &result);

    shmfs_region_detach(fs);
    return r < 0 || result.problems > 0 ? complain("the check", when) : 0;
}

static void remove_all(struct shmfs *fs, uint32_t dir)
{
    static struct shmfs_dirent list[256];
    struct shmfs_dirent e;
    int n;

    while ((n = shmfs_node_readdir(fs, dir, 2, list, 1)) == 1) {
        e = list[0];
        if (e.type == DT_DIR)
            remove_all(fs, e.ino);
        int r = e.type == DT_DIR ? shmfs_node_rmdir(fs, dir, e.name) : shmfs_node_unlink(fs, dir, e.name);
        if (r < 0) {
            fprintf(stderr, "  removing %s: %s\n", e.name, strerror(-r));
            return;
        }
    }
}

static int aftermath(void)
{
    struct shmfs_space space;
    int failed = check("after the last death");

    struct shmfs *fs = attach(&workers[0], 0);
    for (uint32_t i = 0; i < storm.workers; i++) {
        const char *what = model_settle(fs, &workers[i]);
        if (what[0] == 0)
            what = model_check(fs, &workers[i]);
        if (what[0] != 0)
            failed |= complain("what is left of a worker", what);
    }
    const char *what = model_check_log(fs, storm.log, workers, storm.workers);
    if (what[0] != 0)
        failed |= complain("the log", what);
    remove_all(fs, SHMFS_ROOT);
    shmfs_node_statfs(fs, &space);
    if (space.free_blocks != storm.free_blocks || space.free_inodes != storm.free_inodes) {
        fprintf(stderr, "  free: %" PRIu64 " of %" PRIu64 " blocks, %" PRIu64 " of %" PRIu64 " inodes\n",
                space.free_blocks, storm.free_blocks, space.free_inodes, storm.free_inodes);
        failed |= complain("leak", "not everything came back");
    }
    shmfs_region_detach(fs);
    return failed | check("after everything was removed");
}

static int options(int argc, char **argv)
{
    static const struct option list[] = {
        { "seconds", required_argument, NULL, 's' },
        { "workers", required_argument, NULL, 'w' },
        { "seed", required_argument, NULL, 'r' },
        { "pace", required_argument, NULL, 'p' },
        { "patience", required_argument, NULL, 'q' },
        { "keep", no_argument, NULL, 'k' },
        { NULL, 0, NULL, 0 },
    };
    int opt;

    while ((opt = getopt_long(argc, argv, "", list, NULL)) != -1) {
        unsigned long v = optarg != NULL ? strtoul(optarg, NULL, 0) : 0;

        if (opt == 's')
            storm.seconds = (unsigned)v;
        else if (opt == 'w')
            storm.workers = (unsigned)v;
        else if (opt == 'r')
            storm.seed = v;
        else if (opt == 'p')
            storm.pace = (unsigned)v;
        else if (opt == 'q')
            storm.patience = (unsigned)v;
        else if (opt == 'k')
            storm.keep = true;
        else
            return -1;
    }
    return optind != argc || storm.workers < 1 || storm.workers > WORKERS_MAX ? -1 : 0;
}

int main(int argc, char **argv)
{
    uint64_t kills = 0, operations = 0, slowest = 0;

    if (options(argc, argv) < 0)
        return 2;
    workers = mmap(NULL, WORKERS_MAX * sizeof(*workers) + sizeof(*storm.lag), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (workers == MAP_FAILED)
        return 1;
    storm.lag = (uint64_t *)(void *)&workers[WORKERS_MAX];
    storm_rng = storm.seed;
    prepare();
    int failed = rage(&kills);
    if (failed == 0)
        failed = aftermath();
    for (uint32_t i = 0; i < storm.workers; i++) {
        operations += workers[i].operations;
        slowest = workers[i].slowest > slowest ? workers[i].slowest : slowest;
    }
    printf("%" PRIu64 " kills among %" PRIu64
           " operations; the slowest took %.1f ms, the parent overslept by %.1f ms (seed %" PRIu64 ")\n",
           kills, operations, (double)slowest / 1e6, (double)*storm.lag / 1e6, storm.seed);
    if (storm.keep || failed != 0)
        printf("the region is left at %s\n", storm.path);
    else
        unlink(storm.path);
    return failed;
}
