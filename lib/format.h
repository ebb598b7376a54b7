/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_FORMAT_H
#define SHMFS_FORMAT_H

/*
 * The region: every structure that lives in the shared mapping, and nothing else.
 *
 *   byte 0
 *   | super- | runtime | process | slots | uses | ranges | absent | inode   | group   | dirty |
 *   | block  | header  | table   |       |      |        | names  | runtime | runtime | pages |
 *            '-------------------------- runtime area ------------------------------------------'
 *                                                          meta_end           + size
 *   | group | block | inode | inode | blocks |
 *   | descs | maps  | maps  | table | 0 1 2… |
 *   '-------- persistent area ---------------'
 *
 * All integers are little-endian. All references are offsets or indices of a type of their own, so
 * that every process may map the region wherever it likes. The layout is a pure function of the
 * superblock's geometry fields (layout_compute(), layout.h) and is computed for max_blocks; the file
 * is sparse, and growing it is one ftruncate().
 *
 * The runtime area means something only on the boot, device and inode number that its header
 * records; otherwise it is made afresh (docs/LOCKING.md, "Attach").
 *
 * Who may change what, in one line a structure; the lock ranks are in docs/LOCKING.md:
 *   superblock      mkfs; later only the lines marked "changes", under the attach lock
 *   runtime         each field says
 *   proc_entry      its owner, or who holds the attach lock once the owner is dead
 *   slot            its owner; once the owner is dead, who holds the slot's recovery lock
 *   use records     taken by compare-and-swap; then their process; once it is dead, under the inode's lock
 *   ranges          taken by compare-and-swap; then under the inode's lock
 *   absent names    bits are set under the directory's lock, by the driver, which alone clears them
 *   inode_rt        under its own lock; `seq` and the counters are outside the undo log
 *   group_rt        under its own lock
 *   dirty pages     bits are set by who is within the gate; cleared by who holds it (docs/SNAPSHOT.md)
 *   group_desc, block map, inode map, bytes of free inodes: under the lock of the group
 *   inode, its extent nodes, directory buckets, xattr blocks: under the inode's lock
 * Every change of the persistent area is part of a transaction (I1).
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* Owner of this number: whoever changes a structure below raises it in the same commit. */
#define FORMAT_VERSION 4

#define FORMAT_MAGIC "shmfs\r\n\032" /* 8 bytes without the terminating NUL; a text conversion breaks it */
#define FORMAT_BYTE_ORDER UINT64_C(0x0102030405060708)

/* Feature words: an unknown bit in incompat refuses the region, in ro_compat refuses writing. */
#define FORMAT_COMPAT_KNOWN UINT32_C(0)
#define FORMAT_RO_COMPAT_KNOWN UINT32_C(0)
#define FORMAT_INCOMPAT_KNOWN UINT32_C(0)

enum {
    BLOCK_SHIFT = 12,
    BLOCK_SIZE = 1 << BLOCK_SHIFT,
    CACHE_LINE = 64,

    CHUNK_BLOCKS = 256, /* memory is reserved and given back in chunks of 1 MiB */
    CHUNK_SIZE = CHUNK_BLOCKS * BLOCK_SIZE,
    GROUP_BLOCKS_MAX = BLOCK_SIZE * 8, /* one block of bitmap each */
    GROUP_BLOCKS_MIN = 1024,
    GROUP_CHUNKS_MAX = GROUP_BLOCKS_MAX / CHUNK_BLOCKS,
    INODE_CHUNK = 512, /* inodes whose table and runtime records are reserved at once */
    GROUP_INODES_MAX = BLOCK_SIZE * 8,
    GROUP_INODES_MIN = 64,

    NAME_MAX_BYTES = 255,
    SLOT_SIZE = 192 * 1024,
    SLOT_HEAD = 4096,
    SLOT_STAGE = 64 * 1024, /* data of one all-or-nothing write */
    SLOT_LOG = SLOT_SIZE - SLOT_HEAD - SLOT_STAGE,
    SLOT_LOCKS = 64, /* locks of one transaction */
    SLOT_REDO = 20,  /* pieces of one all-or-nothing overwrite: 64 KiB touch 17 blocks */

