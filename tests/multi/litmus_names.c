/* SPDX-License-Identifier: MIT */
/* Kinds that make, remove and move names. A, B and C are the round's paths. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>

#include "litmus.h"

#define A r->path[0]
#define B r->path[1]
#define C r->path[2]

enum { TEXT = 40 };

/* "A", and a name below it. */
struct below {
    char path[2 * LITMUS_PATH];
};
static struct below below(const char *dir, const char *name)
{
    struct below ret;

    snprintf(ret.path, sizeof(ret.path), "%s/%s", dir, name);
    return ret;
}

/* A file that says which it is. */
static void make(struct round *r, const struct face *f, const char *path, char which)
{
    char text[TEXT];

    memset(text, which, sizeof(text));
    expect(r, f, "create", path, face_make(f, path, 0644), 0);
    expect(r, f, "write", path, face_write(f, path, text, sizeof(text), 0, false), sizeof(text));
    publish(r, f, path);
}

static void says(struct round *r, const struct face *f, const char *path, char which)
{
    char text[TEXT];

    memset(text, which, sizeof(text));
    content(r, f, path, text, sizeof(text));
}

static bool is_listed(struct round *r, const struct face *f, const char *dir, const char *path)
{
    const char *name = strrchr(path, '/') + 1;
    struct listing l;
    struct listed e;
    bool found = false;
    int error = face_opendir(f, dir, &l);

    expect(r, f, "opendir", dir, error, 0);
    if (error < 0)
        return false;
    while ((error = face_readdir(&l, &e)) == 1)
        found |= strcmp(e.name, name) == 0;
    expect(r, f, "readdir", dir, error, 0);
    face_closedir(&l);
    return found;
}

static void there(struct round *r, const struct face *f, const char *path, mode_t type)
{
    struct stat st;

    if (look(r, f, path, &st))
        equal(r, f, "type", st.st_mode & S_IFMT, type);
    if (!is_listed(r, f, r->dir, path))
        wrong(r, f, "%s is there, and not listed", path);
}

static void not_there(struct round *r, const struct face *f, const char *path)
{
    struct handle h;
    int error = face_open(f, path, O_RDONLY | O_NOFOLLOW, &h);

    expect(r, f, "open", path, error, -ENOENT);
    if (error == 0)
        face_close(&h);
    gone(r, f, path);
    if (is_listed(r, f, r->dir, path))
        wrong(r, f, "%s is not there, and listed", path);
}

static void links(struct round *r, const struct face *f, const char *path, uint64_t want)
{
    struct stat st;

    if (look(r, f, path, &st))
        equal(r, f, "nlink", st.st_nlink, want);
}

/* ---- what is warmed ------------------------------------------------------------------------------ */

static void warm_missing(struct round *r, const struct face *f)
{
    not_there(r, f, A);
}

static void make_a(struct round *r, const struct face *f)
{
    make(r, f, A, 'a');
}

static void make_a_b(struct round *r, const struct face *f)
{
    make(r, f, A, 'a');
    make(r, f, B, 'b');
}

static void warm_a(struct round *r, const struct face *f)
{
    there(r, f, A, S_IFREG);
    says(r, f, A, 'a');
}

static void warm_a_not_b(struct round *r, const struct face *f)
{
    warm_a(r, f);
    not_there(r, f, B);
}

static void warm_a_b(struct round *r, const struct face *f)
{
    warm_a(r, f);
    says(r, f, B, 'b');
}

static void make_dir(struct round *r, const struct face *f)
{
    expect(r, f, "mkdir", A, face_mkdir(f, A, 0755), 0);
}

/* ---- things that come ---------------------------------------------------------------------------- */

static void act_create(struct round *r, const struct face *f)
{
    make(r, f, A, 'a');
}

static void check_create(struct round *r, const struct face *f)
{
    warm_a(r, f);
    expect(r, f, "create over", A, face_make(f, A, 0644), -EEXIST);
    expect(r, f, "mkdir over", A, face_mkdir(f, A, 0755), -EEXIST);
}

static void act_mkdir(struct round *r, const struct face *f)
{
    make_dir(r, f);
}

static void check_mkdir(struct round *r, const struct face *f)
{
    there(r, f, A, S_IFDIR);
    gone(r, f, below(A, "x").path);
    expect(r, f, "rmdir of one that holds names", r->dir, face_rmdir(f, r->dir), -ENOTEMPTY);
}

