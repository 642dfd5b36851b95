"""What a guest is told of its network: the host refuses what the agent would."""

from dataclasses import replace

import pytest

from mvmnix.launch.agent.guest_network import GuestNetwork
from tests.unit.launch.agent.wrong_networks import WRONG

NETWORK = GuestNetwork("198.19.255.2", 30, "198.19.255.1", "02:6d:76:6d:00:01", 1500, "198.19.255.1")


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
