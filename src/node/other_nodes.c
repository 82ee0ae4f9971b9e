/* Between the sessions of a core and its bridge: topics, envelopes, and the claim to a node id.
 *
 *     document/ROOM/NAME               envelope: source, a Teleportal frame     (spec 01 section 8)
 *     teleportald/document/ROOM/NAME   envelope: node, the document's name, a note (session/bus.c)
 *     teleportald/node/ID              envelope: node, a claim: 01 | claim or held | settled | boot
 *
 * Topics join room and name with a slash, as the reference does; since the name stands in what is
 * said, there is no doubt about which is meant. */
#include "node/server.h"
#include "node/shard.h"
#include "wire/reader.h"
#include "wire/teleportal.h"
#include "wire/writer.h"

#define DOCUMENT "document/"
#define OURS "teleportald/"
#define NODE OURS "node/"
#define LINK_COUNT_MAX 32u /* documents told in one turn that they are linked */
#define SETTLED_NS UINT64_C(2000000000)
#define SOURCE_SIZE_MAX (TP_NODE_ID_SIZE_MAX + 1 + 16 + 1 + 20)

enum claim_kind { CLAIM = 1, HELD };

struct topic {
    uint8_t bytes[TP_BRIDGE_TOPIC_SIZE_MAX];
    size_t size;
};

static void add(struct topic *topic, const void *bytes, size_t size)
{
    TP_ASSERT(size <= sizeof topic->bytes - topic->size);
    if (size > 0)
        memcpy(topic->bytes + topic->size, bytes, size);
    topic->size += size;
}

static struct tp_slice topic_of(const struct tp_document *document, bool ours, struct topic *topic)
{
    topic->size = 0;
    if (ours)
        add(topic, OURS, strlen(OURS));
    add(topic, DOCUMENT, strlen(DOCUMENT));
    add(topic, document->key, document->room_size);
    if (document->room_size > 0)
        add(topic, "/", 1);
    add(topic, document->key + document->room_size + 1, document->name_size);
    return tp_slice_of(topic->bytes, topic->size);
}

static struct tp_slice claim_topic(const struct tp_shard *shard, struct topic *topic)
{
    topic->size = 0;
    add(topic, NODE, strlen(NODE));
    add(topic, shard->env.node_id.data, shard->env.node_id.size);
    return tp_slice_of(topic->bytes, topic->size);
}

static bool begins(struct tp_slice *text, const char *with)
{
    const size_t size = strlen(with);

    if (text->size < size || memcmp(text->data, with, size) != 0)
        return false;
    *text = tp_slice_of(text->data + size, text->size - size);
    return true;
}

static bool same(struct tp_slice a, struct tp_slice b)
{
    return a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
}

/* The document of this topic (without its prefix) that has this name; NULL: none of ours. */
static struct tp_document *find(struct tp_shard *shard, struct tp_slice rest, struct tp_slice name)
{
    struct tp_slice room = {0};

    if (name.size == 0 || name.size > rest.size || name.size > TP_CLIENT_NAME_SIZE_MAX ||
        memcmp(rest.data + rest.size - name.size, name.data, name.size) != 0)
        return NULL;
    if (rest.size > name.size) {
        room = tp_slice_of(rest.data, rest.size - name.size - 1);
        if (rest.data[room.size] != '/' || room.size == 0 || room.size > TP_CLIENT_NAME_SIZE_MAX)
            return NULL;
    }
    struct tp_document *document = tp_document_find(shard, room, name);
    return document != NULL && document->session != NULL ? document : NULL;
}

/* ---- out ----------------------------------------------------------------------------------------
 */

static void put_hex(uint8_t *at, uint64_t value)
{
    for (unsigned i = 0; i < 16; i++)
        at[i] = (uint8_t) "0123456789abcdef"[value >> (60 - 4 * i) & 15];
}

/* A source id with its length before it: `node`, or `node/boot/sequence`. */
static struct tp_slice write_source(const struct tp_shard *shard, const struct tp_effect *effect,
                                    uint8_t out[SOURCE_SIZE_MAX + 1])
{
    const struct tp_slice node = shard->env.node_id;
    uint8_t *at = out + 1;

    memcpy(at, node.data, node.size);
    at += node.size;
    if (effect != NULL && effect->sequence != 0) {
        uint8_t digits[20];
        size_t first = sizeof digits;
        *at++ = '/';
        put_hex(at, effect->boot);
        at += 16;
        *at++ = '/';
        for (uint64_t left = effect->sequence; left > 0; left /= 10)
            digits[--first] = (uint8_t)('0' + left % 10);
        memcpy(at, digits + first, sizeof digits - first);
        at += sizeof digits - first;
    }
    const size_t size = (size_t)(at - out - 1);
    static_assert(SOURCE_SIZE_MAX < 128, "the length is one byte");
    out[0] = (uint8_t)size;
    return tp_slice_of(out, 1 + size);
}

