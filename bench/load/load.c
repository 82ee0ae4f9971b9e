/* bench/load/load.c - load on a server, verified.
 *
 *     load --server HOST:PORT [--pid PID] [--dialect ywebsocket|teleportal|hocuspocus] WORKLOAD ...
 *
 * Each workload checks what it receives: every subscriber got every update exactly once and in the
 * writer's order, every update was acknowledged where the dialect does that, and the server's state
 * at the end is what was written. A run that fails the check prints the reason instead of figures
 * and exits 1. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "load/run.h"

#define UNSET UINT32_MAX

/* ---- workloads and what they are by default ---- */

static void prepare_typing(void)
{
}

static void prepare_cursors(void)
{
    options.awareness = true;
}

static void prepare_paste(void)
{
    if (options.size == UNSET)
        options.size = 262144;
    if (options.subscribers == UNSET)
        options.subscribers = 20;
    if (options.window == UNSET)
        options.window = 1;
    if (options.updates == UNSET)
        options.updates = 40;
}

static void prepare_slow(void)
{
    if (options.subscribers == UNSET)
        options.subscribers = 200;
    if (options.stuck == UNSET)
        options.stuck = 100;
    if (options.rate == 0)
        options.rate = 20000;
}

static void prepare_sync(void)
{
    if (options.document_size == UNSET)
        options.document_size = 1 << 20;
    if (options.window == UNSET)
        options.window = 4;
    if (options.clients == UNSET)
        options.clients = 500;
}

static void prepare_connect(void)
{
    if (options.document_size == UNSET)
        options.document_size = 0;
}

static void prepare_storm(void)
{
    prepare_connect();
    options.hold = true;
    if (options.clients == UNSET)
        options.clients = 1000;
    options.window = options.clients;
}

static void prepare_join(void)
{
    options.hold = true;
    if (options.document_size == UNSET)
        options.document_size = 20 << 20;
    if (options.clients == UNSET)
        options.clients = 150;
    options.window = options.clients;
}

static void prepare_reconnect(void)
{
    if (options.document_size == UNSET)
        options.document_size = 4096;
    if (options.updates == UNSET)
        options.updates = 10;
    prepare_storm();
}

static const struct workload {
    const char *name;
    void (*prepare)(void);
    void (*run)(void);
    const char *help;
} workloads[] = {
    {"typing", prepare_typing, run_typing, "writers type, subscribers of their documents follow"},
    {"cursors", prepare_cursors, run_typing, "the same with awareness"},
    {"paste", prepare_paste, run_typing, "the same with updates of 256 KiB"},
    {"slow", prepare_slow, run_typing, "the same beside subscribers that stop to read (--stuck)"},
    {"connect", prepare_connect, run_sync, "connect, sync, leave; --window at a time"},
    {"storm", prepare_storm, run_sync, "all clients connect at once, and stay"},
    {"sync", prepare_sync, run_sync, "open a stored document, leave; --window at a time"},
    {"join", prepare_join, run_sync, "all clients open one large document at once"},
    {"fill", prepare_sync, run_sync, "write the documents that a later run opens (--filled)"},
    {"reconnect", prepare_reconnect, run_reconnect,
     "all clients lose their connection and come back at once; something was written meanwhile"},
    {"idle", prepare_connect, run_idle, "hold connections and weigh the server"},
};

/* ---- options ---- */

enum kind { NUMBER, BIG, REAL, TEXT, FLAG, SERVER, DIALECT, HELP };

static const char *disk_directory;

