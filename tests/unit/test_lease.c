/* SPDX-License-Identifier: MIT */
/*
 * P3, I11-I14, A1: what the kernel was leased is recalled before it changes, by every call that changes it; what it
 * was not, is not. The driver here is a second attach, and its kernel a thread that notes what it is told to drop.
 */
#include "api.h"

#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/xattr.h>

#include "lease.h"

static struct shmfs *driver;

/* ---- the kernel ---------------------------------------------------------------------------------- */

static struct {
    pthread_t thread;
    atomic_bool ending;
    atomic_int drops; /* how many posts were answered */
    atomic_bool everything;
    pthread_mutex_t lock;
    char text[4096];                           /* what was dropped: "attr 5 data 7[0,4096) name 1/x …" */
    void (*before)(const struct shmfs_drop *); /* called when told, before the answer */
} kernel = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void note(const char *format, ...)
{
    size_t n = strlen(kernel.text);
    va_list ap;

    va_start(ap, format);
    vsnprintf(kernel.text + n, sizeof(kernel.text) - n, format, ap);
    va_end(ap);
}

static void note_drop(const struct shmfs_drop *drop)
{
    pthread_mutex_lock(&kernel.lock);
    for (unsigned i = 0; i < drop->nnames; i++)
        note("name %u/%s ", drop->names[i].dir, drop->names[i].name);
    for (unsigned i = 0; i < drop->ninodes; i++) {
        const struct shmfs_drop_inode *in = &drop->inodes[i];

        if (in->pages)
            note("data %u[%llu+%llu] ", in->ino, (unsigned long long)in->from, (unsigned long long)in->len);
        else
            note("attr %u ", in->ino);
    }
    pthread_mutex_unlock(&kernel.lock);
}

static uint32_t now_ms_plus(uint32_t ms)
{
    return (uint32_t)(lock_now_ns() / 1000000 + ms) | 1;
}

/* However slow this machine is, what was recalled is not leased again until a test says cool_off(). */
static void stay_cool(const struct shmfs_drop *drop)
{
    uint32_t until = now_ms_plus(3000 * 1000);

    for (unsigned i = 0; i < drop->ninodes; i++)
        driver->inode_rts[drop->inodes[i].ino].cool = until;
    for (unsigned i = 0; i < drop->nnames; i++)
        driver->inode_rts[drop->names[i].dir].cool = until;
}

static void *kernel_work(void *unused)
{
    struct shmfs_drop drop;

    while (!kernel.ending) {
        if (shmfs_lease_next(driver, 10, &drop) == 0)
            continue;
        stay_cool(&drop);
        if (kernel.before != NULL)
            kernel.before(&drop);
        note_drop(&drop);
        if (drop.everything)
            kernel.everything = true;
        else
            kernel.drops++;
        shmfs_lease_dropped(driver, &drop);
    }
    return NULL;
}

static void kernel_start(void)
{
    kernel.ending = kernel.everything = false;
    kernel.drops = 0;
    kernel.text[0] = 0;
    CHECK_EQ(pthread_create(&kernel.thread, NULL, kernel_work, NULL), 0);
}

static void kernel_stop(void)
{
    kernel.ending = true;
    CHECK_EQ(pthread_join(kernel.thread, NULL), 0);
    kernel.before = NULL;
}

static struct shmfs *attach_driver(unsigned flags)
{
    struct shmfs_diag diag = { 0 };
    struct shmfs *ret = NULL;

    MUST(shmfs_region_attach(region_path, SHMFS_ATTACH_DRIVER | flags, &ret, &diag));
    return ret;
}

static int lease_setup(void **state)
{
    api_setup(state);
    driver = attach_driver(SHMFS_ATTACH_LEASES);
    kernel_start();
    return 0;
}

static int lease_teardown(void **state)
{
    if (driver != NULL) {
        kernel_stop();
        shmfs_region_detach(driver);
    }
    driver = NULL;
    return api_teardown(state);
}

#define lease_unit(f) cmocka_unit_test_setup_teardown(f, lease_setup, lease_teardown)

/* ---- what a mount asks for ---------------------------------------------------------------------------- */

static uint32_t number_of(const char *path)
{
    return (uint32_t)stat_of(path).st_ino;
}

/* As a program on the mount that looks at everything: name, attributes, pages, ACL. */
static uint32_t look_at(uint32_t dir, const char *name)
{
    struct shmfs_attr attr;

    MUST(shmfs_node_lookup(driver, dir, name, true, &attr));
    CHECK_EQ(shmfs_lease_grant(driver, attr.ino, SHMFS_LEASE_DATA), SHMFS_LEASE_DATA);
    CHECK_EQ(shmfs_lease_grant(driver, attr.ino, SHMFS_LEASE_ACL), SHMFS_LEASE_ACL);
    return attr.ino;
}

static void cool_off(uint32_t ino)
{
    driver->inode_rts[ino].cool = 0;
}

/* The leases that are left, as text. */
static uint32_t leases_of(uint32_t ino)
{
    return driver->inode_rts[ino].leases;
}