void tp_node_publish(struct tp_document *document, const struct tp_effect *effect)
{
    struct tp_shard *shard = document->shard;
    const struct tp_message *message = effect->message;
    const struct tp_dialect *dialect = tp_dialect_get(TP_DIALECT_TELEPORTAL);
    struct topic topic;
    uint8_t source[SOURCE_SIZE_MAX + 1];
    struct tp_frame *frame = NULL;
    struct tp_slice parts[2] = {write_source(shard, effect, source), message->raw};

    if (message->frame == NULL || !dialect->relays_raw(message)) {
        const struct tp_slice name = tp_session_document(document->session);
        const size_t size_max = tp_deliver_size_max(message, name);
        frame = tp_frame_alloc(&shard->pool, size_max);
        struct tp_buffer out = tp_buffer_fixed(frame->data, size_max);
        const enum tp_status status = message->kind == TP_MESSAGE_PRESENCE_HEARTBEAT
                                          ? tp_teleportal_encode(message, name, &out)
                                          : dialect->encode(message, name, 0, &out);
        TP_ASSERT(status == TP_OK && !out.full);
        parts[1] = tp_buffer_slice(&out);
    }
    (void)shard->bridge_kind->publish(shard->bridge, topic_of(document, false, &topic), parts, 2);
    tp_frame_unref(frame);
}

void tp_node_note(struct tp_document *document, struct tp_slice note)
{
    struct tp_shard *shard = document->shard;
    const struct tp_slice name = tp_session_document(document->session);
    struct topic topic;
    uint8_t source[SOURCE_SIZE_MAX + 1], size[TP_VARUINT_SIZE_MAX];
    struct tp_buffer size_out = tp_buffer_fixed(size, sizeof size);

    tp_write_varuint(&size_out, name.size);
    const struct tp_slice parts[] = {write_source(shard, NULL, source), tp_buffer_slice(&size_out),
                                     name, note};
    (void)shard->bridge_kind->publish(shard->bridge, topic_of(document, true, &topic), parts, 4);
}

/* ---- the claim ----------------------------------------------------------------------------------
 */

static bool is_settled(const struct tp_shard *shard)
{
    return shard->claim.linked_ns != 0 &&
           tp_reactor_now_ns(shard->reactor) - shard->claim.linked_ns >= SETTLED_NS;
}

static void claim(struct tp_shard *shard, enum claim_kind kind)
{
    struct topic topic;
    uint8_t source[SOURCE_SIZE_MAX + 1], bytes[16];
    struct tp_buffer out = tp_buffer_fixed(bytes, sizeof bytes);

    tp_write_u8(&out, 1);
    tp_write_u8(&out, (uint8_t)kind);
    tp_write_u8(&out, is_settled(shard));
    tp_write_big_endian(&out, shard->claim.boot, 8);
    const struct tp_slice parts[] = {write_source(shard, NULL, source), tp_buffer_slice(&out)};
    (void)shard->bridge_kind->publish(shard->bridge, claim_topic(shard, &topic), parts, 2);
}

/* Two nodes with one id would not hear each other. Who has had it keeps it; the other ends. */
static void claimed(struct tp_shard *shard, struct tp_slice words)
{
    struct tp_reader in = tp_reader_of(words);
    const uint8_t version = tp_read_u8(&in), kind = tp_read_u8(&in);
    const bool settled = tp_read_u8(&in) != 0;
    const uint64_t boot = tp_read_big_endian(&in, 8);

    if (in.bad || version != 1 || boot == shard->claim.boot)
        return;
    const bool lose = settled != is_settled(shard) ? settled : boot < shard->claim.boot;
    if (!lose && kind == CLAIM) {
        claim(shard, HELD);
    } else if (lose && !shard->claim.refused) {
        shard->claim.refused = true;
        tp_server_refuse_id(shard);
    }
}

/* ---- in -----------------------------------------------------------------------------------------
 */

