/* bench/load/typing.c - typing, cursors, pastes: writers and subscribers of documents, verified.
 *
 * Each document has W writers and some subscribers; each writer is a stream of updates, numbered
 * from 0, that every other member must get once and in order (writers too, of each other). A server
 * may join updates, so what comes is judged by the clocks it holds, and by its bytes where they are
 * what was sent. Latency runs from when an update was due, not from when it was sent: a generator
 * or server that falls behind cannot hide it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "load/run.h"

#define OPEN_LOOP_SLOTS 1024u /* updates of one writer in flight, at most */
#define RANGES_MAX 64u
#define CONNECTING_MAX 256u /* so that no listen queue overflows */
#define CHECKING_MAX 64u

struct stream {
    struct document *document;
    struct load_client *writer;
    uint64_t sent, completed, target;
    uint64_t *sent_ns;
    uint32_t *missing; /* members that did not get it yet */
    struct tp_buffer *updates;
};

struct document {
    uint32_t member_count, receivers; /* receivers of an update that do read */
    uint64_t *checked;                /* clocks of each writer that the server turned out to have */
    bool checking, check_done;
};

static struct document *documents;
static struct stream *streams; /* of document d: from d * writers */
static uint32_t stream_count, slots, member_count;
static double *popularity; /* cumulated, of documents */
static uint64_t deliveries, overtaken, late, echoes, outstanding, sent_total, completed_total,
    target_total, synced_count, payload_size, random_state = 88172645463325252u;
static bool measuring, global_window;

/* ---- who writes next ---- */

static double random_unit(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (double)(random_state >> 11) / (double)(UINT64_C(1) << 53);
}

static struct stream *pick(void)
{
    static uint32_t next;

    if (options.zipf <= 0)
        return &streams[next++ % stream_count];
    const double at = random_unit() * popularity[options.documents - 1];
    uint32_t low = 0, high = options.documents - 1;
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if (popularity[middle] < at)
            low = middle + 1;
        else
            high = middle;
    }
    return &streams[low * options.writers + next++ % options.writers];
}

static void write_one(struct stream *stream, uint64_t intended_ns)
{
    const uint32_t slot = stream->sent % slots;
    const uint32_t index = (uint32_t)(stream - streams);
    const uint32_t document = index / options.writers;
    struct tp_buffer *update = &stream->updates[slot];

    update->size = 0;
    if (options.awareness)
        load_cursor(WRITER_ID + index, stream->sent, update);
    else
        load_inserts(options.dialect, WRITER_ID + index, stream->sent * options.size, options.size,
                     1, false, update);
    stream->sent_ns[slot] = intended_ns;
    stream->missing[slot] = stream->document->receivers;
    stream->sent++;
    sent_total++;
    outstanding++;
    payload_size = update->size;
    const uint64_t id =
        say(stream->writer, document, options.awareness ? LOAD_AWARENESS : LOAD_UPDATE,
            tp_buffer_slice(update));
    if (options.dialect != LOAD_YWEBSOCKET && !options.awareness && !options.stateless)
        promise(stream->writer, (struct load_promise){id, intended_ns, document, true});
}

/* Closed loop: `stream` has room in its window, or the run has. */
static void write_more(struct stream *stream)
{
    if (options.rate > 0 || !measuring)
        return;
    if (!global_window) {
        while (stream->sent < stream->target && stream->sent - stream->completed < options.window)
            write_one(stream, load.now_ns);
        return;
    }
    while (sent_total < target_total && outstanding < options.window)
        write_one(pick(), load.now_ns); /* which has room: no stream has less than the run */
}

/* ---- what comes ---- */

static void completed_one(struct stream *stream)
{
    stream->completed++;
    completed_total++;
    outstanding--;
    write_more(stream);
}

static uint64_t *received_of(struct load_client *client, const struct stream *stream)
{
    return &client->received[(uint32_t)(stream - streams) - client->document * options.writers];
}

/* `client` has now got the updates of `stream` below `upto`; with `newest_only`, states between
 * were overtaken. */
