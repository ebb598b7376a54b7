/* SPDX-License-Identifier: MIT */
/* mkfs.shmfs: makes a region. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node.h"

enum { EXIT_BAD = 1 }; /* mkfs(8): 1 for every failure, usage too */

struct options {
    struct shmfs_make make;
    const char *region;
    bool quiet;
};

static const char usage[] =
    "Usage: mkfs.shmfs [options] REGION\n"
    "Makes a shmfs region: a file that holds a whole filesystem, to be mounted with shmfs(8).\n"
    "REGION lies best on a tmpfs, as in /dev/shm/NAME.\n"
    "\n"
    "  -s, --size=S       room for files (default: 50%, half of memory)\n"
    "  -S, --max-size=S   what it may grow to (default: four times the size)\n"
    "  -i, --inodes=N     how many files it may hold (default: one for each 16K of the maximum)\n"
    "  -L, --label=L      a name for it, up to 32 bytes\n"
    "  -U, --uuid=U       its UUID (default: a random one)\n"
    "  -m, --mode=M       permissions of the region file, in octal (default: 0600)\n"
    "  -F, --force        replace a file that is there; what it held is lost\n"
    "  -q, --quiet        print nothing but errors\n"
    "  -h, --help         show this and exit\n"
    "  -V, --version      show the version and exit\n"
    "\n"
    "S is a number of bytes, with a fraction if need be, and K, M, G or T (powers of 1024), KB, MB, GB\n"
    "or TB (powers of 1000), or % of this machine's memory. A region is sparse: memory is taken as it\n"
    "fills.\n"
    "\n"
    "Example: mkfs.shmfs --size 2G --label scratch /dev/shm/scratch\n";

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
    va_list ap;

    fflush(stdout);
    fputs("mkfs.shmfs: ", stderr);
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(EXIT_BAD);
}

static uint64_t parse_size(const char *option, const char *text)
{
    uint64_t size;
    int r = shmfs_size_parse(text, &size);

    if (r == -ERANGE)
        die("%s '%s': is more than can be counted; choose a smaller size", option, text);
    if (r < 0)
        die("%s '%s': is not a size; give for example 512M, 1.5G or 25%%", option, text);
    if (size == 0)
        die("%s '%s': is nothing; give for example 512M, 1.5G or 25%%", option, text);
    return size;
}

static uint64_t parse_count(const char *option, const char *text)
{
    uint64_t n;

    /* With K and M as tmpfs takes them, but not as a part of memory. */
    if (strchr(text, '%') || shmfs_size_parse(text, &n) < 0 || n == 0)
        die("%s '%s': is not a number of files; give for example 100000 or 64K", option, text);
    return n;
}

static mode_t parse_mode(const char *text)
{
    unsigned long mode;
    char *end;

    errno = 0;
    mode = strtoul(text, &end, 8);
    if (*text < '0' || *text > '7' || *end != '\0' || errno != 0 || mode > 0777)
        die("--mode '%s': is not an octal mode; give for example 0600", text);
    if ((mode & 0600) != 0600)
        die("--mode '%s': keeps its owner from using the region; give for example 0600", text);
    return (mode_t)mode;
}

static void parse_uuid(const char *text, uint8_t uuid[16])
{
    static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    char digits[33], *d = digits;
    bool any = false;

    if (strlen(text) != strlen(form))
        die("--uuid '%s': is not a UUID; make one with 'uuidgen'", text);
    for (size_t i = 0; form[i]; i++) {
        if (form[i] == '-' ? text[i] != '-' : !strchr("0123456789abcdefABCDEF", text[i]))
            die("--uuid '%s': is not a UUID; make one with 'uuidgen'", text);
        if (form[i] != '-')
            *d++ = text[i];
    }
    for (size_t i = 0; i < 16; i++) {
        char byte[3] = { digits[2 * i], digits[2 * i + 1], '\0' };
        uuid[i] = (uint8_t)strtoul(byte, NULL, 16);
        any |= uuid[i] != 0;
    }
    if (!any)
        die("--uuid '%s': is the UUID of nothing; make one with 'uuidgen'", text);
}

static void parse_label(const char *text, char label[32])
{
    size_t n = strlen(text);

    if (n > sizeof(((struct shmfs_make *)0)->label))
        die("--label '%s': has %zu bytes; at most 32 fit", text, n);
    memset(label, 0, 32);
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)text[i] < ' ' || text[i] == 127)
            die("--label: has a control character; leave it out");
        label[i] = text[i]; /* padded with NULs, not ended by one */
    }
}

/* getopt's own words do not say what to do. */
__attribute__((noreturn)) static void die_of_option(int c, char **argv)
{
    const char *word = argv[optind - 1];

    if (c == ':')
        die("'%s': needs a value; see 'mkfs.shmfs --help'", word);
    if (strncmp(word, "--", 2) == 0 && optopt != 0)
        die("'%s': takes no value; see 'mkfs.shmfs --help'", word);
    if (optopt != 0)
        die("'-%c': there is no such option; see 'mkfs.shmfs --help'", optopt);
    die("'%s': there is no such option; see 'mkfs.shmfs --help'", word);
}

