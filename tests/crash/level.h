/* SPDX-License-Identifier: MIT */
#ifndef CRASH_LEVEL_H
#define CRASH_LEVEL_H

/*
 * Copies of one region that differ in few pages. Operations run on level 0; the state that a death
 * would leave is copied to level 1, where somebody recovers it; of a death in that, to level 2. Each
 * level is a region file of its own, attached once for all, by processes ("seats") that are all this
 * one, and keeps a list of the pages in which it may differ from the level below, so that a copy
 * costs what was stored to. Below level 0 is an image in memory, the state before the operation.
 *
 * Whoever is attached at a lower level is dead for those above: no life lock is held in their files.
 */
#include "hooks.h"
#include "recover.h"

enum { LEVELS = 3, SEATS_MAX = 3 };

/* Whose seat has which entry of the process table; slots are claimed at a place that follows from it. */
enum role {
    ROLE_A = 0,     /* level 0: whose death at each store is looked at */
    ROLE_B = 4,     /* level 0: another, at work at the same time */
    ROLE_C = 8,     /* level 0: the undertaker while A lives */
    ROLE_HEIR = 12, /* level 1: recovers, or goes on working */
    ROLE_LAST = 16, /* level 2 */
    ROLES = 20,
};

struct level;

struct seat {
    struct watch watch;
    struct level *level;
    struct shmfs *fs;
    uint32_t role, slot;
    bool stood; /* let go of its life lock */
    struct proc_entry entry;
    struct slot head; /* as far as SLOT_HEAD */
};

struct level {
    uint32_t number;
    char path[64];
    struct runtime_id id;
    struct seat seats[SEATS_MAX];
    uint32_t nseats;
    uint32_t npages;
    uint8_t *is_stale;
    uint32_t *stale; /* pages that may differ from the level below */
    uint32_t nstale;
    void (*store)(struct seat *seat, const uint8_t *at, size_t n, const void *pc);
    void (*torn)(struct seat *seat, uint8_t *at, size_t n, const uint8_t *old, const void *pc);
};

extern struct level levels[LEVELS];

/*
 * Makes and attaches all levels for regions of this size. SHIFT is added to the roles above level 0's A,
 * which have another home among the allocation groups then.
 */
void levels_open(uint64_t size, uint32_t inodes, uint32_t shift);
void levels_close(void);

/* Makes level L the same as the one below, but for its own seats. */
void level_sync(struct level *l);
/* Bytes of the level were changed by code that the hooks do not see. */
void level_changed(struct level *l, const void *at, size_t n);

/* Level 0 and the images: the state as mkfs left it; this state from now on; back to that. */
void image_fresh(void);
void image_take(void);
void image_back(void);
/* Where the image before the operation has what level 0 has at this address. */
const void *image_at(const void *at);

/* Lets go of the seat's life lock, which is what its death means to others on its level, or takes it again. */
void seat_die(struct seat *seat);
void seat_rise(struct seat *seat);

/*
 * A copy of a mapped region as a file at PATH that somebody may attach to. What the runtime area says of
 * the file that it belongs to follows, unless it belongs to none yet (MADE false).
 */
void level_write(const struct shmfs *fs, bool made, const char *path);

static inline struct shmfs *level_fs(struct level *l)
{
    return l->seats[0].fs;
}

#endif
