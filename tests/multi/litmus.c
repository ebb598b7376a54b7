/* SPDX-License-Identifier: MIT */
/*
 * What one call returned is seen by every later call, through the mount or directly, whoever made it (P3): also by
 * those whose answers the kernel has cached. Teams of processes go through rounds. In each, the readers look at
 * something by both sides, so that whatever can be cached is; one of them changes it by one side; and when that call has
 * returned, a token goes to the readers, who must see the change by both sides at once. Kinds of changes are in
 * litmus_names.c, litmus_attrs.c, litmus_data.c, litmus_lists.c; in litmus_races.c they look while it changes.
 *
 *   litmus [--cache coherent|none|writeback] [--seconds N] [--rounds N] [--seed N] [--only KIND[,KIND...]]
 *          [--except KIND[,KIND...]] [--teams N] [--actors N] [--driver-option OPT] [--list]
 *          [--preload LIBRARY --forget LEASES]
 *
 * --rounds: of all teams together. --forget: with forget_lease.c preloaded, the driver is broken, and must be seen to be. With --cache writeback the writers call fsync. Needs root and /dev/fuse, and BUILD
 * or the driver in build/.
 */
#include "litmus.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { HANG_SECONDS = 20, MOUNT_SECONDS = 20 };

struct litmus_run run = { .seed = 1, .rounds = UINT64_MAX, .teams = 4, .actors = 3, .cache = "coherent" };

static unsigned seconds = 10;
static const char *only, *except, *driver_option = "", *preload, *forget;
static char build[200], log_path[LITMUS_PATH + 10];
static pid_t driver;

static void pause_ms(long ms)
{
    struct timespec t = { .tv_nsec = ms * 1000000 };

    nanosleep(&t, NULL);
}

static int complain(const char *who, const char *what)
{
    fprintf(stderr, "FAIL %s: %s\n", who, what);
    return 1;
}

/* ---- kinds --------------------------------------------------------------------------------------- */

/* Is it one of these, or does it begin as one that ends in "*"? */
static bool is_named(const char *list, const char *name)
{
    for (const char *p = list; p != NULL && *p != 0;
         p += p[strcspn(p, ",")] != 0 ? strcspn(p, ",") + 1 : strlen(p)) {
        size_t n = strcspn(p, ",");

        if (n > 0 && p[n - 1] == '*' ? strncmp(p, name, n - 1) == 0
                                     : strlen(name) == n && strncmp(p, name, n) == 0)
            return true;
    }
    return false;
}

static void collect_kinds(void)
{
    const struct litmus_kind *const tables[] = { litmus_names, litmus_attrs, litmus_data, litmus_lists,
                                                 litmus_races };

    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        for (const struct litmus_kind *k = tables[i]; k->name != NULL; k++) {
            run.all[run.nall++] = k;
            if ((only != NULL && !is_named(only, k->name)) || is_named(except, k->name))
                continue;
            run.kinds[run.nkinds++] = k;
            run.total_weight += k->weight;
        }
    }
}

/* ---- the mount ----------------------------------------------------------------------------------- */

static bool is_mounted(void)
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    char line[1000], want[LITMUS_PATH + 4];
    bool found = false;

    snprintf(want, sizeof(want), " %s ", run.mount);
    while (f != NULL && fgets(line, sizeof(line), f) != NULL)
        found |= strstr(line, want) != NULL;
    if (f != NULL)
        fclose(f);
    return found;
}

static pid_t start(const char *program, const char *const argv[])
{
    pid_t pid = fork();

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (freopen(log_path, "a", stderr) == NULL || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
            _exit(126);
        if (preload != NULL && forget != NULL &&
            (setenv("LD_PRELOAD", preload, 1) < 0 || setenv("FORGET", forget, 1) < 0))
            _exit(126);
        execv(program, (char *const *)(uintptr_t)argv);
        fprintf(stderr, "%s: %s; name the build directory with BUILD\n", program, strerror(errno));
        _exit(127);
    }
    return pid;
}

static bool has_ended(pid_t pid)
{
    int status;

    return waitpid(pid, &status, WNOHANG) == pid;
}

