/* SPDX-License-Identifier: MIT */
/*
 * POSIX ACLs (P7): the rules of POSIX.1e draft 17 as getfacl(1) would show them, first as a table of
 * facts, then, where the kernel has ACLs on a tmpfs, one by one against what it does itself.
 */
#include "fixture.h"

#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sys/xattr.h>

#include "acl.h"

enum { ENTRIES = 12, VALUE_MAX = 4 + ENTRIES * 8 };

/* An ACL as setfacl(1) takes it: "u::rwx,u:1:r--,g::r-x,m::r-x,o::---". */
struct acl {
    uint8_t bytes[VALUE_MAX];
    size_t n;
};

static struct acl acl_of(const char *text)
{
    struct posix_acl_xattr_header head = { .a_version = POSIX_ACL_XATTR_VERSION };
    struct acl acl = { .n = sizeof(head) };

    memcpy(acl.bytes, &head, sizeof(head));
    while (*text != 0) {
        struct posix_acl_xattr_entry e = { .e_id = (uint32_t)ACL_UNDEFINED_ID };
        const char *id = strchr(text, ':') + 1, *perm = strchr(id, ':') + 1;
        bool named = *id != ':';

        e.e_tag = (uint16_t)(*text == 'u'   ? (named ? ACL_USER : ACL_USER_OBJ)
                             : *text == 'g' ? (named ? ACL_GROUP : ACL_GROUP_OBJ)
                             : *text == 'm' ? ACL_MASK
                                            : ACL_OTHER);
        if (named)
            e.e_id = (uint32_t)strtoul(id, NULL, 10);
        e.e_perm = (uint16_t)((perm[0] == 'r') * 4 + (perm[1] == 'w') * 2 + (perm[2] == 'x'));
        CHECK(acl.n + sizeof(e) <= sizeof(acl.bytes));
        memcpy(acl.bytes + acl.n, &e, sizeof(e));
        acl.n += sizeof(e);
        text = perm + 3;
        text += *text == ',';
    }
    return acl;
}

/* And as getfacl -c shows it, on one line. */
static const char *acl_text(const void *value, ssize_t n, char *buf)
{
    const struct posix_acl_xattr_entry *e = (const void *)((const uint8_t *)value + 4);
    char *at = buf;

    *at = 0;
    for (ssize_t i = 0; n > 0 && i < (n - 4) / 8; i++) {
        const char *tag = e[i].e_tag == ACL_USER_OBJ || e[i].e_tag == ACL_USER     ? "u"
                          : e[i].e_tag == ACL_GROUP_OBJ || e[i].e_tag == ACL_GROUP ? "g"
                          : e[i].e_tag == ACL_MASK                                 ? "m"
                                                                                   : "o";
        at += sprintf(at, "%s%s:", i > 0 ? "," : "", tag);
        if (e[i].e_tag == ACL_USER || e[i].e_tag == ACL_GROUP)
            at += sprintf(at, "%u", e[i].e_id);
        at += sprintf(at, ":%c%c%c", e[i].e_perm & 4 ? 'r' : '-', e[i].e_perm & 2 ? 'w' : '-',
                      e[i].e_perm & 1 ? 'x' : '-');
    }
    return buf;
}

static void assert_acl(uint32_t ino, const char *name, const char *want)
{
    uint8_t value[1024];
    char text[1024];
    ssize_t n = shmfs_node_getxattr(fs, ino, name, value, sizeof(value));

    if (want == NULL) {
        assert_int_equal(n, -ENODATA);
        return;
    }
    assert_true(n >= 0);
    assert_string_equal(acl_text(value, n, text), want);
}

static int set_acl(uint32_t ino, const char *name, const char *text)
{
    struct acl acl = acl_of(text);

    return shmfs_node_setxattr(fs, ino, name, acl.bytes, acl.n, 0);
}

static void chmod_to(uint32_t ino, mode_t mode)
{
    struct shmfs_attr attr = { .mode = mode };

    MUST(shmfs_node_setattr(fs, ino, &attr, SHMFS_SET_MODE, &attr));
}

