/* bench/load/sync.c - opening documents: connects, storms, joins, reconnects, idle connections.
 *
 * What a document starts with was written by one filler, whose clocks say exactly what a client
 * has: a client is synced when it got all of them, none twice, and step 2. The bytes of large
 * answers are validated once and compared from then on (client.h). */
#include <stdio.h>
#include <stdlib.h>

#include "load/run.h"

#define FILL_PIECE ((uint64_t)256 << 10) /* characters in one message */
#define FILLING_MAX 8u
#define CONNECTING_MAX 256u
#define BULK_BUFFER_SIZE 65536u
#define BULK_BUFFER_COUNT 256u

static uint64_t synced_count, gone_count, document_size; /* the size that clients must see */
static uint64_t fill_target, fill_piece; /* how far documents are filled, and in what pieces */
static bool remembering, measuring;

/* ---- filling ---- */

/* Clients of the workload below: `at` is how much of their document they have said. */
static void filler_opened(struct load_client *client)
{
    greet(client, client->document);
    ask(client, client->document, 0);
}

/* One piece at a time, each awaited: what a server looks at longer, a smaller one may overtake. */
static void fill_more(struct load_client *client)
{
    const uint64_t total = options.document_size;
    const uint64_t struct_size = options.structs > 0 ? total / options.structs : 0;
    const uint64_t left = tp_min(fill_piece, fill_target - client->at);
    const bool apart = struct_size > 0 && left >= struct_size;
    const uint64_t size = apart ? struct_size : left, count = apart ? left / struct_size : 1;
    struct tp_buffer update = tp_buffer_growing((size_t)64 << 20);

    load_inserts(options.dialect, FILLER_ID, client->at, (uint32_t)size, (uint32_t)count, apart,
                 &update);
    const uint64_t id = say(client, client->document, LOAD_UPDATE, tp_buffer_slice(&update));
    if (options.dialect != LOAD_YWEBSOCKET)
        promise(client, (struct load_promise){.id = id, .document = client->document});
    client->at += size * count;
    tp_buffer_finish(&update);
    /* The last character is only there when all before it are. */
    client->synced_count = 1;
    ask(client, client->document, client->at - 1);
}

static bool filled_to(struct load_client *client, struct tp_slice update)
{
    struct tp_update_range range;
    struct tp_update_info info;

    return tp_update_validate(update, encoding_of(), NULL, &range, 1, &info) == TP_OK &&
           info.range_count == 1 && range.client == FILLER_ID && range.from < client->at &&
           range.gapless_to == client->at;
}

static void filler_message(struct load_client *client, struct tp_slice payload, uint8_t opcode)
{
    struct load_message message;
    struct tp_update_info info;

    if (opcode != 2)
        return;
    if (load_decode(options.dialect, payload, &message) != TP_OK)
        fail("a message that cannot be decoded", client);
    else if (message.kind == LOAD_REFUSED)
        fail("the server refused a message", client);
    else if (message.kind == LOAD_ACK && client->promise_first != client->promise_end)
        keep_promise(client, &message);
    /* a server may answer in updates, and then with an empty step 2 */
    if (message.kind == LOAD_UPDATE && client->synced_count == 1 &&
        filled_to(client, message.bytes))
        client->synced_count = 2;
    if (message.kind != LOAD_STEP_2)
        return;
    if (message.bytes.size == 0) /* Teleportal's "nothing" */
        message.bytes = tp_update_empty(encoding_of());
    if (client->synced_count == 0) {
        if (tp_update_validate(message.bytes, encoding_of(), NULL, NULL, 0, &info) == TP_OK &&
            !info.empty)
            fail("a document is not empty: use another --prefix", client);
        fill_more(client);
    } else if (client->phase == LOAD_OPEN) {
        if (client->synced_count != 2 &&
            tp_update_validate(message.bytes, encoding_of(), NULL, NULL, 0, &info) == TP_OK &&
            info.empty) {
            /* A server may look at a large update for a while, and answer before it has it. */
            ask(client, client->document, client->at - 1);
            return;
        }
        if (client->synced_count != 2 && !filled_to(client, message.bytes))
            fail("a document did not take what was written", client);
        if (client->at < fill_target) {
            fill_more(client);
            return;
        }
        client->phase = LOAD_SYNCED;
        synced_count++;
    }
}

