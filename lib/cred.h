/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_CRED_H
#define SHMFS_CRED_H

/* Credentials of a process, and what they permit: as the kernel would decide (shmfs.h, "Trust"). */
#include "acl.h"

struct cred {
    uid_t uid;
    gid_t gid;
    mode_t umask;
    uint64_t caps;        /* effective capabilities */
    uint64_t fsize_limit; /* bytes; RLIMIT_FSIZE */
    bool protect_links;   /* fs.protected_hardlinks */
    int ngroups;
    gid_t *groups;
};

/* Takes those of this thread. -ENOMEM. */
int cred_load(struct cred *ret);
void cred_free(struct cred *cred);

bool cred_in_group(const struct cred *cred, gid_t gid);
static inline bool cred_capable(const struct cred *cred, int cap)
{
    return (cred->caps >> cap & 1) != 0;
}

enum { WANT_EXEC = 1, WANT_WRITE = 2, WANT_READ = 4 };
/* 0 or -EACCES; `head` is a copy of the inode's scalar fields. Reads the ACL, if there is one. */
int cred_permits_slowly(struct shmfs *fs, const struct cred *cred, uint32_t ino, const struct inode *head,
                        uint32_t want);

/* The same; the common answer without a call. */
static inline int cred_permits(struct shmfs *fs, const struct cred *cred, uint32_t ino,
                               const struct inode *head, uint32_t want)
{
    uint32_t mode = head->mode;

    if (likely(cred->uid == head->uid && (mode >> 6 & want) == want))
        return 0;
    return cred_permits_slowly(fs, cred, ino, head, want);
}

/* Does a set-group-id bit go with a change by this process, even where the group may not execute? */
bool cred_outside(const struct cred *cred, gid_t gid);

/*
 * What a change of a file's content does to its set-id bits: SHMFS_SET_KILL_PRIV and SHMFS_SET_KILL_SGID, or
 * nothing.
 */
static inline unsigned cred_kills(const struct cred *cred, uint32_t mode, gid_t gid)
{
    if (likely((mode & (S_ISUID | S_ISGID)) == 0) || cred_capable(cred, 4 /* CAP_FSETID */))
        return 0;
    return SHMFS_SET_KILL_PRIV | (cred_outside(cred, gid) ? SHMFS_SET_KILL_SGID : 0u);
}

/* May its owner's rights be used: chmod, utimens and the like? 0 or -EPERM. */
static inline int cred_owns(const struct cred *cred, const struct inode *head)
{
    return cred->uid == head->uid || cred_capable(cred, 3 /* CAP_FOWNER */) ? 0 : -EPERM;
}

#endif