static uint32_t perm_of(uint32_t ino)
{
    return attr_of(ino).mode & 07777;
}

/* ---- an access ACL and the mode are two views of one thing ---------------------------------------------- */

static void test_acl_says_what_the_mode_is(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");

    chmod_to(ino, 04644);
    assert_int_equal(set_acl(ino, ACL_ACCESS, "u::rwx,u:1:r--,g::r-x,m::rw-,o::--x"), 0);
    assert_int_equal(perm_of(ino), 04761); /* the group bits are the mask; set-id bits stay */
    assert_acl(ino, ACL_ACCESS, "u::rwx,u:1:r--,g::r-x,m::rw-,o::--x");
}

/* Without named entries or a mask it says no more than the mode does, and is not kept. */
static void test_acl_of_three_entries_is_the_mode_itself(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");

    assert_int_equal(set_acl(ino, ACL_ACCESS, "u::rwx,u:1:r--,g::r-x,m::rw-,o::--x"), 0);
    assert_int_equal(set_acl(ino, ACL_ACCESS, "u::r--,g::-w-,o::--x"), 0);
    assert_int_equal(perm_of(ino), 0421);
    assert_acl(ino, ACL_ACCESS, NULL);
    assert_int_equal(attr_of(ino).blocks, 0);
    /* With a mask, it does say more. */
    assert_int_equal(set_acl(ino, ACL_ACCESS, "u::r--,g::rw-,m::r--,o::--x"), 0);
    assert_int_equal(perm_of(ino), 0441);
    assert_acl(ino, ACL_ACCESS, "u::r--,g::rw-,m::r--,o::--x");
}

/* chmod g= changes the mask and not the group's own entry; without a mask, the group's entry. */
static void test_acl_follows_a_chmod(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");

    MUST(set_acl(ino, ACL_ACCESS, "u::rwx,u:1:rwx,g::rwx,g:2:r--,m::rwx,o::rwx"));
    chmod_to(ino, 0640);
    assert_int_equal(perm_of(ino), 0640);
    assert_acl(ino, ACL_ACCESS, "u::rw-,u:1:rwx,g::rwx,g:2:r--,m::r--,o::---");
    chmod_to(ino, 06175);
    assert_int_equal(perm_of(ino), 06175);
    assert_acl(ino, ACL_ACCESS, "u::--x,u:1:rwx,g::rwx,g:2:r--,m::rwx,o::r-x");
}

static void test_acl_removed_leaves_the_mode(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");

    MUST(set_acl(ino, ACL_ACCESS, "u::rwx,u:1:rwx,g::r--,m::rwx,o::---"));
    assert_int_equal(shmfs_node_removexattr(fs, ino, ACL_ACCESS), 0);
    assert_int_equal(perm_of(ino), 0770);
    assert_acl(ino, ACL_ACCESS, NULL);
    assert_int_equal(shmfs_node_removexattr(fs, ino, ACL_ACCESS), 0); /* as every filesystem has it */
    assert_int_equal(shmfs_node_removexattr(fs, ino, ACL_DEFAULT), 0);
}

/* ---- a default ACL shapes what is made ------------------------------------------------------------------ */

static uint32_t make_in(uint32_t dir, const char *name, mode_t mode, mode_t umask)
{
    struct shmfs_maker m = { .umask = umask };
    struct shmfs_attr attr;

    if (S_ISDIR(mode))
        MUST(shmfs_node_mkdir(fs, dir, name, mode & 07777, &m, false, &attr));
    else
        MUST(shmfs_node_mknod(fs, dir, name, mode, 0, &m, false, &attr));
    return attr.ino;
}

static void test_acl_without_a_default_the_umask_counts(void **state)
{
    uint32_t dir = make_dir(SHMFS_ROOT, "dir");

    assert_int_equal(perm_of(make_in(dir, "a", S_IFREG | 0666, 022)), 0644);
    assert_int_equal(perm_of(make_in(dir, "b", S_IFDIR | 01777, 077)), 01700); /* not more than nine bits */
    assert_int_equal(perm_of(make_in(dir, "c", S_IFREG | 04777, 0777)), 04000);
}

