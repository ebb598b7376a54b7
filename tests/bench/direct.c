/* SPDX-License-Identifier: MIT */
/*
 * direct: how fast libshmfs is beside system calls on a tmpfs. Usage: see usage().
 *
 * One process does both, in many short rounds, each with a batch of the one and a batch of the other
 * in an order that alternates; what counts is the median of the ratios within the rounds, for what
 * disturbs a machine disturbs neighbours in time alike. The process stays on one CPU; a round in which it was made to share
 * that CPU is measured again.
 *
 * Everything lies in a directory of its own on /dev/shm: `files`, the tmpfs side, and `region`. The
 * measuring is done by a child, so that whatever becomes of it, its parent removes that directory.
 */
#include <errno.h>
#include <fnmatch.h>
#include <ftw.h>
#include <getopt.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "direct.h"

struct settings {
    char build[PATH_MAX];                /* where mkfs.shmfs and fsck.shmfs were built */
    char place[32], region[64], dir[64]; /* of this run, and what of it belongs to either side */
    unsigned rounds;
    const struct op *profile;
    unsigned seconds; /* of the profile */
    bool markdown;
};

static struct {
    const char *pattern[16];
    unsigned n;
} only;

static volatile sig_atomic_t child; /* that measures, or 0 */

/* ---- measuring ---------------------------------------------------------------------------------- */

uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The n-th CPU that this process may run on, or -1. */
static int allowed_cpu(unsigned n)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        die(errno, "sched_getaffinity");
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &set) && n-- == 0)
            return cpu;
    }
    return -1;
}

void pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) != 0)
        die(errno, "cannot stay on CPU %d", cpu);
}

void both_sides(struct bench *b, void (*step)(struct bench *b, enum side side))
{
    if (!step)
        return;
    for (enum side side = 0; side < SIDES; side++)
        step(b, side);
}

static long preemptions(void)
{
    struct rusage usage;

    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nivcsw;
}

uint64_t batch(const struct op *op, struct bench *b, enum side side, unsigned count, void (*go)(void *),
               void *arg)
{
    long before;
    uint64_t t;

    if (op->setup)
        op->setup(b, side);
    sched_yield(); /* where others wait for this CPU, let them have it before rather than within */
    if (op->repeats)
        op->run[side](b, count / 8);
    if (go)
        go(arg);
    before = preemptions();
    t = now();
    op->run[side](b, count);
    t = now() - t;
    b->disturbed |= preemptions() != before;
    if (op->finish)
        op->finish(b, side, count);
    return t;
}

/* Both sides, this or the other first; times of one operation. */
static void one_round(const struct op *op, struct bench *b, enum side first, double ret_ns[SIDES])
{
    for (unsigned k = 0; k < SIDES; k++) {
        enum side side = (first + k) % SIDES;

        ret_ns[side] = (double)batch(op, b, side, op->count, NULL, NULL) / op->count;
    }
}

static void measure(const struct op *op, struct bench *b, struct report *report)
{
    double ns[SIDES][ROUNDS_MAX], ratio[ROUNDS_MAX], round[SIDES];
    struct line *line = report_add(report, op, op->name, false);
    unsigned disturbed = 0;

    both_sides(b, op->prep);
    one_round(op, b, TMPFS, round); /* warms up */
    for (unsigned i = 0; i < report->rounds;) {
        b->disturbed = false;
        one_round(op, b, (i + disturbed) % SIDES, round);
        if (b->disturbed && !op->keeps && disturbed < PATIENCE * report->rounds) {
            disturbed++;
            continue;
        }
        ns[TMPFS][i] = round[TMPFS];
        ns[DIRECT][i] = round[DIRECT];
        ratio[i++] = round[TMPFS] / round[DIRECT];
    }
    both_sides(b, op->clean);
    report->repeated += disturbed;
    line->ratio[DIRECT] = spread_of(ratio, report->rounds);
    for (enum side side = 0; side < SIDES; side++)
        line->ns[side] = spread_of(ns[side], report->rounds);
}

