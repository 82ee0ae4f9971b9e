#include "crdt/content_map.h"

#include <stdlib.h>

#include "base/hash.h"
#include "wire/any.h"

#define ANY_DEPTH_MAX 64u
#define NOTHING UINT32_MAX

/* One range of one IdMap. Later ones, of a higher `rank`, win. */
struct item {
    uint64_t client, from, to;
    uint32_t rank;
    uint32_t list; /* of attributes */
};

struct items {
    struct item *list;
    size_t count, room;
    bool normal; /* in order, nothing twice, neighbours joined */
};

struct attribute {
    size_t name_at, name_size, value_at, value_size; /* in `bytes` */
};

struct list {
    size_t at; /* in `members` */
    uint32_t count;
};

/* Finds what is equal: open addressing, the load kept below a half. */
struct table {
    uint32_t *slots;
    size_t room; /* a power of two */
    size_t count;
};

struct tp_content_map {
    struct items items[TP_CONTENT_COUNT];
    uint32_t rank;
    struct tp_buffer bytes; /* names and values of attributes */
    struct attribute *attributes;
    size_t attribute_count, attribute_room;
    uint32_t *members; /* attributes of the lists, one list after the other */
    size_t member_count, member_room;
    struct list *lists;
    size_t list_count, list_room;
    struct table known_attributes, known_lists;
};

static void *grown(void *array, size_t count, size_t *room, size_t each)
{
    if (count < *room)
        return array;
    *room = *room == 0 ? 16 : 2 * *room;
    array = realloc(array, *room * each);
    TP_ASSERT(array != NULL);
    return array;
}

struct tp_content_map *tp_content_map_create(void)
{
    struct tp_content_map *map = calloc(1, sizeof *map);

    TP_ASSERT(map != NULL);
    map->bytes = tp_buffer_growing(SIZE_MAX);
    for (unsigned i = 0; i < TP_CONTENT_COUNT; i++)
        map->items[i].normal = true;
    return map;
}

void tp_content_map_destroy(struct tp_content_map *map)
{
    if (map == NULL)
        return;
    for (unsigned i = 0; i < TP_CONTENT_COUNT; i++)
        free(map->items[i].list);
    tp_buffer_finish(&map->bytes);
    free(map->attributes);
    free(map->members);
    free(map->lists);
    free(map->known_attributes.slots);
    free(map->known_lists.slots);
    free(map);
}

/* ---- what is equal is kept once -----------------------------------------------------------------
 */

static struct tp_slice name_of(const struct tp_content_map *map, const struct attribute *attribute)
{
    return tp_slice_of(map->bytes.data + attribute->name_at, attribute->name_size);
}

static struct tp_slice value_of(const struct tp_content_map *map, const struct attribute *attribute)
{
    return tp_slice_of(map->bytes.data + attribute->value_at, attribute->value_size);
}

static uint64_t hash_attribute(struct tp_slice name, struct tp_slice value)
{
    return tp_hash64_seeded(value, tp_hash64(name));
}

/* Before the first member there is no memory, and NULL + 0 is undefined. */
static const uint32_t *members_at(const struct tp_content_map *map, size_t at, uint32_t count)
{
    return count > 0 ? map->members + at : map->members;
}

static uint64_t hash_list(const uint32_t *members, uint32_t count)
{
    return tp_hash64(tp_slice_of(members, count * sizeof *members));
}

static uint64_t hash_nth(const struct tp_content_map *map, bool of_lists, uint32_t nth)
{
    if (of_lists)
        return hash_list(members_at(map, map->lists[nth].at, map->lists[nth].count),
                         map->lists[nth].count);
    return hash_attribute(name_of(map, &map->attributes[nth]),
                          value_of(map, &map->attributes[nth]));
}

static void put(struct table *table, uint64_t hash, uint32_t nth)
{
    size_t at = hash & (table->room - 1);

    while (table->slots[at] != NOTHING)
        at = (at + 1) & (table->room - 1);
    table->slots[at] = nth;
}

/* Room for one more. */
static void make_room(const struct tp_content_map *map, struct table *table, bool of_lists)
{
    if (2 * (table->count + 1) <= table->room)
        return;
    table->room = table->room == 0 ? 32 : 2 * table->room;
    free(table->slots);
    table->slots = malloc(table->room * sizeof *table->slots);
    TP_ASSERT(table->slots != NULL);
    memset(table->slots, 0xff, table->room * sizeof *table->slots);
    for (size_t nth = 0; nth < table->count; nth++)
        put(table, hash_nth(map, of_lists, (uint32_t)nth), (uint32_t)nth);
}