static void test_acl_with_a_default_the_umask_does_not_count(void **state)
{
    uint32_t dir = make_dir(SHMFS_ROOT, "dir"), ino;

    MUST(set_acl(dir, ACL_DEFAULT, "u::rwx,u:1:rwx,g::r-x,m::rwx,o::r-x"));
    assert_int_equal(perm_of(dir), 0755); /* the directory itself is not concerned */
    ino = make_in(dir, "file", S_IFREG | 0666, 077);
    /* The mode asked for and the default ACL limit each other; of the group class, the mask is limited. */
    assert_int_equal(perm_of(ino), 0664);
    assert_acl(ino, ACL_ACCESS, "u::rw-,u:1:rwx,g::r-x,m::rw-,o::r--");
    assert_acl(ino, ACL_DEFAULT, NULL);

    ino = make_in(dir, "sub", S_IFDIR | 0700, 077);
    assert_int_equal(perm_of(ino), 0700);
    assert_acl(ino, ACL_ACCESS, "u::rwx,u:1:rwx,g::r-x,m::---,o::---");
    assert_acl(ino, ACL_DEFAULT, "u::rwx,u:1:rwx,g::r-x,m::rwx,o::r-x"); /* as it was, unlimited */
    ino = make_in(ino, "below", S_IFREG | 0777, 0);
    assert_acl(ino, ACL_ACCESS, "u::rwx,u:1:rwx,g::r-x,m::rwx,o::r-x"); /* and so on below */
}

static void test_acl_a_minimal_default_leaves_no_acl(void **state)
{
    uint32_t dir = make_dir(SHMFS_ROOT, "dir"), ino;

    MUST(set_acl(dir, ACL_DEFAULT, "u::rwx,g::r--,o::---"));
    ino = make_in(dir, "file", S_IFREG | 0666, 0);
    assert_int_equal(perm_of(ino), 0640);
    assert_acl(ino, ACL_ACCESS, NULL);
    ino = make_in(dir, "sub", S_IFDIR | 0777, 0777);
    assert_int_equal(perm_of(ino), 0740);
    assert_acl(ino, ACL_DEFAULT, "u::rwx,g::r--,o::---");
}

static void test_acl_tmpfiles_and_devices_inherit_and_symlinks_do_not(void **state)
{
    uint32_t dir = make_dir(SHMFS_ROOT, "dir");
    struct shmfs_maker m = { .umask = 077 };
    struct shmfs_attr attr;

    MUST(set_acl(dir, ACL_DEFAULT, "u::rwx,u:1:rwx,g::r-x,m::rwx,o::r-x"));
    MUST(shmfs_node_tmpfile(fs, dir, 0666, &m, &attr));
    assert_acl(attr.ino, ACL_ACCESS, "u::rw-,u:1:rwx,g::r-x,m::rw-,o::r--");
    MUST(shmfs_node_forget(fs, attr.ino, 1));
    assert_acl(make_in(dir, "fifo", S_IFIFO | 0600, 0), ACL_ACCESS, "u::rw-,u:1:rwx,g::r-x,m::---,o::---");
    MUST(shmfs_node_symlink(fs, "t", dir, "link", &m, false, &attr));
    assert_acl(attr.ino, ACL_ACCESS, NULL);
    assert_int_equal(attr.mode, S_IFLNK | 0777);
}

static void test_acl_default_belongs_to_directories(void **state)
{
    uint32_t dir = make_dir(SHMFS_ROOT, "dir"), ino = make_file(dir, "file");
    struct shmfs_attr attr;

    assert_int_equal(set_acl(ino, ACL_DEFAULT, "u::rwx,g::r--,o::---"), -EACCES);
    assert_int_equal(set_acl(dir, ACL_DEFAULT, "u::rwx,g::r--,o::---"), 0);
    assert_acl(dir, ACL_DEFAULT, "u::rwx,g::r--,o::---"); /* kept, though it is of three entries */
    assert_int_equal(perm_of(dir), 0755);
    MUST(shmfs_node_symlink(fs, "t", dir, "link", &maker, false, &attr));
    assert_int_equal(set_acl(attr.ino, ACL_ACCESS, "u::rwx,g::r--,o::---"), -EOPNOTSUPP);
    assert_int_equal(set_acl(dir, ACL_DEFAULT, ""), 0); /* no entries: none */
    assert_acl(dir, ACL_DEFAULT, NULL);
}

