/* SPDX-License-Identifier: MIT */
/*
 * P4: a snapshot is one point in time, while eight processes write, four directly and four through a mount: in what is
 * restored each writer's files are as they were after some number of its operations, and there is one moment that lies
 * between the last of these and the first of the others, of all writers.
 *
 *   snapshots [--seconds N] [--seed N]
 *   snapshots --kill [--seconds N] [--seed N]    snapshotters, the driver (which keeps an image) and writers are killed and
 *                                                stopped all the time: nobody hangs, and the next snapshot works
 */
#include <fcntl.h>
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
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#include "node.h"
#include "storm_face.h"

enum {
    WRITERS = 8,
    NAMES = 8,
    SIZE_MAX_ = 40000,
    RING = 1 << 17,  /* of the last operations of a writer, when they began and ended */
    PATIENCE_S = 20, /* with one operation: also a driver that was killed is to be noticed */
    REGION = 64 << 20,
    SPANS_MAX = 1000,
};

struct times {
    uint64_t began, ended; /* ns */
};
struct writer {
    pid_t pid;
    unsigned life;
    uint64_t started, done; /* operations */
    uint64_t since;         /* ns: when the one at work began; 0: none */
    struct times ring[RING];
};
static struct writer *writers; /* shared */
static int *rest;              /* likewise: what was taken is being looked at, and nobody need hurry on */
static uint64_t seed = 1;
static double seconds = 10;
static char base[64], region[96], mnt[96], image[96], other_image[96], restored[96];
static pid_t driver;

static __attribute__((noreturn, format(printf, 1, 2))) void fail(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    fputs("FAIL ", stderr);
    vfprintf(stderr, format, ap);
    fprintf(stderr, "\n  again: snapshots --seed %" PRIu64 "\n", seed);
    va_end(ap);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* ---- what a writer does: a function of its number, its life, and how many operations came before --------------- */

struct file {
    bool there;
    size_t size;
    uint64_t hash; /* of all that can be seen of it; 0: not there */
    uint8_t *bytes;
};
struct model {
    unsigned id, life;
    uint64_t n; /* operations */
    struct file files[NAMES];
};

enum op { MAKE, WRITE, TRUNCATE, RENAME, UNLINK, OPS };
struct step {
    enum op op;
    unsigned a, b;
    size_t size;
    uint64_t fill;
};

static struct step step_of(const struct model *m)
{
    uint64_t r = mix(seed * 1000003 + m->id * UINT64_C(0x9e3779b97f4a7c15) + m->life * 7919 +
                     m->n * UINT64_C(0xd1342543de82ef95));
    struct step s = {
        .a = r % NAMES, .b = r >> 8 & (NAMES - 1), .size = 1 + (r >> 16) % SIZE_MAX_, .fill = r
    };

    if (!m->files[s.a].there)
        s.op = MAKE;
    else
        s.op = (r >> 40) % 8 < 4    ? WRITE
               : (r >> 40) % 8 == 4 ? TRUNCATE
               : (r >> 40) % 8 < 7  ? RENAME
                                    : UNLINK;
    if (s.op == RENAME && s.a == s.b)
        s.op = WRITE;
    return s;
}

static void fill(uint8_t *p, size_t n, uint64_t with)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(with >> i % 8 * 8) + (uint8_t)(i / 512);
}

static void see(struct file *f)
{
    f->hash = f->there ? XXH3_64bits(f->bytes, f->size) + f->size * 31 + 1 : 0;
}

static void apply(struct model *m)
{
    struct step s = step_of(m);
    struct file *f = &m->files[s.a], swap;

    switch (s.op) {
    case MAKE:
        f->there = true;
        f->size = 0;
        break;
    case WRITE:
        fill(f->bytes, s.size, s.fill);
        f->size = s.size > f->size ? s.size : f->size;
        break;
    case TRUNCATE:
        if (s.size > f->size)
            memset(f->bytes + f->size, 0, s.size - f->size);
        f->size = s.size;
        break;
    case RENAME:
        swap = m->files[s.b];
        m->files[s.b] = *f;
        *f = swap;
        f->there = false;
        f->size = 0;
        see(&m->files[s.b]);
        break;
    default:
        f->there = false;
        f->size = 0;
    }
    see(f);
    m->n++;
}

static void model_begin(struct model *m, unsigned id, unsigned life)
{
    *m = (struct model){ .id = id, .life = life };
    for (int i = 0; i < NAMES; i++) {
        m->files[i].bytes = calloc(1, SIZE_MAX_ + 1);
        if (!m->files[i].bytes)
            fail("no memory");
    }
}

