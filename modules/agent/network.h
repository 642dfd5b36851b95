// Takes the network of a CONFIG apart: the addresses of the machine's one link; pure.
#ifndef AGENT_NETWORK_H
#define AGENT_NETWORK_H

#include <stdint.h>

#include "bytes.h"
#include "protocol.h"

// IPv4 alone; addresses are numbers, their first byte the highest.
struct network {
    uint32_t address;
    uint8_t prefix;
    uint32_t gateway;
    uint8_t gateway_mac[MAC_BYTES];
    uint16_t mtu;
    uint32_t resolver;
};

// What can't be a network leaves the reader bad.
void network_read(struct reader *reader, struct network *network);

#endif