/* The group of a set-group-ID directory is inherited, and by directories the bit too. */
static void test_acl_set_group_id_is_inherited(void **state)
{
    uint32_t dir = make_dir(SHMFS_ROOT, "dir"), ino;
    struct shmfs_attr attr = { .gid = 77, .mode = 02755 };

    MUST(shmfs_node_setattr(fs, dir, &attr, SHMFS_SET_GID | SHMFS_SET_MODE, &attr));
    ino = make_in(dir, "file", S_IFREG | 0666, 0);
    assert_int_equal(attr_of(ino).gid, 77);
    assert_int_equal(perm_of(ino), 0666);
    ino = make_in(dir, "sub", S_IFDIR | 0777, 022);
    assert_int_equal(attr_of(ino).gid, 77);
    assert_int_equal(perm_of(ino), 02755);
}

/* ---- malformed ------------------------------------------------------------------------------------------------ */

static void test_acl_malformed_is_refused_and_changes_nothing(void **state)
{
    static const char *const bad[] = {
        "u::rwx", /* too few */
        "u::rwx,g::rwx",
        "u::rwx,o::rwx",
        "g::rwx,o::rwx",
        "g::rwx,u::rwx,o::rwx",        /* out of order */
        "u::rwx,u::rwx,g::rwx,o::rwx", /* twice */
        "u::rwx,g::rwx,o::rwx,o::rwx",
        "u::rwx,g::rwx,m::rwx,m::rwx,o::rwx",
        "u::rwx,u:1:rwx,g::rwx,o::rwx", /* a named entry without a mask */
        "u::rwx,g::rwx,g:1:rwx,o::rwx",
        "u:1:rwx,u::rwx,g::rwx,m::rwx,o::rwx",
        "u::rwx,g:1:rwx,g::rwx,m::rwx,o::rwx",
        "u::rwx,g::rwx,o::rwx,m::rwx",
    };
    uint32_t dir = make_dir(SHMFS_ROOT, "dir");
    struct acl acl, good = acl_of("u::rwx,u:1:r--,g::r-x,m::rw-,o::--x");

    MUST(set_acl(dir, ACL_ACCESS, "u::rwx,u:9:r--,g::r-x,m::r--,o::---"));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        if (set_acl(dir, ACL_ACCESS, bad[i]) != -EINVAL || set_acl(dir, ACL_DEFAULT, bad[i]) != -EINVAL)
            fail_msg("'%s' was taken", bad[i]);
    }
    for (size_t n = 0; n < good.n; n++) { /* cut short */
        int r = shmfs_node_setxattr(fs, dir, ACL_ACCESS, good.bytes, n, 0);
        assert_int_equal(r, n == 4 ? 0 : -EINVAL); /* a header alone: no ACL */
        if (n == 4)
            MUST(set_acl(dir, ACL_ACCESS, "u::rwx,u:9:r--,g::r-x,m::r--,o::---"));
    }
    acl = good;
    acl.bytes[0] = 1; /* another version */
    assert_int_equal(shmfs_node_setxattr(fs, dir, ACL_ACCESS, acl.bytes, acl.n, 0), -EOPNOTSUPP);
    acl = good;
    acl.bytes[4 + 2] = 8; /* a permission that is none */
    assert_int_equal(shmfs_node_setxattr(fs, dir, ACL_ACCESS, acl.bytes, acl.n, 0), -EINVAL);
    acl = good;
    acl.bytes[4 + 8] = 3; /* a tag that is none */
    assert_int_equal(shmfs_node_setxattr(fs, dir, ACL_ACCESS, acl.bytes, acl.n, 0), -EINVAL);
    assert_acl(dir, ACL_ACCESS, "u::rwx,u:9:r--,g::r-x,m::r--,o::---");
    assert_acl(dir, ACL_DEFAULT, NULL);
    assert_int_equal(perm_of(dir), 0740);
}

