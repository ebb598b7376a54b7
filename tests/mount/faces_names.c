/* SPDX-License-Identifier: MIT */
/* Names: every operation on every kind of object. */
#include <stdio.h>
#include <string.h>

#include "faces.h"

/* What may stand at a path. NULL at the end. */
static const char *const kinds[] = { "missing",  "file", "dir",  "full",   "link to file", "link to dir",
                                     "dangling", "loop", "fifo", "device", "socket",       NULL };

static void make(const struct face *f, const char *path, const char *kind)
{
    char inner[64];

    if (strcmp(kind, "file") == 0)
        make_file(f, path, path, strlen(path));
    else if (strcmp(kind, "dir") == 0 || strcmp(kind, "full") == 0)
        MUST(op_mkdir(f, path, 0755));
    else if (strcmp(kind, "link to file") == 0)
        MUST(op_symlink(f, "/the file", path));
    else if (strcmp(kind, "link to dir") == 0)
        MUST(op_symlink(f, "the dir", path));
    else if (strcmp(kind, "dangling") == 0)
        MUST(op_symlink(f, "nowhere", path));
    else if (strcmp(kind, "loop") == 0)
        MUST(op_symlink(f, path, path));
    else if (strcmp(kind, "fifo") == 0)
        MUST(op_mknod(f, path, S_IFIFO | 0600, 0));
    else if (strcmp(kind, "device") == 0)
        MUST(op_mknod(f, path, S_IFCHR | 0600, 0x103));
    else if (strcmp(kind, "socket") == 0)
        MUST(op_mknod(f, path, S_IFSOCK | 0600, 0));
    if (strcmp(kind, "full") == 0) {
        snprintf(inner, sizeof(inner), "%s/inner", path);
        make_file(f, inner, "x", 1);
    }
}

static void begin(const struct face *f)
{
    make_file(f, "/the file", "linked to", 9);
    MUST(op_mkdir(f, "/the dir", 0755));
}

static void rename_all(const struct face *f)
{
    static const unsigned flags[] = {
        0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT, RENAME_NOREPLACE | RENAME_EXCHANGE, 8
    };

    for (size_t k = 0; k < sizeof(flags) / sizeof(flags[0]); k++) {
        for (const char *const *from = kinds; *from != NULL; from++) {
            for (const char *const *to = kinds; *to != NULL; to++) {
                label("rename %u of %s onto %s", flags[k], *from, *to);
                begin(f);
                make(f, "/from", *from);
                make(f, "/to", *to);
                SAY(op_rename(f, "/from", "/to", flags[k]));
                tree(f, "");
                remove_tree(f, "");
            }
        }
    }
}

static void link_all(const struct face *f)
{
    for (const char *const *kind = kinds; *kind != NULL; kind++) {
        label("link of %s", *kind);
        begin(f);
        make(f, "/it", *kind);
        SAY(op_link(f, "/it", "/new"));
        SAY(op_link(f, "/it", "/new"));
        SAY(op_link(f, "/it/", "/slash"));
        SAY(op_link(f, "/the file", "/it"));
        SAY(op_link(f, "/the file", "/it/"));
        SAY(op_link(f, "/the file", "/it/below"));
        SAY(op_link(f, "/the file", "/the dir/it"));
        tree(f, "");
        remove_tree(f, "");
    }
}

