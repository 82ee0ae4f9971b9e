/* src/rpc/call.h - what methods are made of, for this folder.
 *
 * A method is one function, or several: the first is in the table (methods.c), the others go on
 * where an operation was waited for, and stand below it. Each ends by saying what comes next, and
 * says it exactly once: tp_rpc_reply, tp_rpc_fail or tp_rpc_done end the call; tp_rpc_read,
 * tp_rpc_write, tp_rpc_work and tp_rpc_drained name the function that goes on.
 *
 *     void tp_rpc_milestone_get(rpc, call, out)   arguments, then tp_rpc_read(…, found, …)
 *     static void found(rpc, call, out)           call->rows, then tp_rpc_reply(…)
 *
 * A function may add EFFECT_ROOM effects. What the peer sees in the end: stream parts, then one
 * response, then the ack of the request (spec 03 section 1.3). */
#pragma once

#include "rpc/rpc.h"
#include "seam/store_op.h"
#include "seam/work_op.h"
#include "wire/any.h"

#define TP_RPC_EFFECT_ROOM 8u       /* effects that one function may add */
#define TP_RPC_MEMBER_COUNT_MAX 32u /* of a request's object; more: 400 */
#define TP_RPC_WRONG_SIZE 160u

struct tp_rpc_call;
typedef void tp_rpc_step(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out);

/* Calls of one turn and one document run one at a time, in the order in which they came. */
enum tp_rpc_turn { TP_RPC_ANY_TIME, TP_RPC_TURN_MILESTONES, TP_RPC_TURN_KEYS, TP_RPC_TURN_COUNT };

struct tp_rpc_method {
    const char *name; /* as on the wire */
    uint8_t needs;    /* enum tp_right */
    enum tp_rpc_turn turn;
    tp_rpc_step *handle; /* a request */
    tp_rpc_step *part;   /* a part of a stream that the client sends; NULL: acked, no more.
                          * Each is a call of its own: tp_rpc_done acks it. */
};

extern const struct tp_rpc_method tp_rpc_methods[];
extern const size_t tp_rpc_method_count;

enum tp_rpc_stage {
    TP_RPC_WAITING,  /* for the session to be open, or for its turn */
    TP_RPC_RUNNING,  /* inside a function */
    TP_RPC_STORING,  /* `op` is out */
    TP_RPC_WORKING,  /* `work` is out */
    TP_RPC_DRAINING, /* for the peer to have nothing left to send */
    TP_RPC_FOLDING,  /* for something of the session's: looked at after each of its events */
    TP_RPC_ENDED,
};

/* Memory that goes with the call: from the pool, or an answer of the store. */
struct tp_rpc_piece;

struct tp_rpc_call {
    struct tp_link link;
    const struct tp_rpc_method *method; /* NULL: unknown */
    enum tp_rpc_stage stage;
    tp_rpc_step *next;
    tp_rpc_step *again;  /* for the method: where it goes on when somebody else was faster */
    tp_rpc_step *finish; /* NULL, or frees what `state` holds; no effects */
    void *state;         /* the method's own; tp_rpc_take */

    /* who asks */
    struct tp_peer *peer;      /* NULL: has left, or it is our own */
    struct tp_slice user;      /* a copy; empty: not known */
    struct tp_message request; /* kept; its id is what is acked */
    bool is_part;
    bool is_own; /* nobody asks: it is our own */
    bool has_turn;
    uint64_t until_ns; /* waits for the document's first update until then; 0: does not */
    uint64_t epoch;    /* of the document when it began: a deleted one is not written to any more */
    bool encrypted;    /* flag of the answer: the request's, unless the method says otherwise */
    struct tp_slice request_id; /* of the answer: of the call or, for a part, of the stream */
    char id_text[16];

