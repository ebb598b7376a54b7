/* SPDX-License-Identifier: MIT */
/* The check: buckets, names, and the tree of directories. */
#include <xxhash.h>

#include "test_check_expect.h"

/* A bucket of /many that is neither first nor last, with its position in the map. */
static uint32_t many;
static struct node *leaf;
static unsigned at; /* of the bucket's entry in the leaf */

#define DIR_END (UINT64_C(1) << (KEY_HASH_BITS + KEY_TIE_BITS))
static struct bucket *bucket;

static int open_many(void **state)
{
    open_world(state);
    many = world_ino(fs, "/many");
    leaf = world_node(fs, many, 0, 0);
    at = 1;
    assert_true(leaf->count > 3);
    bucket = world_block(fs, leaf->entries[at].blk.n);
    assert_true(bucket->count > 4);
    return 0;
}

static const char *slot_name(const struct bucket *b, const struct dslot *s, char *buf)
{
    memcpy(buf, (const char *)b + s->off + 4, s->len);
    buf[s->len] = '\0';
    return buf;
}

static struct dslot *slot_of(const char *dir, const char *name)
{
    struct bucket *b;

    return world_slot(fs, world_ino(fs, dir), name, &b);
}

static char *name_of(const char *dir, const char *name)
{
    struct bucket *b;
    struct dslot *s = world_slot(fs, world_ino(fs, dir), name, &b);

    return (char *)b + s->off + 4;
}

/* The key of the name as it now is; tie 0. */
static uint64_t key_of(const char *name, size_t len)
{
    return XXH3_64bits_withSeed(name, len, fs->sb->hash_seed) >> 18 << 16;
}

/* Gives an entry a name of the same length, and moves its slot to where its new hash belongs. */
static void rename_slot(const char *dir, const char *name, const char *to)
{
    struct bucket *b;
    struct dslot *s = world_slot(fs, world_ino(fs, dir), name, &b);
    struct dslot moved = *s;

    memcpy((char *)b + s->off + 4, to, s->len);
    moved.key = key_of(to, s->len);
    for (; s + 1 < b->slots + b->count && s[1].key < moved.key; s++)
        s[0] = s[1];
    for (; s > b->slots && s[-1].key > moved.key; s--)
        s[0] = s[-1];
    *s = moved;
}

/* ---- entries of the map ----------------------------------------------------------------------- */

static void test_check_bucket_length(void **state)
{
    leaf->entries[at].len = 2;
    expect("inode %u (/many): bucket at %#jx: its length is 2, should be 1", many,
           (uintmax_t)leaf->entries[at].pos);
    verify();
}

static void test_check_first_bucket(void **state)
{
    struct inode *root = inode_of("/");

    assert_int_equal(root->map_level, 0);
    root->root[0].pos = 1;
    expect("inode 1 (/): bucket at 0x1: is the first, should be at 0");
    verify();
}

static void test_check_bucket_past_the_largest_key(void **state)
{
    struct inode *sub = inode_of("/sub");

    sub->root[0].pos = UINT64_C(1) << 62;
    expect("inode %u (/sub): bucket at 0x4000000000000000: ends past the largest position", number_of(sub));
    verify_among_others();
}

static void test_check_bucket_empty(void **state)
{
    uint32_t blk = free_block();
    struct inode *sub = inode_of("/sub");
    struct bucket *b = world_block(fs, blk);

    *b = (struct bucket){ .magic = BUCKET_MAGIC, .owner = { number_of(sub) }, .low = BLOCK_SIZE };
    mark_block(blk, true);
    sub->root[1] = (struct extent){ .pos = DIR_END - 1, .blk = { blk }, .len = 1 };
    sub->map_count = 2;
    sub->blocks++;
    expect("inode %u (/sub): bucket at %#jx: is empty, should have been freed", number_of(sub),
           (uintmax_t)DIR_END - 1);
    verify();
}

/* ---- a bucket's form -------------------------------------------------------------------------- */

static void test_check_bucket_head(void **state)
{
    uintmax_t pos = leaf->entries[at].pos;

    bucket->magic ^= 1;
    expect("inode %u (/many): bucket at %#jx: bad magic 74656b63", many, pos);
    verify_among_others();
    wanted.n = got.n = 0;
    bucket->magic ^= 1;
    bucket->owner.n = ROOT_INO;
    expect("inode %u (/many): bucket at %#jx: says that it belongs to inode 1", many, pos);
    verify_among_others();
    wanted.n = got.n = 0;
    bucket->owner.n = many;
    bucket->count = 255;
    expect("inode %u (/many): bucket at %#jx: has 255 entries, it has room for 254", many, pos);
    verify_among_others();
    /* Only the link count suffers further, not what the directory says of itself. */
    assert_int_equal(got.n, 2);
}

