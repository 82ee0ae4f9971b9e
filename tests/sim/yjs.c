/* Documents as clients of the simulator have them: all updates seen, merged; no document object. */
#include <stdio.h>
#include <stdlib.h>

#include "crdt/state_vector.h"
#include "crdt/update.h"
#include "sim/sim.h"
#include "wire/writer.h"

#define UPDATE_SIZE_MAX ((size_t)64 << 20)

static void must(enum tp_status status, const char *what)
{
    if (status != TP_OK)
        sim_fail("%s: status %d", what, status);
}

void sim_merge_into(struct tp_buffer *state, struct tp_slice update)
{
    const struct tp_slice both[2] = {update, tp_buffer_slice(state)};
    struct tp_buffer merged = tp_buffer_growing(UPDATE_SIZE_MAX);

    must(tp_update_merge(both, state->size == 0 ? 1 : 2, TP_UPDATE_V1, &merged),
         "an update that cannot be merged");
    tp_buffer_finish(state);
    *state = merged;
}

void sim_convert(struct tp_slice update, int from, int to, struct tp_buffer *out)
{
    must(tp_update_convert(update, (enum tp_update_encoding)from, (enum tp_update_encoding)to, out),
         "an update that cannot be converted");
}

static struct tp_buffer canonical(struct tp_slice update, bool compacted)
{
    struct tp_buffer out = tp_buffer_growing(UPDATE_SIZE_MAX);

    if (update.size == 0)
        update = tp_update_empty(TP_UPDATE_V1);
    if (compacted)
        must(tp_update_compact(update, TP_UPDATE_V1, &out, NULL), "compact");
    else
        must(tp_update_merge(&update, 1, TP_UPDATE_V1, &out), "merge");
    return out;
}

bool sim_same(struct tp_slice a, struct tp_slice b, bool compacted)
{
    struct tp_buffer first = canonical(a, compacted), second = canonical(b, compacted);
    const bool same = tp_slice_equal(tp_buffer_slice(&first), tp_buffer_slice(&second));

    tp_buffer_finish(&first);
    tp_buffer_finish(&second);
    return same;
}

bool sim_holds(struct tp_slice state, struct tp_slice part, bool compacted)
{
    struct tp_buffer both = {0};

    if (part.size == 0)
        return true;
    if (state.size > 0)
        sim_merge_into(&both, state);
    sim_merge_into(&both, part);
    const bool holds = sim_same(tp_buffer_slice(&both), state, compacted);
    tp_buffer_finish(&both);
    return holds;
}

static void tell_bytes(const char *what, struct tp_slice bytes)
{
    char *text = malloc(2 * bytes.size + 1);

    TP_ASSERT(text != NULL);
    text[0] = 0;
    for (size_t i = 0; i < bytes.size; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes.data[i]);
    sim_say("%s: %s", what, text);
    free(text);
}

void sim_tell_missing(struct tp_slice state, struct tp_slice part)
{
    struct tp_buffer vector = tp_buffer_growing(UPDATE_SIZE_MAX),
                     missing = tp_buffer_growing(UPDATE_SIZE_MAX);

    must(tp_update_state_vector(state, TP_UPDATE_V1, &vector), "state vector");
    must(tp_update_diff(part, TP_UPDATE_V1, tp_buffer_slice(&vector), &missing), "diff");
    tell_bytes("it lacks, by its state vector, and should have deleted", tp_buffer_slice(&missing));
    tell_bytes("the state", state);
    tell_bytes("what it should hold", part);
    tp_buffer_finish(&vector);
    tp_buffer_finish(&missing);
}

/* ---- edits --------------------------------------------------------------------------------------
 */

static const struct tp_state_vector_entry *known_author(const struct tp_state_vector *known)
{
    return known->count == 0 ? NULL : &known->entries[sim_below(known->count)];
}

static void write_id(struct tp_buffer *out, const struct tp_state_vector_entry *entry)
{
    tp_write_varuint(out, entry->client);
    tp_write_varuint(out, sim_below(entry->clock));
}

static void write_text(struct tp_buffer *out)
{
    uint8_t text[64];
    const size_t size = 1 + sim_below(sim_chance(30) ? sizeof text : 5);

    for (size_t i = 0; i < size; i++)
        text[i] = (uint8_t)('a' + sim_below(26));
    tp_write_bytes(out, tp_slice_of(text, size));
}

/* One struct: a text beside something known, or a map's entry. */
static void write_insert(struct tp_buffer *out, const struct tp_state_vector *known)
{
    const struct tp_state_vector_entry *left = known_author(known), *right = known_author(known);

    if (left == NULL || sim_chance(60)) {
        tp_buffer_append(out, "\x04\1\1t", 4); /* a string, no neighbours: parent is the root "t" */
        write_text(out);
    } else if (sim_chance(100)) {
        tp_buffer_append(out, "\x28\1\1m\1k\1", 7); /* any, under root "m", key "k" */
        tp_buffer_append(out, "\x77", 1);           /* which is a string */
        write_text(out);
    } else {
        const bool has_right = sim_chance(200);
        tp_write_u8(out, has_right ? 0xc4 : 0x84);
        write_id(out, left);
        if (has_right)
            write_id(out, right);
        write_text(out);
    }
}

static void write_delete(struct tp_buffer *out, const struct tp_state_vector *known)
{
    const struct tp_state_vector_entry *author = known_author(known);

    tp_write_u8(out, 0); /* no structs */
    tp_write_u8(out, 1);
    tp_write_varuint(out, author->client);
    tp_write_u8(out, 1);
    const uint64_t from = sim_below(author->clock);
    tp_write_varuint(out, from);
    tp_write_varuint(out, 1 + sim_below(tp_min(author->clock - from, 8)));
}

void sim_edit(const struct tp_buffer *state, uint64_t author, struct tp_buffer *out)
{
    struct tp_buffer bytes = tp_buffer_growing(UPDATE_SIZE_MAX);
    struct tp_state_vector known = {0};

    if (state->size > 0)
        must(tp_update_state_vector(tp_buffer_slice(state), TP_UPDATE_V1, &bytes), "state vector");
    must(tp_state_vector_decode(&known, tp_buffer_slice(&bytes)), "state vector");
    *out = tp_buffer_growing(UPDATE_SIZE_MAX);
    if (known.count > 0 && sim_chance(200)) {
        write_delete(out, &known);
    } else {
        tp_buffer_append(out, "\1\1", 2);
        tp_write_varuint(out, author);
        tp_write_varuint(out, tp_state_vector_get(&known, author));
        write_insert(out, &known);
        tp_write_u8(out, 0); /* nothing deleted */
    }
    tp_state_vector_finish(&known);
    tp_buffer_finish(&bytes);
}
