/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_REGION_H
#define SHMFS_REGION_H

/*
 * A mapped region: opening, validating, typed access by reference. Nothing of it is believed: the
 * geometry is copied out and checked once, and every reference is bounds-checked when it is used.
 */
#include <pthread.h>

#include "base.h"
#include "error.h"
#include "layout.h"
#include "node.h"

struct txn;
struct shmfs {
    uint8_t *base;
    uint64_t map_len; /* of the mapping: up to the end for max_blocks */
    int fd;
    bool readonly;     /* mapped PROT_READ */
    bool private_;     /* copy-on-write; the file is never changed */
    int broken;        /* set by the SIGBUS handler: the file was shortened under us */
    uint64_t holes[8]; /* pages that it replaced for a reader, to be mapped back */
    int any_hole;      /* there are such */
    struct layout l;
    uint64_t dev, ino; /* of the region file */
    uint64_t id;       /* of this attach, unique in the process */

    struct superblock *sb;
    struct runtime *rt;
    struct proc_entry *procs;
    struct slot *slots;
    struct use_bucket *uses;
    struct range *ranges;
    uint64_t *absent;
    struct inode_rt *inode_rts;
    struct group_rt *group_rts;
    uint64_t *dirty_sums;
    uint64_t *dirty;
    struct group_desc *groups;
    uint8_t *block_maps;
    uint8_t *inode_maps;
    struct inode *inodes;
    uint8_t *blocks;
    uint64_t hash_seed;
    uint64_t hash_mask; /* all ones; tests make names collide with less */

    struct procref self; /* our entry in the process table */
    unsigned flags;      /* enum shmfs_attach_flags */
    void *life;          /* the mapping that keeps our life lock (proc.c) */

    pthread_mutex_t snapshots; /* held while one is made by this attach */
    pthread_mutex_t lock;      /* of the fields below */
    uint32_t free_slots[64];   /* slots of ours that no thread uses now */
    uint32_t nfree_slots;

    struct client *client; /* of programs that came by shmfs_attach() */

    /* Set by recover.c: lock.c must be able to have a dead owner's slot buried. */
    int (*bury)(struct shmfs *fs, uint32_t me, uint32_t slot);
    /* Something is full: whatever the dead have, buries all of them. How many; for who holds nothing. */
    int (*bury_all)(struct shmfs *fs);
    /* And lease.c: what the transaction wanted recalled. For who holds nothing. */
    void (*recall)(struct shmfs *fs, struct slot *slot);
    uint32_t recall_last; /* driver: the bit of recall_map that had its turn */
    bool (*confirm_list)(struct txn *t);
    void (*confirm)(struct shmfs *fs, struct slot *slot);
    /* The same for txn.c: a thread of ours ended within a transaction. */
    void (*abandon)(struct shmfs *fs, uint32_t slot);
};

/* Opens and maps a region that region_check() finds good. Changes nothing in the file. */
int region_open(const char *path, unsigned flags, struct shmfs **ret_fs, struct shmfs_diag *ret_diag);
void region_close(struct shmfs *fs);

/* Answers faults in a further mapping of the region too: a file that is shortened kills nobody. -ENOMEM. */
int region_guard(struct shmfs *fs, void *base, uint64_t len);
void region_unguard(struct shmfs *fs, void *base);
void region_fork_before(void);
void region_fork_after(void);

/* Validates a superblock that was copied out; file_size in bytes. On success fills ret_layout. */
int region_check(const struct superblock *sb, uint64_t file_size, struct layout *ret_layout,
                 struct shmfs_diag *ret_diag);

/* Length of the file as it is now, at least that of the fixed metadata; for who checks. */
uint64_t region_file_size(const struct shmfs *fs);

/* Sets the typed pointers from base and layout. */
void region_set_pointers(struct shmfs *fs);
void region_geometry(const struct superblock *sb, const struct layout *l, struct shmfs_geometry *ret);

/*
 * The attach lock: an OFD lock on the superblock's first byte. Gives up with -EBUSY after some
 * seconds, so that a stopped holder cannot hang everybody.
 */
int region_lock(struct shmfs *fs);
void region_unlock(struct shmfs *fs);

/*
 * Is our descriptor still that of the region? A program may have closed all that it had, and its number be
 * another file's by now (A8).
 */
bool region_fd_ok(const struct shmfs *fs);
/* Has the host set memory aside for [off, off + len): no later SIGBUS there (P5). -ENOSPC. */
int region_reserve(struct shmfs *fs, uint64_t off, uint64_t len);
/* How many readings this thread is in, whose faults at holes do not count. */
extern _Thread_local int region_reading __attribute__((tls_model("initial-exec")));
/* Maps the pages back that such readings found missing. */
void region_mend(struct shmfs *fs);

/* Gives the memory of [off, off + len) back; it reads as zeros afterwards. */
void region_punch(struct shmfs *fs, uint64_t off, uint64_t len);

/* Is this region the one that its runtime area was made for (same boot, device, inode)? */
int region_identity(struct shmfs *fs, struct runtime_id *ret_id);

static inline uint64_t region_nblocks(const struct shmfs *fs)
{
    uint64_t n = LOAD_RELAXED(&fs->sb->nblocks);
    return MIN(MAX(n, UINT64_C(1)), fs->l.max_blocks);
}

static inline bool region_block_ok(const struct shmfs *fs, struct blkref b)
{
    return b.n != 0 && b.n < region_nblocks(fs);
}

/* The bytes of a block whose reference was checked, or was just made. */
static inline void *region_known_block(const struct shmfs *fs, struct blkref b)
{
    return fs->blocks + (uint64_t)b.n * BLOCK_SIZE;
}

/* The bytes of a block; NULL where the reference is out of bounds. */
static inline void *region_block(const struct shmfs *fs, struct blkref b)
{
    return region_block_ok(fs, b) ? region_known_block(fs, b) : NULL;
}

static inline bool region_inode_ok(const struct shmfs *fs, uint32_t ino)
{
    return ino != 0 && ino < fs->l.ninodes;
}

static inline struct offref region_offset(const struct shmfs *fs, const void *p)
{
    return (struct offref){ (uint64_t)((const uint8_t *)p - fs->base) };
}

static inline bool region_contains(const struct shmfs *fs, uint64_t off, uint64_t len)
{
    return off < fs->map_len && len <= fs->map_len - off;
}

static inline uint32_t region_block_group(const struct shmfs *fs, uint32_t blk)
{
    return blk / fs->l.group_blocks;
}

/* Groups that have blocks today. */
static inline uint32_t region_ngroups(const struct shmfs *fs)
{
    return (uint32_t)div_up(region_nblocks(fs), fs->l.group_blocks);
}

static inline uint64_t *region_block_map(const struct shmfs *fs, uint32_t group)
{
    return (uint64_t *)(void *)(fs->block_maps + (uint64_t)group * (fs->l.group_blocks / 8));
}

static inline uint64_t *region_inode_map(const struct shmfs *fs, uint32_t group)
{
    return (uint64_t *)(void *)(fs->inode_maps + (uint64_t)group * (fs->l.group_inodes / 8));
}

#endif
