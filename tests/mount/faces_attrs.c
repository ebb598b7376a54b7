/* SPDX-License-Identifier: MIT */
/* Times, extended attributes, access control lists, and what new objects get. */
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "faces.h"

static char value[70000], got[70000];

/* ---- times --------------------------------------------------------------------------------------- */

static void times_of(const struct face *f, const char *path)
{
    struct stat st;

    MUST(op_lstat(f, path, &st));
    /* "Now" is a time of its own in each run. */
    tell("%s: atime %lld.%09ld mtime %lld.%09ld", path,
         (long long)(st.st_atime > 1700000000 ? -7 : st.st_atime),
         st.st_atime > 1700000000 ? 0 : st.st_atim.tv_nsec,
         (long long)(st.st_mtime > 1700000000 ? -7 : st.st_mtime),
         st.st_mtime > 1700000000 ? 0 : st.st_mtim.tv_nsec);
}

static void set_times(const struct face *f)
{
    static const struct timespec times[][2] = {
        { { 1, 2 }, { 3, 4 } },
        { { 5, UTIME_OMIT }, { 6, 7 } },
        { { 8, 9 }, { 0, UTIME_OMIT } },
        { { 0, UTIME_OMIT }, { 0, UTIME_OMIT } },
        { { 0, UTIME_NOW }, { 10, 11 } },
        { { 12, 13 }, { 0, UTIME_NOW } },
        { { 0, UTIME_NOW }, { 0, UTIME_NOW } },
        { { 0, UTIME_NOW }, { 0, UTIME_OMIT } },
        { { 14, 1000000000 }, { 0, 0 } },
        { { 0, 0 }, { 15, -1 } },
        { { -16, 17 }, { -18, 999999999 } },
    };
    struct handle h;

    make_file(f, "/f", "", 0);
    MUST(op_symlink(f, "f", "/l"));
    MUST(op_symlink(f, "nowhere", "/dangling"));
    MUST(op_open(f, "/f", O_RDONLY, 0, &h));
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        label("times %zu", i);
        SAY(op_utimens(f, "/f", times[i], 0));
        times_of(f, "/f");
        SAY(op_utimens(f, "/l", times[i], AT_SYMLINK_NOFOLLOW));
        times_of(f, "/l");
        SAY(op_utimens(f, "/dangling", times[i], 0));
        SAY(op_utimens(f, "/missing", times[i], 0));
        SAY(op_utimens(f, "/f", times[i], 4));
        SAY(op_futimens(&h, times[i]));
        times_of(f, "/f");
    }
    MUST(op_close(&h));
}

/* Until the clock that files are stamped by has moved: then a change can be told from none. */
static void next_tick(void)
{
    struct timespec from, now;

    clock_gettime(CLOCK_REALTIME_COARSE, &from);
    do
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
    while (now.tv_sec == from.tv_sec && now.tv_nsec == from.tv_nsec);
}

struct stamps {
    struct timespec mtime, ctime;
};

static struct stamps stamps_of(const struct face *f, const char *path)
{
    struct stat st;

    if (op_lstat(f, path, &st) < 0)
        return (struct stamps){ 0 };
    return (struct stamps){ st.st_mtim, st.st_ctim };
}

