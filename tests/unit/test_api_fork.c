/* SPDX-License-Identifier: MIT */
/* Children, exec and threads: who goes on with what, and what ends with whom (A12, A9). */
#include "api.h"

#include <sys/mman.h>

static struct shmfs_file *inherited;
static char *inherited_map;

static void open_and_map(const char *path)
{
    void *addr;

    put_bytes(path, 'p', 4 * PAGE);
    inherited = open_file(path, O_RDWR);
    MUST(shmfs_map(inherited, 0, 4 * PAGE, PROT_READ | PROT_WRITE, &addr));
    inherited_map = addr;
}

static void let_go(void)
{
    CHECK_EQ(shmfs_unmap(fs, inherited_map, 4 * PAGE), 0);
    close_file(inherited);
}

/* ---- fork ----------------------------------------------------------------------------------------------------- */

static void use_what_is_inherited(void)
{
    CHECK(all_are(inherited_map, 'p', 4 * PAGE));
    inherited_map[0] = 'c';
    assert_bytes(inherited, 'c', 1, 0);
    CHECK_EQ(shmfs_pwrite(inherited, "w", 1, PAGE), 1);
    CHECK_EQ(inherited_map[PAGE], 'w');
    put_text("child", "made by the child");
}

static void test_api_fork_child_has_all_that_the_parent_has(void **state)
{
    const struct dirent *entry;
    struct shmfs_dir *dir;
    int names = 0;

    open_and_map("f");
    assert_int_equal(shmfs_opendir(fs, "/", &dir), 0);
    in_child(use_what_is_inherited);
    assert_int_equal(inherited_map[0], 'c');
    assert_int_equal(inherited_map[PAGE], 'w');
    assert_text("child", "made by the child");
    while (MUST(shmfs_readdir(dir, &entry)) == 1)
        names++;
    assert_int_equal(names, 4);
    assert_int_equal(shmfs_closedir(dir), 0);
    let_go();
}

static struct shmfs_dir *inherited_dir;

static void list_and_leave(void)
{
    const struct dirent *entry;
    int names = 0;

    while (MUST(shmfs_readdir(inherited_dir, &entry)) == 1)
        names++;
    CHECK_EQ(names, 3);
    CHECK_EQ(shmfs_closedir(inherited_dir), 0);
    let_go();
    api_detach();
}

static void test_api_fork_child_lets_go_of_its_own_only(void **state)
{
    open_and_map("f");
    assert_int_equal(shmfs_opendir(fs, "/", &inherited_dir), 0);
    assert_int_equal(shmfs_unlink(fs, "f"), 0);
    put_text("f", "another");
    in_child(list_and_leave);
    assert_true(all_are(inherited_map, 'p', 4 * PAGE));
    assert_bytes(inherited, 'p', 4 * PAGE, 0);
    const struct dirent *entry;
    assert_int_equal(shmfs_readdir(inherited_dir, &entry), 1);
    assert_int_equal(shmfs_closedir(inherited_dir), 0);
    let_go();
}

static void stay(int fd, void *arg)
{
    pass(fd);
    await(fd);
    CHECK(false);
}

static void test_api_fork_child_that_is_killed_harms_no_parent(void **state)
{
    struct statvfs before = space_now();

    open_and_map("f");
    assert_int_equal(shmfs_unlink(fs, "f"), 0);
    struct child child = spawn(stay, NULL);
    await(child.fd);
    murder(&child);
    bury();
    assert_bytes(inherited, 'p', 4 * PAGE, 0);
    inherited_map[0] = 'm';
    assert_bytes(inherited, 'm', 1, 0);
    let_go();
    assert_space(&before);
}

/* A child outlives its parent: its mapping of one file and its handle of another are its own (A12). */
static void survive(int fd, void *arg)
{
    pass(fd);
    await(fd);
    CHECK(all_are(inherited_map, 'p', 4 * PAGE));
    memset(inherited_map, 'c', 4 * PAGE);
    assert_bytes(inherited, 'o', 4 * PAGE, 0);
    pass(fd);
    await(fd);
    CHECK(all_are(inherited_map, 'c', 4 * PAGE));
    CHECK_EQ(shmfs_unmap(fs, inherited_map, 4 * PAGE), 0);
    close_file(inherited);
    api_detach();
    pass(fd);
}

