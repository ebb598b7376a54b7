/* SPDX-License-Identifier: MIT */
/* fsck.shmfs: checks a region that nobody uses. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node.h"

/* fsck(8); a sum of bits. */
enum {
    FSCK_OK = 0,
    FSCK_ERRORS_LEFT = 4,
    FSCK_FAILED = 8,
    FSCK_USAGE = 16,
};

struct options {
    const char *region;
    bool no_changes; /* -n */
    bool repair;     /* --repair, and what fsck(8) passes for it */
    bool verbose;
    bool progress;
};

struct report {
    uint64_t shown; /* problems printed */
    int percent;    /* shown last, -1: no line is on the screen */
    bool progress;
};

static const char usage[] =
    "Usage: fsck.shmfs -n [options] REGION\n"
    "Checks a shmfs region that is not mounted and that no process uses. Nothing is changed.\n"
    "\n"
    "  -n, --no-changes   check only; required, as this version cannot repair\n"
    "      --repair       repair (not in this version); -a, -p, -r and -y mean the same\n"
    "  -v, --verbose      say what was checked\n"
    "  -C, --progress     show how far it is; the default on a terminal\n"
    "  -f                 accepted for fsck(8): every check is a full one\n"
    "  -h, --help         show this and exit\n"
    "  -V, --version      show the version and exit\n"
    "\n"
    "Exit status: 0 no problems, 4 problems left as they are, 8 could not check, 16 wrong usage.\n";

__attribute__((format(printf, 2, 3), noreturn)) static void die(int status, const char *format, ...)
{
    va_list ap;

    fflush(stdout);
    fputs("fsck.shmfs: ", stderr);
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(status);
}

/* getopt's own words do not say what to do. */
__attribute__((noreturn)) static void die_of_option(int c, char **argv)
{
    const char *word = argv[optind - 1];

    if (c == ':')
        die(FSCK_USAGE, "'%s': needs a value; see 'fsck.shmfs --help'", word);
    if (strncmp(word, "--", 2) == 0 && optopt != 0)
        die(FSCK_USAGE, "'%s': takes no value; see 'fsck.shmfs --help'", word);
    if (optopt != 0)
        die(FSCK_USAGE, "'-%c': there is no such option; see 'fsck.shmfs --help'", optopt);
    die(FSCK_USAGE, "'%s': there is no such option; see 'fsck.shmfs --help'", word);
}

static void parse_options(int argc, char **argv, struct options *o)
{
    enum { OPT_REPAIR = 256 };
    static const struct option longs[] = {
        { "no-changes", no_argument, NULL, 'n' },
        { "repair", no_argument, NULL, OPT_REPAIR },
        { "verbose", no_argument, NULL, 'v' },
        { "progress", no_argument, NULL, 'C' },
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'V' },
        { NULL, 0, NULL, 0 },
    };
    int c;

    opterr = 0;
    while ((c = getopt_long(argc, argv, ":naprfyvC::hV", longs, NULL)) != -1) {
        switch (c) {
        case 'n':
            o->no_changes = true;
            break;
        case 'a':
        case 'p':
        case 'r':
        case 'y':
        case OPT_REPAIR:
            o->repair = true;
            break;
        case 'f':
            break;
        case 'v':
            o->verbose = true;
            break;
        case 'C':
            o->progress = true;
            break;
        case 'h':
            fputs(usage, stdout);
            exit(fflush(stdout) == 0 ? FSCK_OK : FSCK_FAILED);
        case 'V':
            puts("fsck.shmfs " SHMFS_PACKAGE_VERSION);
            exit(fflush(stdout) == 0 ? FSCK_OK : FSCK_FAILED);
        default:
            die_of_option(c, argv);
        }
    }
    if (optind == argc)
        die(FSCK_USAGE, "which region? Give its path, as in 'fsck.shmfs -n /dev/shm/scratch'");
    if (argc - optind > 1)
        die(FSCK_USAGE, "'%s': one region at a time", argv[optind + 1]);
    if (o->no_changes && o->repair)
        die(FSCK_USAGE, "-n forbids what the other options ask for; give one of them");
    o->region = argv[optind];
}

/* ---- what the check says ------------------------------------------------------------------------ */

static void clear_progress(struct report *report)
{
    if (report->percent >= 0)
        fputs("\r\033[K", stderr);
    report->percent = -1;
}

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    struct report *report = arg;
    int percent = total > 0 ? (int)((double)done / (double)total * 100) : 100;

    if (!report->progress || percent == report->percent)
        return;
    report->percent = percent;
    fprintf(stderr, "\rfsck.shmfs: %3d%% of %" PRIu64 " inodes", percent, total);
    fflush(stderr);
}

static void on_problem(void *arg, const struct shmfs_problem *problem)
{
    struct report *report = arg;

    clear_progress(report);
    report->shown++;
    if (problem->ino != 0)
        printf("fsck.shmfs: inode %" PRIu32 ": %s; left as it is\n", problem->ino, problem->text);
    else
        printf("fsck.shmfs: %s; left as it is\n", problem->text);
}

static int check(struct shmfs *fs, const struct options *o)
{
    struct report report = { .percent = -1, .progress = o->progress };
    struct shmfs_check check = { .problem = on_problem, .progress = on_progress, .arg = &report };
    struct shmfs_check_result result = { 0 };
    char text[PATH_MAX + 512];
    int r;

    r = shmfs_check_run(fs, &check, &result);
    clear_progress(&report);
    if (r < 0)
        die(FSCK_FAILED | (report.shown > 0 ? FSCK_ERRORS_LEFT : 0), "the check could not be ended: %s",
            shmfs_diag_text(NULL, r, o->region, text, sizeof(text)));

    if (o->verbose)
        printf("%s: in use: inodes %" PRIu64 ", of them directories %" PRIu64 "; blocks %" PRIu64 "\n",
               o->region, result.inodes, result.directories, result.blocks);
    if (result.problems > 0)
        printf("%s: %" PRIu64 " problem%s; copy what you can from a mount with '-o ro', then make it anew "
               "with 'mkfs.shmfs --force'\n",
               o->region, result.problems, result.problems == 1 ? "" : "s");
    else
        printf("%s: clean\n", o->region);
    if (fflush(stdout) != 0)
        die(FSCK_FAILED, "cannot print: %s", strerror(errno));
    return result.problems > 0 ? FSCK_ERRORS_LEFT : FSCK_OK;
}

int main(int argc, char **argv)
{
    struct options o = { .progress = isatty(STDERR_FILENO) && isatty(STDOUT_FILENO) };
    struct shmfs_diag diag = { .reason = SHMFS_REASON_NONE };
    struct shmfs *fs;
    char text[PATH_MAX + 512];
    int r, status;

    parse_options(argc, argv, &o);
    if (!o.no_changes)
        die(FSCK_FAILED, "%s: this version cannot repair; check it with 'fsck.shmfs -n %s'", o.region,
            o.region);

    r = shmfs_region_attach(o.region, SHMFS_ATTACH_PRIVATE, &fs, &diag);
    if (r < 0)
        die(FSCK_FAILED, "%s", shmfs_diag_text(&diag, r, o.region, text, sizeof(text)));
    status = check(fs, &o);
    shmfs_region_detach(fs);
    return status;
}
