/* SPDX-License-Identifier: MIT */
/*
 * Real deaths around one region: direct writers and readers (lib/shmfs.h), programs on a mount, and the
 * driver of it. One of them is killed every few milliseconds, and another takes its place; the driver is mounted
 * again. The model of storm_model.h knows what each writer was told; a program may get an error for what it does while
 * there is no driver, and that is done or is not.
 *
 *   api_storm [--seconds N] [--seed N] [--pace MS] [--patience MS] [--cache coherent|none] [--keep]
 *
 * Direct processes and programs work in directories of their own, unless the kernel keeps nothing (--cache none).
 * Needs root and /dev/fuse, and BUILD or the driver beside it.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "api_ops.h"

enum {
    WRITERS = 3,
    PROGRAMS = 2,
    READERS = 2,
    WORKERS = WRITERS + PROGRAMS + READERS,
    REGION_SIZE = 64 << 20
};

struct storm storm = { .seconds = 10, .workers = WORKERS, .pace = 8, .patience = 1000, .seed = 1 };
struct api_board *api_board;

static struct worker *workers; /* shared with all of them */
static const char *cache = "coherent";
static char mount_dir[64], driver[300];
static uint64_t kills, mounts;

/* The driver: when it was killed and when it was started, ns; or 0. */
static struct {
    pid_t pid;
    uint64_t started;
} mounted;

static int complain(const char *who, const char *what)
{
    fprintf(stderr, "FAIL %s: %s\n  again: api_storm --seed %" PRIu64 " --seconds %u --pace %u --cache %s\n",
            who, what, storm.seed, storm.seconds, storm.pace, cache);
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

static bool is_program(const struct worker *w)
{
    return w->id >= WRITERS && w->id < WRITERS + PROGRAMS;
}

static bool is_reader(const struct worker *w)
{
    return w->id >= WRITERS + PROGRAMS;
}

static const char *kind_of(const struct worker *w)
{
    return is_program(w) ? "a program on the mount" : is_reader(w) ? "a direct reader" : "a direct writer";
}

const char *api_shared(const struct worker *w)
{
    return is_program(w) && strcmp(cache, "none") != 0 ? "/mounted" : "/shared";
}

/* By the mount, the kernel says where the end is: not together with direct processes. */
const char *api_log(const struct worker *w)
{
    return is_program(w) ? "/mounted/log" : "/shared/log";
}

/* ---- a worker's life ----------------------------------------------------------------------------- */

static struct shmfs *attach(struct worker *w, unsigned flags)
{
    struct shmfs *fs;

    if (shmfs_attach(storm.path, flags, &fs) < 0)
        storm_fail(w, "%s", shmfs_attach_error());
    shmfs_umask(fs, 0);
    return fs;
}

/* What somebody died in, or got an error from, is settled with a look at the region itself. */
static void settle(struct worker *w, struct shmfs *fs)
{
    storm_begin(w);
    const char *what = model_settle(fs, w);
    storm_end(w, 0, "settling");
    if (what[0] != 0)
        storm_fail(w, "%s", what);
}

static void check_names(struct worker *w, struct shmfs *fs)
{
    const char *what = model_check(fs, w);

    if (what[0] != 0)
        storm_fail(w, "with nobody dead: %s", what);
}

static __attribute__((noreturn)) void live_direct(struct worker *w)
{
    struct face f = { .mount = mount_dir };
    unsigned flags = is_reader(w) && w->life % 2 == 1 ? SHMFS_RDONLY : 0;

    for (;;) {
        storm_begin(w);
        f.fs = attach(w, flags);
        storm_end(w, 0, "attaching");
        if (!is_reader(w))
            settle(w, f.fs);
        for (int i = 0; i < 1000; i++) {
            if (is_reader(w))
                api_look(&f, w);
            else
                api_operate(&f, w);
        }
        if (!is_reader(w))
            check_names(w, f.fs);
        storm_begin(w);
        shmfs_detach(f.fs);
        storm_end(w, 0, "detaching");
    }
}

/* Waits until the mount is there: by its own directory. */
static void await_mount(struct worker *w)
{
    char path[100];
    struct stat st;

    snprintf(path, sizeof(path), "%s/worker%u", mount_dir, w->id);
    for (uint64_t from = storm_clock(); stat(path, &st) < 0;) {
        struct timespec nap = { .tv_nsec = 2000000 };

        if (storm_clock() - from > 20 * storm_patience())
            storm_fail(w, "the mount does not come back: %s", strerror(errno));
        nanosleep(&nap, NULL);
    }
}

static __attribute__((noreturn)) void live_mounted(struct worker *w)
{
    struct face f = { .mount = mount_dir };

    for (;;) {
        await_mount(w);
        storm_begin(w);
        struct shmfs *fs = attach(w, 0);
        storm_end(w, 0, "attaching");
        settle(w, fs);
        if (storm_below(4) == 0)
            check_names(w, fs);
        shmfs_detach(fs);
        for (int i = 0; i < 300; i++) {
            if (!api_operate(&f, w))
                break;
        }
    }
}

static __attribute__((noreturn)) void live(struct worker *w)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    umask(0);
    storm_rng = storm.seed * 1000003 + w->id * 7919 + w->life * UINT64_C(104729);
    if (is_program(w))
        live_mounted(w);
    live_direct(w);
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

/* ---- the mount ----------------------------------------------------------------------------------- */

static bool is_mounted(void)
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    char line[1000], want[80];
    bool found = false;

    snprintf(want, sizeof(want), " %s ", mount_dir);
    while (f != NULL && fgets(line, sizeof(line), f) != NULL)
        found |= strstr(line, want) != NULL;
    if (f != NULL)
        fclose(f);
    return found;
}

