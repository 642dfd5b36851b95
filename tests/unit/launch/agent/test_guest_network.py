"""What a guest is told of its network: the host refuses what the agent would, and its bytes come back as they were."""

from dataclasses import replace

import pytest

from mvmnix.launch.agent import guest_network
from mvmnix.launch.agent.encoding import ChannelProtocolError, Reader, Writer
from mvmnix.launch.agent.guest_network import GuestNetwork

NETWORK = GuestNetwork("198.19.255.2", 30, "198.19.255.1", "02:6d:76:6d:00:01", 1500, "198.19.255.1")
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


def encoded(network: GuestNetwork) -> bytes:
    out = Writer()
    guest_network.write(out, network)
    return out.done()


@pytest.mark.parametrize(("field", "value"), WRONG.values(), ids=WRONG)
def test_what_no_machine_can_have(field: str, value: object) -> None:
    with pytest.raises(ValueError, match="not "):
        replace(NETWORK, **{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "198.19.255", "198.19.255.02", "0xc613ff02", "1\0", "::1", "198.19.255.2\n", "ü"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="not an IPv4 address"):
        replace(NETWORK, address=text)


@pytest.mark.parametrize(
    "text",
    ["", "02", "02:6d:76:6d:00", "02:6d:76:6d:00:01:02", "026d766d0001", "02:6D:76:6d:00:01", "02-6d-76-6d-00-01"],
)
def test_what_is_no_hardware_address(text: str) -> None:
    with pytest.raises(ValueError, match="not the hardware address"):
        replace(NETWORK, gateway_mac=text)


@pytest.mark.parametrize(
    "network",
    [
        NETWORK,
        replace(NETWORK, mtu=9000, resolver="223.255.255.254"),
        GuestNetwork("10.255.255.254", 8, "10.0.0.1", "fe:ff:ff:ff:ff:ff", 576, "1.1.1.1"),
    ],
)
def test_it_comes_back_as_it_was(network: GuestNetwork) -> None:
    reader = Reader(encoded(network))
    assert guest_network.read(reader) == network
    reader.end()


def test_every_byte_of_it_is_needed() -> None:
    data = encoded(NETWORK)
    for length in range(len(data)):
        with pytest.raises(ChannelProtocolError):
            guest_network.read(Reader(data[:length]))


def test_what_the_guest_would_refuse_is_refused_by_its_bytes_too() -> None:
    data = encoded(NETWORK).replace(b"\x1e", b"\x1f")
    with pytest.raises(ChannelProtocolError, match="not a subnet"):
        guest_network.read(Reader(data))
