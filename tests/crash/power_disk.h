/* SPDX-License-Identifier: MIT */
#ifndef TEST_POWER_DISK_H
#define TEST_POWER_DISK_H

/*
 * A disk that remembers each step of lib/storage.c, and what of it a power cut may have left: everything before the
 * last sync of a file, and of the writes since then any subset, each torn at 512 bytes. A name leads to what it led
 * to before, or to the new file, from the rename to the directory's sync.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DISK_FILES = 8, NO_STEP = -1 };

/* From now on each step is recorded; writes go to file `file`, in the order of image_create(). */
void disk_record(void);
void disk_new_file(void);
void disk_told(unsigned state); /* somebody was told that state `state` is durable */
void disk_needless(bool on);    /* syncs from here on only help to tell damage from the journal's end (S7) */
void disk_end(void);

int disk_steps(void);
bool disk_is_needed(int step); /* a sync, of a file or of a name, and not needless */

/*
 * Goes through the cuts: `check` is called with the path of a file as it may have been left (NULL: none), and what was told
 * by then; not 0: the cut is bad, and it ends. `without`: a sync that is left out, or NO_STEP. Returns the bad cuts (0 or 1).
 */
int disk_cuts(const char *path, int without, uint64_t seed, int (*check)(const char *path, unsigned told),
              uint64_t *ret_states);

#endif
