/* SPDX-License-Identifier: MIT */
/*
 * P4, S8: an image is the region as it was at one point in time, however little of it was written; whoever dies or stops at the gate
 * holds nobody up for long; and what could not be written is written the next time.
 */
#include "api.h"

#include <sys/mman.h>
#include <sys/xattr.h>

#include "image.h"
#include "snapshot.h"
#include "storage.h"

static char image_path[96], second_image[96], restored_path[96];
static struct shmfs_snapshot *snapshot;

static int snapshot_setup(void **state)
{
    int r = api_setup(state);

    snprintf(image_path, sizeof(image_path), "%s.image", region_path);
    snprintf(second_image, sizeof(second_image), "%s.second", region_path);
    snprintf(restored_path, sizeof(restored_path), "%s.restored", region_path);
    return r;
}

static int snapshot_teardown(void **state)
{
    storage_hook = NULL;
    shmfs_snapshot_close(snapshot);
    snapshot = NULL;
    unlink(image_path);
    unlink(second_image);
    unlink(restored_path);
    return api_teardown(state);
}

#define snapshot_unit(f) cmocka_unit_test_setup_teardown(f, snapshot_setup, snapshot_teardown)

/* ---- helpers ------------------------------------------------------------------------------------- */

static struct shmfs_snapshot *open_at(const char *path, unsigned flags)
{
    struct shmfs_snapshot *ret = NULL;
    struct shmfs_diag diag;
    char text[512];
    int r = shmfs_snapshot_open(fs, path, flags, &ret, &diag);

    if (r < 0)
        broken_at(shmfs_diag_text(&diag, r, path, text, sizeof(text)), r, __FILE__, __LINE__);
    return ret;
}

static struct shmfs_snapshot_result take(struct shmfs_snapshot *s)
{
    struct shmfs_snapshot_result ret;
    struct shmfs_diag diag;

    MUST(shmfs_snapshot_take(s, false, NULL, &ret, &diag));
    return ret;
}

static void restore(const char *image)
{
    const struct shmfs_restore how = { .force = true, .mode = 0600 };
    struct shmfs_restore_result result;
    struct shmfs_diag diag;
    char text[512];
    int r = shmfs_image_restore(image, restored_path, &how, &result, &diag);

    if (r < 0)
        broken_at(shmfs_diag_text(&diag, r, image, text, sizeof(text)), r, __FILE__, __LINE__);
    CHECK_EQ(problems_of(restored_path), 0);
}

/* Does the restored one have this file, with this text? */
static void assert_restored(const char *path, const char *text)
{
    struct shmfs *now = fs;

    fs = api_attach_at(restored_path, 0);
    if (text != NULL)
        assert_text(path, text);
    else
        CHECK_EQ(lstat_result(path), -ENOENT);
    shmfs_detach(fs);
    fs = now;
}

static void assert_restored_one_of(const char *path, const char *text, const char *other)
{
    struct shmfs *now = fs;
    struct shmfs_file *f;
    char buf[64] = "";

    fs = api_attach_at(restored_path, 0);
    f = open_file(path, O_RDONLY);
    MUST(shmfs_pread(f, buf, sizeof(buf) - 1, 0));
    close_file(f);
    shmfs_detach(fs);
    fs = now;
    CHECK(strcmp(buf, text) == 0 || strcmp(buf, other) == 0);
}

/* Every page that is in use is in the image as it is in the region, and no other is there. */
static void assert_same_pages(const char *path)
{
    struct image_diag diag;
    struct image *img;
    uint8_t page[BLOCK_SIZE];

    MUST(image_open(path, IMAGE_SALVAGE, &img, &diag)); /* who is at it has it locked: it is only looked at */
    for (uint64_t i = 0; i < fs->l.npages; i++) {
        const uint8_t *is = fs->base + fs->l.group_desc + i * BLOCK_SIZE;
        uint64_t blk = i - snapshot_first_block(&fs->l);
        bool used =
            i < snapshot_first_block(&fs->l) ||
            (blk < region_nblocks(fs) &&
             (region_block_map(fs, (uint32_t)(blk / fs->l.group_blocks))[blk % fs->l.group_blocks / 64] >>
                  blk % 64 &
              1) != 0);

        MUST(image_read(img, IMAGE_PERSISTENT + i, page));
        if (used ? memcmp(page, is, BLOCK_SIZE) != 0 : !image_is_hole(img, IMAGE_PERSISTENT + i))
            broken_at(used ? "a page is not as it is" : "a free block is in the image", (long long)i,
                      __FILE__, __LINE__);
    }
    image_close(img);
}

