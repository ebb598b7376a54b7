/* SPDX-License-Identifier: MIT */
/*
 * Death at every store (docs/DESIGN.md): whoever dies between any two stores of an operation leaves
 * a state from which the next one makes the state before or the state after, with nothing lost.
 *
 *   every_store                a slice of everything, chosen by seed
 *   every_store --all          everything
 *   every_store --mode MODE    one mode; with --case, --op, --store and so on a part of it, as the
 *                              report of a failure says
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "modes.h"

static const struct {
    const char *name;
    void (*run)(void);
} modes[] = {
    { "store", mode_store },   { "undertaker", mode_undertaker }, { "pair", mode_pair },
    { "frozen", mode_frozen }, { "mutant", mode_mutant },         { "mutant-use", mode_mutant_use },
    { "door", mode_door },     { "attach", mode_attach },
};

static int options(int argc, char **argv)
{
    static const struct option list[] = {
        { "all", no_argument, NULL, 'a' },         { "mode", required_argument, NULL, 'm' },
        { "case", required_argument, NULL, 'c' },  { "op", required_argument, NULL, 'o' },
        { "heir", required_argument, NULL, 'h' },  { "seed", required_argument, NULL, 's' },
        { "store", required_argument, NULL, '0' }, { "second", required_argument, NULL, '1' },
        { "fine", no_argument, NULL, 'f' },        { NULL, 0, NULL, 0 },
    };
    int opt;

    while ((opt = getopt_long(argc, argv, "", list, NULL)) != -1) {
        switch (opt) {
        case 'a':
            want.all = true;
            break;
        case 'm':
            want.mode = optarg;
            break;
        case 'c':
            want.name = optarg;
            break;
        case 'o':
            want.op = optarg;
            break;
        case 'h':
            want.heir = optarg;
            break;
        case 's':
            exam.seed = strtoull(optarg, NULL, 0);
            break;
        case 'f':
            hooks_fine = 1;
            break;
        case '0':
            exam.only[0] = strtoull(optarg, NULL, 0);
            break;
        case '1':
            exam.only[1] = strtoull(optarg, NULL, 0);
            break;
        default:
            return -1;
        }
    }
    return optind == argc ? 0 : -1;
}

int main(int argc, char **argv)
{
    const char *only = NULL;
    double begin = modes_clock();

    exam.seed = 1;
    if (options(argc, argv) < 0)
        return 2;
    only = want.mode;
    setvbuf(stdout, NULL, _IOLBF, 0);
    exam_guard(NULL);
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        uint64_t states = exam.states, failures = exam.failures;
        double from = modes_clock();

        if (only != NULL && strcmp(only, modes[i].name) != 0)
            continue;
        want.mode = modes[i].name;
        printf("%s:\n", want.mode);
        modes[i].run();
        printf("%s: %" PRIu64 " states, %" PRIu64 " failed, %.1f s\n", want.mode, exam.states - states,
               exam.failures - failures, modes_clock() - from);
    }
    printf("%" PRIu64 " states, %" PRIu64 " failed, %.1f s (seed %" PRIu64 ")\n", exam.states, exam.failures,
           modes_clock() - begin, exam.seed);
    return exam.failures != 0;
}