/* Hands its own end of the way to its child over, so that the test goes on talking to that one. */
static void be_parent_and_die(int fd, void *arg)
{
    open_and_map("mapped");
    close_file(inherited);
    put_bytes("open", 'o', 4 * PAGE);
    inherited = open_file("open", O_RDWR);
    CHECK_EQ(shmfs_unlink(fs, "mapped"), 0);
    CHECK_EQ(shmfs_unlink(fs, "open"), 0);
    pid_t pid = (pid_t)MUST(fork());
    if (pid == 0) {
        survive(fd, NULL);
        _exit(0);
    }
    for (;;)
        pause();
}

static void test_api_fork_child_outlives_its_parent(void **state)
{
    struct statvfs before = space_now();
    struct child parent = spawn(be_parent_and_die, NULL);

    await(parent.fd);
    MUST(kill(parent.pid, SIGKILL));
    await_death(&parent);
    bury();
    fill_up("others", 'Z');
    pass(parent.fd);
    await(parent.fd);
    assert_all_bytes("others", 'Z');
    assert_int_equal(shmfs_unlink(fs, "others"), 0);
    pass(parent.fd);
    await(parent.fd);
    reap(&parent);
    bury();
    assert_space(&before);
}

static void try_locks(void)
{
    struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    struct shmfs_file *mine = open_file("f", O_RDWR);

    CHECK_EQ(shmfs_fcntl(inherited, F_SETLK, &all), -EAGAIN);
    CHECK_EQ(shmfs_fcntl(mine, F_OFD_SETLK, &all), -EAGAIN);
    CHECK_EQ(shmfs_flock(mine, LOCK_SH | LOCK_NB), -EWOULDBLOCK);
    CHECK_EQ(shmfs_flock(inherited, LOCK_SH | LOCK_NB), -EWOULDBLOCK);
    close_file(mine);
    close_file(inherited);
}

static void test_api_fork_child_inherits_no_locks(void **state)
{
    struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

    put_text("f", "");
    inherited = open_file("f", O_RDWR);
    assert_int_equal(shmfs_fcntl(inherited, F_SETLK, &all), 0);
    assert_int_equal(shmfs_flock(inherited, LOCK_EX), 0);
    in_child(try_locks);
    in_child(try_locks); /* closing in the child gave up none of the parent's */
    close_file(inherited);
}

static void grandchild(void)
{
    use_what_is_inherited();
}

static void child_with_a_child(void)
{
    in_child(grandchild);
    CHECK_EQ(inherited_map[0], 'c');
    let_go();
    put_text("again", "still attached");
}

static void test_api_fork_goes_on_for_generations(void **state)
{
    open_and_map("f");
    in_child(child_with_a_child);
    assert_text("again", "still attached");
    assert_int_equal(inherited_map[0], 'c');
    let_go();
}

static void use_a_little(void)
{
    struct stat st;

    CHECK_EQ(shmfs_stat(fs, "/f", &st), 0);
    CHECK_EQ(shmfs_pwrite(inherited, "w", 1, 0), 1);
    CHECK_EQ(inherited_map[0], 'w');
}

static void *make_and_remove(void *arg)
{
    char name[16];

    away = true;
    snprintf(name, sizeof(name), "w%d", (int)(intptr_t)arg);
    for (int i = 0; i < 300; i++) {
        put_bytes(name, 'x', 2 * PAGE);
        CHECK_EQ(shmfs_unlink(fs, name), 0);
    }
    return NULL;
}

static void work_in_threads(int first)
{
    pthread_t threads[4];

    for (intptr_t i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, make_and_remove, (void *)(first + i)), 0);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

static void work_in_other_threads(int fd, void *arg)
{
    pass(fd);
    work_in_threads(10);
}

/* What the parent's ended threads left ready for its next ones is not the child's. */
static void test_api_fork_child_works_with_slots_of_its_own(void **state)
{
    work_in_threads(0);
    struct child child = spawn(work_in_other_threads, NULL);
    await(child.fd);
    work_in_threads(0);
    assert_ends_well(&child);
}

/* The region file cannot be opened any more by who it is now: there is no life lock to be had for the child. */
static void is_cut_off(void)
{
    struct stat st;

    CHECK_EQ(shmfs_stat(fs, "/f", &st), -EBADF);
}

static void fork_as_nobody(void)
{
    become(NOBODY, NOBODY, 0);
    in_child(is_cut_off);
    use_a_little();
}

