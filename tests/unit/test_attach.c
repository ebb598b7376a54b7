/* SPDX-License-Identifier: MIT */
/* Attaching and detaching: who may, what the first finds and what the last leaves (LOCKING, "Attach"). */
#include "fixture.h"

#include <linux/falloc.h>
#include <xxhash.h>

static char copy_path[96];

static int setup_copy(void **state)
{
    setup(state);
    snprintf(copy_path, sizeof(copy_path), "%s-copy", region_path);
    unlink(copy_path);
    return 0;
}

static int teardown_copy(void **state)
{
    unlink(copy_path);
    return teardown(state);
}

#define attach_unit(f) cmocka_unit_test_setup_teardown(f, setup_copy, teardown_copy)

/* As cp(1) would; holes stay holes. */
static void copy_region(void)
{
    AUTO_CLOSE int from = (int)MUST(open(region_path, O_RDONLY | O_CLOEXEC));
    AUTO_CLOSE int to = (int)MUST(open(copy_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    char buf[BLOCK_SIZE];
    struct stat st;

    MUST(fstat(from, &st));
    MUST(ftruncate(to, st.st_size));
    for (off_t at = 0; (at = lseek(from, at, SEEK_DATA)) >= 0; at += BLOCK_SIZE) {
        ssize_t n = MUST(pread(from, buf, sizeof(buf), at));
        CHECK_EQ(pwrite(to, buf, (size_t)n, at), n);
    }
}

/* Of the bytes: a hole and zeros are the same. */
static XXH128_hash_t hash_of(const char *path)
{
    static const char zeros[BLOCK_SIZE];
    AUTO_CLOSE int fd = (int)MUST(open(path, O_RDONLY | O_CLOEXEC));
    XXH3_state_t *h = XXH3_createState();
    char buf[BLOCK_SIZE];
    XXH128_hash_t ret;

    XXH3_128bits_reset(h);
    for (off_t at = 0; (at = lseek(fd, at, SEEK_DATA)) >= 0; at += BLOCK_SIZE) {
        ssize_t n = MUST(pread(fd, buf, sizeof(buf), at));
        if (memcmp(buf, zeros, (size_t)n) == 0)
            continue;
        XXH3_128bits_update(h, &at, sizeof(at));
        XXH3_128bits_update(h, buf, (size_t)n);
    }
    ret = XXH3_128bits_digest(h);
    XXH3_freeState(h);
    return ret;
}

static void assert_unchanged(const char *path, XXH128_hash_t was)
{
    assert_true(XXH128_isEqual(hash_of(path), was));
}

static uint32_t clean_flag(void)
{
    struct superblock sb;
    AUTO_CLOSE int fd = (int)MUST(open(region_path, O_RDONLY | O_CLOEXEC));

    CHECK_EQ(pread(fd, &sb, sizeof(sb), 0), sizeof(sb));
    return sb.clean;
}

static int refused(const char *path, unsigned flags, struct shmfs_diag *ret_diag)
{
    struct shmfs *untouched = (struct shmfs *)(uintptr_t)0x5a5a, *got = untouched;
    int r = shmfs_region_attach(path, flags, &got, ret_diag);

    if (r == 0) {
        shmfs_region_detach(got);
        fail_msg("attached with flags %u", flags);
    }
    assert_ptr_equal(got, untouched);
    return r;
}

/* A child that attaches so, and detaches when told. */
static void attach_and_stay(int fd, void *arg)
{
    fs = attach(*(unsigned *)arg);
    pass(fd);
    await(fd);
    detach();
}

static struct child attached_child(unsigned flags)
{
    static unsigned kept;

    kept = flags;
    struct child child = spawn(attach_and_stay, &kept);
    await(child.fd);
    return child;
}

static void leave_well(struct child *child)
{
    pass(child->fd);
    assert_ends_well(child);
}

/* ---- clean -------------------------------------------------------------------------------------------------- */

static void test_attach_the_last_to_leave_marks_the_region_clean(void **state)
{
    struct shmfs *other;
    struct child child;

    detach();
    assert_int_equal(clean_flag(), 1);
    fs = attach(0);
    assert_int_equal(clean_flag(), 0);
    other = attach(0);
    child = attached_child(0);
    detach();
    assert_int_equal(clean_flag(), 0);
    shmfs_region_detach(other);
    assert_int_equal(clean_flag(), 0); /* one is still there */
    leave_well(&child);
    assert_int_equal(clean_flag(), 1);
}

static void test_attach_who_is_killed_does_not(void **state)
{
    struct child child;

    detach();
    child = attached_child(0);
    murder(&child);
    assert_int_equal(clean_flag(), 0);
    fs = attach(0); /* on the same boot its log proves something, and it is buried */
    detach();
    assert_int_equal(clean_flag(), 1);
}

static void test_attach_who_only_looks_does_not_count(void **state)
{
    struct shmfs *looks;

    detach();
    looks = attach(SHMFS_ATTACH_RDONLY);
    assert_int_equal(clean_flag(), 1);
    shmfs_region_detach(looks);
    looks = attach(SHMFS_ATTACH_PRIVATE);
    assert_int_equal(clean_flag(), 1);
    shmfs_region_detach(looks);
    assert_int_equal(clean_flag(), 1);
    fs = attach(0);
    looks = attach(SHMFS_ATTACH_RDONLY);
    shmfs_region_detach(looks);
    assert_int_equal(clean_flag(), 0);
}

static void test_attach_that_is_refused_leaves_the_mark_alone(void **state)
{
    struct shmfs_diag diag;
    struct child driver;

    detach();
    driver = attached_child(SHMFS_ATTACH_DRIVER);
    assert_int_equal(refused(region_path, SHMFS_ATTACH_DRIVER, &diag), -EBUSY);
    assert_int_equal(clean_flag(), 0);
    leave_well(&driver);
    assert_int_equal(clean_flag(), 1);
}

static void test_attach_a_process_may_attach_so_often_and_no_more(void **state)
{
    struct shmfs *all[128];
    struct shmfs_diag diag;
    size_t n = 0;
    int r;

    while ((r = shmfs_region_attach(region_path, 0, &all[n], &diag)) == 0)
        n++;
    assert_int_equal(r, -EMFILE);
    assert_int_equal(n, 63); /* and one is `fs` */
    while (n > 0)
        shmfs_region_detach(all[--n]);
    shmfs_region_detach(attach(0));
}

/* ---- drivers ------------------------------------------------------------------------------------------------ */

static void test_attach_a_second_driver_is_refused_and_told_who_is_there(void **state)
{
    struct shmfs_diag diag;
    struct child driver;

    detach();
    driver = attached_child(SHMFS_ATTACH_DRIVER);
    assert_int_equal(refused(region_path, SHMFS_ATTACH_DRIVER, &diag), -EBUSY);
    assert_int_equal(diag.reason, SHMFS_REASON_MOUNTED);
    assert_int_equal(diag.a, driver.pid);
    fs = attach(0); /* others may, beside it */
    detach();
    leave_well(&driver);
    fs = attach(SHMFS_ATTACH_DRIVER);
    assert_int_equal(refused(region_path, SHMFS_ATTACH_DRIVER, &diag), -EBUSY);
    assert_int_equal(diag.a, getpid());
}

static void test_attach_a_dead_driver_is_succeeded(void **state)
{
    struct child driver;
    uint64_t epoch;

    detach();
    driver = attached_child(SHMFS_ATTACH_DRIVER);
    murder(&driver);
    fs = attach(0);
    epoch = fs->rt->mount_epoch;
    detach();
    fs = attach(SHMFS_ATTACH_DRIVER);
    assert_true(fs->rt->mount_epoch > epoch); /* lookups of the dead mount are void */
    assert_int_equal(fs->rt->driver.v, fs->self.v);
    detach();
    fs = attach(0);
    assert_int_equal(fs->rt->driver.v, 0);
}

static void test_attach_a_driver_is_in_the_table_as_one(void **state)
{
    struct proc_entry e;
    struct procref ref;

    detach();
    fs = attach(SHMFS_ATTACH_DRIVER);
    assert_true(proc_get(fs, proc_index(fs->self), &e, &ref));
    assert_int_equal(e.flags, PROC_DRIVER);
}

/* ---- another boot, another file (A17) ------------------------------------------------------------------------- */

/* Bytes of the runtime area's header, in the file, while nobody has it attached. */
static void set_boot_id(const char *path, uint64_t runtime, const char *boot_id)
{
    struct runtime_id id;
    AUTO_CLOSE int fd = (int)MUST(open(path, O_RDWR | O_CLOEXEC));

    CHECK_EQ(pread(fd, &id, sizeof(id), (off_t)runtime), sizeof(id));
    snprintf(id.boot_id, sizeof(id.boot_id), "%s", boot_id);
    CHECK_EQ(pwrite(fd, &id, sizeof(id), (off_t)runtime), sizeof(id));
}

static void test_attach_a_copy_of_a_live_region_is_refused(void **state)
{
    struct shmfs_diag diag;
    struct shmfs *copy;

    make_file(SHMFS_ROOT, "file");
    copy_region();
    assert_int_equal(refused(copy_path, 0, &diag), -EUCLEAN);
    assert_int_equal(diag.reason, SHMFS_REASON_UNCLEAN);
    assert_int_equal(refused(copy_path, SHMFS_ATTACH_DRIVER, &diag), -EUCLEAN);
    assert_int_equal(diag.reason, SHMFS_REASON_UNCLEAN);
    /* Looking is allowed; the original is not concerned. */
    copy = attach_path(copy_path, SHMFS_ATTACH_RDONLY);
    shmfs_region_detach(copy);
    copy = attach_path(copy_path, SHMFS_ATTACH_PRIVATE);
    shmfs_region_detach(copy);
    assert_int_equal(lookup_error(SHMFS_ROOT, "file"), 0);
}

static void test_attach_a_copy_of_a_closed_region_is_as_good(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");
    char back[4] = "";

    MUST(shmfs_node_write(fs, ino, "data", 4, 0, 0, NULL));
    detach();
    copy_region();
    fs = attach_path(copy_path, 0);
    assert_int_equal(shmfs_node_read(fs, ino_of(SHMFS_ROOT, "file"), back, 4, 0), 4);
    assert_memory_equal(back, "data", 4);
    make_dir(SHMFS_ROOT, "only in the copy");
    detach();
    assert_int_equal(problems_of(copy_path), 0);
    fs = attach(0);
    assert_int_equal(lookup_error(SHMFS_ROOT, "only in the copy"), -ENOENT);
}

/* After a reboot: locks, sequences and the process table are of no meaning and are made afresh. */
static void test_attach_after_a_reboot_makes_the_runtime_area_afresh(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");
    uint64_t runtime = fs->l.runtime, used = 0;
    char data[5000], back[5000];

    memset(data, 'd', sizeof(data));
    MUST(shmfs_node_write(fs, ino, data, sizeof(data), 0, 0, NULL));
    MUST(shmfs_node_lookup(fs, SHMFS_ROOT, "file", true, &(struct shmfs_attr){ 0 }));
    /* What a reboot may leave there. */
    fs->inode_rts[ino].seq = 12345;
    fs->inode_rts[ino + 1].lock.v = UINT64_C(0x4141414141414141);
    fs->rt->rename_lock.v = 77;
    fs->group_rts[1].lock.v = 88;
    fs->procs[200] = (struct proc_entry){ .inc = 5, .pid = 1 };
    detach();
    set_boot_id(region_path, runtime, "another boot");
    fs = attach(0);
    assert_int_equal(fs->inode_rts[ino].seq, 0);
    assert_int_equal(fs->inode_rts[ino].nlookup, 0);
    assert_int_equal(fs->inode_rts[ino + 1].lock.v, 0);
    assert_int_equal(fs->rt->rename_lock.v, 0);
    assert_int_equal(fs->group_rts[1].lock.v, 0);
    assert_int_equal(fs->procs[200].inc, 0);
    /* Memory for what is in use is there again, and marked so (P5). */
    for (uint32_t g = 0; g < region_ngroups(fs); g++) {
        uint32_t chunks = fs->l.group_blocks / CHUNK_BLOCKS;
        for (uint32_t c = 0; c < chunks; c++) {
            uint32_t lo = c * CHUNK_BLOCKS;
            bool any =
                alloc_bit_find(region_block_map(fs, g), lo, lo + CHUNK_BLOCKS, true) < lo + CHUNK_BLOCKS;
            assert_int_equal(fs->group_rts[g].reserved[c / 64] >> c % 64 & 1, any);
            used += any;
        }
    }
    assert_true(used > 0);
    assert_int_equal(shmfs_node_read(fs, ino_of(SHMFS_ROOT, "file"), back, sizeof(back), 0), sizeof(back));
    assert_memory_equal(back, data, sizeof(data));
    MUST(shmfs_node_unlink(fs, SHMFS_ROOT, "file"));
}

static void test_attach_after_a_crash_of_the_machine_is_refused(void **state)
{
    uint64_t runtime = fs->l.runtime;
    struct shmfs_diag diag;
    struct child child;

    detach();
    child = attached_child(0);
    murder(&child);
    set_boot_id(region_path, runtime, "another boot");
    assert_int_equal(refused(region_path, 0, &diag), -EUCLEAN);
    assert_int_equal(diag.reason, SHMFS_REASON_UNCLEAN);
    assert_int_equal(clean_flag(), 0);
    /* It says so the next time, too. */
    assert_int_equal(refused(region_path, 0, &diag), -EUCLEAN);
}

/* The identity is written last: who is killed before, is followed by one who does it all again. */
static void test_attach_killed_while_making_it_afresh_is_done_again(void **state)
{
    uint64_t runtime = fs->l.runtime, slots = fs->l.slots;

    make_file(SHMFS_ROOT, "file");
    detach();
    for (int i = 0; i < 3; i++) {
        AUTO_CLOSE int fd = (int)MUST(open(region_path, O_RDWR | O_CLOEXEC));

        set_boot_id(region_path, runtime, "");
        /* Some of it punched, some of it scribbled on. */
        MUST(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)slots, (i + 1) * 100000));
        CHECK_EQ(pwrite(fd, "scribble", 8, (off_t)runtime + 100 + i), 8);
        fs = attach(0);
        assert_int_equal(lookup_error(SHMFS_ROOT, "file"), 0);
        detach();
    }
}

