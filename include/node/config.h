/* node/config.h - what the operator decided.
 *
 *     built-in default  <  config file  <  environment  <  command line
 *                          name = value    TELEPORTALD_NAME=value    --name value, --name=value
 *
 * One table in src/node/config.c holds name, type, bounds, default and a sentence of every option;
 * --help, --print-config and docs/operating.md say nothing else. Names are written with dashes or
 * underscores, whichever is liked. A new option is one field here and one line there. */
#pragma once

#include <stdio.h>

#include "base/base.h"
#include "guard/rate.h"
#include "net/address.h"
#include "node/route.h"

#define TP_CONFIG_LISTEN_COUNT_MAX 16u
#define TP_CONFIG_ADDRESS_SIZE 280u /* a DNS name, a port, and a final NUL */
#define TP_CONFIG_TEXT_SIZE 1024u   /* paths, with their final NUL */
#define TP_CONFIG_ERROR_SIZE 1024u
#define TP_NODE_ID_SIZE_MAX 64u

enum tp_config_log_level { /* the order of the choices in the table */
                           TP_CONFIG_LOG_ERROR,
                           TP_CONFIG_LOG_WARN,
                           TP_CONFIG_LOG_INFO,
                           TP_CONFIG_LOG_DEBUG,
};

#define TP_CONFIG_TLS "tls://"

enum tp_config_auth { TP_CONFIG_AUTH_ANONYMOUS, TP_CONFIG_AUTH_JWT };

enum tp_config_expiry { TP_CONFIG_EXPIRY_CLOSE, TP_CONFIG_EXPIRY_READ_ONLY };

/* Plain: copy it, compare it, free nothing. Numbers are within the table's bounds. */
struct tp_config {
    /* HOST:PORT, or TP_CONFIG_TLS and HOST:PORT */
    char listen[TP_CONFIG_LISTEN_COUNT_MAX][TP_CONFIG_ADDRESS_SIZE];
    uint32_t listen_count;
    char tls_certificate[TP_CONFIG_TEXT_SIZE]; /* a path; empty: none */
    char tls_key[TP_CONFIG_TEXT_SIZE];
    char admin[TP_CONFIG_ADDRESS_SIZE]; /* empty: no management listener */
    char admin_token_file[TP_CONFIG_TEXT_SIZE];
    char webhook_url[TP_CONFIG_TEXT_SIZE]; /* empty: none */
    char webhook_secret_file[TP_CONFIG_TEXT_SIZE];
    char webhook_events[TP_CONFIG_TEXT_SIZE]; /* names, separated by commas */
    char config[TP_CONFIG_TEXT_SIZE];         /* empty: no file */
    char data[TP_CONFIG_TEXT_SIZE];
    struct tp_route cluster_nodes; /* count 0: this server is alone */
    uint64_t cores;                /* 0: auto, see node/cpus.h */
    uint64_t durability;           /* enum tp_durability */
    uint64_t log_level;            /* enum tp_config_log_level */
    bool log_json;
    bool public_metrics;
    bool keep_history;
    char teleportal_path[TP_CONFIG_TEXT_SIZE]; /* begin with a slash and do not end in one */
    char yjs_path[TP_CONFIG_TEXT_SIZE];
    char cors_origins[TP_CONFIG_TEXT_SIZE]; /* between single blanks; "*": any; empty: none */
    uint64_t max_message_size;              /* bytes, as are the other sizes */
    uint64_t max_update_bytes;
    uint64_t file_chunk_size;
    uint64_t max_file_size;
    uint64_t max_document_files_size; /* 0: any */
    uint64_t max_unfinished_uploads;  /* per user */
    uint64_t upload_expiry_seconds;
    uint64_t document_size_warning; /* 0: none, as for the limit */
    uint64_t document_size_limit;
    uint64_t max_connections;             /* per core */
    uint64_t max_connections_per_address; /* per core; 0: any number */
    uint64_t max_handshakes_per_address;  /* per core and second; 0: any number */
    struct tp_address_ranges trusted_proxies;
    uint64_t session_grace_seconds;
    uint64_t store_memory;
    uint64_t session_memory; /* per core */
    uint64_t outbox_size;    /* per connection */
    uint64_t outbox_memory;  /* per core, as are the next two */
    uint64_t receive_memory;
    uint64_t store_queue;
    uint64_t compact_count;
    uint64_t compact_size;
    bool attribution_push;
    uint64_t milestone_updates;
    uint64_t milestone_seconds;
    uint64_t milestone_event; /* tp_milestone_rules.event (rpc/rpc.h) */
    uint64_t milestone_count_max;
    uint64_t milestone_size_max;
    uint64_t request_seconds;
    uint64_t ping_seconds;
    uint64_t dead_seconds;
    uint64_t unready_seconds;
    uint64_t disk_reserve; /* 0: none */
    uint64_t hang_seconds; /* 0: nobody is watched */
    bool salvage;
    uint64_t drain_seconds;
    uint64_t worker_threads;
    uint64_t auth;                             /* enum tp_config_auth */
    char jwt_secret[TP_CONFIG_TEXT_SIZE];      /* never printed */
    char jwt_secret_file[TP_CONFIG_TEXT_SIZE]; /* paths, separated by commas */
    char jwks_file[TP_CONFIG_TEXT_SIZE];
    char jwt_issuer[TP_CONFIG_TEXT_SIZE];
    char jwt_audience[TP_CONFIG_TEXT_SIZE];
    uint64_t jwt_leeway_seconds;
    bool allow_unrestricted_tokens;
    uint64_t token_expiry; /* enum tp_config_expiry */
    struct tp_rate_rules rate_limits;
    uint64_t rate_max_delay_ms;
    char rate_unlimited_users[TP_CONFIG_TEXT_SIZE]; /* patterns, separated by commas */

    char bridge[TP_CONFIG_TEXT_SIZE];  /* "none", or where; never printed: may hold a password */
    char node_id[TP_CONFIG_TEXT_SIZE]; /* empty: made, and kept in the data directory */

    char error[TP_CONFIG_ERROR_SIZE]; /* after TP_CONFIG_ERROR: one sentence, no line end */
};

/* At most TP_NODE_ID_SIZE_MAX letters, digits, dots, dashes and underscores. */
bool tp_node_id_valid(const char *id);

enum tp_config_result {
    TP_CONFIG_RUN,   /* go on */
    TP_CONFIG_DONE,  /* --help, --version or --print-config is answered on `out`: exit 0 */
    TP_CONFIG_ERROR, /* config->error names option, value, what is allowed, and where: exit 2 */
};

/* Reads all sources, in the order above. Looks at the environment and at the config file. */
TP_MUST_CHECK enum tp_config_result tp_config_load(int argc, char *const argv[],
                                                   struct tp_config *config, FILE *out);