static void test_check_bucket_low(void **state)
{
    uint16_t low = bucket->low;
    unsigned head = BUCKET_HEAD + bucket->count * 16u;

    bucket->low = (uint16_t)(head - 1);
    run_check();
    assert_int_equal(got.n, 1);
    assert_non_null(strstr(got.text[0], "says that names begin at"));
    got.n = 0;
    bucket->low = BLOCK_SIZE;
    run_check();
    assert_int_equal(got.n, 1);
    assert_non_null(strstr(got.text[0], "says that names begin at 4096"));
    bucket->low = low;
}

static void test_check_bucket_live(void **state)
{
    unsigned live = bucket->live--;

    expect("inode %u (/many): bucket at %#jx: says %u bytes of names, they are %u", many,
           (uintmax_t)leaf->entries[at].pos, live - 1, live);
    verify();
}

static void test_check_bucket_names_overlap(void **state)
{
    struct dslot *s = &bucket->slots[1], *other = &bucket->slots[2];

    assert_int_equal(s->len, other->len);
    s->off = (uint16_t)(other->off + 1);
    expect("inode %u (/many): bucket at %#jx: names overlap", many, (uintmax_t)leaf->entries[at].pos);
    verify_among_others();
}

static void test_check_slot_without_name(void **state)
{
    struct dslot was = bucket->slots[1];
    uintmax_t pos = leaf->entries[at].pos;

    bucket->slots[1].off = BLOCK_SIZE - 4;
    expect("inode %u (/many): bucket at %#jx: slot 1 has no name within it (offset 4092, length %u)", many,
           pos, was.len);
    verify();
    wanted.n = got.n = 0;
    bucket->slots[1].off = BUCKET_HEAD;
    expect("inode %u (/many): bucket at %#jx: slot 1 has no name within it (offset 32, length %u)", many, pos,
           was.len);
    verify();
    wanted.n = got.n = 0;
    bucket->slots[1] = was;
    bucket->slots[1].len = 0;
    bucket->live = (uint16_t)(bucket->live - was.len);
    expect("inode %u (/many): bucket at %#jx: slot 1 has no name within it (offset %u, length 0)", many, pos,
           was.off);
    verify();
}

static void test_check_slot_order(void **state)
{
    struct dslot s = bucket->slots[2];
    uintmax_t pos = leaf->entries[at].pos;

    bucket->slots[2] = bucket->slots[1];
    bucket->slots[1] = s;
    expect("inode %u (/many): bucket at %#jx: slot 2: key %#jx is out of order", many, pos,
           (uintmax_t)bucket->slots[2].key);
    verify();
}

static void test_check_slot_in_another_bucket(void **state)
{
    uintmax_t next = leaf->entries[at + 1].pos;

    leaf->entries[at + 1].pos = bucket->slots[bucket->count - 1].key;
    expect("inode %u (/many): bucket at %#jx: slot %u: key %#jx belongs to another bucket", many,
           (uintmax_t)leaf->entries[at].pos, bucket->count - 1u, (uintmax_t)leaf->entries[at + 1].pos);
    verify();
    wanted.n = got.n = 0;
    struct bucket *b = world_block(fs, leaf->entries[at + 1].blk.n);
    leaf->entries[at + 1].pos = b->slots[0].key + 1;
    expect("inode %u (/many): bucket at %#jx: slot 0: key %#jx belongs to another bucket", many,
           (uintmax_t)leaf->entries[at + 1].pos, (uintmax_t)b->slots[0].key);
    verify();
    leaf->entries[at + 1].pos = next;
}

/* ---- names ------------------------------------------------------------------------------------ */

static void test_check_name_hash(void **state)
{
    name_of("/", "file")[0] = 'g';
    expect("inode 1 (/): entry 'gile': its key is not the hash of its name");
    verify();
}

static void test_check_name_with_slash(void **state)
{
    rename_slot("/", "file", "f/le");
    expect("inode 1 (/): entry 'f/le': has a slash or a NUL in its name");
    verify();
}