static bool same(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static void write_some(const struct face *f, size_t n)
{
    struct handle h;

    MUST(op_open(f, "/d/f", O_WRONLY, 0, &h));
    MUST(op_pwrite(&h, "text", n, 0));
    MUST(op_close(&h));
}

static void allocate_some(const struct face *f, int mode, off_t n)
{
    struct handle h;

    MUST(op_open(f, "/d/f", O_WRONLY, 0, &h));
    MUST(op_fallocate(&h, mode, 0, n));
    MUST(op_close(&h));
}

/* What is done to the file itself; its name, or NULL: that is none of these. */
static const char *change_file(const struct face *f, int i)
{
    switch (i) {
    case 0:
        return "nothing";
    case 1:
        write_some(f, 4);
        return "write";
    case 2:
        write_some(f, 0);
        return "write of nothing";
    case 3:
        MUST(op_truncate(f, "/d/f", 100));
        return "truncate to the same";
    case 4:
        MUST(op_truncate(f, "/d/f", 9));
        return "truncate";
    case 5:
        MUST(op_opens(f, "/d/f", O_WRONLY | O_TRUNC));
        return "O_TRUNC";
    case 6:
        allocate_some(f, 0, 5000);
        return "fallocate";
    case 7:
        allocate_some(f, FALLOC_FL_KEEP_SIZE, 9000);
        return "fallocate keep";
    case 8:
        allocate_some(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 10);
        return "punch";
    case 9:
        MUST(op_chmod(f, "/d/f", 0644));
        return "chmod to the same";
    case 10:
        MUST(op_chown(f, "/d/f", (uid_t)-1, (gid_t)-1));
        return "chown to nobody";
    case 11:
        MUST(op_setxattr(f, "/d/f", "user.a", "1", 1, 0));
        return "setxattr";
    case 12:
        MUST(op_removexattr(f, "/d/f", "user.there"));
        return "removexattr";
    default:
        return NULL;
    }
}

/* Number `i` of all changes; NULL: there are no more. */
static const char *change(const struct face *f, int i)
{
    char names[100];

    switch (i) {
    case 13:
        MUST(op_link(f, "/d/f", "/e/new"));
        return "link";
    case 14:
        MUST(op_symlink(f, "x", "/e/new"));
        return "symlink";
    case 15:
        MUST(op_mkdir(f, "/e/new", 0755));
        return "mkdir";
    case 16:
        MUST(op_mknod(f, "/e/new", S_IFIFO | 0600, 0));
        return "mknod";
    case 17:
        MUST(op_opens(f, "/e/new", O_CREAT | O_RDWR));
        return "create";
    case 18:
        MUST(op_opens(f, "/d/f", O_CREAT | O_RDWR));
        return "create what is there";
    case 19:
        MUST(op_opens(f, "/e", O_TMPFILE | O_RDWR));
        return "tmpfile";
    case 20:
        MUST(op_unlink(f, "/d/twin"));
        return "unlink of one name";
    case 21:
        MUST(op_rmdir(f, "/d/sub"));
        return "rmdir";
    case 22:
        MUST(op_rename(f, "/d/f", "/d/g", 0));
        return "rename";
    case 23:
        MUST(op_rename(f, "/d/sub", "/e/sub", 0));
        return "rename of a directory elsewhere";
    case 24:
        MUST(op_rename(f, "/d/f", "/e/f", RENAME_EXCHANGE));
        return "exchange";
    case 25:
        MUST(op_rename(f, "/d/f", "/d/twin", 0));
        return "rename onto its twin";
    case 26:
        MUST(op_list(f, "/d", names, sizeof(names)));
        return "list";
    case 27:
        MUST(op_utimens(f, "/d/f", (struct timespec[2]){ { 0, UTIME_OMIT }, { 0, UTIME_OMIT } }, 0));
        return "utimens that omits";
    default:
        return change_file(f, i);
    }
}

static void changes_of_times(const struct face *f)
{
    static const char *const objects[] = { "/d", "/e", "/d/f", "/d/twin", "/d/sub", "/e/f" };
    enum { OBJECTS = sizeof(objects) / sizeof(objects[0]) };
    struct stamps before[OBJECTS];
    const char *what = "";

    for (int i = 0; what != NULL; i++) {
        label("change %d", i);
        MUST(op_mkdir(f, "/d", 0755));
        MUST(op_mkdir(f, "/e", 0755));
        MUST(op_mkdir(f, "/d/sub", 0755));
        make_file(f, "/d/f", value, 100);
        MUST(op_setxattr(f, "/d/f", "user.there", "1", 1, 0));
        make_file(f, "/e/f", value, 10);
        MUST(op_link(f, "/d/f", "/d/twin"));
        /* Alike, so that an exchange changes nothing in that. */
        for (size_t k = 0; k < OBJECTS; k++)
            MUST(op_utimens(f, objects[k], (struct timespec[2]){ { 5, 6 }, { 7, 8 } }, 0));
        for (size_t k = 0; k < OBJECTS; k++)
            before[k] = stamps_of(f, objects[k]);
        next_tick();
        what = change(f, i);
        for (size_t k = 0; what != NULL && k < OBJECTS; k++) {
            struct stamps after = stamps_of(f, objects[k]);
            tell("%s: %s: mtime %s, ctime %s", what, objects[k],
                 same(before[k].mtime, after.mtime) ? "stays" : "moves",
                 same(before[k].ctime, after.ctime) ? "stays" : "moves");
        }
        remove_tree(f, "");
    }
}

/* ---- extended attributes ------------------------------------------------------------------------- */

static void attributes(const struct face *f)
{
    static const char *const names[] = { "user.a",     "user.",    "user",        "trusted.a",
                                         "security.a", "system.a", "nonsense",    "nonsense.a",
                                         "",           "trusted.", "user.spa ce", "security.capability" };
    static const size_t sizes[] = { 0, 1, 4000, 4096, 10000, 65535, 65536, 65537 };
    char name[400];

    make_file(f, "/f", "x", 1);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        label("xattr '%s'", names[i]);
        SAY(op_getxattr(f, "/f", names[i], got, sizeof(got)));
        SAY(op_removexattr(f, "/f", names[i]));
        SAY(op_setxattr(f, "/f", names[i], "1", 1, XATTR_REPLACE));
        SAY(op_setxattr(f, "/f", names[i], "22", 2, XATTR_CREATE));
        SAY(op_setxattr(f, "/f", names[i], "333", 3, XATTR_CREATE));
        SAY(op_setxattr(f, "/f", names[i], "4444", 4, XATTR_CREATE | XATTR_REPLACE));
        SAY(op_setxattr(f, "/f", names[i], "55555", 5, 8));
        SAY(op_getxattr(f, "/f", names[i], got, 0));
        SAY(op_getxattr(f, "/f", names[i], got, 1));
        SAY(op_getxattr(f, "/f", names[i], got, sizeof(got)));
    }
    label("xattr sizes");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        SAY(op_setxattr(f, "/f", "user.big", value, sizes[i], 0));
        SAY(op_getxattr(f, "/f", "user.big", got, sizeof(got)));
    }
    for (int n = 248; n <= 252; n++) {
        snprintf(name, sizeof(name), "user.%0*d", n, 1);
        SAY(op_setxattr(f, "/f", name, "x", 1, 0));
        SAY(op_getxattr(f, "/f", name, got, sizeof(got)));
        op_removexattr(f, "/f", name);
    }
    SAY(op_listxattr(f, "/f", got, 0));
    SAY(op_listxattr(f, "/f", got, 5));
    SAY(op_listxattr(f, "/f", got, sizeof(got)));
    SAY(op_removexattr(f, "/f", "user.big"));
    SAY(op_listxattr(f, "/f", got, sizeof(got)));
}

