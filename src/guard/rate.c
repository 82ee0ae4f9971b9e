#include "guard/rate.h"

#include <math.h>
#include <stdlib.h>

#include "base/hash.h"

#define MS_NS 1e6
#define WAY_COUNT 8u
#define SET_COUNT (TP_RATE_BUCKET_COUNT / WAY_COUNT)
static_assert((SET_COUNT & (SET_COUNT - 1)) == 0, "sets are found by a mask");

/* Sums of fractions fall short of a whole token by so much at most: 300 times 1/300 is one. */
#define ROUNDING 1e-9

struct bucket {
    uint64_t key; /* 0: none */
    double tokens;
    uint64_t at_ns; /* the tokens are of this time */
};

struct tp_rate {
    struct tp_rate_rules rules;
    uint64_t seed;
    bool has[2]; /* rules of this phase */
    struct bucket buckets[TP_RATE_BUCKET_COUNT];
    uint8_t rule_of[TP_RATE_BUCKET_COUNT];
};

/* ---- rules --------------------------------------------------------------------------------------
 */

/* The position in a|b|c of the word that `*at` begins with, and goes on behind it; -1: of none. */
static int take_word(const char **at, const char *const words[], int count)
{
    const size_t size = strcspn(*at, ":/, ");

    for (int i = 0; i < count; i++) {
        if (strlen(words[i]) == size && strncmp(*at, words[i], size) == 0) {
            *at += size;
            return i;
        }
    }
    return -1;
}

static bool take_number(const char **at, uint32_t max, uint32_t *out)
{
    uint64_t value = 0;
    const char *from = *at;

    for (; **at >= '0' && **at <= '9' && value <= max; ++*at)
        value = value * 10 + (uint64_t)(**at - '0');
    *out = (uint32_t)value;
    return *at > from && value > 0 && value <= max;
}

static bool take_letter(const char **at, char letter)
{
    return *(*at)++ == letter;
}

bool tp_rate_rules_parse(const char *text, struct tp_rate_rules *out)
{
    static const char *const classes[] = {"sync", "awareness", "file"};
    static const char *const tracks[] = {"transport", "user", "document", "user-document"};
    struct tp_rate_rules rules = {0};

    for (const char *at = text; strcmp(text, "off") != 0;) {
        struct tp_rate_rule rule;
        at += strspn(at, " ");
        const int class = take_word(&at, classes, 3);
        if (class < 0 || rules.count == TP_RATE_RULE_COUNT_MAX || !take_letter(&at, ':'))
            return false;
        const int track = take_word(&at, tracks, TP_RATE_TRACK_COUNT);
        if (track < 0 || !take_letter(&at, ':') ||
            !take_number(&at, TP_RATE_COUNT_MAX, &rule.count) || !take_letter(&at, '/') ||
            !take_number(&at, TP_RATE_WINDOW_MS_MAX, &rule.window_ms))
            return false;
        rule.class = (enum tp_rate_class) class;
        rule.track = (enum tp_rate_track)track;
        rules.rules[rules.count++] = rule;
        at += strspn(at, " ");
        if (*at == '\0')
            break;
        if (!take_letter(&at, ','))
            return false;
    }
    *out = rules;
    return true;
}

enum tp_rate_class tp_rate_class_of(const struct tp_message *message)
{
    switch (message->kind) {
    case TP_MESSAGE_ACK:
    case TP_MESSAGE_PING:
    case TP_MESSAGE_PONG:
    case TP_MESSAGE_COUNT:
        return TP_RATE_NOTHING;
    case TP_MESSAGE_AWARENESS:
    case TP_MESSAGE_AWARENESS_QUERY:
    case TP_MESSAGE_PRESENCE_ANNOUNCE:
    case TP_MESSAGE_PRESENCE_UNANNOUNCE:
    case TP_MESSAGE_PRESENCE_JOIN:
    case TP_MESSAGE_PRESENCE_LEAVE:
    case TP_MESSAGE_PRESENCE_HEARTBEAT:
        return TP_RATE_AWARENESS;
    case TP_MESSAGE_RPC:
        return message->rpc.type == 1 &&
                       (tp_slice_equal(message->rpc.method, TP_SLICE("fileUpload")) ||
                        tp_slice_equal(message->rpc.method, TP_SLICE("fileDownload")))
                   ? TP_RATE_FILE
                   : TP_RATE_SYNC;
    default:
        return TP_RATE_SYNC;
    }
}

/* ---- buckets ------------------------------------------------------------------------------------
 */

static enum tp_rate_phase phase_of(const struct tp_rate_rule *rule)
{
    return rule->track == TP_RATE_DOCUMENT || rule->track == TP_RATE_USER_DOCUMENT
               ? TP_RATE_OF_DOCUMENT
               : TP_RATE_OF_SENDER;
}

struct tp_rate *tp_rate_create(const struct tp_rate_rules *rules, uint64_t seed)
{
    struct tp_rate *rate = calloc(1, sizeof *rate); /* pages that are not touched do not exist */

