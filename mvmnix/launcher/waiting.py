"""What a fork of the launcher does for a pool: starts a machine by the pool's plan, and waits for a claim of it.

The steps, which the code repeats by number:

1. The pool's plan passes the gate, under the policy, the floor and the revocations of this moment, and the machine
   starts from its template (launch/runtime/start.py).
2. It waits until it is claimed, is too old, its guest or the launcher ends, or the policy or what is revoked changes:
   then it ends, and the launcher starts another one where it is still wanted.
3. A claim is a caller's request, with its connection, that another fork has read and judged. It is performed as any
   other start, from the beginning: the machine is at hand for the last step of that, and ends if it isn't what the
   verified plan is for.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, override

from mvmnix.api.admission import admit_plan, host_for, retain
from mvmnix.api.context import Context
from mvmnix.api.frontend import SILENT
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.formats.escaping import escape
from mvmnix.launch.control.caller_check import CallerCheck
from mvmnix.launch.control.codec import LIMIT
from mvmnix.launch.control.pool_messages import LONGEST_WHY
from mvmnix.launch.control.start_messages import StartRequest, name_descriptors, parse_request
from mvmnix.launch.means import Means
from mvmnix.launch.runtime.start import start_to_wait
from mvmnix.launch.runtime.waiting import WaitingMachine
from mvmnix.launch.shares.opening import OpenedShares
from mvmnix.launch.templates.store import NoTemplateError, Templates
from mvmnix.launch.templates.template import Held
from mvmnix.launcher import session
from mvmnix.launcher.conversation import Conversation
from mvmnix.launcher.handed_over import open_for, read_plan
from mvmnix.launcher.pools import CLAIM_DESCRIPTORS, DONE, READY, TAKEN
from mvmnix.machines.retention import MachineKind, Retention
from mvmnix.plan.secret_reference import Secret, SecretReference
from mvmnix.plan.share import Share
from mvmnix.system.descriptors import Packet, PacketError, close_apart, hang_up, receive_packet
from mvmnix.system.stop_signals import StopRequestedError, stopping_signals

#: Seconds that a machine waits at most, and seconds between two looks at the policy.
MOST_AGE: Final = 3600.0
_LOOK: Final = 5.0


class _NoMeans(Means):
    """Of a plan that names nothing of a caller's."""

    @override
    def open_shares(self, shares: Sequence[Share]) -> OpenedShares:
        """Not called: the plan of a pool has no shares. Raises ValueError."""
        raise ValueError(f"a pool's plan has no shares: {len(shares)}")

    @override
    def resolve_secrets(self, references: Sequence[SecretReference]) -> tuple[Secret, ...]:
        """Not called: it has no secrets. Raises ValueError."""
        raise ValueError(f"a pool's plan has no secrets: {len(references)}")


@dataclass(frozen=True, slots=True)
class _Claim:
    """A caller that was handed over."""

    request: StartRequest
    connection: socket.socket
    descriptors: Mapping[str, int]


def wait_for_claim(end: socket.socket, plan: int, check: CallerCheck, held: Held) -> int:
    """Do all of it in this process; return its exit status. What fails is told to the launcher at the other end."""
    end.setblocking(False)
    try:
        with open_for(SILENT, None) as context, admit_plan(context, read_plan(plan)) as verified:  # 1
            os.close(plan)
            host = host_for(context, verified, _NoMeans(), held)
            with (
                retain(host, Retention.LAST, MachineKind.POOL) as mark_ready,
                stopping_signals(host.loop),
                start_to_wait(verified, host) as machine,
            ):
                mark_ready(machine.id)
                verified.kernel_loaded()
                _say(end, READY)
                claim = _Vigil(end, machine, context, host.templates).wait()  # 2
                return 0 if claim is None else _serve(claim, machine, check)  # 3
    except (MvmnixError, OSError, ValueError) as error:
        _say(end, escape(explain(error))[:LONGEST_WHY].encode() or b"it failed")
        return error.exit_code if isinstance(error, MvmnixError) else MvmnixError.exit_code
    finally:
        hang_up(end)


