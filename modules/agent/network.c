// Takes the network of a CONFIG apart: the addresses of the machine's one link; pure.
#include "network.h"

#include <stdbool.h>
#include <string.h>

// An address that one host has: not 0.0.0.0/8, 127.0.0.0/8, and what lies beyond 223 (multicast, reserved, broadcast).
static bool is_host(uint32_t address)
{
    uint32_t first = address >> 24;
    return first != 0 && first != 127 && first < 224;
}

// Neither the first nor the last one of its subnet.
static bool is_inside(uint32_t address, uint8_t prefix)
{
    uint32_t hosts = UINT32_MAX >> prefix;
    return (address & hosts) != 0 && (address & hosts) != hosts;
}

static bool is_valid(const struct network *network)
{
    if (network->prefix < LEAST_PREFIX || network->prefix > MOST_PREFIX || network->mtu < LEAST_MTU || network->mtu > MOST_MTU)
        return false;
    if (!is_host(network->address) || !is_host(network->gateway) || !is_host(network->resolver))
        return false;
    bool neighbours = (network->address ^ network->gateway) >> (32 - network->prefix) == 0;
    if (!neighbours || network->address == network->gateway)
        return false;
    static const uint8_t none[MAC_BYTES];
    bool single = (network->gateway_mac[0] & 1) == 0 && memcmp(network->gateway_mac, none, MAC_BYTES) != 0;
    return single && is_inside(network->address, network->prefix) && is_inside(network->gateway, network->prefix);
}

void network_read(struct reader *reader, struct network *network)
{
    network->address = (uint32_t)get_number(reader, 4);
    network->prefix = (uint8_t)get_number(reader, 1);
    network->gateway = (uint32_t)get_number(reader, 4);
    const uint8_t *mac = get_raw(reader, MAC_BYTES);
    network->mtu = (uint16_t)get_number(reader, 2);
    network->resolver = (uint32_t)get_number(reader, 4);
    if (reader->bad)
        return;
    memcpy(network->gateway_mac, mac, MAC_BYTES);
    if (!is_valid(network))
        reader->bad = true;
}