static int drops_since(int before)
{
    return kernel.drops - before;
}

static bool was_dropped(const char *format, ...)
{
    char want[300];
    va_list ap;
    bool found;

    va_start(ap, format);
    vsnprintf(want, sizeof(want), format, ap);
    va_end(ap);
    pthread_mutex_lock(&kernel.lock);
    found = strstr(kernel.text, want) != NULL;
    pthread_mutex_unlock(&kernel.lock);
    return found;
}

/* ---- every operation -------------------------------------------------------------------------------- */

static struct shmfs_file *held;
static void *mapped;
enum { BIG = 64 * 4096 };

static void do_write(void)
{
    CHECK_EQ(shmfs_pwrite(held, "x", 1, 5 * 4096), 1);
}
static void do_write_much(void)
{
    AUTO_FREE char *buf = calloc(1, BIG);
    CHECK_EQ(shmfs_pwrite(held, buf, BIG, 0), BIG);
}
static void do_append(void)
{
    CHECK_EQ(shmfs_append(held, "x", 1, NULL), 1);
}
static void do_shrink(void)
{
    MUST(shmfs_ftruncate(held, 4096));
}
static void do_grow(void)
{
    MUST(shmfs_ftruncate(held, 2 * BIG));
}
static void do_open_trunc(void)
{
    close_file(open_file("d/f", O_WRONLY | O_TRUNC));
}
static void do_punch(void)
{
    MUST(shmfs_fallocate(held, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8192));
}
static void do_fallocate(void)
{
    MUST(shmfs_fallocate(held, 0, BIG, 4096));
}
static void do_msync(void)
{
    memcpy(mapped, "stored", 6);
    MUST(shmfs_msync(held, 0, 4096));
}
static void do_chmod(void)
{
    MUST(shmfs_chmod(fs, "d/f", 0600));
}
static void do_chown(void)
{
    MUST(shmfs_chown(fs, "d/f", geteuid(), getegid())); /* as an ordinary user may */
}
static void do_utimens(void)
{
    MUST(shmfs_utimens(fs, "d/f", NULL, 0));
}
static void do_setxattr(void)
{
    MUST(shmfs_setxattr(fs, "d/f", "user.a", "v", 1, 0));
}
static void do_removexattr(void)
{
    MUST(shmfs_removexattr(fs, "d/f", "user.there"));
}
static void do_read_atime(void)
{
    char c;
    CHECK_EQ(shmfs_pread(held, &c, 1, 0), 1);
}
static void do_link(void)
{
    MUST(shmfs_link(fs, "d/f", "d/new"));
}
static void do_unlink(void)
{
    MUST(shmfs_unlink(fs, "d/f"));
}
static void do_rename_away(void)
{
    MUST(shmfs_rename(fs, "d/f", "other/g", 0));
}
static void do_rename_over(void)
{
    MUST(shmfs_rename(fs, "other/unknown", "d/f", 0));
}
static void do_exchange(void)
{
    MUST(shmfs_rename(fs, "other/unknown", "d/f", RENAME_EXCHANGE));
}
static void do_create(void)
{
    close_file(open_file("d/new", O_WRONLY | O_CREAT));
}
static void do_mkdir(void)
{
    MUST(shmfs_mkdir(fs, "d/new", 0755));
}
static void do_symlink(void)
{
    MUST(shmfs_symlink(fs, "target", "d/new"));
}
static void do_mknod(void)
{
    MUST(shmfs_mknod(fs, "d/new", S_IFIFO | 0644, 0));
}
static void do_rename_in(void)
{
    MUST(shmfs_rename(fs, "other/unknown", "d/new", 0));
}
static void do_flink(void)
{
    struct shmfs_file *nameless = open_file("other", O_TMPFILE | O_RDWR);

    MUST(shmfs_flink(nameless, "d/new"));
    close_file(nameless);
}

enum { F_ATTR = 1, F_DATA = 2, F_ACL = 4, F_NAME = 8, D_ALL = 16, NEW_NAME = 32 };
static const struct {
    const char *name;
    void (*change)(void);
    unsigned want;
} changes[] = {
    { "write", do_write, F_ATTR | F_DATA },
    { "write much", do_write_much, F_ATTR | F_DATA },
    { "append", do_append, F_ATTR | F_DATA },
    { "shrink", do_shrink, F_ATTR | F_DATA },
    { "grow", do_grow, F_ATTR | F_DATA },
    { "O_TRUNC", do_open_trunc, F_ATTR | F_DATA },
    { "punch", do_punch, F_ATTR | F_DATA },
    { "fallocate", do_fallocate, F_ATTR | F_DATA },
    { "msync", do_msync, F_ATTR | F_DATA },
    { "chmod", do_chmod, F_ATTR | F_ACL },
    { "chown", do_chown, F_ATTR },
    { "utimens", do_utimens, F_ATTR },
    { "setxattr", do_setxattr, F_ATTR },
    { "removexattr", do_removexattr, F_ATTR },
    { "atime", do_read_atime, F_ATTR },
    { "link", do_link, F_ATTR | D_ALL | NEW_NAME },
    { "unlink", do_unlink, F_ATTR | F_NAME | D_ALL },
    { "rename away", do_rename_away, F_ATTR | F_NAME | D_ALL },
    { "rename over", do_rename_over, F_ATTR | F_NAME | D_ALL },
    { "exchange", do_exchange, F_ATTR | F_NAME | D_ALL },
    { "create", do_create, D_ALL | NEW_NAME },
    { "mkdir", do_mkdir, D_ALL | NEW_NAME },
    { "symlink", do_symlink, D_ALL | NEW_NAME },
    { "mknod", do_mknod, D_ALL | NEW_NAME },
    { "rename in", do_rename_in, D_ALL | NEW_NAME },
    { "flink", do_flink, D_ALL | NEW_NAME },
};

