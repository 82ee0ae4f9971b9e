#include "node/config.h"

#include "bridge/bridge.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

enum type {
    TYPE_ADDRESSES, /* HOST:PORT, several; those of a higher source replace those of a lower one */
    TYPE_ADDRESS,   /* one of them, or off, which is empty */
    TYPE_TEXT,
    TYPE_PATHS,  /* several, separated by commas */
    TYPE_WORD,   /* any text of one line */
    TYPE_SECRET, /* a text that is never printed, not even in a refusal */
    TYPE_URL_PATH,
    TYPE_ORIGINS, /* "*", or web origins; kept with one blank between them */
    TYPE_RATES,   /* struct tp_rate_rules */
    TYPE_RANGES,  /* struct tp_address_ranges */
    TYPE_NODES,   /* struct tp_route */
    TYPE_COUNT,
    TYPE_COUNT_OR_AUTO, /* auto is 0 */
    TYPE_SIZE,          /* bytes; k, M and G stand for 2^10, 2^20 and 2^30 */
    TYPE_CHOICE,        /* its position among `choices` */
    TYPE_SWITCH,
};

struct option {
    const char *name;
    enum type type;
    size_t offset;        /* in struct tp_config */
    uint64_t min, max;    /* of counts and sizes */
    const char *choices;  /* of TYPE_CHOICE: a|b|c */
    const char *standard; /* the default, as one would write it */
    const char *sentence;
};

#define AT(field) offsetof(struct tp_config, field)