/* One path, by every operation that takes one. The order is such that what is there lasts. */
static void by_path(const struct face *f, const char *path)
{
    static const int flags[] = { O_RDONLY,
                                 O_WRONLY,
                                 O_RDWR | O_CREAT,
                                 O_RDWR | O_CREAT | O_EXCL,
                                 O_RDONLY | O_DIRECTORY,
                                 O_RDWR | O_DIRECTORY,
                                 O_RDONLY | O_NOFOLLOW,
                                 O_RDONLY | O_NOFOLLOW | O_DIRECTORY,
                                 O_PATH,
                                 O_PATH | O_NOFOLLOW,
                                 O_WRONLY | O_TRUNC,
                                 O_RDONLY | O_CREAT | O_DIRECTORY,
                                 O_RDWR | O_TMPFILE,
                                 O_RDONLY | O_TMPFILE,
                                 O_RDONLY | O_NOATIME };
    char buf[100];
    struct stat st;

    SAY(op_stat(f, path, &st));
    SAY(op_lstat(f, path, &st));
    SAY(op_access(f, path, 7));
    SAY(op_access(f, path, 8));
    SAY(op_list(f, path, buf, sizeof(buf)));
    SAY(op_readlink(f, path, buf, sizeof(buf)));
    SAY(op_getxattr(f, path, "user.none", buf, sizeof(buf)));
    SAY(op_truncate(f, path, 5));
    SAY(op_truncate(f, path, -1));
    SAY(op_chmod(f, path, 0750));
    SAY(op_chown(f, path, 1, 2));
    SAY(op_lchown(f, path, 3, 4));
    SAY(op_utimens(f, path, NULL, 0));
    SAY(op_utimens(f, path, NULL, AT_SYMLINK_NOFOLLOW));
    SAY(op_setxattr(f, path, "user.a", "value", 5, 0));
    SAY(op_lsetxattr(f, path, "trusted.a", "value", 5, 0));
    SAY(op_removexattr(f, path, "user.a"));
    /* Of a FIFO, system calls would wait; a device's driver would answer. Neither is the library's to open. */
    if (op_stat(f, path, &st) < 0 || S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) {
        for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
            tell("flags %o", (unsigned)flags[i]);
            SAY(op_opens(f, path, flags[i]));
        }
    }
    SAY(op_mkdir(f, path, 0777));
    SAY(op_mknod(f, path, S_IFREG | 0666, 0));
    SAY(op_mknod(f, path, S_IFDIR | 0777, 0));
    SAY(op_mknod(f, path, S_IFLNK | 0777, 0));
    SAY(op_symlink(f, "x", path));
    tree(f, "");
    SAY(op_rmdir(f, path));
    SAY(op_unlink(f, path));
    tree(f, "");
}

static void every_call(const struct face *f)
{
    static const char *const forms[] = {
        "/it", "/it/", "/it/.", "/it/..", "/it/below", "/it/below/it", "//it"
    };

    for (const char *const *kind = kinds; *kind != NULL; kind++) {
        for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
            label("%s as %s", *kind, forms[i]);
            begin(f);
            make(f, "/it", *kind);
            by_path(f, forms[i]);
            remove_tree(f, "");
            /* "/it/.." may have been the root. */
            MUST(op_chmod(f, "/", 0755));
            MUST(op_chown(f, "/", 0, 0));
            op_removexattr(f, "/", "trusted.a");
        }
    }
    for (size_t i = 0; i < 3; i++) {
        const char *path = (const char *const[]){ "/", "/.", "/.." }[i];

        label("the root as %s", path);
        SAY(op_mkdir(f, path, 0777));
        SAY(op_rmdir(f, path));
        SAY(op_unlink(f, path));
        SAY(op_symlink(f, "x", path));
        SAY(op_rename(f, path, "/x", 0));
        SAY(op_rename(f, "/x", path, 0));
        SAY(op_link(f, path, "/x"));
        SAY(op_opens(f, path, O_RDWR));
    }
}

static void lengths(const struct face *f)
{
    static const unsigned names[] = { 254, 255, 256, 300, 1000 },
                          targets[] = { 1, 59, 60, 255, 4094, 4095, 4096 };
    static char path[9000], buf[9000];

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        label("a name of %u bytes", names[i]);
        snprintf(path, sizeof(path), "/%0*d", (int)names[i], 7);
        SAY(op_mkdir(f, path, 0755));
        SAY(op_lstat(f, path, &(struct stat){ 0 }));
        SAY(op_rmdir(f, path));
        SAY(op_opens(f, path, O_RDWR | O_CREAT));
        SAY(op_rename(f, path, "/short", 0));
        SAY(op_opens(f, "/short", O_RDWR | O_CREAT));
        SAY(op_rename(f, "/short", path, 0));
        SAY(op_link(f, path, "/link"));
        SAY(op_unlink(f, path));
        SAY(op_symlink(f, "x", path));
        SAY(op_mknod(f, path, S_IFIFO | 0600, 0));
        remove_tree(f, "");
    }
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        label("a target of %u bytes", targets[i]);
        memset(path, 't', targets[i]);
        path[targets[i]] = 0;
        SAY(op_symlink(f, path, "/l"));
        SAY(op_readlink(f, "/l", buf, sizeof(buf)));
        SAY(op_readlink(f, "/l", buf, 10));
        SAY(op_readlink(f, "/l", buf, 0));
        SAY(op_stat(f, "/l", &(struct stat){ 0 }));
        remove_tree(f, "");
    }
    label("a path of 4096 bytes");
    for (size_t i = 0; i < 4096; i++)
        path[i] = "/."[i % 2];
    path[4096] = 0;
    SAY(op_stat(f, path, &(struct stat){ 0 }));
    path[4094] = 0;
    SAY(op_stat(f, path, &(struct stat){ 0 }));
    SAY(op_symlink(f, "", "/empty"));
    SAY(op_stat(f, "", &(struct stat){ 0 }));
}

