"""Seeds of the control protocols: one message of each kind, behind the byte of its parser."""

from collections.abc import Iterator

from mvmnix.errors import ReasonCode, UsageError, refuse
from mvmnix.launch.agent.operations import CopyDirection
from mvmnix.launch.control import messages, start_messages
from mvmnix.launch.control.codec import encode, name_of
from mvmnix.launch.control.failure import Failure
from mvmnix.launch.control.start_messages import Mode, StartRequest, TerminalSize
from mvmnix.machines.exit_status import End, ExitStatus
from mvmnix.plan.secret_reference import SecretReference, SecretSource, SecretTarget
from mvmnix.plan.share import Share

_DIGEST = "sha256:" + "0" * 64
_MACHINE = "0123456789ab"
_STATUS = ExitStatus(End.EXITED, code=3)
_FAILED = Failure.of(UsageError("no", hint="do that"))
#: By the number of the parser (control_target.py).
_MESSAGES: dict[int, tuple[object, ...]] = {
    0: (
        messages.Exec(("true",), {"A": "b"}, "/tmp", 7, "1000:100", tuple(messages.Stream)),
        messages.Shell((), 24, 80, "xterm"),
        messages.Copy(CopyDirection.IN, "/tmp", "name", replaces=True),
        messages.Signal(15),
        messages.Resize(24, 80),
        messages.Pause(),
        messages.Resume(),
        messages.Stop(now=True),
        messages.Extend(60),
        messages.Wait(),
        messages.Ping(),
    ),
    1: (messages.Exited(_STATUS), messages.Done(), _FAILED),
    2: (
        StartRequest(
            mode=Mode.ATTACHED,
            name="web",
            terminal=TerminalSize("xterm", 24, 80),
            image=("kernel",),
            has_summary=True,
            ports=(80,),
            streams=(messages.Stream.STDIN,),
        ),
    ),
    3: (
        start_messages.Reply("secret"),
        start_messages.SharesOpened(("/data",)),
        start_messages.SecretsResolved((3,)),
        start_messages.StopRequest(15),
        start_messages.TerminalResized(24, 80),
        start_messages.Connect(),
        start_messages.Detach(),
        Failure.of(refuse(ReasonCode.SECRET_UNAVAILABLE, "what", "why", "hint")),
    ),
    4: (
        start_messages.Taken(7),
        start_messages.Notice("text"),
        start_messages.Question("text"),
        start_messages.SharesWanted((Share("/srv", "/data"),)),
        start_messages.SecretsWanted((SecretReference("a", SecretTarget.FILE, SecretSource.FILE, ("/a",)),)),
        start_messages.Started(_MACHINE, "kvm", _DIGEST, _DIGEST, ("planner",), "qemu"),
        start_messages.Created(_MACHINE),
        start_messages.GuestConnected(80),
        start_messages.Ended(3, _MACHINE, "finished", _DIGEST, "/receipt", _STATUS),
    ),
}


def control() -> Iterator[tuple[str, bytes]]:
    """Each message for its parser; those of a caller of the launcher for a conversation, too."""
    for number, said in _MESSAGES.items():
        for message in said:
            name = f"{number}-{name_of(type(message))}"
            yield name, bytes([number]) + encode(message)
            if number in {2, 3}:
                yield f"{name}-said", bytes([8]) + encode(message)
    yield "another-version", b"\x00" + encode(messages.Ping()).replace(b":2}", b":3}")
    yield "half", b"\x08" + encode(messages.Ping())[:-5]