static const struct option options[] = {
    {"listen", TYPE_ADDRESSES, AT(listen), 0, 0, NULL, "127.0.0.1:1234",
     "Address to serve clients on; may be given several times. With tls:// before it, clients "
     "speak TLS there (https, wss)."},
    {"tls_certificate", TYPE_TEXT, AT(tls_certificate), 0, 0, NULL, "",
     "PEM file with the server's certificate and those between it and the authority."},
    {"tls_key", TYPE_TEXT, AT(tls_key), 0, 0, NULL, "",
     "PEM file with the certificate's key; ECDSA is faster than RSA."},
    {"admin", TYPE_ADDRESS, AT(admin), 0, 0, NULL, "127.0.0.1:9180",
     "Address to manage the server at: metrics, status, health, and the API below /v1."},
    {"admin_token_file", TYPE_TEXT, AT(admin_token_file), 0, 0, NULL, "",
     "File with the token that management requests must show (Authorization: Bearer); SIGHUP reads "
     "it again. Needed for the API when auth is jwt, and for an address that others can reach."},
    {"webhook_url", TYPE_WORD, AT(webhook_url), 0, 0, NULL, "",
     "Where to post what happens to documents, as http:// or https://; empty: nowhere."},
    {"webhook_secret_file", TYPE_TEXT, AT(webhook_secret_file), 0, 0, NULL, "",
     "File with the secret that posts are signed with, of at least 16 bytes."},
    {"webhook_events", TYPE_WORD, AT(webhook_events), 0, 0, NULL,
     "created,deleted,size-warning,size-limit",
     "What is posted: created, loaded, unloaded, size-warning, size-limit, deleted."},
    {"config", TYPE_TEXT, AT(config), 0, 0, NULL, "",
     "File to read options from, one `name = value` a line."},
    {"data", TYPE_TEXT, AT(data), 0, 0, NULL, "./teleportald-data",
     "Directory of the database; under systemd the default is the unit's state directory."},
    {"cores", TYPE_COUNT_OR_AUTO, AT(cores), 1, 240, NULL, "auto",
     "Number of server threads; auto is one per CPU that affinity and cgroup quota allow."},
    {"durability", TYPE_CHOICE, AT(durability), 0, 0, "memory|os|disk", "disk",
     "When an edit counts as saved: once taken (memory), once the kernel has it (os, survives a "
     "crash of the server), or once it is synced (disk, survives power loss)."},
    {"worker_threads", TYPE_COUNT, AT(worker_threads), 1, 64, NULL, "2",
     "Threads for long computations and reads from disk."},
    {"public_metrics", TYPE_SWITCH, AT(public_metrics), 0, 0, NULL, "off",
     "Whether /metrics and /status are served to everyone who can connect."},
    {"log_level", TYPE_CHOICE, AT(log_level), 0, 0, "error|warn|info|debug", "info",
     "The least severe events that are logged."},
    {"log_json", TYPE_SWITCH, AT(log_json), 0, 0, NULL, "off",
     "Whether log lines are JSON objects instead of text."},
    {"teleportal_path", TYPE_URL_PATH, AT(teleportal_path), 0, 0, NULL, "/teleportal",
     "URL path of Teleportal clients."},
    {"yjs_path", TYPE_URL_PATH, AT(yjs_path), 0, 0, NULL, "/yjs",
     "URL path of y-websocket clients; the document's name follows it."},
    {"cors_origins", TYPE_ORIGINS, AT(cors_origins), 0, 0, NULL, "",
     "Web origins whose pages may use the HTTP transports (/sse, /message) from a browser."},
    {"max_message_size", TYPE_SIZE, AT(max_message_size), KIB, GIB, NULL, "10M",
     "Largest message of a Teleportal client; a larger one is refused."},
    {"max_update_bytes", TYPE_SIZE, AT(max_update_bytes), KIB, GIB, NULL, "64M",
     "Largest Yjs update; a larger one is refused. y-websocket clients cannot split what they "
     "wrote offline."},
    {"file_chunk_size", TYPE_SIZE, AT(file_chunk_size), 64, 4 * MIB, NULL, "1M",
     "What Teleportal clients cut files into, with what encryption adds; never more than 2k below "
     "max_message_size. Unfinished uploads begin anew when it is changed."},
    {"max_file_size", TYPE_SIZE, AT(max_file_size), 0, 64 * GIB, NULL, "1G",
     "Largest file that is taken, and 65536 chunks of it at most; a larger one is refused."},
    {"max_document_files_size", TYPE_SIZE, AT(max_document_files_size), 0, 1024 * GIB, NULL, "64G",
     "Bytes of all files of a document together; above that, uploads are refused. 0: any number."},
    {"max_unfinished_uploads", TYPE_COUNT, AT(max_unfinished_uploads), 1, 4096, NULL, "64",
     "Uploads that one user may have begun and not finished; without authentication, those of one "
     "document."},
    {"upload_expiry_seconds", TYPE_COUNT, AT(upload_expiry_seconds), 1, 31536000, NULL, "86400",
     "How long an unfinished upload is kept after its last chunk has come."},
    {"document_size_warning", TYPE_SIZE, AT(document_size_warning), 0, 64 * GIB, NULL, "0",
     "Bytes of a document's content from which on it is told of in the log and by webhook; 0: "
     "never."},
    {"document_size_limit", TYPE_SIZE, AT(document_size_limit), 0, 64 * GIB, NULL, "0",
     "Bytes of a document's content above which nothing is taken in that makes it larger; 0: no "
     "limit."},
    {"max_connections", TYPE_COUNT, AT(max_connections), 1, 1000000, NULL, "20000",
     "Connections per core; above that, clients are told to come back later (503)."},
    {"max_connections_per_address", TYPE_COUNT, AT(max_connections_per_address), 0, 1000000, NULL,
     "4000",
     "Connections per core from one IP address, or one /64 of IPv6; above that, its clients are "
     "told to come back later (503). Many users may sit behind one address. 0: any number."},
    {"max_handshakes_per_address", TYPE_COUNT, AT(max_handshakes_per_address), 0, 1000000, NULL,
     "200",
     "Clients per core and second that one IP address, or one /64 of IPv6, may connect, and ten "
     "times that at once; more are told to come back later (503). 0: any number."},
    {"trusted_proxies", TYPE_RANGES, AT(trusted_proxies), 0, 0, NULL, "127.0.0.0/8,::1",
     "Proxies, by address or range: limits by address go by the X-Forwarded-For that they write, "
     "and do not count them."},
    {"outbox_size", TYPE_SIZE, AT(outbox_size), 64 * KIB, GIB, NULL, "4M",
     "Bytes that may wait for one slow reader; above it, its updates of a document become one."},
    {"outbox_memory", TYPE_SIZE, AT(outbox_memory), MIB, 1024 * GIB, NULL, "512M",
     "Bytes per core that may wait for all readers together; above it, the slow ones may have 64k "
     "each, and new clients are told to come back later (503)."},
    {"receive_memory", TYPE_SIZE, AT(receive_memory), MIB, 1024 * GIB, NULL, "512M",
     "Memory per core for messages half received; above it, who sends such a message is closed "
     "(1013)."},
    {"store_queue", TYPE_SIZE, AT(store_queue), 64 * KIB, 1024 * GIB, NULL, "64M",
     "Bytes per core on their way to the disk; above it, those who write are not read from until "
     "half of it is done."},
    {"session_memory", TYPE_SIZE, AT(session_memory), MIB, 1024 * GIB, NULL, "1G",
     "Memory per core for open documents; above it, those without clients close at once, and when "
     "that is not enough, new clients are told to come back later (503)."},
    {"store_memory", TYPE_SIZE, AT(store_memory), 8 * MIB, 1024 * GIB, NULL, "256M",
     "Memory for the database's caches and write buffers."},
    {"session_grace_seconds", TYPE_COUNT, AT(session_grace_seconds), 0, 86400, NULL, "60",
     "How long a document stays open after its last client has left."},
    {"compact_count", TYPE_COUNT, AT(compact_count), 2, 1000000, NULL, "128",
     "Updates in a document's log after which they are folded into its base."},
    {"compact_size", TYPE_SIZE, AT(compact_size), KIB, GIB, NULL, "256k",
     "Bytes in a document's log after which they are folded into its base."},
    {"keep_history", TYPE_SWITCH, AT(keep_history), 0, 0, NULL, "off",
     "Whether deleted content is kept when a document's log is folded."},
    {"attribution_push", TYPE_SWITCH, AT(attribution_push), 0, 0, NULL, "off",
     "Whether Teleportal clients are told of each update who made it; all may ask for it anyway."},
    {"milestone_updates", TYPE_COUNT, AT(milestone_updates), 0, 1000000000, NULL, "0",
     "Updates of a document after which the server makes a milestone of it; 0: never."},
    {"milestone_seconds", TYPE_COUNT, AT(milestone_seconds), 0, 31536000, NULL, "0",
     "Time since a document's last automatic milestone after which its next update makes one; 0: "
     "never."},
    {"milestone_event", TYPE_CHOICE, AT(milestone_event), 0, 0, "off|leave|empty", "off",
     "Makes a milestone of a document that was edited when one of its clients leaves, or when the "
     "last one does."},
    {"milestone_count_max", TYPE_COUNT, AT(milestone_count_max), 1, 100000, NULL, "1000",
     "Milestones of one document; above that, automatic ones replace the oldest of their kind, and "
     "clients are refused."},
    {"milestone_size_max", TYPE_SIZE, AT(milestone_size_max), KIB, 1024 * GIB, NULL, "512M",
     "Bytes that the milestones of one document may take; above that, as with their number."},
    {"auth", TYPE_CHOICE, AT(auth), 0, 0, "anonymous|jwt", "anonymous",
     "Who may come: everybody, with every right (anonymous), or who has a token (jwt)."},
    {"jwt_secret_file", TYPE_PATHS, AT(jwt_secret_file), 0, 0, NULL, "",
     "Files with one shared secret each, for tokens signed with HS256; SIGHUP reads them again."},
    {"jwks_file", TYPE_PATHS, AT(jwks_file), 0, 0, NULL, "",
     "Files with JSON Web Key Sets, for tokens signed with HS256, HS384, HS512, RS256, PS256, "
     "ES256 "
     "or EdDSA; SIGHUP reads them again."},
    {"jwt_secret", TYPE_SECRET, AT(jwt_secret), 0, 0, NULL, "",
     "A shared secret itself; a file is safer, since other users see command lines."},
    {"jwt_issuer", TYPE_WORD, AT(jwt_issuer), 0, 0, NULL, "teleportal",
     "What a token must have as `iss`; empty: anything."},
    {"jwt_audience", TYPE_WORD, AT(jwt_audience), 0, 0, NULL, "teleportal",
     "What a token must have as or among its `aud`; empty: anything."},
    {"jwt_leeway_seconds", TYPE_COUNT, AT(jwt_leeway_seconds), 0, 3600, NULL, "0",
     "How far clocks may differ: tokens are good that much earlier and longer."},
    {"allow_unrestricted_tokens", TYPE_SWITCH, AT(allow_unrestricted_tokens), 0, 0, NULL, "off",
     "Whether a token without `documentAccess` opens every document of its room."},
    {"token_expiry", TYPE_CHOICE, AT(token_expiry), 0, 0, "close|read-only", "close",
     "What happens to a connection whose token ends: it is closed and may come back with another, "
     "or "
     "it may go on reading what it has open."},
    {"rate_limits", TYPE_RATES, AT(rate_limits), 0, 0, NULL,
     "sync:user:300/1000,awareness:user:120/1000,file:user:5000/1000",
     "How many messages may come, as CLASS:BY:NUMBER/MILLISECONDS. CLASS is sync, awareness or "
     "file; BY is transport, user, document or user-document. Who has no user is counted by "
     "connection."},
    {"rate_max_delay_ms", TYPE_COUNT, AT(rate_max_delay_ms), 0, 60000, NULL, "1000",
     "How long a message above a limit is held back before it is refused with a time to come "
     "again."},
    {"rate_unlimited_users", TYPE_WORD, AT(rate_unlimited_users), 0, 0, NULL, "",
     "Users without rate limits: patterns with `*`, separated by commas."},
    {"request_seconds", TYPE_COUNT, AT(request_seconds), 1, 3600, NULL, "10",
     "How long the head of a request may take, and a pause within its body; then 408."},
    {"ping_seconds", TYPE_COUNT, AT(ping_seconds), 1, 3600, NULL, "25",
     "A WebSocket client that says nothing for this long is pinged."},
    {"dead_seconds", TYPE_COUNT, AT(dead_seconds), 1, 3600, NULL, "60",
     "A client that says nothing for this long, not even a pong, is disconnected; and so is one "
     "that asks for more than fits its outbox and reads nothing for this long."},
    {"cluster_nodes", TYPE_NODES, AT(cluster_nodes), 0, 0, NULL, "",
     "All nodes of the cluster and where clients reach them, the same text on each: /route then "
     "tells to which of them a document belongs. A node of weight 2 gets twice as many."},
    {"unready_seconds", TYPE_COUNT, AT(unready_seconds), 0, 3600, NULL, "0",
     "How long a stopping server says that it is not ready and still takes new clients, so that "
     "balancers notice first."},
    {"bridge", TYPE_SECRET, AT(bridge), 0, 0, NULL, "none",
     "How to reach the other nodes of a cluster: none, or redis://[[USER]:PASSWORD@]HOST[:PORT], "
     "or "
     "nats://[USER:PASSWORD@]HOST[:PORT], or "
     "multicast://GROUP[:PORT]?if=INTERFACE&ttl=N&mtu=BYTES&key_file=FILE."},
    {"node_id", TYPE_WORD, AT(node_id), 0, 0, NULL, "",
     "What the other nodes of a cluster know this one by, unique among them: letters, digits, `.`, "
     "`-` and `_`, at most 64. Empty: one is made, and kept in the data directory."},
    {"disk_reserve", TYPE_SIZE, AT(disk_reserve), 0, 1024 * GIB, NULL, "256M",
     "Bytes that stay free on the disk of `data`: below that, edits are refused, and the server is "
     "not ready, until there is more again. A start after a crash may need as much as "
     "store_memory. "
     "0 is none."},
    {"salvage", TYPE_SWITCH, AT(salvage), 0, 0, NULL, "off",
     "Whether a damaged database is opened as far as it is readable. What is damaged is kept "
     "aside, "
     "and what was lost is in the log."},
    {"hang_seconds", TYPE_COUNT, AT(hang_seconds), 0, 3600, NULL, "60",
     "A thread that does not come back for that long hangs: the server is not ready and no longer "
     "answers systemd's watchdog, which then starts it again. 0 watches nobody."},
    {"drain_seconds", TYPE_COUNT, AT(drain_seconds), 0, 3600, NULL, "10",
     "Time over which a stopping server closes its connections, so that clients do not all come "
     "back at once."},
};

