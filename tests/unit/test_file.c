/* SPDX-License-Identifier: MIT */
/* The data of files: against an array of bytes, on a region that is full, and at the largest offsets. */
#include "fixture.h"

#include <linux/falloc.h>
#include <sys/xattr.h>

#include "file.h"

enum {
    LIMIT = 1 << 20, /* the model's largest file */
    BLOCKS = LIMIT / BLOCK_SIZE,
    PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
};

/* What a file must be. */
struct model {
    uint32_t ino;
    uint64_t size;
    uint8_t bytes[LIMIT]; /* zero past the end */
    bool mapped[BLOCKS];
};
static struct model files[2];
static uint8_t data[LIMIT], back[LIMIT];

static void start_files(void)
{
    static const char *const names[] = { "one", "two" };

    memset(files, 0, sizeof(files));
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        files[i].ino = make_file(SHMFS_ROOT, names[i]);
}

static bool block_mapped(uint32_t ino, uint64_t pos, const uint8_t **ret_bytes)
{
    struct blkref blk;
    struct map_at at;
    uint64_t len;

    MUST(map_find(fs, ino, inode_at(fs, ino), pos, &at));
    if (!map_at_block(&at, pos, &blk, &len))
        return false;
    *ret_bytes = region_block(fs, blk);
    return true;
}

/* I10: whoever makes the file longer relies on zeros behind its end, in every block that it holds. */
static void assert_zeros_past_the_end(const struct model *m)
{
    static const uint8_t zeros[BLOCK_SIZE];
    uint64_t size = attr_of(m->ino).size;
    const uint8_t *p;

    for (uint64_t pos = size / BLOCK_SIZE; pos < BLOCKS; pos++) {
        size_t from = pos == size / BLOCK_SIZE ? size % BLOCK_SIZE : 0;

        if (block_mapped(m->ino, pos, &p) && memcmp(p + from, zeros, BLOCK_SIZE - from) != 0)
            fail_msg("block %ju of a file of %ju bytes has something past the end", (uintmax_t)pos,
                     (uintmax_t)size);
    }
}

static uint64_t seek_in_model(const struct model *m, uint64_t off, bool want_data)
{
    for (uint64_t pos = off / BLOCK_SIZE; off < m->size; off = ++pos * BLOCK_SIZE)
        if (m->mapped[pos] == want_data)
            return off;
    return want_data ? UINT64_MAX : m->size;
}

static void verify_seek(const struct model *m, uint64_t off)
{
    for (int want_data = 0; want_data < 2; want_data++) {
        off_t got = shmfs_node_lseek(fs, m->ino, (off_t)off, want_data != 0 ? SEEK_DATA : SEEK_HOLE);
        uint64_t want = off < m->size ? seek_in_model(m, off, want_data != 0) : UINT64_MAX;

        if (got != (want == UINT64_MAX ? -ENXIO : (off_t)want))
            fail_msg("seek of %d from %ju gave %jd, should be %jd", want_data, (uintmax_t)off, (intmax_t)got,
                     (intmax_t)want);
    }
}

static void verify_read(const struct model *m, uint64_t off, size_t n)
{
    size_t want = off >= m->size ? 0 : (size_t)MIN((uint64_t)n, m->size - off);

    memset(back, 0x5a, n);
    assert_int_equal(shmfs_node_read(fs, m->ino, back, n, (off_t)off), want);
    for (size_t i = 0; i < want; i++)
        if (back[i] != m->bytes[off + i])
            fail_msg("byte %ju is %#x, should be %#x", (uintmax_t)(off + i), back[i], m->bytes[off + i]);
    if (want < n)
        assert_int_equal(back[want], 0x5a);
}

static void verify(const struct model *m)
{
    const uint8_t *unused;

    assert_int_equal(attr_of(m->ino).size, m->size);
    verify_read(m, 0, LIMIT);
    assert_zeros_past_the_end(m);
    for (uint64_t pos = 0; pos < BLOCKS; pos++)
        if (block_mapped(m->ino, pos, &unused) != m->mapped[pos])
            fail_msg("block %ju is %s", (uintmax_t)pos, m->mapped[pos] ? "a hole" : "not a hole");
    for (uint64_t off = 0; off < m->size; off += 1 + m->size / 50)
        verify_seek(m, off);
}

/* ---- each operation, in the model ----------------------------------------------------------------------------- */

static void model_map(struct model *m, uint64_t from, uint64_t to)
{
    for (uint64_t pos = from / BLOCK_SIZE; pos < div_up(to, BLOCK_SIZE); pos++)
        m->mapped[pos] = true;
}

static void model_write(struct model *m, const uint8_t *p, uint64_t off, uint64_t n)
{
    if (n == 0)
        return;
    memcpy(m->bytes + off, p, n);
    m->size = MAX(m->size, off + n);
    model_map(m, off, off + n);
}