/* ---- access control lists ------------------------------------------------------------------------ */

struct list {
    struct posix_acl_xattr_header head;
    struct posix_acl_xattr_entry e[8];
};

static void add(struct list *l, size_t *n, unsigned tag, unsigned perm, unsigned id)
{
    l->e[(*n)++] =
        (struct posix_acl_xattr_entry){ .e_tag = (uint16_t)tag, .e_perm = (uint16_t)perm, .e_id = id };
}

/* Number `i` of the lists, some of them none; its bytes, or 0: there are no more. */
static size_t list_of(unsigned i, struct list *ret)
{
    size_t n = 0;

    ret->head.a_version = i == 6 ? 1 : POSIX_ACL_XATTR_VERSION;
    if (i > 7)
        return 0;
    if (i != 5)
        add(ret, &n, ACL_USER_OBJ, i == 4 ? 8 : 7, ACL_UNDEFINED_ID);
    if (i == 1 || i == 2 || i == 3)
        add(ret, &n, ACL_USER, 6, ALICE);
    add(ret, &n, ACL_GROUP_OBJ, 5, ACL_UNDEFINED_ID);
    if (i == 2)
        add(ret, &n, ACL_GROUP, 4, TEAM);
    if (i == 1 || i == 2)
        add(ret, &n, ACL_MASK, i == 1 ? 6 : 4, ACL_UNDEFINED_ID);
    add(ret, &n, ACL_OTHER, 0, ACL_UNDEFINED_ID);
    return sizeof(ret->head) + n * sizeof(ret->e[0]) - (i == 7 ? 3 : 0);
}

