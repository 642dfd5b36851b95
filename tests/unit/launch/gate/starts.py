"""Starts of plans that are for once, and the nonces that are kept of them."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mvmnix.audit.record import RecordKind
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.gate.replay import nonce_of
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.runtime.start import start_machine
from mvmnix.machines import registry
from mvmnix.plan.plan import Use
from tests.unit.launch.house import House

ONCE: dict[str, Any] = {"use": Use.ONCE, "nonce": "1" * 32}
SECOND = timedelta(seconds=1)


def run(it: House, plan: VerifiedPlan) -> None:
    """A start, and its end."""
    with start_machine(plan, it.host()):
        pass


def refused(it: House, plan: VerifiedPlan, code: ReasonCode) -> str:
    """Nothing starts, it is logged, and no directory is left; returns what is said."""
    machines, logged = len(registry.list_entries(it.directory("machines"))), len(it.log())
    with pytest.raises(RefusedError) as caught:
        run(it, plan)
    assert caught.value.codes == (code,)
    assert len(registry.list_entries(it.directory("machines"))) == machines
    told = it.log()[logged:]
    expected = [] if code is ReasonCode.LOG_MISMATCH else [(RecordKind.REFUSAL, plan.digest, (code,))]
    assert [(record.kind, record.plan, record.reasons) for record in told] == expected
    return caught.value.reasons[0].why


def kept(it: House) -> list[Path]:
    return sorted(path for path in (it.path / "replay").glob("??/*"))


def files(it: House) -> list[str]:
    """The nonces that are kept; nothing else lies beside them."""
    assert all(len(path.name) == 64 for path in kept(it))
    return [path.name for path in kept(it)]


def plan_no(it: House, number: int, use: Use = Use.ONCE) -> VerifiedPlan:
    return it.plan(use=use, nonce=f"{number:032x}")


def removed(it: House, plan: VerifiedPlan) -> None:
    """A nonce is no longer kept; it is not the last start's, which step 3 finds."""
    (path,) = (path for path in kept(it) if path.name == nonce_of(plan.plan).hex)
    path.unlink()
