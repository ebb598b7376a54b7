/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_CTL_H
#define SHMFS_CTL_H

/*
 * shmfsctl: what its sub-commands share. Each of these is a struct ctl_command in a file of its own
 * (ctl_NAME.c), and is named in the list in ctl.c, which reads the options, attaches, runs it and
 * detaches.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

#include <json-c/json.h>

#include "node.h"
#include "shmfs.h"

enum {
    CTL_OK = 0,
    CTL_FAILED = 1,
    CTL_USAGE = 2,
    CTL_PARTLY = 3,   /* what could be saved was restored; something is missing */
    CTL_SIGNAL = 128, /* and the number of the signal that ends us */
};

/* What WHERE is, and what is needed of it. */
enum ctl_way {
    CTL_LOOKS,  /* a region, attached read-only */
    CTL_WRITES, /* a region, attached to be written */
    CTL_IMAGE,  /* an image: nothing is attached */
};

/* An option without a value; bit is what it sets in ctl_call.options. */
struct ctl_option {
    char letter;
    const char *name;
    unsigned bit;
};

/* What a sub-command is called with. */
struct ctl_call {
    const char *where;
    struct shmfs *fs;
    unsigned options;
    bool json;
    char **paths; /* what follows WHERE; NULL at the end */
    int npaths;
};

struct ctl_command {
    const char *name;  /* one word, or two with a space between them */
    const char *usage; /* what --help prints */
    enum ctl_way way;
    struct ctl_option options[4]; /* its own, up to one without a name */
    bool no_json;
    int min_paths, max_paths;
    int (*run)(const struct ctl_call *call); /* an exit status */
};

extern const struct ctl_command ctl_cat, ctl_df, ctl_image_info, ctl_image_verify, ctl_info, ctl_locks,
    ctl_ls, ctl_ps, ctl_restore, ctl_snapshot, ctl_stat;

/* The options that every sub-command has, for its usage. */
#define CTL_USAGE_JSON "  -j, --json     print JSON\n"
#define CTL_USAGE_COMMON \
    "  -h, --help     show this and exit\n" \
    "  -V, --version  show the version and exit\n"

/* ---- saying things (ctl_say.c) ------------------------------------------------------------------ */

/* One line on stderr, with our name before it; cleaned as by ctl_clean(). */
__attribute__((format(printf, 1, 2))) void ctl_warn(const char *format, ...);
__attribute__((format(printf, 2, 3), noreturn)) void ctl_die(int status, const char *format, ...);
/* What the negative errno R means for an object in a region, and what can be done about it. */
const char *ctl_reason(int r);
/* The same as a whole line, for a file (a region, an image) that a function with a diag refused. */
void ctl_warn_of(const char *path, const struct shmfs_diag *diag, int r);

/* Bytes of the character that TEXT begins with, by UTF-8 (RFC 3629); 0: what it begins with is none. */
size_t ctl_character(const char *text);
/* Makes '?' of control characters, which would talk to the terminal, and of what is no UTF-8. Returns TEXT. */
char *ctl_clean(char *text);

/* As ps(1) shows ELAPSED: [[DD-]HH:]MM:SS. Returns buf. */
const char *ctl_elapsed_text(uint64_t seconds, char *buf, size_t n);
/* Bytes a second: "310M", of BYTES in NS. Returns buf. */
const char *ctl_rate_text(uint64_t bytes, uint64_t ns, char *buf, size_t n);
uint64_t ctl_rate(uint64_t bytes, uint64_t ns);
/* "740us", "12ms", "3.2s", and from a minute on as above. Returns buf. */
const char *ctl_age_text(uint64_t ns, char *buf, size_t n);
/* "2026-01-31 12:59:00", of the time zone here. Returns buf. */
const char *ctl_time_text(int64_t seconds, char *buf, size_t n);
/* The user's (or group's) name, or its number where it has none. Returns buf. */
const char *ctl_user_text(uid_t uid, char *buf, size_t n);
const char *ctl_group_text(gid_t gid, char *buf, size_t n);
/* As ls -l: "drwxr-xr-x". Returns buf. */
const char *ctl_mode_text(mode_t mode, char buf[11]);
const char *ctl_uuid_text(const uint8_t uuid[16], char buf[37]);
/* "file", "directory", ...: one word. */
const char *ctl_type_text(mode_t mode);

/* ---- tables (ctl_table.c) ----------------------------------------------------------------------- */

struct ctl_column {
    const char *title;
    bool right; /* numbers */
};
struct ctl_table {
    const struct ctl_column *columns;
    size_t ncolumns;
    char **cells; /* row after row */
    size_t ncells, room;
};
/* The next cell, from left to right and from the top down. */
__attribute__((format(printf, 2, 3))) void ctl_cell(struct ctl_table *table, const char *format, ...);
/* Prints it, with titles unless there are none, and frees what it held. */
void ctl_table_print(struct ctl_table *table);

