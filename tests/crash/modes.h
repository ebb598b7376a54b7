/* SPDX-License-Identifier: MIT */
#ifndef CRASH_MODES_H
#define CRASH_MODES_H

/* What every_store does, one function a mode. */
#include "exam.h"

enum { REGION_SIZE = 2 << 20, REGION_INODES = 192, OP_MAX = 256 };

/* What the command line asks for. */
struct modes_want {
    const char *mode, *name, *op, *heir; /* NULL: any */
    bool all;
};
extern struct modes_want want;

/* Each prints its figures; failures are in `exam`. */
void mode_store(void);      /* death at each store of each case */
void mode_undertaker(void); /* and death of the one who recovers from it */
void mode_pair(void);       /* A dies; B, going on, meets what it left; and dies too */
void mode_frozen(void);     /* A stands still; B dies and is buried; A goes on */
void mode_mutant(void);     /* an undo record is left out: it must be noticed */
void mode_mutant_use(void); /* or a store, of those that keep what is open, pinned, locked */
void mode_door(void);       /* recovery by attaching as programs do */
void mode_attach(void);     /* death of one who attaches or detaches */

/* ---- shared ---- */

/* Who is `other` in setups: the heir, unless a mode says otherwise. */
extern const struct seat *modes_other;

/* Makes the filesystem that a case begins with the state to come back to. */
bool modes_setup(const char *name, const char *text);

/* Copies the next command to buf (OP_MAX), with K for each %d; returns what follows it. */
const char *modes_next_op(const char *ops, int k, char *buf);

/* Runs the operation once, to know the states that it may leave; then everything is as before. */
bool modes_rehearse(const struct crash_case *c, const char *op, long *ret_result);

/* Calls `one` for each operation of each case that is wanted, at the state before it. */
void modes_each(void (*one)(const struct crash_case *c, const char *op, long result));

/* After somebody was left in the middle of something: all levels anew, at the same operation. */
void modes_rebuild(void);

double modes_clock(void);

#endif