def explain(error: Exception) -> str:
    """Return in one line why a machine doesn't wait, without what mvm says to the signer of a plan: mvm signed it."""
    match error:
        case RefusedError() if ReasonCode.POLICY_MISMATCH in error.codes:
            return f"the trust policy has changed since the pool was set [{ReasonCode.POLICY_MISMATCH}]"
        case RefusedError() if ReasonCode.PLAN_EXPIRED in error.codes:
            return f"the pool was set too long ago [{ReasonCode.PLAN_EXPIRED}]"
        case RefusedError():
            text = "; ".join(f"{reason.why} [{reason.code}]" for reason in error.reasons)
        case MvmnixError():
            text = error.message
        case _:
            text = str(error)
    return " ".join(text.split())


def _say(end: socket.socket, words: bytes) -> None:
    with suppress(OSError):  # the launcher has ended, or lets go of the pool
        end.send(words)


def _serve(claim: _Claim, machine: WaitingMachine, check: CallerCheck) -> int:
    conversation = Conversation(claim.connection, check)
    conversation.take_over(claim.request)
    return session.answer(conversation, check, claim.request, claim.descriptors, waiting=machine)


def _read(packet: Packet) -> tuple[_Claim, int]:
    """Return a claim, and the descriptor at which it is answered. Raises ValueError, OSError."""
    request = parse_request(packet.data)
    if not isinstance(request, StartRequest):
        raise ValueError("only a start claims a machine")  # noqa: TRY004 - what came, not a type of ours
    answer, connection, *others = packet.descriptors
    named = name_descriptors(request, others)
    return _Claim(request, socket.socket(fileno=connection), named), answer


class _Vigil:
    """One machine's wait."""

    def __init__(self, end: socket.socket, machine: WaitingMachine, context: Context, templates: Templates) -> None:
        self._end = end
        self._machine = machine
        self._context = context
        self._templates = templates
        self._claim: _Claim | None = None
        self._is_over = False

    def wait(self) -> _Claim | None:
        """Wait for a claim; None where the machine is to end without one."""
        loop = self._machine.loop
        loop.watch(self._end.fileno(), read=self._readable)
        launcher = os.pidfd_open(os.getppid())
        loop.watch(launcher, read=self._end_it)  # others may have its end of the connection
        age, self._next_look = loop.after(MOST_AGE, self._end_it), loop.after(_LOOK, self._look)
        try:
            while self._claim is None and not self._is_over and not self._machine.has_ended:
                loop.turn()
        except StopRequestedError:
            return self._claim  # a caller that was told so is served
        finally:
            loop.forget(self._end.fileno())
            loop.forget(launcher)
            os.close(launcher)
            age.cancel()
            self._next_look.cancel()
            if not self._machine.has_ended:
                _say(self._end, DONE)
            hang_up(self._end)  # who hands a caller over from now on, is told so
        return self._claim

    def _end_it(self) -> None:
        self._is_over = True

    def _look(self) -> None:
        """End a machine whose policy isn't in force any more, or from whose template no other one would start."""
        try:
            self._context.read_policy_again()
            self._machine.check_origin(self._templates, self._context.policy.state)
        except (MvmnixError, OSError, NoTemplateError):
            self._is_over = True
        if not self._is_over:
            self._next_look = self._machine.loop.after(_LOOK, self._look)

    def _readable(self) -> None:
        try:
            packet = receive_packet(self._end, LIMIT, CLAIM_DESCRIPTORS)
        except BlockingIOError:
            return
        except (OSError, PacketError):
            self._is_over = True
            return
        try:
            claim, answer = _read(packet)
        except (ValueError, OSError):  # the launcher has ended, or there is no sense in it
            packet.close()
            self._is_over = True
            return
        self._take(claim, answer)

    def _take(self, claim: _Claim, answer: int) -> None:
        """Say that the caller is served here, to the process that handed it over, and is there no more to wait."""
        try:
            with socket.socket(fileno=answer) as waiting:
                waiting.send(TAKEN)
        except OSError:  # it serves the caller itself
            claim.connection.close()
            close_apart(claim.descriptors.values())
            return
        self._claim = claim
