"""What starts, commands and memory cost callers, with a launcher and without, against QEMU by hand and bare processes.

- Commands are whole processes, as installed ones run, against a boot by hand from QEMU's start to its end.
- `Sandbox` is used by this process, and returns when the guest is ready: so it is compared with a boot up to there.
- `true` in a guest is compared with the same over the agent's channel, with no supervisor in between.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from bench.commands import plan
from bench.figures import process
from bench.measurement import Figure, in_turns_with
from bench.memory import SETTLED, private, readable_launcher, sizes, sizes_of, supervisor_of
from bench.pairs import Pair, Times, in_turns
from bench.place import TRUE, Place
from bench.raw_qemu import PATIENCE, RawQemu
from bench.stream import stream
from mvmnix import Sandbox
from mvmnix.launch.agent.requests import ExecRequest
from mvmnix.model import User, Workload

#: What is started first, so that what is loaded and made once is there when the counting begins.
_WARM = 10
_SANDBOXES = 20
#: A program that has so many sandboxes, and tells what memory it takes meanwhile.
_CALLER = """
import sys
from pathlib import Path
from mvmnix import Sandbox
boxes = [Sandbox.launch(sys.argv[1]) for _ in range(int(sys.argv[2]))]
print(Path("/proc/self/smaps_rollup").read_text())
for box in boxes:
    box.kill()
"""
_RAW, _RAW_READY, _CLICK = "raw QEMU", "raw QEMU, guest ready", "python3 -c 'import click'"
#: Of names of starts that find no launcher.
_ALONE = ", no launcher there"


def callers(place: Place, *, rounds: int, starts: int) -> Iterator[Figure]:
    """Measure all of it; `starts` machines are started through one launcher."""
    environment = place.home.environment
    os.environ.clear()
    os.environ.update(environment)  # `Sandbox` is the place's user's
    signed = place.home.path / "callers.sigstore.json"
    signed.write_bytes(plan(place))
    raw = RawQemu.of(place.hello, *TRUE)
    yield from _starts(place, raw, rounds)
    yield from _commands(place, raw, signed, rounds)
    yield from _memory(place, signed, starts)
    yield from stream(place, rounds=rounds)


def _starts(place: Place, raw: RawQemu, rounds: int) -> Iterator[Figure]:
    hello = place.home.signed_plan(place.home.path, "./examples/hello", "--", *TRUE, cwd=place.tree)
    stack = ExitStack()

    def launch() -> None:
        place.mvm("launch", hello)

    def prepare(name: str) -> None:
        stack.close()
        if name.endswith(_ALONE):
            place.mvm("launcher", "stop")

    found = in_turns(
        {
            _RAW: raw.run,
            "mvm launch PLAN": launch,
            "mvm run FLAKE": place.run_true,
            _RAW_READY: lambda: stack.enter_context(raw.channel()),
            "Sandbox.launch": lambda: stack.enter_context(Sandbox.launch(hello)),
            "Sandbox.run": lambda: stack.enter_context(Sandbox.run(place.tree / "examples/hello")),
            f"mvm launch PLAN{_ALONE}": launch,
            f"mvm run FLAKE{_ALONE}": place.run_true,
        },
        rounds=rounds,
        prepare=prepare,
    )
    stack.close()
    for name, other, asked in (
        ("mvm launch PLAN", _RAW, "difference at most 0.25"),
        ("mvm run FLAKE", _RAW, "difference at most 0.45"),
        (f"mvm launch PLAN{_ALONE}", _RAW, "as before launchers"),
        (f"mvm run FLAKE{_ALONE}", _RAW, "as before launchers"),
        ("Sandbox.launch", _RAW_READY, "difference at most 0.15"),
        ("Sandbox.run", _RAW_READY, "difference at most 0.35"),
    ):
        yield _figure(found, name, other, asked)


def _commands(place: Place, raw: RawQemu, signed: Path, rounds: int) -> Iterator[Figure]:
    mvm, channels = str(Path(sys.executable).with_name("mvm")), "the same, agent's channel alone"
    request = ExecRequest(Workload(TRUE, {}, "/", User(1000, 1000)))
    with Sandbox.launch(signed) as box, raw.channel() as channel:
        found = in_turns(
            {
                channels: lambda: channel.exec(request, stdout=print, stderr=print, idle=PATIENCE),
                "box.exec(true)": lambda: box.exec(TRUE, check=True),
                _CLICK: process(place, sys.executable, "-c", "import click"),
                "mvm exec … true": process(place, mvm, "exec", box.id, *TRUE),
                "mvm build, finished already": process(place, mvm, "build", str(place.tree / "examples/hello")),
            },
            rounds=5 * rounds,
        )
    yield _figure(found, "box.exec(true)", channels, "ratio at most 1.5")
    yield _figure(found, "mvm exec … true", _CLICK, "ratio at most 2")
    yield _figure(found, "mvm build, finished already", _CLICK, "ratio at most 5")


def _figure(found: Mapping[str, Times], name: str, other: str, asked: str) -> Figure:
    return in_turns_with(name, other, Pair(found[name], found[other]), asked)


def _memory(place: Place, signed: Path, starts: int) -> Iterator[Figure]:
    with readable_launcher(place) as launcher:
        with Sandbox.launch(signed) as box:
            time.sleep(SETTLED)
            supervisor = sizes_of(supervisor_of(place, box.id))
        time.sleep(SETTLED)
        idle = sizes_of(launcher)
        yield Figure("launcher, idle: PSS", "MB", (idle["Pss"],), asked="at most 45")
        yield Figure("supervisor: private", "MB", (private(supervisor),), asked="at most 10")
        argv = (sys.executable, "-P", "-c", _CALLER, str(signed), str(_SANDBOXES))
        told = subprocess.run(argv, env=place.home.environment, check=True, capture_output=True, text=True).stdout
        yield Figure(f"caller with {_SANDBOXES} sandboxes: PSS", "MB", (sizes(told)["Pss"],), asked="under 80")
        held = []
        for _ in range(starts):
            Sandbox.launch(signed).kill()
            held.append(_held(launcher))
    first, last = held[min(_WARM, starts) - 1], held[-1]
    for name, unit in (("resident", "KiB"), ("descriptors", ""), ("threads", "")):
        growth = float(last[name] - first[name])
        yield Figure(f"launcher's growth from {_WARM} to {starts} starts: {name}", unit, (growth,), asked="no growth")


def _held(pid: int) -> Mapping[str, int]:
    status = dict(re.findall(r"^(\w+):\s+([0-9]+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE))
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return {"resident": int(status["VmRSS"]), "descriptors": descriptors, "threads": int(status["Threads"])}