static void model_zero(struct model *m, uint64_t from, uint64_t to)
{
    if (from < MIN(to, m->size))
        memset(m->bytes + from, 0, MIN(to, m->size) - from);
    for (uint64_t pos = div_up(from, BLOCK_SIZE); pos < to / BLOCK_SIZE; pos++)
        m->mapped[pos] = false;
}

static void model_resize(struct model *m, uint64_t size)
{
    if (size < m->size) {
        memset(m->bytes + size, 0, m->size - size);
        for (uint64_t pos = div_up(size, BLOCK_SIZE); pos < BLOCKS; pos++)
            m->mapped[pos] = false;
    }
    m->size = size;
}

/* After an allocation that failed half-way: the bytes are as they were, what is mapped may be more. */
static void model_learn_map(struct model *m)
{
    const uint8_t *unused;

    for (uint64_t pos = 0; pos < BLOCKS; pos++)
        m->mapped[pos] = block_mapped(m->ino, pos, &unused);
}

static unsigned refusals; /* times that there was no room */

static bool no_room(int64_t r)
{
    CHECK(r >= 0 || r == -ENOSPC);
    refusals += r < 0;
    return r < 0;
}

static void do_write(struct model *m, uint64_t off, uint64_t n)
{
    unsigned flags = random_below(8) == 0 ? SHMFS_WRITE_APPEND : 0;
    off_t at = -1;
    ssize_t r;

    if (flags != 0)
        off = m->size;
    n = MIN(n, LIMIT - off);
    for (uint64_t i = 0; i < n; i++)
        data[i] = (uint8_t)(random_state + i * 31 + i / 256) | 1; /* never zero: a hole is no data */
    r = shmfs_node_write(fs, m->ino, data, n, flags != 0 ? 12345 : (off_t)off, flags, &at);
    if (n > 0 && r >= 0)
        assert_int_equal(at, off);
    if (!no_room(r)) {
        refusals += (uint64_t)r < n; /* full: as much as there was room for */
        model_write(m, data, off, (uint64_t)r);
    }
}

static void do_resize(struct model *m, uint64_t size)
{
    struct shmfs_attr attr = { .size = size };

    assert_int_equal(shmfs_node_setattr(fs, m->ino, &attr, SHMFS_SET_SIZE, &attr), 0);
    assert_int_equal(attr.size, size);
    model_resize(m, size);
}

static void do_fallocate(struct model *m, int mode, uint64_t off, uint64_t n)
{
    int r;

    n = MIN(MAX(n, (uint64_t)1), LIMIT - off);
    if (n == 0)
        return;
    r = shmfs_node_fallocate(fs, m->ino, mode, (off_t)off, (off_t)n);
    if (no_room(r)) {
        if ((mode & FALLOC_FL_ZERO_RANGE) != 0)
            model_zero(m, off, off + n);
        model_learn_map(m);
        return;
    }
    if (mode != 0 && mode != FALLOC_FL_KEEP_SIZE)
        model_zero(m, off, off + n);
    if (mode == PUNCH)
        return;
    model_map(m, off, off + n);
    if ((mode & FALLOC_FL_KEEP_SIZE) == 0)
        m->size = MAX(m->size, off + n);
}

static void do_copy(struct model *from, struct model *to, uint64_t off, uint64_t to_off, uint64_t n)
{
    uint64_t want = off >= from->size ? 0 : MIN(n, from->size - off);
    ssize_t r;

    n = MIN(n, LIMIT - to_off);
    want = MIN(want, n);
    if (from == to)
        n = want; /* behind the end: see test_file_copy_within_a_file_ends_where_it_ended() */
    r = shmfs_node_copy(fs, from->ino, (off_t)off, to->ino, (off_t)to_off, n);
    if (from == to && n > 0 && off < to_off + n && to_off < off + n) {
        assert_int_equal(r, -EINVAL);
        return;
    }
    if (no_room(r))
        return;
    refusals += (uint64_t)r < want;
    if (space_of(fs).free_blocks > 50)
        assert_int_equal(r, want);
    memcpy(data, from->bytes + off, (size_t)r);
    model_write(to, data, to_off, (uint64_t)r);
}

static void random_operation(uint64_t longest)
{
    struct model *m = &files[random_below(2)], *other = &files[random_below(2)];
    uint64_t off = random_below(LIMIT), n = random_below(random_below(4) == 0 ? longest : 9000);

    if (random_below(3) == 0)
        off = off / BLOCK_SIZE * BLOCK_SIZE;
    if (random_below(3) == 0)
        n = n / BLOCK_SIZE * BLOCK_SIZE;
    switch (random_below(10)) {
    case 0:
    case 1:
    case 2:
        do_write(m, off, n);
        break;
    case 3:
        do_resize(m, random_below(4) == 0 ? off : MIN(m->size + n % 5000, (uint64_t)LIMIT));
        break;
    case 4:
        do_fallocate(m, PUNCH, off, n);
        break;
    case 5:
        do_fallocate(m, random_below(2) != 0 ? FALLOC_FL_KEEP_SIZE : 0, off, n);
        break;
    case 6:
        do_fallocate(m, FALLOC_FL_ZERO_RANGE | (random_below(2) != 0 ? FALLOC_FL_KEEP_SIZE : 0), off, n);
        break;
    case 7:
        do_copy(m, other, random_below(LIMIT), off, n);
        break;
    case 8:
        verify_seek(m, off);
        break;
    default:
        verify_read(m, off, n);
    }
}

