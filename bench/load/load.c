/* bench/load/load.c - load on a server, verified.
 *
 *     load --server HOST:PORT [--pid PID] [--dialect ywebsocket|teleportal|hocuspocus] WORKLOAD ...
 *
 * Each workload checks what it receives: every subscriber got every update exactly once and in the
 * writer's order, and the server's state at the end is what was written. A run that fails the check
 * prints the reason instead of figures and exits 1. */
#include <ctype.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "crdt/state_vector.h"
#include "crdt/update.h"
#include "load/client.h"
#include "load/dialect.h"
#include "load/histogram.h"
#include "load/process.h"

#define IN_FLIGHT_MAX 256u /* updates of one document */
#define WRITER_ID 1000u    /* Yjs client id of document 0's writer; the others follow */
#define SECOND_NS UINT64_C(1000000000)

struct options {
    const char *workload, *host, *label;
    uint16_t port;
    int pid;
    enum load_dialect dialect;
    uint32_t documents, subscribers, window, size, sources, clients;
    uint64_t updates; /* per document, after the warm-up */
    double rate;      /* deliveries per second, open loop; 0: closed loop */
    double seconds;   /* open loop, idle */
    double timeout_s;
    const char *prefix; /* of document names: fresh documents for each run */
    bool awareness, stateless;
    bool json;
};

struct document {
    struct load_client *writer;
    uint64_t sent, completed;
    uint64_t sent_ns[IN_FLIGHT_MAX];
    uint32_t missing[IN_FLIGHT_MAX]; /* subscribers that did not get it yet */
    struct tp_buffer updates[IN_FLIGHT_MAX];
    uint64_t next_ns; /* open loop: when the next one is due */
};

static struct options options = {.dialect = LOAD_YWEBSOCKET,
                                 .documents = 1,
                                 .subscribers = 100,
                                 .window = 16,
                                 .size = 64,
                                 .sources = 1,
                                 .clients = 1000,
                                 .updates = 1000,
                                 .timeout_s = 120,
                                 .seconds = 10,
                                 .label = "server",
                                 .prefix = "load"};
static struct load load;
static struct document *documents;
static struct histogram latencies;
static uint64_t deliveries, synced_count, total_updates;
static char failure[256];
static bool measuring;

static void fail(const char *what, const struct load_client *client)
{
    if (failure[0] == 0)
        snprintf(failure, sizeof failure, "%s (client %u, document %u, after %" PRIu64 ")", what,
                 client->index, client->document, client->received);
}

static struct tp_slice document_name(uint32_t document, char out[64])
{
    return tp_slice_of(out, (size_t)snprintf(out, 64, "%s-%u", options.prefix, document));
}

static void say(struct load_client *client, enum load_kind kind, struct tp_slice bytes)
{
    char name[64];
    uint8_t memory[1024];
    struct tp_buffer out =
        bytes.size < 512 ? tp_buffer_fixed(memory, sizeof memory) : tp_buffer_growing(SIZE_MAX / 2);

    load_encode(options.dialect, document_name(client->document, name), kind, bytes, &out);
    load_send(client, tp_buffer_slice(&out));
    tp_buffer_finish(&out);
}

/* ---- every workload: open, greet, sync ----------------------------------------------------------
 */

static void opened(struct load_client *client)
{
    char name[64];
    uint8_t memory[256];
    struct tp_buffer out = tp_buffer_fixed(memory, sizeof memory);

    load_greeting(options.dialect, document_name(client->document, name), &out);
    if (out.size > 0)
        load_send(client, tp_buffer_slice(&out));
    say(client, LOAD_STEP_1, tp_slice_of("\0", 1));
}

static void answer_step_1(struct load_client *client)
{
    const enum tp_update_encoding encoding =
        options.dialect == LOAD_TELEPORTAL ? TP_UPDATE_V2 : TP_UPDATE_V1;

    say(client, LOAD_STEP_2, tp_update_empty(encoding));
}

