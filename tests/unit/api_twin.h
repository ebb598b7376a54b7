/* SPDX-License-Identifier: MIT */
#ifndef TEST_API_TWIN_H
#define TEST_API_TWIN_H

/*
 * The same tree twice: in the region, and in a directory of the host that is this process's root
 * directory. Each operation is done to both and must end the same way, and leave the same (P7). The
 * host says what is right; so there are no tables of expected errors that could be wrong themselves.
 */
#include "api.h"

#include <sys/xattr.h>

struct thing {
    const char *path;
    mode_t mode;
    uid_t uid;
    gid_t gid;
    const char *more; /* of a symbolic link: its target; of a regular file: what it is another name of */
};

static const struct thing *twin_things;
static size_t twin_count;

/* ---- operations, on both ------------------------------------------------------------------------- */

enum op {
    OP_STAT,
    OP_LSTAT,
    OP_ACCESS, /* arg: mode */
    OP_TRUNCATE,
    OP_MKDIR,
    OP_RMDIR,
    OP_UNLINK,
    OP_SYMLINK,
    OP_READLINK,
    OP_MKNOD, /* arg: mode, with the type */
    OP_CHMOD, /* arg: mode */
    OP_CHOWN, /* arg: user << 16 | group, 65535 for -1 */
    OP_LCHOWN,
    OP_UTIMENS, /* arg: 0 now, 1 a time, 2 only the one of access to now, 3 neither; +16: not through links */
    OP_OPENDIR,
    OP_OPEN,     /* arg: flags */
    OP_SETXATTR, /* arg: which name */
    OP_GETXATTR,
    OP_RENAME, /* arg: flags */
    OP_LINK,
    OP_COUNT
};

static const char *const op_names[OP_COUNT] = {
    [OP_STAT] = "stat",         [OP_LSTAT] = "lstat",       [OP_ACCESS] = "access",
    [OP_TRUNCATE] = "truncate", [OP_MKDIR] = "mkdir",       [OP_RMDIR] = "rmdir",
    [OP_UNLINK] = "unlink",     [OP_SYMLINK] = "symlink",   [OP_READLINK] = "readlink",
    [OP_MKNOD] = "mknod",       [OP_CHMOD] = "chmod",       [OP_CHOWN] = "chown",
    [OP_LCHOWN] = "lchown",     [OP_UTIMENS] = "utimens",   [OP_OPENDIR] = "opendir",
    [OP_OPEN] = "open",         [OP_SETXATTR] = "setxattr", [OP_GETXATTR] = "getxattr",
    [OP_RENAME] = "rename",     [OP_LINK] = "link",
};

struct job {
    enum op op;
    unsigned arg;
    const char *a, *b;
};

static inline uid_t id_of(unsigned n)
{
    return n == 65535 ? (uid_t)-1 : n;
}

static inline const struct timespec *times_of(unsigned arg, struct timespec times[2])
{
    static const long nsec[4][2] = {
        { 0, 0 }, { 7, 8 }, { UTIME_NOW, UTIME_OMIT }, { UTIME_OMIT, UTIME_OMIT }
    };

    if ((arg & 15) == 0)
        return NULL;
    for (int i = 0; i < 2; i++)
        times[i] = (struct timespec){ .tv_sec = 1000 + i, .tv_nsec = nsec[arg & 15][i] };
    return times;
}

static inline const char *xattr_name_of(unsigned arg)
{
    static const char *const names[] = { "user.x", "trusted.x", "user.", "nonsense.x" };

    return names[arg % ARRAY_SIZE(names)];
}

static inline int direct_open(const struct job *job)
{
    return open_result(job->a, (int)job->arg, 0640);
}

static inline int direct_opendir(const char *path)
{
    struct shmfs_dir *dir;
    int r = shmfs_opendir(fs, path, &dir);

    if (r == 0)
        CHECK_EQ(shmfs_closedir(dir), 0);
    return r;
}

