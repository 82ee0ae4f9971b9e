/* Short answers: acks and NACKs, refusals, and what an rpc that nobody knows gets. */
#include "internal.h"
#include "wire/any.h"
#include "wire/teleportal.h"

/* Spec 01 section 4.6: a client answers an error NACK by a new sync at once. So the ones that
 * follow within a minute come later and later. */
#define GUARD_NS (60 * SECOND_NS)
#define DELAY_NS_MAX (30 * SECOND_NS)

void tp_replies_ack(struct tp_session *session, struct tp_peer *peer, uint64_t id,
                    struct tp_effects *out)
{
    if (peer->dialect != TP_DIALECT_TELEPORTAL)
        return;
    struct said *said = tp_session_say(session, TP_MESSAGE_ACK);
    said->message.ack.id = id;
    tp_session_send(out, peer, said);
}

static void send_nack(struct tp_session *session, struct tp_peer *peer, uint64_t id,
                      const char *error, struct tp_effects *out)
{
    struct said *said = tp_session_say(session, TP_MESSAGE_ACK);

    said->message.ack.id = id;
    said->message.ack.error = tp_slice_of(error, strlen(error));
    tp_session_send(out, peer, said);
    session->env->counters->nacks_sent++;
}

void tp_replies_nack(struct tp_session *session, struct tp_peer *peer, uint64_t id,
                     const char *error, struct tp_effects *out)
{
    TP_ASSERT(peer->dialect == TP_DIALECT_TELEPORTAL);
    if (session->now_ns >= peer->nack_until_ns) {
        peer->nack_streak = 1;
        peer->nack_until_ns = session->now_ns + GUARD_NS;
        send_nack(session, peer, id, error, out);
        return;
    }

    if (session->delayed_count >= session->env->limits->delayed_count_max) {
        tp_session_close(out, peer, TP_CLOSE_POLICY);
        return;
    }
    uint64_t delay_ns = SECOND_NS << (peer->nack_streak - 1);
    if (delay_ns > DELAY_NS_MAX)
        delay_ns = DELAY_NS_MAX;
    else
        peer->nack_streak++;
    struct delayed *delayed = tp_session_take(session, sizeof *delayed);
    *delayed = (struct delayed){
        .peer = peer, .at_ns = session->now_ns + delay_ns, .id = id, .error = error};
    peer->nack_until_ns = delayed->at_ns + GUARD_NS;
    tp_link_init(&delayed->link);
    tp_link_insert(&session->delayed, &delayed->link);
    session->delayed_count++;
}

static void drop(struct tp_session *session, struct delayed *delayed)
{
    tp_link_remove(&delayed->link);
    session->delayed_count--;
    tp_session_give(session, delayed, sizeof *delayed);
}

bool tp_replies_pump(struct tp_session *session, struct tp_effects *out)
{
    TP_LIST_EACH_SAFE(link, &session->delayed)
    {
        struct delayed *delayed = TP_CONTAINER(link, struct delayed, link);
        if (delayed->at_ns > session->now_ns)
            continue;
        if (!tp_session_has_room(out, 1))
            return false;
        send_nack(session, delayed->peer, delayed->id, delayed->error, out);
        drop(session, delayed);
    }
    return true;
}

uint64_t tp_replies_due_ns(const struct tp_session *session)
{
    uint64_t due_ns = 0;

    TP_LIST_EACH(link, &session->delayed)
    {
        const struct delayed *delayed = TP_CONTAINER(link, struct delayed, link);
        if (due_ns == 0 || delayed->at_ns < due_ns)
            due_ns = delayed->at_ns;
    }
    return due_ns;
}

void tp_replies_forget(struct tp_session *session, struct tp_peer *peer)
{
    TP_LIST_EACH_SAFE(link, &session->delayed)
    {
        struct delayed *delayed = TP_CONTAINER(link, struct delayed, link);
        if (delayed->peer == peer)
            drop(session, delayed);
    }
}

void tp_replies_deny(struct tp_session *session, struct tp_peer *peer, bool encrypted,
                     struct tp_slice reason, struct tp_effects *out)
{
    struct said *said = tp_session_say(session, TP_MESSAGE_AUTH);

    peer->told_denied = true;
    said->message.encrypted = encrypted;
    said->message.auth = (struct tp_message_auth){.allowed = false, .reason = reason};
    tp_session_send(out, peer, said);
}

void tp_replies_mismatch(struct tp_session *session, struct tp_peer *peer, bool encrypted,
                         uint64_t id, struct tp_effects *out)
{
    tp_replies_deny(session, peer, encrypted,
                    encrypted
                        ? TP_SLICE("Encryption state mismatch: this document is not encrypted")
                        : TP_SLICE("Encryption state mismatch: this document is encrypted"),
                    out);
    tp_replies_ack(session, peer, id, out);
}

/* No method is known here: 501 for a request (spec 01 section 2.7), an ack for everything. */
void tp_replies_rpc(struct tp_session *session, struct tp_peer *peer,
                    const struct tp_message *message, struct tp_effects *out)
{
    const struct tp_slice words = TP_SLICE("Unknown RPC method: ");
    const struct tp_slice method = message->rpc.method;

    if (message->rpc.type == 0) {
        struct said *said = tp_session_say(session, TP_MESSAGE_RPC);
        struct tp_message_rpc *rpc = &said->message.rpc;
        const size_t size_max = TP_TELEPORTAL_ID_SIZE + words.size + 2 * method.size + 32;
        said->hold = tp_frame_alloc(session->env->pool, size_max);
        struct tp_buffer text = tp_buffer_fixed(said->hold->data + TP_FRAME_HEAD_SIZE, size_max);

        *rpc = (struct tp_message_rpc){.type = 2, .failed = true, .status = 501};
        char id[TP_TELEPORTAL_ID_SIZE];
        tp_teleportal_id_format(message->id, id);
        tp_buffer_append(&text, id, sizeof id);
        rpc->request_id = tp_slice_of(text.data, text.size);
        tp_write_raw(&text, words);
        tp_write_raw(&text, method);
        rpc->details = tp_slice_of(text.data + sizeof id, words.size + method.size);
        rpc->method = tp_slice_of(rpc->details.data + words.size, method.size);
        const size_t from = text.size;
        tp_any_write_object(&text, 1);
        tp_write_bytes(&text, TP_SLICE("method"));
        tp_any_write_string(&text, method);
        TP_ASSERT(!text.full);
        rpc->payload = tp_slice_of(text.data + from, text.size - from);
        said->message.encrypted = message->encrypted;
        tp_session_send(out, peer, said);
    }
    tp_replies_ack(session, peer, message->id, out);
}
