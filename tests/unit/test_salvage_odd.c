/* SPDX-License-Identifier: MIT */
/* What nobody expects of a damaged image: circles, great depth, names that are taken, and any pages whatever (P6). */
#include "test_salvage_world.h"

#define empty_unit(f) cmocka_unit_test_setup_teardown(f, begin_empty, end)

/* ---- trees -------------------------------------------------------------------------------------- */

/* Another directory for an entry: bytes that no operation makes. */
static void lead_to(const char *dir, const char *entry, uint32_t ino)
{
    uint32_t dino = (uint32_t)stat_of(dir).st_ino;
    struct dir_name name;
    struct dir_entry e;
    struct bucket *b;

    MUST(dir_name_make(fs, entry, &name));
    MUST(dir_lookup(fs, dino, &name, &e));
    assert_int_equal(inode_at(fs, e.ino)->generation, inode_at(fs, ino)->generation);
    b = region_known_block(fs, e.blk);
    for (unsigned i = 0; i < b->count; i++) {
        if (b->slots[i].key == e.key)
            b->slots[i].ino.n = ino;
    }
}

static void test_salvage_cuts_circles(void **state)
{
    uint32_t a, c, again;

    put_pattern("/victim", PAGE);
    MUST(shmfs_mkdir(fs, "/a", 0700));
    MUST(shmfs_mkdir(fs, "/a/b", 0700));
    MUST(shmfs_mkdir(fs, "/a/b/c", 0700));
    put_pattern("/a/b/leaf", 300);
    MUST(shmfs_mkdir(fs, "/again", 0700));
    a = (uint32_t)stat_of("/a").st_ino;
    c = (uint32_t)stat_of("/a/b/c").st_ino;
    again = (uint32_t)stat_of("/again").st_ino;
    lead_to("/a/b", "c", a);
    lead_to("/", "again", c);
    lead_to("/", "a", c);
    make_image();
    damage_block(block_of("/victim", 0));
    salvage();
    assert_line("/victim|bytes 0 to 4095 are missing");
    assert_true(line_is("/a|is a directory that has a name already; this one is left out") !=
                line_is("/again|is a directory that has a name already; this one is left out"));
    assert_line("|inode %u has no name any more; it is put into lost+found as #%u", a, a);
    assert_line("/lost+found/#%u/b/c|is a directory that has a name already; this one is left out", a);
    assert_int_equal(nlines, 5); /* and what /again led to before */
    lead_to("/", "a", a);
    lead_to("/a/b", "c", c); /* teardown wants it sound */
    lead_to("/", "again", again);
}

static void test_salvage_bears_any_depth(void **state)
{
    enum { DEPTH = 20000 };
    struct shmfs_restore_result result;
    uint32_t dir = ROOT_INO;
    struct map_at at;

    api_renew(256 * MIB, DEPTH + 1024);
    for (unsigned i = 0; i < DEPTH; i++)
        dir = make_dir(dir, "d");
    dir = make_file(dir, "leaf");
    CHECK_EQ(shmfs_node_write(fs, dir, "text", 4, 0, 0, NULL), 4);
    make_image();
    MUST(map_find(fs, dir, inode_at(fs, dir), 0, &at));
    damage_block(at.ext.blk.n);
    result = salvage();
    assert_int_equal(result.files, DEPTH + 1);
    assert_int_equal(nlines, 1);
    assert_int_equal(strlen(lines[0]), 2 * DEPTH + strlen("/leaf|bytes 0 to 3 are missing"));
    assert_memory_equal(lines[0], "/d/d/d", 6);
    assert_string_equal(lines[0] + 2 * DEPTH, "/leaf|bytes 0 to 3 are missing");
}

static void test_salvage_finds_a_name_for_what_is_lost(void **state)
{
    char taken[64], path[96];
    uint32_t ino;

    MUST(shmfs_mkdir(fs, "/dir", 0755));
    put_pattern("/dir/lost", 5000);
    ino = (uint32_t)stat_of("/dir/lost").st_ino;
    MUST(shmfs_mkdir(fs, "/lost+found", 0751));
    snprintf(taken, sizeof(taken), "/lost+found/#%u", ino);
    put_text(taken, "taken");
    make_image();
    damage_block(inode_of("/dir")->root[0].blk.n);
    salvage();
    assert_int_equal(nlines, 2);
    assert_line("/dir|1 of its 1 names are lost");
    assert_line("|inode %u has no name any more; it is put into lost+found as #%u.1", ino, ino);
    snprintf(path, sizeof(path), "%s.1", taken);
    assert_same("/dir/lost", path);
    assert_same(taken, taken);
    assert_same_but_data("/lost+found", "/lost+found");
}