static inline int direct_other(const struct job *job)
{
    struct timespec times[2];
    char buf[64];

    switch (job->op) {
    case OP_UTIMENS:
        return shmfs_utimens(fs, job->a, times_of(job->arg, times), job->arg & 16 ? AT_SYMLINK_NOFOLLOW : 0);
    case OP_OPENDIR:
        return direct_opendir(job->a);
    case OP_OPEN:
        return direct_open(job);
    case OP_SETXATTR:
        return shmfs_setxattr(fs, job->a, xattr_name_of(job->arg), "v", 1, 0);
    case OP_GETXATTR:
        return (int)shmfs_getxattr(fs, job->a, xattr_name_of(job->arg), buf, sizeof(buf));
    case OP_RENAME:
        return shmfs_rename(fs, job->a, job->b, job->arg);
    case OP_LINK:
        return shmfs_link(fs, job->a, job->b);
    default:
        abort();
    }
}

static inline int direct(const struct job *job)
{
    struct stat st;
    char buf[64];

    switch (job->op) {
    case OP_STAT:
        return shmfs_stat(fs, job->a, &st);
    case OP_LSTAT:
        return shmfs_lstat(fs, job->a, &st);
    case OP_ACCESS:
        return shmfs_access(fs, job->a, (int)job->arg);
    case OP_TRUNCATE:
        return shmfs_truncate(fs, job->a, 3);
    case OP_MKDIR:
        return shmfs_mkdir(fs, job->a, 0777);
    case OP_RMDIR:
        return shmfs_rmdir(fs, job->a);
    case OP_UNLINK:
        return shmfs_unlink(fs, job->a);
    case OP_SYMLINK:
        return shmfs_symlink(fs, "to/here", job->a);
    case OP_READLINK:
        return (int)shmfs_readlink(fs, job->a, buf, sizeof(buf));
    case OP_MKNOD:
        return shmfs_mknod(fs, job->a, job->arg, 0x105);
    case OP_CHMOD:
        return shmfs_chmod(fs, job->a, job->arg);
    case OP_CHOWN:
        return shmfs_chown(fs, job->a, id_of(job->arg >> 16), id_of(job->arg & 65535));
    case OP_LCHOWN:
        return shmfs_lchown(fs, job->a, id_of(job->arg >> 16), id_of(job->arg & 65535));
    default:
        return direct_other(job);
    }
}

static inline int host_open(const struct job *job)
{
    int fd = open(job->a, (int)job->arg, 0640);

    return fd < 0 ? -errno : close(fd);
}

static inline int host_opendir(const char *path)
{
    DIR *dir = opendir(path);

    return dir == NULL ? -1 : closedir(dir);
}

static inline int host_other(const struct job *job)
{
    struct timespec times[2];
    char buf[64];

    switch (job->op) {
    case OP_UTIMENS:
        return utimensat(AT_FDCWD, job->a, times_of(job->arg, times),
                         job->arg & 16 ? AT_SYMLINK_NOFOLLOW : 0);
    case OP_OPENDIR:
        return host_opendir(job->a);
    case OP_OPEN:
        return host_open(job);
    case OP_SETXATTR:
        return setxattr(job->a, xattr_name_of(job->arg), "v", 1, 0);
    case OP_GETXATTR:
        return (int)getxattr(job->a, xattr_name_of(job->arg), buf, sizeof(buf));
    case OP_RENAME:
        return renameat2(AT_FDCWD, job->a, AT_FDCWD, job->b, job->arg);
    case OP_LINK:
        return linkat(AT_FDCWD, job->a, AT_FDCWD, job->b, 0);
    default:
        abort();
    }
}