static void test_check_name_with_nul_and_newline(void **state)
{
    rename_slot("/", "file", "f\0\n\\");
    expect("inode 1 (/): entry 'f\\000\\012\\134': has a slash or a NUL in its name");
    verify();
}

static void test_check_name_dot_dot(void **state)
{
    struct bucket *b;
    struct dslot *s = world_slot(fs, ROOT_INO, "file", &b);

    s->len = 2;
    b->live -= 2;
    memcpy((char *)b + s->off + 4, "fi", 2);
    rename_slot("/", "fi", "..");
    expect("inode 1 (/): entry '..': is a name that may not be stored");
    verify();
    wanted.n = got.n = 0;
    s = world_slot(fs, ROOT_INO, "..", &b);
    s->len = 1;
    b->live -= 1;
    rename_slot("/", ".", ".");
    expect("inode 1 (/): entry '.': is a name that may not be stored");
    verify();
}

static void test_check_name_twice(void **state)
{
    char name[256];

    memcpy((char *)bucket + bucket->slots[3].off + 4, (char *)bucket + bucket->slots[2].off + 4,
           bucket->slots[3].len);
    bucket->slots[3].key = bucket->slots[2].key + 1;
    expect("inode %u (/many): entry '%s': is there twice", many, slot_name(bucket, &bucket->slots[2], name));
    verify();
}

/* ---- what names refer to ---------------------------------------------------------------------- */

static void test_check_entry_of_no_inode(void **state)
{
    struct inode *fifo = inode_of("/fifo");

    slot_of("/", "fifo")->ino.n = fs->l.ninodes;
    expect("inode 1 (/): entry 'fifo': refers to inode %u of %u", fs->l.ninodes, fs->l.ninodes);
    expect("inode %u: no name refers to it, its link count is 1", number_of(fifo));
    verify();
}

static void test_check_entry_of_a_free_inode(void **state)
{
    uint32_t ino = world_ino(fs, "/fifo");

    fs->inodes[ino].mode = 0;
    mark_inode(ino, false);
    expect("inode 1 (/): entry 'fifo': refers to inode %u, which is free", ino);
    verify();
}

static void test_check_entry_of_another_generation(void **state)
{
    struct inode *fifo = inode_of("/fifo");
    uint32_t generation = fifo->generation++;

    expect("inode 1 (/): entry 'fifo': refers to inode %u generation %u, which now has generation %u",
           number_of(fifo), generation, generation + 1);
    verify();
}

static void test_check_entry_of_another_type(void **state)
{
    slot_of("/", "fifo")->type = DT_REG;
    expect("inode 1 (/): entry 'fifo': has type 8, inode %u has type 1", world_ino(fs, "/fifo"));
    verify();
}

static void test_check_directory_size(void **state)
{
    inode_of("/many")->size = 1001;
    expect("inode %u (/many): says 1001 entries, has 1000", many);
    verify();
}

/* ---- the tree --------------------------------------------------------------------------------- */

static void test_check_parent_wrong(void **state)
{
    struct inode *deep = inode_of("/sub/deep"), *root = inode_of("/");

    deep->parent.n = ROOT_INO;
    expect("inode %u (/sub/deep): says that its parent is inode 1, should be %u", number_of(deep),
           world_ino(fs, "/sub"));
    root->parent.n = number_of(deep);
    expect("inode 1 (/): says that its parent is inode %u, should be 1", number_of(deep));
    verify();
}

static void test_check_directory_with_two_names(void **state)
{
    uint32_t deep = world_ino(fs, "/sub/deep"), empty = world_ino(fs, "/sub/empty");

    struct dslot *s = slot_of("/sub", "empty");
    s->ino.n = deep;
    memcpy((uint8_t *)name_of("/sub", "empty") - 4, &fs->inodes[deep].generation, 4);
    run_check();
    assert_int_equal(got.n, 2);
    /* Whichever of its names comes first. */
    expect("inode %u: no name refers to it, its link count is 2", empty);
    assert_true(lines_within(&wanted, &got, "missing"));
    char text[64];
    snprintf(text, sizeof(text), "inode %u (/sub/", deep);
    unsigned other = strcmp(got.text[0], wanted.text[0]) == 0;
    assert_non_null(strstr(got.text[other], text));
    assert_non_null(strstr(got.text[other], "): is a directory, but 2 names refer to it"));
}

