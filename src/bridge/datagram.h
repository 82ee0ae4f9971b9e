/* bridge/datagram.h - what nodes say to each other over UDP multicast. Integers are little-endian.
 *
 *      0   4  "TPM1"
 *      4   1  kind
 *      5   1  1: sealed with the shared key, 0: not
 *      6   2  fragment_size
 *      8  16  sender: random, anew for every port of every start
 *     24   8  stamp: one more for each datagram of the sender, repeats included
 *     32   8  sequence: DATA: its number; BEAT: that of the next DATA; else 0
 *     40   4  index \ of a fragment of a message that needs more than one datagram; 0 and 1 for
 *     44   4  count / DATA that holds whole messages; else 0
 *     48   6  answer: where the sender listens alone: IPv4 address, port (both as on the network)
 *     54   2  0
 *     56   8  XXH3 of all the rest of the datagram (this field 0); sealed: 0
 *     64      body; sealed: encrypted, and its tag behind
 *
 * DATA   messages end to end: topic size (2), payload size (4), topic, payload; or one fragment of
 *        one: all but the last have fragment_size bytes
 * BEAT   "I am here, and so far I have said so much": nothing in the body
 * WANT   to the sender that the first 16 bytes name: say these again: first (8), count (4), ...
 * GONE   to who wanted: these I have no more: first (8), count (4), ... */
#pragma once

#include "base/buffer.h"
#include "base/seal.h"

#define TP_DATAGRAM_HEAD_SIZE 64u
#define TP_DATAGRAM_SENDER_SIZE 16u
#define TP_DATAGRAM_SIZE_MIN 512u
#define TP_DATAGRAM_SIZE_MAX 3840u
#define TP_DATAGRAM_FRAGMENT_COUNT_MAX 16384u
#define TP_DATAGRAM_SPAN_COUNT_MAX 32u
#define TP_DATAGRAM_SPAN_SIZE 12u

enum tp_datagram_kind {
    TP_DATAGRAM_DATA = 1,
    TP_DATAGRAM_BEAT,
    TP_DATAGRAM_WANT,
    TP_DATAGRAM_GONE,
};

struct tp_datagram {
    enum tp_datagram_kind kind;
    uint16_t fragment_size;
    uint8_t sender[TP_DATAGRAM_SENDER_SIZE];
    uint64_t stamp, sequence;
    uint32_t index, count;
    uint32_t answer_address; /* network byte order, as is the port */
    uint16_t answer_port;
    struct tp_slice body;
};

/* Sequences in a row. */
struct tp_span {
    uint64_t first;
    uint32_t count;
};

/* Bytes that `body_size` bytes of body become. */
static inline size_t tp_datagram_size(size_t body_size, bool sealed)
{
    return TP_DATAGRAM_HEAD_SIZE + body_size + (sealed ? TP_SEAL_TAG_SIZE : 0);
}

void tp_datagram_key(struct tp_slice secret, const uint8_t sender[TP_DATAGRAM_SENDER_SIZE],
                     uint8_t key[TP_SEAL_KEY_SIZE]);

/* Writes tp_datagram_size bytes. `key` is the sender's; NULL: not sealed. */
void tp_datagram_write(const struct tp_datagram *datagram, const uint8_t *key, uint8_t *out);

/* Reads the head alone, which nobody has vouched for yet; body is what is behind it. TP_MALFORMED:
 * no datagram of ours, or not sealed where it should be, or the opposite. */
TP_MUST_CHECK enum tp_status tp_datagram_peek(struct tp_slice bytes, bool sealed,
                                              struct tp_datagram *out);
/* Checks what was peeked at against the checksum or by the sender's `key`; decrypts in place and
 * makes `body` what the sender meant. TP_MALFORMED: damaged or forged. */
TP_MUST_CHECK enum tp_status tp_datagram_open(struct tp_datagram *datagram, struct tp_slice bytes,
                                              const uint8_t *key);

/* Takes one message off the front of a body; false: nothing, or nothing good, is left. */
bool tp_datagram_message(struct tp_slice *body, struct tp_slice *topic, struct tp_slice *payload);
#define TP_DATAGRAM_MESSAGE_HEAD_SIZE 6u
void tp_datagram_message_head(size_t topic_size, size_t payload_size,
                              uint8_t out[TP_DATAGRAM_MESSAGE_HEAD_SIZE]);

/* Takes one span; false: nothing good is left. */
bool tp_datagram_span(struct tp_slice *body, struct tp_span *span);
void tp_datagram_span_write(struct tp_span span, uint8_t out[TP_DATAGRAM_SPAN_SIZE]);
