/* SPDX-License-Identifier: MIT */
/* Tables as ps(1) and lslocks(8) print them: each column as wide as its widest cell. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

void ctl_cell(struct ctl_table *table, const char *format, ...)
{
    char *text;
    va_list ap;
    int n;

    if (table->ncells == table->room) {
        size_t room = table->room * 2 + 64;
        char **cells = reallocarray(table->cells, room, sizeof(*cells));

        if (!cells)
            ctl_die(CTL_FAILED, "%s", strerror(ENOMEM));
        table->cells = cells;
        table->room = room;
    }
    va_start(ap, format);
    n = vasprintf(&text, format, ap);
    va_end(ap);
    if (n < 0)
        ctl_die(CTL_FAILED, "%s", strerror(ENOMEM));
    table->cells[table->ncells++] = ctl_clean(text);
}

/* In characters, as a terminal shows UTF-8: bytes that continue one take no room. */
static int width_of(const char *text)
{
    int width = 0;

    for (; *text; text++)
        width += (*text & 0xc0) != 0x80;
    return width;
}

static int column_width(const struct ctl_table *table, size_t column)
{
    const char *title = table->columns[column].title;
    int width = title ? width_of(title) : 0;

    for (size_t i = column; i < table->ncells; i += table->ncolumns) {
        int w = width_of(table->cells[i]);
        if (w > width)
            width = w;
    }
    return width;
}

static void print_cell(const struct ctl_table *table, size_t column, const char *text, int width)
{
    bool last = column + 1 == table->ncolumns;
    int pad = width - width_of(text);

    if (table->columns[column].right)
        printf("%*s%s", pad, "", text);
    else
        printf("%s%*s", text, last ? 0 : pad, "");
    putchar(last ? '\n' : ' ');
}

void ctl_table_print(struct ctl_table *table)
{
    int *widths = calloc(table->ncolumns, sizeof(*widths));

    if (!widths)
        ctl_die(CTL_FAILED, "%s", strerror(ENOMEM));
    for (size_t c = 0; c < table->ncolumns; c++)
        widths[c] = column_width(table, c);
    for (size_t c = 0; table->columns[0].title && c < table->ncolumns; c++)
        print_cell(table, c, table->columns[c].title, widths[c]);
    for (size_t i = 0; i < table->ncells; i++) {
        print_cell(table, i % table->ncolumns, table->cells[i], widths[i % table->ncolumns]);
        free(table->cells[i]);
    }
    free(table->cells);
    free(widths);
    table->cells = NULL;
    table->ncells = table->room = 0;
}