static inline int host_errno(const struct job *job)
{
    struct stat st;
    char buf[64];

    switch (job->op) {
    case OP_STAT:
        return stat(job->a, &st);
    case OP_LSTAT:
        return lstat(job->a, &st);
    case OP_ACCESS:
        return faccessat(AT_FDCWD, job->a, (int)job->arg, AT_EACCESS);
    case OP_TRUNCATE:
        return truncate(job->a, 3);
    case OP_MKDIR:
        return mkdir(job->a, 0777);
    case OP_RMDIR:
        return rmdir(job->a);
    case OP_UNLINK:
        return unlink(job->a);
    case OP_SYMLINK:
        return symlink("to/here", job->a);
    case OP_READLINK:
        return (int)readlink(job->a, buf, sizeof(buf));
    case OP_MKNOD:
        return mknod(job->a, job->arg, 0x105);
    case OP_CHMOD:
        return chmod(job->a, job->arg);
    case OP_CHOWN:
        return chown(job->a, id_of(job->arg >> 16), id_of(job->arg & 65535));
    case OP_LCHOWN:
        return lchown(job->a, id_of(job->arg >> 16), id_of(job->arg & 65535));
    default:
        return host_other(job);
    }
}

static inline int host(const struct job *job)
{
    int r = host_errno(job);

    return r == -1 ? -errno : r;
}

/* ---- the tree, in words ---------------------------------------------------------------------------- */

enum { TREE_TEXT = 16384 };

/* One line a name; sizes of directories are the filesystem's own affair. */
static inline size_t describe(char *text, size_t at, const char *path, const struct stat *st,
                              const char *target)
{
    int n = snprintf(text + at, TREE_TEXT - at, "%s %o %ju:%ju n%ju s%jd r%jx %s\n", path, st->st_mode,
                     (uintmax_t)st->st_uid, (uintmax_t)st->st_gid, (uintmax_t)st->st_nlink,
                     S_ISDIR(st->st_mode) ? 0 : (intmax_t)st->st_size, (uintmax_t)st->st_rdev, target);

    CHECK(n > 0 && at + (size_t)n < TREE_TEXT);
    return at + (size_t)n;
}

static inline int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

enum { TREE_NAMES = 64, TREE_NAME = 32 };

static inline size_t keep_name(char names[][TREE_NAME], size_t n, const char *name)
{
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return n;
    CHECK(n < TREE_NAMES && strlen(name) < TREE_NAME);
    strcpy(names[n], name);
    return n + 1;
}

static inline size_t direct_names(const char *path, char names[][TREE_NAME])
{
    const struct dirent *entry;
    struct shmfs_dir *dir;
    size_t n = 0;

    MUST(shmfs_opendir(fs, *path != 0 ? path : "/", &dir));
    while (MUST(shmfs_readdir(dir, &entry)) == 1)
        n = keep_name(names, n, entry->d_name);
    CHECK_EQ(shmfs_closedir(dir), 0);
    qsort(names, n, TREE_NAME, by_name);
    return n;
}

static inline size_t host_names(const char *path, char names[][TREE_NAME])
{
    const struct dirent *entry;
    DIR *dir = opendir(*path != 0 ? path : "/");
    size_t n = 0;

    CHECK(dir != NULL);
    while ((entry = readdir(dir)) != NULL)
        n = keep_name(names, n, entry->d_name);
    closedir(dir);
    qsort(names, n, TREE_NAME, by_name);
    return n;
}

struct side {
    size_t (*names)(const char *path, char names[][TREE_NAME]);
    int (*lstat)(const char *path, struct stat *ret);
    ssize_t (*readlink)(const char *path, char *ret, size_t n);
    int (*job)(const struct job *job);
};

static inline int direct_lstat(const char *path, struct stat *ret)
{
    return shmfs_lstat(fs, path, ret);
}

static inline ssize_t direct_readlink(const char *path, char *ret, size_t n)
{
    return shmfs_readlink(fs, path, ret, n);
}

static const struct side direct_side = { direct_names, direct_lstat, direct_readlink, direct };
static const struct side host_side = { host_names, lstat, readlink, host };