static const struct entry {
    const char *name;
    enum kind kind;
    void *to;
    const char *help;
} entries[] = {
    {"server", SERVER, NULL, "HOST:PORT"},
    {"dialect", DIALECT, NULL, "ywebsocket (default), teleportal, hocuspocus"},
    {"path", TEXT, &load.path, "before the document's name (/)"},
    {"tls", FLAG, &options.tls, "wss://, whoever the server is"},
    {"pid", NUMBER, &options.pid, "the server's process, for CPU, memory and system calls"},
    {"metrics", FLAG, &options.metrics, "ask the server's /metrics for its counters, too"},
    {"documents", NUMBER, &options.documents, "documents (1)"},
    {"writers", NUMBER, &options.writers, "of each document (1)"},
    {"subscribers", NUMBER, &options.subscribers, "of each document beside its writers (100)"},
    {"window", NUMBER, &options.window,
     "closed loop: updates in flight per writer (16); clients at a time"},
    {"zipf", REAL, &options.zipf,
     "documents are popular by this exponent, the window is that of all; 0: all alike"},
    {"rate", REAL, &options.rate, "open loop: deliveries offered per second over all documents"},
    {"updates", BIG, &options.updates, "measured updates per document (1000), after a tenth"},
    {"seconds", REAL, &options.seconds, "open loop: in place of --updates; idle, disk (10)"},
    {"size", NUMBER, &options.size, "characters per update (64)"},
    {"multiplex", NUMBER, &options.multiplex, "documents that share a connection (1)"},
    {"stuck", NUMBER, &options.stuck, "subscribers of each document that stop to read (0)"},
    {"idle", NUMBER, &options.idle, "connections beside that do nothing (0)"},
    {"clients", NUMBER, &options.clients, "that connect (1000)"},
    {"document-size", BIG, &options.document_size, "characters that documents start with; k, m"},
    {"structs", NUMBER, &options.structs, "in how many pieces that no server can join (0: typed)"},
    {"filled", FLAG, &options.filled, "the documents are there already, from fill"},
    {"cold", FLAG, &options.cold, "open nothing before the measured clients do"},
    {"early", FLAG, &options.early,
     "the server says step 2 before it has loaded: synced is who has all, whenever it comes"},
    {"sources", NUMBER, &options.sources, "connect from 127.0.0.1 to 127.0.0.N (1)"},
    {"prefix", TEXT, &options.prefix, "of document names (new ones for each run)"},
    {"stateless", FLAG, &options.stateless, "the server keeps no documents (the floor)"},
    {"label", TEXT, &options.label, "the server's name in the report"},
    {"timeout", REAL, &options.timeout_s, "seconds until a phase is given up (120)"},
    {"json", FLAG, &options.json, "one JSON line instead of a list"},
    {"disk", TEXT, &disk_directory, "no server: what fdatasync takes in this directory"},
    {"help", HELP, NULL, "this"},
};
#define ENTRY_COUNT (sizeof entries / sizeof *entries)

static void usage(FILE *out)
{
    fprintf(out, "load --server HOST:PORT [options] WORKLOAD\n");
    for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++)
        fprintf(out, "  %-16s %s\n", workloads[i].name, workloads[i].help);
    for (size_t i = 0; i < ENTRY_COUNT; i++)
        fprintf(out, "  --%-14s %s\n", entries[i].name, entries[i].help);
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

static bool parse_big(const char *text, uint64_t *to)
{
    char *end;

    *to = strtoull(text, &end, 10);
    if (*end == 'k' || *end == 'm')
        *to <<= *end++ == 'k' ? 10 : 20;
    return end != text && *end == 0;
}

static bool take_option(const struct entry *entry, const char *value)
{
    uint64_t number;

    switch (entry->kind) {
    case NUMBER:
        if (!parse_big(value, &number) || number >= UNSET)
            return false;
        *(uint32_t *)entry->to = (uint32_t)number;
        return true;
    case BIG:
        return parse_big(value, entry->to);
    case REAL:
        *(double *)entry->to = strtod(value, NULL);
        return true;
    case TEXT:
        *(const char **)entry->to = value;
        return true;
    case FLAG:
        *(bool *)entry->to = true;
        return true;
    case SERVER:
        return parse_server(value);
    case DIALECT:
        options.dialect = *value == 't'   ? LOAD_TELEPORTAL
                          : *value == 'h' ? LOAD_HOCUSPOCUS
                                          : LOAD_YWEBSOCKET;
        return *value == 't' || *value == 'h' || *value == 'y';
    case HELP:
        usage(stdout);
        exit(0);
    }
    return false;
}

