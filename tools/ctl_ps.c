/* SPDX-License-Identifier: MIT */
/* shmfsctl ps: who is attached, and who keeps others waiting. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ctl.h"

/*
 * The library's own locks are held for microseconds. One that somebody has been seen waiting for is what
 * a stalled process is known by.
 */
static bool is_waited_for(const struct shmfs_lock *lock)
{
    return ctl_lock_is_library(lock) && lock->held_ns > 0;
}

static bool is_of(const struct shmfs_lock *lock, const struct shmfs_process *process)
{
    return process->holds > 0 && lock->owner.pid == process->pid &&
           lock->owner.start_time == process->start_time && lock->owner.attached == process->attached;
}

static uint64_t elapsed(const struct shmfs_process *process)
{
    int64_t now = time(NULL);

    return now > process->attached ? (uint64_t)(now - process->attached) : 0; /* the clock may be set back */
}

/* "inode 12 for 3.2s, group 0 for 3.2s", or "-". The caller frees it. */
static char *holding_text(const struct ctl_locks *locks, const struct shmfs_process *process)
{
    char *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);

    for (size_t i = 0; out && i < locks->n; i++) {
        const struct shmfs_lock *lock = &locks->lock[i];
        const char *of = ctl_lock_of(lock);
        char age[32];

        if (!is_of(lock, process))
            continue;
        fprintf(out, "%s%s", ftell(out) > 0 ? ", " : "", ctl_lock_kind(lock));
        if (of && strcmp(of, ctl_lock_kind(lock)) != 0)
            fprintf(out, " of %s", of);
        if (of)
            fprintf(out, " %u", lock->id);
        fprintf(out, " for %s", ctl_age_text(lock->held_ns, age, sizeof(age)));
    }
    if (!out || (ftell(out) == 0 && fputc('-', out) == EOF) || fclose(out) != 0)
        ctl_die(CTL_FAILED, "not enough memory");
    return text;
}

static void add_row(struct ctl_table *table, const struct ctl_locks *locks,
                    const struct shmfs_process *process)
{
    char user[64], since[32];
    char *holding = holding_text(locks, process);

    ctl_cell(table, "%u", process->pid);
    ctl_cell(table, "%s", ctl_user_text(process->uid, user, sizeof(user)));
    ctl_cell(table, "%.32s", process->name);
    ctl_cell(table, "%s", ctl_elapsed_text(elapsed(process), since, sizeof(since)));
    ctl_cell(table, "%s", process->driver ? "driver" : "-");
    ctl_cell(table, "%s", ctl_process_state(process));
    ctl_cell(table, "%u", process->opens);
    ctl_cell(table, "%u", process->pins);
    ctl_cell(table, "%u", process->ranges);
    ctl_cell(table, "%u", process->holds);
    ctl_cell(table, "%s", holding);
    free(holding);
}

static struct json_object *holding_json(const struct ctl_locks *locks, const struct shmfs_process *process)
{
    struct json_object *array = ctl_json_array();

    for (size_t i = 0; i < locks->n; i++) {
        const struct shmfs_lock *lock = &locks->lock[i];
        struct json_object *object;

        if (!is_of(lock, process))
            continue;
        object = ctl_json_object();
        ctl_json_put(object, "kind", json_object_new_string(ctl_lock_kind(lock)));
        if (ctl_lock_of(lock))
            ctl_json_number(object, ctl_lock_of(lock), lock->id);
        ctl_json_number(object, "held_ns", lock->held_ns);
        ctl_json_append(array, object);
    }
    return array;
}

static void add_json(struct json_object *array, const struct ctl_locks *locks,
                     const struct shmfs_process *process)
{
    struct json_object *object = ctl_json_object();
    char user[64], name[33];

    snprintf(name, sizeof(name), "%.32s", process->name);
    ctl_json_number(object, "pid", process->pid);
    ctl_json_number(object, "uid", process->uid);
    ctl_json_text(object, "user", ctl_user_text(process->uid, user, sizeof(user)));
    ctl_json_text(object, "name", name);
    ctl_json_time(object, "attached", process->attached);
    ctl_json_number(object, "elapsed", elapsed(process));
    ctl_json_bool(object, "driver", process->driver);
    ctl_json_put(object, "state", json_object_new_string(ctl_process_state(process)));
    ctl_json_bool(object, "same_namespace", process->same_ns);
    ctl_json_number(object, "threads", process->slots);
    ctl_json_number(object, "opens", process->opens);
    ctl_json_number(object, "pins", process->pins);
    ctl_json_number(object, "locks", process->ranges);
    ctl_json_number(object, "holds", process->holds);
    ctl_json_put(object, "holding", holding_json(locks, process));
    ctl_json_append(array, object);
}

static int run(const struct ctl_call *call)
{
    static const struct ctl_column columns[] = {
        { "PID", true },   { "USER", false },  { "NAME", false },    { "ELAPSED", true },
        { "ROLE", false }, { "STATE", false }, { "OPENS", true },    { "PINS", true },
        { "LOCKS", true }, { "HOLDS", true },  { "HOLDING", false },
    };
    struct ctl_table table = { .columns = columns, .ncolumns = sizeof(columns) / sizeof(columns[0]) };
    struct json_object *array = call->json ? ctl_json_array() : NULL;
    struct shmfs_process process;
    struct ctl_locks locks;
    uint32_t cursor = 0;
    size_t n = 0;
    int r;

    ctl_locks_read(call, is_waited_for, &locks);
    for (; (r = shmfs_region_next_process(call->fs, &cursor, &process)) > 0; n++) {
        if (call->json)
            add_json(array, &locks, &process);
        else
            add_row(&table, &locks, &process);
    }
    free(locks.lock);
    if (r < 0)
        ctl_die(CTL_FAILED, "%s: its processes cannot be read: %s", call->where, ctl_reason(r));

    if (call->json) {
        struct json_object *object = ctl_json_object();
        ctl_json_put(object, "processes", array);
        ctl_json_print(object);
    } else if (n == 0) {
        ctl_warn("%s: no process is attached", call->where);
    } else {
        ctl_table_print(&table);
    }
    return CTL_OK;
}

const struct ctl_command ctl_ps = {
    .name = "ps",
    .usage = "Usage: shmfsctl ps [options] WHERE\n"
             "Shows the processes that are attached to a region; not those that only read it, as this does.\n"
             "\n" CTL_USAGE_JSON CTL_USAGE_COMMON "\n"
             "  ELAPSED  time since the attach: [[DD-]HH:]MM:SS\n"
             "  ROLE     driver: it serves the mount\n"
             "  STATE    running; stopped, by a signal or a debugger; dead, and not cleaned up after yet;\n"
             "           alive, where no more can be seen from here\n"
             "  OPENS    open files\n"
             "  PINS     mapped pieces of files\n"
             "  LOCKS    flock and fcntl locks\n"
             "  HOLDS    locks within the region at this moment, usually for microseconds\n"
             "  HOLDING  those of them that others wait for, and for how long at least. If its process is\n"
             "           stopped, continue it ('kill -CONT PID') or end it ('kill -KILL PID'): what it held\n"
             "           is given back, and nothing is left half-done\n",
    .run = run,
};
