/* SPDX-License-Identifier: MIT */
/* Extended attributes: a list in a chain of blocks, changed as a whole (FORMAT, "Attributes"). */
#include "fixture.h"

#include <sys/xattr.h>

#include "xattr.h"

enum {
    DATA_MAX = BLOCK_SIZE - (int)offsetof(struct xattr_block, data),
    LIST_MAX = XATTR_BLOCKS_MAX * DATA_MAX,
};

static uint32_t ino;
static struct inode *in;
static char big[XATTR_VALUE_MAX + 1], back[XATTR_VALUE_MAX + 1];

static int setup_file(void **state)
{
    setup(state);
    ino = make_file(SHMFS_ROOT, "file");
    in = inode_at(fs, ino);
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (char)(i * 11 + i / 251);
    return 0;
}

#define file_unit(f) cmocka_unit_test_setup_teardown(f, setup_file, teardown)

static int set(const char *name, const void *value, size_t n, int flags)
{
    return shmfs_node_setxattr(fs, ino, name, value, n, flags);
}

static ssize_t get(const char *name, size_t n)
{
    memset(back, 0x5a, sizeof(back));
    return shmfs_node_getxattr(fs, ino, name, back, n);
}

static void assert_value(const char *name, const void *value, size_t n)
{
    assert_int_equal(get(name, sizeof(back)), n);
    assert_memory_equal(back, value, n);
    if (n < sizeof(back))
        assert_int_equal(back[n], 0x5a);
}

/* ---- one attribute -------------------------------------------------------------------------------------- */

static void test_xattr_what_was_set_is_got(void **state)
{
    assert_int_equal(get("user.a", 100), -ENODATA);
    assert_int_equal(set("user.a", "value", 5, 0), 0);
    assert_value("user.a", "value", 5);
    assert_int_equal(set("user.a", "a longer value", 14, 0), 0);
    assert_value("user.a", "a longer value", 14);
    assert_int_equal(set("user.a", "", 0, 0), 0); /* there, and empty */
    assert_value("user.a", "", 0);
    assert_int_equal(set("user.a", NULL, 0, 0), 0);
    assert_value("user.a", "", 0);
    assert_int_equal(set("user.a", "\0b\0", 3, 0), 0);
    assert_value("user.a", "\0b\0", 3);
    assert_int_equal(get("user.", 100), -EINVAL);
    assert_int_equal(get("user", 100), -EOPNOTSUPP);
    assert_int_equal(get("user.ab", 100), -ENODATA);
    assert_int_equal(shmfs_node_removexattr(fs, ino, "user.a"), 0);
    assert_int_equal(get("user.a", 100), -ENODATA);
    assert_int_equal(shmfs_node_removexattr(fs, ino, "user.a"), -ENODATA);
    assert_int_equal(in->blocks, 0);
}

/* As setxattr(2), getxattr(2) and listxattr(2) have it (P7). */
static void test_xattr_flags_say_whether_it_may_be_there(void **state)
{
    assert_int_equal(set("user.a", "1", 1, XATTR_REPLACE), -ENODATA);
    assert_int_equal(get("user.a", 100), -ENODATA);
    assert_int_equal(set("user.a", "1", 1, XATTR_CREATE), 0);
    assert_int_equal(set("user.a", "2", 1, XATTR_CREATE), -EEXIST);
    assert_value("user.a", "1", 1);
    assert_int_equal(set("user.a", "3", 1, XATTR_REPLACE), 0);
    assert_value("user.a", "3", 1);
}

static void test_xattr_sizes_are_told_or_kept_to(void **state)
{
    MUST(set("user.a", "value", 5, 0));
    assert_int_equal(get("user.a", 0), 5); /* n = 0 asks */
    assert_int_equal(back[0], 0x5a);
    assert_int_equal(get("user.a", 4), -ERANGE);
    assert_int_equal(back[0], 0x5a);
    assert_int_equal(get("user.a", 5), 5);
    assert_int_equal(shmfs_node_listxattr(fs, ino, back, 0), 7);
    assert_int_equal(shmfs_node_listxattr(fs, ino, back, 6), -ERANGE);
    assert_int_equal(shmfs_node_listxattr(fs, ino, back, 7), 7);
    assert_memory_equal(back, "user.a", 7);
}

