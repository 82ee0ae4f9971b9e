/* Milestones that are made by themselves: after so many updates, after so long, or when clients
 * leave (spec 02 section 13). All triggers share their counters: whichever comes first starts them
 * all anew. Looked at when something was written, and when somebody leaves: a document at rest gets
 * none. */
#include "crdt/sidecars.h"
#include "rpc/milestones.h"

bool tp_rpc_is_automatic(const struct tp_rpc_env *env)
{
    const struct tp_milestone_rules *rules = &env->milestones;

    return rules->update_count > 0 || rules->interval_ms > 0 ||
           rules->event != TP_MILESTONE_ON_NOTHING;
}

bool tp_rpc_is_due(const struct tp_rpc *rpc, bool somebody_left)
{
    return tp_rpc_is_automatic(rpc->env) &&
           (somebody_left ||
            tp_session_facts(rpc->session).write_count != rpc->automatic.seen_count);
}

static void rest(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    rpc->automatic.is_under_way = false;
    tp_rpc_milestone_free(rpc, call, out);
}

/* ---- the triggers -------------------------------------------------------------------------------
 */

static void begin(struct tp_rpc *rpc)
{
    struct tp_rpc_automatic *automatic = &rpc->automatic;

    automatic->update_count = 0;
    automatic->last_ms = rpc->wall_ms;
    automatic->is_wanted = true;
}

static void look_at_writes(struct tp_rpc *rpc, const struct tp_session_facts *facts)
{
    const struct tp_milestone_rules *rules = &rpc->env->milestones;
    struct tp_rpc_automatic *automatic = &rpc->automatic;

    if (facts->write_count == automatic->seen_count)
        return;
    if (automatic->last_ms == 0)
        automatic->last_ms = rpc->wall_ms;
    automatic->update_count += facts->write_count - automatic->seen_count;
    automatic->seen_count = facts->write_count;
    if ((rules->update_count > 0 && automatic->update_count >= rules->update_count) ||
        (rules->interval_ms > 0 && rpc->wall_ms - automatic->last_ms >= rules->interval_ms))
        begin(rpc);
}

void tp_rpc_automatic_look(struct tp_rpc *rpc, bool somebody_left)
{
    const struct tp_milestone_rules *rules = &rpc->env->milestones;
    struct tp_rpc_automatic *automatic = &rpc->automatic;
    const struct tp_session_facts facts = tp_session_facts(rpc->session);

    if (!tp_rpc_is_automatic(rpc->env))
        return;
    look_at_writes(rpc, &facts);
    if (somebody_left && automatic->update_count > 0 &&
        (rules->event == TP_MILESTONE_ON_LEAVE ||
         (rules->event == TP_MILESTONE_ON_EMPTY && tp_session_peer_count(rpc->session) == 0)))
        begin(rpc);
    if (automatic->is_wanted && !automatic->is_under_way) {
        automatic->is_wanted = false;
        automatic->is_under_way = true;
        tp_rpc_start_own(rpc, &tp_rpc_automatic_method, rest);
    }
}

/* ---- making one ---------------------------------------------------------------------------------
 */

/* A bare update for plain documents: what the reference keeps there, a container, its own client
 * cannot read (spec 02 section 13). */
static void encoded(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_milestone_state *state = call->state;
    struct tp_work_op *work = &call->work;

    if (tp_rpc_broken(rpc, call, out))
        return;
    if (work->encrypted) {
        struct tp_buffer sidecars = tp_buffer_growing(UINT32_MAX / 2);
        struct tp_message_update update = {.v2 = tp_buffer_slice(&work->v2)};
        update.sidecar_count =
            tp_sidecars_select(tp_buffer_slice(&state->content.sidecars),
                               (const struct tp_update_range *)work->ranges.data,
                               work->ranges.size / sizeof(struct tp_update_range), &sidecars);
        update.sidecars = tp_buffer_slice(&sidecars);
        state->made = tp_buffer_growing(UINT32_MAX);
        tp_container_encode(&update, &state->made);
        tp_buffer_finish(&sidecars);
    } else {
        state->made = work->v2;
        work->v2 = (struct tp_buffer){0};
    }
    tp_session_content_drop(&state->content);
    state->snapshot = tp_buffer_slice(&state->made);
    tp_rpc_milestone_keep(rpc, call, out);
}

static void gather(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_milestone_state *state = call->state;

    if (!tp_rpc_content(rpc, call, gather, &state->content, out))
        return;
    call->work.inputs = &state->content.v1;
    call->work.input_count = 1;
    call->work.want_v2 = true;
    call->work.encrypted = tp_session_facts(rpc->session).mode == TP_MODE_ENCRYPTED;
    tp_rpc_work(rpc, call, TP_WORK_DIFF, encoded, out);
}

static void make(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_milestone_state *state = tp_rpc_milestone_begin(rpc, call);

    state->is_automatic = true;
    call->finish = rest;
    gather(rpc, call, out);
}

const struct tp_rpc_method tp_rpc_automatic_method = {
    .name = "automatic milestone", .turn = TP_RPC_TURN_MILESTONES, .handle = make};