/* P6: an ACL that was scribbled on is an error for who must follow it, and a crash for nobody. */
static void test_acl_hostile_bytes_are_an_error(void **state)
{
    uint32_t dir = make_dir(SHMFS_ROOT, "dir");
    struct shmfs_maker m = { .umask = 0 };
    struct shmfs_attr attr = { .mode = 0700 };
    struct inode *in = inode_at(fs, dir);
    uint8_t *value;

    MUST(set_acl(dir, ACL_DEFAULT, "u::rwx,u:1:r--,g::r-x,m::rw-,o::--x"));
    MUST(set_acl(dir, ACL_ACCESS, "u::rwx,u:1:r--,g::r-x,m::rw-,o::--x"));
    struct xattr_block *xb = region_block(fs, in->xattr), was = *xb;
    value = xb->data + sizeof(struct xattr_entry) + strlen(ACL_DEFAULT);
    for (size_t i = 0; i < 44; i++) {
        *xb = was;
        value[i] = 0xee;
        int r = shmfs_node_mknod(fs, dir, "file", S_IFREG | 0644, 0, &m, false, &attr);
        assert_true(r == 0 || r == -EUCLEAN);
        if (r == 0)
            MUST(shmfs_node_unlink(fs, dir, "file"));
    }
    *xb = was;
    value = xb->data + was.len - 44; /* the access ACL is the last */
    for (size_t i = 0; i < 44; i++) {
        value[i] ^= 0xee;
        int r = shmfs_node_setattr(fs, dir, &attr, SHMFS_SET_MODE, &attr);
        assert_true(r == 0 || r == -EUCLEAN);
        assert_int_equal(shmfs_node_getattr(fs, dir, &attr), 0);
        xb = region_block(fs, in->xattr);
        *xb = was;
        value = xb->data + was.len - 44;
    }
    xb = region_block(fs, in->xattr);
    was.next = xb->next;
    *xb = was;
}

/* ---- against the kernel ----------------------------------------------------------------------------------- */

static char real_dir[64];

/* A directory of a tmpfs with ACLs, or skip. */
static void real_begin(void)
{
    struct acl acl = acl_of("u::rwx,u:1:r--,g::r-x,m::rwx,o::r-x");

    snprintf(real_dir, sizeof(real_dir), "%s/shmfs-acl-%d", test_directory(), (int)getpid());
    MUST(mkdir(real_dir, 0755));
    if (setxattr(real_dir, ACL_ACCESS, acl.bytes, acl.n, 0) < 0) {
        rmdir(real_dir);
        skip();
    }
    MUST(removexattr(real_dir, ACL_ACCESS));
    MUST(chmod(real_dir, 0755));
}

static const char *real_path(const char *name, char *buf)
{
    sprintf(buf, "%s/%s", real_dir, name);
    return buf;
}

static int teardown_real(void **state)
{
    static const char *const names[] = { "dir/new", "dir", "file", "" };
    char path[128];

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        remove(real_path(names[i], path));
    return teardown(state);
}

#define real_unit(f) cmocka_unit_test_setup_teardown(f, setup, teardown_real)

/* The id of an entry that is not named means nothing: the kernel does not even keep it. */
static void forget_ids(uint8_t *value, ssize_t n)
{
    struct posix_acl_xattr_entry e;

    for (ssize_t at = 4; at + (ssize_t)sizeof(e) <= n; at += (ssize_t)sizeof(e)) {
        memcpy(&e, value + at, sizeof(e));
        if (e.e_tag != ACL_USER && e.e_tag != ACL_GROUP)
            e.e_id = (uint32_t)ACL_UNDEFINED_ID;
        memcpy(value + at, &e, sizeof(e));
    }
}