    TP_ASSERT(rate != NULL);
    rate->rules = *rules;
    rate->seed = seed;
    for (uint32_t i = 0; i < rules->count; i++)
        rate->has[phase_of(&rules->rules[i])] = true;
    return rate;
}

void tp_rate_destroy(struct tp_rate *rate)
{
    free(rate);
}

double tp_rate_refill(const struct tp_rate_rule *rule, double tokens, double elapsed_ms)
{
    if (rule->window_ms == 0)
        return rule->count;
    tokens += elapsed_ms / rule->window_ms * rule->count;
    return tokens < rule->count ? tokens : rule->count;
}

static void bring_up_to(const struct tp_rate *rate, struct bucket *bucket, uint64_t now_ns)
{
    const struct tp_rate_rule *rule = &rate->rules.rules[rate->rule_of[bucket - rate->buckets]];

    if (now_ns <= bucket->at_ns)
        return;
    bucket->tokens = tp_rate_refill(rule, bucket->tokens, (double)(now_ns - bucket->at_ns) / MS_NS);
    bucket->at_ns = now_ns;
}

static uint64_t key_of(const struct tp_rate *rate, uint32_t index, const struct tp_rate_who *who)
{
    const struct tp_rate_rule *rule = &rate->rules.rules[index];
    uint64_t parts[3] = {(uint64_t)index << 8 | rule->track, 0, 0};

    if (rule->track != TP_RATE_DOCUMENT)
        parts[1] = who->user;
    if (phase_of(rule) == TP_RATE_OF_DOCUMENT)
        parts[2] = who->document;
    if (rule->track == TP_RATE_TRANSPORT || (rule->track != TP_RATE_DOCUMENT && who->user == 0) ||
        (phase_of(rule) == TP_RATE_OF_DOCUMENT && who->document == 0)) {
        parts[0] |= UINT64_C(1) << 32; /* a key that no user has */
        parts[1] = who->connection;
        parts[2] = 0;
    }
    return tp_hash64_seeded(tp_slice_of(parts, sizeof parts), rate->seed) | 1; /* 0 means none */
}

/* The bucket of the key, up to date. A new one is full. */
static struct bucket *find(struct tp_rate *rate, uint32_t index, uint64_t key, uint64_t now_ns)
{
    struct bucket *set = &rate->buckets[(key >> 32 & (SET_COUNT - 1)) * WAY_COUNT];
    struct bucket *place = NULL;
    double fullest = -1;

    for (uint32_t i = 0; i < WAY_COUNT; i++) {
        if (set[i].key == key) {
            bring_up_to(rate, &set[i], now_ns);
            return &set[i];
        }
    }
    for (uint32_t i = 0; i < WAY_COUNT && fullest < 1; i++) {
        double level = 1;
        if (set[i].key != 0) {
            bring_up_to(rate, &set[i], now_ns);
            level = set[i].tokens / rate->rules.rules[rate->rule_of[&set[i] - rate->buckets]].count;
        }
        if (level > fullest) {
            fullest = level;
            place = &set[i];
        }
    }
    *place = (struct bucket){.key = key, .tokens = rate->rules.rules[index].count, .at_ns = now_ns};
    rate->rule_of[place - rate->buckets] = (uint8_t)index;
    return place;
}

static bool applies(const struct tp_rate *rate, uint32_t index, enum tp_rate_phase phase,
                    enum tp_rate_class class)
{
    const struct tp_rate_rule *rule = &rate->rules.rules[index];

    return rule->class == class && phase_of(rule) == phase;
}

static void give(struct tp_rate *rate, uint32_t count, enum tp_rate_phase phase,
                 enum tp_rate_class class, const struct tp_rate_who *who, uint64_t now_ns)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!applies(rate, i, phase, class))
            continue;
        struct bucket *bucket = find(rate, i, key_of(rate, i, who), now_ns);
        bucket->tokens = fmin(bucket->tokens + 1, rate->rules.rules[i].count);
    }
}

uint64_t tp_rate_take(struct tp_rate *rate, enum tp_rate_phase phase, enum tp_rate_class class,
                      const struct tp_rate_who *who, uint64_t now_ns, enum tp_rate_track *track)
{
    if (!rate->has[phase])
        return 0;
    for (uint32_t i = 0; i < rate->rules.count; i++) {
        if (!applies(rate, i, phase, class))
            continue;
        const struct tp_rate_rule *rule = &rate->rules.rules[i];
        struct bucket *bucket = find(rate, i, key_of(rate, i, who), now_ns);
        if (bucket->tokens >= 1 - ROUNDING) {
            bucket->tokens = fmax(bucket->tokens - 1, 0);
            continue;
        }
        const double wait_ms = ceil((1 - bucket->tokens) * rule->window_ms / rule->count);
        give(rate, i, phase, class, who, now_ns);
        *track = rule->track;
        return (uint64_t)(fmax(wait_ms, 1) * MS_NS);
    }
    return 0;
}

void tp_rate_give_back(struct tp_rate *rate, enum tp_rate_phase phase, enum tp_rate_class class,
                       const struct tp_rate_who *who, uint64_t now_ns)
{
    give(rate, rate->rules.count, phase, class, who, now_ns);
}
