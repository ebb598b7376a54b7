/* SPDX-License-Identifier: MIT */
/*
 * A damaged image says what is damaged, by name, and gives all the rest (P4): for each kind of page, what is told, and what is
 * restored. Without `salvage` nothing is.
 */
#include "test_salvage_world.h"

/* ---- data --------------------------------------------------------------------------------------- */

static void assert_nothing_restored(void)
{
    struct shmfs_restore how = how_to(false);
    struct shmfs_restore_result result;
    struct shmfs_diag diag;

    lines_forget();
    CHECK_EQ(shmfs_image_restore(image_path, restored_path, &how, &result, &diag), -EUCLEAN);
    CHECK_EQ(diag.reason, SHMFS_REASON_IMAGE_PAGES);
    CHECK(access(restored_path, F_OK) < 0);
}

static void test_salvage_zeroes_missing_data(void **state)
{
    struct shmfs_restore_result result;
    off_t last = 10 * PAGE;

    damage_block(block_of("/plain", 2));
    damage_block(block_of("/plain", 3));
    damage_block(block_of("/plain", 10));
    result = verify();
    assert_int_equal(nlines, 2);
    assert_line("/plain|bytes 8192 to 16383 are missing");
    assert_line("/plain|bytes 40960 to 41082 are missing");
    assert_int_equal(result.damaged, 3);
    assert_int_equal(result.lost, 1);
    assert_int_equal(result.files, inodes_in_use() - 1);
    assert_nothing_restored();
    assert_int_equal(nlines, 2);

    result = salvage();
    assert_int_equal(nlines, 2);
    assert_line("/plain|bytes 8192 to 16383 are missing");
    assert_int_equal(result.lost, 1);
    assert_int_equal(result.files, inodes_in_use() - 1);
    assert_all_same_but("/plain");
    assert_same_but_data("/plain", "/plain");
    assert_same_attrs("/plain", "/plain");
    assert_same_bytes("/plain", "/plain", 0, 2 * PAGE, false);
    assert_same_bytes("/plain", "/plain", 2 * PAGE, 4 * PAGE, true);
    assert_same_bytes("/plain", "/plain", 4 * PAGE, last, false);
    assert_same_bytes("/plain", "/plain", last, PLAIN_SIZE, true);
}

static void test_salvage_names_every_hard_link(void **state)
{
    struct shmfs_restore_result result;

    damage_block(block_of("/deep/linked", 0));
    result = salvage();
    assert_int_equal(nlines, 2);
    assert_line("/deep/linked|bytes 0 to 4095 are missing");
    assert_line("/deep/sub/link|bytes 0 to 4095 are missing");
    assert_int_equal(result.lost, 1);
    assert_all_same_but("/deep/linked", "/deep/sub/link");
    assert_same_bytes("/deep/sub/link", "/deep/linked", PAGE, 5 * PAGE, false);
}

/* Of 600 extents each leaf of the map has 254. */
static void test_salvage_says_what_a_map_node_led_to(void **state)
{
    enum { LEAF = NODE_ENTRIES };
    const off_t from = (off_t)LEAF * 2 * PAGE, to = (off_t)LEAF * 4 * PAGE;
    const struct inode *in = inode_of("/mapped");

    assert_int_equal(in->map_level, 1);
    assert_int_equal(in->root[1].pos, LEAF * 2);
    damage_block(in->root[1].blk.n);
    salvage();
    assert_int_equal(nlines, 1);
    assert_line("/mapped|bytes %jd to %jd cannot be found: its map is damaged", (intmax_t)from,
                (intmax_t)to - 1);
    assert_all_same_but("/mapped");
    assert_same_but_data("/mapped", "/mapped");
    assert_same_bytes("/mapped", "/mapped", 0, from, false);
    assert_same_bytes("/mapped", "/mapped", from, to, true);
    assert_same_bytes("/mapped", "/mapped", to, 2 * EXTENTS * PAGE, false);
}

