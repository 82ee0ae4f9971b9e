/* session/internal.h - the parts of a session, for its own folder.
 *
 *     held ──► handle ──► content: merged ◄─fold─ tail         deeds ──► store ──► dues ──► acks
 *     (while   one        questions ──► work ──► caches        (updates on their
 *     opening) message    (step 1s)              of answers     way to the disk)
 *
 * An event may ask for more than one event's effects can say: whatever is "one for each" waits in
 * a list of the session's, and tp_session_pump says as much of it as there is room for. Only what
 * is one for the message at hand is said at once, at most SAY_COUNT_MAX effects of it. */
#pragma once

#include "crdt/sidecars.h"
#include "crdt/state_vector.h"
#include "crdt/update.h"
#include "session/session.h"
#include "wire/record.h"
#include "wire/writer.h"

#define SECOND_NS UINT64_C(1000000000)

/* Effects that handling one message adds at most, and what the end of an event needs: WAKE, RESUME,
 * COMPACT, MORE or END. */
#define SAY_COUNT_MAX 8u
#define END_COUNT_MAX 4u
static_assert(SAY_COUNT_MAX + END_COUNT_MAX <= TP_EFFECT_COUNT_MAX, "one message always fits");

/* Updates up to this size are looked at on the spot. */
#define INLINE_SIZE_MAX ((size_t)64 << 10)
#define RANGE_ROOM 32u /* clients of one update that are looked at on the spot */

enum stage {
    STAGE_NEW,
    STAGE_NAMING,  /* READ of names is out */
    STAGE_READING, /* READ of base and log is out */
    STAGE_LOADING, /* LOAD is out */
    STAGE_OPEN,
    STAGE_REFUSED, /* could not be loaded: new again when `retry_ns` has passed */
};

/* Bytes in the heap that several may look at: the merged state. */
struct blob {
    uint32_t refs;
    struct tp_buffer bytes;
};

struct tail_entry {
    struct tp_frame *frame;
    struct tp_slice v1; /* in the frame */
};

/* What an effect of this event points to; given back when the next event comes. */
struct said {
    struct said *next;
    struct tp_frame *hold; /* bytes that the message points to, if not in message.frame */
    void *piece;           /* as `hold`, from the pool */
    size_t piece_size;
    struct tp_message message;
};

/* A message that cannot be handled yet (queue.c). */
struct held {
    struct tp_link link;
    struct tp_peer *peer; /* NULL: has left */
    bool follows;
    struct tp_message message;
};

enum deed_stage {
    DEED_CHECKED, /* by a worker, not yet: VALIDATE is out */
    DEED_WAITING, /* for the document to be created */
    DEED_STORING,
};

/* A received update on its way to being durable. In order of `ticket`. */
struct deed {
    struct tp_link link;
    enum deed_stage stage;
    bool repairs;      /* it is our own: all that the document holds ... */
    uint32_t refusals; /* ... when the store had refused so often */
    uint64_t ticket;
    uint64_t wall_ms;
    struct tp_peer *peer; /* who sent it; NULL: has left, or another node did */
    bool heard;           /* from another node: never published */
    bool given;           /* in an exchange */
    uint32_t origin_size;
    uint8_t *origin;           /* that node's source id */
    struct tp_message message; /* kept; its frame holds `update` */
    struct tp_slice update;    /* as received, without container */
    struct tp_slice stored; /* what the log entry holds: the same, or, encrypted, the container */
    enum tp_update_encoding encoding;
    struct tp_work_op *check;
    struct tp_store_op op;
    uint8_t key[TP_RECORD_LOG_KEY_SIZE];
    uint8_t number_key[TP_RECORD_NUMBER_KEY_SIZE];
    size_t head_size;
    uint8_t *head;         /* of the log entry */
    struct tp_buffer rows; /* of the parts that create the document */
};

enum due_kind {
    DUE_ACK,  /* Teleportal's */
    DUE_ECHO, /* y-sweet's */
    DUE_NONE, /* no answer, but a close when it fails */
};

