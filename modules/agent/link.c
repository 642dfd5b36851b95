// Sets up the machine's one link to its network, by rtnetlink.
//
// The link asks for no addresses by ARP and answers none: its one neighbour, the gateway, is told here. rtnetlink(7).
#include "link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "errors.h"
#include "files.h"

#define LINK_WAIT_MS 10000
// netdevice(7); the C library's headers know it as a bit of the kernel's own (linux/if.h).
#define LOWER_UP (1u << 16)
// Its queue works when it was started with these. IFF_RUNNING says the same up to a second later (net/core/link_watch.c).
#define CARRIES (IFF_UP | LOWER_UP)

// What is asked of the kernel: a header, a structure and some attributes, each on a multiple of four bytes.
struct message {
    union {
        struct nlmsghdr header;
        uint8_t bytes[128];
    };
};

// The links that there are, and the last one's number and flags.
struct found {
    int socket;
    int links;
    int index;
    unsigned flags;
};

// What the kernel answers; a datagram of several messages is shorter (net/netlink/af_netlink.c: netlink_dump).
static union {
    struct nlmsghdr header;
    uint8_t bytes[65536];
} answer;

static void append(struct message *message, const void *data, size_t length)
{
    memcpy(message->bytes + message->header.nlmsg_len, data, length);
    message->header.nlmsg_len += (uint32_t)NLMSG_ALIGN(length);
}

static void append_attribute(struct message *message, uint16_t type, const void *data, size_t length)
{
    const struct rtattr head = {.rta_len = (uint16_t)RTA_LENGTH(length), .rta_type = type};
    append(message, &head, sizeof head);
    append(message, data, length);
}

static void append_address(struct message *message, uint16_t type, uint32_t address)
{
    const uint32_t sent = htonl(address);
    append_attribute(message, type, &sent, sizeof sent);
}

static struct message begin(uint16_t type, uint16_t flags, const void *data, size_t length)
{
    struct message message = {.header = {.nlmsg_len = NLMSG_HDRLEN, .nlmsg_type = type, .nlmsg_flags = flags | NLM_F_REQUEST}};
    append(&message, data, length);
    return message;
}

// The kernel answers at once, or not at all.
static ssize_t hear(int socket)
{
    ssize_t count = recv(socket, answer.bytes, sizeof answer, MSG_DONTWAIT);
    return count < 0 ? error_set_errno("no answer about links") : count;
}

static ssize_t ask(int socket, const struct message *message)
{
    if (send(socket, message->bytes, message->header.nlmsg_len, 0) != (ssize_t)message->header.nlmsg_len)
        return error_set_errno("can't ask about links");
    return hear(socket);
}

static int tell(int socket, struct message *message, const char *what)
{
    struct nlmsgerr said;
    message->header.nlmsg_flags |= NLM_F_ACK;
    ssize_t count = ask(socket, message);
    if (count < 0)
        return -1;
    if (count < (ssize_t)NLMSG_LENGTH(sizeof said) || answer.header.nlmsg_type != NLMSG_ERROR)
        return error_set("no answer to %s", what);
    memcpy(&said, answer.bytes + NLMSG_HDRLEN, sizeof said);
    errno = -said.error;
    return said.error == 0 ? 0 : error_set_errno("can't %s", what);
}

// Whether more messages follow these. Of a link that has addresses as Ethernet's, which loopback has not, note is taken.
static bool note_links(const uint8_t *bytes, size_t length, struct found *found)
{
    struct nlmsghdr header;
    struct ifinfomsg link;
    while (length >= NLMSG_HDRLEN) {
        memcpy(&header, bytes, sizeof header);
        if (header.nlmsg_len < NLMSG_HDRLEN || header.nlmsg_len > length || header.nlmsg_type != RTM_NEWLINK)
            return false;
        if (header.nlmsg_len < NLMSG_LENGTH(sizeof link))
            return false;
        memcpy(&link, bytes + NLMSG_HDRLEN, sizeof link);
        if (link.ifi_type == ARPHRD_ETHER) {
            found->index = link.ifi_index;
            found->flags = link.ifi_flags;
            found->links++;
        }
        size_t used = NLMSG_ALIGN(header.nlmsg_len);
        bytes += used;
        length -= used < length ? used : length;
    }
    return true;
}

