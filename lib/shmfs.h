/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_H
#define SHMFS_H

/*
 * libshmfs: a filesystem in shared memory, used directly and without system calls.
 *
 * Processes map one region (a file, usually under /dev/shm) and work on the filesystem in it side by
 * side with each other and with the mount, shmfs(8). Any of them may be killed at any instruction:
 * each call is all or nothing, the rest go on, and what the dead held is given back.
 *
 * Trust. Whoever may open the region for writing may store anything into it. Permissions are checked
 * as the kernel would, by the credentials that the process had when it attached: they keep honest
 * programs from mistakes, and nobody from malice. Who must not be trusted gets the mount, or a
 * region file that it may only read: then it can change nothing, and do no more than hold others up at
 * attaching, by locks on that file.
 *
 * Contract of every function, unless it says otherwise:
 *   - returns 0, a count or an offset, or a negative errno; what errno is afterwards means nothing.
 *     ret_* arguments are untouched on failure;
 *   - may be called from any number of threads and processes at once, also on one handle; but a
 *     handle must not be used during or after the call that ends it;
 *   - takes effect at one instant, for direct processes and the mount alike, or not at all, also
 *     when its process is killed within it. The exceptions name what is left;
 *   - is no cancellation point, and must not be called with asynchronous cancellation enabled;
 *   - touches the caller's memory only while it holds nothing: a fault in it may be handled, also by a
 *     jump out of the handler. What the call did is then undone, or done as a whole; memory that it had
 *     allocated is lost;
 *   - must not be called from a signal handler that interrupted a call of this library;
 *   - sizes and offsets are in bytes.
 *
 * Errors that any of them may give, besides those that the function of the same name in POSIX gives
 * for the same reasons and those that are listed with it:
 *   -EUCLEAN    bytes in the region that this call met make no sense: the object is damaged;
 *               fsck.shmfs(8) says more
 *   -EIO        the region file was shortened while it was attached; detach
 *   -EROFS      a change, but the attach is read-only
 *   -EAGAIN     a read-only attach could not get a look at a whole state for 20 ms: somebody is
 *               changing the object all the time, or was stopped or killed within a change
 *   -ESTALE     a read-only attach: the file of this handle is removed
 *   -EUSERS     more threads, at work or idle after work, than the region has transaction slots
 *   -ENFILE     the region's table of open files is full
 *   -ENOSPC     the filesystem is full, or the host has no memory for more
 *   -EBADF      the handle does not belong to this process: see "Fork"
 *
 * Paths. A path starts at the root of the filesystem, with or without a leading slash; there is no
 * working directory. Symbolic links with absolute targets are followed from the root of the
 * filesystem. -ENAMETOOLONG: 4096 bytes and more. -ELOOP: more than 40 links.
 *
 * Fork. A child that fork() made has the parent's attaches, open files, directories and mappings as
 * its own, with places in the region's tables that it got before fork() returned: parent and child
 * may each go on, close, or die, without harm to the other. It inherits no locks. If no place was
 * free, or the process may no longer open the region file (it has changed its user or root since it
 * attached), or the child was made by another way than fork() (clone, vfork), every call with what it
 * inherited gives -EBADF, and its mappings are not there. It may attach anew. After exec there is nothing left to close: the
 * attach has ended.
 *
 * Death of others. Whatever a killed process held is given back within 10 ms where a driver runs,
 * and otherwise by the next process that meets it. A process that is stopped (SIGSTOP, a debugger)
 * within a call keeps its locks: others wait. shmfsctl(1) ps names it, and the mount options stall
 * and stall_timeout say what the driver does about it.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <time.h>

#define SHMFS_VERSION_MAJOR 0
#define SHMFS_VERSION_MINOR 1
#define SHMFS_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif

struct shmfs;      /* an attach */
struct shmfs_file; /* an open file; or a directory opened for waiting and for its attributes */
struct shmfs_dir;  /* a directory being listed */

/* ---- attaching ------------------------------------------------------------------------------ */

