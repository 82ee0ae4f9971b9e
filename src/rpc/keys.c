/* The key registry: for each user the document's key, wrapped so that only this user can open it
 * (spec 03 section 6). What is wrapped is opaque to us.
 *
 *     room 00 document 00 epoch -> 71 | generation | count | user, wrapped key | ...
 *
 * By name, since a document has its keys before its first update; and by epoch, so that a document
 * that was deleted and made anew does not inherit them. One row, replaced by compare-and-set. */
#include <stdio.h>

#include "rpc/methods.h"
#include "wire/record.h"

#define KEY_SIZE_MAX (2 * TP_RECORD_NAME_SIZE_MAX + 16)
#define USER_COUNT_MAX 4096u /* of a document; more: 413 */
#define USER_SIZE_MAX 256u
#define WRAPPED_SIZE_MAX 1024u
#define TRY_COUNT_MAX 3u

struct entry {
    struct tp_slice user, wrapped;
    bool is_done; /* is in the registry already */
};

struct state {
    struct tp_buffer key, value;
    struct entry *entries; /* of the request: to set, or whose to revoke */
    uint64_t entry_count;
    struct entry **sorted; /* by user; equal ones as they came */
    uint64_t expected_generation;
    uint64_t generation; /* after the write */
};

static void free_state(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct state *state = call->state;

    (void)rpc;
    (void)out;
    tp_buffer_finish(&state->key);
    tp_buffer_finish(&state->value);
}

static struct state *begin(struct tp_rpc *rpc, struct tp_rpc_call *call)
{
    struct state *state = tp_rpc_take(rpc, call, sizeof *state);

    call->state = state;
    call->finish = free_state;
    return state;
}

static void read_row(struct tp_rpc *rpc, struct tp_rpc_call *call, tp_rpc_step *next,
                     struct tp_effects *out)
{
    struct state *state = call->state;

    call->again = next;
    tp_buffer_finish(&state->key);
    state->key = tp_buffer_growing(KEY_SIZE_MAX);
    tp_record_keys_key(tp_session_room(rpc->session), tp_session_document(rpc->session),
                       tp_session_facts(rpc->session).epoch, &state->key);
    call->op.ranges[0] =
        (struct tp_store_range){.table = TP_TABLE_KEYS, .from = tp_buffer_slice(&state->key)};
    call->op.range_count = 1;
    tp_rpc_read(rpc, call, next, out);
}

/* ---- the row ------------------------------------------------------------------------------------
 */

/* A walk over the registry as it was read; without a row it is empty, of generation 0. */
struct registry {
    uint64_t generation, count;
    struct tp_reader entries;
};

/* False: the row is damaged, and the call has ended. */
static bool open_registry(struct tp_rpc *rpc, struct tp_rpc_call *call, struct registry *out,
                          struct tp_effects *effects)
{
    *out = (struct registry){.entries = tp_reader_of(TP_SLICE(""))};
    if (tp_rpc_broken(rpc, call, effects))
        return false;
    if (call->row_count == 0)
        return true;
    struct tp_reader in = tp_reader_of(call->rows[0].value);
    in.bad |= tp_read_u8(&in) != TP_RECORD_KEYS;
    out->generation = tp_read_varuint(&in);
    out->count = tp_read_count(&in, 2);
    out->entries = in;
    for (uint64_t i = 0; i < out->count; i++) {
        (void)tp_read_bytes(&in);
        (void)tp_read_bytes(&in);
    }
    if (!in.bad && tp_reader_left(&in) == 0)
        return true;
    tp_rpc_fail(rpc, call, 500, "The key registry of this document is damaged", effects);
    return false;
}

static struct entry next_entry(struct registry *registry)
{
    struct entry entry;

    entry.user = tp_read_bytes(&registry->entries);
    entry.wrapped = tp_read_bytes(&registry->entries);
    return entry;
}

