/* SPDX-License-Identifier: MIT */
/* Kinds that change what is known of a file besides its content, and who may do what with it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "litmus.h"

#define A r->path[0]

enum { NOBODY = 65534, OLD = 0, NEW = 1 };

static const char attr[] = "user.litmus", acl[] = "system.posix_acl_access",
                  default_acl[] = "system.posix_acl_default";

static void may(struct round *r, const struct face *f, const char *path, bool allowed)
{
    expect(r, f, "opened for reading, as nobody,", path, face_open_as_nobody(f, run.nobody, path),
           allowed ? 0 : -EACCES);
}

static void make_a(struct round *r, const struct face *f)
{
    expect(r, f, "create", A, face_make(f, A, 0600), 0);
}

/* ---- mode ---------------------------------------------------------------------------------------- */

static const mode_t modes[] = { 0600, 0604, 0444, 0755, 0640, 04755, 01604, 0200 };

static void plan_modes(struct round *r)
{
    r->n[OLD] = modes[draw(r, 8)];
    do
        r->n[NEW] = modes[draw(r, 8)];
    while (r->n[NEW] == r->n[OLD]);
}

static void has_mode(struct round *r, const struct face *f, mode_t mode)
{
    struct stat st;

    if (look(r, f, A, &st) && (st.st_mode & 07777) != mode)
        wrong(r, f, "mode of %s: %04o, expected %04o", A, st.st_mode & 07777, mode);
    may(r, f, A, mode & 04);
}

static void setup_chmod(struct round *r, const struct face *f)
{
    make_a(r, f);
    expect(r, f, "chmod", A, face_chmod(f, A, (mode_t)r->n[OLD]), 0);
}

static void warm_chmod(struct round *r, const struct face *f)
{
    has_mode(r, f, (mode_t)r->n[OLD]);
}

static void act_chmod(struct round *r, const struct face *f)
{
    expect(r, f, "chmod", A, face_chmod(f, A, (mode_t)r->n[NEW]), 0);
}

static void check_chmod(struct round *r, const struct face *f)
{
    has_mode(r, f, (mode_t)r->n[NEW]);
}

/* Of a directory: who may go through it. n[OLD]: it is open in the beginning. */
static void plan_chmod_dir(struct round *r)
{
    r->n[OLD] = draw(r, 2);
}

static mode_t dir_mode(bool is_open)
{
    return is_open ? 0755 : 0700;
}

static void below_a(const struct round *r, char path[2 * LITMUS_PATH])
{
    snprintf(path, 2 * LITMUS_PATH, "%s/x", A);
}

static void setup_chmod_dir(struct round *r, const struct face *f)
{
    char path[2 * LITMUS_PATH];

    below_a(r, path);
    expect(r, f, "mkdir", A, face_mkdir(f, A, dir_mode(r->n[OLD])), 0);
    expect(r, f, "create", path, face_make(f, path, 0644), 0);
}

static void dir_lets(struct round *r, const struct face *f, bool through)
{
    char path[2 * LITMUS_PATH];

    below_a(r, path);
    may(r, f, path, through);
}

static void warm_chmod_dir(struct round *r, const struct face *f)
{
    dir_lets(r, f, r->n[OLD]);
}

static void act_chmod_dir(struct round *r, const struct face *f)
{
    expect(r, f, "chmod", A, face_chmod(f, A, dir_mode(!r->n[OLD])), 0);
}

static void check_chmod_dir(struct round *r, const struct face *f)
{
    dir_lets(r, f, !r->n[OLD]);
}

/* ---- owner, times -------------------------------------------------------------------------------- */

static void plan_chown(struct round *r)
{
    r->n[OLD] = draw(r, 2) ? NOBODY : 0;
    r->n[NEW] = r->n[OLD] == 0 ? NOBODY : draw(r, 2);
    r->n[2] = draw(r, 1000);
}

static void has_owner(struct round *r, const struct face *f, uint64_t uid)
{
    struct stat st;

    if (look(r, f, A, &st))
        equal(r, f, "owner", st.st_uid, uid);
    may(r, f, A, uid == NOBODY);
}

static void setup_chown(struct round *r, const struct face *f)
{
    make_a(r, f);
    expect(r, f, "chown", A, face_chown(f, A, (uid_t)r->n[OLD], 0), 0);
}

static void warm_chown(struct round *r, const struct face *f)
{
    has_owner(r, f, r->n[OLD]);
}

static void act_chown(struct round *r, const struct face *f)
{
    expect(r, f, "chown", A, face_chown(f, A, (uid_t)r->n[NEW], (gid_t)r->n[2]), 0);
}

