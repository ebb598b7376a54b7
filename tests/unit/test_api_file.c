/* SPDX-License-Identifier: MIT */
/* Bytes of files: reading and writing at their edges, and what one call does at one instant. */
#include "api.h"

#define KEEP FALLOC_FL_KEEP_SIZE
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO FALLOC_FL_ZERO_RANGE

enum { BIG = 300 * 1024 };

static off_t size_of(const char *path)
{
    return stat_of(path).st_size;
}

/* ---- edges -------------------------------------------------------------------------------------------- */

static void test_api_pread_is_short_at_the_end_only(void **state)
{
    struct shmfs_file *file = open_file("f", O_RDWR | O_CREAT);
    char buf[16] = "";

    assert_int_equal(shmfs_pread(file, buf, sizeof(buf), 0), 0);
    assert_int_equal(shmfs_pwrite(file, "0123456789", 10, 0), 10);
    assert_int_equal(shmfs_pread(file, buf, sizeof(buf), 0), 10);
    assert_int_equal(shmfs_pread(file, buf, sizeof(buf), 7), 3);
    assert_memory_equal(buf, "789", 3);
    assert_int_equal(shmfs_pread(file, buf, sizeof(buf), 10), 0);
    assert_int_equal(shmfs_pread(file, buf, sizeof(buf), INT64_MAX - 100), 0);
    assert_int_equal(shmfs_pread(file, buf, 0, 0), 0);
    assert_int_equal(shmfs_pread(file, buf, 1, -1), -EINVAL);
    close_file(file);
}

static void test_api_pwrite_of_nothing_changes_nothing(void **state)
{
    struct shmfs_file *file = open_file("f", O_RDWR | O_CREAT);
    off_t off = 77;

    assert_int_equal(shmfs_pwrite(file, "x", 0, 1000), 0);
    assert_int_equal(size_of("f"), 0);
    assert_int_equal(shmfs_append(file, "x", 0, &off), 0);
    assert_int_equal(size_of("f"), 0);
    close_file(file);
}

static void test_api_pwrite_past_the_end_leaves_zeros(void **state)
{
    struct shmfs_file *file = open_file("f", O_RDWR | O_CREAT);

    assert_int_equal(shmfs_pwrite(file, "a", 1, 0), 1);
    assert_int_equal(shmfs_pwrite(file, "b", 1, 1000000), 1);
    assert_int_equal(size_of("f"), 1000001);
    assert_bytes(file, 'a', 1, 0);
    assert_bytes(file, 0, 999999, 1);
    assert_bytes(file, 'b', 1, 1000000);
    assert_int_equal(stat_of("f").st_blocks, 16);
    close_file(file);
}

static void test_api_pwrite_refuses_offsets_that_no_file_has(void **state)
{
    struct shmfs_file *file = open_file("f", O_RDWR | O_CREAT);

    assert_int_equal(shmfs_pwrite(file, "x", 1, -1), -EINVAL);
    assert_int_equal(shmfs_pwrite(file, "x", 1, INT64_MAX), -EINVAL);
    assert_int_equal(shmfs_ftruncate(file, -1), -EINVAL);
    assert_int_equal(shmfs_truncate(fs, "f", -1), -EINVAL);
    assert_int_equal(size_of("f"), 0);
    assert_int_equal(shmfs_ftruncate(file, INT64_MAX), 0);
    assert_int_equal(shmfs_append(file, "x", 1, NULL), -EFBIG);
    assert_int_equal(size_of("f"), INT64_MAX);
    close_file(file);
}

static void test_api_pwrite_of_much_comes_back_whole(void **state)
{
    struct shmfs_file *file = open_file("f", O_RDWR | O_CREAT);
    unsigned char *bytes = malloc(BIG), *back = malloc(BIG);

    random_start(1);
    assert_true(bytes != NULL && back != NULL);
    for (size_t i = 0; i < BIG; i++)
        bytes[i] = (unsigned char)random_next();
    for (off_t at = 0; at < 3 * BIG; at += BIG / 2 + 77) {
        assert_int_equal(shmfs_pwrite(file, bytes, BIG, at), BIG);
        assert_int_equal(shmfs_pread(file, back, BIG, at), BIG);
        assert_memory_equal(bytes, back, BIG);
    }
    free(bytes);
    free(back);
    close_file(file);
}