static void closed_by_server(struct load_client *client)
{
    fail("the server closed a connection", client);
}

/* ---- typing: D documents, one writer and S subscribers each
 * -------------------------------------- */

static enum tp_update_encoding encoding_of(void)
{
    return options.dialect == LOAD_TELEPORTAL ? TP_UPDATE_V2 : TP_UPDATE_V1;
}

static void write_one(struct document *document, uint64_t intended_ns)
{
    const uint32_t slot = document->sent % IN_FLIGHT_MAX;
    struct tp_buffer *update = &document->updates[slot];

    update->size = 0;
    if (options.awareness) { /* a cursor that moves: {client, clock, state} */
        char state[64];
        const int size =
            snprintf(state, sizeof state, "{\"cursor\":%08" PRIu64 "}", document->sent);
        tp_buffer_append(update, "\1", 1);
        const uint64_t id = WRITER_ID + document->writer->document;
        uint8_t memory[32];
        struct tp_buffer numbers = tp_buffer_fixed(memory, sizeof memory);
        uint64_t values[3] = {id, document->sent + 1, (uint64_t)size};
        for (int i = 0; i < 3; i++)
            for (uint64_t v = values[i];; v >>= 7) {
                const uint8_t byte = (uint8_t)(v & 0x7f) | (v > 0x7f ? 0x80 : 0);
                tp_buffer_append(&numbers, &byte, 1);
                if (v <= 0x7f)
                    break;
            }
        tp_buffer_append(update, memory, numbers.size);
        tp_buffer_append(update, state, (size_t)size);
    } else {
        load_typing_update(options.dialect, WRITER_ID + document->writer->document, document->sent,
                           options.size, update);
    }
    document->sent_ns[slot] = intended_ns;
    document->missing[slot] = options.subscribers;
    document->sent++;
    say(document->writer, options.awareness ? LOAD_AWARENESS : LOAD_UPDATE,
        tp_buffer_slice(update));
}

static void write_more(struct document *document)
{
    if (options.rate > 0 || !measuring)
        return;
    while (document->sent < total_updates && document->sent - document->completed < options.window)
        write_one(document, load.now_ns);
}

/* Subscriber `client` has got its next update. */
static void delivered(struct load_client *client, struct document *document)
{
    const uint32_t slot = client->received % IN_FLIGHT_MAX;

    histogram_add(&latencies, load.now_ns - document->sent_ns[slot]);
    client->received++;
    deliveries++;
    if (--document->missing[slot] == 0) {
        document->completed++;
        write_more(document);
    }
}

static void typing_update(struct load_client *client, struct tp_slice bytes)
{
    struct document *document = &documents[client->document];
    const struct tp_buffer *expected = &document->updates[client->received % IN_FLIGHT_MAX];
    struct tp_update_range range;
    struct tp_update_info info;

    if (client == document->writer) {
        if (options.dialect != LOAD_YWEBSOCKET || !measuring)
            fail("a writer got an update", client);
        return; /* the reference server sends it back to its author */
    }
    if (client->received >= document->sent) {
        fail("an update that nobody wrote", client);
        return;
    }
    if (tp_slice_equal(bytes, tp_buffer_slice(expected))) {
        delivered(client, document);
        return;
    }
    /* Other bytes: several updates in one, or the same in another form. */
    if (tp_update_validate(bytes, encoding_of(), NULL, &range, 1, &info) != TP_OK ||
        info.range_count != 1 || range.client != WRITER_ID + client->document ||
        range.from != client->received * options.size || range.gapless_to != range.to ||
        range.to % options.size != 0) {
        fail("not the update that comes next", client);
        return;
    }
    for (uint64_t clock = range.from; clock < range.to; clock += options.size)
        delivered(client, document);
}

