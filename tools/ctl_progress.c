/* SPDX-License-Identifier: MIT */
/* Long work: how far it is, for who looks at a terminal; and its end where a signal asks for it. */
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "ctl.h"

enum { SECOND = 1000000000, DRAW_NS = SECOND / 10 };

static volatile sig_atomic_t came;

static void on_signal(int signal)
{
    came = signal;
}

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
}

/* A line that is longer than the terminal is wide could not be drawn over. */
static int columns(void)
{
    struct winsize size;

    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1 : 79;
}

static void draw(struct ctl_progress *p, uint64_t done, uint64_t total)
{
    uint64_t now = now_ns(), rate;
    char size[16], speed[16], left[32], line[160];

    if (done < p->last_done) /* it is gone through once more */
        p->turn = now;
    p->last_done = done;
    if (now - p->last_draw < DRAW_NS)
        return;
    p->last_draw = now;
    rate = ctl_rate(done, now - p->turn);
    snprintf(line, sizeof(line), "shmfsctl: %s: %3u%% of %s, %s/s, %s left", p->what,
             total > 0 ? (unsigned)((__uint128_t)done * 100 / total) : 100,
             shmfs_size_text(total, size, sizeof(size)), shmfs_size_text(rate, speed, sizeof(speed)),
             rate > 0 ? ctl_elapsed_text((total - done) / rate, left, sizeof(left)) : "?");
    fprintf(stderr, "\r%.*s\033[K", columns(), line);
    fflush(stderr);
    p->drawn = true;
}

static int step(void *arg, uint64_t done, uint64_t total)
{
    struct ctl_progress *p = arg;

    if (p->terminal)
        draw(p, done < total ? done : total, total);
    return came != 0;
}

void ctl_progress_begin(struct ctl_progress *p, const char *what, const struct ctl_call *call)
{
    static const int signals[] = { SIGINT, SIGTERM };
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND | SA_RESTART }, was;

    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        if (sigaction(signals[i], NULL, &was) == 0 && was.sa_handler != SIG_IGN) /* as nohup(1) has it */
            sigaction(signals[i], &action, NULL);
    *p = (struct ctl_progress){
        .steps = { .step = step, .arg = p },
        .what = what,
        .terminal = !call->json && isatty(STDERR_FILENO),
    };
    p->begun = p->turn = p->last_draw = now_ns();
}

void ctl_progress_clear(struct ctl_progress *p)
{
    if (p->drawn)
        fputs("\r\033[K", stderr);
    p->drawn = false;
}

uint64_t ctl_progress_end(struct ctl_progress *p)
{
    ctl_progress_clear(p);
    return now_ns() - p->begun;
}

int ctl_progress_signal(void)
{
    return came;
}