/* An answer that waits for durability. In order of `ticket`. */
struct due {
    struct tp_link link;
    enum due_kind kind;
    bool own;    /* waits for the deed `ticket` alone; else for all up to it */
    bool failed; /* one of those has failed */
    struct tp_peer *peer;
    uint64_t ticket;
    uint64_t id;           /* ACK: of the message */
    struct tp_frame *echo; /* ECHO: its bytes */
};

/* An error NACK held back (spec 01 section 4.6). */
struct delayed {
    struct tp_link link;
    struct tp_peer *peer;
    uint64_t at_ns;
    uint64_t id;
    const char *error;
};

enum slot {
    SLOT_FULL,  /* all there is */
    SLOT_LEVEL, /* for who has every struct: the deletions */
    SLOT_COUNT,
    SLOT_OTHER = SLOT_COUNT, /* not kept */
};

/* The last answer of a kind, encoded as a whole message: shared by all who ask at once. */
struct cache {
    struct tp_frame *frame;
    uint64_t version; /* of the content, when the answer was begun */
    struct tp_work_op *op;
    uint64_t op_version;
};

/* A step 1 that waits for its answer. */
struct question {
    struct tp_link link;
    struct tp_peer *peer; /* NULL: has left, and a worker is at it */
    enum slot slot;
    bool step;      /* false: nobody asked; the peer has lost frames and gets an update */
    bool rest;      /* it has had pieces */
    bool encrypted; /* what the peer takes the document for, before anything is in it */
    uint64_t id;
    uint64_t version; /* of the content, when it came: the answer must hold that */
    struct tp_work_op *op;
    size_t size; /* of the state vector */
    uint8_t state_vector[];
};

/* One who is sent a large document in pieces (passages.c). The peer's `piecewise`. */
struct tp_piecewise {
    struct tp_link link; /* the passage's readers */
    struct tp_link turn; /* session->turns, or the passage's `waiting` */
    struct tp_peer *peer;
    struct passage *passage; /* NULL: left behind, at `at` */
    uint32_t next;           /* piece */
    bool step;               /* a step 2 ends it */
    bool waits;              /* for READY */
    uint64_t version;        /* of the content, that it must have in the end */
    struct tp_buffer at;     /* a state vector */
};

/* What somebody wants who is to be sent pieces. */
struct tp_passage_wish {
    bool step;
    bool exact; /* on a passage that has `version`; else what it lacks may come behind it */
    uint64_t version;
};

struct fold {
    struct tp_work_op *op;
    uint64_t version;
    uint32_t tail_count; /* entries that it takes in */
    struct tp_slice *inputs;
};

/* What one client of the document shows, or, without state, that it is gone. */
struct guest {
    uint64_t client;
    uint64_t clock;
    uint64_t renewed_ns;   /* without state: when it went */
    struct tp_peer *owner; /* NULL: nobody's */
    uint32_t state_size;   /* 0: gone */
    bool raised;           /* gone, and the clock is one above the last it had */
    bool untold;           /* other nodes have not heard this yet */
    uint8_t state[];       /* JSON text */
};

/* One announced awareness id. Outlives its peer until the leave is said. */
struct attendee {
    struct tp_link link;
    struct tp_peer *peer;      /* NULL: has left, or is at another node */
    struct outside_node *node; /* NULL: here */
    bool untold;               /* of another node: its join is not said yet */
    bool seen;                 /* of another node: in the heartbeat that is read */
    uint64_t awareness_id;
    uint32_t client_size, user_size, data_size;
    uint8_t bytes[]; /* client id, user id, data */
};

/* Another node with people in this document. */
struct outside_node {
    struct tp_link link;
    uint64_t heard_ns;
    uint32_t attendee_count;
    uint32_t name_size;
    uint8_t name[];
};

/* Somebody to whom the roster is being read. */
struct reading {
    struct tp_link link;
    struct tp_peer *peer;
    struct tp_link *at; /* the next attendee; the list's head: done */
    uint64_t id;        /* the announce to ack at the end */
};

struct tp_session {
    const struct tp_session_env *env;
    struct tp_slice room, document; /* behind the struct */
    enum stage stage;
    uint64_t now_ns, wall_ms; /* of the event at hand */
    uint64_t wake_ns;         /* as last asked for; 0: not */
    uint64_t empty_since_ns;  /* no peer since; 0: there are */
    uint64_t retry_ns;
    uint64_t changed_ns; /* the content or the caches */
    struct said *said;
    bool closing; /* told to end */
    bool paused;  /* somebody is */
    bool unsaved; /* the store refused something that the content has */
    uint32_t refusals;
    uint64_t repair_ns; /* unsaved: store all of it then */

