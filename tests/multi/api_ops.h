/* SPDX-License-Identifier: MIT */
#ifndef API_OPS_H
#define API_OPS_H

/* What a worker of api_storm does, one operation after another. */
#include "storm_face.h"
#include "storm_ops.h"

/* Shared by all processes. */
struct api_board {
    uint32_t epoch;   /* odd: no driver; raised as it goes and as it has come */
    uint64_t excused; /* errors of programs while it was away */
};
extern struct api_board *api_board;

/* The directory that its kind shares, and the log that it appends to. */
const char *api_shared(const struct worker *w);
const char *api_log(const struct worker *w);

/*
 * One operation, chosen at random. False: there was an error, and the driver was away: the worker's intent is to be
 * settled once it is there again.
 */
bool api_operate(const struct face *f, struct worker *w);

/* Looks at what others have: whole records, whole files. */
void api_look(const struct face *f, struct worker *w);

#endif
