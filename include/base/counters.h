/* base/counters.h - what a shard counts: one line here, and the metrics page prints it, per shard
 * and summed. Plain integers: only the owner writes; others read them torn at worst by one event.
 */
#pragma once

#include "base/base.h"

/* name, kind (counter or gauge), help */
#define TP_COUNTERS(X)                                                                         \
    X(sessions_active, gauge, "Documents open now")                                            \
    X(sessions_loading, gauge, "Documents being loaded now")                                   \
    X(sessions_opened, counter, "Documents opened")                                            \
    X(peers_active, gauge, "Subscriptions of connections to documents")                        \
    X(messages_doc, counter, "Document messages received")                                     \
    X(messages_awareness, counter, "Awareness messages received")                              \
    X(messages_presence, counter, "Presence messages received")                                \
    X(messages_rpc, counter, "RPC messages received")                                          \
    X(rpc_calls, counter, "RPC requests taken up")                                             \
    X(rpc_failed, counter, "RPC requests answered with an error")                              \
    X(rpc_refused, counter, "RPC requests refused: too many at once")                          \
    X(milestones_created, counter, "Milestones stored")                                        \
    X(files_stored, counter, "Uploads completed")                                              \
    X(files_deduplicated, counter, "Uploads completed whose content was there already")        \
    X(files_downloaded, counter, "Downloads begun")                                            \
    X(file_bytes_stored, counter, "Bytes of chunks stored")                                    \
    X(file_bytes_sent, counter, "Bytes of chunks sent")                                        \
    X(messages_ack, counter, "Acknowledgements received")                                      \
    X(updates_accepted, counter, "Updates taken into documents")                               \
    X(updates_refused, counter, "Updates refused as malformed or not allowed")                 \
    X(updates_empty, counter, "Updates that held nothing new and were not stored")             \
    X(acks_sent, counter, "Acknowledgements sent")                                             \
    X(nacks_sent, counter, "Negative acknowledgements sent")                                   \
    X(deliveries, counter, "Frames queued to connections by broadcasts")                       \
    X(conversions, counter, "Updates converted between encodings")                             \
    X(awareness_ignored, counter, "Awareness entries ignored: stale, foreign or over a limit") \
    X(awareness_expired, counter, "Awareness states that ended without renewal")               \
    X(document_bytes, gauge, "Bytes of content of open documents")                             \
    X(documents_over_warning, gauge, "Open documents above document_size_warning")             \
    X(documents_over_limit, gauge,                                                             \
      "Open documents whose last update was above document_size_limit")                        \
    X(size_warnings, counter, "Documents that reached document_size_warning")                  \
    X(size_limits, counter, "Documents that reached document_size_limit")                      \
    X(documents_created, counter, "Documents created")                                         \
    X(documents_deleted, counter, "Documents deleted")                                         \
    X(store_failures, counter, "Store operations that failed")                                 \
    X(outbox_full, counter, "Frames a full outbox refused")                                    \
    X(letters_sent, counter, "Messages handed to another core")                                \
    X(connections_moved, counter, "Connections moved to their document's core")                \
    X(tokens_accepted, counter, "Tokens that were good")                                       \
    X(tokens_refused, counter, "Handshakes refused for want of a good token")                  \
    X(tokens_ended, counter, "Connections whose token ended or was taken back")                \
    X(messages_denied, counter, "Messages refused for lack of permission")                     \
    X(rate_exceeded_transport, counter, "Messages refused: too many of a connection")          \
    X(rate_exceeded_user, counter, "Messages refused: too many of a user")                     \
    X(rate_exceeded_document, counter, "Messages refused: too many for a document")            \
    X(rate_exceeded_user_document, counter, "Messages refused: too many of a user there")      \
    X(rate_delayed, counter, "Messages held back by a rate limit")                             \
    X(rate_delay, counter, "Milliseconds that messages were held back")                        \
    X(refused_budget, counter, "Clients and documents refused because a core is full")         \
    X(store_waits, counter, "Writers not read from because the store is behind")               \
    X(bridge_updates, counter, "Updates that other nodes sent and that were new")              \
    X(bridge_duplicates, counter, "Envelopes of other nodes that had come before")             \
    X(bridge_gaps, counter, "Envelopes of other nodes found missing by their numbers")         \
    X(bridge_asks, counter, "State vector exchanges begun with other nodes")                   \
    X(bridge_gives, counter, "Differences sent to other nodes that lacked them")               \
    X(bridge_repairs, counter, "Updates that were missing and came by an exchange")            \
    X(bridge_refused, counter, "Envelopes of other nodes that could not be taken")             \
    X(ticks_slow, counter, "Turns of the loop over 5 ms")

struct tp_counters {
#define TP_COUNTER_FIELD(name, kind, help) uint64_t name;
    TP_COUNTERS(TP_COUNTER_FIELD)
#undef TP_COUNTER_FIELD
};