    /* peers: told hello yet or not, or to be closed for doom_reason */
    struct tp_link joining, peers, doomed;
    uint32_t peer_count;
    uint32_t counts[TP_DIALECT_COUNT];
    enum tp_close_reason doom_reason;
    struct tp_link held, following;
    uint32_t held_count; /* of both */
    size_t held_size;

    /* the document's name: 0 number: it does not exist yet */
    uint64_t number, epoch;
    uint8_t mode; /* enum tp_record_mode; 0: not decided: the first update does */
    bool creating;
    bool joining_other;            /* reopened: another node had created it */
    uint64_t sequence;             /* of the next log entry */
    uint64_t log_count, log_size;  /* since the base */
    struct tp_buffer name_record;  /* as it is stored: what creation and deletion replace */
    struct tp_state_vector buried; /* what deleted epochs held */
    enum deletion {
        DELETION_NONE,
        DELETION_WANTED,
        DELETION_STORING,
        DELETION_STORED,
    } deletion;
    struct burial *burial; /* STORED: what the store has answered */
    bool measuring;        /* the tail is merged first: what comes meanwhile is held */
    bool over_warning, over_limit;
    size_t counted_size; /* in counters.document_bytes */
    uint32_t news;       /* to be told: bits of enum tp_news */
    bool mourning;       /* some peers are to be told that it was deleted */
    bool was_encrypted;  /* what was deleted */
    struct tp_store_op *read;
    struct tp_work_op *load;
    struct tp_slice *load_inputs;
    size_t load_input_count;

    /* the content */
    struct blob *merged; /* V1, normal; NULL: nothing */
    uint64_t merged_version;
    uint64_t version;     /* one more for every accepted update */
    uint64_t write_count; /* of them, those that were no first sync */
    struct tail_entry *tail;
    uint32_t tail_count, tail_room;
    size_t tail_size;
    uint64_t added_size;                 /* bytes of all accepted updates */
    struct tp_buffer sidecars;           /* encrypted: a list (crdt/sidecars.h), of all up to now */
    struct tp_state_vector state_vector; /* never more than the content has */
    struct fold fold;
    struct cache caches[2][SLOT_COUNT]; /* Teleportal's, y-websocket's */
    uint64_t known_deletes[4];          /* hashes of accepted updates that only delete */
    uint32_t known_deletes_at;

    /* checkpoint.c */
    struct tp_frame **checkpoints; /* state vectors by mark; NULL until the first update */
    uint32_t checkpoint_room;
    size_t checkpoints_size;
    uint64_t part_left; /* bytes; 0: the next update begins a part */
    uint32_t mark;      /* of the part at hand */

    /* questions, updates, answers under way */
    struct tp_link questions;
    uint32_t question_count;
    struct tp_link passages, turns, wanting; /* passages.c */
    size_t passages_size;                    /* their pieces */
    uint64_t passed_ns;                      /* when the last reader went */
    struct tp_link deeds, dues, delayed;
    uint64_t ticket; /* of the last deed */
    uint32_t deed_count, delayed_count;
    size_t deed_size;
    uint32_t inflight; /* operations out */
    uint64_t quarantine_ns;

    /* who is there */
    struct guest **guests; /* by client, ascending */
    uint32_t guest_count, guest_room;
    size_t guest_size;
    uint64_t guest_due_ns;  /* look again then; 0: nobody to look after */
    struct tp_link roster;  /* attendees */
    struct tp_link leaving; /* attendees without peer */
    struct tp_link readings;
    uint32_t attendee_count; /* those on the way out, too */
    struct tp_link outside;  /* nodes whose people are at the roster's end */
    uint32_t outside_count;  /* those people */
    uint32_t untold_count;   /* of them, whose join is not said */

    struct bus *bus;                /* what is between us and other nodes; NULL: there are none */
    const struct tp_heard *hearing; /* while another node's words are handled */
};

/* ---- session.c: saying things -------------------------------------------------------------------
 */

