/* Faults planted on purpose, in the test's binary alone (--wrap): what the simulator must find. The
 * fifth, an ack before the sync, is in store.c. */
#include "node/shard.h"
#include "sim/sim.h"

void __real_tp_deliver_broadcast(struct tp_document *document, struct tp_message *message,
                                 uint32_t audience, const struct tp_member *except);
void __wrap_tp_deliver_broadcast(struct tp_document *document, struct tp_message *message,
                                 uint32_t audience, const struct tp_member *except);
void __wrap_tp_deliver_broadcast(struct tp_document *document, struct tp_message *message,
                                 uint32_t audience, const struct tp_member *except)
{
    if (sim.bug == BUG_LOST_NEWS && sim_chance(20))
        return;
    __real_tp_deliver_broadcast(document, message, audience, except);
}

void __real_tp_deliver_send(struct tp_member *member, struct tp_message *message);
void __wrap_tp_deliver_send(struct tp_member *member, struct tp_message *message);
void __wrap_tp_deliver_send(struct tp_member *member, struct tp_message *message)
{
    if (sim.bug == BUG_SILENCE && message->kind == TP_MESSAGE_ACK && sim_chance(20))
        return;
    __real_tp_deliver_send(member, message);
}

uint8_t __real_tp_grant_rights(const struct tp_grant *grant, struct tp_slice document);
uint8_t __wrap_tp_grant_rights(const struct tp_grant *grant, struct tp_slice document);
uint8_t __wrap_tp_grant_rights(const struct tp_grant *grant, struct tp_slice document)
{
    const uint8_t rights = __real_tp_grant_rights(grant, document);

    return sim.bug == BUG_OPEN_DOOR ? rights | TP_MAY_READ : rights;
}

void __real_tp_frame_release(struct tp_frame *frame);
void __wrap_tp_frame_release(struct tp_frame *frame);
void __wrap_tp_frame_release(struct tp_frame *frame)
{
    if (sim.bug == BUG_LEAK && sim_chance(5))
        return;
    __real_tp_frame_release(frame);
}