#define OPTION_COUNT (sizeof options / sizeof *options)

/* Where a value came from, for the sentence that refuses it. */
struct source {
    char place[TP_CONFIG_TEXT_SIZE + 64]; /* "in server.conf:12", "on the command line" */
    bool seen[OPTION_COUNT];              /* this source gave the option already */
};

static bool refuse(struct tp_config *config, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Keeps the first sentence. Returns false, for the caller to pass on. */
static bool refuse(struct tp_config *config, const char *format, ...)
{
    va_list arguments;

    if (config->error[0] != '\0')
        return false;
    va_start(arguments, format);
    vsnprintf(config->error, sizeof config->error, format, arguments);
    va_end(arguments);
    return false;
}

static void *field(const struct option *option, struct tp_config *config)
{
    return (char *)config + option->offset;
}

/* Dashes and underscores are the same. NULL: no such option. */
static const struct option *find_option(const char *name, size_t size)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        size_t at = 0;
        if (strlen(options[i].name) != size)
            continue;
        while (at < size &&
               (name[at] == options[i].name[at] || (name[at] == '-' && options[i].name[at] == '_')))
            at++;
        if (at == size)
            return &options[i];
    }
    return NULL;
}

/* As one would write it: 64k, 10M, else the bytes. */
static const char *size_text(uint64_t size, char out[24])
{
    static const char *const letters[] = {"", "k", "M", "G"};
    unsigned unit = 0;

    while (unit < 3 && size > 0 && size % 1024 == 0) {
        size /= 1024;
        unit++;
    }
    snprintf(out, 24, "%" PRIu64 "%s", size, letters[unit]);
    return out;
}