static int compare(struct tp_slice a, struct tp_slice b)
{
    const size_t size = tp_min(a.size, b.size);
    const int order = size == 0 ? 0 : memcmp(a.data, b.data, size);

    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static int by_user(const void *left, const void *right)
{
    const struct entry *a = *(struct entry *const *)left, *b = *(struct entry *const *)right;
    const int order = compare(a->user, b->user);

    return order != 0 ? order : (a > b) - (a < b);
}

static void sort_entries(struct tp_rpc *rpc, struct tp_rpc_call *call)
{
    struct state *state = call->state;

    state->sorted = tp_rpc_take(rpc, call, (state->entry_count + 1) * sizeof(struct entry *));
    for (uint64_t i = 0; i < state->entry_count; i++)
        state->sorted[i] = &state->entries[i];
    qsort(state->sorted, state->entry_count, sizeof *state->sorted, by_user);
}

/* Of equal users the last one counts. */
static struct entry *find(const struct state *state, struct tp_slice user)
{
    uint64_t low = 0, high = state->entry_count;

    while (low < high) { /* the first that is greater */
        const uint64_t middle = low + (high - low) / 2;
        if (compare(state->sorted[middle]->user, user) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || compare(state->sorted[low - 1]->user, user) != 0)
        return NULL;
    return state->sorted[low - 1];
}

/* For the entries of a new row: with room for those of the old one. */
static struct tp_buffer room_for_entries(const struct tp_rpc_call *call)
{
    struct tp_buffer out = tp_buffer_growing(UINT32_MAX);

    TP_ASSERT(tp_buffer_reserve(&out, call->row_count == 0 ? 64 : call->rows[0].value.size + 64));
    return out;
}

static void write_entry(struct tp_buffer *out, struct tp_slice user, struct tp_slice wrapped,
                        uint64_t *count)
{
    tp_write_bytes(out, user);
    tp_write_bytes(out, wrapped);
    (*count)++;
}

/* ---- answers ------------------------------------------------------------------------------------
 */

static void write_generation(struct tp_buffer *out, uint64_t generation)
{
    tp_write_bytes(out, TP_SLICE("generation"));
    tp_any_write_number(out, (double)generation);
}

static void reply_generation(struct tp_rpc *rpc, struct tp_rpc_call *call, uint64_t generation,
                             struct tp_effects *out)
{
    struct tp_buffer payload = tp_buffer_growing(UINT32_MAX);

    tp_any_write_object(&payload, 1);
    write_generation(&payload, generation);
    tp_rpc_reply(rpc, call, &payload, out);
}

static void written(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct state *state = call->state;

    if (call->status == TP_DENIED && call->tries++ < TRY_COUNT_MAX) {
        tp_rpc_drop_rows(call);
        read_row(rpc, call, call->again, out);
        return;
    }
    if (!tp_rpc_broken(rpc, call, out))
        reply_generation(rpc, call, state->generation, out);
}

/* Writes `count` entries, already encoded, in place of what was read. */
static void replace(struct tp_rpc *rpc, struct tp_rpc_call *call, uint64_t generation,
                    uint64_t count, const struct tp_buffer *entries, tp_rpc_step *next,
                    struct tp_effects *out)
{
    struct state *state = call->state;
    const struct tp_slice key = tp_buffer_slice(&state->key);

    state->generation = generation;
    tp_buffer_finish(&state->value);
    state->value = tp_buffer_growing(UINT32_MAX);
    tp_write_u8(&state->value, TP_RECORD_KEYS);
    tp_write_varuint(&state->value, generation);
    tp_write_varuint(&state->value, count);
    tp_write_raw(&state->value, tp_buffer_slice(entries));
    call->op.parts[0] =
        (struct tp_store_part){.kind = TP_PART_EXPECT_ABSENT, .table = TP_TABLE_KEYS, .key = key};
    if (call->row_count > 0) {
        call->op.parts[0].kind = TP_PART_EXPECT_VALUE;
        call->op.parts[0].value = call->rows[0].value;
    }
    call->op.parts[1] = (struct tp_store_part){.kind = TP_PART_PUT,
                                               .table = TP_TABLE_KEYS,
                                               .key = key,
                                               .value = tp_buffer_slice(&state->value)};
    call->op.part_count = 2;
    tp_rpc_write(rpc, call, next, out);
}

/* ---- get and meta -------------------------------------------------------------------------------
 */

static void get_read(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct registry registry;

    if (!open_registry(rpc, call, &registry, out))
        return;
    for (uint64_t i = 0; i < registry.count; i++) {
        const struct entry entry = next_entry(&registry);
        if (!tp_slice_equal(entry.user, call->user))
            continue;
        struct tp_buffer payload = tp_buffer_growing(UINT32_MAX);
        tp_any_write_object(&payload, 2);
        tp_write_bytes(&payload, TP_SLICE("wrappedKey"));
        tp_any_write_bytes(&payload, entry.wrapped);
        write_generation(&payload, registry.generation);
        tp_rpc_reply(rpc, call, &payload, out);
        return;
    }
    tp_rpc_fail(rpc, call, 404, "No wrapped key found for this user", out);
}

void tp_rpc_keys_get(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    begin(rpc, call);
    if (call->user.size == 0)
        tp_rpc_fail(rpc, call, 401, "userId required in message context", out);
    else
        read_row(rpc, call, get_read, out);
}

static void meta_read(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_buffer payload = tp_buffer_growing(UINT32_MAX);
    struct registry registry;

    if (!open_registry(rpc, call, &registry, out))
        return;
    tp_any_write_object(&payload, 2);
    write_generation(&payload, registry.generation);
    tp_write_bytes(&payload, TP_SLICE("userIds"));
    tp_any_write_array(&payload, registry.count);
    for (uint64_t i = 0; i < registry.count; i++)
        tp_any_write_string(&payload, next_entry(&registry).user);
    tp_rpc_reply(rpc, call, &payload, out);
}

void tp_rpc_keys_meta(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    begin(rpc, call);
    read_row(rpc, call, meta_read, out);
}

/* ---- set and rotate -----------------------------------------------------------------------------
 */

static void read_entries(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_rpc_args *args)
{
    struct state *state = call->state;
    struct tp_reader in = tp_rpc_array(args, "entries", USER_COUNT_MAX, &state->entry_count);

    state->entries = tp_rpc_take(rpc, call, (state->entry_count + 1) * sizeof *state->entries);
    for (uint64_t i = 0; i < state->entry_count && args->wrong[0] == 0; i++) {
        struct tp_rpc_args entry;
        tp_rpc_array_object(args, "entries", &in, &entry);
        state->entries[i].user = tp_rpc_text(&entry, "userId", USER_SIZE_MAX);
        state->entries[i].wrapped = tp_rpc_bytes(&entry, "wrappedKey", WRAPPED_SIZE_MAX);
        if (entry.wrong[0] == 0 && state->entries[i].user.size == 0)
            tp_rpc_wrong(&entry, "userId", "is empty");
        tp_rpc_args_join(args, &entry);
    }
    sort_entries(rpc, call);
}

static void set_read(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct state *state = call->state;
    struct registry registry;
    uint64_t count = 0;

    if (!open_registry(rpc, call, &registry, out))
        return;
    struct tp_buffer entries = room_for_entries(call);
    for (uint64_t i = 0; i < registry.count; i++) {
        const struct entry entry = next_entry(&registry);
        struct entry *newer = find(state, entry.user);
        write_entry(&entries, entry.user, newer == NULL ? entry.wrapped : newer->wrapped, &count);
        if (newer != NULL)
            newer->is_done = true;
    }
    for (uint64_t i = 0; i < state->entry_count; i++) {
        struct entry *entry = &state->entries[i];
        if (!entry->is_done && find(state, entry->user) == entry)
            write_entry(&entries, entry->user, entry->wrapped, &count);
        entry->is_done = false; /* it may have to be tried again */
    }
    if (count > USER_COUNT_MAX)
        tp_rpc_fail(rpc, call, 413, "This document has keys for as many users as it may", out);
    else
        replace(rpc, call, registry.generation, count, &entries, written, out);
    tp_buffer_finish(&entries);
}

void tp_rpc_keys_set(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_rpc_args args;

    begin(rpc, call);
    tp_rpc_args_read(&args, call->request.rpc.payload);
    read_entries(rpc, call, &args);
    if (!tp_rpc_refused(rpc, call, &args, out))
        read_row(rpc, call, set_read, out);
}

/* Everybody else in the room hears of it, before the caller does. */
static void rotated(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct state *state = call->state;

    if (call->status == TP_OK) {
        struct tp_buffer payload = tp_buffer_growing(UINT32_MAX);
        tp_any_write_object(&payload, 1);
        write_generation(&payload, state->generation);
        tp_rpc_broadcast(rpc, call, "keysRotated", &payload, out);
    }
    written(rpc, call, out);
}

static void rotate_read(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct state *state = call->state;
    struct registry registry;
    uint64_t count = 0;
    char words[128];

    if (!open_registry(rpc, call, &registry, out))
        return;
    if (registry.generation != state->expected_generation) {
        snprintf(words, sizeof words,
                 "Key rotation conflict: expected generation %llu, but current is %llu",
                 (unsigned long long)state->expected_generation,
                 (unsigned long long)registry.generation);
        tp_rpc_fail(rpc, call, 409, words, out);
        return;
    }
    struct tp_buffer entries = room_for_entries(call);
    for (uint64_t i = 0; i < state->entry_count; i++)
        if (find(state, state->entries[i].user) == &state->entries[i])
            write_entry(&entries, state->entries[i].user, state->entries[i].wrapped, &count);
    replace(rpc, call, registry.generation + 1, count, &entries, rotated, out);
    tp_buffer_finish(&entries);
}

void tp_rpc_keys_rotate(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct state *state = begin(rpc, call);
    struct tp_rpc_args args;

    tp_rpc_args_read(&args, call->request.rpc.payload);
    read_entries(rpc, call, &args);
    state->expected_generation = tp_rpc_whole(&args, "expectedGeneration", TP_VARUINT_MAX - 1);
    if (!tp_rpc_refused(rpc, call, &args, out))
        read_row(rpc, call, rotate_read, out);
}

/* ---- revoke -------------------------------------------------------------------------------------
 */

static void revoke_read(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct state *state = call->state;
    struct registry registry;
    uint64_t count = 0;

    if (!open_registry(rpc, call, &registry, out))
        return;
    const uint64_t before = registry.count;
    struct tp_buffer entries = room_for_entries(call);
    for (uint64_t i = 0; i < before; i++) {
        const struct entry entry = next_entry(&registry);
        if (find(state, entry.user) == NULL)
            write_entry(&entries, entry.user, entry.wrapped, &count);
    }
    if (count == before)
        reply_generation(rpc, call, registry.generation, out);
    else
        replace(rpc, call, registry.generation, count, &entries, written, out);
    tp_buffer_finish(&entries);
}

void tp_rpc_keys_revoke(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct state *state = begin(rpc, call);
    struct tp_rpc_args args;

    tp_rpc_args_read(&args, call->request.rpc.payload);
    struct tp_reader in = tp_rpc_array(&args, "userIds", USER_COUNT_MAX, &state->entry_count);
    state->entries = tp_rpc_take(rpc, call, (state->entry_count + 1) * sizeof *state->entries);
    for (uint64_t i = 0; i < state->entry_count; i++)
        state->entries[i].user = tp_rpc_array_text(&args, "userIds", &in, USER_SIZE_MAX);
    sort_entries(rpc, call);
    if (!tp_rpc_refused(rpc, call, &args, out))
        read_row(rpc, call, revoke_read, out);
}
