/* SPDX-License-Identifier: MIT */
/* Operations on names. Each loop is there twice, so that nothing stands between it and the call. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "direct.h"

static const char *const deep[] = { "first", "first/second", "first/second/third",
                                    "first/second/third/fourth" };
enum { DEEP = sizeof(deep) / sizeof(deep[0]) };

/* ---- stat --------------------------------------------------------------------------------------- */

/* File number i has i + 1 bytes, so that an answer about another file is seen. */
static void make_few(struct bench *b, enum side side, const char *word)
{
    names_make(b, b->names, word, 0, FEW);
    for (unsigned i = 0; i < FEW; i++)
        make_file(b, side, b->names[i], i + 1);
}

static void remove_few(struct bench *b, enum side side)
{
    for (unsigned i = 0; i < FEW; i++)
        remove_file(b, side, b->names[i]);
}

static void prep_stat(struct bench *b, enum side side)
{
    make_few(b, side, "file");
}

static void prep_stat5(struct bench *b, enum side side)
{
    char word[NAME_SIZE];

    for (int i = 0; i < DEEP; i++)
        make_directory(b, side, name_of(b, deep[i]));
    snprintf(word, sizeof(word), "%s/file", deep[DEEP - 1]);
    make_few(b, side, word);
}

static void clean_stat5(struct bench *b, enum side side)
{
    remove_few(b, side);
    for (int i = DEEP; i-- > 0;)
        remove_directory(b, side, name_of(b, deep[i]));
}

static void stat_tmpfs(struct bench *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        sys(stat(b->names[i % FEW], &b->st), "stat");
}

static void stat_direct(struct bench *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        lib(shmfs_stat(b->fs, b->names[i % FEW], &b->st), "shmfs_stat");
}

static void finish_stat(struct bench *b, enum side side, unsigned n)
{
    if (b->st.st_size != (n - 1) % FEW + 1 || !S_ISREG(b->st.st_mode) || b->st.st_nlink != 1)
        die(0, "stat: side %d told of another file", side);
}

/* ---- open --------------------------------------------------------------------------------------- */

static void open_tmpfs(struct bench *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        sys(close((int)sys(open(b->names[i % FEW], O_RDONLY), "open")), "close");
}

static void open_direct(struct bench *b, unsigned n)
{
    struct shmfs_file *file;

    for (unsigned i = 0; i < n; i++) {
        lib(shmfs_open(b->fs, b->names[i % FEW], O_RDONLY, 0, &file), "shmfs_open");
        lib(shmfs_close(file), "shmfs_close");
    }
}

/* ---- create, unlink ----------------------------------------------------------------------------- */

static void prep_names(struct bench *b, enum side side)
{
    names_make(b, b->names, "new", 0, NAMES);
}

static void make_all(struct bench *b, enum side side)
{
    for (unsigned i = 0; i < NAMES; i++)
        make_file(b, side, b->names[i], 0);
}

static void create_tmpfs(struct bench *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        sys(close((int)sys(open(b->names[i], O_WRONLY | O_CREAT | O_EXCL, 0644), "create")), "close");
}

static void create_direct(struct bench *b, unsigned n)
{
    struct shmfs_file *file;

    for (unsigned i = 0; i < n; i++) {
        lib(shmfs_open(b->fs, b->names[i], O_WRONLY | O_CREAT | O_EXCL, 0644, &file), "shmfs_open: create");
        lib(shmfs_close(file), "shmfs_close");
    }
}

static void remove_all(struct bench *b, enum side side, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        remove_file(b, side, b->names[i]);
}

static void unlink_tmpfs(struct bench *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        sys(unlink(b->names[i]), "unlink");
}

static void unlink_direct(struct bench *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        lib(shmfs_unlink(b->fs, b->names[i]), "shmfs_unlink");
}

static void finish_unlink(struct bench *b, enum side side, unsigned n)
{
    struct stat st;

    for (unsigned i = 0; i < n; i += n - 1) {
        if (look(b, side, b->names[i], &st))
            die(0, "unlink: %s is still there", b->names[i]);
    }
}

/* n files made, closed and removed, some at a time. */
static void churn_tmpfs(struct bench *b, unsigned n)
{
    for (unsigned i = 0; i < n; i += FEW) {
        create_tmpfs(b, FEW);
        unlink_tmpfs(b, FEW);
    }
}

static void churn_direct(struct bench *b, unsigned n)
{
    for (unsigned i = 0; i < n; i += FEW) {
        create_direct(b, FEW);
        unlink_direct(b, FEW);
    }
}

/* ---- rename ------------------------------------------------------------------------------------- */

enum { RENAMED = NAMES / 2 };

static void prep_rename(struct bench *b, enum side side)
{
    names_make(b, b->names, "one", 0, RENAMED);
    names_make(b, b->others, "another", 0, RENAMED);
    for (unsigned i = 0; i < RENAMED; i++)
        make_file(b, side, b->names[i], 0);
}

/* All of them, and all back. */
static void rename_tmpfs(struct bench *b, unsigned n)
{
    for (unsigned i = 0; i < n / 2; i++)
        sys(rename(b->names[i], b->others[i]), "rename");
    for (unsigned i = 0; i < n / 2; i++)
        sys(rename(b->others[i], b->names[i]), "rename back");
}

