/* SPDX-License-Identifier: MIT */
/* Locks of programs: of a process, of a handle, and flock; and what the dead held (A6, P2). */
#include "api.h"

#include <sys/time.h>

static struct flock range_of(int type, off_t start, off_t len)
{
    return (struct flock){ .l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = len };
}

static int lock_with(struct shmfs_file *file, int cmd, int type, off_t start, off_t len)
{
    struct flock lock = range_of(type, start, len);

    return shmfs_fcntl(file, cmd, &lock);
}

static int posix(struct shmfs_file *file, int type, off_t start, off_t len)
{
    return lock_with(file, F_SETLK, type, start, len);
}

static int ofd(struct shmfs_file *file, int type, off_t start, off_t len)
{
    return lock_with(file, F_OFD_SETLK, type, start, len);
}

/* Who is in the way of a lock on [start, start + len), as this handle sees it. */
static struct flock obstacle(struct shmfs_file *file, int cmd, int type, off_t start, off_t len)
{
    struct flock lock = range_of(type, start, len);

    CHECK_EQ(shmfs_fcntl(file, cmd, &lock), 0);
    return lock;
}

/* ---- a process that locks as it is told ------------------------------------------------------------------ */

struct order {
    int cmd; /* of shmfs_fcntl(); 0: flock; -1: open another handle and close it */
    int type;
    off_t start, len;
};

static void obey(int fd, void *arg)
{
    struct shmfs *mine = api_attach(0);
    struct shmfs_file *file = open_in(mine, "f", O_RDWR);
    struct order order;

    while (read(fd, &order, sizeof(order)) == (ssize_t)sizeof(order)) {
        int r;
        pass(fd); /* it is on its way: whatever it sleeps in now is the order */
        if (order.cmd == 0)
            r = shmfs_flock(file, order.type);
        else if (order.cmd == -1)
            r = shmfs_close(open_in(mine, "f", O_RDONLY));
        else
            r = lock_with(file, order.cmd, order.type, order.start, order.len);
        CHECK_EQ(send(fd, &r, sizeof(r), MSG_NOSIGNAL), sizeof(r));
    }
    shmfs_detach(mine);
}

static void send_order(struct child *child, int cmd, int type, off_t start, off_t len)
{
    struct order order = { cmd, type, start, len };

    CHECK_EQ(send(child->fd, &order, sizeof(order), MSG_NOSIGNAL), sizeof(order));
    await(child->fd);
}

static int answer(struct child *child)
{
    int r;

    CHECK_EQ(read(child->fd, &r, sizeof(r)), sizeof(r));
    return r;
}

static int tell(struct child *child, int cmd, int type, off_t start, off_t len)
{
    send_order(child, cmd, type, start, len);
    return answer(child);
}

static struct child locker(void)
{
    struct child child = spawn(obey, NULL);

    return child;
}

static void dismiss(struct child *child)
{
    MUST(shutdown(child->fd, SHUT_WR));
    assert_ends_well(child);
}

static struct shmfs_file *lock_file(void)
{
    return open_file("f", O_RDWR | O_CREAT);
}

/* ---- record locks of processes ----------------------------------------------------------------------------- */

static void test_api_fcntl_locks_hold_between_processes(void **state)
{
    struct shmfs_file *file = lock_file();
    struct child child = locker();

    assert_int_equal(tell(&child, F_SETLK, F_WRLCK, 100, 50), 0);
    assert_int_equal(posix(file, F_WRLCK, 100, 50), -EAGAIN);
    assert_int_equal(posix(file, F_RDLCK, 149, 1), -EAGAIN);
    assert_int_equal(posix(file, F_RDLCK, 0, 0), -EAGAIN);
    assert_int_equal(posix(file, F_WRLCK, 0, 100), 0);
    assert_int_equal(posix(file, F_WRLCK, 150, 0), 0);
    assert_int_equal(tell(&child, F_SETLK, F_RDLCK, 100, 50), 0);
    assert_int_equal(posix(file, F_RDLCK, 100, 50), 0);
    assert_int_equal(posix(file, F_WRLCK, 100, 50), -EAGAIN);
    assert_int_equal(tell(&child, F_SETLK, F_WRLCK, 100, 50), -EAGAIN);
    assert_int_equal(tell(&child, F_SETLK, F_UNLCK, 100, 50), 0);
    assert_int_equal(posix(file, F_WRLCK, 100, 50), 0);
    dismiss(&child);
    close_file(file);
}