/* ---- one point in time ---------------------------------------------------------------------------- */

static void test_snapshot_restores_what_there_was(void **state)
{
    MUST(shmfs_mkdir(fs, "d", 0750));
    put_text("d/a", "one");
    put_bytes("large", 'x', 3 * MIB);
    MUST(shmfs_symlink(fs, "d/a", "link"));
    MUST(shmfs_link(fs, "d/a", "d/b"));
    MUST(shmfs_setxattr(fs, "d/a", "user.x", "y", 1, 0));
    snapshot = open_at(image_path, 0);
    struct shmfs_snapshot_result first = take(snapshot);
    assert_true(first.fresh);
    assert_int_equal(first.sequence, 1);
    assert_same_pages(image_path);
    put_text("later", "not in it");
    restore(image_path);
    assert_restored("d/a", "one");
    assert_restored("d/b", "one");
    assert_restored("later", NULL);
    struct shmfs *was = fs;
    struct stat st = stat_of("d/a"), then;
    fs = api_attach_at(restored_path, 0);
    then = stat_of("d/a");
    assert_int_equal(then.st_nlink, 2);
    assert_memory_equal(&then.st_mtim, &st.st_mtim, sizeof(st.st_mtim));
    assert_all_bytes("large", 'x');
    shmfs_detach(fs);
    fs = was;
}

static void test_snapshot_of_nothing_is_one(void **state)
{
    snapshot = open_at(image_path, 0);
    take(snapshot);
    restore(image_path);
}

static void test_snapshot_writes_only_what_changed(void **state)
{
    put_bytes("large", 'x', 8 * MIB);
    snapshot = open_at(image_path, 0);
    assert_true(take(snapshot).written >= 8 * MIB);
    assert_false(shmfs_snapshot_is_due(snapshot));
    struct shmfs_file *f = open_file("large", O_WRONLY);
    assert_int_equal(shmfs_pwrite(f, "y", 1, 5 * MIB), 1);
    close_file(f);
    assert_true(shmfs_snapshot_is_due(snapshot));
    struct shmfs_snapshot_result r = take(snapshot);
    assert_false(r.fresh);
    assert_true(r.looked_at <= 8 * BLOCK_SIZE); /* the block, its inode, and what the last close left */
    assert_true(r.written <= 8 * BLOCK_SIZE);
    assert_same_pages(image_path);
    /* Also in a process that comes later: the region knows. */
    shmfs_snapshot_close(snapshot);
    api_detach();
    fs = api_attach(0);
    put_text("small", "s");
    snapshot = open_at(image_path, 0);
    r = take(snapshot);
    assert_true(r.looked_at <= 16 * BLOCK_SIZE);
    restore(image_path);
    assert_restored("small", "s");
}

/* An image that is not the last that was made gets what it lacks, found by its hashes. */
static void test_snapshot_to_two_images_in_turns(void **state)
{
    struct shmfs_snapshot *other;

    put_bytes("large", 'x', 2 * MIB);
    snapshot = open_at(image_path, 0);
    other = open_at(second_image, 0);
    take(snapshot);
    take(other);
    put_text("a", "1");
    take(snapshot);
    put_text("b", "2");
    struct shmfs_snapshot_result r = take(other);
    assert_true(r.looked_at >= 2 * MIB);
    assert_true(r.written <= 32 * BLOCK_SIZE);
    assert_same_pages(second_image);
    shmfs_snapshot_close(other);
    restore(image_path);
    assert_restored("a", "1");
    assert_restored("b", NULL);
}