static void test_salvage_says_what_the_last_map_node_led_to(void **state)
{
    const struct inode *in = inode_of("/mapped");

    damage_block(in->root[2].blk.n);
    verify();
    assert_int_equal(nlines, 1);
    assert_line("/mapped|bytes %jd to %jd cannot be found: its map is damaged",
                (intmax_t)NODE_ENTRIES * 4 * PAGE, (intmax_t)2 * EXTENTS * PAGE - 1);
}

static void test_salvage_leaves_out_a_link_without_target(void **state)
{
    struct shmfs_restore_result result;
    struct stat st;

    damage_block(block_of("/long", 0));
    result = salvage();
    assert_int_equal(nlines, 1);
    assert_line("/long|its target is lost");
    assert_int_equal(result.lost, 1);
    assert_int_equal(shmfs_lstat(restored, "/long", &st), -ENOENT);
    assert_same("/short", "/short");
    assert_int_equal(each_name(restored, "/", NULL, NULL) + 1, each_name(fs, "/", NULL, NULL));
}

static void test_salvage_keeps_a_file_without_its_attributes(void **state)
{
    struct shmfs_restore_result result;
    char none[16];

    damage_block(inode_of("/attrs")->xattr.n);
    result = salvage();
    assert_int_equal(nlines, 1);
    assert_line("/attrs|its attributes are lost");
    assert_int_equal(result.lost, 1);
    assert_all_same_but("/attrs");
    assert_same_but_data("/attrs", "/attrs");
    assert_same_bytes("/attrs", "/attrs", 0, 100, false);
    assert_int_equal(shmfs_listxattr(restored, "/attrs", none, sizeof(none)), 0);
}

static void test_salvage_keeps_a_directory_without_its_attributes(void **state)
{
    damage_block(inode_of("/deep")->xattr.n);
    salvage();
    assert_int_equal(nlines, 1);
    assert_line("/deep|its attributes are lost");
    assert_same_but_data("/deep", "/deep");
    assert_same("/deep/sub/leaf", "/deep/sub/leaf");
}

/* ---- directories -------------------------------------------------------------------------------- */

/* The files with one name only, in this bucket (0: in any) of /many, are in lost+found; /first lacks *ret_links names. */
static unsigned assert_many_found(uint32_t bucket, unsigned *ret_links)
{
    unsigned found = 0, links = 0, hundred = 100; /* has another name */

    for (unsigned i = 0; i < MANY; i++) {
        const char *path = many_name(i);
        uint32_t many = (uint32_t)stat_of("/many").st_ino, ino = (uint32_t)stat_of(path).st_ino;
        struct dir_entry e;
        struct dir_name name;
        char other[64];
        struct stat st;

        MUST(dir_name_make(fs, path + strlen("/many/"), &name));
        MUST(dir_lookup(fs, many, &name, &e));
        if (bucket != 0 && e.blk.n != bucket) {
            if (i >= LINKS && i != hundred)
                assert_same(path, path);
            continue;
        }
        assert_int_equal(shmfs_lstat(restored, path, &st), -ENOENT);
        links += i < LINKS;
        if (i < LINKS || i == hundred)
            continue;
        snprintf(other, sizeof(other), "/lost+found/#%u", ino);
        assert_same(path, other);
        assert_line("|inode %u has no name any more; it is put into lost+found as #%u", ino, ino);
        found++;
    }
    *ret_links = links;
    return found;
}