/* "a number from 1 to 64": what the option takes, for --help and for refusals. */
static void describe(const struct option *option, char *out, size_t size)
{
    char min[24], max[24];

    switch (option->type) {
    case TYPE_ADDRESSES:
        snprintf(out, size, "HOST:PORT, or several separated by commas");
        return;
    case TYPE_ADDRESS:
        snprintf(out, size, "HOST:PORT or off");
        return;
    case TYPE_TEXT:
        snprintf(out, size, "a path of at most %u bytes", TP_CONFIG_TEXT_SIZE - 1);
        return;
    case TYPE_PATHS:
        snprintf(out, size, "paths separated by commas, of at most %u bytes together",
                 TP_CONFIG_TEXT_SIZE - 1);
        return;
    case TYPE_WORD:
    case TYPE_SECRET:
        snprintf(out, size, "a text of at most %u bytes", TP_CONFIG_TEXT_SIZE - 1);
        return;
    case TYPE_URL_PATH:
        snprintf(out, size, "a path like %s", option->standard);
        return;
    case TYPE_ORIGINS:
        snprintf(out, size, "nothing, *, or origins like https://example.com");
        return;
    case TYPE_RATES:
        snprintf(out, size, "off, or rules separated by commas, like the default");
        return;
    case TYPE_RANGES:
        snprintf(out, size, "nothing, or at most %u addresses and ranges like 10.0.0.0/8",
                 TP_ADDRESS_RANGE_COUNT_MAX);
        return;
    case TYPE_NODES:
        snprintf(out, size, "ID=HOST:PORT or ID=HOST:PORT*WEIGHT, several separated by commas");
        return;
    case TYPE_COUNT:
        snprintf(out, size, "a number from %" PRIu64 " to %" PRIu64, option->min, option->max);
        return;
    case TYPE_COUNT_OR_AUTO:
        snprintf(out, size, "auto or a number from %" PRIu64 " to %" PRIu64, option->min,
                 option->max);
        return;
    case TYPE_SIZE:
        snprintf(out, size, "bytes from %s to %s; k, M and G are 2^10, 2^20 and 2^30",
                 size_text(option->min, min), size_text(option->max, max));
        return;
    case TYPE_CHOICE:
        snprintf(out, size, "one of %s", option->choices);
        return;
    case TYPE_SWITCH:
        snprintf(out, size, "on or off");
        return;
    }
}

/* ---- one value ---------------------------------------------------------------------------------
 */

/* Digits only, then a unit if `units`. False: not that, or more than 64 bits hold. */
static bool parse_number(const char *text, bool units, uint64_t *out)
{
    static const char letters[] = "kMG";
    const char *at = text;
    uint64_t value = 0;

    if (!isdigit((unsigned char)*at))
        return false;
    for (; isdigit((unsigned char)*at); at++)
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
            return false;
    if (units && *at != '\0') {
        const char *letter = strchr(letters, *at == 'K' ? 'k' : *at);
        if (letter == NULL ||
            __builtin_mul_overflow(value, UINT64_C(1) << (10 * (letter - letters + 1)), &value))
            return false;
        at++;
        if (strcmp(at, "iB") == 0)
            at += 2;
    }
    *out = value;
    return *at == '\0';
}

