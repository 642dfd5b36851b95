"""A real machine behind the real gateway and dialer, in a world without uplink: what it reaches, what it is told."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.api.presets import rules_of_urls
from mvmnix.audit.record import RecordKind
from mvmnix.builder.nix import nix_commands
from mvmnix.builder.nix.host_nix import HostNix
from mvmnix.builder.pins.configured import client_settings
from mvmnix.formats import manifest
from mvmnix.launch.runtime.accelerator import KvmProbe
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.machine import Machine
from mvmnix.launch.runtime.start import start_machine
from mvmnix.machines.logs import read_network_log
from mvmnix.machines.network_log import LoggedEvent
from mvmnix.model import StorePath
from mvmnix.network.supervisor_messages import NetworkEvent
from mvmnix.plan.network import Network
from mvmnix.plan.plan import Use
from mvmnix.system.roots import Roots
from mvmnix.vmm.qemu import Qemu
from tests.conftest import World, make_home, pins_in_nix
from tests.hostile.network.clients import echo
from tests.hostile.network.servers import http
from tests.hostile.network.world import OTHER, PUBLIC, Server, own_network
from tests.hostile.stand_in import jail
from tests.integration import network_servers
from tests.integration.network_servers import Servers
from tests.patience import EVENT_PATIENCE, PATIENCE, until
from tests.unit.launch.channel_house import Collect
from tests.unit.launch.house import House, house, nowhere, run_foreground
from tests.unit.launch.saving import GRANTED, restored
from tests.unit.launch.saving import kept as taken_snapshot
from tests.unit.provenance.world import DEB, SEED, TOOL
from tests.unit.provenance.world import World as Evidence
from tests.vm.networked import HOSTS, IDLE, NETWORK, boot, image
from tests.vm.networked import Machine as Linked

pytestmark = [pytest.mark.vm, pytest.mark.root("it makes network namespaces of its own")]
__all__ = ["image"]
#: One more address in the world.
GIT = "151.101.65.140"
#: As NETWORK, without a port of the host's, which one machine alone can have.
REACHED = Network(NETWORK.rules)


@pytest.fixture(scope="module")
def machine(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Linked]:
    with ExitStack() as stack:
        stack.enter_context(own_network([PUBLIC, OTHER]))
        for port, serve in ((80, http), (7, echo)):
            stack.enter_context(Server(PUBLIC, port, serve))
        yield boot(stack, tmp_path_factory.mktemp("jail"), image)


#: What a program asks for; what it is told; whose name the refusal has, and its code.
REFUSED = {
    "name": ("wget -O - http://other.example.org/", "bad address", "other.example.org", "no-rule"),
    "denied name": ("nslookup denied.example.com", "NXDOMAIN", "denied.example.com", "denied-by-rule"),
    "port": ("wget -O - http://api.example.com:8080/", "Connection refused", "api.example.com", "port-not-allowed"),
    "metadata by name": (
        "echo | nc metadata.example.com 80; echo end",
        "end",
        "metadata.example.com",
        "address-metadata",
    ),
    "metadata": ("wget -O - http://169.254.169.254/latest/", "Connection refused", "169.254.169.254", "no-rule"),
    "address": (f"nc {OTHER} 80; echo end", "end", OTHER, "no-rule"),
    "udp": ("nslookup api.example.com 8.8.8.8", "", "8.8.8.8", "not-tcp"),
}


def test_what_is_allowed_is_reached(machine: Linked) -> None:
    assert machine.sh("wget -q -O - http://api.example.com/hello") == "you asked GET /hello HTTP/1.1"
    assert machine.sh(f"echo hello | nc -w {EVENT_PATIENCE} {PUBLIC} 7") == "hello\n"


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_is_told_at_once(machine: Linked, what: str) -> None:
    script, said, name, code = REFUSED[what]
    assert said in machine.sh(script), "a program waits for what never comes"

    def is_told() -> bool:
        machine.guest.channel.ping(idle=IDLE)  # the loop turns
        return code in machine.codes(name)

    until(is_told, lambda: json.dumps([it.fields() for it in machine.events]))


@pytest.mark.parametrize("is_warm", [False, True])
def test_the_command_itself(world: World, image: Path, *, is_warm: bool) -> None:
    """`mvm run` of a user who may open /dev/net/tun: the guest is told why, and so is the user, with the option."""
    script = f"nslookup other.example.com; wget -O - http://{PUBLIC}/; cat /etc/resolv.conf"
    open_to_all = 'mount -t tmpfs -o dev none /dev/net; mknod -m 666 /dev/net/tun c 10 200; exec "$@"'
    words = ("--allow", "https://api.example.com", "image:connected", "--", "/bin/busybox", "sh", "-c", script)
    prefix = ("unshare", "--mount", "sh", "-euc", open_to_all, "sh")
    if is_warm:
        made = world.home.mvm("warm", "--network", "image:connected", prefix=prefix)
        assert made.returncode == 0, made.stderr.decode()
    said = world.home.mvm("--verbose", "run", *words, prefix=prefix)
    assert said.returncode == 0, said.stderr.decode()
    assert (b"a warm start" in said.stderr) == is_warm
    assert b"NXDOMAIN" in said.stdout
    assert said.stdout.endswith(b"nameserver 198.19.255.1\noptions timeout:2 attempts:3 no-aaaa\n")
    assert b"other.example.com is refused (no-rule); --allow https://other.example.com would allow it" in said.stderr
    assert f"{PUBLIC}:80 is refused (no-rule); --allow tcp:{PUBLIC}:80 would allow it" in said.stderr.decode()
    assert image.is_dir(), "it was built in that home"


@pytest.fixture
def signed(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[House, Host]]:
    """A house of the image, with servers around it, and a host that starts machines in QEMU."""
    kernel, initrd, rootfs, described = (
        (image / name).read_bytes() for name in ("kernel", "initrd", "rootfs", "manifest.json")
    )
    built = Evidence(kernel, initrd, rootfs, described)
    built.sign_provenance(sources=(DEB, TOOL, SEED, *built.image.sources))
    monkeypatch.setattr("mvmnix.network.host.setup.resolver_settings", lambda: {"/etc/hosts": HOSTS.encode()})
    (tmp_path / "walls").mkdir(mode=0o700)
    with ExitStack() as stack:
        stack.enter_context(own_network([PUBLIC, OTHER]))
        for port, serve in ((80, http), (7, echo)):
            stack.enter_context(Server(PUBLIC, port, serve))
        here = stack.enter_context(house(tmp_path / "house"))
        walls, here.world, qemu = stack.enter_context(jail(tmp_path / "walls")), built, Qemu.find()
        probe = KvmProbe(qemu, walls, here.directory("cache"), device="/proc/nonexistent", seconds=EVENT_PATIENCE)
        yield here, replace(here.host(), hypervisor=qemu, jail=walls, kvm=probe)


def told(here: House, machine: str) -> list[NetworkEvent]:
    """What its gateway told, as the network log has it."""
    kept = read_network_log(here.directory("machines"), machine)
    return [it.event for it in kept if isinstance(it, LoggedEvent)]


def test_from_a_signed_plan_to_the_receipt(signed: tuple[House, Host]) -> None:
    """Through the gate and a supervisor: the same verdicts are in the log, the audit log and the receipt."""
    here, host = signed
    said = bytearray()
    script = "wget -q -O - http://api.example.com/hello; wget -q http://other.example.org/; exit 3"
    with here.plan("/bin/busybox", "sh", "-c", script, network=NETWORK, wall_seconds=PATIENCE) as plan:
        end = run_foreground(plan, host, stdout=said.extend, stderr=said.extend)
    assert (end.exit_code, bytes(said[:29])) == (3, b"you asked GET /hello HTTP/1.1")
    events = told(here, Path(end.ended.receipt_path).parent.name)
    assert {("opened", "allow-1", ""), ("denied", "", "no-rule")} <= {(it.kind, it.rule, it.code) for it in events}
    records = [(it.kind, it.reasons, it.count) for it in here.log()]
    assert records[1:-1] == [
        (RecordKind.NETWORK, ("first-use", "rule-1"), None),
        (RecordKind.REFUSAL, ("network-no-rule",), 1),
    ]
    assert here.notices[-1].endswith("is refused (no-rule); --allow https://other.example.org would allow it")


#: Says a word each moment over one connection, keeps what comes back, and says when that connection is no more.
TALK = f"""
(while :; do echo word; sleep 0.1; done) | nc {PUBLIC} 7 > /tmp/said
echo ended > /tmp/ended
sleep 1000
"""


def test_a_guest_that_goes_on_has_a_network_of_its_own_and_no_old_connection(signed: tuple[House, Host]) -> None:
    """The first machine's connection goes on, that of the other one is reset; what is opened anew is served."""
    here, host = signed

    def inside(machine: Machine, script: str) -> str:
        out = Collect()
        machine.exec(("/bin/busybox", "sh", "-c", script), environment={}, stdout=out, stderr=out)
        return out.data.decode()

    plan = here.plan("/bin/busybox", "sh", "-c", TALK, network=REACHED, verbs=GRANTED, use=Use.WITHIN_WINDOW)
    with plan, start_machine(plan, host) as machine:
        machine._guest.channel.start_run(stdout=nowhere, stderr=nowhere)
        inside(machine, "until [ -s /tmp/said ]; do sleep 0.1; done")
        snapshot = taken_snapshot(machine)
        with restored(here, snapshot, host) as other:
            assert inside(other, "until [ -e /tmp/ended ]; do sleep 0.1; done; cat /tmp/ended") == "ended\n"
            for each in (machine, other):
                assert inside(each, "wget -q -O - http://api.example.com/hello").startswith("you asked GET /hello")
            assert inside(machine, "ls /tmp") == "said\n"
            other.stop()
            assert [it.rule for it in told(here, other.id) if it.kind == "opened"] == ["allow-1"]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Servers:
    return network_servers.prepare(tmp_path_factory.mktemp("servers"))