static void test_api_fork_after_giving_up_rights(void **state)
{
    if (geteuid() != 0)
        skip();
    open_and_map("f");
    in_child(fork_as_nobody);
    let_go();
}

static void fork_in_an_empty_root(void)
{
    MUST(chroot("/proc/self/fdinfo"));
    in_child(is_cut_off);
    use_a_little();
}

/* Nor where there is no /proc to open it by. Who is attached needs no path any more. */
static void test_api_fork_where_there_are_no_paths(void **state)
{
    if (geteuid() != 0)
        skip();
    open_and_map("f");
    in_child(fork_in_an_empty_root);
    let_go();
}

/* While other threads are at work, a fork takes none of their locks with it. */
static _Atomic bool enough;

static void *work_on(void *arg)
{
    char name[16];

    away = true;
    snprintf(name, sizeof(name), "t%d", (int)(intptr_t)arg);
    while (!enough) {
        put_bytes(name, 'x', 3 * PAGE);
        CHECK_EQ(shmfs_unlink(fs, name), 0);
    }
    return NULL;
}

static void work_a_little(void)
{
    for (int i = 0; i < 5; i++) {
        put_bytes("forked", 'x', 2 * PAGE);
        CHECK_EQ(shmfs_unlink(fs, "forked"), 0);
    }
}

static void test_api_fork_among_threads_at_work(void **state)
{
    pthread_t threads[3];

    enough = false;
    for (intptr_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work_on, (void *)i), 0);
    for (int i = 0; i < 30; i++)
        in_child(work_a_little);
    enough = true;
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

/* ---- made otherwise -------------------------------------------------------------------------------------------- */

static void expect_nothing(void)
{
    struct shmfs_file *file;
    struct shmfs_dir *dir;
    struct statvfs space;
    struct stat st;
    char c;

    CHECK_EQ(shmfs_stat(fs, "/f", &st), -EBADF);
    CHECK_EQ(shmfs_open(fs, "/f", O_RDONLY, 0, &file), -EBADF);
    CHECK_EQ(shmfs_opendir(fs, "/", &dir), -EBADF);
    CHECK_EQ(shmfs_statfs(fs, &space), -EBADF);
    CHECK_EQ(shmfs_pread(inherited, &c, 1, 0), -EBADF);
    CHECK_EQ(shmfs_pwrite(inherited, "x", 1, 0), -EBADF);
    CHECK_EQ(shmfs_fstat(inherited, &st), -EBADF);
    CHECK_EQ(shmfs_flock(inherited, LOCK_SH), -EBADF);
    CHECK_EQ(shmfs_unlink(fs, "/f"), -EBADF);
    CHECK_EQ(shmfs_close(inherited), -EBADF);
    CHECK(mincore(inherited_map, PAGE, (unsigned char[1]){ 0 }) < 0 && errno == ENOMEM);
    shmfs_detach(fs);
    _exit(0);
}

static void test_api_clone_child_gets_ebadf(void **state)
{
    int status;

    open_and_map("f");
    fflush(NULL);
    pid_t pid = (pid_t)MUST(syscall(SYS_clone, SIGCHLD, 0, NULL, NULL, 0));
    if (pid == 0) {
        away = true;
        bus_restore();
        expect_nothing();
    }
    MUST(waitpid(pid, &status, 0));
    assert_int_equal(status, 0);
    assert_bytes(inherited, 'p', 4 * PAGE, 0);
    assert_true(all_are(inherited_map, 'p', 4 * PAGE));
    let_go();
}

static void attach_anew(void)
{
    struct shmfs *mine = api_attach(0);
    struct stat st;

    CHECK_EQ(shmfs_stat(mine, "/f", &st), 0);
    CHECK_EQ(shmfs_stat(fs, "/f", &st), -EBADF);
    shmfs_detach(mine);
    _exit(0);
}

static void test_api_clone_child_may_attach_for_itself(void **state)
{
    int status;

    open_and_map("f");
    fflush(NULL);
    pid_t pid = (pid_t)MUST(syscall(SYS_clone, SIGCHLD, 0, NULL, NULL, 0));
    if (pid == 0) {
        away = true;
        bus_restore();
        attach_anew();
    }
    MUST(waitpid(pid, &status, 0));
    assert_int_equal(status, 0);
    let_go();
}

/* ---- exec ---------------------------------------------------------------------------------------------------------- */

