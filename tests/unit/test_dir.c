/* SPDX-License-Identifier: MIT */
/* Directories: names in buckets found by hash (FORMAT, "Directories"). */
#include "fixture.h"

#include <dirent.h>

#include "dir.h"

static uint32_t dir, file; /* a directory, and a file that all names lead to */

static void renew_dir(void)
{
    renew(64 * MIB, 0);
    dir = make_dir(SHMFS_ROOT, "dir");
    file = make_file(SHMFS_ROOT, "file");
}

static int setup_dir(void **state)
{
    setup(state);
    renew_dir();
    return 0;
}

#define dir_unit(f) cmocka_unit_test_setup_teardown(f, setup_dir, teardown)

/* A region in which names collide: their hashes have so many bits only. */
static void collide(unsigned bits)
{
    hash_mask = bits == 0 ? 0 : UINT64_MAX << (64 - bits);
    renew_dir();
}

/* ---- names, one by one --------------------------------------------------------------------------------- */

/* What one insertion or removal cost. */
struct cost {
    uint32_t log; /* bytes of undo log */
    uint32_t locks;
};

static int insert(const char *s, struct cost *ret_cost)
{
    struct dir_name name;
    struct dir_entry e;
    struct inode *in;
    struct txn t;
    int r;

    MUST(dir_name_make(fs, s, &name));
    MUST(txn_begin(fs, &t));
    MUST(inode_lock(&t, dir, &in));
    r = dir_find(fs, dir, in, &name, &e);
    CHECK(r != 0);
    if (r == -ENOENT) {
        inode_edit(&t, dir);
        e.ino = file;
        e.generation = inode_at(fs, file)->generation;
        e.type = DT_REG;
        r = dir_insert(&t, dir, in, &name, &e);
    }
    *ret_cost = (struct cost){ t.tail, t.nheld };
    if (r == 0)
        txn_commit(&t);
    else
        txn_abort(&t);
    return r;
}

static int remove_name(const char *s, struct cost *ret_cost)
{
    struct dir_name name;
    struct dir_entry e;
    struct inode *in;
    struct txn t;
    int r;

    MUST(dir_name_make(fs, s, &name));
    MUST(txn_begin(fs, &t));
    MUST(inode_lock(&t, dir, &in));
    r = dir_find(fs, dir, in, &name, &e);
    if (r == 0) {
        inode_edit(&t, dir);
        r = dir_remove(&t, dir, in, &e);
    }
    *ret_cost = (struct cost){ t.tail, t.nheld };
    if (r == 0)
        txn_commit(&t);
    else
        txn_abort(&t);
    return r;
}

/* The link count follows at the end, for the check: these are names of one file. */
static void count_links(void)
{
    struct inode *in;
    struct txn t;

    MUST(txn_begin(fs, &t));
    MUST(inode_lock(&t, file, &in));
    inode_edit(&t, file)->nlink = 1 + (uint32_t)inode_at(fs, dir)->size;
    txn_commit(&t);
}

static void add(const char *s)
{
    struct cost cost;

    MUST(insert(s, &cost));
}

static void drop(const char *s)
{
    struct cost cost;

    MUST(remove_name(s, &cost));
}

static bool there(const char *s)
{
    struct dir_entry e = { .ino = 0 };
    struct dir_name name;
    int r;

    MUST(dir_name_make(fs, s, &name));
    r = dir_lookup(fs, dir, &name, &e);
    CHECK(r == 0 || r == -ENOENT);
    CHECK(r != 0 || e.ino == file);
    return r == 0;
}

static const char *nth(unsigned i, char *buf)
{
    sprintf(buf, "n%u", i);
    return buf;
}

static uint64_t buckets(void)
{
    struct map_at at = { .next = 0 };
    uint64_t n = 0;

    for (uint64_t key = 0; key != UINT64_MAX; key = at.next, n++) {
        MUST(map_find(fs, dir, inode_at(fs, dir), key, &at));
        if (!at.found)
            return 0;
    }
    return n;
}

