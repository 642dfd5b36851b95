"""Runs the plan's command of a new machine in a terminal: the caller's own, which the guest's bytes drive meanwhile."""

import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from mvmnix.api.context import Context
from mvmnix.errors import UsageError
from mvmnix.launch.agent.commands import ExitStatus
from mvmnix.launch.agent.endpoints import FdSink, TypedInput
from mvmnix.launch.control.authorize import require_verb
from mvmnix.launch.control.messages import Shell
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.plan.backend import Backend
from mvmnix.launch.plan.plan import Plan
from mvmnix.launch.plan.secret_reference import SecretReference, SecretTarget
from mvmnix.launch.runtime.machine import Machine
from mvmnix.launch.runtime.supervisor import StopRequestedError
from mvmnix.model import Verb


class Terminal(Protocol):
    """The terminal at the caller's side, standard input and output."""

    @property
    def kind(self) -> str:
        """What it is, as in TERM."""

    def size(self) -> tuple[int, int]:
        """Its rows and columns."""

    def raw(self, changed: Callable[[], None]) -> AbstractContextManager[None]:
        """Raw mode, until the context ends; `changed` is called when its size may be another."""

    def hangs_up(self, typed: bytes) -> bool:
        """Whether the user hangs up with this, and what was typed before."""


def refuse_terminal(context: Context, plan: VerifiedPlan) -> None:
    """Refuse, before anything starts, a plan whose command can't have a terminal.

    Raises RefusedError [verb-not-granted], which is logged; UsageError as `check_terminal` does.
    """
    check_terminal(plan.plan.backend, plan.plan.secrets)
    with context.recorded(plan=plan.digest):
        require_verb(plan.plan, Verb.SHELL)


def check_terminal(backend: Backend, secrets: Sequence[SecretReference]) -> None:
    """Raises UsageError where a plan for this backend, with these secrets, can't give its command a terminal."""
    if backend is Backend.CONTAINER:
        raise UsageError("a container gets no terminal", hint="leave out -t, or plan for the backend qemu")
    if any(it.target is SecretTarget.VARIABLE for it in secrets):
        why = "a command in a terminal is sent to the guest, and none that is sent gets secrets as variables"
        raise UsageError(why, hint="--secret makes a file of each instead; or leave out -t")


def run_in_terminal(machine: Machine, plan: Plan, terminal: Terminal) -> ExitStatus:
    """Run the plan's command, without one the image's shell, and wait for its end.

    Raises StopRequestedError, as for SIGHUP, when the user hangs up.
    """
    loop = machine.loop

    def hang_up() -> None:
        raise StopRequestedError(signal.SIGHUP)

    def seen(data: bytes) -> None:
        if terminal.hangs_up(data):
            loop.after(0, hang_up)

    def resize() -> None:
        command.resize(*terminal.size())

    def changed() -> None:  # a signal's handler, which may run between any two instructions: the loop does the rest
        loop.after(0, resize)

    asked = Shell(plan.workload.argv, *terminal.size(), terminal.kind)
    command = machine.start_verb(asked, stdout=FdSink(loop, 1), stderr=_nowhere, stdin=TypedInput(0, seen))
    with terminal.raw(changed):
        return machine.finish(command)


def _nowhere(_data: bytes) -> None:
    """A terminal's output is one."""