static void test_api_fcntl_locks_of_one_process_do_not_conflict(void **state)
{
    struct shmfs_file *one = lock_file(), *two = lock_file();

    assert_int_equal(posix(one, F_WRLCK, 0, 0), 0);
    assert_int_equal(posix(two, F_WRLCK, 0, 0), 0);
    assert_int_equal(obstacle(two, F_GETLK, F_WRLCK, 0, 0).l_type, F_UNLCK);
    close_file(one);
    close_file(two);
}

/* Which single bytes of [0, n) a lock of the other's keeps us from, as one letter each. */
static const char *seen_by(struct shmfs_file *file, char *text, int n)
{
    for (int i = 0; i < n; i++) {
        struct flock w = obstacle(file, F_GETLK, F_WRLCK, i, 1);
        text[i] = w.l_type == F_UNLCK ? '.' : w.l_type == F_RDLCK ? 'r' : 'w';
    }
    text[n] = 0;
    return text;
}

static void test_api_fcntl_ranges_split_and_merge(void **state)
{
    static const struct {
        int type;
        off_t start, len;
        const char *then;
    } steps[] = {
        { F_WRLCK, 2, 10, "..wwwwwwwwww...." }, { F_UNLCK, 5, 3, "..www...wwww...." },
        { F_RDLCK, 3, 7, "..wrrrrrrrww...." },  { F_WRLCK, 0, 2, "wwwrrrrrrrww...." },
        { F_RDLCK, 0, 16, "rrrrrrrrrrrrrrrr" }, { F_WRLCK, 7, 1, "rrrrrrrwrrrrrrrr" },
        { F_UNLCK, 8, 0, "rrrrrrrw........" },  { F_WRLCK, 15, 1, "rrrrrrrw.......w" },
        { F_UNLCK, 0, 0, "................" },
    };
    struct shmfs_file *file = lock_file();
    struct child child = locker();
    char text[32];

    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        assert_int_equal(tell(&child, F_SETLK, steps[i].type, steps[i].start, steps[i].len), 0);
        assert_string_equal(seen_by(file, text, 16), steps[i].then);
    }
    dismiss(&child);
    close_file(file);
}

static void test_api_fcntl_getlk_tells_who_and_what(void **state)
{
    struct shmfs_file *file = lock_file();
    struct child child = locker();

    assert_int_equal(tell(&child, F_SETLK, F_RDLCK, 10, 5), 0);
    assert_int_equal(tell(&child, F_SETLK, F_WRLCK, 100, 0), 0);
    struct flock lock = obstacle(file, F_GETLK, F_WRLCK, 0, 50);
    assert_int_equal(lock.l_type, F_RDLCK);
    assert_int_equal(lock.l_whence, SEEK_SET);
    assert_int_equal(lock.l_start, 10);
    assert_int_equal(lock.l_len, 5);
    assert_int_equal(lock.l_pid, child.pid);
    assert_int_equal(obstacle(file, F_GETLK, F_RDLCK, 0, 50).l_type, F_UNLCK);
    lock = obstacle(file, F_GETLK, F_RDLCK, 200, 1);
    assert_int_equal(lock.l_type, F_WRLCK);
    assert_int_equal(lock.l_start, 100);
    assert_int_equal(lock.l_len, 0);
    assert_int_equal(tell(&child, F_OFD_SETLK, F_WRLCK, 60, 2), 0);
    lock = obstacle(file, F_GETLK, F_WRLCK, 60, 1);
    assert_int_equal(lock.l_type, F_WRLCK);
    assert_int_equal(lock.l_pid, -1);
    dismiss(&child);
    close_file(file);
}

static void test_api_fcntl_counts_from_the_end(void **state)
{
    struct shmfs_file *file = lock_file();
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = -10, .l_len = 5 };
    struct child child = locker();
    char text[128];

    assert_int_equal(shmfs_ftruncate(file, 20), 0);
    assert_int_equal(shmfs_fcntl(file, F_SETLK, &lock), 0);
    assert_int_equal(tell(&child, F_SETLK, F_WRLCK, 0, 10), 0);
    assert_int_equal(tell(&child, F_SETLK, F_WRLCK, 14, 1), -EAGAIN);
    assert_int_equal(tell(&child, F_SETLK, F_WRLCK, 15, 0), 0);
    assert_string_equal(seen_by(file, text, 20), "wwwwwwwwww.....wwwww");
    lock = (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = -21, .l_len = 5 };
    assert_int_equal(shmfs_fcntl(file, F_SETLK, &lock), -EINVAL);
    lock = (struct flock){ .l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = 15, .l_len = -5 };
    assert_int_equal(shmfs_fcntl(file, F_SETLK, &lock), 0);
    assert_int_equal(tell(&child, F_SETLK, F_WRLCK, 10, 5), 0);
    dismiss(&child);
    close_file(file);
}