static void model_end(struct model *m)
{
    for (int i = 0; i < NAMES; i++)
        free(m->files[i].bytes);
}

static void name_of(char *ret, unsigned id, unsigned life, unsigned name)
{
    sprintf(ret, "/w%u.%u/f%u", id, life, name);
}

static long do_step(const struct face *face, const struct model *m)
{
    static uint8_t bytes[SIZE_MAX_ + 1];
    struct step s = step_of(m);
    char a[64], b[64];

    name_of(a, m->id, m->life, s.a);
    name_of(b, m->id, m->life, s.b);
    switch (s.op) {
    case MAKE:
        return face_make(face, a, 0644);
    case WRITE:
        fill(bytes, s.size, s.fill);
        return face_write(face, a, bytes, s.size, 0, false);
    case TRUNCATE:
        return face_truncate(face, a, (off_t)s.size);
    case RENAME:
        return face_rename(face, a, b, 0);
    default:
        return face_unlink(face, a);
    }
}

static __attribute__((noreturn)) void live(struct writer *w, unsigned id, bool direct)
{
    struct face face = { .mount = mnt };
    struct model m;
    char dir[64];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    model_begin(&m, id, w->life);
    w->since = now_ns();
    if (direct && shmfs_attach(region, 0, &face.fs) < 0)
        fail("writer %u: %s", id, shmfs_attach_error());
    sprintf(dir, "/w%u.%u", id, w->life);
    if (face_mkdir(&face, dir, 0755) < 0)
        fail("writer %u: mkdir", id);
    for (;; apply(&m)) {
        struct times *t = &w->ring[m.n % RING];

        while (__atomic_load_n(rest, __ATOMIC_SEQ_CST) != 0)
            usleep(200);
        w->since = t->began = now_ns();
        __atomic_store_n(&w->started, m.n + 1, __ATOMIC_SEQ_CST);
        long r = do_step(&face, &m);
        if (r < 0)
            fail("writer %u, operation %" PRIu64 ": %s", id, m.n, strerror((int)-r));
        t->ended = now_ns();
        w->since = 0;
        __atomic_store_n(&w->done, m.n + 1, __ATOMIC_SEQ_CST);
    }
}

static void writer_start(unsigned id, bool direct)
{
    struct writer *w = &writers[id];

    w->life++;
    w->started = w->done = w->since = 0;
    pid_t pid = fork();
    if (pid == 0)
        live(w, id, direct);
    w->pid = pid;
}

static bool writer_made_directory(unsigned id)
{
    return __atomic_load_n(&writers[id].started, __ATOMIC_SEQ_CST) > 0;
}

/* ---- the mount ---------------------------------------------------------------------------------------------- */

static bool is_fuse(void)
{
    struct statfs fs;

    return statfs(mnt, &fs) == 0 && fs.f_type == 0x65735546;
}

static void driver_start(const char *options)
{
    const char *build = getenv("BUILD");
    char program[4096], text[512];

    snprintf(program, sizeof(program), "%s/fs/shmfs", build ? build : "build");
    snprintf(text, sizeof(text), "region=%s%s", region, options);
    driver = fork();
    if (driver == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        execl(program, "shmfs", "-f", "-o", text, mnt, (char *)NULL);
        _exit(127);
    }
    for (int i = 0; !is_fuse(); i++) {
        if (i == 2000 || waitpid(driver, NULL, WNOHANG) == driver)
            fail("the driver does not mount");
        usleep(10000);
    }
}

static void driver_end(void)
{
    int status;

    umount2(mnt, 0);
    if (waitpid(driver, &status, 0) != driver || status != 0)
        fail("the driver ended with %#x", status);
}

/* ---- what is restored --------------------------------------------------------------------------------------- */

static void on_problem(void *arg, const struct shmfs_problem *p)
{
    fprintf(stderr, "  inode %u: %s\n", p->ino, p->text);
}

static void restore(const char *from)
{
    const struct shmfs_restore how = { .force = true, .mode = 0600 };
    const struct shmfs_check check = { .problem = on_problem };
    struct shmfs_check_result found = { 0 };
    struct shmfs_restore_result result;
    struct shmfs_diag diag;
    char text[512];
    struct shmfs *fs;
    int r = shmfs_image_restore(from, restored, &how, &result, &diag);

    if (r < 0)
        fail("%s", shmfs_diag_text(&diag, r, from, text, sizeof(text)));
    if (shmfs_region_attach(restored, SHMFS_ATTACH_PRIVATE, &fs, &diag) < 0 ||
        shmfs_check_run(fs, &check, &found) < 0 || found.problems > 0)
        fail("what was restored does not pass the check");
    shmfs_region_detach(fs);
}

