/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mount.h"
#include "options.h"
#include "say.h"

/* ---- fusermount3 ---------------------------------------------------------------------------------- */

#define HELPER_SOCKET 3 /* where it finds the socket to send the device through */

const char *mount_find_helper(void)
{
    /* Not through PATH: it is set-user-id root, and a user's own of that name is of no use. */
    static const char *const paths[] = { "/usr/bin/fusermount3", "/bin/fusermount3",
                                         "/usr/local/bin/fusermount3", "/run/wrappers/bin/fusermount3" };

    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        if (access(paths[i], X_OK) == 0)
            return paths[i];
    }
    return NULL;
}

/* The environment with the number of the socket added. For free(); NULL: no memory. */
static char **helper_environment(void)
{
    static char variable[] = "_FUSE_COMMFD=3";
    size_t n = 0;
    char **env;

    while (environ[n])
        n++;
    env = calloc(n + 2, sizeof(*env));
    if (!env)
        return NULL;
    env[0] = variable;
    memcpy(env + 1, environ, n * sizeof(*env));
    return env;
}

/* Runs it with its words going to `log`, the socket (or -1) at its place. Its exit status, or -1. */
static int run_helper(char *const argv[], int socket, int log)
{
    const char *path = mount_find_helper();
    posix_spawn_file_actions_t actions;
    char **env = helper_environment();
    int status = -1, r = ENOENT;
    pid_t pid;

    if (path && env && posix_spawn_file_actions_init(&actions) == 0) {
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
        posix_spawn_file_actions_adddup2(&actions, 0, 1);
        posix_spawn_file_actions_adddup2(&actions, log < 0 ? 0 : log, 2);
        if (socket >= 0)
            posix_spawn_file_actions_adddup2(&actions, socket, HELPER_SOCKET);
        r = posix_spawn(&pid, path, &actions, NULL, argv, env);
        posix_spawn_file_actions_destroy(&actions);
    }
    free(env);
    if (r != 0)
        return -1;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return -1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The device that it has sent; -1: none. */
static int receive_device(int socket)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    char byte;
    struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
    struct msghdr message = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    const struct cmsghdr *c;
    int fd;

    if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) <= 0)
        return -1;
    c = CMSG_FIRSTHDR(&message);
    if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
        c->cmsg_len != CMSG_LEN(sizeof(int)))
        return -1;
    memcpy(&fd, CMSG_DATA(c), sizeof(fd));
    return fd;
}

/* Says the last line of what it wrote. */
static void say_helper_words(const char *path, int log)
{
    char text[1024] = "";
    char *line;
    ssize_t n = log >= 0 ? pread(log, text, sizeof(text) - 1, 0) : 0;

    while (n > 0 && text[n - 1] == '\n')
        n--;
    text[n > 0 ? n : 0] = '\0';
    line = strrchr(text, '\n');
    line = line ? line + 1 : text;
    if (strncmp(line, "fusermount3: ", 13) == 0)
        line += 13;
    if (*line == '\0')
        say("%s: cannot mount: fusermount3 failed; is it set-user-id root ('ls -l %s')?", path,
            mount_find_helper());
    else if (strstr(line, "Operation not permitted"))
        say("%s: cannot mount: %s; fusermount3 must be set-user-id root, and mounting be allowed here "
            "(a container needs CAP_SYS_ADMIN)",
            path, line);
    else
        say("%s: cannot mount: %s; see fusermount3(1)", path, line);
}

/* For free(); NULL: no memory. */
static char *helper_options(const struct mount_request *m)
{
    char flags[256];
    char *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);

    if (!out)
        return NULL;
    options_flag_text(m->flags | MS_NOSUID | MS_NODEV, flags, sizeof(flags));
    fprintf(out, "%s,default_permissions", flags);
    if (m->allow_other)
        fputs(",allow_other", out);
    if (m->context)
        fprintf(out, ",%s", m->context);
    fputs(",subtype=" MOUNT_SUBTYPE ",fsname=", out);
    for (const char *s = m->source; *s; s++) {
        if (*s == ',' || *s == '\\')
            fputc('\\', out); /* as it reads them */
        fputc(*s, out);
    }
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

static int mount_by_helper(const struct mount_request *m)
{
    char *options = helper_options(m);
    char *argv[] = { "fusermount3", "-o", options, "--", (char *)(uintptr_t)m->path, NULL };
    int log = memfd_create("fusermount3", MFD_CLOEXEC);
    int sockets[2], fd = -1;

    if (options && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0) {
        run_helper(argv, sockets[0], log);
        fd = receive_device(sockets[1]);
        close(sockets[0]);
        close(sockets[1]);
    }
    if (fd < 0)
        say_helper_words(m->path, log);
    if (log >= 0)
        close(log);
    free(options);
    return fd;
}

/* ---- by ourselves --------------------------------------------------------------------------------- */

static void say_mount_error(const char *path, int err)
{
    switch (err) {
    case EPERM:
    case EACCES:
        say("%s: cannot mount: %s; this needs CAP_SYS_ADMIN (a container must be given it), or fusermount3 "
            "from "
            "the package fuse3",
            path, strerror(err));
        break;
    case ENODEV:
        say("%s: cannot mount: this kernel has no FUSE; load it with 'modprobe fuse'", path);
        break;
    case EINVAL:
        say("%s: cannot mount: the kernel refuses the options; see 'dmesg'", path);
        break;
    default:
        say("%s: cannot mount: %s; see 'dmesg'", path, strerror(err));
    }
}

static int open_device(void)
{
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

    if (fd < 0)
        say("/dev/fuse: cannot open it: %s; load it with 'modprobe fuse' (a container must be given it)",
            strerror(errno));
    return fd;
}

/* The device; -1: has been said; -2: not allowed, fusermount3 may be. */
static int mount_by_ourselves(const struct mount_request *m)
{
    int fd = open_device();
    int r, err = ENOMEM;
    char *data;

    if (fd < 0)
        return -1;
    r = asprintf(&data, "fd=%d,rootmode=40000,user_id=%u,group_id=%u,default_permissions%s%s%s", fd, getuid(),
                 getgid(), m->allow_other ? ",allow_other" : "", m->context ? "," : "",
                 m->context ? m->context : "");
    if (r >= 0) {
        r = mount(m->source, m->path, MOUNT_TYPE, m->flags, data);
        err = errno;
        free(data);
    }
    if (r >= 0)
        return fd;
    close(fd);
    if ((err == EPERM || err == EACCES) && mount_find_helper())
        return -2;
    say_mount_error(m->path, err);
    return -1;
}

int mount_make(const struct mount_request *m)
{
    int fd = geteuid() == 0 ? mount_by_ourselves(m) : -2;

    return fd == -2 ? mount_by_helper(m) : fd;
}

bool mount_remove(const char *path)
{
    char *argv[] = { "fusermount3", "-u", "-q", "-z", "--", (char *)(uintptr_t)path, NULL };

    if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
        return true;
    return errno == EPERM && run_helper(argv, -1, -1) == 0;
}