static const struct load_workload filling = {"fill", filler_opened, filler_message, fail_closed};

/* `fillers`: one client for each document. They stay connected. */
static void fill(struct load_client *fillers)
{
    const uint64_t until_ns = deadline_ns();
    uint32_t next = 0;

    load.workload = &filling;
    synced_count = 0;
    fill_target = options.document_size;
    fill_piece = FILL_PIECE;
    while (synced_count < options.documents && !failed()) {
        for (; next < options.documents && next - synced_count < FILLING_MAX; next++) {
            fillers[next].document = next;
            load_connect(&fillers[next]);
        }
        turn(10000000);
        if (load.now_ns > until_ns)
            fail("the documents were not filled in time", NULL);
    }
    for (uint32_t i = 0; i < options.documents && !failed(); i++) /* kept, where it can be known */
        while (fillers[i].promise_first != fillers[i].promise_end && !failed()) {
            turn(10000000);
            if (load.now_ns > until_ns)
                fail("what was written was not acknowledged in time", NULL);
        }
}

static void let_all_go(struct load_client *clients, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        load_disconnect(&clients[i]);
    for (uint32_t i = 0; i < count && !failed(); i++)
        while (clients[i].fd >= 0)
            turn(1000000);
}

/* ---- opening ---- */

static void sync_opened(struct load_client *client)
{
    greet(client, client->document);
    ask(client, client->document, client->at);
}

/* Takes in what a server sent of the document, and answers which clocks it holds. */
static bool take(struct load_client *client, struct tp_slice payload,
                 const struct load_message *message)
{
    const struct load_reference *known = load_reference_of(&load, payload);
    struct tp_update_range range = {0};
    struct tp_update_info info = {0};

    if (known != NULL) {
        range.from = known->from;
        range.to = known->to;
    } else if (options.stateless) {
        range.to = message->bytes.size > 2 ? message->bytes.size : 0;
    } else if (message->bytes.size == 0) { /* Teleportal's "nothing" */
    } else if (tp_update_validate(message->bytes, encoding_of(), NULL, &range, 1, &info) != TP_OK ||
               info.range_count > 1 ||
               (info.range_count == 1 &&
                (range.client != FILLER_ID || range.gapless_to != range.to))) {
        fail("not what was written", client);
        return false;
    }
    if (range.to > 0 && range.from != client->at) {
        fail("a piece that does not follow the one before", client);
        return false;
    }
    client->at = tp_max(client->at, range.to);
    if (known == NULL && remembering && payload.size >= LOAD_BIG_SIZE)
        load_remember(&load, payload, range.from, range.to);
    return true;
}

static void sync_message(struct load_client *client, struct tp_slice payload, uint8_t opcode)
{
    struct load_message message;

    if (opcode != 2 || client->phase != LOAD_OPEN)
        return;
    if (load_decode(options.dialect, payload, &message) != TP_OK)
        fail("a message that cannot be decoded", client);
    if (message.kind == LOAD_REFUSED)
        fail("the server refused a message", client);
    if ((message.kind != LOAD_UPDATE && message.kind != LOAD_STEP_2) ||
        !take(client, payload, &message) ||
        (options.early ? client->at < document_size : message.kind != LOAD_STEP_2))
        return;
    if (client->at != document_size)
        fail("a document is not what was written", client);
    if (measuring)
        histogram_add(&latencies, load.now_ns - client->started_ns);
    synced_count++;
    client->phase = LOAD_SYNCED;
    if (!options.hold)
        load_disconnect(client);
}

static void sync_closed(struct load_client *client, const char *why)
{
    if (why != NULL)
        fail(why, client);
    gone_count++;
}

static const struct load_workload syncing = {"sync", sync_opened, sync_message, sync_closed};

/* Syncs all of these, at most `window` connecting (or, unless they stay, connected) at a time. */
static void sync_all(struct load_client *clients, uint32_t count, uint32_t window)
{
    const uint64_t until_ns = deadline_ns();
    uint32_t next = 0;

    load.workload = &syncing;
    synced_count = gone_count = 0;
    while (synced_count < count && !failed()) {
        while (next < count && next - (options.hold ? synced_count : gone_count) < window)
            load_connect(&clients[next++]);
        turn(10000000);
        if (load.now_ns > until_ns)
            fail("not all clients were synced in time", NULL);
    }
}

