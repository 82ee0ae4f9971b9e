#include "wire/merkle.h"

#define NODE_SIZE ((size_t)TP_SHA256_SIZE)

void tp_merkle_leaf(struct tp_slice chunk, uint8_t out[TP_SHA256_SIZE])
{
    static const uint8_t prefix = 0x00;
    const struct tp_slice pieces[] = {{&prefix, 1}, chunk};

    tp_sha256_pieces(pieces, 2, out);
}

static void join(const uint8_t *left, const uint8_t *right, uint8_t *out)
{
    uint8_t bytes[1 + 2 * NODE_SIZE] = {0x01};

    memcpy(bytes + 1, left, NODE_SIZE);
    memcpy(bytes + 1 + NODE_SIZE, right, NODE_SIZE);
    tp_sha256(tp_slice_of(bytes, sizeof bytes), out);
}

/* Nodes of the level above one of `count`. */
static uint32_t above(uint32_t count)
{
    return count / 2 + count % 2;
}

size_t tp_merkle_node_count(uint32_t leaf_count)
{
    size_t node_count = leaf_count;

    TP_ASSERT(leaf_count > 0);
    for (uint32_t count = leaf_count; count > 1; node_count += count)
        count = above(count);
    return node_count;
}

const uint8_t *tp_merkle_build(uint8_t *nodes, uint32_t leaf_count)
{
    uint8_t *level = nodes;

    TP_ASSERT(leaf_count > 0);
    for (uint32_t count = leaf_count; count > 1; count = above(count)) {
        uint8_t *const next = level + count * NODE_SIZE;

        for (uint32_t pair = 0; pair < count / 2; pair++)
            join(level + 2 * pair * NODE_SIZE, level + (2 * pair + 1) * NODE_SIZE,
                 next + pair * NODE_SIZE);
        if (count % 2 == 1)
            memcpy(next + count / 2 * NODE_SIZE, level + (count - 1) * NODE_SIZE, NODE_SIZE);
        level = next;
    }
    return level;
}

uint32_t tp_merkle_proof(const uint8_t *nodes, uint32_t leaf_count, uint32_t index,
                         const uint8_t *siblings[TP_MERKLE_LEVEL_COUNT_MAX])
{
    const uint8_t *level = nodes;
    uint32_t sibling_count = 0;

    TP_ASSERT(index < leaf_count);
    for (uint32_t count = leaf_count; count > 1; count = above(count), index /= 2) {
        if ((index ^ 1) < count)
            siblings[sibling_count++] = level + (index ^ 1) * NODE_SIZE;
        level += count * NODE_SIZE;
    }
    return sibling_count;
}

bool tp_merkle_verify(const uint8_t leaf[TP_SHA256_SIZE], uint32_t index, uint32_t leaf_count,
                      const struct tp_slice *proof, size_t proof_count,
                      const uint8_t root[TP_SHA256_SIZE])
{
    uint8_t node[NODE_SIZE];
    size_t used = 0;

    if (index >= leaf_count)
        return false;
    memcpy(node, leaf, NODE_SIZE);
    for (uint32_t count = leaf_count; count > 1; count = above(count), index /= 2) {
        if ((index ^ 1) >= count)
            continue;
        if (used == proof_count || proof[used].size != NODE_SIZE)
            return false;
        const uint8_t *const sibling = proof[used++].data;
        if (index % 2 == 0)
            join(node, sibling, node);
        else
            join(sibling, node, node);
    }
    return used == proof_count && memcmp(node, root, NODE_SIZE) == 0;
}