static void test_api_fcntl_refuses_nonsense(void **state)
{
    struct shmfs_file *file = lock_file();
    struct flock lock = range_of(F_WRLCK, 0, 0);

    assert_int_equal(shmfs_fcntl(file, F_GETFL, &lock), -EINVAL);
    lock.l_type = 77;
    assert_int_equal(shmfs_fcntl(file, F_SETLK, &lock), -EINVAL);
    lock = range_of(F_WRLCK, 0, 0);
    lock.l_whence = 9;
    assert_int_equal(shmfs_fcntl(file, F_SETLK, &lock), -EINVAL);
    assert_int_equal(posix(file, F_WRLCK, -1, 1), -EINVAL);
    assert_int_equal(posix(file, F_WRLCK, 5, -6), -EINVAL);
    assert_int_equal(posix(file, F_WRLCK, INT64_MAX, 2), -EOVERFLOW);
    lock = range_of(F_WRLCK, 0, 0);
    lock.l_pid = 1;
    assert_int_equal(shmfs_fcntl(file, F_OFD_SETLK, &lock), -EINVAL);
    assert_int_equal(posix(file, F_WRLCK, INT64_MAX, 1), 0);
    close_file(file);
}

static void test_api_close_drops_the_locks_of_the_process(void **state)
{
    struct shmfs_file *file = lock_file();
    struct child child = locker();

    assert_int_equal(tell(&child, F_SETLK, F_WRLCK, 0, 0), 0);
    assert_int_equal(tell(&child, F_OFD_SETLK, F_WRLCK, 0, 0), -EAGAIN);
    assert_int_equal(posix(file, F_WRLCK, 0, 0), -EAGAIN);
    assert_int_equal(tell(&child, -1, 0, 0, 0), 0);
    assert_int_equal(posix(file, F_WRLCK, 0, 0), 0);
    dismiss(&child);
    close_file(file);
}

static void test_api_detach_drops_locks(void **state)
{
    struct shmfs_file *file = lock_file();
    struct child child = locker();

    assert_int_equal(tell(&child, F_SETLK, F_WRLCK, 0, 10), 0);
    assert_int_equal(tell(&child, F_OFD_SETLK, F_WRLCK, 10, 10), 0);
    assert_int_equal(tell(&child, 0, LOCK_EX, 0, 0), 0);
    dismiss(&child);
    assert_int_equal(posix(file, F_WRLCK, 0, 0), 0);
    assert_int_equal(shmfs_flock(file, LOCK_EX | LOCK_NB), 0);
    close_file(file);
}

/* ---- locks of handles ------------------------------------------------------------------------------------------ */

static void test_api_ofd_locks_hold_between_handles(void **state)
{
    struct shmfs_file *one = lock_file(), *two = lock_file();

    assert_int_equal(ofd(one, F_WRLCK, 0, 10), 0);
    assert_int_equal(ofd(one, F_RDLCK, 5, 5), 0);
    assert_int_equal(ofd(two, F_WRLCK, 0, 1), -EAGAIN);
    assert_int_equal(ofd(two, F_RDLCK, 5, 5), 0);
    assert_int_equal(ofd(one, F_WRLCK, 5, 5), -EAGAIN);
    struct flock lock = obstacle(two, F_OFD_GETLK, F_WRLCK, 0, 1);
    assert_int_equal(lock.l_type, F_WRLCK);
    assert_int_equal(lock.l_start, 0);
    assert_int_equal(lock.l_len, 5);
    assert_int_equal(lock.l_pid, -1);
    assert_int_equal(posix(one, F_WRLCK, 0, 1), -EAGAIN);
    close_file(lock_file());
    assert_int_equal(ofd(two, F_WRLCK, 0, 1), -EAGAIN);
    close_file(one);
    assert_int_equal(ofd(two, F_WRLCK, 0, 0), 0);
    close_file(two);
}

/* ---- waiting ------------------------------------------------------------------------------------------------------ */

static void wait_is_over(struct child *child)
{
    assert_int_equal(answer(child), 0);
    dismiss(child);
}