static void driver_start(void)
{
    char options[200];

    snprintf(options, sizeof(options), "region=%s,size=64M,cache=%s", storm.path, cache);
    mounted.pid = fork();
    if (mounted.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl(driver, driver, "-f", "-o", options, mount_dir, (char *)NULL);
        fprintf(stderr, "%s: %s; name the build directory with BUILD\n", driver, strerror(errno));
        _exit(127);
    }
    mounted.started = storm_clock();
    mounts++;
}

static void driver_kill(void)
{
    if ((api_board->epoch & 1) == 0)
        __atomic_add_fetch(&api_board->epoch, 1, __ATOMIC_SEQ_CST);
    kill(mounted.pid, SIGKILL);
    waitpid(mounted.pid, NULL, 0);
    mounted.pid = 0;
    umount2(mount_dir, MNT_DETACH | UMOUNT_NOFOLLOW);
}

/* Moves on with what the driver does; 1: it does what it should not. */
static int driver_watch(void)
{
    char text[100];
    int status;

    if (mounted.pid == 0) {
        driver_start();
        return 0;
    }
    if (waitpid(mounted.pid, &status, WNOHANG) == mounted.pid) {
        mounted.pid = 0;
        snprintf(text, sizeof(text), "ended by itself, with status %#x", status);
        return complain("the driver", text);
    }
    if ((api_board->epoch & 1) != 0 && is_mounted())
        __atomic_add_fetch(&api_board->epoch, 1, __ATOMIC_SEQ_CST);
    if ((api_board->epoch & 1) != 0 && storm_clock() - mounted.started > 5 * storm_patience())
        return complain("the driver", "does not come to mount");
    return 0;
}

/* ---- the parent ---------------------------------------------------------------------------------- */

static void must(int r, const char *what)
{
    if (r < 0) {
        fprintf(stderr, "preparing: %s: %s\n", what, strerror(-r));
        exit(1);
    }
}

static uint32_t ino_of(struct shmfs *fs, const char *path)
{
    struct stat st;

    must(shmfs_stat(fs, path, &st), path);
    return (uint32_t)st.st_ino;
}

