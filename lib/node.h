/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_NODE_H
#define SHMFS_NODE_H

/*
 * The filesystem by inode number: what the driver, mkfs and the tools build on. Not installed;
 * programs use <shmfs.h>.
 *
 * Contract of every function here, unless it says otherwise:
 *   - returns 0 (or a count) or a negative errno; ret_* are untouched on failure;
 *   - may be called from any number of threads and processes at once;
 *   - is all or nothing for every observer, also when its process is killed within it;
 *   - -ESTALE: no such inode (any more); -EUCLEAN: the object's bytes make no sense;
 *     -EROFS: attached read-only; -EIO: the region file was shortened under us;
 *     -ENOSPC: no blocks, no inodes, or the host has no memory for more;
 *     -EUSERS: all transaction slots are taken by living threads.
 * Permissions are the caller's business (the kernel's, under a mount).
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

struct shmfs;

/* ---- what went wrong with a region, in a form that can be said --------------------------------- */

enum shmfs_reason {
    SHMFS_REASON_NONE = 0, /* errno says it all */
    SHMFS_REASON_NOT_REGION,
    SHMFS_REASON_BYTE_ORDER,
    SHMFS_REASON_VERSION, /* a: the region's, b: ours */
    SHMFS_REASON_FEATURE, /* a: unknown incompat bits, b: unknown ro_compat bits */
    SHMFS_REASON_LAYOUT,  /* same version, other layout: another build */
    SHMFS_REASON_CHECKSUM,
    SHMFS_REASON_GEOMETRY,
    SHMFS_REASON_TRUNCATED, /* a: bytes there are, b: bytes there should be */
    SHMFS_REASON_IN_USE,    /* a: pid of a process that is attached */
    SHMFS_REASON_MOUNTED,   /* a: pid of the driver */
    SHMFS_REASON_UNCLEAN,   /* not detached cleanly before a reboot, or a copy of a live region */
    SHMFS_REASON_TOO_SMALL, /* a: bytes asked for, b: smallest that works */
    SHMFS_REASON_TOO_LARGE, /* a: bytes asked for, b: largest that works */
    SHMFS_REASON_EXISTS,    /* a region is there already */
    SHMFS_REASON_ALONE,     /* a: pid of a driver that keeps dirty pages in the kernel */
    SHMFS_REASON_FULL,      /* process table is full; a: its size */
    SHMFS_REASON_NOT_FILE,  /* not a regular file */
    /* Of images: */
    SHMFS_REASON_NOT_IMAGE,
    SHMFS_REASON_IMAGE_VERSION,    /* a: the image's, b: ours */
    SHMFS_REASON_IMAGE_HEADER,     /* both headers are damaged, or the newer one is lost */
    SHMFS_REASON_IMAGE_GEOMETRY,   /* it says a number of pages that cannot be */
    SHMFS_REASON_IMAGE_JOURNAL,    /* a: the last commit that is there, b: the one that should be */
    SHMFS_REASON_IMAGE_TABLE,      /* the table of hashes is damaged */
    SHMFS_REASON_IMAGE_PAGES,      /* a: pages that are damaged */
    SHMFS_REASON_IMAGE_OTHER,      /* of another filesystem */
    SHMFS_REASON_IMAGE_BUSY,       /* somebody else writes it */
    SHMFS_REASON_SNAPSHOT_BUSY,    /* another snapshot of the region goes on */
    SHMFS_REASON_SNAPSHOT_STUCK,   /* a: pid of a process that is stopped in the middle of a change */
    SHMFS_REASON_SNAPSHOT_STOPPED, /* who made it was stopped while others waited for it, again and again */
};

struct shmfs_diag {
    enum shmfs_reason reason;
    uint64_t a, b;
};

/*
 * One line, without a newline, that names PATH, says what is wrong with it and what to do:
 * for REASON_NONE it is made from ERR (a negative errno). Truncated to N bytes. Returns buf.
 */
const char *shmfs_diag_text(const struct shmfs_diag *diag, int err, const char *path, char *buf, size_t n);

/* ---- regions -------------------------------------------------------------------------------- */