/* A message of our own making for an effect of this event, zeroed but for kind. */
struct said *tp_session_say(struct tp_session *session, enum tp_message_kind kind);
/* As above: a copy of `message`, with its frame if it has one. */
struct said *tp_session_say_again(struct tp_session *session, const struct tp_message *message);
void tp_session_send(struct tp_effects *out, struct tp_peer *peer, struct said *said);
void tp_session_broadcast(struct tp_effects *out, const struct tp_peer *except, uint32_t audience,
                          struct said *said);
void tp_session_close(struct tp_effects *out, struct tp_peer *peer, enum tp_close_reason reason);
/* Reads no more from `peer` until what we are behind with is done. */
void tp_session_pause(struct tp_session *session, struct tp_peer *peer, struct tp_effects *out);
/* Handles a message of an open document. `peer` is NULL when it has left: then it is an update. */
void tp_session_hear(struct tp_session *session, struct tp_peer *peer, struct tp_message *message,
                     struct tp_effects *out);
/* Closes those who can be told no other way, or all peers, as there is room. */
void tp_session_doom(struct tp_session *session, enum tp_close_reason reason, bool everybody);
bool tp_session_has_room(const struct tp_effects *out, uint32_t count);
/* The document is of this mode, or of none yet. */
bool tp_session_takes(const struct tp_session *session, bool encrypted);

/* The audience of a peer that is no longer, or not yet, kept out. */
uint8_t tp_session_audience(const struct tp_peer *peer);
/* What is stored of the name; copied. Empty: nothing, or it is not known. */
void tp_session_set_name_record(struct tp_session *session, struct tp_slice record);

void *tp_session_take(struct tp_session *session, size_t size); /* zeroed */
void tp_session_give(struct tp_session *session, void *piece, size_t size);

/* A work operation for `step`; counted as in flight until tp_session_work_free. */
struct tp_work_op *tp_session_work(struct tp_session *session, enum tp_work_kind kind,
                                   uint32_t step, struct tp_effects *out);
void tp_session_work_free(struct tp_session *session, struct tp_work_op *op);

struct blob *tp_blob_create(struct tp_buffer *bytes); /* takes the bytes */
struct blob *tp_blob_ref(struct blob *blob);
void tp_blob_unref(struct blob *blob);

/* What a work operation's answer is for. */
enum step {
    STEP_LOAD = 1,
    STEP_FOLD,
    STEP_CHECK,
    STEP_CACHE,
    STEP_QUESTION,
    STEP_PIECE,
    STEP_DIGEST,
    STEP_GIVE,
    /* store operations */
    STEP_NAMES,
    STEP_ROWS,
    STEP_APPEND,
    STEP_QUARANTINE,
    STEP_BURIAL,
};

/* ---- opening.c ----------------------------------------------------------------------------------
 */

void tp_opening_start(struct tp_session *session, struct tp_effects *out);
void tp_opening_read(struct tp_session *session, struct tp_store_op *op, struct tp_effects *out);
void tp_opening_loaded(struct tp_session *session, struct tp_work_op *op, struct tp_effects *out);
/* The document cannot be read, or what we have is not sound: close who can be closed, try later. */
void tp_opening_fail(struct tp_session *session);
void tp_opening_finish(struct tp_session *session);

/* ---- queue.c ------------------------------------------------------------------------------------
 */

/* True if it has to wait for what its author said before. */
bool tp_queue_follows(const struct tp_peer *peer, const struct tp_message *message);
/* Keeps the message in one of the session's two lists. */
void tp_queue_put(struct tp_session *session, struct tp_link *list, struct tp_peer *peer,
                  struct tp_message *message, struct tp_effects *out);
void tp_queue_drop(struct tp_session *session, struct held *held);
bool tp_queue_pump(struct tp_session *session, struct tp_effects *out);
/* The document cannot be had now: who waits is told. */
bool tp_queue_refuse(struct tp_session *session, struct tp_effects *out);
void tp_queue_forget(struct tp_session *session, struct tp_peer *peer);
bool tp_queue_is_empty(const struct tp_session *session);
void tp_queue_check(const struct tp_session *session);
void tp_queue_finish(struct tp_session *session);