static void test_dir_names_that_cannot_be(void **state)
{
    struct dir_name untouched = { .len = 4711 }, name = untouched;
    char s[300];

    memset(s, 'n', sizeof(s));
    s[256] = 0;
    assert_int_equal(dir_name_make(fs, s, &name), -ENAMETOOLONG);
    assert_int_equal(dir_name_make(fs, "", &name), -EINVAL);
    assert_int_equal(dir_name_make(fs, ".", &name), -EINVAL);
    assert_int_equal(dir_name_make(fs, "..", &name), -EINVAL);
    assert_int_equal(dir_name_make(fs, "a/b", &name), -EINVAL);
    assert_int_equal(dir_name_make(fs, "/", &name), -EINVAL);
    assert_int_equal(name.len, untouched.len);
    s[255] = 0;
    assert_int_equal(dir_name_make(fs, s, &name), 0);
    assert_int_equal(name.len, 255);
    assert_int_equal(dir_name_make(fs, "...", &name), 0);
    assert_int_equal(dir_name_make(fs, "\n\xff\x01 *", &name), 0); /* any bytes but these */
}

static void test_dir_finds_what_was_inserted_and_nothing_else(void **state)
{
    struct dir_name name;
    struct dir_entry e;

    assert_false(there("a"));
    add("a");
    assert_true(there("a"));
    assert_false(there("b"));
    assert_false(there("A"));
    assert_false(there("aa"));
    MUST(dir_name_make(fs, "a", &name));
    MUST(dir_lookup(fs, dir, &name, &e));
    assert_int_equal(e.type, DT_REG);
    assert_int_equal(e.generation, inode_at(fs, file)->generation);
    assert_int_equal(inode_at(fs, dir)->size, 1);
    drop("a");
    assert_false(there("a"));
    assert_int_equal(inode_at(fs, dir)->size, 0);
    assert_int_equal(dir_lookup(fs, file, &name, &e), -ENOTDIR);
    assert_int_equal(dir_lookup(fs, 5000, &name, &e), -ESTALE);
}

static void test_dir_replace_changes_what_a_name_leads_to(void **state)
{
    uint32_t other = make_dir(SHMFS_ROOT, "other");
    struct dir_name name;
    struct dir_entry e;
    struct inode *in;
    struct txn t;

    add("x");
    add("name");
    add("y");
    MUST(dir_name_make(fs, "name", &name));
    for (int commit = 0; commit < 2; commit++) {
        MUST(dir_lookup(fs, dir, &name, &e));
        MUST(txn_begin(fs, &t));
        MUST(inode_lock(&t, dir, &in));
        inode_edit(&t, dir);
        e.ino = other;
        e.generation = 77;
        e.type = DT_DIR;
        assert_int_equal(dir_replace(&t, dir, in, &e), 0);
        if (commit != 0)
            txn_commit(&t);
        else
            txn_abort(&t);
        memset(&e, 0, sizeof(e));
        MUST(dir_lookup(fs, dir, &name, &e));
        assert_int_equal(e.ino, commit != 0 ? other : file);
        assert_int_equal(e.generation, commit != 0 ? 77 : inode_at(fs, file)->generation);
        assert_int_equal(e.type, commit != 0 ? DT_DIR : DT_REG);
    }
    assert_true(there("x") && there("y"));
    drop("name");
    count_links();
}

/* ---- from ten names to a hundred thousand -------------------------------------------------------------------- */

/* Listed exactly once each; `seen` has a mark for each name nth() makes. */
static unsigned list_all(bool *seen, unsigned n, int at_once)
{
    struct shmfs_dirent entries[64];
    uint64_t cookie = 0;
    unsigned found = 0;
    int got;

    memset(seen, 0, n);
    while ((got = (int)MUST(shmfs_node_readdir(fs, dir, cookie, entries, at_once))) > 0) {
        for (int i = 0; i < got; i++) {
            const struct shmfs_dirent *e = &entries[i];
            unsigned k = 0;

            CHECK(e->next > cookie); /* cookies ascend, so they are unique */
            cookie = e->next;
            if (strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0)
                continue;
            CHECK_EQ(sscanf(e->name, "n%u", &k), 1);
            CHECK_EQ(e->ino, file);
            CHECK_EQ(e->len, strlen(e->name));
            CHECK(k < n && !seen[k]);
            seen[k] = true;
            found++;
        }
    }
    return found;
}

struct costs {
    uint32_t most; /* bytes of log of the dearest operation */
    uint64_t sum;
    uint32_t locks;
};

static void add_cost(struct costs *costs, const struct cost *cost)
{
    costs->most = MAX(costs->most, cost->log);
    costs->sum += cost->log;
    costs->locks = MAX(costs->locks, cost->locks);
}