/* ... unless somebody keeps one, for whom the marks are: then the other gives them back. */
static void test_snapshot_beside_a_kept_image_costs_that_nothing(void **state)
{
    pid_t pid;
    int status;

    put_bytes("large", 'x', 2 * MIB);
    snapshot = open_at(image_path, SHMFS_SNAPSHOT_KEEP);
    take(snapshot);
    put_text("a", "1");
    pid = fork();
    if (pid == 0) {
        away = true;
        fs = api_attach(0);
        struct shmfs_snapshot *other = open_at(second_image, 0);
        take(other);
        shmfs_snapshot_close(other);
        shmfs_detach(fs);
        _exit(0);
    }
    MUST(waitpid(pid, &status, 0));
    assert_int_equal(status, 0);
    assert_true(shmfs_snapshot_is_due(snapshot));
    assert_true(take(snapshot).looked_at <= 64 * BLOCK_SIZE);
    assert_same_pages(image_path);
    restore(second_image);
    assert_restored("a", "1");
}

/* ---- whatever is done ------------------------------------------------------------------------------ */

static void *mapped_now;
static struct shmfs_file *open_now;

static void some_name(char *ret)
{
    static const char *const dirs[] = { "", "d/", "e/", "e/f/" };

    sprintf(ret, "%s%c%d", dirs[random_below(4)], "ab"[random_below(2)], (int)random_below(6));
}

static void random_write(const char *name)
{
    AUTO_FREE char *buf = malloc(300000);
    struct shmfs_file *f;
    size_t n = random_below(4) == 0 ? random_below(300000) : 1 + random_below(9000);

    if (shmfs_open(fs, name, O_RDWR | O_CREAT, 0644, &f) < 0)
        return;
    memset(buf, (int)random_next(), n);
    shmfs_pwrite(f, buf, n, (off_t)random_below(500000));
    close_file(f);
}

/* Stores by pointer count from shmfs_msync(), or from the end of the mapping. */
static void random_map(const char *name)
{
    void *p;

    if (open_now != NULL && random_below(2) == 0) {
        shmfs_unmap(fs, mapped_now, 4096);
        close_file(open_now);
        open_now = NULL;
    }
    if (open_now == NULL) {
        if (shmfs_open(fs, name, O_RDWR, 0, &open_now) < 0) {
            open_now = NULL;
            return;
        }
        if (fstat_of(open_now).st_size < 4096 ||
            shmfs_map(open_now, 0, 4096, PROT_READ | PROT_WRITE, &p) < 0) {
            close_file(open_now);
            open_now = NULL;
            return;
        }
        mapped_now = p;
    }
    memset(mapped_now, (int)random_next(), 1 + random_below(4096));
    if (random_below(2) == 0)
        shmfs_msync(open_now, 0, 4096);
}

static void random_step(void)
{
    char a[32], b[32], value[3000];

    some_name(a);
    some_name(b);
    memset(value, (int)random_next(), sizeof(value));
    switch (random_below(16)) {
    case 0:
        shmfs_mkdir(fs, random_below(2) ? "d" : "e", 0755);
        shmfs_mkdir(fs, "e/f", 0755);
        break;
    case 1:
        shmfs_unlink(fs, a);
        break;
    case 2:
        shmfs_rename(fs, a, b, 0);
        break;
    case 3:
        shmfs_link(fs, a, b);
        break;
    case 4:
        shmfs_truncate(fs, a, (off_t)random_below(600000));
        break;
    case 5:
        shmfs_setxattr(fs, a, random_below(2) ? "user.x" : "user.y", value, random_below(sizeof(value)), 0);
        break;
    case 6:
        shmfs_removexattr(fs, a, "user.x");
        break;
    case 7:
        shmfs_chmod(fs, a, 0600 + (mode_t)random_below(128));
        break;
    case 8:
        shmfs_symlink(fs, "somewhere", a);
        break;
    case 9:
        shmfs_rmdir(fs, random_below(2) ? "e/f" : "d");
        break;
    case 10: {
        struct shmfs_file *f;

        if (shmfs_open(fs, a, O_RDWR, 0, &f) < 0)
            break;
        shmfs_fallocate(f, random_below(2) ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : 0,
                        (off_t)random_below(400000), 1 + (off_t)random_below(100000));
        close_file(f);
        break;
    }
    case 11:
    case 12:
        random_map(a);
        break;
    default:
        random_write(a);
    }
}