static void test_check_entry_of_the_root(void **state)
{
    struct dslot *s = slot_of("/sub", "empty");

    uint32_t empty = s->ino.n;
    s->ino.n = ROOT_INO;
    memcpy((uint8_t *)name_of("/sub", "empty") - 4, &fs->inodes[ROOT_INO].generation, 4);
    expect("inode 1 (/): is the root, but 1 names refer to it");
    expect("inode %u: no name refers to it, its link count is 2", empty);
    verify();
}

/* /sub moves into /sub/deep: its two directories are each other's parents, and everything else is right. */
static void test_check_directories_in_a_circle(void **state)
{
    struct inode *sub = inode_of("/sub"), *deep = inode_of("/sub/deep"), *root = inode_of("/"),
                 *leaf_file = inode_of("/sub/deep/leaf");
    uint32_t name_leaf = number_of(leaf_file);

    /* The entry 'leaf' of deep becomes sub; the file gets sub's old entry in the root. */
    struct dslot *in_deep = slot_of("/sub/deep", "leaf"), *in_root = slot_of("/", "sub");
    uint8_t *generation_deep = (uint8_t *)name_of("/sub/deep", "leaf") - 4;
    uint8_t *generation_root = (uint8_t *)name_of("/", "sub") - 4;
    in_deep->ino.n = number_of(sub);
    in_deep->type = DT_DIR;
    memcpy(generation_deep, &sub->generation, 4);
    in_root->ino.n = name_leaf;
    in_root->type = DT_REG;
    memcpy(generation_root, &leaf_file->generation, 4);
    sub->parent.n = number_of(deep);
    deep->nlink++;
    root->nlink--;
    run_check();
    assert_int_equal(got.n, 1);
    assert_non_null(strstr(got.text[0], ": is a directory within itself; no path from the root leads there"));
    assert_non_null(strstr(got.text[0], "(..."));
}

/* A directory that hangs on nothing takes its tree along; only its own loss is told. */
static void test_check_directory_without_name(void **state)
{
    uint32_t sub = world_ino(fs, "/sub");

    drop_slot("/", "sub");
    inode_of("/")->nlink--;
    expect("inode %u: no name refers to it, its link count is 4", sub);
    verify();
}

static void test_check_paths_below_a_lost_directory(void **state)
{
    uint32_t sub = world_ino(fs, "/sub");
    struct inode *file = inode_of("/sub/deep/leaf");

    drop_slot("/", "sub");
    inode_of("/")->nlink--;
    file->nlink = 9;
    expect("inode %u: no name refers to it, its link count is 4", sub);
    expect("inode %u (.../deep/leaf): link count is 9, should be 1", number_of(file));
    verify();
}

#define CHECK_TEST(f) cmocka_unit_test_setup_teardown(f, open_many, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHECK_TEST(test_check_bucket_length),
        CHECK_TEST(test_check_first_bucket),
        CHECK_TEST(test_check_bucket_past_the_largest_key),
        CHECK_TEST(test_check_bucket_empty),
        CHECK_TEST(test_check_bucket_head),
        CHECK_TEST(test_check_bucket_low),
        CHECK_TEST(test_check_bucket_live),
        CHECK_TEST(test_check_bucket_names_overlap),
        CHECK_TEST(test_check_slot_without_name),
        CHECK_TEST(test_check_slot_order),
        CHECK_TEST(test_check_slot_in_another_bucket),
        CHECK_TEST(test_check_name_hash),
        CHECK_TEST(test_check_name_with_slash),
        CHECK_TEST(test_check_name_with_nul_and_newline),
        CHECK_TEST(test_check_name_dot_dot),
        CHECK_TEST(test_check_name_twice),
        CHECK_TEST(test_check_entry_of_no_inode),
        CHECK_TEST(test_check_entry_of_a_free_inode),
        CHECK_TEST(test_check_entry_of_another_generation),
        CHECK_TEST(test_check_entry_of_another_type),
        CHECK_TEST(test_check_directory_size),
        CHECK_TEST(test_check_parent_wrong),
        CHECK_TEST(test_check_directory_with_two_names),
        CHECK_TEST(test_check_entry_of_the_root),
        CHECK_TEST(test_check_directories_in_a_circle),
        CHECK_TEST(test_check_directory_without_name),
        CHECK_TEST(test_check_paths_below_a_lost_directory),
    };
    return cmocka_run_group_tests(tests, make_world, remove_world);
}