static void parse_options(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        { "size", required_argument, NULL, 's' },
        { "max-size", required_argument, NULL, 'S' },
        { "inodes", required_argument, NULL, 'i' },
        { "label", required_argument, NULL, 'L' },
        { "uuid", required_argument, NULL, 'U' },
        { "mode", required_argument, NULL, 'm' },
        { "force", no_argument, NULL, 'F' },
        { "quiet", no_argument, NULL, 'q' },
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'V' },
        { NULL, 0, NULL, 0 },
    };
    int c;

    opterr = 0;
    while ((c = getopt_long(argc, argv, ":s:S:i:L:U:m:FqhV", longs, NULL)) != -1) {
        switch (c) {
        case 's':
            o->make.size = parse_size("--size", optarg);
            break;
        case 'S':
            o->make.max_size = parse_size("--max-size", optarg);
            break;
        case 'i':
            o->make.inodes = parse_count("--inodes", optarg);
            break;
        case 'L':
            parse_label(optarg, o->make.label);
            break;
        case 'U':
            parse_uuid(optarg, o->make.uuid);
            break;
        case 'm':
            o->make.mode = parse_mode(optarg);
            break;
        case 'F':
            o->make.force = true;
            break;
        case 'q':
            o->quiet = true;
            break;
        case 'h':
            fputs(usage, stdout);
            exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_BAD);
        case 'V':
            puts("mkfs.shmfs " SHMFS_PACKAGE_VERSION);
            exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_BAD);
        default:
            die_of_option(c, argv);
        }
    }
    if (optind == argc)
        die("which region? Give the path of a file to make, as in 'mkfs.shmfs /dev/shm/scratch'");
    if (argc - optind > 1)
        die("'%s': one region at a time", argv[optind + 1]);
    o->region = argv[optind];
    if (*o->region == '\0')
        die("'': is no path; give for example /dev/shm/scratch");
}

static void print_uuid(const uint8_t uuid[16])
{
    for (size_t i = 0; i < 16; i++)
        printf("%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
}

static void print_geometry(const char *region, const struct shmfs_geometry *g)
{
    char size[16], max[16], file[16], meta[16];

    shmfs_size_text(g->size, size, sizeof(size));
    shmfs_size_text(g->max_size, max, sizeof(max));
    shmfs_size_text(g->file_size, file, sizeof(file));
    shmfs_size_text(g->meta_size, meta, sizeof(meta));

    printf("%s: shmfs region, format version %" PRIu32 "\n", region, g->version);
    printf("  size    %s, may grow to %s\n", size, max);
    printf("  blocks  %" PRIu64 " of %" PRIu32 " bytes\n", g->size / g->block_size, g->block_size);
    printf("  inodes  %" PRIu64 "\n", g->inodes);
    printf("  groups  %" PRIu32 ", each of %" PRIu32 " blocks and %" PRIu32 " inodes\n", g->groups,
           g->group_blocks, g->group_inodes);
    printf("  users   %" PRIu32 " processes, %" PRIu32 " threads at once\n", g->procs, g->slots);
    printf("  file    %s long, sparse; %s before the first block\n", file, meta);
    if (g->label[0] != '\0')
        printf("  label   %s\n", g->label);
    printf("  UUID    ");
    print_uuid(g->uuid);
    printf("\n");
}

int main(int argc, char **argv)
{
    struct options o = {
        .make = { .mode = 0600, .root_uid = getuid(), .root_gid = getgid(), .root_mode = 0755 },
    };
    struct shmfs_geometry geometry;
    struct shmfs_diag diag = { .reason = SHMFS_REASON_NONE };
    char text[PATH_MAX + 512];
    int r;

    parse_options(argc, argv, &o);
    if (o.make.size == 0)
        o.make.size = parse_size("--size", "50%");
    if (o.make.max_size != 0 && o.make.max_size < o.make.size)
        die("--max-size: is less than the size; give at least as much");

    signal(SIGXFSZ, SIG_IGN); /* a limit of file sizes is an error, and told like one */
    r = shmfs_region_make(o.region, &o.make, &geometry, &diag);
    if (r == -EINVAL && diag.reason == SHMFS_REASON_NONE && o.make.inodes != 0)
        die("%s: so many inodes do not fit a region of this size; give fewer with --inodes, or more "
            "--max-size",
            o.region);
    if (r < 0)
        die("%s", shmfs_diag_text(&diag, r, o.region, text, sizeof(text)));
    if (!o.quiet)
        print_geometry(o.region, &geometry);
    if (fflush(stdout) != 0)
        die("the region is made, but its geometry cannot be printed: %s", strerror(errno));
    return EXIT_SUCCESS;
}