/* d/f, which the mount knows all of; d/new, which it knows to be missing; other/unknown, which it never saw. */
static void scene_make(uint32_t *ret_dir, uint32_t *ret_ino)
{
    struct shmfs_attr attr;

    MUST(shmfs_mkdir(fs, "d", 0755));
    MUST(shmfs_mkdir(fs, "other", 0755));
    put_bytes("d/f", 'f', BIG);
    put_text("other/unknown", "unknown");
    MUST(shmfs_setxattr(fs, "d/f", "user.there", "v", 1, 0));
    held = open_file("d/f", O_RDWR);
    MUST(shmfs_map(held, 0, 4096, PROT_READ | PROT_WRITE, &mapped));
    *ret_dir = look_at(SHMFS_ROOT, "d");
    *ret_ino = look_at(*ret_dir, "f");
    CHECK_EQ(shmfs_node_lookup(driver, *ret_dir, "new", true, &attr), -ENOENT);
    CHECK_EQ(shmfs_lease_absent(driver, *ret_dir, "new"), 1);
}

static void scene_end(uint32_t dir, uint32_t ino)
{
    MUST(shmfs_unmap(fs, mapped, 4096));
    close_file(held);
    shmfs_node_forget(driver, ino, 1);
    shmfs_node_forget(driver, dir, 1);
}

static void expect_dropped(const char *what, unsigned want, uint32_t dir, uint32_t ino)
{
    unsigned got = (leases_of(ino) & LEASE_ATTR ? 0 : F_ATTR) |
                   ((leases_of(ino) & LEASE_PAGES) == LEASE_DATA ? 0 : F_DATA) |
                   (leases_of(ino) & LEASE_ACL ? 0 : F_ACL) | (was_dropped("name %u/f ", dir) ? F_NAME : 0) |
                   (leases_of(dir) & (LEASE_ATTR | LEASE_PAGES) ? 0 : D_ALL) |
                   (was_dropped("name %u/new ", dir) ? NEW_NAME : 0);

    if (got != want)
        fail_msg("%s: dropped %#x, not %#x (%s)", what, got, want, kernel.text);
}

/* Also: exactly what must be, and once. */
static void test_lease_every_change_recalls_what_it_changes(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
        uint32_t dir, ino;
        int before;

        lease_teardown(state);
        lease_setup(state);
        scene_make(&dir, &ino);
        before = kernel.drops;
        changes[i].change();
        expect_dropped(changes[i].name, changes[i].want, dir, ino);
        if (drops_since(before) != 1 + (changes[i].change == do_write_much)) /* which goes piece by piece */
            fail_msg("%s: %d recalls (%s)", changes[i].name, drops_since(before), kernel.text);
        scene_end(dir, ino);
    }
}

/* Nothing is paid while nobody shares: also where a driver is mounted. */
static void test_lease_what_nobody_looked_at_is_not_recalled(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
        lease_teardown(state);
        lease_setup(state);
        MUST(shmfs_mkdir(fs, "d", 0755));
        MUST(shmfs_mkdir(fs, "other", 0755));
        put_bytes("d/f", 'f', BIG);
        put_text("other/unknown", "unknown");
        MUST(shmfs_setxattr(fs, "d/f", "user.there", "v", 1, 0));
        held = open_file("d/f", O_RDWR);
        MUST(shmfs_map(held, 0, 4096, PROT_READ | PROT_WRITE, &mapped));
        changes[i].change();
        assert_int_equal(kernel.drops, 0);
        MUST(shmfs_unmap(fs, mapped, 4096));
        close_file(held);
    }
}

/* A1: when the kernel is told, nothing has changed yet. */
static struct shmfs *observer;
static bool changed_early;

static void see_old(const struct shmfs_drop *drop)
{
    char buf[8] = "";
    struct shmfs_file *file = open_in(observer, "d/f", O_RDONLY);

    CHECK_EQ(shmfs_pread(file, buf, 1, 5 * 4096), 1);
    changed_early |= buf[0] != 'f';
    close_file(file);
}

