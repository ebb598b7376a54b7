/* SPDX-License-Identifier: MIT */
#ifndef SCENE_H
#define SCENE_H

/* Processes that write to and read from a region of their own for some seconds, and what is left is checked. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node.h"

enum { SCENE_PARTS_MAX = 8, SCENE_LAST = 4 };

/* Shared by all processes of a scene. */
struct board {
    int stop;
    char failure[300];
    uint64_t reads, writes;
    uint64_t others;           /* whatever a scene counts besides */
    uint64_t last[SCENE_LAST]; /* what each writer wrote last */
};
extern struct board *board;
extern char scene_path[64]; /* of the region */

struct scene {
    const char *name;
    void (*prepare)(struct shmfs *fs);
    unsigned writers, readers;
    /* One turn of a writer or a reader; NUMBER counts each kind from 0. */
    void (*write)(struct shmfs *fs, unsigned number, uint64_t turn);
    void (*read)(struct shmfs *fs, unsigned number, uint64_t turn);
    void (*after)(struct shmfs *fs); /* or NULL */
};

/* How they come to the region. attach() gives NULL after fail(). */
struct scene_client {
    struct shmfs *(*attach)(bool reads, unsigned number);
    void (*detach)(struct shmfs *fs);
};

/* The first of them ends the scene. */
void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Fails where R is an error. */
void must(long r, const char *what);

/* Words that tell from which write they are. */
void stamp(uint64_t *buf, size_t n, uint64_t value);
void stamp_check(const uint64_t *buf, size_t n, const char *what);

/* --seconds N: for each scene. */
int scene_main(int argc, char **argv, const struct scene_client *client, const struct scene *scenes,
               size_t n);

#endif
