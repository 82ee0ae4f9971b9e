/* net/tls.h - one end of a TLS connection as bytes in and bytes out: TLS 1.3 and 1.2, by wolfSSL.
 *
 *     socket ── feed ──► read ──► plain bytes          plain bytes ──► write ──► sink ──► socket
 *
 * There is no socket and no clock in here: who has those feeds what it received, and sends what the
 * sink is given. The handshake happens inside read. A context is made once for the process and only
 * read from then on, by all threads; an end belongs to one thread at a time. */
#pragma once

#include "base/base.h"

struct tp_tls_context;
struct tp_tls;

#define TP_TLS_RECORD_SIZE_MAX 16384u /* plain bytes of one record (RFC 8446 section 5.1) */

/* The server's side: PEM files, the certificate's chain in one, its key in the other. NULL: `error`
 * says in a sentence what is wrong with which file. */
struct tp_tls_context *tp_tls_context_create(const char *certificate_file, const char *key_file,
                                             char *error, size_t error_size);
/* The client's side: believes whom an authority of this PEM file vouches for, or, with NULL,
 * everybody (for measuring). NULL: as above. */
struct tp_tls_context *tp_tls_client_context_create(const char *authorities_file, char *error,
                                                    size_t error_size);
void tp_tls_context_destroy(struct tp_tls_context *context);

/* What is to be sent, in this order; `bytes` are valid during the call. Called from inside read,
 * write and end. */
typedef void tp_tls_sink(void *user, struct tp_slice bytes);

/* NULL: out of memory. Borrows `context`. */
struct tp_tls *tp_tls_create(struct tp_tls_context *context, tp_tls_sink *sink, void *user);
/* Of the client's context. `host` is whom the certificate has to name, or NULL: anybody. The first
 * tp_tls_read, of nothing, begins the handshake. */
struct tp_tls *tp_tls_create_client(struct tp_tls_context *context, const char *host,
                                    tp_tls_sink *sink, void *user);
void tp_tls_destroy(struct tp_tls *tls);

/* Lends bytes received, until tp_tls_read has said TP_MORE or worse. */
void tp_tls_feed(struct tp_tls *tls, struct tp_slice bytes);
/* TP_OK: `*size` plain bytes, at least one, are in `out`. TP_MORE: what was fed is used up.
 * TP_ABSENT: the other side has said that nothing more will come. TP_MALFORMED: it broke the
 * protocol, or we have none in common; an alert went to the sink, and the connection is over. */
TP_MUST_CHECK enum tp_status tp_tls_read(struct tp_tls *tls, uint8_t *out, size_t out_size,
                                         size_t *size);
/* The handshake is done: tp_tls_write may be called. */
bool tp_tls_is_open(const struct tp_tls *tls);
/* Not empty. TP_IO: the connection is over. */
TP_MUST_CHECK enum tp_status tp_tls_write(struct tp_tls *tls, struct tp_slice bytes);
/* Says that nothing more will come (close_notify). */
void tp_tls_end(struct tp_tls *tls);
