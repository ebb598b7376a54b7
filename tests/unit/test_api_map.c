/* SPDX-License-Identifier: MIT */
/* Pointers into files: shared by all who map them, and nobody else's whatever happens to the file (P6, A16). */
#include "api.h"

#include <sys/mman.h>

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

enum { PAGES = 24, LENGTH = PAGES * PAGE };

static char *map_of(struct shmfs_file *file, off_t off, size_t len, int prot)
{
    void *addr = NULL;

    MUST(shmfs_map(file, off, len, prot, &addr));
    CHECK(addr != NULL && (uintptr_t)addr % PAGE == 0);
    return addr;
}

static int map_error(struct shmfs_file *file, off_t off, size_t len, int prot)
{
    void *const untouched = (void *)(uintptr_t)0x5a5a;
    void *addr = untouched;
    int r = shmfs_map(file, off, len, prot, &addr);

    CHECK(r < 0 && addr == untouched);
    return r;
}

static void unmap(void *addr, size_t len)
{
    CHECK_EQ(shmfs_unmap(fs, addr, len), 0);
}

/* A file whose blocks lie in disorder: written from its end, in turns with another. */
static void put_in_pieces(const char *path, int byte)
{
    struct shmfs_file *file = open_file(path, O_RDWR | O_CREAT),
                      *other = open_file("between", O_RDWR | O_CREAT);
    char buf[PAGE];

    memset(buf, byte, sizeof(buf));
    for (off_t i = PAGES; i-- > 0;) {
        CHECK_EQ(shmfs_pwrite(file, buf, sizeof(buf), i * PAGE), PAGE);
        CHECK_EQ(shmfs_pwrite(other, buf, sizeof(buf), i * PAGE), PAGE);
    }
    close_file(file);
    close_file(other);
}

/* ---- shared ------------------------------------------------------------------------------------------------ */

/* Every page of the file, through the pointer and through reading. */
static void assert_shared(struct shmfs_file *file, char *map)
{
    for (off_t i = 0; i < PAGES; i++) {
        map[i * PAGE + 5] = (char)('A' + i);
        assert_bytes(file, 'A' + (int)i, 1, i * PAGE + 5);
        char c = (char)('a' + i);
        CHECK_EQ(shmfs_pwrite(file, &c, 1, i * PAGE + 6), 1);
        CHECK_EQ(map[i * PAGE + 6], c);
    }
}

static void test_api_map_shows_the_file_itself(void **state)
{
    put_bytes("f", 'f', LENGTH);
    struct shmfs_file *file = open_file("f", O_RDWR);
    char *map = map_of(file, 0, LENGTH, PROT_READ | PROT_WRITE);

    assert_true(all_are(map, 'f', LENGTH));
    assert_shared(file, map);
    unmap(map, LENGTH);
    close_file(file);
}

static void test_api_map_stitches_pieces_together(void **state)
{
    put_in_pieces("f", 'f');
    struct shmfs_file *file = open_file("f", O_RDWR);
    char *map = map_of(file, 0, LENGTH, PROT_READ | PROT_WRITE);

    assert_true(all_are(map, 'f', LENGTH));
    assert_shared(file, map);
    char *part = map_of(file, 3 * PAGE, 5 * PAGE, PROT_READ);
    assert_memory_equal(part, map + 3 * PAGE, 5 * PAGE);
    map[4 * PAGE] = '!';
    assert_int_equal(part[PAGE], '!');
    unmap(map, LENGTH);
    assert_int_equal(part[PAGE], '!');
    unmap(part, 5 * PAGE);
    close_file(file);
    assert_all_bytes("between", 'f');
}

static void test_api_map_of_a_part_of_a_page_at_the_end(void **state)
{
    put_bytes("f", 'f', PAGE + 10);
    struct shmfs_file *file = open_file("f", O_RDWR);
    char *map = map_of(file, PAGE, 10, PROT_READ | PROT_WRITE);

    assert_true(all_are(map, 'f', 10));
    map[9] = 'g';
    assert_bytes(file, 'g', 1, PAGE + 9);
    unmap(map, 10);
    map = map_of(file, 0, 2 * PAGE, PROT_READ);
    assert_true(all_are(map + PAGE + 10, 0, PAGE - 10));
    unmap(map, 2 * PAGE);
    close_file(file);
}

