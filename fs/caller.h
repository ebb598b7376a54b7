/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_CALLER_H
#define SHMFS_CALLER_H

/*
 * Who asks, where a request alone does not say it: with idmapped mounts the kernel gives user ids only
 * with what makes an inode. Reads /proc, so it is for rare cases.
 */
#include <linux/capability.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct caller {
    uid_t uid;             /* for the filesystem */
    uint64_t capabilities; /* effective; bits as CAP_* */
};

/* Is it of that group, by its own or its supplementary ones? One that cannot be seen is of none. */
bool caller_in_group(pid_t tid, gid_t gid);

/* A caller that cannot be seen (of another PID namespace, or gone) is nobody, and may nothing. */
struct caller caller_of(pid_t tid);

static inline bool caller_can(const struct caller *c, int capability)
{
    return (c->capabilities >> capability & 1) != 0;
}

#endif
