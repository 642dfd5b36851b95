"""The words for backends, as a signed plan, a receipt and the audit log say them; types alone."""

from enum import StrEnum

from mvmnix.provenance.isolation import Isolation


class Backend(StrEnum):
    """What a plan may name; docs/reference/backends.md says which are started. `container` is no machine."""

    QEMU = "qemu"
    FIRECRACKER = "firecracker"
    CLOUD_HYPERVISOR = "cloud-hypervisor"
    CONTAINER = "container"

    @property
    def isolation(self) -> Isolation:
        """What it puts between a workload and the host. A plan has to say this very word beside the backend's.

        >>> str(Backend.CONTAINER.isolation)
        'container: not a microVM'
        """
        return Isolation.CONTAINER if self is Backend.CONTAINER else Isolation.MICROVM

    @property
    def needs_kvm(self) -> bool:
        """Whether it has no translator of its own, as QEMU has."""
        return self in {Backend.FIRECRACKER, Backend.CLOUD_HYPERVISOR}

    def check(self, isolation: Isolation, accelerator: str) -> None:
        """Raise ValueError when a plan that names this backend can't say these words beside it."""
        if isolation is not self.isolation:
            raise ValueError(
                f"with the backend {self} the isolation is {str(self.isolation)!r}, not {str(isolation)!r}"
            )
        if self.needs_kvm and accelerator == "tcg":
            raise ValueError(f"{self} runs with KVM alone, and the plan says tcg")
        if self is Backend.CONTAINER and accelerator != "any":
            raise ValueError(f"nothing accelerates a container, and the plan says {accelerator}")

    @property
    def logged(self) -> str:
        """How the audit log calls it: a container never without the word for what it isn't.

        >>> Backend.QEMU.logged, Backend.CONTAINER.logged
        ('qemu', 'container: not a microVM')
        """
        return str(self.isolation) if self is Backend.CONTAINER else self.value
