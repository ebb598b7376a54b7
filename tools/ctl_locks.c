/* SPDX-License-Identifier: MIT */
/* shmfsctl locks: what is locked, and by whom. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

enum { OPTION_PATHS = 1 };

static bool has_range(const struct shmfs_lock *lock)
{
    return lock->kind == SHMFS_LOCK_POSIX || lock->kind == SHMFS_LOCK_OFD;
}

static bool is_of_inode(const struct shmfs_lock *lock)
{
    const char *of = ctl_lock_of(lock);

    return of && strcmp(of, "inode") == 0;
}

/*
 * The owner's name. Under a mount the owner is a program that is not attached itself: its name comes from
 * /proc, where its pid means the same to us.
 */
static const char *owner_name(const struct shmfs_lock *lock, char buf[33])
{
    const struct shmfs_process *attached = &lock->owner;

    snprintf(buf, 33, "%.32s", attached->name);
    if (lock->pid != attached->pid && (!attached->same_ns || !ctl_process_name(lock->pid, buf, 33)))
        snprintf(buf, 33, "?");
    return buf;
}

/* Paths of the inodes that locks are on, in the order of the locks; or NULL where nobody asked. */
static struct ctl_path *find_paths(const struct ctl_call *call, const struct ctl_locks *locks)
{
    struct ctl_path *paths, *wanted;
    size_t n = 0;

    if ((call->options & OPTION_PATHS) == 0)
        return NULL;
    paths = calloc(locks->n + 1, sizeof(*paths));
    wanted = calloc(locks->n + 1, sizeof(*wanted));
    if (!paths || !wanted)
        ctl_die(CTL_FAILED, "%s", strerror(ENOMEM));
    for (size_t i = 0; i < locks->n; i++)
        if (is_of_inode(&locks->lock[i]))
            wanted[n++].ino = locks->lock[i].id;
    ctl_paths_find(call->fs, wanted, n);
    n = 0;
    for (size_t i = 0; i < locks->n; i++)
        if (is_of_inode(&locks->lock[i]))
            paths[i] = wanted[n++];
    free(wanted);
    return paths;
}

static void add_row(struct ctl_table *table, const struct shmfs_lock *lock)
{
    char name[33], age[32];

    ctl_cell(table, "%s", ctl_lock_kind(lock));
    if (ctl_lock_of(lock))
        ctl_cell(table, "%s %" PRIu32, ctl_lock_of(lock), lock->id);
    else
        ctl_cell(table, "-");
    ctl_cell(table, "%s", lock->write ? "WRITE" : "READ");
    if (!has_range(lock)) {
        ctl_cell(table, "-");
        ctl_cell(table, "-");
    } else {
        ctl_cell(table, "%" PRIu64, lock->start);
        if (lock->end == UINT64_MAX)
            ctl_cell(table, "EOF");
        else
            ctl_cell(table, "%" PRIu64, lock->end);
    }
    ctl_cell(table, "%" PRIu32, lock->pid);
    ctl_cell(table, "%s", owner_name(lock, name));
    /* Nobody waits for it: then it is not known since when it is held, but it is not for long. */
    ctl_cell(table, "%s",
             ctl_lock_is_library(lock) && lock->held_ns == 0 ? "-"
                                                             : ctl_age_text(lock->held_ns, age, sizeof(age)));
}

static void print_table(const struct ctl_locks *locks, const struct ctl_path *paths)
{
    static const struct ctl_column columns[] = {
        { "KIND", false }, { "WHAT", false }, { "MODE", false }, { "START", true }, { "END", true },
        { "PID", true },   { "NAME", false }, { "AGE", true },   { "PATH", false },
    };
    struct ctl_table table = { .columns = columns, .ncolumns = paths ? 9 : 8 };

    for (size_t i = 0; i < locks->n; i++) {
        add_row(&table, &locks->lock[i]);
        if (paths)
            ctl_cell(&table, "%s", paths[i].path ? paths[i].path : "-");
    }
    ctl_table_print(&table);
}

static struct json_object *lock_json(const struct shmfs_lock *lock)
{
    struct json_object *object = ctl_json_object(), *attached = ctl_json_object();
    char name[33];

    ctl_json_put(object, "kind", json_object_new_string(ctl_lock_kind(lock)));
    ctl_json_bool(object, "library", ctl_lock_is_library(lock));
    if (ctl_lock_of(lock))
        ctl_json_number(object, ctl_lock_of(lock), lock->id);
    ctl_json_put(object, "mode", json_object_new_string(lock->write ? "write" : "read"));
    if (has_range(lock)) {
        ctl_json_number(object, "start", lock->start);
        if (lock->end == UINT64_MAX)
            ctl_json_null(object, "end");
        else
            ctl_json_number(object, "end", lock->end);
    }
    ctl_json_number(object, "pid", lock->pid);
    ctl_json_text(object, "name", owner_name(lock, name));
    ctl_json_number(object, "held_ns", lock->held_ns);
    snprintf(name, sizeof(name), "%.32s", lock->owner.name);
    ctl_json_number(attached, "pid", lock->owner.pid);
    ctl_json_text(attached, "name", name);
    ctl_json_bool(attached, "driver", lock->owner.driver);
    ctl_json_put(attached, "state", json_object_new_string(ctl_process_state(&lock->owner)));
    ctl_json_put(object, "process", attached);
    return object;
}

static void print_json(const struct ctl_locks *locks, const struct ctl_path *paths)
{
    struct json_object *whole = ctl_json_object(), *array = ctl_json_array();

    for (size_t i = 0; i < locks->n; i++) {
        struct json_object *object = lock_json(&locks->lock[i]);

        if (paths && paths[i].path)
            ctl_json_text(object, "path", paths[i].path);
        else if (paths)
            ctl_json_null(object, "path");
        ctl_json_append(array, object);
    }
    ctl_json_put(whole, "locks", array);
    ctl_json_print(whole);
}

static int run(const struct ctl_call *call)
{
    struct ctl_locks locks;
    struct ctl_path *paths;

    ctl_locks_read(call, NULL, &locks);
    paths = find_paths(call, &locks);
    if (call->json)
        print_json(&locks, paths);
    else if (locks.n == 0)
        ctl_warn("%s: no locks are held", call->where);
    else
        print_table(&locks, paths);

    for (size_t i = 0; paths && i < locks.n; i++)
        free(paths[i].path);
    free(paths);
    free(locks.lock);
    return CTL_OK;
}

const struct ctl_command ctl_locks = {
    .name = "locks",
    .usage =
        "Usage: shmfsctl locks [options] WHERE\n"
        "Shows the locks that are held in a region.\n"
        "\n"
        "  -p, --paths    show a path of each locked file; walks the tree until all are "
        "found\n" CTL_USAGE_JSON CTL_USAGE_COMMON "\n"
        "  KIND   posix and ofd (fcntl) and flock: locks of programs; rename, inode, group and recovery:\n"
        "         the region's own, usually held for microseconds\n"
        "  WHAT   what is locked, with its number\n"
        "  START  the first byte that is locked, and END the last one; EOF: to the end of the file\n"
        "  PID    of the owner; under a mount, of the program that locked\n"
        "  AGE    since when; for the region's own: for how long at least others have waited\n",
    .options = { { 'p', "paths", OPTION_PATHS } },
    .run = run,
};