struct shmfs_make {
    uint64_t size;     /* bytes for files, as df shows them; rounded down to whole blocks */
    uint64_t max_size; /* bytes it may grow to; 0: four times size */
    uint64_t inodes;   /* 0: one for each 16 KiB of max_size, at least 1024 */
    uint8_t uuid[16];  /* all zero: a random one */
    char label[32];    /* NUL-padded */
    mode_t mode;       /* of the region file, e.g. 0600; not masked by the umask */
    uid_t root_uid;    /* owner and mode of the root directory */
    gid_t root_gid;
    mode_t root_mode; /* e.g. 0755; 01777 for a shared one */
    bool force;       /* replace a region that is there and that nobody has attached */
};

struct shmfs_geometry {
    uint64_t size, max_size; /* bytes */
    uint64_t file_size;      /* length of the region file (sparse) */
    uint64_t meta_size;      /* of which before the first block */
    uint64_t inodes;
    uint32_t groups, group_blocks, group_inodes;
    uint32_t slots, procs;
    uint32_t block_size;
    uint32_t version;
    uint8_t uuid[16];
    char label[33];
    int64_t made; /* seconds since the epoch */
};

/*
 * Makes a region at PATH. It appears whole or not at all. ret_diag says why not (never NULL).
 * -EEXIST: something is there and !force; -EBUSY: force, but it is attached by a living process.
 */
int shmfs_region_make(const char *path, const struct shmfs_make *make, struct shmfs_geometry *ret_geometry,
                      struct shmfs_diag *ret_diag);

enum shmfs_attach_flags {
    SHMFS_ATTACH_RDONLY = 1,
    SHMFS_ATTACH_DRIVER = 2,   /* be the mounted driver; -EBUSY, REASON_MOUNTED if a living one is there */
    SHMFS_ATTACH_PRIVATE = 4,  /* copy-on-write: see and repair freely, the file never changes (fsck -n);
                                 -EBUSY, REASON_IN_USE if a living process is attached */
    SHMFS_ATTACH_NOATIME = 16, /* reading leaves atime alone */
    SHMFS_ATTACH_ALONE = 32,   /* as driver, and alone to write: -EBUSY, REASON_IN_USE if others are attached
                                 read-write; and as long as we are, they get -EBUSY, REASON_ALONE */
    SHMFS_ATTACH_LEASES = 64,  /* as driver, whose kernel keeps what the functions under "leases" let it */
    SHMFS_ATTACH_NODIRATIME = 128,  /* listing leaves the atime of directories alone */
    SHMFS_ATTACH_STRICTATIME = 256, /* each reading moves atime, and not only where relatime asks for it */
    SHMFS_ATTACH_TRUSTED = 8, /* refuse (-EPERM) a file not owned by the caller or writable by others (A20) */
};

/* Attaches to the region at PATH (never through a symbolic link at its end). */
int shmfs_region_attach(const char *path, unsigned flags, struct shmfs **ret_fs, struct shmfs_diag *ret_diag);
void shmfs_region_detach(struct shmfs *fs);
void shmfs_region_geometry(struct shmfs *fs, struct shmfs_geometry *ret_geometry);

/* Housekeeping for who has a thread to spare: buries the dead, gives free memory back to the host. */
int shmfs_region_tend(struct shmfs *fs);
/* Only the first part of it; cheap while nobody died. */
int shmfs_region_bury(struct shmfs *fs);
/*
 * Sleeps until a process attaches or detaches, at most timeout_ms (-1: for ever). *ticket is what the
 * last call stored there, 0 at first. -ETIMEDOUT.
 */
int shmfs_region_watch(struct shmfs *fs, uint32_t *ticket, int timeout_ms);

/* ---- who is there, and what they hold ---------------------------------------------------------- */

struct shmfs_process {
    uint32_t entry; /* in the process table: tells two attaches of one process apart */
    uint32_t pid;   /* in the namespace that it attached from */
    uint32_t uid;
    uint64_t start_time;  /* field 22 of /proc/PID/stat: with the pid, who it is */
    int64_t attached;     /* seconds since the epoch */
    bool driver;          /* it is the mounted driver */
    bool alive;           /* false: nobody has buried it yet */
    bool same_ns;         /* pid means the same to us */
    uint32_t slots;       /* threads that have changed something */
    uint32_t opens, pins; /* open files and mappings */
    uint32_t ranges;      /* byte-range locks and flocks */
    uint32_t holds;       /* locks of the library's own that it holds at this moment */
    char name[32];
};
/* Goes through the process table: start with *cursor = 0. 1 and ret, or 0 at the end. */
int shmfs_region_next_process(struct shmfs *fs, uint32_t *cursor, struct shmfs_process *ret);

