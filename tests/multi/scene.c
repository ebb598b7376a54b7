/* SPDX-License-Identifier: MIT */
#include "scene.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct board *board;
char scene_path[64];

static double seconds = 2;
static const struct scene_client *client;

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

void fail(const char *format, ...)
{
    char text[sizeof(board->failure)];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    if (__atomic_exchange_n(&board->stop, 1, __ATOMIC_ACQ_REL) != 1) /* the first */
        memcpy(board->failure, text, sizeof(text));
}

void must(long r, const char *what)
{
    if (r < 0)
        fail("%s gave %s", what, strerror((int)-r));
}

void stamp(uint64_t *buf, size_t n, uint64_t value)
{
    for (size_t i = 0; i < n / 8; i++)
        buf[i] = value + i;
}

void stamp_check(const uint64_t *buf, size_t n, const char *what)
{
    for (size_t i = 1; i < n / 8; i++) {
        if (buf[i] == buf[0] + i)
            continue;
        fail("%s: word %zu is of write %" PRIx64 ", the first of %" PRIx64, what, i, buf[i] - i, buf[0]);
        return;
    }
}

static struct shmfs *attach(bool reads, unsigned number)
{
    struct shmfs *fs = client->attach(reads, number);

    if (fs == NULL)
        exit(1);
    return fs;
}

static __attribute__((noreturn)) void part(void (*turn)(struct shmfs *, unsigned, uint64_t), bool reads,
                                           unsigned number)
{
    uint64_t i = 0;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct shmfs *fs = attach(reads, number);
    for (; __atomic_load_n(&board->stop, __ATOMIC_ACQUIRE) == 0; i++)
        turn(fs, number, i);
    client->detach(fs);
    __atomic_add_fetch(reads ? &board->reads : &board->writes, i, __ATOMIC_RELAXED);
    exit(0);
}

static void on_problem(void *arg, const struct shmfs_problem *p)
{
    (void)arg;
    fprintf(stderr, "  inode %u: %s\n", p->ino, p->text);
}

static void finish(const struct scene *s)
{
    const struct shmfs_check callbacks = { .problem = on_problem };
    struct shmfs_check_result result = { 0 };
    struct shmfs_diag diag;
    struct shmfs *fs = attach(false, 0);

    if (s->after != NULL)
        s->after(fs);
    client->detach(fs);
    if (shmfs_region_attach(scene_path, SHMFS_ATTACH_PRIVATE, &fs, &diag) < 0) {
        fail("attaching privately");
        return;
    }
    if (shmfs_check_run(fs, &callbacks, &result) < 0 || result.problems > 0)
        fail("the check finds problems");
    shmfs_region_detach(fs);
}

static unsigned start(const struct scene *s, pid_t *pids)
{
    unsigned n = 0;

    fflush(stdout);
    for (; n < s->writers + s->readers; n++) {
        bool reads = n >= s->writers;

        pids[n] = fork();
        if (pids[n] == 0)
            part(reads ? s->read : s->write, reads, reads ? n - s->writers : n);
    }
    return n;
}

static int play(const struct scene *s)
{
    struct shmfs_make region = {
        .size = 16 << 20, .max_size = 16 << 20, .mode = 0600, .root_mode = 0755, .force = true
    };
    struct shmfs_geometry geometry;
    struct shmfs_diag diag;
    pid_t pids[SCENE_PARTS_MAX];
    int status, running = 0;

    alarm((unsigned)seconds * 5 + 60); /* a hang: the others go with us */
    memset(board, 0, sizeof(*board));
    if (shmfs_region_make(scene_path, &region, &geometry, &diag) < 0)
        abort();
    struct shmfs *fs = attach(false, 0);
    s->prepare(fs);
    client->detach(fs);
    unsigned n = start(s, pids);
    for (double until = now() + seconds; now() < until && board->stop == 0;)
        usleep(10000);
    __atomic_compare_exchange_n(&board->stop, &running, 2, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    for (unsigned i = 0; i < n; i++)
        if (waitpid(pids[i], &status, 0) == pids[i] && status != 0)
            fail("a process ended with status %#x", status);
    board->stop = board->failure[0] != 0;
    finish(s);
    printf("%-11s %9" PRIu64 " writes, %9" PRIu64 " reads", s->name, board->writes, board->reads);
    if (board->others > 0)
        printf(", %" PRIu64 " others", board->others);
    printf("%s%s\n", board->failure[0] != 0 ? "  FAILED: " : "", board->failure);
    return board->failure[0] != 0;
}

int scene_main(int argc, char **argv, const struct scene_client *how, const struct scene *scenes, size_t n)
{
    int failed = 0;

    client = how;
    if (argc == 3 && strcmp(argv[1], "--seconds") == 0)
        seconds = atof(argv[2]);
    else if (argc != 1)
        return 2;
    board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        return 1;
    snprintf(scene_path, sizeof(scene_path), "/dev/shm/shmfs-scene-%d", (int)getpid());
    for (size_t i = 0; i < n; i++)
        failed |= play(&scenes[i]);
    unlink(scene_path);
    return failed;
}