static void test_api_fcntl_waiter_wakes_on_unlock(void **state)
{
    static const int wait[] = { F_SETLKW, F_OFD_SETLKW };

    for (int i = 0; i < 2; i++) {
        struct shmfs_file *file = lock_file();
        struct child child = locker();
        assert_int_equal(tell(&child, F_OFD_GETLK, F_WRLCK, 0, 0), 0);
        assert_int_equal(posix(file, F_WRLCK, 0, 0), 0);
        send_order(&child, wait[i], F_WRLCK, 5, 5);
        await_sleep(&child);
        assert_int_equal(posix(file, F_UNLCK, 5, 5), 0);
        wait_is_over(&child);
        close_file(file);
    }
}

static void test_api_fcntl_waiter_wakes_on_close_and_downgrade(void **state)
{
    for (int i = 0; i < 2; i++) {
        struct shmfs_file *file = lock_file();
        struct child child = locker();
        assert_int_equal(posix(file, F_WRLCK, 0, 0), 0);
        send_order(&child, F_SETLKW, F_RDLCK, 5, 5);
        await_sleep(&child);
        if (i == 0)
            assert_int_equal(posix(file, F_RDLCK, 0, 0), 0);
        else
            close_file(lock_file());
        wait_is_over(&child);
        close_file(file);
    }
}

static void test_api_fcntl_waiter_wakes_when_the_holder_is_killed(void **state)
{
    static const int set[] = { F_SETLK, F_OFD_SETLK };

    close_file(lock_file());
    for (int i = 0; i < 2; i++) {
        struct child holder = locker(), waiter = locker();
        assert_int_equal(tell(&holder, set[i], F_WRLCK, 0, 0), 0);
        send_order(&waiter, F_SETLKW, F_WRLCK, 0, 0);
        await_sleep(&waiter);
        murder(&holder);
        wait_is_over(&waiter);
    }
}

static void test_api_locks_of_the_killed_are_given_back(void **state)
{
    struct shmfs_file *file = lock_file();

    for (int i = 0; i < 3; i++) {
        struct child child = locker();
        assert_int_equal(tell(&child, F_SETLK, F_WRLCK, 0, 10), 0);
        assert_int_equal(tell(&child, F_OFD_SETLK, F_WRLCK, 10, 10), 0);
        assert_int_equal(tell(&child, 0, LOCK_EX, 0, 0), 0);
        assert_int_equal(posix(file, F_WRLCK, 0, 10), -EAGAIN);
        murder(&child);
        assert_int_equal(obstacle(file, F_GETLK, F_WRLCK, 0, 0).l_type, F_UNLCK);
        assert_int_equal(posix(file, F_WRLCK, 0, 0), 0);
        assert_int_equal(shmfs_flock(file, LOCK_EX | LOCK_NB), 0);
        assert_int_equal(shmfs_flock(file, LOCK_UN), 0);
        assert_int_equal(posix(file, F_UNLCK, 0, 0), 0);
    }
    close_file(file);
}

static void test_api_fcntl_circle_of_waiters_is_edeadlk(void **state)
{
    struct shmfs_file *file = lock_file();
    struct child a = locker(), b = locker();

    assert_int_equal(tell(&a, F_SETLK, F_WRLCK, 0, 1), 0);
    assert_int_equal(tell(&b, F_SETLK, F_WRLCK, 1, 1), 0);
    assert_int_equal(posix(file, F_WRLCK, 2, 1), 0);
    send_order(&a, F_SETLKW, F_WRLCK, 1, 1);
    await_sleep(&a);
    send_order(&b, F_SETLKW, F_WRLCK, 2, 1);
    await_sleep(&b);
    assert_int_equal(lock_with(file, F_SETLKW, F_WRLCK, 0, 1), -EDEADLK);
    assert_int_equal(posix(file, F_UNLCK, 2, 1), 0);
    assert_int_equal(answer(&b), 0);
    assert_int_equal(tell(&b, F_SETLK, F_UNLCK, 0, 0), 0);
    assert_int_equal(answer(&a), 0);
    dismiss(&a);
    dismiss(&b);
    close_file(file);
}

/* ---- flock ---------------------------------------------------------------------------------------------------------- */

