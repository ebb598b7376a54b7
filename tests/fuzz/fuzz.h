/* SPDX-License-Identifier: MIT */
#ifndef FUZZ_H
#define FUZZ_H

/* The parts of fuzz_region: chance and the good region, damage, and the battery of operations. */
#include "../unit/test_check_world.h"

/* ---- fuzz_world.c ------------------------------------------------------------------------------ */

extern uint64_t rng; /* the state: set it to the seed */
uint64_t rnd(void);
uint64_t below(uint64_t n);
bool one_in(uint64_t n);

extern char path[128]; /* of the region */
extern uint64_t file_size;
/* The file, mapped once more, with typed pointers: for damage. Nothing of the library runs on it. */
extern struct shmfs raw;

/* What can be damaged: chosen once from the good region. */
extern uint32_t used_inodes[4096], meta_blocks[4096], dead_slots[64];
extern unsigned nused_inodes, nmeta_blocks, ndead_slots;

void world_set_up(void);
/* The file as it was: the same one, because its device and inode number are in the runtime area. */
void world_restore(void);

/* ---- fuzz_damage.c ----------------------------------------------------------------------------- */

/* A number that a field might not expect in place of `old`. */
uint64_t odd_value(uint64_t old);
void damage_once(void);
/* What once broke something, whatever the dice say now. False: there is no such case. */
bool damage_named(const char *name);
extern const char *const damage_names[]; /* NULL at the end */

/* ---- fuzz_battery.c ---------------------------------------------------------------------------- */

/* A bit of everything. */
void battery(struct shmfs *fs);
/* Attaches privately and checks; with `sound` ends the process where anything is found. */
void check_privately(bool sound);

#endif
