/* SPDX-License-Identifier: MIT */
/* Waiting for a file to change: who sleeps wakes, whoever made the change (P3). */
#include "api.h"

#include <sys/mman.h>

enum { LONG = 30000 }; /* ms; a waiter that nobody wakes fails the test instead of hanging it */

static uint64_t version_of(struct shmfs_file *file)
{
    uint64_t version = 0;

    CHECK_EQ(shmfs_wait(file, &version, 0), 0);
    CHECK(version != 0);
    return version;
}

/* ---- without sleeping -------------------------------------------------------------------------------------- */

static void test_api_wait_from_0_gives_the_present_version(void **state)
{
    uint64_t version = 0;

    put_text("f", "text");
    struct shmfs_file *file = open_file("f", O_RDONLY);
    assert_int_equal(shmfs_wait(file, &version, -1), 0);
    assert_int_not_equal(version, 0);
    uint64_t same = version;
    assert_int_equal(shmfs_wait(file, &same, 0), -ETIMEDOUT);
    assert_int_equal(same, version);
    assert_int_equal(shmfs_wait(file, &same, 20), -ETIMEDOUT);
    assert_int_equal(same, version);
    same = version - 1;
    assert_int_equal(shmfs_wait(file, &same, -1), 0);
    assert_int_equal(same, version);
    close_file(file);
}

static void test_api_wait_is_not_woken_by_reading_or_storing(void **state)
{
    char buf[16];
    void *addr;

    put_text("f", "text");
    struct shmfs_file *file = open_file("f", O_RDWR);
    assert_int_equal(shmfs_map(file, 0, 4, PROT_READ | PROT_WRITE, &addr), 0);
    uint64_t version = version_of(file);
    assert_int_equal(shmfs_pread(file, buf, sizeof(buf), 0), 4);
    fstat_of(file);
    memcpy(addr, "TEXT", 4);
    assert_int_equal(shmfs_wait(file, &version, 0), -ETIMEDOUT);
    assert_int_equal(shmfs_unmap(fs, addr, 4), 0);
    close_file(file);
}

/* ---- whatever changes ---------------------------------------------------------------------------------------- */

static void do_write(void)
{
    struct shmfs_file *file = open_file("f", O_WRONLY);

    CHECK_EQ(shmfs_pwrite(file, "x", 1, 0), 1);
    close_file(file);
}

static void do_append(void)
{
    struct shmfs_file *file = open_file("f", O_WRONLY);

    CHECK_EQ(shmfs_append(file, "x", 1, NULL), 1);
    close_file(file);
}

static void do_truncate(void)
{
    CHECK_EQ(shmfs_truncate(fs, "f", 2), 0);
}

static void do_grow(void)
{
    CHECK_EQ(shmfs_truncate(fs, "f", 100000), 0);
}

static void do_open_trunc(void)
{
    close_file(open_file("f", O_WRONLY | O_TRUNC));
}

static void do_fallocate(void)
{
    struct shmfs_file *file = open_file("f", O_WRONLY);

    CHECK_EQ(shmfs_fallocate(file, 0, 0, 3 * PAGE), 0);
    close_file(file);
}

static void do_punch(void)
{
    struct shmfs_file *file = open_file("f", O_WRONLY);

    CHECK_EQ(shmfs_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE), 0);
    close_file(file);
}

static void do_chmod(void)
{
    CHECK_EQ(shmfs_chmod(fs, "f", 0600), 0);
}

static void do_chown(void)
{
    CHECK_EQ(shmfs_chown(fs, "f", geteuid(), getegid()), 0);
}

static void do_utimens(void)
{
    CHECK_EQ(shmfs_utimens(fs, "f", NULL, 0), 0);
}

static void do_setxattr(void)
{
    CHECK_EQ(shmfs_setxattr(fs, "f", "user.x", "v", 1, 0), 0);
}

static void do_removexattr(void)
{
    CHECK_EQ(shmfs_removexattr(fs, "f", "user.there"), 0);
}