/* S8: each change is found by its marks alone, so that an image to which only those pages go has all of it. */
static void test_snapshot_finds_every_change(void **state)
{
    random_start(7);
    api_renew(16 * MIB, 512);
    snapshot = open_at(image_path, 0);
    open_now = NULL;
    for (int i = 0; i < 400; i++) {
        for (uint64_t steps = random_below(12); steps > 0; steps--)
            random_step();
        take(snapshot);
        assert_same_pages(image_path);
        if (i % 50 == 0)
            restore(image_path);
    }
    if (open_now != NULL) {
        shmfs_unmap(fs, mapped_now, 4096);
        close_file(open_now);
    }
}

/* For an fsync nothing is looked at that has no mark: shmfs_msync() marks, and large writes do. */
static void test_snapshot_fast_has_what_was_synced(void **state)
{
    struct shmfs_snapshot_result result;
    struct shmfs_diag diag;
    void *p;

    put_bytes("a", 'x', 4 * MIB);
    struct shmfs_file *f = open_file("a", O_RDWR);
    MUST(shmfs_map(f, 0, PAGE, PROT_READ | PROT_WRITE, &p));
    snapshot = open_at(image_path, 0);
    take(snapshot);
    memset(p, 'y', PAGE);
    MUST(shmfs_msync(f, 0, PAGE));
    MUST(shmfs_snapshot_take(snapshot, true, NULL, &result, &diag));
    assert_same_pages(image_path);
    AUTO_FREE char *large = malloc(2 * MIB);
    memset(large, 'z', 2 * MIB);
    assert_int_equal(shmfs_pwrite(f, large, 2 * MIB, MIB + 5), 2 * MIB);
    MUST(shmfs_snapshot_take(snapshot, true, NULL, &result, &diag));
    assert_same_pages(image_path);
    MUST(shmfs_unmap(fs, p, PAGE));
    close_file(f);
}

/* ---- what is under way ----------------------------------------------------------------------------- */

/* A file without a name is there for who has it open, and nobody has after a restore; blocks behind the end likewise. */
static void test_snapshot_restore_ends_what_was_kept_for_the_living(void **state)
{
    struct statvfs empty = space_now();
    void *p;

    put_bytes("gone", 'g', MIB);
    struct shmfs_file *f = open_file("gone", O_RDWR);
    MUST(shmfs_unlink(fs, "gone"));
    put_bytes("short", 's', MIB);
    struct shmfs_file *g = open_file("short", O_RDWR);
    MUST(shmfs_map(g, 0, MIB, PROT_READ | PROT_WRITE, &p));
    MUST(shmfs_ftruncate(g, 0));
    snapshot = open_at(image_path, 0);
    take(snapshot);
    MUST(shmfs_unmap(fs, p, MIB));
    close_file(f);
    close_file(g);
    restore(image_path);
    struct shmfs *was = fs;
    fs = api_attach_at(restored_path, 0);
    MUST(shmfs_unlink(fs, "short"));
    assert_space(&empty);
    shmfs_detach(fs);
    fs = was;
}

/* As file_resize() leaves a file at its first checkpoint, at the gate: it is empty, and its blocks are still to be freed. */
static void empty_halfway(struct txn *t, const char *path)
{
    uint32_t ino = (uint32_t)stat_of(path).st_ino;

    MUST(txn_begin(fs, t));
    MUST(txn_lock_inode(t, ino));
    inode_edit(t, ino)->size = 0;
    txn_todo(t, TODO_TRIM, ino, 0, UINT64_MAX);
    txn_checkpoint(t);
    gate_step_out(t->slot);
}

/* A slot's todo at that moment is finished by who restores. */
static void test_snapshot_restore_finishes_what_was_under_way(void **state)
{
    struct statvfs empty = space_now();
    struct txn t;

    put_bytes("half", 'h', MIB);
    empty_halfway(&t, "half");
    snapshot = open_at(image_path, 0);
    take(snapshot);
    gate_pass(fs, t.slot);
    inode_settle(&t);
    txn_commit(&t);
    restore(image_path);
    struct shmfs *was = fs;
    fs = api_attach_at(restored_path, 0);
    assert_int_equal(stat_of("half").st_blocks, 0);
    MUST(shmfs_unlink(fs, "half"));
    assert_space(&empty);
    shmfs_detach(fs);
    fs = was;
}

/* ---- the gate ---------------------------------------------------------------------------------------- */

