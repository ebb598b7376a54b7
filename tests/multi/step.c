/* SPDX-License-Identifier: MIT */
/*
 * Stops a program after so many of its own instructions, exactly: to see it die there, or be overtaken there.
 *
 *   step FD trace PROGRAM [ARGUMENT...]        runs it; tells each call of a library: "call COUNT ADDRESS FILE"
 *   step FD pause COUNT PROGRAM [ARGUMENT...]  tells "paused PID", and does what it is told
 *
 * Own instructions are those of the executable, from main() on; what libraries do is not counted and
 * not stepped through. ADDRESS is one as nm(1) shows it. It tells on the descriptor FD, a line each ("ended" last,
 * if the program ran to its end), and is told there, by one byte: k, to kill, or c, to let go on. It ends as the
 * program does, with 128 + N for signal N; 77: nothing can be traced here.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef __x86_64__
int main(void)
{
    fprintf(stderr, "step: knows the registers of x86-64 only\n");
    return 77;
}
#else

enum { SKIP = 77, BREAKPOINT = 0xcc };

static pid_t child;
static int control;
static uint64_t own_start, own_end; /* the executable's code */

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "step: %s: %s\n", what, strerror(errno));
    exit(1);
}

static bool is_own(uint64_t pc)
{
    return pc >= own_start && pc < own_end;
}

static struct user_regs_struct registers(void)
{
    struct user_regs_struct r;

    if (ptrace(PTRACE_GETREGS, child, NULL, &r) < 0)
        die("registers");
    return r;
}

static uint64_t peek(uint64_t at)
{
    errno = 0;
    long word = ptrace(PTRACE_PEEKDATA, child, (void *)at, NULL);
    if (errno != 0)
        die("peek");
    return (uint64_t)word;
}

static void poke(uint64_t at, uint64_t word)
{
    if (ptrace(PTRACE_POKEDATA, child, (void *)at, (void *)word) < 0)
        die("poke");
}

/* Ends as the child did. */
static _Noreturn void end(int status)
{
    exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* Goes on by REQUEST until the next trap; other signals are passed on. */
static void resume(enum __ptrace_request request)
{
    long signal = 0;
    int status;

    do {
        if (ptrace(request, child, NULL, (void *)signal) < 0)
            die("resume");
        if (waitpid(child, &status, 0) != child)
            die("waitpid");
        if (!WIFSTOPPED(status)) {
            dprintf(control, "ended\n");
            end(status);
        }
        signal = WSTOPSIG(status);
    } while (signal != SIGTRAP);
}

static void run_to(uint64_t at)
{
    uint64_t word = peek(at);

    poke(at, (word & ~UINT64_C(0xff)) | BREAKPOINT);
    resume(PTRACE_CONT);
    poke(at, word);

    struct user_regs_struct r = registers();
    if (r.rip != at + 1) {
        fprintf(stderr, "step: a trap at %#llx instead of %#" PRIx64 "\n", r.rip, at);
        exit(1);
    }
    r.rip = at;
    if (ptrace(PTRACE_SETREGS, child, NULL, &r) < 0)
        die("registers");
}

/* Where PC lies: the file that is mapped there, and the start of its first mapping. */
static bool find_file(uint64_t pc, uint64_t *ret_base, char ret_name[4096])
{
    char path[64], line[4200], name[4096], last[4096] = "";
    uint64_t start, stop, base = 0;
    bool found = false;

    snprintf(path, sizeof(path), "/proc/%d/maps", (int)child);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        die(path);
    while (!found && fgets(line, sizeof(line), f) != NULL) {
        name[0] = '\0';
        sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %*s %*s %*s %4095[^\n]", &start, &stop, name);
        if (strcmp(name, last) != 0)
            base = start;
        strcpy(last, name);
        found = pc >= start && pc < stop;
    }
    fclose(f);
    if (found) {
        *ret_base = base;
        strcpy(ret_name, last);
    }
    return found;
}

/* The bounds of the mapping with the executable's entry; the address of that. */
static uint64_t find_own(void)
{
    char path[64], line[4200];
    Elf64_auxv_t aux = { 0 };
    uint64_t start, stop, entry = 0;

    snprintf(path, sizeof(path), "/proc/%d/auxv", (int)child);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        die(path);
    while (fread(&aux, sizeof(aux), 1, f) == 1) {
        if (aux.a_type == AT_ENTRY)
            entry = aux.a_un.a_val;
    }
    fclose(f);
    snprintf(path, sizeof(path), "/proc/%d/maps", (int)child);
    f = fopen(path, "re");
    if (f == NULL)
        die(path);
    while (fgets(line, sizeof(line), f) != NULL) {
        if (sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &stop) == 2 && entry >= start && entry < stop)
            own_start = start, own_end = stop;
    }
    fclose(f);
    return entry;
}

static void start(char **argv)
{
    int status;

    child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        setenv("LD_BIND_NOW", "1", 1); /* so that a call leads to the function, and not to the linker */
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
            _exit(SKIP);
        execv(argv[0], argv);
        _exit(127);
    }
    if (waitpid(child, &status, 0) != child)
        die("waitpid");
    if (!WIFSTOPPED(status))
        end(status);
    if (ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)(long)PTRACE_O_EXITKILL) < 0)
        die("options");
    run_to(find_own());
    while (is_own(registers().rip))
        resume(PTRACE_SINGLESTEP);
    run_to(registers().rdi); /* in __libc_start_main(main, ...) */
}

/* Executes one instruction of its own, and what it calls elsewhere. */
static void step(uint64_t count, bool trace)
{
    char name[4096];
    uint64_t base;

    resume(PTRACE_SINGLESTEP);
    for (;;) {
        struct user_regs_struct r = registers();
        if (is_own(r.rip))
            return;
        if (trace && find_file(r.rip, &base, name))
            dprintf(control, "call %" PRIu64 " %" PRIx64 " %s\n", count, (uint64_t)r.rip - base, name);
        uint64_t back = peek(r.rsp);
        if (is_own(back))
            run_to(back);
        else
            resume(PTRACE_CONT); /* main() returned */
    }
}

int main(int argc, char **argv)
{
    bool trace = argc > 3 && strcmp(argv[2], "trace") == 0;
    int status;
    char told;

    if (!trace && (argc < 5 || strcmp(argv[2], "pause") != 0)) {
        fprintf(stderr, "Usage: step FD trace|pause COUNT PROGRAM [ARGUMENT...]\n");
        return 2;
    }
    uint64_t count = trace ? UINT64_MAX : strtoull(argv[3], NULL, 10);
    control = (int)strtol(argv[1], NULL, 10);
    if (fcntl(control, F_SETFD, FD_CLOEXEC) < 0)
        die(argv[1]);
    start(argv + (trace ? 3 : 4));
    for (uint64_t i = 0; i < count; i++)
        step(i, trace);
    dprintf(control, "paused %d\n", (int)child);
    if (read(control, &told, 1) == 1 && told == 'c')
        ptrace(PTRACE_DETACH, child, NULL, NULL);
    else
        kill(child, SIGKILL);
    if (waitpid(child, &status, 0) != child)
        die("waitpid");
    end(status);
}
#endif
