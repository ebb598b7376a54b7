/* SPDX-License-Identifier: MIT */
/*
 * fsbench: measures file operations on a directory; bench.py compares filesystems with it.
 * Usage: see usage(). One line of results for each operation, e.g.
 *     op=create-close threads=2 ops=12800 ns=10934 batch_min=9120 batch_median=10480
 * ns is the time of one operation as a process sees it (threads=2: two at once, each in its own
 * directory), over all timed batches.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fsbench.h"

enum { MAX_PROCESSES = 16, MAX_BATCHES = 4096 };

/* What the processes of one measurement share. */
struct shared {
    pthread_barrier_t barrier;
    bool more;
    struct result {
        uint64_t ns, ops;
        unsigned batches;
        double batch[MAX_BATCHES]; /* ns per operation */
    } results[MAX_PROCESSES];
};

struct settings {
    const char *dir, *mount, *step;
    unsigned processes;
    unsigned long entries;
    uint64_t budget; /* ns of timed work */
};

/* ---- small things ------------------------------------------------------------------------------- */

void fsbench_die(const char *file, int line, const char *format, ...)
{
    int error = errno;
    va_list args;

    fprintf(stderr, "fsbench: %s:%d: ", file, line);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, " (%s)\n", strerror(error));
    exit(1);
}

uint64_t next_random(struct state *s)
{
    s->random = s->random * 6364136223846793005u + 1442695040888963407u;
    return s->random >> 33;
}

void name_make(char ret[NAME_SIZE], const char *prefix, uint64_t number)
{
    snprintf(ret, NAME_SIZE, "%s.%llu", prefix, (unsigned long long)number);
}

void names_make(struct state *s, const char *prefix, uint64_t number)
{
    for (unsigned i = 0; i < NAMES; i++)
        name_make(s->names[i], prefix, number + i);
}

static uint64_t word_at(uint64_t offset)
{
    uint64_t x = (offset + 1) * 0x9e3779b97f4a7c15u;

    return x ^ (x >> 29);
}

void pattern_fill(unsigned char *buf, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        uint64_t word = word_at(i);

        memcpy(buf + i, &word, 8);
    }
}

void pattern_stamp(unsigned char *buf, size_t n, uint64_t offset)
{
    for (size_t i = 0; i < n; i += 4096) {
        uint64_t first = word_at(offset + i), last = word_at(offset + i + 4088);

        memcpy(buf + i, &first, 8);
        memcpy(buf + i + 4088, &last, 8);
    }
}

void pattern_check(const unsigned char *buf, size_t n, uint64_t offset, const char *what)
{
    for (size_t i = 0; i < n; i += 4096) {
        uint64_t first = word_at(offset + i), last = word_at(offset + i + 4088);

        if (memcmp(buf + i, &first, 8) != 0 || memcmp(buf + i + 4088, &last, 8) != 0)
            die("%s: wrong bytes at offset %llu", what, (unsigned long long)(offset + i));
    }
}

void make_file(struct state *s, const char *name, size_t size)
{
    int fd = openat(s->dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (fd < 0)
        die("create %s", name);
    pattern_fill(s->buf, BUF_SIZE);
    for (size_t done = 0; done < size; done += BUF_SIZE) {
        size_t n = size - done < BUF_SIZE ? size - done : BUF_SIZE;

        pattern_stamp(s->buf, n, done);
        if (write(fd, s->buf, n) != (ssize_t)n)
            die("write %s", name);
    }
    if (close(fd) != 0)
        die("close %s", name);
}

void make_empty(struct state *s, char (*names)[NAME_SIZE], unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (mknodat(s->dir, names[i], S_IFREG | 0644, 0) != 0)
            die("mknod %s", names[i]);
    }
}

void remove_files(struct state *s, char (*names)[NAME_SIZE], unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (unlinkat(s->dir, names[i], 0) != 0)
            die("unlink %s", names[i]);
    }
}

