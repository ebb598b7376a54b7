/* SPDX-License-Identifier: MIT */
#ifndef EXERCISE_H
#define EXERCISE_H

/*
 * What exercise.c and its parts share. There is one file, and what must be in it (the model). Each operation is drawn,
 * noted, done by one side, and done to the model; then the file must be as the model says.
 */
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "litmus_face.h"

enum {
    PAGE = 4096,
    LIMIT = 256 << 10, /* no file is larger, and so no offset; four times what the library writes at once */
    HISTORY = 30,
    HISTORY_TEXT = 160,
    KINDS = 32,
};

enum way { WAY_MOUNT, WAY_DIRECT, WAY_BOTH, WAY_TMPFS };
enum cache { CACHE_COHERENT, CACHE_NONE, CACHE_WRITEBACK };

/* One way to the file. Of the handles only the first is there directly: it needs no other. */
struct side {
    const char *name;
    struct face face;
    struct handle file, appending, unbuffered; /* O_RDWR; with O_APPEND; with O_DIRECT */
    char *held;                                /* a mapping that stays while other things are done */
    size_t held_off, held_len;
};

/* What mtime and ctime must do during an operation. */
enum times { TIMES_STAY, TIMES_MOVE, TIMES_MAY };

struct exercise {
    enum way way;
    enum cache cache;
    uint64_t seed, ops;
    const char *only;

    uint64_t rng, done; /* operations that are over */
    struct side sides[2];
    unsigned nsides;
    const struct side *by; /* of the present operation */
    int twin;              /* a file on tmpfs, to ask what is refused there, and how */

    char model[LIMIT]; /* zeros behind the end */
    size_t size;
    struct timespec mtime, ctime; /* as last seen */
    size_t from, to;              /* what the present operation may have changed */
    enum times times;

    char scratch[LIMIT + PAGE]
        __attribute__((aligned(PAGE))); /* LIMIT, and one byte to see that there is no more */
    uint64_t counts[KINDS];
    char history[HISTORY][HISTORY_TEXT];
    bool failed;
    sigjmp_buf on_fault; /* where a SIGBUS ends */
    const char *fault_at;
};

/* A kind of operation. It draws, notes, does and answers for the result; false: not now, draw another. */
struct exercise_kind {
    const char *name;
    bool (*run)(struct exercise *x, struct side *s);
    unsigned weight;
    unsigned where; /* FOR_*: sides that have it */
};
enum { FOR_MOUNT = 1, FOR_DIRECT = 2, FOR_TMPFS = 4, FOR_FD = FOR_MOUNT | FOR_TMPFS, FOR_ALL = 7 };

extern const struct exercise_kind exercise_data[], exercise_shape[]; /* up to one without a name */

/* ---- exercise.c ------------------------------------------------------------------------------------ */

uint64_t draw(struct exercise *x, uint64_t n); /* 0 .. n - 1 */
static inline bool chance(struct exercise *x, uint64_t n)
{
    return draw(x, n) == 0;
}
/* For the history: what will be done now. */
void note(struct exercise *x, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The first that differs is told, and ends the run. */
void differs(struct exercise *x, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* True if the call gave what it should. */
bool gave(struct exercise *x, const char *call, long got, long want);
/* Tells where bytes differ from those of the model at `off`. */
void same(struct exercise *x, const struct side *s, const char *what, const char *seen, size_t off, size_t n);

/* ---- exercise_model.c ------------------------------------------------------------------------------ */

void model_write(struct exercise *x, size_t off, const char *src, size_t n);
void model_zero(struct exercise *x, size_t from, size_t to); /* what lies behind the end stays there */
void model_resize(struct exercise *x, size_t size);
/* The whole file by this side and, with two of them, at times by both. */
void check(struct exercise *x);
/* After a failure: says what each side has in the file now. */
void look_again(struct exercise *x);

/* ---- exercise_data.c ------------------------------------------------------------------------------- */

bool knows_end(struct exercise *x, const struct side *s);

/* ---- exercise_world.c ------------------------------------------------------------------------------ */

/* A region, its mount, an attach, as the way needs them; 0, 77 where there is no mounting, or 1. */
int world_open(struct exercise *x);
/* Ends it all, and checks the region. 0 or 1. */
int world_close(struct exercise *x);
/* The handles of a side; what is mapped stays. False: told. */
bool side_open(struct exercise *x, struct side *s, int more_flags);
bool side_close(struct exercise *x, struct side *s);

extern const char exercise_file[], exercise_other[];

#endif