static void test_lease_a1_is_recalled_before_the_change(void **state)
{
    uint32_t dir, ino;

    scene_make(&dir, &ino);
    observer = api_attach(SHMFS_NOATIME);
    kernel.before = see_old;
    changed_early = false;
    do_write();
    assert_int_equal(kernel.drops, 1);
    assert_false(changed_early);
    shmfs_detach(observer);
    scene_end(dir, ino);
}

/* ---- pages ------------------------------------------------------------------------------------------- */

static void test_lease_a_write_recalls_the_pages_that_it_touches(void **state)
{
    uint32_t dir, ino;

    scene_make(&dir, &ino);
    do_write();
    assert_true(was_dropped("data %u[20480+1]", ino));
    /* The rest is as the kernel had it: another part must be recalled, too, and then all goes. */
    MUST(shmfs_pwrite(held, "y", 1, 0) - 1);
    assert_true(was_dropped("data %u[0+0]", ino));
    assert_int_equal(leases_of(ino) & LEASE_PAGES, 0);
    int before = kernel.drops;
    for (int i = 0; i < 100; i++)
        do_write();
    assert_int_equal(drops_since(before), 0);
    scene_end(dir, ino);
}

static void test_lease_a_read_after_the_recall_is_recalled_again(void **state)
{
    uint32_t dir, ino;

    scene_make(&dir, &ino);
    for (int i = 0; i < 20; i++) {
        int before = kernel.drops;

        do_write();
        assert_int_equal(drops_since(before), 1);
        assert_int_equal(shmfs_lease_grant(driver, ino, SHMFS_LEASE_DATA), SHMFS_LEASE_DATA);
    }
    scene_end(dir, ino);
}

/* ... also one that came between the drop and the writer's return. */
static uint32_t reader_ino;
static int reads_left;

static void read_again(const struct shmfs_drop *drop)
{
    if (reads_left-- > 0)
        shmfs_lease_grant(driver, reader_ino, SHMFS_LEASE_DATA);
}

static void test_lease_what_is_granted_meanwhile_is_recalled_again(void **state)
{
    uint32_t dir, ino;

    scene_make(&dir, &ino);
    reader_ino = ino;
    reads_left = 3;
    kernel.before = read_again;
    do_write();
    assert_int_equal(kernel.drops, 4);
    assert_int_equal(leases_of(ino) & LEASE_DATA, 0);
    scene_end(dir, ino);
}

/* Who lists a directory cannot be made to wait: he gets no lease while its writer comes back, so that this one finds his turn. */
static uint32_t listed_ino;
static int listing_kinds;

static void list_again(const struct shmfs_drop *drop)
{
    driver->inode_rts[listed_ino].wanted = now_ms_plus(3000 * 1000); /* however slow this machine is */
    listing_kinds = shmfs_lease_grant(driver, listed_ino, SHMFS_LEASE_DATA);
    CHECK_EQ(shmfs_lease_listing_is_old(driver, listed_ino), true);
}

static void test_lease_who_lists_while_a_writer_waits_keeps_nothing(void **state)
{
    struct shmfs_drop drop;
    uint32_t dir, ino;

    scene_make(&dir, &ino);
    listed_ino = dir;
    listing_kinds = -1;
    kernel.before = list_again;
    put_text("d/g", "new");
    assert_int_equal(kernel.drops, 1); /* once, and it had its turn */
    assert_int_equal(listing_kinds, 0);
    /* What he may have of it is not kept at the end of any listing, until it is dropped. */
    kernel_stop();
    assert_true(shmfs_lease_listing_is_old(driver, dir));
    assert_true(shmfs_lease_next_listing(driver, dir, &drop));
    assert_int_equal(drop.ninodes, 1);
    assert_int_equal(drop.inodes[0].ino, dir);
    assert_true(drop.inodes[0].pages && drop.inodes[0].dir);
    assert_true(shmfs_lease_listing_is_old(driver, dir)); /* it is going, and not gone (I14) */
    shmfs_lease_dropped(driver, &drop);
    assert_false(shmfs_lease_listing_is_old(driver, dir));
    assert_false(shmfs_lease_next_listing(driver, dir, &drop));
    assert_int_equal(shmfs_lease_grant(driver, dir, SHMFS_LEASE_DATA), SHMFS_LEASE_DATA);
    kernel_start();
    MUST(shmfs_unlink(fs, "d/g"));
    scene_end(dir, ino);
}

/* ---- names and attributes ----------------------------------------------------------------------------- */

/* What is being dropped for one writer, another one waits for, too: it may be the first to change it. */
static atomic_bool second_done, done_early;
static pthread_t second;

static void *write_second(void *unused)
{
    struct shmfs *own = api_attach(0);

    MUST(shmfs_utimens(own, "d/f", NULL, 0));
    second_done = true;
    shmfs_detach(own);
    return NULL;
}