enum shmfs_lock_kind {
    SHMFS_LOCK_RENAME = 1, /* the library's own, held for microseconds: */
    SHMFS_LOCK_INODE,      /*   id: inode */
    SHMFS_LOCK_GROUP,      /*   id: allocation group */
    SHMFS_LOCK_RECOVERY,   /*   id: transaction slot of somebody dead */
    SHMFS_LOCK_POSIX,      /* programs' own; id: inode */
    SHMFS_LOCK_OFD,
    SHMFS_LOCK_FLOCK,
};
struct shmfs_lock {
    enum shmfs_lock_kind kind;
    uint32_t id;
    uint32_t pid; /* of its owner; under a mount, of the program */
    bool write;
    uint64_t start, end; /* bytes, end included; UINT64_MAX: to the end of the file */
    uint64_t
        held_ns; /* the library's own: for at least so long somebody has waited for one of this thread's; 0: nobody.
                            Programs': since when, as nanoseconds ago */
    struct shmfs_process owner;
};
/* Goes through all locks that are held: start with *cursor = 0. 1 and ret, or 0 at the end. */
int shmfs_region_next_lock(struct shmfs *fs, uint64_t *cursor, struct shmfs_lock *ret);

/* ---- byte-range locks for the mount ------------------------------------------------------------ */

/* Who locks, besides the process: the kernel's lock owner, a handle, or 0 for the process itself. */
struct shmfs_range {
    enum shmfs_lock_kind kind; /* SHMFS_LOCK_POSIX, _OFD or _FLOCK (start 0, end UINT64_MAX) */
    uint64_t key;
    uint32_t pid;        /* to be told to others */
    int type;            /* F_RDLCK, F_WRLCK, F_UNLCK */
    uint64_t start, end; /* bytes, end included */
};
/*
 * Takes, changes or gives up a lock. timeout_ms: 0 tries (-EAGAIN), -1 waits for ever (-EDEADLK: in a
 * circle), else -EAGAIN after so long. -ENOLCK: the table is full.
 */
int shmfs_node_setlk(struct shmfs *fs, uint32_t ino, const struct shmfs_range *range, int timeout_ms);
/* The first lock of somebody else's that is in the way of *range, or type F_UNLCK. */
int shmfs_node_getlk(struct shmfs *fs, uint32_t ino, const struct shmfs_range *range,
                     struct shmfs_range *ret);

/* ---- leases: what the kernel behind a mount may keep (docs/COHERENCE.md) ----------------------- */

enum shmfs_lease {
    SHMFS_LEASE_ATTR = 1,
    SHMFS_LEASE_DATA = 2, /* pages; of a directory its listing */
    SHMFS_LEASE_ACL = 4,
    SHMFS_LEASE_NAME = 16, /* only in struct shmfs_attr */
};

/* This thread's calls are made for the kernel from now on, which knows what they change: nothing is recalled. */
void shmfs_lease_serve_kernel(void);
/*
 * To be called before KINDS of an inode are read and answered: returns which of them the kernel may keep. ATTR may be
 * refused; of DATA and ACL the kernel keeps what it gets, so they are granted always, but it may take a
 * millisecond or two, and the lock of the inode. No other error than -EUSERS, -ESTALE.
 */
int shmfs_lease_grant(struct shmfs *fs, uint32_t ino, unsigned kinds);
/*
 * The end of a listing is about to be answered: is the kernel not to keep it? Because parts of it were not leased (a writer of
 * the directory waits for its turn), or are just being dropped.
 */
bool shmfs_lease_listing_is_old(struct shmfs *fs, uint32_t ino);
/* A lookup gave -ENOENT. 1: the kernel may remember it; 0: it may not; -EEXIST: the name is there by now. */
int shmfs_lease_absent(struct shmfs *fs, uint32_t parent, const char *name);