static void act_symlink(struct round *r, const struct face *f)
{
    expect(r, f, "symlink", A, face_symlink(f, "where/it/leads", A), 0);
}

static void leads(struct round *r, const struct face *f, const char *path, const char *want)
{
    char text[100];
    ssize_t n = face_readlink(f, path, text, sizeof(text));

    expect(r, f, "readlink", path, n, MUST_WORK);
    if (n >= 0)
        compare(r, f, "target", text, (size_t)n, want, strlen(want));
}

static void check_symlink(struct round *r, const struct face *f)
{
    there(r, f, A, S_IFLNK);
    leads(r, f, A, "where/it/leads");
}

static void act_resymlink(struct round *r, const struct face *f)
{
    expect(r, f, "unlink", A, face_unlink(f, A), 0);
    expect(r, f, "symlink", A, face_symlink(f, "else/where/it/leads", A), 0);
}

static void check_resymlink(struct round *r, const struct face *f)
{
    there(r, f, A, S_IFLNK);
    leads(r, f, A, "else/where/it/leads");
}

/* The name that the link holds, and what is read through it, change at once. */
static void setup_follow(struct round *r, const struct face *f)
{
    make(r, f, A, 'a');
    expect(r, f, "symlink", C, face_symlink(f, strrchr(A, '/') + 1, C), 0);
}

static void warm_follow(struct round *r, const struct face *f)
{
    says(r, f, C, 'a');
}

static void act_follow(struct round *r, const struct face *f)
{
    make(r, f, B, 'b');
    expect(r, f, "unlink", C, face_unlink(f, C), 0);
    expect(r, f, "symlink", C, face_symlink(f, strrchr(B, '/') + 1, C), 0);
}

static void check_follow(struct round *r, const struct face *f)
{
    says(r, f, C, 'b');
}

static void act_mknod(struct round *r, const struct face *f)
{
    expect(r, f, "mknod", A, face_mkfifo(f, A, 0600), 0);
}

static void check_mknod(struct round *r, const struct face *f)
{
    there(r, f, A, S_IFIFO);
}

static void act_tmpfile(struct round *r, const struct face *f)
{
    struct handle h;
    char text[TEXT];
    int error = face_open(f, r->dir, O_RDWR | O_TMPFILE, &h);

    expect(r, f, "O_TMPFILE", r->dir, error, 0);
    if (error < 0)
        return;
    memset(text, 'a', sizeof(text));
    expect(r, f, "pwrite", "", face_pwrite(&h, text, sizeof(text), 0), sizeof(text));
    expect(r, f, "link", A, face_flink(f, &h, A), 0);
    expect(r, f, "close", A, face_close(&h), 0);
    publish(r, f, A);
}

static void check_tmpfile(struct round *r, const struct face *f)
{
    warm_a(r, f);
    links(r, f, A, 1);
}

/* ---- links --------------------------------------------------------------------------------------- */

static void act_link(struct round *r, const struct face *f)
{
    expect(r, f, "link", B, face_link(f, A, B), 0);
}

static void warm_two_links(struct round *r, const struct face *f)
{
    warm_a(r, f);
    says(r, f, B, 'a');
    links(r, f, A, 2);
    links(r, f, B, 2);
}

static void setup_two_links(struct round *r, const struct face *f)
{
    make_a(r, f);
    act_link(r, f);
}

static void act_unlink_b(struct round *r, const struct face *f)
{
    expect(r, f, "unlink", B, face_unlink(f, B), 0);
}

static void check_one_link(struct round *r, const struct face *f)
{
    warm_a_not_b(r, f);
    links(r, f, A, 1);
}

/* ---- things that go ------------------------------------------------------------------------------ */

/* Whoever holds it open goes on. */
static void warm_hold(struct round *r, const struct face *f)
{
    warm_a(r, f);
    expect(r, f, "open", A, face_open(f, A, O_RDONLY, &r->held[side_of(f)][0]), 0);
}

static void act_unlink(struct round *r, const struct face *f)
{
    expect(r, f, "unlink", A, face_unlink(f, A), 0);
}