static void write_meanwhile(const struct shmfs_drop *drop)
{
    if (second != 0)
        return;
    CHECK_EQ(pthread_create(&second, NULL, write_second, NULL), 0);
    for (int i = 0; i < 100 && !second_done; i++) /* it is to come as far as it can */
        usleep(1000);
    done_early = second_done;
}

static void test_lease_what_is_being_dropped_is_waited_for_by_all(void **state)
{
    uint32_t dir, ino;

    scene_make(&dir, &ino);
    second = 0;
    kernel.before = write_meanwhile;
    do_write();
    CHECK_EQ(pthread_join(second, NULL), 0);
    assert_true(second_done);
    assert_false(done_early);
    assert_int_equal(leases_of(ino) & LEASE_GOING, 0);
    scene_end(dir, ino);
}

static void test_lease_a_recalled_inode_is_not_leased_for_a_while(void **state)
{
    struct shmfs_attr attr;
    uint32_t dir, ino;

    scene_make(&dir, &ino);
    do_unlink();
    assert_int_equal(shmfs_lease_grant(driver, ino, SHMFS_LEASE_ATTR), 0);
    assert_int_equal(shmfs_lease_absent(driver, dir, "f"), 0);
    put_text("d/f", "again");
    MUST(shmfs_node_lookup(driver, dir, "f", true, &attr));
    assert_int_equal(attr.leases & SHMFS_LEASE_NAME, 0);
    MUST(shmfs_node_forget(driver, attr.ino, 1));
    cool_off(ino);
    cool_off(dir);
    assert_int_equal(shmfs_lease_grant(driver, ino, SHMFS_LEASE_ATTR), SHMFS_LEASE_ATTR);
    MUST(shmfs_node_lookup(driver, dir, "f", true, &attr));
    assert_int_equal(attr.leases, SHMFS_LEASE_NAME | SHMFS_LEASE_ATTR);
    MUST(shmfs_node_forget(driver, attr.ino, 1));
    scene_end(dir, ino);
}

/* As a worker of the driver, for a program on the mount: up to the end of the first page, or as an append from there. */
struct work {
    uint32_t ino;
    unsigned flags;
};

static void *worker(void *data)
{
    static const char buf[3996] = "mmm";
    const struct work *w = data;

    shmfs_lease_serve_kernel();
    CHECK_EQ(shmfs_node_write(driver, w->ino, buf, sizeof(buf), 0, w->flags | SHMFS_WRITE_CACHED, NULL),
             sizeof(buf));
    return NULL;
}

static void write_as_worker(uint32_t ino, unsigned flags)
{
    struct work w = { ino, flags };
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, worker, &w), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* What was answered without a lease may be on its way: the kernel is told again, after the change and before the return. */
static bool changed_by_then;

static void see_new(const struct shmfs_drop *drop)
{
    struct stat st;

    CHECK_EQ(shmfs_stat(observer, "d/f", &st), 0);
    changed_by_then = (st.st_mode & 07777) == 0640;
}

static void test_lease_answers_on_their_way_are_followed_by_another_drop(void **state)
{
    uint32_t dir, ino;
    int before;

    scene_make(&dir, &ino);
    do_chmod();
    assert_int_equal(shmfs_lease_grant(driver, ino, SHMFS_LEASE_ATTR), 0);
    observer = api_attach(SHMFS_NOATIME);
    before = kernel.drops;
    kernel.before = see_new;
    changed_by_then = false;
    MUST(shmfs_chmod(fs, "d/f", 0640));
    assert_int_equal(drops_since(before), 1);
    assert_true(changed_by_then);
    MUST(shmfs_chmod(fs, "d/f", 0600)); /* nobody has asked since */
    assert_int_equal(drops_since(before), 1);
    shmfs_detach(observer);
    scene_end(dir, ino);
}

/* A4: the kernel learns where a file ends to which the mount writes, and loses what it had there. */
static void test_lease_a4_a_new_end_is_told_where_the_mount_writes(void **state)
{
    uint32_t dir, ino;
    int before;

    scene_make(&dir, &ino);
    do_append();
    do_append(); /* by now no page is leased */
    before = kernel.drops;
    do_append();
    assert_int_equal(drops_since(before), 0); /* nobody writes there */
    write_as_worker(ino, 0);
    assert_int_equal(leases_of(ino) & LEASE_PAGES, 0); /* no whole page was written: it keeps none */
    do_append();
    assert_int_equal(drops_since(before), 1);
    assert_true(was_dropped("data %u[%d+1]", ino, BIG + 3));
    do_write();
    assert_int_equal(drops_since(before), 1); /* the end is where it was */
    write_as_worker(ino, SHMFS_WRITE_PAGES);
    do_append();
    assert_int_equal(drops_since(before), 3); /* recalled, and told */
    scene_end(dir, ino);
}

