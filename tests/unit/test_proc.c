/* SPDX-License-Identifier: MIT */
/* The process table: who is attached, and who is dead (A8, LOCKING "Is it dead?"). */
#include "fixture.h"

#include <sys/prctl.h>

/* ---- who is there -------------------------------------------------------------------------------- */

static struct proc_entry entry_of(const struct shmfs *of)
{
    struct proc_entry e;
    struct procref ref;

    CHECK(proc_get(fs, proc_index(of->self), &e, &ref));
    CHECK_EQ(ref.v, of->self.v);
    return e;
}

static uint64_t life_byte(uint32_t index)
{
    return fs->l.procs + (uint64_t)index * sizeof(struct proc_entry);
}

/* Does somebody, as seen from a descriptor of its own, hold a lock on this entry's first byte? */
static short lock_on_entry(uint32_t index)
{
    struct flock fl = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)life_byte(index), .l_len = 1
    };
    AUTO_CLOSE int fd = (int)MUST(open(region_path, O_RDWR | O_CLOEXEC));

    MUST(fcntl(fd, F_OFD_GETLK, &fl));
    return fl.l_type;
}

/* 0: nobody else is alive. */
static int other_pid(void)
{
    uint32_t pid;

    return proc_other(fs, &pid) ? (int)pid : 0;
}

static void test_proc_references_keep_index_and_incarnation(void **state)
{
    uint64_t inc = (UINT64_C(1) << 48) - 1;
    struct procref ref = proc_ref(65533, inc);

    assert_int_equal(proc_index(ref), 65533);
    assert_int_equal(proc_inc(ref), inc);
    assert_int_equal(proc_index(proc_ref(0, 1)), 0);
    assert_int_not_equal(proc_ref(0, 0).v, 0); /* 0 is nobody */
}

static void test_proc_enroll_says_who_we_are(void **state)
{
    struct proc_entry e = entry_of(fs);
    char comm[32] = "";

    MUST(prctl(PR_GET_NAME, comm));
    assert_int_equal(e.pid, getpid());
    assert_int_equal(e.uid, geteuid());
    assert_string_equal(e.name, comm);
    assert_true(e.pid_ns != 0);
    assert_true(e.start_time != 0);
    assert_true(e.attached > 0);
    assert_int_equal(e.flags, 0);
}

/* Alive exactly while the OFD lock is held: somebody else sees a write lock there. */
static void test_proc_enroll_takes_the_life_lock_and_leave_gives_it_up(void **state)
{
    struct shmfs *other = attach(0);
    uint32_t index = proc_index(other->self);
    struct procref ref = other->self;

    assert_int_equal(lock_on_entry(index), F_WRLCK);
    assert_true(proc_alive(fs, ref));
    shmfs_region_detach(other);
    assert_int_equal(lock_on_entry(index), F_UNLCK);
    assert_false(proc_alive(fs, ref));
}

static void test_proc_get_knows_free_entries(void **state)
{
    struct proc_entry e = { .pid = 4711 };
    struct procref ref = { 4711 };

    assert_false(proc_get(fs, proc_index(fs->self) + 1, &e, &ref));
    assert_false(proc_get(fs, fs->l.nprocs, &e, &ref));
    assert_false(proc_get(fs, UINT32_MAX, &e, &ref));
    assert_int_equal(e.pid, 4711);
    assert_int_equal(ref.v, 4711);
}

/* A name in the table may have been written by anybody: it ends. */
static void test_proc_get_ends_the_name(void **state)
{
    struct proc_entry e, *raw = &fs->procs[proc_index(fs->self)];
    struct procref ref;

    memset(raw->name, 'n', sizeof(raw->name));
    assert_true(proc_get(fs, proc_index(fs->self), &e, &ref));
    assert_int_equal(strlen(e.name), sizeof(e.name) - 1);
}

static void test_proc_a_second_attach_in_one_process_is_alive(void **state)
{
    struct shmfs *other = attach(0);

    assert_int_not_equal(proc_index(other->self), proc_index(fs->self));
    assert_true(proc_alive(fs, other->self));
    assert_true(proc_alive(other, fs->self));
    assert_true(proc_alive(fs, fs->self));
    assert_int_equal(other_pid(), getpid());
    shmfs_region_detach(other);
    assert_int_equal(other_pid(), 0);
}

