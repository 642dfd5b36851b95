"""The network of a machine, its processes played by the test."""

import socket
from collections.abc import Callable
from typing import ClassVar, override

import pytest

from mvmnix.errors import MvmnixError
from mvmnix.launch.runtime import start
from mvmnix.network.host.setup import MachineNetwork
from mvmnix.network.supervisor_messages import NetworkEvent
from mvmnix.plan.network import Network
from mvmnix.system.loop import Loop
from mvmnix.vmm.port import NetworkAttachment
from tests.patience import QUIET


class PlayedNetwork(MachineNetwork):
    """One that has no process: the test tells what its gateway would."""

    made: ClassVar[list["PlayedNetwork"]]
    #: What is done once it is watched, by the loop; seconds after which it serves; whether its processes can't start.
    when_watched: ClassVar[Callable[["PlayedNetwork"], None]] = lambda _: None
    late: ClassVar[float] = 0.0
    broken: ClassVar[bool] = False

    def __init__(self, _network: Network, _jail: object) -> None:
        self._processes = ()
        self._starting = {socket.socket()} if self.late else set()
        self.calls: list[str] = []
        self.made.append(self)

    @classmethod
    def play(cls, monkeypatch: pytest.MonkeyPatch) -> list["PlayedNetwork"]:
        """Stand for the networks of machines that start from now on, and return them as they are made."""
        cls.made = []
        cls.when_watched = lambda _: None
        cls.late, cls.broken = 0.0, False
        monkeypatch.setattr(start, "MachineNetwork", cls)
        return cls.made

    @property
    @override
    def attachment(self) -> NetworkAttachment:
        return NetworkAttachment(0, "02:6d:76:6d:00:02")

    @override
    def start(self) -> None:
        self.calls.append("start")
        if self.broken:
            raise MvmnixError("no process can be started")

    @override
    def watch(self, loop: Loop, told: Callable[[NetworkEvent], None], ended: Callable[[], None]) -> None:
        self.told, self.ended = told, ended
        loop.after(self.late, self._serve)
        loop.after(QUIET, lambda: type(self).when_watched(self))

    def _serve(self) -> None:
        for end in self._starting:
            end.close()
        self._starting.clear()

    @property
    @override
    def last_words(self) -> tuple[str, ...]:
        return ("gateway: MemoryError",)

    @override
    def release(self) -> None:
        """It has no device."""

    @override
    def close(self, loop: Loop | None = None) -> None:
        self.calls.append("close")
        self._serve()