static size_t tree_text(const struct side *side, const char *path, char *text, size_t at)
{
    char names[TREE_NAMES][TREE_NAME], inner[256], target[64];
    size_t n = side->names(path, names);
    struct stat st;

    for (size_t i = 0; i < n; i++) {
        snprintf(inner, sizeof(inner), "%s/%s", path, names[i]);
        CHECK_EQ(side->lstat(inner, &st), 0);
        ssize_t len = S_ISLNK(st.st_mode) ? side->readlink(inner, target, sizeof(target) - 1) : 0;
        target[MUST(len)] = 0;
        at = describe(text, at, inner, &st, target);
        if (S_ISDIR(st.st_mode))
            at = tree_text(side, inner, text, at);
    }
    text[at] = 0;
    return at;
}

/* ---- making and clearing it ------------------------------------------------------------------------ */

static void tree_clear(const struct side *side, const char *path)
{
    char names[TREE_NAMES][TREE_NAME], inner[256];
    size_t n = side->names(path, names);
    struct stat st;

    for (size_t i = 0; i < n; i++) {
        snprintf(inner, sizeof(inner), "%s/%s", path, names[i]);
        CHECK_EQ(side->lstat(inner, &st), 0);
        if (S_ISDIR(st.st_mode))
            tree_clear(side, inner);
        MUST(side->job(&(struct job){ .op = S_ISDIR(st.st_mode) ? OP_RMDIR : OP_UNLINK, .a = inner }));
    }
}

static inline void make_link(const struct thing *thing)
{
    MUST(shmfs_symlink(fs, thing->more, thing->path));
    MUST(symlink(thing->more, thing->path));
}

static inline void make_thing(const struct side *side, const struct thing *thing)
{
    unsigned owner = thing->uid << 16 | thing->gid;

    if (S_ISREG(thing->mode) && thing->more != NULL) {
        MUST(side->job(&(struct job){ .op = OP_LINK, .a = thing->more, .b = thing->path }));
        return;
    }
    if (S_ISDIR(thing->mode))
        MUST(side->job(&(struct job){ .op = OP_MKDIR, .a = thing->path }));
    else
        MUST(side->job(&(struct job){ .op = OP_MKNOD, .a = thing->path, .arg = thing->mode & ~07777u }));
    MUST(side->job(&(struct job){ .op = OP_LCHOWN, .a = thing->path, .arg = owner }));
    MUST(side->job(&(struct job){ .op = OP_CHMOD, .a = thing->path, .arg = thing->mode & 07777 }));
}

static inline void twin_make(void)
{
    for (size_t i = 0; i < twin_count; i++) {
        if (S_ISLNK(twin_things[i].mode)) {
            make_link(&twin_things[i]);
            continue;
        }
        make_thing(&direct_side, &twin_things[i]);
        make_thing(&host_side, &twin_things[i]);
    }
}

static char twin_root[64];

/* In a child, which is root: its root directory is a new one of the host, with the tree in it. */
static inline void twin_begin(const struct thing *things, size_t n)
{
    twin_things = things;
    twin_count = n;
    snprintf(twin_root, sizeof(twin_root), "%s/shmfs-twin-%d", test_directory(), (int)getpid());
    MUST(mkdir(twin_root, 0755));
    MUST(chroot(twin_root));
    MUST(chdir("/"));
    MUST(setgroups(1, &(gid_t){ FRIENDS }));
    umask(022);
    shmfs_umask(fs, 022);
    twin_make();
}

static inline void twin_remake(void)
{
    tree_clear(&direct_side, "");
    tree_clear(&host_side, "");
    twin_make();
}

/* ---- comparing ------------------------------------------------------------------------------------- */

static unsigned twin_jobs, twin_differences;
static uid_t twin_uid;

