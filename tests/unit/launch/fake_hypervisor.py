"""A working hypervisor without a machine: a real process that speaks for monitor, console and guest agent.

Run as a program it is the hypervisor; imported it is the backend that starts it. What it does besides is chosen by a
`Scenario`, or by the commands that it is given (see PROGRAMS).
"""

import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NoReturn, override

_ROOT = Path(__file__).parents[3]
if __name__ == "__main__":
    sys.path[0] = str(_ROOT)

from mvmnix.launch.agent.frames import Bye, Config, Failed, Frame, GuestFailure, Hello, Ready  # noqa: E402 - as a program it must find the package first
from mvmnix.launch.agent.requests import GuestConfig  # noqa: E402
from mvmnix.model import Workload  # noqa: E402
from mvmnix.plan.backend import Backend  # noqa: E402 - as a program it must find the package first
from mvmnix.plan.kernel_command_line import Addition, BackendParameter  # noqa: E402
from mvmnix.vmm.port import Acceleration, Emulation, Hypervisor, Invocation, LaunchSpec  # noqa: E402
from mvmnix.vmm.qmp import QmpMonitor  # noqa: E402
from tests.unit.launch.fake_guest import FakeGuest, Program  # noqa: E402
from tests.unit.launch.host_frames import read_config  # noqa: E402


class Scenario(StrEnum):
    """What happens when the fake boots."""

    BOOTS = "boots"
    HANGS = "hangs"
    SPINS = "spins"
    STALLS = "stalls"
    DEAF = "deaf"
    WAKES = "wakes"
    LATE = "late"
    UNREADY = "unready"
    BLOCKED = "blocked"
    CHATTERS = "chatters"
    PANICS = "panics"
    ABORTS = "aborts"
    STOPS = "stops"
    BABBLES = "babbles"
    SLOW = "slow"
    NO_BYE = "no-bye"
    MUTE = "mute"
    FAILS = "fails"
    LINGERS = "lingers"
    ONLY_TCG = "only-tcg"
    UNSAVED = "unsaved"
    UNRESTORED = "unrestored"
    REPEATS = "repeats"


#: What a fake saves of its guest: the state of its devices, and a word at the beginning of its memory. That of a guest
#: that was told what it is to be goes on with that.
STATE, MEMORY = b"the state of a fake's devices", b"what a fake's guest remembers"


@dataclass(frozen=True, slots=True)
class FakeHypervisor(Hypervisor):
    """The backend; the guest's disk is what `cat-disk` reads, and its files lie in a directory of this host."""

    scenario: Scenario = Scenario.BOOTS
    guest_root: Path = Path("/proc/nonexistent")
    #: What happens when a guest is restored; None for one that saves none.
    restored: Scenario | None = None

    @property
    @override
    def backend(self) -> Backend:
        return Backend.QEMU

    @property
    @override
    def firmware(self) -> tuple[str, ...]:
        return (__file__,)

    @property
    @override
    def files(self) -> tuple[str, ...]:
        return ()

    @override
    def emulation(self, acceleration: Acceleration) -> Emulation | None:
        return None if self.restored is None else Emulation(__file__, __file__, "fake", acceleration)

    @override
    def monitor(self) -> QmpMonitor:
        return QmpMonitor()

    @override
    def invocation(self, spec: LaunchSpec) -> Invocation:
        disk = -1 if spec.rootfs is None else spec.rootfs
        numbers = map(str, (spec.channel, spec.console, spec.monitor, disk))
        scenario = self.scenario
        if scenario is Scenario.ONLY_TCG:
            scenario = Scenario.ABORTS if spec.acceleration is Acceleration.KVM else Scenario.BOOTS
        memory = None if spec.memory is None else spec.memory.descriptor
        saved = (str(-1 if fd is None else fd) for fd in (memory, spec.restored, spec.saves))
        if self.restored is not None and spec.restored is not None:
            scenario = self.restored
        additions = (Addition(BackendParameter.TSC_EARLY_KHZ, spec.tsc_khz),)
        argv = (sys.executable, __file__, scenario, *numbers, str(self.guest_root), spec.command_line, *saved)
        return Invocation(argv, additions)