static void test_api_pwrite_on_an_append_handle_ignores_the_offset(void **state)
{
    struct shmfs_file *file = open_file("f", O_RDWR | O_CREAT | O_APPEND);

    assert_int_equal(shmfs_pwrite(file, "ab", 2, 0), 2);
    assert_int_equal(shmfs_pwrite(file, "cd", 2, 0), 2);
    assert_text("f", "abcd");
    close_file(file);
}

static void test_api_append_tells_where(void **state)
{
    struct shmfs_file *file = open_file("f", O_RDWR | O_CREAT);
    off_t off = -7;

    assert_int_equal(shmfs_append(file, "abc", 3, &off), 3);
    assert_int_equal(off, 0);
    assert_int_equal(shmfs_append(file, "def", 3, &off), 3);
    assert_int_equal(off, 3);
    assert_int_equal(shmfs_append(file, "g", 1, NULL), 1);
    assert_text("f", "abcdefg");
    close_file(file);
}

/* ---- full (P5) ------------------------------------------------------------------------------------------ */

static void leave_free(unsigned blocks)
{
    put_bytes("spare", 's', (size_t)blocks * PAGE);
    fill_up("ballast", 'b');
    assert_int_equal(shmfs_unlink(fs, "spare"), 0);
    assert_true(space_now().f_bfree >= blocks);
}

static void test_api_pwrite_on_a_full_region_writes_what_fits(void **state)
{
    char *buf = malloc(BIG);

    assert_non_null(buf);
    memset(buf, 'w', BIG);
    put_text("f", "");
    leave_free(20);
    struct shmfs_file *file = open_file("f", O_RDWR);
    ssize_t n = shmfs_pwrite(file, buf, BIG, 0);
    assert_true(n > 0 && n < BIG);
    assert_int_equal(size_of("f"), n);
    assert_bytes(file, 'w', (size_t)n, 0);
    while (shmfs_append(file, buf, PAGE, NULL) > 0)
        continue;
    assert_int_equal(shmfs_append(file, buf, PAGE, NULL), -ENOSPC);
    assert_int_equal(shmfs_pwrite(file, buf, PAGE, 100 * PAGE), -ENOSPC);
    assert_int_equal(shmfs_pwrite(file, buf, PAGE, 0), PAGE);
    close_file(file);
    assert_all_bytes("ballast", 'b');
    free(buf);
}

static void test_api_pwrite_up_to_64_kib_on_a_full_region_writes_the_part_that_fits(void **state)
{
    char buf[16 * PAGE];

    memset(buf, 'w', sizeof(buf));
    put_text("f", "");
    leave_free(3);
    uint64_t blocks = space_now().f_bfree;
    struct shmfs_file *file = open_file("f", O_RDWR);
    ssize_t n = shmfs_pwrite(file, buf, sizeof(buf), 0);
    assert_true(n > 0 && (uint64_t)n <= blocks * PAGE);
    assert_int_equal(size_of("f"), n);
    assert_bytes(file, 'w', (size_t)n, 0);
    close_file(file);
}

/* ---- sizes and holes ---------------------------------------------------------------------------------------- */

static void test_api_truncate_cuts_and_grows_with_zeros(void **state)
{
    struct statvfs before = space_now();

    put_bytes("f", 'x', 10 * PAGE);
    struct shmfs_file *file = open_file("f", O_RDWR);
    assert_int_equal(shmfs_ftruncate(file, PAGE + 10), 0);
    assert_int_equal(shmfs_truncate(fs, "f", 10 * PAGE), 0);
    assert_bytes(file, 'x', PAGE + 10, 0);
    assert_bytes(file, 0, 9 * PAGE - 10, PAGE + 10);
    assert_int_equal(stat_of("f").st_blocks, 16);
    assert_int_equal(shmfs_truncate(fs, "f", 0), 0);
    assert_int_equal(stat_of("f").st_blocks, 0);
    close_file(file);
    assert_int_equal(shmfs_unlink(fs, "f"), 0);
    assert_space(&before);
}