static void delivered(struct load_client *client, struct stream *stream, uint64_t upto,
                      bool newest_only)
{
    uint64_t *received = received_of(client, stream);

    for (; *received < upto; ++*received) {
        const uint32_t slot = *received % slots;
        if (client == stream->writer) {
            echoes++;
            continue;
        }
        if (client->stuck || client->role >= stream->document->member_count - options.stuck) {
            late++;
            continue;
        }
        if (newest_only && *received + 1 < upto) {
            overtaken++;
        } else {
            histogram_add(&latencies, load.now_ns - stream->sent_ns[slot]);
            deliveries++;
        }
        if (--stream->missing[slot] == 0)
            completed_one(stream);
    }
}

static void typing_update(struct load_client *client, uint32_t document, struct tp_slice bytes)
{
    struct stream *first = &streams[document * options.writers];
    struct tp_update_range ranges[RANGES_MAX];
    struct tp_update_info info;

    for (uint32_t w = 0; w < options.writers; w++) {
        const uint64_t next = *received_of(client, &first[w]);
        if (next < first[w].sent && first[w].sent - next <= slots &&
            tp_slice_equal(bytes, tp_buffer_slice(&first[w].updates[next % slots]))) {
            delivered(client, &first[w], next + 1, false);
            return;
        }
    }
    /* Other bytes: several updates in one, or the same in another form. */
    if (tp_update_validate(bytes, encoding_of(), NULL, ranges, RANGES_MAX, &info) != TP_OK ||
        info.range_count > RANGES_MAX) {
        fail("an update that is none", client);
        return;
    }
    const bool may_repeat = client->role >= first->document->member_count - options.stuck;
    if (info.empty)
        return; /* a server may pass on what a member answered to step 1 */
    for (uint32_t i = 0; i < info.range_count; i++) {
        const uint64_t w = ranges[i].client - WRITER_ID - document * options.writers;
        if (w >= options.writers || ranges[i].gapless_to != ranges[i].to ||
            ranges[i].to % options.size != 0) {
            fail("an update that nobody wrote", client);
            return;
        }
        const uint64_t next = *received_of(client, &first[w]) * options.size;
        if (ranges[i].from > next || (ranges[i].from < next && !may_repeat)) {
            fail("not the update that comes next", client);
            return;
        }
        if (ranges[i].to > first[w].sent * options.size) {
            fail("more than was written", client);
            return;
        }
        delivered(client, &first[w], ranges[i].to / options.size, false);
    }
}

/* Awareness: the newest state counts; a server may leave out what it replaces. */
static void cursor_moved(struct load_client *client, uint32_t document, struct tp_slice bytes)
{
    struct stream *first = &streams[document * options.writers];
    uint64_t id, number;

    if (bytes.size == 0)
        return;
    bytes = tp_slice_of(bytes.data + 1, bytes.size - 1); /* fewer than 128 entries */
    while (load_cursor_next(&bytes, &id, &number)) {
        const uint64_t w = id - WRITER_ID - document * options.writers;
        if (w >= options.writers || number >= first[w].sent) {
            fail("a cursor of nobody", client);
            return;
        }
        if (number < *received_of(client, &first[w])) {
            fail("a cursor that was there before", client);
            return;
        }
        delivered(client, &first[w], number + 1, true);
    }
}

static void check_update(struct load_client *client, uint32_t document, struct tp_slice bytes,
                         bool last)
{
    struct document *of = &documents[document];
    struct tp_update_range ranges[RANGES_MAX];
    struct tp_update_info info;

    if (tp_update_validate(bytes, encoding_of(), NULL, ranges, RANGES_MAX, &info) != TP_OK ||
        info.range_count > RANGES_MAX) {
        fail("a state that is no update", client);
        return;
    }
    for (uint32_t i = 0; i < info.range_count; i++) {
        const uint64_t w = ranges[i].client - WRITER_ID - document * options.writers;
        if (w >= options.writers || ranges[i].from > of->checked[w] ||
            ranges[i].gapless_to != ranges[i].to)
            fail("the server's state is not what was written", client);
        else
            of->checked[w] = tp_max(of->checked[w], ranges[i].to);
    }
    if (!last)
        return;
    for (uint32_t w = 0; w < options.writers; w++)
        if (of->checked[w] != streams[document * options.writers + w].sent * options.size)
            fail("the server's state is not what was written", client);
    of->checking = false;
    of->check_done = true;
}