void must_exist(struct state *s, const char *name, bool exists)
{
    struct stat st;
    int r = fstatat(s->dir, name, &st, AT_SYMLINK_NOFOLLOW);

    if (exists ? r != 0 : r == 0 || errno != ENOENT)
        die("%s should %sbe there", name, exists ? "" : "not ");
}

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/*
 * The kernel forgets all names of the mount that nobody uses (a remount does that, and nothing else
 * here), so that the next use of each is a LOOKUP. Their FORGETs are given a moment to drain.
 */
static void drop_names(const char *dir, unsigned long entries)
{
    struct statvfs st;
    unsigned long flags = MS_REMOUNT;

    if (statvfs(dir, &st) != 0)
        die("statvfs %s", dir);
    flags |= st.f_flag & ST_NOSUID ? MS_NOSUID : 0;
    flags |= st.f_flag & ST_NODEV ? MS_NODEV : 0;
    flags |= st.f_flag & ST_RELATIME ? MS_RELATIME : 0;
    if (mount(NULL, dir, NULL, flags, NULL) != 0)
        die("dropping the names of %s (a remount: needs root, and the mount point itself)", dir);
    usleep(2000 + (unsigned)(entries / 50));
}

/* ---- measuring ---------------------------------------------------------------------------------- */

static void step(void (*function)(struct state *s), struct state *s)
{
    if (function)
        function(s);
}

/* One batch; returns its time. The barriers let all processes start together. */
static uint64_t batch(const struct op *op, struct state *s, struct shared *shared, uint64_t *ret_ops)
{
    uint64_t t;

    step(op->setup, s);
    pthread_barrier_wait(&shared->barrier);
    if (op->drop) {
        if (s->id == 0)
            drop_names(s->mount, s->entries);
        pthread_barrier_wait(&shared->barrier);
    }
    t = now();
    *ret_ops = op->run(s);
    t = now() - t;
    pthread_barrier_wait(&shared->barrier);
    step(op->finish, s);
    return t;
}

static void measure(const struct op *op, struct state *s, struct shared *shared, const struct settings *set)
{
    struct result *result = &shared->results[s->id];
    uint64_t ops;

    if (!op->drop)
        batch(op, s, shared, &ops); /* warms up */
    do {
        uint64_t ns = batch(op, s, shared, &ops);

        result->ns += ns;
        result->ops += ops;
        if (result->batches < MAX_BATCHES)
            result->batch[result->batches++] = (double)ns / (double)ops;
        if (s->id == 0)
            shared->more = result->ns < set->budget;
        pthread_barrier_wait(&shared->barrier);
    } while (shared->more);
}

/* In a process of its own: the step(s) that the command line wants. */
static void worker(const struct op *op, struct shared *shared, const struct settings *set, unsigned id)
{
    bool all = strcmp(set->step, "all") == 0;
    struct state s = { .mount = set->mount, .id = id, .fd = -1, .entries = set->entries };
    char path[4096];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* Names are never used twice, so that no run finds what an earlier one left in the caches. */
    s.serial = now();
    s.random = s.serial + id;
    s.buf = aligned_alloc(4096, BUF_SIZE);
    s.names = calloc(NAMES, NAME_SIZE);
    s.others = calloc(NAMES, NAME_SIZE);
    if (!s.buf || !s.names || !s.others)
        die("memory");
    snprintf(path, sizeof(path), "%s/%s.%u", set->dir, op->name, id);
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        die("mkdir %s", path);
    s.dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s.dir < 0)
        die("open %s", path);
    if (all || strcmp(set->step, "prep") == 0)
        step(op->prep, &s);
    if (all || strcmp(set->step, "run") == 0)
        measure(op, &s, shared, set);
    if (s.fd >= 0 && close(s.fd) != 0)
        die("close");
    if (all || strcmp(set->step, "clean") == 0) {
        step(op->clean, &s);
        if (rmdir(path) != 0)
            die("rmdir %s", path);
    }
    exit(0);
}