/* What the kernel is to drop: files, then names, then directories (docs/COHERENCE.md). */
struct shmfs_drop_name {
    uint32_t dir;
    uint32_t len;
    char name[256];
};
struct shmfs_drop_inode {
    uint32_t ino;
    bool pages; /* besides attributes and ACLs */
    bool dir;
    bool confirms;      /* what has changed already */
    uint64_t from, len; /* bytes; len 0: to the end */
};
struct shmfs_drop {
    bool everything;     /* shmfs_lease_each() has the inodes */
    uint32_t slot, post; /* who waits; post 0: nobody */
    unsigned ninodes, nnames;
    struct shmfs_drop_inode inodes[4];
    struct shmfs_drop_name names[2];
};
/* The next one, for one thread of the driver: 1, or 0 after timeout_ms without. */
int shmfs_lease_next(struct shmfs *fs, int timeout_ms, struct shmfs_drop *ret);
/* The same for a directory of which shmfs_lease_listing_is_old() was true; false: it is no more. */
bool shmfs_lease_next_listing(struct shmfs *fs, uint32_t ino, struct shmfs_drop *ret);
/* The kernel has dropped it: whoever waits goes on. */
void shmfs_lease_dropped(struct shmfs *fs, const struct shmfs_drop *drop);
/*
 * A write that the kernel had in a page, and that is in the region now: if something of the inode was dropped within the last
 * second, as seen before, and it has pages after, the page may have been read again between. Then the kernel must drop it
 * once more, before who wrote goes on.
 */
bool shmfs_lease_dropped_lately(struct shmfs *fs, uint32_t ino);
bool shmfs_lease_has_pages(struct shmfs *fs, uint32_t ino);
/* The size of a plain file, and 0 of others: without a lock, and so perhaps that of a change which is undone. */
uint64_t shmfs_lease_size(struct shmfs *fs, uint32_t ino);
/* From now on nobody waits for the driver: the mount is at its end. */
void shmfs_lease_stop(struct shmfs *fs);
/* A write of SHMFS_WRITE_HALF is about to be answered: from now on its rest may come. */
void shmfs_lease_half_done(struct shmfs *fs, uint32_t ino);
/*
 * Between reading attributes and answering them: the kernel takes a size that it does not know for a truncation, and
 * would zero what is just being appended to its page. So it is to have learnt of it otherwise first; this waits for that.
 */
void shmfs_lease_settle(struct shmfs *fs, uint32_t ino);
bool shmfs_lease_is_settled(struct shmfs *fs, uint32_t ino);
/* Are lookups of the inode counted? Then the kernel has it, or is about to, or is forgetting it. */
bool shmfs_lease_looked_up(struct shmfs *fs, uint32_t ino);
/* Goes through all inodes that the kernel knows, and clears their leases: start with *ino = 0. False: the end. */
bool shmfs_lease_each(struct shmfs *fs, uint32_t *ino, bool *ret_dir);

/* ---- inodes --------------------------------------------------------------------------------- */

#define SHMFS_ROOT 1u

struct shmfs_attr {
    uint32_t ino, generation;
    uint32_t mode, nlink, uid, gid;
    uint64_t rdev, size;
    uint64_t blocks; /* of 512 bytes, as st_blocks */
    uint64_t version;
    struct timespec atime, mtime, ctime, btime;
    /* Of functions with a `ref` argument: what of this answer the kernel may keep, SHMFS_LEASE_NAME and _ATTR. */
    unsigned leases;
};

/* Who makes an object. The umask counts only where the directory has no default ACL. */
struct shmfs_maker {
    uid_t uid;
    gid_t gid;
    mode_t umask;
};

/*
 * Functions with a `ref` argument count, when it is true, one lookup by the kernel for the inode
 * that they return, together with the operation; shmfs_node_forget() gives lookups back. An inode
 * without names lives until its lookups, opens and pins are gone.
 */
int shmfs_node_lookup(struct shmfs *fs, uint32_t parent, const char *name, bool ref,
                      struct shmfs_attr *ret_attr);
int shmfs_node_forget(struct shmfs *fs, uint32_t ino, uint64_t nlookup);
int shmfs_node_getattr(struct shmfs *fs, uint32_t ino, struct shmfs_attr *ret_attr);

