/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_SERVE_H
#define SHMFS_SERVE_H

/* The libfuse session, its device, and the threads that read from it. */
#include <stdbool.h>
#include <stddef.h>

#include "driver.h"

/* Sent to the thread that called serve_start() when the last worker has ended; it keeps it blocked. */
#define SERVE_ENDED SIGUSR2

struct server;

/* 0, or -ENOMEM, -EIO (has been said). */
int serve_new(struct driver *driver, struct server **ret);

/* Starts n workers on the device of a mount, which now belongs to the server also on failure. */
int serve_start(struct server *server, int fd, unsigned n);

/* How many workers are at work. They end by themselves when the filesystem has been unmounted. */
unsigned serve_running(const struct server *server);

/*
 * To be called about once a second: where a worker is held up, by a process that is stopped while it has a
 * lock of the library's (A7), lets another one read. It is as many programs as there are workers that can
 * run into such a lock before everybody has to wait.
 */
void serve_look(const struct server *server);

/* Waits at most `milliseconds` for all of them to end; returns whether they have. */
bool serve_wait(const struct server *server, unsigned milliseconds);

/* Ends all workers, each after the request that it is at. */
void serve_stop(struct server *server);

/* Closes the device: whoever still uses the mount gets errors. */
void serve_free(struct server *server);

/* In a worker: its buffer for replies, of at least n bytes until the next call; NULL: no memory. */
void *serve_buffer(size_t n);

/*
 * In a worker: whether to try an operation again that ended with r. The space of a removed file comes
 * back when the kernel forgets it, a moment after unlink() has returned: so ENOSPC shortly after a removal
 * is waited out, for a quarter of a second
 * at most, while other workers serve.
 */
bool serve_again(int r, unsigned *tries);
/* In a worker: around what may sleep, while others serve. */
void serve_sleeps(bool begins);
/* In a worker: something was removed, and will be forgotten. */
void serve_removed(void);

/* As many workers as fit this machine: few and close beat many (docs/DESIGN.md). */
unsigned serve_default_workers(void);

#endif