static void test_api_flock_holds_between_handles(void **state)
{
    struct shmfs_file *one = lock_file(), *two = lock_file();

    assert_int_equal(shmfs_flock(one, LOCK_SH), 0);
    assert_int_equal(shmfs_flock(two, LOCK_SH | LOCK_NB), 0);
    assert_int_equal(shmfs_flock(two, LOCK_EX | LOCK_NB), -EWOULDBLOCK);
    assert_int_equal(shmfs_flock(one, LOCK_UN), 0);
    assert_int_equal(shmfs_flock(two, LOCK_EX | LOCK_NB), 0);
    assert_int_equal(shmfs_flock(one, LOCK_SH | LOCK_NB), -EWOULDBLOCK);
    assert_int_equal(shmfs_flock(two, LOCK_SH), 0);
    assert_int_equal(shmfs_flock(one, LOCK_SH | LOCK_NB), 0);
    close_file(two);
    assert_int_equal(shmfs_flock(one, LOCK_EX | LOCK_NB), 0);
    close_file(one);
}

static void test_api_flock_and_record_locks_ignore_one_another(void **state)
{
    struct shmfs_file *file = lock_file();
    struct child child = locker();

    assert_int_equal(shmfs_flock(file, LOCK_EX), 0);
    assert_int_equal(tell(&child, F_SETLK, F_WRLCK, 0, 0), 0);
    assert_int_equal(tell(&child, 0, LOCK_SH | LOCK_NB, 0, 0), -EWOULDBLOCK);
    assert_int_equal(posix(file, F_WRLCK, 0, 0), -EAGAIN);
    dismiss(&child);
    close_file(file);
}

static void test_api_flock_waiter_wakes(void **state)
{
    for (int i = 0; i < 3; i++) {
        struct shmfs_file *file = lock_file();
        struct child child = locker();
        assert_int_equal(shmfs_flock(file, LOCK_EX), 0);
        send_order(&child, 0, LOCK_SH, 0, 0);
        await_sleep(&child);
        if (i == 0)
            assert_int_equal(shmfs_flock(file, LOCK_UN), 0);
        else if (i == 1)
            assert_int_equal(shmfs_flock(file, LOCK_SH), 0);
        else
            close_file(file);
        wait_is_over(&child);
        if (i < 2)
            close_file(file);
    }
}

static void test_api_flock_waiter_wakes_when_the_holder_is_killed(void **state)
{
    close_file(lock_file());
    struct child holder = locker(), waiter = locker();
    assert_int_equal(tell(&holder, 0, LOCK_EX, 0, 0), 0);
    send_order(&waiter, 0, LOCK_EX, 0, 0);
    await_sleep(&waiter);
    murder(&holder);
    wait_is_over(&waiter);
}

static void test_api_flock_refuses_nonsense(void **state)
{
    struct shmfs_file *file = lock_file();

    assert_int_equal(shmfs_flock(file, 0), -EINVAL);
    assert_int_equal(shmfs_flock(file, LOCK_SH | LOCK_EX), -EINVAL);
    assert_int_equal(shmfs_flock(file, LOCK_NB), -EINVAL);
    close_file(file);
}

/* ---- full ------------------------------------------------------------------------------------------------------------ */

/* The table is not without end, and what was refused leaves nothing. */
static void test_api_fcntl_table_full_is_enolck(void **state)
{
    struct shmfs_file *file = lock_file();
    off_t n = 0;
    int r;

    while ((r = posix(file, F_WRLCK, 2 * n, 1)) == 0 && n < 10000000)
        n++;
    print_message("             %jd locks\n", (intmax_t)n);
    assert_int_equal(r, -ENOLCK);
    assert_int_equal(posix(file, F_UNLCK, 2 * (n / 2), 1), 0);
    assert_int_equal(posix(file, F_WRLCK, 2 * n, 1), 0);
    assert_int_equal(posix(file, F_UNLCK, 0, 0), 0);
    assert_int_equal(posix(file, F_WRLCK, 2 * n, 1), 0);
    close_file(file);
}

/* ---- all together ------------------------------------------------------------------------------------------------------ */

enum { TURNS = 300, COUNTERS = 3 };

static void count_up(int fd, void *arg)
{
    struct shmfs *mine = api_attach(0);
    struct shmfs_file *file = open_in(mine, "f", O_RDWR);
    int flocks = (int)(intptr_t)arg;
    uint64_t n;

    await(fd);
    for (int i = 0; i < TURNS; i++) {
        CHECK_EQ(flocks ? shmfs_flock(file, LOCK_EX) : lock_with(file, F_SETLKW, F_WRLCK, 0, 8), 0);
        CHECK_EQ(shmfs_pread(file, &n, sizeof(n), 0), sizeof(n));
        n++;
        CHECK_EQ(shmfs_pwrite(file, &n, sizeof(n), 0), sizeof(n));
        CHECK_EQ(flocks ? shmfs_flock(file, LOCK_UN) : posix(file, F_UNLCK, 0, 8), 0);
    }
    shmfs_detach(mine);
}