static void test_salvage_finds_files_whose_names_are_lost(void **state)
{
    struct inode *in = inode_of("/many");
    struct shmfs_restore_result result;
    unsigned found, links;
    struct dir_name name;
    struct map_at at;
    struct bucket *b;
    struct stat st;

    MUST(dir_name_make(fs, many_name(LINKS / 2) + strlen("/many/"), &name));
    MUST(map_find(fs, (uint32_t)stat_of("/many").st_ino, in, name.key, &at));
    b = region_known_block(fs, at.ext.blk);
    damage_block(at.ext.blk.n);
    result = salvage();
    assert_line("/many|%u of its %u names are lost", b->count, MANY);
    found = assert_many_found(at.ext.blk.n, &links);
    assert_in_range(b->count, found + links, found + links + 1);
    assert_in_range(links, 1, LINKS - 1);
    assert_int_equal(nlines, 1 + found);
    assert_int_equal(result.lost, 1);
    assert_int_equal(result.files, inodes_in_use() - 1);
    MUST(shmfs_lstat(restored, "/first", &st));
    assert_int_equal(st.st_nlink, LINKS + 1 - links);
    assert_same_but_data("/many", "/many");
    assert_same("/deep/sub/leaf", "/deep/sub/leaf");
    assert_int_equal(each_name(restored, "/lost+found", NULL, NULL), found);
}

static void test_salvage_finds_files_whose_index_is_lost(void **state)
{
    unsigned found, links;

    assert_int_equal(inode_of("/many")->map_level, 1);
    assert_int_equal(inode_of("/many")->map_count, 1);
    damage_block(inode_of("/many")->root[0].blk.n);
    verify();
    assert_line("|inode %u has no name any more; a salvage puts it into lost+found as #%u",
                (uint32_t)stat_of(many_name(LINKS)).st_ino, (uint32_t)stat_of(many_name(LINKS)).st_ino);
    salvage();
    assert_line("/many|%u of its %u names are lost", MANY, MANY);
    found = assert_many_found(0, &links);
    assert_int_equal(found, MANY - LINKS - 1);
    assert_int_equal(nlines, 1 + found);
    assert_same("/deep/sub/leaf", "/deep/sub/leaf");
}

/* Whole trees hang in lost+found. */
static void assert_all_in_lost_found(void)
{
    char path[PATH_MAX];
    unsigned deep = (unsigned)stat_of("/deep").st_ino;

    assert_line("|inode %u has no name any more; it is put into lost+found as #%u", deep, deep);
    snprintf(path, sizeof(path), "/lost+found/#%u/sub/leaf", deep);
    assert_same("/deep/sub/leaf", path);
    snprintf(path, sizeof(path), "/lost+found/#%u/sub", deep);
    assert_same("/deep/sub", path);
    snprintf(path, sizeof(path), "/lost+found/#%u", deep);
    assert_same("/deep", path);
    snprintf(path, sizeof(path), "/lost+found/#%u", (unsigned)stat_of("/plain").st_ino);
    assert_same("/plain", path);
    snprintf(path, sizeof(path), "/lost+found/#%u", (unsigned)stat_of("/long").st_ino);
    assert_same("/long", path);
    assert_int_equal(each_name(restored, "/", NULL, NULL), each_name(fs, "/", NULL, NULL));
}

static void test_salvage_does_without_names_in_the_root(void **state)
{
    unsigned names = (unsigned)inode_at(fs, ROOT_INO)->size;
    struct shmfs_restore_result result;

    damage_block(inode_at(fs, ROOT_INO)->root[0].blk.n);
    result = salvage();
    assert_line("/|%u of its %u names are lost", names, names);
    assert_int_equal(nlines, 1 + names - 1); /* one of the root, and none of /first, which has other names */
    assert_all_in_lost_found();
    assert_int_equal(result.lost, 1);
    assert_int_equal(result.files, inodes_in_use() - 1);
    assert_same_but_data("/", "/");
}

/* ---- the inode table ---------------------------------------------------------------------------- */

static bool page_has(uint32_t like, uint32_t ino)
{
    return like / (BLOCK_SIZE / INODE_SIZE) == ino / (BLOCK_SIZE / INODE_SIZE);
}

struct lost_inodes {
    uint32_t like;
    unsigned names;
};

static void assert_inode_told(const char *path, void *arg)
{
    struct lost_inodes *lost = arg;
    uint32_t ino = (uint32_t)stat_of(path).st_ino;

    if (page_has(lost->like, ino)) {
        assert_line("%s|its inode is lost", path);
        lost->names++;
    }
}