static void test_api_fallocate_does_what_its_modes_say(void **state)
{
    struct shmfs_file *file = open_file("f", O_RDWR | O_CREAT);

    assert_int_equal(shmfs_fallocate(file, 0, 0, 4 * PAGE), 0);
    assert_int_equal(size_of("f"), 4 * PAGE);
    assert_int_equal(stat_of("f").st_blocks, 32);
    assert_bytes(file, 0, 4 * PAGE, 0);
    assert_int_equal(shmfs_fallocate(file, KEEP, 0, 8 * PAGE), 0);
    assert_int_equal(size_of("f"), 4 * PAGE);
    assert_int_equal(stat_of("f").st_blocks, 64);

    put_bytes("f", 'x', 4 * PAGE);
    assert_int_equal(shmfs_fallocate(file, PUNCH, PAGE - 5, PAGE + 10), 0);
    assert_bytes(file, 'x', PAGE - 5, 0);
    assert_bytes(file, 0, PAGE + 10, PAGE - 5);
    assert_bytes(file, 'x', 2 * PAGE - 5, 2 * PAGE + 5);
    assert_int_equal(shmfs_fallocate(file, ZERO, 3 * PAGE, 3 * PAGE), 0);
    assert_int_equal(size_of("f"), 6 * PAGE);
    assert_bytes(file, 0, 3 * PAGE, 3 * PAGE);
    assert_int_equal(shmfs_fallocate(file, ZERO | KEEP, 5 * PAGE, 3 * PAGE), 0);
    assert_int_equal(size_of("f"), 6 * PAGE);
    close_file(file);
}

static void test_api_fallocate_refuses_what_it_cannot_do(void **state)
{
    struct shmfs_file *file = open_file("f", O_RDWR | O_CREAT);

    assert_int_equal(shmfs_fallocate(file, FALLOC_FL_PUNCH_HOLE, 0, PAGE), -EOPNOTSUPP);
    assert_int_equal(shmfs_fallocate(file, FALLOC_FL_COLLAPSE_RANGE, 0, PAGE), -EOPNOTSUPP);
    assert_int_equal(shmfs_fallocate(file, 1 << 20, 0, PAGE), -EOPNOTSUPP);
    assert_int_equal(shmfs_fallocate(file, 0, -1, PAGE), -EINVAL);
    assert_int_equal(shmfs_fallocate(file, 0, 0, 0), -EINVAL);
    assert_int_equal(shmfs_fallocate(file, 0, 0, -1), -EINVAL);
    assert_int_equal(shmfs_fallocate(file, 0, INT64_MAX, 1), -EFBIG);
    struct statvfs before = space_now();
    assert_int_equal(shmfs_fallocate(file, 0, 0, REGION_SIZE * 2), -ENOSPC);
    assert_int_equal(shmfs_truncate(fs, "f", 0), 0);
    assert_space(&before);
    close_file(file);
}

static void test_api_lseek_finds_data_and_holes(void **state)
{
    struct shmfs_file *file = open_file("f", O_RDWR | O_CREAT);

    assert_int_equal(shmfs_lseek_data(file, 0), -ENXIO);
    assert_int_equal(shmfs_lseek_hole(file, 0), -ENXIO);
    assert_int_equal(shmfs_pwrite(file, "x", 1, 5 * PAGE), 1);
    assert_int_equal(shmfs_ftruncate(file, 9 * PAGE), 0);
    assert_int_equal(shmfs_lseek_data(file, 0), 5 * PAGE);
    assert_int_equal(shmfs_lseek_data(file, 5 * PAGE + 9), 5 * PAGE + 9);
    assert_int_equal(shmfs_lseek_hole(file, 0), 0);
    assert_int_equal(shmfs_lseek_hole(file, 5 * PAGE), 6 * PAGE);
    assert_int_equal(shmfs_lseek_data(file, 6 * PAGE), -ENXIO);
    assert_int_equal(shmfs_lseek_data(file, 9 * PAGE), -ENXIO);
    assert_int_equal(shmfs_lseek_hole(file, 9 * PAGE), -ENXIO);
    assert_int_equal(shmfs_lseek_data(file, -1), -ENXIO);
    put_bytes("g", 'x', PAGE);
    struct shmfs_file *whole = open_file("g", O_RDONLY);
    assert_int_equal(shmfs_lseek_hole(whole, 7), PAGE);
    close_file(whole);
    close_file(file);
}

