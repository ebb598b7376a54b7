/* SPDX-License-Identifier: MIT */
/*
 * An image keeps P4: what was committed is there, whole, and what is damaged says so. Power cuts are tests/crash/power.c.
 */
#include "fixture.h"
#include "image.h"
#include "image_format.h"
#include "storage.h"

#include <xxhash.h>

enum { PAGES = 2000, SEED_STEP = 1000 };

struct world {
    char dir[64], path[80], new_path[96];
};

static int begin(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    strcpy(w->dir, "/dev/shm/shmfs-image.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->path, sizeof(w->path), "%s/image", w->dir);
    snprintf(w->new_path, sizeof(w->new_path), "%s.shmfs-new", w->path);
    *state = w;
    return 0;
}

static int end(void **state)
{
    struct world *w = *state;

    storage_hook = NULL;
    unlink(w->path);
    unlink(w->new_path);
    assert_int_equal(rmdir(w->dir), 0); /* nothing else was left */
    free(w);
    return 0;
}

/* ---- content: page N of state S is a function of both ------------------------------------------- */

static void fill(uint64_t page, uint64_t s, uint64_t *data)
{
    for (unsigned i = 0; i < IMAGE_PAGE / 8; i++)
        data[i] = (page * SEED_STEP + s) * (i + 1);
}

static void put(struct image *img, uint64_t page, uint64_t s)
{
    uint64_t data[IMAGE_PAGE / 8];

    fill(page, s, data);
    assert_int_equal(image_put(img, page, data), 0);
}

static bool has(struct image *img, uint64_t page, uint64_t s)
{
    uint64_t is[IMAGE_PAGE / 8], should[IMAGE_PAGE / 8];

    fill(page, s, should);
    return image_read(img, page, is) == 0 && memcmp(is, should, sizeof(is)) == 0;
}

static bool is_zero(struct image *img, uint64_t page)
{
    uint64_t is[IMAGE_PAGE / 8], zero[IMAGE_PAGE / 8] = { 0 };

    return image_is_hole(img, page) && image_read(img, page, is) == 0 && memcmp(is, zero, sizeof(is)) == 0;
}

static struct image *created(const struct world *w)
{
    struct image *img;

    assert_int_equal(image_create(w->path, PAGES, &img), 0);
    return img;
}

static struct image *opened(const struct world *w, enum image_mode mode)
{
    struct image_diag diag;
    struct image *img;
    int r = image_open(w->path, mode, &img, &diag);

    if (r < 0)
        fail_msg("image_open: %d, damage %d (%ju, %ju)", r, diag.damage, (uintmax_t)diag.a,
                 (uintmax_t)diag.b);
    return img;
}

/* State 1 in pages 0 to 899, state 2 in 600 to 899 and 1500, in the journal; page 3 is a hole by then. */
static void make(const struct world *w)
{
    struct image *img = created(w);

    for (uint64_t page = 0; page < 900; page++)
        put(img, page, 1);
    assert_int_equal(image_commit(img), 0);
    for (uint64_t page = 600; page < 900; page++)
        put(img, page, 2);
    put(img, 1500, 2);
    assert_int_equal(image_put(img, 3, NULL), 0);
    assert_int_equal(image_commit(img), 0);
    image_close(img);
}

static uint64_t state_of(uint64_t page)
{
    if (page == 3 || (page >= 900 && page != 1500))
        return 0;
    return page < 600 ? 1 : 2;
}

/* -EUCLEAN: says that it is damaged; 0: all is as made; -1: something else is there, and nothing was said. */
static int as_made(struct image *img)
{
    uint64_t is[IMAGE_PAGE / 8];

    for (uint64_t page = 0; page < PAGES; page++) {
        int r = image_read(img, page, is);

        if (r < 0)
            return r;
        if (state_of(page) ? !has(img, page, state_of(page)) : !is_zero(img, page))
            return -1;
    }
    return 0;
}

/* ---- tests -------------------------------------------------------------------------------------- */

static void test_image_keeps_what_was_committed(void **state)
{
    const struct world *w = *state;
    struct image *img;

    make(w);
    img = opened(w, IMAGE_WRITE);
    assert_int_equal(as_made(img), 0);
    assert_int_equal(image_used(img), 900);
    assert_int_equal(image_sequence(img), 2);
    assert_int_equal(image_settle(img), 0);
    assert_int_equal(as_made(img), 0);
    image_close(img);
    img = opened(w, IMAGE_READ);
    assert_int_equal(as_made(img), 0);
    assert_int_equal(image_sequence(img), 2);
    image_close(img);
}

static void test_image_forgets_what_was_not_committed(void **state)
{
    const struct world *w = *state;
    struct image *img;

    make(w);
    img = opened(w, IMAGE_WRITE);
    for (uint64_t page = 0; page < 700; page++)
        put(img, page, 3);
    assert_int_equal(image_put(img, 1500, NULL), 0);
    assert_true(has(img, 10, 3));  /* a chunk that is written */
    assert_true(has(img, 699, 3)); /* and one that is not */
    image_abort(img);
    assert_int_equal(as_made(img), 0);
    put(img, 0, 4); /* over the chunks that were left */
    image_close(img);
    img = opened(w, IMAGE_READ);
    assert_int_equal(as_made(img), 0);
    image_close(img);
}

static void test_image_writes_nothing_for_what_it_has(void **state)
{
    const struct world *w = *state;
    struct image *img;

    make(w);
    img = opened(w, IMAGE_WRITE);
    for (uint64_t page = 0; page < 600; page++) {
        if (page != 3)
            put(img, page, 1);
    }
    assert_int_equal(image_commit(img), 0);
    assert_int_equal(image_sequence(img), 2);
    image_close(img);
}

static void test_image_takes_a_page_of_zeros_for_a_hole(void **state)
{
    const struct world *w = *state;
    static const uint8_t zeros[IMAGE_PAGE];
    struct image *img;

    make(w);
    img = opened(w, IMAGE_WRITE);
    assert_int_equal(image_put(img, 1500, zeros), 0);
    assert_int_equal(image_commit(img), 0);
    assert_true(is_zero(img, 1500));
    assert_int_equal(image_used(img), 899);
    assert_int_equal(image_put(img, PAGES, zeros), -ERANGE);
    image_close(img);
}

static void test_image_of_another_is_there_until_the_first_commit(void **state)
{
    const struct world *w = *state;
    struct image *img, *other;

    make(w);
    img = created(w);
    put(img, 0, 7);
    other = opened(w, IMAGE_READ);
    assert_int_equal(as_made(other), 0);
    image_close(other);
    image_close(img); /* and so it is if that never comes */
    assert_int_equal(access(w->new_path, F_OK), -1);
    img = opened(w, IMAGE_WRITE);
    assert_int_equal(as_made(img), 0);
    image_close(img);
}

static void test_image_has_one_writer(void **state)
{
    const struct world *w = *state;
    struct image *img, *other;
    struct image_diag diag;

    img = created(w);
    assert_int_equal(image_create(w->path, PAGES, &other), -EBUSY);
    put(img, 0, 1);
    assert_int_equal(image_commit(img), 0);
    assert_int_equal(image_open(w->path, IMAGE_WRITE, &other, &diag), -EBUSY);
    other = opened(w, IMAGE_READ);
    image_close(other);
    image_close(img);
    image_close(opened(w, IMAGE_WRITE));
}

static void test_image_create_removes_what_a_dead_one_left(void **state)
{
    const struct world *w = *state;
    struct image *img;
    int fd = open(w->new_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    assert_true(fd >= 0 && write(fd, "left over", 9) == 9);
    close(fd);
    img = created(w);
    put(img, 5, 1);
    assert_int_equal(image_commit(img), 0);
    image_close(img);
    img = opened(w, IMAGE_READ);
    assert_true(has(img, 5, 1));
    image_close(img);
}

/* Each step in turn fails: the caller is told, or it is durable already; what was committed before is there. */
static int fail_at, fail_with;
static int failing(enum storage_step step, const char *path, uint64_t off, const void *buf, uint64_t n)
{
    (void)step, (void)path, (void)off, (void)buf, (void)n;
    return fail_at-- == 0 ? fail_with : 0;
}

static void test_image_says_what_failed_and_keeps_what_was(void **state)
{
    static const int errors[] = { -EIO, -ENOSPC, -EROFS };
    const struct world *w = *state;
    uint64_t page1000[IMAGE_PAGE / 8];
    unsigned failures = 0;

    fill(1000, 3, page1000);
    for (int at = 0;; at++) {
        struct image *img, *after;
        int r, settled = 0;

        make(w);
        fail_at = at;
        fail_with = errors[at % 3];
        img = opened(w, IMAGE_WRITE);
        storage_hook = failing;
        for (uint64_t page = 0; page < 700; page++) {
            uint64_t data[IMAGE_PAGE / 8];

            fill(page, 3, data);
            r = image_put(img, page, data);
            if (r < 0)
                break;
        }
        if (r == 0)
            r = image_commit(img);
        if (r == 0)
            settled = image_settle(img);
        if (r < 0) {
            assert_int_equal(r, fail_with);
            r = image_put(img, 1000, page1000);
            assert_int_equal(r < 0 ? r : image_commit(img), fail_with);
            r = fail_with;
        }
        image_close(img);
        storage_hook = NULL;
        after = opened(w, IMAGE_READ);
        if (r == 0 || image_sequence(after) == 3) /* told, or it got there nevertheless: whole in any case */
            assert_true(has(after, 0, 3) && has(after, 699, 3) && has(after, 800, 2));
        else
            assert_int_equal(as_made(after), 0);
        image_close(after);
        failures += r < 0 || settled < 0;
        if (fail_at >= 0)
            break;
    }
    assert_true(failures >= 8); /* chunks, sync, homes, table, header, both syncs */
}

/* ---- damage ------------------------------------------------------------------------------------- */

static int look(const struct world *w, enum image_mode mode)
{
    struct image_diag diag;
    struct image *img;
    int r = image_open(w->path, mode, &img, &diag);

    if (r < 0) {
        assert_true(diag.damage != IMAGE_SOUND);
        return r;
    }
    r = as_made(img);
    image_close(img);
    return r;
}

enum {
    BLOCKS = 4,
    HOME = (3 + BLOCKS) * IMAGE_BLOCK,
    JOURNAL = HOME + PAGES * IMAGE_PAGE,
    JOURNAL_BLOCKS = 2 + 301
};
static_assert(BLOCKS == (PAGES + IMAGE_HASHES - 1) / IMAGE_HASHES, "blocks of the table");

/* What nobody needs while the rest is sound: one of two headers, what was seen, what the journal has, what helps a salvage. */
static bool is_spare(uint64_t off)
{
    uint64_t block = off / IMAGE_BLOCK, page = (block - 3) * IMAGE_HASHES + off % IMAGE_BLOCK / 8;

    if (block <= 2)
        return true;
    return block >= 3 && block < 3 + BLOCKS &&
           (off % IMAGE_BLOCK >= IMAGE_BLOCK - 8 || page >= PAGES || page == 3 || state_of(page) == 2);
}

/* Some byte of what the image is made of: headers and table as often as pages, and as the journal. */
static uint64_t some_place(uint64_t random)
{
    uint64_t place = random / 3;

    switch (random % 3) {
    case 0:
        return place % HOME;
    case 1:
        return HOME + 4 * IMAGE_PAGE + place % (596 * IMAGE_PAGE); /* pages 4 to 599 */
    default:
        return JOURNAL + place % (JOURNAL_BLOCKS * IMAGE_BLOCK);
    }
}

static void test_image_finds_every_flipped_bit(void **state)
{
    const struct world *w = *state;
    uint64_t seed = 88172645463325252u;
    unsigned found = 0;
    int fd;

    make(w);
    fd = open(w->path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    for (unsigned i = 0; i < 1500; i++) {
        uint64_t off;
        uint8_t byte, flipped;
        int r;

        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        off = some_place(seed >> 3);
        assert_int_equal(pread(fd, &byte, 1, (off_t)off), 1);
        flipped = byte ^ (uint8_t)(1u << (seed & 7));
        assert_int_equal(pwrite(fd, &flipped, 1, (off_t)off), 1);
        r = look(w, IMAGE_READ);
        if (r != -EUCLEAN && !(r == 0 && is_spare(off)))
            fail_msg("a flipped bit at %ju gave %d", (uintmax_t)off, r);
        found += r != 0;
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)off), 1);
    }
    close(fd);
    assert_int_equal(look(w, IMAGE_READ), 0);
    assert_true(found > 1000);
}

