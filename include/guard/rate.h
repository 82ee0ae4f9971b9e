/* guard/rate.h - who says too much? Token buckets (spec 01 section 7).
 *
 *     rule:    class : track : count / window        sync:user:300/1000
 *     bucket:  one per rule and key; holds `count` tokens at most, gains count/window per ms;
 *              a message takes one token of every rule that counts it, or none at all
 *
 * The buckets of a core are its own, so nothing is asked of another core per message. A user whose
 * connections are spread over n cores has n buckets: never more than n times the rule. (A
 * connection goes to the core of its document, so those of one document share a bucket.) A full
 * bucket is as good as none: the table forgets it when it needs the place, and nothing is lost by
 * that. When all eight places of a key are taken by buckets that are not full, the fullest goes. */
#pragma once

#include "seam/message.h"

#define TP_RATE_RULE_COUNT_MAX 8u
#define TP_RATE_COUNT_MAX 1000000u
#define TP_RATE_WINDOW_MS_MAX 86400000u
#define TP_RATE_BUCKET_COUNT 65536u /* of a core: 1.5 MiB once all were used */

enum tp_rate_class {
    TP_RATE_SYNC,      /* everything that is not of the other two */
    TP_RATE_AWARENESS, /* awareness and presence */
    TP_RATE_FILE,      /* pieces of files */
    TP_RATE_NOTHING,   /* acks, pings */
};

enum tp_rate_track {
    TP_RATE_TRANSPORT, /* the connection */
    TP_RATE_USER,
    TP_RATE_DOCUMENT,
    TP_RATE_USER_DOCUMENT,
    TP_RATE_TRACK_COUNT,
};

struct tp_rate_rule {
    enum tp_rate_class class;
    enum tp_rate_track track;
    uint32_t count;
    uint32_t window_ms;
};

struct tp_rate_rules {
    uint32_t count;
    struct tp_rate_rule rules[TP_RATE_RULE_COUNT_MAX];
};

/* "off", or rules as above separated by commas. False: not that. Writes `out` on success only. */
bool tp_rate_rules_parse(const char *text, struct tp_rate_rules *out);

enum tp_rate_class tp_rate_class_of(const struct tp_message *message);

/* Hashes, since buckets need no names. 0: there is none; such a rule counts the connection. Both
 * include the room: users and documents of two rooms have nothing to do with each other. */
struct tp_rate_who {
    uint64_t connection; /* never 0 */
    uint64_t user;
    uint64_t document;
};

/* Which rules are asked: those about a document come after its permissions were checked, so that an
 * outsider cannot use up its budget (spec 01 section 9 item 5). */
enum tp_rate_phase { TP_RATE_OF_SENDER, TP_RATE_OF_DOCUMENT };

struct tp_rate;

/* Copies the rules. `seed` is a secret: nobody chooses keys that share a place. */
struct tp_rate *tp_rate_create(const struct tp_rate_rules *rules, uint64_t seed);
void tp_rate_destroy(struct tp_rate *rate); /* NULL is allowed */

/* 0: it may pass, and the tokens are taken. Else no token was taken, one of `track` is missing, and
 * there will be one after so many ns. */
uint64_t tp_rate_take(struct tp_rate *rate, enum tp_rate_phase phase, enum tp_rate_class class,
                      const struct tp_rate_who *who, uint64_t now_ns, enum tp_rate_track *track);
/* The message did not pass after all: gives back what the phase took. */
void tp_rate_give_back(struct tp_rate *rate, enum tp_rate_phase phase, enum tp_rate_class class,
                       const struct tp_rate_who *who, uint64_t now_ns);

/* The arithmetic, for tests: tokens after `elapsed_ms`. */
double tp_rate_refill(const struct tp_rate_rule *rule, double tokens, double elapsed_ms);
