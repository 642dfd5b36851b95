"""What a guest is told of its network: the host refuses what the agent would, and its bytes come back as they were."""

from dataclasses import replace

import pytest

from mvmnix.launch.agent import guest_network
from mvmnix.launch.agent.encoding import ChannelProtocolError, Reader, Writer
from mvmnix.launch.agent.guest_network import GuestNetwork
from tests.unit.launch.agent.wrong_networks import WRONG

NETWORK = GuestNetwork("198.19.255.2", 30, "198.19.255.1", "02:6d:76:6d:00:01", 1500, "198.19.255.1")


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