static void prepare(void)
{
    struct shmfs_make make = {
        .size = REGION_SIZE, .max_size = REGION_SIZE, .mode = 0600, .root_mode = 0755, .force = true
    };
    struct shmfs_geometry geometry;
    struct shmfs_space space;
    struct shmfs_diag diag;
    char path[64];

    must(shmfs_region_make(storm.path, &make, &geometry, &diag), storm.path);
    struct shmfs *fs = attach(&workers[0], 0);
    const struct face f = { .fs = fs };
    shmfs_node_statfs(fs, &space);
    storm.free_blocks = space.free_blocks;
    storm.free_inodes = space.free_inodes;
    must(face_mkdir(&f, "/shared", 0755), "mkdir");
    must(face_mkdir(&f, "/mounted", 0755), "mkdir");
    must(face_make(&f, "/shared/log", 0644), "make");
    must(face_make(&f, "/mounted/log", 0644), "make");
    for (uint32_t i = 0; i < WORKERS; i++) {
        struct worker *w = &workers[i];

        w->id = i;
        snprintf(path, sizeof(path), "/worker%u", i);
        must(face_mkdir(&f, path, 0755), "mkdir");
        w->dirs[0] = ino_of(fs, path);
        w->dirs[1] = ino_of(fs, api_shared(w));
        w->log = ino_of(fs, api_log(w));
    }
    shmfs_detach(fs);
}

/* Did a worker end by itself, or is it at one operation for too long? */
static int watch(struct worker *w)
{
    uint64_t began = __atomic_load_n(&w->began, __ATOMIC_ACQUIRE), now = storm_clock();
    bool away = is_program(w) && (api_board->epoch & 1) != 0;
    char text[400];
    int status;

    if (w->failure[0] != 0)
        return complain(kind_of(w), w->failure);
    if (w->pid != 0 && waitpid(w->pid, &status, WNOHANG) == w->pid) {
        snprintf(text, sizeof(text), "%u ended by itself, with status %#x; its last intent: '%s'", w->id,
                 status, w->intent.what);
        w->pid = 0;
        return complain(kind_of(w), w->failure[0] != 0 ? w->failure : text);
    }
    if (began == 0 || away || now < began || now - began < 2 * storm_patience())
        return 0;
    snprintf(text, sizeof(text), "%u hangs for %" PRIu64 " ms; its last intent: '%s'", w->id,
             (now - began) / 1000000, w->intent.what);
    return complain(kind_of(w), text);
}

static void reap(struct worker *w)
{
    if (w->pid == 0)
        return;
    kill(w->pid, SIGKILL);
    waitpid(w->pid, NULL, 0);
    w->pid = 0;
}

/* Who dies every few milliseconds cannot wait for a second: the first of each kind is mostly spared. */
static bool is_elder(const struct worker *w)
{
    return w->id == 0 || w->id == WRITERS || w->id == WRITERS + PROGRAMS;
}

static int kill_one(void)
{
    uint64_t n = storm_below(WORKERS * 4 + 1);
    struct worker *w = &workers[n % WORKERS];

    if (n == WORKERS * 4) {
        if ((api_board->epoch & 1) == 0 || storm_below(4) == 0) { /* sometimes while it mounts */
            kills++;
            driver_kill();
        }
        return 0;
    }
    int failed = watch(w); /* has it ended by itself? */
    if (is_elder(w) && storm_below(100) > 0)
        return failed;
    reap(w);
    kills++;
    if (failed == 0)
        failed = watch(w); /* or just before */
    spawn(w);
    return failed;
}

static struct shmfs *attach_as(unsigned flags)
{
    struct shmfs_diag diag;
    struct shmfs *fs;
    char text[200];
    int r = shmfs_region_attach(storm.path, flags, &fs, &diag);

    if (r < 0)
        storm_fail(&workers[0], "%s", shmfs_diag_text(&diag, r, storm.path, text, sizeof(text)));
    return fs;
}

/* *ret_fs: attached while they still live. */
static int rage(struct shmfs **ret_fs)
{
    uint64_t until = storm_clock() + storm.seconds * UINT64_C(1000000000);
    int failed = 0;

    for (uint32_t i = 0; i < WORKERS; i++)
        spawn(&workers[i]);
    while (storm_clock() < until && failed == 0) {
        struct timespec nap = { .tv_nsec = (long)(storm_below(storm.pace * 2000 + 1) * 1000) };
        uint64_t from = storm_clock();

        nanosleep(&nap, NULL);
        uint64_t over = storm_clock() - from - (uint64_t)nap.tv_nsec;
        if (over > *storm.lag)
            __atomic_store_n(storm.lag, over, __ATOMIC_RELAXED);
        for (uint32_t i = 0; i < WORKERS; i++)
            failed |= watch(&workers[i]);
        failed |= driver_watch();
        if (failed == 0)
            failed = kill_one();
    }
    if (failed == 0)
        *ret_fs = attach_as(0);
    if (mounted.pid != 0)
        driver_kill(); /* first: who waits for it can be killed then */
    for (uint32_t i = 0; i < WORKERS; i++) {
        reap(&workers[i]);
        if (failed == 0 && workers[i].failure[0] != 0)
            failed = complain(kind_of(&workers[i]), workers[i].failure);
    }
    return failed;
}