/* ---- attribution.c ------------------------------------------------------------------------------
 */

void tp_attribution_push(struct tp_session *session, const struct deed *deed,
                         struct tp_effects *out);

/* ---- burial.c -----------------------------------------------------------------------------------
 */

void tp_burial_want(struct tp_session *session, struct tp_effects *out);
/* False: there is more to say than there was room for. */
bool tp_burial_pump(struct tp_session *session, struct tp_effects *out);
void tp_burial_stored(struct tp_session *session, struct tp_store_op *op);
/* This client wrote in a deleted epoch: it is no other's, so whoever has something of it is old. */
bool tp_burial_has(const struct tp_session *session, uint64_t client);
/* The peer hears nothing of the document, and what it says does not count, until it begins anew. */
void tp_burial_mark(struct tp_peer *peer);
/* Marks it, and says why to `message`. */
void tp_burial_refuse(struct tp_session *session, struct tp_peer *peer,
                      const struct tp_message *message, struct tp_effects *out);
/* A step 1. True: it comes from somebody of a deleted epoch, and is answered. */
bool tp_burial_asks(struct tp_session *session, struct tp_peer *peer,
                    const struct tp_message *message, struct tp_effects *out);

/* ---- size.c -------------------------------------------------------------------------------------
 */

/* Bytes of the content; the tail at what it is before it is merged. */
size_t tp_size_bound(const struct tp_session *session);
void tp_size_weigh(struct tp_session *session); /* at the end of each event */
/* Whether an update of this size fits cannot be said before the tail is merged. */
bool tp_size_is_unclear(const struct tp_session *session, size_t more);
bool tp_size_wants_merge(const struct tp_session *session);
/* False: an update that grows the document by at most `more` is above the limit. */
bool tp_size_admits(struct tp_session *session, size_t more);
void tp_size_forget(struct tp_session *session);

/* ---- content.c ----------------------------------------------------------------------------------
 */

/* Shares `frame`, which holds `v1`. */
void tp_content_add(struct tp_session *session, struct tp_frame *frame, struct tp_slice v1,
                    const struct tp_update_range *ranges, uint32_t range_count);
/* True if `merged` holds everything of `version`; else it will, soon. */
bool tp_content_folded(struct tp_session *session, uint64_t version, struct tp_effects *out);
/* Long enough to be worth a merge; at rest a shorter one is. */
bool tp_content_tail_is_long(const struct tp_session *session, bool at_rest);
void tp_content_worked(struct tp_session *session, struct tp_work_op *op);
bool tp_content_is_empty(const struct tp_session *session);
struct tp_frame *tp_content_state_vector(struct tp_session *session);
void tp_content_forget_caches(struct tp_session *session);
void tp_content_finish(struct tp_session *session);

/* ---- checkpoint.c -------------------------------------------------------------------------------
 */

/* An update of that size is about to be added to the content. */
void tp_checkpoint_before(struct tp_session *session, size_t update_size);
void tp_checkpoint_behind(struct tp_session *session, struct tp_peer *peer, uint32_t mark);
void tp_checkpoint_forget(struct tp_peer *peer);
size_t tp_checkpoint_memory(const struct tp_session *session);
void tp_checkpoint_finish(struct tp_session *session);

/* ---- answers.c ----------------------------------------------------------------------------------
 */

void tp_answers_ask(struct tp_session *session, struct tp_peer *peer,
                    const struct tp_message *message, struct tp_effects *out);
void tp_answers_catch_up(struct tp_session *session, struct tp_peer *peer);
/* False: there is more to say than there was room for. */
bool tp_answers_pump(struct tp_session *session, struct tp_effects *out);
/* What of the content somebody with this state vector lacks, and all deletions: in V1 or V2. The
 * content must be folded, and not empty. */
struct tp_work_op *tp_answers_diff(struct tp_session *session, uint32_t step, bool v2,
                                   struct tp_slice sv, struct tp_effects *out);
/* The difference as a whole message: Teleportal's of V2, y-protocols' of V1. */
struct tp_frame *tp_answers_encode(struct tp_session *session, const struct tp_work_op *op,
                                   enum tp_message_kind kind);
