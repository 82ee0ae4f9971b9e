/* The list of dialects. Add a line; the build finds the file. */
#include "dialect/dialect.h"

/* In the order in which they are asked about a first message: the surest sign first. */
#define DIALECTS(X)                      \
    X(TP_DIALECT_TELEPORTAL, teleportal) \
    X(TP_DIALECT_YWEBSOCKET, ywebsocket)

#define DECLARE(id, name) extern const struct tp_dialect tp_dialect_##name;
#define ENTRY(id, name) &tp_dialect_##name,
#define CASE(id, name) \
    case id:           \
        return &tp_dialect_##name;

DIALECTS(DECLARE)
static const struct tp_dialect *const dialects[] = {DIALECTS(ENTRY)};

const struct tp_dialect *tp_dialect_get(enum tp_dialect_id id)
{
    switch (id) {
        DIALECTS(CASE)
    default:
        return NULL;
    }
}

const struct tp_dialect *tp_dialect_recognise(struct tp_slice first, bool path_names_document)
{
    for (size_t i = 0; i < sizeof dialects / sizeof *dialects; i++) {
        if (dialects[i]->id == TP_DIALECT_YWEBSOCKET && !path_names_document)
            continue; /* its messages name no document */
        if (dialects[i]->claims(first))
            return dialects[i];
    }
    return NULL;
}