/* An incarnation never comes back: who was in an entry before is dead, whoever is in it now. */
static void test_proc_dead_stays_dead(void **state)
{
    struct shmfs *other = attach(0);
    struct procref was = other->self;

    shmfs_region_detach(other);
    for (int i = 0; i < 10; i++) {
        other = attach(0);
        assert_int_equal(proc_index(other->self), proc_index(was));
        assert_true(proc_inc(other->self) > proc_inc(was));
        assert_true(proc_alive(fs, other->self));
        assert_false(proc_alive(fs, was));
        shmfs_region_detach(other);
    }
}

static void test_proc_alive_knows_references_to_nobody(void **state)
{
    static const uint64_t garbage[] = { 0, UINT64_MAX, 0xffff, 0x10000, 0x1234567890ab0001 };

    for (size_t i = 0; i < ARRAY_SIZE(garbage); i++)
        assert_false(proc_alive(fs, (struct procref){ garbage[i] }));
    assert_false(proc_alive(fs, proc_ref(fs->l.nprocs, 1)));
    assert_false(proc_alive(fs, proc_ref(proc_index(fs->self), proc_inc(fs->self) + 1)));
    assert_false(proc_alive(fs, proc_ref(proc_index(fs->self), proc_inc(fs->self) - 1)));
}

/* ---- death ------------------------------------------------------------------------------------------ */

/* What a child and we both see; not part of the region. */
static struct procref told(int fd)
{
    struct procref ref;

    CHECK_EQ(read(fd, &ref, sizeof(ref)), sizeof(ref));
    return ref;
}

static void attach_and_tell(int fd, void *arg)
{
    fs = attach(0);
    CHECK_EQ(write(fd, &fs->self, sizeof(fs->self)), sizeof(fs->self));
    await(fd);
    detach();
    pass(fd);
    await(fd);
}

static void test_proc_death_by_sigkill_is_noticed(void **state)
{
    struct child child = spawn(attach_and_tell, NULL);
    struct procref ref = told(child.fd);

    assert_true(proc_alive(fs, ref));
    assert_int_equal(other_pid(), child.pid);
    murder(&child);
    assert_false(proc_alive(fs, ref));
    assert_int_equal(other_pid(), 0);
}

/* Its pid is still taken, and kill(pid, 0) finds it, but it will never store again. */
static void test_proc_a_zombie_is_dead(void **state)
{
    struct child child = spawn(attach_and_tell, NULL);
    struct procref ref = told(child.fd);

    kill_child(&child);
    assert_int_equal(kill(child.pid, 0), 0);
    assert_false(proc_alive(fs, ref));
    reap(&child);
}

static void test_proc_a_stopped_process_is_alive(void **state)
{
    struct child child = spawn(attach_and_tell, NULL);
    struct procref ref = told(child.fd);
    siginfo_t info;

    MUST(kill(child.pid, SIGSTOP));
    MUST(waitid(P_PID, (id_t)child.pid, &info, WSTOPPED));
    assert_true(proc_alive(fs, ref));
    murder(&child);
    assert_false(proc_alive(fs, ref));
}

static void test_proc_who_detached_is_gone_while_its_process_runs_on(void **state)
{
    struct child child = spawn(attach_and_tell, NULL);
    struct procref ref = told(child.fd);

    pass(child.fd);
    await(child.fd); /* it has detached */
    assert_false(proc_alive(fs, ref));
    pass(child.fd);
    assert_ends_well(&child);
}

/* The entry of a dead process is found and freed by whoever attaches next (P2: nothing leaks). */
static void test_proc_entries_of_the_dead_are_freed(void **state)
{
    struct proc_entry e;
    struct child child = spawn(attach_and_tell, NULL);
    struct procref ref = told(child.fd), now;

    murder(&child);
    assert_true(proc_get(fs, proc_index(ref), &e, &now));
    shmfs_region_detach(attach(0));
    assert_false(proc_get(fs, proc_index(ref), &e, &now));
}

/* A thread that is not the first lives on alone: its process is alive, for it may still store. */
static void *live_on(void *arg)
{
    int fd = *(int *)arg;

    away = true;
    await(fd);
    _exit(0);
}