enum shmfs_set {
    SHMFS_SET_MODE = 1,
    SHMFS_SET_UID = 2,
    SHMFS_SET_GID = 4,
    SHMFS_SET_SIZE = 8,
    SHMFS_SET_ATIME = 16,
    SHMFS_SET_MTIME = 32,
    SHMFS_SET_ATIME_NOW = 64,
    SHMFS_SET_MTIME_NOW = 128,
    SHMFS_SET_CTIME = 256,
    SHMFS_SET_KILL_PRIV = 512, /* clear set-id bits and file capabilities, as a write by a user would */
    /* With it, by somebody outside the file's group: S_ISGID goes also where the group may not execute. */
    SHMFS_SET_KILL_SGID = 1024,
};
/* Changes what `set` names. A chmod also changes the mask of an access ACL. -EFBIG, -EISDIR, -EINVAL. */
int shmfs_node_setattr(struct shmfs *fs, uint32_t ino, const struct shmfs_attr *attr, unsigned set,
                       struct shmfs_attr *ret_attr);

/* target of symlink(2); ret gets at most n bytes and no NUL; returns the target's length. */
ssize_t shmfs_node_readlink(struct shmfs *fs, uint32_t ino, char *ret, size_t n);

/*
 * Any file type but a directory or symlink. -EEXIST, -ENOTDIR, -ENOENT (directory is removed),
 * -ENAMETOOLONG, -EINVAL (a name that is empty, "." or "..", or has a slash).
 */
int shmfs_node_mknod(struct shmfs *fs, uint32_t parent, const char *name, mode_t mode, dev_t rdev,
                     const struct shmfs_maker *maker, bool ref, struct shmfs_attr *ret_attr);
int shmfs_node_mkdir(struct shmfs *fs, uint32_t parent, const char *name, mode_t mode,
                     const struct shmfs_maker *maker, bool ref, struct shmfs_attr *ret_attr);
int shmfs_node_symlink(struct shmfs *fs, const char *target, uint32_t parent, const char *name,
                       const struct shmfs_maker *maker, bool ref, struct shmfs_attr *ret_attr);
/* A regular file without a name (O_TMPFILE); always counts one lookup. May be linked later. */
int shmfs_node_tmpfile(struct shmfs *fs, uint32_t parent, mode_t mode, const struct shmfs_maker *maker,
                       struct shmfs_attr *ret_attr);
/* -EMLINK, -EPERM (a directory). */
int shmfs_node_link(struct shmfs *fs, uint32_t ino, uint32_t newparent, const char *newname, bool ref,
                    struct shmfs_attr *ret_attr);
int shmfs_node_unlink(struct shmfs *fs, uint32_t parent, const char *name); /* -EISDIR */
int shmfs_node_rmdir(struct shmfs *fs, uint32_t parent, const char *name);  /* -ENOTEMPTY, -ENOTDIR */
/* flags of renameat2(2): RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT. */
int shmfs_node_rename(struct shmfs *fs, uint32_t parent, const char *name, uint32_t newparent,
                      const char *newname, unsigned flags, const struct shmfs_maker *maker);

struct shmfs_dirent {
    uint64_t next; /* cookie to go on after this entry; "." and ".." come first */
    uint64_t seen; /* for shmfs_node_ref(): the directory's sequence */
    uint32_t ino, generation;
    uint8_t type; /* DT_* */
    uint8_t len;
    char name[256]; /* NUL-terminated */
};
/*
 * Up to n entries from `cookie` (0: the start). Returns the count, 0 at the end. Each call sees
 * whole states; a cookie stays valid whatever is added or removed. Entries that exist for the
 * whole listing are returned exactly once.
 */
int shmfs_node_readdir(struct shmfs *fs, uint32_t ino, uint64_t cookie, struct shmfs_dirent *ret, int n);
/* The same, but leaves access times alone. */
int shmfs_lease_names(struct shmfs *fs, uint32_t dir, uint64_t cookie, struct shmfs_dirent *ret, int n);
/* For READDIRPLUS: the attributes of an entry, with a lookup counted. -ENOENT: it is gone. */
int shmfs_node_ref(struct shmfs *fs, uint32_t parent, const struct shmfs_dirent *entry,
                   struct shmfs_attr *ret_attr);

/* Atomic towards writes. Returns bytes read; short only at the end of the file. Updates atime as relatime does. */
ssize_t shmfs_node_read(struct shmfs *fs, uint32_t ino, void *buf, size_t n, off_t off);
/* The same for O_NOATIME: leaves atime alone. */
ssize_t shmfs_node_peek(struct shmfs *fs, uint32_t ino, void *buf, size_t n, off_t off);

