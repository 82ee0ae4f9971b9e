/* Attribution told at once, where the operator wants it: who else has the document open hears of
 * each update who made it (spec 03 section 5.5). It costs a message more per update and reader; the
 * same can be asked for at any time (rpc/attribution.c). */
#include "crdt/content_map.h"
#include "internal.h"
#include "wire/any.h"
#include "wire/teleportal.h"

static bool encode(const struct tp_session *session, const struct deed *deed,
                   struct tp_buffer *payload)
{
    struct tp_content_map *map = tp_content_map_create();
    struct tp_buffer ids = tp_buffer_growing(UINT32_MAX), bytes = tp_buffer_growing(UINT32_MAX);
    enum tp_status status = tp_update_content_ids(deed->update, deed->encoding, &ids);

    if (status == TP_OK)
        status = tp_content_map_add_ids(map, tp_buffer_slice(&ids), deed->peer->user_id,
                                        session->wall_ms);
    if (status == TP_OK) {
        tp_content_map_encode(map, &bytes);
        tp_any_write_object(payload, 1);
        tp_write_bytes(payload, TP_SLICE("contentMap"));
        tp_any_write_bytes(payload, tp_buffer_slice(&bytes));
    }
    tp_buffer_finish(&ids);
    tp_buffer_finish(&bytes);
    tp_content_map_destroy(map);
    return status == TP_OK;
}

/* The client takes it by its method; the request id, which no request has, is the update's. */
void tp_attribution_push(struct tp_session *session, const struct deed *deed,
                         struct tp_effects *out)
{
    const bool is_known = deed->peer != NULL && deed->peer->user_id.size > 0 &&
                          deed->message.kind == TP_MESSAGE_UPDATE;
    struct tp_buffer payload = tp_buffer_growing(UINT32_MAX);
    char id[TP_TELEPORTAL_ID_SIZE];

    if (!session->env->limits->attribution_push || !is_known ||
        deed->update.size > INLINE_SIZE_MAX || !encode(session, deed, &payload)) {
        tp_buffer_finish(&payload);
        return;
    }
    tp_teleportal_id_format(deed->message.id, id);
    tp_buffer_append(&payload, id, sizeof id);
    struct said *said = tp_session_say(session, TP_MESSAGE_RPC);
    said->hold = tp_frame_create(session->env->pool, tp_buffer_slice(&payload));
    const struct tp_slice kept = tp_frame_message(said->hold);
    said->message.rpc = (struct tp_message_rpc){
        .method = TP_SLICE("attributionPush"),
        .type = 2,
        .request_id = tp_slice_of(kept.data + kept.size - sizeof id, sizeof id),
        .payload = tp_slice_of(kept.data, kept.size - sizeof id)};
    tp_session_broadcast(out, deed->peer, TP_AUDIENCE_TELEPORTAL, said);
    tp_buffer_finish(&payload);
}
