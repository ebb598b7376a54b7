/* SPDX-License-Identifier: MIT */
#ifndef DISK_TRACE_H
#define DISK_TRACE_H

/* A file of what was done to an image, and what programs were told, in this order. */
#include <stdint.h>

enum trace_kind {
    TRACE_NEW_FILE = 1,
    TRACE_WRITE, /* the bytes follow */
    TRACE_RESIZE,
    TRACE_SYNC,
    TRACE_RENAME,
    TRACE_SYNC_NAME,
    TRACE_TOLD, /* off: which program; n: how many of its transactions are durable */
};

struct trace_record {
    uint32_t kind, pad;
    uint64_t off, n;
};

#endif