static void leave_a_thread_behind(int fd, void *arg)
{
    pthread_t thread;

    fs = attach(0);
    MUST(-pthread_create(&thread, NULL, live_on, &fd));
    CHECK_EQ(write(fd, &fs->self, sizeof(fs->self)), sizeof(fs->self));
    pthread_exit(NULL);
}

static char state_of(pid_t pid)
{
    char path[64], text[256] = "";
    AUTO_CLOSE int fd = -1;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    fd = (int)MUST(open(path, O_RDONLY | O_CLOEXEC));
    MUST(read(fd, text, sizeof(text) - 1));
    return strrchr(text, ')')[2];
}

static void test_proc_lives_until_its_last_thread_is_through(void **state)
{
    struct child child = spawn(leave_a_thread_behind, NULL);
    struct procref ref = told(child.fd);

    while (state_of(child.pid) != 'Z') /* the first thread is a zombie then */
        sched_yield();
    assert_true(proc_alive(fs, ref));
    pass(child.fd);
    await_death(&child);
    assert_false(proc_alive(fs, ref));
    reap(&child);
}

/* ---- feigning life ------------------------------------------------------------------------------------ */

/* An entry without a lock, as who died left it, in which somebody of this pid and age stands. */
static struct procref forge(uint32_t index, uint32_t pid, uint64_t start_time, uint64_t pid_ns)
{
    struct proc_entry *e = &fs->procs[index];

    *e = (struct proc_entry){ .pid = pid, .start_time = start_time, .pid_ns = pid_ns };
    e->inc = ++fs->rt->next_inc;
    return proc_ref(index, e->inc);
}

static void unforge(uint32_t index)
{
    fs->procs[index].inc = 0;
}

/* The pid is another process's by now: that one runs, but it has not been running for as long. */
static void test_proc_a_reused_pid_cannot_feign_life(void **state)
{
    struct child child = spawn(attach_and_tell, NULL);
    uint32_t index = proc_index(told(child.fd));
    struct proc_entry e = fs->procs[index];

    assert_false(proc_alive(fs, forge(100, e.pid, e.start_time - 1, e.pid_ns)));
    assert_false(proc_alive(fs, forge(100, e.pid, e.start_time + 1, e.pid_ns)));
    assert_false(proc_alive(fs, forge(100, e.pid, 0, e.pid_ns)));
    /* Of another PID namespace, the number means nothing. */
    assert_false(proc_alive(fs, forge(100, e.pid, e.start_time, e.pid_ns + 1)));
    assert_false(proc_alive(fs, forge(100, 1, 0, e.pid_ns)));
    unforge(100);
    murder(&child);
}

/* It closed our descriptor (closefrom), and yet it may store: the mapping keeps the lock. */
static void close_everything(int fd, void *arg)
{
    fs = attach(0);
    CHECK_EQ(write(fd, &fs->self, sizeof(fs->self)), sizeof(fs->self));
    for (int i = 3; i < 100; i++)
        if (i != fd)
            close(i);
    pass(fd);
    await(fd);
}

static void test_proc_who_closed_our_descriptor_is_alive(void **state)
{
    struct child child;
    struct procref ref;

    detach(); /* else it has a copy of our descriptor, which closing does not hurt */
    child = spawn(close_everything, NULL);
    ref = told(child.fd);
    await(child.fd);
    fs = attach(0);
    assert_int_equal(lock_on_entry(proc_index(ref)), F_WRLCK);
    assert_true(proc_alive(fs, ref));
    murder(&child);
    assert_false(proc_alive(fs, ref));
}

/*
 * P2: it became another program. Its pid and its start time are what they were, but the mapping is gone,
 * and with it whatever its threads were in the middle of.
 */
static void become_another_program(int fd, void *arg)
{
    int fds[2];

    fs = attach(0);
    CHECK_EQ(write(fd, &fs->self, sizeof(fs->self)), sizeof(fs->self));
    MUST(pipe(fds)); /* nobody ever writes: cat waits until it is killed */
    MUST(dup2(fds[0], STDIN_FILENO));
    MUST(execlp("cat", "cat", (char *)NULL));
}