static void links_of_links(const struct face *f)
{
    char target[20], path[20];

    make_file(f, "/l0", "the end", 7);
    for (int i = 1; i < 45; i++) {
        snprintf(target, sizeof(target), i % 2 ? "l%d" : "/l%d", i - 1);
        snprintf(path, sizeof(path), "/l%d", i);
        MUST(op_symlink(f, target, path));
        label("a chain of %d", i);
        SAY(op_stat(f, path, &(struct stat){ 0 }));
        SAY(op_opens(f, path, O_RDWR));
        SAY(op_chmod(f, path, 0600));
    }
    label("links on the way");
    MUST(op_mkdir(f, "/d", 0755));
    MUST(op_symlink(f, "../d/../d", "/d/up"));
    SAY(op_mkdir(f, "/d/up/up/up/new", 0755));
    MUST(op_symlink(f, "made", "/maker"));
    SAY(op_opens(f, "/maker", O_CREAT | O_EXCL | O_RDWR));
    SAY(op_opens(f, "/maker", O_CREAT | O_RDWR));
    SAY(op_mkdir(f, "/maker", 0755));
    MUST(op_symlink(f, "made dir/", "/dir maker"));
    SAY(op_mkdir(f, "/dir maker", 0755));
    SAY(op_opens(f, "/dir maker", O_CREAT | O_RDWR));
    MUST(op_symlink(f, "/../../d", "/above"));
    SAY(op_stat(f, "/above/up", &(struct stat){ 0 }));
    SAY(op_rename(f, "/above", "/above/x", 0));
    SAY(op_rename(f, "/d", "/above/x", 0));
    tree(f, "");
}

static void moves_of_directories(const struct face *f)
{
    MUST(op_mkdir(f, "/a", 0755));
    MUST(op_mkdir(f, "/a/b", 0755));
    MUST(op_mkdir(f, "/a/b/c", 0755));
    MUST(op_mkdir(f, "/x", 0755));
    make_file(f, "/a/f", "f", 1);
    SAY(op_rename(f, "/a", "/a/b", 0));
    SAY(op_rename(f, "/a", "/a/new", 0));
    SAY(op_rename(f, "/a", "/a/b/c/new", 0));
    SAY(op_rename(f, "/a/b", "/a", 0));
    SAY(op_rename(f, "/a/b/c", "/a", 0));
    SAY(op_rename(f, "/a/b", "/a", RENAME_EXCHANGE));
    SAY(op_rename(f, "/a", "/a/b", RENAME_EXCHANGE));
    SAY(op_rename(f, "/a/b", "/x", RENAME_EXCHANGE));
    SAY(op_rename(f, "/a/f", "/x/c", RENAME_EXCHANGE));
    SAY(op_rename(f, "/a/f", "/x/c/", 0));
    SAY(op_rename(f, "/a/", "/a2/", 0));
    SAY(op_rename(f, "/x/c/", "/x/d", 0));
    SAY(op_rename(f, "/a2/.", "/y", 0));
    SAY(op_rename(f, "/x/..", "/y", 0));
    SAY(op_rename(f, "/a2", "/x/.", 0));
    SAY(op_rename(f, "/no/x", "/y", 0));
    SAY(op_rename(f, "/a2", "/no/x", 0));
    tree(f, "");
}

const struct face_case faces_names[] = {
    { "rename_all", rename_all },
    { "link_all", link_all },
    { "every_call", every_call },
    { "lengths", lengths },
    { "links_of_links", links_of_links },
    { "moves_of_directories", moves_of_directories },
    { NULL, NULL },
};