/*
 * An operation costs the depth of the tree and one bucket, however many names there are: measured in
 * bytes of undo log, in locks and in levels, never in time.
 */
static void test_dir_costs_do_not_grow_with_the_number_of_names(void **state)
{
    static const unsigned sizes[] = { 10, 100, 1000, 10000, 100000 };
    static bool seen[100000];
    struct costs first = { 0 };
    struct cost cost;
    char s[32];

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct costs in = { 0 }, out = { 0 };
        unsigned n = sizes[i];

        for (unsigned k = 0; k < n; k++) {
            assert_int_equal(insert(nth(k, s), &cost), 0);
            add_cost(&in, &cost);
        }
        assert_int_equal(inode_at(fs, dir)->size, n);
        for (unsigned k = 0; k < n; k++)
            assert_true(there(nth(k, s)));
        assert_false(there(nth(n, s)));
        assert_int_equal(list_all(seen, n, 64), n);
        if (n <= 1000) {
            assert_int_equal(list_all(seen, n, 1), n);
            assert_int_equal(list_all(seen, n, 3), n);
        }
        assert_true(inode_at(fs, dir)->map_level <= (n <= 100 ? 0 : n <= 10000 ? 1 : 2));
        assert_true(n < 1000 || buckets() * 4064 < (uint64_t)n * (16 + 4 + 6) * 2); /* half full, or better */
        assert_true(n < 1000 || buckets() > 1);

        for (unsigned k = 0; k < n; k++) {
            unsigned which = (unsigned)(((uint64_t)k * 7919) % n); /* n has no factor 7919: each once */
            assert_int_equal(remove_name(nth(which, s), &cost), 0);
            add_cost(&out, &cost);
        }
        assert_int_equal(inode_at(fs, dir)->size, 0);
        assert_int_equal(inode_at(fs, dir)->blocks, 0);
        assert_int_equal(inode_at(fs, dir)->map_level, 0);

        if (n == 1000)
            first = in;
        if (n > 1000) {
            /* One bucket's slots and the nodes above; on average what a thousand names cost. */
            assert_true(in.most <= 5 * BLOCK_SIZE && out.most <= 5 * BLOCK_SIZE);
            assert_true(in.sum / n <= first.sum / 1000 * 2);
            assert_true(in.locks <= 4 && out.locks <= 4);
        }
    }
}

/* ---- splitting and compacting ------------------------------------------------------------------------------------ */

static const char *of_length(unsigned len, unsigned i, char *buf)
{
    memset(buf, 'x', len);
    buf[len] = 0;
    for (unsigned k = 0; k < len && k < 4; k++, i /= 26)
        buf[k] = (char)('a' + i % 26);
    return buf;
}

/* Every length there is, each with its neighbours: names are packed without alignment. */
static void test_dir_takes_names_of_every_length(void **state)
{
    char s[300];

    for (unsigned round = 0; round < 4; round++)
        for (unsigned len = 255; len > 0; len--)
            add(of_length(len, round, s));
    for (unsigned round = 0; round < 4; round++)
        for (unsigned len = 255; len > 0; len--)
            assert_true(there(of_length(len, round, s)));
    assert_int_equal(inode_at(fs, dir)->size, 1020);
    count_links();
}

/* Few long names fill a bucket: a split leaves one half or the other room for one more. */
static void test_dir_splits_buckets_of_long_and_short_names(void **state)
{
    unsigned lens[2000];
    char s[300];

    random_start(9);
    for (unsigned i = 0; i < ARRAY_SIZE(lens); i++) {
        lens[i] = random_below(3) != 0 ? 255 : 4 + (unsigned)random_below(4);
        add(of_length(lens[i], i, s));
    }
    assert_true(buckets() > 100);
    for (unsigned i = 0; i < ARRAY_SIZE(lens); i++)
        assert_true(there(of_length(lens[i], i, s)));
    count_links();
    assert_clean();
}

