/* A store, a port and a reactor of the test's own, for every backend in the registry. */
#pragma once

#include "reactor/reactor.h"
#include "store/store.h"

struct world {
    const struct tp_store_backend *backend;
    enum tp_durability durability;
    char directory[64]; /* a new one; gone with the world */
    struct tp_post *post;
    struct tp_reactor *reactor;
    struct tp_store *store;
    struct tp_store_port *port;
    uint32_t answered_count;
    void *last_answered;
};

void world_open(struct world *world, const struct tp_store_backend *backend,
                enum tp_durability durability);
/* As world_open, in a directory that is there already; false: it did not open. */
bool world_open_at(struct world *world, const struct tp_store_backend *backend,
                   enum tp_durability durability, const char *directory);
void world_close(struct world *world);
/* The store alone, as when the process starts again. */
void world_close_store(struct world *world);
bool world_open_store(struct world *world, char *error, size_t error_size);

/* Submits `count` operations at once and waits until all are answered. */
void world_do(struct world *world, struct tp_store_op *ops, size_t count);
/* Submits without waiting; and waits until `count` have been answered since the world began. */
void world_submit(struct world *world, struct tp_store_op *ops, size_t count);
void world_wait(struct world *world, uint32_t count);

struct tp_store_op put_op(enum tp_store_table table, struct tp_slice key, struct tp_slice value);
struct tp_store_op get_op(enum tp_store_table table, struct tp_slice key);
struct tp_store_op scan_op(enum tp_store_table table, struct tp_slice from, struct tp_slice to);
/* The log key lies in `key`, 16 bytes of the caller's. */
struct tp_store_op append_op(uint8_t *key, uint64_t number, uint64_t sequence,
                             struct tp_slice value);
struct tp_store_op log_op(uint8_t range[32], uint64_t number);
void add_part(struct tp_store_op *op, enum tp_store_part_kind kind, enum tp_store_table table,
              struct tp_slice key, struct tp_slice value);