/* After exec the process lives on, and its attach does not; cat shows that it does. */
static void exec_cat(int fd, void *arg)
{
    struct shmfs_file *file = open_file("f", O_RDWR);

    CHECK_EQ(shmfs_flock(file, LOCK_EX), 0);
    CHECK_EQ(shmfs_unlink(fs, "f"), 0);
    MUST(dup2(fd, STDIN_FILENO));
    MUST(dup2(fd, STDOUT_FILENO));
    execlp("cat", "cat", NULL);
    CHECK(false);
}

static void test_api_exec_ends_the_attach(void **state)
{
    struct statvfs before = space_now();

    put_text("f", "text");
    struct shmfs_file *file = open_file("f", O_RDWR);
    struct child child = spawn(exec_cat, NULL);
    pass(child.fd);
    await(child.fd); /* what we sent comes back: cat runs */
    bury();
    assert_int_equal(shmfs_flock(file, LOCK_EX | LOCK_NB), 0);
    close_file(file);
    assert_space(&before);
    MUST(shutdown(child.fd, SHUT_WR));
    assert_ends_well(&child);
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

enum { THREADS = 8, LOOPS = 150 };

static struct shmfs_file *common;

/* Names of one's own and one that all fight for; whatever comes is one of what may come. */
static void *stress(void *arg)
{
    int who = (int)(intptr_t)arg;
    char mine[32], buf[256];
    struct stat st;

    away = true;
    snprintf(mine, sizeof(mine), "d/own%d", who);
    for (int i = 0; i < LOOPS; i++) {
        put_text(mine, "mine");
        assert_text(mine, "mine");
        CHECK_EQ(shmfs_append(common, "0123456789abcdef", 16, NULL), 16);
        CHECK(shmfs_pread(common, buf, sizeof(buf), i) >= 0);
        CHECK_EQ(shmfs_rename(fs, mine, "d/all", 0), 0);
        int r = shmfs_stat(fs, "d/all", &st);
        CHECK(r == 0 || r == -ENOENT);
        r = shmfs_unlink(fs, "d/all");
        CHECK(r == 0 || r == -ENOENT);
        r = open_result("d/all", O_RDWR | O_CREAT | O_EXCL, 0600);
        CHECK(r == 0 || r == -EEXIST);
    }
    return NULL;
}

static void test_api_threads_share_handles(void **state)
{
    pthread_t threads[THREADS];

    assert_int_equal(shmfs_mkdir(fs, "d", 0755), 0);
    common = open_file("log", O_RDWR | O_CREAT);
    for (intptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, stress, (void *)i), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(fstat_of(common).st_size, 16 * THREADS * LOOPS);
    close_file(common);
}

enum { CROWD = 400 };

static pthread_barrier_t crowd;

/* All are there at once. Who gets no slot is told so, and nothing has happened. */
static void *change_among_many(void *arg)
{
    struct stat st;
    char name[16];

    away = true;
    snprintf(name, sizeof(name), "n%d", (int)(intptr_t)arg);
    int r = shmfs_mkdir(fs, name, 0755);
    CHECK(r == 0 || r == -EUSERS);
    CHECK_EQ(shmfs_stat(fs, name, &st), r == 0 ? 0 : -ENOENT);
    pthread_barrier_wait(&crowd);
    if (r == 0)
        CHECK_EQ(shmfs_rmdir(fs, name), 0);
    return (void *)(intptr_t)r;
}

/* There are fewer slots (256) than threads here. */
static void test_api_threads_without_a_slot_are_told(void **state)
{
    static pthread_t threads[CROWD];
    int told = 0;

    assert_int_equal(pthread_barrier_init(&crowd, NULL, CROWD), 0);
    for (intptr_t i = 0; i < CROWD; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, change_among_many, (void *)i), 0);
    for (int i = 0; i < CROWD; i++) {
        void *r;
        assert_int_equal(pthread_join(threads[i], &r), 0);
        told += r != NULL;
    }
    print_message("             %d of %d got no slot\n", told, CROWD);
    pthread_barrier_destroy(&crowd);
    assert_int_equal(stat_of("/").st_nlink, 2);
    put_text("after", "works");
}

static void *one_change(void *arg)
{
    away = true;
    put_text("t", "text");
    return NULL;
}

/* What a thread has in the region is given back when it ends: there are fewer slots than threads here. */
static void test_api_threads_that_end_leave_nothing_taken(void **state)
{
    for (int i = 0; i < 1500; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, one_change, NULL), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
    assert_text("t", "text");
}