/* Room that removed names left is used again before a bucket is split. */
static void test_dir_compacts_before_it_splits(void **state)
{
    char s[300];
    unsigned n = 0;

    while (buckets() < 2) /* as many as one bucket takes, and one more */
        add(of_length(100, n++, s));
    for (unsigned i = 0; i < n; i++)
        drop(of_length(100, i, s));
    assert_int_equal(buckets(), 0);
    for (unsigned i = 0; i < n - 1; i++)
        add(of_length(100, i, s));
    assert_int_equal(buckets(), 1);
    /* One goes, another comes: for ever in the same bucket, with a hole each time. */
    for (unsigned i = 0; i < 5000; i++) {
        drop(of_length(100, i, s));
        add(of_length(100, i + n - 1, s));
        assert_int_equal(buckets(), 1);
    }
    for (unsigned i = 5000; i < 5000 + n - 1; i++)
        assert_true(there(of_length(100, i, s)));
    count_links();
}

static void test_dir_frees_a_bucket_that_becomes_empty(void **state)
{
    uint64_t most = 0;
    char s[32];

    for (unsigned i = 0; i < 3000; i++)
        add(nth(i, s));
    most = buckets();
    for (unsigned i = 0; i < 3000; i++) {
        drop(nth(i, s));
        assert_true(buckets() <= most);
    }
    assert_true(most > 10);
    assert_int_equal(buckets(), 0);
    assert_int_equal(inode_at(fs, dir)->blocks, 0);
}

/* ---- equal hashes ------------------------------------------------------------------------------------------------- */

/* A colliding hash costs a comparison, never a wrong answer. */
static void test_dir_finds_all_names_of_few_hashes(void **state)
{
    static const unsigned bits[] = { 8, 3, 1, 0 };
    static bool seen[2000];
    char s[32];

    for (size_t i = 0; i < ARRAY_SIZE(bits); i++) {
        unsigned n = 2000;

        collide(bits[i]);
        for (unsigned k = 0; k < n; k++)
            add(nth(k, s));
        for (unsigned k = 0; k < n; k++)
            assert_true(there(nth(k, s)));
        assert_false(there("absent"));
        assert_int_equal(list_all(seen, n, 64), n);
        assert_int_equal(list_all(seen, n, 1), n);
        /* Holes among the ties are filled, and the others stay what they are. */
        for (unsigned k = 0; k < n; k += 3)
            drop(nth(k, s));
        for (unsigned k = 0; k < n; k++)
            assert_int_equal(there(nth(k, s)), k % 3 != 0);
        for (unsigned k = 0; k < n; k += 3)
            add(nth(k, s));
        assert_int_equal(list_all(seen, n, 64), n);
        count_links();
        assert_clean();
        for (unsigned k = 0; k < n; k++)
            drop(nth(k, s));
        assert_int_equal(buckets(), 0);
        count_links();
        assert_clean();
    }
}

/* The ties are used up after 65,536 names of one hash. */
static void test_dir_more_names_of_one_hash_are_refused(void **state)
{
    struct cost cost;
    char s[32];

    if (getenv("SHMFS_TEST_LONG") == NULL)
        skip();
    collide(0);
    for (unsigned i = 0; i < 1u << KEY_TIE_BITS; i++)
        assert_int_equal(insert(nth(i, s), &cost), 0);
    assert_int_equal(insert("one more", &cost), -ENOSPC);
    assert_false(there("one more"));
    assert_true(there(nth(65535, s)));
    drop(nth(4711, s));
    assert_int_equal(insert("one more", &cost), 0);
    count_links();
}

/* ---- listing while names come and go ------------------------------------------------------------------------------ */