static uint32_t know_attribute(struct tp_content_map *map, struct tp_slice name,
                               struct tp_slice value)
{
    struct table *table = &map->known_attributes;
    const uint64_t hash = hash_attribute(name, value);

    make_room(map, table, false);
    for (size_t at = hash & (table->room - 1); table->slots[at] != NOTHING;
         at = (at + 1) & (table->room - 1)) {
        const struct attribute *known = &map->attributes[table->slots[at]];
        if (tp_slice_equal(name_of(map, known), name) &&
            tp_slice_equal(value_of(map, known), value))
            return table->slots[at];
    }
    map->attributes =
        grown(map->attributes, map->attribute_count, &map->attribute_room, sizeof *map->attributes);
    struct attribute *attribute = &map->attributes[map->attribute_count];
    attribute->name_at = map->bytes.size;
    attribute->name_size = name.size;
    tp_buffer_append(&map->bytes, name.data, name.size);
    attribute->value_at = map->bytes.size;
    attribute->value_size = value.size;
    tp_buffer_append(&map->bytes, value.data, value.size);
    TP_ASSERT(!map->bytes.full && map->attribute_count < NOTHING);
    put(table, hash, (uint32_t)map->attribute_count);
    table->count++;
    return (uint32_t)map->attribute_count++;
}

/* The list whose members are the last `count` of `members`, which lose them if it is known. */
static uint32_t know_list(struct tp_content_map *map, uint32_t count)
{
    struct table *table = &map->known_lists;
    const size_t from = map->member_count - count;
    const uint32_t *const list = members_at(map, from, count);
    const uint64_t hash = hash_list(list, count);

    make_room(map, table, true);
    for (size_t at = hash & (table->room - 1); table->slots[at] != NOTHING;
         at = (at + 1) & (table->room - 1)) {
        const struct list *known = &map->lists[table->slots[at]];
        if (known->count == count &&
            (count == 0 || memcmp(map->members + known->at, list, count * sizeof *list) == 0)) {
            map->member_count = from;
            return table->slots[at];
        }
    }
    map->lists = grown(map->lists, map->list_count, &map->list_room, sizeof *map->lists);
    map->lists[map->list_count] = (struct list){.at = from, .count = count};
    TP_ASSERT(map->list_count < NOTHING);
    put(table, hash, (uint32_t)map->list_count);
    table->count++;
    return (uint32_t)map->list_count++;
}

static void add_member(struct tp_content_map *map, uint32_t attribute)
{
    map->members = grown(map->members, map->member_count, &map->member_room, sizeof *map->members);
    map->members[map->member_count++] = attribute;
}

static void add_item(struct items *items, struct item item)
{
    items->list = grown(items->list, items->count, &items->room, sizeof *items->list);
    items->list[items->count++] = item;
    items->normal = false;
}

/* ---- reading ------------------------------------------------------------------------------------
 */

/* A gap and a length behind `end`: where the range begins, and where it ends. */
static uint64_t read_range(struct tp_reader *in, uint64_t *end)
{
    const uint64_t gap = tp_read_varuint(in), more = tp_read_varuint(in);

    in->bad |= gap > TP_VARUINT_MAX - *end || more >= TP_VARUINT_MAX - *end - gap;
    if (in->bad)
        return 0;
    const uint64_t from = *end + gap;
    *end = from + more + 1;
    return from;
}

/* Attributes and names as one IdMap numbers them. */
struct numbering {
    uint32_t *attributes;
    size_t attribute_count, attribute_room;
    struct tp_slice *names;
    size_t name_count, name_room;
};

static uint32_t read_attribute(struct tp_content_map *map, struct tp_reader *in,
                               struct numbering *seen)
{
    const uint64_t index = tp_read_varuint(in);

    if (in->bad || index < seen->attribute_count)
        return in->bad ? 0 : seen->attributes[index];
    in->bad |= index > seen->attribute_count;
    const uint64_t name_index = tp_read_varuint(in);
    in->bad |= name_index > seen->name_count;
    if (!in->bad && name_index == seen->name_count) {
        seen->names = grown(seen->names, seen->name_count, &seen->name_room, sizeof *seen->names);
        seen->names[seen->name_count++] = tp_read_string(in);
    }
    const uint8_t *value = in->at;
    if (in->bad || tp_any_skip(in, ANY_DEPTH_MAX) != TP_OK)
        return 0;
    seen->attributes = grown(seen->attributes, seen->attribute_count, &seen->attribute_room,
                             sizeof *seen->attributes);
    const uint32_t known =
        know_attribute(map, seen->names[name_index], tp_slice_of(value, (size_t)(in->at - value)));
    seen->attributes[seen->attribute_count++] = known;
    return known;
}