/* For perf(1) and the like: one operation of the library, over and over. */
static void profile(const struct settings *set, struct bench *b)
{
    const struct op *op = set->profile;
    uint64_t end = now() + set->seconds * UINT64_C(1000000000), ns = 0, batches = 0;

    if (op->prep)
        op->prep(b, DIRECT);
    while (now() < end && (!op->keeps || batches < set->rounds)) {
        ns += batch(op, b, DIRECT, op->count, NULL, NULL);
        batches++;
    }
    if (op->clean)
        op->clean(b, DIRECT);
    printf("%s: %.1f ns\n", op->name, (double)ns / (double)(batches * op->count));
}

bool wanted(const char *name)
{
    for (unsigned i = 0; i < only.n; i++) {
        const char *pattern = only.pattern[i];

        if (strchr(pattern, '*') ? fnmatch(pattern, name, 0) == 0 : strstr(name, pattern) != NULL)
            return true;
    }
    return only.n == 0;
}

static const struct op *const tables[] = { ops_name, ops_data };

const struct op *op_find(const char *name)
{
    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
        for (const struct op *op = tables[t]; op->name; op++) {
            if (strcmp(op->name, name) == 0)
                return op;
        }
    }
    return NULL;
}

/* The work of the child. */
static void measure_all(const struct settings *set)
{
    static struct report report;
    int cpus[2] = { allowed_cpu(0), allowed_cpu(1) };
    struct bench b;

    report.rounds = set->rounds;
    pin(cpus[0]);
    bench_open(&b, set->region, set->dir, "");
    if (set->profile) {
        profile(set, &b);
        bench_close(&b);
        return;
    }
    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
        for (const struct op *op = tables[t]; op->name; op++) {
            if (wanted(op->name))
                measure(op, &b, &report);
        }
    }
    bench_close(&b);
    if (cpus[1] >= 0)
        pairs_measure(set->region, set->dir, cpus, &report);
    else
        fprintf(stderr, "direct: nothing about two processes: this one may use one CPU only\n");
    if (report.n == 0)
        die(0, "no operation of that name; 'direct -l' lists them");
    (set->markdown ? report_markdown : report_text)(&report);
}

/* ---- around it ---------------------------------------------------------------------------------- */