/* The position of `value` in a|b|c, or -1. */
static int choice_of(const char *choices, const char *value)
{
    const size_t size = strlen(value);
    int position = 0;

    for (const char *at = choices;; at++, position++) {
        const size_t choice_size = strcspn(at, "|");
        if (choice_size == size && memcmp(at, value, size) == 0)
            return position;
        at += choice_size;
        if (*at == '\0')
            return -1;
    }
}

/* HOST:PORT with a port of 0 to 65535, perhaps behind tls://; an IPv6 host stands in brackets. */
static bool address_is_good(const char *address, size_t size)
{
    char copy[TP_CONFIG_ADDRESS_SIZE];
    uint64_t port;

    if (size == 0 || size >= sizeof copy)
        return false;
    if (strncmp(address, TP_CONFIG_TLS, sizeof TP_CONFIG_TLS - 1) == 0) {
        address += sizeof TP_CONFIG_TLS - 1;
        size -= sizeof TP_CONFIG_TLS - 1;
    }
    memcpy(copy, address, size);
    copy[size] = '\0';
    char *colon = strrchr(copy, ':');
    if (colon == NULL || colon == copy || !parse_number(colon + 1, false, &port) || port > 65535)
        return false;
    *colon = '\0';
    if (copy[0] == '[')
        return colon > copy + 2 && colon[-1] == ']';
    return strpbrk(copy, ":[] \t/") == NULL;
}

static bool add_addresses(struct tp_config *config, const char *value)
{
    for (const char *at = value;;) {
        at += strspn(at, ", \t");
        if (*at == '\0')
            return config->listen_count > 0;
        const size_t size = strcspn(at, ", \t");
        if (!address_is_good(at, size) || config->listen_count == TP_CONFIG_LISTEN_COUNT_MAX)
            return false;
        memcpy(config->listen[config->listen_count], at, size);
        config->listen[config->listen_count++][size] = '\0';
        at += size;
    }
}

static bool store_address(char *out, const char *value)
{
    const bool is_off = strcmp(value, "off") == 0;
    const bool is_tls = strncmp(value, TP_CONFIG_TLS, sizeof TP_CONFIG_TLS - 1) == 0;

    if (!is_off && (is_tls || !address_is_good(value, strlen(value))))
        return false;
    strcpy(out, is_off ? "" : value);
    return true;
}

static bool url_path_is_good(const char *value)
{
    const size_t size = strlen(value);

    if (size < 2 || size >= TP_CONFIG_TEXT_SIZE || value[0] != '/' || value[size - 1] == '/')
        return false;
    for (const char *at = value; *at != '\0'; at++)
        if (!isalnum((unsigned char)*at) && strchr("/-._~", *at) == NULL)
            return false;
    return true;
}

/* scheme://host[:port], as browsers write it: no path, not even a slash. */
static bool origin_is_good(const char *origin, size_t size)
{
    const char *const host = memmem(origin, size, "://", 3);

    if (host == NULL || host == origin || host + 3 == origin + size)
        return false;
    for (const char *at = origin; at < origin + size; at++)
        if (!isalnum((unsigned char)*at) && strchr(at < host ? "+-." : "-._~:[]", *at) == NULL &&
            (at < host || at >= host + 3))
            return false;
    return true;
}

static bool store_origins(char *out, const char *value)
{
    char *const start = out;

    if (strlen(value) >= TP_CONFIG_TEXT_SIZE)
        return false;
    for (const char *at = value + strspn(value, ", \t"); *at != '\0'; at += strspn(at, ", \t")) {
        const size_t size = strcspn(at, ", \t");
        const bool is_any = size == 1 && *at == '*';
        if (!is_any && !origin_is_good(at, size))
            return false;
        if (is_any ? out != start || at[1 + strspn(at + 1, ", \t")] != '\0' : false)
            return false; /* all, and some others: which is meant? */
        if (out != start)
            *out++ = ' ';
        out = (char *)memcpy(out, at, size) + size;
        at += size;
    }
    *out = '\0';
    return true;
}

static bool store_value(const struct option *option, struct tp_config *config, const char *value)
{
    uint64_t number = 0;
    const char *why;

    switch (option->type) {
    case TYPE_ADDRESSES:
        return add_addresses(config, value);
    case TYPE_ADDRESS:
        return store_address(field(option, config), value);
    case TYPE_TEXT:
    case TYPE_PATHS:
    case TYPE_WORD:
    case TYPE_SECRET:
        if (strlen(value) >= TP_CONFIG_TEXT_SIZE)
            return false;
        strcpy(field(option, config), value);
        return true;
    case TYPE_URL_PATH:
        if (!url_path_is_good(value))
            return false;
        strcpy(field(option, config), value);
        return true;
    case TYPE_ORIGINS:
        return store_origins(field(option, config), value);
    case TYPE_RATES:
        return tp_rate_rules_parse(value, field(option, config));
    case TYPE_RANGES:
        return tp_address_ranges_parse(value, field(option, config));
    case TYPE_NODES:
        return tp_route_parse(value, field(option, config), &why);
    case TYPE_COUNT_OR_AUTO:
    case TYPE_COUNT:
    case TYPE_SIZE:
        if (option->type != TYPE_COUNT_OR_AUTO || strcmp(value, "auto") != 0) {
            if (!parse_number(value, option->type == TYPE_SIZE, &number) || number < option->min ||
                number > option->max)
                return false;
        }
        *(uint64_t *)field(option, config) = number;
        return true;
    case TYPE_CHOICE: {
        const int position = choice_of(option->choices, value);
        if (position < 0)
            return false;
        *(uint64_t *)field(option, config) = (uint64_t)position;
        return true;
    }
    case TYPE_SWITCH:
        if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
            return false;
        *(bool *)field(option, config) = strcmp(value, "on") == 0;
        return true;
    }
    return false;
}