    /* the operation that it waits for, or waited for */
    struct tp_store_op op;
    struct tp_work_op work;
    enum tp_status status;     /* of the operation that was answered last */
    struct tp_store_row *rows; /* of the last READ; stay until the call ends or tp_rpc_drop_rows */
    size_t row_count;
    uint32_t tries; /* of a WRITE that somebody else was faster with */
    struct tp_rpc_piece *pieces;
};

/* What a request says. Wrong once, wrong for good: read straight down, ask `wrong` at the end, or
 * let tp_rpc_refused answer. A key with the value undefined is not there; the last of equal keys
 * counts; keys that nobody asks for are ignored. */
struct tp_rpc_args {
    struct {
        struct tp_slice key, value; /* value: one `any`, all of it */
    } members[TP_RPC_MEMBER_COUNT_MAX];
    uint32_t count;
    char wrong[TP_RPC_WRONG_SIZE]; /* what to tell the client; empty: nothing is wrong */
};

/* ---- args.c -------------------------------------------------------------------------------------
 */

void tp_rpc_args_read(struct tp_rpc_args *args, struct tp_slice payload);
/* There, and neither undefined nor null. */
bool tp_rpc_has(const struct tp_rpc_args *args, const char *name);
struct tp_slice tp_rpc_text(struct tp_rpc_args *args, const char *name, size_t size_max);
struct tp_slice tp_rpc_bytes(struct tp_rpc_args *args, const char *name, size_t size_max);
double tp_rpc_number(struct tp_rpc_args *args, const char *name);
/* A whole number from 0 to `max`, which is at most 2^53 - 1. */
uint64_t tp_rpc_whole(struct tp_rpc_args *args, const char *name, uint64_t max);
bool tp_rpc_flag(struct tp_rpc_args *args, const char *name);
/* An array of at most `count_max` values: a reader of them, and how many there are. */
struct tp_reader tp_rpc_array(struct tp_rpc_args *args, const char *name, uint64_t count_max,
                              uint64_t *count);
/* The next value of an array of texts, bounded as tp_rpc_text. */
struct tp_slice tp_rpc_array_text(struct tp_rpc_args *args, const char *name, struct tp_reader *in,
                                  size_t size_max);
/* The next value of an array, or a member, as an object of its own. What is wrong there is wrong in
 * `args`: ask there after reading `out` (tp_rpc_args_join). */
void tp_rpc_array_object(struct tp_rpc_args *args, const char *name, struct tp_reader *in,
                         struct tp_rpc_args *out);
void tp_rpc_object(struct tp_rpc_args *args, const char *name, struct tp_rpc_args *out);
void tp_rpc_args_join(struct tp_rpc_args *args, const struct tp_rpc_args *inner);
/* Any value, all of it; data NULL: not there. */
struct tp_slice tp_rpc_value(const struct tp_rpc_args *args, const char *name);
/* Says what is wrong, unless something was before. */
void tp_rpc_wrong(struct tp_rpc_args *args, const char *name, const char *words);

/* ---- desk.c -------------------------------------------------------------------------------------
 */

struct tp_rpc {
    const struct tp_rpc_env *env;
    struct tp_session *session;
    uint64_t now_ns, wall_ms; /* of the event at hand */
    struct tp_link calls;     /* in the order in which they came */
    uint32_t call_count, inflight;
    uint64_t call_size, part_size; /* bytes of their requests; of parts alone */
    uint32_t part_count;
    bool paused;                     /* somebody who sends parts is not read from */
    bool running[TP_RPC_TURN_COUNT]; /* a call of that turn is under way */
    struct tp_rpc_automatic {
        uint64_t seen_count;   /* of tp_session_facts.write_count */
        uint64_t update_count; /* since the last one */
        uint64_t last_ms;      /* when that was, or the first update; 0: not yet */
        bool is_wanted, is_under_way;
    } automatic;
    struct said *said; /* what effects of the event at hand point to */

    /* what is known of uploads (files.h) */
    struct tp_link uploads;
    uint32_t upload_count;
    size_t upload_size;
};

