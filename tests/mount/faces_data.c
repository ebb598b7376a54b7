/* SPDX-License-Identifier: MIT */
/* What is in files, limits, and locks between programs. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "faces.h"

enum { BIG = 300000 };
static char data[BIG], back[BIG];

/* Size, and a sum over all bytes. */
static void content(const struct face *f, const char *path)
{
    uint64_t sum = 14695981039346656037u, size = 0;
    struct handle h;
    long n;

    MUST(op_open(f, path, O_RDONLY, 0, &h));
    while ((n = MUST(op_pread(&h, back, sizeof(back), (off_t)size))) > 0 && size < 8 << 20) {
        for (long i = 0; i < n; i++)
            sum = (sum ^ (uint8_t)back[i]) * 1099511628211u;
        size += (uint64_t)n;
    }
    MUST(op_close(&h));
    tell("%s holds %llu bytes, %016llx", path, (unsigned long long)size, (unsigned long long)sum);
}

static void reads_and_writes(const struct face *f)
{
    static const size_t sizes[] = { 0, 1, 4095, 4096, 4097, 65536, 65537, BIG };
    static const off_t offsets[] = { 0, 1, 4095, 100000, -1, INT64_MAX, INT64_MAX - 1 };
    struct handle h;

    for (size_t i = 0; i < BIG; i++)
        data[i] = (char)(i * 7 + i / 4096);
    MUST(op_open(f, "/f", O_RDWR | O_CREAT, 0644, &h));
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (size_t k = 0; k < sizeof(offsets) / sizeof(offsets[0]); k++) {
            label("%zu bytes at %lld", sizes[i], (long long)offsets[k]);
            if (offsets[k] < INT64_MAX - 1) /* a file of that size would be read whole below */
                SAY(op_pwrite(&h, data, sizes[i], offsets[k]));
            SAY(op_pread(&h, back, sizes[i], offsets[k]));
            look(f, "/f");
        }
        content(f, "/f");
    }
    label("at the end");
    SAY(op_pwrite(&h, data, 1, INT64_MAX));
    SAY(op_pwrite(&h, data, 2, INT64_MAX - 1));
    look(f, "/f");
    MUST(op_close(&h));
}

static void by_modes(const struct face *f)
{
    static const int flags[] = {
        O_RDONLY, O_WRONLY, O_RDWR, O_WRONLY | O_APPEND, O_PATH, O_RDONLY | O_TRUNC
    };
    struct stat st;
    struct handle h;

    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        label("opened with %o", (unsigned)flags[i]);
        make_file(f, "/f", "some bytes", 10);
        MUST(op_open(f, "/f", flags[i], 0, &h));
        SAY(op_pread(&h, back, 4, 0));
        SAY(op_pwrite(&h, "XY", 2, 1));
        SAY(op_ftruncate(&h, 20));
        SAY(op_seek(&h, 0, SEEK_HOLE));
        SAY(op_fallocate(&h, 0, 0, 5000));
        SAY(op_fallocate(&h, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2, 2));
        SAY(op_fsync(&h));
        SAY(op_fstat(&h, &st));
        SAY(op_fchmod(&h, 0600));
        SAY(op_fchown(&h, 5, 6));
        SAY(op_futimens(&h, NULL));
        MUST(op_close(&h));
        look(f, "/f");
        content(f, "/f");
    }
    label("a directory");
    MUST(op_mkdir(f, "/d", 0755));
    MUST(op_open(f, "/d", O_RDONLY, 0, &h));
    SAY(op_pread(&h, back, 4, 0));
    SAY(op_pwrite(&h, "x", 1, 0));
    SAY(op_ftruncate(&h, 0));
    SAY(op_fallocate(&h, 0, 0, 10));
    SAY(op_fsync(&h));
    SAY(op_fchmod(&h, 0700));
    SAY(op_flock(&h, LOCK_EX | LOCK_NB));
    MUST(op_close(&h));
    look(f, "/d");
}

static void appends(const struct face *f)
{
    struct handle a, b;

    MUST(op_open(f, "/f", O_RDWR | O_CREAT | O_APPEND, 0644, &a));
    MUST(op_open(f, "/f", O_WRONLY | O_APPEND, 0, &b));
    for (int i = 0; i < 50; i++) {
        SAY(op_pwrite(&a, data, (size_t)(i * 97), 0));
        SAY(op_pwrite(&b, data + i, (size_t)(i * 31), 12345));
    }
    content(f, "/f");
    SAY(op_ftruncate(&a, 3));
    SAY(op_pwrite(&b, "end", 3, 0));
    content(f, "/f");
    MUST(op_close(&a));
    MUST(op_close(&b));
}

