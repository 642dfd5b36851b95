"""A real machine behind the real gateway and dialler, in a world without uplink: what it reaches, what it is told."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mvmnix import manifest
from mvmnix.audit.record import RecordKind
from mvmnix.launch.agent.requests import ENTROPY_BYTES, ExecRequest, GuestConfig
from mvmnix.launch.backends.qemu import Qemu
from mvmnix.launch.loop import Loop
from mvmnix.launch.machines.logs import read_network_log
from mvmnix.launch.network.messages import NetworkEvent
from mvmnix.launch.network.setup import GUEST_NETWORK
from mvmnix.launch.plan.network import Network, parse_rules
from mvmnix.launch.plan.network_endpoints import PublishedPort
from mvmnix.launch.runtime.accelerator import KvmProbe
from mvmnix.launch.runtime.vm_process import Guest, Preparation
from mvmnix.launch.vmm.port import Acceleration, LaunchSpec
from mvmnix.launch.vmm.tsc import TscClock
from mvmnix.model import User, Verb, Workload
from mvmnix.store import memfd
from tests.conftest import World
from tests.hostile.network.test_connections import echo, http
from tests.hostile.network.world import OTHER, PUBLIC, Server, made_network, own_network
from tests.hostile.stand_in import jail
from tests.patience import EVENT_PATIENCE, PATIENCE, until
from tests.unit.launch.channel_house import Collect
from tests.unit.launch.house import house, run_foreground
from tests.unit.provenance.world import DEB, SEED, TOOL
from tests.unit.provenance.world import World as Evidence
from tests.vm.test_network_guest import image

pytestmark = [pytest.mark.vm, pytest.mark.root("it makes network namespaces of its own")]
__all__ = ["image"]
IDLE = float(PATIENCE)
USER = User(1000, 1000)
HOSTS = f"{PUBLIC} api.example.com\n{OTHER} other.example.org\n169.254.169.254 metadata.example.com\n"
NETWORK = Network(
    parse_rules(
        ["http://api.example.com", f"tcp:{PUBLIC}:7", "tcp:metadata.example.com:80"],
        ["denied.example.com"],
    ),
    (PublishedPort.parse("18080:80"),),
)


@dataclass
class Machine:
    """One that is ready, and what its gateway told."""

    guest: Guest
    events: list[NetworkEvent] = field(default_factory=list)

    def sh(self, script: str) -> str:
        """What a shell in it says."""
        out = Collect()
        workload = Workload(("/bin/busybox", "sh", "-c", script), {"PATH": "/bin:/usr/bin"}, "/", USER)
        self.guest.channel.exec(ExecRequest(workload, 0), stdout=out, stderr=out, idle=IDLE)
        return out.data.decode()

    def codes(self, name: str) -> list[str]:
        """Why something of this name was refused."""
        return [it.code for it in self.events if name in {it.name, it.address} and it.code]


def boot(stack: ExitStack, where: Path, files: Path, network: Network = NETWORK, hosts: str = HOSTS) -> Machine:
    """The image's files in QEMU, with this network; configured, and ready. To be called in a world."""
    made = manifest.parse((files / "manifest.json").read_bytes())
    loop, tsc = Loop(), TscClock.start()
    stack.callback(loop.close)
    kernel, initrd = (memfd((files / name).read_bytes(), name=name) for name in ("kernel", "initrd"))
    rootfs = os.open(files / "rootfs", os.O_RDONLY | os.O_CLOEXEC)
    spec = LaunchSpec(
        *(kernel, initrd, rootfs, -1, -1, -1, 1, made.memory_mib, made.command_line, Acceleration.TCG, tsc.khz())
    )
    walls = stack.enter_context(jail(where))
    preparation = Preparation(Qemu.find(), walls, spec, network=made_network(network, walls, hosts))
    guest = preparation.spawn(loop, console=lambda _: None, services={})
    stack.callback(guest.close)
    machine = Machine(guest)
    guest.on_network_event = machine.events.append
    for descriptor in (kernel, initrd, rootfs):
        os.close(descriptor)
    guest.channel.wait_hello(idle=IDLE)
    told = GuestConfig(
        hostname="mvm-test",
        time_ns=time.time_ns(),
        entropy=os.urandom(ENTROPY_BYTES),
        scratch=made.scratch_mib << 20,
        owner=USER,
        writable=made.writable,
        verbs=frozenset({Verb.EXEC}),
        system_calls=made.system_calls,
        network=GUEST_NETWORK,
    )
    guest.channel.configure(told, idle=IDLE)
    return machine