static void map_and_answer(int fd, void *arg)
{
    struct shmfs *mine = api_attach(0);
    struct shmfs_file *file = open_in(mine, "f", O_RDWR);
    _Atomic unsigned char *map;
    void *addr;

    CHECK_EQ(shmfs_map(file, 0, LENGTH, PROT_READ | PROT_WRITE, &addr), 0);
    map = addr;
    CHECK_EQ(shmfs_close(file), 0);
    for (int i = 0; i < PAGES; i++) {
        pass(fd);
        await(fd);
        CHECK_EQ(map[i * PAGE], i + 1);
        map[i * PAGE] = (unsigned char)(100 + i);
    }
    pass(fd);
    await(fd);
    CHECK_EQ(shmfs_unmap(mine, addr, LENGTH), 0);
    shmfs_detach(mine);
}

static void two_processes_share(void)
{
    struct child child = spawn(map_and_answer, NULL);
    struct shmfs_file *file = open_file("f", O_RDWR);
    char *map = map_of(file, 0, LENGTH, PROT_READ | PROT_WRITE);

    for (int i = 0; i < PAGES; i++) {
        await(child.fd);
        map[i * PAGE] = (char)(i + 1);
        pass(child.fd);
    }
    await(child.fd);
    for (int i = 0; i < PAGES; i++)
        assert_int_equal(map[i * PAGE], 100 + i);
    pass(child.fd);
    assert_ends_well(&child);
    unmap(map, LENGTH);
    close_file(file);
}

static void test_api_map_is_shared_between_processes(void **state)
{
    put_bytes("f", 'f', LENGTH);
    two_processes_share();
}

static void test_api_map_in_pieces_is_shared_between_processes(void **state)
{
    put_in_pieces("f", 'f');
    two_processes_share();
}

static void test_api_map_fills_holes(void **state)
{
    struct shmfs_file *file = open_file("f", O_RDWR | O_CREAT);

    assert_int_equal(shmfs_ftruncate(file, LENGTH), 0);
    assert_int_equal(shmfs_pwrite(file, "x", 1, 7 * PAGE), 1);
    uint64_t was = space_now().f_bfree;
    char *map = map_of(file, 4 * PAGE, 8 * PAGE, PROT_READ | PROT_WRITE);
    assert_true(space_now().f_bfree <= was - 7);
    assert_int_equal(fstat_of(file).st_blocks, 64);
    assert_true(all_are(map, 0, 3 * PAGE));
    assert_int_equal(map[3 * PAGE], 'x');
    map[0] = 'y';
    assert_bytes(file, 'y', 1, 4 * PAGE);
    unmap(map, 8 * PAGE);
    close_file(file);
}

static void test_api_map_outlives_its_handle(void **state)
{
    put_bytes("f", 'f', LENGTH);
    struct shmfs_file *file = open_file("f", O_RDWR);
    char *map = map_of(file, 0, LENGTH, PROT_READ | PROT_WRITE);

    close_file(file);
    map[LENGTH - 1] = '!';
    file = open_file("f", O_RDONLY);
    assert_bytes(file, '!', 1, LENGTH - 1);
    close_file(file);
    unmap(map, LENGTH);
}

/* ---- errors --------------------------------------------------------------------------------------------------- */