static void read_id_map(struct tp_content_map *map, struct items *items, struct tp_reader *in)
{
    struct numbering seen = {0};
    uint64_t client = 0;

    for (uint64_t clients = tp_read_count(in, 2); clients > 0 && !in->bad; clients--) {
        const uint64_t more = tp_read_varuint(in);
        in->bad |= more > TP_VARUINT_MAX - client;
        client += in->bad ? 0 : more;
        uint64_t end = 0;
        for (uint64_t ranges = tp_read_count(in, 3); ranges > 0 && !in->bad; ranges--) {
            const uint64_t from = read_range(in, &end);
            const uint64_t count = tp_read_count(in, 1);
            for (uint64_t i = 0; i < count && !in->bad; i++)
                add_member(map, read_attribute(map, in, &seen));
            if (in->bad)
                break;
            const struct item item = {client, from, end, map->rank,
                                      know_list(map, (uint32_t)count)};
            add_item(items, item);
        }
    }
    free(seen.attributes);
    free(seen.names);
}

enum tp_status tp_content_map_add(struct tp_content_map *map, struct tp_slice bytes)
{
    struct tp_reader in = tp_reader_of(bytes);

    map->rank++;
    for (unsigned i = 0; i < TP_CONTENT_COUNT; i++)
        read_id_map(map, &map->items[i], &in);
    return in.bad ? TP_MALFORMED : TP_OK;
}

/* Ranges of an IdSet, all of `list`. */
static void read_id_set(struct items *items, uint32_t rank, uint32_t list, struct tp_reader *in)
{
    for (uint64_t clients = tp_read_count(in, 2); clients > 0 && !in->bad; clients--) {
        const uint64_t client = tp_read_varuint(in);
        uint64_t end = 0;
        for (uint64_t ranges = tp_read_count(in, 2); ranges > 0 && !in->bad; ranges--) {
            const uint64_t from = read_range(in, &end);
            if (!in->bad)
                add_item(items, (struct item){client, from, end, rank, list});
        }
    }
}

enum tp_status tp_content_map_add_ids(struct tp_content_map *map, struct tp_slice ids,
                                      struct tp_slice user, uint64_t wall_ms)
{
    static const char *const names[TP_CONTENT_COUNT][2] = {{"insert", "insertAt"},
                                                           {"delete", "deleteAt"}};
    struct tp_buffer who = tp_buffer_growing(SIZE_MAX), when = tp_buffer_growing(SIZE_MAX);
    struct tp_reader in = tp_reader_of(ids);

    tp_any_write_string(&who, user);
    tp_any_write_number(&when, (double)wall_ms);
    map->rank++;
    for (unsigned i = 0; i < TP_CONTENT_COUNT; i++) {
        add_member(map, know_attribute(map, tp_slice_of(names[i][0], strlen(names[i][0])),
                                       tp_buffer_slice(&who)));
        add_member(map, know_attribute(map, tp_slice_of(names[i][1], strlen(names[i][1])),
                                       tp_buffer_slice(&when)));
        read_id_set(&map->items[i], map->rank, know_list(map, 2), &in);
    }
    tp_buffer_finish(&who);
    tp_buffer_finish(&when);
    return in.bad ? TP_MALFORMED : TP_OK;
}

/* ---- normal form --------------------------------------------------------------------------------
 */

static int in_order(const void *left, const void *right)
{
    const struct item *a = left, *b = right;

    if (a->client != b->client)
        return a->client < b->client ? -1 : 1;
    if (a->from != b->from)
        return a->from < b->from ? -1 : 1;
    return (a->rank > b->rank) - (a->rank < b->rank);
}

/* A heap of items by rank, the highest on top. */
struct heap {
    const struct item **list;
    size_t count;
};

static void heap_push(struct heap *heap, const struct item *item)
{
    size_t at = heap->count++;

    while (at > 0 && heap->list[(at - 1) / 2]->rank < item->rank) {
        heap->list[at] = heap->list[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap->list[at] = item;
}

static void heap_pop(struct heap *heap)
{
    const struct item *last = heap->list[--heap->count];
    size_t at = 0;

    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= heap->count)
            break;
        if (child + 1 < heap->count && heap->list[child + 1]->rank > heap->list[child]->rank)
            child++;
        if (heap->list[child]->rank <= last->rank)
            break;
        heap->list[at] = heap->list[child];
        at = child;
    }
    heap->list[at] = last;
}

