/* SPDX-License-Identifier: MIT */
/* Attaching and detaching as programs do it: what is refused and what is said, several at once, and death. */
#include "api.h"

#include <sys/mman.h>

static char other_path[96];

static int refused(const char *where, unsigned flags)
{
    struct shmfs *const untouched = (struct shmfs *)(uintptr_t)0x5a5a;
    struct shmfs *got = untouched;
    int r = shmfs_attach(where, flags, &got);

    CHECK(r < 0);
    CHECK(got == untouched);
    return r;
}

/* One line that names what it was about, and each of these words. */
static void assert_said(const char *where, const char *word)
{
    const char *text = shmfs_attach_error();

    print_message("             %s\n", text);
    CHECK(strstr(text, where) != NULL);
    CHECK(strchr(text, '\n') == NULL);
    CHECK(word == NULL || strstr(text, word) != NULL);
}

static int attach_setup(void **state)
{
    api_setup(state);
    snprintf(other_path, sizeof(other_path), "%s-other", region_path);
    unlink(other_path);
    rmdir(other_path);
    return 0;
}

static int attach_teardown(void **state)
{
    unlink(other_path);
    rmdir(other_path);
    return api_teardown(state);
}

#define attach_unit(f) cmocka_unit_test_setup_teardown(f, attach_setup, attach_teardown)

/* ---- refused ------------------------------------------------------------------------------------------------ */

static void test_api_attach_to_nothing_is_enoent(void **state)
{
    assert_int_equal(refused(other_path, 0), -ENOENT);
    assert_said(other_path, NULL);
    assert_int_equal(refused(other_path, SHMFS_RDONLY), -ENOENT);
    assert_int_equal(refused("", 0), -ENOENT);
}

static void test_api_attach_to_no_region_is_einval(void **state)
{
    AUTO_CLOSE int fd = (int)MUST(open(other_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));

    assert_int_equal(refused(other_path, 0), -EINVAL);
    assert_said(other_path, NULL);
    MUST(ftruncate(fd, 1 << 20));
    assert_int_equal(refused(other_path, 0), -EINVAL);
    CHECK_EQ(write(fd, "#!/bin/sh\n", 10), 10);
    assert_int_equal(refused(other_path, SHMFS_RDONLY), -EINVAL);
    assert_said(other_path, NULL);
}

static void test_api_attach_to_a_directory_without_a_mount_is_einval(void **state)
{
    MUST(mkdir(other_path, 0700));
    assert_int_equal(refused(other_path, 0), -EINVAL);
    assert_said(other_path, NULL);
    assert_int_equal(refused("/proc", 0), -EINVAL);
    assert_int_equal(refused("/dev/null", 0), -EINVAL);
}

static void test_api_attach_refuses_unknown_flags(void **state)
{
    static const unsigned flags[] = { 2, 4, 8, 32, 1u << 31, SHMFS_RDONLY | 2 };

    for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
        assert_int_equal(refused(region_path, flags[i]), -EINVAL);
}

static void attach_without_rights(void)
{
    MUST(setgroups(0, NULL));
    MUST(setresgid(NOBODY, NOBODY, NOBODY));
    MUST(setresuid(NOBODY, NOBODY, NOBODY));
    CHECK_EQ(refused(region_path, 0), -EACCES);
    assert_said(region_path, NULL);
    CHECK_EQ(refused(region_path, SHMFS_RDONLY), -EACCES);
}

static void test_api_attach_needs_the_right_to_write(void **state)
{
    if (geteuid() != 0)
        skip();
    in_child(attach_without_rights);
    MUST(chmod(region_path, 0640));
    in_child(attach_without_rights);
}

static void *fail_elsewhere(void *arg)
{
    away = true;
    CHECK_EQ(refused("/dev/shm/no-such-region", 0), -ENOENT);
    return NULL;
}

static void test_api_attach_error_belongs_to_its_thread(void **state)
{
    pthread_t thread;

    assert_int_equal(refused(other_path, 0), -ENOENT);
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_said(other_path, NULL);
}

/* ---- regions of other builds (P6) ------------------------------------------------------------------------------ */