static void call_everything(void)
{
    struct shmfs_dir *dir;
    const struct dirent *entry;
    uint64_t version = 0;
    void *addr;

    struct shmfs *second = api_attach(0);
    put_bytes("big", 'b', 5 << 20);
    struct shmfs_file *file = open_file("big", O_RDWR), *other = open_in(second, "big", O_RDWR);
    CHECK_EQ(shmfs_wait(file, &version, 0), 0);
    CHECK_EQ(shmfs_wait(file, &version, 1), -ETIMEDOUT);
    CHECK_EQ(shmfs_map(file, 0, PAGE, PROT_READ, &addr), 0);
    CHECK_EQ(shmfs_unmap(fs, addr, PAGE), 0);
    CHECK_EQ(shmfs_flock(file, LOCK_EX), 0);
    CHECK_EQ(shmfs_flock(other, LOCK_EX | LOCK_NB), -EWOULDBLOCK);
    CHECK_EQ(shmfs_fallocate(file, 0, 0, 8 << 20), 0);
    CHECK_EQ(shmfs_fsync(file), 0);
    close_file(file);
    CHECK_EQ(shmfs_opendir(fs, "/", &dir), 0);
    while (MUST(shmfs_readdir(dir, &entry)) == 1)
        continue;
    CHECK_EQ(shmfs_closedir(dir), 0);
    shmfs_detach(second);
    CHECK_EQ(shmfs_unlink(fs, "big"), 0);
}

/* A cancellation is pending all the while; it waits until it is asked for. */
static void *call_everything_first(void *arg)
{
    away = true;
    CHECK_EQ(pthread_cancel(pthread_self()), 0);
    call_everything();
    enough = true;
    pthread_testcancel();
    return NULL;
}

/* It takes what such a thread leaves on its stack for damage. */
#ifdef __SANITIZE_ADDRESS__
#define NO_CANCELLED_THREADS_UNDER_ASAN() skip()
#else
#define NO_CANCELLED_THREADS_UNDER_ASAN() (void)0
#endif

static void test_api_calls_are_no_cancellation_points(void **state)
{
    pthread_t thread;
    void *result;

    NO_CANCELLED_THREADS_UNDER_ASAN();
    enough = false;
    assert_int_equal(pthread_create(&thread, NULL, call_everything_first, NULL), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, PTHREAD_CANCELED);
    assert_true(enough);
}

/* Its own calls; none of them asks the C library for memory, which could not be cancelled anywhere. */
static void work_once(const char *name, const char *moved)
{
    CHECK_EQ(shmfs_mkdir(fs, name, 0755), 0);
    CHECK_EQ(shmfs_append(common, "0123456789", 10, NULL), 10);
    CHECK_EQ(shmfs_rename(fs, name, moved, 0), 0);
    CHECK_EQ(shmfs_pwrite(common, "0123456789", 10, 0), 10);
    CHECK_EQ(shmfs_rmdir(fs, moved), 0);
}

static void *work_until_cancelled(void *arg)
{
    away = true;
    for (;;) {
        work_once("one", "two");
        enough = true;
        pthread_testcancel();
    }
    return NULL;
}

/* Whenever it is cancelled: nobody waits for its locks, and each call was done. */
static void test_api_threads_cancelled_when_asked(void **state)
{
    NO_CANCELLED_THREADS_UNDER_ASAN();
    random_start(3);
    common = open_file("log", O_RDWR | O_CREAT);
    for (int i = 0; i < 100; i++) {
        pthread_t thread;
        void *result;
        enough = false;
        assert_int_equal(pthread_create(&thread, NULL, work_until_cancelled, NULL), 0);
        while (!enough)
            sched_yield();
        for (uint64_t n = random_below(2000); n > 0; n--)
            cpu_pause();
        assert_int_equal(pthread_cancel(thread), 0);
        assert_int_equal(pthread_join(thread, &result), 0);
        assert_ptr_equal(result, PTHREAD_CANCELED);
        assert_int_equal(stat_of("/").st_nlink, 2);
        assert_int_equal(fstat_of(common).st_size % 10, 0);
    }
    close_file(common);
}

/* The caller's memory is touched while nothing is held: a fault in it may end in a jump (A9). */
static sigjmp_buf out;

static void jump(int sig)
{
    siglongjmp(out, 1);
}

enum { FAULTS = 14 };

