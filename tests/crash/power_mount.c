/* SPDX-License-Identifier: MIT */
/*
 * P4: the power is cut at any moment while programs on a mount sync what they write. Whatever is left on the disk then, the
 * image opens, restores, passes the check, and has all that any program was told is durable: a log without a hole,
 * and databases that SQLite finds whole.
 *
 *   power_mount TRACE POWER_SQLITE.PY [SEED]     (tests/mount/test_power.sh makes the trace: disk_trace.h)
 */
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../mount/disk_trace.h"
#include "image.h"
#include "node.h"
#include "power_disk.h"
#include "shmfs.h"
#include "storage.h"

enum { PROGRAMS = 4, TOLD_MAX = 8192, COMMITS_MAX = 8192, FILE_MAX = 16 << 20, LEFT_OUT = 8 };

static const char *const databases[PROGRAMS] = { NULL, "WAL.db", "TRUNCATE.db", "DELETE.db" };
static uint64_t told[TOLD_MAX][PROGRAMS]; /* durable by then */
static unsigned ntold = 1;
static char why[128];
static char dir[64];
static FILE *to_sqlite, *from_sqlite;

/* What was found in commits so far: their pages are looked at each time, what the pages mean only once. */
static struct {
    uint8_t uuid[16];
    uint64_t sequence;
    int64_t has[PROGRAMS]; /* -1: damaged */
} commits[COMMITS_MAX];
static unsigned ncommits;

/* ---- what a commit has --------------------------------------------------------------------------- */

static ssize_t read_file(struct shmfs *fs, const char *name, uint8_t *buf)
{
    struct shmfs_file *f;
    ssize_t n;

    if (shmfs_open(fs, name, O_RDONLY, 0, &f) < 0)
        return -1;
    n = shmfs_pread(f, buf, FILE_MAX, 0);
    shmfs_close(f);
    return n;
}

static int64_t lines_of_log(struct shmfs *fs)
{
    static uint8_t buf[FILE_MAX];
    char want[64];
    ssize_t size = read_file(fs, "log", buf), at = 0;
    int64_t n = 0;

    while (at < size) {
        int len = snprintf(want, sizeof(want), "%08" PRId64 ", and so on to the end of the line\n", n + 1);

        if (size - at < len || memcmp(buf + at, want, (size_t)len) != 0)
            return -1;
        at += len;
        n++;
    }
    return n;
}

static void extract(struct shmfs *fs, const char *database, const char *suffix)
{
    static uint8_t buf[FILE_MAX];
    char name[64], path[160];
    ssize_t n;
    int fd;

    snprintf(name, sizeof(name), "%s%s", database, suffix);
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    unlink(path);
    n = read_file(fs, name, buf);
    if (n < 0)
        return;
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, buf, (size_t)n) != n)
        err(1, "%s", path);
    close(fd);
}

static int64_t rows_of(struct shmfs *fs, const char *database)
{
    static const char *const suffixes[] = { "-wal", "-journal", "-shm" };
    char path[160];
    int64_t n;

    snprintf(path, sizeof(path), "%s/%s-shm", dir, database);
    unlink(path); /* is never durable */
    for (int i = 0; i < 2; i++)
        extract(fs, database, suffixes[i]);
    extract(fs, database, "");
    snprintf(path, sizeof(path), "%s/%s", dir, database);
    if (access(path, F_OK) < 0)
        return 0;
    fprintf(to_sqlite, "%s\n", path);
    fflush(to_sqlite);
    if (fscanf(from_sqlite, "%" SCNd64, &n) != 1)
        errx(1, "power_sqlite.py does not answer");
    return n;
}

static void on_problem(void *arg, const struct shmfs_problem *problem)
{
    fprintf(stderr, "check: inode %u: %s\n", problem->ino, problem->text);
}

static int is_sound(const char *region)
{
    const struct shmfs_check check = { .problem = on_problem };
    struct shmfs_check_result result;
    struct shmfs_diag diag;
    struct shmfs *fs;
    int r = shmfs_region_attach(region, SHMFS_ATTACH_PRIVATE, &fs, &diag);

    if (r < 0)
        return 0;
    r = shmfs_check_run(fs, &check, &result);
    shmfs_region_detach(fs);
    return r == 0 && result.problems == 0;
}

static void look_at(const char *image, int64_t *has)
{
    const struct shmfs_restore how = { .force = true, .mode = 0600 };
    struct shmfs_restore_result result;
    struct shmfs_diag diag;
    char region[96];
    struct shmfs *fs;
    int r;

    for (int i = 0; i < PROGRAMS; i++)
        has[i] = -1;
    snprintf(region, sizeof(region), "%s/region", dir);
    r = shmfs_image_restore(image, region, &how, &result, &diag);
    if (r == 0 && is_sound(region) && shmfs_attach(region, 0, &fs) == 0) {
        has[0] = lines_of_log(fs);
        for (int i = 1; i < PROGRAMS; i++)
            has[i] = rows_of(fs, databases[i]);
        shmfs_detach(fs);
    }
    unlink(region);
}

static int pages_are_whole(struct image *img)
{
    static uint8_t page[IMAGE_PAGE];
    int r = 0;

    for (uint64_t i = 0; i < image_npages(img) && r == 0; i++) {
        if (!image_is_hole(img, i))
            r = image_read(img, i, page);
    }
    return r;
}