/* Awareness: the newest state counts; a server may leave out what it replaces. */
static void cursor_moved(struct load_client *client, struct tp_slice bytes)
{
    struct document *document = &documents[client->document];
    const uint8_t *at = memmem(bytes.data, bytes.size, "{\"cursor\":", 10);

    if (at == NULL || client == document->writer)
        return;
    const uint64_t number = strtoull((const char *)at + 10, NULL, 10);
    if (number < client->received || number >= document->sent) {
        fail("a cursor out of order", client);
        return;
    }
    while (client->received <= number)
        delivered(client, document);
}

static void typing_message(struct load_client *client, struct tp_slice payload, uint8_t opcode)
{
    struct load_message message;

    if (opcode != 2)
        return;
    if (load_decode(options.dialect, payload, &message) != TP_OK) {
        fail("a message that cannot be decoded", client);
        return;
    }
    switch (message.kind) {
    case LOAD_STEP_1:
        answer_step_1(client);
        break;
    case LOAD_STEP_2:
        if (client->phase == LOAD_OPEN) {
            client->phase = LOAD_SYNCED;
            synced_count++;
        }
        break;
    case LOAD_UPDATE:
        if (!measuring && message.bytes.size <= 13) /* an empty answer passed on */
            break;
        typing_update(client, message.bytes);
        break;
    case LOAD_AWARENESS:
        if (options.awareness && measuring)
            cursor_moved(client, message.bytes);
        break;
    case LOAD_REFUSED:
        fail("the server refused a message", client);
        break;
    default:
        break;
    }
}

static const struct load_workload typing = {"typing", opened, typing_message, closed_by_server};

/* ---- the run ------------------------------------------------------------------------------------
 */

static bool everybody_synced(void)
{
    return synced_count == load.client_count;
}

/* Connects at most this many at a time, so that no listen queue overflows. */
static void connect_all(void)
{
    const uint64_t until_ns = load_clock_ns() + (uint64_t)(options.timeout_s * 1e9);
    uint32_t next = 0;

    while (!everybody_synced() && failure[0] == 0) {
        while (next < load.client_count && next - synced_count < 256)
            load_connect(&load.clients[next++]);
        load_turn(&load, 10000000);
        if (load_clock_ns() > until_ns) {
            snprintf(failure, sizeof failure, "only %" PRIu64 " of %u clients were synced in time",
                     synced_count, load.client_count);
            return;
        }
    }
}

static void settle(double seconds)
{
    const uint64_t until_ns = load_clock_ns() + (uint64_t)(seconds * 1e9);

    while (load_clock_ns() < until_ns && failure[0] == 0)
        load_turn(&load, 10000000);
}

static bool all_completed(void)
{
    for (uint32_t i = 0; i < options.documents; i++)
        if (documents[i].completed < documents[i].sent || documents[i].sent < total_updates)
            return false;
    return true;
}

/* Until `updates` more per document are delivered. */
static void type(uint64_t updates)
{
    const uint64_t start_ns = load_clock_ns();
    const uint64_t until_ns = start_ns + (uint64_t)(options.timeout_s * 1e9);
    const double per_document = options.rate / options.subscribers / options.documents;
    const uint64_t interval_ns = options.rate > 0 ? (uint64_t)(1e9 / per_document) : 0;

    total_updates = documents[0].sent + updates;
    measuring = true;
    load.now_ns = start_ns;
    for (uint32_t i = 0; i < options.documents; i++) {
        documents[i].next_ns = start_ns + interval_ns * i / options.documents;
        write_more(&documents[i]);
    }
    while (!all_completed() && failure[0] == 0) {
        uint64_t wait_ns = 10000000;
        const uint64_t now_ns = load_clock_ns();
        for (uint32_t i = 0; interval_ns > 0 && i < options.documents; i++) {
            struct document *document = &documents[i];
            while (document->sent < total_updates && document->next_ns <= now_ns &&
                   document->sent - document->completed < IN_FLIGHT_MAX) {
                write_one(document, document->next_ns);
                document->next_ns += interval_ns;
            }
            if (document->sent < total_updates)
                wait_ns =
                    tp_min(wait_ns, document->next_ns > now_ns ? document->next_ns - now_ns : 1000);
        }
        load_turn(&load, wait_ns);
        if (load.now_ns > until_ns)
            snprintf(failure, sizeof failure, "not all updates were delivered in time");
    }
}

