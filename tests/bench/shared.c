/* SPDX-License-Identifier: MIT */
/*
 * shared: what it costs that a mount and a direct process see each other's work (docs/COHERENCE.md), with a driver and a
 * region of its own.
 *
 *   shared [--build DIR] [--rounds N]
 *
 * First a direct change, by what the kernel has of its object: in each round each case once, and what counts is the median
 * of the ratios to the first case of the same round. Then a reader that lives from the kernel's caches, while a direct
 * process changes something: how fast it is still, and how many messages the driver got for 1,000 of its operations.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <shmfs.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FILES = 64, PIECE = 64, ROUNDS_MAX = 10001, PHASE_MS = 1000, SETTLE_MS = 15 };

static struct {
    char mount[64], region[64];
    const char *build;
    unsigned rounds;
    pid_t driver;
    struct shmfs *fs;
} run = { .build = "build-release", .rounds = 301 };

static void tear_down(void)
{
    if (run.fs != NULL)
        shmfs_detach(run.fs);
    if (run.driver > 0) {
        if (umount(run.mount) < 0)
            kill(run.driver, SIGTERM);
        waitpid(run.driver, NULL, 0);
    }
    rmdir(run.mount);
    unlink(run.region);
}

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    fputs("shared: ", stderr);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
    va_end(ap);
    tear_down();
    exit(1);
}

static void must(long got, const char *what)
{
    if (got < 0)
        die("%s: %s", what, strerror(got < -1 ? (int)-got : errno));
}

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void nap_ms(long ms)
{
    struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

    nanosleep(&t, NULL);
}

/* ---- files --------------------------------------------------------------------------------------- */

static const char *path_of(bool mount, const char *dir, unsigned i)
{
    static _Thread_local char path[2][160];

    snprintf(path[mount], sizeof(path[mount]), "%s/%s/%u", mount ? run.mount : "", dir, i % FILES);
    return path[mount];
}

static void write_direct(const char *dir, unsigned i, bool append)
{
    static const char piece[PIECE] = "written directly";
    struct shmfs_file *f;

    must(shmfs_open(run.fs, path_of(false, dir, i), O_WRONLY, 0, &f), "open");
    must(append ? shmfs_append(f, piece, PIECE, NULL) : shmfs_pwrite(f, piece, PIECE, 0), "write");
    shmfs_close(f);
}

static void make_files(const char *dir)
{
    struct shmfs_file *f;
    char path[80];

    snprintf(path, sizeof(path), "/%s", dir);
    must(shmfs_mkdir(run.fs, path, 0755), path);
    for (unsigned i = 0; i < FILES; i++) {
        must(shmfs_open(run.fs, path_of(false, dir, i), O_WRONLY | O_CREAT, 0644, &f), "create");
        must(shmfs_pwrite(f, "content", 7, 0), "write");
        shmfs_close(f);
    }
}

/* As a program on the mount that reads it. */
static void read_by_mount(const char *dir, unsigned i)
{
    struct stat st;
    char buf[PIECE];
    int fd = open(path_of(true, dir, i), O_RDONLY | O_CLOEXEC);

    must(fd, "open by the mount");
    must(fstat(fd, &st), "fstat");
    must(pread(fd, buf, sizeof(buf), 0), "read");
    close(fd);
}

static void write_by_mount(const char *dir, unsigned i)
{
    char buf[PIECE] = "by the mount";
    int fd = open(path_of(true, dir, i), O_WRONLY | O_CLOEXEC);

    must(fd, "open by the mount");
    must(pwrite(fd, buf, sizeof(buf), 0), "write");
    close(fd);
}

/* ---- a direct change ----------------------------------------------------------------------------- */

/* What comes before; then the change, which alone is timed. */
static void nothing(unsigned i)
{
    (void)i;
}
static void look(unsigned i)
{
    nap_ms(SETTLE_MS); /* what was recalled just now is not leased again at once */
    read_by_mount("leased", i);
}
static void look_and_take(unsigned i)
{
    read_by_mount("known", i);
    write_direct("known", i, false);
    write_direct("known", i, false);
}
static void append_by_mount(unsigned i)
{
    int fd = open(path_of(true, "log", i), O_WRONLY | O_APPEND | O_CLOEXEC);

    must(fd, "open by the mount");
    must(write(fd, "line\n", 5), "append");
    close(fd);
}
static void miss(unsigned i)
{
    struct stat st;
    char path[160];

    nap_ms(SETTLE_MS);
    snprintf(path, sizeof(path), "%s/names/%u", run.mount, i);
    if (stat(path, &st) == 0)
        die("%s is there", path);
}