    INODE_SIZE = 256,
    INODE_EXTENTS = 7,  /* map entries within the inode */
    INODE_INLINE = 112, /* bytes of a symlink kept within the inode (no NUL) */
    MAP_LEVELS_MAX = 8,

    XATTR_VALUE_MAX = 65536,
    XATTR_BLOCKS_MAX = 64, /* 256 KiB a file for all of its attributes */
    LINK_MAX_COUNT = 0x7fffffff,

    RECALL_WORDS = 4,
    ABSENT_BYTES = 64 * 1024, /* of a filter over names that the kernel was told do not exist */
    DIRTY_SUM = 64 * 64,      /* pages for which one bit of the summary stands: 64 words of 64 */
};

#define ROOT_INO 1u

/* References. 0 is "none" in each: block 0 and inode 0 are never allocated. */
struct blkref {
    uint32_t n; /* index into the block area */
};
struct inoref {
    uint32_t n; /* index into the inode table */
};
struct procref {
    uint64_t v; /* 0, or process table index + 1 (low 16 bits) | incarnation << 16 */
};
struct offref {
    uint64_t n; /* byte offset from the start of the region */
};

/*
 * A robust lock (docs/LOCKING.md): 0 when free, or
 *   bit 0        somebody waits (futex on the low half)
 *   bits 1..15   owner's slot index + 1
 *   bits 16..63  owner's slot incarnation
 */
struct lockword {
    uint64_t v;
};

/* ---- superblock: block 0 ------------------------------------------------------------------- */

struct superblock {
    /* Written once by mkfs, covered by `checksum`. */
    char magic[8];
    uint64_t byte_order;
    uint32_t version;
    uint32_t block_size;
    uint64_t layout_hash; /* of sizes and offsets of everything here: see layout_hash() */
    uint32_t compat;
    uint32_t ro_compat;
    uint32_t incompat;
    uint32_t pad0;
    uint8_t uuid[16];
    char label[32];     /* NUL-padded UTF-8 */
    uint64_t hash_seed; /* of directory hashes */
    uint64_t max_blocks;
    uint32_t ninodes;
    uint32_t group_blocks;
    uint32_t group_inodes;
    uint32_t ngroups;
    uint32_t nslots;
    uint32_t nprocs;
    int64_t made;      /* seconds since the epoch */
    uint64_t checksum; /* XXH3 of all bytes before it */
    uint8_t pad1[40];

    /* ---- cache line: changes, under the attach lock ---- */
    uint64_t nblocks; /* blocks in use by the file system, block 0 included; at most max_blocks */
    uint32_t clean;   /* 1: the last process detached cleanly */
    uint32_t pad2;
};
static_assert(sizeof(struct superblock) == 192 + 16, "superblock");
static_assert(offsetof(struct superblock, checksum) == 144, "superblock");

/* ---- runtime area -------------------------------------------------------------------------- */

/* What the runtime area belongs to; compared at every attach (A17). */
struct runtime_id {
    char boot_id[40]; /* /proc/sys/kernel/random/boot_id, NUL-terminated */
    uint64_t dev;
    uint64_t ino;
};