static int hex_value(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Takes `/boot/sequence` off the end of what has it. */
static void read_source(struct tp_heard *heard)
{
    const struct tp_slice all = heard->source;
    const uint8_t *slash = all.size == 0 ? NULL : memrchr(all.data, '/', all.size);
    uint64_t boot = 0, sequence = 0;

    heard->node = all;
    if (slash == NULL || slash - all.data < 18 || slash[-17] != '/')
        return;
    for (const uint8_t *at = slash - 16; at < slash; at++) {
        const int digit = hex_value(*at);
        if (digit < 0)
            return;
        boot = boot << 4 | (uint64_t)digit;
    }
    const uint8_t *end = all.data + all.size;
    if (slash + 1 == end || end - slash > 19 || slash[1] == '0')
        return;
    for (const uint8_t *at = slash + 1; at < end; at++) {
        if (*at < '0' || *at > '9')
            return;
        sequence = sequence * 10 + (uint64_t)(*at - '0');
    }
    heard->node.size = (size_t)(slash - 17 - all.data);
    heard->boot = boot;
    heard->sequence = sequence;
}

static void heard_message(struct tp_shard *shard, struct tp_slice topic, struct tp_heard *heard,
                          struct tp_slice frame)
{
    struct tp_message message;
    enum tp_close_reason reason;

    if (tp_teleportal_decode(frame, &message, &reason) != TP_OK) {
        shard->counters.bridge_refused++;
        return;
    }
    struct tp_document *document = find(shard, topic, message.document);
    if (document == NULL)
        return; /* another of this topic, or on its way out */
    heard->message = &message;
    tp_document_event(document, &(struct tp_event){.kind = TP_EVENT_HEARD, .heard = heard});
    heard->message = NULL;
}

static void heard_note(struct tp_shard *shard, struct tp_slice topic, struct tp_heard *heard,
                       struct tp_slice words)
{
    struct tp_reader in = tp_reader_of(words);
    const struct tp_slice name = tp_read_bytes(&in);
    struct tp_document *document = in.bad ? NULL : find(shard, topic, name);

    shard->counters.bridge_refused += in.bad;
    if (document == NULL)
        return;
    heard->note = tp_read_raw(&in, tp_reader_left(&in));
    tp_document_event(document, &(struct tp_event){.kind = TP_EVENT_HEARD, .heard = heard});
}

static void heard(void *context, struct tp_slice topic, struct tp_slice payload)
{
    struct tp_shard *shard = context;
    struct tp_heard heard = {0};
    struct tp_slice words;

    if (tp_teleportal_envelope_decode(payload, &heard.source, &words) != TP_OK ||
        heard.source.size == 0) {
        shard->counters.bridge_refused++;
        return;
    }
    read_source(&heard);
    const bool is_own = same(heard.node, shard->env.node_id);
    if (begins(&topic, NODE)) {
        if (is_own)
            claimed(shard, words);
    } else if (is_own) {
        return; /* an echo */
    } else if (begins(&topic, OURS DOCUMENT)) {
        heard_note(shard, topic, &heard, words);
    } else if (begins(&topic, DOCUMENT)) {
        heard_message(shard, topic, &heard, words);
    }
}

/* Told a few at a time: after an outage all are linked at once, and each has something to do. */
static void linked(void *context, struct tp_slice topic)
{
    struct tp_shard *shard = context;
    struct topic own;

    if (same(topic, claim_topic(shard, &own))) {
        if (shard->claim.linked_ns == 0)
            shard->claim.linked_ns = tp_reactor_now_ns(shard->reactor);
        claim(shard, CLAIM);
        return;
    }
    /* The notes' topic is subscribed to last, so that both are there. */
    if (!begins(&topic, OURS DOCUMENT))
        return;
    /* Every document that the topic may stand for: room and name may be parted at any slash. */
    for (size_t at = 0; at < topic.size; at++) {
        if (at > 0 && topic.data[at - 1] != '/')
            continue;
        struct tp_document *document =
            find(shard, topic, tp_slice_of(topic.data + at, topic.size - at));
        if (document != NULL && tp_link_alone(&document->in_to_link))
            tp_link_insert(&shard->to_link, &document->in_to_link);
    }
}

static void contact(void *context, const char *why)
{
    tp_server_bridge_contact(context, why);
}

/* ---- the bridge's life --------------------------------------------------------------------------
 */

void tp_node_subscribe(struct tp_document *document)
{
    struct tp_shard *shard = document->shard;
    struct topic topic;

    if (shard->bridge == NULL)
        return;
    shard->bridge_kind->subscribe(shard->bridge, topic_of(document, false, &topic));
    shard->bridge_kind->subscribe(shard->bridge, topic_of(document, true, &topic));
}

void tp_node_unsubscribe(struct tp_document *document)
{
    struct tp_shard *shard = document->shard;
    struct topic topic;

    if (shard->bridge == NULL)
        return;
    shard->bridge_kind->unsubscribe(shard->bridge, topic_of(document, false, &topic));
    shard->bridge_kind->unsubscribe(shard->bridge, topic_of(document, true, &topic));
}

void tp_node_tick(struct tp_shard *shard)
{
    if (shard->bridge == NULL)
        return;
    for (uint32_t i = 0; i < LINK_COUNT_MAX; i++) {
        struct tp_link *link = tp_list_pop(&shard->to_link);
        if (link == NULL)
            break;
        tp_document_event(TP_CONTAINER(link, struct tp_document, in_to_link),
                          &(struct tp_event){.kind = TP_EVENT_LINKED});
    }
    if (!tp_link_alone(&shard->to_link))
        tp_reactor_stay_awake(shard->reactor);
    shard->bridge_kind->flush(shard->bridge);
}

bool tp_node_quiet(const struct tp_shard *shard)
{
    return shard->bridge == NULL || shard->bridge_kind->quiet(shard->bridge);
}

void tp_node_attach(struct tp_shard *shard, const struct tp_bridge_kind *kind,
                    struct tp_bridge *bridge)
{
    static const struct tp_bridge_handler handler = {heard, linked, contact};
    struct topic topic;

    shard->bridge_kind = kind;
    shard->bridge = kind->attach(bridge, shard->reactor, &handler, shard);
    if (shard->index != 0)
        return;
    tp_random_secret(&shard->claim.boot, sizeof shard->claim.boot);
    kind->subscribe(shard->bridge, claim_topic(shard, &topic));
}

void tp_node_detach(struct tp_shard *shard)
{
    if (shard->bridge == NULL)
        return;
    shard->bridge_kind->detach(shard->bridge);
    shard->bridge = NULL;
}