static void check_chown(struct round *r, const struct face *f)
{
    struct stat st;

    has_owner(r, f, r->n[NEW]);
    if (look(r, f, A, &st))
        equal(r, f, "group", st.st_gid, r->n[2]);
}

static void plan_times(struct round *r)
{
    for (unsigned i = 0; i < 2; i++)
        r->n[i] = draw(r, UINT64_C(2000000000000000000));
}

static struct timespec time_of(uint64_t ns)
{
    return (struct timespec){ .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };
}

static void warm_stat(struct round *r, const struct face *f)
{
    struct stat st;

    look(r, f, A, &st);
}

static void act_times(struct round *r, const struct face *f)
{
    struct timespec times[2] = { time_of(r->n[0]), time_of(r->n[1]) };

    expect(r, f, "utimensat", A, face_utimens(f, A, times), 0);
}

static void check_times(struct round *r, const struct face *f)
{
    struct stat st;

    if (!look(r, f, A, &st))
        return;
    equal(r, f, "atime, ns", (uint64_t)st.st_atim.tv_sec * 1000000000 + (uint64_t)st.st_atim.tv_nsec,
          r->n[0]);
    equal(r, f, "mtime, ns", (uint64_t)st.st_mtim.tv_sec * 1000000000 + (uint64_t)st.st_mtim.tv_nsec,
          r->n[1]);
}

/* ---- extended attributes ------------------------------------------------------------------------- */

static void plan_xattr(struct round *r)
{
    r->n[OLD] = draw(r, 1000);
    r->n[NEW] = 1000 + draw(r, 1000);
}

/* The value of one, from its number; lengths differ. */
static size_t value_of(uint64_t n, char text[200])
{
    size_t len = 1 + n % 150;

    pattern(text, len, n);
    return len;
}

static void set(struct round *r, const struct face *f, uint64_t n)
{
    char value[200];
    size_t len = value_of(n, value);

    expect(r, f, "setxattr", A, face_setxattr(f, A, attr, value, len), 0);
}

static void has(struct round *r, const struct face *f, uint64_t n)
{
    char value[200], seen[200], list[300];
    size_t len = value_of(n, value);
    ssize_t got = face_getxattr(f, A, attr, seen, sizeof(seen));

    expect(r, f, "getxattr", A, got, MUST_WORK);
    if (got >= 0)
        compare(r, f, "attribute", seen, (size_t)got, value, len);
    expect(r, f, "listxattr", A, face_listxattr(f, A, list, sizeof(list)), sizeof(attr));
}

static void has_none(struct round *r, const struct face *f)
{
    char seen[200];

    expect(r, f, "getxattr", A, face_getxattr(f, A, attr, seen, sizeof(seen)), -ENODATA);
    expect(r, f, "listxattr", A, face_listxattr(f, A, seen, sizeof(seen)), 0);
}

static void setup_xattr(struct round *r, const struct face *f)
{
    make_a(r, f);
    set(r, f, r->n[OLD]);
}

static void warm_xattr(struct round *r, const struct face *f)
{
    has(r, f, r->n[OLD]);
    warm_stat(r, f);
}

static void act_xattr(struct round *r, const struct face *f)
{
    set(r, f, r->n[NEW]);
}

static void check_xattr(struct round *r, const struct face *f)
{
    has(r, f, r->n[NEW]);
}

static void warm_no_xattr(struct round *r, const struct face *f)
{
    has_none(r, f);
    warm_stat(r, f);
}

static void act_remove(struct round *r, const struct face *f)
{
    expect(r, f, "removexattr", A, face_removexattr(f, A, attr), 0);
}

/* ---- ACLs ---------------------------------------------------------------------------------------- */

/* As the kernel passes them: a version, then tag, permissions and id of each. They let nobody read. */
static const struct {
    uint32_t version;
    struct {
        uint16_t tag, perm;
        uint32_t id;
    } entries[5];
} lets_nobody = { 2,
                  { { 0x01, 06, ~0u },    /* the owner */
                    { 0x02, 04, NOBODY }, /* this user */
                    { 0x04, 00, ~0u },    /* the group */
                    { 0x10, 04, ~0u },    /* the mask, which the mode shows */
                    { 0x20, 00, ~0u } } };

static void acl_is(struct round *r, const struct face *f, const char *name)
{
    char seen[200];
    ssize_t n = face_getxattr(f, A, name, seen, sizeof(seen));

    expect(r, f, "getxattr", name, n, MUST_WORK);
    if (n >= 0)
        compare(r, f, "ACL", seen, (size_t)n, (const char *)&lets_nobody, sizeof(lets_nobody));
}