/* Behind the others: joined to the last if it goes on there. */
static void emit(struct items *out, struct item item)
{
    struct item *last = out->count == 0 ? NULL : &out->list[out->count - 1];

    if (last != NULL && last->client == item.client && last->to == item.from &&
        last->list == item.list) {
        last->to = item.to;
        return;
    }
    add_item(out, item);
}

/* From left to right: at each clock the range with the highest rank of those that hold it. */
static void normalize(struct items *items)
{
    struct items out = {0};
    size_t next = 0;
    uint64_t client = 0, at = 0;

    if (items->normal)
        return;
    if (items->count > 0)
        qsort(items->list, items->count, sizeof *items->list, in_order);
    struct heap heap = {.list = malloc((items->count + 1) * sizeof *heap.list)};
    TP_ASSERT(heap.list != NULL);
    while (next < items->count || heap.count > 0) {
        if (heap.count == 0) {
            client = items->list[next].client;
            at = items->list[next].from;
        }
        while (next < items->count && items->list[next].client == client &&
               items->list[next].from <= at)
            heap_push(&heap, &items->list[next++]);
        while (heap.count > 0 && heap.list[0]->to <= at)
            heap_pop(&heap);
        if (heap.count == 0)
            continue;
        struct item part = *heap.list[0];
        part.from = at;
        if (next < items->count && items->list[next].client == client &&
            items->list[next].from < part.to)
            part.to = items->list[next].from;
        at = part.to;
        emit(&out, part);
    }
    free(heap.list);
    free(items->list);
    out.normal = true;
    *items = out;
}

/* ---- parts of it --------------------------------------------------------------------------------
 */

/* Both normal: the parts of `items` that `ids` holds, or does not. */
static void cut(struct items *items, const struct items *ids, bool keep_inside)
{
    struct items out = {0};
    size_t at = 0;

    for (size_t i = 0; i < items->count; i++) {
        struct item rest = items->list[i];
        while (at < ids->count &&
               (ids->list[at].client < rest.client ||
                (ids->list[at].client == rest.client && ids->list[at].to <= rest.from)))
            at++;
        for (size_t k = at; rest.from < rest.to; k++) {
            const bool more =
                k < ids->count && ids->list[k].client == rest.client && ids->list[k].from < rest.to;
            const uint64_t from =
                more ? (ids->list[k].from > rest.from ? ids->list[k].from : rest.from) : rest.to;
            const uint64_t to =
                !more ? rest.to : (ids->list[k].to < rest.to ? ids->list[k].to : rest.to);
            struct item before = rest, inside = rest;
            before.to = inside.from = from;
            inside.to = to;
            if (!keep_inside && before.from < before.to)
                emit(&out, before);
            if (keep_inside && inside.from < inside.to)
                emit(&out, inside);
            rest.from = to;
        }
    }
    free(items->list);
    out.normal = true;
    *items = out;
}

enum tp_status tp_content_map_cut(struct tp_content_map *map, struct tp_slice ids, bool keep_inside)
{
    struct tp_reader in = tp_reader_of(ids);

    for (unsigned i = 0; i < TP_CONTENT_COUNT; i++) {
        struct items set = {0};
        read_id_set(&set, 0, 0, &in);
        if (!in.bad) {
            normalize(&set);
            normalize(&map->items[i]);
            cut(&map->items[i], &set, keep_inside);
        }
        free(set.list);
    }
    return in.bad ? TP_MALFORMED : TP_OK;
}

/* ---- looking ------------------------------------------------------------------------------------
 */

static struct tp_content_range range_of(const struct tp_content_map *map, enum tp_content content,
                                        const struct item *item)
{
    const struct list *list = &map->lists[item->list];

    return (struct tp_content_range){.content = content,
                                     .client = item->client,
                                     .from = item->from,
                                     .to = item->to,
                                     .attribute_count = list->count,
                                     .attributes = map->members + list->at};
}

struct tp_content_attribute tp_content_map_attribute(const struct tp_content_map *map,
                                                     uint32_t index)
{
    return (struct tp_content_attribute){.name = name_of(map, &map->attributes[index]),
                                         .value = value_of(map, &map->attributes[index])};
}

struct tp_content_attribute tp_content_map_find(const struct tp_content_map *map,
                                                const struct tp_content_range *range,
                                                const char *name)
{
    for (uint32_t i = range->attribute_count; i-- > 0;) {
        const struct tp_content_attribute attribute =
            tp_content_map_attribute(map, range->attributes[i]);
        if (tp_slice_equal(attribute.name, tp_slice_of(name, strlen(name))))
            return attribute;
    }
    return (struct tp_content_attribute){{0}, {0}};
}

