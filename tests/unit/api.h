/* SPDX-License-Identifier: MIT */
#ifndef TEST_API_H
#define TEST_API_H

/*
 * What the tests of the public API share. They see a filesystem through shmfs.h alone, as programs do;
 * of the library's other parts they use only what makes a region and what checks it.
 *
 * Each test gets a new region, attached as `fs`. A child that spawn() made has that attach as its own
 * (A12). When the test is over the region must pass the check (P2, P6).
 */
#include "fixture.h"

#include <dirent.h>
#include <grp.h>
#include <limits.h>
#include <linux/falloc.h>
#include <sys/file.h>
#include <sys/syscall.h>

#include "shmfs.h"

enum {
    NOBODY = 65534,
    FRIENDS = 4242, /* a group that nobody is in, until a test puts somebody there */
    PAGE = 4096,
};

/* ---- attaching -------------------------------------------------------------------------------- */

static inline struct shmfs *api_attach_at(const char *where, unsigned flags)
{
    struct shmfs *ret = NULL;
    int r = shmfs_attach(where, flags, &ret);

    if (r < 0)
        broken_at(shmfs_attach_error(), r, __FILE__, __LINE__);
    return ret;
}

static inline struct shmfs *api_attach(unsigned flags)
{
    return api_attach_at(region_path, flags);
}

static inline void api_detach(void)
{
    shmfs_detach(fs);
    fs = NULL;
}

/* A new region in place of the one that the test began with. */
static inline void api_renew(uint64_t size, uint64_t inodes)
{
    api_detach();
    unlink(region_path);
    make_path(region_path, size, size, inodes);
    fs = api_attach(0);
}

static inline int api_setup(void **state)
{
    hash_mask = UINT64_MAX;
    umask(022);
    snprintf(region_path, sizeof(region_path), "%s/shmfs-api-%d", test_directory(), (int)getpid());
    api_renew(REGION_SIZE, 0);
    bus_remember();
    return 0;
}

static inline int api_teardown(void **state)
{
    api_detach();
    uint64_t problems = problems_of(region_path);
    unlink(region_path);
    return problems == 0 ? 0 : -1;
}

#define api_unit(f) cmocka_unit_test_setup_teardown(f, api_setup, api_teardown)

/* Who attaches buries the dead that it finds. */
static inline void bury(void)
{
    shmfs_detach(api_attach(0));
}

/* ---- files ------------------------------------------------------------------------------------- */

static inline struct shmfs_file *open_in(struct shmfs *in, const char *path, int oflags)
{
    struct shmfs_file *ret = NULL;
    int r = shmfs_open(in, path, oflags, 0644, &ret);

    if (r < 0)
        broken_at(path, r, __FILE__, __LINE__);
    CHECK(ret != NULL);
    return ret;
}

static inline struct shmfs_file *open_file(const char *path, int oflags)
{
    return open_in(fs, path, oflags);
}

/* 0 if it opens. */
static inline int open_result(const char *path, int oflags, mode_t mode)
{
    struct shmfs_file *const untouched = (struct shmfs_file *)(uintptr_t)0x5a5a;
    struct shmfs_file *file = untouched;
    int r = shmfs_open(fs, path, oflags, mode, &file);

    if (r == 0)
        CHECK_EQ(shmfs_close(file), 0);
    else
        CHECK(file == untouched);
    return r;
}

static inline void close_file(struct shmfs_file *file)
{
    CHECK_EQ(shmfs_close(file), 0);
}

/* A file of n bytes, all of them `byte`. */
static inline void put_bytes(const char *path, int byte, size_t n)
{
    struct shmfs_file *file = open_file(path, O_WRONLY | O_CREAT | O_TRUNC);
    AUTO_FREE char *buf = malloc(n + 1);

    CHECK(buf != NULL);
    memset(buf, byte, n);
    CHECK_EQ(shmfs_pwrite(file, buf, n, 0), n);
    close_file(file);
}

static inline void put_text(const char *path, const char *text)
{
    struct shmfs_file *file = open_file(path, O_WRONLY | O_CREAT | O_TRUNC);

    CHECK_EQ(shmfs_pwrite(file, text, strlen(text), 0), strlen(text));
    close_file(file);
}

static inline bool all_are(const void *bytes, int byte, size_t n)
{
    const unsigned char *p = bytes;

    for (size_t i = 0; i < n; i++)
        if (p[i] != byte)
            return false;
    return true;
}

/* Bytes [off, off + n) are there, and all of them are `byte`. */
static inline void assert_bytes(struct shmfs_file *file, int byte, size_t n, off_t off)
{
    AUTO_FREE char *buf = malloc(n + 1);

    CHECK(buf != NULL);
    CHECK_EQ(shmfs_pread(file, buf, n, off), n);
    CHECK(all_are(buf, byte, n));
}