static int find_link(void *context)
{
    struct found *found = context;
    const struct ifinfomsg any = {.ifi_family = AF_UNSPEC};
    const uint32_t brief = RTEXT_FILTER_SKIP_STATS;
    struct message message = begin(RTM_GETLINK, NLM_F_DUMP, &any, sizeof any);
    append_attribute(&message, IFLA_EXT_MASK, &brief, sizeof brief);
    found->links = 0;
    ssize_t count = ask(found->socket, &message);
    while (count > 0 && note_links(answer.bytes, (size_t)count, found))
        count = hear(found->socket);
    if (count < 0)
        return -1;
    return found->links == 1 ? 0 : error_set("this machine has %d links to a network, not one", found->links);
}

static int find_carrier(void *context)
{
    struct found *found = context;
    if (find_link(found) != 0)
        return -1;
    return (found->flags & CARRIES) == CARRIES ? 0 : error_set("the link to the network carries nothing");
}

// While the link is down: taking ARP away from it would take its neighbours along.
static int set_link(const struct found *found, const struct network *network)
{
    const struct ifinfomsg link = {.ifi_index = found->index, .ifi_flags = IFF_NOARP, .ifi_change = IFF_NOARP};
    const uint32_t mtu = network->mtu;
    struct message message = begin(RTM_NEWLINK, 0, &link, sizeof link);
    append_attribute(&message, IFLA_MTU, &mtu, sizeof mtu);
    return tell(found->socket, &message, "set the link");
}

static int add_address(const struct found *found, const struct network *network)
{
    const struct ifaddrmsg address = {
        .ifa_family = AF_INET, .ifa_prefixlen = network->prefix, .ifa_scope = RT_SCOPE_UNIVERSE, .ifa_index = (uint32_t)found->index};
    struct message message = begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &address, sizeof address);
    append_address(&message, IFA_LOCAL, network->address);
    append_address(&message, IFA_ADDRESS, network->address);
    return tell(found->socket, &message, "give the link its address");
}

static int start_link(const struct found *found)
{
    const struct ifinfomsg link = {.ifi_index = found->index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    struct message message = begin(RTM_NEWLINK, 0, &link, sizeof link);
    return tell(found->socket, &message, "start the link");
}

static int add_gateway(const struct found *found, const struct network *network)
{
    const struct ndmsg neighbour = {.ndm_family = AF_INET, .ndm_ifindex = found->index, .ndm_state = NUD_PERMANENT};
    struct message message = begin(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &neighbour, sizeof neighbour);
    append_address(&message, NDA_DST, network->gateway);
    append_attribute(&message, NDA_LLADDR, network->gateway_mac, MAC_BYTES);
    return tell(found->socket, &message, "name the gateway");
}

static int add_route(const struct found *found, const struct network *network)
{
    const struct rtmsg route = {.rtm_family = AF_INET,
                                .rtm_table = RT_TABLE_MAIN,
                                .rtm_protocol = RTPROT_STATIC,
                                .rtm_scope = RT_SCOPE_UNIVERSE,
                                .rtm_type = RTN_UNICAST};
    struct message message = begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &route, sizeof route);
    const uint32_t index = (uint32_t)found->index;
    append_address(&message, RTA_GATEWAY, network->gateway);
    append_attribute(&message, RTA_OIF, &index, sizeof index);
    return tell(found->socket, &message, "set the route");
}

int link_set_up(const struct network *network)
{
    struct found found = {.socket = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)};
    if (found.socket < 0)
        return error_set_errno("netlink");
    int result = wait_until(find_link, &found, LINK_WAIT_MS);
    if (result == 0 && (set_link(&found, network) != 0 || add_address(&found, network) != 0 || start_link(&found) != 0 ||
                        add_gateway(&found, network) != 0 || add_route(&found, network) != 0))
        result = -1;
    if (result == 0)
        result = wait_until(find_carrier, &found, LINK_WAIT_MS);  // before that, packets are lost
    (void)close(found.socket);
    return result;
}
