/* SPDX-License-Identifier: MIT */
/* Operations on names: stat, create, rename, remove. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fsbench.h"

enum { FILES = 64, WARM = 4096 };

/* ---- stat --------------------------------------------------------------------------------------- */

static void prep_stat(struct state *s)
{
    names_make(s, "f", 0);
    make_empty(s, s->names, NAMES);
}

static void setup_stat(struct state *s)
{
    names_make(s, "f", 0);
}

static void clean_stat(struct state *s)
{
    names_make(s, "f", 0);
    remove_files(s, s->names, NAMES);
}

static unsigned long stat_files(struct state *s, unsigned long n, unsigned files)
{
    struct stat st;

    for (unsigned long i = 0; i < n; i++) {
        if (fstatat(s->dir, s->names[i % files], &st, 0) != 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1)
            die("stat");
    }
    return n;
}

static unsigned long stat_warm(struct state *s)
{
    return stat_files(s, WARM, FILES);
}

static unsigned long stat_cold(struct state *s)
{
    return stat_files(s, NAMES, NAMES);
}

static unsigned long stat_missing(struct state *s)
{
    struct stat st;

    for (int i = 0; i < NAMES; i++) {
        if (fstatat(s->dir, s->names[i], &st, 0) == 0 || errno != ENOENT)
            die("stat of what is not there");
    }
    return NAMES;
}

/* ---- create and remove -------------------------------------------------------------------------- */

/* Names that were never used before. */
static void setup_names(struct state *s)
{
    names_make(s, "n", s->serial);
    s->serial += NAMES;
}

static void setup_files(struct state *s)
{
    setup_names(s);
    make_empty(s, s->names, NAMES);
}

static unsigned long create_close(struct state *s)
{
    for (int i = 0; i < NAMES; i++) {
        int fd = openat(s->dir, s->names[i], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

        if (fd < 0 || close(fd) != 0)
            die("create and close");
    }
    return NAMES;
}

static void finish_create(struct state *s)
{
    must_exist(s, s->names[0], true);
    remove_files(s, s->names, NAMES);
}

static unsigned long unlink_all(struct state *s)
{
    remove_files(s, s->names, NAMES);
    return NAMES;
}

static void finish_gone(struct state *s)
{
    must_exist(s, s->names[0], false);
    must_exist(s, s->names[NAMES - 1], false);
}

static unsigned long mkdir_rmdir(struct state *s)
{
    for (int i = 0; i < NAMES; i++) {
        if (mkdirat(s->dir, s->names[i], 0755) != 0 || unlinkat(s->dir, s->names[i], AT_REMOVEDIR) != 0)
            die("mkdir and rmdir");
    }
    return NAMES;
}

/* ---- rename ------------------------------------------------------------------------------------- */

static void setup_rename(struct state *s)
{
    setup_files(s);
    for (unsigned i = 0; i < NAMES; i++)
        name_make(s->others[i], "other", s->serial + i);
}

static unsigned long rename_all(struct state *s)
{
    for (int i = 0; i < NAMES; i++) {
        if (renameat(s->dir, s->names[i], s->dir, s->others[i]) != 0)
            die("rename");
    }
    return NAMES;
}

static void finish_rename(struct state *s)
{
    finish_gone(s);
    remove_files(s, s->others, NAMES);
}

const struct op ops_name[] = {
    { "stat-warm", "stat of one of 64 files, all known to the kernel", //
      prep_stat, setup_stat, stat_warm, NULL, clean_stat, false },
    { "stat-cold", "stat of a file whose name the kernel has forgotten", //
      prep_stat, setup_stat, stat_cold, NULL, clean_stat, true },
    { "stat-missing", "stat of a name that is not there, never asked for before", //
      NULL, setup_names, stat_missing, NULL, NULL, false },
    { "create-close", "open(O_CREAT|O_EXCL) and close", //
      NULL, setup_names, create_close, finish_create, NULL, false },
    { "unlink", "unlink of an empty file", //
      NULL, setup_files, unlink_all, finish_gone, NULL, false },
    { "rename", "rename within a directory to a name that is not there", //
      NULL, setup_rename, rename_all, finish_rename, NULL, false },
    { "mkdir-rmdir", "mkdir and rmdir (one operation)", //
      NULL, setup_names, mkdir_rmdir, finish_gone, NULL, false },
    { .name = NULL },
};