/* Who writes no more through the mount need not be told for ever. */
static void test_lease_a_new_end_is_told_for_a_while(void **state)
{
    uint32_t dir, ino;
    int before;

    scene_make(&dir, &ino);
    write_as_worker(ino, 0);
    for (int i = 0; i < 70; i++)
        do_append();
    assert_int_equal(leases_of(ino) & (LEASE_WRITTEN | LEASE_GROWN), 0);
    before = kernel.drops;
    do_append();
    assert_int_equal(drops_since(before), 0);
    write_as_worker(ino, 0);
    do_append();
    assert_int_equal(drops_since(before), 1);
    scene_end(dir, ino);
}

/* A program that asks again and again does not keep a writer from its turn. */
static uint32_t asked_ino;

static void ask_again(const struct shmfs_drop *drop)
{
    CHECK_EQ(shmfs_lease_grant(driver, asked_ino, SHMFS_LEASE_ATTR), 0);
}

static void test_lease_who_asks_on_is_waited_for_once(void **state)
{
    uint32_t dir, ino;
    int before;

    scene_make(&dir, &ino);
    asked_ino = ino;
    kernel.before = ask_again;
    before = kernel.drops;
    MUST(shmfs_rename(fs, "d/f", "d/moved", 0));
    assert_int_equal(drops_since(before), 2); /* recalled, and told once more */
    MUST(shmfs_rename(fs, "d/moved", "d/f", 0));
    kernel.before = NULL;
    scene_end(dir, ino);
}

/* P6: what stands in the slots is not trusted. */
static void scribble(const struct shmfs_drop *drop)
{
    for (uint32_t i = 0; i < driver->l.nslots; i++) {
        driver->slots[i].recall.ninodes = driver->slots[i].recall.nnames = 0x3ffffff;
        driver->slots[i].recall.names[0].len = 255;
    }
}

static void test_lease_scribbled_lists_do_no_harm(void **state)
{
    uint32_t dir, ino;

    scene_make(&dir, &ino);
    kernel.before = scribble;
    do_write();
    do_rename_away();
    MUST(shmfs_rename(fs, "other/g", "d/f", 0));
    write_as_worker(ino, 0);
    do_append();
    do_create();
    kernel.before = NULL;
    scene_end(dir, ino);
}

static bool is_doubtful(uint32_t ino)
{
    return shmfs_lease_dropped_lately(driver, ino) && shmfs_lease_has_pages(driver, ino);
}

/* A page that is dropped while a write of it is on its way may be read again too early. */
static void test_lease_a_write_that_a_drop_has_overtaken_is_doubtful(void **state)
{
    uint32_t dir, ino;

    scene_make(&dir, &ino);
    assert_false(is_doubtful(ino)); /* leased, but nothing was dropped */
    do_write();
    do_write_much();
    assert_false(is_doubtful(ino)); /* dropped, and not read since */
    CHECK_EQ(shmfs_lease_grant(driver, ino, SHMFS_LEASE_DATA), SHMFS_LEASE_DATA);
    assert_true(is_doubtful(ino));
    scene_end(dir, ino);
}

static void test_lease_names_that_nobody_asked_for_are_made_for_nothing(void **state)
{
    uint32_t dir, ino;
    int before;

    scene_make(&dir, &ino);
    do_create(); /* from here on the directory's attributes and listing are not leased */
    before = kernel.drops;
    for (int i = 0; i < 200; i++) {
        char path[32];

        snprintf(path, sizeof(path), "d/made%d", i);
        close_file(open_file(path, O_WRONLY | O_CREAT));
        MUST(shmfs_unlink(fs, path));
    }
    assert_true(drops_since(before) <= 2); /* a bit of the filter may be that of "new" */
    scene_end(dir, ino);
}

static void test_lease_an_absent_name_that_is_there_is_not_leased(void **state)
{
    uint32_t dir, ino;

    scene_make(&dir, &ino);
    assert_int_equal(shmfs_lease_absent(driver, dir, "f"), -EEXIST);
    assert_int_equal(shmfs_lease_absent(driver, ino, "f"), -ENOTDIR);
    scene_end(dir, ino);
}

/* What the kernel has forgotten it does not have: its leases are void. */
static void test_lease_forgotten_inodes_are_not_recalled(void **state)
{
    uint32_t dir, ino;

    scene_make(&dir, &ino);
    MUST(shmfs_node_forget(driver, ino, 1));
    assert_int_equal(leases_of(ino), 0);
    do_write();
    do_chmod();
    assert_int_equal(kernel.drops, 0);
    scene_end(dir, ino);
}

/* The listing of a directory tells which sequence it was of: an entry that is gone is no name to lease. */
static void test_lease_an_entry_of_an_old_listing_gets_no_name(void **state)
{
    struct shmfs_dirent e[8];
    struct shmfs_attr attr;
    uint32_t dir;

    MUST(shmfs_mkdir(fs, "d", 0755));
    put_text("d/f", "f");
    dir = number_of("d");
    assert_int_equal(shmfs_node_readdir(driver, dir, 0, e, 8), 3);
    MUST(shmfs_node_ref(driver, dir, &e[2], &attr));
    assert_int_equal(attr.leases, SHMFS_LEASE_NAME | SHMFS_LEASE_ATTR);
    MUST(shmfs_node_forget(driver, attr.ino, 1));
    put_text("d/g", "g");
    MUST(shmfs_node_ref(driver, dir, &e[2], &attr));
    assert_int_equal(attr.leases & SHMFS_LEASE_NAME, 0);
    MUST(shmfs_node_forget(driver, attr.ino, 1));
}

