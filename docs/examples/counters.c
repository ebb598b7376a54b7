/* SPDX-License-Identifier: MIT */
/*
 * Counters that any process can look at by name, while those who count pay no more than an addition in
 * memory: no system call, no message, no lock.
 *
 *   cc -o counters counters.c $(pkg-config --cflags --libs shmfs)
 *   mkfs.shmfs --size 64M /dev/shm/region
 *   find / | ./counters publish /dev/shm/region /found    counts the lines, words and bytes of its input
 *   ./counters poll /dev/shm/region /found                prints them
 *   ./counters poll /dev/shm/region /found 1000           prints them again every 1000 ms
 *
 * The publisher makes the file, maps it and adds to the words in it, which is all. It can be killed
 * and started again: the counters are in the file, and go on. There can be several of them.
 *
 * The poller attaches read-only, which needs no more than read permission for the region, leaves no
 * trace in it and cannot disturb anybody. The price: nothing is kept for it. If somebody removes or
 * truncates the file, its memory may soon be another file's. So the poller copies the numbers first and
 * then asks whether the file is still the one that it mapped, as it was: its version tells, which every
 * change but a store through a pointer raises. If it is not, the copy is thrown away and the file opened anew.
 *
 * Each number is whole; they are not all of one moment. Who needs that adds a sequence number, odd
 * while the others change, and copies again where it was odd or has moved.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <shmfs.h>

/* A struct with other counters gets another number: old readers then refuse it, and do not misread it. */
#define MAGIC UINT64_C(0x3130746e756f4321)

/* The file. */
struct counters {
    _Atomic uint64_t magic; /* 0: just made */
    _Atomic uint64_t lines, words, bytes;
};

static _Noreturn void die(const char *what, int err)
{
    fprintf(stderr, "counters: %s: %s\n", what, strerror(-err));
    exit(1);
}

static _Noreturn void not_ours(const char *path)
{
    fprintf(stderr, "counters: %s: holds no counters of this version; use another name\n", path);
    exit(1);
}

static struct shmfs *attach(const char *region, unsigned flags)
{
    struct shmfs *fs;

    if (shmfs_attach(region, flags, &fs) < 0) {
        fprintf(stderr, "counters: %s\n", shmfs_attach_error());
        exit(1);
    }
    return fs;
}

/* ---- who counts ------------------------------------------------------------------------------ */

static struct counters *counters_make(struct shmfs *fs, const char *path)
{
    struct shmfs_file *file;
    struct counters *c;
    uint64_t magic = 0;
    struct stat st;
    int r = shmfs_open(fs, path, O_RDWR | O_CREAT, 0644, &file);

    if (r < 0 || (r = shmfs_fstat(file, &st)) < 0)
        die(path, r);
    if (st.st_size == 0 && (r = shmfs_ftruncate(file, sizeof(*c))) < 0)
        die(path, r);
    if (st.st_size != 0 && st.st_size != sizeof(*c))
        not_ours(path);
    r = shmfs_map(file, 0, sizeof(*c), PROT_READ | PROT_WRITE, (void **)&c);
    if (r < 0)
        die(path, r);
    /* A new file is all zeros, which is right but for this. */
    if (!atomic_compare_exchange_strong(&c->magic, &magic, MAGIC) && magic != MAGIC)
        not_ours(path);
    shmfs_close(file); /* the mapping stays */
    return c;
}

static void publish(struct counters *c)
{
    int last = ' ';

    for (int ch; (ch = getchar()) != EOF; last = ch) {
        int space = ch == ' ' || ch == '\n' || ch == '\t';

        /* Relaxed: nobody concludes anything from one number about another. */
        atomic_fetch_add_explicit(&c->bytes, 1, memory_order_relaxed);
        if (ch == '\n')
            atomic_fetch_add_explicit(&c->lines, 1, memory_order_relaxed);
        if (!space && (last == ' ' || last == '\n' || last == '\t'))
            atomic_fetch_add_explicit(&c->words, 1, memory_order_relaxed);
    }
}

