/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "peer.h"

/* ---- /proc/PID/stat ------------------------------------------------------------------------------- */

struct life {
    char state;
    uint64_t start_time;
};

static bool read_life(uint32_t pid, struct life *ret)
{
    char text[1024], *at;
    struct life life;
    ssize_t n;
    int fd;

    snprintf(text, sizeof(text), "/proc/%" PRIu32 "/stat", pid);
    fd = open(text, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    at = strrchr(text, ')'); /* the name may hold anything */
    if (!at ||
        sscanf(at + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %" SCNu64,
               &life.state, &life.start_time) != 2)
        return false;
    *ret = life;
    return true;
}

char peer_state(const struct shmfs_process *p)
{
    struct life life;

    return p->same_ns && read_life(p->pid, &life) && life.start_time == p->start_time ? life.state : 0;
}

/* ---- pidfds --------------------------------------------------------------------------------------- */

int peer_open(const struct shmfs_process *p)
{
    struct life life;
    int fd;

    if (!p->same_ns || p->pid == 0 || p->pid > INT32_MAX)
        return -ESRCH;
    fd = (int)syscall(SYS_pidfd_open, (pid_t)p->pid, 0);
    if (fd < 0)
        return -errno;
    /* Looked at after opening: from here on the pid cannot have passed to somebody else unseen. */
    if (read_life(p->pid, &life) && life.start_time == p->start_time)
        return fd;
    close(fd);
    return -ESRCH;
}

static bool has_ended(int pidfd)
{
    struct pollfd p = { .fd = pidfd, .events = POLLIN };

    return poll(&p, 1, 0) != 0;
}

/* ---- what it has mapped --------------------------------------------------------------------------- */

/*
 * The device of the file INO as maps shows it, which need not be what stat() says (btrfs, overlayfs): so
 * two processes' are compared. -ENXIO: PID has no such file mapped.
 */
static int mapped_device(const char *pid, ino_t ino, char *ret, size_t n)
{
    char path[48], line[4096], device[32];
    bool found = false;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%s/maps", pid);
    f = fopen(path, "re");
    if (!f)
        return -errno;
    while (!found && fgets(line, sizeof(line), f)) {
        uint64_t inode;

        found = sscanf(line, "%*s %*s %*s %31s %" SCNu64, device, &inode) == 2 && inode == ino;
    }
    fclose(f);
    if (!found)
        return -ENXIO;
    snprintf(ret, n, "%s", device);
    return 0;
}

static int has_region(uint32_t pid, ino_t region)
{
    char number[16], ours[32], its[32];
    int r = mapped_device("self", region, ours, sizeof(ours));

    snprintf(number, sizeof(number), "%" PRIu32, pid);
    if (r < 0)
        return r;
    r = mapped_device(number, region, its, sizeof(its));
    if (r < 0)
        return r;
    return strcmp(ours, its) == 0 ? 0 : -ENXIO;
}

int peer_kill(const struct shmfs_process *p, ino_t region)
{
    int r, fd = peer_open(p);

    if (fd < 0)
        return fd;
    r = has_region(p->pid, region);
    if (has_ended(fd)) /* otherwise /proc/PID was its own all the while */
        r = -ESRCH;
    else if (r == 0 && syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0)
        r = -errno;
    close(fd);
    return r;
}
