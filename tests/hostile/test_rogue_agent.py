"""A guest whose agent is the attacker's, in a real machine: whatever it says, the end is clear and memory bounded."""

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mvmnix.audit.reading import last_records
from mvmnix.audit.record import RecordKind
from mvmnix.digest import Digest
from mvmnix.launch.agent.frames import OUTPUT_WINDOW, PROTOCOL_VERSION, Bye, Failed, Frame, Hello, Pong, Ready
from mvmnix.launch.agent.operations import MAX_PAYLOAD
from mvmnix.launch.agent.stream_frames import Data, Exit, Open, Started, Stderr, Stdout
from mvmnix.launch.agent.transport import encode
from mvmnix.machines.ending import EndReason
from mvmnix.machines.exit_status import End, Step
from mvmnix.plan.data_disk import DataDisk
from mvmnix.plan.plan import Timeouts
from mvmnix.plan.share import Share
from tests.conftest import World
from tests.hostile.rig import Rig, replaced
from tests.patience import PATIENCE, POLL, until
from tests.repository import ROOT
from tests.sample import sample
from tests.support.archives import member, padded
from tests.support.processes import status
from tests.unit.provenance.world import put

pytestmark = pytest.mark.vm

AGENT, ROGUE = ROOT / "modules/agent", ROOT / "tests/hostile/rogue"
HELLO, READY = Hello(PROTOCOL_VERSION, "rogue", "0"), Ready()
EXITED = Exit(1, End.EXITED, Step.NONE, 0)
ESCAPES = b"\x1b]0;mine\x07\x1b[2J\x1b[6n\xff\r\n"
HEADER = bytes(8)
#: What mvm may take beyond what it takes for a guest that does as it should, in KiB.
MORE = 48 * 1024


@dataclass(frozen=True)
class Script:
    """What it says: at once, and each time something was heard; how mvm ends then, and what it says.

    `forever`: the last of it again and again; without a `reader` nobody takes the output before the end.
    """

    says: Sequence[Sequence[Frame | bytes]]
    code: int
    told: str
    forever: bool = False
    reader: bool = True
    timeouts: Timeouts = field(default_factory=lambda: Timeouts(60, 60))


def running(*frames: Frame | bytes) -> Sequence[Sequence[Frame | bytes]]:
    """Well-behaved until the plan's command is asked for."""
    return ([HELLO], [READY], frames)


FULL = [Stdout(1, b"x" * MAX_PAYLOAD)]
#: So many of them that no window takes all.
BEYOND = 2 * OUTPUT_WINDOW // MAX_PAYLOAD
LATE = Timeouts(8, 8)
SCRIPTS = {
    "wrong length": Script([[b"\x01\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff"]], 125, "payload of 4294967295 bytes"),
    "too short": Script([[b"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"]], 125, "ends too early"),
    "no frames": Script([[b"SSH-2.0-OpenSSH_9.9\r\n" * 10]], 125, "a frame of type 83"),
    "another version": Script([[Hello(7, "", "")]], 125, "version 7"),
    "flags": Script([[b"\x01\x01" + HEADER + b"\x00\x00"]], 125, "must be zero"),
    "nothing": Script([[b""]], 124, "took too long", timeouts=LATE),
    "half a frame": Script([[encode(HELLO)[:-1]]], 124, "took too long", timeouts=LATE),
    "never ready": Script([[HELLO]], 124, "took too long", timeouts=LATE),
    "fails": Script([[HELLO], [Failed(ESCAPES)]], 125, r"\u001b]0;mine"),
    "wrong order": Script([[READY]], 125, "out of order"),
    "hello twice": Script([[HELLO, HELLO]], 125, "out of order"),
    "a flood of hello": Script([[HELLO] * 4096], 125, "out of order", forever=True),
    "ready twice": Script(running(READY), 125, "out of order"),
    "a pong to nobody": Script(running(Pong(7)), 125, "PONG"),
    "output of nobody": Script(running(Stdout(99, b"x")), 125, "stream 99"),
    "an end of nobody": Script(running(Exit(99, End.EXITED, Step.NONE, 0)), 125, "stream 99"),
    "an end before a start": Script(running(EXITED), 125, "ended without having started"),
    "output beyond its window": Script(running(Started(1), *FULL * BEYOND), 125, "were granted", reader=False),
    "connections that nobody granted": Script(running(Started(1), Open(2, 80)), 125, "which was not granted"),
    "data of no connection": Script(running(Started(1), Data(2, b"x")), 125, "stream 2"),
    "never ends": Script(running(Started(1)), 124, "time", timeouts=Timeouts(60, 4)),
    "leaves at once": Script([[HELLO], [READY], [Bye()]], 125, "BYE"),
    "a screen of its own": Script(
        running(Started(1), Stdout(1, ESCAPES), Stderr(1, ESCAPES), EXITED, Bye()), 0, ESCAPES[:8].decode()
    ),
}


@pytest.fixture(scope="session")
def rogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, with the real agent's way to the port."""
    where = tmp_path_factory.mktemp("rogue")
    for file in (*AGENT.iterdir(), *ROGUE.iterdir()):
        if file.suffix in {".c", ".h"} or file.name == "Makefile":
            shutil.copy(file, where)
    subprocess.run(["make", "-s", "-C", where, "agent"], check=True)
    return where / "agent"


