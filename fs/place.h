/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_PLACE_H
#define SHMFS_PLACE_H

/*
 * Where workers run, and how many of them. A FUSE round trip whose client and worker share a CPU takes
 * 3 µs here, one between two CPUs of a virtual machine 70 µs: each wake-up goes to a CPU that sleeps.
 * So one worker follows the client; the others join while two or more clients take turns, or while it
 * does what may take long.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct place_group;
struct place { /* of one worker */
    struct place_group *group;
    unsigned id;
    int cpu;         /* pinned to, or -1 */
    uint64_t looked; /* when the client's CPU was last looked at */
    uint64_t period; /* until it is looked at again */
    unsigned missed; /* times running that the client was elsewhere */
    unsigned served; /* in this worker's window for counting clients */
    uint64_t window;
};

struct place_group *place_new(unsigned workers); /* NULL: no memory */
void place_stop(struct place_group *group);      /* lets everybody go */
void place_free(struct place_group *group);

void place_init(struct place *place, struct place_group *group, unsigned id); /* in the worker's thread */
void place_wait(struct place *place);              /* before each read: may park this worker */
void place_served(struct place *place, pid_t pid); /* after each reply; pid from the request's header */
void place_block(struct place_group *group);       /* around what may sleep or take long: another one reads */
void place_unblock(struct place_group *group);
#endif
