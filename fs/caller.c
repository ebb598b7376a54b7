/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "caller.h"

static FILE *open_status(pid_t tid)
{
    char path[32];

    snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
    return tid > 0 ? fopen(path, "re") : NULL;
}

struct caller caller_of(pid_t tid)
{
    struct caller c = { .uid = (uid_t)-1 };
    FILE *f = open_status(tid);
    char line[256];

    while (f && fgets(line, sizeof(line), f)) {
        unsigned uid;
        uint64_t bits;

        if (sscanf(line, "Uid: %*u %*u %*u %u", &uid) == 1)
            c.uid = uid;
        else if (sscanf(line, "CapEff: %" SCNx64, &bits) == 1)
            c.capabilities = bits;
    }
    if (f)
        fclose(f);
    return c;
}

/* TEXT: numbers, with white space between them. */
static bool lists(const char *text, gid_t gid)
{
    char *end;

    for (unsigned long n = strtoul(text, &end, 10); end != text; n = strtoul(text, &end, 10)) {
        if (n == gid)
            return true;
        text = end;
    }
    return false;
}

bool caller_in_group(pid_t tid, gid_t gid)
{
    FILE *f = open_status(tid);
    bool found = false;
    char *line = NULL; /* there may be 65536 groups */
    size_t size = 0;
    unsigned own;

    while (f && !found && getline(&line, &size, f) > 0) {
        if (sscanf(line, "Gid: %*u %*u %*u %u", &own) == 1)
            found = own == gid;
        else if (strncmp(line, "Groups:", 7) == 0)
            found = lists(line + 7, gid);
    }
    free(line);
    if (f)
        fclose(f);
    return found;
}
