/* SPDX-License-Identifier: MIT */
/* JSON, made with json-c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "ctl.h"

static struct json_object *must(struct json_object *object)
{
    if (!object)
        ctl_die(CTL_FAILED, "%s", strerror(ENOMEM));
    return object;
}

struct json_object *ctl_json_object(void)
{
    return must(json_object_new_object());
}

struct json_object *ctl_json_array(void)
{
    return must(json_object_new_array());
}

void ctl_json_put(struct json_object *to, const char *key, struct json_object *value)
{
    if (json_object_object_add(to, key, must(value)) < 0)
        ctl_die(CTL_FAILED, "%s", strerror(ENOMEM));
}

void ctl_json_append(struct json_object *array, struct json_object *value)
{
    if (json_object_array_add(array, must(value)) < 0)
        ctl_die(CTL_FAILED, "%s", strerror(ENOMEM));
}

void ctl_json_number(struct json_object *to, const char *key, uint64_t value)
{
    ctl_json_put(to, key, json_object_new_uint64(value));
}

void ctl_json_bool(struct json_object *to, const char *key, bool value)
{
    ctl_json_put(to, key, json_object_new_boolean(value));
}

void ctl_json_null(struct json_object *to, const char *key)
{
    if (json_object_object_add(to, key, NULL) < 0) /* json-c's null */
        ctl_die(CTL_FAILED, "%s", strerror(ENOMEM));
}

static void put_time(struct json_object *to, const char *key, int64_t seconds, const char *fraction)
{
    time_t t = (time_t)seconds;
    char text[64], whole[96];
    struct tm tm;

    if (!gmtime_r(&t, &tm) || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm) == 0) {
        ctl_json_null(to, key); /* a year that no int can hold */
        return;
    }
    snprintf(whole, sizeof(whole), "%s%sZ", text, fraction);
    ctl_json_put(to, key, json_object_new_string(whole));
}

void ctl_json_time(struct json_object *to, const char *key, int64_t seconds)
{
    put_time(to, key, seconds, "");
}

void ctl_json_timespec(struct json_object *to, const char *key, struct timespec ts)
{
    char fraction[24];

    snprintf(fraction, sizeof(fraction), ".%09ld", ts.tv_nsec);
    put_time(to, key, ts.tv_sec, fraction);
}

void ctl_json_stat(struct json_object *to, const struct stat *st)
{
    char mode[8];

    snprintf(mode, sizeof(mode), "%04o", st->st_mode & 07777);
    ctl_json_put(to, "type", json_object_new_string(ctl_type_text(st->st_mode)));
    ctl_json_number(to, "inode", st->st_ino);
    ctl_json_put(to, "mode", json_object_new_string(mode));
    ctl_json_number(to, "links", st->st_nlink);
    ctl_json_number(to, "uid", st->st_uid);
    ctl_json_number(to, "gid", st->st_gid);
    ctl_json_number(to, "size", (uint64_t)st->st_size);
    ctl_json_number(to, "allocated", (uint64_t)st->st_blocks * 512);
    if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
        ctl_json_number(to, "major", major(st->st_rdev));
        ctl_json_number(to, "minor", minor(st->st_rdev));
    }
    ctl_json_timespec(to, "accessed", st->st_atim);
    ctl_json_timespec(to, "modified", st->st_mtim);
    ctl_json_timespec(to, "changed", st->st_ctim);
}

static void put_hex(struct json_object *to, const char *key, const char *text)
{
    size_t n = strlen(text);
    char *digits = calloc(n, 2);
    char *key_hex;

    if (!digits || asprintf(&key_hex, "%s_hex", key) < 0)
        ctl_die(CTL_FAILED, "%s", strerror(ENOMEM));
    for (size_t i = 0; i < n; i++) {
        static const char digit[] = "0123456789abcdef";
        digits[2 * i] = digit[(unsigned char)text[i] >> 4];
        digits[2 * i + 1] = digit[(unsigned char)text[i] & 15];
    }
    ctl_json_put(to, key_hex, json_object_new_string_len(digits, (int)(2 * n)));
    free(key_hex);
    free(digits);
}

void ctl_json_text(struct json_object *to, const char *key, const char *text)
{
    const char *p = text;
    char *valid = malloc(3 * strlen(text) + 1), *end = valid;
    bool wrong = false;

    if (!valid)
        ctl_die(CTL_FAILED, "%s", strerror(ENOMEM));
    while (*p) {
        size_t n = ctl_character(p);

        if (n == 0) {
            end = mempcpy(end, "\xef\xbf\xbd", 3);
            p++;
            wrong = true;
        } else {
            end = mempcpy(end, p, n);
            p += n;
        }
    }
    ctl_json_put(to, key, json_object_new_string_len(valid, (int)(end - valid)));
    if (wrong)
        put_hex(to, key, text);
    free(valid);
}

void ctl_json_print(struct json_object *object)
{
    const char *text =
        json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);

    if (!text)
        ctl_die(CTL_FAILED, "%s", strerror(ENOMEM));
    puts(text);
    json_object_put(object);
}
