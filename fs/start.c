/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "say.h"
#include "start.h"

#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif

/* Whether a program that comes now gets an answer from the new mount. */
static bool mount_answers(const char *mountpoint)
{
    struct statfs fs;
    struct stat st;

    if (statfs(mountpoint, &fs) < 0 || stat(mountpoint, &st) < 0) {
        say("%s: is mounted, but does not answer: %s; see the system's log", mountpoint, strerror(errno));
        return false;
    }
    if (fs.f_type != FUSE_SUPER_MAGIC) {
        say("%s: is mounted, but something else is seen there; see /proc/self/mounts", mountpoint);
        return false;
    }
    return true;
}

static int status_of(pid_t child, int failure_status)
{
    int status;

    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR)
            return failure_status;
    }
    if (WIFEXITED(status))
        return WEXITSTATUS(status) ? WEXITSTATUS(status) : failure_status;
    say("the driver was killed while it was starting: %s", strsignal(WTERMSIG(status)));
    return failure_status;
}

/* Never returns. */
static void wait_for(pid_t child, int fd, const char *mountpoint, int failure_status)
{
    char byte;
    ssize_t n;

    do
        n = read(fd, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n != 1)
        _exit(status_of(child, failure_status));
    if (mount_answers(mountpoint))
        _exit(0);
    kill(child, SIGTERM);
    _exit(status_of(child, failure_status));
}

int start_in_background(const char *mountpoint, int failure_status)
{
    int fds[2];
    pid_t child;

    if (pipe2(fds, O_CLOEXEC) < 0) {
        say("cannot go to the background: %s; try again later, or use -f", strerror(errno));
        return -1;
    }
    child = fork();
    if (child < 0) {
        say("cannot go to the background: %s; try again later, or use -f", strerror(errno));
        close(fds[0]);
        close(fds[1]);
        return -1;
    }
    if (child > 0) {
        close(fds[1]);
        wait_for(child, fds[0], mountpoint, failure_status);
    }
    close(fds[0]);
    return fds[1];
}

void start_ready(int fd)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    say_to_log();
    setsid();
    if (chdir("/") < 0)
        say("/: cannot change to it: %s", strerror(errno));
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        if (null > STDERR_FILENO)
            close(null);
    }
    while (write(fd, "", 1) < 0 && errno == EINTR)
        ;
    close(fd);
}