static void no_acl(struct round *r, const struct face *f, const char *name)
{
    char seen[200];

    expect(r, f, "getxattr", name, face_getxattr(f, A, name, seen, sizeof(seen)), -ENODATA);
}

static void warm_acl(struct round *r, const struct face *f)
{
    no_acl(r, f, acl);
    may(r, f, A, false);
    warm_stat(r, f);
}

static void act_acl(struct round *r, const struct face *f)
{
    expect(r, f, "setxattr", acl, face_setxattr(f, A, acl, &lets_nobody, sizeof(lets_nobody)), 0);
}

static void check_acl(struct round *r, const struct face *f)
{
    struct stat st;

    acl_is(r, f, acl);
    may(r, f, A, true);
    if (look(r, f, A, &st) && (st.st_mode & 07777) != 0640)
        wrong(r, f, "mode of %s: %04o, expected 0640 by its ACL", A, st.st_mode & 07777);
}

static void setup_acl(struct round *r, const struct face *f)
{
    make_a(r, f);
    act_acl(r, f);
}

static void act_acl_remove(struct round *r, const struct face *f)
{
    expect(r, f, "removexattr", acl, face_removexattr(f, A, acl), 0);
}

static void check_acl_removed(struct round *r, const struct face *f)
{
    no_acl(r, f, acl);
    may(r, f, A, false);
}

/* The mask follows the mode, and takes back what the ACL gave. */
static void act_acl_mask(struct round *r, const struct face *f)
{
    expect(r, f, "chmod", A, face_chmod(f, A, 0600), 0);
}

static void check_acl_mask(struct round *r, const struct face *f)
{
    may(r, f, A, false);
}

static void setup_default(struct round *r, const struct face *f)
{
    expect(r, f, "mkdir", A, face_mkdir(f, A, 0755), 0);
}

static void warm_default(struct round *r, const struct face *f)
{
    no_acl(r, f, default_acl);
}

static void act_default(struct round *r, const struct face *f)
{
    expect(r, f, "setxattr", default_acl, face_setxattr(f, A, default_acl, &lets_nobody, sizeof(lets_nobody)),
           0);
}

/* What is made in it has it, whoever makes it. */
static void check_default(struct round *r, const struct face *f)
{
    char path[2 * LITMUS_PATH];

    acl_is(r, f, default_acl);
    if (r->me != r->writer)
        return;
    below_a(r, path);
    expect(r, f, "create", path, face_make(f, path, 0666), 0);
    may(r, f, path, true);
    expect(r, f, "unlink", path, face_unlink(f, path), 0);
}

/* clang-format off */
const struct litmus_kind litmus_attrs[] = {
    { .name = "chmod", .plan = plan_modes, .setup = setup_chmod, .warm = warm_chmod, .act = act_chmod,
      .check = check_chmod, .weight = 10, .paths = 1 },
    { .name = "chmod-dir", .plan = plan_chmod_dir, .setup = setup_chmod_dir, .warm = warm_chmod_dir,
      .act = act_chmod_dir, .check = check_chmod_dir, .weight = 8, .paths = 1 },
    { .name = "chown", .plan = plan_chown, .setup = setup_chown, .warm = warm_chown, .act = act_chown,
      .check = check_chown, .weight = 8, .paths = 1 },
    { .name = "times", .plan = plan_times, .setup = make_a, .warm = warm_stat, .act = act_times,
      .check = check_times, .weight = 8, .paths = 1 },
    { .name = "xattr", .plan = plan_xattr, .setup = make_a, .warm = warm_no_xattr, .act = act_xattr,
      .check = check_xattr, .weight = 6, .paths = 1 },
    { .name = "xattr-replace", .plan = plan_xattr, .setup = setup_xattr, .warm = warm_xattr, .act = act_xattr,
      .check = check_xattr, .weight = 6, .paths = 1 },
    { .name = "xattr-remove", .plan = plan_xattr, .setup = setup_xattr, .warm = warm_xattr, .act = act_remove,
      .check = has_none, .weight = 6, .paths = 1 },
    { .name = "acl", .setup = make_a, .warm = warm_acl, .act = act_acl, .check = check_acl, .weight = 6,
      .paths = 1 },
    { .name = "acl-remove", .setup = setup_acl, .warm = check_acl, .act = act_acl_remove,
      .check = check_acl_removed, .weight = 6, .paths = 1 },
    { .name = "acl-mask", .setup = setup_acl, .warm = check_acl, .act = act_acl_mask, .check = check_acl_mask,
      .weight = 6, .paths = 1 },
    { .name = "acl-default", .setup = setup_default, .warm = warm_default, .act = act_default,
      .check = check_default, .weight = 4 },
    { .name = NULL },
};
/* clang-format on */
