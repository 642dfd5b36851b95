"""What stands between a workload and the host: the words that policies, plans and receipts have for it; pure."""

from enum import StrEnum


class Isolation(StrEnum):
    """What a policy requires between a workload and the host, the stronger first.

    A plan and a receipt say MICROVM or CONTAINER, by their backend. HARDWARE is a policy's word alone: a microVM whose
    processor is the host's own, by hardware virtualization. What else a machine ran on is a `Boundary`.
    """

    HARDWARE = "hardware"
    MICROVM = "microvm"
    CONTAINER = "container: not a microVM"

    def suffices(self, required: "Isolation") -> bool:
        """Whether this is at least as strong as what is required.

        >>> Isolation.MICROVM.suffices(Isolation.CONTAINER), Isolation.MICROVM.suffices(Isolation.HARDWARE)
        (True, False)
        """
        order = list(Isolation)
        return order.index(self) <= order.index(required)

    def strongest(self, other: "Isolation") -> "Isolation":
        """What satisfies both."""
        return self if self.suffices(other) else other


class Boundary(StrEnum):
    """What in fact held a workload, as a receipt says it.

    QEMU, docs/system/security.rst: only virtualization is a security boundary, a guest under TCG is not to be held by
    it. Under TCG that leaves the sandbox around QEMU (docs/explanation/isolation.md).
    """

    HARDWARE = "hardware"
    SANDBOX = "sandbox"
    CONTAINER = "container: not a microVM"

    @property
    def explained(self) -> str:
        """The same for people, in a few words."""
        return {
            Boundary.HARDWARE: "hardware virtualization, and the sandbox around the hypervisor",
            Boundary.SANDBOX: "the sandbox around QEMU alone (emulation does not isolate)",
            Boundary.CONTAINER: "the host's kernel, which a container shares",
        }[self]