static inline void assert_text(const char *path, const char *text)
{
    struct shmfs_file *file = open_file(path, O_RDONLY);
    char buf[256];

    CHECK_EQ(shmfs_pread(file, buf, sizeof(buf), 0), strlen(text));
    CHECK(memcmp(buf, text, strlen(text)) == 0);
    close_file(file);
}

static inline struct stat stat_of(const char *path)
{
    struct stat st;

    MUST(shmfs_lstat(fs, path, &st));
    return st;
}

static inline struct stat fstat_of(struct shmfs_file *file)
{
    struct stat st;

    MUST(shmfs_fstat(file, &st));
    return st;
}

static inline int lstat_result(const char *path)
{
    struct stat st;

    return shmfs_lstat(fs, path, &st);
}

/* ---- space -------------------------------------------------------------------------------------- */

static inline struct statvfs space_now(void)
{
    struct statvfs now;

    MUST(shmfs_statfs(fs, &now));
    return now;
}

/* Not a block and not an inode is missing that was free then. */
static inline void assert_space(const struct statvfs *then)
{
    struct statvfs now = space_now();

    CHECK_EQ(now.f_bfree, then->f_bfree);
    CHECK_EQ(now.f_ffree, then->f_ffree);
}

/* Takes all that is left: a file of nothing but `byte`. */
static inline void fill_up(const char *path, int byte)
{
    struct shmfs_file *file = open_file(path, O_WRONLY | O_CREAT);
    char buf[PAGE];
    ssize_t r;

    memset(buf, byte, sizeof(buf));
    while ((r = shmfs_append(file, buf, sizeof(buf), NULL)) > 0)
        continue;
    CHECK_EQ(r, -ENOSPC);
    CHECK_EQ(space_now().f_bfree, 0);
    close_file(file);
}

static inline void assert_all_bytes(const char *path, int byte)
{
    struct shmfs_file *file = open_file(path, O_RDONLY);
    off_t size = fstat_of(file).st_size;
    char buf[16 * PAGE];
    ssize_t n;

    for (off_t at = 0; at < size; at += n) {
        n = (ssize_t)MUST(shmfs_pread(file, buf, sizeof(buf), at));
        CHECK(n > 0 && all_are(buf, byte, (size_t)n));
    }
    close_file(file);
}

/* ---- other processes ----------------------------------------------------------------------------- */

static inline void run_function(int fd, void *arg)
{
    void (*f)(void) = (void (*)(void))(uintptr_t)arg;

    f();
}

/* Runs f in a child, to its end. */
static inline void in_child(void (*f)(void))
{
    struct child child = spawn(run_function, (void *)(uintptr_t)f);

    assert_ends_well(&child);
}

/* An ordinary user from here on, with one supplementary group, or none (0). */
static inline void become(uid_t uid, gid_t gid, gid_t other)
{
    MUST(setgroups(other != 0, &other));
    MUST(setresgid(gid, gid, gid));
    MUST(setresuid(uid, uid, uid));
    CHECK_EQ(shmfs_setcreds(fs), 0);
}

static inline void run_as_nobody(int fd, void *arg)
{
    become(NOBODY, NOBODY, 0);
    run_function(fd, arg);
}

/* Runs f in a child that is an ordinary user. Skips the test where we are none that could. */
static inline void as_nobody(void (*f)(void))
{
    if (geteuid() != 0)
        skip();
    struct child child = spawn(run_as_nobody, (void *)(uintptr_t)f);
    assert_ends_well(&child);
}

/*
 * Waits until the child sleeps. It has passed us the turn right before the call that we expect it to
 * sleep in; nothing tells of a sleep but its state.
 */
static inline void await_sleep(const struct child *child)
{
    char path[32], text[256];
    const char *state;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)child->pid);
    do {
        sched_yield();
        AUTO_CLOSE int fd = (int)MUST(open(path, O_RDONLY | O_CLOEXEC));
        ssize_t n = MUST(read(fd, text, sizeof(text) - 1));
        text[n] = 0;
        state = strrchr(text, ')');
        CHECK(state != NULL && state[2] != 'Z');
    } while (state[2] != 'S');
}

/* Stops it, and knows that it stands. */
static inline void stop_child(const struct child *child)
{
    int status;

    MUST(kill(child->pid, SIGSTOP));
    MUST(waitpid(child->pid, &status, WUNTRACED));
    CHECK(WIFSTOPPED(status));
}

/* f runs into a segmentation fault, in a process of its own. */
static inline void dump_no_core(int fd, void *arg)
{
    struct rlimit none = { 0, 0 };

    setrlimit(RLIMIT_CORE, &none);
    signal(SIGSEGV, SIG_DFL);
    run_function(fd, arg);
}

static inline void assert_faults(void (*f)(void))
{
    struct child child = spawn(dump_no_core, (void *)(uintptr_t)f);
    int status = reap(&child);

    if (!(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV))
        fail_msg("the child ended with status %#x, and not by SIGSEGV", (unsigned)status);
}

#endif