/* A newcomer's state vector is what was written. */
static struct load_client *checker;
static bool checker_done;

static void check_message(struct load_client *client, struct tp_slice payload, uint8_t opcode)
{
    struct load_message message;
    struct tp_update_range range;
    struct tp_update_info info;

    if (opcode != 2 || client != checker ||
        load_decode(options.dialect, payload, &message) != TP_OK || message.kind != LOAD_STEP_2)
        return;
    const uint64_t wanted = documents[client->document].sent * options.size;
    if (tp_update_validate(message.bytes, encoding_of(), NULL, &range, 1, &info) != TP_OK ||
        info.range_count != 1 || range.from != 0 || range.gapless_to != wanted)
        fail("the server's state is not what was written", client);
    checker_done = true;
}

static const struct load_workload check = {"check", opened, check_message, NULL};

static void check_states(void)
{
    if (options.awareness || options.stateless)
        return;
    load.workload = &check;
    for (uint32_t i = 0; i < options.documents && i < 100 && failure[0] == 0; i++) {
        const uint64_t until_ns = load_clock_ns() + 10 * SECOND_NS;
        checker = documents[i].writer;
        checker_done = false;
        say(checker, LOAD_STEP_1, tp_slice_of("\0", 1));
        while (!checker_done && failure[0] == 0) {
            load_turn(&load, 10000000);
            if (load.now_ns > until_ns)
                fail("no answer to a state vector", checker);
        }
    }
}

struct figures {
    double seconds, cpu_seconds;
    uint64_t deliveries;
    struct process_usage before, after;
};

static void print(const struct figures *figures)
{
    const double per_second = (double)figures->deliveries / figures->seconds;
    const double cpu_per_million = figures->cpu_seconds / ((double)figures->deliveries / 1e6);
    const double switches =
        (double)(figures->after.switches - figures->before.switches) / (double)figures->deliveries;

    printf(
        "%-12s %-10s %u x %u window %u rate %.0f: %10.0f deliveries/s  p50 %8.0f us  p99 %8.0f us"
        "  p99.9 %8.0f us  cpu %7.3f s/M  rss %6.1f MB  switches/delivery %.4f\n",
        options.label, options.workload, options.documents, options.subscribers, options.window,
        options.rate, per_second, histogram_us(&latencies, 0.5), histogram_us(&latencies, 0.99),
        histogram_us(&latencies, 0.999), cpu_per_million,
        (double)figures->after.resident_size / 1e6, switches);
    if (options.json)
        printf("{\"workload\":\"%s\",\"server\":\"%s\",\"documents\":%u,\"subscribers\":%u,"
               "\"window\":%u,\"rate\":%.0f,\"deliveries\":%" PRIu64
               ",\"deliveries_per_s\":%.0f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,"
               "\"cpu_s_per_million\":%.4f,\"rss\":%" PRIu64 ",\"switches_per_delivery\":%.4f}\n",
               options.workload, options.label, options.documents, options.subscribers,
               options.window, options.rate, figures->deliveries, per_second,
               histogram_us(&latencies, 0.5), histogram_us(&latencies, 0.99),
               histogram_us(&latencies, 0.999), cpu_per_million, figures->after.resident_size,
               switches);
}

