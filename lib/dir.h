/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_DIR_H
#define SHMFS_DIR_H

/* Directories: names to inode numbers, in buckets found by hash (format.h, struct bucket). */
#include "inode.h"

struct dir_name {
    const char *s;
    uint32_t len; /* 1 … NAME_MAX_BYTES */
    uint64_t key; /* of the first entry that may have this name */
};

struct dir_entry {
    uint64_t key;
    uint32_t ino;
    uint32_t generation;
    uint8_t type; /* DT_* */
    /* Where it is, or would go: good as long as the directory's sequence is the one that it was found at. */
    uint16_t at;       /* slot */
    struct blkref blk; /* bucket; 0: not said */
    uint64_t pos;      /* of the bucket */
    uint64_t seq;      /* even; 0: not known */
};

/* -EINVAL: empty, ".", ".." or with a slash; -ENAMETOOLONG. */
int dir_name_make(const struct shmfs *fs, const char *s, struct dir_name *ret);
/* The same for n bytes that are none of these. -ENAMETOOLONG. */
int dir_name_hash(const struct shmfs *fs, const char *s, size_t n, struct dir_name *ret);

/*
 * With or without the lock (then under a reading). -EUCLEAN; -ENOENT: not there, and then ret->key is
 * the key that the name would get, for dir_insert(). ret->seq is for the caller to set.
 */
int dir_find(const struct shmfs *fs, uint32_t dino, const struct inode *in, const struct dir_name *name,
             struct dir_entry *ret);
/* A whole lookup without a lock, including the check that it is a directory. -ENOTDIR. */
int dir_lookup(struct shmfs *fs, uint32_t dino, const struct dir_name *name, struct dir_entry *ret);

/*
 * With the directory locked and after inode_edit(). The name is not there: dir_find() gave entry->key. All
 * three believe what the entry says of its place; who has changed the directory since sets seq to 0.
 */
int dir_insert(struct txn *t, uint32_t dino, struct inode *in, const struct dir_name *name,
               const struct dir_entry *entry);
int dir_replace(struct txn *t, uint32_t dino, struct inode *in, const struct dir_entry *entry);
/* Frees a bucket that becomes empty (I9: last in its transaction). */
int dir_remove(struct txn *t, uint32_t dino, struct inode *in, const struct dir_entry *entry);

/* Cookies of readdir: behind "." and "..", and those of entries, which are their key + COOKIE_FIRST + 1. */
enum { COOKIE_DOTDOT = 1, COOKIE_FIRST = 2 };
#define KEYS (UINT64_C(1) << (KEY_HASH_BITS + KEY_TIE_BITS))

/*
 * Listing by buckets: copies the one of `key` whole. *ret_next is the lowest key of the next one; KEYS or more:
 * there is none. -ENOENT: the directory is empty; *ret_parent is set then too.
 */
int dir_bucket(struct shmfs *fs, uint32_t dino, uint64_t key, struct bucket *ret, uint64_t *ret_next,
               uint32_t *ret_parent);
/* In a copy: the first slot whose key is not below `key`; and the name of a slot. -EUCLEAN. */
uint32_t dir_bucket_from(const struct bucket *copy, uint64_t key);
int dir_bucket_name(const struct bucket *copy, const struct dslot *slot, const char **ret_name);

/* As shmfs_node_readdir(). */
int dir_list(struct shmfs *fs, uint32_t dino, uint64_t cookie, struct shmfs_dirent *ret, int n);

#endif
