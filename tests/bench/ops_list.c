/* SPDX-License-Identifier: MIT */
/* Operations on directories with many entries. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fsbench.h"

enum { TRIPLES = 128 };

static void entry_name(char ret[NAME_SIZE], unsigned long i)
{
    name_make(ret, "entry-with-a-usual-name", i);
}

static void prep_entries(struct state *s)
{
    for (unsigned long i = 0; i < s->entries; i++) {
        entry_name(s->names[0], i);
        make_empty(s, s->names, 1);
    }
}

static void clean_entries(struct state *s)
{
    for (unsigned long i = 0; i < s->entries; i++) {
        entry_name(s->names[0], i);
        remove_files(s, s->names, 1);
    }
}

/* All entries, each name counted once; with a stat of each, as `ls -l` does, if `look`. */
static void list(struct state *s, bool look)
{
    int fd = openat(s->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    unsigned long n = 0;
    struct dirent *entry;
    struct stat st;

    if (!dir)
        die("opendir");
    while (errno = 0, (entry = readdir(dir))) {
        if (entry->d_name[0] == '.')
            continue;
        n++;
        if (look && (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode)))
            die("stat %s", entry->d_name);
    }
    if (errno != 0 || closedir(dir) != 0)
        die("readdir");
    if (n != s->entries)
        die("readdir found %lu entries of %lu", n, s->entries);
}

static unsigned long list_names(struct state *s)
{
    list(s, false);
    return 1;
}

static unsigned long list_long(struct state *s)
{
    list(s, true);
    return 1;
}

static void setup_triple(struct state *s)
{
    names_make(s, "n", s->serial);
    s->serial += NAMES;
    for (unsigned i = 0; i < TRIPLES; i++)
        entry_name(s->others[i], next_random(s) % s->entries);
}

/* Create a file, stat one of the many at random, remove the file. */
static unsigned long triple(struct state *s)
{
    struct stat st;

    for (int i = 0; i < TRIPLES; i++) {
        int fd = openat(s->dir, s->names[i], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

        if (fd < 0 || close(fd) != 0)
            die("create");
        if (fstatat(s->dir, s->others[i], &st, 0) != 0)
            die("stat");
        if (unlinkat(s->dir, s->names[i], 0) != 0)
            die("unlink");
    }
    return TRIPLES;
}

const struct op ops_list[] = {
    { "readdir", "listing of a directory of -n entries, again and again", //
      prep_entries, NULL, list_names, NULL, clean_entries, false },
    { "readdir-cold", "the same, the kernel having forgotten the directory", //
      prep_entries, NULL, list_names, NULL, clean_entries, true },
    { "readdir-stat-cold", "the same with a stat of each entry, as ls -l does", //
      prep_entries, NULL, list_long, NULL, clean_entries, true },
    { "directory", "create, stat of a random entry and unlink, in a directory of -n entries", //
      prep_entries, setup_triple, triple, NULL, clean_entries, false },
    { "directory-cold", "the same, the kernel having forgotten all names", //
      prep_entries, setup_triple, triple, NULL, clean_entries, true },
    { .name = NULL },
};