/* ---- limits of the process -------------------------------------------------------------------------------- */

/* The limit is the one of the time of the attach, and there is no SIGXFSZ. */
static void write_past_the_limit(void)
{
    struct rlimit limit = { 3 * PAGE, 3 * PAGE };
    struct shmfs_file *file;
    char buf[2 * PAGE] = "";

    signal(SIGXFSZ, SIG_DFL);
    MUST(setrlimit(RLIMIT_FSIZE, &limit));
    struct shmfs *mine = api_attach(0);
    CHECK_EQ(shmfs_open(mine, "f", O_RDWR | O_CREAT, 0600, &file), 0);
    CHECK_EQ(shmfs_pwrite(file, buf, sizeof(buf), 0), sizeof(buf));
    CHECK_EQ(shmfs_append(file, buf, sizeof(buf), NULL), PAGE);
    CHECK_EQ(shmfs_append(file, buf, sizeof(buf), NULL), -EFBIG);
    CHECK_EQ(shmfs_pwrite(file, buf, 1, 3 * PAGE), -EFBIG);
    CHECK_EQ(shmfs_ftruncate(file, 3 * PAGE + 1), -EFBIG);
    CHECK_EQ(shmfs_fallocate(file, 0, 0, 3 * PAGE + 1), -EFBIG);
    CHECK_EQ(shmfs_pwrite(file, buf, 1, 0), 1);
    shmfs_detach(mine);
}

static void test_api_pwrite_beyond_the_limit_of_the_attach_is_efbig(void **state)
{
    in_child(write_past_the_limit);
    assert_int_equal(size_of("f"), 3 * PAGE);
}

/* ---- atomicity (P2, P3, A5) ---------------------------------------------------------------------------------- */

enum { WHOLE = 64 * 1024, CHANGES = 200 };

/* Fills the file with one byte after another, each in one call. */
static void write_for_ever(int fd, void *arg)
{
    struct shmfs *mine = api_attach(0);
    struct shmfs_file *file = open_in(mine, "f", O_WRONLY);
    static char buf[WHOLE];
    char c;

    for (unsigned n = 0;; n++) {
        memset(buf, 'a' + (int)(n % 26), sizeof(buf));
        CHECK_EQ(shmfs_pwrite(file, buf, sizeof(buf), 100), sizeof(buf));
        if (n == 10)
            pass(fd);
        if (recv(fd, &c, 1, MSG_DONTWAIT) >= 0)
            break;
    }
    shmfs_detach(mine);
}

static void test_api_pread_of_64_kib_is_one_state(void **state)
{
    static char buf[WHOLE];
    unsigned changes = 0;
    char last = 0;

    put_bytes("f", 'a', WHOLE + 200);
    struct child child = spawn(write_for_ever, NULL);
    await(child.fd);
    struct shmfs_file *file = open_file("f", O_RDONLY);
    while (changes < CHANGES) { /* the writer was at work between two looks, so often */
        assert_int_equal(shmfs_pread(file, buf, sizeof(buf), 100), sizeof(buf));
        assert_true(all_are(buf, buf[0], sizeof(buf)));
        changes += buf[0] != last;
        last = buf[0];
    }
    pass(child.fd);
    assert_ends_well(&child);
    close_file(file);
}

/* Killed anywhere: the last write is there as a whole, or not at all. */
static void test_api_pwrite_of_the_killed_is_all_or_nothing(void **state)
{
    static char buf[WHOLE];

    put_bytes("f", 'a', WHOLE + 200);
    for (unsigned n = 0; n < 20; n++) {
        struct child child = spawn(write_for_ever, NULL);
        await(child.fd);
        murder(&child);
        struct shmfs_file *file = open_file("f", O_RDONLY);
        assert_int_equal(shmfs_pread(file, buf, sizeof(buf), 100), sizeof(buf));
        assert_true(all_are(buf, buf[0], sizeof(buf)));
        close_file(file);
    }
}

/* ---- appending together ------------------------------------------------------------------------------------------ */

enum { APPENDERS = 4, RECORDS = 150, RECORD_MAX = 20000 };

/* A record says how long it is and who wrote it, and is filled with that. */
struct record {
    uint32_t length;
    uint32_t who;
    uint32_t number;
};

