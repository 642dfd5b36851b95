"""What the rows of the corpus share: what they expect, and how that is held against what the gateway told.

A row is one failure that a sandbox or a firewall of agents really had, or could have. It is replayed from a guest, and
has to have the verdict, the rule and the reason that stand in the row, and no other verdict beside it.
"""

from dataclasses import dataclass

from mvmnix.network.policy.decisions import Denial
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind
from tests.hostile.network.world import World

_VERDICTS = frozenset({NetworkEventKind.NAME, NetworkEventKind.OPENED, NetworkEventKind.DENIED})


@dataclass(frozen=True, slots=True)
class Expected:
    """A verdict: allowed where there is no code, by which rule, and about which address, if that is known."""

    rule: str
    code: Denial | None = None
    address: str = ""

    @property
    def allowed(self) -> bool:
        """Whether the guest gets what it asks for."""
        return self.code is None


def allowed(rule: str, address: str = "") -> Expected:
    return Expected(rule, None, address)


def denied(code: Denial, rule: str = "", address: str = "") -> Expected:
    return Expected(rule, code, address)


def verdicts(here: World) -> list[NetworkEvent]:
    """What was decided since the events were forgotten."""
    return [it for it in here.events if it.kind in _VERDICTS]


def assert_verdict(here: World, expected: Expected, *, names: bool = False, earlier: int = 0) -> None:
    """That just this was decided, of a connection, or of a name; behind `earlier` verdicts that allowed."""
    kind = NetworkEventKind.NAME if names else NetworkEventKind.OPENED
    found = [kind] * earlier + [kind if expected.allowed else NetworkEventKind.DENIED]
    here.until(lambda: len(verdicts(here)) >= len(found))
    here.turn()
    assert [it.kind for it in verdicts(here)] == found, here.describe()
    last = verdicts(here)[-1]
    told = (last.rule, last.code, last.address) if expected.address else (last.rule, last.code)
    wanted = (expected.rule, expected.code or "", *([expected.address] if expected.address else []))
    assert told == wanted, here.describe()