static void test_api_map_refuses_what_is_not_there(void **state)
{
    put_bytes("f", 'f', 2 * PAGE + 1);
    struct shmfs_file *file = open_file("f", O_RDWR);

    assert_int_equal(map_error(file, 0, 3 * PAGE + 1, PROT_READ), -ENXIO);
    assert_int_equal(map_error(file, 3 * PAGE, 1, PROT_READ), -ENXIO);
    assert_int_equal(map_error(file, INT64_MAX / PAGE * PAGE, PAGE, PROT_READ), -ENXIO);
    assert_int_equal(map_error(file, 1, PAGE, PROT_READ), -EINVAL);
    assert_int_equal(map_error(file, -PAGE, PAGE, PROT_READ), -EINVAL);
    assert_int_equal(map_error(file, 0, 0, PROT_READ), -EINVAL);
    assert_int_equal(map_error(file, 0, PAGE, PROT_NONE), -EINVAL);
    assert_int_equal(map_error(file, 0, PAGE, PROT_READ | PROT_EXEC), -EINVAL);
    assert_int_equal(map_error(file, 0, SIZE_MAX, PROT_READ), -ENXIO);
    unmap(map_of(file, 0, 3 * PAGE, PROT_READ), 3 * PAGE);
    close_file(file);
    file = open_file("empty", O_RDWR | O_CREAT);
    assert_int_equal(map_error(file, 0, 1, PROT_READ), -ENXIO);
    close_file(file);
}

static void test_api_map_asks_for_the_right_open_mode(void **state)
{
    put_bytes("f", 'f', PAGE);
    struct shmfs_file *r = open_file("f", O_RDONLY), *w = open_file("f", O_WRONLY);

    assert_int_equal(map_error(r, 0, PAGE, PROT_READ | PROT_WRITE), -EACCES);
    assert_int_equal(map_error(w, 0, PAGE, PROT_READ | PROT_WRITE), -EACCES);
    assert_int_equal(map_error(w, 0, PAGE, PROT_READ), -EACCES);
    unmap(map_of(r, 0, PAGE, PROT_READ), PAGE);
    close_file(r);
    close_file(w);
}

static void test_api_map_on_a_full_region_fills_no_hole(void **state)
{
    struct shmfs_file *file = open_file("f", O_RDWR | O_CREAT);

    assert_int_equal(shmfs_ftruncate(file, LENGTH), 0);
    put_bytes("spare", 's', 2 * PAGE);
    fill_up("ballast", 'b');
    assert_int_equal(map_error(file, 0, LENGTH, PROT_READ), -ENOSPC);
    assert_int_equal(shmfs_unlink(fs, "ballast"), 0);
    unmap(map_of(file, 0, LENGTH, PROT_READ), LENGTH);
    close_file(file);
}

static void test_api_unmap_takes_whole_mappings_only(void **state)
{
    put_bytes("f", 'f', LENGTH);
    struct shmfs_file *file = open_file("f", O_RDWR);
    struct shmfs *other = api_attach(0);
    char *map = map_of(file, 0, LENGTH, PROT_READ);
    char here = 0;

    assert_int_equal(shmfs_unmap(fs, map, PAGE), -EINVAL);
    assert_int_equal(shmfs_unmap(fs, map + PAGE, LENGTH - PAGE), -EINVAL);
    assert_int_equal(shmfs_unmap(fs, map, LENGTH + PAGE), -EINVAL);
    assert_int_equal(shmfs_unmap(fs, &here, PAGE), -EINVAL);
    assert_int_equal(shmfs_unmap(fs, NULL, PAGE), -EINVAL);
    assert_int_equal(shmfs_unmap(other, map, LENGTH), -EINVAL);
    assert_true(all_are(map, 'f', LENGTH));
    unmap(map, LENGTH);
    assert_int_equal(shmfs_unmap(fs, map, LENGTH), -EINVAL);
    shmfs_detach(other);
    close_file(file);
}

static char *readable;

static void store_there(void)
{
    *(volatile char *)readable = 'x';
}

static void test_api_map_for_reading_cannot_be_stored_to(void **state)
{
    put_bytes("f", 'f', PAGE);
    struct shmfs_file *file = open_file("f", O_RDWR);

    readable = map_of(file, 0, PAGE, PROT_READ);
    assert_faults(store_there);
    assert_int_equal(*readable, 'f');
    unmap(readable, PAGE);
    put_in_pieces("g", 'g');
    struct shmfs_file *pieces = open_file("g", O_RDWR);
    readable = map_of(pieces, 0, LENGTH, PROT_READ);
    assert_faults(store_there);
    unmap(readable, LENGTH);
    assert_all_bytes("g", 'g');
    close_file(pieces);
    close_file(file);
}

