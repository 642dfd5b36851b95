"""Joins the dialer's word of a machine's connections with the gateway's reports of them; pure.

The gateway reads what a guest writes, so it counts as taken over: it can neither hide a connection nor forge one.

1. The dialer tells of a connection before the gateway has it. It is an event then: rule, name, address, port.
2. The gateway reports that it carries the connection, by each rule that it is used by, and the end with the bytes. Of
   the events that come of it, number, rule and bytes are the gateway's, all else is the dialer's.
3. A report about a connection that the dialer didn't make, or that says otherwise than the dialer, is FORGED. So are
   two connections by one number, which the gateway gives.
4. Connections that were reported stay known until their end. More of them than a gateway can have are FORGED.
5. A connection that was not reported is UNREPORTED, once there are too many of them, or when the network ends. One that
   was made after the gateway was asked to end is an event like others, and needs no report.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from mvmnix.formats.strict import MalformedError
from mvmnix.network.policy.decisions import Rules
from mvmnix.network.sockets import MAX_CONNECTIONS
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind
from mvmnix.plan.network import Network

#: Connections until the first of those that weren't reported is taken out: four times as many as a gateway carries.
MOST: Final = 4 * MAX_CONNECTIONS
#: Connections that were reported and haven't ended: a gateway has no more descriptors (setup.py).
MOST_REPORTED: Final = 8 * MAX_CONNECTIONS


@dataclass(slots=True)
class _Connection:
    """One of the dialer's, and the rules by which the gateway reported that it carries it."""

    opened: NetworkEvent
    #: Whether it has to be reported.
    is_due: bool
    is_reported: bool = False
    uses: set[str] = field(default_factory=set)


class Connections:
    """Open connections of one machine, by the dialer's numbers, and what the gateway reported of each."""

    def __init__(self, network: Network) -> None:
        #: The ids of all rules, and "" for an event of none.
        self.rules = frozenset({"", *(it.id for it in network.rules)})
        self._rules = Rules(network)
        self._by_number: dict[int, _Connection] = {}
        self._is_ending = False

    def __contains__(self, number: int) -> bool:
        return number in self._by_number

    def dial(self, told: NetworkEvent) -> Iterator[NetworkEvent]:
        """Take the dialer's word (1). Raises MalformedError for a connection that no rule admits."""
        if not self._rules.admits(told.rule, told.name, told.port).allowed:
            raise MalformedError("not a connection of the dialer's")
        opened = self._of_rule(told, told.rule)
        yield opened
        if told.connection in self._by_number:
            yield replace(opened, kind=NetworkEventKind.FORGED)
            return
        if len(self._by_number) >= MOST:
            number = next((number for number, each in self._by_number.items() if not each.is_reported), None)
            if number is not None:
                yield replace(self._by_number.pop(number).opened, kind=NetworkEventKind.UNREPORTED)
            elif len(self._by_number) >= MOST_REPORTED:
                yield replace(opened, kind=NetworkEventKind.FORGED)
                return
        self._by_number[told.connection] = _Connection(opened, is_due=not self._is_ending)

    def report(self, told: NetworkEvent) -> Iterator[NetworkEvent]:
        """Take the gateway's report (2)."""
        forged = replace(told, kind=NetworkEventKind.FORGED)
        known = self._by_number.get(told.connection)
        if known is None or not _agree(known.opened, told):
            yield forged
        elif told.kind is NetworkEventKind.CLOSED:
            yield from self._close(known, told)
        elif told.rule in known.uses or not self._admits(told.rule, known.opened):
            yield forged
        else:
            known.is_reported = True
            known.uses.add(told.rule)
            if told.rule != known.opened.rule:
                yield self._of_rule(known.opened, told.rule)

    def _close(self, known: _Connection, told: NetworkEvent) -> Iterator[NetworkEvent]:
        """End a connection's use by a rule; one that was not taken has no rule."""
        is_dropped = not told.rule and not known.is_reported
        if not is_dropped and told.rule not in known.uses:
            yield replace(told, kind=NetworkEventKind.FORGED)
            return
        known.uses.discard(told.rule)
        if not known.uses:
            del self._by_number[told.connection]
        opened = self._of_rule(known.opened, told.rule or known.opened.rule)
        yield replace(opened, kind=NetworkEventKind.CLOSED, code=told.code, sent=told.sent, received=told.received)

    def _of_rule(self, opened: NetworkEvent, rule: str) -> NetworkEvent:
        return replace(opened, rule=rule, protocol=self._rules.rule(rule).protocol or "")

    def _admits(self, rule: str, opened: NetworkEvent) -> bool:
        return self._rules.admits(rule, opened.name, opened.port).allowed

    def begin_to_end(self) -> None:
        """Require no report of connections from now on: the gateway is asked to end, and may not get them."""
        self._is_ending = True

    def finish(self) -> Iterator[NetworkEvent]:
        """Tell what was not reported (5), when nothing more is."""
        for known in self._by_number.values():
            if known.is_due and not known.is_reported:
                yield replace(known.opened, kind=NetworkEventKind.UNREPORTED)
        self._by_number.clear()


def _agree(opened: NetworkEvent, told: NetworkEvent) -> bool:
    """Return whether a report that names where a connection leads says what the dialer says."""
    leads = told.name, told.address, told.port
    return leads in {("", "", 0), (opened.name, opened.address, opened.port)}