/* ---- the driver is not there ------------------------------------------------------------------------------ */

static uint64_t ms_of(void (*change)(void))
{
    uint64_t start = lock_now_ns();

    change();
    return (lock_now_ns() - start) / 1000000;
}

/* Bounded, once, and then everything is dropped; docs/COHERENCE.md says 5 s. */
static void test_lease_a_driver_that_does_not_answer_is_waited_for_once(void **state)
{
    uint32_t dir, ino, other;
    uint64_t ms;

    scene_make(&dir, &ino);
    other = look_at(look_at(SHMFS_ROOT, "other"), "unknown");
    kernel_stop();
    ms = ms_of(do_write);
    assert_in_range(ms, 4500, 20000);
    assert_int_equal(driver->rt->resync, 1);
    assert_true(ms_of(do_chmod) < 1000);
    assert_true(ms_of(do_create) < 1000);
    assert_bytes(held, 'x', 1, 5 * 4096);
    kernel_start();
    while (!kernel.everything)
        usleep(1000);
    while (driver->rt->driver_late != 0)
        usleep(1000);
    bool is_dir;
    for (uint32_t at = 0; shmfs_lease_each(driver, &at, &is_dir);)
        assert_int_equal(leases_of(at) & (LEASE_ATTR | LEASE_PAGES), 0);
    int before = kernel.drops;
    do_append(); /* answered again */
    cool_off(ino);
    look_at(dir, "f");
    do_append();
    assert_int_equal(drops_since(before), 1);
    assert_int_equal(driver->rt->resync, 0);
    MUST(shmfs_node_forget(driver, other, 1));
    scene_end(dir, ino);
}

/* What many changes wait for together is not held against one of them. */
static void be_slow(const struct shmfs_drop *drop)
{
    usleep(100 * 1000);
}

static void test_lease_a_slow_driver_is_waited_for_each_time(void **state)
{
    uint32_t dir, ino;

    scene_make(&dir, &ino);
    kernel.before = be_slow;
    for (int i = 0; i < 22; i++) {
        MUST(shmfs_lease_grant(driver, ino, SHMFS_LEASE_DATA) - SHMFS_LEASE_DATA);
        do_write();
        assert_int_equal(driver->rt->driver_late, 0);
        assert_int_equal(driver->rt->resync, 0);
    }
    assert_true(kernel.drops >= 22);
    scene_end(dir, ino);
}

static void test_lease_a_dead_driver_is_not_waited_for(void **state)
{
    uint32_t dir, ino;
    uint64_t ms;

    scene_make(&dir, &ino);
    kernel_stop();
    driver->rt->driver = proc_ref(7, 12345); /* nobody's */
    ms = ms_of(do_write) + ms_of(do_chmod) + ms_of(do_unlink) + ms_of(do_create);
    assert_true(ms < 1000);
    assert_int_equal(driver->rt->resync, 0);
    driver->rt->driver = driver->self;
    kernel_start();
    scene_end(dir, ino);
}

/* A driver of another mount: nothing of what the one before was leased is recalled. */
static void test_lease_ends_with_the_mount(void **state)
{
    uint32_t dir, ino;

    scene_make(&dir, &ino);
    kernel_stop();
    shmfs_region_detach(driver);
    driver = attach_driver(SHMFS_ATTACH_LEASES);
    kernel_start();
    do_write();
    do_chmod();
    do_create();
    assert_int_equal(kernel.drops, 0);
    look_at(look_at(SHMFS_ROOT, "d"), "f");
    do_write();
    assert_int_equal(kernel.drops, 1);
    MUST(shmfs_node_forget(driver, ino, 1));
    MUST(shmfs_unmap(fs, mapped, 4096));
    close_file(held);
    MUST(shmfs_node_forget(driver, dir, 1));
}

/* ---- death of writers ------------------------------------------------------------------------------------- */

static void killed_in(void (*work)(struct shmfs *own))
{
    pid_t pid = fork();
    int status;

    CHECK(pid >= 0);
    if (pid == 0) {
        work(api_attach(0));
        _exit(0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status));
}

static void wait_for_driver(struct shmfs *own)
{
    struct shmfs_file *file = open_in(own, "d/f", O_RDWR);

    alarm(1); /* within its wait */
    shmfs_pwrite(file, "z", 1, 0);
}

static void change_unrecalled(struct shmfs *own)
{
    struct txn t;

    MUST(txn_begin(own, &t));
    t.slot->recall.unrecalled = 1;
    raise(SIGKILL);
}