enum shmfs_flags {
    SHMFS_RDONLY = 1,   /* needs no more than read permission for the region; nobody notices it */
    SHMFS_NOATIME = 16, /* reading leaves access times alone */
};

/*
 * Attaches to the region at WHERE: the region file, or a directory that a region is mounted on. A
 * process may attach more than once, also to one region.
 *
 * Read-write, the process enters the region's process table, with a lock of the kernel's that says
 * that it lives; it buries the dead that it finds. Read-only, it takes no lock and leaves no trace:
 * it sees whole states only, files that it has open may be removed under it (-ESTALE), and what it
 * has mapped is not pinned: once the file is changed by others the bytes may be those of another file.
 *
 * -ENOENT, -EACCES; -EINVAL: neither a region nor its mount, or unknown flags; -EUCLEAN: a region
 * of another version or layout, or damaged; -EBUSY: held up by another attach for 5 seconds, or
 * mounted with cache=writeback, which leaves SHMFS_RDONLY;
 * -EUSERS: the process table is full; -ENOMEM, -EMFILE.
 */
int shmfs_attach(const char *where, unsigned flags, struct shmfs **ret_fs);
/*
 * One line on why the last shmfs_attach() of this thread failed, and what to do about it. Valid until
 * the thread's next shmfs_attach().
 */
const char *shmfs_attach_error(void);

/*
 * Ends an attach: closes its files and directories, unmaps its mappings, drops its locks. Handles of
 * it are void afterwards. NULL is allowed. The last process to detach leaves the region clean.
 */
void shmfs_detach(struct shmfs *fs);

/*
 * The credentials that permissions are checked by are taken at the attach: effective user and group,
 * supplementary groups, umask. This takes them anew, after a setuid() or the like. -ENOMEM.
 */
int shmfs_setcreds(struct shmfs *fs);
/* Sets the attach's file mode creation mask; returns the one before. */
mode_t shmfs_umask(struct shmfs *fs, mode_t mask);

/* ---- files ---------------------------------------------------------------------------------- */

/*
 * Opens the regular file or directory at PATH. oflags: O_RDONLY, O_WRONLY or O_RDWR, with O_CREAT,
 * O_EXCL, O_TRUNC, O_APPEND, O_NOFOLLOW, O_DIRECTORY, O_TMPFILE (PATH is the directory), O_NOATIME,
 * O_PATH; O_CLOEXEC, O_NONBLOCK, O_SYNC and O_DSYNC are accepted and change nothing. MODE counts where
 * a file is made. The file lives as long as it is open. -ENXIO: a FIFO, socket or device.
 * A crash leaves the file made, or not; opens of the dead are given back.
 */
int shmfs_open(struct shmfs *fs, const char *path, int oflags, mode_t mode, struct shmfs_file **ret_file);
/* Drops the process's POSIX record locks of the file (as close(2) does) and the flock of this handle. */
int shmfs_close(struct shmfs_file *file);

/*
 * Reads up to n bytes; short only at the end of the file, where it gives 0. Up to 64 KiB are one
 * state of the file; more may be several, each of 64 KiB or more.
 */
ssize_t shmfs_pread(struct shmfs_file *file, void *buf, size_t n, off_t off);
/*
 * Writes n bytes. Up to 64 KiB are all or nothing (on a full region the part that fits is written, and
 * counted). More is a chain of writes: killed within it, a prefix is left, and -ENOSPC after
 * a part returns the count of that part. With O_APPEND, OFF is ignored. Blocks that shmfs_map() has
 * handed out are written in place. -EFBIG also beyond RLIMIT_FSIZE as it was at the attach (no SIGXFSZ).
 */
ssize_t shmfs_pwrite(struct shmfs_file *file, const void *buf, size_t n, off_t off);
/*
 * Writes at the end of the file, wherever that is by then; ret_off (may be NULL) gets the offset of
 * the first byte. Appends of up to 64 KiB by any number of processes follow one another unbroken.
 */
ssize_t shmfs_append(struct shmfs_file *file, const void *buf, size_t n, off_t *ret_off);