static void test_file_does_what_an_array_of_bytes_does(void **state)
{
    random_start(14);
    start_files();
    refusals = 0;
    for (int i = 0; i < 20000; i++) {
        random_operation(300000);
        if (i % 250 == 0) {
            verify(&files[0]);
            verify(&files[1]);
        }
    }
    assert_int_equal(refusals, 0); /* there was room for all */
    verify(&files[0]);
    verify(&files[1]);
}

/* P5: full is -ENOSPC, and what was refused has changed nothing; I10 holds after each of it. */
static void test_file_does_so_on_a_region_that_is_full(void **state)
{
    random_start(15);
    renew(MIB, 0);
    start_files();
    refusals = 0;
    for (int i = 0; i < 20000; i++) {
        unsigned before = refusals;

        random_operation(300000);
        if (refusals > before || i % 20 == 0) {
            assert_zeros_past_the_end(&files[0]);
            assert_zeros_past_the_end(&files[1]);
        }
        if (refusals > before ? i % 4 == 0 : i % 100 == 0) {
            verify(&files[0]);
            verify(&files[1]);
        }
    }
    assert_true(refusals > 1000);
    verify(&files[0]);
    verify(&files[1]);
}

/* ---- I10 in particular ------------------------------------------------------------------------------------------ */

static void fill_region(uint32_t ino)
{
    memset(data, 'f', BLOCK_SIZE);
    while (shmfs_node_write(fs, ino, data, BLOCK_SIZE, 0, SHMFS_WRITE_APPEND, NULL) > 0)
        continue;
    assert_int_equal(space_of(fs).free_blocks, 0);
}

/* Blocks past the end are written to, and then there is no room for the rest: they are zeros again. */
static void test_file_a_refused_write_leaves_zeros_past_the_end(void **state)
{
    struct model *m = &files[0];

    renew(MIB, 0);
    start_files();
    memset(data, 'x', 100);
    MUST(shmfs_node_write(fs, m->ino, data, 100, 0, 0, NULL));
    MUST(shmfs_node_fallocate(fs, m->ino, FALLOC_FL_KEEP_SIZE, 0, 4 * BLOCK_SIZE));
    fill_region(files[1].ino);
    /* As a whole it has no room; it gets as far as there is some, and its count says how far. */
    memset(data, 'x', SLOT_STAGE);
    assert_int_equal(shmfs_node_write(fs, m->ino, data, SLOT_STAGE, 4 * BLOCK_SIZE, 0, NULL), -ENOSPC);
    assert_int_equal(attr_of(m->ino).size, 100);
    assert_zeros_past_the_end(m);
    memset(data, 'x', LIMIT);
    assert_int_equal(shmfs_node_write(fs, m->ino, data, 200000, 50, 0, NULL), 4 * BLOCK_SIZE - 50);
    assert_int_equal(attr_of(m->ino).size, 4 * BLOCK_SIZE);
    assert_int_equal(shmfs_node_write(fs, m->ino, data, 200000, 4 * BLOCK_SIZE, 0, NULL), -ENOSPC);
    assert_int_equal(attr_of(m->ino).size, 4 * BLOCK_SIZE);
}

/* What was cut off is not seen again when the file grows. */
static void test_file_growing_shows_zeros(void **state)
{
    static const uint64_t sizes[] = { 0, 1, 100, 4095, 4096, 4097, 12287 };
    uint32_t ino = make_file(SHMFS_ROOT, "file");

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct shmfs_attr attr = { .size = sizes[i] };

        memset(data, 'x', 12288);
        MUST(shmfs_node_write(fs, ino, data, 12288, 0, 0, NULL));
        MUST(shmfs_node_setattr(fs, ino, &attr, SHMFS_SET_SIZE, &attr));
        attr.size = 20000;
        MUST(shmfs_node_setattr(fs, ino, &attr, SHMFS_SET_SIZE, &attr));
        assert_int_equal(shmfs_node_read(fs, ino, back, 20000, 0), 20000);
        for (size_t k = 0; k < 20000; k++)
            assert_int_equal(back[k], k < sizes[i] ? 'x' : 0);
    }
}