/* ---- whatever others do with the file (P6, A16) ------------------------------------------------------------ */

/* Stores to every page, and no other file has changed. */
static void assert_still_ours(char *map)
{
    fill_up("others", 'Z');
    for (int i = 0; i < PAGES; i++) {
        CHECK(memchr(map + (size_t)i * PAGE, 'Z', PAGE) == NULL);
        memset(map + (size_t)i * PAGE, 'm', PAGE);
    }
    assert_all_bytes("others", 'Z');
    CHECK(all_are(map, 'm', LENGTH));
    CHECK_EQ(shmfs_unlink(fs, "others"), 0);
}

static void cut(struct shmfs *mine)
{
    CHECK_EQ(shmfs_truncate(mine, "f", 0), 0);
}

static void cut_within(struct shmfs *mine)
{
    CHECK_EQ(shmfs_truncate(mine, "f", 2 * PAGE + 100), 0);
}

static void open_trunc(struct shmfs *mine)
{
    shmfs_close(open_in(mine, "f", O_WRONLY | O_TRUNC));
}

static void remove_name(struct shmfs *mine)
{
    CHECK_EQ(shmfs_unlink(mine, "f"), 0);
}

static void rename_over(struct shmfs *mine)
{
    shmfs_close(open_in(mine, "new", O_WRONLY | O_CREAT));
    CHECK_EQ(shmfs_rename(mine, "new", "f", 0), 0);
}

static void punch(struct shmfs *mine)
{
    struct shmfs_file *file = open_in(mine, "f", O_RDWR);

    CHECK_EQ(shmfs_fallocate(file, PUNCH, 0, LENGTH), 0);
    CHECK_EQ(shmfs_close(file), 0);
}

static void zero_range(struct shmfs *mine)
{
    struct shmfs_file *file = open_in(mine, "f", O_RDWR);

    CHECK_EQ(shmfs_fallocate(file, FALLOC_FL_ZERO_RANGE, 0, LENGTH), 0);
    CHECK_EQ(shmfs_close(file), 0);
}

struct harm {
    const char *name;
    void (*f)(struct shmfs *mine);
};

static const struct harm harms[] = {
    { "truncate", cut },          { "truncate within", cut_within }, { "O_TRUNC", open_trunc },
    { "unlink", remove_name },    { "rename", rename_over },         { "punch", punch },
    { "zero range", zero_range },
};

static void do_harm(int fd, void *arg)
{
    const struct harm *harm = arg;
    struct shmfs *mine = api_attach(0);

    harm->f(mine);
    shmfs_detach(mine);
}

static void harm_from_outside(const struct harm *harm)
{
    struct child child = spawn(do_harm, (void *)(uintptr_t)harm);

    assert_ends_well(&child);
    bury(); /* it had the mappings of its parent, too */
}

static void each_harm(void (*make)(const char *path, int byte))
{
    for (size_t i = 0; i < ARRAY_SIZE(harms); i++) {
        print_message("             %s\n", harms[i].name);
        struct statvfs before = space_now();
        make("f", 'f');
        struct shmfs_file *file = open_file("f", O_RDWR);
        char *map = map_of(file, 0, LENGTH, PROT_READ | PROT_WRITE);
        close_file(file);
        harm_from_outside(&harms[i]);
        assert_still_ours(map);
        unmap(map, LENGTH);
        shmfs_unlink(fs, "f");
        shmfs_unlink(fs, "between");
        assert_space(&before);
    }
}

static void make_whole(const char *path, int byte)
{
    put_bytes(path, byte, LENGTH);
}

static void test_api_map_keeps_its_blocks_whatever_happens_to_the_file(void **state)
{
    each_harm(make_whole);
}

static void test_api_map_in_pieces_keeps_its_blocks_whatever_happens_to_the_file(void **state)
{
    each_harm(put_in_pieces);
}