static void sizes(const struct face *f)
{
    static const off_t to[] = { 10, 0, 4096, 4095, 100000, 5000, 1 << 20, -1, (off_t)1 << 40, INT64_MAX };
    struct handle h;

    for (size_t i = 0; i < sizeof(to) / sizeof(to[0]); i++) {
        label("to %lld", (long long)to[i]);
        make_file(f, "/f", data, 9000);
        SAY(op_truncate(f, "/f", to[i]));
        look(f, "/f");
        if (to[i] <= 1 << 20)
            content(f, "/f");
        MUST(op_open(f, "/f", O_RDWR, 0, &h));
        SAY(op_ftruncate(&h, to[i]));
        SAY(op_ftruncate(&h, 12000));
        MUST(op_close(&h));
        content(f, "/f");
    }
}

static void allocation(const struct face *f)
{
    static const int modes[] = { 0,
                                 FALLOC_FL_KEEP_SIZE,
                                 FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                 FALLOC_FL_PUNCH_HOLE,
                                 FALLOC_FL_COLLAPSE_RANGE,
                                 FALLOC_FL_INSERT_RANGE,
                                 1 << 12 };
    static const off_t ranges[][2] = { { 0, 4096 },  { 100, 50 },    { 4000, 9000 },       { 19000, 5000 },
                                       { 0, 0 },     { -1, 10 },     { 10, -1 },           { 50000, 4096 },
                                       { 0, 40000 }, { 4096, 8192 }, { INT64_MAX - 5, 10 } };
    struct handle h;

    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        for (size_t k = 0; k < sizeof(ranges) / sizeof(ranges[0]); k++) {
            label("mode %d of %lld + %lld", modes[i], (long long)ranges[k][0], (long long)ranges[k][1]);
            make_file(f, "/f", data, 20000);
            MUST(op_open(f, "/f", O_RDWR, 0, &h));
            SAY(op_fallocate(&h, modes[i], ranges[k][0], ranges[k][1]));
            content(f, "/f");
            /* Blocks that were allocated and never written are holes on tmpfs, and data here. */
            for (off_t at = 0; modes[i] != 0 && at <= 20000; at += 4000) {
                SAY(op_seek(&h, at, SEEK_DATA));
                SAY(op_seek(&h, at, SEEK_HOLE));
            }
            SAY(op_seek(&h, -1, SEEK_HOLE));
            SAY(op_seek(&h, 1 << 20, SEEK_DATA));
            MUST(op_close(&h));
        }
    }
}

static void without_a_name(const struct face *f)
{
    struct stat st;
    struct handle h;

    make_file(f, "/f", data, 5000);
    MUST(op_open(f, "/f", O_RDWR, 0, &h));
    SAY(op_unlink(f, "/f"));
    MUST(op_fstat(&h, &st));
    tell("links %lu size %ld", (unsigned long)st.st_nlink, (long)st.st_size);
    SAY(op_pwrite(&h, data, 5000, 5000));
    SAY(op_pread(&h, back, sizeof(back), 0));
    SAY(op_fchmod(&h, 0600));
    SAY(op_flink(&h, "/again"));
    MUST(op_close(&h));
    MUST(op_mkdir(f, "/d", 0755));
    MUST(op_open(f, "/d", O_RDWR | O_TMPFILE, 0640, &h));
    MUST(op_fstat(&h, &st));
    tell("mode %o links %lu size %ld", st.st_mode, (unsigned long)st.st_nlink, (long)st.st_size);
    SAY(op_pwrite(&h, data, 7000, 0));
    SAY(op_flink(&h, "/d"));
    SAY(op_flink(&h, "/no/x"));
    SAY(op_flink(&h, "/named"));
    SAY(op_flink(&h, "/d/twice"));
    MUST(op_close(&h));
    tree(f, "");
    MUST(op_open(f, "/d", O_RDWR | O_TMPFILE | O_EXCL, 0640, &h));
    SAY(op_flink(&h, "/never"));
    MUST(op_close(&h));
}

/* ---- limits -------------------------------------------------------------------------------------- */

static void limited(const struct face *f, void *unused)
{
    struct rlimit limit = { .rlim_cur = 10000, .rlim_max = 10000 };
    struct handle h, big;

    (void)unused;
    MUST(op_open(f, "/d/f", O_RDWR | O_CREAT, 0644, &h));
    MUST(op_open(f, "/d/big", O_RDWR, 0644, &big));
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    op_become(f);
    SAY(op_pwrite(&h, data, 4000, 8000));
    SAY(op_pwrite(&h, data, 1, 9999));
    SAY(op_pwrite(&h, data, 1, 10000));
    SAY(op_pwrite(&h, data, 0, 10000));
    SAY(op_pwrite(&h, data, 10, 20000));
    SAY(op_ftruncate(&h, 10001));
    SAY(op_ftruncate(&h, 10000));
    SAY(op_truncate(f, "/d/f", 10001));
    SAY(op_fallocate(&h, 0, 0, 20000));
    SAY(op_fallocate(&h, FALLOC_FL_KEEP_SIZE, 0, 20000));
    SAY(op_fallocate(&h, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 20000));
    /* What is longer already. */
    SAY(op_fallocate(&big, 0, 0, 40000));
    SAY(op_fallocate(&big, FALLOC_FL_KEEP_SIZE, 0, 40000));
    SAY(op_fallocate(&big, FALLOC_FL_KEEP_SIZE, 0, 60000));
    SAY(op_ftruncate(&big, 45000));
    SAY(op_ftruncate(&big, 46000));
    SAY(op_pwrite(&big, data, 1, 30000));
    look(f, "/d/f");
    look(f, "/d/big");
    MUST(op_close(&h));
    MUST(op_close(&big));
}

