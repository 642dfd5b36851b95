"""A machine behind the real gateway and dialer, and the image that it boots."""

import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import pytest

from mvmnix.formats import manifest
from mvmnix.launch.agent.guest_network import GuestNetwork
from mvmnix.launch.agent.requests import ENTROPY_BYTES, ExecRequest, GuestConfig
from mvmnix.launch.runtime.start import GUEST_NETWORK
from mvmnix.launch.runtime.vm_process import Guest, Preparation
from mvmnix.model import Image, User, Verb, Workload
from mvmnix.network.host.setup import MachineNetwork
from mvmnix.network.supervisor_messages import NetworkEvent
from mvmnix.plan.network import Network, parse_rules
from mvmnix.plan.network_endpoints import PublishedPort
from mvmnix.system.loop import Loop
from mvmnix.system.store import memfd
from mvmnix.vmm.jail.jail import BubblewrapJail
from mvmnix.vmm.port import Acceleration, LaunchSpec, NetworkAttachment
from mvmnix.vmm.qemu import Qemu
from mvmnix.vmm.tsc import TscClock
from tests.conftest import World, commit
from tests.hostile.network.world import OTHER, PUBLIC, made_network
from tests.hostile.stand_in import jail
from tests.patience import PATIENCE
from tests.unit.launch.channel_house import Collect

#: With the tier that lets a workload make namespaces, in which it is root; and with a link that leads elsewhere.
FLAKE = """{
  inputs.mvmnix.url = "path:../..";
  outputs = { mvmnix, ... }: {
    packages.x86_64-linux.default = mvmnix.lib.mkGuest {
      name = "connected";
      network = true;
      systemCalls = "namespaces";
      links."/etc/resolv.conf" = "/run/systemd/resolve/stub-resolv.conf";
    };
  };
}
"""


@pytest.fixture(scope="module")
def image(world: World) -> Path:
    """A guest that may be in a network, as `mvm build --out` writes it."""
    base = Path(tempfile.mkdtemp(prefix="connected.", dir=world.home.path))
    shutil.copytree(world.tree, base / "tree")
    guest = base / "tree/guests/connected"
    guest.mkdir(parents=True)
    (guest / "flake.nix").write_text(FLAKE)
    shutil.copy2(base / "tree/examples/hello/flake.lock", guest / "flake.lock")
    commit(base / "tree")
    world.give(base)
    built = world.home.mvm("build", guest, "--out", base / "out", cwd=base / "tree")
    assert built.returncode == 0, built.stderr.decode()
    return base / "out"


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

    def sh(self, script: str, environment: Mapping[str, str] = MappingProxyType({"PATH": "/bin:/usr/bin"})) -> str:
        """What a shell in it says."""
        out = Collect()
        workload = Workload(("/bin/busybox", "sh", "-c", script), environment, "/", USER)
        self.guest.channel.exec(ExecRequest(workload, 0), stdout=out, stderr=out, idle=IDLE)
        return out.data.decode()

    def codes(self, name: str) -> list[str]:
        """Why something of this name was refused."""
        return [it.code for it in self.events if name in {it.name, it.address} and it.code]


def boot(stack: ExitStack, where: Path, files: Path, network: Network = NETWORK, hosts: str = HOSTS) -> Machine:
    """The image's files in QEMU, behind a gateway of this network. To be called in a world."""
    walls = stack.enter_context(jail(where))
    return boot_linked(stack, walls, files, made_network(network, walls, hosts))


def boot_linked(
    stack: ExitStack,
    walls: BubblewrapJail,
    files: Path,
    link: MachineNetwork | NetworkAttachment | None,
    configured: GuestNetwork | None = GUEST_NETWORK,
) -> Machine:
    """The image's files in QEMU, with a gateway, with a tap, which is closed here, or without; configured, and ready.

    Raises GuestFailedError.
    """
    attachment = link if isinstance(link, NetworkAttachment) else None
    made = manifest.parse((files / "manifest.json").read_bytes())
    loop, tsc = Loop(), TscClock.start()
    stack.callback(loop.close)
    kernel, initrd = (memfd((files / name).read_bytes(), name=name) for name in ("kernel", "initrd"))
    rootfs = os.open(files / "rootfs", os.O_RDONLY | os.O_CLOEXEC)
    spec = LaunchSpec(
        *(kernel, initrd, rootfs, -1, -1, -1, 1, made.memory_mib, made.command_line, Acceleration.TCG, tsc.khz()),
        network=attachment,
    )
    preparation = Preparation(Qemu.find(), walls, spec, network=link if isinstance(link, MachineNetwork) else None)
    guest = preparation.spawn(loop, console=lambda _: None, services={})
    stack.callback(guest.close)
    machine = Machine(guest)
    guest.on_network_event = machine.events.append
    for descriptor in (kernel, initrd, rootfs, *(() if attachment is None else (attachment.tap,))):
        os.close(descriptor)
    guest.channel.wait_hello(idle=IDLE)
    guest.channel.configure(_configuration(made, configured), idle=IDLE)
    return machine


def _configuration(made: Image, network: GuestNetwork | None) -> GuestConfig:
    return GuestConfig(
        hostname="mvm-test",
        time_ns=time.time_ns(),
        entropy=os.urandom(ENTROPY_BYTES),
        scratch=made.scratch_mib << 20,
        owner=USER,
        writable=made.writable,
        verbs=frozenset({Verb.EXEC}),
        system_calls=made.system_calls,
        network=network,
    )