static void test_api_map_of_a_truncated_file_is_shared_again_when_it_grows(void **state)
{
    put_bytes("f", 'f', LENGTH);
    struct shmfs_file *file = open_file("f", O_RDWR);
    char *map = map_of(file, 0, LENGTH, PROT_READ | PROT_WRITE);

    harm_from_outside(&harms[0]);
    assert_int_equal(fstat_of(file).st_size, 0);
    char c;
    assert_int_equal(shmfs_pread(file, &c, 1, 0), 0);
    memset(map + PAGE, 'm', PAGE);
    assert_int_equal(shmfs_ftruncate(file, LENGTH), 0);
    assert_bytes(file, 0, LENGTH, 0);
    assert_true(all_are(map, 0, LENGTH));
    assert_shared(file, map);
    unmap(map, LENGTH);
    assert_shared(file, map_of(file, 0, LENGTH, PROT_READ | PROT_WRITE));
    close_file(file);
}

static void test_api_map_of_a_truncated_file_is_shared_again_by_a_write(void **state)
{
    put_bytes("f", 'f', LENGTH);
    struct shmfs_file *file = open_file("f", O_RDWR);
    char *map = map_of(file, 0, LENGTH, PROT_READ | PROT_WRITE);

    assert_int_equal(shmfs_ftruncate(file, 10), 0);
    memset(map, 'm', LENGTH);
    assert_int_equal(shmfs_pwrite(file, "w", 1, 5 * PAGE), 1);
    assert_int_equal(map[5 * PAGE], 'w');
    assert_bytes(file, 'm', 10, 0);
    assert_bytes(file, 0, 5 * PAGE - 10, 10);
    map[2 * PAGE] = 'x';
    assert_bytes(file, 'x', 1, 2 * PAGE);
    unmap(map, LENGTH);
    close_file(file);
}

static void test_api_map_sees_zeros_where_a_hole_is_punched_and_what_is_written_there(void **state)
{
    put_bytes("f", 'f', LENGTH);
    struct shmfs_file *file = open_file("f", O_RDWR);
    char *map = map_of(file, 0, LENGTH, PROT_READ | PROT_WRITE);

    assert_int_equal(shmfs_fallocate(file, PUNCH, 3 * PAGE + 7, 5 * PAGE), 0);
    assert_bytes(file, 0, 5 * PAGE, 3 * PAGE + 7);
    assert_true(all_are(map, 'f', 3 * PAGE + 7));
    assert_true(all_are(map + 3 * PAGE + 7, 0, 5 * PAGE));
    assert_true(all_are(map + 8 * PAGE + 7, 'f', LENGTH - 8 * PAGE - 7));
    assert_shared(file, map);
    unmap(map, LENGTH);
    close_file(file);
}

/* ---- the last unmap ------------------------------------------------------------------------------------------- */

static void test_api_unmap_of_the_last_gives_the_blocks_back(void **state)
{
    struct statvfs before = space_now();

    put_bytes("f", 'f', LENGTH);
    struct shmfs_file *file = open_file("f", O_RDWR);
    char *one = map_of(file, 0, LENGTH, PROT_READ), *two = map_of(file, PAGE, PAGE, PROT_READ);
    assert_int_equal(shmfs_unlink(fs, "f"), 0);
    close_file(file);
    assert_true(space_now().f_bfree <= before.f_bfree - PAGES);
    unmap(one, LENGTH);
    assert_true(all_are(two, 'f', PAGE));
    assert_int_equal(space_now().f_ffree, before.f_ffree - 1);
    unmap(two, PAGE);
    assert_space(&before);
}

static void test_api_unmap_of_the_last_trims_what_was_cut(void **state)
{
    put_text("f", "");
    struct statvfs before = space_now();

    put_bytes("f", 'f', LENGTH);
    struct shmfs_file *file = open_file("f", O_RDWR);
    char *map = map_of(file, 0, LENGTH, PROT_READ);
    close_file(file);
    harm_from_outside(&harms[0]);
    assert_true(space_now().f_bfree <= before.f_bfree - PAGES);
    unmap(map, LENGTH);
    assert_space(&before);
    assert_int_equal(shmfs_truncate(fs, "f", LENGTH), 0);
    file = open_file("f", O_RDONLY);
    assert_bytes(file, 0, LENGTH, 0);
    close_file(file);
}