static bool parse_options(int argc, char *argv[])
{
    struct option longs[ENTRY_COUNT + 1] = {0};
    bool good = true;
    int index;

    for (size_t i = 0; i < ENTRY_COUNT; i++)
        longs[i] = (struct option){
            .name = entries[i].name,
            .has_arg = entries[i].kind != FLAG && entries[i].kind != HELP,
        };
    while (good && getopt_long(argc, argv, "", longs, &index) != -1)
        good = optopt == 0 && take_option(&entries[index], optarg);
    return good;
}

static void defaults(void)
{
    static char prefix[32];

    snprintf(prefix, sizeof prefix, "load%08x", (unsigned)(load_clock_ns() >> 16));
    options = (struct options){.documents = 1,
                               .writers = 1,
                               .subscribers = UNSET,
                               .window = UNSET,
                               .size = UNSET,
                               .sources = 1,
                               .clients = UNSET,
                               .multiplex = 1,
                               .stuck = UNSET,
                               .updates = UNSET,
                               .document_size = UNSET,
                               .seconds = 0,
                               .timeout_s = 120,
                               .zipf = -1,
                               .label = "server",
                               .prefix = prefix};
    load.path = "/";
}

static void default_to(uint32_t *option, uint32_t value)
{
    if (*option == UNSET)
        *option = value;
}

static const struct workload *prepare(const char *name)
{
    for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++) {
        if (strcmp(workloads[i].name, name) != 0)
            continue;
        workloads[i].prepare();
        default_to(&options.subscribers, 100);
        default_to(&options.window, 16);
        default_to(&options.size, 64);
        default_to(&options.clients, 1000);
        default_to(&options.stuck, 0);
        if (options.document_size == UNSET)
            options.document_size = 0;
        if (options.rate > 0 && options.seconds > 0)
            options.updates =
                (uint64_t)(options.rate * options.seconds / options.documents /
                           (options.subscribers + options.writers - 1 - options.stuck));
        if (options.updates == UNSET)
            options.updates = 1000;
        if (options.seconds <= 0)
            options.seconds = 10;
        return &workloads[i];
    }
    return NULL;
}

/* What cannot be, or not together. */
static bool sensible(const struct workload *workload)
{
    const bool is_fill = workload->run == run_sync && strcmp(workload->name, "fill") == 0;

    return options.host != NULL && options.documents > 0 && options.writers > 0 &&
           options.writers <= 64 && options.window > 0 && options.size > 0 &&
           options.size <= (1 << 22) && options.clients > 0 && options.multiplex > 0 &&
           options.updates > 0 && options.subscribers + options.writers > 1 &&
           options.stuck <= options.subscribers &&
           options.stuck < options.subscribers + options.writers - 1 &&
           (options.multiplex == 1 || options.dialect != LOAD_YWEBSOCKET) &&
           (options.zipf <= 0 || (options.multiplex == 1 && options.stuck == 0)) &&
           (workload->run != run_reconnect || options.document_size > 0) &&
           (!is_fill || options.document_size > 0);
}

int main(int argc, char *argv[])
{
    const struct workload *workload = NULL;

    defaults();
    if (parse_options(argc, argv) && disk_directory != NULL && optind == argc) {
        options.workload = "disk";
        options.seconds = options.seconds > 0 ? options.seconds : 10;
        run_disk(disk_directory);
        return report_end();
    }
    if (optind == argc - 1)
        workload = prepare(argv[optind]);
    if (workload == NULL || !sensible(workload)) {
        usage(stderr);
        return 2;
    }
    options.workload = workload->name;
    load.dialect = options.dialect;
    load.document_name = document_name;
    load.source_count = options.sources;
    if (options.tls) {
        char error[256];
        load.tls = tp_tls_client_context_create(NULL, error, sizeof error);
        TP_ASSERT(load.tls != NULL);
    }
    workload->run();
    load_close(&load);
    return report_end();
}