static int run_typing(void)
{
    struct figures figures = {0};

    documents = calloc(options.documents, sizeof *documents);
    load.client_count = options.documents * (options.subscribers + 1);
    load.clients = calloc(load.client_count, sizeof *load.clients);
    load.workload = &typing;
    load_open(&load, options.host, options.port);
    for (uint32_t i = 0; i < load.client_count; i++) {
        load.clients[i].document = i / (options.subscribers + 1);
        if (i % (options.subscribers + 1) == 0)
            documents[load.clients[i].document].writer = &load.clients[i];
    }
    for (uint32_t i = 0; i < options.documents; i++)
        for (uint32_t k = 0; k < IN_FLIGHT_MAX; k++)
            documents[i].updates[k] = tp_buffer_growing(1 << 16);

    connect_all();
    settle(0.3);
    type(tp_max(options.updates / 10, 1)); /* warm-up */
    settle(0.1);
    memset(&latencies, 0, sizeof latencies);
    const uint64_t before = deliveries;
    figures.before = process_usage(options.pid);
    const uint64_t start_ns = load_clock_ns();
    type(options.updates);
    figures.seconds = (double)(load_clock_ns() - start_ns) / 1e9;
    settle(0.05);
    figures.after = process_usage(options.pid);
    figures.cpu_seconds = (double)(figures.after.cpu_ns - figures.before.cpu_ns) / 1e9;
    figures.deliveries = deliveries - before;
    if (failure[0] == 0 &&
        figures.deliveries != options.updates * options.subscribers * options.documents)
        snprintf(failure, sizeof failure, "%" PRIu64 " deliveries instead of %" PRIu64,
                 figures.deliveries, options.updates * options.subscribers * options.documents);
    check_states();
    if (failure[0] == 0)
        print(&figures);
    return failure[0] == 0 ? 0 : 1;
}

/* ---- connect: clients one after another, connect + sync + close
 * ---------------------------------- */

static uint64_t connect_done;

static void connect_message(struct load_client *client, struct tp_slice payload, uint8_t opcode)
{
    struct load_message message;

    if (opcode != 2 || client->phase != LOAD_OPEN)
        return;
    if (load_decode(options.dialect, payload, &message) != TP_OK)
        fail("a message that cannot be decoded", client);
    if (message.kind != LOAD_STEP_2)
        return;
    histogram_add(&latencies, load.now_ns - client->started_ns);
    synced_count++;
    client->phase = LOAD_SYNCED;
    load_disconnect(client);
}

static void connect_closed(struct load_client *client)
{
    if (client->phase == LOAD_CLOSED)
        connect_done++;
}

static const struct load_workload connecting = {"connect", opened, connect_message, connect_closed};

static int run_connect(void)
{
    uint32_t next = 0;

    load.client_count = options.clients;
    load.clients = calloc(load.client_count, sizeof *load.clients);
    load.workload = &connecting;
    load_open(&load, options.host, options.port);
    for (uint32_t i = 0; i < load.client_count; i++)
        load.clients[i].document = i % options.documents;
    const struct process_usage before = process_usage(options.pid);
    const uint64_t start_ns = load_clock_ns();
    while (synced_count < load.client_count && failure[0] == 0) {
        while (next < load.client_count && next - connect_done < options.window)
            load_connect(&load.clients[next++]);
        load_turn(&load, 10000000);
        for (uint32_t i = next > 512 ? next - 512 : 0; i < next; i++)
            if (load.clients[i].phase == LOAD_CLOSED && load.clients[i].fd >= 0 &&
                !load.clients[i].receiving && !load.clients[i].sending) {
                close(load.clients[i].fd);
                load.clients[i].fd = -1;
            }
        if (load.now_ns - start_ns > (uint64_t)(options.timeout_s * 1e9))
            snprintf(failure, sizeof failure, "only %" PRIu64 " were synced in time", synced_count);
    }
    const double seconds = (double)(load_clock_ns() - start_ns) / 1e9;
    settle(0.2);
    const struct process_usage after = process_usage(options.pid);
    if (failure[0] == 0)
        printf(
            "%-12s connect    %u clients: %8.0f /s  p50 %8.0f us  p99 %8.0f us  cpu %7.1f us each"
            "  rss %6.1f MB\n",
            options.label, load.client_count, load.client_count / seconds,
            histogram_us(&latencies, 0.5), histogram_us(&latencies, 0.99),
            (double)(after.cpu_ns - before.cpu_ns) / 1e3 / load.client_count,
            (double)after.resident_size / 1e6);
    return failure[0] == 0 ? 0 : 1;
}