static void rename_direct(struct bench *b, unsigned n)
{
    for (unsigned i = 0; i < n / 2; i++)
        lib(shmfs_rename(b->fs, b->names[i], b->others[i], 0), "shmfs_rename");
    for (unsigned i = 0; i < n / 2; i++)
        lib(shmfs_rename(b->fs, b->others[i], b->names[i], 0), "shmfs_rename: back");
}

static void finish_rename(struct bench *b, enum side side, unsigned n)
{
    struct stat st;

    if (!look(b, side, b->names[0], &st) || look(b, side, b->others[0], &st))
        die(0, "rename: %s is not where it should be", b->names[0]);
}

static void clean_rename(struct bench *b, enum side side)
{
    remove_all(b, side, RENAMED);
}

/* ---- readdir ------------------------------------------------------------------------------------ */

static const char *entry_name(struct bench *b, unsigned i)
{
    char word[NAME_SIZE];

    snprintf(word, sizeof(word), "listed/entry-%05u", i);
    return name_of(b, word);
}

static void prep_list(struct bench *b, enum side side)
{
    make_directory(b, side, name_of(b, "listed"));
    for (unsigned i = 0; i < DIRECTORY; i++)
        make_file(b, side, entry_name(b, i), 0);
    snprintf(b->names[0], NAME_SIZE, "%s", name_of(b, "listed"));
}

static void clean_list(struct bench *b, enum side side)
{
    for (unsigned i = 0; i < DIRECTORY; i++)
        remove_file(b, side, entry_name(b, i));
    remove_directory(b, side, name_of(b, "listed"));
}

/* Names begin with '.' or with 'e': a listing is whole if their first letters add up. */
static void check_sum(unsigned long sum)
{
    if (sum != DIRECTORY * 'e' + 3UL * '.')
        die(0, "readdir: not all of the entries");
}

static unsigned long letters(const struct dirent *entry)
{
    return (unsigned char)entry->d_name[0] + (entry->d_name[0] == '.' ? (unsigned char)entry->d_name[1] : 0u);
}

static void list_tmpfs(struct bench *b, unsigned n)
{
    for (unsigned done = 0; done < n; done += DIRECTORY) {
        DIR *dir = opendir(b->names[0]);
        const struct dirent *entry;
        unsigned long sum = 0;

        sys(dir ? 0 : -1, "opendir");
        while ((entry = readdir(dir)))
            sum += letters(entry);
        sys(closedir(dir), "closedir");
        check_sum(sum);
    }
}

static void list_direct(struct bench *b, unsigned n)
{
    for (unsigned done = 0; done < n; done += DIRECTORY) {
        struct shmfs_dir *dir;
        const struct dirent *entry;
        unsigned long sum = 0;

        lib(shmfs_opendir(b->fs, b->names[0], &dir), "shmfs_opendir");
        while (lib(shmfs_readdir(dir, &entry), "shmfs_readdir") == 1)
            sum += letters(entry);
        lib(shmfs_closedir(dir), "shmfs_closedir");
        check_sum(sum);
    }
}

const struct op ops_name[] = {
    { .name = "stat",
      .what = "stat, 1 deep",
      .target = 20,
      .count = 2 * NAMES,
      .prep = prep_stat,
      .run = { stat_tmpfs, stat_direct },
      .finish = finish_stat,
      .clean = remove_few,
      .repeats = true },
    { .name = "stat-5",
      .what = "stat, 5 deep",
      .target = 8,
      .count = 2 * NAMES,
      .prep = prep_stat5,
      .run = { stat_tmpfs, stat_direct },
      .finish = finish_stat,
      .clean = clean_stat5,
      .repeats = true },
    { .name = "open-close",
      .what = "open, close",
      .target = 15,
      .count = NAMES,
      .prep = prep_stat,
      .run = { open_tmpfs, open_direct },
      .clean = remove_few,
      .repeats = true },
    { .name = "create-close",
      .what = "create, close",
      .target = 25,
      .count = NAMES,
      .prep = prep_names,
      .run = { create_tmpfs, create_direct },
      .finish = remove_all },
    { .name = "rename",
      .what = "rename within a directory",
      .target = 18,
      .count = NAMES,
      .prep = prep_rename,
      .run = { rename_tmpfs, rename_direct },
      .finish = finish_rename,
      .clean = clean_rename,
      .repeats = true },
    { .name = "unlink",
      .what = "unlink of an empty file",
      .target = 20,
      .count = NAMES,
      .prep = prep_names,
      .setup = make_all,
      .run = { unlink_tmpfs, unlink_direct },
      .finish = finish_unlink },
    { .name = "churn",
      .what = "create, close and unlink",
      .count = NAMES,
      .prep = prep_names,
      .run = { churn_tmpfs, churn_direct },
      .repeats = true },
    { .name = "readdir",
      .what = "readdir of 10,000, each entry",
      .target = 10,
      .count = DIRECTORY,
      .prep = prep_list,
      .run = { list_tmpfs, list_direct },
      .clean = clean_list,
      .repeats = true },
    { .name = NULL },
};
