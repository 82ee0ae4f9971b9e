/* UDP multicast: nodes of one network without a broker (bridge/datagram.h).
 *
 *     publish ──► ring of bodies ──► slots ──► group ──► senders' windows ──► heard
 *                     ▲ kept for a while                        │ missing
 *                     └──────────── WANT, to the sender alone ◄─┘
 *
 * A port has two sockets: one hears the group, one speaks, and hears what is meant for this port
 * alone. What is not kept any more, or does not come although it was asked for, is lost: then all
 * topics are linked anew, and the sessions make up for it. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/random.h"
#include "bridge/multicast.h"

#define MS UINT64_C(1000000)
#define BEAT_FIRST_NS (20 * MS) /* after what was said last; then twice as long, ... */
#define BEAT_LAST_NS (1000 * MS)
#define REPAIR_FIRST_NS (10 * MS) /* datagrams may overtake each other */
#define REPAIR_AGAIN_NS (40 * MS)
#define REPAIR_COUNT_MAX 25u     /* times without a step forward: a second */
#define LINK_PAUSE_NS (500 * MS) /* between two times that everything is linked anew */
#define SILENCE_NS (10000 * MS)  /* then a sender is gone */

/* ---- saying -------------------------------------------------------------------------------------
 */

static struct tp_sent *sent_of(struct tp_bridge_port *port, uint64_t sequence)
{
    return &port->sent[sequence % TP_SENT_COUNT];
}

static uint8_t *body_of(struct tp_bridge_port *port, uint64_t sequence)
{
    return port->bodies + sequence % TP_SENT_COUNT * port->body_size_max;
}

/* NULL: all are with the kernel. */
static struct tp_slot *free_slot(struct tp_bridge_port *port)
{
    for (uint32_t i = 0; i < TP_SLOT_COUNT; i++)
        if (port->slots[i].io.pending == 0)
            return &port->slots[i];
    return NULL;
}

static void send_slot(struct tp_bridge_port *port, struct tp_slot *slot,
                      struct tp_datagram *datagram, struct sockaddr_in to)
{
    memcpy(datagram->sender, port->self, sizeof port->self);
    datagram->stamp = ++port->stamp;
    datagram->answer_address = port->answer.sin_addr.s_addr;
    datagram->answer_port = port->answer.sin_port;
    tp_datagram_write(datagram, port->key, slot->bytes);
    slot->to = to;
    slot->vector =
        (struct iovec){slot->bytes, tp_datagram_size(datagram->body.size, port->key != NULL)};
    slot->message = (struct msghdr){.msg_name = &slot->to,
                                    .msg_namelen = sizeof slot->to,
                                    .msg_iov = &slot->vector,
                                    .msg_iovlen = 1};
    tp_reactor_send(port->reactor, &slot->io, port->speaker, &slot->message);
}

static void send_data(struct tp_bridge_port *port, struct tp_slot *slot, uint64_t sequence,
                      struct sockaddr_in to)
{
    const struct tp_sent *sent = sent_of(port, sequence);
    struct tp_datagram datagram = {
        .kind = TP_DATAGRAM_DATA,
        .fragment_size = (uint16_t)port->body_size_max,
        .sequence = sequence,
        .index = sent->index,
        .count = sent->count,
        .body = {body_of(port, sequence), sent->size},
    };
    send_slot(port, slot, &datagram, to);
}

static void beat_soon(struct tp_bridge_port *port)
{
    port->beat_ns = BEAT_FIRST_NS;
    tp_timer_set(port->reactor, &port->beat_timer,
                 tp_reactor_now_ns(port->reactor) + BEAT_FIRST_NS);
}

/* What is open becomes a datagram. */
static void seal_open(struct tp_bridge_port *port)
{
    if (port->open_size == 0)
        return;
    *sent_of(port, port->next) = (struct tp_sent){.size = (uint32_t)port->open_size, .count = 1};
    port->open_size = 0;
    port->next++;
}

