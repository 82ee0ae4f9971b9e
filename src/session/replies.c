/* Short answers: acks and NACKs, and refusals. */
#include "internal.h"

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