/* A block that another file had shows none of it. */
static void test_file_a_reused_block_shows_nothing_old(void **state)
{
    uint32_t ino;

    renew(MIB, 0);
    ino = make_file(SHMFS_ROOT, "secret");
    fill_region(ino);
    MUST(shmfs_node_unlink(fs, SHMFS_ROOT, "secret"));
    ino = make_file(SHMFS_ROOT, "other");
    for (uint64_t pos = 0; pos < 100; pos++) {
        MUST(shmfs_node_write(fs, ino, "x", 1, (off_t)(pos * BLOCK_SIZE + pos * 40), 0, NULL));
        assert_int_equal(shmfs_node_read(fs, ino, back, BLOCK_SIZE, (off_t)(pos * BLOCK_SIZE)), pos * 40 + 1);
        for (size_t i = 0; i < pos * 40; i++)
            assert_int_equal(back[i], 0);
    }
    MUST(shmfs_node_fallocate(fs, ino, 0, 110 * BLOCK_SIZE, 20 * BLOCK_SIZE));
    assert_int_equal(shmfs_node_read(fs, ino, back, 20 * BLOCK_SIZE, 110 * BLOCK_SIZE), 20 * BLOCK_SIZE);
    for (size_t i = 0; i < 20 * BLOCK_SIZE; i++)
        assert_int_equal(back[i], 0);
}

/* ---- full is all or nothing ------------------------------------------------------------------------------------ */

/* Also when there seems to be room: the nodes of the map need some, too. */
static void test_file_a_refused_fallocate_takes_nothing(void **state)
{
    uint32_t ino;

    renew(MIB, 0);
    ino = make_file(SHMFS_ROOT, "file");
    uint64_t free_blocks = space_of(fs).free_blocks;
    for (uint64_t i = 0; i < 7; i++) /* the inode is full of extents, so one more needs a node */
        MUST(shmfs_node_write(fs, ino, "x", 1, (off_t)(i * 2 * BLOCK_SIZE), 0, NULL));
    free_blocks = space_of(fs).free_blocks;
    assert_int_equal(shmfs_node_fallocate(fs, ino, FALLOC_FL_KEEP_SIZE, 20 * BLOCK_SIZE,
                                          (off_t)(free_blocks * BLOCK_SIZE)),
                     -ENOSPC);
    assert_int_equal(space_of(fs).free_blocks, free_blocks);
}

static void test_file_a_fallocate_larger_than_what_is_free_takes_nothing(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");
    uint64_t free_blocks = space_of(fs).free_blocks;

    assert_int_equal(shmfs_node_fallocate(fs, ino, 0, 0, (off_t)((free_blocks + 1) * BLOCK_SIZE)), -ENOSPC);
    assert_int_equal(space_of(fs).free_blocks, free_blocks);
    assert_int_equal(attr_of(ino).size, 0);
}

/* ---- the largest offsets ------------------------------------------------------------------------------------------ */

static void test_file_reaches_to_the_largest_offset_and_no_further(void **state)
{
    const off_t max = FILE_SIZE_MAX;
    uint32_t ino = make_file(SHMFS_ROOT, "file");
    struct shmfs_attr attr = { .size = (uint64_t)max + 1 };

    assert_int_equal(shmfs_node_write(fs, ino, "ab", 2, max - 1, 0, NULL), -EFBIG);
    assert_int_equal(shmfs_node_write(fs, ino, "a", 1, max, 0, NULL), -EFBIG);
    assert_int_equal(shmfs_node_write(fs, ino, "a", 1, INT64_MAX, 0, NULL), -EFBIG);
    assert_int_equal(shmfs_node_write(fs, ino, data, 100000, max - 99999, 0, NULL), -EFBIG);
    assert_int_equal(shmfs_node_setattr(fs, ino, &attr, SHMFS_SET_SIZE, &attr), -EFBIG);
    assert_int_equal(shmfs_node_fallocate(fs, ino, 0, max - 1, 2), -EFBIG);
    assert_int_equal(shmfs_node_fallocate(fs, ino, PUNCH, INT64_MAX, INT64_MAX), -EFBIG);
    assert_int_equal(attr_of(ino).size, 0);
    assert_int_equal(attr_of(ino).blocks, 0);

    assert_int_equal(shmfs_node_write(fs, ino, "z", 1, max - 1, 0, NULL), 1);
    assert_int_equal(attr_of(ino).size, max);
    assert_int_equal(shmfs_node_write(fs, ino, "a", 1, 0, SHMFS_WRITE_APPEND, NULL), -EFBIG);
    assert_int_equal(shmfs_node_write(fs, ino, "a", 1, 0, 0, NULL), 1);
    assert_int_equal(shmfs_node_read(fs, ino, back, 100, max - 2), 2);
    assert_memory_equal(back, "\0z", 2);
    assert_int_equal(shmfs_node_read(fs, ino, back, 100, max), 0);
    assert_int_equal(shmfs_node_read(fs, ino, back, 100, INT64_MAX), 0);
    assert_int_equal(shmfs_node_lseek(fs, ino, 0, SEEK_HOLE), BLOCK_SIZE);
    assert_int_equal(shmfs_node_lseek(fs, ino, 1, SEEK_DATA), 1);
    assert_int_equal(shmfs_node_lseek(fs, ino, BLOCK_SIZE, SEEK_DATA), (max - 1) / BLOCK_SIZE * BLOCK_SIZE);
    assert_int_equal(shmfs_node_lseek(fs, ino, max - 1, SEEK_HOLE), max);
    assert_int_equal(shmfs_node_lseek(fs, ino, max, SEEK_HOLE), -ENXIO);
    assert_clean();

    assert_int_equal(shmfs_node_fallocate(fs, ino, PUNCH, 0, max), 0); /* the last block is but a part */
    assert_int_equal(shmfs_node_read(fs, ino, back, 1, max - 1), 1);
    assert_int_equal(back[0], 0);
    attr.size = (uint64_t)max - 1;
    assert_int_equal(shmfs_node_setattr(fs, ino, &attr, SHMFS_SET_SIZE, &attr), 0);
    attr.size = 1;
    assert_int_equal(shmfs_node_setattr(fs, ino, &attr, SHMFS_SET_SIZE, &attr), 0);
    assert_true(attr_of(ino).blocks <= BLOCK_SIZE / 512);
}