static void write_unknown(unsigned i)
{
    write_direct("unknown", i, false);
}
static void write_known(unsigned i)
{
    write_direct("known", i, false);
}
static void write_leased(unsigned i)
{
    write_direct("leased", i, false);
}
static void append_unknown(unsigned i)
{
    write_direct("unknown", i, true);
}
static void append_log(unsigned i)
{
    write_direct("log", i, true);
}
static void mount_write(unsigned i)
{
    write_by_mount("mount", i);
}
static void create(const char *dir, unsigned i)
{
    struct shmfs_file *f;
    char path[80];

    snprintf(path, sizeof(path), "/%s/%u", dir, i);
    must(shmfs_open(run.fs, path, O_WRONLY | O_CREAT | O_EXCL, 0644, &f), "create");
    shmfs_close(f);
}
static void create_unknown(unsigned i)
{
    create("nobody", i);
}
static void create_missed(unsigned i)
{
    create("names", i);
}

static const struct change {
    const char *name;
    void (*before)(unsigned i);
    void (*timed)(unsigned i);
} changes[] = {
    { "write, the mount does not know the file", nothing, write_unknown },
    { "write, the mount knows it, nothing is leased", look_and_take, write_known },
    { "write, attributes and pages are leased", look, write_leased },
    { "append, the mount does not know the file", nothing, append_unknown },
    { "append, the mount has just appended", append_by_mount, append_log },
    { "create, the mount does not know the directory", nothing, create_unknown },
    { "create, the mount has cached that the name is missing", miss, create_missed },
    { "for comparison: the same write by the mount", nothing, mount_write },
};
enum { CHANGES = sizeof(changes) / sizeof(changes[0]) };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void report_changes(void)
{
    static double ratio[CHANGES][ROUNDS_MAX];

    for (unsigned round = 0; round < run.rounds; round++) {
        uint64_t first = 0;

        for (unsigned c = 0; c < CHANGES; c++) {
            changes[c].before(round);
            write_direct("unknown", round + 1, false); /* whatever slept wakes up */
            uint64_t from = now();
            changes[c].timed(round);
            uint64_t took = now() - from;
            if (c == 0)
                first = took;
            ratio[c][round] = (double)took / (double)first;
        }
    }
    printf("| a direct change | × the first, median (quartiles) |\n| --- | --- |\n");
    for (unsigned c = 0; c < CHANGES; c++) {
        qsort(ratio[c], run.rounds, sizeof(ratio[c][0]), by_value);
        printf("| %s | %.1f (%.1f–%.1f) |\n", changes[c].name, ratio[c][run.rounds / 2],
               ratio[c][run.rounds / 4], ratio[c][run.rounds * 3 / 4]);
    }
}

/* ---- a cached reader ----------------------------------------------------------------------------- */

static atomic_bool reading;
static atomic_ulong operations;

static void *reader(void *unused)
{
    for (unsigned i = 0; reading; i++) {
        read_by_mount("read", i);
        operations += 3; /* open, fstat, pread; close sends nothing in any case */
    }
    return unused;
}

/* How often the driver has called read(): once a message, and now and then for nothing. */
static uint64_t messages(void)
{
    char path[40], line[100];
    unsigned long n = 0;

    snprintf(path, sizeof(path), "/proc/%d/io", (int)run.driver);
    FILE *f = fopen(path, "re");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL && sscanf(line, "syscr: %lu", &n) != 1)
        continue;
    if (f == NULL)
        die("%s: %s", path, strerror(errno));
    fclose(f);
    return n;
}

static void leave_alone(void)
{
    nap_ms(1);
}
static void write_elsewhere(void)
{
    write_direct("unknown", 0, false);
}
static void write_one_each_ms(void)
{
    nap_ms(1);
    write_direct("read", 7, false);
}
static void write_one(void)
{
    write_direct("read", 7, false);
}
static void write_all(void)
{
    static unsigned i;

    write_direct("read", i++, false);
}