static bool set(const struct option *option, struct tp_config *config, struct source *source,
                const char *value)
{
    const size_t index = (size_t)(option - options);
    char allowed[256];

    if (option->type == TYPE_ADDRESSES && !source->seen[index])
        config->listen_count = 0;
    source->seen[index] = true;
    if (store_value(option, config, value))
        return true;

    describe(option, allowed, sizeof allowed);
    if (option->type == TYPE_ADDRESSES && config->listen_count == TP_CONFIG_LISTEN_COUNT_MAX)
        snprintf(allowed, sizeof allowed, "at most %u addresses", TP_CONFIG_LISTEN_COUNT_MAX);
    return refuse(config, "option %s cannot be \"%.200s\" (%s): it takes %s", option->name,
                  option->type == TYPE_SECRET ? "..." : value, source->place, allowed);
}

/* ---- the sources, lowest first -----------------------------------------------------------------
 */

static void set_defaults(struct tp_config *config)
{
    struct source source = {.place = "built in"};
    const char *state = getenv("STATE_DIRECTORY"); /* from systemd; several stand between colons */

    for (size_t i = 0; i < OPTION_COUNT; i++)
        TP_ASSERT(set(&options[i], config, &source, options[i].standard));
    if (state != NULL && state[0] != '\0')
        snprintf(config->data, sizeof config->data, "%.*s", (int)strcspn(state, ":"), state);
}

struct file {
    FILE *stream;
    struct tp_config *config;
    struct source source;
    const char *path;
    uint32_t line; /* being read, from 1 */
    bool line_is_long;
};

/* The library does not say which line a pair stands on, so the reader that it calls counts. */
static char *read_line(char *out, int size, void *context)
{
    struct file *file = context;
    char *line = fgets(out, size, file->stream);

    if (line == NULL)
        return NULL;
    file->line++;
    snprintf(file->source.place, sizeof file->source.place, "in %s:%" PRIu32, file->path,
             file->line);
    if (strchr(line, '\n') == NULL && !feof(file->stream)) {
        refuse(file->config, "the line in %s:%" PRIu32 " is longer than %d bytes", file->path,
               file->line, size - 2);
        return NULL;
    }
    return line;
}

static int handle_pair(void *context, const char *section, const char *name, const char *value)
{
    struct file *file = context;
    const struct option *option = find_option(name, strlen(name));

    if (section[0] != '\0')
        return refuse(file->config, "section [%.100s] is not known (%s): options stand alone",
                      section, file->source.place);
    if (option == NULL || strcmp(option->name, "config") == 0)
        return refuse(file->config, "option \"%.100s\" is not known (%s): --help lists all", name,
                      file->source.place);
    return set(option, file->config, &file->source, value);
}

static bool read_file(struct tp_config *config, const char *path)
{
    struct file file = {.config = config, .path = path, .stream = fopen(path, "r")};

    if (file.stream == NULL)
        return refuse(config, "config file %.500s cannot be read: %s", path, strerror(errno));
    /* Else an indented option would silently become part of the value above it. */
    ini_allow_multiline = false;
    const int bad_line = ini_parse_stream(read_line, &file, handle_pair, &file);
    if (ferror(file.stream))
        refuse(config, "config file %.500s cannot be read: %s", path, strerror(errno));
    fclose(file.stream);
    if (bad_line > 0)
        refuse(config, "the line in %.500s:%d is neither empty, a comment, nor name = value", path,
               bad_line);
    return config->error[0] == '\0';
}

/* NULL: not set. */
static const char *environment_value(const struct option *option, char *name, size_t size)
{
    snprintf(name, size, "TELEPORTALD_%s", option->name);
    for (char *at = name; *at != '\0'; at++)
        *at = (char)toupper((unsigned char)*at);
    return getenv(name);
}

/* Unknown TELEPORTALD_ variables are passed over: an orchestrator that runs a service of our name
 * sets TELEPORTALD_PORT and the like by itself. */
static bool read_environment(struct tp_config *config)
{
    struct source source = {0};
    char name[64];

    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const char *value = environment_value(&options[i], name, sizeof name);
        snprintf(source.place, sizeof source.place, "in the environment, %s", name);
        if (value != NULL && !set(&options[i], config, &source, value))
            return false;
    }
    return true;
}

enum request { REQUEST_NONE, REQUEST_HELP, REQUEST_VERSION, REQUEST_PRINT };

