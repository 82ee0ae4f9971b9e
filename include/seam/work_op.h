/* seam/work_op.h - one bounded computation on a document's bytes, wherever it runs.
 *
 * A session asks by an effect (WORK) and hears the answer as TP_EVENT_WORKED. Small ones the shard
 * runs on the spot, large ones go to the worker pool: the session sees no difference. Inputs stay
 * with the asker, unchanged, until the answer; outputs are heap memory that the asker takes over.
 */
#pragma once

#include "base/buffer.h"
#include "base/list.h"
#include "base/signature.h"
#include "seam/message.h"

enum tp_work_kind {
    TP_WORK_VALIDATE, /* inputs[0]: is it an update? -> what was found; v1 and v2, if wanted and not
                         what inputs[0] is already */
    TP_WORK_LOAD,     /* inputs: base and log values as read -> v1: merged, sv: its state vector;
                         sidecars, if the document is encrypted */
    TP_WORK_MERGE,    /* inputs: V1 updates -> v1: merged, sv: its state vector */
    TP_WORK_DIFF,     /* inputs[0] (V1) against sv_in -> v1 and v2, as wanted */
    TP_WORK_PIECE,    /* inputs[0] (V1) against sv_in, at most count_max pieces of about size_max
                         bytes -> v1: the pieces; sv: state vectors after each; ends, is_last */
    TP_WORK_ATTRIBUTE, /* inputs: what is kept of it, or nothing, and rows of the log; `attribution`
                          -> v1: the answer, is_empty: nothing is recorded */
    TP_WORK_VERIFY,    /* inputs[0], signed by inputs[1]: with which of verify.keys? */
    TP_WORK_HASH,      /* inputs[0], a chunk of a file -> digests: its leaf (wire/merkle.h) */
    TP_WORK_TREE,      /* inputs[0], the leaves of a file -> digests: the whole tree, root last */
};

struct tp_attribution_query;

struct tp_work_op {
    struct tp_link link;
    enum tp_work_kind kind;
    const struct tp_slice *inputs;
    size_t input_count;
    uint8_t encoding; /* VALIDATE: of inputs[0]; 0: V2 if it is one, else V1 */
    struct tp_slice sv_in;
    size_t size_max;    /* PIECE */
    uint32_t count_max; /* PIECE */
    bool want_v1, want_v2;
    bool encrypted; /* LOAD, VALIDATE: of which mode the document is. DIFF: ranges are wanted as
                     * well */
    const struct tp_attribution_query *attribution; /* ATTRIBUTE (crdt/attribution.h) */
    const struct tp_message_update *hashed; /* VALIDATE: whose sidecars to hash; NULL: nobody's */

    /* the answer */
    enum tp_status status;
    const char *error; /* fixed text when not TP_OK */
    struct tp_buffer v1, v2, sv;
    bool is_last;              /* PIECE */
    struct tp_buffer ends;     /* PIECE: struct tp_update_piece_end[] (crdt/update.h) */
    struct tp_buffer sidecars; /* LOAD: a list (crdt/sidecars.h) */
    struct tp_buffer digests;  /* VALIDATE: of `hashed` (crdt/sidecars.h); HASH, TREE */
    struct tp_buffer ranges;   /* VALIDATE, DIFF: struct tp_update_range[]: the clocks that the
                                * update,   or the difference, holds (crdt/update.h) */

    /* VALIDATE */
    uint8_t found_encoding;
    bool is_empty;               /* no struct, no delete range */
    bool relayable;              /* clients may get these bytes as they are (crdt/update.h) */
    uint64_t delete_range_count; /* what it says of deletions cannot be judged by clocks */

    /* VERIFY; the keys stay with the asker. TP_DENIED: with none of them */
    struct {
        enum tp_signature_algorithm algorithm;
        uint32_t key_count;
        const struct tp_verify_key *keys;
        uint32_t key_index; /* the answer */
    } verify;

    /* the asker's */
    void *owner;
    bool of_call; /* the asker is an rpc call, not the session */
    uint32_t step;
    void *route; /* the shard's: whose answer this is; operations of one keep their order */
    uint32_t shard_index;
    struct tp_link inflight;
    struct tp_frame *frame; /* keeps inputs that lie in a message */
};