/* Zeroed memory that goes with the call. */
void *tp_rpc_take(struct tp_rpc *rpc, struct tp_rpc_call *call, size_t size);
void tp_rpc_drop_rows(struct tp_rpc_call *call);
bool tp_rpc_has_room(const struct tp_effects *out, uint32_t count);

/* Ends the call: a success. Takes `payload`, one `any` value, which must not be full. */
void tp_rpc_reply(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_buffer *payload,
                  struct tp_effects *out);
/* Ends the call: an error. `details` is copied. A part's error goes to its stream. */
void tp_rpc_fail(struct tp_rpc *rpc, struct tp_rpc_call *call, uint32_t status, const char *details,
                 struct tp_effects *out);
/* As above, with a payload {name: value}. */
void tp_rpc_fail_with(struct tp_rpc *rpc, struct tp_rpc_call *call, uint32_t status,
                      const char *details, const char *name, struct tp_slice value,
                      struct tp_effects *out);
/* Ends the call with the ack alone: a part that was taken. */
void tp_rpc_done(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out);
/* Ends the call: the client is to send the same frame again after `retry_ms`. */
void tp_rpc_later(struct tp_rpc *rpc, struct tp_rpc_call *call, uint64_t retry_ms,
                  struct tp_effects *out);
/* True if something is wrong with the arguments: then the call has ended with 400. */
bool tp_rpc_refused(struct tp_rpc *rpc, struct tp_rpc_call *call, const struct tp_rpc_args *args,
                    struct tp_effects *out);
/* True if the operation failed: then the call has ended with 503. */
bool tp_rpc_broken(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out);

/* A part of the answer's stream to the peer, if it is there. Takes `payload`. The call goes on. */
void tp_rpc_send_part(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_buffer *payload,
                      struct tp_effects *out);

/* A request of the server's own to the other members, who ack it. Takes `payload`. */
void tp_rpc_broadcast(struct tp_rpc *rpc, const struct tp_rpc_call *call, const char *method,
                      struct tp_buffer *payload, struct tp_effects *out);

/* Fill call->op.ranges and range_count, or parts, before. Keys and values stay until `next`. */
void tp_rpc_read(struct tp_rpc *rpc, struct tp_rpc_call *call, tp_rpc_step *next,
                 struct tp_effects *out);
void tp_rpc_write(struct tp_rpc *rpc, struct tp_rpc_call *call, tp_rpc_step *next,
                  struct tp_effects *out);
/* Fill call->work before, but for kind. Its outputs stay until the next operation or the end. */
void tp_rpc_work(struct tp_rpc *rpc, struct tp_rpc_call *call, enum tp_work_kind kind,
                 tp_rpc_step *next, struct tp_effects *out);
/* Goes on when the peer has nothing left to send; not at all when it leaves before. */
void tp_rpc_drained(struct tp_rpc *rpc, struct tp_rpc_call *call, tp_rpc_step *next,
                    struct tp_effects *out);
/* True: nothing is stored of the document yet, and the call waits for it; then, or when it has
 * waited long enough, `next` goes on. Clients send updates in batches, and calls at once. */
bool tp_rpc_awaits_document(struct tp_rpc *rpc, struct tp_rpc_call *call, tp_rpc_step *next);
/* The document's whole content. False: the call waits until it is in one piece, then `next` asks
 * again; or it has ended, because it cannot be had. */
bool tp_rpc_content(struct tp_rpc *rpc, struct tp_rpc_call *call, tp_rpc_step *next,
                    struct tp_session_content *content, struct tp_effects *out);
/* A call that nobody asked for. */
void tp_rpc_start_own(struct tp_rpc *rpc, const struct tp_rpc_method *method, tp_rpc_step *finish);

/* ---- automatic.c --------------------------------------------------------------------------------
 */

/* Something was written since it was looked at, or somebody leaves. */
bool tp_rpc_is_due(const struct tp_rpc *rpc, bool somebody_left);
void tp_rpc_automatic_look(struct tp_rpc *rpc, bool somebody_left);