static void check_held(struct round *r, const struct face *f, char which, uint64_t nlink)
{
    const struct handle *h = &r->held[side_of(f)][0];
    char text[TEXT];
    struct stat st;

    if (h->file == NULL && h->fd == 0)
        return;
    memset(text, which, sizeof(text));
    content_of(r, f, h, text, sizeof(text));
    expect(r, f, "fstat", "of what is held", face_fstat(h, &st), 0);
    equal(r, f, "nlink of what is held", st.st_nlink, nlink);
}

static void check_unlink(struct round *r, const struct face *f)
{
    not_there(r, f, A);
    check_held(r, f, 'a', 0);
}

static void warm_dir(struct round *r, const struct face *f)
{
    there(r, f, A, S_IFDIR);
    gone(r, f, below(A, "x").path);
}

static void act_rmdir(struct round *r, const struct face *f)
{
    expect(r, f, "rmdir", A, face_rmdir(f, A), 0);
}

static void check_rmdir(struct round *r, const struct face *f)
{
    not_there(r, f, A);
    gone(r, f, below(A, "x").path);
}

/* Another file of that name; its inode may be the very one, born again. */
static void act_remake(struct round *r, const struct face *f)
{
    act_unlink(r, f);
    make(r, f, A, 'b');
}

static void check_remake(struct round *r, const struct face *f)
{
    says(r, f, A, 'b');
    check_held(r, f, 'a', 0);
}

static void act_become(struct round *r, const struct face *f)
{
    act_unlink(r, f);
    make_dir(r, f);
    make(r, f, below(A, "x").path, 'x');
}

static void check_become(struct round *r, const struct face *f)
{
    there(r, f, A, S_IFDIR);
    says(r, f, below(A, "x").path, 'x');
}

/* ---- renames ------------------------------------------------------------------------------------- */

static void act_rename(struct round *r, const struct face *f)
{
    expect(r, f, "rename", A, face_rename(f, A, B, 0), 0);
}

static void check_rename(struct round *r, const struct face *f)
{
    not_there(r, f, A);
    there(r, f, B, S_IFREG);
    says(r, f, B, 'a');
}

static void warm_rename_over(struct round *r, const struct face *f)
{
    warm_a_b(r, f);
    expect(r, f, "open", B, face_open(f, B, O_RDONLY, &r->held[side_of(f)][0]), 0);
}

static void check_rename_over(struct round *r, const struct face *f)
{
    check_rename(r, f);
    check_held(r, f, 'b', 0);
}

static void act_exchange(struct round *r, const struct face *f)
{
    expect(r, f, "exchange", A, face_rename(f, A, B, RENAME_EXCHANGE), 0);
}

static void check_exchange(struct round *r, const struct face *f)
{
    says(r, f, A, 'b');
    says(r, f, B, 'a');
    check_held(r, f, 'b', 1);
}

/* A directory with names below, two deep. */
static void setup_tree(struct round *r, const struct face *f)
{
    make_dir(r, f);
    make(r, f, below(A, "x").path, 'x');
    expect(r, f, "mkdir", "A/s", face_mkdir(f, below(A, "s").path, 0755), 0);
    make(r, f, below(A, "s/y").path, 'y');
}

static void tree_is_at(struct round *r, const struct face *f, const char *dir)
{
    there(r, f, dir, S_IFDIR);
    says(r, f, below(dir, "x").path, 'x');
    says(r, f, below(dir, "s/y").path, 'y');
    gone(r, f, below(dir, "s/z").path);
}

static void tree_is_not_at(struct round *r, const struct face *f, const char *dir)
{
    gone(r, f, below(dir, "s/y").path);
    gone(r, f, below(dir, "x").path);
    not_there(r, f, dir);
}

static void warm_tree(struct round *r, const struct face *f)
{
    tree_is_at(r, f, A);
    tree_is_not_at(r, f, B);
}

static void check_rename_dir(struct round *r, const struct face *f)
{
    tree_is_not_at(r, f, A);
    tree_is_at(r, f, B);
}

/* From one directory to another: A/x to B/z. */
static void setup_move(struct round *r, const struct face *f)
{
    setup_tree(r, f);
    expect(r, f, "mkdir", B, face_mkdir(f, B, 0755), 0);
}

