"""The cell of a container: none besides the jail that its own command makes, in which crun stays (ADR 19)."""

from collections.abc import Sequence
from typing import override

from mvmnix.launch.hypervisor.confinement import Cell, Layer


class OwnJail(Cell):
    """Adds nothing to the command, which begins with bubblewrap."""

    @property
    @override
    def descriptors(self) -> tuple[int, ...]:
        return ()

    @property
    @override
    def layers(self) -> tuple[Layer, ...]:
        return (Layer.NAMESPACES, Layer.SECCOMP)

    @override
    def command(self, argv: Sequence[str]) -> tuple[str, ...]:
        return tuple(argv)

    @override
    def enter(self) -> None:
        """The command enters by itself."""

    @override
    def occupied(self, child: int) -> int:
        return child

    @override
    def release(self) -> None:
        """All of it goes with the process."""