bool tp_content_map_next(struct tp_content_map *map, size_t *at, struct tp_content_range *out)
{
    size_t nth = (*at)++;

    for (unsigned i = 0; i < TP_CONTENT_COUNT; i++) {
        normalize(&map->items[i]);
        if (nth < map->items[i].count) {
            *out = range_of(map, i, &map->items[i].list[nth]);
            return true;
        }
        nth -= map->items[i].count;
    }
    return false;
}

void tp_content_map_filter(struct tp_content_map *map,
                           bool (*keep)(const void *context, const struct tp_content_map *map,
                                        const struct tp_content_range *range),
                           const void *context)
{
    for (unsigned i = 0; i < TP_CONTENT_COUNT; i++) {
        struct items *items = &map->items[i];
        size_t kept = 0;
        normalize(items);
        for (size_t k = 0; k < items->count; k++) {
            const struct tp_content_range range = range_of(map, i, &items->list[k]);
            if (keep(context, map, &range))
                items->list[kept++] = items->list[k];
        }
        items->count = kept;
    }
}

/* ---- writing ------------------------------------------------------------------------------------
 */

/* Which number an attribute, or a name, has in the IdMap being written. */
struct numbers {
    uint32_t *of_attribute; /* by attribute of the map; NOTHING: not yet */
    uint32_t *names;        /* attributes that were the first of their name */
    size_t name_count, name_room, count;
};

static void write_attribute(const struct tp_content_map *map, struct numbers *numbers, uint32_t nth,
                            struct tp_buffer *out)
{
    const struct tp_content_attribute attribute = tp_content_map_attribute(map, nth);
    size_t name = 0;

    if (numbers->of_attribute[nth] != NOTHING) {
        tp_write_varuint(out, numbers->of_attribute[nth]);
        return;
    }
    tp_write_varuint(out, numbers->count);
    numbers->of_attribute[nth] = (uint32_t)numbers->count++;
    while (
        name < numbers->name_count &&
        !tp_slice_equal(tp_content_map_attribute(map, numbers->names[name]).name, attribute.name))
        name++;
    tp_write_varuint(out, name);
    if (name == numbers->name_count) {
        numbers->names =
            grown(numbers->names, numbers->name_count, &numbers->name_room, sizeof *numbers->names);
        numbers->names[numbers->name_count++] = nth;
        tp_write_bytes(out, attribute.name);
    }
    tp_write_raw(out, attribute.value);
}

static void write_id_map(const struct tp_content_map *map, const struct items *items,
                         struct tp_buffer *out)
{
    struct numbers numbers = {.of_attribute =
                                  malloc((map->attribute_count + 1) * sizeof(uint32_t))};
    uint64_t clients = 0, client_before = 0;

    TP_ASSERT(numbers.of_attribute != NULL);
    memset(numbers.of_attribute, 0xff, (map->attribute_count + 1) * sizeof(uint32_t));
    for (size_t i = 0; i < items->count; i++)
        clients += i == 0 || items->list[i].client != items->list[i - 1].client;
    tp_write_varuint(out, clients);
    for (size_t i = 0; i < items->count;) {
        const uint64_t client = items->list[i].client;
        size_t end = i;
        uint64_t clock = 0;
        while (end < items->count && items->list[end].client == client)
            end++;
        tp_write_varuint(out, client - client_before);
        tp_write_varuint(out, end - i);
        client_before = client;
        for (; i < end; i++) {
            const struct item *item = &items->list[i];
            const struct list *list = &map->lists[item->list];
            tp_write_varuint(out, item->from - clock);
            tp_write_varuint(out, item->to - item->from - 1);
            clock = item->to;
            tp_write_varuint(out, list->count);
            for (uint32_t k = 0; k < list->count; k++)
                write_attribute(map, &numbers, map->members[list->at + k], out);
        }
    }
    free(numbers.of_attribute);
    free(numbers.names);
}

bool tp_content_map_is_empty(const struct tp_content_map *map)
{
    return map->items[TP_CONTENT_INSERTS].count + map->items[TP_CONTENT_DELETES].count == 0;
}

void tp_content_map_encode(struct tp_content_map *map, struct tp_buffer *out)
{
    for (unsigned i = 0; i < TP_CONTENT_COUNT; i++) {
        normalize(&map->items[i]);
        write_id_map(map, &map->items[i], out);
    }
}