static int compare_cookies(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void list_while_half_is_removed(unsigned n, int at_once)
{
    struct shmfs_dirent entries[64];
    unsigned *times = calloc(n * 2, sizeof(*times)), removed = 0, added = 0, k;
    uint64_t *cookies = calloc(n * 2 + 2, sizeof(*cookies)), cookie = 0;
    size_t ncookies = 0;
    char s[32];
    int got;

    for (k = 0; k < n; k++)
        add(nth(k, s));
    while ((got = (int)MUST(shmfs_node_readdir(fs, dir, cookie, entries, at_once))) > 0) {
        for (int i = 0; i < got; i++) {
            cookies[ncookies++] = entries[i].next;
            if (sscanf(entries[i].name, "n%u", &k) == 1)
                times[k]++;
        }
        cookie = entries[got - 1].next;
        /* Meanwhile the odd ones go, and some new ones come. */
        for (int i = 0; i < got && removed < n / 2; i++, removed++)
            drop(nth(removed * 2 + 1, s));
        for (int i = 0; i < got && added < n / 4; i++, added++)
            add(nth(n + added, s));
    }
    for (k = 0; k < n; k += 2)
        assert_int_equal(times[k], 1); /* was there all the time: exactly once */
    for (k = 1; k < n; k += 2)
        assert_true(times[k] <= 1);
    for (k = n; k < n + added; k++)
        assert_true(times[k] <= 1);
    qsort(cookies, ncookies, sizeof(cookies[0]), compare_cookies);
    for (size_t i = 1; i < ncookies; i++)
        assert_int_not_equal(cookies[i], cookies[i - 1]);
    for (k = 0; k < n; k += 2)
        drop(nth(k, s));
    for (k = n; k < n + added; k++)
        drop(nth(k, s));
    for (; removed < n / 2; removed++)
        drop(nth(removed * 2 + 1, s));
    free(times);
    free(cookies);
    assert_int_equal(inode_at(fs, dir)->size, 0);
}

/* node.h: a cookie stays valid whatever is added or removed. */
static void test_dir_cookies_bear_removals_and_insertions(void **state)
{
    list_while_half_is_removed(10, 1);
    list_while_half_is_removed(3000, 1);
    list_while_half_is_removed(3000, 7);
    list_while_half_is_removed(3000, 64);
    assert_clean();
    collide(4);
    list_while_half_is_removed(1500, 7);
    assert_clean();
    collide(0);
    list_while_half_is_removed(600, 1);
}

/* An entry never changes its key: its cookie is the same after any number of splits. */
static void test_dir_an_entry_keeps_its_cookie(void **state)
{
    static uint64_t first[300];
    struct shmfs_dirent entries[64];
    char s[32];

    for (unsigned i = 0; i < 300; i++)
        add(nth(i, s));
    for (int round = 0; round < 2; round++) {
        uint64_t cookie = 0;
        int got;

        while ((got = (int)MUST(shmfs_node_readdir(fs, dir, cookie, entries, 64))) > 0) {
            for (int i = 0; i < got; i++) {
                unsigned k;

                if (sscanf(entries[i].name, "n%u", &k) != 1 || k >= 300)
                    continue;
                if (round == 0)
                    first[k] = entries[i].next;
                assert_int_equal(entries[i].next, first[k]);
            }
            cookie = entries[got - 1].next;
        }
        for (unsigned i = 300; round == 0 && i < 5000; i++)
            add(nth(i, s));
    }
    count_links();
}

static void test_dir_list_begins_with_dot_and_dotdot(void **state)
{
    uint32_t sub = make_dir(dir, "sub");
    struct shmfs_dirent e[4];

    assert_int_equal(shmfs_node_readdir(fs, sub, 0, e, 4), 2); /* "." and ".." are not stored */
    assert_string_equal(e[0].name, ".");
    assert_int_equal(e[0].ino, sub);
    assert_int_equal(e[0].type, DT_DIR);
    assert_string_equal(e[1].name, "..");
    assert_int_equal(e[1].ino, dir);
    assert_int_equal(shmfs_node_readdir(fs, sub, e[0].next, e, 1), 1);
    assert_string_equal(e[0].name, "..");
    assert_int_equal(shmfs_node_readdir(fs, sub, e[0].next, e, 1), 0);
    assert_int_equal(shmfs_node_readdir(fs, SHMFS_ROOT, 0, e, 2), 2);
    assert_int_equal(e[1].ino, SHMFS_ROOT); /* the root is its own parent */
    assert_int_equal(shmfs_node_readdir(fs, dir, UINT64_MAX, e, 4), 0);
    assert_int_equal(shmfs_node_readdir(fs, dir, 0, e, 0), 0);
    assert_int_equal(shmfs_node_readdir(fs, file, 0, e, 4), -ENOTDIR);
}

/* ---- undone ---------------------------------------------------------------------------------------------------------- */

/*
 * P2: a death, or a busy group, after an insertion and before its commit. Whatever the insertion did
 * (compacted, split, split the map's nodes), all names are where they were.
 */
static void abort_insertions(unsigned n, unsigned len)
{
    char s[300];

    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = 0; k < 3; k++) {
            struct dir_name name;
            struct dir_entry e;
            struct inode *in;
            struct txn t;

            MUST(dir_name_make(fs, of_length(len, 100000 + i * 3 + k, s), &name));
            MUST(txn_begin(fs, &t));
            MUST(inode_lock(&t, dir, &in));
            assert_int_equal(dir_find(fs, dir, in, &name, &e), -ENOENT);
            inode_edit(&t, dir);
            e.ino = file;
            e.generation = inode_at(fs, file)->generation;
            e.type = DT_REG;
            MUST(dir_insert(&t, dir, in, &name, &e));
            txn_abort(&t);
            assert_false(there(s));
        }
        add(of_length(len, i, s));
    }
    assert_int_equal(inode_at(fs, dir)->size, n);
    for (unsigned i = 0; i < n; i++)
        if (!there(of_length(len, i, s)))
            fail_msg("name %u of length %u is gone", i, len);
    count_links();
    assert_clean();
}