/* ---- JSON (ctl_json.c) -------------------------------------------------------------------------- */

/* All die when memory is out, so that nothing is silently left out. */
struct json_object *ctl_json_object(void);
struct json_object *ctl_json_array(void);
void ctl_json_put(struct json_object *to, const char *key, struct json_object *value);
void ctl_json_append(struct json_object *array, struct json_object *value);
void ctl_json_number(struct json_object *to, const char *key, uint64_t value);
void ctl_json_bool(struct json_object *to, const char *key, bool value);
void ctl_json_null(struct json_object *to, const char *key);
/* "2026-01-31T12:59:00Z": RFC 3339. */
void ctl_json_time(struct json_object *to, const char *key, int64_t seconds);
/* The same with nanoseconds. */
void ctl_json_timespec(struct json_object *to, const char *key, struct timespec ts);
/* Attributes that ls and stat both show. */
void ctl_json_stat(struct json_object *to, const struct stat *st);
/*
 * Text of a region may be any bytes, but JSON is UTF-8: where it is none, what is wrong becomes U+FFFD, and
 * all of it stands as hexadecimal digits under KEY_hex.
 */
void ctl_json_text(struct json_object *to, const char *key, const char *text);
/* Prints and frees it. */
void ctl_json_print(struct json_object *object);

/* ---- processes (ctl_process.c) ------------------------------------------------------------------ */

/*
 * "dead": not buried yet; "stopped": by a signal or a debugger; "running"; "alive" where no more can be
 * seen from here (another PID namespace, a hidden /proc).
 */
const char *ctl_process_state(const struct shmfs_process *process);
/* The name of a process of our PID namespace; false where there is none to be seen. */
bool ctl_process_name(uint32_t pid, char *ret_name, size_t n);

/* ---- locks (ctl_lock.c) ------------------------------------------------------------------------- */

bool ctl_lock_is_library(const struct shmfs_lock *lock);
const char *ctl_lock_kind(const struct shmfs_lock *lock);
/* What its id is the number of: "inode", "group", "slot"; NULL for the one of its kind. */
const char *ctl_lock_of(const struct shmfs_lock *lock);
struct ctl_locks {
    struct shmfs_lock *lock;
    size_t n, room;
};
/* All that are held now, or those that KEEP wants. Dies on failure. */
void ctl_locks_read(const struct ctl_call *call, bool (*keep)(const struct shmfs_lock *lock),
                    struct ctl_locks *ret);

/* ---- long work (ctl_progress.c) ----------------------------------------------------------------- */

struct ctl_progress {
    struct shmfs_progress steps; /* for the library */
    const char *what;
    bool terminal;      /* somebody sees it */
    bool drawn;         /* a line is on the screen */
    uint64_t begun;     /* ns, as the next two */
    uint64_t turn;      /* when what is counted was begun */
    uint64_t last_draw; /* or when it all began: what is done at once shows nothing */
    uint64_t last_done; /* bytes */
};
/*
 * From here on SIGINT and SIGTERM make the library's call end with -ECANCELED, at its next step; the second
 * of a kind ends the program at once.
 */
void ctl_progress_begin(struct ctl_progress *progress, const char *what, const struct ctl_call *call);
/* Takes the line off the screen: before anything else is printed. */
void ctl_progress_clear(struct ctl_progress *progress);
/* The same at the end. Returns the nanoseconds since the beginning. */
uint64_t ctl_progress_end(struct ctl_progress *progress);
/* The signal that came; 0: none. */
int ctl_progress_signal(void);

/* ---- images (ctl_image.c) ----------------------------------------------------------------------- */

/* Dies unless IMAGE is a file; what is missing is let pass where MAY_BE_MISSING. */
void ctl_image_must_be(const char *image, bool may_be_missing);
/* Links are not followed, as the library does not. */
bool ctl_same_file(const char *a, const char *b);
/* Is WHY a thing to be said of the image, and not of the region? */
bool ctl_image_is_meant(const struct shmfs_diag *why, int r);

/* What is told of damage: lines on stderr, or members of an array. */
struct ctl_damage {
    const char *image;
    struct ctl_progress *progress;
    struct json_object *list; /* NULL: lines */
};
/* For struct shmfs_restore; ARG is a struct ctl_damage. */
void ctl_damage_told(void *arg, const char *path, const char *text);

/* ---- paths (ctl_path.c) ------------------------------------------------------------------------- */

struct ctl_path {
    uint32_t ino;
    char *path; /* NULL: it has no name, or none was found */
};
/* Walks the tree until each of the N inodes has its path. Says where it could not look. */
void ctl_paths_find(struct shmfs *fs, struct ctl_path *wanted, size_t n);

#endif