static void test_file_offsets_that_cannot_be(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");

    MUST(shmfs_node_write(fs, ino, "data", 4, 0, 0, NULL));
    assert_int_equal(shmfs_node_read(fs, ino, back, 1, -1), -EINVAL);
    assert_int_equal(shmfs_node_write(fs, ino, "x", 1, -1, 0, NULL), -EINVAL);
    assert_int_equal(shmfs_node_fallocate(fs, ino, 0, -1, 10), -EINVAL);
    assert_int_equal(shmfs_node_fallocate(fs, ino, 0, 0, 0), -EINVAL);
    assert_int_equal(shmfs_node_fallocate(fs, ino, 0, 0, -5), -EINVAL);
    assert_int_equal(shmfs_node_lseek(fs, ino, -1, SEEK_DATA), -ENXIO);
    assert_int_equal(shmfs_node_lseek(fs, ino, 0, SEEK_SET), -EINVAL);
    assert_int_equal(shmfs_node_copy(fs, ino, -1, ino, 100, 1), -EINVAL);
    assert_int_equal(shmfs_node_copy(fs, ino, 0, ino, -100, 1), -EINVAL);
    assert_int_equal(shmfs_node_fallocate(fs, ino, FALLOC_FL_PUNCH_HOLE, 0, 10), -EOPNOTSUPP);
    assert_int_equal(shmfs_node_fallocate(fs, ino, FALLOC_FL_COLLAPSE_RANGE, 0, BLOCK_SIZE), -EOPNOTSUPP);
    assert_int_equal(shmfs_node_fallocate(fs, ino, FALLOC_FL_INSERT_RANGE, 0, BLOCK_SIZE), -EOPNOTSUPP);
    assert_int_equal(shmfs_node_write(fs, ino, "x", 0, 10, 0, NULL), 0);
    assert_int_equal(attr_of(ino).size, 4);
    assert_int_equal(shmfs_node_read(fs, ino, back, 0, 0), 0);
}

/* P6, and no overflow: a length that is larger than any file is cut or refused. */
static void test_file_copy_of_any_length(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file"), other = make_file(SHMFS_ROOT, "other");

    memset(data, 'x', 100000);
    MUST(shmfs_node_write(fs, ino, data, 100000, 0, 0, NULL));
    assert_int_equal(shmfs_node_copy(fs, ino, 0, other, 0, (size_t)INT64_MAX), 100000);
    assert_int_equal(shmfs_node_copy(fs, ino, 99000, other, 0, SIZE_MAX), 1000);
    assert_int_equal(shmfs_node_copy(fs, ino, 200000, other, 0, (size_t)INT64_MAX), 0);
    assert_int_equal(attr_of(other).size, 100000);
}

/* What it appends is not its source: copy_file_range(2) ends where the file ended before. */
static void test_file_copy_within_a_file_ends_where_it_ended(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");

    MUST(shmfs_node_write(fs, ino, "0123456789", 10, 0, 0, NULL));
    assert_int_equal(shmfs_node_copy(fs, ino, 5, ino, 5000, 1000), 5);
    assert_int_equal(attr_of(ino).size, 5005);
}