static void do_link(void)
{
    CHECK_EQ(shmfs_link(fs, "f", "another"), 0);
}

static void do_rename(void)
{
    CHECK_EQ(shmfs_rename(fs, "f", "moved", 0), 0);
}

static void do_rename_over(void)
{
    put_text("new", "new");
    CHECK_EQ(shmfs_rename(fs, "new", "f", 0), 0);
}

static void do_unlink(void)
{
    CHECK_EQ(shmfs_unlink(fs, "f"), 0);
}

static void do_msync(void)
{
    struct shmfs_file *file = open_file("f", O_RDWR);
    void *addr;

    CHECK_EQ(shmfs_map(file, 0, 4, PROT_READ | PROT_WRITE, &addr), 0);
    memcpy(addr, "TEXT", 4);
    CHECK_EQ(shmfs_msync(file, 0, 4), 0);
    CHECK_EQ(shmfs_unmap(fs, addr, 4), 0);
    close_file(file);
}

static void do_create_inside(void)
{
    put_text("d/new", "");
}

static void do_mkdir_inside(void)
{
    CHECK_EQ(shmfs_mkdir(fs, "d/sub", 0755), 0);
}

static void do_symlink_inside(void)
{
    CHECK_EQ(shmfs_symlink(fs, "x", "d/l"), 0);
}

static void do_unlink_inside(void)
{
    CHECK_EQ(shmfs_unlink(fs, "d/in"), 0);
}

static void do_rename_inside(void)
{
    CHECK_EQ(shmfs_rename(fs, "d/in", "d/inner", 0), 0);
}

static void do_rename_out(void)
{
    CHECK_EQ(shmfs_rename(fs, "d/in", "outside", 0), 0);
}

static void do_rename_in(void)
{
    CHECK_EQ(shmfs_rename(fs, "f", "d/f", 0), 0);
}

static void do_link_inside(void)
{
    CHECK_EQ(shmfs_link(fs, "f", "d/f"), 0);
}

static void do_chmod_directory(void)
{
    CHECK_EQ(shmfs_chmod(fs, "d", 0700), 0);
}

static void do_rmdir(void)
{
    CHECK_EQ(shmfs_unlink(fs, "d/in"), 0);
    CHECK_EQ(shmfs_rmdir(fs, "d"), 0);
}

struct change {
    const char *name, *watched;
    void (*f)(void);
};

static const struct change changes[] = {
    { "pwrite", "f", do_write },
    { "append", "f", do_append },
    { "truncate", "f", do_truncate },
    { "truncate to more", "f", do_grow },
    { "O_TRUNC", "f", do_open_trunc },
    { "fallocate", "f", do_fallocate },
    { "punch", "f", do_punch },
    { "chmod", "f", do_chmod },
    { "chown", "f", do_chown },
    { "utimens", "f", do_utimens },
    { "setxattr", "f", do_setxattr },
    { "removexattr", "f", do_removexattr },
    { "link", "f", do_link },
    { "rename", "f", do_rename },
    { "rename over it", "f", do_rename_over },
    { "unlink", "f", do_unlink },
    { "msync", "f", do_msync },
    { "create", "d", do_create_inside },
    { "mkdir", "d", do_mkdir_inside },
    { "symlink", "d", do_symlink_inside },
    { "unlink in it", "d", do_unlink_inside },
    { "rename in it", "d", do_rename_inside },
    { "rename out of it", "d", do_rename_out },
    { "rename into it", "d", do_rename_in },
    { "link in it", "d", do_link_inside },
    { "chmod of a directory", "d", do_chmod_directory },
    { "rmdir", "d", do_rmdir },
};

/* Waits once for each change, and says so before it sleeps. */
static void wait_for_change(int fd, void *arg)
{
    const struct change *change = arg;
    struct shmfs *mine = api_attach(0);
    struct shmfs_file *file = open_in(mine, change->watched, O_RDONLY);
    uint64_t version = version_of(file), was = version;

    pass(fd);
    CHECK_EQ(shmfs_wait(file, &version, LONG), 0);
    CHECK(version != was);
    shmfs_detach(mine);
}