static void test_salvage_leaves_a_file_of_its_name_alone(void **state)
{
    char path[64];
    uint32_t ino;

    MUST(shmfs_mkdir(fs, "/dir", 0755));
    put_pattern("/dir/file", 77);
    put_text("/lost+found", "no directory");
    make_image();
    ino = (uint32_t)stat_of("/dir/file").st_ino;
    damage_block(inode_of("/dir")->root[0].blk.n);
    salvage();
    assert_int_equal(nlines, 2);
    assert_same("/lost+found", "/lost+found");
    snprintf(path, sizeof(path), "/lost+found.1/#%u", ino);
    assert_same("/dir/file", path);
}

/* Its content was made before it. */
static void test_salvage_moves_a_tree_as_a_whole(void **state)
{
    uint32_t inner;
    char path[64];

    put_pattern("/child", 999);
    MUST(shmfs_mkdir(fs, "/outer", 0755));
    MUST(shmfs_mkdir(fs, "/outer/inner", 0755));
    MUST(shmfs_rename(fs, "/child", "/outer/inner/child", 0));
    inner = (uint32_t)stat_of("/outer/inner").st_ino;
    assert_true(stat_of("/outer/inner/child").st_ino < inner);
    make_image();
    damage_block(inode_of("/outer")->root[0].blk.n);
    salvage();
    assert_int_equal(nlines, 2);
    assert_line("/outer|1 of its 1 names are lost");
    snprintf(path, sizeof(path), "/lost+found/#%u/child", inner);
    assert_same("/outer/inner/child", path);
}

/* Blocks behind the end are not restored; and what one who died has left of an attempt goes. */
static void test_salvage_leaves_nothing_behind(void **state)
{
    struct shmfs_file *file;
    char left[PATH_MAX];
    struct stat st;

    put_pattern("/victim", PAGE);
    put_pattern("/file", PAGE + 1);
    file = open_file("/file", O_RDWR);
    MUST(shmfs_fallocate(file, FALLOC_FL_KEEP_SIZE, 0, 50 * PAGE));
    close_file(file);
    assert_int_equal(stat_of("/file").st_blocks, 50 * PAGE / 512);
    make_image();
    damage_block(block_of("/victim", 0));
    snprintf(left, sizeof(left), "%s.%d.new.sound", restored_path, (int)getpid());
    close((int)MUST(open(left, O_WRONLY | O_CREAT, 0600)));
    salvage();
    MUST(shmfs_lstat(restored, "/file", &st));
    assert_int_equal(st.st_blocks, 2 * PAGE / 512);
    assert_same("/file", "/file");
    assert_true(access(left, F_OK) < 0);
}

/* ---- bytes that no operation makes -------------------------------------------------------------- */

static void test_salvage_believes_no_extent_that_overlaps(void **state)
{
    struct inode *in;
    uint32_t blk;

    put_pattern("/victim", PAGE);
    put_scattered("/holes", 3, 3 * PAGE, 9 * PAGE);
    in = inode_of("/holes");
    assert_int_equal(in->map_count, 3);
    blk = in->root[2].blk.n;
    in->root[0].len = 4;
    in->root[2].blk.n = UINT32_MAX;
    make_image();
    damage_block(block_of("/victim", 0));
    salvage();
    assert_int_equal(nlines, 3);
    assert_line("/holes|bytes 0 to 12287 cannot be found: its map is damaged");
    assert_line("/holes|bytes 24576 to 36863 cannot be found: its map is damaged");
    in = inode_of("/holes");
    in->root[0].len = 1; /* teardown wants it sound */
    in->root[2].blk.n = blk;
    assert_same_bytes("/holes", "/holes", 3 * PAGE, 6 * PAGE, false);
}

static void test_salvage_believes_no_name_in_a_foreign_bucket(void **state)
{
    struct bucket *b;
    uint64_t key;

    put_pattern("/victim", PAGE);
    make_many();
    b = region_known_block(
        fs, ((struct node *)region_known_block(fs, inode_of("/many")->root[0].blk))->entries[0].blk);
    key = b->slots[b->count - 1].key;
    b->slots[b->count - 1].key = KEYS - 1;
    make_image();
    damage_block(block_of("/victim", 0));
    salvage();
    assert_int_equal(nlines, 3);
    assert_line("/many|1 of its %u names are lost", MANY);
    b = region_known_block(
        fs, ((struct node *)region_known_block(fs, inode_of("/many")->root[0].blk))->entries[0].blk);
    b->slots[b->count - 1].key = key; /* teardown wants it sound */
}

/* ---- any pages ---------------------------------------------------------------------------------- */

struct saved {
    uint64_t page, *from;
    uint8_t was[IMAGE_PAGE];
};