static void test_xattr_names_and_values_have_limits(void **state)
{
    char name[300];

    memset(name, 'n', sizeof(name));
    memcpy(name, "user.", 5);
    name[256] = 0;
    assert_int_equal(set(name, "v", 1, 0), -ERANGE);
    assert_int_equal(set("", "v", 1, 0), -EOPNOTSUPP);
    name[255] = 0;
    assert_int_equal(set(name, big, XATTR_VALUE_MAX, 0), 0);
    assert_value(name, big, XATTR_VALUE_MAX);
    assert_int_equal(set("user.a", big, XATTR_VALUE_MAX + 1, 0), -E2BIG);
    assert_int_equal(get("user.a", 100), -ENODATA);
    assert_int_equal(shmfs_node_listxattr(fs, ino, back, sizeof(back)), 256);
}

static void test_xattr_any_inode_may_have_some(void **state)
{
    struct shmfs_attr attr;

    for (int kind = 0; kind < 4; kind++) {
        switch (kind) {
        case 0:
            attr.ino = make_dir(SHMFS_ROOT, "dir");
            break;
        case 1:
            MUST(shmfs_node_symlink(fs, "target", SHMFS_ROOT, "link", &maker, false, &attr));
            break;
        case 2:
            MUST(shmfs_node_mknod(fs, SHMFS_ROOT, "fifo", S_IFIFO | 0600, 0, &maker, false, &attr));
            break;
        default:
            attr.ino = SHMFS_ROOT;
        }
        ino = attr.ino;
        assert_int_equal(set("trusted.x", big, 5000, 0), 0);
        assert_value("trusted.x", big, 5000);
    }
    assert_int_equal(shmfs_node_readlink(fs, ino_of(SHMFS_ROOT, "link"), back, 100), 6);
    /* And they go with it. */
    uint64_t free_blocks = space_of(fs).free_blocks;
    MUST(shmfs_node_unlink(fs, SHMFS_ROOT, "fifo"));
    assert_int_equal(space_of(fs).free_blocks, free_blocks + 2);
}

static void test_xattr_a_change_is_seen_in_the_inode(void **state)
{
    struct shmfs_attr before = attr_of(ino), after;

    MUST(set("user.a", "v", 1, 0));
    after = attr_of(ino);
    assert_true(after.version > before.version);
    assert_true(after.ctime.tv_sec > before.ctime.tv_sec || after.ctime.tv_nsec > before.ctime.tv_nsec);
    assert_int_equal(after.mtime.tv_nsec, before.mtime.tv_nsec);
    assert_int_equal(after.blocks, BLOCK_SIZE / 512);
}

/* ---- the list as a whole --------------------------------------------------------------------------------- */

/* 256 KiB a file for all of them: to the last byte, and no further. */
static void test_xattr_the_list_has_a_limit(void **state)
{
    size_t head = sizeof(struct xattr_entry) + 6, left = LIST_MAX;
    char name[7] = "user.a";

    for (; left > head + XATTR_VALUE_MAX; name[5]++, left -= head + XATTR_VALUE_MAX)
        assert_int_equal(set(name, big, XATTR_VALUE_MAX, 0), 0);
    assert_int_equal(set(name, big, left - head + 1, 0), -ENOSPC);
    assert_int_equal(get(name, 0), -ENODATA);
    assert_int_equal(set(name, big, left - head, 0), 0);
    assert_int_equal(in->xattr_blocks, XATTR_BLOCKS_MAX);
    assert_int_equal(set("user.one more", "", 0, 0), -ENOSPC);
    for (name[5] = 'a'; name[5] < 'd'; name[5]++)
        assert_value(name, big, XATTR_VALUE_MAX);
    assert_clean();
    in = inode_at(fs, ino);
    for (name[5] = 'a'; in->xattr_blocks > 0; name[5]++)
        assert_int_equal(shmfs_node_removexattr(fs, ino, name), 0);
    assert_int_equal(in->blocks, 0);
}