static int driver_start(void)
{
    char program[220], options[300];

    snprintf(program, sizeof(program), "%s/fs/shmfs", build);
    snprintf(options, sizeof(options), "region=%s,size=512M,cache=%s%s%s", run.region, run.cache,
             driver_option[0] != 0 ? "," : "", driver_option);
    const char *const argv[] = { program, "-f", "-o", options, run.mount, NULL };
    driver = start(program, argv);
    for (uint64_t from = litmus_clock(); !is_mounted(); pause_ms(2)) {
        if (has_ended(driver)) {
            driver = 0;
            return complain("the driver", "ended instead of mounting");
        }
        if (litmus_clock() - from > MOUNT_SECONDS * UINT64_C(1000000000))
            return complain("the driver", "does not come to mount");
    }
    return 0;
}

/* 0: it ended by itself, and well. */
static int driver_stop(void)
{
    int status = -1;

    if (driver == 0)
        return 1;
    if (umount2(run.mount, UMOUNT_NOFOLLOW) < 0) {
        complain("umount", strerror(errno));
        kill(driver, SIGKILL);
        umount2(run.mount, MNT_DETACH | UMOUNT_NOFOLLOW);
    }
    for (uint64_t from = litmus_clock(); waitpid(driver, &status, WNOHANG) == 0; pause_ms(2)) {
        if (litmus_clock() - from > HANG_SECONDS * UINT64_C(1000000000)) {
            complain("the driver", "is still there after umount");
            kill(driver, SIGKILL);
            waitpid(driver, &status, 0);
            break;
        }
    }
    driver = 0;
    return status == 0 ? 0 : complain("the driver", "ended badly");
}

static int check_region(void)
{
    char program[220];
    int status = -1;

    snprintf(program, sizeof(program), "%s/tools/fsck.shmfs", build);
    const char *const argv[] = { program, "-n", run.region, NULL };
    waitpid(start(program, argv), &status, 0);
    return status == 0 ? 0 : complain("fsck.shmfs -n", "finds something wrong");
}

/* What the driver and the check said. */
static void show_log(void)
{
    FILE *f = fopen(log_path, "re");
    char line[500];

    for (unsigned i = 0; f != NULL && i < 60 && fgets(line, sizeof(line), f) != NULL; i++)
        fprintf(stderr, "  %s", line);
    if (f != NULL)
        fclose(f);
}

/* ---- actors -------------------------------------------------------------------------------------- */

/* Directly, before anybody has looked. */
static int prepare(void)
{
    struct face f = { 0 };
    static char page[8192];
    char path[20];

    if (shmfs_attach(run.region, 0, &f.fs) < 0)
        return complain("attaching", shmfs_attach_error());
    shmfs_umask(f.fs, 0);
    int r = face_mkdir(&f, "/all", 0755);
    for (unsigned i = 0; i < run.teams && r == 0; i++) {
        snprintf(path, sizeof(path), "/t%u", i);
        r = face_mkdir(&f, path, 0755);
    }
    if (r == 0)
        r = face_make(&f, "/slots", 0644);
    if (r == 0)
        r = (int)face_write(&f, "/slots", page, sizeof(page), 0, false);
    shmfs_detach(f.fs);
    return r < 0 ? complain("preparing", strerror(-r)) : 0;
}

static int spawn(uint32_t team, uint32_t id)
{
    struct litmus_actor *a = &run.board->teams[team].actors[id];

    a->beat = litmus_clock();
    a->doing = a->kind = "";
    pid_t pid = fork(); /* the board is the child's, too */
    if (pid == 0) {
        umask(0);
        litmus_live(team, id);
    }
    if (pid < 0)
        return complain("fork", strerror(errno));
    a->pid = pid;
    return 0;
}

static int spawn_all(void)
{
    for (uint32_t t = 0; t < run.teams; t++) {
        for (uint32_t i = 0; i < run.actors; i++) {
            if (pipe(run.inbox[t][i]) < 0)
                return complain("pipe", strerror(errno));
        }
    }
    for (uint32_t t = 0; t < run.teams; t++) {
        for (uint32_t i = 0; i < run.actors; i++) {
            if (spawn(t, i) != 0)
                return 1;
        }
    }
    return 0;
}

