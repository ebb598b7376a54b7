/* SPDX-License-Identifier: MIT */
/* Numbers, times and failures in words. */
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ctl.h"

enum { LINE_BYTES = 8192 }; /* a path of 4096 bytes fits, with what is said of it */

static void say(const char *format, va_list ap)
{
    char line[LINE_BYTES];

    fflush(stdout); /* in the order in which things happened, where both go to one terminal */
    vsnprintf(line, sizeof(line), format, ap);
    fprintf(stderr, "shmfsctl: %s\n", ctl_clean(line));
}

void ctl_warn(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    say(format, ap);
    va_end(ap);
}

void ctl_die(int status, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    say(format, ap);
    va_end(ap);
    exit(status);
}

const char *ctl_reason(int r)
{
    switch (-r) {
    case EAGAIN:
        return "somebody is changing it all the time, or was stopped or killed within a change; see "
               "'shmfsctl ps'";
    case EUCLEAN:
        return "it is damaged; 'fsck.shmfs -n' shows where, once nobody uses the region";
    case ESTALE:
        return "it was removed meanwhile";
    case EIO:
        return "the region file was cut short; restore it from a copy";
    case EACCES:
        return "Permission denied; look as its owner or as root";
    default:
        return strerror(-r);
    }
}

void ctl_warn_of(const char *path, const struct shmfs_diag *diag, int r)
{
    char text[LINE_BYTES];

    ctl_warn("%s", shmfs_diag_text(diag, r, path, text, sizeof(text)));
}

size_t ctl_character(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;
    unsigned char low = 0x80, high = 0xbf; /* what the second byte may be */
    size_t n;

    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4)
        return 0;
    n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (p[0] == 0xe0)
        low = 0xa0; /* shorter forms exist */
    else if (p[0] == 0xed)
        high = 0x9f; /* surrogates */
    else if (p[0] == 0xf0)
        low = 0x90;
    else if (p[0] == 0xf4)
        high = 0x8f; /* past the last character */
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) /* also the NUL at the end */
            return 0;
    return n;
}

char *ctl_clean(char *text)
{
    for (char *p = text; *p;) {
        size_t n = ctl_character(p);
        bool control = n == 1 ? (*p < ' ' || *p == 127) : n == 2 && p[0] == '\xc2' && (p[1] & 0xe0) == 0x80;

        if (n > 0 && !control) {
            p += n;
            continue;
        }
        for (size_t i = 0; i < (n > 0 ? n : 1); i++)
            *p++ = '?';
    }
    return text;
}

const char *ctl_elapsed_text(uint64_t seconds, char *buf, size_t n)
{
    uint64_t days = seconds / 86400;
    unsigned h = (unsigned)(seconds / 3600 % 24), m = (unsigned)(seconds / 60 % 60),
             s = (unsigned)(seconds % 60);

    if (days > 0)
        snprintf(buf, n, "%" PRIu64 "-%02u:%02u:%02u", days, h, m, s);
    else if (h > 0)
        snprintf(buf, n, "%02u:%02u:%02u", h, m, s);
    else
        snprintf(buf, n, "%02u:%02u", m, s);
    return buf;
}

uint64_t ctl_rate(uint64_t bytes, uint64_t ns)
{
    return (uint64_t)((__uint128_t)bytes * 1000000000 / (ns > 0 ? ns : 1));
}

const char *ctl_rate_text(uint64_t bytes, uint64_t ns, char *buf, size_t n)
{
    return shmfs_size_text(ctl_rate(bytes, ns), buf, n);
}

const char *ctl_age_text(uint64_t ns, char *buf, size_t n)
{
    const uint64_t us = 1000, ms = 1000 * us, s = 1000 * ms;

    if (ns >= 60 * s)
        return ctl_elapsed_text(ns / s, buf, n);
    if (ns >= s)
        snprintf(buf, n, "%" PRIu64 ".%" PRIu64 "s", ns / s, ns % s / (100 * ms));
    else if (ns >= ms)
        snprintf(buf, n, "%" PRIu64 "ms", ns / ms);
    else
        snprintf(buf, n, "%" PRIu64 "us", ns / us);
    return buf;
}

const char *ctl_time_text(int64_t seconds, char *buf, size_t n)
{
    time_t t = (time_t)seconds;
    struct tm tm;

    if (!localtime_r(&t, &tm) || strftime(buf, n, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        snprintf(buf, n, "@%" PRId64, seconds); /* as date(1) takes it: a year that no int can hold */
    return buf;
}

const char *ctl_user_text(uid_t uid, char *buf, size_t n)
{
    const struct passwd *user = getpwuid(uid);

    if (user)
        snprintf(buf, n, "%s", user->pw_name);
    else
        snprintf(buf, n, "%ju", (uintmax_t)uid);
    return buf;
}

const char *ctl_group_text(gid_t gid, char *buf, size_t n)
{
    const struct group *group = getgrgid(gid);

    if (group)
        snprintf(buf, n, "%s", group->gr_name);
    else
        snprintf(buf, n, "%ju", (uintmax_t)gid);
    return buf;
}

static char type_letter(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return '-';
    case S_IFDIR:
        return 'd';
    case S_IFLNK:
        return 'l';
    case S_IFIFO:
        return 'p';
    case S_IFSOCK:
        return 's';
    case S_IFCHR:
        return 'c';
    case S_IFBLK:
        return 'b';
    default:
        return '?';
    }
}

const char *ctl_mode_text(mode_t mode, char buf[11])
{
    static const char letters[] = "rwxrwxrwx";

    buf[0] = type_letter(mode);
    for (int i = 0; i < 9; i++)
        buf[1 + i] = (mode >> (8 - i) & 1) != 0 ? letters[i] : '-';
    if ((mode & S_ISUID) != 0)
        buf[3] = (mode & S_IXUSR) != 0 ? 's' : 'S';
    if ((mode & S_ISGID) != 0)
        buf[6] = (mode & S_IXGRP) != 0 ? 's' : 'S';
    if ((mode & S_ISVTX) != 0)
        buf[9] = (mode & S_IXOTH) != 0 ? 't' : 'T';
    buf[10] = '\0';
    return buf;
}

const char *ctl_uuid_text(const uint8_t uuid[16], char buf[37])
{
    char *p = buf;

    for (size_t i = 0; i < 16; i++)
        p += sprintf(p, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
    return buf;
}

const char *ctl_type_text(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return "file";
    case S_IFDIR:
        return "directory";
    case S_IFLNK:
        return "symlink";
    case S_IFIFO:
        return "fifo";
    case S_IFSOCK:
        return "socket";
    case S_IFCHR:
        return "character-device";
    case S_IFBLK:
        return "block-device";
    default:
        return "unknown";
    }
}