/* ---- reading only --------------------------------------------------------------------------------------------- */

static void test_attach_rdonly_reads_and_refuses_to_write(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file"), dir = make_dir(SHMFS_ROOT, "dir");
    struct shmfs_attr attr = { .mode = 0 };
    struct shmfs_dirent entries[8];
    XXH128_hash_t was;
    char back[8] = "";

    MUST(shmfs_node_write(fs, ino, "data", 4, 0, 0, NULL));
    MUST(shmfs_node_setxattr(fs, ino, "user.a", "value", 5, 0));
    MUST(shmfs_node_symlink(fs, "target", SHMFS_ROOT, "link", &maker, false, &attr));
    detach();
    was = hash_of(region_path);
    fs = attach(SHMFS_ATTACH_RDONLY);

    assert_int_equal(ino_of(SHMFS_ROOT, "file"), ino);
    assert_int_equal(shmfs_node_read(fs, ino, back, 4, 0), 4);
    assert_memory_equal(back, "data", 4);
    assert_int_equal(shmfs_node_readdir(fs, SHMFS_ROOT, 0, entries, 8), 5);
    assert_int_equal(shmfs_node_getxattr(fs, ino, "user.a", back, 8), 5);
    assert_int_equal(shmfs_node_listxattr(fs, ino, back, 8), 7);
    assert_int_equal(shmfs_node_readlink(fs, ino_of(SHMFS_ROOT, "link"), back, 8), 6);
    assert_int_equal(shmfs_node_lseek(fs, ino, 0, SEEK_HOLE), 4);
    assert_int_equal(attr_of(dir).nlink, 2);

    assert_int_equal(shmfs_node_lookup(fs, SHMFS_ROOT, "file", true, &attr), -EROFS);
    assert_int_equal(shmfs_node_forget(fs, ino, 1), -EROFS);
    assert_int_equal(shmfs_node_setattr(fs, ino, &attr, SHMFS_SET_MODE, &attr), -EROFS);
    assert_int_equal(shmfs_node_mknod(fs, dir, "x", S_IFREG, 0, &maker, false, &attr), -EROFS);
    assert_int_equal(shmfs_node_mkdir(fs, dir, "x", 0, &maker, false, &attr), -EROFS);
    assert_int_equal(shmfs_node_symlink(fs, "t", dir, "x", &maker, false, &attr), -EROFS);
    assert_int_equal(shmfs_node_tmpfile(fs, dir, 0, &maker, &attr), -EROFS);
    assert_int_equal(shmfs_node_link(fs, ino, dir, "x", false, &attr), -EROFS);
    assert_int_equal(shmfs_node_unlink(fs, SHMFS_ROOT, "file"), -EROFS);
    assert_int_equal(shmfs_node_rmdir(fs, SHMFS_ROOT, "dir"), -EROFS);
    assert_int_equal(shmfs_node_rename(fs, SHMFS_ROOT, "file", dir, "x", 0, &maker), -EROFS);
    assert_int_equal(shmfs_node_write(fs, ino, "x", 1, 0, 0, NULL), -EROFS);
    assert_int_equal(shmfs_node_write(fs, ino, copy_path, 1, 0, SHMFS_WRITE_APPEND, NULL), -EROFS);
    assert_int_equal(shmfs_node_fallocate(fs, ino, 0, 0, 10), -EROFS);
    assert_int_equal(shmfs_node_copy(fs, ino, 0, ino, 100, 4), -EROFS);
    assert_int_equal(shmfs_node_setxattr(fs, ino, "user.a", "x", 1, 0), -EROFS);
    assert_int_equal(shmfs_node_removexattr(fs, ino, "user.a"), -EROFS);
    assert_int_equal(shmfs_region_tend(fs), -EROFS);
    detach();
    assert_unchanged(region_path, was);
}