static ssize_t call_with_bad_memory(int n, struct shmfs_file *file, void *bad, size_t large)
{
    switch (n) {
    case 0:
        return shmfs_pwrite(file, bad, 10, 0);
    case 1:
        return shmfs_pwrite(file, bad, large, 0);
    case 2:
        return shmfs_append(file, bad, 10, NULL);
    case 3:
        return shmfs_append(file, bad, large, NULL);
    case 4:
        return shmfs_pread(file, bad, 10, 0);
    case 5:
        return shmfs_pread(file, bad, large, 0);
    case 6:
        return shmfs_stat(fs, bad, &(struct stat){ 0 });
    case 7:
        return shmfs_mkdir(fs, bad, 0755);
    case 8:
        return shmfs_symlink(fs, bad, "link");
    case 9:
        return shmfs_readlink(fs, "to", bad, 10);
    case 10:
        return shmfs_setxattr(fs, "f", "user.a", bad, 10, 0);
    case 11:
        return shmfs_getxattr(fs, "f", "user.b", bad, 10);
    case 12:
        return shmfs_listxattr(fs, "f", bad, 100);
    default:
        return shmfs_rename(fs, "f", bad, 0);
    }
}

static void test_api_faults_in_the_callers_memory_may_be_jumped_out_of(void **state)
{
#ifdef __SANITIZE_ADDRESS__
    skip(); /* it complains of what a call had allocated when it was left */
#endif
    enum { LARGE = 1 << 20 };
    struct shmfs_file *file = open_file("f", O_RDWR | O_CREAT);
    void *bad = mmap(NULL, LARGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    volatile int jumped = 0;

    assert_ptr_not_equal(bad, MAP_FAILED);
    assert_int_equal(shmfs_ftruncate(file, LARGE), 0);
    assert_int_equal(shmfs_symlink(fs, "f", "to"), 0);
    assert_int_equal(shmfs_setxattr(fs, "f", "user.b", "value", 5, 0), 0);
    signal(SIGSEGV, jump);
    for (volatile int n = 0; n < FAULTS; n++) {
        if (sigsetjmp(out, 1) == 0)
            call_with_bad_memory(n, file, bad, LARGE);
        else
            jumped++;
        in_child(work_a_little); /* nobody waits for it, neither others … */
        work_a_little();         /* … nor itself */
    }
    for (volatile int n = 0; n < 300; n++) { /* nor does it keep a slot each time */
        if (sigsetjmp(out, 1) == 0)
            shmfs_pwrite(file, bad, 10, 0);
    }
    work_a_little();
    signal(SIGSEGV, SIG_DFL);
    assert_int_equal(jumped, FAULTS);
    assert_int_equal(fstat_of(file).st_size, LARGE);
    munmap(bad, LARGE);
    close_file(file);
}

static void go_at_once(void)
{
}

/* Children that are gone are buried when their places are needed, without a driver. */
static void test_api_fork_of_more_children_than_there_are_places(void **state)
{
    struct shmfs_file *file = open_file("f", O_RDWR | O_CREAT);

    for (int i = 0; i < 600; i++)
        in_child(go_at_once);
    in_child(work_a_little);
    bury();
    close_file(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        api_unit(test_api_fork_child_has_all_that_the_parent_has),
        api_unit(test_api_fork_child_lets_go_of_its_own_only),
        api_unit(test_api_fork_child_that_is_killed_harms_no_parent),
        api_unit(test_api_fork_child_outlives_its_parent),
        api_unit(test_api_fork_child_inherits_no_locks),
        api_unit(test_api_fork_goes_on_for_generations),
        api_unit(test_api_fork_child_works_with_slots_of_its_own),
        api_unit(test_api_fork_after_giving_up_rights),
        api_unit(test_api_fork_where_there_are_no_paths),
        api_unit(test_api_fork_among_threads_at_work),
        api_unit(test_api_clone_child_gets_ebadf),
        api_unit(test_api_clone_child_may_attach_for_itself),
        api_unit(test_api_exec_ends_the_attach),
        api_unit(test_api_threads_share_handles),
        api_unit(test_api_threads_without_a_slot_are_told),
        api_unit(test_api_threads_that_end_leave_nothing_taken),
        api_unit(test_api_calls_are_no_cancellation_points),
        api_unit(test_api_threads_cancelled_when_asked),
        api_unit(test_api_faults_in_the_callers_memory_may_be_jumped_out_of),
        api_unit(test_api_fork_of_more_children_than_there_are_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
