"""What the supervisor makes of a network's events: lines of the log, counts for the audit log, a notice; pure.

The events come from processes that a stranger may have taken over, so whatever they say is counted within bounds: so
many rules and codes are told apart, the rest are `others`. What is said of the gateway itself has places of its own,
so that no refusals, which it can make up, take them: each rule's is counted apart, and each kind is told once. The
audit log gets no name and no address: a rule stands there by its place in the plan, whose digest the start's record
has.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mvmnix.audit.tally import Tally
from mvmnix.formats.escaping import escape_line
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind
from mvmnix.plan.network import Network

#: Pairs of a rule and a code that are told apart, and kinds of denials that the user is told of.
_MOST: Final = 64
_TOLD: Final = 16
#: What an event says of the gateway.
_ALARMS: Final = {
    NetworkEventKind.BREACH: "the gateway asked for a connection that no rule allows",
    NetworkEventKind.FORGED: "the gateway reported a connection that was not made",
    NetworkEventKind.UNREPORTED: "the gateway did not report a connection that was made",
}


@dataclass(slots=True)
class Verdicts:
    """Of one machine. `first_use` is called with a rule's place in the plan, once for each; `notice` with a line."""

    network: Network
    machine: str
    first_use: Callable[[int], None]
    notice: Callable[[str], None]
    #: How often something was refused.
    denials: Tally = field(default_factory=lambda: Tally(limit=_MOST, prefix="network-", always=_ALARMS))
    _places: dict[str, int] = field(init=False)
    _used: set[int] = field(default_factory=set)
    _told: set[tuple[str, str, str, int]] = field(default_factory=set)
    _told_alarms: set[NetworkEventKind] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._places = {rule.id: number for number, rule in enumerate(self.network.rules, 1)}

    def take(self, event: NetworkEvent) -> None:
        """Count it. Raises what `first_use` does."""
        place = self._places.get(event.rule, 0)
        if event.kind is NetworkEventKind.OPENED and place and place not in self._used:
            self._used.add(place)
            self.first_use(place)
        is_alarm = event.kind in _ALARMS
        if code := event.kind if is_alarm else event.code:
            self.denials.count(code, *((f"rule-{place}",) if place else ()))
            if is_alarm:
                self._tell_alarm(event)
            else:
                self._tell(event)

    def _tell_alarm(self, event: NetworkEvent) -> None:
        if event.kind in self._told_alarms:
            return
        self._told_alarms.add(event.kind)
        self.notice(escape_line(f"{self.machine}: {_ALARMS[event.kind]}: {_where(event)}"))

    def _tell(self, event: NetworkEvent) -> None:
        kind = (event.kind, event.code, event.name or event.address, event.port)
        if kind in self._told or len(self._told) >= _TOLD:
            return
        self._told.add(kind)
        rule = f", {event.rule}" if event.rule else ""
        would = f"; {event.flag} would allow it" if event.flag else ""
        self.notice(escape_line(f"{self.machine}: {_where(event)} is refused ({event.code}{rule}){would}"))


def _where(event: NetworkEvent) -> str:
    host = event.name or event.address or "an address without a name"
    port = f":{event.port}" if event.port else ""
    led = f" at {event.address}" if event.address and event.address != host else ""
    return f"{host}{port}{led}"
