/* store/trouble.h - what has gone wrong, from what RocksDB or the kernel says about it. */
#pragma once

#include "store/store.h"

/* Plain: zeroed it is none. */
struct tp_trouble {
    enum tp_store_state state;
    char detail[TP_STORE_DETAIL_SIZE]; /* for the log: one line, cut where it does not fit */
};

/* From a sentence of RocksDB's. What it does not recognise is an I/O error. */
struct tp_trouble tp_trouble_from(const char *sentence);
/* From an errno, and what was tried. */
struct tp_trouble tp_trouble_errno(int error, const char *tried);

/* TP_OK, TP_FULL for want of room, else TP_IO. */
enum tp_status tp_trouble_status(const struct tp_trouble *trouble);
