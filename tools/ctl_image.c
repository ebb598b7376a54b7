/* SPDX-License-Identifier: MIT */
/* shmfsctl image info, image verify: what images are like, without a region. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"

/* ---- what others need of images ----------------------------------------------------------------- */

/* The library's errors do not tell which of two files they mean, and its advice is about regions. */
void ctl_image_must_be(const char *image, bool may_be_missing)
{
    struct shmfs_diag diag = { 0 };
    char text[PATH_MAX + 512];
    struct stat st;
    int r = lstat(image, &st) < 0 ? -errno : 0;

    if (r == -ENOENT && may_be_missing)
        return;
    if (r == -ENOENT)
        ctl_die(CTL_FAILED, "%s: %s; check the path, or make an image there with 'shmfsctl snapshot'", image,
                strerror(ENOENT));
    if (r == 0 && !S_ISREG(st.st_mode)) {
        diag.reason = SHMFS_REASON_NOT_FILE;
        r = -EINVAL;
    }
    if (r == 0 && access(image, R_OK) < 0)
        r = -errno;
    if (r < 0)
        ctl_die(CTL_FAILED, "%s", shmfs_diag_text(&diag, r, image, text, sizeof(text)));
}

bool ctl_same_file(const char *a, const char *b)
{
    struct stat x, y;

    return lstat(a, &x) == 0 && lstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

bool ctl_image_is_meant(const struct shmfs_diag *why, int r)
{
    switch (why->reason) {
    case SHMFS_REASON_NONE:
        return r == -EUCLEAN || r == -EIO;
    case SHMFS_REASON_EXISTS:
    case SHMFS_REASON_IN_USE:
    case SHMFS_REASON_MOUNTED:
    case SHMFS_REASON_NOT_FILE: /* that the image is one was seen before */
        return false;
    default:
        return true;
    }
}

void ctl_damage_told(void *arg, const char *path, const char *text)
{
    const struct ctl_damage *damage = arg;
    struct json_object *object;

    if (!damage->list) {
        ctl_progress_clear(damage->progress);
        ctl_warn("%s: %s%s%s", damage->image, path ? path : "", path ? ": " : "", text);
        return;
    }
    object = ctl_json_object();
    if (path)
        ctl_json_text(object, "path", path);
    else
        ctl_json_null(object, "path");
    ctl_json_text(object, "text", text);
    ctl_json_append(damage->list, object);
}

/* ---- info --------------------------------------------------------------------------------------- */

static void print_text(const char *image, const struct shmfs_image_info *info)
{
    char size[16], max[16], used[16], file[16], when[64], uuid[37], label[33];

    shmfs_size_text(info->size, size, sizeof(size));
    shmfs_size_text(info->max_size, max, sizeof(max));
    shmfs_size_text(info->used, used, sizeof(used));
    shmfs_size_text(info->file_size, file, sizeof(file));
    snprintf(label, sizeof(label), "%.32s", info->label);

    printf("%s: image of a shmfs region, format version %" PRIu32 "\n", image, info->version);
    printf("  made    %s, commit %" PRIu64 "\n", ctl_time_text(info->when.tv_sec, when, sizeof(when)),
           info->sequence);
    printf("  size    %s, may grow to %s\n", size, max);
    printf("  used    %s, and %" PRIu64 " inodes\n", used, info->inodes);
    printf("  file    takes %s\n", file);
    if (label[0] != '\0')
        printf("  label   %s\n", ctl_clean(label));
    printf("  UUID    %s\n", ctl_uuid_text(info->uuid, uuid));
}

static void print_json(const char *image, const struct shmfs_image_info *info)
{
    struct json_object *object = ctl_json_object();
    char uuid[37], label[33];

    snprintf(label, sizeof(label), "%.32s", info->label);
    ctl_json_text(object, "image", image);
    ctl_json_put(object, "uuid", json_object_new_string(ctl_uuid_text(info->uuid, uuid)));
    ctl_json_text(object, "label", label);
    ctl_json_number(object, "version", info->version);
    ctl_json_number(object, "commit", info->sequence);
    ctl_json_timespec(object, "made", info->when);
    ctl_json_number(object, "size", info->size);
    ctl_json_number(object, "max_size", info->max_size);
    ctl_json_number(object, "used", info->used);
    ctl_json_number(object, "inodes_used", info->inodes);
    ctl_json_number(object, "allocated", info->file_size);
    ctl_json_print(object);
}

static int run_info(const struct ctl_call *call)
{
    struct shmfs_image_info info = { 0 };
    struct shmfs_diag diag = { 0 };
    int r;

    ctl_image_must_be(call->where, false);
    r = shmfs_image_info(call->where, &info, &diag);
    if (r < 0) {
        ctl_warn_of(call->where, &diag, r);
        return CTL_FAILED;
    }
    if (call->json)
        print_json(call->where, &info);
    else
        print_text(call->where, &info);
    return CTL_OK;
}

const struct ctl_command ctl_image_info = {
    .name = "image info",
    .usage = "Usage: shmfsctl image info [options] IMAGE\n"
             "Shows what an image is of, and when it was made.\n"
             "\n" CTL_USAGE_JSON CTL_USAGE_COMMON,
    .way = CTL_IMAGE,
    .run = run_info,
};

/* ---- verify ------------------------------------------------------------------------------------- */

static void print_verified(const struct ctl_call *call, const struct shmfs_restore_result *result,
                           uint64_t ns, struct json_object *damage)
{
    uint64_t bytes = result->pages * 4096;
    char size[16], rate[16], time[32];

    if (call->json) {
        struct json_object *object = ctl_json_object();

        ctl_json_text(object, "image", call->where);
        ctl_json_bool(object, "sound", result->damaged == 0);
        ctl_json_number(object, "pages", result->pages);
        ctl_json_number(object, "pages_damaged", result->damaged);
        ctl_json_number(object, "took_ns", ns);
        ctl_json_number(object, "bytes_per_second", ctl_rate(bytes, ns));
        ctl_json_put(object, "damage", damage);
        ctl_json_print(object);
    } else if (result->damaged == 0) {
        printf("%s: undamaged: %" PRIu64 " pages, %s in %s, %s/s\n", call->where, result->pages,
               shmfs_size_text(bytes, size, sizeof(size)), ctl_age_text(ns, time, sizeof(time)),
               ctl_rate_text(bytes, ns, rate, sizeof(rate)));
    }
}

static int run_verify(const struct ctl_call *call)
{
    struct shmfs_restore_result result = { 0 };
    struct shmfs_diag diag = { 0 };
    struct ctl_progress progress;
    struct ctl_damage damage = { call->where, &progress, call->json ? ctl_json_array() : NULL };
    struct shmfs_restore how = { .mode = 0600, .damage = ctl_damage_told, .arg = &damage };
    uint64_t ns;
    int r;

    ctl_image_must_be(call->where, false);
    ctl_progress_begin(&progress, "image verify", call);
    how.progress = progress.steps;
    r = shmfs_image_verify(call->where, &how, &result, &diag);
    ns = ctl_progress_end(&progress);
    if (r == -ECANCELED) {
        ctl_warn("interrupted; %s was not looked at to its end", call->where);
        return CTL_SIGNAL + ctl_progress_signal();
    }
    if (r < 0)
        ctl_warn_of(call->where, &diag, r);
    if (r == 0 || (r == -EUCLEAN && result.damaged > 0))
        print_verified(call, &result, ns, damage.list);
    else
        json_object_put(damage.list);
    return r < 0 ? CTL_FAILED : CTL_OK;
}

const struct ctl_command ctl_image_verify = {
    .name = "image verify",
    .usage = "Usage: shmfsctl image verify [options] IMAGE\n"
             "Reads all of an image, and says whether it is as it was written; if not, what is damaged.\n"
             "\n" CTL_USAGE_JSON CTL_USAGE_COMMON,
    .way = CTL_IMAGE,
    .run = run_verify,
};
