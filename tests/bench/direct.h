/* SPDX-License-Identifier: MIT */
#ifndef DIRECT_H
#define DIRECT_H

/*
 * direct compares calls of libshmfs with the system calls of the same purpose on a tmpfs.
 *
 * An operation is a table of steps, and has two sides that do the same to the same names:
 *
 *     prep  { setup  run  finish }...  clean
 *
 * Only `run` is timed, as a whole; whatever it needs (names, buffers, files) was made before. The
 * working directory of the process is a directory on tmpfs that stands for the root of the filesystem
 * in the region, so that both sides are given the same relative paths.
 */
#include <errno.h>
#include <shmfs.h>
#include <stdbool.h>
#include <stdint.h>

enum side { TMPFS, DIRECT, SIDES };

enum {
    NAMES = 2048,
    NAME_SIZE = 64,
    FEW = 64, /* files that are used in turn where nothing is made or removed */
    BLOCK = 4096,
    LARGE = 1 << 20,
    DIRECTORY = 10000,   /* entries of the one that is listed */
    APPENDS_FRESH = 512, /* of a batch to a file that stays */
};

/* What one process works with. */
struct bench {
    struct shmfs *fs;
    const char *prefix;                             /* of all names: "", or the process's own directory */
    int fd;                                         /* of an operation's file, or -1 */
    struct shmfs_file *file;                        /* its counterpart, or NULL */
    unsigned char *buf, *other;                     /* of LARGE bytes, page-aligned and touched */
    char (*names)[NAME_SIZE], (*others)[NAME_SIZE]; /* NAMES of each */
    struct stat st;                                 /* of the last stat */
    uint64_t serial;                                /* seed of the bytes written last */
    bool disturbed;        /* somebody else was given the CPU within what was timed */
    unsigned files[SIDES]; /* made so far, where they stay until the end */
};

struct op {
    const char *name;
    const char *what;
    double target;  /* how many times as fast as tmpfs it is meant to be; 0: none */
    unsigned count; /* operations of a batch */
    void (*prep)(struct bench *b, enum side side);
    void (*setup)(struct bench *b, enum side side);
    void (*run[SIDES])(struct bench *b, unsigned n);
    void (*finish)(struct bench *b, enum side side, unsigned n); /* n as of the run: looks at what it did */
    void (*clean)(struct bench *b, enum side side);
    bool keeps;   /* memory is not used again: a batch for each round, and no more */
    bool repeats; /* run may follow run: so it is warmed up before it is timed */
};

extern const struct op ops_name[], ops_data[]; /* each ends with a NULL name */
const struct op *op_find(const char *name);

#define die(...) direct_die(__FILE__, __LINE__, __VA_ARGS__)
/* Says what happened, with the reason ERROR unless that is 0, and ends this process. */
_Noreturn void direct_die(const char *file, int line, int error, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The value of a system call, or of a call of the library; where that has failed it ends the program. */
static inline long sys(long value, const char *what)
{
    if (__builtin_expect(value < 0, 0))
        die(errno, "tmpfs: %s", what);
    return value;
}

static inline long lib(long value, const char *what)
{
    if (__builtin_expect(value < 0, 0))
        die((int)-value, "direct: %s", what);
    return value;
}

uint64_t now(void); /* ns */
void pin(int cpu);

/* ---- one process: direct_work.c ---- */

void bench_open(struct bench *ret, const char *region, const char *dir, const char *prefix);
void bench_close(struct bench *b);

/* The same on either side. Not for what is timed. */
void make_directory(struct bench *b, enum side side, const char *name);
void remove_directory(struct bench *b, enum side side, const char *name);
void make_file(struct bench *b, enum side side, const char *name, size_t size); /* of bytes_make(.., size) */
void remove_file(struct bench *b, enum side side, const char *name);
void open_file(struct bench *b, enum side side, const char *name, int oflags);
void close_file(struct bench *b, enum side side);
void read_other(struct bench *b, enum side side, size_t n, off_t off); /* of the open file, into b->other */
bool look(struct bench *b, enum side side, const char *name, struct stat *ret_st); /* whether it is there */

/* PREFIX of the process, then WORD and a number from `from` on. */
void names_make(struct bench *b, char (*ret)[NAME_SIZE], const char *word, unsigned from, unsigned n);
/* The process's own prefix, then WORD. */
const char *name_of(struct bench *b, const char *word);

/* Bytes that depend on the seed and their place. */
void bytes_make(unsigned char *buf, size_t n, uint64_t seed);
void bytes_compare(const unsigned char *got, const unsigned char *wanted, size_t n, enum side side,
                   const char *op);

/* ---- measuring: direct.c ---- */

/*
 * One batch of count operations of one side; its time in ns. go, unless NULL, is called right before it. Sets
 * b->disturbed if the process lost its CPU meanwhile.
 */
uint64_t batch(const struct op *op, struct bench *b, enum side side, unsigned count, void (*go)(void *),
               void *arg);
void both_sides(struct bench *b, void (*step)(struct bench *b, enum side side));
bool wanted(const char *name); /* by the command line */

/* ---- two processes against one: direct_pair.c ---- */

struct report;
/* Adds its lines to the report. Nothing may be attached to the region. */
void pairs_measure(const char *region, const char *dir, const int cpus[2], struct report *report);

/* ---- figures: direct_report.c ---- */

enum {
    LINES_MAX = 32,
    ROUNDS_MAX = 2001,
    PATIENCE = 4, /* so many times as many rounds may be disturbed before they count nevertheless */
};

struct spread {
    double q1, median, q3;
};

struct line {
    const char *name, *what;
    double target;
    struct spread ns[SIDES]; /* of one operation; unused in lines of two processes */
    struct spread
        ratio[SIDES]; /* [DIRECT]: how many times as fast as tmpfs; of two processes: their throughput
                                   by that of one, on each side */
    bool pair;
};

struct report {
    struct line lines[LINES_MAX];
    unsigned n, rounds;
    unsigned repeated; /* rounds that were disturbed, and so measured again */
};

struct spread spread_of(double *values, unsigned n); /* sorts them */
struct line *report_add(struct report *report, const struct op *op, const char *name, bool pair);
void report_text(const struct report *report);
void report_markdown(const struct report *report);

#endif