class _Guest(FakeGuest):
    """Does nothing while it is paused."""

    going: threading.Event

    @override
    def _turn(self) -> bool:
        poll = select.poll()  # select(2) knows no descriptor above 1,023
        for fd in (self._sock.fileno(), self._wake_read):
            poll.register(fd, select.POLLIN)
        poll.poll()
        self.going.wait()
        return super()._turn()


class _Restored(_Guest):
    """Has reported before it was saved."""

    @override
    def _say(self, frame: Frame) -> None:
        if not isinstance(frame, Hello):
            super()._say(frame)


class _Mute(_Guest):
    """Ends when it is told to, without the farewell."""

    @override
    def _say(self, frame: Frame) -> None:
        if not isinstance(frame, Bye):
            super()._say(frame)


class _Unready(_Guest):
    """Takes the configuration, and that was all."""

    @override
    def _say(self, frame: Frame) -> None:
        if not isinstance(frame, Ready):
            super()._say(frame)


class _Failing(_Guest):
    """Says that it can't be what it is told to be, and goes on; its hypervisor complains of something."""

    @override
    def _say(self, frame: Frame) -> None:
        super()._say(Failed(b"no room for the disk") if isinstance(frame, Ready) else frame)
        if isinstance(frame, Ready):
            sys.stderr.write("fake: warning: an option is deprecated\n")
            sys.stderr.flush()
            signal.pause()


class _Lingering(_Guest):
    """Says goodbye, and goes on."""

    @override
    def _say(self, frame: Frame) -> None:
        super()._say(frame)
        if isinstance(frame, Bye):
            signal.pause()


class _Blocked(_Guest):
    """Has a file where the plan has something mounted."""

    @override
    def _received(self, frame: Frame) -> bool:
        if not isinstance(frame, Config):
            return super()._received(frame)
        self._say(Failed(b"/etc/passwd is a file of the image", GuestFailure.MOUNT_POINT))
        return False


class _Woken(_Guest):
    """Lets it be known when it was configured."""

    configured: threading.Event

    @override
    def _received(self, frame: Frame) -> bool:
        going_on = super()._received(frame)
        self.configured.set()
        return going_on


class _Late(_Woken, _Unready):
    """Lets it be known, and that was all."""


