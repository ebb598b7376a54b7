/* SPDX-License-Identifier: MIT */
/* Who may do what, and what that does to set-id bits. */
#include <string.h>

#include "faces.h"

/* Everybody does it in turn: root, the owner, somebody of the group, anybody. */
static const struct {
    const char *name;
    uid_t uid;
    bool member;
} people[] = {
    { "root", 0, false }, { "owner", ALICE, false }, { "member", BOB, true }, { "other", BOB, false }
};
enum { PEOPLE = sizeof(people) / sizeof(people[0]) };

/* ---- files by their modes ------------------------------------------------------------------------ */

static void try_file(const struct face *f, void *unused)
{
    static const int flags[] = {
        O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_APPEND, O_RDONLY | O_TRUNC, O_PATH, O_RDONLY | O_NOATIME
    };
    char buf[10];

    (void)unused;
    for (int i = 0; i < 8; i++)
        SAY(op_access(f, "/d/f", i));
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        SAY(op_opens(f, "/d/f", flags[i]));
    SAY(op_truncate(f, "/d/f", 2));
    SAY(op_utimens(f, "/d/f", NULL, 0));
    SAY(op_utimens(f, "/d/f", (struct timespec[2]){ { 1, 1 }, { 1, 1 } }, 0));
    SAY(op_utimens(f, "/d/f", (struct timespec[2]){ { 0, UTIME_NOW }, { 0, UTIME_OMIT } }, 0));
    SAY(op_getxattr(f, "/d/f", "user.a", buf, sizeof(buf)));
    SAY(op_getxattr(f, "/d/f", "trusted.a", buf, sizeof(buf)));
    SAY(op_getxattr(f, "/d/f", "security.a", buf, sizeof(buf)));
    SAY(op_listxattr(f, "/d/f", buf, 0));
    SAY(op_setxattr(f, "/d/f", "user.b", "x", 1, 0));
    SAY(op_setxattr(f, "/d/f", "trusted.b", "x", 1, 0));
    SAY(op_setxattr(f, "/d/f", "security.b", "x", 1, 0));
    SAY(op_removexattr(f, "/d/f", "user.a"));
    SAY(op_link(f, "/d/f", "/d/new"));
}

static void modes_of_files(const struct face *f)
{
    static const mode_t modes[] = { 0,    0400, 0200, 0100, 0040, 0020, 0010, 0004,
                                    0002, 0001, 0640, 0077, 0707, 0770, 0666 };

    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        for (size_t who = 0; who < PEOPLE; who++) {
            label("mode %o by %s", modes[i], people[who].name);
            MUST(op_mkdir(f, "/d", 0755));
            make_file(f, "/d/f", "text", 4);
            MUST(op_setxattr(f, "/d/f", "user.a", "1", 1, 0));
            MUST(op_setxattr(f, "/d/f", "trusted.a", "1", 1, 0));
            MUST(op_setxattr(f, "/d/f", "security.a", "1", 1, 0));
            MUST(op_chown(f, "/d/f", ALICE, TEAM));
            MUST(op_chmod(f, "/d/f", modes[i]));
            as_somebody(f, people[who].uid, people[who].member, try_file, NULL);
            look(f, "/d/f");
            remove_tree(f, "/d");
        }
    }
}

/* ---- directories --------------------------------------------------------------------------------- */