static const int64_t *commit_of(const char *path)
{
    struct image_diag diag;
    struct image *img;
    unsigned i;

    strcpy(why, "it does not open");
    if (image_open(path, IMAGE_READ, &img, &diag) < 0)
        return NULL;
    strcpy(why, "a page is damaged");
    if (pages_are_whole(img) < 0) {
        image_close(img);
        return NULL;
    }
    for (i = 0; i < ncommits; i++) {
        if (commits[i].sequence == image_sequence(img) && memcmp(commits[i].uuid, image_uuid(img), 16) == 0)
            break;
    }
    if (i == COMMITS_MAX)
        errx(1, "too many commits");
    if (i == ncommits) {
        memcpy(commits[i].uuid, image_uuid(img), 16);
        commits[i].sequence = image_sequence(img);
        look_at(path, commits[i].has);
        ncommits++;
    }
    image_close(img);
    return commits[i].has;
}

static int check(const char *path, unsigned state)
{
    const int64_t *has;

    strcpy(why, "nothing is there, though something was told");
    if (!path)
        return state > 0;
    has = commit_of(path);
    if (!has)
        return 1;
    for (int i = 0; i < PROGRAMS; i++) {
        if (has[i] < 0 || (uint64_t)has[i] < told[state][i]) {
            snprintf(why, sizeof(why),
                     "program %d: %" PRId64 " transactions (-1: damaged), %" PRIu64 " were told", i, has[i],
                     told[state][i]);
            return 1;
        }
    }
    return 0;
}

/* ---- the trace ------------------------------------------------------------------------------------- */

static void replay(const uint8_t *p, const uint8_t *end)
{
    static const enum storage_step steps[] = { [TRACE_WRITE] = STORAGE_WRITE,
                                               [TRACE_RESIZE] = STORAGE_RESIZE,
                                               [TRACE_SYNC] = STORAGE_SYNC,
                                               [TRACE_RENAME] = STORAGE_RENAME,
                                               [TRACE_SYNC_NAME] = STORAGE_SYNC_NAME };
    struct trace_record rec;

    disk_record();
    for (; p + sizeof(rec) <= end; p += sizeof(rec) + (rec.kind == TRACE_WRITE ? rec.n : 0)) {
        memcpy(&rec, p, sizeof(rec));
        if (rec.kind == TRACE_NEW_FILE) {
            disk_new_file();
        } else if (rec.kind == TRACE_TOLD) {
            if (ntold == TOLD_MAX || rec.off >= PROGRAMS)
                errx(1, "the trace makes no sense");
            memcpy(told[ntold], told[ntold - 1], sizeof(told[0]));
            told[ntold][rec.off] = rec.n;
            disk_told(ntold++);
        } else {
            storage_hook(steps[rec.kind], "", rec.off, rec.kind == TRACE_WRITE ? p + sizeof(rec) : NULL,
                         rec.n);
        }
    }
    disk_end();
}

static void read_trace(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *p;

    if (fd < 0 || fstat(fd, &st) < 0)
        err(1, "%s", path);
    p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        err(1, "%s", path);
    replay(p, (uint8_t *)p + st.st_size);
    munmap(p, (size_t)st.st_size);
    close(fd);
}

static void start_sqlite(const char *script)
{
    int to[2], from[2];

    if (pipe(to) < 0 || pipe(from) < 0)
        err(1, "pipe");
    if (fork() == 0) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        close(to[1]);
        close(from[0]);
        execlp("python3", "python3", script, NULL);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    to_sqlite = fdopen(to[1], "w");
    from_sqlite = fdopen(from[0], "r");
}

/* The proof that it can fail: of the syncs that are needed, some, spread over all. */
static int leave_out_syncs(const char *path, uint64_t seed)
{
    int needed[1 << 16], n = 0, bad = 0;
    uint64_t states, all = 0;

    for (int i = 0; i < disk_steps() && n < 1 << 16; i++) {
        if (disk_is_needed(i))
            needed[n++] = i;
    }
    for (int i = 0; i < LEFT_OUT && !bad; i++) {
        int step = needed[(int)((uint64_t)n * (uint64_t)i / LEFT_OUT)];

        if (!disk_cuts(path, step, seed, check, &states)) {
            printf("without the sync of step %d nothing is seen\n", step);
            bad = 1;
        }
        all += states;
    }
    if (!bad)
        printf("%d of %d syncs left out, one at a time: each is seen (%ju states)\n", LEFT_OUT, n,
               (uintmax_t)all);
    return bad;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 0) : 1, states;
    char path[96], command[128];
    int bad;

    if (argc < 3)
        return 2;
    snprintf(dir, sizeof(dir), "/dev/shm/shmfs-power.XXXXXX");
    if (!mkdtemp(dir))
        err(1, "%s", dir);
    snprintf(path, sizeof(path), "%s/image", dir);
    start_sqlite(argv[2]);
    read_trace(argv[1]);
    bad = disk_cuts(path, NO_STEP, seed, check, &states);
    printf("seed %ju: %d steps, %u commits, %u times somebody was told; %ju states after a power cut: %s\n",
           (uintmax_t)seed, disk_steps(), ncommits, ntold - 1, (uintmax_t)states, bad ? why : "all whole");
    if (!bad)
        bad = leave_out_syncs(path, seed);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command) != 0 || bad;
}
