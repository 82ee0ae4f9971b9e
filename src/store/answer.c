#include "store/answer.h"

#define FIRST_ROOM 16u

struct tp_answer tp_answer_start(void)
{
    return (struct tp_answer){.bytes = tp_buffer_growing(TP_ANSWER_SIZE_MAX)};
}

void tp_answer_add(struct tp_answer *answer, const struct tp_store_range *range,
                   struct tp_slice key, struct tp_slice value)
{
    if (answer->row_count == answer->row_room) {
        answer->row_room = answer->row_room == 0 ? FIRST_ROOM : answer->row_room * 2;
        answer->rows = realloc(answer->rows, answer->row_room * sizeof *answer->rows);
        TP_ASSERT(answer->rows != NULL);
    }
    answer->rows[answer->row_count++] = (struct tp_answer_row){.table = range->table,
                                                               .at = answer->bytes.size,
                                                               .key_size = key.size,
                                                               .value_size = value.size,
                                                               .has_value = !range->without_values};
    tp_buffer_append(&answer->bytes, key.data, key.size);
    if (!range->without_values)
        tp_buffer_append(&answer->bytes, value.data, value.size);
}

/* Rows hold pointers, so they are made when the bytes no longer move. */
static void place_rows(struct tp_answer *answer, struct tp_store_op *op)
{
    struct tp_buffer *bytes = &answer->bytes;
    const size_t padding = -bytes->size % _Alignof(struct tp_store_row);
    const size_t rows_size = answer->row_count * sizeof(struct tp_store_row);

    if (!tp_buffer_reserve(bytes, padding + rows_size))
        return;
    struct tp_store_row *rows = (struct tp_store_row *)(bytes->data + bytes->size + padding);
    for (size_t nth = 0; nth < answer->row_count; nth++) {
        const struct tp_answer_row *row = &answer->rows[nth];
        const uint8_t *key = bytes->data + row->at;

        rows[nth] = (struct tp_store_row){
            .table = row->table,
            .key = tp_slice_of(key, row->key_size),
            .value = tp_slice_of(row->has_value ? key + row->key_size : NULL, row->value_size)};
    }
    op->rows = rows;
    op->row_count = answer->row_count;
    op->answer = bytes->data;
    op->answer_size = bytes->size + padding + rows_size;
    *bytes = (struct tp_buffer){0};
}

void tp_answer_finish(struct tp_answer *answer, struct tp_store_op *op, enum tp_status status)
{
    op->rows = NULL;
    op->row_count = 0;
    op->answer = NULL;
    op->answer_size = 0;
    if (status == TP_OK && answer->row_count > 0)
        place_rows(answer, op);
    op->status = status == TP_OK && answer->bytes.full ? TP_FULL : status;
    tp_buffer_finish(&answer->bytes);
    free(answer->rows);
    *answer = (struct tp_answer){0};
}
