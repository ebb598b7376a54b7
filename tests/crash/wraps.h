/* SPDX-License-Identifier: MIT */
#ifndef CRASH_WRAPS_H
#define CRASH_WRAPS_H

#include "region.h"

/* Called instead of sleeping on a lock, and before a try that failed is repeated; unless NULL. */
extern void (*wraps_wait)(void);

/* Called at each attach, with the region mapped and nothing stored to it; unless NULL. */
extern void (*wraps_attach)(struct shmfs *fs);

#endif
