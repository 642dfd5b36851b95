"""What may stand between a workload and the host: the words that policies and plans have for it; pure."""

from enum import StrEnum


class Isolation(StrEnum):
    """What stands between a workload and the host, the stronger first."""

    MICROVM = "microvm"
    CONTAINER = "container: not a microVM"

    def suffices(self, required: "Isolation") -> bool:
        """Whether this is at least as strong as what is required.

        >>> Isolation.MICROVM.suffices(Isolation.CONTAINER), Isolation.CONTAINER.suffices(Isolation.MICROVM)
        (True, False)
        """
        order = list(Isolation)
        return order.index(self) <= order.index(required)