void tp_answers_diff_free(struct tp_session *session, struct tp_work_op *op);
void tp_answers_worked(struct tp_session *session, struct tp_work_op *op, struct tp_effects *out);
void tp_answers_ready(struct tp_session *session, struct tp_peer *peer, struct tp_effects *out);
/* For passages.c: an update as a whole message, such a message as an effect, the step 2 behind all
 * pieces, and a question of who has had them. */
struct tp_frame *tp_answers_encode_update(struct tp_session *session, struct tp_slice v1);
void tp_answers_send_encoded(struct tp_session *session, struct tp_peer *peer,
                             enum tp_message_kind kind, struct tp_frame *frame,
                             struct tp_effects *out);
void tp_answers_end_pieces(struct tp_session *session, struct tp_peer *peer,
                           struct tp_effects *out);
void tp_answers_ask_rest(struct tp_session *session, struct tp_peer *peer, struct tp_slice sv,
                         const struct tp_passage_wish *wish);
void tp_answers_forget(struct tp_session *session, struct tp_peer *peer);
void tp_answers_finish(struct tp_session *session);

/* ---- passages.c ---------------------------------------------------------------------------------
 */

/* Starts to send `peer` what is above `sv` of a large document. False: there is no passage to join,
 * and `begin` forbids a new one. The merged state must be there, and be that of the wish. */
bool tp_passages_join(struct tp_session *session, struct tp_peer *peer, struct tp_slice sv,
                      const struct tp_passage_wish *wish, bool begin);
bool tp_passages_pump(struct tp_session *session, struct tp_effects *out);
void tp_passages_worked(struct tp_session *session, struct tp_work_op *op);
void tp_passages_ready(struct tp_session *session, struct tp_peer *peer);
void tp_passages_forget(struct tp_session *session, struct tp_peer *peer);
/* Those without readers: all, or those that nobody will join. */
void tp_passages_forget_idle(struct tp_session *session, bool all);
bool tp_passages_are_idle(const struct tp_session *session);
size_t tp_passages_memory(const struct tp_session *session);
void tp_passages_check(const struct tp_session *session);
void tp_passages_finish(struct tp_session *session);

/* ---- saving.c -----------------------------------------------------------------------------------
 */

void tp_saving_update(struct tp_session *session, struct tp_peer *peer, struct tp_message *message,
                      struct tp_effects *out);
/* An update of another node: `session->hearing` says whose. */
void tp_saving_heard(struct tp_session *session, struct tp_message *message,
                     struct tp_effects *out);
/* As tp_saving_update, of an author who might write and has left: nobody is told anything. */
void tp_saving_orphan(struct tp_session *session, struct tp_message *message,
                      struct tp_effects *out);
/* Too large to be looked at on the spot. */
bool tp_saving_is_large(const struct tp_message_update *update);
void tp_saving_checked(struct tp_session *session, struct tp_work_op *op, struct tp_effects *out);
void tp_saving_stored(struct tp_session *session, struct tp_store_op *op, struct tp_effects *out);
/* An answer that waits until all that was received so far is durable. Takes `echo`. */
void tp_saving_owe(struct tp_session *session, struct tp_peer *peer, enum due_kind kind,
                   uint64_t id, struct tp_frame *echo);
/* What waits for the document to be created will not be stored. */
void tp_saving_fail(struct tp_session *session);
/* What the store has refused is in the document, and its author may be gone: store all of it. */
void tp_saving_repair(struct tp_session *session, struct tp_effects *out);
bool tp_saving_pump(struct tp_session *session, struct tp_effects *out);
void tp_saving_forget(struct tp_session *session, struct tp_peer *peer);
void tp_saving_quarantine(struct tp_session *session, const struct tp_peer *peer,
                          struct tp_slice bytes, struct tp_effects *out);
void tp_saving_finish(struct tp_session *session);

/* ---- replies.c ----------------------------------------------------------------------------------
 */

void tp_replies_ack(struct tp_session *session, struct tp_peer *peer, uint64_t id,
                    struct tp_effects *out);
/* An error NACK, now or later (spec 01 section 4.6). `error` is a fixed text. */
void tp_replies_nack(struct tp_session *session, struct tp_peer *peer, uint64_t id,
                     const char *error, struct tp_effects *out);