struct damage {
    uint64_t off, n;
    enum image_damage says;
};

static void test_image_tells_what_is_damaged(void **state)
{
    const struct world *w = *state;
    const struct damage cases[] = {
        { 0, 2 * IMAGE_BLOCK, IMAGE_NOT_IMAGE },
        { 3 * IMAGE_BLOCK, IMAGE_BLOCK, IMAGE_BAD_TABLE }, /* reads as one without pages */
        { 3 * IMAGE_BLOCK + 80, 8, IMAGE_BAD_TABLE },
        { JOURNAL, 100, IMAGE_BAD_JOURNAL }, /* it does not end there: somebody was told */
        { JOURNAL + 10 * IMAGE_BLOCK, 1, IMAGE_BAD_JOURNAL },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint8_t bytes[2 * IMAGE_BLOCK] = { 0 };
        struct image_diag diag;
        struct image *img;
        int fd;

        make(w);
        fd = open(w->path, O_RDWR | O_CLOEXEC);
        assert_int_equal(pwrite(fd, bytes, cases[i].n, (off_t)cases[i].off), (ssize_t)cases[i].n);
        close(fd);
        assert_int_equal(image_open(w->path, IMAGE_READ, &img, &diag), -EUCLEAN);
        assert_int_equal(diag.damage, cases[i].says);
    }
}