struct runtime {
    struct runtime_id id;  /* attach lock */
    uint64_t next_inc;     /* attach lock: incarnation for the next process */
    struct procref driver; /* attach lock: the mounted driver, if any */
    uint64_t mount_epoch;  /* attach lock: lookup counts of other epochs are void */
    uint32_t nattach;      /* raised by every attach and detach, and after use records were copied; a futex */
    uint32_t driver_mode;  /* enum driver_mode; attach lock */
    uint32_t recall_bell;  /* raised by who wants something recalled; a futex of the driver's */
    uint32_t resync;       /* 1: somebody changed what he could not have recalled; cleared by the driver */
    uint32_t driver_late;  /* 1: the driver let somebody wait in vain; cleared by the driver */
    uint8_t pad[128 - 100];
    /* ---- cache line: locks without an inode ---- */
    struct lockword rename_lock;       /* ancestry of directories */
    uint64_t recall_map[RECALL_WORDS]; /* slots with a recall posted, modulo its bits */
    uint8_t pad1[24];
    /* ---- cache line: looked at by every transaction, changed by snapshots alone (docs/SNAPSHOT.md) ---- */
    /* 0: open; else bits 0..15 index + 1 of the slot that shut it | bits 16..63 raised each time; a futex */
    uint64_t gate;
    uint64_t gate_count; /* how often it was shut */
    /* An image had every page but the dirty ones with this commit; 0: none has. */
    uint64_t base_sequence;
    uint8_t base[16];      /* its UUID, */
    uint64_t base_root;    /* and the root of its table: copies of one image may go different ways */
    struct procref keeper; /* attach lock: who keeps an image of this region, that fsync is for, if any */
    uint8_t pad2[8];
    /* ---- cache line: fsync, by processes that are not the keeper ---- */
    uint64_t sync_wanted; /* raised by who wants all its changes in the image; a futex of the keeper's */
    uint64_t sync_done;   /* what was wanted up to here is decided; a futex */
    uint64_t sync_failed; /* the last of them that could not be had, */
    uint32_t sync_error;  /* and why */
    uint8_t pad3[36];
};
static_assert(sizeof(struct runtime) == 320, "runtime");
static_assert(offsetof(struct runtime, gate) == 192, "runtime");

/* What the kernel, behind the mounted driver, may do with what it is told (docs/COHERENCE.md). */
enum driver_mode {
    DRIVER_LEASES = 1, /* it keeps names, attributes and pages, and drops them when they are recalled */
    DRIVER_ALONE = 2,  /* it keeps dirty pages too: nobody else may write */
};

enum proc_flags {
    PROC_DRIVER = 1,
    PROC_RDONLY = 2,
};

/* One attached process. Alive exactly while the OFD lock on the entry's first byte is held. */
struct proc_entry {
    uint64_t inc; /* 0: free; else the incarnation; never 0 while the life lock is held */
    uint32_t pid; /* in its own namespace, for messages */
    uint32_t uid;
    uint64_t pid_ns;     /* inode number of its PID namespace */
    uint64_t start_time; /* /proc/PID/stat field 22 */
    int64_t attached;    /* seconds since the epoch */
    uint32_t flags;
    uint32_t pad;
    char name[32]; /* comm, NUL-terminated */
    uint8_t pad1[48];
};
static_assert(sizeof(struct proc_entry) == 128, "proc_entry");

/*
 * I7: a slot's generation, state and log tail are one word.
 *   bits 0..23 tail (bytes of undo log in use) | bits 24..31 enum slot_state | bits 32..63 generation
 */
enum slot_state {
    SLOT_IDLE = 0,    /* nothing to undo; `todo` may still ask for work */
    SLOT_REDO_ON = 1, /* committed; the staged data is being copied home */
};

/* Work that outlives a transaction and that the undertaker finishes. */
enum todo_op {
    TODO_NONE = 0,
    TODO_REAP = 1,  /* free the inode and all it holds */
    TODO_TRIM = 2,  /* free the blocks of map positions [from, to) */
    TODO_CHAIN = 3, /* free the chain of xattr blocks that starts at block `from` */
};

struct todo {
    uint32_t op;
    struct inoref ino;
    uint64_t from;
    uint64_t to;
};

struct redo {
    struct offref to;
    uint32_t len;
    uint32_t from; /* offset in the stage */
};

/*
 * What a slot's thread wants the kernel to drop before it changes it: posted to the driver, which answers in
 * `state`. It stays afterwards: whoever tries again sees by it what was dropped, and at which count of grants.
 */
enum recall_state {
    RECALL_NONE = 0,
    RECALL_POSTED = 1,
    RECALL_DONE = 2,
    RECALL_LATE = 3, /* the driver did not answer in time */
};
enum { RECALL_INODES = 4, RECALL_NAMES = 2 };