/* It needs no right to write the file. */
static void test_attach_rdonly_works_without_the_right_to_write(void **state)
{
    make_file(SHMFS_ROOT, "file");
    detach();
    MUST(chmod(region_path, 0400));
    fs = attach(SHMFS_ATTACH_RDONLY);
    assert_int_equal(lookup_error(SHMFS_ROOT, "file"), 0);
    detach();
    MUST(chmod(region_path, 0600));
}

/* P3: what others do is seen at once. */
static void test_attach_rdonly_sees_what_others_do(void **state)
{
    struct shmfs *writer = fs, *reader = attach(SHMFS_ATTACH_RDONLY);
    char name[16], back[16];

    for (int i = 0; i < 100; i++) {
        sprintf(name, "%d", i);
        fs = writer;
        uint32_t ino = make_file(SHMFS_ROOT, name);
        MUST(shmfs_node_write(fs, ino, name, strlen(name), 0, 0, NULL));
        fs = reader;
        assert_int_equal(ino_of(SHMFS_ROOT, name), ino);
        assert_int_equal(shmfs_node_read(fs, ino, back, sizeof(back), 0), strlen(name));
        assert_memory_equal(back, name, strlen(name));
    }
    shmfs_region_detach(reader);
    fs = writer;
}

/* A14: who may not take a lock waits for a bound, and then says so; it neither hangs nor sees half. */
static void test_attach_rdonly_gives_up_on_what_stays_half_changed(void **state)
{
    struct shmfs *reader = attach(SHMFS_ATTACH_RDONLY);
    uint32_t ino = make_file(SHMFS_ROOT, "file");
    struct shmfs_attr attr;
    struct txn t;

    MUST(txn_begin(fs, &t));
    MUST(txn_lock_inode(&t, ino));
    inode_edit(&t, ino)->uid = 77;
    assert_int_equal(shmfs_node_getattr(reader, ino, &attr), -EAGAIN);
    txn_commit(&t);
    assert_int_equal(shmfs_node_getattr(reader, ino, &attr), 0);
    assert_int_equal(attr.uid, 77);
    shmfs_region_detach(reader);
}