/* A region whose superblock is another's, with a checksum that is right. */
static void make_other(void (*change)(struct superblock *sb))
{
    struct superblock sb;

    unlink(other_path);
    make_path(other_path, REGION_SIZE, REGION_SIZE, 0);
    AUTO_CLOSE int fd = (int)MUST(open(other_path, O_RDWR | O_CLOEXEC));
    CHECK_EQ(pread(fd, &sb, sizeof(sb), 0), sizeof(sb));
    change(&sb);
    sb.checksum = layout_checksum(&sb);
    CHECK_EQ(pwrite(fd, &sb, sizeof(sb), 0), sizeof(sb));
}

static void newer_version(struct superblock *sb)
{
    sb->version = FORMAT_VERSION + 41;
}

static void older_version(struct superblock *sb)
{
    sb->version = FORMAT_VERSION - 1;
}

static void other_layout(struct superblock *sb)
{
    sb->layout_hash ^= 1;
}

static void incompat(struct superblock *sb)
{
    sb->incompat |= 1u << 30;
}

static void ro_compat(struct superblock *sb)
{
    sb->ro_compat |= 1u << 30;
}

static void compat(struct superblock *sb)
{
    sb->compat |= 1u << 30;
}

static void test_api_attach_refuses_regions_of_other_builds(void **state)
{
    static const struct {
        void (*change)(struct superblock *sb);
        const char *word;
    } cases[] = {
        { newer_version, "version" },
        { older_version, "version" },
        { other_layout, "layout" },
        { incompat, "feature" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        make_other(cases[i].change);
        assert_int_equal(refused(other_path, 0), -EUCLEAN);
        assert_said(other_path, cases[i].word);
        assert_int_equal(refused(other_path, SHMFS_RDONLY), -EUCLEAN);
        assert_said(other_path, cases[i].word);
    }
}

static void test_api_attach_reads_what_only_writers_need_to_know(void **state)
{
    make_other(ro_compat);
    assert_int_equal(refused(other_path, 0), -EUCLEAN);
    assert_said(other_path, "feature");
    struct shmfs *mine = api_attach_at(other_path, SHMFS_RDONLY);
    struct stat st;
    assert_int_equal(shmfs_stat(mine, "/", &st), 0);
    assert_int_equal(shmfs_mkdir(mine, "/d", 0755), -EROFS);
    shmfs_detach(mine);
}

static void test_api_attach_takes_features_that_nobody_needs_to_know(void **state)
{
    make_other(compat);
    shmfs_detach(api_attach_at(other_path, 0));
}

static void test_api_attach_refuses_a_damaged_superblock(void **state)
{
    make_other(newer_version);
    AUTO_CLOSE int fd = (int)MUST(open(other_path, O_RDWR | O_CLOEXEC));
    CHECK_EQ(pwrite(fd, "!", 1, offsetof(struct superblock, ngroups)), 1);
    assert_int_equal(refused(other_path, 0), -EUCLEAN);
    assert_said(other_path, NULL);
    MUST(ftruncate(fd, BLOCK_SIZE));
    assert_int_equal(refused(other_path, 0), -EUCLEAN);
}

/* ---- full ------------------------------------------------------------------------------------------------------ */

enum { CROWD = 4000 };

/* Stays attached, as often as its parent is; or finds that there was no place for it. */
static void be_one_of_many(int fd, void *arg)
{
    struct stat st;
    int r = shmfs_stat(fs, "/", &st);

    CHECK(r == 0 || r == -EBADF);
    CHECK_EQ(send(fd, r == 0 ? "y" : "n", 1, MSG_NOSIGNAL), 1);
    await(fd);
}

/* Children until there is no place left; returns how many got one. */
static unsigned fill_the_process_table(struct child *children)
{
    unsigned n = 0;
    char c = 'y';

    while (n < CROWD && c == 'y') {
        children[n] = spawn(be_one_of_many, NULL);
        CHECK_EQ(read(children[n++].fd, &c, 1), 1);
    }
    CHECK_EQ(c, 'n');
    return n;
}

static void test_api_attach_to_a_full_process_table_is_eusers(void **state)
{
    enum { TIMES = 50 };
    static struct child children[CROWD];
    struct shmfs *more[TIMES];

    for (int i = 0; i < TIMES; i++)
        more[i] = api_attach(0);
    unsigned n = fill_the_process_table(children);
    print_message("             the child number %u got no place\n", n);
    while (n > 0 && shmfs_attach(region_path, 0, &more[0]) == 0)
        n--; /* a child may have got some of the places that it needed */
    assert_int_equal(refused(region_path, 0), -EUSERS);
    assert_said(region_path, NULL);
    n = 0;
    while (n < CROWD && children[n].pid != 0)
        murder(&children[n++]);
    bury();
    api_renew(REGION_SIZE, 0);
}

static void run_out_of_descriptors(void)
{
    struct rlimit files = { 64, 64 };

    MUST(setrlimit(RLIMIT_NOFILE, &files));
    while (open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0)
        continue;
    CHECK_EQ(refused(region_path, 0), -EMFILE);
    assert_said(region_path, NULL);
    put_text("f", "still at work"); /* descriptors are for attaching only */
    assert_text("f", "still at work");
}

static void test_api_attach_without_a_descriptor_is_emfile(void **state)
{
    in_child(run_out_of_descriptors);
}

/* ---- several ------------------------------------------------------------------------------------------------------ */

static void test_api_attach_twice_sees_the_same(void **state)
{
    struct shmfs *second = api_attach(0);
    struct shmfs_file *file;
    void *one, *two;

    put_bytes("f", 'f', PAGE);
    file = open_in(second, "f", O_RDWR);
    assert_int_equal(shmfs_map(file, 0, PAGE, PROT_READ | PROT_WRITE, &one), 0);
    struct shmfs_file *first = open_file("f", O_RDWR);
    assert_int_equal(shmfs_map(first, 0, PAGE, PROT_READ, &two), 0);
    memset(one, 'm', PAGE);
    assert_true(all_are(two, 'm', PAGE));
    close_file(file);
    shmfs_detach(second);
    assert_true(all_are(two, 'm', PAGE));
    assert_bytes(first, 'm', PAGE, 0);
    close_file(first);
    assert_int_equal(shmfs_unmap(fs, two, PAGE), 0);
}

static void test_api_attach_to_two_regions_keeps_them_apart(void **state)
{
    unlink(other_path);
    make_path(other_path, REGION_SIZE, REGION_SIZE, 0);
    struct shmfs *other = api_attach_at(other_path, 0);

    put_text("f", "text");
    struct stat st;
    assert_int_equal(shmfs_stat(other, "f", &st), -ENOENT);
    assert_int_equal(shmfs_mkdir(other, "f", 0755), 0);
    assert_text("f", "text");
    shmfs_detach(other);
    assert_int_equal(problems_of(other_path), 0);
}

static void test_api_detach_ends_all_that_is_open(void **state)
{
    struct statvfs before = space_now();
    struct shmfs *second = api_attach(0);
    struct shmfs_dir *dir;
    void *addr;

    assert_int_equal(shmfs_opendir(second, "/", &dir), 0);
    struct shmfs_file *file = open_in(second, "f", O_RDWR | O_CREAT);
    assert_int_equal(shmfs_pwrite(file, "x", 1, 10 * PAGE), 1);
    assert_int_equal(shmfs_map(file, 0, 11 * PAGE, PROT_READ | PROT_WRITE, &addr), 0);
    assert_int_equal(shmfs_flock(file, LOCK_EX), 0);
    struct shmfs_file *mine = open_file("f", O_RDWR);
    assert_int_equal(shmfs_flock(mine, LOCK_EX | LOCK_NB), -EWOULDBLOCK);
    assert_int_equal(shmfs_unlink(fs, "f"), 0);
    shmfs_detach(second);
    assert_int_equal(shmfs_flock(mine, LOCK_EX | LOCK_NB), 0);
    close_file(mine);
    assert_space(&before);
    assert_true(mincore(addr, PAGE, (unsigned char[1]){ 0 }) < 0 && errno == ENOMEM);
}

static void test_api_detach_of_nothing_is_allowed(void **state)
{
    shmfs_detach(NULL);
}

/* ---- clean (A17) ---------------------------------------------------------------------------------------------- */

static uint32_t clean_mark(void)
{
    struct superblock sb;
    AUTO_CLOSE int fd = (int)MUST(open(region_path, O_RDONLY | O_CLOEXEC));

    CHECK_EQ(pread(fd, &sb, sizeof(sb), 0), sizeof(sb));
    return sb.clean;
}

static void attach_and_stay(int fd, void *arg)
{
    struct shmfs *mine = api_attach(0);

    pass(fd);
    await(fd);
    shmfs_detach(mine);
    api_detach();
    pass(fd);
    await(fd);
}

static void test_api_detach_of_the_last_leaves_the_region_clean(void **state)
{
    struct child child = spawn(attach_and_stay, NULL);
    struct shmfs *second = api_attach(0);

    await(child.fd);
    shmfs_detach(second);
    api_detach();
    assert_int_equal(clean_mark(), 0);
    pass(child.fd);
    await(child.fd);
    assert_int_equal(clean_mark(), 1);
    fs = api_attach(0);
    assert_int_equal(clean_mark(), 0);
    pass(child.fd);
    assert_ends_well(&child);
}

static void test_api_detach_of_the_last_buries_the_killed(void **state)
{
    struct child child = spawn(attach_and_stay, NULL);

    await(child.fd);
    murder(&child);
    api_detach();
    assert_int_equal(clean_mark(), 1);
    fs = api_attach(0);
}

/* ---- the region file cut short (P6) -------------------------------------------------------------------------- */

static void cut_and_use(void)
{
    char buf[PAGE] = "";

    put_bytes("f", 'f', 1 << 20);
    struct shmfs_file *file = open_file("f", O_RDWR);
    MUST(truncate(region_path, BLOCK_SIZE));
    CHECK_EQ(shmfs_pread(file, buf, sizeof(buf), 0), -EIO);
    CHECK_EQ(shmfs_pwrite(file, buf, sizeof(buf), 0), -EIO);
    CHECK_EQ(shmfs_mkdir(fs, "d", 0755), -EIO);
    CHECK_EQ(lstat_result("/"), -EIO);
    api_detach();
}

static int teardown_cut(void **state)
{
    bus_restore(); /* detaching meets pages that are not there any more */
    api_detach();
    unlink(region_path);
    return 0;
}

static void test_api_region_cut_short_is_eio(void **state)
{
    in_child(cut_and_use);
}

/* ---- another PID namespace ------------------------------------------------------------------------------------ */

/* Is process 1 there; its parent, who waits for it, is not. */
static void live_in_a_namespace(int fd, void *arg)
{
    MUST(unshare(CLONE_NEWPID));
    struct child inner = spawn(attach_and_stay, NULL);

    await(inner.fd);
    pass(fd);
    await(fd);
    murder(&inner);
    pass(fd);
    await(fd);
}

static void hold_lock(int fd, void *arg)
{
    struct shmfs *mine;
    struct shmfs_file *file;

    CHECK_EQ(getpid(), 1);
    mine = api_attach(0);
    file = open_in(mine, "f", O_RDWR);
    CHECK_EQ(shmfs_flock(file, LOCK_EX), 0);
    CHECK_EQ(shmfs_unlink(mine, "gone"), 0);
    open_in(mine, "f", O_RDWR);
    pass(fd);
    await(fd);
    /* The one outside is alive as seen from here: its lock holds. */
    file = open_in(mine, "g", O_RDWR);
    CHECK_EQ(shmfs_flock(file, LOCK_EX | LOCK_NB), -EWOULDBLOCK);
    bury();
    CHECK_EQ(shmfs_flock(file, LOCK_EX | LOCK_NB), -EWOULDBLOCK);
    pass(fd);
    await(fd);
}

static void hold_lock_in_a_namespace(int fd, void *arg)
{
    MUST(unshare(CLONE_NEWPID));
    struct child inner = spawn(hold_lock, NULL);

    for (int i = 0; i < 2; i++) {
        await(inner.fd);
        pass(fd);
        await(fd);
        if (i == 0)
            pass(inner.fd);
    }
    murder(&inner);
    pass(fd);
    await(fd);
}

static void test_api_attach_from_another_pid_namespace_is_seen_alive_and_dead(void **state)
{
    if (geteuid() != 0)
        skip();
    put_text("f", "");
    put_text("g", "");
    put_text("gone", "");
    struct shmfs_file *file = open_file("f", O_RDWR), *mine = open_file("g", O_RDWR);
    assert_int_equal(shmfs_flock(mine, LOCK_EX), 0);

    struct child outer = spawn(hold_lock_in_a_namespace, NULL);
    await(outer.fd);
    bury();
    assert_int_equal(shmfs_flock(file, LOCK_EX | LOCK_NB), -EWOULDBLOCK);
    pass(outer.fd);
    await(outer.fd);
    assert_int_equal(shmfs_flock(file, LOCK_EX | LOCK_NB), -EWOULDBLOCK);
    pass(outer.fd);
    await(outer.fd);
    assert_int_equal(shmfs_flock(file, LOCK_EX | LOCK_NB), 0);
    pass(outer.fd);
    assert_ends_well(&outer);
    close_file(file);
    close_file(mine);
}

static void test_api_detach_of_the_last_buries_the_killed_of_another_pid_namespace(void **state)
{
    if (geteuid() != 0)
        skip();
    struct child outer = spawn(live_in_a_namespace, NULL);

    await(outer.fd);
    pass(outer.fd);
    await(outer.fd);
    pass(outer.fd);
    assert_ends_well(&outer);
    api_detach();
    assert_int_equal(clean_mark(), 1);
    fs = api_attach(0);
}

/* Has another file sit where the region's descriptor was, as after closefrom(). Returns its descriptor. */
static int take_the_regions_descriptor(void)
{
    int other = memfd_create("other", MFD_CLOEXEC), last = -1;
    char path[32], link[sizeof(region_path) + 16];

    CHECK(other >= 0);
    for (int fd = 0; fd < 64; fd++) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, link, sizeof(link) - 1);
        if (n > 0 && (size_t)n == strlen(region_path) && memcmp(link, region_path, (size_t)n) == 0)
            CHECK_EQ(dup2(other, last = fd), fd);
    }
    CHECK(last >= 0);
    return other;
}