struct recall_inode {
    struct inoref ino;
    uint32_t kinds; /* enum lease */
    uint32_t grants;
    uint32_t pad;
    uint64_t from, to; /* bytes, for LEASE_DATA */
};
struct recall_name {
    struct inoref dir;
    struct inoref ino; /* 0: the name does not exist */
    uint32_t dir_grants, ino_grants;
    uint8_t len;
    char name[255];
};
struct recall {
    uint32_t state; /* bits 0..1 enum recall_state | bits 2..31 raised by each post; a futex */
    uint32_t ninodes, nnames;
    uint32_t unrecalled; /* 1: changes although it was not dropped; who buries the slot sets runtime.resync */
    uint32_t pad[2];
    struct recall_inode inodes[RECALL_INODES];
    struct recall_name names[RECALL_NAMES];
};
static_assert(sizeof(struct recall) == 24 + RECALL_INODES * 32 + RECALL_NAMES * 272, "recall");

struct slot {
    uint64_t word;            /* see enum slot_state */
    uint64_t inc;             /* incarnation: raised each time that the slot changes hands */
    struct procref owner;     /* 0: free; taken and given up by compare-and-swap */
    struct lockword recovery; /* held by the undertaker of a dead owner (I4) */
    struct todo todo;         /* changed only under the undo log */
    uint32_t nlocks;          /* intents: a lock's offset is here before it is taken (I7) */
    uint32_t nredo;
    struct inoref closing; /* its use record goes away: is it unused now? For the undertaker to ask again */
    uint32_t recalled_for; /* ms that this operation has waited for the driver by now */
    uint64_t waited_since; /* who waits for a lock of this slot's says since when: CLOCK_MONOTONIC in ns */
    uint32_t
        outside; /* 1: has locks, or waits for one, and has changed nothing that is not committed (gate.h) */
    uint8_t pad[192 - 84];
    struct offref locks[SLOT_LOCKS];
    struct redo redo[SLOT_REDO];
    struct recall recall;
    uint8_t pad1[SLOT_HEAD - 192 - 8 * SLOT_LOCKS - 16 * SLOT_REDO - sizeof(struct recall)];
    uint8_t log[SLOT_LOG]; /* struct undo records, each padded to 8 bytes */
    uint8_t stage[SLOT_STAGE];
};
static_assert(sizeof(struct slot) == SLOT_SIZE, "slot");
static_assert(offsetof(struct slot, locks) == 192, "slot");
static_assert(offsetof(struct slot, log) == SLOT_HEAD, "slot");

/* A record of the undo log; `len` old bytes come before it, so that the log reads backwards. */
struct undo {
    struct offref off;
    uint32_t len;
    uint32_t size; /* of the whole record: round_up(len, 8) + sizeof(struct undo) */
};
static_assert(sizeof(struct undo) == 16, "undo");

/*
 * Who uses which inode: a hash table of records, in buckets of one cache line. A record is looked for
 * from the bucket of its inode on, past each bucket that ever overflowed.
 *   bits 0..31   inode number
 *   bits 32..47  process table index + 1 (an entry is not reused before its records are gone)
 *   bits 48..49  enum use_kind
 *   bit 63       USE_ENDING: counts no more, and is cleared once that is committed; changed under the inode's lock
 */
#define USE_ENDING (UINT64_C(1) << 63)
enum use_kind {
    USE_OPEN = 1, /* shmfs_open() */
    USE_PIN = 2,  /* shmfs_map(): besides, the inode's blocks stay where they are (A16) */
};
enum { USE_RECORDS = 7 };

struct use_bucket {
    uint64_t overflow; /* 1: a record of this bucket may be in the next one; never cleared */
    uint64_t records[USE_RECORDS];
};
static_assert(sizeof(struct use_bucket) == CACHE_LINE, "use_bucket");

/* A byte-range lock or flock of a program. One chain an inode, in no order. */
struct range {
    struct procref owner; /* 0: free */
    uint64_t key;         /* who within the process: a handle, the kernel's lock owner, or 0 */
    uint64_t start, end;  /* bytes, end included */
    struct inoref ino;    /* 0: taken, and in no chain yet */
    uint32_t next;        /* index + 1 of the next in the chain, or 0 */
    uint32_t pid;         /* to be told to others */
    uint16_t type;        /* F_RDLCK or F_WRLCK */
    uint16_t kind;        /* enum shmfs_lock_kind */
    int64_t since;        /* CLOCK_REALTIME in ns */
    uint8_t pad[8];
};
static_assert(sizeof(struct range) == CACHE_LINE, "range");