/* ---- what is left -------------------------------------------------------------------------------- */

static void on_problem(void *arg, const struct shmfs_problem *p)
{
    (void)arg;
    fprintf(stderr, "  inode %u: %s\n", p->ino, p->text);
}

static int check(struct shmfs *fs, const char *when)
{
    const struct shmfs_check callbacks = { .problem = on_problem };
    struct shmfs_check_result result = { 0 };
    int r = shmfs_check_run(fs, &callbacks, &result);

    return r < 0 || result.problems > 0 ? complain("the check", when) : 0;
}

/* All others are dead. Who was there before that buries them: who comes after may do it in another way. */
static int bury(struct shmfs *fs)
{
    struct shmfs_process process;
    struct shmfs_lock lock;
    uint32_t cursor = 0, n = 0;
    uint64_t locks = 0;
    int r = shmfs_region_tend(fs);

    while (shmfs_region_next_process(fs, &cursor, &process) == 1)
        n++;
    if (r < 0 || n != 1)
        return complain("burial", r < 0 ? strerror(-r) : "there are processes left");
    if (shmfs_region_next_lock(fs, &locks, &lock) == 1)
        return complain("burial", "there are locks left");
    if (check(fs, "after the last burial") != 0)
        return 1;
    /* As a driver: what only the last mount kept is given back then. */
    shmfs_region_detach(attach_as(SHMFS_ATTACH_DRIVER));
    return check(fs, "after the last mount");
}

static void remove_all(struct shmfs *fs, uint32_t dir)
{
    struct shmfs_dirent e;

    while (shmfs_node_readdir(fs, dir, 2, &e, 1) == 1) {
        if (e.type == DT_DIR)
            remove_all(fs, e.ino);
        int r = e.type == DT_DIR ? shmfs_node_rmdir(fs, dir, e.name) : shmfs_node_unlink(fs, dir, e.name);
        if (r < 0) {
            fprintf(stderr, "  removing %s: %s\n", e.name, strerror(-r));
            return;
        }
    }
}

static int compare(struct shmfs *fs)
{
    static const char *const logs[] = { "log of direct writers", "log of programs" };
    uint32_t inos[] = { workers[0].log, workers[WRITERS].log };
    int failed = 0;

    for (uint32_t i = 0; i < WORKERS; i++) {
        const char *what = model_settle(fs, &workers[i]);
        if (what[0] == 0)
            what = model_check(fs, &workers[i]);
        if (what[0] != 0)
            failed |= complain(kind_of(&workers[i]), what);
    }
    for (size_t i = 0; i < 2; i++) {
        const char *what = model_check_log(fs, inos[i], workers, WORKERS);
        if (what[0] != 0)
            failed |= complain(logs[i], what);
    }
    return failed;
}

static int aftermath(struct shmfs *fs)
{
    struct shmfs_space space;
    int failed = bury(fs);

    failed |= compare(fs);
    remove_all(fs, SHMFS_ROOT);
    shmfs_node_statfs(fs, &space);
    if (space.free_blocks != storm.free_blocks || space.free_inodes != storm.free_inodes) {
        fprintf(stderr, "  free: %" PRIu64 " of %" PRIu64 " blocks, %" PRIu64 " of %" PRIu64 " inodes\n",
                space.free_blocks, storm.free_blocks, space.free_inodes, storm.free_inodes);
        failed |= complain("leak", "not everything came back");
    }
    shmfs_region_detach(fs);
    fs = attach_as(SHMFS_ATTACH_PRIVATE);
    failed |= check(fs, "after everything was removed");
    shmfs_region_detach(fs);
    return failed;
}