/* Runs a program of the build to its end; its exit status, or 128 and more. */
static int run_program(const struct settings *set, const char *program, char **argv)
{
    char path[PATH_MAX + 32];
    int status;
    pid_t pid;

    snprintf(path, sizeof(path), "%s/%s", set->build, program);
    pid = fork();
    if (pid == 0) {
        execv(path, argv);
        die(errno, "%s (build first: tools/dev build --release; or say --build)", path);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        die(errno, "%s", path);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* With room for the files that stay, and for all others. */
static bool make_region(struct settings *set)
{
    unsigned long long size = (256u << 20) + 2ull * APPENDS_FRESH * BLOCK * (set->rounds + 1);
    char bytes[24],
        *argv[] = { "mkfs.shmfs", "-q", "-s", bytes, "-S", bytes, "-i", "100000", set->region, NULL };

    snprintf(bytes, sizeof(bytes), "%llu", size);
    return run_program(set, "mkfs/mkfs.shmfs", argv) == 0;
}

static bool check_region(struct settings *set)
{
    char *argv[] = { "fsck.shmfs", "-n", set->region, NULL };

    if (run_program(set, "tools/fsck.shmfs", argv) == 0)
        return true;
    fprintf(stderr, "direct: fsck.shmfs finds problems in the region after the run\n");
    return false;
}

/* So that an interrupted run ends as one whose child has failed. */
static void end_child(int number)
{
    if (child > 0)
        kill(child, SIGKILL);
}

/* Whether the child has ended well. */
static bool run_child(const struct settings *set)
{
    struct sigaction action = { .sa_handler = end_child, .sa_flags = SA_RESTART };
    int status;
    pid_t pid = fork();

    if (pid < 0)
        die(errno, "fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        measure_all(set);
        exit(0);
    }
    child = pid;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    if (waitpid(pid, &status, 0) != pid)
        die(errno, "waiting for the child");
    child = 0;
    if (WIFSIGNALED(status))
        fprintf(stderr, "direct: ended by signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
    return status == 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static bool work(struct settings *set)
{
    bool well;

    snprintf(set->place, sizeof(set->place), "/dev/shm/shmfs-direct-XXXXXX");
    if (!mkdtemp(set->place))
        die(errno, "%s", set->place);
    snprintf(set->region, sizeof(set->region), "%s/region", set->place);
    snprintf(set->dir, sizeof(set->dir), "%s/files", set->place);
    if (mkdir(set->dir, 0755) != 0)
        die(errno, "%s", set->dir);
    well = make_region(set) && run_child(set) && check_region(set);
    if (nftw(set->place, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
        fprintf(stderr, "direct: %s: %s; remove it\n", set->place, strerror(errno));
    return well;
}

/* ---- command line ------------------------------------------------------------------------------- */

static void usage(FILE *out)
{
    fprintf(out, "usage: direct [OPTION...]\n"
                 "Compares calls of libshmfs with system calls on a tmpfs, and two processes with one.\n"
                 "  --quick          rough figures in a few seconds\n"
                 "  --rounds N       of each operation (101; quick: 15)\n"
                 "  --only PATTERN   operations with PATTERN in their name, or matching it if it has a *;\n"
                 "                   may be repeated\n"
                 "  --markdown       as docs/FIGURES.md has it\n"
                 "  --profile OP     nothing but this operation of the library, over and over, for perf(1)\n"
                 "  --seconds N      for so long (5)\n"
                 "  --build DIR      where shmfs was built (where this program lies)\n"
                 "  -l, --list       list the operations\n");
}

static void list(void)
{
    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
        for (const struct op *op = tables[t]; op->name; op++)
            printf("%-16s %s\n", op->name, op->what);
    }
}

static unsigned number(const char *text, unsigned max)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (end == text || *end || n == 0 || n > max) {
        fprintf(stderr, "direct: not a number from 1 to %u: %s\n", max, text);
        exit(2);
    }
    return (unsigned)n;
}

/* BUILD/tests/bench/direct is this program. */
static void find_build(struct settings *set)
{
    ssize_t n = readlink("/proc/self/exe", set->build, sizeof(set->build) - 1);

    if (n < 0)
        die(errno, "/proc/self/exe");
    set->build[n] = '\0';
    for (int i = 0; i < 3; i++) {
        char *slash = strrchr(set->build, '/');

        if (slash)
            *slash = '\0';
    }
}

/* The value to exit with, or -1 to go on. */
static int parse_option(struct settings *set, int c)
{
    switch (c) {
    case 'q':
        set->rounds = 15;
        break;
    case 'r':
        set->rounds = number(optarg, ROUNDS_MAX);
        break;
    case 'o':
        if (only.n < sizeof(only.pattern) / sizeof(only.pattern[0]))
            only.pattern[only.n++] = optarg;
        break;
    case 'm':
        set->markdown = true;
        break;
    case 'p':
        set->profile = op_find(optarg);
        if (!set->profile) {
            fprintf(stderr, "direct: no such operation: %s (direct -l lists them)\n", optarg);
            return 2;
        }
        break;
    case 's':
        set->seconds = number(optarg, 3600);
        break;
    case 'b':
        if (!realpath(optarg, set->build))
            die(errno, "--build %s", optarg);
        break;
    case 'l':
        list();
        return 0;
    default:
        usage(c == 'h' ? stdout : stderr);
        return c == 'h' ? 0 : 2;
    }
    return -1;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        { "quick", no_argument, NULL, 'q' },         { "rounds", required_argument, NULL, 'r' },
        { "only", required_argument, NULL, 'o' },    { "markdown", no_argument, NULL, 'm' },
        { "profile", required_argument, NULL, 'p' }, { "seconds", required_argument, NULL, 's' },
        { "build", required_argument, NULL, 'b' },   { "list", no_argument, NULL, 'l' },
        { "help", no_argument, NULL, 'h' },          { NULL, 0, NULL, 0 },
    };
    struct settings set = { .rounds = 101, .seconds = 5 };
    int c;

    find_build(&set);
    while ((c = getopt_long(argc, argv, "lh", longs, NULL)) >= 0) {
        int end = parse_option(&set, c);

        if (end >= 0)
            return end;
    }
    if (optind < argc) {
        usage(stderr);
        return 2;
    }
    return work(&set) ? 0 : 1;
}
