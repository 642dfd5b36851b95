"""The sandbox of a container: a user namespace of its own, and the jail that its own command makes (ADR 19)."""

import os
from collections.abc import Sequence
from typing import override

from mvmnix.launch.vmm.confinement import IsolationLayer, ProcessSandbox
from mvmnix.privileges.entry import NamespaceEntry
from mvmnix.sandbox.subordinate_ids import SubordinateIds


class ContainerSandbox(ProcessSandbox):
    """Adds nothing to the command, which begins with bubblewrap and has root's rights in its namespace alone."""

    def __init__(self) -> None:
        """Make the namespace. Raises OSError, MvmnixError for a user without enough subordinate ids."""
        self._entry = NamespaceEntry(SubordinateIds.find().container_namespace(), 0)
        self._open = True

    @property
    @override
    def descriptors(self) -> tuple[int, ...]:
        return ()

    @property
    @override
    def layers(self) -> tuple[IsolationLayer, ...]:
        return (IsolationLayer.NAMESPACES, IsolationLayer.SECCOMP)

    @override
    def command(self, argv: Sequence[str]) -> tuple[str, ...]:
        return tuple(argv)

    @override
    def enter(self) -> None:
        self._entry.enter_or_exit()

    @override
    def first_process(self, child: int) -> int:
        return child

    @override
    def release(self) -> None:
        if self._open:
            self._open = False
            os.close(self._entry.namespace)