static void test_file_copy_onto_itself_is_refused(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");

    memset(data, 'x', 100000);
    MUST(shmfs_node_write(fs, ino, data, 100000, 0, 0, NULL));
    assert_int_equal(shmfs_node_copy(fs, ino, 0, ino, 4096, (size_t)INT64_MAX), -EINVAL);
    assert_int_equal(shmfs_node_copy(fs, ino, 0, ino, 4096, SIZE_MAX), -EINVAL);
    assert_int_equal(attr_of(ino).size, 100000);
}

static void test_file_what_is_no_file_has_no_data(void **state)
{
    uint32_t dir = make_dir(SHMFS_ROOT, "dir");
    struct shmfs_attr attr = { .size = 0 }, link, fifo;

    MUST(shmfs_node_symlink(fs, "target", SHMFS_ROOT, "link", &maker, false, &link));
    MUST(shmfs_node_mknod(fs, SHMFS_ROOT, "fifo", S_IFIFO | 0600, 0, &maker, false, &fifo));
    assert_int_equal(shmfs_node_read(fs, dir, back, 1, 0), -EISDIR);
    assert_int_equal(shmfs_node_write(fs, dir, "x", 1, 0, 0, NULL), -EISDIR);
    assert_int_equal(shmfs_node_fallocate(fs, dir, 0, 0, 1), -EISDIR);
    assert_int_equal(shmfs_node_setattr(fs, dir, &attr, SHMFS_SET_SIZE, &attr), -EISDIR);
    assert_int_equal(shmfs_node_lseek(fs, dir, 0, SEEK_DATA), -EISDIR);
    assert_int_equal(shmfs_node_read(fs, link.ino, back, 1, 0), -EINVAL);
    assert_int_equal(shmfs_node_write(fs, fifo.ino, "x", 1, 0, 0, NULL), -EINVAL);
    assert_int_equal(shmfs_node_setattr(fs, fifo.ino, &attr, SHMFS_SET_SIZE, &attr), -EINVAL);
    assert_int_equal(shmfs_node_copy(fs, dir, 0, fifo.ino, 0, 1), -EISDIR);
    MUST(shmfs_node_unlink(fs, SHMFS_ROOT, "fifo"));
    assert_int_equal(shmfs_node_read(fs, fifo.ino, back, 1, 0), -ESTALE);
    assert_int_equal(shmfs_node_write(fs, fifo.ino, "x", 1, 0, 0, NULL), -ESTALE);
    assert_int_equal(shmfs_node_read(fs, 0, back, 1, 0), -ESTALE);
    assert_int_equal(shmfs_node_read(fs, UINT32_MAX, back, 1, 0), -ESTALE);
}

/* ---- what goes with the data (P7) ------------------------------------------------------------------------------------ */