static void pump(struct tp_bridge_port *port)
{
    struct tp_slot *slot;
    bool spoke = false;

    while ((port->again_head != port->again_end || port->to_send < port->next) &&
           (slot = free_slot(port)) != NULL) {
        if (port->again_head != port->again_end) {
            const struct tp_again again = port->again[port->again_head++ % TP_AGAIN_COUNT];
            if (again.sequence + TP_SENT_COUNT > port->next) {
                send_data(port, slot, again.sequence, again.to);
                port->counts_more.repeated++;
            }
            continue;
        }
        send_data(port, slot, port->to_send++, port->group);
        spoke = true;
    }
    if (spoke)
        beat_soon(port);
}

static void beat(struct tp_timer *timer)
{
    struct tp_bridge_port *port = TP_CONTAINER(timer, struct tp_bridge_port, beat_timer);
    struct tp_slot *slot = free_slot(port);

    if (slot != NULL) {
        struct tp_datagram datagram = {.kind = TP_DATAGRAM_BEAT, .sequence = port->to_send};
        send_slot(port, slot, &datagram, port->group);
    }
    port->beat_ns = tp_min(2 * port->beat_ns, BEAT_LAST_NS);
    tp_timer_set(port->reactor, timer, tp_reactor_now_ns(port->reactor) + port->beat_ns);
}

static void link_later(struct tp_bridge_port *port)
{
    const uint64_t now_ns = tp_reactor_now_ns(port->reactor);

    if (port->link_timer.at_ns == 0)
        tp_timer_set(port->reactor, &port->link_timer,
                     tp_max(now_ns, port->linked_ns + LINK_PAUSE_NS));
}

/* Nobody knows of which topic that was. */
static void lost(struct tp_bridge_port *port)
{
    struct tp_topic *topic, *next;

    HASH_ITER(hh, port->topics.all, topic, next)
    tp_topics_note_lost(&port->topics, tp_topic_text(topic));
    link_later(port);
}

static void link_fired(struct tp_timer *timer)
{
    struct tp_bridge_port *port = TP_CONTAINER(timer, struct tp_bridge_port, link_timer);
    struct tp_topic *topic, *next;

    if (!port->up)
        return; /* when the network is back */
    if (!port->told_up) {
        port->told_up = true;
        port->handler.contact(port->context, NULL);
    }
    port->linked_ns = tp_reactor_now_ns(port->reactor);
    HASH_ITER(hh, port->topics.all, topic, next)
    {
        if (!topic->lost)
            continue;
        topic->lost = false;
        port->topics.lost_count--;
        port->handler.linked(port->context, tp_topic_text(topic));
    }
}

static void sent(struct tp_io *io, int32_t result, uint32_t flags)
{
    struct tp_slot *slot = TP_CONTAINER(io, struct tp_slot, io);
    struct tp_bridge_port *port = slot->port;

    (void)flags;
    if (port->ending)
        return;
    if (result >= 0) {
        if (!port->up) {
            port->up = true;
            port->told_up = false;
            lost(port);
        }
    } else if (result != -ENOBUFS && result != -EAGAIN && result != -EINTR && result != -EMSGSIZE &&
               result != -ECANCELED && slot->to.sin_addr.s_addr == port->group.sin_addr.s_addr) {
        if (port->up) {
            port->counts.reconnects++;
            port->handler.contact(port->context, strerror(-result));
        }
        port->up = false; /* every beat tries again */
    }
    pump(port);
}

static enum tp_status refuse(struct tp_bridge_port *port, struct tp_slice topic,
                             enum tp_status status)
{
    port->counts.lost++;
    tp_topics_note_lost(&port->topics, topic);
    if (status == TP_FULL)
        link_later(port);
    return status;
}

/* Copies from the message's parts, from `skip` bytes on. */
static void copy_parts(const struct tp_slice *parts, uint32_t part_count, size_t skip, size_t size,
                       uint8_t *out)
{
    for (uint32_t i = 0; i < part_count && size > 0; i++) {
        if (skip >= parts[i].size) {
            skip -= parts[i].size;
            continue;
        }
        const size_t taken = tp_min(parts[i].size - skip, size);
        memcpy(out, parts[i].data + skip, taken);
        out += taken;
        size -= taken;
        skip = 0;
    }
}