/*
 * Gives a pointer to bytes [off, off + len) of the file in the region itself: who maps the same bytes
 * shares them. OFF is a multiple of 4096, and the range lies within the file's last block (so set the size
 * first): -ENXIO. Holes in the range are filled (-ENOSPC). prot: PROT_READ, or PROT_READ | PROT_WRITE, which asks for
 * O_RDWR. The file's blocks are pinned until the last unmap: whatever others do with the file, these
 * bytes are nobody else's. A truncate leaves them to those who have them mapped, and who grows the
 * file again sees zeros there, and shares them again.
 *
 * Stores are seen by other pointers and reads at once, atomicity as the hardware has it. Nobody is
 * told of them before shmfs_msync().
 * A handle may be closed while its mappings stay. -EACCES, -ENOMEM, -EINVAL.
 */
int shmfs_map(struct shmfs_file *file, off_t off, size_t len, int prot, void **ret_addr);
/* Ends one mapping, as a whole: ADDR and LEN as shmfs_map() had them. -EINVAL: there is none such. */
int shmfs_unmap(struct shmfs *fs, void *addr, size_t len);
/*
 * Publishes what was stored through pointers into [off, off + len): times and version of the file change,
 * who waits in shmfs_wait() wakes, the mount sees the bytes. Waits until the kernel has dropped what it has of them.
 */
int shmfs_msync(struct shmfs_file *file, off_t off, size_t len);

/*
 * Sleeps until the file's (or directory's) version differs from *version, then stores the present
 * one there and returns 0. Start with *version = 0, which no file has. Every change of content,
 * names or attributes raises the version; reading, and stores through pointers, do not.
 * timeout_ms: -1 waits for ever, 0 only looks. -ETIMEDOUT, -EINTR; *version is untouched then.
 * A change by somebody who was killed right after it may be seen up to 50 ms late. A read-only attach
 * polls, every 1 to 20 ms.
 */
int shmfs_wait(struct shmfs_file *file, uint64_t *version, int timeout_ms);

int shmfs_fstat(struct shmfs_file *file, struct stat *ret_st);
int shmfs_ftruncate(struct shmfs_file *file, off_t size);
/*
 * mode as fallocate(2): 0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE; else -EOPNOTSUPP. Killed while it
 * fills, some of it is there; while it zeroes a file that is mapped, some is zero.
 */
int shmfs_fallocate(struct shmfs_file *file, int mode, off_t off, off_t len);
/* As lseek(2) with SEEK_DATA and SEEK_HOLE; -ENXIO. */
off_t shmfs_lseek_data(struct shmfs_file *file, off_t off);
off_t shmfs_lseek_hole(struct shmfs_file *file, off_t off);
/*
 * Where the region is mounted with -o image=: returns once all that was changed in the filesystem before is in the image, on disk (of
 * what is stored through pointers, as of shmfs_msync()). -EIO: who kept the image is dead; -EIO, -ENOSPC, -EROFS and
 * others: what kept the snapshot from being made; -EBUSY: a process is stopped in the middle of a change. Without an image memory is
 * all there is: 0. Calls of any number of threads and processes share a snapshot. A crash in it leaves this snapshot or the one before.
 */
int shmfs_fsync(struct shmfs_file *file);
int shmfs_fchmod(struct shmfs_file *file, mode_t mode);
int shmfs_fchown(struct shmfs_file *file, uid_t uid, gid_t gid);
int shmfs_futimens(struct shmfs_file *file, const struct timespec times[2]);

/* ---- locks between processes ---------------------------------------------------------------- */

/*
 * As fcntl(2): F_GETLK, F_SETLK, F_SETLKW (owned by this attach of the process) and F_OFD_GETLK,
 * F_OFD_SETLK, F_OFD_SETLKW (owned by this handle). l_whence: SEEK_SET or SEEK_END. They hold between
 * direct processes, and with programs on a mount made with local_lock=none. -EAGAIN: held by
 * another; -EDEADLK: waiting would never end; -ENOLCK: the region's table of locks is full.
 * Locks of the dead are given back. A waiter looks again at least every 50 ms. -EINTR: a signal was
 * handled while waiting.
 */