static bool later(struct timespec a, struct timespec b)
{
    return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

static void test_file_a_write_is_seen_in_the_inode(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");
    struct shmfs_attr before = attr_of(ino), after;

    MUST(shmfs_node_write(fs, ino, "x", 1, 0, 0, NULL));
    after = attr_of(ino);
    assert_true(later(after.mtime, before.mtime) && later(after.ctime, before.ctime));
    assert_true(after.version > before.version);
    assert_int_equal(after.btime.tv_nsec, before.btime.tv_nsec);
    assert_int_equal(after.blocks, BLOCK_SIZE / 512);
    before = after;
    MUST(shmfs_node_setattr(fs, ino, &(struct shmfs_attr){ .size = 1 }, SHMFS_SET_SIZE, &after));
    assert_true(later(after.mtime, before.mtime)); /* as POSIX has it, though the size is what it was */
    before = after;
    MUST(shmfs_node_fallocate(fs, ino, FALLOC_FL_KEEP_SIZE, 0, 100000));
    after = attr_of(ino);
    assert_true(later(after.ctime, before.ctime));
    assert_int_equal(after.size, 1);
    assert_int_equal(after.blocks, 25 * BLOCK_SIZE / 512);
}

/* relatime: the first read after a change, and no other within a day. */
static void test_file_a_read_is_seen_as_relatime_has_it(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");
    struct shmfs_attr written, read, again;

    MUST(shmfs_node_write(fs, ino, "x", 1, 0, 0, NULL));
    written = attr_of(ino);
    MUST(shmfs_node_read(fs, ino, back, 1, 0));
    read = attr_of(ino);
    assert_true(later(read.atime, written.mtime));
    assert_int_equal(read.ctime.tv_nsec, written.ctime.tv_nsec);
    MUST(shmfs_node_read(fs, ino, back, 1, 0));
    again = attr_of(ino);
    assert_false(later(again.atime, read.atime));
    /* After a day, again. */
    struct shmfs_attr old = again;
    old.atime.tv_sec -= 24 * 60 * 60 + 1;
    old.mtime.tv_sec = old.atime.tv_sec - 1;
    old.ctime = old.mtime;
    MUST(shmfs_node_setattr(fs, ino, &old, SHMFS_SET_ATIME | SHMFS_SET_MTIME | SHMFS_SET_CTIME, &again));
    MUST(shmfs_node_read(fs, ino, back, 1, 0));
    assert_true(attr_of(ino).atime.tv_sec >= written.atime.tv_sec);
}

static void test_file_noatime_is_no_atime(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");
    struct shmfs_attr before;
    struct shmfs *other = attach(SHMFS_ATTACH_NOATIME);

    MUST(shmfs_node_write(fs, ino, "x", 1, 0, 0, NULL));
    before = attr_of(ino);
    assert_int_equal(shmfs_node_read(other, ino, back, 1, 0), 1);
    assert_int_equal(attr_of(ino).atime.tv_nsec, before.atime.tv_nsec);
    shmfs_region_detach(other);
}

static void test_file_a_write_of_a_user_clears_set_id_bits(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");
    struct shmfs_attr attr = { .mode = 06755 };

    MUST(shmfs_node_setattr(fs, ino, &attr, SHMFS_SET_MODE, &attr));
    MUST(shmfs_node_write(fs, ino, "x", 1, 0, 0, NULL));
    assert_int_equal(attr_of(ino).mode & 07777, 06755); /* the superuser's does not */
    MUST(shmfs_node_write(fs, ino, "x", 1, 0, SHMFS_WRITE_KILL_PRIV, NULL));
    assert_int_equal(attr_of(ino).mode & 07777, 0755);
    attr.mode = 06745; /* set-group-ID without group execution was mandatory locking */
    MUST(shmfs_node_setattr(fs, ino, &attr, SHMFS_SET_MODE, &attr));
    MUST(shmfs_node_write(fs, ino, "x", 1, 0, SHMFS_WRITE_KILL_PRIV, NULL));
    assert_int_equal(attr_of(ino).mode & 07777, 02745);
    MUST(shmfs_node_write(fs, ino, "x", 1, 0, SHMFS_WRITE_KILL_PRIV | SHMFS_WRITE_KILL_SGID, NULL));
    assert_int_equal(attr_of(ino).mode & 07777, 0745); /* by somebody outside the group */
    MUST(shmfs_node_setattr(fs, ino, &attr, SHMFS_SET_MODE, &attr));
    MUST(shmfs_node_setattr(fs, ino, &attr, SHMFS_SET_KILL_PRIV | SHMFS_SET_KILL_SGID, &attr));
    assert_int_equal(attr.mode & 07777, 0745);
}

static void test_file_changed_data_has_no_capabilities(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");
    struct shmfs_attr attr = { .size = 10 };

    MUST(shmfs_node_setxattr(fs, ino, "security.capability", "cap", 3, 0));
    MUST(shmfs_node_setxattr(fs, ino, "user.other", "stays", 5, 0));
    MUST(shmfs_node_write(fs, ino, "x", 1, 0, SHMFS_WRITE_KILL_PRIV, NULL));
    assert_int_equal(shmfs_node_getxattr(fs, ino, "security.capability", back, 100), -ENODATA);
    assert_int_equal(shmfs_node_getxattr(fs, ino, "user.other", back, 100), 5);
    MUST(shmfs_node_setxattr(fs, ino, "security.capability", "cap", 3, 0));
    MUST(shmfs_node_setattr(fs, ino, &attr, SHMFS_SET_SIZE | SHMFS_SET_KILL_PRIV, &attr));
    assert_int_equal(shmfs_node_getxattr(fs, ino, "security.capability", back, 100), -ENODATA);
}

static void test_file_times_can_be_set(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");
    struct shmfs_attr attr = { .atime = { -5, 999999999 }, .mtime = { INT64_MAX / 2, 1 } }, got;

    MUST(shmfs_node_setattr(fs, ino, &attr, SHMFS_SET_ATIME | SHMFS_SET_MTIME, &got));
    assert_int_equal(got.atime.tv_sec, -5);
    assert_int_equal(got.atime.tv_nsec, 999999999);
    assert_int_equal(got.mtime.tv_sec, INT64_MAX / 2);
    attr.atime.tv_nsec = 1000000000;
    assert_int_equal(shmfs_node_setattr(fs, ino, &attr, SHMFS_SET_ATIME, &got), -EINVAL);
    attr.mtime.tv_nsec = -1;
    assert_int_equal(shmfs_node_setattr(fs, ino, &attr, SHMFS_SET_MTIME, &got), -EINVAL);
    MUST(shmfs_node_setattr(fs, ino, &attr, SHMFS_SET_ATIME_NOW | SHMFS_SET_MTIME_NOW, &got));
    assert_true(got.atime.tv_sec > 1000000000 && got.mtime.tv_sec > 1000000000);
}

/* One call, all or nothing: a mode that may be set and a size that may not. */
static void test_file_a_refused_setattr_sets_nothing(void **state)
{
    uint32_t dir = make_dir(SHMFS_ROOT, "dir"), ino = make_file(SHMFS_ROOT, "file");
    struct shmfs_attr attr = { .mode = 0111, .size = UINT64_MAX }, got;

    assert_int_equal(shmfs_node_setattr(fs, ino, &attr, SHMFS_SET_MODE | SHMFS_SET_SIZE, &got), -EFBIG);
    assert_int_equal(attr_of(ino).mode & 07777, 0644);
    assert_int_equal(shmfs_node_setattr(fs, dir, &attr, SHMFS_SET_MODE | SHMFS_SET_SIZE, &got), -EISDIR);
    assert_int_equal(attr_of(dir).mode & 07777, 0755);
}

/* ---- together ------------------------------------------------------------------------------------------------------------ */

static int stop;
static uint32_t shared;

static void *read_on(void *arg)
{
    static _Thread_local uint8_t mine[SLOT_STAGE];

    away = true;
    while (!LOAD(&stop)) {
        CHECK_EQ(shmfs_node_read(fs, shared, mine, sizeof(mine), 100), sizeof(mine));
        for (size_t i = 1; i < sizeof(mine); i++)
            CHECK_EQ(mine[i], mine[0]);
    }
    return NULL;
}

/* P3, node.h: reading is atomic towards writes of up to 64 KiB. */
static void test_file_readers_see_whole_writes(void **state)
{
    pthread_t readers[2];

    shared = make_file(SHMFS_ROOT, "file");
    memset(data, 0, SLOT_STAGE);
    MUST(shmfs_node_write(fs, shared, data, SLOT_STAGE, 100, 0, NULL));
    STORE(&stop, 0);
    for (int i = 0; i < 2; i++)
        MUST(-pthread_create(&readers[i], NULL, read_on, NULL));
    for (int i = 0; i < 2000; i++) {
        memset(data, i % 251, SLOT_STAGE);
        MUST(shmfs_node_write(fs, shared, data, SLOT_STAGE, 100, 0, NULL));
    }
    STORE(&stop, 1);
    for (int i = 0; i < 2; i++)
        MUST(-pthread_join(readers[i], NULL));
}

/* Appends of several threads lie one behind the other, whole. */
static void *append(void *arg)
{
    uint8_t record[1000];

    away = true;
    for (int i = 0; i < 300; i++) {
        off_t off;

        memset(record, *(uint8_t *)arg, sizeof(record));
        MUST(shmfs_node_write(fs, shared, record, sizeof(record), 0, SHMFS_WRITE_APPEND, &off));
        CHECK_EQ(off % 1000, 0);
    }
    return NULL;
}

static void test_file_appends_do_not_overlap(void **state)
{
    uint8_t names[4] = { 'a', 'b', 'c', 'd' };
    unsigned count[4] = { 0 };
    pthread_t threads[4];

    shared = make_file(SHMFS_ROOT, "file");
    for (int i = 0; i < 4; i++)
        MUST(-pthread_create(&threads[i], NULL, append, &names[i]));
    for (int i = 0; i < 4; i++)
        MUST(-pthread_join(threads[i], NULL));
    assert_int_equal(attr_of(shared).size, 4 * 300 * 1000);
    for (int i = 0; i < 1200; i++) {
        assert_int_equal(shmfs_node_read(fs, shared, back, 1000, (off_t)i * 1000), 1000);
        for (int k = 1; k < 1000; k++)
            assert_int_equal(back[k], back[0]);
        count[back[0] - 'a']++;
    }
    for (int i = 0; i < 4; i++)
        assert_int_equal(count[i], 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        unit(test_file_does_what_an_array_of_bytes_does),
        unit(test_file_does_so_on_a_region_that_is_full),
        unit(test_file_a_refused_write_leaves_zeros_past_the_end),
        unit(test_file_growing_shows_zeros),
        unit(test_file_a_reused_block_shows_nothing_old),
        unit(test_file_a_refused_fallocate_takes_nothing),
        unit(test_file_a_fallocate_larger_than_what_is_free_takes_nothing),
        unit(test_file_reaches_to_the_largest_offset_and_no_further),
        unit(test_file_offsets_that_cannot_be),
        unit(test_file_copy_of_any_length),
        unit(test_file_copy_within_a_file_ends_where_it_ended),
        unit(test_file_copy_onto_itself_is_refused),
        unit(test_file_what_is_no_file_has_no_data),
        unit(test_file_a_write_is_seen_in_the_inode),
        unit(test_file_a_read_is_seen_as_relatime_has_it),
        unit(test_file_noatime_is_no_atime),
        unit(test_file_a_write_of_a_user_clears_set_id_bits),
        unit(test_file_changed_data_has_no_capabilities),
        unit(test_file_times_can_be_set),
        unit(test_file_a_refused_setattr_sets_nothing),
        unit(test_file_readers_see_whole_writes),
        unit(test_file_appends_do_not_overlap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
