/* store/answer.h - the rows of a READ, gathered into the one heap block that the asker frees.
 *
 *     [key value key value ... ][ struct tp_store_row, one each ] */
#pragma once

#include "base/buffer.h"
#include "seam/store_op.h"

#define TP_ANSWER_SIZE_MAX ((size_t)1 << 30) /* a READ of more answers TP_FULL */

struct tp_answer_row {
    enum tp_store_table table;
    size_t at; /* of the key in bytes; the value follows it */
    size_t key_size, value_size;
    bool has_value;
};

struct tp_answer {
    struct tp_buffer bytes;
    struct tp_answer_row *rows;
    size_t row_count, row_room;
};

struct tp_answer tp_answer_start(void);
void tp_answer_add(struct tp_answer *answer, const struct tp_store_range *range,
                   struct tp_slice key, struct tp_slice value);
/* Fills the answer of `op`: `status`, and the rows if it is TP_OK. Frees the rest. */
void tp_answer_finish(struct tp_answer *answer, struct tp_store_op *op, enum tp_status status);