static void step_2(struct load_client *client, uint32_t document, struct tp_slice bytes)
{
    struct tp_update_info info;

    if (client->phase == LOAD_SYNCED) {
        if (document < options.documents && documents[document].checking)
            check_update(client, document, bytes, true);
        return;
    }
    if (tp_update_validate(bytes, encoding_of(), NULL, NULL, 0, &info) == TP_OK && !info.empty)
        fail("a document is not empty: use another --prefix", client);
    if (++client->synced_count == client->document_count) {
        client->phase = LOAD_SYNCED;
        synced_count++;
    }
}

static void typing_message(struct load_client *client, struct tp_slice payload, uint8_t opcode)
{
    struct load_message message;
    uint32_t document;

    if (opcode != 2)
        return;
    if (load_decode(options.dialect, payload, &message) != TP_OK) {
        fail("a message that cannot be decoded", client);
        return;
    }
    if (message.kind == LOAD_ACK) {
        keep_promise(client, &message);
        return;
    }
    if (message.kind == LOAD_OTHER || !document_of(client, &message, &document))
        return;
    switch (message.kind) {
    case LOAD_STEP_1: {
        const uint64_t id = say(client, document, LOAD_STEP_2, tp_update_empty(encoding_of()));
        if (options.dialect != LOAD_YWEBSOCKET && !options.stateless)
            promise(client, (struct load_promise){.id = id, .document = document});
        break;
    }
    case LOAD_STEP_2:
        step_2(client, document, message.bytes);
        break;
    case LOAD_UPDATE:
        if (document >= options.documents) {
            fail("an update of a document in which nobody writes", client);
        } else if (documents[document].checking &&
                   client == streams[document * options.writers].writer) {
            check_update(client, document, message.bytes, false);
        } else {
            typing_update(client, document, message.bytes);
        }
        break;
    case LOAD_AWARENESS:
        if (options.awareness && document < options.documents)
            cursor_moved(client, document, message.bytes);
        break;
    default:
        fail("the server refused a message", client);
    }
}

static void typing_opened(struct load_client *client)
{
    for (uint32_t i = 0; i < client->document_count; i++) {
        greet(client, client->document + i);
        ask(client, client->document + i, 0);
    }
}

static const struct load_workload typing = {"typing", typing_opened, typing_message, fail_closed};

/* ---- phases ---- */

static void connect_all(void)
{
    const uint64_t until_ns = deadline_ns();
    uint32_t next = 0;

    while (synced_count < load.client_count && !failed()) {
        while (next < load.client_count && next - synced_count < CONNECTING_MAX)
            load_connect(&load.clients[next++]);
        turn(10000000);
        if (load.now_ns > until_ns)
            fail("not all clients were synced in time", NULL);
    }
}

