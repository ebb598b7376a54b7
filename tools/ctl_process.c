/* SPDX-License-Identifier: MIT */
/* What /proc knows of a process that is attached. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"

/* The file's first bytes as text; false where it cannot be read. */
static bool read_text(const char *path, char *ret, size_t n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got;

    if (fd < 0)
        return false;
    got = read(fd, ret, n - 1);
    close(fd);
    if (got <= 0)
        return false;
    ret[got] = '\0';
    return true;
}

/* The letter of state, and field 22, of a stat file in /proc; the name in it may hold spaces and ')'. */
static bool read_stat(const char *path, char *ret_state, uint64_t *ret_start)
{
    char text[1024], *p;
    unsigned long long start;

    if (!read_text(path, text, sizeof(text)) || !(p = strrchr(text, ')')))
        return false;
    if (sscanf(p + 1, " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
               ret_state, &start) != 2)
        return false;
    *ret_start = start;
    return true;
}

static bool is_stopped(char state)
{
    return state == 'T' || state == 't';
}

/* A debugger may have stopped one thread of many; any of them may be who holds a lock. */
static bool any_thread_stopped(uint32_t pid)
{
    char path[64];
    const struct dirent *entry;
    bool stopped = false;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%u/task", pid);
    dir = opendir(path);
    if (!dir)
        return false;
    while (!stopped && (entry = readdir(dir)) != NULL) {
        uint64_t start;
        char state;

        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "/proc/%u/task/%.20s/stat", pid, entry->d_name);
        stopped = read_stat(path, &state, &start) && is_stopped(state);
    }
    closedir(dir);
    return stopped;
}

const char *ctl_process_state(const struct shmfs_process *process)
{
    char path[32], state;
    uint64_t start;

    if (!process->alive)
        return "dead";
    snprintf(path, sizeof(path), "/proc/%u/stat", process->pid);
    /* Another start: the pid went to somebody else, or the clock of a time namespace is another. */
    if (!process->same_ns || !read_stat(path, &state, &start) || start != process->start_time)
        return "alive";
    return is_stopped(state) || any_thread_stopped(process->pid) ? "stopped" : "running";
}

bool ctl_process_name(uint32_t pid, char *ret_name, size_t n)
{
    char path[32];

    snprintf(path, sizeof(path), "/proc/%u/comm", pid);
    if (pid == 0 || !read_text(path, ret_name, n))
        return false;
    ret_name[strcspn(ret_name, "\n")] = '\0';
    return true;
}