static uint64_t hash_in(struct shmfs *fs, unsigned id, unsigned life, unsigned name)
{
    static uint8_t bytes[SIZE_MAX_ + 2];
    const struct face face = { .fs = fs };
    char path[64];
    ssize_t n;

    name_of(path, id, life, name);
    n = face_read(&face, path, bytes, sizeof(bytes), 0);
    return n < 0 ? 0 : XXH3_64bits(bytes, (size_t)n) + (uint64_t)n * 31 + 1;
}

static bool is_model(const struct model *m, const uint64_t *hashes)
{
    for (int i = 0; i < NAMES; i++) {
        if (m->files[i].hash != hashes[i])
            return false;
    }
    return true;
}

/* Moments at which a writer's files may have been like that. */
struct moments {
    unsigned n;
    struct {
        uint64_t after, before; /* ns */
    } spans[SPANS_MAX];
};

/*
 * After how many operations, up to `to`, has the writer's directory been like that? It may have been so more than once. The
 * moment was after the last of them had begun, and before the one after it had ended. The model is moved to `to`.
 */
static void locate(struct shmfs *fs, struct model *m, uint64_t to, struct moments *ret)
{
    const struct writer *w = &writers[m->id];
    uint64_t hashes[NAMES], from = m->n;

    for (unsigned i = 0; i < NAMES; i++)
        hashes[i] = hash_in(fs, m->id, m->life, i);
    ret->n = 0;
    for (;; apply(m)) {
        if (is_model(m, hashes)) {
            if (ret->n == SPANS_MAX)
                fail("writer %u did nothing to be seen for too long", m->id);
            ret->spans[ret->n].after = m->n > 0 ? w->ring[(m->n - 1) % RING].began : 0;
            /* The operation after it may not have ended yet: then it says nothing. */
            ret->spans[ret->n++].before =
                m->n < __atomic_load_n(&w->done, __ATOMIC_SEQ_CST) ? w->ring[m->n % RING].ended : UINT64_MAX;
        }
        if (m->n == to)
            break;
    }
    if (ret->n == 0)
        fail("writer %u is not as after any number of operations from %" PRIu64 " to %" PRIu64, m->id, from,
             to);
}

static bool is_moment_of(const struct moments *m, uint64_t t)
{
    for (unsigned i = 0; i < m->n; i++) {
        if (m->spans[i].after <= t && t <= m->spans[i].before)
            return true;
    }
    return false;
}

/* If there is a moment for all, the last beginning before it is one, too. */
static bool is_one_moment(const struct moments *of, uint64_t began, uint64_t ended)
{
    for (unsigned w = 0; w <= WRITERS; w++) {
        for (unsigned i = 0; i < (w < WRITERS ? of[w].n : 1); i++) {
            uint64_t t = w < WRITERS ? of[w].spans[i].after : began;
            bool all = t <= ended && t >= began;

            for (unsigned k = 0; k < WRITERS && all; k++)
                all = is_moment_of(&of[k], t);
            if (all)
                return true;
        }
    }
    return false;
}

static void verify(struct model *models, const uint64_t *done_before, uint64_t began, uint64_t ended)
{
    static struct moments moments[WRITERS];
    struct shmfs *fs;

    restore(image);
    if (shmfs_attach(restored, SHMFS_NOATIME, &fs) < 0)
        fail("%s", shmfs_attach_error());
    for (unsigned i = 0; i < WRITERS; i++) {
        uint64_t to = __atomic_load_n(&writers[i].started, __ATOMIC_SEQ_CST);

        if (to - models[i].n > RING / 2)
            fail("writer %u is too fast for this test", i);
        while (models[i].n < done_before[i])
            apply(&models[i]);
        locate(fs, &models[i], to, &moments[i]);
    }
    shmfs_detach(fs);
    if (!is_one_moment(moments, began, ended))
        fail("there is no moment for all");
}

/* ---- one point in time ---------------------------------------------------------------------------------------- */

static void take(struct shmfs_snapshot *s, struct shmfs_snapshot_result *result)
{
    struct shmfs_diag diag;
    char text[512];
    int r = shmfs_snapshot_take(s, false, NULL, result, &diag);

    if (r < 0)
        fail("%s", shmfs_diag_text(&diag, r, image, text, sizeof(text)));
}