static void count_together(intptr_t flocks)
{
    struct child children[COUNTERS];
    struct shmfs_file *file = lock_file();
    uint64_t n = 0;

    CHECK_EQ(shmfs_pwrite(file, &n, sizeof(n), 0), sizeof(n));
    for (int i = 0; i < COUNTERS; i++)
        children[i] = spawn(count_up, (void *)flocks);
    for (int i = 0; i < COUNTERS; i++)
        pass(children[i].fd);
    for (int i = 0; i < COUNTERS; i++)
        assert_ends_well(&children[i]);
    CHECK_EQ(shmfs_pread(file, &n, sizeof(n), 0), sizeof(n));
    assert_int_equal(n, TURNS * COUNTERS);
    close_file(file);
}

static void test_api_fcntl_keeps_others_out(void **state)
{
    count_together(0);
}

static void test_api_flock_keeps_others_out(void **state)
{
    count_together(1);
}

/* As flock(2): what one has is given up before one waits for more, or fails. Else two of them wait for ever. */
static void test_api_flock_gives_up_what_it_has_before_it_takes_another(void **state)
{
    struct shmfs_file *a = lock_file(), *b = lock_file();

    assert_int_equal(shmfs_flock(a, LOCK_SH), 0);
    assert_int_equal(shmfs_flock(b, LOCK_SH), 0);
    assert_int_equal(shmfs_flock(a, LOCK_EX | LOCK_NB), -EWOULDBLOCK);
    assert_int_equal(shmfs_flock(b, LOCK_EX | LOCK_NB), 0);
    close_file(a);
    close_file(b);
}

static void on_alarm(int sig)
{
}

static void test_api_fcntl_wait_ends_with_a_signal(void **state)
{
    struct itimerval often = { { 0, 5000 }, { 0, 5000 } }, never = { { 0, 0 }, { 0, 0 } };
    struct sigaction sa = { .sa_handler = on_alarm };
    struct shmfs_file *file = lock_file();
    struct child child = locker();

    assert_int_equal(tell(&child, F_SETLK, F_WRLCK, 0, 1), 0);
    sigaction(SIGALRM, &sa, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    assert_int_equal(lock_with(file, F_SETLKW, F_WRLCK, 0, 1), -EINTR);
    setitimer(ITIMER_REAL, &never, NULL);
    signal(SIGALRM, SIG_DFL);
    dismiss(&child);
    close_file(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        api_unit(test_api_fcntl_locks_hold_between_processes),
        api_unit(test_api_fcntl_locks_of_one_process_do_not_conflict),
        api_unit(test_api_fcntl_ranges_split_and_merge),
        api_unit(test_api_fcntl_getlk_tells_who_and_what),
        api_unit(test_api_fcntl_counts_from_the_end),
        api_unit(test_api_fcntl_refuses_nonsense),
        api_unit(test_api_close_drops_the_locks_of_the_process),
        api_unit(test_api_detach_drops_locks),
        api_unit(test_api_ofd_locks_hold_between_handles),
        api_unit(test_api_fcntl_waiter_wakes_on_unlock),
        api_unit(test_api_fcntl_waiter_wakes_on_close_and_downgrade),
        api_unit(test_api_fcntl_waiter_wakes_when_the_holder_is_killed),
        api_unit(test_api_locks_of_the_killed_are_given_back),
        api_unit(test_api_fcntl_circle_of_waiters_is_edeadlk),
        api_unit(test_api_flock_holds_between_handles),
        api_unit(test_api_flock_and_record_locks_ignore_one_another),
        api_unit(test_api_flock_waiter_wakes),
        api_unit(test_api_flock_waiter_wakes_when_the_holder_is_killed),
        api_unit(test_api_flock_refuses_nonsense),
        api_unit(test_api_fcntl_table_full_is_enolck),
        api_unit(test_api_fcntl_keeps_others_out),
        api_unit(test_api_flock_keeps_others_out),
        api_unit(test_api_flock_gives_up_what_it_has_before_it_takes_another),
        api_unit(test_api_fcntl_wait_ends_with_a_signal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