@pytest.fixture(scope="module")
def machine(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with ExitStack() as stack:
        stack.enter_context(own_network([PUBLIC, OTHER]))
        for port, serve in ((80, http), (7, echo)):
            stack.enter_context(Server(PUBLIC, port, serve))
        yield boot(stack, tmp_path_factory.mktemp("jail"), image)


#: What a program asks for; what it is told; whose name the refusal has, and its code.
REFUSED = {
    "name": ("wget -O - http://other.example.org/", "bad address", "other.example.org", "no-rule"),
    "denied name": ("nslookup denied.example.com", "NXDOMAIN", "denied.example.com", "denied-by-rule"),
    "port": ("wget -O - http://api.example.com:8080/", "403 Forbidden", "api.example.com", "port-not-allowed"),
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


def test_what_is_allowed_is_reached(machine: Machine) -> None:
    assert machine.sh("wget -q -O - http://api.example.com/hello") == "you asked GET /hello HTTP/1.1"
    assert machine.sh(f"echo hello | nc -w {EVENT_PATIENCE} {PUBLIC} 7") == "hello\n"


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_is_told_at_once(machine: Machine, what: str) -> None:
    script, said, name, code = REFUSED[what]
    assert said in machine.sh(script), "a program waits for what never comes"

    def is_told() -> bool:
        machine.guest.channel.ping(idle=IDLE)  # the loop turns
        return code in machine.codes(name)

    until(is_told, lambda: json.dumps([it.fields() for it in machine.events]))


def test_the_command_itself(world: World, image: Path) -> None:
    """`mvm run`, as root and without root's rights: the guest is told why, and so is the user, with the option."""
    script = f"nslookup other.example.com; wget -O - http://{PUBLIC}/; cat /etc/resolv.conf"
    said = world.home.mvm(
        "run", "--allow", "https://api.example.com", "image:connected", "--", "/bin/busybox", "sh", "-c", script
    )
    assert said.returncode == 0, said.stderr.decode()
    assert b"NXDOMAIN" in said.stdout
    assert said.stdout.endswith(b"nameserver 198.19.255.1\noptions timeout:2 attempts:3 no-aaaa\n")
    assert b"other.example.com is refused (no-rule); --allow https://other.example.com would allow it" in said.stderr
    assert f"{PUBLIC}:80 is refused (no-rule); --allow tcp:{PUBLIC}:80 would allow it" in said.stderr.decode()
    assert image.is_dir(), "it was built in that home"


def test_from_a_signed_plan_to_the_receipt(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the gate and a supervisor: the same verdicts are in the log, the audit log and the receipt."""
    kernel, initrd, rootfs, described = (
        (image / name).read_bytes() for name in ("kernel", "initrd", "rootfs", "manifest.json")
    )
    built = Evidence(kernel, initrd, rootfs, described)
    built.sign_provenance(sources=(DEB, TOOL, SEED, *built.image.sources))
    monkeypatch.setattr("mvmnix.launch.network.setup.settings", lambda: {"/etc/hosts": HOSTS.encode()})
    (tmp_path / "walls").mkdir(mode=0o700)
    said = bytearray()
    with ExitStack() as stack:
        stack.enter_context(own_network([PUBLIC, OTHER]))
        stack.enter_context(Server(PUBLIC, 80, http))
        here = stack.enter_context(house(tmp_path / "house"))
        walls, here.world, qemu = stack.enter_context(jail(tmp_path / "walls")), built, Qemu.find()
        probe = KvmProbe(qemu, walls, here.directory("cache"), device="/proc/nonexistent", seconds=EVENT_PATIENCE)
        host = replace(here.host(), hypervisor=qemu, jail=walls, kvm=probe)
        script = "wget -q -O - http://api.example.com/hello; wget -q http://other.example.org/; exit 3"
        plan = here.plan("/bin/busybox", "sh", "-c", script, network=NETWORK, wall_seconds=PATIENCE)
        with plan:
            end = run_foreground(plan, host, stdout=said.extend, stderr=said.extend)
        assert (end.exit_code, bytes(said[:29])) == (3, b"you asked GET /hello HTTP/1.1")
        events = [
            it.event for it in read_network_log(here.directory("machines"), Path(end.ended.receipt_path).parent.name)
        ]
        assert {("opened", "allow-1", ""), ("denied", "", "no-rule")} <= {(it.kind, it.rule, it.code) for it in events}
        records = [(it.kind, it.reasons, it.count) for it in here.log()]
        assert records[1:-1] == [
            (RecordKind.NETWORK, ("first-use", "rule-1"), None),
            (RecordKind.REFUSAL, ("network-no-rule",), 1),
        ]
        assert here.notices[-1].endswith("is refused (no-rule); --allow https://other.example.org would allow it")