/* The newer header is lost, and the journal has begun anew since the older one. */
static void test_image_does_not_go_back_to_an_older_header(void **state)
{
    const struct world *w = *state;
    const uint8_t bytes[16] = { 0 };
    struct image_diag diag;
    struct image *img;
    int fd;

    make(w);
    img = opened(w, IMAGE_WRITE);
    assert_int_equal(image_settle(img), 0);
    put(img, 0, 5);
    assert_int_equal(image_commit(img), 0);
    image_close(img);
    fd = open(w->path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, bytes, sizeof(bytes), 100), (ssize_t)sizeof(bytes)); /* generation 2 */
    assert_int_equal(pwrite(fd, "\1", 1, 40), 1);
    close(fd);
    assert_int_equal(image_open(w->path, IMAGE_READ, &img, &diag), -EUCLEAN);
    assert_int_equal(diag.damage, IMAGE_BAD_HEADER);
}

/* S1: what was left of an attempt that was cut does not end another one of the same sequence. */
static void test_image_does_not_mix_two_attempts(void **state)
{
    const struct world *w = *state;
    const uint64_t third = JOURNAL + JOURNAL_BLOCKS * IMAGE_BLOCK; /* where the third commit begins */
    uint8_t seen[IMAGE_BLOCK], nothing[IMAGE_BLOCK] = { 0 };
    struct image *img;
    int fd;

    make(w);
    fd = open(w->path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, seen, sizeof(seen), 2 * IMAGE_BLOCK), (ssize_t)sizeof(seen));
    img = opened(w, IMAGE_WRITE);
    for (uint64_t page = 0; page < 300; page++)
        put(img, page, 3);
    assert_int_equal(image_commit(img), 0);
    image_close(img);
    /* The cut: of two chunks the first did not land, and nobody was told. */
    assert_int_equal(pwrite(fd, seen, sizeof(seen), 2 * IMAGE_BLOCK), (ssize_t)sizeof(seen));
    assert_int_equal(pwrite(fd, nothing, sizeof(nothing), (off_t)third), (ssize_t)sizeof(nothing));
    close(fd);
    img = opened(w, IMAGE_WRITE);
    assert_int_equal(as_made(img), 0);
    for (uint64_t page = 1000; page < 1252; page++) /* one more than a chunk takes: the first is written */
        put(img, page, 4);
    image_close(img);
    img = opened(w, IMAGE_READ);
    assert_int_equal(as_made(img), 0);
    image_close(img);
}