static void append_records(struct shmfs_file *file, uint32_t who)
{
    static _Thread_local char buf[RECORD_MAX + sizeof(struct record)];

    for (uint32_t i = 0; i < RECORDS; i++) {
        struct record record = { (uint32_t)sizeof(record) + (i * 7919 + who * 104729) % RECORD_MAX, who, i };
        memset(buf, 'A' + (int)who, record.length);
        memcpy(buf, &record, sizeof(record));
        CHECK_EQ(shmfs_append(file, buf, record.length, NULL), record.length);
    }
}

static void append_from_a_process(int fd, void *arg)
{
    struct shmfs *mine = api_attach(0);

    await(fd);
    append_records(open_in(mine, "log", O_WRONLY), (uint32_t)(uintptr_t)arg);
    shmfs_detach(mine);
}

static void *append_from_a_thread(void *arg)
{
    struct shmfs_file *file = open_file("log", O_WRONLY);

    away = true;
    append_records(file, (uint32_t)(uintptr_t)arg);
    close_file(file);
    return NULL;
}

/* One whole record after another, each writer's in its order. */
static void assert_records(unsigned writers)
{
    static char buf[RECORD_MAX + sizeof(struct record)];
    struct shmfs_file *file = open_file("log", O_RDONLY);
    uint32_t next[2 * APPENDERS] = { 0 };
    struct record record;
    off_t at = 0;

    while (shmfs_pread(file, &record, sizeof(record), at) == (ssize_t)sizeof(record)) {
        assert_true(record.length <= sizeof(buf) && record.who < writers);
        assert_int_equal(record.number, next[record.who]++);
        assert_int_equal(shmfs_pread(file, buf, record.length, at), record.length);
        assert_true(all_are(buf + sizeof(record), 'A' + (int)record.who, record.length - sizeof(record)));
        at += record.length;
    }
    assert_int_equal(at, size_of("log"));
    for (unsigned i = 0; i < writers; i++)
        assert_int_equal(next[i], RECORDS);
    close_file(file);
}

static void test_api_append_by_processes_and_threads_stays_whole(void **state)
{
    struct child children[APPENDERS];
    pthread_t threads[APPENDERS];

    api_renew(64 * MIB, 0);
    put_text("log", "");
    for (uintptr_t i = 0; i < APPENDERS; i++)
        children[i] = spawn(append_from_a_process, (void *)i);
    for (unsigned i = 0; i < APPENDERS; i++)
        pass(children[i].fd);
    for (uintptr_t i = 0; i < APPENDERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, append_from_a_thread, (void *)(APPENDERS + i)), 0);
    for (unsigned i = 0; i < APPENDERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_ends_well(&children[i]);
    }
    assert_records(2 * APPENDERS);
}

static void test_api_fsync_succeeds(void **state)
{
    struct shmfs_file *file = open_file("f", O_RDWR | O_CREAT);

    assert_int_equal(shmfs_fsync(file), 0);
    close_file(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        api_unit(test_api_pread_is_short_at_the_end_only),
        api_unit(test_api_pwrite_of_nothing_changes_nothing),
        api_unit(test_api_pwrite_past_the_end_leaves_zeros),
        api_unit(test_api_pwrite_refuses_offsets_that_no_file_has),
        api_unit(test_api_pwrite_of_much_comes_back_whole),
        api_unit(test_api_pwrite_on_an_append_handle_ignores_the_offset),
        api_unit(test_api_append_tells_where),
        api_unit(test_api_pwrite_on_a_full_region_writes_what_fits),
        api_unit(test_api_pwrite_up_to_64_kib_on_a_full_region_writes_the_part_that_fits),
        api_unit(test_api_truncate_cuts_and_grows_with_zeros),
        api_unit(test_api_fallocate_does_what_its_modes_say),
        api_unit(test_api_fallocate_refuses_what_it_cannot_do),
        api_unit(test_api_lseek_finds_data_and_holes),
        api_unit(test_api_pwrite_beyond_the_limit_of_the_attach_is_efbig),
        api_unit(test_api_pread_of_64_kib_is_one_state),
        api_unit(test_api_pwrite_of_the_killed_is_all_or_nothing),
        api_unit(test_api_append_by_processes_and_threads_stays_whole),
        api_unit(test_api_fsync_succeeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
