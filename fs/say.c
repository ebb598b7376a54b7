/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "fuse.h"
#include "say.h"

static atomic_bool to_log;

/* One write a line, so that lines of several threads do not mix. */
static void say_line(const char *text)
{
    char line[2048];
    int n;

    if (to_log) {
        syslog(LOG_ERR, "%s", text);
        return;
    }
    n = snprintf(line, sizeof(line), "shmfs: %s\n", text);
    if (n >= (int)sizeof(line)) {
        n = sizeof(line) - 1;
        line[n - 1] = '\n';
    }
    if (write(STDERR_FILENO, line, (size_t)n) < 0)
        return; /* nobody is there to be told */
}

void say(const char *format, ...)
{
    char text[2000];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    say_line(text);
}

void say_to_log(void)
{
    openlog("shmfs", LOG_PID, LOG_DAEMON);
    to_log = true;
}

static void log_of_libfuse(enum fuse_log_level level, const char *format, va_list ap)
{
    char text[2000];
    const char *start = text;
    size_t n;

    if (level == FUSE_LOG_DEBUG) {
        vfprintf(stderr, format, ap); /* -d: as it comes, in pieces */
        return;
    }
    vsnprintf(text, sizeof(text), format, ap);
    if (strncmp(text, "fuse: ", 6) == 0)
        start = text + 6;
    n = strlen(text);
    if (n > 0 && text[n - 1] == '\n')
        text[n - 1] = '\0';
    say("libfuse: %s", start);
}

void say_for_libfuse(void)
{
    fuse_set_log_func(log_of_libfuse);
}