/* Until `updates` more per document, or as many in all, are delivered. */
static void type(uint64_t updates)
{
    const uint64_t start_ns = load_clock_ns(), until_ns = deadline_ns();
    uint64_t due = 0;

    measuring = true;
    load.now_ns = start_ns;
    target_total = sent_total + updates * options.documents;
    for (uint32_t i = 0; i < stream_count; i++) {
        streams[i].target = streams[i].sent + updates / options.writers +
                            (i % options.writers < updates % options.writers);
        write_more(&streams[i]);
    }
    double receivers = 0; /* of an update, on average over the updates */
    for (uint32_t i = 0; i < options.documents; i++)
        receivers += (popularity[i] - (i > 0 ? popularity[i - 1] : 0)) /
                     popularity[options.documents - 1] * documents[i].receivers;
    const double interval_ns = options.rate > 0 ? 1e9 * receivers / options.rate : 0;
    struct stream *waiting = NULL;

    while (completed_total < target_total && !failed()) {
        uint64_t wait_ns = 10000000;
        while (interval_ns > 0 && sent_total < target_total) {
            const uint64_t due_ns = start_ns + (uint64_t)(interval_ns * (double)due);
            const uint64_t now_ns = load_clock_ns();
            if (due_ns > now_ns) {
                wait_ns = tp_min(wait_ns, due_ns - now_ns);
                break;
            }
            if (waiting == NULL)
                waiting = pick();
            if (waiting->sent - waiting->completed >= slots)
                break; /* overloaded: it goes out late, and its latency counts from when it was due
                        */
            write_one(waiting, due_ns);
            waiting = NULL;
            due++;
        }
        turn(wait_ns);
        if (load.now_ns > until_ns)
            fail("not all updates were delivered in time", NULL);
    }
    measuring = false;
}

static bool everything_arrived(void)
{
    for (uint32_t i = 0; i < member_count; i++) {
        struct load_client *client = &load.clients[i];
        if (client->promise_first != client->promise_end)
            return false;
        for (uint32_t s = 0; s < client->document_count * options.writers; s++) {
            const struct stream *stream = &streams[client->document * options.writers + s];
            const uint64_t received = client->received[s];
            /* a server sends updates back to their author, or it does not */
            if (received < stream->sent && (client != stream->writer || received > 0) &&
                !(options.awareness && client == stream->writer))
                return false;
        }
    }
    return true;
}

/* Everybody has everything, also those who did not read; and every update is acknowledged. */
static void wait_for_all(void)
{
    const uint64_t until_ns = deadline_ns();

    while (!everything_arrived() && !failed()) {
        turn(5000000);
        if (load.now_ns > until_ns)
            fail("not everybody got everything, or an acknowledgement is missing", NULL);
    }
}

/* What the server would tell a newcomer is what was written, in every document. */
static void check_states(void)
{
    const uint64_t until_ns = deadline_ns();
    uint32_t next = 0, done = 0;

    if (options.awareness || options.stateless)
        return;
    while (done < options.documents && !failed()) {
        for (; next < options.documents && next - done < CHECKING_MAX; next++) {
            documents[next].checked = calloc(options.writers, sizeof(uint64_t));
            documents[next].checking = true;
            ask(streams[next * options.writers].writer, next, 0);
        }
        turn(10000000);
        while (done < next && documents[done].check_done)
            free(documents[done++].checked);
        if (load.now_ns > until_ns)
            fail("no answer to a state vector", NULL);
    }
}

/* ---- the run ---- */

static void lay_out(void)
{
    const uint32_t per_document = options.writers + options.subscribers;
    double sum = 0;

    global_window = options.zipf >= 0;
    slots = OPEN_LOOP_SLOTS;
    if (options.rate <= 0)
        for (slots = 1; slots < options.window;)
            slots *= 2;
    stream_count = options.documents * options.writers;
    documents = calloc(options.documents, sizeof *documents);
    streams = calloc(stream_count, sizeof *streams);
    popularity = calloc(options.documents, sizeof *popularity);
    for (uint32_t i = 0; i < options.documents; i++) {
        sum += options.zipf > 0 ? pow(i + 1, -options.zipf) : 1;
        popularity[i] = sum;
    }
    /* Popular documents have more subscribers as well: all together documents x subscribers. */
    member_count = 0;
    for (uint32_t i = 0; i < options.documents; i++) {
        const double share = (popularity[i] - (i > 0 ? popularity[i - 1] : 0)) / sum;
        documents[i].member_count =
            options.zipf <= 0
                ? per_document
                : options.writers + (uint32_t)tp_max(1, (size_t)(share * options.documents *
                                                                 options.subscribers));
        documents[i].receivers = documents[i].member_count - 1 - options.stuck;
        if (i % options.multiplex == 0)
            member_count += documents[i].member_count;
    }
    load.client_count = member_count + options.idle;
    load.clients = calloc(load.client_count, sizeof *load.clients);
    load.workload = &typing;
    load_open(&load, options.host, options.port);

    uint32_t at = 0;
    for (uint32_t i = 0; i < options.documents; i += options.multiplex) {
        const uint32_t count = (uint32_t)tp_min(options.multiplex, options.documents - i);
        for (uint32_t role = 0; role < documents[i].member_count; role++, at++) {
            struct load_client *client = &load.clients[at];
            client->document = i;
            client->document_count = count;
            client->role = role;
            client->received = calloc(count * options.writers, sizeof(uint64_t));
            for (uint32_t k = 0; role < options.writers && k < count; k++)
                streams[(i + k) * options.writers + role].writer = client;
        }
    }
    for (uint32_t i = 0; i < options.idle; i++, at++)
        load.clients[at].document = options.documents + i;
    for (uint32_t i = 0; i < stream_count; i++) {
        streams[i].document = &documents[i / options.writers];
        streams[i].sent_ns = calloc(slots, sizeof(uint64_t));
        streams[i].missing = calloc(slots, sizeof(uint32_t));
        streams[i].updates = calloc(slots, sizeof(struct tp_buffer));
        for (uint32_t k = 0; k < slots; k++)
            streams[i].updates[k] = tp_buffer_growing((size_t)1 << 24);
    }
}