static void make_watched(void)
{
    api_renew(REGION_SIZE, 0);
    put_text("f", "text");
    CHECK_EQ(shmfs_setxattr(fs, "f", "user.there", "v", 1, 0), 0);
    CHECK_EQ(shmfs_mkdir(fs, "d", 0755), 0);
    put_text("d/in", "");
}

static void test_api_wait_wakes_on_every_kind_of_change(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
        make_watched();
        struct child child = spawn(wait_for_change, (void *)(uintptr_t)&changes[i]);
        await(child.fd);
        await_sleep(&child);
        changes[i].f();
        int status = reap(&child);
        if (status != 0)
            fail_msg("%s did not wake who waits: %#x", changes[i].name, (unsigned)status);
    }
}

static void *wait_in_a_thread(void *arg)
{
    struct shmfs_file *file = arg;
    uint64_t version = 0;

    away = true;
    for (int n = 0; n < 200; n++)
        CHECK_EQ(shmfs_wait(file, &version, LONG), 0);
    return NULL;
}

/* Each sees at least the last of what happens; nobody misses all there is to come. */
static void test_api_wait_by_several_wakes_all(void **state)
{
    enum { WAITERS = 4 };
    pthread_t threads[WAITERS];

    put_text("f", "");
    struct shmfs_file *file = open_file("f", O_RDWR);
    for (int i = 0; i < WAITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, wait_in_a_thread, file), 0);
    for (int i = 0, left = WAITERS; left > 0; i = (i + 1) % WAITERS) {
        assert_int_equal(shmfs_pwrite(file, "x", 1, 0), 1);
        if (threads[i] != 0 && pthread_tryjoin_np(threads[i], NULL) == 0) {
            threads[i] = 0;
            left--;
        }
    }
    close_file(file);
}

static void write_and_die(int fd, void *arg)
{
    struct shmfs *mine = api_attach(0);
    struct shmfs_file *file = open_in(mine, "f", O_WRONLY);

    await(fd);
    CHECK_EQ(shmfs_pwrite(file, "x", 1, 0), 1);
    raise(SIGKILL);
}

static void test_api_wait_sees_a_change_by_somebody_killed_right_after_it(void **state)
{
    put_text("f", "");
    struct shmfs_file *file = open_file("f", O_RDONLY);
    for (int i = 0; i < 10; i++) {
        struct child child = spawn(write_and_die, NULL);
        uint64_t version = version_of(file);
        pass(child.fd);
        assert_int_equal(shmfs_wait(file, &version, LONG), 0);
        reap(&child);
    }
    close_file(file);
}

/* ---- read-only ------------------------------------------------------------------------------------------------- */

static void wait_read_only(int fd, void *arg)
{
    struct shmfs *mine = api_attach(SHMFS_RDONLY);
    struct shmfs_file *file = open_in(mine, "f", O_RDONLY);
    uint64_t version = version_of(file), was = version;

    CHECK_EQ(shmfs_wait(file, &version, 0), -ETIMEDOUT);
    CHECK_EQ(shmfs_wait(file, &version, 30), -ETIMEDOUT);
    CHECK(version == was);
    pass(fd);
    CHECK_EQ(shmfs_wait(file, &version, LONG), 0);
    CHECK(version != was);
    shmfs_detach(mine);
}

static void test_api_wait_read_only_polls(void **state)
{
    put_text("f", "");
    struct child child = spawn(wait_read_only, NULL);
    await(child.fd);
    await_sleep(&child);
    do_write();
    assert_ends_well(&child);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        api_unit(test_api_wait_from_0_gives_the_present_version),
        api_unit(test_api_wait_is_not_woken_by_reading_or_storing),
        api_unit(test_api_wait_wakes_on_every_kind_of_change),
        api_unit(test_api_wait_by_several_wakes_all),
        api_unit(test_api_wait_sees_a_change_by_somebody_killed_right_after_it),
        api_unit(test_api_wait_read_only_polls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