enum shmfs_write_flags {
    SHMFS_WRITE_KILL_PRIV = 1,  /* clear set-id bits and file capabilities in the same transaction */
    SHMFS_WRITE_APPEND = 2,     /* off is ignored; the data goes to the end */
    SHMFS_WRITE_CACHED = 4,     /* the kernel has it in its pages */
    SHMFS_WRITE_HALF = 8,       /* of an append through the mount: its rest may come with the next write */
    SHMFS_WRITE_PAGES = 16,     /* it keeps pages that are written as a whole: SHMFS_LEASE_DATA is granted */
    SHMFS_WRITE_KILL_SGID = 32, /* with KILL_PRIV, as SHMFS_SET_KILL_SGID */
};
/*
 * Up to SLOT_STAGE bytes: all or nothing. More: killed within it leaves a prefix; ENOSPC after a
 * part returns the count of that part. BUF must be memory private to the process. ret_off, unless
 * NULL, gets the offset written to. -EFBIG.
 */
ssize_t shmfs_node_write(struct shmfs *fs, uint32_t ino, const void *buf, size_t n, off_t off, unsigned flags,
                         off_t *ret_off);
/* FALLOC_FL_*: 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE with or without KEEP_SIZE; else -EOPNOTSUPP. */
int shmfs_node_fallocate(struct shmfs *fs, uint32_t ino, int mode, off_t off, off_t len);
/* SEEK_DATA or SEEK_HOLE; returns the offset or -ENXIO. */
off_t shmfs_node_lseek(struct shmfs *fs, uint32_t ino, off_t off, int whence);
ssize_t shmfs_node_copy(struct shmfs *fs, uint32_t from, off_t from_off, uint32_t to, off_t to_off, size_t n);
int shmfs_node_fsync(struct shmfs *fs, uint32_t ino);

/* Besides the flags of setxattr(2): the ACL is set by somebody outside the file's group. */
#define SHMFS_XATTR_KILL_SGID 0x10000
/* flags of setxattr(2). -ENODATA, -EEXIST, -ERANGE, -E2BIG, -ENOSPC. n = 0 asks for the size. */
int shmfs_node_setxattr(struct shmfs *fs, uint32_t ino, const char *name, const void *value, size_t n,
                        int flags);
ssize_t shmfs_node_getxattr(struct shmfs *fs, uint32_t ino, const char *name, void *ret, size_t n);
ssize_t shmfs_node_listxattr(struct shmfs *fs, uint32_t ino, char *ret, size_t n);
int shmfs_node_removexattr(struct shmfs *fs, uint32_t ino, const char *name);

struct shmfs_space {
    uint64_t block_size, blocks, free_blocks, inodes, free_inodes;
};
void shmfs_node_statfs(struct shmfs *fs, struct shmfs_space *ret);

/* ---- the check ------------------------------------------------------------------------------ */

struct shmfs_problem {
    uint32_t ino;     /* 0: none in particular */
    const char *text; /* one line: what, where, and how it should be */
};
struct shmfs_check {
    void (*problem)(void *arg, const struct shmfs_problem *problem);
    void (*progress)(void *arg, uint64_t done, uint64_t total); /* may be NULL; in inodes */
    void *arg;
};
struct shmfs_check_result {
    uint64_t problems, inodes, directories, blocks;
};
/*
 * Checks everything that can be checked in bytes. Nobody may change the region meanwhile
 * (SHMFS_ATTACH_PRIVATE). 0 also where problems were found: they are counted.
 */
int shmfs_check_run(struct shmfs *fs, const struct shmfs_check *check, struct shmfs_check_result *ret_result);

/* ---- snapshots and images (docs/SNAPSHOT.md) -------------------------------------------------- */

/*
 * Called now and then; in bytes; total 0: not known yet. Not 0: gives up, and the call ends with -ECANCELED. It may call nothing of
 * this library.
 */
struct shmfs_progress {
    int (*step)(void *arg, uint64_t done, uint64_t total);
    void *arg;
};

enum shmfs_snapshot_flags {
    SHMFS_SNAPSHOT_KEEP = 1,  /* this is the image that fsync is for, until it is closed or we die */
    SHMFS_SNAPSHOT_FORCE = 2, /* replaces an image that is damaged, or of another filesystem */
};

struct shmfs_snapshot;

/*
 * An image at PATH for snapshots of this region, which is attached to be written; there may be none yet. From then on nobody
 * else writes the image. For one thread at a time. -EUCLEAN, -EEXIST (another filesystem's), -EBUSY: see ret_diag.
 */