/* Whether all have ended well; one that fails takes the others, who would wait for it, with it. */
static bool wait_all(pid_t *pids, unsigned n)
{
    bool well = true;

    for (unsigned left = n; left > 0; left--) {
        int status;
        pid_t pid = wait(&status);

        for (unsigned i = 0; i < n; i++) {
            if (pids[i] == pid)
                pids[i] = 0;
        }
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            continue;
        well = false;
        for (unsigned i = 0; i < n; i++) {
            if (pids[i])
                kill(pids[i], SIGKILL);
        }
    }
    return well;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static void print(const struct op *op, struct shared *shared, unsigned n)
{
    struct result *all = &shared->results[0];
    double ns = 0;

    for (unsigned i = 0; i < n; i++)
        ns += (double)shared->results[i].ns / (double)shared->results[i].ops / n;
    for (unsigned i = 1; i < n; i++)
        all->ops += shared->results[i].ops;
    qsort(all->batch, all->batches, sizeof(all->batch[0]), by_value);
    printf("op=%s threads=%u ops=%llu ns=%.1f batch_min=%.1f batch_median=%.1f\n", op->name, n,
           (unsigned long long)all->ops, ns, all->batch[0], all->batch[all->batches / 2]);
}

static bool bench(const struct op *op, const struct settings *set)
{
    struct shared *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[MAX_PROCESSES];
    pthread_barrierattr_t attr;
    bool well;

    if (shared == MAP_FAILED)
        die("mmap");
    pthread_barrierattr_init(&attr);
    pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&shared->barrier, &attr, set->processes);
    fflush(stdout);
    for (unsigned i = 0; i < set->processes; i++) {
        pids[i] = fork();
        if (pids[i] < 0)
            die("fork");
        if (pids[i] == 0)
            worker(op, shared, set, i);
    }
    well = wait_all(pids, set->processes);
    if (well && shared->results[0].ops > 0)
        print(op, shared, set->processes);
    munmap(shared, sizeof(*shared));
    return well;
}

/* ---- command line ------------------------------------------------------------------------------- */

static const struct op *const tables[] = { ops_data, ops_name, ops_list };

static const struct op *find_op(const char *name)
{
    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
        for (const struct op *op = tables[t]; op->name; op++) {
            if (strcmp(op->name, name) == 0)
                return op;
        }
    }
    return NULL;
}

static void list(void)
{
    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
        for (const struct op *op = tables[t]; op->name; op++)
            printf("%-18s %s\n", op->name, op->what);
    }
}

static void usage(FILE *out)
{
    fprintf(out, "usage: fsbench [OPTION...] DIR OPERATION...\n"
                 "       fsbench -l\n"
                 "Measures operations on the directory DIR.\n"
                 "  -t  so many at once, each in a directory of its own (1)\n"
                 "  -m  so much timed work for each operation (100)\n"
                 "  -n  entries of the directory, for readdir and directory (10000)\n"
                 "  -M  the mount point that DIR is on, for the cold operations (DIR)\n"
                 "  -s  prep, run, clean or all: do only that part (all)\n"
                 "  -l  list the operations\n");
}

static unsigned long number(const char *text)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (end == text || *end || n == 0) {
        fprintf(stderr, "fsbench: not a number above 0: %s\n", text);
        exit(2);
    }
    return n;
}

int main(int argc, char **argv)
{
    struct settings set = { .step = "all", .processes = 1, .budget = 100000000, .entries = 10000 };
    int c;

    while ((c = getopt(argc, argv, "t:m:n:M:s:lh")) >= 0) {
        switch (c) {
        case 't':
            set.processes = (unsigned)number(optarg);
            break;
        case 'm':
            set.budget = number(optarg) * 1000000u;
            break;
        case 'n':
            set.entries = number(optarg);
            break;
        case 'M':
            set.mount = optarg;
            break;
        case 's':
            set.step = optarg;
            break;
        case 'l':
            list();
            return 0;
        default:
            usage(c == 'h' ? stdout : stderr);
            return c == 'h' ? 0 : 2;
        }
    }
    if (argc - optind < 2 || set.processes > MAX_PROCESSES) {
        usage(stderr);
        return 2;
    }
    set.dir = argv[optind];
    if (!set.mount)
        set.mount = set.dir;
    for (int i = optind + 1; i < argc; i++) {
        const struct op *op = find_op(argv[i]);

        if (!op) {
            fprintf(stderr, "fsbench: no such operation: %s (fsbench -l lists them)\n", argv[i]);
            return 2;
        }
        if (!bench(op, &set))
            return 1;
    }
    return 0;
}