static inline void say_difference(const struct job *job, const char *what, long ours, long hosts)
{
    if (++twin_differences > 40)
        return;
    fprintf(stderr, "%s(%s%s%s, %#x) as %d: %s %ld, the host has %ld\n", op_names[job->op], job->a,
            job->b != NULL ? ", " : "", job->b != NULL ? job->b : "", job->arg, (int)twin_uid, what, ours,
            hosts);
}

static inline long first_different_line(const char *a, const char *b)
{
    long line = 1;

    for (; *a == *b && *a != 0; a++, b++)
        line += *a == '\n';
    return line;
}

/* Trees are looked at with root's eyes: the effective user comes and goes on the host's side only. */
static inline bool same_trees(const struct job *job)
{
    static char ours[TREE_TEXT], hosts[TREE_TEXT];

    tree_text(&direct_side, "", ours, 0);
    tree_text(&host_side, "", hosts, 0);
    if (strcmp(ours, hosts) == 0)
        return true;
    say_difference(job, "trees differ at line", first_different_line(ours, hosts), 0);
    if (twin_differences <= 3)
        fprintf(stderr, "-- ours:\n%s-- the host's:\n%s", ours, hosts);
    return false;
}

/* Does the path end in something else than a name? */
static inline bool is_odd(const char *path)
{
    size_t n = strlen(path);

    return n == 0 || path[n - 1] == '/' || path[n - 1] == '.';
}

static inline bool is_denial(int r)
{
    return r == -EACCES || r == -EPERM;
}

/* Where several things are wrong at once, POSIX leaves open which is told; that it fails it does not. */
static inline bool either_will_do(const struct job *job, int ours, int hosts)
{
    if (ours >= 0 || hosts >= 0)
        return false;
    if (job->b != NULL)
        return is_odd(job->a) || is_odd(job->b) || is_denial(ours) || is_denial(hosts) || ours == -ENOENT;
    if (job->op == OP_OPEN && (job->arg & O_DIRECTORY) != 0 && (job->arg & O_NOFOLLOW) != 0)
        return true;
    return is_odd(job->a) || (job->op == OP_MKNOD && ours == -EPERM);
}

static inline bool may_change(const struct job *job)
{
    switch (job->op) {
    case OP_STAT:
    case OP_LSTAT:
    case OP_ACCESS:
    case OP_READLINK:
    case OP_OPENDIR:
    case OP_GETXATTR:
        return false;
    default:
        return true;
    }
}

/* Who does it: effective ids, so that root can be had back. */
static inline void put_on(uid_t uid, gid_t gid)
{
    if (uid != 0) {
        MUST(setegid(gid));
        MUST(seteuid(uid));
    } else {
        MUST(seteuid(0));
        MUST(setegid(0));
    }
    CHECK_EQ(shmfs_setcreds(fs), 0);
}

static inline void twin_do(const struct job *job, uid_t uid)
{
    twin_jobs++;
    twin_uid = uid;
    put_on(uid, uid);
    int ours = direct(job);
    int hosts = host(job);
    put_on(0, 0);
    if (ours != hosts && !either_will_do(job, ours, hosts))
        say_difference(job, "we give", ours, hosts);
    if (!may_change(job))
        return;
    if (!same_trees(job) || ours >= 0 || hosts >= 0)
        twin_remake();
}

/* The end of the child. */
static inline void twin_end(void)
{
    tree_clear(&host_side, "");
    print_message("             %u operations\n", twin_jobs);
    fflush(NULL);
    CHECK_EQ(twin_differences, 0);
}

/* Runs f in a child that may have a root directory of its own. */
static inline void twin_run(void (*f)(void))
{
    if (geteuid() != 0)
        skip();
    struct child child = spawn(run_function, (void *)(uintptr_t)f);
    pid_t pid = child.pid;
    int status = reap(&child);
    snprintf(twin_root, sizeof(twin_root), "%s/shmfs-twin-%d", test_directory(), (int)pid);
    rmdir(twin_root);
    assert_int_equal(status, 0);
}

#endif