enum tp_status tp_multicast_publish(struct tp_bridge_port *port, struct tp_slice topic,
                                    const struct tp_slice *parts, uint32_t part_count)
{
    struct tp_slice all[TP_BRIDGE_PART_COUNT_MAX + 2];
    uint8_t head[TP_DATAGRAM_MESSAGE_HEAD_SIZE];
    size_t payload_size = 0;

    TP_ASSERT(topic.size <= TP_BRIDGE_TOPIC_SIZE_MAX && part_count <= TP_BRIDGE_PART_COUNT_MAX);
    for (uint32_t i = 0; i < part_count; i++) {
        all[2 + i] = parts[i];
        payload_size += parts[i].size;
    }
    if (!port->up)
        return refuse(port, topic, TP_IO);
    tp_datagram_message_head(topic.size, payload_size, head);
    all[0] = tp_slice_of(head, sizeof head);
    all[1] = topic;
    const size_t size = sizeof head + topic.size + payload_size;
    const size_t count = (size + port->body_size_max - 1) / port->body_size_max;
    if (port->next - port->to_send + count + 1 > TP_SENT_COUNT / 2)
        return refuse(port, topic, TP_FULL);
    if (port->open_size + size > port->body_size_max)
        seal_open(port);
    if (count == 1) {
        copy_parts(all, part_count + 2, 0, size, body_of(port, port->next) + port->open_size);
        port->open_size += size;
    }
    for (size_t i = 0; count > 1 && i < count; i++) {
        const size_t at = i * port->body_size_max;
        const size_t here = tp_min(port->body_size_max, size - at);
        copy_parts(all, part_count + 2, at, here, body_of(port, port->next));
        *sent_of(port, port->next++) =
            (struct tp_sent){(uint32_t)here, (uint32_t)i, (uint32_t)count};
    }
    port->counts.published++;
    port->counts.published_size += payload_size;
    return TP_OK;
}

static void multicast_flush(struct tp_bridge_port *port)
{
    if (port->open_size == 0 && port->to_send == port->next)
        return;
    seal_open(port);
    pump(port);
}

static bool multicast_quiet(const struct tp_bridge_port *port)
{
    bool busy = port->open_size > 0 || port->to_send < port->next;

    for (uint32_t i = 0; i < TP_SLOT_COUNT; i++)
        busy |= port->slots[i].io.pending > 0;
    return !port->up || !busy;
}

/* ---- hearing ------------------------------------------------------------------------------------
 */

/* Out of its list already. */
static void drop_partial(struct tp_bridge_port *port, struct tp_partial *partial)
{
    port->partial_size -= partial->room;
    free(partial);
}

static void forget_sender(struct tp_bridge_port *port, struct tp_sender *sender)
{
    TP_LIST_EACH_SAFE(link, &sender->partials)
    drop_partial(port, TP_CONTAINER(link, struct tp_partial, link));
    HASH_DEL(port->senders, sender);
    free(sender);
}

static void repair_soon(struct tp_bridge_port *port)
{
    if (port->repair_timer.at_ns == 0)
        tp_timer_set(port->reactor, &port->repair_timer,
                     tp_reactor_now_ns(port->reactor) + REPAIR_FIRST_NS);
}

static void give_messages(struct tp_bridge_port *port, struct tp_slice body)
{
    struct tp_slice topic, payload;

    while (tp_datagram_message(&body, &topic, &payload)) {
        if (tp_topics_find(&port->topics, topic) == NULL)
            continue;
        port->counts.heard++;
        port->counts.heard_size += payload.size;
        port->handler.heard(port->context, topic, payload);
    }
}