static const struct phase {
    const char *name;
    void (*change)(void);
} phases[] = {
    { "nobody changes anything", leave_alone },
    { "flat out, a file that nobody reads", write_elsewhere },
    { "one of the 64 files, each millisecond", write_one_each_ms },
    { "one of the 64 files, flat out", write_one },
    { "all 64 files, flat out", write_all },
};

static void report_reader(void)
{
    double alone = 0;
    pthread_t thread;

    printf("\n| meanwhile a direct process writes | the reader's speed | messages per 1,000 operations |\n"
           "| --- | --- | --- |\n");
    reading = true;
    if (pthread_create(&thread, NULL, reader, NULL) != 0)
        die("no thread for the reader");
    for (size_t p = 0; p < sizeof(phases) / sizeof(phases[0]); p++) {
        nap_ms(50);
        unsigned long done = operations;
        uint64_t told = messages(), from = now();

        while (now() - from < PHASE_MS * UINT64_C(1000000))
            phases[p].change();
        double speed = (double)(operations - done);
        if (p == 0)
            alone = speed;
        printf("| %s | %.2f | %.1f |\n", phases[p].name, speed / alone,
               (double)(messages() - told) * 1000 / speed);
    }
    reading = false;
    pthread_join(thread, NULL);
}

/* ---- the driver ---------------------------------------------------------------------------------- */

static bool is_mounted(void)
{
    struct stat at, above;
    char up[80];

    snprintf(up, sizeof(up), "%s/..", run.mount);
    return stat(run.mount, &at) == 0 && stat(up, &above) == 0 && at.st_dev != above.st_dev;
}

static void mount_it(void)
{
    char program[4096], options[120];

    snprintf(run.mount, sizeof(run.mount), "/tmp/shmfs-shared-%d", (int)getpid());
    snprintf(run.region, sizeof(run.region), "/dev/shm/shmfs-shared-%d", (int)getpid());
    snprintf(program, sizeof(program), "%.4000s/fs/shmfs", run.build);
    snprintf(options, sizeof(options), "region=%s,size=256M", run.region);
    if (mkdir(run.mount, 0755) < 0)
        die("%s: %s", run.mount, strerror(errno));
    run.driver = fork();
    if (run.driver == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        execl(program, program, "-f", "-o", options, run.mount, (char *)NULL);
        fprintf(stderr, "shared: %s: %s; name the build directory with --build\n", program, strerror(errno));
        _exit(127);
    }
    for (uint64_t from = now(); !is_mounted(); nap_ms(2)) {
        if (waitpid(run.driver, NULL, WNOHANG) != 0 || now() - from > UINT64_C(20000000000)) {
            run.driver = 0;
            die("the driver does not mount (it needs root or fusermount3, and /dev/fuse)");
        }
    }
    if (shmfs_attach(run.region, 0, &run.fs) < 0)
        die("%s: %s", run.region, shmfs_attach_error());
}

int main(int argc, char **argv)
{
    static const struct option list[] = {
        { "build", required_argument, NULL, 'b' },
        { "rounds", required_argument, NULL, 'r' },
        { NULL, 0, NULL, 0 },
    };
    static const char *const dirs[] = { "unknown", "known", "leased", "log", "mount", "read" };

    for (int opt; (opt = getopt_long(argc, argv, "", list, NULL)) != -1;) {
        if (opt == 'b')
            run.build = optarg;
        else if (opt == 'r')
            run.rounds = (unsigned)strtoul(optarg, NULL, 10);
        else
            return 2;
    }
    if (run.rounds == 0 || run.rounds > ROUNDS_MAX || optind != argc) {
        fprintf(stderr, "usage: shared [--build DIR] [--rounds 1 to %d]\n", ROUNDS_MAX);
        return 2;
    }
    mount_it();
    for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
        make_files(dirs[i]);
    must(shmfs_mkdir(run.fs, "/names", 0755), "mkdir");
    must(shmfs_mkdir(run.fs, "/nobody", 0755), "mkdir");
    report_changes();
    report_reader();
    tear_down();
    return 0;
}