static void hold_inside(int fd, void *arg)
{
    struct txn t;

    fs = api_attach(0);
    MUST(txn_begin(fs, &t));
    MUST(txn_lock_inode(&t, ROOT_INO));
    inode_edit(&t, ROOT_INO)->mode ^= 0100;
    pass(fd);
    for (;;)
        pause();
}

/* Who is stopped in the middle of a change is named, and nobody else is held up. */
static void test_snapshot_names_who_is_stopped_inside(void **state)
{
    mode_t mode = stat_of(".").st_mode; /* while he does not hold it */
    struct child child = spawn(hold_inside, NULL);
    struct shmfs_snapshot_result result;
    struct shmfs_diag diag;

    await(child.fd);
    snapshot = open_at(image_path, 0);
    assert_int_equal(shmfs_snapshot_take(snapshot, true, NULL, &result, &diag), -EBUSY);
    assert_int_equal(diag.reason, SHMFS_REASON_SNAPSHOT_STUCK);
    assert_int_equal(diag.a, child.pid);
    assert_int_equal(fs->rt->gate, 0);
    /* Killed there, he is buried, and the snapshot has nothing of it. */
    murder(&child);
    take(snapshot);
    assert_same_pages(image_path);
    assert_int_equal(stat_of(".").st_mode, mode);
}

static void shut_and_wait(int fd, void *arg)
{
    uint64_t word;
    uint32_t slot;
    struct txn t;

    fs = api_attach(0);
    MUST(txn_begin(fs, &t));
    MUST(gate_shut(fs, t.index, &word, &slot));
    pass(fd);
    for (;;)
        pause();
}

/* A snapshotter that is killed at the gate, or stopped there, holds nobody up for long. */
static void test_snapshot_a_dead_or_stopped_one_opens_the_gate(void **state)
{
    struct child child = spawn(shut_and_wait, NULL);

    await(child.fd);
    uint64_t begin = lock_now_ns();
    put_text("a", "he is stopped");
    assert_int_equal(fs->rt->gate, 0);
    assert_true(lock_now_ns() - begin >= 900 * UINT64_C(1000000)); /* it was given its time */
    murder(&child);
    child = spawn(shut_and_wait, NULL);
    await(child.fd);
    murder(&child);
    put_text("b", "he is dead");
    assert_int_equal(fs->rt->gate, 0);
}

/* A transaction that is undone, and waits for a busy group while the gate is shut, is inside again when it goes on. */
static void *open_when_it_waits(void *slot)
{
    while (LOAD(&((struct slot *)slot)->outside) == 0 && LOAD(&fs->rt->gate) != 0)
        usleep(100);
    gate_open(fs, LOAD(&fs->rt->gate)); /* if this was too slow, he has opened it himself */
    return NULL;
}

static void test_snapshot_who_is_undone_at_the_gate_comes_in_again(void **state)
{
    struct shmfs *other = api_attach(0);
    uint64_t word = UINT64_C(99) << 16;
    pthread_t opener;
    struct txn t, late;

    MUST(txn_begin(other, &late)); /* in whose name the gate is shut */
    word |= late.index + 1;
    MUST(txn_begin(fs, &t));
    MUST(txn_lock_inode(&t, ROOT_INO));
    inode_edit(&t, ROOT_INO)->mode ^= 0100;
    t.busy_group = 0;
    STORE(&fs->rt->gate, word);
    CHECK_EQ(pthread_create(&opener, NULL, open_when_it_waits, t.slot), 0);
    assert_int_equal(txn_abort_for(&t, -EAGAIN), -EAGAIN);
    CHECK_EQ(pthread_join(opener, NULL), 0);
    assert_int_equal(t.slot->outside, 0);
    assert_int_equal(t.slot->nlocks, 0);
    txn_abort(&late);
    shmfs_detach(other);
}

/* Who died at the gate, between two steps of his work, is buried like others: also by one who comes alone. */
static void die_at_the_gate(int fd, void *arg)
{
    struct txn t;

    fs = api_attach(0);
    empty_halfway(&t, "half");
    pass(fd);
    for (;;)
        pause();
}

static void test_snapshot_who_died_at_the_gate_is_buried(void **state)
{
    for (int alone = 0; alone < 2; alone++) {
        put_bytes("half", 'h', MIB);
        if (alone)
            api_detach();
        struct child child = spawn(die_at_the_gate, NULL);
        await(child.fd);
        murder(&child);
        if (alone)
            fs = api_attach(0);
        MUST(shmfs_chmod(fs, "half", 0600)); /* waits for his lock */
        assert_int_equal(stat_of("half").st_blocks, 0);
    }
}