static void name_actor(uint32_t team, uint32_t id, const char *what)
{
    const struct litmus_actor *a = &run.board->teams[team].actors[id];
    char path[40], line[200];

    fprintf(stderr, "FAIL team %u actor %u (pid %d), round %" PRIu64 " (%s), %s: %s\n", team, id, (int)a->pid,
            a->round, a->kind, a->doing, what);
    snprintf(path, sizeof(path), "/proc/%d/stack", (int)a->pid);
    FILE *f = fopen(path, "re");
    for (unsigned i = 0; f != NULL && i < 6 && fgets(line, sizeof(line), f) != NULL; i++)
        fprintf(stderr, "    %s", line);
    if (f != NULL)
        fclose(f);
}

/* Those who wait for tokens are named only if nobody else is to blame. */
static int watch(void)
{
    uint64_t now = litmus_clock(), late = HANG_SECONDS * UINT64_C(1000000000);
    int failed = 0;

    for (unsigned waiting = 0; waiting < 2 && failed == 0; waiting++) {
        for (uint32_t t = 0; t < run.teams; t++) {
            for (uint32_t i = 0; i < run.actors; i++) {
                const struct litmus_actor *a = &run.board->teams[t].actors[i];
                uint64_t beat = __atomic_load_n(&a->beat, __ATOMIC_ACQUIRE);

                if (a->pid == 0 || beat + late > now || (strstr(a->doing, "waiting") != NULL) != waiting)
                    continue;
                name_actor(t, i, "makes no progress for 20 s");
                failed = 1;
            }
        }
    }
    return failed;
}

/* Takes notice of those that have ended; 1: badly. */
static int reap(unsigned *left)
{
    int failed = 0, status;

    for (uint32_t t = 0; t < run.teams; t++) {
        for (uint32_t i = 0; i < run.actors; i++) {
            struct litmus_actor *a = &run.board->teams[t].actors[i];

            if (a->pid == 0 || waitpid(a->pid, &status, WNOHANG) != a->pid)
                continue;
            if (status != 0) {
                name_actor(t, i, WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "ended with an error");
                failed = 1;
            }
            a->pid = 0;
            --*left;
        }
    }
    return failed;
}

/* A process in a request that the driver does not answer dies only with that: so the driver goes first. */
static void end_all(void)
{
    if (driver != 0)
        kill(driver, SIGKILL);
    for (uint32_t t = 0; t < run.teams; t++) {
        for (uint32_t i = 0; i < run.actors; i++) {
            struct litmus_actor *a = &run.board->teams[t].actors[i];

            if (a->pid == 0)
                continue;
            kill(a->pid, SIGKILL);
            waitpid(a->pid, NULL, 0);
            a->pid = 0;
        }
    }
}

static int supervise(void)
{
    unsigned left = run.teams * run.actors;
    int failed = spawn_all();

    while (left > 0 && failed == 0) {
        pause_ms(5);
        failed = reap(&left);
        if (failed == 0 && has_ended(driver)) {
            driver = 0;
            failed = complain("the driver", "ended by itself");
        }
        if (failed == 0)
            failed = watch();
    }
    if (failed != 0)
        end_all();
    return failed;
}

/* ---- what came out ------------------------------------------------------------------------------- */

static uint64_t report(double took)
{
    uint64_t rounds = 0, stale = 0;

    printf("%-16s %12s %8s   %12s %8s\n", "kind", "by the mount", "stale", "directly", "stale");
    for (unsigned i = 0; i < run.nall; i++) {
        const struct litmus_count *c = run.board->counts[i];

        if (c[0].rounds + c[1].rounds + c[0].stale + c[1].stale == 0)
            continue;
        printf("%-16s %12" PRIu64 " %8" PRIu64 "   %12" PRIu64 " %8" PRIu64 "\n", run.all[i]->name,
               c[0].rounds, c[0].stale, c[1].rounds, c[1].stale);
        rounds += c[0].rounds + c[1].rounds;
        stale += c[0].stale + c[1].stale;
    }
    if (stale > 0)
        printf("of those looked at again, %" PRIu64 " were right after 1 ms, %" PRIu64
               " after 100 ms, %" PRIu64 " not even then\n",
               run.board->healed[0], run.board->healed[1], run.board->healed[2]);
    printf("%" PRIu64 " rounds, %" PRIu64 " stale (%.1f s, cache=%s, seed %" PRIu64 ")\n", rounds, stale,
           took, run.cache, run.seed);
    if (stale > 0)
        printf("again: litmus --seed %" PRIu64 " --seconds %u --cache %s --teams %u --actors %u%s%s\n",
               run.seed, seconds, run.cache, run.teams, run.actors, only != NULL ? " --only " : "",
               only != NULL ? only : "");
    return rounds > 0 ? stale : 1; /* nothing was tested */
}