/* ---- privately ------------------------------------------------------------------------------------------------------ */

static void test_attach_private_never_changes_the_file(void **state)
{
    XXH128_hash_t was;
    struct shmfs_attr attr = { .size = 0 };
    char data[100000], name[32];
    uint32_t dir, ino;

    memset(data, 'p', sizeof(data));
    ino = make_file(SHMFS_ROOT, "file");
    MUST(shmfs_node_write(fs, ino, data, sizeof(data), 0, 0, NULL));
    detach();
    was = hash_of(region_path);
    fs = attach(SHMFS_ATTACH_PRIVATE);
    dir = make_dir(SHMFS_ROOT, "dir");
    for (int i = 0; i < 300; i++) {
        sprintf(name, "name-%d", i);
        make_file(dir, name);
    }
    memset(data, 'q', sizeof(data));
    MUST(shmfs_node_write(fs, ino, data, sizeof(data), 5, 0, NULL));
    MUST(shmfs_node_setxattr(fs, ino, "user.a", data, 5000, 0));
    MUST(shmfs_node_fallocate(fs, ino, 0, 200000, 1000000));
    MUST(shmfs_node_rename(fs, SHMFS_ROOT, "file", dir, "moved", 0, &maker));
    assert_int_equal(shmfs_node_read(fs, ino, data, 10, 0), 10);
    assert_memory_equal(data, "pppppqqqqq", 10); /* here it is changed */
    MUST(shmfs_node_setattr(fs, ino, &attr, SHMFS_SET_SIZE, &attr));
    MUST(shmfs_node_unlink(fs, dir, "moved"));
    assert_int_equal(shmfs_region_tend(fs), 0);
    assert_unchanged(region_path, was);
    detach();
    assert_unchanged(region_path, was);
    fs = attach(0);
    assert_int_equal(lookup_error(SHMFS_ROOT, "dir"), -ENOENT);
    assert_int_equal(attr_of(ino).size, 100000);
}

