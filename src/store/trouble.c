#include "store/trouble.h"

#include <errno.h>
#include <stdio.h>

/* RocksDB hands on the text of strerror(3), and names corruption itself. */
static const struct {
    const char *words;
    enum tp_store_state state;
} known[] = {
    {"No space left", TP_STORE_FULL},
    {"Disk quota exceeded", TP_STORE_FULL},
    {"Read-only file system", TP_STORE_READ_ONLY},
    {"Corruption", TP_STORE_CORRUPT},
};

const char *tp_store_state_name(enum tp_store_state state)
{
    static const char *const names[TP_STORE_STATE_COUNT] = {
        [TP_STORE_OK] = "ok",
        [TP_STORE_CORRUPT] = "damaged",
        [TP_STORE_STALLED] = "stalled",
        [TP_STORE_RESERVED] = "disk reserve reached",
        [TP_STORE_FULL] = "disk full",
        [TP_STORE_READ_ONLY] = "disk is read-only",
        [TP_STORE_FAILED] = "I/O error",
    };
    return state < TP_STORE_STATE_COUNT ? names[state] : "unknown";
}

struct tp_trouble tp_trouble_from(const char *sentence)
{
    struct tp_trouble trouble = {.state = TP_STORE_FAILED};

    for (size_t nth = 0; nth < sizeof known / sizeof *known; nth++)
        if (strstr(sentence, known[nth].words) != NULL) {
            trouble.state = known[nth].state;
            break;
        }
    snprintf(trouble.detail, sizeof trouble.detail, "%s", sentence);
    return trouble;
}

struct tp_trouble tp_trouble_errno(int error, const char *tried)
{
    char sentence[TP_STORE_DETAIL_SIZE];

    snprintf(sentence, sizeof sentence, "%s: %s", tried, strerror(error));
    return tp_trouble_from(sentence);
}

enum tp_status tp_trouble_status(const struct tp_trouble *trouble)
{
    if (trouble->state == TP_STORE_OK)
        return TP_OK;
    return trouble->state == TP_STORE_FULL || trouble->state == TP_STORE_RESERVED ? TP_FULL : TP_IO;
}