struct pair {
    bool there;
    uint32_t len, from; /* its value is big[from …] */
};

static void check_list(const struct pair *model, unsigned n)
{
    unsigned listed = 0, want = 0;
    ssize_t len = MUST(shmfs_node_listxattr(fs, ino, back, sizeof(back)));

    for (ssize_t at = 0; at < len; at += (ssize_t)strlen(back + at) + 1, listed++) {
        unsigned k = 0;

        assert_int_equal(sscanf(back + at, "user.%u", &k), 1);
        assert_true(k < n && model[k].there);
    }
    for (unsigned k = 0; k < n; k++)
        want += model[k].there;
    assert_int_equal(listed, want);
}

static void test_xattr_does_what_a_table_does(void **state)
{
    enum { NAMES = 40 };
    static struct pair model[NAMES];
    uint64_t free_before = space_of(fs).free_blocks;
    char name[64];

    random_start(11);
    memset(model, 0, sizeof(model));
    for (int i = 0; i < 4000; i++) {
        unsigned k = (unsigned)random_below(NAMES);
        struct pair *p = &model[k];

        snprintf(name, sizeof(name), "user.%u", k);
        if (random_below(3) == 0) {
            assert_int_equal(shmfs_node_removexattr(fs, ino, name), p->there ? 0 : -ENODATA);
            p->there = false;
        } else {
            uint32_t len = (uint32_t)random_below(random_below(20) == 0 ? 8000 : 200);
            uint32_t from = (uint32_t)random_below(50000);
            int flags = (int)random_below(3), want = 0;

            if (flags == XATTR_CREATE && p->there)
                want = -EEXIST;
            if (flags == XATTR_REPLACE && !p->there)
                want = -ENODATA;
            assert_int_equal(set(name, big + from, len, flags), want);
            if (want == 0)
                *p = (struct pair){ true, len, from };
        }
        k = (unsigned)random_below(NAMES);
        snprintf(name, sizeof(name), "user.%u", k);
        if (model[k].there)
            assert_value(name, big + model[k].from, model[k].len);
        else
            assert_int_equal(get(name, 0), -ENODATA);
        if (i % 50 == 0)
            check_list(model, NAMES);
        assert_int_equal(space_of(fs).free_blocks, free_before - in->blocks);
    }
    assert_clean();
}

/* ---- all or nothing ---------------------------------------------------------------------------------------- */

/* P2: whatever was changed within a transaction, an abort brings the old list back. */
static void test_xattr_abort_brings_the_old_list_back(void **state)
{
    uint64_t free_before;
    struct inode *locked;
    struct txn t;

    MUST(set("user.a", big, 6000, 0));
    MUST(set("user.b", "b", 1, 0));
    free_before = space_of(fs).free_blocks;
    MUST(txn_begin(fs, &t));
    MUST(inode_lock(&t, ino, &locked));
    inode_edit(&t, ino);
    MUST(xattr_change(&t, ino, locked, "user.a", NULL, 0, 0));
    txn_abort(&t);
    assert_value("user.a", big, 6000);
    assert_value("user.b", "b", 1);
    assert_int_equal(space_of(fs).free_blocks, free_before);
}

/* Within the transaction that changed it, the new list is seen. */
static void test_xattr_get_within_a_transaction_sees_its_changes(void **state)
{
    struct inode *locked;
    struct txn t;
    char c = 0;

    MUST(txn_begin(fs, &t));
    MUST(inode_lock(&t, ino, &locked));
    inode_edit(&t, ino);
    MUST(xattr_change(&t, ino, locked, "user.a", "x", 1, 0));
    assert_int_equal(xattr_get(fs, &t, ino, "user.a", &c, 1), 1);
    assert_int_equal(c, 'x');
    inode_settle(&t);
    txn_commit(&t);
    assert_value("user.a", "x", 1);
}