/* The same mode, and the same bytes in both attributes? */
static void same(uint32_t ino, const char *path, const char *what, unsigned a, unsigned b)
{
    static const char *const names[] = { ACL_ACCESS, ACL_DEFAULT };
    struct stat st;

    MUST(stat(path, &st));
    if (attr_of(ino).mode != st.st_mode)
        fail_msg("%s (%#o, %#o): the mode is %#o, should be %#o", what, a, b, attr_of(ino).mode, st.st_mode);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        uint8_t ours[1024], theirs[1024];
        char text[2][1024];
        ssize_t n = shmfs_node_getxattr(fs, ino, names[i], ours, sizeof(ours));
        ssize_t want = getxattr(path, names[i], theirs, sizeof(theirs));

        if (want < 0)
            want = -errno;
        forget_ids(ours, n);
        forget_ids(theirs, want);
        if (n != want || (n > 0 && memcmp(ours, theirs, (size_t)n) != 0))
            fail_msg("%s (%#o, %#o): %s is '%s' (%zd), should be '%s' (%zd)", what, a, b, names[i],
                     acl_text(ours, n, text[0]), n, acl_text(theirs, want, text[1]), want);
    }
}

static const char *const defaults[] = {
    NULL,
    "u::rwx,g::rwx,o::rwx",
    "u::r--,g::-w-,o::--x",
    "u::---,g::---,o::---",
    "u::rwx,g::rwx,m::rwx,o::rwx",
    "u::rwx,g::r-x,m::-w-,o::---",
    "u::rwx,u:1:rwx,g::r-x,m::rwx,o::r-x",
    "u::rw-,u:1:r--,u:2:-wx,g::rw-,g:3:rwx,g:4:---,m::rw-,o::r--",
    "u::---,u:1:rwx,g::---,m::---,o::rwx",
    "u::rwx,g::---,g:1:rwx,m::r-x,o::---",
};

/* Every mode there is, under several default ACLs and umasks. */
static void test_acl_inheritance_is_that_of_the_kernel(void **state)
{
    static const mode_t umasks[] = { 0, 022, 077, 0133, 0777 };
    char path[128];

    real_begin();
    for (size_t d = 0; d < ARRAY_SIZE(defaults); d++) {
        uint32_t dir = make_dir(SHMFS_ROOT, "dir");
        char name[160];

        MUST(mkdir(real_path("dir", path), 0755));
        MUST(chmod(path, 0755));
        if (defaults[d] != NULL) {
            struct acl acl = acl_of(defaults[d]);
            MUST(setxattr(path, ACL_DEFAULT, acl.bytes, acl.n, 0));
            MUST(set_acl(dir, ACL_DEFAULT, defaults[d]));
        }
        same(dir, path, "the directory", 0, 0);
        for (mode_t mode = 0; mode <= 0777; mode += mode < 0100 ? 1 : 7) {
            mode_t mask = umasks[mode % ARRAY_SIZE(umasks)], old = umask(mask);

            sprintf(name, "%s/dir/new", real_dir);
            MUST(mknod(name, S_IFREG | mode, 0));
            same(make_in(dir, "new", S_IFREG | mode, mask), name, "a file", mode, mask);
            MUST(unlink(name));
            MUST(shmfs_node_unlink(fs, dir, "new"));
            MUST(mkdir(name, mode | 01000));
            same(make_in(dir, "new", S_IFDIR | mode | 01000, mask), name, "a directory", mode, mask);
            MUST(rmdir(name));
            MUST(shmfs_node_rmdir(fs, dir, "new"));
            umask(old);
        }
        MUST(shmfs_node_rmdir(fs, SHMFS_ROOT, "dir"));
        MUST(rmdir(path));
    }
}

/* An ACL such as random bits make: most are good, some are not. */
static struct acl random_acl(void)
{
    static const uint16_t tags[] = { ACL_USER_OBJ, ACL_USER,  ACL_USER, ACL_GROUP_OBJ,
                                     ACL_GROUP,    ACL_GROUP, ACL_MASK, ACL_OTHER };
    struct acl acl = acl_of("");

