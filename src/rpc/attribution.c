/* Attribution: who made which part of the document, and when (spec 03 section 5). What is kept, and
 * what the log says besides, is put together by a worker for each question. */
#include "crdt/attribution.h"

#include "rpc/methods.h"
#include "wire/record.h"

#define USER_SIZE_MAX 1024u

struct state {
    struct tp_attribution_query query;
    struct tp_slice *inputs;
    uint8_t number[TP_RECORD_NUMBER_KEY_SIZE];
    uint8_t from[TP_RECORD_LOG_KEY_SIZE], to[TP_RECORD_LOG_KEY_SIZE];
};

static void reply_with(struct tp_rpc *rpc, struct tp_rpc_call *call, const struct tp_buffer *answer,
                       struct tp_effects *out)
{
    const struct state *state = call->state;
    struct tp_buffer payload = tp_buffer_growing(UINT32_MAX);

    tp_any_write_object(&payload, 1);
    if (state->query.kind == TP_ATTRIBUTION_ACTIVITY) {
        tp_write_bytes(&payload, TP_SLICE("activity"));
        if (answer == NULL)
            tp_any_write_array(&payload, 0);
        else
            tp_write_raw(&payload, tp_buffer_slice(answer));
    } else {
        tp_write_bytes(&payload, TP_SLICE("contentMap"));
        if (answer == NULL)
            tp_write_u8(&payload, TP_ANY_NULL);
        else
            tp_any_write_bytes(&payload, tp_buffer_slice(answer));
    }
    tp_rpc_reply(rpc, call, &payload, out);
}

static void answered(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    if (call->status == TP_DENIED) /* the only thing of the request that is left to check */
        tp_rpc_fail(rpc, call, 400, "Invalid request: knownIds are no content ids", out);
    else if (call->status != TP_OK)
        tp_rpc_fail(rpc, call, 500, "What is kept of the attribution is damaged", out);
    else
        reply_with(rpc, call, call->work.is_empty ? NULL : &call->work.v1, out);
}

static void rows_read(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct state *state = call->state;
    size_t count = 1;

    if (tp_rpc_broken(rpc, call, out))
        return;
    /* What is kept comes first, or nothing in its place. */
    state->inputs = tp_rpc_take(rpc, call, (call->row_count + 1) * sizeof *state->inputs);
    for (size_t i = 0; i < call->row_count; i++) {
        if (call->rows[i].table == TP_TABLE_ATTRIBUTION)
            state->inputs[0] = call->rows[i].value;
        else
            state->inputs[count++] = call->rows[i].value;
    }
    call->work.inputs = state->inputs;
    call->work.input_count = count;
    call->work.attribution = &state->query;
    tp_rpc_work(rpc, call, TP_WORK_ATTRIBUTE, answered, out);
}

static void ask(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct state *state = call->state;
    const uint64_t number = tp_session_facts(rpc->session).number;

    if (number == 0) {
        reply_with(rpc, call, NULL, out);
        return;
    }
    tp_record_number_key(number, state->number);
    tp_record_log_key(number, 0, state->from);
    tp_record_log_key(number, UINT64_MAX, state->to);
    call->op.ranges[0] = (struct tp_store_range){
        .table = TP_TABLE_ATTRIBUTION, .from = tp_slice_of(state->number, sizeof state->number)};
    call->op.ranges[1] =
        (struct tp_store_range){.table = TP_TABLE_LOG,
                                .from = tp_slice_of(state->from, sizeof state->from),
                                .to = tp_slice_of(state->to, sizeof state->to)};
    call->op.range_count = 2;
    tp_rpc_read(rpc, call, rows_read, out);
}

static struct state *begin(struct tp_rpc *rpc, struct tp_rpc_call *call)
{
    call->state = tp_rpc_take(rpc, call, sizeof(struct state));
    return call->state;
}

static void read_filter(struct tp_rpc_args *args, struct tp_attribution_query *query)
{
    struct tp_rpc_args attributes;

    if (tp_rpc_has(args, "userId"))
        query->user = tp_rpc_text(args, "userId", USER_SIZE_MAX);
    query->has_from = tp_rpc_has(args, "from");
    if (query->has_from)
        query->from_ms = tp_rpc_number(args, "from");
    query->has_to = tp_rpc_has(args, "to");
    if (query->has_to)
        query->to_ms = tp_rpc_number(args, "to");
    if (tp_rpc_has(args, "attributes")) {
        tp_rpc_object(args, "attributes", &attributes);
        query->attributes = tp_rpc_value(args, "attributes");
    }
}

void tp_rpc_attribution_activity(struct tp_rpc *rpc, struct tp_rpc_call *call,
                                 struct tp_effects *out)
{
    struct state *state = begin(rpc, call);
    struct tp_rpc_args args;

    state->query.kind = TP_ATTRIBUTION_ACTIVITY;
    tp_rpc_args_read(&args, call->request.rpc.payload);
    read_filter(&args, &state->query);
    if (!tp_rpc_refused(rpc, call, &args, out))
        ask(rpc, call, out);
}

void tp_rpc_attribution_get(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct state *state = begin(rpc, call);
    struct tp_rpc_args args, filter;

    state->query.kind = TP_ATTRIBUTION_GET;
    tp_rpc_args_read(&args, call->request.rpc.payload);
    if (tp_rpc_has(&args, "filter")) {
        tp_rpc_object(&args, "filter", &filter);
        read_filter(&filter, &state->query);
        tp_rpc_args_join(&args, &filter);
    }
    if (!tp_rpc_refused(rpc, call, &args, out))
        ask(rpc, call, out);
}

void tp_rpc_attribution_get_incremental(struct tp_rpc *rpc, struct tp_rpc_call *call,
                                        struct tp_effects *out)
{
    struct state *state = begin(rpc, call);
    struct tp_rpc_args args;

    state->query.kind = TP_ATTRIBUTION_INCREMENTAL;
    tp_rpc_args_read(&args, call->request.rpc.payload);
    state->query.known_ids = tp_rpc_bytes(&args, "knownIds", UINT32_MAX);
    if (!tp_rpc_refused(rpc, call, &args, out))
        ask(rpc, call, out);
}
