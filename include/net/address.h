/* net/address.h - IP addresses as values: an IPv6 address, or an IPv4 one mapped into it. */
#pragma once

#include "base/base.h"

#define TP_ADDRESS_RANGE_COUNT_MAX 32u

struct tp_address {
    uint8_t bytes[16];
};

struct tp_address_range {
    struct tp_address first;
    uint32_t bit_count; /* that all of it share; of 128 */
};

struct tp_address_ranges {
    uint32_t count;
    struct tp_address_range items[TP_ADDRESS_RANGE_COUNT_MAX];
};

/* "10.0.0.1", "::1", and as proxies write them: "10.0.0.1:4711", "[::1]", "[::1]:4711".
 * TP_MALFORMED for anything else; `out` is written on success only. */
TP_MUST_CHECK enum tp_status tp_address_parse(struct tp_slice text, struct tp_address *out);

/* Addresses and ranges like 10.0.0.0/8, separated by commas; may be empty. False: not that, or more
 * than TP_ADDRESS_RANGE_COUNT_MAX. */
bool tp_address_ranges_parse(const char *text, struct tp_address_ranges *out);
bool tp_address_ranges_have(const struct tp_address_ranges *ranges,
                            const struct tp_address *address);

/* "10.0.0.0/8", "::1" into `out`, with a final NUL. */
void tp_address_range_format(const struct tp_address_range *range, char out[64]);