static void test_proc_who_became_another_program_is_dead(void **state)
{
    struct child child;
    struct procref ref;
    char c;

    detach(); /* else it has a copy of our descriptor until the exec */
    child = spawn(become_another_program, NULL);
    ref = told(child.fd);
    assert_int_equal(read(child.fd, &c, 1), 0); /* exec has closed its end */
    fs = attach(0);
    alarm(20); /* the old mapping goes on the way to the new program, a moment after the pipe */
    while (proc_alive(fs, ref))
        sched_yield();
    alarm(0);
    murder(&child);
}

/* Who may only read the file can take read locks; it cannot keep the dead alive (A8). */
static void test_proc_a_read_lock_cannot_feign_life(void **state)
{
    struct child child = spawn(attach_and_tell, NULL);
    struct procref ref = told(child.fd);
    struct flock fl = {
        .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = (off_t)life_byte(proc_index(ref)), .l_len = 1
    };
    AUTO_CLOSE int fd = (int)MUST(open(region_path, O_RDONLY | O_CLOEXEC));

    murder(&child);
    MUST(fcntl(fd, F_OFD_SETLK, &fl));
    assert_false(proc_alive(fs, ref));
}

/* ---- a full table ---------------------------------------------------------------------------------------- */

static void test_proc_a_table_full_of_the_living_is_refused(void **state)
{
    struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
    AUTO_CLOSE int fd = (int)MUST(open(region_path, O_RDWR | O_CLOEXEC));
    struct shmfs *other;
    struct shmfs_diag diag;

    for (uint32_t i = 0; i < fs->l.nprocs; i++) {
        if (i == proc_index(fs->self))
            continue;
        fl.l_start = (off_t)life_byte(i);
        MUST(fcntl(fd, F_OFD_SETLK, &fl)); /* they live */
        forge(i, 1, 1, 1);
    }
    assert_int_equal(shmfs_region_attach(region_path, 0, &other, &diag), -EUSERS);
    assert_int_equal(diag.reason, SHMFS_REASON_FULL);
    assert_int_equal(diag.a, fs->l.nprocs);

    fl.l_start = (off_t)life_byte(200); /* one dies, and leaves properly */
    fl.l_type = F_UNLCK;
    MUST(fcntl(fd, F_OFD_SETLK, &fl));
    unforge(200);
    other = attach(0);
    assert_int_equal(proc_index(other->self), 200);
    shmfs_region_detach(other);
    for (uint32_t i = 0; i < fs->l.nprocs; i++)
        if (i != proc_index(fs->self))
            unforge(i);
}

/* P2: nothing leaks, so a table full of the dead is an empty one. */
static void test_proc_a_table_full_of_the_dead_is_buried(void **state)
{
    for (uint32_t i = 0; i < fs->l.nprocs; i++)
        if (i != proc_index(fs->self))
            forge(i, 1, 1, 1);
    struct shmfs *other = attach(0);
    shmfs_region_detach(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        unit(test_proc_references_keep_index_and_incarnation),
        unit(test_proc_enroll_says_who_we_are),
        unit(test_proc_enroll_takes_the_life_lock_and_leave_gives_it_up),
        unit(test_proc_get_knows_free_entries),
        unit(test_proc_get_ends_the_name),
        unit(test_proc_a_second_attach_in_one_process_is_alive),
        unit(test_proc_dead_stays_dead),
        unit(test_proc_alive_knows_references_to_nobody),
        unit(test_proc_death_by_sigkill_is_noticed),
        unit(test_proc_a_zombie_is_dead),
        unit(test_proc_a_stopped_process_is_alive),
        unit(test_proc_who_detached_is_gone_while_its_process_runs_on),
        unit(test_proc_entries_of_the_dead_are_freed),
        unit(test_proc_lives_until_its_last_thread_is_through),
        unit(test_proc_a_reused_pid_cannot_feign_life),
        unit(test_proc_who_closed_our_descriptor_is_alive),
        unit(test_proc_who_became_another_program_is_dead),
        unit(test_proc_a_read_lock_cannot_feign_life),
        unit(test_proc_a_table_full_of_the_living_is_refused),
        unit(test_proc_a_table_full_of_the_dead_is_buried),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