static void test_salvage_names_what_has_lost_its_inode(void **state)
{
    enum { inodes = BLOCK_SIZE / INODE_SIZE };
    struct lost_inodes lost = { .like = (uint32_t)stat_of(many_name(100)).st_ino };
    struct shmfs_restore_result result;
    struct stat st;

    damage_inode(many_name(100));
    result = salvage();
    each_name(fs, "/", assert_inode_told, &lost);
    assert_int_equal(lost.names, inodes + 1); /* one of them has two */
    assert_int_equal(nlines, lost.names);
    assert_int_equal(result.lost, inodes);
    assert_int_equal(result.files, inodes_in_use() - inodes);
    assert_int_equal(shmfs_lstat(restored, many_name(100), &st), -ENOENT);
    assert_same(many_name(150), many_name(150));
    assert_same("/plain", "/plain");
}

/* What the page of the root has beside it is known only by its number: nothing, in this world. */
static void test_salvage_does_without_the_root(void **state)
{
    struct shmfs_restore_result result;
    struct stat st;

    damage_inode("/");
    result = salvage();
    assert_line("/|its inode is lost");
    MUST(shmfs_lstat(restored, "/", &st));
    assert_int_equal(st.st_mode, S_IFDIR | 0755);
    assert_all_in_lost_found();
    assert_int_equal(result.lost, 1);
    assert_int_equal(result.files, inodes_in_use() - 1);
}

static void test_salvage_says_that_no_name_leads_to_lost_inodes(void **state)
{
    uint32_t ino = (uint32_t)stat_of(many_name(150)).st_ino / 16 * 16;

    damage_block(inode_of("/many")->root[0].blk.n);
    damage_inode(many_name(150));
    verify();
    assert_line("|inodes %u to %u are lost; no name leads to one of them", ino, ino + 15);
}

static void test_salvage_counts_blocks_of_lost_inodes(void **state)
{
    damage_block(block_of(many_name(150), 0));
    damage_inode(many_name(150));
    verify();
    assert_line("%s|its inode is lost", many_name(150));
    assert_line("|damaged blocks that nothing leads to any more: 1");
}

/* ---- groups ------------------------------------------------------------------------------------- */

static void test_salvage_makes_allocation_maps_anew(void **state)
{
    struct shmfs_restore_result result;
    unsigned groups = fs->l.ngroups - 1;

    damage_at(fs->l.group_desc);
    damage_at(fs->l.block_maps);
    damage_at(fs->l.inode_maps);
    result = salvage();
    assert_int_equal(nlines, 3);
    assert_line("|descriptors of groups 0 to %u; they are made anew", groups);
    assert_line("|allocation maps of groups 0 to %u; they are made anew", groups);
    assert_line("|inode maps of groups 0 to %u; they are made anew", groups);
    assert_int_equal(result.lost, 0);
    assert_int_equal(result.files, inodes_in_use());
    assert_all_same_but("");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        salvage_unit(test_salvage_zeroes_missing_data),
        salvage_unit(test_salvage_names_every_hard_link),
        salvage_unit(test_salvage_says_what_a_map_node_led_to),
        salvage_unit(test_salvage_says_what_the_last_map_node_led_to),
        salvage_unit(test_salvage_leaves_out_a_link_without_target),
        salvage_unit(test_salvage_keeps_a_file_without_its_attributes),
        salvage_unit(test_salvage_keeps_a_directory_without_its_attributes),
        salvage_unit(test_salvage_finds_files_whose_names_are_lost),
        salvage_unit(test_salvage_finds_files_whose_index_is_lost),
        salvage_unit(test_salvage_does_without_names_in_the_root),
        salvage_unit(test_salvage_names_what_has_lost_its_inode),
        salvage_unit(test_salvage_does_without_the_root),
        salvage_unit(test_salvage_says_that_no_name_leads_to_lost_inodes),
        salvage_unit(test_salvage_counts_blocks_of_lost_inodes),
        salvage_unit(test_salvage_makes_allocation_maps_anew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