/* A post whose writer is dead is answered all the same, and the next writer has it recalled if need be. */
static void test_lease_a_writer_that_died_waiting_leaves_no_stale_lease(void **state)
{
    uint32_t dir, ino;

    scene_make(&dir, &ino);
    kernel_stop();
    killed_in(wait_for_driver);
    assert_int_equal(leases_of(ino) & (LEASE_ATTR | LEASE_DATA), LEASE_ATTR | LEASE_DATA);
    kernel_start();
    while (kernel.drops == 0)
        usleep(1000);
    bury();
    look_at(dir, "f");
    do_write();
    assert_int_equal(kernel.drops, 2);
    MUST(shmfs_node_forget(driver, ino, 1));
    scene_end(dir, ino);
}

/* One who changed what was not dropped, and died before he could say so: his undertaker does. */
static void test_lease_an_undertaker_says_what_was_not_recalled(void **state)
{
    uint32_t dir, ino;

    scene_make(&dir, &ino);
    kernel_stop();
    killed_in(change_unrecalled);
    assert_int_equal(driver->rt->resync, 0);
    bury();
    assert_int_equal(driver->rt->resync, 1);
    kernel_start();
    scene_end(dir, ino);
}

/* ---- alone ---------------------------------------------------------------------------------------------- */

static void test_lease_who_keeps_dirty_pages_is_alone(void **state)
{
    struct shmfs_diag diag = { 0 };
    struct shmfs *other = NULL;

    kernel_stop();
    shmfs_region_detach(driver);
    /* Not while we are attached. */
    assert_int_equal(
        shmfs_region_attach(region_path, SHMFS_ATTACH_DRIVER | SHMFS_ATTACH_ALONE, &driver, &diag), -EBUSY);
    assert_int_equal(diag.reason, SHMFS_REASON_IN_USE);
    api_detach();
    driver = attach_driver(SHMFS_ATTACH_ALONE);
    assert_int_equal(shmfs_attach(region_path, 0, &other), -EBUSY);
    assert_non_null(strstr(shmfs_attach_error(), "cache=writeback"));
    other = api_attach(SHMFS_RDONLY);
    shmfs_detach(other);
    shmfs_region_detach(driver);
    driver = NULL;
    fs = api_attach(0);
}

/* ---- appends of both sides --------------------------------------------------------------------------------- */

static void test_lease_a_direct_append_waits_for_the_rest_of_the_mounts(void **state)
{
    uint64_t start;

    put_bytes("log", 'x', 100);
    held = open_file("log", O_RDWR);
    uint32_t ino = number_of("log");
    start = lock_now_ns();
    write_as_worker(ino, SHMFS_WRITE_APPEND | SHMFS_WRITE_HALF);
    assert_int_equal(shmfs_append(held, "d", 1, NULL), 1); /* its rest never comes */
    assert_true(lock_now_ns() - start > 5000000);
    assert_int_equal(fstat_of(held).st_size, 4097);
    close_file(held);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        lease_unit(test_lease_every_change_recalls_what_it_changes),
        lease_unit(test_lease_what_nobody_looked_at_is_not_recalled),
        lease_unit(test_lease_a1_is_recalled_before_the_change),
        lease_unit(test_lease_a_write_recalls_the_pages_that_it_touches),
        lease_unit(test_lease_a_read_after_the_recall_is_recalled_again),
        lease_unit(test_lease_what_is_granted_meanwhile_is_recalled_again),
        lease_unit(test_lease_who_lists_while_a_writer_waits_keeps_nothing),
        lease_unit(test_lease_what_is_being_dropped_is_waited_for_by_all),
        lease_unit(test_lease_a_recalled_inode_is_not_leased_for_a_while),
        lease_unit(test_lease_answers_on_their_way_are_followed_by_another_drop),
        lease_unit(test_lease_a4_a_new_end_is_told_where_the_mount_writes),
        lease_unit(test_lease_a_new_end_is_told_for_a_while),
        lease_unit(test_lease_who_asks_on_is_waited_for_once),
        lease_unit(test_lease_scribbled_lists_do_no_harm),
        lease_unit(test_lease_a_write_that_a_drop_has_overtaken_is_doubtful),
        lease_unit(test_lease_names_that_nobody_asked_for_are_made_for_nothing),
        lease_unit(test_lease_an_absent_name_that_is_there_is_not_leased),
        lease_unit(test_lease_forgotten_inodes_are_not_recalled),
        lease_unit(test_lease_an_entry_of_an_old_listing_gets_no_name),
        lease_unit(test_lease_a_driver_that_does_not_answer_is_waited_for_once),
        lease_unit(test_lease_a_slow_driver_is_waited_for_each_time),
        lease_unit(test_lease_a_dead_driver_is_not_waited_for),
        lease_unit(test_lease_ends_with_the_mount),
        lease_unit(test_lease_a_writer_that_died_waiting_leaves_no_stale_lease),
        lease_unit(test_lease_an_undertaker_says_what_was_not_recalled),
        lease_unit(test_lease_who_keeps_dirty_pages_is_alone),
        lease_unit(test_lease_a_direct_append_waits_for_the_rest_of_the_mounts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