static void test_attach_private_is_refused_while_it_is_in_use(void **state)
{
    struct shmfs_diag diag;
    struct child child;

    detach();
    child = attached_child(0);
    assert_int_equal(refused(region_path, SHMFS_ATTACH_PRIVATE, &diag), -EBUSY);
    assert_int_equal(diag.reason, SHMFS_REASON_IN_USE);
    assert_int_equal(diag.a, child.pid);
    leave_well(&child);
    fs = attach(SHMFS_ATTACH_PRIVATE);
}

static uint32_t half_done;

static void die_half_way(int fd, void *arg)
{
    struct txn t;

    fs = attach(0);
    MUST(txn_begin(fs, &t));
    MUST(txn_lock_inode(&t, half_done));
    inode_edit(&t, half_done)->uid = 4711;
    pass(fd);
    await(fd);
}

/* The dead are buried in our copy alone. */
static void test_attach_private_buries_the_dead_for_itself(void **state)
{
    XXH128_hash_t was;
    struct child child;

    half_done = make_file(SHMFS_ROOT, "file");
    detach();
    child = spawn(die_half_way, NULL);
    await(child.fd);
    murder(&child);
    was = hash_of(region_path);
    fs = attach(SHMFS_ATTACH_PRIVATE);
    assert_int_equal(attr_of(half_done).uid, 0);
    assert_int_equal(fs->inode_rts[half_done].lock.v, 0);
    detach();
    assert_unchanged(region_path, was);
    fs = attach(0); /* and now for all */
    assert_int_equal(attr_of(half_done).uid, 0);
}

