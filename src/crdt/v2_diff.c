#include "crdt/diff.h"
#include "crdt/v2.h"
#include "crdt/v2_writer.h"

/* The verdict on an update that was read to its end. */
static enum tp_status judge(const struct tp_v2_reader *in, bool is_plain)
{
    if (in->error != NULL)
        return TP_MALFORMED;
    return is_plain && in->regular ? TP_OK : TP_ABSENT;
}

/* ---- state vector -----------------------------------------------------------------------------*/

/* Takes a block, and tells how much of it is known from clock 0 without a hole. */
static uint64_t take_known(struct tp_v2_reader *in)
{
    struct tp_v2_run run;
    bool holed = in->clock > 0;
    uint64_t known = 0;

    while (in->structs_left > 0 && tp_v2_peek(in, &run) && tp_v2_take(in, &run, run.count, NULL)) {
        holed |= run.ref == TP_REF_SKIP;
        if (likely(!holed))
            known = in->clock;
    }
    return known;
}

enum tp_status tp_v2_known_clocks(struct tp_slice update, struct tp_buffer *out)
{
    uint8_t memory[256];
    struct tp_buffer entries = tp_buffer_starting(memory, sizeof memory, SIZE_MAX);
    struct tp_v2_reader in;
    uint64_t count = 0;
    bool normal;

    if (tp_v2_open(&in, update, TP_FORM_X, &tp_update_limits_default)) {
        while (tp_v2_enter(&in)) {
            const uint64_t known = take_known(&in);
            if (known == 0)
                continue;
            tp_write_varuint(&entries, in.client);
            tp_write_varuint(&entries, known);
            count++;
        }
        if (in.error == NULL)
            (void)tp_v2_deletes(&in, NULL, &normal);
    }
    const enum tp_status status = judge(&in, true);
    if (status == TP_OK) {
        tp_write_varuint(out, count);
        tp_write_raw(out, tp_buffer_slice(&entries));
    }
    tp_v2_finish(&in);
    tp_buffer_finish(&entries);
    return status == TP_OK && out->full ? TP_FULL : status;
}

/* ---- diff -------------------------------------------------------------------------------------*/

/* What stays of an update is a few stretches of it, most often one to each client that the peer
 * does not know all of; blocks that stay whole go on with the stretch before them. */
struct diff {
    struct tp_v2_reader in;
    struct tp_v2_writer to;
    struct tp_v2_place from; /* of the stretch that is not copied yet */
    bool is_open;
    bool is_plain; /* so far: stretches begin and end between characters */
};

static void close_stretch(struct diff *diff, const struct tp_v2_place *until)
{
    if (diff->is_open)
        diff->is_plain &= tp_v2_copy(&diff->to, &diff->from, until);
    diff->is_open = false;
}

/* The units of the next struct from `offset` on, as a struct of their own. */
static void write_part(struct diff *diff, struct tp_v2_run *run, uint64_t offset)
{
    struct tp_v2_reader *const in = &diff->in;
    struct tp_buffer whole = tp_buffer_growing(SIZE_MAX);
    struct tp_buffer part = tp_buffer_growing(SIZE_MAX);
    const uint64_t clock = in->clock;
    struct tp_walk walk;
    struct tp_struct s;

    if (tp_v2_take(in, run, 1, &whole)) {
        tp_walk_resume(&walk, whole.data, whole.data + whole.size, TP_FORM_X, in->client, clock, 1,
                       0);
        TP_ASSERT(tp_walk_next(&walk, &s));
        tp_emit_struct(&s, offset, s.len, TP_CUT_HALVE, &part);
        tp_walk_resume(&walk, part.data, part.data + part.size, TP_FORM_X, in->client,
                       clock + offset, 1, 0);
        TP_ASSERT(tp_walk_next(&walk, &s));
        tp_v2_write_struct(&diff->to, &s);
    }
    tp_buffer_finish(&whole);
    tp_buffer_finish(&part);
}

/* Passes what the peer knows of a block. False: that is all of it, or an error. */
static bool pass_known(struct tp_v2_reader *in, uint64_t known, struct tp_v2_run *run)
{
    while (in->structs_left > 0 && tp_v2_peek(in, run)) {
        uint64_t count = run->count;
        if (run->ref != TP_REF_SKIP && in->clock + count * run->len > known) {
            count = known > in->clock ? (known - in->clock) / run->len : 0;
            if (count == 0)
                return true;
        }
        if (!tp_v2_take(in, run, count, NULL))
            return false;
    }
    return false;
}

static void take_block(struct diff *diff, uint64_t known, const struct tp_v2_place *before)
{
    struct tp_v2_reader *const in = &diff->in;
    const uint64_t struct_count = in->structs_left;
    struct tp_v2_run run;

    if (!pass_known(in, known, &run)) {
        close_stretch(diff, before);
        return;
    }
    const uint64_t offset = known > in->clock ? known - in->clock : 0;
    if (diff->is_open && in->structs_left == struct_count && offset == 0) {
        diff->to.block_count++;
    } else {
        close_stretch(diff, before);
        tp_v2_write_block(&diff->to, in->structs_left, in->client, in->clock + offset);
        if (offset > 0)
            write_part(diff, &run, offset);
        diff->from = in->place;
        diff->is_open = true;
    }
    while (in->structs_left > 0 && tp_v2_peek(in, &run) && tp_v2_take(in, &run, run.count, NULL))
        ;
}

static enum tp_status run(struct diff *diff, const struct tp_state_vector *known)
{
    struct tp_v2_reader *const in = &diff->in;
    struct tp_v2_place before = in->place;
    bool normal = true;

    for (; tp_v2_enter(in); before = in->place)
        take_block(diff, tp_state_vector_get(known, in->client), &before);
    if (in->error == NULL) {
        close_stretch(diff, &in->place);
        const uint8_t *const deletes = in->place.rest.at;
        if (tp_v2_deletes(in, NULL, &normal))
            tp_buffer_append(&diff->to.rest, deletes, (size_t)(in->place.rest.at - deletes));
    }
    return judge(in, diff->is_plain && normal && tp_v2_is_canonical(in));
}

enum tp_status tp_v2_diff(struct tp_slice update, struct tp_slice sv, struct tp_buffer *out)
{
    struct tp_state_vector known = {0};
    struct diff diff;
    enum tp_status status = tp_state_vector_decode(&known, sv);

    if (status != TP_OK)
        return status;
    tp_v2_writer_init(&diff.to, TP_FORM_X);
    diff.is_open = false;
    diff.is_plain = true;
    status = TP_MALFORMED;
    if (tp_v2_open(&diff.in, update, TP_FORM_X, &tp_update_limits_default))
        status = run(&diff, &known);
    if (status == TP_OK)
        tp_v2_write_out(&diff.to, out);
    tp_v2_finish(&diff.in);
    tp_v2_writer_finish(&diff.to);
    tp_state_vector_finish(&known);
    return status == TP_OK && out->full ? TP_FULL : status;
}