/* ---- idle: hold connections and weigh the server
 * ------------------------------------------------- */

static int run_idle(void)
{
    load.client_count = options.clients;
    load.clients = calloc(load.client_count, sizeof *load.clients);
    load.workload = &typing;
    documents = calloc(options.documents, sizeof *documents);
    load_open(&load, options.host, options.port);
    for (uint32_t i = 0; i < load.client_count; i++)
        load.clients[i].document = i % options.documents;
    const uint32_t all = load.client_count;
    load.client_count = (uint32_t)tp_min(all, 1000);
    connect_all();
    settle(1);
    const struct process_usage before = process_usage(options.pid);
    const uint32_t first = load.client_count;
    for (uint32_t i = first; i < all && failure[0] == 0; i++) {
        load_connect(&load.clients[i]);
        while (i - synced_count > 200 && failure[0] == 0)
            load_turn(&load, 1000000);
    }
    load.client_count = all;
    while (!everybody_synced() && failure[0] == 0)
        load_turn(&load, 10000000);
    settle(options.seconds);
    const struct process_usage after = process_usage(options.pid);
    if (failure[0] == 0)
        printf(
            "%-12s idle       %u clients on %u documents: %.0f bytes each beyond the first %u, rss "
            "%.1f MB, cpu %.3f s\n",
            options.label, all, options.documents,
            (double)((int64_t)after.resident_size - (int64_t)before.resident_size) /
                (double)tp_max(all - first, 1),
            first, (double)after.resident_size / 1e6, (double)(after.cpu_ns - before.cpu_ns) / 1e9);
    return failure[0] == 0 ? 0 : 1;
}

/* ---- command line
 * -------------------------------------------------------------------------------- */

static void usage(FILE *out)
{
    fprintf(
        out,
        "load --server HOST:PORT [options] typing|cursors|connect|idle\n"
        "  --pid PID            the server's process, for CPU and memory\n"
        "  --dialect NAME       ywebsocket (default), teleportal, hocuspocus\n"
        "  --documents N        documents (1)\n"
        "  --subscribers N      readers of each document beside its writer (100)\n"
        "  --window N           updates in flight per document, closed loop (16)\n"
        "  --updates N          measured updates per document (1000), after a tenth of warm-up\n"
        "  --rate N             open loop: deliveries per second over all documents\n"
        "  --size N             characters per update (64)\n"
        "  --clients N          for connect and idle (1000)\n"
        "  --seconds S          for idle (10)\n"
        "  --sources N          connect from 127.0.0.1 to 127.0.0.N (1)\n"
        "  --path PATH          before the document's name (/)\n"
        "  --prefix TEXT        of document names (load)\n"
        "  --label TEXT         the server's name in the table\n"
        "  --timeout S          give up after this long (120)\n"
        "  --stateless          the server keeps no documents (the floor): do not ask for their "
        "state\n"
        "  --json               a JSON line too\n");
}

static bool parse_server(const char *text)
{
    static char host[64];
    const char *colon = strrchr(text, ':');

    if (colon == NULL || (size_t)(colon - text) >= sizeof host)
        return false;
    memcpy(host, text, (size_t)(colon - text));
    options.host = host;
    options.port = (uint16_t)atoi(colon + 1);
    return options.port != 0;
}

