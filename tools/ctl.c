/* SPDX-License-Identifier: MIT */
/* shmfsctl: looks into a region, also while others use it. Options, attaching, and the list of commands. */
#include "ctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In the order of the usage. */
static const struct ctl_command *const commands[] = {
    &ctl_ps, &ctl_locks, &ctl_info, &ctl_df, &ctl_ls, &ctl_cat, &ctl_stat,
};

enum { NCOMMANDS = sizeof(commands) / sizeof(commands[0]), OWN_MAX = 4 };

static const char usage[] =
    "Usage: shmfsctl COMMAND [options] WHERE [PATH...]\n"
    "Looks into a shmfs region, also while others use it. Nothing is changed, and nobody is disturbed.\n"
    "WHERE is the region's file, or a directory that it is mounted on; PATH is a path inside of it.\n"
    "\n"
    "  ps WHERE            the processes that are attached, and what they hold\n"
    "  locks WHERE         the locks that are held, and by whom\n"
    "  info WHERE          the region: its size, tables, label and UUID\n"
    "  df WHERE            how much of its space is used\n"
    "  ls WHERE [PATH]     the names in a directory\n"
    "  cat WHERE PATH...   the content of files\n"
    "  stat WHERE PATH...  the attributes of files\n"
    "\n"
    "  -h, --help          show this and exit; 'shmfsctl COMMAND --help' shows its options\n"
    "  -V, --version       show the version and exit\n"
    "\n"
    "Exit status: 0 all went well, 1 something failed, 2 wrong usage.\n";

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

static void parse_arguments(const struct ctl_command *command, char **argv, struct ctl_call *call)
{
    if (!argv[0])
        ctl_die(CTL_USAGE,
                "which region? Give its file, or where it is mounted, as in 'shmfsctl %s /dev/shm/scratch'",
                command->name);
    call->where = argv[0];
    if (*call->where == '\0')
        ctl_die(CTL_USAGE, "'': is no path; give for example /dev/shm/scratch");
    call->paths = argv + 1;
    while (call->paths[call->npaths])
        call->npaths++;
    if (call->npaths < command->min_paths)
        ctl_die(CTL_USAGE, "which file? Give its path in the region, as in 'shmfsctl %s %s /a/b'",
                command->name, call->where);
    if (call->npaths > command->max_paths && command->max_paths == 0)
        ctl_die(CTL_USAGE, "'%s': one region at a time", call->paths[0]);
    if (call->npaths > command->max_paths)
        ctl_die(CTL_USAGE, "'%s': one path at a time", call->paths[command->max_paths]);
}

/* argv[1] is the command, or one of the two options that need none. */
static const struct ctl_command *find_command(char **argv)
{
    const char *name = argv[1];

    if (!name)
        ctl_die(CTL_USAGE, "which command? See 'shmfsctl --help'");
    if (strcmp(name, "-h") == 0 || strcmp(name, "--help") == 0)
        print_and_exit(usage);
    if (strcmp(name, "-V") == 0 || strcmp(name, "--version") == 0)
        print_and_exit("shmfsctl " SHMFS_PACKAGE_VERSION "\n");
    for (size_t i = 0; i < NCOMMANDS; i++)
        if (strcmp(name, commands[i]->name) == 0)
            return commands[i];
    if (*name == '-')
        ctl_die(CTL_USAGE, "'%s': give a command before its options; see 'shmfsctl --help'", name);
    ctl_die(CTL_USAGE, "'%s': there is no such command; see 'shmfsctl --help'", name);
}

int main(int argc, char **argv)
{
    const struct ctl_command *command = find_command(argv);
    struct ctl_call call = { .where = NULL };
    int status;

    parse_options(command, argc - 1, argv + 1, &call);
    parse_arguments(command, argv + 1 + optind, &call);

    /* Read-only: no lock, no place in the process table, no change of anything that others see. */
    if (shmfs_attach(call.where, SHMFS_RDONLY, &call.fs) < 0)
        ctl_die(CTL_FAILED, "%s", shmfs_attach_error());
    status = command->run(&call);
    shmfs_detach(call.fs);
    return finish(status);
}