static void tidy_up(void)
{
    for (uint32_t i = 0; i < stream_count; i++) {
        for (uint32_t k = 0; k < slots; k++)
            tp_buffer_finish(&streams[i].updates[k]);
        free(streams[i].sent_ns);
        free(streams[i].missing);
        free(streams[i].updates);
    }
    free(documents);
    free(streams);
    free(popularity);
}

/* In a phase of its own, since counting costs the server. */
static void count_system_calls(void)
{
    const uint64_t before = deliveries;

    if (failed() || !process_count_start(options.pid))
        return;
    type(tp_max(options.updates / 10, 1));
    settle(0.02);
    const uint64_t count = process_count_stop();
    if (deliveries > before)
        report("syscalls_per_delivery", (double)count / (double)(deliveries - before));
}

void run_typing(void)
{
    struct meter meter;

    lay_out();
    connect_all();
    settle(0.3);
    for (uint32_t i = 0; i < member_count && options.stuck > 0; i++)
        if (load.clients[i].role >=
            documents[load.clients[i].document].member_count - options.stuck)
            load_stall(&load.clients[i]);
    type(tp_max(options.updates / 10, 1)); /* warm-up */
    settle(0.1);
    memset(&latencies, 0, sizeof latencies);
    memset(&acks, 0, sizeof acks);
    const uint64_t before = deliveries, overtaken_before = overtaken;
    meter_start(&meter);
    type(options.updates);
    meter_stop(&meter);
    settle(0.05);
    const double count = (double)(deliveries - before);
    report("documents", options.documents);
    report("writers", options.writers);
    report("subscribers", options.subscribers);
    report("window", options.rate > 0 ? 0 : options.window);
    report("offered_per_s", options.rate);
    report("deliveries", count);
    report("deliveries_per_s", count / meter_seconds(&meter));
    if (options.size >= 4096)
        report("bytes_per_s", count * (double)payload_size / meter_seconds(&meter));
    meter_report(&meter, "delivery", count);
    report_histogram("", &latencies);
    report_histogram("ack_", &acks);
    if (options.awareness)
        report("overtaken", (double)(overtaken - overtaken_before));
    if (options.idle > 0)
        report("idle", options.idle);
    if (options.stuck > 0) {
        const uint64_t start_ns = load_clock_ns();
        report("stuck", options.stuck);
        for (uint32_t i = 0; i < member_count; i++)
            if (load.clients[i].stuck)
                load_resume(&load.clients[i]);
        wait_for_all();
        report("caught_up_s", (double)(load_clock_ns() - start_ns) / 1e9);
    }
    count_system_calls();
    wait_for_all();
    check_states();
    tidy_up();
}