int shmfs_snapshot_open(struct shmfs *fs, const char *path, unsigned flags, struct shmfs_snapshot **ret,
                        struct shmfs_diag *ret_diag);
void shmfs_snapshot_close(struct shmfs_snapshot *snapshot);

struct shmfs_snapshot_result {
    uint64_t sequence;  /* of the commit in this image */
    uint64_t written;   /* bytes of pages that went to the image */
    uint64_t looked_at; /* bytes of pages that were compared */
    uint64_t pause_ns;  /* the longest time in which nobody could change anything */
    uint64_t pauses;
    bool fresh; /* a new image took the place of the old one */
};

/*
 * Makes a snapshot: one point in time, durable when this returns. Others go on, direct processes too. `fast`: without what programs
 * have stored through pointers and not passed to shmfs_msync(). -EBUSY: *ret_diag says who; else what the disk says (-EIO, -ENOSPC,
 * -EROFS …): the image is as it was, and the next attempt writes a fresh one. A crash leaves this snapshot or the one before.
 */
int shmfs_snapshot_take(struct shmfs_snapshot *snapshot, bool fast, const struct shmfs_progress *progress,
                        struct shmfs_snapshot_result *ret, struct shmfs_diag *ret_diag);
/* Is there anything that changed since? May be wrong while somebody changes something. */
bool shmfs_snapshot_is_due(struct shmfs_snapshot *snapshot);

/*
 * fsync: what was changed in the region before the ticket was drawn is in the kept image once the ticket is decided. The keeper
 * takes all that were drawn before it begins with a snapshot, and decides them together.
 */
uint64_t shmfs_sync_ticket(struct shmfs *fs);
/* Waits for it. 0 also where no image is kept; -EIO: the keeper died; or what kept the snapshot from being made. */
int shmfs_sync_wait(struct shmfs *fs, uint64_t ticket);
/* For the keeper: sleeps until there is a ticket to decide, at most timeout_ms; the last one drawn, or 0. */
uint64_t shmfs_sync_wanted(struct shmfs *fs, int timeout_ms);
void shmfs_sync_decide(struct shmfs *fs, uint64_t ticket, int error);

struct shmfs_image_info {
    uint8_t uuid[16]; /* of the filesystem */
    char label[33];
    uint32_t version;              /* of the region's format */
    uint64_t sequence;             /* of the last commit */
    struct timespec when;          /* that was made */
    uint64_t size, max_size, used; /* bytes: of the filesystem, and used in it */
    uint64_t inodes, file_size;    /* in use; of the image file, holes not counted */
};
/* What an image says of itself; only what it says is verified. */
int shmfs_image_info(const char *path, struct shmfs_image_info *ret, struct shmfs_diag *ret_diag);

struct shmfs_restore {
    bool force;   /* replaces a region that is there and that nobody has attached */
    bool salvage; /* restores what is not damaged */
    mode_t mode;  /* of the region file, e.g. 0600 */
    /* Damage, one line each: PATH is the file that it hits, or NULL. May be NULL. */
    void (*damage)(void *arg, const char *path, const char *text);
    struct shmfs_progress progress;
    void *arg;
};
struct shmfs_restore_result {
    uint64_t pages, damaged; /* of the image */
    uint64_t files, lost;    /* restored whole; damaged or missing, as far as known */
};
/*
 * Makes a region at PATH of what the image has: whole, or not at all. Every page is verified before it is used. -EUCLEAN: damaged,
 * and not `salvage`; then the damage is told, too. -EEXIST, -EBUSY: as shmfs_region_make().
 */
int shmfs_image_restore(const char *image, const char *path, const struct shmfs_restore *how,
                        struct shmfs_restore_result *ret, struct shmfs_diag *ret_diag);
/* The same without a region: verifies every page. 0, or -EUCLEAN once the damage is told. */
int shmfs_image_verify(const char *image, const struct shmfs_restore *how, struct shmfs_restore_result *ret,
                       struct shmfs_diag *ret_diag);

/* "4096", "64K", "1.5G", "25%" (of this machine's memory): bytes. -EINVAL, -ERANGE. */
int shmfs_size_parse(const char *text, uint64_t *ret_bytes);
/* As df -h: "11.8G". Returns buf. */
const char *shmfs_size_text(uint64_t bytes, char *buf, size_t n);

#endif