int main(int argc, char *argv[])
{
    enum {
        SERVER = 1000,
        PID,
        DIALECT,
        DOCUMENTS,
        SUBSCRIBERS,
        WINDOW,
        UPDATES,
        RATE,
        SIZE,
        CLIENTS,
        SECONDS,
        SOURCES,
        PATH,
        PREFIX,
        LABEL,
        TIMEOUT,
        JSON,
        STATELESS,
        HELP
    };
    static const struct option longs[] = {{"server", 1, NULL, SERVER},
                                          {"pid", 1, NULL, PID},
                                          {"dialect", 1, NULL, DIALECT},
                                          {"documents", 1, NULL, DOCUMENTS},
                                          {"subscribers", 1, NULL, SUBSCRIBERS},
                                          {"window", 1, NULL, WINDOW},
                                          {"updates", 1, NULL, UPDATES},
                                          {"rate", 1, NULL, RATE},
                                          {"size", 1, NULL, SIZE},
                                          {"clients", 1, NULL, CLIENTS},
                                          {"seconds", 1, NULL, SECONDS},
                                          {"sources", 1, NULL, SOURCES},
                                          {"path", 1, NULL, PATH},
                                          {"prefix", 1, NULL, PREFIX},
                                          {"label", 1, NULL, LABEL},
                                          {"timeout", 1, NULL, TIMEOUT},
                                          {"json", 0, NULL, JSON},
                                          {"stateless", 0, NULL, STATELESS},
                                          {"help", 0, NULL, HELP},
                                          {0}};
    bool good = true;
    int option;

    load.path = "/";
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (option) {
        case SERVER:
            good &= parse_server(optarg);
            break;
        case PID:
            options.pid = atoi(optarg);
            break;
        case DIALECT:
            options.dialect = *optarg == 't'   ? LOAD_TELEPORTAL
                              : *optarg == 'h' ? LOAD_HOCUSPOCUS
                                               : LOAD_YWEBSOCKET;
            break;
        case DOCUMENTS:
            options.documents = (uint32_t)atoi(optarg);
            break;
        case SUBSCRIBERS:
            options.subscribers = (uint32_t)atoi(optarg);
            break;
        case WINDOW:
            options.window = (uint32_t)atoi(optarg);
            break;
        case UPDATES:
            options.updates = (uint64_t)atoll(optarg);
            break;
        case RATE:
            options.rate = atof(optarg);
            break;
        case SIZE:
            options.size = (uint32_t)atoi(optarg);
            break;
        case CLIENTS:
            options.clients = (uint32_t)atoi(optarg);
            break;
        case SECONDS:
            options.seconds = atof(optarg);
            break;
        case SOURCES:
            options.sources = (uint32_t)atoi(optarg);
            break;
        case PATH:
            load.path = optarg;
            break;
        case PREFIX:
            options.prefix = optarg;
            break;
        case LABEL:
            options.label = optarg;
            break;
        case TIMEOUT:
            options.timeout_s = atof(optarg);
            break;
        case JSON:
            options.json = true;
            break;
        case STATELESS:
            options.stateless = true;
            break;
        case HELP:
            usage(stdout);
            return 0;
        default:
            good = false;
        }
    }
    good &= options.host != NULL && optind == argc - 1 && options.documents > 0 &&
            options.subscribers > 0 && options.window > 0 && options.window <= IN_FLIGHT_MAX &&
            options.size > 0 && options.size <= 2048;
    if (!good) {
        usage(stderr);
        return 2;
    }
    options.workload = argv[optind];
    load.dialect = options.dialect;
    load.document_name = document_name;
    load.source_count = options.sources;

    int code = 2;
    if (strcmp(options.workload, "typing") == 0) {
        code = run_typing();
    } else if (strcmp(options.workload, "cursors") == 0) {
        options.awareness = true;
        code = run_typing();
    } else if (strcmp(options.workload, "connect") == 0) {
        code = run_connect();
    } else if (strcmp(options.workload, "idle") == 0) {
        code = run_idle();
    } else {
        usage(stderr);
    }
    if (failure[0] != 0)
        fprintf(stderr, "load: %s %s: %s\n", options.label, options.workload, failure);
    load_close(&load);
    return code;
}
