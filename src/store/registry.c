/* The list of backends. Add a line; the build finds the file. */
#include <stdlib.h>

#include "store/store.h"

#define BACKENDS(X) \
    X(memory)       \
    X(rocksdb)

#define DECLARE(name) extern const struct tp_store_backend tp_store_##name;
#define ENTRY(name) &tp_store_##name,

BACKENDS(DECLARE)
const struct tp_store_backend *const tp_store_backends[] = {BACKENDS(ENTRY) NULL};

const struct tp_store_backend *tp_store_backend_find(const char *name)
{
    for (size_t i = 0; tp_store_backends[i] != NULL; i++)
        if (strcmp(tp_store_backends[i]->name, name) == 0)
            return tp_store_backends[i];
    return NULL;
}

void tp_store_op_finish(struct tp_store_op *op)
{
    free(op->answer);
    op->answer = NULL;
    op->answer_size = 0;
    op->rows = NULL;
    op->row_count = 0;
}