/* Pages that are no holes: one is found damaged, if it is damaged. */
static uint64_t pages_in_use(uint64_t **ret)
{
    struct image_diag diag;
    struct image *img;
    uint64_t n = 0;

    *ret = calloc(image_pages(), sizeof(**ret));
    CHECK(*ret != NULL);
    MUST(image_open(image_path, IMAGE_READ, &img, &diag));
    for (uint64_t page = 0; page < image_pages(); page++) {
        if (!image_is_hole(img, page))
            (*ret)[n++] = page;
    }
    image_close(img);
    return n;
}

static void scribble(int fd, uint64_t page, struct saved *save)
{
    uint8_t now[IMAGE_PAGE];

    save->page = page;
    CHECK_EQ(pread(fd, save->was, IMAGE_PAGE, home_of(page)), IMAGE_PAGE);
    for (unsigned i = 0; i < IMAGE_PAGE; i += 8) {
        uint64_t bits = random_next();

        memcpy(now + i, &bits, 8);
    }
    CHECK_EQ(pwrite(fd, now, IMAGE_PAGE, home_of(page)), IMAGE_PAGE);
}

static bool is_told_of(const char *path)
{
    size_t n = strlen(path);

    for (unsigned i = 0; i < nlines; i++) {
        if (strncmp(lines[i], path, n) == 0 && lines[i][n] == '|')
            return true;
    }
    return false;
}

/* Whatever is not as it was was told of; and a name that is not there, by one of the directories above it. */
static void assert_told_or_same(const char *path, void *arg)
{
    char above[PATH_MAX];
    struct stat st;

    if (is_told_of(path))
        return;
    if (shmfs_lstat(restored, path, &st) == 0) {
        assert_same(path, path);
        return;
    }
    snprintf(above, sizeof(above), "%s", path);
    while (above[1] != 0) {
        char *slash = strrchr(above, '/');

        slash[slash == above] = 0;
        if (is_told_of(above))
            return;
    }
    fail_msg("%s: is not there, and nobody says so", path);
}

/* `head`: one of the pages is the superblock or of what an image says of itself. */
static void assert_salvaged(unsigned pages, bool head)
{
    struct shmfs_restore how = how_to(true);
    struct shmfs_restore_result result = { 0 };
    struct shmfs_diag diag = { 0 };
    int r;

    lines_forget();
    r = shmfs_image_restore(image_path, restored_path, &how, &result, &diag);
    if (head) {
        CHECK_EQ(r, -EUCLEAN);
        CHECK_EQ(diag.reason, SHMFS_REASON_IMAGE_PAGES);
        CHECK(access(restored_path, F_OK) < 0);
        return;
    }
    CHECK_EQ(r, 0);
    CHECK_EQ(result.damaged, pages);
    CHECK(nlines > 0);
    CHECK_EQ(problems_of(restored_path), 0);
    restored = api_attach_at(restored_path, SHMFS_NOATIME);
    each_name(fs, "/", assert_told_or_same, NULL);
    if (!is_told_of("/"))
        assert_same("/", "/");
    shmfs_detach(restored);
    restored = NULL;
    MUST(unlink(restored_path));
}

static void test_salvage_bears_any_pages(void **state)
{
    AUTO_CLOSE int fd = (int)MUST(open(image_path, O_RDWR | O_CLOEXEC));
    AUTO_FREE uint64_t *all = NULL;
    AUTO_FREE struct saved *saved = calloc(20, sizeof(*saved));
    uint64_t n = pages_in_use(&all);

    random_start(20261);
    for (unsigned round = 0; round < 300; round++) {
        unsigned pages = 0, wanted = 1 + (unsigned)random_below(20);
        bool head = false;

        while (pages < wanted) {
            /* What is not data is few among all pages, and comes first: half of them are chosen there. */
            uint64_t *page = &all[random_below(random_below(2) ? n : n / 8)];

            if (*page == UINT64_MAX)
                continue;
            scribble(fd, *page, &saved[pages]);
            saved[pages++].from = page;
            head = head || *page < IMAGE_PERSISTENT;
            *page = UINT64_MAX;
        }
        assert_salvaged(pages, head);
        while (pages-- > 0) {
            CHECK_EQ(pwrite(fd, saved[pages].was, IMAGE_PAGE, home_of(saved[pages].page)), IMAGE_PAGE);
            *saved[pages].from = saved[pages].page;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        empty_unit(test_salvage_cuts_circles),
        empty_unit(test_salvage_bears_any_depth),
        empty_unit(test_salvage_finds_a_name_for_what_is_lost),
        empty_unit(test_salvage_leaves_a_file_of_its_name_alone),
        empty_unit(test_salvage_moves_a_tree_as_a_whole),
        empty_unit(test_salvage_leaves_nothing_behind),
        empty_unit(test_salvage_believes_no_extent_that_overlaps),
        empty_unit(test_salvage_believes_no_name_in_a_foreign_bucket),
        salvage_unit(test_salvage_bears_any_pages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