static struct tp_partial *partial_of(struct tp_bridge_port *port, struct tp_sender *sender,
                                     const struct tp_datagram *datagram)
{
    const uint64_t first = datagram->sequence - datagram->index;
    const size_t room = (size_t)datagram->count * datagram->fragment_size;

    TP_LIST_EACH(link, &sender->partials)
    {
        struct tp_partial *partial = TP_CONTAINER(link, struct tp_partial, link);
        if (partial->first == first)
            return partial->count == datagram->count &&
                           partial->fragment_size == datagram->fragment_size
                       ? partial
                       : NULL;
    }
    if (port->partial_size + room > TP_PARTIAL_SIZE_MAX)
        return NULL;
    struct tp_partial *partial = malloc(sizeof *partial + room);
    TP_ASSERT(partial != NULL);
    *partial = (struct tp_partial){.first = first,
                                   .count = datagram->count,
                                   .fragment_size = datagram->fragment_size,
                                   .room = room};
    tp_link_init(&partial->link);
    tp_link_insert(&sender->partials, &partial->link);
    port->partial_size += room;
    return partial;
}

static void take_fragment(struct tp_bridge_port *port, struct tp_sender *sender,
                          const struct tp_datagram *datagram)
{
    const bool is_last = datagram->index == datagram->count - 1;
    struct tp_partial *partial = partial_of(port, sender, datagram);

    if (partial == NULL || datagram->body.size > partial->fragment_size ||
        (!is_last && datagram->body.size != partial->fragment_size)) {
        lost(port);
        return;
    }
    memcpy(partial->bytes + (size_t)datagram->index * partial->fragment_size, datagram->body.data,
           datagram->body.size);
    partial->heard_ns = tp_reactor_now_ns(port->reactor);
    if (is_last)
        partial->size = (size_t)datagram->index * partial->fragment_size + datagram->body.size;
    if (++partial->here_count < partial->count) /* the window lets none in twice */
        return;
    give_messages(port, tp_slice_of(partial->bytes, partial->size));
    tp_link_remove(&partial->link);
    drop_partial(port, partial);
}

/* Somebody wants to hear again what we said. */
static void repeat(struct tp_bridge_port *port, const struct tp_sender *sender,
                   struct tp_slice spans)
{
    uint8_t gone[TP_DATAGRAM_SPAN_COUNT_MAX * TP_DATAGRAM_SPAN_SIZE];
    size_t gone_size = 0;
    struct tp_slot *slot;
    struct tp_span span;
    const uint64_t kept = port->next >= TP_SENT_COUNT ? port->next - TP_SENT_COUNT + 1 : 0;

    if (spans.size < TP_DATAGRAM_SENDER_SIZE ||
        memcmp(spans.data, port->self, TP_DATAGRAM_SENDER_SIZE) != 0)
        return;
    spans = tp_slice_of(spans.data + TP_DATAGRAM_SENDER_SIZE, spans.size - TP_DATAGRAM_SENDER_SIZE);
    while (tp_datagram_span(&spans, &span)) {
        const uint64_t end = tp_min(span.first + span.count, port->to_send);
        if (span.first < kept && gone_size < sizeof gone) {
            tp_datagram_span_write(
                (struct tp_span){span.first, (uint32_t)(tp_min(end, kept) - span.first)},
                gone + gone_size);
            gone_size += TP_DATAGRAM_SPAN_SIZE;
        }
        for (uint64_t at = tp_max(span.first, kept);
             at < end && port->again_end - port->again_head < TP_AGAIN_COUNT; at++)
            port->again[port->again_end++ % TP_AGAIN_COUNT] = (struct tp_again){at, sender->answer};
    }
    if (gone_size > 0 && (slot = free_slot(port)) != NULL) {
        struct tp_datagram datagram = {.kind = TP_DATAGRAM_GONE, .body = {gone, gone_size}};
        send_slot(port, slot, &datagram, sender->answer);
    }
    pump(port);
}

static void give_up(struct tp_sender *sender, struct tp_slice spans)
{
    struct tp_span span;

    while (tp_datagram_span(&spans, &span))
        tp_window_give_up(&sender->window, span);
}

