/* TLS between a connection and its socket: what is received is decrypted on the way in; what is
 * queued stays in the outbox as it is, where it may still be dropped, until there is room for
 * another record on the way out. */
#include <stdlib.h>

#include "internal.h"
#include "net/tls.h"

/* Encrypted bytes that may wait for the kernel: beyond these the outbox keeps what is queued. */
#define SEALED_SIZE_MAX ((size_t)64 << 10)
/* Records come from us alone, but for what the other side can make us answer to (key updates): who
 * asks for so many and reads none is dropped. */
#define SEALED_SIZE_LIMIT ((size_t)1 << 20)

static void seal(void *user, struct tp_slice bytes)
{
    struct tp_connection *connection = user;
    struct tp_net *net = connection->net;
    struct tp_frame *frame;

    if (connection->broken || connection->state == STATE_ENDING)
        return;
    frame = tp_frame_create(net->pool, bytes);
    tp_outbox_push(&connection->secure->sealed, net->pool, frame, 0, TP_OUTBOX_CONTROL, 0);
    tp_frame_unref(frame);
    if (tp_link_alone(&connection->flush))
        tp_link_insert(&net->to_flush, &connection->flush);
}

bool tp_connection_secure(struct tp_connection *connection, struct tp_tls_context *context)
{
    struct tp_secure *secure = calloc(1, sizeof *secure);

    TP_ASSERT(secure != NULL);
    secure->tls = tp_tls_create(context, seal, connection);
    if (secure->tls == NULL) {
        free(secure);
        return false;
    }
    connection->secure = secure;
    return true;
}

void tp_secure_finish(struct tp_secure *secure, struct tp_pool *pool)
{
    if (secure == NULL)
        return;
    tp_tls_destroy(secure->tls);
    if (pool != NULL)
        tp_outbox_finish(&secure->sealed, pool);
    free(secure);
}

void tp_secure_received(struct tp_connection *connection, struct tp_slice bytes)
{
    struct tp_secure *secure = connection->secure;
    uint8_t *plain = connection->net->plain;
    enum tp_status status;
    size_t size;

    if (connection->state >= STATE_LEAVING)
        return;
    tp_tls_feed(secure->tls, bytes);
    while ((status = tp_tls_read(secure->tls, plain, TP_TLS_RECORD_SIZE_MAX, &size)) == TP_OK)
        tp_connection_take(connection, plain, size);
    if (status == TP_ABSENT)
        connection->eof = true;
    if (status == TP_MALFORMED) {
        connection->net->counts.tls_errors++;
        tp_connection_leave(connection, TP_WEBSOCKET_LOST); /* the alert goes first */
        tp_outbox_finish(&connection->outbox, connection->net->pool);
        secure->ended = true;
    }
    if (secure->sealed.unsent_size > SEALED_SIZE_LIMIT)
        tp_connection_end(connection, TP_WEBSOCKET_LOST);
}

/* One record's worth off the outbox's front: into `out`, or, if the first frame alone has that
 * much, where it lies. */
static struct tp_slice next_record(struct tp_outbox *outbox, uint8_t *out)
{
    struct iovec parts[IOV_COUNT_MAX];
    const size_t count = tp_outbox_gather(outbox, parts, IOV_COUNT_MAX);
    size_t size = 0;

    if (parts[0].iov_len >= TP_TLS_RECORD_SIZE_MAX)
        return tp_slice_of(parts[0].iov_base, TP_TLS_RECORD_SIZE_MAX);
    for (size_t i = 0; i < count && size < TP_TLS_RECORD_SIZE_MAX; i++) {
        const size_t taken = tp_min(parts[i].iov_len, TP_TLS_RECORD_SIZE_MAX - size);
        memcpy(out + size, parts[i].iov_base, taken);
        size += taken;
    }
    return tp_slice_of(out, size);
}

void tp_secure_fill(struct tp_connection *connection)
{
    struct tp_secure *secure = connection->secure;
    struct tp_net *net = connection->net;

    if (connection->outbox.count > 0 && !tp_tls_is_open(secure->tls)) {
        tp_outbox_finish(&connection->outbox, net->pool); /* nobody there who could read it */
        tp_connection_look(connection);
        return;
    }
    while (connection->outbox.count > 0 && secure->sealed.unsent_size < SEALED_SIZE_MAX) {
        const struct tp_slice record = next_record(&connection->outbox, net->plain);
        if (tp_tls_write(secure->tls, record) != TP_OK) {
            tp_outbox_consume(&connection->outbox, net->pool, 0);
            tp_connection_abort(connection);
            return;
        }
        tp_outbox_consume(&connection->outbox, net->pool, record.size);
    }
}

bool tp_secure_end(struct tp_connection *connection)
{
    struct tp_secure *secure = connection->secure;

    if (secure->ended)
        return false;
    secure->ended = true;
    tp_tls_end(secure->tls);
    return secure->sealed.count > 0;
}
