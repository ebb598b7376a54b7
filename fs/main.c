/* SPDX-License-Identifier: MIT */
/* shmfs: mounts a region. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "driver.h"
#include "guard.h"
#include "keep.h"
#include "mount.h"
#include "mountpoint.h"
#include "options.h"
#include "say.h"
#include "serve.h"
#include "start.h"
#include "store.h"
#include "tend.h"

/* As mount(8) has them. */
enum {
    STATUS_OK = 0,
    STATUS_USAGE = 1,
    STATUS_FAILED = 32,
};

#define LONG_TIMEOUT (365.0 * 24 * 3600) /* seconds; "for as long as you like" */

struct mounted {
    const struct options *options;
    const char *mountpoint;
    struct store store;
    struct driver driver;
    struct server *server;
    struct tend *tend; /* NULL: the region is attached read-only, and others look after it */
    bool unkept;       /* the last snapshot failed */
};

/* ---- signals -------------------------------------------------------------------------------------- */

static void end_signals(sigset_t *ret)
{
    sigemptyset(ret);
    sigaddset(ret, SIGTERM);
    sigaddset(ret, SIGINT);
    sigaddset(ret, SIGHUP);
    sigaddset(ret, SERVE_ENDED);
}

/* From before the mount on they only wake the main thread. All threads inherit this. */
static void hold_signals(void)
{
    sigset_t set;

    end_signals(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    /* A shell makes its background jobs ignore SIGINT; who sends it all the same means it. nohup stays. */
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
}

/* ---- a mounted filesystem's life ------------------------------------------------------------------ */

/* Until somebody unmounts (false) or asks for the end (true). */
static bool wait_for_end(struct mounted *m)
{
    const struct timespec second = { .tv_sec = 1 };
    sigset_t set;

    end_signals(&set);
    while (serve_running(m->server) > 0) {
        int sig = sigtimedwait(&set, NULL, &second);

        if (sig > 0 && sig != SERVE_ENDED)
            return true;
        serve_look(m->server);
    }
    return false;
}

/* Has the kernel write back what programs have stored through mmap. Workers must be serving. */
static void flush(const struct mounted *m)
{
    int fd = open(m->mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0) {
        syncfs(fd);
        close(fd);
    }
}

/* On a signal: away from the tree at once; who still has files open gets errors from now on. */
static void unmount(struct mounted *m)
{
    flush(m);
    if (!mount_remove(m->mountpoint))
        say("%s: cannot unmount it: %s", m->mountpoint, strerror(errno));
    if (!serve_wait(m->server, 200))
        say("%s: was in use; programs that have files open there get errors", m->mountpoint);
    serve_stop(m->server);
}

/* Where the connection broke without an unmount, a dead mount is left. */
static void remove_dead_mount(const char *mountpoint)
{
    struct statfs fs;

    if (statfs(mountpoint, &fs) < 0 && (errno == ENOTCONN || errno == ECONNABORTED))
        mount_remove(mountpoint);
}

/* ---- start ---------------------------------------------------------------------------------------- */

static unsigned long mount_flags(const struct mounted *m)
{
    const struct options *o = m->options;
    unsigned long flags = o->flags;

    /* Who can write the region can make any file a set-user-id root program, or a device (A20). */
    if (m->store.untrusted)
        flags |= (MS_NOSUID | MS_NODEV) & ~o->flags_given;
    return flags;
}

static int mount_it(const struct mounted *m)
{
    const struct options *o = m->options;
    struct mount_request request = {
        .path = m->mountpoint,
        .source = m->store.path,
        .flags = mount_flags(m),
        .allow_other = o->allow_other_given ? o->allow_other : geteuid() == 0,
        .context = o->context,
    };

    return mount_make(&request);
}

static bool start_serving(struct mounted *m, int fd)
{
    const struct options *o = m->options;
    int r = serve_start(m->server, fd, o->workers ? o->workers : serve_default_workers());

    if (r == 0)
        return true;
    say("cannot start the workers: %s; try again later, or with -o workers=1", strerror(-r));
    serve_free(m->server);
    remove_dead_mount(m->mountpoint);
    return false;
}

static int start_tending(struct mounted *m)
{
    const struct options *o = m->options;
    struct stall_settings settings = {
        .fs = m->store.fs,
        .region = m->store.ino,
        .policy = o->stall,
        .timeout_ns = (uint64_t)((o->stall_timeout > 0 ? o->stall_timeout : STALL_TIMEOUT_DEFAULT) * 1e9),
    };
    int r = m->store.readonly ? 0 : tend_start(&settings, &m->tend);

    if (r < 0)
        say("%s: cannot start to look after it: %s; try again later", m->store.path, strerror(-r));
    return r;
}

static bool start_keeping(struct mounted *m)
{
    int r = m->driver.keep ? keep_start(m->driver.keep) : 0;

    if (r == 0)
        return true;
    say("%s: cannot start to keep it: %s; try again later", m->options->image, strerror(-r));
    unmount(m);
    serve_free(m->server);
    return false;
}

/* With the last snapshot: nobody changes anything through the mount any more. */
static void end_keeping(struct mounted *m)
{
    if (!m->driver.keep)
        return;
    m->unkept = !keep_close(m->driver.keep);
    m->driver.keep = NULL;
    if (m->unkept)
        say("%s: only the region has what was changed last; it is left in place", m->store.path);
}

static int mount_and_serve(struct mounted *m, int ready_fd)
{
    bool empty = mountpoint_is_empty(m->mountpoint);
    int fd = mount_it(m);

    if (fd < 0) {
        serve_free(m->server);
        return STATUS_FAILED;
    }
    pid_t guard = guard_start(m->mountpoint);
    if (!start_serving(m, fd) || !start_keeping(m)) {
        guard_stop(guard);
        return STATUS_FAILED;
    }
    if (!empty)
        say("%s: is not empty; what is in it is hidden until shmfs is unmounted", m->mountpoint);
    if (ready_fd >= 0)
        start_ready(ready_fd);
    if (wait_for_end(m))
        unmount(m);
    serve_stop(m->server);
    end_keeping(m);
    serve_free(m->server);
    guard_stop(guard);
    remove_dead_mount(m->mountpoint);
    return STATUS_OK;
}

static int serve_driver(struct mounted *m, int ready_fd)
{
    int status, r = serve_new(&m->driver, &m->server);

    if (r < 0) {
        say("cannot start libfuse: %s", strerror(-r));
        return STATUS_FAILED;
    }
    hold_signals();
    if (start_tending(m) < 0) {
        serve_free(m->server);
        return STATUS_FAILED;
    }
    status = mount_and_serve(m, ready_fd);
    if (m->tend)
        tend_stop(m->tend);
    return status;
}

/* Mounts, serves until the end, and leaves no trace. */
static int serve_mount(struct mounted *m, int ready_fd)
{
    /* Of what others change, only the driver is told. */
    enum cache_mode cache = m->store.readonly ? CACHE_NONE : m->options->cache;
    int status;

    if (m->store.readonly && m->options->share_locks) {
        say("%s: may not be written, so no locks can be kept in it; leave out local_lock=none",
            m->store.path);
        return STATUS_FAILED;
    }
    m->driver = (struct driver){
        .fs = m->store.fs,
        .cache = cache,
        .timeout = cache == CACHE_NONE ? 0 : LONG_TIMEOUT,
        .counting = !m->store.readonly,
        .share_locks = m->options->share_locks,
        .debug = m->options->debug,
    };
    if (m->store.image &&
        !keep_open(m->store.fs, m->store.image, m->options->sync_given ? m->options->sync : KEEP_SYNC_DEFAULT,
                   &m->driver.keep))
        return STATUS_FAILED;
    status = serve_driver(m, ready_fd);
    end_keeping(m);
    return status;
}

static int run(const struct options *o, const char *mountpoint, int ready_fd)
{
    struct mounted m = { .options = o, .mountpoint = mountpoint };
    int status;

    if (!store_open(o, mountpoint, &m.store))
        return STATUS_FAILED;
    status = serve_mount(&m, ready_fd);
    /* What was asked for concerns a mount that there was; without one, nothing has happened. */
    store_close(&m.store, status == STATUS_OK ? o->dispose && !m.unkept : m.store.made || m.store.restored);
    return status;
}

/* What is opened must not become somebody's stderr. */
static void fill_standard_descriptors(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    struct options options;
    char *mountpoint;
    int ready_fd = -1, status;

    fill_standard_descriptors();
    if (argc > 1 && strcmp(argv[1], GUARD_OPTION) == 0)
        return guard_main(argc, argv);
    say_for_libfuse();
    switch (options_parse(argc, argv, &options)) {
    case OPTIONS_DONE:
        return STATUS_OK;
    case OPTIONS_WRONG:
        return STATUS_USAGE;
    case OPTIONS_RUN:
        break;
    }
    if (!mountpoint_check(&options, &mountpoint)) {
        options_free(&options);
        return STATUS_FAILED;
    }
    if (!options.foreground)
        ready_fd = start_in_background(mountpoint, STATUS_FAILED);
    status = options.foreground || ready_fd >= 0 ? run(&options, mountpoint, ready_fd) : STATUS_FAILED;
    free(mountpoint);
    options_free(&options);
    return status;
}
