#include "net/address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define BIT_COUNT 128u
#define IPV4_AT 96u /* where the bits of a mapped IPv4 address begin */

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

static bool is_ipv4(const struct tp_address *address)
{
    return memcmp(address->bytes, mapped, sizeof mapped) == 0;
}

/* The address without brackets and port. */
static struct tp_slice strip(struct tp_slice text)
{
    const uint8_t *const colon = memchr(text.data, ':', text.size);

    if (text.data[0] == '[') {
        const uint8_t *const end = memchr(text.data, ']', text.size);
        return end == NULL ? (struct tp_slice){0}
                           : tp_slice_of(text.data + 1, (size_t)(end - text.data) - 1);
    }
    if (colon == NULL ||
        memchr(colon + 1, ':', (size_t)(text.data + text.size - colon) - 1) != NULL)
        return text; /* IPv6, or no port */
    return tp_slice_of(text.data, (size_t)(colon - text.data));
}

enum tp_status tp_address_parse(struct tp_slice text, struct tp_address *out)
{
    char copy[INET6_ADDRSTRLEN] = "";
    struct tp_address address = {0};

    if (text.size == 0)
        return TP_MALFORMED;
    text = strip(text);
    if (text.size == 0 || text.size >= sizeof copy)
        return TP_MALFORMED;
    memcpy(copy, text.data, text.size);
    if (inet_pton(AF_INET, copy, address.bytes + sizeof mapped) == 1)
        memcpy(address.bytes, mapped, sizeof mapped);
    else if (inet_pton(AF_INET6, copy, address.bytes) != 1)
        return TP_MALFORMED;
    *out = address;
    return TP_OK;
}

static bool parse_range(struct tp_slice text, struct tp_address_range *out)
{
    const uint8_t *const slash = memchr(text.data, '/', text.size);
    const struct tp_slice address =
        slash == NULL ? text : tp_slice_of(text.data, (size_t)(slash - text.data));

    if (tp_address_parse(address, &out->first) != TP_OK)
        return false;
    const uint32_t from = is_ipv4(&out->first) ? IPV4_AT : 0;
    out->bit_count = BIT_COUNT;
    if (slash == NULL)
        return true;

    const size_t digit_count = text.size - address.size - 1;
    uint32_t bits = 0;
    if (digit_count == 0 || digit_count > 3)
        return false;
    for (const uint8_t *at = slash + 1; at < text.data + text.size; at++) {
        if (*at < '0' || *at > '9')
            return false;
        bits = bits * 10 + (uint32_t)(*at - '0');
    }
    out->bit_count = from + bits;
    return out->bit_count <= BIT_COUNT;
}

bool tp_address_ranges_parse(const char *text, struct tp_address_ranges *out)
{
    struct tp_address_ranges ranges = {0};

    for (const char *at = text + strspn(text, ", \t"); *at != '\0'; at += strspn(at, ", \t")) {
        const size_t size = strcspn(at, ", \t");
        if (ranges.count == TP_ADDRESS_RANGE_COUNT_MAX ||
            !parse_range(tp_slice_of(at, size), &ranges.items[ranges.count]))
            return false;
        ranges.count++;
        at += size;
    }
    *out = ranges;
    return true;
}

static bool has(const struct tp_address_range *range, const struct tp_address *address)
{
    const uint32_t byte_count = range->bit_count / 8, rest = range->bit_count % 8;

    if (memcmp(range->first.bytes, address->bytes, byte_count) != 0)
        return false;
    return rest == 0 ||
           ((range->first.bytes[byte_count] ^ address->bytes[byte_count]) >> (8 - rest)) == 0;
}

bool tp_address_ranges_have(const struct tp_address_ranges *ranges,
                            const struct tp_address *address)
{
    for (uint32_t i = 0; i < ranges->count; i++)
        if (has(&ranges->items[i], address))
            return true;
    return false;
}

void tp_address_range_format(const struct tp_address_range *range, char out[64])
{
    const bool is_4 = is_ipv4(&range->first) && range->bit_count >= IPV4_AT;
    char text[INET6_ADDRSTRLEN];

    inet_ntop(is_4 ? AF_INET : AF_INET6, range->first.bytes + (is_4 ? sizeof mapped : 0), text,
              sizeof text);
    if (range->bit_count == BIT_COUNT)
        snprintf(out, 64, "%s", text);
    else
        snprintf(out, 64, "%s/%u", text, (unsigned)(range->bit_count - (is_4 ? IPV4_AT : 0)));
}