/* On a full region: -ENOSPC, and what was there is there. */
static void test_xattr_without_room_nothing_changes(void **state)
{
    uint32_t other = make_file(SHMFS_ROOT, "other");
    int r;

    MUST(set("user.a", big, 6000, 0));
    MUST(set("user.b", "b", 1, 0));
    while (shmfs_node_write(fs, other, big, sizeof(big) - 1, 0, SHMFS_WRITE_APPEND, NULL) > 0)
        continue;
    while (shmfs_node_write(fs, other, big, BLOCK_SIZE, 0, SHMFS_WRITE_APPEND, NULL) > 0)
        continue;
    assert_int_equal(space_of(fs).free_blocks, 0);
    assert_int_equal(set("user.c", big, 6000, 0), -ENOSPC);
    assert_int_equal(set("user.a", big, 12000, 0), -ENOSPC);
    assert_value("user.a", big, 6000);
    assert_value("user.b", "b", 1);
    r = shmfs_node_removexattr(fs, ino, "user.b"); /* the rest is written anew */
    assert_true(r == -ENOSPC || r == 0);
    assert_int_equal(get("user.b", 0), r == 0 ? -ENODATA : 1);
    assert_value("user.a", big, 6000);
}

/* P7: removing needs no room in any other filesystem. */
static void test_xattr_removing_needs_no_room(void **state)
{
    uint32_t other = make_file(SHMFS_ROOT, "other");

    MUST(set("user.a", big, 6000, 0));
    MUST(set("user.b", "b", 1, 0));
    while (shmfs_node_write(fs, other, big, BLOCK_SIZE, 0, SHMFS_WRITE_APPEND, NULL) > 0)
        continue;
    assert_int_equal(shmfs_node_removexattr(fs, ino, "user.b"), 0);
    assert_int_equal(shmfs_node_removexattr(fs, ino, "user.a"), 0);
}

/* A reader gets one value or the other, whole, while they change places. */
static int stop;

static void *read_on(void *arg)
{
    char value[9000];

    away = true;
    while (!LOAD(&stop)) {
        ssize_t n = shmfs_node_getxattr(fs, ino, "user.a", value, sizeof(value));

        CHECK(n == 1000 || n == 9000);
        for (ssize_t i = 0; i < n; i++)
            CHECK_EQ(value[i], n == 1000 ? 's' : 'l');
    }
    return NULL;
}

static void test_xattr_readers_see_whole_lists(void **state)
{
    char small[1000], large[9000];
    pthread_t reader;

    memset(small, 's', sizeof(small));
    memset(large, 'l', sizeof(large));
    MUST(set("user.a", small, sizeof(small), 0));
    STORE(&stop, 0);
    MUST(-pthread_create(&reader, NULL, read_on, NULL));
    for (int i = 0; i < 3000; i++) {
        MUST(set("user.a", large, sizeof(large), 0));
        MUST(set("user.a", small, sizeof(small), 0));
    }
    STORE(&stop, 1);
    MUST(-pthread_join(reader, NULL));
}

/* ---- hostile bytes (P6) ------------------------------------------------------------------------------------- */

static void expect_unclean(const char *what)
{
    if (get("user.absent", 0) != -EUCLEAN)
        fail_msg("%s: looked up", what);
    if (shmfs_node_listxattr(fs, ino, back, sizeof(back)) != -EUCLEAN)
        fail_msg("%s: listed", what);
    if (set("user.new", "v", 1, 0) != -EUCLEAN)
        fail_msg("%s: set", what);
    if (shmfs_node_removexattr(fs, ino, "user.b") != -EUCLEAN)
        fail_msg("%s: removed", what);
}

#define WITH(place, value, what) \
    do { \
        __typeof__(place) was = (place); \
        (place) = (__typeof__(place))(value); \
        expect_unclean(what); \
        (place) = was; \
    } while (0)