static struct shmfs_snapshot *open_image(struct shmfs *fs, const char *path)
{
    struct shmfs_snapshot *s;
    struct shmfs_diag diag;
    char text[512];
    int r = shmfs_snapshot_open(fs, path, 0, &s, &diag);

    if (r < 0)
        fail("%s", shmfs_diag_text(&diag, r, path, text, sizeof(text)));
    return s;
}

static int by_number(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static int point_in_time(void)
{
    static uint64_t pauses[100000];
    struct shmfs_snapshot_result result;
    struct model models[WRITERS];
    struct shmfs_snapshot *s;
    uint64_t operations = 0;
    unsigned n = 0;
    struct shmfs *fs;

    driver_start("");
    if (shmfs_attach(region, 0, &fs) < 0)
        fail("%s", shmfs_attach_error());
    s = open_image(fs, image);
    for (unsigned i = 0; i < WRITERS; i++) {
        writer_start(i, i % 2 == 0);
        model_begin(&models[i], i, 1);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        while (!writer_made_directory(i))
            usleep(1000);
    }
    for (uint64_t until = now_ns() + (uint64_t)(seconds * 1e9); now_ns() < until && n < 100000; n++) {
        uint64_t done[WRITERS], began = now_ns();

        for (unsigned i = 0; i < WRITERS; i++)
            done[i] = __atomic_load_n(&writers[i].done, __ATOMIC_SEQ_CST);
        take(s, &result);
        pauses[n] = result.pause_ns;
        uint64_t ended = now_ns();
        __atomic_store_n(rest, 1, __ATOMIC_SEQ_CST);
        verify(models, done, began, ended);
        __atomic_store_n(rest, 0, __ATOMIC_SEQ_CST);
        usleep((useconds_t)(mix(n) % 20000)); /* so that there is something to copy */
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        kill(writers[i].pid, SIGKILL);
        waitpid(writers[i].pid, NULL, 0);
        operations += writers[i].done;
        model_end(&models[i]);
    }
    shmfs_snapshot_close(s);
    shmfs_detach(fs);
    driver_end();
    qsort(pauses, n, sizeof(pauses[0]), by_number);
    printf("%u snapshots under %d writers, %" PRIu64
           " operations: each is one point in time (longest pause: median %.2f ms, "
           "worst %.2f ms)\n",
           n, WRITERS, operations, (double)pauses[n / 2] / 1e6, (double)pauses[n - 1] / 1e6);
    return n == 0;
}

/* ---- deaths ---------------------------------------------------------------------------------------------------- */

enum { KILLED_WRITERS = 3 };

/* Makes snapshots to an image of its own, beside the driver's. */
static __attribute__((noreturn)) void snapshotter(uint64_t *count)
{
    struct shmfs_snapshot_result result;
    struct shmfs_diag diag;
    struct shmfs_snapshot *s;
    struct shmfs *fs;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (shmfs_attach(region, 0, &fs) < 0)
        fail("%s", shmfs_attach_error());
    for (;;) {
        int r = shmfs_snapshot_open(fs, other_image, 0, &s, &diag);

        if (r == -EBUSY)
            continue; /* the one before is dying */
        if (r < 0)
            fail("opening %s gave %d", other_image, r);
        for (int i = 0; i < 20; i++) {
            r = shmfs_snapshot_take(s, false, NULL, &result, &diag);
            if (r < 0 && r != -EBUSY)
                fail("a snapshot gave %d", r);
            *count += r == 0;
        }
        shmfs_snapshot_close(s);
    }
}

static void expect_progress(void)
{
    for (unsigned i = 0; i < KILLED_WRITERS; i++) {
        uint64_t since = __atomic_load_n(&writers[i].since, __ATOMIC_SEQ_CST);

        if (since != 0 && now_ns() - since > PATIENCE_S * UINT64_C(1000000000))
            fail("writer %u hangs", i);
    }
}

static void kill_and_wait(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static pid_t snapshotter_start(uint64_t *count)
{
    pid_t pid = fork();

    if (pid == 0)
        snapshotter(count);
    return pid;
}

/* With all of them gone: does the next one work, and has it everything? */
static void last_snapshot(const char *path)
{
    struct shmfs_snapshot_result result;
    struct model m;
    struct shmfs *fs;
    static struct moments moments;

    if (shmfs_attach(region, 0, &fs) < 0)
        fail("%s", shmfs_attach_error());
    struct shmfs_snapshot *s = open_image(fs, path);
    take(s, &result);
    shmfs_snapshot_close(s);
    shmfs_detach(fs);
    restore(path);
    if (shmfs_attach(restored, SHMFS_NOATIME, &fs) < 0)
        fail("%s", shmfs_attach_error());
    for (unsigned i = 0; i < KILLED_WRITERS; i++) {
        model_begin(&m, i, writers[i].life);
        while (m.n < writers[i].done)
            apply(&m);
        locate(fs, &m, writers[i].started, &moments);
        model_end(&m);
    }
    shmfs_detach(fs);
}

static int deaths(void)
{
    uint64_t *count = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned killed[4] = { 0 };
    char options[160];
    pid_t snapshots;

    snprintf(options, sizeof(options), ",image=%s,sync=0.1", image);
    driver_start(options);
    for (unsigned i = 0; i < KILLED_WRITERS; i++)
        writer_start(i, true);
    snapshots = snapshotter_start(count);
    for (uint64_t i = 0, until = now_ns() + (uint64_t)(seconds * 1e9); now_ns() < until; i++) {
        uint64_t r = mix(seed * 31 + i);

        usleep((useconds_t)(r % 30000));
        expect_progress();
        if (r >> 20 & 1) { /* a writer */
            unsigned id = (unsigned)(r >> 21) % KILLED_WRITERS;

            kill_and_wait(writers[id].pid);
            writer_start(id, true);
            killed[0]++;
        } else if (r >> 24 & 7) {
            kill_and_wait(snapshots);
            snapshots = snapshotter_start(count);
            killed[1]++;
        } else if (r >> 28 & 3) { /* stopped, wherever it is, and then killed */
            kill(snapshots, SIGSTOP);
            usleep(20000);
            kill(snapshots, SIGCONT);
            killed[3]++;
        } else {
            kill_and_wait(driver);
            umount2(mnt, MNT_DETACH);
            driver_start(options);
            killed[2]++;
        }
    }
    for (unsigned i = 0; i < KILLED_WRITERS; i++)
        kill_and_wait(writers[i].pid);
    kill_and_wait(snapshots);
    kill_and_wait(driver);
    umount2(mnt, MNT_DETACH);
    last_snapshot(other_image);
    last_snapshot(image);
    printf("%u writers, %u snapshotters and %u drivers killed, %u snapshotters stopped, %" PRIu64
           " snapshots beside the driver's: nobody hangs, and the next one has everything\n",
           killed[0], killed[1], killed[2], killed[3], *count);
    return *count == 0 || killed[2] == 0;
}

/* ---- beginning and end ------------------------------------------------------------------------------------------ */

static void remove_all(void)
{
    umount2(mnt, MNT_DETACH);
    rmdir(mnt);
    unlink(region);
    unlink(image);
    unlink(other_image);
    unlink(restored);
    rmdir(base);
}

static void prepare(void)
{
    const struct shmfs_make make = { .size = REGION, .max_size = REGION, .mode = 0600, .root_mode = 0755 };
    struct shmfs_geometry geometry;
    struct shmfs_diag diag;

    snprintf(base, sizeof(base), "/dev/shm/shmfs-snapshots.XXXXXX");
    if (!mkdtemp(base))
        fail("%s: cannot be made", base);
    snprintf(region, sizeof(region), "%s/region", base);
    snprintf(mnt, sizeof(mnt), "%s/mnt", base);
    snprintf(image, sizeof(image), "%s/image", base);
    snprintf(other_image, sizeof(other_image), "%s/other", base);
    snprintf(restored, sizeof(restored), "%s/restored", base);
    if (mkdir(mnt, 0755) < 0 || shmfs_region_make(region, &make, &geometry, &diag) < 0)
        fail("%s: cannot be made", region);
    writers = mmap(NULL, WRITERS * sizeof(*writers), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    rest = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (writers == MAP_FAILED || rest == MAP_FAILED)
        fail("no memory");
}

int main(int argc, char **argv)
{
    static const struct option list[] = { { "seconds", required_argument, NULL, 's' },
                                          { "seed", required_argument, NULL, 'r' },
                                          { "kill", no_argument, NULL, 'k' },
                                          { NULL, 0, NULL, 0 } };
    bool kills = false;
    int opt, r;

    while ((opt = getopt_long(argc, argv, "", list, NULL)) != -1) {
        if (opt == 's')
            seconds = atof(optarg);
        else if (opt == 'r')
            seed = strtoull(optarg, NULL, 0);
        else if (opt == 'k')
            kills = true;
        else
            return 2;
    }
    alarm((unsigned)seconds * 4 + 120);
    prepare();
    r = kills ? deaths() : point_in_time();
    remove_all();
    return r;
}
