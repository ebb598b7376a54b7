/* SPDX-License-Identifier: MIT */
/* Sizes as truncate(1) and df(1) have them. */
#include <inttypes.h>
#include <stdio.h>

#include "base.h"
#include "error.h"
#include "node.h"

static const char UNITS[] = "KMGTPE";

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static uint64_t memory_size(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);

    return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
}

/*
 * What may stand after the number: nothing, "%", a letter, letter + "iB" (powers of 1024) or
 * letter + "B" (powers of 1000). Returns the unit, 0 for anything else.
 */
static uint64_t parse_unit(const char *s)
{
    uint64_t base = 1024, unit = 1;
    const char *letter;

    if (*s == '\0')
        return 1;
    letter = strchr(UNITS, *s >= 'a' && *s <= 'z' ? *s - ('a' - 'A') : *s);
    if (!letter)
        return 0;
    if (strcmp(s + 1, "B") == 0)
        base = 1000;
    else if (s[1] != '\0' && strcmp(s + 1, "iB") != 0)
        return 0;
    for (const char *l = UNITS; l <= letter; l++)
        unit *= base;
    return unit;
}

/*
 * The whole part of 0.DIGITS * unit, without rounding twice: from the last digit to the first, as
 * floor((d + floor(x)) / 10) is floor((d + x) / 10). 9 * 2^60 + 2^60 fits.
 */
static uint64_t fraction_of(const char *digits, size_t n, uint64_t unit)
{
    uint64_t sum = 0;

    while (n > 0)
        sum = ((uint64_t)(digits[--n] - '0') * unit + sum) / 10;
    return sum;
}

int shmfs_size_parse(const char *text, uint64_t *ret_bytes)
{
    const char *s = text, *fraction = NULL;
    size_t nfraction = 0;
    uint64_t whole = 0, bytes, unit;
    bool percent;

    if (!is_digit(*s))
        return -EINVAL;
    for (; is_digit(*s); s++)
        if (__builtin_mul_overflow(whole, 10, &whole) ||
            __builtin_add_overflow(whole, (uint64_t)(*s - '0'), &whole))
            return -ERANGE;
    if (*s == '.') {
        fraction = ++s;
        while (is_digit(*s))
            s++;
        nfraction = (size_t)(s - fraction);
    }

    percent = strcmp(s, "%") == 0;
    unit = percent ? memory_size() : parse_unit(s);
    if (unit == 0 || (fraction && (nfraction == 0 || unit == 1)))
        return -EINVAL;

    if (__builtin_mul_overflow(whole, unit, &bytes) ||
        __builtin_add_overflow(bytes, fraction_of(fraction, nfraction, unit), &bytes))
        return -ERANGE;
    *ret_bytes = percent ? bytes / 100 : bytes;
    return 0;
}

const char *shmfs_size_text(uint64_t bytes, char *buf, size_t n)
{
    unsigned shift = 10;
    uint64_t rest, tenths;
    char unit;

    if (bytes < 1024) {
        snprintf(buf, n, "%" PRIu64, bytes);
        return buf;
    }
    while (bytes >> shift >= 1024)
        shift += 10;

    /* To the nearest tenth. What is below the unit is less than 2^60, so that ten times it fits. */
    rest = bytes & ((UINT64_C(1) << shift) - 1);
    tenths = (bytes >> shift) * 10 + (rest * 10 + (UINT64_C(1) << (shift - 1))) / (UINT64_C(1) << shift);
    if (tenths == 10240) { /* 1023.96K is 1M */
        tenths = 10;
        shift += 10;
    }
    unit = UNITS[shift / 10 - 1];
    if (tenths % 10 == 0)
        snprintf(buf, n, "%" PRIu64 "%c", tenths / 10, unit);
    else
        snprintf(buf, n, "%" PRIu64 ".%" PRIu64 "%c", tenths / 10, tenths % 10, unit);
    return buf;
}
