/* SPDX-License-Identifier: MIT */
/*
 * Preloaded into the driver: it lets the kernel keep what it has not noted. FORGET names the leases: 1, 2, 4 as in enum
 * shmfs_lease, or 8 for names that do not exist. Then litmus must see stale answers (P3, I11).
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "../../lib/node.h"

static unsigned forgotten(void)
{
    const char *which = getenv("FORGET");

    return which != NULL ? (unsigned)atoi(which) : 0;
}

/* ISO C has no way from the one kind of pointer to the other. */
static void find(void *ret_function, const char *name)
{
    void *symbol = dlsym(RTLD_NEXT, name);

    if (symbol == NULL)
        abort();
    memcpy(ret_function, &symbol, sizeof(symbol));
}

int shmfs_lease_grant(struct shmfs *fs, uint32_t ino, unsigned kinds)
{
    int (*noted)(struct shmfs *, uint32_t, unsigned);

    find(&noted, "shmfs_lease_grant");
    return (kinds & forgotten()) != 0 ? (int)kinds : noted(fs, ino, kinds);
}

int shmfs_lease_absent(struct shmfs *fs, uint32_t parent, const char *name)
{
    int (*noted)(struct shmfs *, uint32_t, const char *);

    find(&noted, "shmfs_lease_absent");
    return (forgotten() & 8) != 0 ? 1 : noted(fs, parent, name);
}