static void test_dir_abort_undoes_an_insertion(void **state)
{
    abort_insertions(3000, 5);
}

static void test_dir_abort_undoes_an_insertion_of_long_names(void **state)
{
    abort_insertions(400, 255);
}

static void test_dir_abort_undoes_a_removal(void **state)
{
    char s[32];

    for (unsigned i = 0; i < 1000; i++)
        add(nth(i, s));
    for (unsigned i = 0; i < 1000; i++) {
        struct dir_name name;
        struct dir_entry e;
        struct inode *in;
        struct txn t;

        MUST(dir_name_make(fs, nth(i, s), &name));
        MUST(txn_begin(fs, &t));
        MUST(inode_lock(&t, dir, &in));
        MUST(dir_find(fs, dir, in, &name, &e));
        inode_edit(&t, dir);
        MUST(dir_remove(&t, dir, in, &e));
        txn_abort(&t);
        assert_true(there(s));
        if (i % 2 == 0)
            drop(s);
    }
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(there(nth(i, s)), i % 2 != 0);
    count_links();
}

/* ---- hostile bytes (P6) ------------------------------------------------------------------------------------------- */

static struct bucket *some_bucket(void)
{
    struct map_at at;

    MUST(map_find(fs, dir, inode_at(fs, dir), 0, &at));
    return region_block(fs, at.ext.blk);
}

static void expect_unclean(const char *what)
{
    struct dir_name name;
    struct dir_entry e;
    struct cost cost;
    int r;

    MUST(dir_name_make(fs, "n3", &name));
    r = dir_lookup(fs, dir, &name, &e);
    if (r != -EUCLEAN)
        fail_msg("%s: looked up (%d)", what, r);
    r = remove_name("n3", &cost);
    if (r != -EUCLEAN)
        fail_msg("%s: removed (%d)", what, r);
    r = insert("new name", &cost);
    if (r != -EUCLEAN)
        fail_msg("%s: inserted (%d)", what, r);
}

#define WITH(place, value, what) \
    do { \
        __typeof__(place) was = (place); \
        (place) = (__typeof__(place))(value); \
        expect_unclean(what); \
        (place) = was; \
    } while (0)

static void test_dir_hostile_buckets_are_an_error(void **state)
{
    struct bucket *b;
    char s[32];

    for (unsigned i = 0; i < 5; i++)
        add(nth(i, s));
    b = some_bucket();
    WITH(b->magic, 0, "bad magic");
    WITH(b->magic, NODE_MAGIC, "a node");
    WITH(b->owner.n, dir + 1, "somebody else's bucket");
    WITH(b->count, 255, "more slots than there are");
    WITH(b->count, UINT16_MAX, "more slots than there are");
    WITH(inode_at(fs, dir)->root[0].len, 2, "a bucket of two blocks");
    WITH(inode_at(fs, dir)->root[0].pos, UINT64_C(1) << 62, "no bucket at 0");
    for (unsigned i = 0; i < 5; i++)
        assert_true(there(nth(i, s)));
    count_links();
}

static void test_dir_hostile_names_are_an_error(void **state)
{
    struct dir_name name;
    struct dir_entry e;
    struct shmfs_dirent list[16];
    struct bucket *b;
    unsigned at = 0;

    add("n3");
    b = some_bucket();
    struct dslot *slot = &b->slots[at], was = *slot;
    const uint16_t offsets[] = { 0, BUCKET_HEAD - 1, BLOCK_SIZE - 5, BLOCK_SIZE, UINT16_MAX };
    MUST(dir_name_make(fs, "n3", &name));
    for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
        slot->off = offsets[i];
        assert_int_equal(dir_lookup(fs, dir, &name, &e), -EUCLEAN);
        assert_int_equal(shmfs_node_readdir(fs, dir, 0, list, 16), -EUCLEAN);
        *slot = was;
    }
    slot->len = 0;
    assert_int_equal(shmfs_node_readdir(fs, dir, 0, list, 16), -EUCLEAN);
    *slot = was;
    count_links();
}