static int options(int argc, char **argv)
{
    static const struct option list[] = {
        { "seconds", required_argument, NULL, 's' },
        { "seed", required_argument, NULL, 'r' },
        { "pace", required_argument, NULL, 'p' },
        { "patience", required_argument, NULL, 'q' },
        { "cache", required_argument, NULL, 'c' },
        { "keep", no_argument, NULL, 'k' },
        { NULL, 0, NULL, 0 },
    };
    int opt;

    while ((opt = getopt_long(argc, argv, "", list, NULL)) != -1) {
        unsigned long v = optarg != NULL ? strtoul(optarg, NULL, 0) : 0;

        if (opt == 's')
            storm.seconds = (unsigned)v;
        else if (opt == 'r')
            storm.seed = v;
        else if (opt == 'p')
            storm.pace = (unsigned)v;
        else if (opt == 'q')
            storm.patience = (unsigned)v;
        else if (opt == 'c')
            cache = optarg;
        else if (opt == 'k')
            storm.keep = true;
        else
            return -1;
    }
    return optind == argc ? 0 : -1;
}

/* Memory that all share, and where everything lies. False: programs cannot be tested here. */
static bool set_up(void)
{
    const char *build = getenv("BUILD");
    size_t n = WORKERS * sizeof(*workers) + sizeof(*storm.lag) + sizeof(*api_board);

    if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) < 0) {
        fprintf(stderr, "api_storm: needs root and /dev/fuse to mount\n");
        return false;
    }
    workers = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (workers == MAP_FAILED)
        return false;
    storm.lag = (uint64_t *)(void *)&workers[WORKERS];
    api_board = (struct api_board *)(void *)(storm.lag + 1);
    api_board->epoch = 1;
    storm_rng = storm.seed;
    snprintf(driver, sizeof(driver), "%s/fs/shmfs", build != NULL ? build : "build");
    snprintf(storm.path, sizeof(storm.path), "/dev/shm/shmfs-api-storm-%d", (int)getpid());
    snprintf(mount_dir, sizeof(mount_dir), "/tmp/shmfs-api-storm-%d", (int)getpid());
    return mkdir(mount_dir, 0755) == 0;
}

/* The parent itself hangs: what it started ends with it, but for the mount. */
static void on_alarm(int number)
{
    static const char text[] = "FAIL the parent hangs\n";
    ssize_t n = write(STDERR_FILENO, text, sizeof(text) - 1);

    (void)number;
    (void)n;
    umount2(mount_dir, MNT_DETACH | UMOUNT_NOFOLLOW);
    rmdir(mount_dir);
    _exit(1);
}

int main(int argc, char **argv)
{
    uint64_t operations[2] = { 0 }, slowest[2] = { 0 };

    if (options(argc, argv) < 0)
        return 2;
    if (!set_up())
        return 77;
    signal(SIGALRM, on_alarm);
    alarm(2 * storm.seconds + 60);
    prepare();
    struct shmfs *fs = NULL;
    int failed = rage(&fs);
    if (failed == 0)
        failed = aftermath(fs);
    rmdir(mount_dir);
    for (uint32_t i = 0; i < WORKERS; i++) {
        bool program = is_program(&workers[i]);

        operations[program] += workers[i].operations;
        if (workers[i].slowest > slowest[program])
            slowest[program] = workers[i].slowest;
    }
    printf("%" PRIu64 " kills, %" PRIu64 " mounts; %" PRIu64
           " operations by direct processes, the slowest took %.1f ms; "
           "%" PRIu64 " by programs, %.1f ms, besides %" PRIu64
           " errors without a driver; the parent overslept by "
           "%.1f ms (seed %" PRIu64 ")\n",
           kills, mounts, operations[0], (double)slowest[0] / 1e6, operations[1], (double)slowest[1] / 1e6,
           api_board->excused, (double)*storm.lag / 1e6, storm.seed);
    if (storm.keep || failed != 0)
        printf("the region is left at %s\n", storm.path);
    else
        unlink(storm.path);
    return failed;
}
