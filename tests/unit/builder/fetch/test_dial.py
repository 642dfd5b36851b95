"""Whom the downloader is connected to: every address is looked at before one is."""

import socket
from collections.abc import Iterator

import pytest

from mvmnix.builder.fetch.allowlist import Allowlist, Url
from mvmnix.builder.fetch.dial import dial
from mvmnix.builder.fetch.resumable import BrokenError
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from tests.patience import EVENT_PATIENCE

FAR = Allowlist(frozenset({"sources.example"})).admit("https://sources.example/file")


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(EVENT_PATIENCE)
        yield server


def port_of(server: socket.socket) -> int:
    return int(server.getsockname()[1])


def near(server: socket.socket) -> Url:
    origin = f"http://localhost:{port_of(server)}"
    return Allowlist(frozenset(), frozenset({origin})).admit(f"{origin}/file")


def resolving(patch: pytest.MonkeyPatch, *addresses: str) -> None:
    def found(_host: str, port: int, *_: object) -> list[tuple[object, ...]]:
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]
        return [
            (family, socket.SOCK_STREAM, 6, "", (address, port))
            for family, address in zip(families, addresses, strict=True)
        ]

    patch.setattr(socket, "getaddrinfo", found)


def connecting(patch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What is connected to, instead of connecting."""
    asked: list[tuple[str, int]] = []

    def connect(address: tuple[str, int], _: float) -> socket.socket:
        asked.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    patch.setattr(socket, "create_connection", connect)
    return asked


def test_a_listed_origin_of_this_machine(listening: socket.socket) -> None:
    dialed = dial(near(listening), {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}, 20)
    with dialed.connection as connection:
        assert connection.getpeername() == ("127.0.0.1", port_of(listening))
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert dialed.texts == (b"", b"", b"")


@pytest.mark.parametrize("private", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1", "::ffff:10.0.0.1"])
@pytest.mark.parametrize("place", [0, 1])
def test_one_private_address_is_enough(private: str, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = ["93.184.215.14"]
    addresses.insert(place, private)
    resolving(monkeypatch, *addresses)
    asked = connecting(monkeypatch)
    with pytest.raises(RefusedError) as refused:
        dial(FAR, {}, 20)
    assert refused.value.codes == (ReasonCode.FETCH_NOT_ALLOWED,)
    assert asked == []


def test_a_listed_origin_of_this_machine_that_lies_elsewhere(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, "93.184.215.14")
    with pytest.raises(RefusedError):
        dial(near(listening), {}, 20)


def test_one_address_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, "93.184.215.14", "93.184.215.14", "2606:2800:21f::1")
    asked = connecting(monkeypatch)
    with pytest.raises(BrokenError, match=r"sources\.example:443 can't be reached: Connection refused"):
        dial(FAR, {}, 20)
    assert asked == [("93.184.215.14", 443), ("2606:2800:21f::1", 443)]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (TimeoutError("timed out"), r"sources\.example:443 can't be reached: timed out"),
        (OSError(113, "No route to host"), r"sources\.example:443 can't be reached: No route to host"),
    ],
)
def test_why_it_can_not_be_reached(error: OSError, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    resolving(monkeypatch, "93.184.215.14")
    monkeypatch.setattr(socket, "create_connection", fail)
    with pytest.raises(BrokenError, match=why):
        dial(FAR, {}, 20)


def test_a_proxy_that_is_gone_before_it_is_asked(listening: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = socket.create_connection(("127.0.0.1", port_of(listening)))
    ours.shutdown(socket.SHUT_WR)
    resolving(monkeypatch, "10.0.0.1")
    monkeypatch.setattr(socket, "create_connection", lambda *_: ours)
    with pytest.raises(BrokenError, match="the proxy can't be reached: Broken pipe"):
        dial(FAR, {"https_proxy": "http://proxy:3128"}, 20)
    assert ours.fileno() == -1


def test_a_name_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise UnicodeError("label too long")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(BrokenError, match=r"sources\.example can't be resolved: label too long"):
        dial(FAR, {}, 20)


def test_a_name_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", none)
    with pytest.raises(BrokenError, match="can't be resolved: Name or service not known"):
        dial(FAR, {}, 20)


def test_a_proxy_is_asked_here_and_its_credentials_stay_here(listening: socket.socket) -> None:
    dialed = dial(FAR, {"https_proxy": f"http://me:hu%21sh@127.0.0.1:{port_of(listening)}"}, 20)
    assert dialed.texts == (b"1", b"", b"")
    with dialed.connection, listening.accept()[0] as accepted:
        assert accepted.recv(4096).decode().split("\r\n") == [
            "CONNECT sources.example:443 HTTP/1.1",
            "Host: sources.example:443",
            "Proxy-Authorization: Basic bWU6aHUhc2g=",
            "",
            "",
        ]


def test_a_proxy_by_tls_is_asked_by_the_worker(listening: socket.socket) -> None:
    dialed = dial(FAR, {"https_proxy": f"https://localhost:{port_of(listening)}"}, 20)
    request = b"CONNECT sources.example:443 HTTP/1.1\r\nHost: sources.example:443\r\n\r\n"
    assert dialed.texts == (b"1", b"localhost", request)
    dialed.connection.close()
    with listening.accept()[0] as accepted:
        assert accepted.recv(4096) == b""


@pytest.mark.parametrize(
    ("proxy", "port"),
    [("http://proxy.example", 80), ("https://proxy.example", 443), ("http://proxy.example:3128", 3128)],
)
def test_the_port_of_a_proxy(proxy: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, "192.0.2.1")
    asked = connecting(monkeypatch)
    with pytest.raises(BrokenError, match=f"proxy.example:{port} can't be reached: Connection refused"):
        dial(FAR, {"https_proxy": proxy}, 20)
    assert asked == [("192.0.2.1", port)]


@pytest.mark.parametrize("proxy", ["socks5h://me:hush@127.0.0.1", "http://:3128"])
def test_a_proxy_of_another_kind(proxy: str) -> None:
    with pytest.raises(MvmnixError, match="no http or https proxy"):
        dial(FAR, {"https_proxy": proxy}, 20)