class _Fake:
    """The process."""

    #: What wakes a guest that stalls.
    touched: threading.Event
    deaf = False
    wakes = False

    def __init__(
        self, channel: int, console: int, monitor: int, disk: int, *, root: Path, saved: tuple[int, ...]
    ) -> None:
        """`saved` has the memory, the state as which it begins, and where that of its own goes; -1 for what isn't."""
        self.root = root
        self.memory, self.state, self.saves = saved
        self.restored = threading.Event()
        #: What a guest that goes on from a snapshot was told before.
        self.config: GuestConfig | None = None
        self.runs = False
        self.scenario = Scenario.BOOTS
        self.channel, self.console, self.monitor = (socket.socket(fileno=fd) for fd in (channel, console, monitor))
        self.disk = disk
        self.going = threading.Event()
        self.going.set()
        self.touched = threading.Event()
        self.configured = threading.Event()

    def obey(self) -> None:
        """Answer the monitor as QEMU does (qapi/misc.json: stop, cont; qapi/run-state.json: query-status)."""
        for line in self.monitor.makefile("rb"):
            asked = json.loads(line)
            if "id" in asked:
                self.tell(asked)
                continue
            match asked["execute"]:
                case "query-status":
                    waits = "inmigrate" if self.state >= 0 and not self.restored.is_set() else "paused"
                    self.reply({"status": "running" if waits == "paused" and self.going.is_set() else waits})
                    continue
                case "migrate":
                    self.save()
                case "migrate-incoming" if self.scenario not in {Scenario.UNRESTORED, Scenario.ABORTS}:
                    self.restore()
                case "stop" if self.going.is_set():
                    self.going.clear()
                    self.event("STOP")
                case "cont" if not self.going.is_set():
                    self.event("RESUME")
                    self.going.set()
                case _:
                    pass
            self.reply({})

    def save(self) -> None:
        """As QEMU does: the guest stands still once all is written."""
        config = self.guest.config
        os.pwrite(self.memory, MEMORY, 0)
        runs = b"runs" if self.guest.runs_command else b"idle"
        os.write(self.saves, STATE if config is None else STATE + runs + Config(config).payload())
        self.progress("active")
        self.going.clear()
        self.event("STOP")
        self.progress("failed" if self.scenario is Scenario.UNSAVED else "completed")

    def restore(self) -> None:
        """As QEMU does: what can't be read ends it, and the guest goes on before all is said."""
        self.progress("active")
        state = os.read(self.state, 1 << 20)
        if not state.startswith(STATE) or os.pread(self.memory, len(MEMORY), 0) != MEMORY:
            os._exit(1)
        told = state.removeprefix(STATE)
        self.runs, self.config = told[:4] == b"runs", read_config(told[4:]) if told else None
        self.event("RESUME")
        self.progress("completed")
        self.restored.set()

    def progress(self, status: str) -> None:
        """How the state gets on (qapi/migration.json: MIGRATION)."""
        self.monitor.sendall(json.dumps({"event": "MIGRATION", "data": {"status": status}}).encode() + b"\r\n")

    def tell(self, asked: dict[str, object]) -> None:
        """How the guest stands: a status, and of everything else some text (qapi/misc.json: human-monitor-command)."""
        self.touched.set()
        if self.deaf:
            return
        if self.wakes:
            self.configured.wait()
        status = {"status": "running", "running": True}
        answer = status if asked["execute"] == "query-status" else f"RIP={os.getpid():x}\r\n\x1b[2J{asked['id']}\r\n"
        self.monitor.sendall(json.dumps({"return": answer, "id": asked["id"]}).encode() + b"\r\n")

    def reply(self, value: object) -> None:
        self.monitor.sendall(json.dumps({"return": value}).encode() + b"\r\n")

    def say(self, text: str) -> None:
        self.console.sendall(text.encode())

    def event(self, name: str, reason: str = "") -> None:
        data = f', "data": {{"guest": true, "reason": "{reason}"}}' if reason else ""
        self.monitor.sendall(f'{{"event": "{name}"{data}}}\r\n'.encode())

    def end(self, reason: str) -> NoReturn:
        """As QEMU does: with status 0, whatever became of the guest."""
        self.event("SHUTDOWN", reason)
        os._exit(0)

    def panic(self) -> NoReturn:
        self.say("Kernel panic - not syncing: \x1b[31mAttempted to kill init!\n")
        self.end("guest-reset")

    def spin(self) -> NoReturn:
        while True:
            pass

    def stall(self, rest: float = 0.0, deaf: bool = False, work: float = 0.2) -> None:
        """Do something, then nothing until the monitor is asked how it stands, and nothing for that long after it."""
        self.deaf = deaf
        self.work(work)
        self.touched.wait()
        time.sleep(rest)

    @staticmethod
    def work(seconds: float = 0.2) -> None:
        begun = time.process_time()
        while time.process_time() - begun < seconds:
            pass

    def chatter(self, times: int, pause: float) -> None:
        for _ in range(times):
            time.sleep(pause)
            self.say("still booting\n")

    def abort(self) -> NoReturn:
        sys.stderr.write("fake: failed to set MSR 0x10a\n")
        sys.stderr.flush()
        os.abort()

    def stand_still(self) -> None:
        self.event("STOP")
        signal.pause()

    def babble(self) -> None:
        self.channel.sendall(b"\x00" * 64)
        signal.pause()

    def knock(self, work: Workload, _stdin: bytes) -> tuple[bytes, bytes, int]:
        for _ in range(int(work.argv[2])):
            self.guest.connect(int(work.argv[1]), b"let me in")
        return b"", b"", 0

    def programs(self) -> dict[str, Program]:
        def panic(_work: Workload, _stdin: bytes) -> NoReturn:
            self.panic()

        def die(_work: Workload, _stdin: bytes) -> NoReturn:
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

        def violate(_work: Workload, _stdin: bytes) -> NoReturn:
            self.channel.sendall(b"\xff" * 64)
            signal.pause()
            raise AssertionError

        def sleep(work: Workload, _stdin: bytes) -> tuple[bytes, bytes, int]:
            time.sleep(float(work.argv[1]))
            return b"", b"", 0

        def flood(work: Workload, _stdin: bytes) -> tuple[bytes, bytes, int]:
            for _ in range(int(work.argv[1])):
                self.say("x" * 1024)
            return bytes(10_000), b"", 0

        def descriptors(_work: Workload, _stdin: bytes) -> tuple[bytes, bytes, int]:
            mine = [path for path in Path("/proc/self/fd").iterdir() if int(path.name) > 2 and path.exists()]
            return "\n".join(str(path.readlink()) for path in mine).encode(), b"", 0

        return {
            "knock": self.knock,
            "panic": panic,
            "die": die,
            "violate": violate,
            "sleep": sleep,
            "flood": flood,
            "descriptors": descriptors,
            "pid": lambda _work, _stdin: (str(os.getpid()).encode(), b"", 0),
            "cat-disk": lambda _work, _stdin: (os.pread(self.disk, 65536, 0), b"", 0),
        }

    def boot(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.wakes = scenario in {Scenario.WAKES, Scenario.LATE}
        self.monitor.sendall(b'{"QMP": {"version": {}, "capabilities": []}}\r\n')
        threading.Thread(target=self.obey, daemon=True).start()
        fates: dict[Scenario, Callable[[], None]] = {
            Scenario.HANGS: signal.pause,
            Scenario.SPINS: self.spin,
            Scenario.STALLS: lambda: self.stall(rest=600.0),
            Scenario.DEAF: lambda: self.stall(rest=600.0, deaf=True),
            Scenario.WAKES: self.stall,
            Scenario.UNREADY: self.work,
            Scenario.LATE: lambda: self.stall(work=0.0),
            Scenario.CHATTERS: lambda: self.chatter(10**6, 0.02),
            Scenario.PANICS: self.panic,
            Scenario.ABORTS: self.abort,
            Scenario.STOPS: self.stand_still,
            Scenario.BABBLES: self.babble,
            Scenario.SLOW: lambda: self.chatter(8, 0.15),
        }
        if scenario in fates:
            fates[scenario]()
        if self.state >= 0:
            self.restored.wait()
        else:
            self.say("booted\n")

    def run(self, scenario: Scenario) -> NoReturn:
        self.boot(scenario)
        if scenario is Scenario.NO_BYE:
            signal.signal(signal.SIGALRM, lambda *_: self.end("guest-reset"))
        kinds = {
            Scenario.MUTE: _Mute,
            Scenario.UNREADY: _Unready,
            Scenario.WAKES: _Woken,
            Scenario.LATE: _Late,
            Scenario.FAILS: _Failing,
            Scenario.LINGERS: _Lingering,
            Scenario.BLOCKED: _Blocked,
        }
        usual = _Restored if self.state >= 0 and scenario is not Scenario.REPEATS else _Guest
        guest = kinds.get(scenario, usual)(
            self.channel, self.programs(), root=self.root, restored=self.config, runs=self.runs
        )
        if isinstance(guest, _Woken):
            guest.configured = self.configured
        self.guest = guest
        guest.going = self.going
        guest._main()  # on this thread: the process has no other
        if guest.error is not None:
            sys.stderr.write(f"fake: {guest.error!r}\n")
            os._exit(1)
        self.end("guest-reset")


if __name__ == "__main__":
    _words = sys.argv[1:]
    _fake = _Fake(*map(int, _words[1:5]), root=Path(_words[5]), saved=tuple(map(int, _words[7:])))
    _fake.run(Scenario(_words[0]))
