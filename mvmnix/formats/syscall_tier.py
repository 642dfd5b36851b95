"""The tiers of the filter that a workload in a guest runs under, and which lets through less than which; pure."""

from enum import StrEnum


class SystemCalls(StrEnum):
    """How much of the guest's kernel a workload may ask for; what each of them refuses: docs/guests.md.

    From the least to the most: `strict` also refuses what programs can do without that were written for such a place,
    `namespaces` lets through what a sandbox like Nix's is made of.
    """

    STRICT = "strict"
    DEFAULT = "default"
    NAMESPACES = "namespaces"

    def within(self, other: "SystemCalls") -> bool:
        """Whether this lets through no more than the other.

        >>> [[str(it) for it in SystemCalls if it.within(other)] for other in SystemCalls]
        [['strict'], ['strict', 'default'], ['strict', 'default', 'namespaces']]
        """
        order = list(SystemCalls)
        return order.index(self) <= order.index(other)
