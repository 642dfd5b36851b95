"""Networks that a configuration of the guest can't have."""

#: A change, and what it is called. tests/integration/test_agent_network.py has the agent refuse the same.
WRONG: dict[str, tuple[str, object]] = {
    "no address": ("address", "0.0.0.0"),
    "this network": ("address", "0.0.0.2"),
    "loopback": ("address", "127.0.0.2"),
    "multicast": ("address", "224.0.0.1"),
    "broadcast": ("address", "255.255.255.255"),
    "the first of its subnet": ("address", "198.19.255.0"),
    "the last of its subnet": ("address", "198.19.255.3"),
    "the gateway's own": ("address", "198.19.255.1"),
    "another subnet": ("address", "198.19.254.2"),
    "a gateway that is the subnet": ("gateway", "198.19.255.0"),
    "a gateway in another subnet": ("gateway", "198.19.255.5"),
    "a resolver of its own": ("resolver", "127.0.0.53"),
    "no resolver": ("resolver", "0.0.0.0"),
    "a subnet of all": ("prefix", 7),
    "a subnet of two": ("prefix", 31),
    "packets too small": ("mtu", 575),
    "packets too large": ("mtu", 9001),
    "a group's hardware address": ("gateway_mac", "03:6d:76:6d:00:01"),
    "no hardware address": ("gateway_mac", "00:00:00:00:00:00"),
}