/*
 * Leases: what the kernel may have of an inode, for the mount epoch `epoch`. Given under the inode's lock, taken
 * back by the driver once the kernel is about to drop it.
 */
enum lease {
    LEASE_ATTR = 1,
    LEASE_DATA = 2, /* pages; of a directory its listing */
    LEASE_ACL = 4,
    LEASE_ABSENT = 8, /* of a directory: names that do not exist; which ones, the filter says */
    LEASE_REST = 16,  /* pages, from before the last recall, which was for others of them */
    LEASE_GOING = 32, /* what is cleared already, but the kernel may not have dropped yet */
    /* What a change is followed by, before its call returns: */
    LEASE_ASKED = 64,    /* attributes were answered and not leased: answers may be on their way */
    LEASE_WRITTEN = 128, /* the mount writes to it: the kernel must know where it ends */
    LEASE_GROWN =
        256, /* that has changed, and the kernel is being told: no attributes are answered till then */
    LEASE_OLD = 512,        /* of a directory: there are parts of listings that were not leased */
    LEASE_AGE = 0x3f << 16, /* of LEASE_WRITTEN: how often it was told since the mount's last write */
};

/* One cache line an inode. Survives the inode's reuse: `seq` only ever grows. */
struct inode_rt {
    struct lockword lock;
    uint64_t seq;     /* odd exactly while a transaction has the inode half-changed (I6); a futex */
    uint64_t nlookup; /* the kernel's references, of mount epoch `epoch`; under the undo log */
    uint32_t epoch;
    uint32_t leases;  /* enum lease */
    uint32_t wanted;  /* somebody is about to change it: until then (ms) reads of the mount hold back; or 0 */
    uint32_t grants;  /* raised under the lock with each name and lease given to the kernel */
    uint32_t cool;    /* was recalled: until then (ms) no names and attributes are leased */
    uint32_t ranges;  /* index + 1 of the first byte-range lock; under the undo log */
    uint32_t waiting; /* not 0: somebody sleeps on `seq`; set by them, cleared by who wakes them */
    /* The same for who waits for a byte-range lock: */
    uint32_t range_seq; /* raised whenever one was given up; a futex */
    uint32_t range_waiting;
    uint16_t dropping; /* odd while the driver has the kernel drop the inode's pages */
    uint16_t turn;     /* an append through the mount is half-way: low half of the ms when that began; or 0 */
};
static_assert(sizeof(struct inode_rt) == CACHE_LINE, "inode_rt");

struct group_rt {
    struct lockword lock;
    uint32_t block_hint; /* where the last search ended */
    uint32_t inode_hint;
    uint64_t reserved[GROUP_CHUNKS_MAX / 64]; /* chunks that the host has given memory for */
    uint64_t inode_reserved;                  /* inode chunks likewise */
    uint8_t pad[24];
};
static_assert(sizeof(struct group_rt) == CACHE_LINE, "group_rt");
static_assert(GROUP_INODES_MAX / INODE_CHUNK <= 64, "inode_reserved is one word");

/* ---- persistent area ----------------------------------------------------------------------- */

struct group_desc {
    uint32_t free_blocks;
    uint32_t free_inodes;
    uint8_t pad[56];
};
static_assert(sizeof(struct group_desc) == CACHE_LINE, "group_desc");

/* A run of blocks at a map position. In inner nodes `blk` is the child and `len` is 0. */
struct extent {
    uint64_t pos; /* file: block number in the file; directory: lowest key of the bucket */
    struct blkref blk;
    uint32_t len;
};
static_assert(sizeof(struct extent) == 16, "extent");

struct stamp {
    int64_t sec;
    uint32_t nsec;
    uint32_t pad;
};

enum inode_flags {
    INODE_LINK_INLINE = 1, /* a symlink whose target lies in `inline_target` */
    INODE_CAPABLE = 2,     /* has security.capability, which a change of the data takes away */
    INODE_LOOSE = 4, /* is or was mapped by pointer: behind the end there may be blocks, and any bytes */
};