static void set_up(uint32_t more)
{
    load.client_count = options.clients + more;
    load.clients = calloc(load.client_count, sizeof *load.clients);
    load.workload = &syncing;
    if (options.document_size >= LOAD_BIG_SIZE) {
        load.buffer_size = BULK_BUFFER_SIZE;
        load.buffer_count = BULK_BUFFER_COUNT;
    }
    load_open(&load, options.host, options.port);
    for (uint32_t i = 0; i < options.clients; i++)
        load.clients[i].document = i % options.documents;
    document_size = options.document_size;
}

static void report_shape(void)
{
    report("documents", options.documents);
    report("document_size", (double)options.document_size);
    report("structs", options.structs);
    report("clients", options.clients);
    report("window", options.window);
}

void run_sync(void)
{
    struct meter meter;
    const bool fill_only = strcmp(options.workload, "fill") == 0;
    const bool hold = options.hold;

    set_up(options.documents + 1);
    struct load_client *fillers = &load.clients[options.clients];
    struct load_client *probe = &fillers[options.documents];
    if (document_size > 0 && !options.filled && !options.stateless)
        fill(fillers);
    if (fill_only) {
        report_shape();
        return;
    }
    if (!options.cold &&
        !failed()) { /* the answers are known from here on, and the document open */
        remembering = true;
        options.hold = true;
        sync_all(probe, 1, 1);
        remembering = false;
        options.hold = hold;
    }
    settle(0.3);
    measuring = true;
    meter_start(&meter);
    sync_all(load.clients, options.clients, options.window);
    meter_stop(&meter);
    settle(0.1);

    double bytes = 0;
    for (uint32_t i = 0; i < options.clients; i++)
        bytes += (double)load.clients[i].received_bytes;
    report_shape();
    report("syncs_per_s", options.clients / meter_seconds(&meter));
    report("bytes_per_s", bytes / meter_seconds(&meter));
    meter_report(&meter, "sync", options.clients);
    report_histogram("", &latencies);
}

/* ---- everybody comes back at once, and something was written meanwhile ---- */

void run_reconnect(void)
{
    struct meter meter;
    const uint64_t more = options.updates * options.size;

    options.hold = true;
    set_up(options.documents);
    struct load_client *fillers = &load.clients[options.clients];
    fill(fillers);
    sync_all(load.clients, options.clients, CONNECTING_MAX);
    settle(0.2);
    let_all_go(load.clients, options.clients);

    const uint64_t until_ns = deadline_ns();
    load.workload = &filling;
    synced_count = 0;
    fill_target = document_size + more;
    fill_piece = options.size;
    for (uint32_t i = 0; i < options.documents && !failed(); i++) {
        fillers[i].phase = LOAD_OPEN;
        fill_more(&fillers[i]);
    }
    while (synced_count < options.documents && !failed()) {
        turn(10000000);
        if (load.now_ns > until_ns)
            fail("what was written meanwhile was not taken in time", NULL);
    }
    document_size += more;
    settle(0.2);
    measuring = true;
    meter_start(&meter);
    sync_all(load.clients, options.clients, options.window);
    meter_stop(&meter);
    settle(0.1);
    report_shape();
    report("syncs_per_s", options.clients / meter_seconds(&meter));
    meter_report(&meter, "sync", options.clients);
    report_histogram("", &latencies);
}

/* ---- idle: hold connections and weigh the server ---- */

void run_idle(void)
{
    struct meter meter, hold;
    const uint32_t first = (uint32_t)tp_min(options.clients / 2, 1000);

    options.hold = true;
    set_up(0);
    sync_all(load.clients, first, CONNECTING_MAX);
    settle(1);
    meter_start(&meter);
    sync_all(load.clients + first, options.clients - first, CONNECTING_MAX);
    settle(1);
    meter_stop(&meter);
    const struct process_usage full = process_usage(options.pid);
    meter_start(&hold);
    settle(options.seconds);
    meter_stop(&hold);
    if (load.open_count != options.clients)
        fail("not all connections were held", NULL);
    report_shape();
    report("bytes_each", ((double)full.resident_size - (double)meter.usage.resident_size) /
                             tp_max(options.clients - first, 1));
    report("cpu_share", (double)(process_usage(options.pid).cpu_ns - hold.usage.cpu_ns) / 1e9 /
                            meter_seconds(&hold));
    report("rss", (double)full.resident_size);
}
