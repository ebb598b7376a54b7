/* SPDX-License-Identifier: MIT */
/* shmfsctl ls: the names in a directory. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "ctl.h"

enum { OPTION_ALL = 1, OPTION_LONG = 2 };

struct entry {
    char *name;
    char *target; /* of a symbolic link, or NULL */
    struct stat st;
};
struct listing {
    struct entry *entry;
    size_t n, room;
    int status;
};

static void *must(void *p)
{
    if (!p)
        ctl_die(CTL_FAILED, "%s", strerror(ENOMEM));
    return p;
}

static char *read_target(struct shmfs *fs, const char *path, const struct stat *st)
{
    size_t room = (size_t)st->st_size + 1;
    char *target = must(malloc(room));
    ssize_t n = shmfs_readlink(fs, path, target, room - 1);

    if (n < 0) {
        free(target);
        return NULL;
    }
    target[(size_t)n < room ? (size_t)n : room - 1] = '\0';
    return target;
}

/* PATH, under NAME; with its attributes where they are shown. */
static void add(const struct ctl_call *call, struct listing *listing, const char *path, const char *name)
{
    struct entry entry = { .name = NULL };

    if (call->json || (call->options & OPTION_LONG) != 0) {
        int r = shmfs_lstat(call->fs, path, &entry.st);

        if (r == -ENOENT) /* removed meanwhile */
            return;
        if (r < 0) {
            ctl_warn("%s: %s", path, ctl_reason(r));
            listing->status = CTL_FAILED;
            return;
        }
        if (S_ISLNK(entry.st.st_mode))
            entry.target = read_target(call->fs, path, &entry.st);
    }
    if (listing->n == listing->room) {
        listing->room = listing->room * 2 + 64;
        listing->entry = must(reallocarray(listing->entry, listing->room, sizeof(entry)));
    }
    entry.name = must(strdup(name));
    listing->entry[listing->n++] = entry;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static int read_directory(const struct ctl_call *call, struct shmfs_dir *dir, const char *path,
                          struct listing *listing)
{
    const struct dirent *d;
    int r;

    while ((r = shmfs_readdir(dir, &d)) > 0) {
        char *full;

        if ((call->options & OPTION_ALL) == 0 && d->d_name[0] == '.')
            continue;
        if (asprintf(&full, "%s/%s", path, d->d_name) < 0)
            ctl_die(CTL_FAILED, "%s", strerror(ENOMEM));
        add(call, listing, full, d->d_name);
        free(full);
    }
    if (listing->n > 0)
        qsort(listing->entry, listing->n, sizeof(*listing->entry), by_name);
    return r;
}

/* What a directory holds; anything else is listed itself, and so is a link that leads nowhere. */
static void read_listing(const struct ctl_call *call, const char *path, struct listing *listing)
{
    struct shmfs_dir *dir;
    struct stat st;
    int r = shmfs_opendir(call->fs, path, &dir);

    if (r == 0) {
        r = read_directory(call, dir, path, listing);
        shmfs_closedir(dir);
    } else if (shmfs_lstat(call->fs, path, &st) == 0 && !S_ISDIR(st.st_mode)) {
        add(call, listing, path, path);
        return;
    }
    if (r < 0) {
        ctl_warn("%s: %s", path, ctl_reason(r));
        listing->status = CTL_FAILED;
    }
}

static void add_row(struct ctl_table *table, const struct entry *entry)
{
    const struct stat *st = &entry->st;
    char mode[11], user[64], group[64], when[64];

    ctl_cell(table, "%s", ctl_mode_text(st->st_mode, mode));
    ctl_cell(table, "%ju", (uintmax_t)st->st_nlink);
    ctl_cell(table, "%s", ctl_user_text(st->st_uid, user, sizeof(user)));
    ctl_cell(table, "%s", ctl_group_text(st->st_gid, group, sizeof(group)));
    if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
        ctl_cell(table, "%u, %u", major(st->st_rdev), minor(st->st_rdev));
    else
        ctl_cell(table, "%jd", (intmax_t)st->st_size);
    ctl_cell(table, "%s", ctl_time_text(st->st_mtime, when, sizeof(when)));
    if (entry->target)
        ctl_cell(table, "%s -> %s", entry->name, entry->target);
    else
        ctl_cell(table, "%s", entry->name);
}

static void print_long(const struct listing *listing)
{
    /* Without titles, as everybody knows it. */
    static const struct ctl_column columns[] = {
        { NULL, false }, { NULL, true },  { NULL, false }, { NULL, false },
        { NULL, true },  { NULL, false }, { NULL, false },
    };
    struct ctl_table table = { .columns = columns, .ncolumns = sizeof(columns) / sizeof(columns[0]) };

    for (size_t i = 0; i < listing->n; i++)
        add_row(&table, &listing->entry[i]);
    ctl_table_print(&table);
}

static void print_json(const struct listing *listing)
{
    struct json_object *whole = ctl_json_object(), *array = ctl_json_array();

    for (size_t i = 0; i < listing->n; i++) {
        const struct entry *entry = &listing->entry[i];
        struct json_object *object = ctl_json_object();

        ctl_json_text(object, "name", entry->name);
        ctl_json_stat(object, &entry->st);
        if (entry->target)
            ctl_json_text(object, "target", entry->target);
        ctl_json_append(array, object);
    }
    ctl_json_put(whole, "entries", array);
    ctl_json_print(whole);
}

static void print_names(const struct listing *listing)
{
    bool terminal = isatty(STDOUT_FILENO); /* who reads from a pipe wants the very bytes */

    for (size_t i = 0; i < listing->n; i++)
        puts(terminal ? ctl_clean(listing->entry[i].name) : listing->entry[i].name);
}

static int run(const struct ctl_call *call)
{
    struct listing listing = { .status = CTL_OK };

    read_listing(call, call->npaths > 0 ? call->paths[0] : "/", &listing);
    if (call->json)
        print_json(&listing);
    else if ((call->options & OPTION_LONG) != 0)
        print_long(&listing);
    else
        print_names(&listing);
    for (size_t i = 0; i < listing.n; i++) {
        free(listing.entry[i].name);
        free(listing.entry[i].target);
    }
    free(listing.entry);
    return listing.status;
}

const struct ctl_command ctl_ls = {
    .name = "ls",
    .usage = "Usage: shmfsctl ls [options] WHERE [PATH]\n"
             "Lists the directory at PATH in a region (without it: the root), sorted by name.\n"
             "\n"
             "  -a, --all      also names that begin with a dot\n"
             "  -l, --long     with mode, links, owner, group, size and time of change\n" CTL_USAGE_JSON
                 CTL_USAGE_COMMON,
    .options = { { 'a', "all", OPTION_ALL }, { 'l', "long", OPTION_LONG } },
    .max_paths = 1,
    .run = run,
};