static int list_kinds(void)
{
    for (unsigned i = 0; i < run.nkinds; i++)
        puts(run.kinds[i]->name);
    return 0;
}

static int options(int argc, char **argv)
{
    static const struct option list[] = {
        { "cache", required_argument, NULL, 'c' },
        { "seconds", required_argument, NULL, 's' },
        { "rounds", required_argument, NULL, 'n' },
        { "seed", required_argument, NULL, 'r' },
        { "only", required_argument, NULL, 'o' },
        { "except", required_argument, NULL, 'x' },
        { "teams", required_argument, NULL, 't' },
        { "actors", required_argument, NULL, 'a' },
        { "list", no_argument, NULL, 'l' },
        { "driver-option", required_argument, NULL, 'd' },
        { "preload", required_argument, NULL, 'p' },
        { "forget", required_argument, NULL, 'f' },
        { NULL, 0, NULL, 0 },
    };
    int opt, ret = 0;

    while ((opt = getopt_long(argc, argv, "", list, NULL)) != -1) {
        unsigned long v = optarg != NULL ? strtoul(optarg, NULL, 0) : 0;

        if (opt == 'c')
            run.cache = optarg;
        else if (opt == 's')
            seconds = (unsigned)v;
        else if (opt == 'n')
            run.rounds = v;
        else if (opt == 'r')
            run.seed = v;
        else if (opt == 'o')
            only = optarg;
        else if (opt == 'x')
            except = optarg;
        else if (opt == 't')
            run.teams = (unsigned)v;
        else if (opt == 'a')
            run.actors = (unsigned)v;
        else if (opt == 'd')
            driver_option = optarg;
        else if (opt == 'p')
            preload = optarg;
        else if (opt == 'f')
            forget = optarg;
        else if (opt == 'l')
            ret = 1;
        else
            return -1;
    }
    bool fits = run.teams >= 1 && run.teams <= LITMUS_TEAMS && run.actors >= 2 && run.actors <= LITMUS_ACTORS;
    return optind == argc && fits ? ret : -1;
}

static bool set_up(void)
{
    const char *where = getenv("BUILD");

    if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) < 0) {
        fprintf(stderr, "litmus: needs root and /dev/fuse to mount\n");
        return false;
    }
    run.board = mmap(NULL, sizeof(*run.board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (run.board == MAP_FAILED)
        return false;
    if (run.rounds != UINT64_MAX)
        run.rounds = (run.rounds + run.teams - 1) / run.teams;
    snprintf(build, sizeof(build), "%s", where != NULL ? where : "build");
    snprintf(run.region, sizeof(run.region), "/dev/shm/shmfs-litmus-%d", (int)getpid());
    snprintf(run.mount, sizeof(run.mount), "/tmp/shmfs-litmus-%d", (int)getpid());
    snprintf(log_path, sizeof(log_path), "%s.log", run.mount);
    run.faces[0].mount = run.faces[1].mount = run.mount;
    return mkdir(run.mount, 0755) == 0;
}

int main(int argc, char **argv)
{
    int opt = options(argc, argv);

    if (opt < 0) {
        fprintf(stderr, "litmus: see the head of tests/multi/litmus.c for its options\n");
        return 2;
    }
    collect_kinds();
    if (opt > 0)
        return list_kinds();
    if (run.nkinds == 0) {
        fprintf(stderr, "litmus: there is no such kind; see --list\n");
        return 2;
    }
    if (!set_up())
        return 77;
    int failed = driver_start();
    uint64_t from = litmus_clock();
    run.until = from + seconds * UINT64_C(1000000000);
    if (failed == 0)
        failed = prepare();
    if (failed == 0)
        failed = supervise();
    bool stale = report((double)(litmus_clock() - from) / 1e9) > 0;
    if (stale != (forget != NULL))
        failed = complain("litmus", stale ? "there were stale answers" : "did not see what was forgotten");
    failed |= driver_stop();
    failed |= check_region();
    if (failed != 0)
        show_log();
    unlink(run.region);
    unlink(log_path);
    rmdir(run.mount);
    return failed;
}
