"""The agent in a network: what it takes of CONFIG, and what it sets up in a network namespace of the host's kernel."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mvmnix.launch.agent import guest_network
from mvmnix.launch.agent.encoding import Writer
from mvmnix.launch.agent.frames import Config
from mvmnix.launch.agent.guest_network import GuestNetwork
from mvmnix.launch.agent.transport import encode
from tests.integration.agent_house import OWN_ROOT, config, failure, takes
from tests.patience import EVENT_PATIENCE
from tests.unit.launch.agent.wrong_networks import WRONG

pytestmark = pytest.mark.integration
NETWORK = GuestNetwork("198.19.255.2", 30, "198.19.255.1", "02:6d:76:6d:00:01", 1400, "198.19.255.1")
#: Where each field begins in the bytes of a network, and how many it has.
PLACES = {"address": (0, 4), "prefix": (4, 1), "gateway": (5, 4), "gateway_mac": (9, 6), "mtu": (15, 2)}
PLACES["resolver"] = (17, 4)

#: In a namespace of its own: `root` is what stands for the image, `d0` the one link, whose other end is elsewhere.
LINK = """
ip link add d0 type veth peer name other
unshare -n sleep 60 & peer=$!
while [ "$(readlink /proc/$peer/ns/net)" = "$(readlink /proc/$$/ns/net)" ]; do sleep 0.01; done
ip link set other netns $peer
nsenter -t $peer -n ip link set other up
trap 'kill $peer' EXIT
"""
SHOW = """
echo; ip -json address show dev d0; echo; ip -json route; echo; ip -json neighbour
echo; cat root/etc/resolv.conf; echo; cat root/etc/hosts
echo; cat /proc/sys/net/ipv6/conf/*/disable_ipv6 | sort -u
echo; grep ' names \\|/etc/' /proc/self/mountinfo | cut -d ' ' -f 4-6
for file in resolv.conf hosts; do echo x >root/etc/$file; rm root/etc/$file; umount -n root/etc/nothing; done
"""


def encoded(network: GuestNetwork) -> bytes:
    out = Writer()
    guest_network.write(out, network)
    return out.done()


def changed(field: str, value: object) -> bytes:
    """The bytes that the host would not make."""
    at, count = PLACES[field]
    match value:
        case int():
            new = value.to_bytes(count)
        case str() if ":" in value:
            new = bytes.fromhex(value.replace(":", ""))
        case _:
            new = bytes(map(int, str(value).split(".")))
    data = encoded(NETWORK)
    assert len(new) == count
    return data[:at] + new + data[at + count :]


@pytest.mark.parametrize("network", [NETWORK, replace(NETWORK, prefix=8, gateway="198.0.0.1", mtu=576)])
def test_it_is_taken(agent: Path, network: GuestNetwork) -> None:
    assert takes(agent, Config(replace(config(), network=network)))


@pytest.mark.parametrize(("field", "value"), WRONG.values(), ids=WRONG)
def test_anything_else_ends_the_conversation(agent: Path, field: str, value: object) -> None:
    data = encode(Config(replace(config(), network=NETWORK))).replace(encoded(NETWORK), changed(field, value))
    failure(agent, data)


@dataclass(frozen=True)
class Done:
    """How the agent's own code ended, and what was to be seen then, in parts."""

    status: int
    said: str
    shown: list[str]

    def json(self, part: int) -> Any:
        return json.loads(self.shown[part])


def set_up(agent: Path, where: Path, script: str = LINK, *, network: GuestNetwork = NETWORK) -> Done:
    (where / "network").write_bytes(encoded(network))
    script = f"{script}\n{agent} --network guest {where}/root <network; echo $?{SHOW}"
    argv = ["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c", OWN_ROOT, "sh", script]
    done = subprocess.run(argv, cwd=where, capture_output=True, text=True, timeout=EVENT_PATIENCE, check=False)
    status, *shown = done.stdout.split("\n\n")
    return Done(int(status), done.stderr, shown)


def new_root(where: Path) -> Path:
    """What stands for the image."""
    (where / "root/etc").mkdir(parents=True)
    for name in ("resolv.conf", "hosts"):
        (where / "root/etc" / name).touch()
    return where / "root"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return new_root(tmp_path)


def test_the_link_is_set_up(agent: Path, root: Path) -> None:
    """It carries packets when the agent is done, asks for no neighbours, and has no address of IPv6."""
    done = set_up(agent, root.parent)
    assert done.status == 0, done.said
    (link,) = done.json(0)
    assert link["mtu"] == 1400
    assert {"UP", "LOWER_UP", "NOARP"} <= set(link["flags"])
    assert [(it["family"], it["local"], it["prefixlen"]) for it in link["addr_info"]] == [("inet", "198.19.255.2", 30)]
    routes = {it["dst"]: it.get("gateway") for it in done.json(1)}
    assert routes == {"default": "198.19.255.1", "198.19.255.0/30": None}
    (neighbour,) = done.json(2)
    assert (neighbour["dst"], neighbour["lladdr"]) == ("198.19.255.1", "02:6d:76:6d:00:01")
    assert neighbour["state"] == ["PERMANENT"]
    assert done.shown[5] == "1", "IPv6 is off, on loopback too"


def test_names_are_told_and_stay_as_they_are(agent: Path, root: Path) -> None:
    """Not even by who is root there; the image's own files are left alone."""
    done = set_up(agent, root.parent)
    assert done.shown[3] == "nameserver 198.19.255.1\noptions timeout:2 attempts:3 no-aaaa"
    assert done.shown[4] == "127.0.0.1 localhost\n198.19.255.2 guest"
    mounts = [line.split() for line in done.shown[6].splitlines()]
    assert [(source, target.rpartition("/root")[2]) for source, target, _ in mounts] == [
        ("/etc/resolv.conf", "/etc/resolv.conf"),
        ("/etc/hosts", "/etc/hosts"),
    ]
    assert {flag for *_, flags in mounts for flag in flags.split(",")} >= {"ro", "nosuid", "nodev", "noexec"}
    assert done.said.count("Read-only file system") == 2
    assert done.said.count("cannot remove") == 2
    assert [(root / "etc" / name).read_bytes() for name in ("resolv.conf", "hosts")] == [b"", b""]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ("10.0.0.1 db\n", "10.0.0.1 db\n198.19.255.2 guest"),
        ("10.0.0.1 db", "10.0.0.1 db\n198.19.255.2 guest"),
        ("# none\n" * 20_000, "# none\n" * 20_000 + "198.19.255.2 guest"),
    ],
    ids=["a line", "without its end", "more than one read"],
)
def test_the_image_s_own_hosts_come_first(agent: Path, root: Path, own: str, expected: str) -> None:
    (root / "etc/hosts").write_text(own)
    assert set_up(agent, root.parent).shown[4] == expected


def test_what_is_missing_is_made_where_that_can_be(agent: Path, root: Path) -> None:
    """As in an /etc that is a writable place, and empty."""
    for name in ("resolv.conf", "hosts"):
        (root / "etc" / name).unlink()
    done = set_up(agent, root.parent)
    assert (done.status, done.shown[4]) == (0, "127.0.0.1 localhost\n198.19.255.2 guest"), done.said


@pytest.mark.parametrize("name", ["resolv.conf", "hosts"])
@pytest.mark.parametrize("kind", ["a link", "a link to nowhere", "a directory"])
def test_what_is_no_file_is_refused(agent: Path, root: Path, name: str, kind: str) -> None:
    """Nothing is mounted where a link leads, which is a place that its image chose."""
    place = root / "etc" / name
    place.unlink()
    match kind:
        case "a link":
            (root / "elsewhere").touch()
            place.symlink_to("/elsewhere")
        case "a link to nowhere":
            place.symlink_to("../nowhere")
        case _:
            place.mkdir()
    done = set_up(agent, root.parent)
    assert done.status == 1
    assert f"/etc/{name}" in done.said


def test_an_etc_that_is_a_link_is_refused(agent: Path, root: Path) -> None:
    (root / "etc").rename(root / "other")
    (root / "etc").symlink_to("other")
    assert set_up(agent, root.parent).status == 1


def test_one_link_that_carries_packets_is_waited_for(agent: Path, tmp_path: Path) -> None:
    """For ten seconds each, at the same time."""
    rows = {
        "has 0 links": "",
        "has 2 links": "ip link add d0 type veth peer name other; ip link set other up",
        "carries nothing": LINK.replace("other up", "other down"),
    }
    with ThreadPoolExecutor() as pool:
        tried = {
            why: pool.submit(set_up, agent, new_root(tmp_path / why.replace(" ", "-")).parent, it)
            for why, it in rows.items()
        }
    for why, done in ((why, it.result()) for why, it in tried.items()):
        assert (done.status, why in done.said) == (1, True), done.said


def test_what_can_t_be_taken_apart_sets_up_nothing(agent: Path, root: Path) -> None:
    (root.parent / "short").write_bytes(encoded(NETWORK)[:-1])
    done = set_up(agent, root.parent, f"{LINK}\nmv short network")
    assert done.status == 1
    assert done.json(0)[0]["addr_info"] == []
