"""Answers a guest's questions of DNS, over UDP and TCP, from the plan's rules; asks no other server."""

import asyncio
import socket
from typing import Final

from mvmnix.launch.network.decisions import Denial, Rules
from mvmnix.launch.network.messages import NetworkEvent, NetworkEventKind
from mvmnix.launch.network.synthetic import SyntheticAddresses

_DATAGRAM: Final = 4096


class NameServer:
    """One machine's."""

    def __init__(self, rules: Rules, names: SyntheticAddresses, events: object) -> None:
        self._rules, self._names, self._events = rules, names, events

    def start(self, loop: asyncio.AbstractEventLoop, datagrams: socket.socket) -> None:
        """Answer what comes by UDP."""
        self._datagrams = datagrams
        loop.add_reader(datagrams.fileno(), self._readable)

    def _readable(self) -> None:
        data, peer = self._datagrams.recvfrom(_DATAGRAM)

    async def serve(self, connection: socket.socket) -> None:
        """Answer what comes by TCP."""