static void take(struct tp_bridge_port *port, struct tp_sender *sender,
                 const struct tp_datagram *datagram)
{
    const uint64_t given_up = sender->window.given_up;

    switch (datagram->kind) {
    case TP_DATAGRAM_DATA:
        if (!tp_window_take(&sender->window, datagram->sequence))
            port->counts_more.twice++;
        else if (datagram->count == 1)
            give_messages(port, datagram->body);
        else
            take_fragment(port, sender, datagram);
        break;
    case TP_DATAGRAM_BEAT:
        tp_window_expect(&sender->window, datagram->sequence);
        break;
    case TP_DATAGRAM_WANT:
        repeat(port, sender, datagram->body);
        break;
    case TP_DATAGRAM_GONE:
        give_up(sender, datagram->body);
        break;
    }
    if (sender->window.given_up != given_up)
        lost(port);
    if (!tp_window_is_whole(&sender->window))
        repair_soon(port);
}

/* NULL: nobody who could have said this, or one more than there is room for. */
static struct tp_sender *sender_of(struct tp_bridge_port *port, struct tp_datagram *datagram,
                                   struct tp_slice bytes)
{
    struct tp_sender *sender = NULL;
    uint8_t key[TP_SEAL_KEY_SIZE];

    HASH_FIND(hh, port->senders, datagram->sender, TP_DATAGRAM_SENDER_SIZE, sender);
    if (sender != NULL)
        return tp_datagram_open(datagram, bytes, port->key == NULL ? NULL : sender->key) == TP_OK
                   ? sender
                   : NULL;
    if (port->key != NULL)
        tp_datagram_key(port->bridge->secret, datagram->sender, key);
    if (tp_datagram_open(datagram, bytes, port->key == NULL ? NULL : key) != TP_OK ||
        HASH_COUNT(port->senders) >= TP_SENDER_COUNT_MAX)
        return NULL;
    sender = calloc(1, sizeof *sender);
    TP_ASSERT(sender != NULL);
    memcpy(sender->id, datagram->sender, TP_DATAGRAM_SENDER_SIZE);
    memcpy(sender->key, key, port->key == NULL ? 0 : sizeof key);
    tp_link_init(&sender->partials);
    HASH_ADD(hh, port->senders, id, TP_DATAGRAM_SENDER_SIZE, sender);
    return sender;
}

void tp_multicast_heard(struct tp_bridge_port *port, struct tp_slice bytes)
{
    struct tp_datagram datagram;

    if (tp_datagram_peek(bytes, port->key != NULL, &datagram) != TP_OK) {
        port->counts.refused++;
        return;
    }
    if (memcmp(datagram.sender, port->self, sizeof port->self) == 0)
        return;
    struct tp_sender *sender = sender_of(port, &datagram, bytes);
    /* A stamp that came before is somebody's replay, or the network's. */
    if (sender == NULL || !tp_window_take(&sender->stamps, datagram.stamp)) {
        port->counts.refused += sender == NULL;
        port->counts_more.twice += sender != NULL;
        return;
    }
    sender->heard_ns = tp_reactor_now_ns(port->reactor);
    sender->answer = (struct sockaddr_in){.sin_family = AF_INET,
                                          .sin_addr.s_addr = datagram.answer_address,
                                          .sin_port = datagram.answer_port};
    take(port, sender, &datagram);
}

static void want(struct tp_bridge_port *port, struct tp_sender *sender)
{
    struct tp_span spans[TP_DATAGRAM_SPAN_COUNT_MAX];
    uint8_t body[TP_DATAGRAM_SENDER_SIZE + sizeof spans];
    size_t size = TP_DATAGRAM_SENDER_SIZE;
    struct tp_slot *slot = free_slot(port);
    const uint32_t count = tp_window_missing(&sender->window, spans, TP_DATAGRAM_SPAN_COUNT_MAX);

    if (slot == NULL || count == 0)
        return;
    memcpy(body, sender->id, TP_DATAGRAM_SENDER_SIZE);
    for (uint32_t i = 0; i < count; i++, size += TP_DATAGRAM_SPAN_SIZE)
        tp_datagram_span_write(spans[i], body + size);
    struct tp_datagram datagram = {.kind = TP_DATAGRAM_WANT, .body = {body, size}};
    send_slot(port, slot, &datagram, sender->answer);
    port->counts_more.wanted++;
}

