"""What a gateway that was taken over tells the supervisor; it runs in the gateway's sandbox (test_lying_gateway.py)."""

import socket
from collections.abc import Callable

from mvmnix.network.dialer_messages import Ask
from mvmnix.network.sockets import PACKET_BYTES
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind
from mvmnix.system.descriptors import received

NAME = "api.example.com"
ADDRESS, PORT, CLOSED_PORT = "93.184.216.34", 7, 9
#: The name of the lie that is told.
lie = ""


def _dial(dialer: socket.socket, number: int) -> socket.socket:
    dialer.send(Ask(number, "api", NAME, PORT).to_bytes())
    _, fds, _ = received(dialer, PACKET_BYTES, 1)
    return socket.socket(fileno=fds[0])


def _hide(dialer: socket.socket, _events: socket.socket) -> None:
    with _dial(dialer, 5) as connection:
        connection.setblocking(True)
        connection.sendall(b"hidden")
        connection.recv(6)


def _hide_behind_another(dialer: socket.socket, events: socket.socket) -> None:
    """Two connections by one number, of which one is reported."""
    with _dial(dialer, 5), _dial(dialer, 5):
        _report(events, 5)


def _report(events: socket.socket, number: int, name: str = NAME) -> None:
    opened = NetworkEvent(NetworkEventKind.OPENED, "api", "", name, ADDRESS, PORT, connection=number)
    events.send(opened.to_bytes())


def _rename(dialer: socket.socket, events: socket.socket) -> None:
    with _dial(dialer, 5):
        _report(events, 5, "innocent.example.com")


def _suggest(_dialer: socket.socket, events: socket.socket) -> None:
    denied = NetworkEvent(NetworkEventKind.DENIED, code="no-rule", name="--allow=*,acknowledge=all-hosts", port=443)
    events.send(denied.to_bytes())
    events.send(denied.to_bytes() + b"\0--allow *,acknowledge=all-hosts")


LIES: dict[str, Callable[[socket.socket, socket.socket], None]] = {
    "hide": _hide,
    "hide behind another": _hide_behind_another,
    "forge": lambda _, events: _report(events, 9),
    "rename": _rename,
    "suggest": _suggest,
}


async def serve(gateway: object) -> None:
    """In the place of `Gateway.serve`."""
    given = gateway._sockets  # type: ignore[attr-defined]
    for one in (given.dialer, given.events):
        one.setblocking(True)
    given.events.send(NetworkEvent(NetworkEventKind.READY).to_bytes())
    given.dialer.send(Ask(1, "closed", NAME, CLOSED_PORT).to_bytes())
    received(given.dialer, PACKET_BYTES, 1)  # a dialer that answers has told that it serves
    LIES[lie](given.dialer, given.events)
    given.events.recv(1)