static void warm_move(struct round *r, const struct face *f)
{
    tree_is_at(r, f, A);
    gone(r, f, below(B, "z").path);
    if (is_listed(r, f, B, "/z"))
        wrong(r, f, "B/z is listed");
    expect(r, f, "open", "A/x", face_open(f, below(A, "x").path, O_RDONLY, &r->held[side_of(f)][0]), 0);
}

static void act_move(struct round *r, const struct face *f)
{
    expect(r, f, "rename", "A/x", face_rename(f, below(A, "x").path, below(B, "z").path, 0), 0);
    expect(r, f, "rename", "A/s", face_rename(f, below(A, "s").path, below(B, "s").path, 0), 0);
}

static void check_move(struct round *r, const struct face *f)
{
    gone(r, f, below(A, "x").path);
    gone(r, f, below(A, "s/y").path);
    says(r, f, below(B, "z").path, 'x');
    says(r, f, below(B, "s/y").path, 'y');
    if (is_listed(r, f, A, "/x") || is_listed(r, f, A, "/s"))
        wrong(r, f, "A/x or A/s is listed still");
    if (!is_listed(r, f, B, "/z") || !is_listed(r, f, B, "/s"))
        wrong(r, f, "B/z or B/s is not listed");
    gone(r, f, below(B, "s/../x").path); /* ".." is the new directory */
    says(r, f, below(B, "s/../z").path, 'x');
    check_held(r, f, 'x', 1);
}

/* clang-format off */
const struct litmus_kind litmus_names[] = {
    { .name = "create", .warm = warm_missing, .act = act_create, .check = check_create, .weight = 10, .paths = 1 },
    { .name = "mkdir", .warm = warm_missing, .act = act_mkdir, .check = check_mkdir, .weight = 6, .paths = 1 },
    { .name = "symlink", .warm = warm_missing, .act = act_symlink, .check = check_symlink, .weight = 6, .paths = 1 },
    { .name = "symlink-again", .setup = act_symlink, .warm = check_symlink, .act = act_resymlink,
      .check = check_resymlink, .weight = 6, .paths = 1 },
    { .name = "symlink-follow", .setup = setup_follow, .warm = warm_follow, .act = act_follow,
      .check = check_follow, .weight = 6, .paths = 3 },
    { .name = "mknod", .warm = warm_missing, .act = act_mknod, .check = check_mknod, .weight = 4, .paths = 1 },
    { .name = "tmpfile", .warm = warm_missing, .act = act_tmpfile, .check = check_tmpfile, .weight = 6, .paths = 1 },
    { .name = "link", .setup = make_a, .warm = warm_a_not_b, .act = act_link, .check = warm_two_links,
      .weight = 8, .paths = 2 },
    { .name = "unlink-one", .setup = setup_two_links, .warm = warm_two_links, .act = act_unlink_b,
      .check = check_one_link, .weight = 8, .paths = 2 },
    { .name = "unlink", .setup = make_a, .warm = warm_hold, .act = act_unlink, .check = check_unlink,
      .weight = 10, .paths = 1 },
    { .name = "rmdir", .setup = make_dir, .warm = warm_dir, .act = act_rmdir, .check = check_rmdir,
      .weight = 6, .paths = 1 },
    { .name = "remake", .setup = make_a, .warm = warm_hold, .act = act_remake, .check = check_remake,
      .weight = 8, .paths = 1 },
    { .name = "become-dir", .setup = make_a, .warm = warm_a, .act = act_become, .check = check_become,
      .weight = 6, .paths = 1 },
    { .name = "rename", .setup = make_a, .warm = warm_a_not_b, .act = act_rename, .check = check_rename,
      .weight = 10, .paths = 2 },
    { .name = "rename-over", .setup = make_a_b, .warm = warm_rename_over, .act = act_rename,
      .check = check_rename_over, .weight = 10, .paths = 2 },
    { .name = "exchange", .setup = make_a_b, .warm = warm_rename_over, .act = act_exchange,
      .check = check_exchange, .weight = 8, .paths = 2 },
    { .name = "rename-dir", .setup = setup_tree, .warm = warm_tree, .act = act_rename,
      .check = check_rename_dir, .weight = 6, .paths = 2 },
    { .name = "move", .setup = setup_move, .warm = warm_move, .act = act_move, .check = check_move,
      .weight = 6, .paths = 2 },
    { .name = NULL },
};
/* clang-format on */
