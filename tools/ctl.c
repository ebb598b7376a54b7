/* SPDX-License-Identifier: MIT */
/* shmfsctl: looks into a region, also while others use it, and saves it. Options, and the commands. */
#include "ctl.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In the order of the usage. */
static const struct ctl_command *const commands[] = {
    &ctl_ps,   &ctl_locks,    &ctl_info,    &ctl_df,         &ctl_ls,           &ctl_cat,
    &ctl_stat, &ctl_snapshot, &ctl_restore, &ctl_image_info, &ctl_image_verify,
};

enum { NCOMMANDS = sizeof(commands) / sizeof(commands[0]), OWN_MAX = 4 };

static const char usage[] =
    "Usage: shmfsctl COMMAND [options] WHERE [PATH...]\n"
    "Looks into a shmfs region, also while others use it, and saves it to an image. Nobody is disturbed.\n"
    "WHERE is the region's file, or a directory that it is mounted on; PATH is a path inside of it.\n"
    "\n"
    "  ps WHERE              the processes that are attached, and what they hold\n"
    "  locks WHERE           the locks that are held, and by whom\n"
    "  info WHERE            the region: its size, tables, label and UUID\n"
    "  df WHERE              how much of its space is used\n"
    "  ls WHERE [PATH]       the names in a directory\n"
    "  cat WHERE PATH...     the content of files\n"
    "  stat WHERE PATH...    the attributes of files\n"
    "  snapshot WHERE IMAGE  saves its state at one moment to an image, a file on a disk\n"
    "  restore IMAGE REGION  makes a region of an image\n"
    "  image info IMAGE      what an image is of\n"
    "  image verify IMAGE    whether all of it is undamaged\n"
    "\n"
    "  -h, --help            show this and exit; 'shmfsctl COMMAND --help' shows its options\n"
    "  -V, --version         show the version and exit\n"
    "\n"
    "Exit status: 0 all went well, 1 something failed, 2 wrong usage, 3 something is missing from what\n"
    "'restore --salvage' made. SIGINT and SIGTERM end a snapshot or restore, which then changes nothing.\n";

/* What was printed is whole, or else the status says that it is not. */
static int finish(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    ctl_warn("cannot print: %s", strerror(errno));
    return CTL_FAILED;
}

__attribute__((noreturn)) static void print_and_exit(const char *text)
{
    fputs(text, stdout);
    exit(finish(CTL_OK));
}

/* getopt's own words do not say what to do. */
__attribute__((noreturn)) static void die_of_option(const struct ctl_command *command, char **argv)
{
    const char *word = argv[optind - 1];

    if (strncmp(word, "--", 2) == 0 && optopt != 0)
        ctl_die(CTL_USAGE, "'%s': takes no value; see 'shmfsctl %s --help'", word, command->name);
    if (optopt != 0)
        ctl_die(CTL_USAGE, "'-%c': there is no such option; see 'shmfsctl %s --help'", optopt, command->name);
    ctl_die(CTL_USAGE, "'%s': there is no such option; see 'shmfsctl %s --help'", word, command->name);
}

static unsigned own_option(const struct ctl_command *command, int letter)
{
    for (size_t i = 0; i < OWN_MAX && command->options[i].name; i++)
        if (command->options[i].letter == letter)
            return command->options[i].bit;
    return 0;
}

/* argv[0] is the command's name. */
static void parse_options(const struct ctl_command *command, int argc, char **argv, struct ctl_call *call)
{
    struct option longs[OWN_MAX + 4] = {
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'V' },
    };
    char shorts[OWN_MAX + 5] = ":hV";
    size_t nlongs = 2, nshorts = 3;
    int c;

    if (!command->no_json) {
        longs[nlongs++] = (struct option){ "json", no_argument, NULL, 'j' };
        shorts[nshorts++] = 'j';
    }
    for (size_t i = 0; i < OWN_MAX && command->options[i].name; i++) {
        longs[nlongs++] =
            (struct option){ command->options[i].name, no_argument, NULL, command->options[i].letter };
        shorts[nshorts++] = command->options[i].letter;
    }

    opterr = 0;
    while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        if (c == 'h')
            print_and_exit(command->usage);
        if (c == 'V')
            print_and_exit("shmfsctl " SHMFS_PACKAGE_VERSION "\n");
        if (c == '?' || c == ':')
            die_of_option(command, argv);
        if (c == 'j')
            call->json = true;
        call->options |= own_option(command, c);
    }
}

__attribute__((noreturn)) static void die_of_no_where(const struct ctl_command *command)
{
    if (command->way == CTL_IMAGE)
        ctl_die(CTL_USAGE, "which image? Give its file, as in 'shmfsctl %s /var/backups/scratch.image%s'",
                command->name, command->min_paths > 0 ? " /dev/shm/scratch" : "");
    ctl_die(CTL_USAGE,
            "which region? Give its file, or where it is mounted, as in 'shmfsctl %s /dev/shm/scratch%s'",
            command->name, command->way == CTL_WRITES ? " /var/backups/scratch.image" : "");
}

