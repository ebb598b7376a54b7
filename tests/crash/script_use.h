/* SPDX-License-Identifier: MIT */
#ifndef CRASH_SCRIPT_USE_H
#define CRASH_SCRIPT_USE_H

/* What script.c and script_use.c share: the words of a command, and the commands of the second. */
#include "script.h"

enum { WORDS_MAX = 8, TEXT_MAX = 256 };

struct words {
    char text[TEXT_MAX];
    char *w[WORDS_MAX];
    unsigned n;
};

long script_number(const struct words *s, unsigned i);
bool script_is(const struct words *s, unsigned i, const char *word);
uint32_t script_ino_of(struct shmfs *fs, const struct words *s, unsigned i);

long script_open(struct shmfs *fs, const struct words *s);
long script_close(struct shmfs *fs, const struct words *s); /* and held */
long script_map(struct shmfs *fs, const struct words *s);   /* and unmap, poke, msync */
long script_lock(struct shmfs *fs, const struct words *s);  /* and unlock */
long script_full_ranges(struct shmfs *fs, const struct words *s);
long script_path(struct shmfs *fs, const struct words *s);

#endif
