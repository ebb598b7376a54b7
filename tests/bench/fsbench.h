/* SPDX-License-Identifier: MIT */
#ifndef FSBENCH_H
#define FSBENCH_H

/*
 * fsbench measures file operations on a directory. An operation is a table of five steps, of which
 * only `run` is timed:
 *
 *     prep  { setup  run  finish }...  clean
 *
 * Each process has its own struct state and its own directory; setup, run and finish of all processes
 * begin together. Whatever is not as it should be ends the program with a message (see die()).
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BUF_SIZE = 1 << 20, NAMES = 256, NAME_SIZE = 48 };

struct state {
    int dir;                                        /* this process's own directory */
    const char *mount;                              /* the mount point */
    unsigned id;                                    /* which process: 0, 1, ... */
    unsigned long entries;                          /* of the directory, for the operations that have one */
    int fd;                                         /* of an operation's file, or -1 */
    unsigned char *buf;                             /* of BUF_SIZE bytes, page-aligned */
    uint64_t random;                                /* state of next_random() */
    uint64_t serial;                                /* for names never used before */
    uint64_t offset;                                /* of this batch in the file */
    char (*names)[NAME_SIZE], (*others)[NAME_SIZE]; /* NAMES of each, of this batch */
};

struct op {
    const char *name;
    const char *what;
    void (*prep)(struct state *s);
    void (*setup)(struct state *s);
    unsigned long (*run)(struct state *s); /* how many operations that were */
    void (*finish)(struct state *s);
    void (*clean)(struct state *s);
    bool drop; /* before each batch the kernel forgets the names of the mount */
};

extern const struct op ops_data[], ops_name[], ops_list[]; /* each ends with a NULL name */

#define die(...) fsbench_die(__FILE__, __LINE__, __VA_ARGS__)
/* Says what happened, with errno, and ends this process. */
_Noreturn void fsbench_die(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

uint64_t next_random(struct state *s);

/* "PREFIX.NUMBER"; made outside of what is timed, for it takes as long as a system call. */
void name_make(char ret[NAME_SIZE], const char *prefix, uint64_t number);
/* NAMES of them in s->names, from this number on. */
void names_make(struct state *s, const char *prefix, uint64_t number);

/* A regular file of `size` bytes of the pattern that pattern_check() knows. */
void make_file(struct state *s, const char *name, size_t size);
void make_empty(struct state *s, char (*names)[NAME_SIZE], unsigned n);
void remove_files(struct state *s, char (*names)[NAME_SIZE], unsigned n);
void must_exist(struct state *s, const char *name, bool exists);

/* Every byte depends on its place in the first MiB, and both ends of each page on the offset in the file. */
void pattern_fill(unsigned char *buf, size_t n);
void pattern_stamp(unsigned char *buf, size_t n, uint64_t offset);
void pattern_check(const unsigned char *buf, size_t n, uint64_t offset, const char *what);

#endif