static bool read_arguments(int argc, char *const argv[], struct tp_config *config,
                           enum request *request)
{
    struct source source = {.place = "on the command line"};

    for (int i = 1; i < argc; i++) {
        const char *argument = argv[i];
        if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
            *request = REQUEST_HELP;
        } else if (strcmp(argument, "--version") == 0) {
            *request = REQUEST_VERSION;
        } else if (strcmp(argument, "--print-config") == 0) {
            *request = REQUEST_PRINT;
        } else {
            const bool is_flag = strncmp(argument, "--", 2) == 0;
            const size_t size = is_flag ? strcspn(argument + 2, "=") : 0;
            const struct option *option = is_flag ? find_option(argument + 2, size) : NULL;
            if (option == NULL)
                return refuse(config,
                              "option \"%.100s\" is not known (on the command line): --help "
                              "lists all",
                              argument);
            const char *value = argument[2 + size] == '=' ? argument + 3 + size : argv[++i];
            if (value == NULL)
                return refuse(config, "option %s has no value (on the command line)", argument);
            if (!set(option, config, &source, value))
                return false;
        }
    }
    return true;
}

/* ---- what is printed ---------------------------------------------------------------------------
 */

/* `sentence` in lines of at most 76 columns, each after `prefix`. */
static void print_wrapped(FILE *out, const char *prefix, const char *sentence)
{
    const size_t width = 76 - strlen(prefix);

    while (*sentence != '\0') {
        size_t size = strlen(sentence);
        if (size > width)
            for (size = width; sentence[size] != ' '; size--)
                TP_ASSERT(size > 0);
        fprintf(out, "%s%.*s\n", prefix, (int)size, sentence);
        sentence += size;
        sentence += strspn(sentence, " ");
    }
}

static void print_help(FILE *out)
{
    char allowed[256];

    fputs("teleportald serves Yjs documents to Teleportal and y-websocket clients.\n\n"
          "usage: teleportald [--name value]...\n\n"
          "Every option may also stand in the config file (name = value) and in the\n"
          "environment (TELEPORTALD_NAME); the command line wins, then the environment.\n\n",
          out);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        fputs("  --", out);
        for (const char *at = options[i].name; *at != '\0'; at++)
            fputc(*at == '_' ? '-' : *at, out);
        describe(&options[i], allowed, sizeof allowed);
        fprintf(out, "  %s\n", options[i].standard[0] != '\0' ? options[i].standard : "(none)");
        print_wrapped(out, "      ", options[i].sentence);
        fprintf(out, "      Takes %s.\n", allowed);
    }
    fputs("  --help, --version, --print-config\n"
          "      Print this, the version, or a config file with what is set now, and exit.\n",
          out);
}

static void print_rates(const struct tp_rate_rules *rules, FILE *out)
{
    static const char *const classes[] = {"sync", "awareness", "file"};
    static const char *const tracks[] = {"transport", "user", "document", "user-document"};

    if (rules->count == 0)
        fputs("off", out);
    for (uint32_t i = 0; i < rules->count; i++)
        fprintf(out, "%s%s:%s:%" PRIu32 "/%" PRIu32, i > 0 ? "," : "",
                classes[rules->rules[i].class], tracks[rules->rules[i].track],
                rules->rules[i].count, rules->rules[i].window_ms);
}

static void print_ranges(const struct tp_address_ranges *ranges, FILE *out)
{
    char text[64];

    for (uint32_t i = 0; i < ranges->count; i++) {
        tp_address_range_format(&ranges->items[i], text);
        fprintf(out, "%s%s", i > 0 ? "," : "", text);
    }
}

static void print_value(const struct option *option, struct tp_config *config, FILE *out)
{
    const void *at = field(option, config);
    const char *choice = option->choices;
    char text[24];

    switch (option->type) {
    case TYPE_ADDRESSES:
        for (uint32_t i = 0; i < config->listen_count; i++)
            fprintf(out, "%s%s", i > 0 ? ", " : "", config->listen[i]);
        break;
    case TYPE_ADDRESS:
        fputs(*(const char *)at == '\0' ? "off" : at, out);
        break;
    case TYPE_TEXT:
    case TYPE_PATHS:
    case TYPE_WORD:
    case TYPE_SECRET: /* print_config does not come here with one */
    case TYPE_URL_PATH:
    case TYPE_ORIGINS:
        fputs(at, out);
        break;
    case TYPE_RATES:
        print_rates(at, out);
        break;
    case TYPE_RANGES:
        print_ranges(at, out);
        break;
    case TYPE_NODES:
        tp_route_print(at, out);
        break;
    case TYPE_SIZE:
        fputs(size_text(*(const uint64_t *)at, text), out);
        break;
    case TYPE_COUNT_OR_AUTO:
    case TYPE_COUNT:
        if (option->type == TYPE_COUNT_OR_AUTO && *(const uint64_t *)at == 0)
            fputs("auto", out);
        else
            fprintf(out, "%" PRIu64, *(const uint64_t *)at);
        break;
    case TYPE_CHOICE:
        for (uint64_t i = 0; i < *(const uint64_t *)at; i++)
            choice = strchr(choice, '|') + 1;
        fprintf(out, "%.*s", (int)strcspn(choice, "|"), choice);
        break;
    case TYPE_SWITCH:
        fputs(*(const bool *)at ? "on" : "off", out);
        break;
    }
}

