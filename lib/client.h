/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_CLIENT_H
#define SHMFS_CLIENT_H

/*
 * What an attach of a program keeps besides the region: credentials, open files, mappings. All of it is
 * local to the process; what must outlive it is in use records and ranges.
 */
#include <sched.h>

#include "path.h"
#include "shmfs.h"

struct shmfs_file {
    struct shmfs *fs;
    uint32_t ino;
    uint32_t generation;
    uint32_t use;      /* our record; NO_USE attached read-only, and for O_PATH */
    uint32_t next_use; /* that of the child, while a fork is under way */
    int oflags;
    bool is_dir;
    bool in_use;
    bool was_named; /* made without a name, and given one since */
    bool has_owned; /* may have a flock, or open file description locks */
    uint64_t key;   /* who we are among lock owners */
    struct shmfs_file *next;
};

/* A mapping that shmfs_map() gave. */
struct mapping {
    uint8_t *addr;
    size_t len;
    uint32_t use;
    uint32_t next_use;
    uint64_t word; /* of the use record */
    bool stitched; /* a range of its own, to be unmapped */
    struct mapping *next;
};

enum { FILES_PER_SLAB = 64 };
struct slab {
    struct slab *next;
    struct shmfs_file files[FILES_PER_SLAB];
};

/* Credentials, as they were at some time: never changed, and kept until the detach, for others may be reading. */
struct creds {
    struct cred cred;
    struct creds *older;
};

struct client {
    struct creds *creds;
    mode_t umask;
    int busy;                /* a spin lock over the following */
    struct slab *slabs;      /* all files, open or not */
    struct shmfs_file *free; /* those that are not open */
    uint64_t next_key;
    pthread_mutex_t lists_lock;
    struct mapping *maps;
    struct shmfs_dir *dirs;
    uint8_t *ro_base;     /* the region mapped read-only, once somebody asked for PROT_READ */
    uint64_t *alive;      /* a page that a forked child sees as zeros: fs->id */
    struct shmfs *next;   /* of the process's attaches */
    bool has_posix;       /* may have POSIX record locks, which closing any handle of the file drops */
    bool heir;            /* while a fork is under way: the child goes on with this attach */
    struct procref child; /* likewise: its place, */
    void *child_life;
    uint32_t *copies; /* and its use records: most of them those of handles that it inherits */
    size_t ncopies, room;
};

static inline void spin_lock(int *l)
{
    while (__atomic_exchange_n(l, 1, __ATOMIC_ACQUIRE) != 0)
        sched_yield();
}
static inline void spin_unlock(int *l)
{
    __atomic_store_n(l, 0, __ATOMIC_RELEASE);
}

static inline struct client *client_of(const struct shmfs *fs)
{
    return fs->client;
}
static inline const struct cred *client_cred(const struct shmfs *fs)
{
    return &LOAD(&client_of(fs)->creds)->cred;
}

/* Whom new files belong to. */
static inline struct shmfs_maker client_maker(const struct shmfs *fs)
{
    const struct cred *cred = client_cred(fs);

    return (struct shmfs_maker){ .uid = cred->uid,
                                 .gid = cred->gid,
                                 .umask = LOAD_RELAXED(&client_of(fs)->umask) };
}

/* 0, or what keeps this attach from being used: -EBADF, -EIO. */
static inline int client_enter(const struct shmfs *fs)
{
    if (unlikely(*client_of(fs)->alive != fs->id))
        return -EBADF; /* a child that has no place in the region */
    if (unlikely(txn_left_open))
        txn_leave_behind(); /* a signal handler jumped out of the last call */
    region_reading = 0;
    return unlikely(LOAD_RELAXED(&fs->broken)) ? -EIO : 0;
}
static inline ssize_t client_leave(const struct shmfs *fs, ssize_t r)
{
    return unlikely(LOAD_RELAXED(&fs->broken)) ? -EIO : r;
}

struct shmfs_file *client_file_new(struct shmfs *fs); /* NULL: no memory */
void client_file_free(struct shmfs_file *file);

/* Something that an operation by path works on, held so that its number stays its own. */
struct target {
    struct shmfs *fs;
    uint32_t ino;
    uint32_t use; /* NO_USE: a file handle's, or attached read-only */
    struct inode head;
};
int client_target_open(struct shmfs *fs, const char *path, unsigned flags, struct target *ret);
ssize_t client_target_close(struct target *t, ssize_t r); /* returns r, or -EIO */

/*
 * A file made with the set-group-ID bit in a directory that has it gets the directory's group, and the bit only if
 * the caller is of that group.
 */
int client_strip_sgid(struct shmfs *fs, const struct path_at *at, mode_t *mode);
/* The scalar fields of an open file; -ESTALE (read-only attaches). */
int client_head(struct shmfs_file *file, struct inode *ret);

void client_unmap_all(struct shmfs *fs);
void client_dirs_close(struct shmfs *fs);
void client_unlock_all(struct shmfs_file *file);

/*
 * Fork: docs/LOCKING.md, "Fork". The list of attaches; who attaches or detaches keeps forks away meanwhile, lest a
 * child inherits descriptors and locks that it knows nothing of.
 */
void client_list_lock(void);
void client_list_unlock(void);
void client_list_add(struct shmfs *fs);    /* under it */
void client_list_remove(struct shmfs *fs); /* under it */
/* The attach of that id, which then stays until client_list_let_go(); NULL: it is gone, and nothing to let go. */
struct shmfs *client_list_hold(uint64_t id);
void client_list_let_go(void);

#endif