void tp_replies_deny(struct tp_session *session, struct tp_peer *peer, bool encrypted,
                     struct tp_slice reason, struct tp_effects *out);
/* To whoever takes the document for one of the other mode. */
void tp_replies_mismatch(struct tp_session *session, struct tp_peer *peer, bool encrypted,
                         uint64_t id, struct tp_effects *out);
bool tp_replies_pump(struct tp_session *session, struct tp_effects *out);
uint64_t tp_replies_due_ns(const struct tp_session *session);
void tp_replies_forget(struct tp_session *session, struct tp_peer *peer);

/* ---- guests.c: awareness ------------------------------------------------------------------------
 */

void tp_guests_awareness(struct tp_session *session, struct tp_peer *peer,
                         struct tp_message *message, struct tp_effects *out);
void tp_guests_query(struct tp_session *session, struct tp_peer *peer, struct tp_message *message,
                     struct tp_effects *out);
/* All states in one message; nothing when nobody is there. `gone`: and who went lately. */
void tp_guests_send_all(struct tp_session *session, struct tp_peer *peer, bool gone,
                        struct tp_effects *out);
void tp_guests_left(struct tp_session *session, struct tp_peer *peer, struct tp_effects *out);
void tp_guests_expire(struct tp_session *session, struct tp_effects *out);
void tp_guests_hand_over(struct tp_session *session, uint64_t client, struct tp_peer *peer);
/* Awareness of other nodes' clients. */
void tp_guests_heard(struct tp_session *session, struct tp_message *message,
                     struct tp_effects *out);
/* What other nodes have not heard of ours, as one message; NULL: nothing. With `all`, all of it. */
struct said *tp_guests_untold(struct tp_session *session, bool all);
void tp_guests_check(const struct tp_session *session);
void tp_guests_finish(struct tp_session *session);

/* ---- roster.c: presence -------------------------------------------------------------------------
 */

void tp_roster_announce(struct tp_session *session, struct tp_peer *peer,
                        const struct tp_message *message, struct tp_effects *out);
void tp_roster_unannounce(struct tp_session *session, struct tp_peer *peer,
                          const struct tp_message *message, struct tp_effects *out);
bool tp_roster_has(const struct tp_session *session, const struct tp_peer *peer,
                   uint64_t awareness_id);
void tp_roster_left(struct tp_session *session, struct tp_peer *peer);
bool tp_roster_pump(struct tp_session *session, struct tp_effects *out);
void tp_roster_finish(struct tp_session *session);
/* Presence of other nodes' clients (spec 02 section 7.6). */
void tp_roster_heard(struct tp_session *session, const struct tp_message *message,
                     struct tp_effects *out);
/* Forgets nodes that were silent for too long; returns when to look again, 0: there are none. */
uint64_t tp_roster_expire(struct tp_session *session);
/* All of our own clients, as other nodes are told every now and then; NULL: there are none. */
struct said *tp_roster_heartbeat(struct tp_session *session);

/* ---- bus.c: other nodes -------------------------------------------------------------------------
 */

void tp_bus_init(struct tp_session *session);
/* Ours are to hear of this: an update, under a number of its own. */
void tp_bus_publish(struct tp_session *session, struct said *said, struct tp_effects *out);
/* The same for presence, and awareness that cannot be read: under the node's plain id. */
void tp_bus_tell(struct tp_session *session, struct said *said, struct tp_effects *out);
/* The table of guests has something untold: it is told soon, together with what comes meanwhile. */
void tp_bus_guests_changed(struct tp_session *session);
void tp_bus_heard(struct tp_session *session, const struct tp_heard *heard, struct tp_effects *out);
void tp_bus_linked(struct tp_session *session);
void tp_bus_shut(struct tp_session *session); /* not open: asks when it is */
/* Something was not taken in, or came twice wrong: ask what is missing. */
void tp_bus_missed(struct tp_session *session);
void tp_bus_worked(struct tp_session *session, struct tp_work_op *op, struct tp_effects *out);
bool tp_bus_pump(struct tp_session *session, struct tp_effects *out);
uint64_t tp_bus_due_ns(const struct tp_session *session);
size_t tp_bus_memory(const struct tp_session *session);
void tp_bus_finish(struct tp_session *session);