/* Marks that come while others are taken, as by one whose gate was opened by force, are found the next time. */
static uint64_t mark_meanwhile, found_pages;

static void mark_then(void *arg, uint64_t page, uint64_t bits)
{
    found_pages += (uint64_t)__builtin_popcountll(bits);
    if (mark_meanwhile != UINT64_MAX)
        dirty_mark_at(fs, fs->l.group_desc + mark_meanwhile * BLOCK_SIZE, 1);
    mark_meanwhile = UINT64_MAX;
}

static void test_snapshot_marks_are_not_lost_by_a_forced_gate(void **state)
{
    for (uint64_t other = 0; other < 200; other += 3) { /* in the same word, before it, behind it */
        uint64_t from = 0;

        mark_meanwhile = UINT64_MAX;
        while (dirty_take(fs, &from, UINT32_MAX, mark_then, NULL))
            continue;
        dirty_mark_at(fs, fs->l.group_desc + 100 * BLOCK_SIZE, 1);
        mark_meanwhile = other;
        found_pages = 0;
        assert_false(dirty_take(fs, &from, UINT32_MAX, mark_then, NULL));
        uint64_t now = found_pages;
        assert_false(dirty_take(fs, &from, UINT32_MAX, mark_then, NULL));
        assert_true(now >= 1);
        assert_int_equal(found_pages, 2);
    }
}

/* ---- errors ------------------------------------------------------------------------------------------- */

static int steps_left, error_given;

static int fail_after(enum storage_step step, const char *path, uint64_t off, const void *buf, uint64_t n)
{
    return steps_left-- == 0 ? error_given : 0;
}

/* Whatever step of the disk fails: the error is told, the old image is whole, and the next one has everything. */
static void test_snapshot_a_failing_disk_loses_nothing(void **state)
{
    static const int errors[] = { -EIO, -ENOSPC, -EROFS };
    struct shmfs_snapshot_result result;
    struct shmfs_diag diag;
    char text[32] = "0";

    put_text("a", text);
    snapshot = open_at(image_path, 0);
    take(snapshot);
    for (int at = 0;; at++) {
        char next[32];
        int r;

        snprintf(next, sizeof(next), "%d", at + 1);
        put_text("a", next);
        steps_left = at / 3;
        error_given = errors[at % 3];
        storage_hook = fail_after;
        r = shmfs_snapshot_take(snapshot, false, NULL, &result, &diag);
        storage_hook = NULL;
        if (steps_left >= 0)
            break;
        /* What failed after it was durable is no failure; but the next one writes a fresh image. */
        assert_true(r == 0 || r == error_given);
        restore(image_path);
        assert_restored_one_of("a", r == 0 ? next : text,
                               next); /* what failed last may be there all the same, but whole */
        put_text("b", next);
        assert_true(take(snapshot).fresh);
        restore(image_path);
        assert_restored("a", next);
        assert_restored("b", next);
        strcpy(text, next);
        shmfs_snapshot_close(snapshot);
        snapshot = open_at(image_path, 0);
    }
    assert_int_equal(shmfs_snapshot_take(snapshot, false, NULL, &result, &diag), 0);
}

static int give_up(void *arg, uint64_t done, uint64_t total)
{
    return done > MIB;
}

static void test_snapshot_that_is_given_up_leaves_the_old_image(void **state)
{
    const struct shmfs_progress progress = { .step = give_up };
    struct shmfs_snapshot_result result;
    struct shmfs_diag diag;

    put_text("a", "old");
    snapshot = open_at(image_path, 0);
    take(snapshot);
    put_text("a", "new");
    put_bytes("large", 'l', 8 * MIB);
    assert_int_equal(shmfs_snapshot_take(snapshot, false, &progress, &result, &diag), -ECANCELED);
    restore(image_path);
    assert_restored("a", "old");
    take(snapshot);
    restore(image_path);
    assert_restored("a", "new");
    assert_same_pages(image_path);
}

