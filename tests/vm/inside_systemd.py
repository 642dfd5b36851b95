"""Runs in a Debian guest: as root it starts the rest as users, and each prints what it found of its control groups.

Outside, systemd_guest.py boots that guest, and test_systemd.py says what is expected.
"""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from mvmnix.errors import RefusedError
from mvmnix.sandbox import uid_pool
from mvmnix.system import control_groups, procfs
from mvmnix.system.private_dirs import Directory
from mvmnix.vmm.jail.jail import BubblewrapJail
from tests.hostile.stand_in import taken_over
from tests.patience import EVENT_PATIENCE, PATIENCE, until

PROGRAM: Final = "/mvm/taken_over"
LIMITS: Final = ("memory.max", "memory.swap.max", "pids.max", "cpu.max", "cpu.weight")
#: A user and how a program is started as that user.
ADA, EVE = "ada", "eve"
MANAGER: Final = (
    *("runuser", "-u", ADA, "--", "env", "XDG_RUNTIME_DIR=/run/user/1000"),
    *("systemd-run", "--user", "--wait", "--pipe", "--quiet", "--collect"),
)
OWN_SCOPE: Final = ("systemd-run", "--user", "--scope", "--quiet", "-p", "Delegate=yes", "-p", "MemoryMax=900M")


def session(user: str, *within: str) -> tuple[str, ...]:
    """As a log-in does, by PAM, which puts it into a session's scope."""
    start = ("systemd-run", f"--uid={user}", "-p", "PAMName=login", "--wait", "--pipe", "--quiet", "--collect")
    return (*start, "-E", f"HOME=/home/{user}", *within)


def say(**found: object) -> None:
    sys.stdout.write(f"{json.dumps(found)}\n")
    sys.stdout.flush()


@dataclass(frozen=True, slots=True)
class House:
    """A user's jail, where its leases are, and a disk."""

    jail: BubblewrapJail
    leases: Path
    disk: Path

    def group(self) -> Path:
        """That of the one sandbox there is."""
        (note,) = self.leases.glob("*.json")
        (path,) = json.loads(note.read_bytes())["groups"]
        return Path(path)


@contextmanager
def house() -> Iterator[House]:
    state = Path.home() / ".local/state/mvmnix"
    with Directory.create(str(state)) as directory, Directory.create(str(state / "libraries")) as cache:
        pool = uid_pool.open_pool(directory)
        (state / "disk").write_bytes(b"the image")
        with pool.directory:
            yield House(BubblewrapJail(pool, cache), Path(pool.directory.path), state / "disk")


def sandbox() -> None:
    """What one of the jail's sandboxes has, and what becomes of one that takes more memory than its plan says."""
    before = control_groups.unified()
    with house() as it:
        with taken_over(PROGRAM, it.jail, it.disk, "hold", percent=50, weight=50) as taken:
            taken.wait_for("hold")
            process, group = taken.guest.process, it.group()
            found: dict[str, Any] = {
                "before": str(before),
                "own": str(control_groups.unified()),
                "group": str(group),
                "limits": {name: (group / name).read_text().strip() for name in LIMITS},
                "member": process.pid in control_groups.processes(group),
                "uids": sorted(procfs.uids(process.pid)),
                "layers": list(process.layers),
            }
        found["left"] = group.exists()
        with taken_over(PROGRAM, it.jail, it.disk, "thread", "touch=512", "hold") as taken:
            group = it.group()
            taken.guest.settle(EVENT_PATIENCE)
            events = dict(line.split() for line in (group / "memory.events").read_text().splitlines())
            found |= {"greedy": taken.results(), "ended": taken.guest.process.ended, "killed": int(events["oom_kill"])}
        say(**found, leases=len(list(it.leases.iterdir())))


def refused() -> None:
    """A plan that limits processor time, where no group can be made."""
    try:
        with house() as it, taken_over(PROGRAM, it.jail, it.disk, "hold", percent=50):
            say(codes=[])
    except RefusedError as error:
        say(codes=list(error.codes))


def detached() -> None:
    """Two supervisors in the background, as `mvm launch` has them: this process ends once their guests run."""
    ready, said = os.pipe()
    for _ in range(2):
        if os.fork() == 0:
            _supervise(said)
    os.close(said)
    found = b""
    while found.count(b"\n") < 2 and (data := os.read(ready, 4096)):
        found += data
    say(machines=[json.loads(line) for line in found.splitlines()], own=str(control_groups.unified()))


def _supervise(said: int) -> NoReturn:
    os.setsid()
    try:
        _hold(said)
    finally:
        os._exit(1)


def _hold(said: int) -> None:
    with house() as it, taken_over(PROGRAM, it.jail, it.disk, "hold", percent=50) as taken:
        taken.wait_for("hold")
        group = control_groups.unified(str(taken.guest.process.pid))
        names = {"supervisor": os.getpid(), "process": taken.guest.process.pid, "group": str(group)}
        os.write(said, json.dumps(names).encode() + b"\n")
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)  # what waits for the command's end waits for that of its pipe too
        os.dup2(1, 2)
        os.close(said)
        signal.pause()


def run(name: str, *argv: str) -> Any:
    """Run it as `argv` says, and say what it said; None where that is nothing."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=PATIENCE)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        found = None
    say(name=name, status=done.returncode, found=found, said=done.stdout if found is None else "", error=done.stderr)
    return found


def here(work: Callable[[], None]) -> tuple[str, ...]:
    paths = f"PYTHONPATH={os.environ['PYTHONPATH']}"
    return ("env", "-C", "/mvm", paths, "PYTHONDONTWRITEBYTECODE=1", sys.executable, "-m", __spec__.name, work.__name__)


def mvm(*words: str) -> tuple[str, ...]:
    return (*here(sandbox)[:-2], "mvmnix.cli", *words)


def scopes() -> list[str]:
    """Those of mvm's that are there, with the groups in them."""
    return [str(path) for path in Path("/sys/fs/cgroup").rglob("mvmnix-*")]


def gone(pid: int) -> bool:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(EVENT_PATIENCE * 1000))


def emptied() -> bool:
    """Whether the managers have removed what ended."""
    return until(lambda: not scopes(), scopes)


def main() -> None:
    """As root; the order is that of `test_systemd.py`, and a user has no manager before the first log-in."""
    run("no manager", "runuser", "-u", EVE, "--", "env", "HOME=/home/eve", *here(refused))
    run("doctor without", "runuser", "-u", EVE, "--", "env", "HOME=/home/eve", *mvm("doctor", "--json"))
    run("manager", *MANAGER, *here(sandbox))
    run("session", *session(EVE), *here(sandbox))
    run("doctor", *session(EVE), *mvm("doctor", "--json"))
    run("own scope", *session(ADA), *OWN_SCOPE, *here(sandbox))
    say(name="emptied", found=emptied())
    machines = run("detached", *session(ADA), *here(detached))["machines"]
    say(name="lives on", found=[Path(f"/proc/{one['process']}").exists() for one in machines])
    for properties in (("-p", "CPUQuota=50%"), ()):  # the manager looks which controllers its slice needs
        run("another unit", *MANAGER, *properties, "true")
    say(name="kept", found=[Path(one["group"], "cpu.max").read_text().strip() for one in machines])
    for one in machines:
        os.kill(one["supervisor"], signal.SIGKILL)
    say(name="killed", found=[gone(one["process"]) for one in machines], emptied=emptied())


if __name__ == "__main__":
    {work.__name__: work for work in (main, sandbox, refused, detached)}[(sys.argv[1:] or ["main"])[0]]()