/* ---- who looks ------------------------------------------------------------------------------- */

struct view {
    struct shmfs_file *file;
    struct counters *counters;
    uint64_t version;
};

/* 0, or a negative errno: -ENOENT, -ENXIO (made, but still empty), -EAGAIN (being changed), -ESTALE. */
static int view_open(struct shmfs *fs, const char *path, struct view *ret)
{
    struct view v = { 0 };
    int r = shmfs_open(fs, path, O_RDONLY, 0, &v.file);

    if (r < 0)
        return r;
    r = shmfs_wait(v.file, &v.version, 0); /* the version first: what changes from here on will be seen */
    if (r == 0)
        r = shmfs_map(v.file, 0, sizeof(*v.counters), PROT_READ, (void **)&v.counters);
    if (r < 0) {
        shmfs_close(v.file);
        return r;
    }
    *ret = v;
    return 0;
}

static void view_close(struct shmfs *fs, struct view *v)
{
    shmfs_unmap(fs, v->counters, sizeof(*v->counters));
    shmfs_close(v->file);
}

/* Copies the counters. -ESTALE: they are no longer those of the file; open it anew. */
static int view_read(struct view *v, uint64_t ret[4])
{
    uint64_t copy[4] = { atomic_load(&v->counters->magic), atomic_load(&v->counters->lines),
                         atomic_load(&v->counters->words), atomic_load(&v->counters->bytes) };
    int r = shmfs_wait(v->file, &v->version, 0);

    if (r != -ETIMEDOUT) /* 0: something changed */
        return r == 0 ? -ESTALE : r;
    memcpy(ret, copy, sizeof(copy));
    return 0;
}

/* What passes by itself: the file is being replaced, or changed, or was just made. */
static int is_passing(int r)
{
    return r == -ESTALE || r == -EAGAIN || r == -ENXIO;
}

/* Copies the counters, from a file opened anew if need be. */
static int look(struct shmfs *fs, const char *path, struct view *v, uint64_t ret[4])
{
    const struct timespec moment = { 0, 1000000 };
    int r = v->file != NULL ? view_read(v, ret) : -ESTALE;

    for (int tries = 0; is_passing(r) && tries < 1000; tries++) {
        if (v->file != NULL)
            view_close(fs, v);
        v->file = NULL;
        if (tries > 0)
            nanosleep(&moment, NULL);
        r = view_open(fs, path, v);
        if (r == 0)
            r = view_read(v, ret);
    }
    return r;
}

static void poll_counters(struct shmfs *fs, const char *path, long every_ms)
{
    const struct timespec pause = { every_ms / 1000, every_ms % 1000 * 1000000 };
    struct view v = { 0 };
    uint64_t n[4];

    do {
        int r = look(fs, path, &v, n);

        if (r == -ENXIO || (r == 0 && n[0] != MAGIC && n[0] != 0))
            not_ours(path);
        if (r < 0)
            die(path, r);
        printf("lines %" PRIu64 " words %" PRIu64 " bytes %" PRIu64 "\n", n[1], n[2], n[3]);
        fflush(stdout);
    } while (every_ms > 0 && nanosleep(&pause, NULL) == 0);
}

int main(int argc, char **argv)
{
    struct shmfs *fs;

    if (argc == 4 && strcmp(argv[1], "publish") == 0) {
        fs = attach(argv[2], 0);
        publish(counters_make(fs, argv[3]));
    } else if ((argc == 4 || argc == 5) && strcmp(argv[1], "poll") == 0) {
        fs = attach(argv[2], SHMFS_RDONLY);
        poll_counters(fs, argv[3], argc == 5 ? strtol(argv[4], NULL, 10) : 0);
    } else {
        fprintf(stderr, "Usage: counters publish REGION /NAME\n"
                        "       counters poll REGION /NAME [EVERY_MS]\n");
        return 2;
    }
    shmfs_detach(fs);
    return 0;
}