static void map_and_stay(int fd, void *arg)
{
    struct shmfs *mine = api_attach(0);
    void *addr;

    CHECK_EQ(shmfs_map(open_in(mine, "f", O_RDWR), 0, LENGTH, PROT_READ | PROT_WRITE, &addr), 0);
    pass(fd);
    await(fd);
    CHECK(false);
}

/* Each harm, with the mapper killed before or after it. */
static void test_api_map_of_the_killed_is_given_back(void **state)
{
    for (size_t i = 0; i < 2 * ARRAY_SIZE(harms); i++) {
        const struct harm *harm = &harms[i / 2];
        struct statvfs before = space_now();
        put_bytes("f", 'f', LENGTH);
        struct child child = spawn(map_and_stay, NULL);
        await(child.fd);
        if (i % 2)
            harm_from_outside(harm);
        murder(&child);
        if (i % 2 == 0)
            harm_from_outside(harm);
        bury();
        shmfs_unlink(fs, "f");
        assert_space(&before);
    }
}

/* ---- publishing -------------------------------------------------------------------------------------------------- */

static void test_api_msync_raises_version_and_time(void **state)
{
    static const struct timespec old[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
    uint64_t first = 0, version;

    put_bytes("f", 'f', LENGTH);
    struct shmfs_file *file = open_file("f", O_RDWR);
    char *map = map_of(file, 0, LENGTH, PROT_READ | PROT_WRITE);
    assert_int_equal(shmfs_futimens(file, old), 0);
    assert_int_equal(shmfs_wait(file, &first, 0), 0);
    version = first;
    map[0] = '!';
    assert_int_equal(shmfs_wait(file, &version, 0), -ETIMEDOUT);
    assert_int_equal(fstat_of(file).st_mtim.tv_sec, 1);
    assert_int_equal(shmfs_msync(file, 0, PAGE), 0);
    assert_int_equal(shmfs_wait(file, &version, 0), 0);
    assert_int_not_equal(version, first);
    assert_int_not_equal(fstat_of(file).st_mtim.tv_sec, 1);
    unmap(map, LENGTH);
    close_file(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        api_unit(test_api_map_shows_the_file_itself),
        api_unit(test_api_map_stitches_pieces_together),
        api_unit(test_api_map_of_a_part_of_a_page_at_the_end),
        api_unit(test_api_map_is_shared_between_processes),
        api_unit(test_api_map_in_pieces_is_shared_between_processes),
        api_unit(test_api_map_fills_holes),
        api_unit(test_api_map_outlives_its_handle),
        api_unit(test_api_map_refuses_what_is_not_there),
        api_unit(test_api_map_asks_for_the_right_open_mode),
        api_unit(test_api_map_on_a_full_region_fills_no_hole),
        api_unit(test_api_unmap_takes_whole_mappings_only),
        api_unit(test_api_map_for_reading_cannot_be_stored_to),
        api_unit(test_api_map_keeps_its_blocks_whatever_happens_to_the_file),
        api_unit(test_api_map_in_pieces_keeps_its_blocks_whatever_happens_to_the_file),
        api_unit(test_api_map_of_a_truncated_file_is_shared_again_when_it_grows),
        api_unit(test_api_map_of_a_truncated_file_is_shared_again_by_a_write),
        api_unit(test_api_map_sees_zeros_where_a_hole_is_punched_and_what_is_written_there),
        api_unit(test_api_unmap_of_the_last_gives_the_blocks_back),
        api_unit(test_api_unmap_of_the_last_trims_what_was_cut),
        api_unit(test_api_map_of_the_killed_is_given_back),
        api_unit(test_api_msync_raises_version_and_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
