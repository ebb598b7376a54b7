/* SPDX-License-Identifier: MIT */
/*
 * What the library asks of its surroundings, made cheaper (ld --wrap): a state costs some tens of
 * microseconds, and system calls would be most of it.
 */
#include <linux/futex.h>
#include <stdarg.h>
#include <sys/syscall.h>

#include "wraps.h"

void (*wraps_wait)(void);
void (*wraps_attach)(struct shmfs *fs);

int __real_txn_attach(struct shmfs *fs);
int __wrap_txn_attach(struct shmfs *fs);
int __wrap_txn_attach(struct shmfs *fs)
{
    if (wraps_attach != NULL)
        wraps_attach(fs);
    return __real_txn_attach(fs);
}

/*
 * All processes are one thread here: who finds a transaction open finds another's, at whose store he was let in, and
 * not one that a signal handler jumped out of.
 */
void __wrap_txn_leave_behind(void);
void __wrap_txn_leave_behind(void)
{
}

/* All memory is there from the start. */
int __wrap_region_reserve(struct shmfs *fs, uint64_t off, uint64_t len);
int __wrap_region_reserve(struct shmfs *fs, uint64_t off, uint64_t len)
{
    return 0;
}

/* The check asks where the file has holes; reading them costs nothing here. */
off_t __real_lseek(int fd, off_t off, int whence);
off_t __wrap_lseek(int fd, off_t off, int whence);
off_t __wrap_lseek(int fd, off_t off, int whence)
{
    if (whence == SEEK_DATA)
        return off;
    if (whence == SEEK_HOLE)
        return INT64_MAX;
    return __real_lseek(fd, off, whence);
}

/* Nobody else runs, so that a wait for a lock always takes its full time. */
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
    long args[3];
    va_list ap;

    va_start(ap, number);
    for (int i = 0; i < 3; i++)
        args[i] = va_arg(ap, long);
    va_end(ap);
    if (number != SYS_futex)
        return __real_syscall(number, args[0], args[1], args[2]);
    if ((int)args[1] == FUTEX_WAIT && wraps_wait != NULL)
        wraps_wait();
    return 0;
}

/* Somebody tries again what another's lock stood in the way of. */
int __wrap_sched_yield(void);
int __wrap_sched_yield(void)
{
    if (wraps_wait != NULL)
        wraps_wait();
    return 0;
}