static bool is_standard(const struct option *option, struct tp_config *config,
                        struct tp_config *standard)
{
    char *texts[2] = {NULL, NULL};
    size_t sizes[2];
    struct tp_config *const configs[2] = {config, standard};

    for (int i = 0; i < 2; i++) {
        FILE *stream = open_memstream(&texts[i], &sizes[i]);
        TP_ASSERT(stream != NULL);
        print_value(option, configs[i], stream);
        fclose(stream);
    }
    const bool equal = strcmp(texts[0], texts[1]) == 0;
    free(texts[0]);
    free(texts[1]);
    return equal;
}

/* A file that, read back, gives this very config. What is at its default stays a comment. */
static void print_config(struct tp_config *config, FILE *out)
{
    struct tp_config *standard = calloc(1, sizeof *standard);

    TP_ASSERT(standard != NULL);
    set_defaults(standard);
    fprintf(out, "# teleportald %s: options, one `name = value` a line.\n", TP_VERSION);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option *option = &options[i];
        char allowed[256];
        if (strcmp(option->name, "config") == 0)
            continue;
        fputc('\n', out);
        print_wrapped(out, "# ", option->sentence);
        describe(option, allowed, sizeof allowed);
        fprintf(out, "# Takes %s.\n", allowed);
        if (option->type == TYPE_SECRET) {
            fprintf(out, "# %s = %s\n", option->name,
                    is_standard(option, config, standard) ? "" : "(set, and not printed)");
        } else if (is_standard(option, config, standard)) {
            fprintf(out, "# %s = %s\n", option->name, option->standard);
        } else {
            fprintf(out, "%s = ", option->name);
            print_value(option, config, out);
            fputc('\n', out);
        }
    }
    free(standard);
}

/* An address that only this machine reaches; by its look, no name is resolved. */
static bool is_loopback(const char *address)
{
    const size_t host_size = strcspn(address, ":");

    return (strncmp(address, "127.", 4) == 0 && strspn(address, "0123456789.") == host_size) ||
           strncmp(address, "[::1]:", 6) == 0 || strncmp(address, "localhost:", 10) == 0;
}

bool tp_node_id_valid(const char *id)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    const size_t size = strlen(id);

    return strspn(id, good) == size && size <= TP_NODE_ID_SIZE_MAX;
}

static bool check_cluster(struct tp_config *config)
{
    if (config->bridge[0] == '\0')
        strcpy(config->bridge, "none");
    if (strcmp(config->bridge, "none") != 0 && tp_bridge_find(config->bridge) == NULL)
        return refuse(config, "option bridge takes none or a location like redis://HOST:PORT or "
                              "nats://HOST:PORT, and "
                              "this is neither");
    if (!tp_node_id_valid(config->node_id))
        return refuse(config,
                      "option node_id takes at most %u letters, digits, dots, dashes and "
                      "underscores, not \"%.200s\"",
                      TP_NODE_ID_SIZE_MAX, config->node_id);
    return true;
}

/* The config file's name, which the command line or the environment tells, is needed before the
 * file is read, and the file before the others, which may override it: so they are read twice. */
enum tp_config_result tp_config_load(int argc, char *const argv[], struct tp_config *config,
                                     FILE *out)
{
    enum request request = REQUEST_NONE;
    char path[TP_CONFIG_TEXT_SIZE];

    *config = (struct tp_config){0};
    set_defaults(config);
    if (!read_environment(config) || !read_arguments(argc, argv, config, &request))
        return TP_CONFIG_ERROR;
    if (request == REQUEST_HELP) {
        print_help(out);
        return TP_CONFIG_DONE;
    }
    if (request == REQUEST_VERSION) {
        fprintf(out, "teleportald %s\n", TP_VERSION);
        return TP_CONFIG_DONE;
    }

    strcpy(path, config->config);
    if (path[0] != '\0') {
        *config = (struct tp_config){0};
        set_defaults(config);
        if (!read_file(config, path) || !read_environment(config) ||
            !read_arguments(argc, argv, config, &request))
            return TP_CONFIG_ERROR;
    }
    if (strcmp(config->teleportal_path, config->yjs_path) == 0) {
        refuse(config, "options teleportal_path and yjs_path cannot both be \"%.200s\"",
               config->yjs_path);
        return TP_CONFIG_ERROR;
    }
    if (config->auth == TP_CONFIG_AUTH_JWT && config->jwt_secret[0] == '\0' &&
        config->jwt_secret_file[0] == '\0' && config->jwks_file[0] == '\0') {
        refuse(config, "auth = jwt needs keys: jwt_secret_file, jwks_file or jwt_secret");
        return TP_CONFIG_ERROR;
    }
    if (config->admin[0] != '\0' && config->admin_token_file[0] == '\0' &&
        !is_loopback(config->admin)) {
        refuse(config,
               "option admin cannot be \"%.200s\" without admin_token_file: others could "
               "manage the server",
               config->admin);
        return TP_CONFIG_ERROR;
    }
    if (!check_cluster(config))
        return TP_CONFIG_ERROR;
    if (request == REQUEST_PRINT) {
        print_config(config, out);
        return TP_CONFIG_DONE;
    }
    return TP_CONFIG_RUN;
}
