/* SPDX-License-Identifier: MIT */
/* Paths of inodes. The region keeps none: the tree is walked, breadth first, until all are found. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

enum { BATCH = 64 }; /* entries that are read at a time */

struct todo {
    struct todo *next;
    uint32_t ino;
    char path[]; /* without the slash at its end; that of the root is empty */
};

struct walk {
    struct shmfs *fs;
    struct ctl_path *wanted;
    size_t nwanted, nfound;
    struct todo *first, **end;
    uint8_t *seen; /* a bit for each inode: directories of a damaged region may be in circles */
    uint64_t ninodes;
};

static void *must(void *p)
{
    if (!p)
        ctl_die(CTL_FAILED, "%s", strerror(ENOMEM));
    return p;
}

static void found(struct walk *walk, uint32_t ino, const char *directory, const char *name)
{
    for (size_t i = 0; i < walk->nwanted; i++) {
        struct ctl_path *wanted = &walk->wanted[i];

        if (wanted->ino != ino || wanted->path)
            continue;
        if (asprintf(&wanted->path, "%s/%s", directory, name) < 0)
            ctl_die(CTL_FAILED, "%s", strerror(ENOMEM));
        walk->nfound++;
    }
}

static void enqueue(struct walk *walk, uint32_t ino, const char *directory, const char *name)
{
    size_t n = strlen(directory) + strlen(name) + 2;
    struct todo *todo;

    if (ino >= walk->ninodes || (walk->seen[ino / 8] >> ino % 8 & 1) != 0)
        return;
    walk->seen[ino / 8] |= (uint8_t)(1 << ino % 8);
    todo = must(malloc(sizeof(*todo) + n));
    *todo = (struct todo){ .ino = ino };
    snprintf(todo->path, n, "%s%s%s", directory, *name ? "/" : "", name);
    *walk->end = todo;
    walk->end = &todo->next;
}

static void walk_directory(struct walk *walk, const struct todo *todo)
{
    struct shmfs_dirent entries[BATCH];
    uint64_t cookie = 0;
    int n;

    while ((n = shmfs_node_readdir(walk->fs, todo->ino, cookie, entries, BATCH)) > 0) {
        for (int i = 0; i < n; i++) {
            const struct shmfs_dirent *e = &entries[i];

            if (strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0)
                continue;
            found(walk, e->ino, todo->path, e->name);
            if (e->type == DT_DIR)
                enqueue(walk, e->ino, todo->path, e->name);
        }
        cookie = entries[n - 1].next;
        if (walk->nfound == walk->nwanted)
            return;
    }
    if (n < 0 && n != -ESTALE) /* removed meanwhile: then it is empty */
        ctl_warn("%s/: paths below it are not shown: %s", todo->path, ctl_reason(n));
}

void ctl_paths_find(struct shmfs *fs, struct ctl_path *wanted, size_t n)
{
    struct walk walk = { .fs = fs, .wanted = wanted, .nwanted = n };
    struct shmfs_space space;

    if (n == 0)
        return;
    shmfs_node_statfs(fs, &space);
    walk.ninodes = space.inodes + 1; /* numbers begin with 1 */
    walk.seen = must(calloc(walk.ninodes / 8 + 1, 1));
    walk.end = &walk.first;
    found(&walk, SHMFS_ROOT, "", "");
    enqueue(&walk, SHMFS_ROOT, "", "");
    while (walk.first) {
        struct todo *todo = walk.first;

        if (walk.nfound < walk.nwanted)
            walk_directory(&walk, todo);
        walk.first = todo->next;
        if (!walk.first)
            walk.end = &walk.first;
        free(todo);
    }
    free(walk.seen);
}