@pytest.fixture(scope="module")
def python(tree: Path, servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The profile `python` with an authority of the tests' own, built by this machine's Nix."""
    home = make_home(tmp_path_factory.mktemp("python") / "home")
    pins_in_nix(home, tree)
    with Roots.from_environment(home.environment) as roots:
        nix = HostNix.find(roots)
    guest = f"""
    let house = (builtins.getFlake "git+file://{tree}").lib; in
    house.mkGuest (house.profiles.python // {{
      files = house.profiles.python.files // {{
        "/usr/local/share/ca-certificates/tests.crt".text = {json.dumps(servers.certificate.read_text())};
      }};
    }})
    """
    words = ("build", "--impure", "--no-link", "--print-out-paths", "--expr", guest)
    made = nix.run(nix_commands._on_host(nix.nix, *words))
    return nix.store.on_host(StorePath.parse(made.decode().strip()))


def test_pip_installs_in_the_guest(python: Path, servers: Servers, tmp_path: Path) -> None:
    """By a preset alone, from an index that serves its files from another host, both by TLS; and nothing else."""
    hosts = f"{PUBLIC} index.example.com files.example.com other.example.com\n"
    settings = client_settings("pip", "https://index.example.com/simple/")
    network = Network(rules_of_urls("pip", (*settings.urls, "https://files.example.com/")))
    variables = {
        **manifest.parse((python / "manifest.json").read_bytes()).workload.environment,
        **settings.environment,
    }
    with ExitStack() as stack:
        stack.enter_context(own_network([PUBLIC, OTHER, GIT]))
        stack.enter_context(network_servers.serving(servers, PUBLIC, OTHER, GIT))
        machine = boot(stack, tmp_path, python, network, hosts)
        said = machine.sh("pip install greeting && python3 -c 'import greeting; print(greeting.TEXT)'", variables)
        assert said.endswith("hello from a wheel\n"), said
        assert {it.name for it in machine.events if it.kind == "opened"} == {"index.example.com", "files.example.com"}
        assert "bad address" in machine.sh("wget -O - https://other.example.com/simple/greeting/")
