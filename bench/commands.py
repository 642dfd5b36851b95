"""`true` in a running guest, asked for in three ways, against an empty frame and against a shell in the guest itself.

- frame: PING and PONG, from the supervisor to the agent and back;
- exec: EXEC to EXIT, as the supervisor sees it: what the agent adds to a process, and what a process costs;
- control: a connection to the control socket to its answer, from another process: the log's sync is in it;
- whole: the process `mvm exec`, Python's start and its imports included;
- shell: what the guest's kernel alone takes to start and end that program, by a loop in a shell in it.
"""

import os
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from bench.measurement import Figure, in_time, in_turns_with
from bench.pairs import Pair, Times, in_turns
from bench.place import TRUE, Place
from mvmnix.api.admission import admit_kept, open_host
from mvmnix.api.calls import call
from mvmnix.api.context import Context
from mvmnix.launch.control.caller_check import CallerCheck
from mvmnix.launch.control.messages import Exec
from mvmnix.launch.control.server import Control
from mvmnix.launch.means import OwnMeans
from mvmnix.launch.runtime.machine import Machine
from mvmnix.launch.runtime.start import start_machine
from mvmnix.provenance.bundle import envelope, statement
from mvmnix.provenance.policy.trust_text import FILE_NAME
from mvmnix.system.private_dirs import Directory
from mvmnix.system.roots import Roots
from tests.policies import effective

#: A guest that may be sent commands; examples/hello is sealed.
_FLAKE = """{
  inputs.mvmnix.url = "path:../..";
  outputs = { mvmnix, ... }: {
    packages.x86_64-linux.default = mvmnix.lib.mkGuest { name = "open"; command = [ "/bin/busybox" "sleep" "1000" ]; };
  };
}
"""


def plan(place: Place, *command: str, options: Iterable[str] = ("--verb", "exec")) -> bytes:
    """A signed plan for it, which grants the verb exec unless it is told otherwise."""
    where = place.tree / "guests/open"
    where.mkdir(parents=True, exist_ok=True)
    (where / "flake.nix").write_text(_FLAKE)
    (where / "flake.lock").write_bytes((place.tree / "examples/hello/flake.lock").read_bytes())
    made, signed = (place.home.path / name for name in ("open.json", "open.sigstore.json"))
    reference = f"path:{place.tree}?dir=guests/open"
    place.mvm("plan", "create", *options, "--out", made, reference, "--", *command)
    place.mvm("plan", "sign", made, "--out", signed)
    return signed.read_bytes()


#: So many times in a shell, for one time.
_LOOP = 20
_SHELL = ("/bin/busybox", "sh", "-c", f"i=0; while [ $i -lt {_LOOP} ]; do /bin/busybox true; i=$((i+1)); done")


def asking(place: Place, *, rounds: int) -> Iterator[Figure]:
    """All of them in turns, ten times as often, each against an empty frame."""
    rounds *= 10
    with (
        opened(place, plan(place)) as (rooms, machine),
        Control(machine, CallerCheck.of_this_process(), lambda _now: None),
    ):
        argv = place.home.argv("exec", machine.id, *TRUE)
        run = partial(subprocess.run, argv, env=place.home.environment, check=True, stdin=subprocess.DEVNULL)
        outside = _Outside(machine, (lambda: _called(rooms.machines, machine.id), run))
        found = in_turns(
            {
                "frame": machine.ping,
                "exec": lambda: execute(machine, TRUE),
                "control": lambda: outside.does(0),
                "whole": lambda: outside.does(1),
                "shell": lambda: execute(machine, _SHELL),
            },
            rounds=rounds,
        )
    frame = found.pop("frame")
    yield in_time("frame", frame.seconds)
    for name, times in found.items():
        each = Times(tuple(one / (_LOOP if name == "shell" else 1) for one in times.seconds))
        yield in_turns_with(name, "frame", Pair(each, frame), unit="ms")


@contextmanager
def opened(place: Place, bundle: bytes) -> Iterator[tuple[Context, Machine]]:
    """A machine of that plan, with this process as its supervisor."""
    manifest = _manifest(bundle)
    with Roots.from_environment(place.home.environment) as roots, Context(roots) as rooms:
        rooms.policy = effective(None, (place.home.config / FILE_NAME).read_bytes())
        kept = next(rooms.library.read(entry) for entry in rooms.library.entries() if entry.manifest.hex == manifest)
        with (
            admit_kept(rooms, bundle, kept, lambda _: None) as verified,
            start_machine(verified, open_host(rooms, lambda _: None, OwnMeans())) as machine,
        ):
            yield rooms, machine


def execute(machine: Machine, argv: tuple[str, ...]) -> None:
    """Have it run a command to its end."""
    machine.exec(argv, environment={}, stdout=lambda _: None, stderr=lambda _: None)


def _called(machines: Directory, machine: str) -> None:
    with call(machines, machine, Exec(TRUE), ()) as it:
        it.wait()


class _Outside:
    """A process beside the supervisor, which does one thing or another when it is told, while the supervisor serves."""

    def __init__(self, machine: Machine, deeds: tuple[Callable[[], object], ...]) -> None:
        self._machine = machine
        self._ours, theirs = socket.socketpair()
        if os.fork() == 0:
            try:
                self._ours.close()
                while told := theirs.recv(1):
                    deeds[told[0]]()
                    theirs.send(told)
            finally:
                os._exit(0)
        theirs.close()

    def does(self, number: int) -> None:
        """Tell it, and serve the machine until it is done."""
        answered: list[bytes] = []
        self._machine.loop.watch(self._ours.fileno(), read=lambda: answered.append(self._ours.recv(1)))
        self._ours.send(bytes([number]))
        while not answered:
            self._machine.loop.turn()
        self._machine.loop.forget(self._ours.fileno())
        if not answered[0]:
            raise RuntimeError("what was to ask has ended")


def _manifest(bundle: bytes) -> str:
    claim = statement.parse(envelope.parse_bundle(bundle).payload)
    return next(it.digest.hex for it in claim.subjects if it.name == "manifest.json")
