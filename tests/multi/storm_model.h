/* SPDX-License-Identifier: MIT */
#ifndef STORM_MODEL_H
#define STORM_MODEL_H

/*
 * What the workers of kill_storm were told that they did. Each worker has names that nobody else touches,
 * some in a directory of its own and some in one that all share. Their states are kept in memory that the
 * parent shares with the workers, outside of the region, and survive every death: before an operation the
 * worker writes down what it will change and to what; when the operation has returned it makes that the
 * state. Whoever finds such an intent knows that the region shows one or the other.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "node.h"

enum {
    NAMES = 16, /* of a worker, in each of the two directories */
    PLACES = 2, /* own directory, shared directory */
    SMALL_MAX = 65536,
    BIG_SIZE = 300000,
    RECORD = 64, /* bytes of a record in the log that all append to */
};

enum kind { KIND_NONE, KIND_FILE, KIND_DIR, KIND_LINK };

/* A name. A file's bytes are those of its seed, from 0 to size (but see tail_from). */
struct entry {
    uint8_t kind;
    uint8_t twin; /* a second name of the same file is there */
    uint16_t mode;
    uint32_t seed, size;
    uint32_t tail_from, tail_seed; /* not 0: from there on of that seed, for a write was cut short */
    uint32_t attr;                 /* the value of user.v has this seed; 0: none */
};

/* A change of up to two names. */
struct intent {
    uint32_t valid;
    uint32_t n;
    struct {
        uint32_t place, index;
        struct entry after;
    } change[2];
    uint32_t big;    /* the big file is being overwritten with this seed, or 0 */
    uint8_t prefix;  /* a write that may leave a part of it, from its start */
    uint32_t record; /* this record is being appended to the log, or 0 */
    char what[48];
};

struct worker {
    /* the parent's */
    pid_t pid;
    uint32_t id, life;
    /* the worker's */
    uint64_t began; /* ns: when the operation at work began; 0: none */
    uint64_t slowest, operations;
    uint32_t dirs[PLACES]; /* inode numbers */
    uint32_t log;          /* that of the log that it appends to */
    struct entry entries[PLACES][NAMES];
    struct intent intent;
    uint32_t big, records; /* the big file's seed, 0: a mixture; records in the log */
    char failure[300];
};

uint8_t model_byte(uint32_t seed, uint64_t off);
void model_fill_entry(const struct entry *e, uint64_t off, uint8_t *buf, size_t n);
void model_fill(uint32_t seed, uint64_t off, uint8_t *buf, size_t n);
const char *model_name(const struct worker *w, uint32_t place, uint32_t index, bool twin, char *buf,
                       size_t n);

/* "" if the name is in that state, or how it differs (static buffer). */
const char *model_compare(struct shmfs *fs, const struct worker *w, uint32_t place, uint32_t index,
                          const struct entry *e);

/*
 * Somebody died within the intent: which of the two states does the region show? Makes it the worker's.
 * "" or why it is neither.
 */
const char *model_settle(struct shmfs *fs, struct worker *w);

/* All names of the worker. "" or the first that is not as it should be. */
const char *model_check(struct shmfs *fs, const struct worker *w);

/* The log holds the records of each worker whose log it is, in order, whole, once. "" or what is wrong. */
const char *model_check_log(struct shmfs *fs, uint32_t log_ino, const struct worker *workers, uint32_t n);

void model_record(uint32_t worker, uint32_t number, uint8_t *buf);

#endif