/* ---- trust (A20) ---------------------------------------------------------------------------------------------------- */

static void test_attach_trusted_takes_what_is_ours_and_nobody_else_can_write(void **state)
{
    static const struct {
        mode_t mode;
        bool good;
    } cases[] = { { 0600, true },  { 0644, true },  { 0400, true },  { 0755, true },
                  { 0620, false }, { 0602, false }, { 0666, false }, { 01622, false } };
    struct shmfs_diag diag;

    detach();
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        MUST(chmod(region_path, cases[i].mode));
        if (cases[i].good) {
            shmfs_region_detach(attach(SHMFS_ATTACH_TRUSTED | SHMFS_ATTACH_RDONLY));
            continue;
        }
        assert_int_equal(refused(region_path, SHMFS_ATTACH_TRUSTED, &diag), -EPERM);
        assert_int_equal(refused(region_path, SHMFS_ATTACH_TRUSTED | SHMFS_ATTACH_RDONLY, &diag), -EPERM);
        assert_int_equal(refused(region_path, SHMFS_ATTACH_TRUSTED | SHMFS_ATTACH_PRIVATE, &diag), -EPERM);
        assert_int_equal(diag.reason, SHMFS_REASON_NONE);
        shmfs_region_detach(attach(0)); /* who does not ask is not told */
    }
    MUST(chmod(region_path, 0600));
    if (geteuid() == 0) {
        MUST(chown(region_path, 12345, (gid_t)-1));
        assert_int_equal(refused(region_path, SHMFS_ATTACH_TRUSTED, &diag), -EPERM);
        MUST(chown(region_path, 0, (gid_t)-1));
    }
    fs = attach(SHMFS_ATTACH_TRUSTED);
}

/* ---- burials --------------------------------------------------------------------------------------------------------- */

/* P2: whoever attaches next finds what was half done undone, without having to touch it. */
static void test_attach_buries_the_dead(void **state)
{
    struct child child;

    half_done = make_file(SHMFS_ROOT, "file");
    detach();
    child = spawn(die_half_way, NULL);
    await(child.fd);
    murder(&child);
    fs = attach(0);
    assert_int_equal(inode_at(fs, half_done)->uid, 0);
    assert_int_equal(fs->inode_rts[half_done].lock.v, 0);
    assert_int_equal(fs->inode_rts[half_done].seq % 2, 0);
    for (uint32_t i = 0; i < fs->l.nprocs; i++)
        assert_true(fs->procs[i].inc == 0 || i == proc_index(fs->self));
}