static void limits(const struct face *f)
{
    MUST(op_mkdir(f, "/d", 0777));
    MUST(op_chmod(f, "/d", 0777));
    make_file(f, "/d/big", data, 50000);
    MUST(op_chown(f, "/d/big", ALICE, ALICE));
    as_somebody(f, ALICE, false, limited, NULL);
}

/* ---- locks --------------------------------------------------------------------------------------- */

static long lock(const struct handle *h, int cmd, short type, off_t start, off_t n)
{
    struct flock fl = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = n };
    long r = op_fcntl(h, cmd, &fl);

    if (r >= 0 && (cmd == F_GETLK || cmd == F_OFD_GETLK))
        tell("found type %d at %ld + %ld", fl.l_type, (long)fl.l_start, (long)fl.l_len);
    return r;
}

static void other_locks(const struct face *f, void *unused)
{
    struct handle h;

    (void)unused;
    MUST(op_open(f, "/f", O_RDWR, 0, &h));
    SAY(lock(&h, F_SETLK, F_WRLCK, 0, 10));
    SAY(lock(&h, F_SETLK, F_RDLCK, 5, 1));
    SAY(lock(&h, F_SETLK, F_RDLCK, 20, 10));
    SAY(lock(&h, F_SETLK, F_WRLCK, 25, 1));
    SAY(lock(&h, F_SETLK, F_WRLCK, 10, 10));
    SAY(lock(&h, F_SETLK, F_WRLCK, 30, 0));
    SAY(lock(&h, F_GETLK, F_WRLCK, 0, 0));
    SAY(lock(&h, F_GETLK, F_RDLCK, 20, 0));
    SAY(lock(&h, F_OFD_SETLK, F_RDLCK, 3, 1));
    SAY(lock(&h, F_SETLK, 77, 0, 1));
    SAY(lock(&h, F_SETLK, F_RDLCK, -1, 1));
    SAY(op_flock(&h, LOCK_SH | LOCK_NB));
    SAY(op_flock(&h, 77));
    MUST(op_close(&h));
}

static void locks(const struct face *f)
{
    struct handle a, b, r;

    make_file(f, "/f", data, 100);
    MUST(op_chmod(f, "/f", 0666));
    MUST(op_open(f, "/f", O_RDWR, 0, &a));
    MUST(op_open(f, "/f", O_RDWR, 0, &b));
    MUST(op_open(f, "/f", O_RDONLY, 0, &r));
    label("between processes");
    SAY(lock(&a, F_SETLK, F_WRLCK, 0, 10));
    SAY(lock(&a, F_SETLK, F_RDLCK, 20, 10));
    SAY(op_flock(&a, LOCK_EX | LOCK_NB));
    as_somebody(f, BOB, false, other_locks, NULL);
    SAY(op_flock(&a, LOCK_SH | LOCK_NB));
    label("of one process");
    SAY(op_flock(&b, LOCK_SH | LOCK_NB));
    SAY(op_flock(&b, LOCK_EX | LOCK_NB));
    SAY(op_flock(&a, LOCK_UN));
    SAY(op_flock(&b, LOCK_EX | LOCK_NB));
    SAY(lock(&b, F_SETLK, F_WRLCK, 0, 10));
    SAY(lock(&b, F_OFD_SETLK, F_WRLCK, 0, 10));
    SAY(lock(&b, F_OFD_SETLK, F_WRLCK, 50, 10));
    SAY(lock(&a, F_OFD_SETLK, F_WRLCK, 55, 10));
    SAY(lock(&a, F_OFD_GETLK, F_WRLCK, 40, 0));
    SAY(lock(&r, F_SETLK, F_WRLCK, 80, 1));
    SAY(lock(&r, F_SETLK, F_RDLCK, 80, 1));
    label("after a close elsewhere");
    MUST(op_close(&r));
    as_somebody(f, BOB, false, other_locks, NULL);
    MUST(op_close(&a));
    MUST(op_close(&b));
}

const struct face_case faces_data[] = {
    { "reads_and_writes", reads_and_writes },
    { "by_modes", by_modes },
    { "appends", appends },
    { "sizes", sizes },
    { "allocation", allocation },
    { "without_a_name", without_a_name },
    { "limits", limits },
    { "locks", locks },
    { NULL, NULL },
};
