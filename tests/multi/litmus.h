/* SPDX-License-Identifier: MIT */
#ifndef LITMUS_H
#define LITMUS_H

/*
 * What litmus.c and its parts share. A team is a few processes (actors), each attached to the region and with the
 * mount at hand. They go through the same rounds: whatever is drawn in a round's plan, each of them draws for
 * itself, and the same. One of them is the round's writer; the tokens between them say when, and what the
 * filesystem looked like when the writer's call had returned.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "litmus_face.h"

enum {
    LITMUS_TEAMS = 16,
    LITMUS_ACTORS = 4, /* of a team */
    LITMUS_KINDS = 128,
    LITMUS_PATHS = 3, /* of a round; one more is their directory */
    LITMUS_PARAMS = 6,
    LITMUS_PATH = 64,
    LITMUS_BIG = 3 << 20, /* no file of a round is larger */
};

enum litmus_phase { LITMUS_READY = 1, LITMUS_WARM, LITMUS_HOP, LITMUS_ACTED, LITMUS_CHECKED, LITMUS_NEXT };

/* What stat says and both sides must agree on; error: it said that instead. */
struct litmus_stat {
    int error;
    uint32_t mode, uid, gid;
    uint64_t ino, nlink, size, blocks;
    struct timespec mtime, ctime;
};

struct litmus_token {
    uint64_t round;
    uint32_t phase, from;
    uint64_t value; /* whatever the kind wants to say; of READY: this is the end */
    struct litmus_stat st[LITMUS_PATHS + 1];
};

/* Of a kind with one side as the writer. */
struct litmus_count {
    uint64_t rounds, stale, told;
};

struct litmus_actor {
    pid_t pid;
    uint64_t beat; /* ns: when it last moved on */
    uint64_t round;
    const char *doing; /* of the one image that all were forked from */
    const char *kind;
};

struct litmus_team {
    struct litmus_actor actors[LITMUS_ACTORS];
    uint64_t begun, done; /* of a race: values whose call was begun; whose call returned */
    uint64_t race_over;   /* the last round whose race is over, + 1 */
};

/* Shared memory of all. */
struct litmus_board {
    struct litmus_count counts[LITMUS_KINDS][2];
    struct litmus_team teams[LITMUS_TEAMS];
    uint64_t healed[3],
        looked; /* stale answers that were right after 1 ms, after 100 ms, not even then; all */
};

struct litmus_kind;

struct round {
    uint64_t number, rng;
    const struct litmus_kind *kind;
    uint32_t team, writer, me;
    const struct face *by;     /* the side of the writer */
    const char *when;          /* for what is told: setup, warming, act, check, cleaning */
    char dir[LITMUS_PATH / 4]; /* of the team, or of all */
    bool private;              /* nobody else changes the directory */
    char path[LITMUS_PATHS + 1][LITMUS_PATH];
    uint64_t n[LITMUS_PARAMS]; /* for the kind: its plan; below: what only this actor knows */
    uint64_t seen[2][2];
    struct handle held[2][2]; /* by face */
    void *mapped[2];
    size_t mapped_size;
    char *before, *after; /* of LITMUS_BIG bytes each */
    size_t before_size, after_size;
    struct litmus_token token;
    uint32_t wrongs; /* what was found wrong at this look, and how that reads */
    char text[1500];
};

/*
 * One kind of change. plan: by all, the same. setup, act, end: by the writer, by its side. warm and check: by each
 * reader for each side; check also by the writer itself. meanwhile: by each reader between telling that it is warm
 * and waiting for the writer. Any may be NULL but act.
 */
struct litmus_kind {
    const char *name;
    void (*plan)(struct round *r);
    void (*setup)(struct round *r, const struct face *f);
    void (*warm)(struct round *r, const struct face *f);
    void (*meanwhile)(struct round *r);
    void (*act)(struct round *r, const struct face *f);
    void (*check)(struct round *r, const struct face *f);
    unsigned weight; /* how often */
    unsigned paths;  /* how many of the paths must look the same from both sides in the end */
    unsigned only;   /* ONLY_*: the writer's sides */
    bool once;       /* its check cannot be done again */
    bool no_self;    /* the writer's own check is left out */
    bool lonely;     /* needs a directory of its own */
};
enum { ONLY_MOUNT = 1, ONLY_DIRECT = 2 };

extern const struct litmus_kind litmus_names[], litmus_attrs[], litmus_data[], litmus_lists[], litmus_races[];

/* What the run is about; set before the actors are there. */
struct litmus_run {
    uint64_t seed, rounds, until; /* rounds of a team; ns */
    unsigned teams, actors;
    const struct litmus_kind *kinds[LITMUS_KINDS]; /* those to draw from, those with weight often */
    const struct litmus_kind *all[LITMUS_KINDS];
    unsigned nkinds, nall, total_weight;
    const char *cache;
    bool keep_going;
    struct litmus_board *board;
    struct face faces[2]; /* the mount; directly: this process's attach */
    struct shmfs *nobody; /* an attach without privileges */
    int inbox[LITMUS_TEAMS][LITMUS_ACTORS][2];
    char region[LITMUS_PATH], mount[LITMUS_PATH];
};
extern struct litmus_run run;

#define F_MOUNT (&run.faces[0])
#define F_DIRECT (&run.faces[1])

/* An actor's life: does not return. */
void litmus_live(uint32_t team, uint32_t id) __attribute__((noreturn));

uint64_t litmus_clock(void);
/* Of the round's own plan. */
uint64_t draw(struct round *r, uint64_t n);
static inline int side_of(const struct face *f)
{
    return f->fs != NULL;
}
static inline const char *side_name(const struct face *f)
{
    return f->fs != NULL ? "direct" : "mount";
}
static inline struct litmus_team *team_of(const struct round *r)
{
    return &run.board->teams[r->team];
}

/* Notes something that must not be. */
void wrong(struct round *r, const struct face *f, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Notes it if a call gave something else: an error, 0, or any count (MUST_WORK). */
enum { MUST_WORK = 1 };
void expect(struct round *r, const struct face *f, const char *what, const char *path, long got, long want);
/* Notes it if two numbers that should be the same are not. */
void equal(struct round *r, const struct face *f, const char *what, uint64_t seen, uint64_t expected);
/* lstat that must work; false: it did not. */
bool look(struct round *r, const struct face *f, const char *path, struct stat *ret);
void gone(struct round *r, const struct face *f, const char *path);
/* Reads the whole file by a new open, or by the handle, and compares. */
void content(struct round *r, const struct face *f, const char *path, const char *want, size_t n);
void content_of(struct round *r, const struct face *f, const struct handle *h, const char *want, size_t n);
void compare(struct round *r, const struct face *f, const char *what, const char *seen, size_t seen_size,
             const char *want, size_t n);
/* What is written back later is not promised to others before an fsync. */
void publish(struct round *r, const struct face *f, const char *path);
/* Bytes that differ from place to place, and with the tag. */
void pattern(char *p, size_t n, uint64_t tag);

/* Tokens within a team. HOP is the kinds' own. */
void token_send(const struct round *r, uint32_t to, uint32_t phase, uint64_t value);
uint64_t token_await(struct round *r, uint32_t phase);
void doing(const struct round *r, const char *what);

#endif