static void repair(struct tp_timer *timer)
{
    struct tp_bridge_port *port = TP_CONTAINER(timer, struct tp_bridge_port, repair_timer);
    const uint64_t now_ns = tp_reactor_now_ns(port->reactor);
    struct tp_sender *sender, *next;
    bool more = false;

    HASH_ITER(hh, port->senders, sender, next)
    {
        struct tp_window *window = &sender->window;
        if (tp_window_is_whole(window)) {
            sender->want_count = 0;
            continue;
        }
        sender->want_count = window->base == sender->want_base ? sender->want_count + 1 : 0;
        sender->want_base = window->base;
        if (sender->want_count > REPAIR_COUNT_MAX) {
            tp_window_give_up(window, (struct tp_span){window->base, TP_WINDOW_SIZE});
            lost(port);
            continue;
        }
        want(port, sender);
        more = true;
    }
    if (more)
        tp_timer_set(port->reactor, timer, now_ns + REPAIR_AGAIN_NS);
}

/* Senders that are gone, and messages of which the rest never came. */
static void sweep(struct tp_timer *timer)
{
    struct tp_bridge_port *port = TP_CONTAINER(timer, struct tp_bridge_port, sweep_timer);
    const uint64_t now_ns = tp_reactor_now_ns(port->reactor);
    struct tp_sender *sender, *next;

    HASH_ITER(hh, port->senders, sender, next)
    {
        if (now_ns - sender->heard_ns >= SILENCE_NS) {
            if (!tp_window_is_whole(&sender->window) || !tp_link_alone(&sender->partials))
                lost(port);
            forget_sender(port, sender);
            continue;
        }
        TP_LIST_EACH_SAFE(link, &sender->partials)
        {
            struct tp_partial *partial = TP_CONTAINER(link, struct tp_partial, link);
            if (now_ns - partial->heard_ns < SILENCE_NS)
                continue;
            tp_link_remove(&partial->link);
            drop_partial(port, partial);
            lost(port);
        }
    }
    tp_timer_set(port->reactor, timer, now_ns + BEAT_LAST_NS);
}

static void received(struct tp_bridge_port *port, struct tp_io *io, int fd, int32_t result,
                     uint32_t flags)
{
    if (result > 0) {
        if (!port->ending)
            tp_multicast_heard(
                port, tp_slice_of(tp_reactor_buffer(port->reactor, flags), (size_t)result));
        tp_reactor_buffer_return(port->reactor, flags);
    }
    if (!(flags & TP_IO_MORE) && !port->ending)
        tp_reactor_receive(port->reactor, io, fd);
}

static void group_received(struct tp_io *io, int32_t result, uint32_t flags)
{
    struct tp_bridge_port *port = TP_CONTAINER(io, struct tp_bridge_port, group_receive);

    received(port, io, port->listener, result, flags);
}

static void own_received(struct tp_io *io, int32_t result, uint32_t flags)
{
    struct tp_bridge_port *port = TP_CONTAINER(io, struct tp_bridge_port, own_receive);

    received(port, io, port->speaker, result, flags);
}

/* ---- the port -----------------------------------------------------------------------------------
 */

static void multicast_subscribe(struct tp_bridge_port *port, struct tp_slice topic)
{
    bool first;

    TP_ASSERT(topic.size <= TP_BRIDGE_TOPIC_SIZE_MAX);
    tp_topics_add(&port->topics, topic, &first);
    if (!first)
        return;
    tp_topics_note_lost(&port->topics, topic); /* in the sense that it has something to make up */
    tp_timer_set(port->reactor, &port->link_timer, tp_reactor_now_ns(port->reactor));
}