static void test_snapshot_refuses_what_is_not_its_image(void **state)
{
    struct shmfs_diag diag;
    struct shmfs_snapshot *s;

    snapshot = open_at(image_path, 0);
    take(snapshot);
    assert_int_equal(shmfs_snapshot_open(fs, image_path, 0, &s, &diag), -EBUSY);
    assert_int_equal(diag.reason, SHMFS_REASON_IMAGE_BUSY);
    shmfs_snapshot_close(snapshot);
    snapshot = NULL;
    api_renew(REGION_SIZE, 0); /* another filesystem */
    assert_int_equal(shmfs_snapshot_open(fs, image_path, 0, &s, &diag), -EEXIST);
    assert_int_equal(diag.reason, SHMFS_REASON_IMAGE_OTHER);
    snapshot = open_at(image_path, SHMFS_SNAPSHOT_FORCE);
    put_text("a", "mine");
    take(snapshot);
    restore(image_path);
    assert_restored("a", "mine");
    shmfs_snapshot_close(snapshot);
    snapshot = NULL;
    MUST(truncate(image_path, 0));
    assert_int_equal(shmfs_snapshot_open(fs, image_path, SHMFS_SNAPSHOT_FORCE, &s, &diag), -EUCLEAN);
    assert_int_equal(diag.reason, SHMFS_REASON_NOT_IMAGE);
}

/* Who writes an image is not left with a file that has no name: neither by another who makes one there, nor by rm. */
static void test_snapshot_an_image_keeps_its_name_while_it_is_written(void **state)
{
    struct shmfs_snapshot *other = open_at(image_path, 0);
    struct shmfs_snapshot_result result;
    struct shmfs_diag diag;

    snapshot = open_at(image_path, 0); /* both would make it */
    take(snapshot);
    assert_int_equal(shmfs_snapshot_take(other, false, NULL, &result, &diag), -EBUSY);
    assert_int_equal(diag.reason, SHMFS_REASON_IMAGE_BUSY);
    shmfs_snapshot_close(other);
    put_text("a", "1");
    take(snapshot);
    restore(image_path);
    assert_restored("a", "1");
    MUST(unlink(image_path));
    put_text("a", "2");
    assert_true(take(snapshot).fresh);
    restore(image_path);
    assert_restored("a", "2");
}

static void copy_file(const char *from, const char *to)
{
    char command[256];

    snprintf(command, sizeof(command), "cp %s %s", from, to);
    CHECK_EQ(system(command), 0);
}

/* Copies of one image that went different ways do not pass for each other. */
static void test_snapshot_a_copy_of_an_image_is_another(void **state)
{
    put_bytes("large", 'x', MIB);
    snapshot = open_at(image_path, 0);
    take(snapshot);
    shmfs_snapshot_close(snapshot);
    copy_file(image_path, second_image);
    snapshot = open_at(second_image, 0);
    put_text("a", "1");
    take(snapshot);
    shmfs_snapshot_close(snapshot);
    snapshot = open_at(image_path, 0);
    put_text("a", "2");
    take(snapshot); /* has as many commits now as the copy */
    shmfs_snapshot_close(snapshot);
    snapshot = open_at(second_image, 0);
    take(snapshot);
    assert_same_pages(second_image);
}

/* One attach makes one snapshot at a time, whoever asks. */
static struct shmfs_snapshot *second_snapshot;
static int second_result;

static int take_another(void *arg, uint64_t done, uint64_t total)
{
    struct shmfs_snapshot_result result;
    struct shmfs_diag diag;

    second_result = shmfs_snapshot_take(second_snapshot, false, NULL, &result, &diag);
    return 0;
}

static void test_snapshot_one_at_a_time(void **state)
{
    const struct shmfs_progress progress = { .step = take_another };
    struct shmfs_snapshot_result result;
    struct shmfs_diag diag;

    put_bytes("large", 'x', 8 * MIB);
    snapshot = open_at(image_path, 0);
    second_snapshot = open_at(second_image, 0);
    second_result = 0;
    MUST(shmfs_snapshot_take(snapshot, false, &progress, &result, &diag));
    assert_int_equal(second_result, -EBUSY);
    take(second_snapshot);
    assert_same_pages(image_path);
    assert_same_pages(second_image);
    shmfs_snapshot_close(second_snapshot);
}