static void test_xattr_hostile_chains_are_an_error(void **state)
{
    MUST(set("user.a", big, 6000, 0));
    MUST(set("user.b", "b", 1, 0));
    assert_int_equal(in->xattr_blocks, 2);
    struct xattr_block *first = region_block(fs, in->xattr), *last = region_block(fs, first->next);
    struct xattr_entry *e = (void *)first->data;
    uint32_t end = (uint32_t)region_nblocks(fs);

    WITH(in->xattr.n, end, "behind the end");
    WITH(in->xattr.n, UINT32_MAX, "behind the end");
    WITH(in->xattr.n, 1, "no such block");
    WITH(in->xattr_blocks, 0, "no blocks");
    WITH(in->xattr_blocks, 1, "fewer blocks");
    WITH(in->xattr_blocks, 3, "more blocks");
    WITH(in->xattr_blocks, XATTR_BLOCKS_MAX + 1, "too many blocks");
    WITH(in->xattr_blocks, UINT32_MAX, "too many blocks");
    WITH(first->magic, 0, "bad magic");
    WITH(last->magic, NODE_MAGIC, "a node");
    WITH(first->owner.n, ino + 1, "somebody else's");
    WITH(first->len, DATA_MAX + 1, "too long");
    WITH(last->len, UINT32_MAX, "too long");
    WITH(first->next.n, in->xattr.n, "a circle");
    WITH(first->next.n, 0, "ends too early");
    WITH(last->next.n, in->xattr.n, "a circle");
    WITH(e->name_len, 0, "no name");
    WITH(e->value_len, XATTR_VALUE_MAX + 1, "too large a value");
    WITH(e->value_len, UINT32_MAX, "too large a value");
    WITH(e->value_len, 6500, "a value behind the end");
    WITH(last->len, 3, "ends within an entry");
    assert_value("user.a", big, 6000);
    assert_value("user.b", "b", 1);
}

static void test_xattr_random_bytes_are_no_crash(void **state)
{
    random_start(12);
    MUST(set("user.a", big, 6000, 0));
    MUST(set("user.b", "b", 1, 0));
    struct xattr_block *first = region_block(fs, in->xattr), *last = region_block(fs, first->next);
    struct xattr_block firsts = *first, lasts = *last;
    struct inode inode = *in;

    for (int round = 0; round < 3000; round++) {
        for (uint64_t n = 1 + random_below(8); n > 0; n--) {
            uint8_t *p = random_below(2) != 0 ? (uint8_t *)first : (uint8_t *)last;
            p[random_below(3) != 0 ? random_below(40) : random_below(BLOCK_SIZE)] = (uint8_t)random_next();
            if (random_below(4) == 0)
                ((uint8_t *)&in->xattr_blocks)[random_below(4)] = (uint8_t)random_next();
        }
        ssize_t r = get("user.b", sizeof(back));
        assert_true(r >= 0 || r == -EUCLEAN || r == -ENODATA || r == -ERANGE);
        r = shmfs_node_listxattr(fs, ino, back, sizeof(back));
        assert_true(r >= 0 || r == -EUCLEAN || r == -ERANGE);
        *first = firsts;
        *last = lasts;
        *in = inode;
    }
    assert_value("user.a", big, 6000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        file_unit(test_xattr_what_was_set_is_got),
        file_unit(test_xattr_flags_say_whether_it_may_be_there),
        file_unit(test_xattr_sizes_are_told_or_kept_to),
        file_unit(test_xattr_names_and_values_have_limits),
        file_unit(test_xattr_any_inode_may_have_some),
        file_unit(test_xattr_a_change_is_seen_in_the_inode),
        file_unit(test_xattr_the_list_has_a_limit),
        file_unit(test_xattr_does_what_a_table_does),
        file_unit(test_xattr_abort_brings_the_old_list_back),
        file_unit(test_xattr_get_within_a_transaction_sees_its_changes),
        file_unit(test_xattr_without_room_nothing_changes),
        file_unit(test_xattr_removing_needs_no_room),
        file_unit(test_xattr_readers_see_whole_lists),
        file_unit(test_xattr_hostile_chains_are_an_error),
        file_unit(test_xattr_random_bytes_are_no_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