static void multicast_unsubscribe(struct tp_bridge_port *port, struct tp_slice topic)
{
    struct tp_topic *known = tp_topics_find(&port->topics, topic);

    TP_ASSERT(known != NULL);
    (void)tp_topics_drop(&port->topics, known);
}

static void multicast_counts(const struct tp_bridge_port *port, struct tp_bridge_counts *out)
{
    *out = port->counts;
    out->connected = port->up;
    out->topics = port->topics.count;
}

static struct tp_bridge_port *multicast_attach(struct tp_bridge *bridge, struct tp_reactor *reactor,
                                               const struct tp_bridge_handler *handler,
                                               void *context)
{
    struct tp_bridge_port *port = calloc(1, sizeof *port);

    TP_ASSERT(port != NULL);
    port->bridge = bridge;
    port->reactor = reactor;
    port->handler = *handler;
    port->context = context;
    port->up = true;
    tp_random_secret(port->self, sizeof port->self);
    if (bridge->secret.size > 0) {
        tp_datagram_key(bridge->secret, port->self, port->own_key);
        port->key = port->own_key;
    }
    port->body_size_max = bridge->datagram_size - tp_datagram_size(0, port->key != NULL);
    port->bodies = malloc((size_t)TP_SENT_COUNT * port->body_size_max); /* touched when used */
    TP_ASSERT(port->bodies != NULL);
    for (uint32_t i = 0; i < TP_SLOT_COUNT; i++)
        port->slots[i] = (struct tp_slot){.port = port, .io.done = sent};
    port->group = bridge->group;
    tp_multicast_open_sockets(bridge, &port->listener, &port->speaker, &port->answer);
    TP_ASSERT(port->listener >= 0 && port->speaker >= 0); /* tried at the start */
    port->group_receive.done = group_received;
    port->own_receive.done = own_received;
    tp_reactor_receive(reactor, &port->group_receive, port->listener);
    tp_reactor_receive(reactor, &port->own_receive, port->speaker);
    tp_timer_init(&port->beat_timer, beat);
    tp_timer_init(&port->repair_timer, repair);
    tp_timer_init(&port->link_timer, link_fired);
    tp_timer_init(&port->sweep_timer, sweep);
    beat_soon(port);
    tp_timer_set(reactor, &port->link_timer, tp_reactor_now_ns(reactor));
    tp_timer_set(reactor, &port->sweep_timer, tp_reactor_now_ns(reactor) + BEAT_LAST_NS);
    return port;
}

static void multicast_detach(struct tp_bridge_port *port)
{
    struct tp_sender *sender, *next;
    bool busy = true;

    port->ending = true;
    tp_timer_stop(port->reactor, &port->beat_timer);
    tp_timer_stop(port->reactor, &port->repair_timer);
    tp_timer_stop(port->reactor, &port->link_timer);
    tp_timer_stop(port->reactor, &port->sweep_timer);
    tp_reactor_cancel(port->reactor, &port->group_receive);
    tp_reactor_cancel(port->reactor, &port->own_receive);
    while (busy) {
        busy = port->group_receive.pending > 0 || port->own_receive.pending > 0;
        for (uint32_t i = 0; i < TP_SLOT_COUNT; i++)
            busy |= port->slots[i].io.pending > 0;
        if (!busy)
            break;
        tp_reactor_wait(port->reactor);
        tp_reactor_poll(port->reactor);
    }
    close(port->listener);
    close(port->speaker);
    HASH_ITER(hh, port->senders, sender, next)
    forget_sender(port, sender);
    tp_topics_finish(&port->topics);
    memset(port->own_key, 0, sizeof port->own_key);
    free(port->bodies);
    free(port);
}

const struct tp_bridge_kind tp_bridge_multicast = {
    .name = "multicast",
    .open = tp_multicast_open,
    .attach = multicast_attach,
    .publish = tp_multicast_publish,
    .subscribe = multicast_subscribe,
    .unsubscribe = multicast_unsubscribe,
    .flush = multicast_flush,
    .quiet = multicast_quiet,
    .counts = multicast_counts,
    .detach = multicast_detach,
    .close = tp_multicast_close,
};
