"""How a command in the guest ended, as the guest reports it; pure."""

import errno
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self, assert_never, override

from mvmnix.formats import strict
from mvmnix.formats.escaping import escape_line


class End(IntEnum):
    """How a command ended."""

    EXITED = 1
    SIGNALED = 2
    TIMED_OUT = 3
    NOT_STARTED = 4
    REFUSED = 5


class Step(IntEnum):
    """What the agent was doing when it could not start a command."""

    NONE = 0
    PREPARE = 1
    IDENTITY = 2
    DIRECTORY = 3
    EXECUTE = 4


_NOT_FOUND = frozenset({errno.ENOENT, errno.ENOTDIR})
_OUR_FAILURE = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
_STEPS = {
    Step.NONE: "",
    Step.PREPARE: "preparing the process",
    Step.IDENTITY: "dropping privileges",
    Step.DIRECTORY: "entering the working directory",
    Step.EXECUTE: "executing the program",
}
#: What an EXIT frame holds.
_LARGEST_CODE: Final = 2**32 - 1
#: Why an agent refuses a command (docs/reference/channel.md, "EXIT").
_REFUSALS = {1: "the verb is not granted", 2: "it would run as root", 3: "too many commands"}


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a command ended, as the guest reports it; `code` is a status, a signal, an errno or a refusal, by `end`.

    `is_out_of_memory`: the command failed, and since its start the guest's kernel ended a process of some command for
    want of memory.
    """

    end: End
    step: Step = Step.NONE
    code: int = 0
    is_out_of_memory: bool = False

    @property
    def exit_code(self) -> int:
        """What `mvm run` exits with: the guest's own, 128 + signal, 124, 125, 126 or 127 (docs: exit codes)."""
        match self.end:
            case End.EXITED:
                return self.code
            case End.SIGNALED:
                return 128 + self.code
            case End.TIMED_OUT:
                return 124
            case End.NOT_STARTED:
                return 125 if self.code in _OUR_FAILURE else 127 if self.code in _NOT_FOUND else 126
            case End.REFUSED:
                return 126
            case _:
                assert_never(self.end)

    def value(self) -> Mapping[str, object]:
        """As receipts and answers have it."""
        value = {"end": self.end.name.lower(), "step": self.step.name.lower(), "code": self.code}
        return value | {"outOfMemory": True} if self.is_out_of_memory else value

    @classmethod
    def read(cls, record: strict.Record) -> Self:
        """As `value` wrote it. Raises ValueError."""
        end = record.parsed("end", lambda text: End[_name(text, End)], End.EXITED)
        step = record.parsed("step", lambda text: Step[_name(text, Step)], Step.NONE)
        is_out_of_memory = record.has("outOfMemory") and record.flag("outOfMemory")
        return cls(end, step, record.integer("code", 0, _LARGEST_CODE), is_out_of_memory)

    def explain(self, program: str) -> str:
        """Return a line for the caller of `program` about an end that it didn't choose, "" for an exit of its own."""
        name, missing = escape_line(program), self.end is End.NOT_STARTED and self.step is Step.EXECUTE
        if self.is_out_of_memory:
            return f"out of memory in the guest: the command '{name}' {self}; a plan gives it more: --memory"
        if missing and self.exit_code == 127:
            return f"command not found in the guest: {name}"
        if missing and self.exit_code == 126:
            return f"command not executable in the guest: {name}: {os.strerror(self.code)}"
        return "" if self.end is End.EXITED else f"the command '{name}' did not end by itself: it {self}"

    @override
    def __str__(self) -> str:
        match self.end:
            case End.EXITED:
                return f"exited with status {self.code}"
            case End.SIGNALED:
                names = {number.value: number.name for number in signal.Signals}
                return f"was ended by {names.get(self.code, f'signal {self.code}')}"
            case End.TIMED_OUT:
                return "took longer than its time limit"
            case End.NOT_STARTED:
                return f"could not be started: {_STEPS[self.step]}: {os.strerror(self.code)}"
            case End.REFUSED:
                return f"was refused by the guest agent: {_REFUSALS.get(self.code, f'reason {self.code}')}"
            case _:
                assert_never(self.end)


def _name(text: str, kind: type[End | Step]) -> str:
    if text not in {member.name.lower() for member in kind}:
        raise ValueError(f"not one of {', '.join(member.name.lower() for member in kind)}")
    return text.upper()