__attribute__((noreturn)) static void die_of_no_path(const struct ctl_command *command, const char *where)
{
    if (command->way == CTL_WRITES)
        ctl_die(CTL_USAGE, "to which image? Give its file, as in 'shmfsctl %s %s /var/backups/scratch.image'",
                command->name, where);
    if (command->way == CTL_IMAGE)
        ctl_die(CTL_USAGE, "to which region? Give its file, as in 'shmfsctl %s %s /dev/shm/scratch'",
                command->name, where);
    ctl_die(CTL_USAGE, "which file? Give its path in the region, as in 'shmfsctl %s %s /a/b'", command->name,
            where);
}

static const char *kind_of_last(const struct ctl_command *command)
{
    switch (command->way) {
    case CTL_WRITES:
        return "image";
    case CTL_IMAGE:
        return command->max_paths > 0 ? "region" : "image";
    default:
        return command->max_paths > 0 ? "path" : "region";
    }
}

static void parse_arguments(const struct ctl_command *command, char **argv, struct ctl_call *call)
{
    if (!argv[0])
        die_of_no_where(command);
    call->where = argv[0];
    call->paths = argv + 1;
    for (; argv[call->npaths]; call->npaths++)
        if (*argv[call->npaths] == '\0' && (call->npaths == 0 || command->way != CTL_LOOKS))
            ctl_die(CTL_USAGE, "'': is no path; give for example /dev/shm/scratch");
    call->npaths--; /* WHERE was counted, too */
    if (call->npaths < command->min_paths)
        die_of_no_path(command, call->where);
    if (call->npaths > command->max_paths)
        ctl_die(CTL_USAGE, "'%s': one %s at a time", call->paths[command->max_paths], kind_of_last(command));
}

/* "image" is nothing by itself. */
__attribute__((noreturn)) static void die_of_half(const char *name, const char *second)
{
    size_t n = strlen(name);

    if (second && (strcmp(second, "-h") == 0 || strcmp(second, "--help") == 0)) {
        for (size_t i = 0, shown = 0; i < NCOMMANDS; i++)
            if (strncmp(commands[i]->name, name, n) == 0 && commands[i]->name[n] == ' ')
                printf("%s%s", shown++ > 0 ? "\n" : "", commands[i]->usage);
        exit(finish(CTL_OK));
    }
    if (second && (strcmp(second, "-V") == 0 || strcmp(second, "--version") == 0))
        print_and_exit("shmfsctl " SHMFS_PACKAGE_VERSION "\n");
    if (!second)
        ctl_die(CTL_USAGE, "what of the %s? See 'shmfsctl %s --help'", name, name);
    ctl_die(CTL_USAGE, "'%s %s': there is no such command; see 'shmfsctl %s --help'", name, second, name);
}

/* How many words of argv name the command. 0: another one is meant; -1: of two words only the first fits. */
static int words_of(const struct ctl_command *command, char **argv)
{
    const char *space = strchr(command->name, ' ');
    size_t n = space ? (size_t)(space - command->name) : 0;

    if (!space)
        return strcmp(argv[1], command->name) == 0;
    if (strlen(argv[1]) != n || strncmp(argv[1], command->name, n) != 0)
        return 0;
    if (!argv[2] || strcmp(argv[2], space + 1) != 0)
        return -1;
    return 2;
}

/* argv[1] is the command, or one of the two options that need none. */
static const struct ctl_command *find_command(char **argv, int *ret_words)
{
    const char *name = argv[1];
    bool half = false;

    if (!name)
        ctl_die(CTL_USAGE, "which command? See 'shmfsctl --help'");
    if (strcmp(name, "-h") == 0 || strcmp(name, "--help") == 0)
        print_and_exit(usage);
    if (strcmp(name, "-V") == 0 || strcmp(name, "--version") == 0)
        print_and_exit("shmfsctl " SHMFS_PACKAGE_VERSION "\n");
    for (size_t i = 0; i < NCOMMANDS; i++) {
        int words = words_of(commands[i], argv);

        half = half || words < 0;
        if (words <= 0)
            continue;
        *ret_words = words;
        return commands[i];
    }
    if (half)
        die_of_half(name, argv[2]);
    if (*name == '-')
        ctl_die(CTL_USAGE, "'%s': give a command before its options; see 'shmfsctl --help'", name);
    ctl_die(CTL_USAGE, "'%s': there is no such command; see 'shmfsctl --help'", name);
}

static void attach(const struct ctl_command *command, struct ctl_call *call)
{
    /* Read-only: no lock, no place in the process table, no change of anything that others see. */
    unsigned flags = command->way == CTL_LOOKS ? SHMFS_RDONLY : 0;

    if (command->way != CTL_IMAGE && shmfs_attach(call->where, flags, &call->fs) < 0)
        ctl_die(CTL_FAILED, "%s", shmfs_attach_error());
}

int main(int argc, char **argv)
{
    int words = 0, status;
    const struct ctl_command *command = find_command(argv, &words);
    struct ctl_call call = { .where = NULL };

    signal(SIGXFSZ, SIG_IGN); /* a limit of file sizes is an error, and told like one */
    parse_options(command, argc - words, argv + words, &call);
    parse_arguments(command, argv + words + optind, &call);

    attach(command, &call);
    status = command->run(&call);
    shmfs_detach(call.fs);
    if (status > CTL_SIGNAL) { /* as who started us expects it of one that a signal ends */
        signal(status - CTL_SIGNAL, SIG_DFL);
        raise(status - CTL_SIGNAL);
    }
    return finish(status);
}