/* Nothing has changed: nothing is written, and it is told at once. */
static void test_snapshot_of_no_change_is_no_commit(void **state)
{
    put_text("a", "1");
    snapshot = open_at(image_path, 0);
    uint64_t sequence = take(snapshot).sequence;
    struct shmfs_snapshot_result r = take(snapshot);
    assert_int_equal(r.sequence, sequence);
    assert_int_equal(r.written, 0);
}

/* ---- fsync --------------------------------------------------------------------------------------------- */

static void *decide(void *arg)
{
    for (int n = 0; n < 2;) {
        uint64_t ticket = shmfs_sync_wanted(fs, 10);

        if (ticket == 0)
            continue;
        if (n == 0)
            take(snapshot);
        shmfs_sync_decide(fs, ticket, n == 0 ? 0 : -ENOSPC);
        n++;
    }
    return NULL;
}

static void test_snapshot_fsync_is_in_the_image(void **state)
{
    struct shmfs_file *f = open_file("a", O_RDWR | O_CREAT);
    pthread_t keeper;

    assert_int_equal(shmfs_fsync(f), 0); /* nobody keeps an image */
    snapshot = open_at(image_path, SHMFS_SNAPSHOT_KEEP);
    CHECK_EQ(pthread_create(&keeper, NULL, decide, NULL), 0);
    assert_int_equal(shmfs_pwrite(f, "kept", 4, 0), 4);
    assert_int_equal(shmfs_fsync(f), 0);
    restore(image_path);
    assert_restored("a", "kept");
    assert_int_equal(shmfs_fsync(f), -ENOSPC);
    CHECK_EQ(pthread_join(keeper, NULL), 0);
    shmfs_snapshot_close(snapshot);
    snapshot = NULL;
    assert_int_equal(shmfs_fsync(f), 0);
    close_file(f);
}

static void keep_and_wait(int fd, void *arg)
{
    fs = api_attach(0);
    open_at(image_path, SHMFS_SNAPSHOT_KEEP);
    pass(fd);
    for (;;)
        pause();
}

/* With the keeper dead nobody is told that something is kept. */
static void test_snapshot_fsync_without_its_keeper_fails(void **state)
{
    struct child child = spawn(keep_and_wait, NULL);
    struct shmfs_file *f = open_file("a", O_RDWR | O_CREAT);

    await(child.fd);
    murder(&child);
    assert_int_equal(shmfs_fsync(f), -EIO);
    snapshot = open_at(image_path, SHMFS_SNAPSHOT_KEEP); /* a successor */
    close_file(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        snapshot_unit(test_snapshot_restores_what_there_was),
        snapshot_unit(test_snapshot_of_nothing_is_one),
        snapshot_unit(test_snapshot_writes_only_what_changed),
        snapshot_unit(test_snapshot_to_two_images_in_turns),
        snapshot_unit(test_snapshot_beside_a_kept_image_costs_that_nothing),
        snapshot_unit(test_snapshot_finds_every_change),
        snapshot_unit(test_snapshot_fast_has_what_was_synced),
        snapshot_unit(test_snapshot_restore_ends_what_was_kept_for_the_living),
        snapshot_unit(test_snapshot_restore_finishes_what_was_under_way),
        snapshot_unit(test_snapshot_names_who_is_stopped_inside),
        snapshot_unit(test_snapshot_a_dead_or_stopped_one_opens_the_gate),
        snapshot_unit(test_snapshot_who_is_undone_at_the_gate_comes_in_again),
        snapshot_unit(test_snapshot_who_died_at_the_gate_is_buried),
        snapshot_unit(test_snapshot_marks_are_not_lost_by_a_forced_gate),
        snapshot_unit(test_snapshot_an_image_keeps_its_name_while_it_is_written),
        snapshot_unit(test_snapshot_a_copy_of_an_image_is_another),
        snapshot_unit(test_snapshot_one_at_a_time),
        snapshot_unit(test_snapshot_of_no_change_is_no_commit),
        snapshot_unit(test_snapshot_a_failing_disk_loses_nothing),
        snapshot_unit(test_snapshot_that_is_given_up_leaves_the_old_image),
        snapshot_unit(test_snapshot_refuses_what_is_not_its_image),
        snapshot_unit(test_snapshot_fsync_is_in_the_image),
        snapshot_unit(test_snapshot_fsync_without_its_keeper_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