/* S1: nor does a chunk of another image, of the sequence that comes next. */
static void test_image_takes_no_commit_of_another(void **state)
{
    const struct world *w = *state;
    static uint8_t commit[JOURNAL_BLOCKS * IMAGE_BLOCK];
    struct image *img;
    int fd;

    make(w);
    fd = open(w->path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(pread(fd, commit, sizeof(commit), JOURNAL), (ssize_t)sizeof(commit));
    close(fd);
    img = created(w);
    for (uint64_t page = 0; page < 900; page++) /* as the other one had it when that commit was made */
        put(img, page, 1);
    assert_int_equal(image_commit(img), 0);
    image_close(img);
    fd = open(w->path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, commit, sizeof(commit), JOURNAL), (ssize_t)sizeof(commit));
    close(fd);
    img = opened(w, IMAGE_READ);
    assert_int_equal(image_sequence(img), 1);
    assert_true(has(img, 700, 1) && has(img, 3, 1));
    image_close(img);
}

static void test_image_salvage_gives_all_that_is_sound(void **state)
{
    const struct world *w = *state;
    uint64_t data[IMAGE_PAGE / 8];
    struct image *img;
    unsigned lost = 0;
    int fd;

    make(w);
    fd = open(w->path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "?", 1, (off_t)(HOME + 17 * IMAGE_PAGE + 5)), 1);
    assert_int_equal(pwrite(fd, "?", 1, 4 * IMAGE_BLOCK + 8), 1); /* the table's block of pages 511 to 1021 */
    close(fd);
    img = opened(w, IMAGE_SALVAGE);
    assert_int_equal(image_diag(img)->damage, IMAGE_BAD_TABLE);
    for (uint64_t page = 0; page < PAGES; page++) {
        int r = image_read(img, page, data);

        assert_true(r == 0 || r == -EUCLEAN);
        if (r < 0) {
            assert_true(page == 17 || (page >= 511 && page < 1022));
            lost++;
        } else {
            assert_true(state_of(page) ? has(img, page, state_of(page)) : is_zero(img, page));
        }
    }
    assert_int_equal(lost, 1 + 511 - 300); /* 600 to 899 are in the journal */
    image_close(img);
}