static void test_attach_tending_buries_the_dead(void **state)
{
    struct child child;

    half_done = make_file(SHMFS_ROOT, "file");
    child = spawn(die_half_way, NULL);
    await(child.fd);
    murder(&child);
    assert_int_equal(inode_at(fs, half_done)->uid, 4711);
    assert_int_equal(shmfs_region_tend(fs), 0);
    assert_int_equal(inode_at(fs, half_done)->uid, 0);
    assert_int_equal(fs->inode_rts[half_done].lock.v, 0);
}

static void test_attach_the_last_to_leave_buries_the_dead_first(void **state)
{
    struct child child;

    half_done = make_file(SHMFS_ROOT, "file");
    child = spawn(die_half_way, NULL);
    await(child.fd);
    murder(&child);
    detach();
    assert_int_equal(clean_flag(), 1);
    fs = attach(SHMFS_ATTACH_RDONLY); /* which buries nobody */
    assert_int_equal(attr_of(half_done).uid, 0);
}

/* Dies as an undertaker, with the recovery lock of a slot whose owner is dead. */
static void die_burying(int fd, void *arg)
{
    struct slot *dead;
    struct txn t;

    fs = attach(0);
    dead = &fs->slots[*(uint32_t *)arg];
    MUST(txn_begin(fs, &t));
    t.slot->locks[0] = region_offset(fs, &dead->recovery);
    STORE(&t.slot->nlocks, 1);
    CHECK(lock_try(&dead->recovery, t.stamp));
    pass(fd);
    await(fd);
}

/* A17: clean means that there is nothing to undo; a mark that lies loses files at the next reboot. */
static void test_attach_clean_means_that_all_are_buried(void **state)
{
    struct child first, second;
    uint32_t slot;

    half_done = make_file(SHMFS_ROOT, "file");
    first = spawn(die_half_way, NULL);
    await(first.fd);
    slot = lock_slot(fs->inode_rts[half_done].lock.v);
    second = spawn(die_burying, &slot);
    await(second.fd);
    murder(&first);
    murder(&second);
    detach(); /* one look is not enough: the undertaker is to be buried first */
    fs = attach(SHMFS_ATTACH_RDONLY);
    assert_true(clean_flag() == 0 || inode_at(fs, half_done)->uid == 0);
}

/* Nor does one who could not attach, whatever the reason, say that it is clean. */
static void test_attach_that_fails_does_not_say_clean(void **state)
{
    struct shmfs_diag diag;
    struct child child;
    struct shmfs *other;
    int r;

    small_host(8 * MIB, 32 * MIB);
    half_done = make_file(SHMFS_ROOT, "file");
    detach();
    child = spawn(die_half_way, NULL);
    await(child.fd);
    fill_host();
    murder(&child);
    r = shmfs_region_attach(region_path, 0, &other, &diag);
    if (r == 0)
        shmfs_region_detach(other);
    fs = attach(SHMFS_ATTACH_RDONLY);
    assert_true(clean_flag() == 0 || inode_at(fs, half_done)->uid == 0);
}

/* P2, P5: the host is full and the driver was killed: it can be mounted again, to make room. */
static void test_attach_on_a_full_host_after_a_death(void **state)
{
    struct child child;

    small_host(8 * MIB, 32 * MIB);
    half_done = make_file(SHMFS_ROOT, "file");
    detach();
    child = spawn(die_half_way, NULL);
    await(child.fd);
    fill_host();
    murder(&child);
    fs = attach(SHMFS_ATTACH_DRIVER);
    assert_int_equal(attr_of(half_done).uid, 0);
    assert_int_equal(shmfs_node_unlink(fs, SHMFS_ROOT, "file"), 0);
}

/* ---- many at once ----------------------------------------------------------------------------------------------------- */

static void come_and_go(int fd, void *arg)
{
    struct shmfs_attr attr;
    char name[64];

    pass(fd);
    await(fd);
    for (int i = 0; i < 30; i++) {
        fs = attach(0);
        sprintf(name, "%d-%d", (int)getpid(), i);
        MUST(shmfs_node_mkdir(fs, SHMFS_ROOT, name, 0755, &maker, false, &attr));
        detach();
    }
}