static void try_directory(const struct face *f, void *unused)
{
    char buf[300];
    struct stat st;

    (void)unused;
    SAY(op_list(f, "/d", buf, sizeof(buf)));
    SAY(op_stat(f, "/d/f", &st));
    SAY(op_stat(f, "/d/missing", &st));
    SAY(op_opens(f, "/d/f", O_RDWR));
    SAY(op_opens(f, "/d/f", O_RDWR | O_CREAT));
    SAY(op_opens(f, "/d/new", O_RDWR | O_CREAT));
    SAY(op_opens(f, "/d", O_RDWR | O_TMPFILE));
    SAY(op_mkdir(f, "/d/dir", 0755));
    SAY(op_mknod(f, "/d/fifo", S_IFIFO | 0600, 0));
    SAY(op_mknod(f, "/d/device", S_IFCHR | 0600, 0x103));
    SAY(op_mknod(f, "/d/whiteout", S_IFCHR | 0600, 0));
    SAY(op_symlink(f, "x", "/d/link"));
    SAY(op_link(f, "/mine/f", "/d/linked"));
    SAY(op_link(f, "/d/f", "/mine/linked"));
    SAY(op_rename(f, "/d/f", "/d/moved", 0));
    SAY(op_rename(f, "/d/moved", "/d/f", 0));
    SAY(op_rename(f, "/mine/f", "/d/f", RENAME_EXCHANGE));
    SAY(op_rename(f, "/mine/f", "/d/over", 0));
    SAY(op_rename(f, "/d/sub", "/mine/sub", 0));
    SAY(op_rename(f, "/mine/sub", "/d/sub", 0));
    SAY(op_rmdir(f, "/d/empty"));
    SAY(op_unlink(f, "/d/f"));
    SAY(op_setxattr(f, "/d", "user.a", "x", 1, 0));
    tree(f, "/mine");
}

static void modes_of_directories(const struct face *f)
{
    static const mode_t modes[] = { 0,    0001, 0002, 0003,  0004,  0005,  0007, 0070,
                                    0030, 0700, 0300, 01777, 01770, 02777, 03777 };

    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        for (size_t who = 0; who < PEOPLE; who++) {
            label("directory %o by %s", modes[i], people[who].name);
            MUST(op_mkdir(f, "/d", 0755));
            MUST(op_mkdir(f, "/d/sub", 0755));
            MUST(op_mkdir(f, "/d/empty", 0755));
            MUST(op_mkdir(f, "/mine", 0755));
            make_file(f, "/d/f", "theirs", 6);
            make_file(f, "/d/over", "over", 4);
            make_file(f, "/mine/f", "mine", 4);
            MUST(op_chown(f, "/mine", people[who].uid, people[who].uid));
            MUST(op_chown(f, "/mine/f", people[who].uid, people[who].uid));
            MUST(op_chown(f, "/d", ALICE, TEAM));
            MUST(op_chown(f, "/d/over", BOB, BOB));
            MUST(op_chmod(f, "/d", modes[i]));
            as_somebody(f, people[who].uid, people[who].member, try_directory, NULL);
            tree(f, "");
            remove_tree(f, "");
        }
    }
}

/* ---- set-id bits --------------------------------------------------------------------------------- */

enum { CHANGES = 16 };

static void change_open(const struct face *f, int which)
{
    struct handle h;
    long r = op_open(f, "/d/f", O_RDWR, 0, &h);

    if (r < 0) {
        SAY(r);
        return;
    }
    switch (which) {
    case 0:
        SAY(op_pwrite(&h, "x", 1, 0));
        break;
    case 1:
        SAY(op_pwrite(&h, "x", 0, 0));
        break;
    case 2:
        SAY(op_ftruncate(&h, 1));
        break;
    case 3:
        SAY(op_ftruncate(&h, 4));
        break;
    case 4:
        SAY(op_fallocate(&h, 0, 0, 5000));
        break;
    default:
        SAY(op_fallocate(&h, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1));
        break;
    }
    MUST(op_close(&h));
}

static void change(const struct face *f, void *arg)
{
    const int which = *(const int *)arg;
    struct stat st;

    if (which <= 5) {
        change_open(f, which);
        return;
    }
    switch (which) {
    case 6:
        SAY(op_truncate(f, "/d/f", 3));
        break;
    case 7:
        SAY(op_opens(f, "/d/f", O_WRONLY | O_TRUNC));
        break;
    case 8:
        SAY(op_chown(f, "/d/f", ALICE, (gid_t)-1));
        break;
    case 9:
        SAY(op_chown(f, "/d/f", (uid_t)-1, TEAM));
        break;
    case 10:
        SAY(op_chown(f, "/d/f", BOB, BOB));
        break;
    case 11:
        SAY(op_chown(f, "/d/f", (uid_t)-1, BOB));
        break;
    case 12:
        MUST(op_stat(f, "/d/f", &st));
        SAY(op_chmod(f, "/d/f", st.st_mode & 07777));
        break;
    case 13:
        SAY(op_setxattr(f, "/d/f", "user.a", "x", 1, 0));
        break;
    case 14:
        SAY(op_utimens(f, "/d/f", NULL, 0));
        break;
    default:
        SAY(op_link(f, "/d/f", "/d/g"));
        break;
    }
}