def initrd(before: bytes, rogue: bytes, script: Script) -> bytes:
    """The image's own, with another first process over it: archives that follow each other are unpacked in turn."""
    made = member("init", 0o100755, rogue) + member("rogue", 0o040755)
    for number, said in enumerate(script.says):
        text = b"".join(part if isinstance(part, bytes) else encode(part) for part in said)
        made += member(f"rogue/{number}", 0o100644, text)
    if script.forever:
        made += member("rogue/forever", 0o100644)
    return padded(before) + made + member("TRAILER!!!", 0)


def takes_over(rig: Rig, rogue: Path, script: Script, **fields: Any) -> Path:
    """An image with this agent, in the library with all evidence, and a signed plan for it."""
    before = rig.files["initrd"].read_bytes()
    data = initrd(before, rogue.read_bytes(), script)
    digest = Digest.of(data)
    replaced(rig.home.state / "images" / digest.hex, data)
    rig.change_manifest(put({"file": "initrd", "sha256": digest.hex, "size": len(data)}, "artifacts", "initrd"))
    rig.sign_plan(timeouts=script.timeouts, **fields)
    rig.install()
    plan = rig.home.path / "plan"
    plan.write_bytes(rig.plan)
    return plan


@dataclass(frozen=True)
class Ended:
    """How `mvm launch` ended: exit code, what it said, and the most memory that it took, in KiB."""

    code: int
    said: str
    peak: int


def launched(rig: Rig, plan: Path, *, reader: bool = True) -> Ended:
    argv, environment = rig.home.argv("launch", plan), rig.home.environment
    with (rig.home.path / "output").open("w+b") as file:
        out = file if reader else subprocess.PIPE
        running = subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=file)
        peaks = [0]

        def look() -> None:
            peaks.append(peak_of(running.pid))
            time.sleep(POLL)

        until(lambda: running.poll() is not None, rest=look, seconds=PATIENCE)
        running.communicate()
        file.seek(0)
        return Ended(running.returncode, file.read().decode(errors="replace"), max(peaks))


def peak_of(process: int) -> int:
    """The most memory that it had so far; 0 when it is gone."""
    try:
        return int(status(process)["VmHWM"].split()[0])
    except (OSError, KeyError):
        return 0


@pytest.fixture(scope="module")
def usual(world: World, tmp_path_factory: pytest.TempPathFactory) -> int:
    """What mvm takes for a guest that does as it should."""
    made = Rig(world.copy(tmp_path_factory.mktemp("usual") / "home"))
    with made.rooms.roots, made.rooms:
        plan = made.home.path / "plan"
        plan.write_bytes(made.plan)
        ended = launched(made, plan)
    assert ended.code == 0
    assert ended.said.endswith("Hello from a verified microVM.\n")
    return ended.peak


@pytest.mark.parametrize("name", sample([*SCRIPTS], 8))
def test_a_clear_end_in_bounded_memory(rig: Rig, rogue: Path, usual: int, name: str) -> None:
    script = SCRIPTS[name]
    ended = launched(rig, takes_over(rig, rogue, script), reader=script.reader)
    assert (ended.code, script.told in ended.said) == (script.code, True), ended.said
    assert "Traceback" not in ended.said
    assert 0 < ended.peak < usual + MORE
    assert rig.home.mvm("ps", "--json").stdout.count(b'"machine"') == 0
    assert rig.home.mvm("audit", "verify").returncode == 0


def test_a_boot_that_comes_to_nothing_is_begun_once_more_and_leaves_evidence(
    rig: Rig, rogue: Path, tmp_path: Path
) -> None:
    """A kernel that has nothing to do, for its first process says nothing: on a loaded host it may count as hung.

    Its share has another server each time, its data disk another key.
    """
    (tmp_path / "shared").mkdir(mode=0o755)
    share = Share(str(tmp_path / "shared"), "/mnt", follow=True)
    plan = takes_over(rig, rogue, SCRIPTS["nothing"], shares=(share,), data=DataDisk(128, "/srv"))
    ended = launched(rig, plan)
    assert (ended.code, "it is started once more" in ended.said) == (124, True), ended.said
    told = [it.record for it in last_records(rig.rooms.audit, rig.rooms.log_key, last=3)]
    where = rig.home.state / "machines" / str(told[0].machine)
    kept = [path.read_text() for path in sorted(where.glob("diagnosis-*.txt"))]
    assert len(kept) == 2
    for text in kept:
        for words in ("RIP=", "CR3=", "LVTT", "pic0:", "IRQ statistics", '"status": "running"', "/cpu.stat", "state S"):
            assert words in text
    assert [it.kind for it in told] == [RecordKind.START, RecordKind.RESTART, RecordKind.END]
    assert {*told[1].reasons, *told[2].reasons} <= {EndReason.BOOT_STALLED, EndReason.TIMEOUT}
    assert told[1].digests["diagnosis"] == Digest.of(kept[0].encode())


@pytest.mark.parametrize("flags", [(), ("--raw",)])
def test_a_real_terminal(rig: Rig, rogue: Path, flags: tuple[str, ...]) -> None:
    plan = takes_over(rig, rogue, SCRIPTS["a screen of its own"])
    command = shlex.join(map(os.fsdecode, rig.home.argv("launch", *flags, plan)))
    argv = ["script", "--quiet", "--return", "--command", command, "/dev/null"]
    done = subprocess.run(
        argv, env=rig.home.environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout
    assert (ESCAPES[:-2] in done.stdout) == bool(flags)
    assert done.stdout.count(b"\\u001b]0;mine\\u0007\\u001b[2J\\u001b[6n\\xff") == (0 if flags else 2)