struct inode {
    uint32_t mode;       /* 0: free */
    uint32_t generation; /* raised when the inode is freed */
    uint32_t nlink;
    uint32_t flags;
    uint32_t uid;
    uint32_t gid;
    uint64_t size;    /* bytes; of a directory: entries */
    uint64_t blocks;  /* blocks of 4 KiB held: data, nodes, buckets, attributes */
    uint64_t version; /* raised by every change */
    uint64_t rdev;
    struct inoref parent; /* of a directory; the root is its own */
    struct blkref xattr;  /* first of a chain, or none */
    struct stamp atime, mtime, ctime, btime;
    uint32_t map_level;    /* 0: `root` holds extents; else nodes of level map_level - 1 */
    uint32_t map_count;    /* entries of `root` in use */
    uint32_t xattr_blocks; /* length of the chain at `xattr` */
    uint32_t pad;
    union {
        struct extent root[INODE_EXTENTS]; /* sorted by pos */
        char inline_target[INODE_INLINE];
    };
};
static_assert(sizeof(struct inode) == INODE_SIZE, "inode");
static_assert(offsetof(struct inode, atime) == 64, "inode");
static_assert(offsetof(struct inode, root) == 144, "inode");

/* A node of the map's B+tree: one block. */
#define NODE_MAGIC UINT32_C(0x65646f6e)
enum { NODE_ENTRIES = (BLOCK_SIZE - 32) / (int)sizeof(struct extent) };

struct node {
    uint32_t magic;
    struct inoref owner;
    uint32_t level; /* 0: extents */
    uint32_t count;
    uint8_t pad[16];
    struct extent entries[NODE_ENTRIES];
};
static_assert(sizeof(struct node) == BLOCK_SIZE, "node");

/*
 * A directory is a map from keys to buckets of one block each: the bucket of a key is the one with
 * the greatest position not above it. The first bucket is at 0 and stays until the last name is gone. A
 * key is 46 bits of the name's hash and 16 bits that tell equal hashes apart. Slots are sorted by key and grow upwards; names
 * grow downwards from the end, with holes until the bucket is compacted.
 */
#define BUCKET_MAGIC UINT32_C(0x74656b62)
enum {
    KEY_HASH_BITS = 46,
    KEY_TIE_BITS = 16,
    BUCKET_HEAD = 32,
};

struct dslot {
    uint64_t key;
    struct inoref ino;
    uint16_t off; /* of the dname, from the start of the bucket */
    uint8_t len;  /* of the name in bytes */
    uint8_t type; /* DT_* */
};
static_assert(sizeof(struct dslot) == 16, "dslot");

struct dname {
    uint8_t generation[4]; /* of the inode (A13); names are packed without alignment */
    char name[];           /* dslot.len bytes, no NUL */
};

struct bucket {
    uint32_t magic;
    struct inoref owner;
    uint16_t count; /* slots */
    uint16_t low;   /* lowest byte used by names */
    uint16_t live;  /* bytes of names that slots refer to */
    uint16_t pad;
    uint8_t pad1[16];
    struct dslot slots[(BLOCK_SIZE - BUCKET_HEAD) / sizeof(struct dslot)];
};
static_assert(sizeof(struct bucket) == BLOCK_SIZE, "bucket");

/*
 * Extended attributes: a chain of blocks that together hold a packed list of xattr_entry, each
 * followed by its name and value. A change writes a new chain and swaps the reference.
 */
#define XATTR_MAGIC UINT32_C(0x74747478)
struct xattr_block {
    uint32_t magic;
    struct inoref owner;
    struct blkref next;
    uint32_t len; /* bytes of `data` in use */
    uint8_t data[BLOCK_SIZE - 16];
};
static_assert(sizeof(struct xattr_block) == BLOCK_SIZE, "xattr_block");

struct xattr_entry {
    uint32_t value_len;
    uint8_t name_len;
    uint8_t pad[3];
};
static_assert(sizeof(struct xattr_entry) == 8, "xattr_entry");

/* A symlink target longer than INODE_INLINE: the bytes alone, at the start of one block. */

#endif