static void test_image_of_a_newer_version_is_refused(void **state)
{
    const struct world *w = *state;
    struct image_header h;
    struct image_diag diag;
    struct image *img;
    int fd;

    make(w);
    fd = open(w->path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &h, sizeof(h), IMAGE_BLOCK), (ssize_t)sizeof(h));
    h.version = IMAGE_VERSION + 1;
    h.generation += 2;
    h.hash = 0;
    h.hash = XXH3_64bits(&h, sizeof(h) - 8);
    assert_int_equal(pwrite(fd, &h, sizeof(h), IMAGE_BLOCK), (ssize_t)sizeof(h));
    close(fd);
    assert_int_equal(image_open(w->path, IMAGE_READ, &img, &diag), -ENOTSUP);
    assert_int_equal(diag.damage, IMAGE_NEWER);
    assert_int_equal(diag.a, IMAGE_VERSION + 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        T(test_image_keeps_what_was_committed),
        T(test_image_forgets_what_was_not_committed),
        T(test_image_writes_nothing_for_what_it_has),
        T(test_image_takes_a_page_of_zeros_for_a_hole),
        T(test_image_of_another_is_there_until_the_first_commit),
        T(test_image_has_one_writer),
        T(test_image_create_removes_what_a_dead_one_left),
        T(test_image_says_what_failed_and_keeps_what_was),
        T(test_image_finds_every_flipped_bit),
        T(test_image_tells_what_is_damaged),
        T(test_image_does_not_go_back_to_an_older_header),
        T(test_image_does_not_mix_two_attempts),
        T(test_image_takes_no_commit_of_another),
        T(test_image_salvage_gives_all_that_is_sound),
        T(test_image_of_a_newer_version_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