static void tell_entries(long n)
{
    say("an ACL", n);
    for (size_t at = sizeof(struct posix_acl_xattr_header); (long)at < n;
         at += sizeof(struct posix_acl_xattr_entry)) {
        struct posix_acl_xattr_entry e;

        memcpy(&e, got + at, sizeof(e));
        tell("entry %d %d %u", e.e_tag, e.e_perm, e.e_id);
    }
}

static void make_all(const struct face *f)
{
    static const mode_t masks[] = { 0, 022, 077, 0777 };

    for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
        op_umask(f, masks[i]);
        SAY(op_mkdir(f, "/d/dir", 03777));
        SAY(op_opens(f, "/d/file", O_CREAT | O_RDWR));
        SAY(op_mknod(f, "/d/fifo", S_IFIFO | 0666, 0));
        SAY(op_mknod(f, "/d/node", S_IFREG | 06777, 0));
        SAY(op_symlink(f, "x", "/d/link"));
        op_umask(f, 022);
        tree(f, "");
        SAY(op_getxattr(f, "/d/file", "system.posix_acl_access", got, sizeof(got)));
        SAY(op_getxattr(f, "/d/dir", "system.posix_acl_access", got, sizeof(got)));
        SAY(op_getxattr(f, "/d/dir", "system.posix_acl_default", got, sizeof(got)));
        remove_tree(f, "/d/dir");
        MUST(op_unlink(f, "/d/file"));
        MUST(op_unlink(f, "/d/fifo"));
        MUST(op_unlink(f, "/d/node"));
        MUST(op_unlink(f, "/d/link"));
    }
}

static void lists_of_access(const struct face *f)
{
    struct list l;
    size_t n;

    MUST(op_mkdir(f, "/d", 0755));
    label("no default ACL");
    make_all(f);
    for (unsigned i = 0; (n = list_of(i, &l)) > 0; i++) {
        label("ACL %u", i);
        make_file(f, "/f", "", 0);
        SAY(op_setxattr(f, "/f", "system.posix_acl_access", &l, n, 0));
        look(f, "/f");
        SAY(op_getxattr(f, "/f", "system.posix_acl_access", got, sizeof(got)));
        SAY(op_chmod(f, "/f", 0640));
        tell_entries(op_getxattr(f, "/f", "system.posix_acl_access", got, sizeof(got)));
        SAY(op_listxattr(f, "/f", got, sizeof(got)));
        SAY(op_setxattr(f, "/f", "system.posix_acl_default", &l, n, 0));
        SAY(op_setxattr(f, "/d", "system.posix_acl_default", &l, n, 0));
        make_all(f);
        SAY(op_removexattr(f, "/d", "system.posix_acl_default"));
        SAY(op_removexattr(f, "/d", "system.posix_acl_default"));
        SAY(op_removexattr(f, "/f", "system.posix_acl_access"));
        look(f, "/f");
        MUST(op_unlink(f, "/f"));
    }
}

const struct face_case faces_attrs[] = {
    { "set_times", set_times },
    { "changes_of_times", changes_of_times },
    { "attributes", attributes },
    { "lists_of_access", lists_of_access },
    { NULL, NULL },
};
