"""QEMU's monitor protocol, as bytes in and events out: capabilities, `stop`, `cont`, questions; no I/O.

QEMU's exit status says nothing about its guest (a panicked init exits 0), so its SHUTDOWN event is what counts.
The other side may be a QEMU that a guest took over: lines are bounded, and whatever is not expected is refused.
"""

import json
from collections.abc import Mapping
from typing import Final, override

from mvmnix.formats.strict import MalformedError, parse_json
from mvmnix.vmm.port import Monitor, MonitorEvent

#: The numbers of the sets of descriptors that hold the state of devices (qemu(1), -add-fd): of the guest that the
#: machine begins as, and of the same guest when it is saved.
RESTORED_FDSET: Final = 14
SAVED_FDSET: Final = 15
#: Bytes. The longest line that a QEMU sends unasked is its greeting, with some 200.
LINE_LIMIT = 16384
#: Bytes of a line while it is asked how its guest stands: some 4,000 for the registers of each processor.
ANSWER_LIMIT = 1 << 20
#: QEMU: qapi/migration.json, MigrationStatus, of the state that is written.
_PROGRESS: Final = {"completed": MonitorEvent.SAVED, "failed": MonitorEvent.SAVE_FAILED}
_NEGOTIATE = b'{"execute":"qmp_capabilities"}\n{"execute":"query-status"}\n'
# The status tells a guest that stands still as asked from one that QEMU stopped for a reason of its own meanwhile.
_STOP = b'{"execute":"stop"}\n{"execute":"query-status"}\n'
_CONT = b'{"execute":"cont"}\n{"execute":"query-status"}\n'
#: Memory that other processes may read stays where it is, and isn't in the stream (QEMU: docs/system, VM templating).
#: The second one has it tell how the stream gets on.
_CAPABILITIES: Final = ("x-ignore-shared", "events")
#: What it is asked about a guest that stands still (QEMU: hmp-commands-info.hx): nothing of that is guest memory.
_STATE: Final = ("info lapic", "info pic", "info irq")
_REGISTERS: Final = "info registers -a"
_STATUS: Final = "query-status"
#: QEMU: qapi/run-state.json, ShutdownCause.
_SHUTDOWN_CAUSES = {
    "guest-reset": MonitorEvent.GUEST_RESET,
    "guest-shutdown": MonitorEvent.GUEST_SHUTDOWN,
    "guest-panic": MonitorEvent.GUEST_PANIC,
    "host-qmp-quit": MonitorEvent.HOST_QUIT,
    "host-signal": MonitorEvent.HOST_QUIT,
    "host-error": MonitorEvent.INTERNAL_ERROR,
}


