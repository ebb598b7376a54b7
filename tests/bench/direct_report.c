/* SPDX-License-Identifier: MIT */
/* Medians, and the two tables. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "direct.h"

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* Between its neighbours where it falls between two. */
static double at(const double *sorted, unsigned n, double part)
{
    double place = part * (n - 1);
    unsigned i = (unsigned)place;

    return i + 1 < n ? sorted[i] + (place - i) * (sorted[i + 1] - sorted[i]) : sorted[i];
}

struct spread spread_of(double *values, unsigned n)
{
    qsort(values, n, sizeof(values[0]), by_value);
    return (struct spread){ at(values, n, 0.25), at(values, n, 0.5), at(values, n, 0.75) };
}

struct line *report_add(struct report *report, const struct op *op, const char *name, bool pair)
{
    struct line *line;

    if (report->n == LINES_MAX)
        die(0, "more than %d lines", LINES_MAX);
    line = &report->lines[report->n++];
    *line = (struct line){ .name = name, .what = op->what, .target = op->target, .pair = pair };
    return line;
}

/* ---- cells -------------------------------------------------------------------------------------- */

struct cell {
    char text[64];
};

static struct cell ratio_cell(const struct spread *s)
{
    struct cell cell = { "-" };
    int digits = s->median >= 100 ? 0 : s->median >= 10 ? 1 : 2;

    if (s->median > 0)
        snprintf(cell.text, sizeof(cell.text), "%.*f (%.*f\u2013%.*f)", digits, s->median, digits, s->q1,
                 digits, s->q3);
    return cell;
}

static struct cell ns_cell(const struct spread *s)
{
    struct cell cell;

    snprintf(cell.text, sizeof(cell.text), "%.0f (%.0f\u2013%.0f)", s->median, s->q1, s->q3);
    return cell;
}

static struct cell target_cell(const struct line *line)
{
    struct cell cell = { "-" };

    if (line->target > 0)
        snprintf(cell.text, sizeof(cell.text), "%g", line->target);
    return cell;
}

static const char *verdict(const struct line *line)
{
    if (line->target <= 0)
        return "";
    return line->ratio[DIRECT].median >= line->target ? "reached" : "MISSED";
}

/* As many columns as characters: a dash of three bytes takes one. */
static void right(int width, const struct cell *cell)
{
    int bytes = 0, columns = 0;

    for (; cell->text[bytes]; bytes++)
        columns += ((unsigned char)cell->text[bytes] & 0xc0) != 0x80;
    printf("  %*s%s", width > columns ? width - columns : 0, "", cell->text);
}

/* ---- tables ------------------------------------------------------------------------------------- */

static bool any(const struct report *report, bool pair)
{
    for (unsigned i = 0; i < report->n; i++) {
        if (report->lines[i].pair == pair)
            return true;
    }
    return false;
}

static void text_line(const struct line *line)
{
    struct cell target = target_cell(line);
    struct cell cells[3] = { ns_cell(&line->ns[TMPFS]), ns_cell(&line->ns[DIRECT]),
                             ratio_cell(&line->ratio[DIRECT]) };

    if (line->pair) {
        cells[0] = ratio_cell(&line->ratio[TMPFS]);
        cells[1] = (struct cell){ "" };
    }
    printf("%-16s", line->name);
    for (int i = 0; i < 3; i++)
        right(23, &cells[i]);
    right(6, &target);
    printf("  %s\n", verdict(line));
}

void report_text(const struct report *report)
{
    struct utsname host;
    double load = 0;

    uname(&host);
    getloadavg(&load, 1);
    printf("%ld CPUs, Linux %s, load %.1f; medians of %u interleaved rounds (quartiles)\n",
           sysconf(_SC_NPROCESSORS_ONLN), host.release, load, report->rounds);
    if (any(report, false))
        printf("\n%-16s  %23s  %23s  %23s  %6s\n", "operation", "tmpfs, ns", "direct, ns", "times as fast",
               "target");
    for (unsigned i = 0; i < report->n; i++) {
        if (!report->lines[i].pair)
            text_line(&report->lines[i]);
    }
    if (any(report, true))
        printf("\n%-16s  %23s  %23s  %23s  %6s\n", "two : one", "tmpfs", "", "direct", "target");
    for (unsigned i = 0; i < report->n; i++) {
        if (report->lines[i].pair)
            text_line(&report->lines[i]);
    }
    if (report->repeated > 0)
        printf("\n%u rounds were disturbed by others, and repeated\n", report->repeated);
    fflush(stdout);
}

static void markdown_line(const struct line *line)
{
    struct cell target = target_cell(line), direct = ratio_cell(&line->ratio[DIRECT]);

    printf("| %s | ", line->what);
    if (line->pair)
        printf("%s | ", ratio_cell(&line->ratio[TMPFS]).text);
    printf("%s | %s |\n", direct.text, target.text);
}

void report_markdown(const struct report *report)
{
    if (any(report, false))
        printf("| operation | times as fast as tmpfs | target |\n| --- | --- | --- |\n");
    for (unsigned i = 0; i < report->n; i++) {
        if (!report->lines[i].pair)
            markdown_line(&report->lines[i]);
    }
    if (any(report, true))
        printf("\n| two processes : one | tmpfs | direct | target |\n| --- | --- | --- | --- |\n");
    for (unsigned i = 0; i < report->n; i++) {
        if (report->lines[i].pair)
            markdown_line(&report->lines[i]);
    }
    fflush(stdout);
}
