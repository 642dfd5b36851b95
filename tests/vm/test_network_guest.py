"""A real machine in a network: what its agent sets up before it is ready, and that a workload changes none of it."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mvmnix.launch.agent.encoding import GuestFailedError
from mvmnix.launch.agent.guest_network import GuestNetwork
from mvmnix.vmm.port import NetworkAttachment
from tests.conftest import World
from tests.hostile.stand_in import jail
from tests.tap_peer import GATEWAY, GATEWAY_MAC, GUEST, GUEST_MAC, NAMED, Peer
from tests.vm.networked import Machine, boot_linked, image

pytestmark = [pytest.mark.vm, pytest.mark.root("it makes a tap in the machine's own network namespace")]
__all__ = ["image"]
NETWORK = GuestNetwork(GUEST, 30, GATEWAY, GATEWAY_MAC, 1500, GATEWAY)
#: What would change the network, or go past it; each as the workload's user, and as root of a namespace of its own.
ATTEMPTS = (
    "ip link set eth0 down",
    "ip link set eth0 mtu 576",
    "ifconfig eth0 hw ether 02:00:00:00:00:09",
    "ip address add 198.19.255.3/30 dev eth0",
    "ip route del default",
    "ip route add 203.0.113.0/24 via 198.19.255.1",
    "arp -s 198.19.255.1 02:00:00:00:00:09",
    "arp -d 198.19.255.1",
    "ping -c 1 -W 1 198.19.255.1",
    "echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6",
    "echo 1 > /proc/sys/net/ipv4/ip_forward",
    "echo x > /etc/resolv.conf",
    "echo x > /etc/hosts",
    "umount /etc/resolv.conf",
    "umount /etc/hosts",
    "mount -o remount,rw /etc/resolv.conf",
    "rm /etc/hosts",
)


@pytest.fixture(scope="module")
def connected(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """In a network; when its tests are over, it turns out that IPv4 alone came out of it: no ARP, no IPv6."""
    with ExitStack() as stack:
        peer = Peer.start()
        walls = stack.enter_context(jail(tmp_path_factory.mktemp("jail")))
        yield boot_linked(stack, walls, image, NetworkAttachment(peer.tap, GUEST_MAC), NETWORK)
        assert set(peer.frames()) == {"0800"}


def test_it_has_its_link_when_it_is_ready(connected: Machine) -> None:
    """The first thing that a workload asks for arrives."""
    assert connected.sh("wget -q -O - http://api.example.com/") == "hello from outside\n"
    assert f"inet {GUEST}/30 " in connected.sh("ip address show dev eth0")
    assert {"UP", "LOWER_UP", "NOARP"} <= {
        *connected.sh("ip -o link show dev eth0").split("<")[1].split(">")[0].split(",")
    }
    assert connected.sh("ip route").split("\n")[0].split() == ["default", "via", GATEWAY, "dev", "eth0"]
    (neighbour,) = connected.sh("ip neigh").splitlines()
    assert (neighbour.split()[0], neighbour.split()[4], neighbour.split()[-1]) == (GATEWAY, GATEWAY_MAC, "PERMANENT")


def test_it_speaks_no_ipv6(connected: Machine) -> None:
    assert set(connected.sh("cat /proc/sys/net/ipv6/conf/*/disable_ipv6").split()) == {"1"}
    assert connected.sh("cat /proc/net/if_inet6") == ""
    assert "inet6" not in connected.sh("ip address")


def test_names_are_looked_up_where_the_host_says(connected: Machine) -> None:
    assert connected.sh("cat /etc/resolv.conf").split("\n")[0] == f"nameserver {GATEWAY}"
    assert connected.sh("cat /etc/hosts") == f"127.0.0.1 localhost\n{GUEST} mvm-test\n"
    assert NAMED in connected.sh("nslookup other.example.net")


def test_checksums_and_large_packets_are_the_other_ends(connected: Machine) -> None:
    """Features of the virtio specification, 5.1.3; the queue for control, 17, is none of them."""
    bits = connected.sh("cat /sys/class/net/eth0/device/features")
    on = {number for number, bit in enumerate(bits[:32]) if bit == "1"}
    assert {0, 1, 5, 7, 11, 15} <= on  # CSUM, GUEST_CSUM, MAC, GUEST_TSO4, HOST_TSO4, MRG_RXBUF
    assert not {8, 10, 12, 14, 16, 17, 18, 19, 20, 21, 22, 23} & on


def test_a_workload_may_have_a_low_port_and_is_known_by_name(connected: Machine) -> None:
    assert connected.sh("(echo hello | nc -l -p 80) & sleep 1; nc mvm-test 80") == "hello\n"


@pytest.mark.parametrize("as_root", [False, True], ids=["as its user", "as root of its own namespace"])
def test_a_workload_changes_nothing(connected: Machine, *, as_root: bool) -> None:
    seen = "ip address show dev eth0; ip route; ip neigh | cut -d ' ' -f 1-5; cat /etc/resolv.conf /etc/hosts"
    before = connected.sh(seen)
    root = "unshare -U -r -m " if as_root else ""
    assert connected.sh(f"{root}id -u") == ("0\n" if as_root else "1000\n")
    for attempt in ATTEMPTS:
        said = connected.sh(f"{root}sh -c '{attempt}'; echo status $?")
        refused = re.search("not permitted|denied|Read-only file system|Invalid argument", said)
        assert refused and not said.endswith("status 0\n"), (attempt, said)
    assert connected.sh(seen) == before


def test_a_plan_without_a_network_finds_none_in_the_same_image(image: Path, tmp_path: Path) -> None:
    """Not even the driver is loaded; the image's own files stay as they are."""
    with ExitStack() as stack:
        machine = boot_linked(stack, stack.enter_context(jail(tmp_path)), image, None, None)
        assert machine.sh("ls /sys/class/net") == "lo\n"
        assert "virtio_net" not in machine.sh("cat /proc/modules")
        assert machine.sh("cat /etc/resolv.conf") == ""


def test_an_image_that_was_built_without_one_is_in_none(world: World, tmp_path: Path) -> None:
    peer = Peer.start()
    with ExitStack() as stack, pytest.raises(GuestFailedError, match="built for machines without a network"):
        link = NetworkAttachment(peer.tap, GUEST_MAC)
        boot_linked(stack, stack.enter_context(jail(tmp_path)), world.hello, link, NETWORK)
    assert peer.frames() == {}