static void work_without_a_descriptor(void)
{
    struct shmfs_file *file = open_file("f", O_RDWR);
    int other = take_the_regions_descriptor();
    AUTO_FREE char *buf = calloc(1, 8 * MIB);
    struct stat st;
    void *p = NULL;

    CHECK(shmfs_map(file, 0, PAGE, PROT_READ, &p) < 0);
    CHECK(p == NULL);
    for (int i = 0; i < 64 && shmfs_append(file, buf, 8 * MIB, NULL) > 0; i++) /* until memory is needed */
        continue;
    CHECK_EQ(shmfs_pread(file, buf, 1, 0), 1);
    CHECK_EQ(buf[0], 'S');
    CHECK_EQ(fstat(other, &st), 0);
    CHECK_EQ(st.st_size, 0);
    CHECK_EQ(st.st_blocks, 0);
}

/* A program that closes all it has does itself no good, but its other files no harm (A8). */
static void test_api_attach_touches_no_file_that_took_its_descriptor(void **state)
{
    put_text("f", "S");
    in_child(work_without_a_descriptor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        attach_unit(test_api_attach_to_nothing_is_enoent),
        attach_unit(test_api_attach_to_no_region_is_einval),
        attach_unit(test_api_attach_to_a_directory_without_a_mount_is_einval),
        attach_unit(test_api_attach_refuses_unknown_flags),
        attach_unit(test_api_attach_needs_the_right_to_write),
        attach_unit(test_api_attach_error_belongs_to_its_thread),
        attach_unit(test_api_attach_refuses_regions_of_other_builds),
        attach_unit(test_api_attach_reads_what_only_writers_need_to_know),
        attach_unit(test_api_attach_takes_features_that_nobody_needs_to_know),
        attach_unit(test_api_attach_refuses_a_damaged_superblock),
        attach_unit(test_api_attach_to_a_full_process_table_is_eusers),
        attach_unit(test_api_attach_without_a_descriptor_is_emfile),
        attach_unit(test_api_attach_twice_sees_the_same),
        attach_unit(test_api_attach_to_two_regions_keeps_them_apart),
        attach_unit(test_api_detach_ends_all_that_is_open),
        attach_unit(test_api_detach_of_nothing_is_allowed),
        attach_unit(test_api_detach_of_the_last_leaves_the_region_clean),
        attach_unit(test_api_detach_of_the_last_buries_the_killed),
        cmocka_unit_test_setup_teardown(test_api_region_cut_short_is_eio, api_setup, teardown_cut),
        attach_unit(test_api_attach_from_another_pid_namespace_is_seen_alive_and_dead),
        attach_unit(test_api_detach_of_the_last_buries_the_killed_of_another_pid_namespace),
        attach_unit(test_api_attach_touches_no_file_that_took_its_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