    for (size_t i = 0; i < ARRAY_SIZE(tags); i++) {
        bool needed = tags[i] == ACL_USER_OBJ || tags[i] == ACL_GROUP_OBJ || tags[i] == ACL_OTHER;
        struct posix_acl_xattr_entry e = { .e_tag = tags[i],
                                           .e_perm = (uint16_t)random_below(8),
                                           .e_id = (uint32_t)ACL_UNDEFINED_ID };

        if (random_below(20) == 0 ? needed : !needed && random_below(tags[i] == ACL_MASK ? 4 : 2) == 0)
            continue;
        if (tags[i] == ACL_USER || tags[i] == ACL_GROUP)
            e.e_id = (uint32_t)random_below(5) + (uint32_t)i * 10;
        if (random_below(100) == 0)
            e.e_perm = (uint16_t)random_below(65536);
        if (random_below(100) == 0)
            e.e_tag = (uint16_t)random_below(64);
        memcpy(acl.bytes + acl.n, &e, sizeof(e));
        acl.n += sizeof(e);
    }
    return acl;
}

/* Setting, changing modes, removing, in any order: each time what the kernel has. */
static void test_acl_changes_are_those_of_the_kernel(void **state)
{
    static const char *const attrs[] = { ACL_ACCESS, ACL_DEFAULT };
    char paths[2][128];
    uint32_t inos[2];
    unsigned taken = 0, refused = 0;

    random_start(13);
    real_begin();
    MUST(mkdir(real_path("dir", paths[0]), 0755));
    MUST(mknod(real_path("file", paths[1]), S_IFREG | 0644, 0));
    MUST(chmod(paths[0], 0755));
    MUST(chmod(paths[1], 0644));
    inos[0] = make_dir(SHMFS_ROOT, "dir");
    inos[1] = make_file(SHMFS_ROOT, "file");
    for (int i = 0; i < 20000; i++) {
        size_t which = random_below(2), attr = random_below(2);
        int ours = 0, theirs = 0;

        if (random_below(3) == 0) {
            mode_t mode =
                (mode_t)random_below(01000) | (mode_t)(random_below(4) == 0 ? random_below(8) << 9 : 0);
            MUST(chmod(paths[which], mode));
            chmod_to(inos[which], mode);
        } else if (random_below(6) == 0) {
            theirs = removexattr(paths[which], attrs[attr]) < 0 ? -errno : 0;
            ours = shmfs_node_removexattr(fs, inos[which], attrs[attr]);
        } else {
            struct acl acl = random_acl();
            theirs = setxattr(paths[which], attrs[attr], acl.bytes, acl.n, 0) < 0 ? -errno : 0;
            ours = shmfs_node_setxattr(fs, inos[which], attrs[attr], acl.bytes, acl.n, 0);
            taken += theirs == 0;
            refused += theirs != 0;
        }
        if (ours < 0 && theirs < 0 && which == 1 && attr == 1)
            ours = theirs; /* malformed and out of place: either may be said first */
        if (ours != theirs)
            fail_msg("step %d (%s of %s) gave %d, should be %d", i, attrs[attr], paths[which], ours, theirs);
        same(inos[which], paths[which], "step", (unsigned)i, 0);
    }
    assert_true(taken > 1000 && refused > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        unit(test_acl_says_what_the_mode_is),
        unit(test_acl_of_three_entries_is_the_mode_itself),
        unit(test_acl_follows_a_chmod),
        unit(test_acl_removed_leaves_the_mode),
        unit(test_acl_without_a_default_the_umask_counts),
        unit(test_acl_with_a_default_the_umask_does_not_count),
        unit(test_acl_a_minimal_default_leaves_no_acl),
        unit(test_acl_tmpfiles_and_devices_inherit_and_symlinks_do_not),
        unit(test_acl_default_belongs_to_directories),
        unit(test_acl_set_group_id_is_inherited),
        unit(test_acl_malformed_is_refused_and_changes_nothing),
        unit(test_acl_hostile_bytes_are_an_error),
        real_unit(test_acl_inheritance_is_that_of_the_kernel),
        real_unit(test_acl_changes_are_those_of_the_kernel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