int shmfs_fcntl(struct shmfs_file *file, int cmd, struct flock *lock);
/* As flock(2): LOCK_SH, LOCK_EX or LOCK_UN, with LOCK_NB: -EWOULDBLOCK. */
int shmfs_flock(struct shmfs_file *file, int operation);

/* ---- names ---------------------------------------------------------------------------------- */

int shmfs_stat(struct shmfs *fs, const char *path, struct stat *ret_st);
int shmfs_lstat(struct shmfs *fs, const char *path, struct stat *ret_st);
int shmfs_access(struct shmfs *fs, const char *path, int mode);
int shmfs_truncate(struct shmfs *fs, const char *path, off_t size);
int shmfs_mkdir(struct shmfs *fs, const char *path, mode_t mode);
int shmfs_rmdir(struct shmfs *fs, const char *path);
int shmfs_unlink(struct shmfs *fs, const char *path);
/* flags as renameat2(2): 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT. */
int shmfs_rename(struct shmfs *fs, const char *from, const char *to, unsigned flags);
int shmfs_link(struct shmfs *fs, const char *from, const char *to); /* does not follow FROM */
/* Gives a file opened with O_TMPFILE a name. -ENOENT: it had one and lost it. */
int shmfs_flink(struct shmfs_file *file, const char *to);
int shmfs_symlink(struct shmfs *fs, const char *target, const char *path);
/* At most n bytes and no NUL, as readlink(2); returns how many. */
ssize_t shmfs_readlink(struct shmfs *fs, const char *path, char *ret, size_t n);
int shmfs_mknod(struct shmfs *fs, const char *path, mode_t mode, dev_t dev);
int shmfs_chmod(struct shmfs *fs, const char *path, mode_t mode);
int shmfs_chown(struct shmfs *fs, const char *path, uid_t uid, gid_t gid);
int shmfs_lchown(struct shmfs *fs, const char *path, uid_t uid, gid_t gid);
/* flags: 0 or AT_SYMLINK_NOFOLLOW. times as utimensat(2), NULL for now, UTIME_NOW, UTIME_OMIT. */
int shmfs_utimens(struct shmfs *fs, const char *path, const struct timespec times[2], int flags);
int shmfs_statfs(struct shmfs *fs, struct statvfs *ret);

/* As setxattr(2) and so on; they follow links, the l forms do not. */
int shmfs_setxattr(struct shmfs *fs, const char *path, const char *name, const void *value, size_t n,
                   int flags);
ssize_t shmfs_getxattr(struct shmfs *fs, const char *path, const char *name, void *ret, size_t n);
ssize_t shmfs_listxattr(struct shmfs *fs, const char *path, char *ret, size_t n);
int shmfs_removexattr(struct shmfs *fs, const char *path, const char *name);
int shmfs_lsetxattr(struct shmfs *fs, const char *path, const char *name, const void *value, size_t n,
                    int flags);
ssize_t shmfs_lgetxattr(struct shmfs *fs, const char *path, const char *name, void *ret, size_t n);
ssize_t shmfs_llistxattr(struct shmfs *fs, const char *path, char *ret, size_t n);
int shmfs_lremovexattr(struct shmfs *fs, const char *path, const char *name);

/* ---- listing -------------------------------------------------------------------------------- */

int shmfs_opendir(struct shmfs *fs, const char *path, struct shmfs_dir **ret_dir);
/*
 * The next entry, "." and ".." first: 1 and ret_entry, or 0 at the end. The entry is valid until the
 * next call on this handle, which one thread at a time may use. d_off is a position for
 * shmfs_seekdir() (0: the start) that stays valid whatever is added or removed. Names that are there
 * all the while come exactly once.
 */
int shmfs_readdir(struct shmfs_dir *dir, const struct dirent **ret_entry);
void shmfs_seekdir(struct shmfs_dir *dir, off_t position);
int shmfs_closedir(struct shmfs_dir *dir);

#ifdef __cplusplus
}
#endif

#endif
