"""What a list of system calls consists of: names that are let through, refused, or let through by an argument; pure.

What a profile doesn't name is answered with ENOSYS, as by a kernel that doesn't have the call yet: libraries then fall
back to an older one. What is known and refused on purpose is answered with EPERM.
"""

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Self

#: The bits of an argument that the kernel takes as an `int`; a filter that looked at all 64 could be passed by others.
INT: Final = 0xFFFFFFFF
_SOCKET_FLAGS: Final = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK

#: Of one argument, counted from 0, what a mask has to leave: (index, mask, value).
type Comparison = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Argument:
    """A condition on the argument `index`, counted from 0.

    `allowed` and `refused` are masks and values: a call is let through, or refused, where a mask leaves its value of
    the argument. They exclude each other. What is in neither is unknown, like a call that has no rule.
    """

    index: int
    allowed: tuple[tuple[int, int], ...]
    refused: tuple[tuple[int, int], ...]

    def rules(self) -> Iterator[tuple[bool, tuple[Comparison, ...]]]:
        """Whether a call is let through for which all these comparisons hold."""
        for passes, pairs in ((True, self.allowed), (False, self.refused)):
            for mask, value in pairs:
                yield passes, ((self.index, mask, value),)


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """A condition on the arguments 1 and 2 of setsockopt(2): one of these options by their level."""

    allowed: Mapping[int, Sequence[int]] = field(hash=False)

    def rules(self) -> Iterator[tuple[bool, tuple[Comparison, ...]]]:
        """As `Argument.rules`."""
        for level, options in self.allowed.items():
            for option in options:
                yield True, ((1, INT, level), (2, INT, option))


@dataclass(frozen=True, slots=True)
class SocketKinds:
    """A condition on the arguments of socket(2): one of these families, types and protocols of the type.

    Another family is refused, another type or protocol unknown: the kernel would load the module of any.
    """

    families: Sequence[int] = field(hash=False)
    protocols: Mapping[int, Sequence[int]] = field(hash=False)

    def rules(self) -> Iterator[tuple[bool, tuple[Comparison, ...]]]:
        """As `Argument.rules`."""
        yield from ((passes, found) for passes, found in only(0, INT, self.families).rules() if not passes)
        for family in self.families:
            for kind, protocols in self.protocols.items():
                for protocol in protocols:
                    yield True, ((0, INT, family), (1, INT ^ _SOCKET_FLAGS, kind), (2, INT, protocol))


type Condition = Argument | SocketKinds | SocketOptions


def among(index: int, values: Sequence[int]) -> Argument:
    """The argument, an `int`, is one of these; with another one the call is unknown.

    For long lists, which `only` would make into hundreds of rules.
    """
    return Argument(index, tuple((INT, value) for value in values), ())


def only(index: int, mask: int, values: Sequence[int]) -> Argument:
    """What `mask` leaves of the argument is one of these values; the call is refused otherwise.

    The other values are told apart by the first bit from the left in which none of these agrees with them.

    >>> only(0, 0b11, [0b01])
    Argument(index=0, allowed=((3, 1),), refused=((2, 2), (3, 0)))
    """
    refused: list[tuple[int, int]] = []
    prefixes: list[tuple[int, int]] = [(0, 0)]
    for bit in (1 << place for place in reversed(range(mask.bit_length())) if mask >> place & 1):
        longer = [(seen | bit, value | wanted) for seen, value in prefixes for wanted in (0, bit)]
        prefixes = [(seen, value) for seen, value in longer if any(one & seen == value for one in values)]
        refused += [pair for pair in longer if pair not in prefixes]
    return Argument(index, tuple((mask, value) for value in values), tuple(refused))


@dataclass(frozen=True, slots=True)
class Profile:
    """A list; `conditions` say by a call's name which arguments it may have. `refused` counts for what is neither."""

    allowed: frozenset[str]
    refused: frozenset[str]
    conditions: Mapping[str, Condition] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        both = self.allowed & self.conditions.keys()
        if both:
            raise ValueError(f"allowed with any argument and by a condition: {', '.join(sorted(both))}")

    @property
    def denied(self) -> frozenset[str]:
        """What is refused whatever its arguments are."""
        return self.refused.difference(self.allowed, self.conditions)

    def extended(self, conditions: Mapping[str, Condition]) -> Self:
        """The same, with other calls by these conditions."""
        return replace(self, allowed=self.allowed.difference(conditions), conditions={**self.conditions, **conditions})

    def without(self, *names: str) -> Self:
        """The same, for which these calls don't exist."""
        kept = {name: one for name, one in self.conditions.items() if name not in names}
        return replace(self, allowed=self.allowed - {*names}, refused=self.refused - {*names}, conditions=kept)


def names(*groups: str) -> frozenset[str]:
    """The names in these groups, which have blanks between them.

    >>> sorted(names("read write", "close"))
    ['close', 'read', 'write']
    """
    return frozenset(name for group in groups for name in group.split())