class QmpMonitor(Monitor):
    r"""The reader of one QMP connection; keeps at most one incomplete line.

    >>> QmpMonitor().received(b'{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}\r\n')
    (<MonitorEvent.GUEST_RESET: 'guest-reset'>,)
    """

    def __init__(self) -> None:
        self._rest = b""
        #: Whether the next STOP is one that was asked for.
        self._stopping = False
        #: Whether READY comes by an event: a restored guest goes on by itself.
        self._restoring = False
        #: Whether MIGRATION is about what is written; what is read ends QEMU where it can't be, and RESUME follows it.
        self._saving = False
        self._asked: set[str] = set()
        self._answers: dict[str, str] = {}

    @override
    def greeting(self, *, restores: bool = False) -> bytes:
        """Sent before QEMU has said anything: QEMU reads it when it is ready, and mvm doesn't wait for a greeting."""
        self._restoring = restores
        return _NEGOTIATE + _stream("migrate-incoming", RESTORED_FDSET) if restores else _NEGOTIATE

    @override
    def pause(self) -> bytes:
        self._stopping = True
        return _STOP

    @override
    def resume(self) -> bytes:
        return _CONT

    @override
    def save(self) -> bytes:
        """The guest runs until its state is written, so that it is one that runs, and goes on by itself."""
        self._stopping = self._saving = True
        return _stream("migrate", SAVED_FDSET)

    @override
    def examine(self, *, registers: bool) -> bytes:
        commands = ((_REGISTERS,) if registers else ()) + _STATE
        questions: dict[str, Mapping[str, object]] = {_STATUS: {"execute": _STATUS}} | {
            command: {"execute": "human-monitor-command", "arguments": {"command-line": command}}
            for command in commands
        }
        self._asked, self._answers = set(questions), {}
        return b"".join(json.dumps({**it, "id": name}).encode() + b"\n" for name, it in questions.items())

    @property
    @override
    def answers(self) -> Mapping[str, str]:
        return self._answers

    @property
    @override
    def answered(self) -> bool:
        return not self._asked

    @override
    def received(self, data: bytes) -> tuple[MonitorEvent, ...]:
        limit = ANSWER_LIMIT if self._asked else LINE_LIMIT
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > limit or any(len(line) > limit for line in lines):
            raise ValueError(f"a line of more than {limit} bytes on the monitor connection")
        events = (self._event(line) for line in lines if line.strip())
        return tuple(event for event in events if event is not None)

    def _event(self, line: bytes) -> MonitorEvent | None:
        try:
            message = parse_json(line)
        except MalformedError as error:
            raise ValueError(f"no QMP message: {error}") from error
        if self._stopping and isinstance(message, dict) and message.get("event") == "STOP":
            self._stopping = False
            return None
        if self._restoring and isinstance(message, dict) and message.get("event") == "RESUME":
            self._restoring = False
            return MonitorEvent.READY
        if not self._saving and isinstance(message, dict) and message.get("event") == "MIGRATION":
            return None
        if self._is_answer(message):
            return None
        return _meaning(message)

    def _is_answer(self, message: object) -> bool:
        """Whether it answers a question of `examine`, once each: an error does too."""
        match message:
            case {"id": str(name), "return": answer} if name in self._asked:
                self._answers[name] = answer if isinstance(answer, str) else json.dumps(answer)
            case {"id": str(name), "error": error} if name in self._asked:
                self._answers[name] = f"error: {json.dumps(error)}"
            case _:
                return False
        self._asked.discard(name)
        return True


def _stream(command: str, fdset: int) -> bytes:
    """The commands that send or take the state of devices, by a set of descriptors that QEMU was started with."""
    capabilities = [{"capability": name, "state": True} for name in _CAPABILITIES]
    steps = (
        {"execute": "migrate-set-capabilities", "arguments": {"capabilities": capabilities}},
        {"execute": command, "arguments": {"uri": f"file:/dev/fdset/{fdset}"}},
    )
    return b"".join(json.dumps(step, separators=(",", ":")).encode() + b"\n" for step in steps)


def _meaning(message: object) -> MonitorEvent | None:
    match message:
        case {"return": {"status": str(status)}}:
            return _status(status)
        case {"event": "SHUTDOWN", "data": {"reason": str(reason)}}:
            return _SHUTDOWN_CAUSES.get(reason, MonitorEvent.GUEST_SHUTDOWN)
        case {"event": "MIGRATION", "data": {"status": str(status)}}:
            return _PROGRESS.get(status)
        case {"event": "GUEST_PANICKED"}:
            return MonitorEvent.GUEST_PANIC
        case {"event": "STOP"}:
            return MonitorEvent.INTERNAL_ERROR  # it was not asked for: QEMU does it when its accelerator fails
        case {"QMP": _} | {"return": _} | {"event": _}:
            return None
        case _:
            raise ValueError("no QMP message that is expected, or an error that QEMU answered with")


def _status(status: str) -> MonitorEvent | None:
    """QEMU: qapi/run-state.json, RunState. A guest that has already reset shows up by its event."""
    words = {
        "internal-error": MonitorEvent.INTERNAL_ERROR,
        "running": MonitorEvent.READY,
        "paused": MonitorEvent.PAUSED,
    }
    return words.get(status)
