/* SPDX-License-Identifier: MIT */
/* What damage of an image means for files; and what can be had in spite of it. */
#include "snapshot.h"

int snapshot_salvage(const char *path, const uint64_t *bad, size_t nbad, const struct shmfs_restore *how,
                     struct shmfs_restore_result *result)
{
    for (size_t i = 0; i < nbad && how->damage; i++)
        how->damage(how->arg, NULL, "a page is damaged");
    return how->salvage ? -EUCLEAN : 0;
}