static void test_attach_processes_may_come_and_go_at_once(void **state)
{
    struct child children[6];

    detach();
    for (size_t i = 0; i < ARRAY_SIZE(children); i++)
        children[i] = spawn(come_and_go, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(children); i++)
        await(children[i].fd);
    for (size_t i = 0; i < ARRAY_SIZE(children); i++)
        pass(children[i].fd);
    for (size_t i = 0; i < ARRAY_SIZE(children); i++)
        assert_ends_well(&children[i]);
    assert_int_equal(clean_flag(), 1);
    fs = attach(0);
    assert_int_equal(attr_of(SHMFS_ROOT).nlink, 2 + ARRAY_SIZE(children) * 30);
}

/* Killed at any time; the next one sees to it. What mkdir returned for, is there (P2, P3). */
static void make_until_killed(int fd, void *arg)
{
    uint32_t start = *(uint32_t *)arg;
    struct shmfs_attr attr;
    char name[32];

    fs = attach(0);
    for (uint32_t i = start; i < start + 1000; i++) {
        sprintf(name, "%u", i);
        MUST(shmfs_node_mkdir(fs, SHMFS_ROOT, name, 0755, &maker, false, &attr));
        CHECK_EQ(write(fd, &i, sizeof(i)), sizeof(i));
    }
    await(fd);
}

static void test_attach_after_a_kill_at_any_time_all_that_was_done_is_there(void **state)
{
    uint32_t next = 0;
    char name[32];

    random_start(17);
    renew(64 * MIB, 65536);
    detach();
    for (int round = 0; round < 40; round++) {
        struct child child = spawn(make_until_killed, &next);
        uint32_t last = next, seen;

        for (uint64_t n = 1 + random_below(20); n > 0; n--) {
            CHECK_EQ(read(child.fd, &last, sizeof(last)), sizeof(last));
        }
        kill_child(&child);
        while (recv(child.fd, &seen, sizeof(seen), MSG_DONTWAIT) == sizeof(seen))
            last = seen;
        reap(&child);
        fs = attach(0);
        for (uint32_t i = next; i <= last; i++) {
            sprintf(name, "%u", i);
            assert_int_equal(lookup_error(SHMFS_ROOT, name), 0);
        }
        next = last + 2; /* one more may be there, or not */
        detach();
        assert_int_equal(problems_of(region_path), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        attach_unit(test_attach_the_last_to_leave_marks_the_region_clean),
        attach_unit(test_attach_who_is_killed_does_not),
        attach_unit(test_attach_who_only_looks_does_not_count),
        attach_unit(test_attach_that_is_refused_leaves_the_mark_alone),
        attach_unit(test_attach_a_process_may_attach_so_often_and_no_more),
        attach_unit(test_attach_a_second_driver_is_refused_and_told_who_is_there),
        attach_unit(test_attach_a_dead_driver_is_succeeded),
        attach_unit(test_attach_a_driver_is_in_the_table_as_one),
        attach_unit(test_attach_a_copy_of_a_live_region_is_refused),
        attach_unit(test_attach_a_copy_of_a_closed_region_is_as_good),
        attach_unit(test_attach_after_a_reboot_makes_the_runtime_area_afresh),
        attach_unit(test_attach_after_a_crash_of_the_machine_is_refused),
        attach_unit(test_attach_killed_while_making_it_afresh_is_done_again),
        attach_unit(test_attach_rdonly_reads_and_refuses_to_write),
        attach_unit(test_attach_rdonly_works_without_the_right_to_write),
        attach_unit(test_attach_rdonly_sees_what_others_do),
        attach_unit(test_attach_rdonly_gives_up_on_what_stays_half_changed),
        attach_unit(test_attach_private_never_changes_the_file),
        attach_unit(test_attach_private_is_refused_while_it_is_in_use),
        attach_unit(test_attach_private_buries_the_dead_for_itself),
        attach_unit(test_attach_trusted_takes_what_is_ours_and_nobody_else_can_write),
        attach_unit(test_attach_buries_the_dead),
        attach_unit(test_attach_tending_buries_the_dead),
        attach_unit(test_attach_the_last_to_leave_buries_the_dead_first),
        attach_unit(test_attach_clean_means_that_all_are_buried),
        host_unit(test_attach_that_fails_does_not_say_clean),
        host_unit(test_attach_on_a_full_host_after_a_death),
        attach_unit(test_attach_processes_may_come_and_go_at_once),
        attach_unit(test_attach_after_a_kill_at_any_time_all_that_was_done_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
