/* SPDX-License-Identifier: MIT */
#ifndef TEST_FIXTURE_H
#define TEST_FIXTURE_H

/*
 * What the tests of single floors share. Each test gets a new region as `fs` (setup), and when it is
 * over that region must pass the check (teardown): whatever was done to it, nothing leaked and nothing
 * is damaged (P2, P6).
 *
 * Other processes are children that attach for themselves: the mapping is not inherited (A12). They
 * and the test take turns through a socket, never by waiting for time to pass.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#undef BLOCK_SIZE /* some versions of <sys/mount.h> bring that of <linux/fs.h> with them */
#include "recover.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define GIB (MIB * KIB)

/* ---- assertions that also work in children and threads ------------------------------------------- */

/* True in children and in threads, which cannot jump out of a test as cmocka's assertions do. */
static _Thread_local bool away;

static inline void broken_at(const char *what, long long value, const char *file, int line)
{
    if (away) {
        fprintf(stderr, "%s:%d: %s: %lld\n", file, line, what, value);
        _exit(99);
    }
    print_error("%s: %lld\n", what, value);
    _fail(file, line);
}

static inline long long must_at(long long r, const char *what, const char *file, int line)
{
    if (r < 0)
        broken_at(what, r, file, line);
    return r;
}

/* The value, which must not be negative. */
#define MUST(x) must_at((long long)(x), #x, __FILE__, __LINE__)
#define CHECK(x) \
    do { \
        if (!(x)) \
            broken_at(#x, 0, __FILE__, __LINE__); \
    } while (0)
#define CHECK_EQ(x, y) \
    do { \
        long long check_ = (long long)(x); \
        if (check_ != (long long)(y)) \
            broken_at(#x " is not " #y, check_, __FILE__, __LINE__); \
    } while (0)

/* ---- a random sequence that is the same each time ------------------------------------------------- */

static uint64_t random_state;

/* SHMFS_TEST_SEED replays another sequence; failures print the seed. */
static inline void random_start(uint64_t seed)
{
    const char *other = getenv("SHMFS_TEST_SEED");

    random_state = other != NULL ? strtoull(other, NULL, 0) : seed;
    print_message("             seed %#jx (SHMFS_TEST_SEED)\n", (uintmax_t)random_state);
}

static inline uint64_t random_next(void)
{
    uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static inline uint64_t random_below(uint64_t n)
{
    return random_next() % n;
}

/* ---- the region ----------------------------------------------------------------------------------- */

static char region_path[64];
static struct shmfs *fs;
static uint64_t hash_mask; /* of directory hashes; see collide() */

static const struct shmfs_maker maker = { .uid = 0, .gid = 0, .umask = 0 };

/* In memory if there is such a directory: then holes are tmpfs's, as they are in use. */
static inline const char *test_directory(void)
{
    return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

/* Names lie in the same buckets each time. */
static inline void fix_seed(const char *path)
{
    struct superblock sb;
    AUTO_CLOSE int fd = (int)MUST(open(path, O_RDWR | O_CLOEXEC));

    CHECK_EQ(pread(fd, &sb, sizeof(sb), 0), sizeof(sb));
    sb.hash_seed = 42;
    sb.checksum = layout_checksum(&sb);
    CHECK_EQ(pwrite(fd, &sb, sizeof(sb), 0), sizeof(sb));
}

static inline struct shmfs *attach_path(const char *path, unsigned flags)
{
    struct shmfs *ret = NULL;
    struct shmfs_diag diag;
    char text[512];
    int r = shmfs_region_attach(path, flags, &ret, &diag);

    if (r < 0)
        broken_at(shmfs_diag_text(&diag, r, path, text, sizeof(text)), r, __FILE__, __LINE__);
    ret->hash_mask = hash_mask;
    return ret;
}

static inline struct shmfs *attach(unsigned flags)
{
    return attach_path(region_path, flags);
}

static inline void detach(void)
{
    if (fs != NULL)
        shmfs_region_detach(fs);
    fs = NULL;
}

static inline void make_path(const char *path, uint64_t size, uint64_t max_size, uint64_t inodes)
{
    struct shmfs_make make = { .size = size,
                               .max_size = max_size,
                               .inodes = inodes,
                               .mode = 0600,
                               .root_mode = 0755,
                               .root_uid = geteuid(),
                               .root_gid = getegid() };
    struct shmfs_geometry geometry;
    struct shmfs_diag diag;

    MUST(shmfs_region_make(path, &make, &geometry, &diag));
    fix_seed(path);
}

/* A new region in place of the one that the test began with. */
static inline void renew(uint64_t size, uint64_t inodes)
{
    detach();
    unlink(region_path);
    make_path(region_path, size, size, inodes);
    fs = attach(0);
}

/*
 * cmocka puts its own handlers in place of the library's for SIGBUS. Children get the library's back,
 * and so does a test that runs into holes.
 */
static struct sigaction library_bus;

static inline void bus_remember(void)
{
    if ((library_bus.sa_flags & SA_SIGINFO) == 0)
        MUST(sigaction(SIGBUS, NULL, &library_bus));
}

static inline void bus_restore(void)
{
    static const int others[] = { SIGSEGV, SIGFPE, SIGILL, SIGSYS };

    MUST(sigaction(SIGBUS, &library_bus, NULL));
    for (size_t i = 0; away && i < ARRAY_SIZE(others); i++)
        signal(others[i], SIG_DFL);
}

enum { REGION_SIZE = 16 << 20 };

static inline int setup(void **state)
{
    hash_mask = UINT64_MAX;
    snprintf(region_path, sizeof(region_path), "%s/shmfs-unit-%d", test_directory(), (int)getpid());
    unlink(region_path);
    renew(REGION_SIZE, 0);
    bus_remember();
    return 0;
}

static inline void print_problem(void *arg, const struct shmfs_problem *problem)
{
    print_error("check: %s\n", problem->text);
}

/* What the check says of a region that nobody has attached; prints it. */
static inline uint64_t problems_of(const char *path)
{
    struct shmfs_check check = { .problem = print_problem };
    struct shmfs_check_result result = { 0 };
    struct shmfs *seen = attach_path(path, SHMFS_ATTACH_PRIVATE);

    MUST(shmfs_check_run(seen, &check, &result));
    shmfs_region_detach(seen);
    return result.problems;
}

static inline void assert_clean(void)
{
    detach();
    assert_int_equal(problems_of(region_path), 0);
    fs = attach(0);
}

static inline int teardown(void **state)
{
    detach();
    uint64_t problems = access(region_path, F_OK) == 0 ? problems_of(region_path) : 0;
    unlink(region_path);
    return problems == 0 ? 0 : -1;
}

/* For tests whose regions are their own affair. */
static inline int remove_region(void **state)
{
    detach();
    unlink(region_path);
    return 0;
}

#define unit(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* ---- files ----------------------------------------------------------------------------------------- */

static inline uint32_t make_file(uint32_t dir, const char *name)
{
    struct shmfs_attr attr;

    MUST(shmfs_node_mknod(fs, dir, name, S_IFREG | 0644, 0, &maker, false, &attr));
    return attr.ino;
}

static inline uint32_t make_dir(uint32_t dir, const char *name)
{
    struct shmfs_attr attr;

    MUST(shmfs_node_mkdir(fs, dir, name, 0755, &maker, false, &attr));
    return attr.ino;
}

static inline struct shmfs_attr attr_of(uint32_t ino)
{
    struct shmfs_attr attr;

    MUST(shmfs_node_getattr(fs, ino, &attr));
    return attr;
}

static inline int lookup_error(uint32_t dir, const char *name)
{
    struct shmfs_attr attr;

    return shmfs_node_lookup(fs, dir, name, false, &attr);
}

static inline uint32_t ino_of(uint32_t dir, const char *name)
{
    struct shmfs_attr attr;

    MUST(shmfs_node_lookup(fs, dir, name, false, &attr));
    return attr.ino;
}

static inline struct shmfs_space space_of(const struct shmfs *of)
{
    struct shmfs_space space;

    shmfs_node_statfs((struct shmfs *)of, &space);
    return space;
}

/* Memory of the host that the region's file takes. */
static inline uint64_t memory_used(void)
{
    struct stat st;

    MUST(stat(region_path, &st));
    return (uint64_t)st.st_blocks * 512;
}

/* ---- a host that gets full ------------------------------------------------------------------------- */

static char host_path[64];

static inline void host_remove(void)
{
    umount2(host_path, MNT_DETACH);
    rmdir(host_path);
}

/*
 * A tmpfs of that many bytes, with the region in it. Only this process sees it, so that it is gone with
 * it. Skips the test where that is not allowed.
 */
static inline void small_host(uint64_t bytes, uint64_t region_size)
{
    char options[64];

    detach();
    unlink(region_path);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        skip();
    snprintf(host_path, sizeof(host_path), "/tmp/shmfs-host-%d", (int)getpid());
    MUST(mkdir(host_path, 0700));
    snprintf(options, sizeof(options), "size=%ju,mode=0700", (uintmax_t)bytes);
    MUST(mount("shmfs-test", host_path, "tmpfs", 0, options));
    snprintf(region_path, sizeof(region_path), "/tmp/shmfs-host-%d/region", (int)getpid());
    make_path(region_path, region_size, region_size, 0);
    fs = attach(0);
}

static inline int teardown_host(void **state)
{
    int r = teardown(state);

    host_remove();
    return r;
}

#define host_unit(f) cmocka_unit_test_setup_teardown(f, setup, teardown_host)

/* Takes all memory that the host has left. */
static inline void fill_host(void)
{
    static const char zeros[65536];
    char path[96];

    snprintf(path, sizeof(path), "%s/ballast", host_path);
    AUTO_CLOSE int fd = (int)MUST(open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    while (write(fd, zeros, sizeof(zeros)) > 0)
        continue;
    assert_int_equal(errno, ENOSPC);
}

/* ---- other processes ------------------------------------------------------------------------------- */

struct child {
    pid_t pid;
    int fd; /* the way to it; a byte is a turn */
};

/* Runs f in a child. It must not return by way of cmocka. */
static inline struct child spawn(void (*f)(int fd, void *arg), void *arg)
{
    int fds[2];
    struct child child;

    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    fflush(NULL);
    child.pid = (pid_t)MUST(fork());
    if (child.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
        away = true;
        bus_restore();
        close(fds[0]);
        f(fds[1], arg);
        _exit(0);
    }
    close(fds[1]);
    child.fd = fds[0];
    return child;
}

/* The other side's turn. */
static inline void pass(int fd)
{
    CHECK_EQ(send(fd, "x", 1, MSG_NOSIGNAL), 1);
}

/* Waits for our turn; fails if the other side has died instead. */
static inline void await(int fd)
{
    char c;

    CHECK_EQ(read(fd, &c, 1), 1);
}

/* Waits until it is dead, without reaping it: it is a zombie from here on. Returns its status. */
static inline siginfo_t await_death(const struct child *child)
{
    siginfo_t info;

    MUST(waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOWAIT));
    return info;
}

static inline int reap(struct child *child)
{
    int status = 0;

    close(child->fd);
    MUST(waitpid(child->pid, &status, 0));
    return status;
}

static inline void kill_child(struct child *child)
{
    MUST(kill(child->pid, SIGKILL));
    await_death(child);
}

/* Kills it, and it is gone. */
static inline void murder(struct child *child)
{
    kill_child(child);
    reap(child);
}

static inline void assert_ends_well(struct child *child)
{
    int status = reap(child);

    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        broken_at("the child ended with a status", status, __FILE__, __LINE__);
}

static inline void die_quietly(int fd, void *arg)
{
    struct rlimit none = { 0, 0 };
    void (*f)(void) = (void (*)(void))(uintptr_t)arg;

    setrlimit(RLIMIT_CORE, &none);
    alarm(20);
    MUST(dup2((int)MUST(open("/dev/null", O_WRONLY | O_CLOEXEC)), STDERR_FILENO));
    f();
}

/* f, in a process of its own, runs into an assertion: it was a programmer's error. */
static inline void assert_aborts(void (*f)(void))
{
    struct child child = spawn(die_quietly, (void *)(uintptr_t)f);
    int status = reap(&child);

    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
        fail_msg("the child ended with status %#x, and not by an assertion", (unsigned)status);
}

#endif
