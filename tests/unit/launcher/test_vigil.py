"""The wait of a machine of a pool, with a machine that does nothing."""

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError
from mvmnix.launcher import waiting
from mvmnix.system.loop import Loop
from tests.descriptors import nothing_left_open
from tests.patience import QUIET


def test_what_it_looked_for_is_looked_for_no_more_once_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that claimed it goes on in the same loop."""
    monkeypatch.setattr(waiting, "_LOOK", 0.001)
    with nothing_left_open():
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(False)
        loop, looks = Loop(), list[None]()

        def look(*_: object) -> None:
            looks.append(None)
            if len(looks) == 2:
                ours.close()  # as the launcher does that lets go of it

        machine: Any = SimpleNamespace(loop=loop, has_ended=False, check_origin=look)
        context: Any = SimpleNamespace(read_policy_again=lambda: None, policy=SimpleNamespace(state=None))
        templates: Any = None
        assert waiting._Vigil(theirs, machine, context, templates).wait() is None
        seen = len(looks)
        assert seen >= 2
        loop.after(QUIET, lambda: None)
        loop.turn()
        assert len(looks) == seen
        loop.close()


def reason(code: ReasonCode, why: str) -> Reason:
    return Reason(code, "the plan", why, "look at trust.toml, then make a new plan")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            RefusedError(reason(ReasonCode.PLAN_STALE, "it is old"), reason(ReasonCode.POLICY_MISMATCH, "sha256:1")),
            "the trust policy has changed since the pool was set [policy-mismatch]",
        ),
        (RefusedError(reason(ReasonCode.PLAN_EXPIRED, "at")), "the pool was set too long ago [plan-expired]"),
        (
            RefusedError(reason(ReasonCode.LIMIT_UNAVAILABLE, "no\ngroup"), reason(ReasonCode.REPLAY, "spent")),
            "no group [limit-unavailable]; spent [replay]",
        ),
        (MvmnixError("no template is kept", hint="make a plan"), "no template is kept"),
        (OSError(5, "it broke"), "[Errno 5] it broke"),
    ],
    ids=["policy", "expired", "refused", "failed", "system"],
)
def test_why_no_machine_waits_is_one_line_without_advice_about_plans(error: Exception, line: str) -> None:
    assert waiting.explain(error) == line