static void test_dir_hostile_counts_of_room_are_an_error(void **state)
{
    struct bucket *b;
    struct cost cost;

    add("n3");
    b = some_bucket();
    uint16_t low = b->low, live = b->live;
    const uint16_t lows[] = { 0, BUCKET_HEAD, BUCKET_HEAD + 15, BLOCK_SIZE + 1, UINT16_MAX };
    for (size_t i = 0; i < ARRAY_SIZE(lows); i++) {
        b->low = lows[i];
        assert_int_equal(insert("new name", &cost), -EUCLEAN);
    }
    b->low = low;
    b->live = UINT16_MAX;
    assert_int_equal(insert("new name", &cost), -EUCLEAN);
    b->live = live;
    /* Says that a compaction would make room, and then it does not. */
    b->low = BUCKET_HEAD + 16;
    b->live = 0;
    int r = insert("new name", &cost);
    assert_true(r == 0 || r == -EUCLEAN);
    if (r == 0)
        drop("new name");
    else
        b->low = low;
    b->live = live;
    count_links();
}

/* Whatever the bytes: an answer, in bounds and in time. */
static void test_dir_random_bytes_are_no_crash(void **state)
{
    struct shmfs_dirent list[64];
    char s[32];

    random_start(10);
    for (unsigned i = 0; i < 500; i++)
        add(nth(i, s));
    count_links();
    for (int round = 0; round < 2000; round++) {
        struct blkref blk = { 1 + (uint32_t)random_below(10) };
        struct bucket *b = region_block(fs, blk), copy = *b;
        struct inode inode = *inode_at(fs, dir);

        for (uint64_t n = 1 + random_below(30); n > 0; n--)
            ((uint8_t *)b)[random_below(2) != 0 ? random_below(64) : random_below(sizeof(*b))] =
                (uint8_t)random_next();
        for (int i = 0; i < 10; i++) {
            struct dir_name name;
            struct dir_entry e;

            MUST(dir_name_make(fs, nth((unsigned)random_below(600), s), &name));
            int r = dir_lookup(fs, dir, &name, &e);
            assert_true(r == 0 || r == -ENOENT || r == -EUCLEAN);
        }
        uint64_t cookie = 0;
        for (int i = 0, got; i < 50 && (got = shmfs_node_readdir(fs, dir, cookie, list, 64)) > 0; i++)
            cookie = list[got - 1].next;
        *b = copy;
        *inode_at(fs, dir) = inode;
    }
    for (unsigned i = 0; i < 500; i++)
        assert_true(there(nth(i, s)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_unit(test_dir_names_that_cannot_be),
        dir_unit(test_dir_finds_what_was_inserted_and_nothing_else),
        dir_unit(test_dir_replace_changes_what_a_name_leads_to),
        dir_unit(test_dir_costs_do_not_grow_with_the_number_of_names),
        dir_unit(test_dir_takes_names_of_every_length),
        dir_unit(test_dir_splits_buckets_of_long_and_short_names),
        dir_unit(test_dir_compacts_before_it_splits),
        dir_unit(test_dir_frees_a_bucket_that_becomes_empty),
        dir_unit(test_dir_finds_all_names_of_few_hashes),
        dir_unit(test_dir_more_names_of_one_hash_are_refused),
        dir_unit(test_dir_cookies_bear_removals_and_insertions),
        dir_unit(test_dir_an_entry_keeps_its_cookie),
        dir_unit(test_dir_list_begins_with_dot_and_dotdot),
        dir_unit(test_dir_abort_undoes_an_insertion),
        dir_unit(test_dir_abort_undoes_an_insertion_of_long_names),
        dir_unit(test_dir_abort_undoes_a_removal),
        dir_unit(test_dir_hostile_buckets_are_an_error),
        dir_unit(test_dir_hostile_names_are_an_error),
        dir_unit(test_dir_hostile_counts_of_room_are_an_error),
        dir_unit(test_dir_random_bytes_are_no_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
