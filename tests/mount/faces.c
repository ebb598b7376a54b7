/* SPDX-License-Identifier: MIT */
/*
 * faces host DIRECTORY [CASE...]     by system calls, with that directory as the root
 * faces direct REGION [CASE...]      by the library
 *
 * Prints what every call of every case gave (faces.h). Needs root.
 */
#include "faces.h"

#include <errno.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATHS = 5000 };

static char prefix[200];

/* ---- lines --------------------------------------------------------------------------------------- */

void label(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(prefix, sizeof(prefix), format, args);
    va_end(args);
}

void tell(const char *format, ...)
{
    va_list args;

    printf("%s: ", prefix);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

void say(const char *what, long result)
{
    const char *name = result < 0 ? strerrorname_np((int)-result) : NULL;

    if (name != NULL)
        tell("%s: %s", what, name);
    else
        tell("%s: %ld", what, result);
}

long must(const char *what, long result)
{
    if (result >= 0)
        return result;
    say(what, result);
    fprintf(stderr, "faces: %s: %s: %s\n", prefix, what, strerror((int)-result));
    fflush(stdout);
    _exit(1);
}

/* ---- objects ------------------------------------------------------------------------------------- */

void make_file(const struct face *f, const char *path, const void *data, size_t n)
{
    struct handle h;

    MUST(op_open(f, path, O_WRONLY | O_CREAT | O_TRUNC, 0644, &h));
    if (n > 0)
        MUST(op_pwrite(&h, data, n, 0));
    MUST(op_close(&h));
}

void look(const struct face *f, const char *path)
{
    char target[PATHS] = "";
    struct stat st;
    long r = op_lstat(f, path, &st);

    if (r < 0) {
        say(path, r);
        return;
    }
    if (S_ISLNK(st.st_mode))
        target[MUST(op_readlink(f, path, target, sizeof(target) - 1))] = 0;
    /* The size of a directory is the filesystem's own affair. */
    tell("%s is %06o %u:%u links %lu size %ld dev %u:%u %s", path, st.st_mode, st.st_uid, st.st_gid,
         (unsigned long)st.st_nlink, S_ISDIR(st.st_mode) ? 0 : (long)st.st_size, major(st.st_rdev),
         minor(st.st_rdev), target);
}

static void walk(const struct face *f, const char *path, void (*act)(const struct face *f, const char *path))
{
    static const size_t size = 1 << 16;
    char *names = malloc(size), *rest = names, *name, inner[PATHS];
    struct stat st;

    if (names == NULL)
        abort();
    MUST(op_list(f, *path != 0 ? path : "/", names, size));
    while ((name = strsep(&rest, "/")) != NULL && *name != 0) {
        snprintf(inner, sizeof(inner), "%s/%s", path, name);
        MUST(op_lstat(f, inner, &st));
        if (act == look)
            look(f, inner);
        if (S_ISDIR(st.st_mode))
            walk(f, inner, act);
        if (act != look)
            act(f, inner);
    }
    free(names);
}

void tree(const struct face *f, const char *path)
{
    walk(f, path, look);
}

static void remove_one(const struct face *f, const char *path)
{
    struct stat st;

    MUST(op_lstat(f, path, &st));
    MUST(S_ISDIR(st.st_mode) ? op_rmdir(f, path) : op_unlink(f, path));
}

void remove_tree(const struct face *f, const char *path)
{
    walk(f, path, remove_one);
    if (strcmp(path, "") != 0)
        remove_one(f, path);
}

/* ---- somebody else ------------------------------------------------------------------------------- */

void as_somebody(const struct face *f, uid_t uid, bool member, void (*act)(const struct face *f, void *arg),
                 void *arg)
{
    const gid_t groups[] = { TEAM };
    int status;

    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        if (setgroups(uid == ALICE || member ? 1 : 0, groups) < 0 || setresgid(uid, uid, uid) < 0 ||
            setresuid(uid, uid, uid) < 0)
            abort();
        op_become(f);
        act(f, arg);
        fflush(stdout);
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
        fprintf(stderr, "faces: %s: the process of user %u ended badly\n", prefix, uid);
        exit(1);
    }
}

/* ---- the cases ----------------------------------------------------------------------------------- */

static bool is_wanted(const char *name, char *const *wanted)
{
    if (*wanted == NULL)
        return true;
    for (; *wanted != NULL; wanted++) {
        if (strcmp(*wanted, name) == 0)
            return true;
    }
    return false;
}

static void run_all(const struct face *f, char *const *wanted)
{
    static const struct face_case *const tables[] = { faces_names, faces_data, faces_attrs, faces_rights };

    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        for (const struct face_case *c = tables[i]; c->name != NULL; c++) {
            if (!is_wanted(c->name, wanted))
                continue;
            label("%s", c->name);
            op_umask(f, 022);
            c->run(f);
            label("%s", c->name);
            op_umask(f, 022);
            remove_tree(f, "");
        }
    }
}

int main(int argc, char **argv)
{
    struct face f = { 0 };

    if (argc < 3) {
        fprintf(stderr, "Usage: faces host DIRECTORY|direct REGION [CASE...]\n");
        return 2;
    }
    setgroups(0, NULL);
    if (strcmp(argv[1], "host") == 0) {
        if (chroot(argv[2]) < 0 || chdir("/") < 0) {
            fprintf(stderr, "faces: %s: %s\n", argv[2], strerror(errno));
            return 1;
        }
    } else if (shmfs_attach(argv[2], 0, &f.fs) < 0) {
        fprintf(stderr, "faces: %s\n", shmfs_attach_error());
        return 1;
    }
    run_all(&f, argv + 3);
    shmfs_detach(f.fs);
    return 0;
}