static void set_id_bits(const struct face *f)
{
    static const mode_t modes[] = { 04777, 02777, 06777, 04767, 02767, 06767, 02666, 06666, 01777 };

    for (int which = 0; which < CHANGES; which++) {
        for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
            for (size_t who = 0; who < PEOPLE; who++) {
                label("change %d of %o by %s", which, modes[i], people[who].name);
                MUST(op_mkdir(f, "/d", 0755));
                MUST(op_chmod(f, "/d", 0777));
                make_file(f, "/d/f", "text", 4);
                MUST(op_chown(f, "/d/f", ALICE, TEAM));
                MUST(op_chmod(f, "/d/f", modes[i]));
                as_somebody(f, people[who].uid, people[who].member, change, &which);
                look(f, "/d/f");
                remove_tree(f, "/d");
            }
        }
    }
}

/* ---- owners and modes ---------------------------------------------------------------------------- */

static void change_rights(const struct face *f, void *unused)
{
    static const uid_t ids[] = { (uid_t)-1, 0, ALICE, BOB, TEAM, 4000000000u };
    static const char *const paths[] = { "/d/f", "/d/dir" };
    enum { IDS = sizeof(ids) / sizeof(ids[0]) };

    (void)unused;
    for (size_t p = 0; p < 2; p++) {
        for (size_t i = 0; i < IDS; i++) {
            for (size_t k = 0; k < IDS; k++) {
                tell("%s to %u:%u", paths[p], ids[i], ids[k]);
                SAY(op_chown(f, paths[p], ids[i], ids[k]));
                look(f, paths[p]);
            }
        }
        for (mode_t mode = 0; mode < 010000; mode += 0777) {
            SAY(op_chmod(f, paths[p], mode));
            look(f, paths[p]);
        }
    }
}

static void owners(const struct face *f)
{
    for (size_t who = 0; who < PEOPLE; who++) {
        label("rights by %s", people[who].name);
        MUST(op_mkdir(f, "/d", 0755));
        make_file(f, "/d/f", "text", 4);
        MUST(op_mkdir(f, "/d/dir", 0755));
        MUST(op_chown(f, "/d/f", ALICE, TEAM));
        MUST(op_chown(f, "/d/dir", ALICE, TEAM));
        MUST(op_chmod(f, "/d/f", 0644));
        as_somebody(f, people[who].uid, people[who].member, change_rights, NULL);
        remove_tree(f, "/d");
    }
}

static void make_in_team(const struct face *f, void *unused)
{
    (void)unused;
    SAY(op_mkdir(f, "/d/dir", 0755));
    SAY(op_mkdir(f, "/d/sgid dir", 02755));
    SAY(op_mknod(f, "/d/node", S_IFREG | 02775, 0));
    SAY(op_mknod(f, "/d/node without x", S_IFREG | 02664, 0));
    SAY(op_mknod(f, "/d/fifo", S_IFIFO | 02777, 0));
    SAY(op_opens(f, "/d/file", O_CREAT | O_RDWR));
    SAY(op_symlink(f, "x", "/d/link"));
}

static void group_of_the_directory(const struct face *f)
{
    for (size_t who = 0; who < PEOPLE; who++) {
        label("in a set-gid directory by %s", people[who].name);
        MUST(op_mkdir(f, "/d", 0755));
        MUST(op_chown(f, "/d", 0, TEAM));
        MUST(op_chmod(f, "/d", 02777));
        as_somebody(f, people[who].uid, people[who].member, make_in_team, NULL);
        tree(f, "");
        remove_tree(f, "/d");
    }
}

const struct face_case faces_rights[] = {
    { "modes_of_files", modes_of_files },
    { "modes_of_directories", modes_of_directories },
    { "set_id_bits", set_id_bits },
    { "owners", owners },
    { "group_of_the_directory", group_of_the_directory },
    { NULL, NULL },
};
