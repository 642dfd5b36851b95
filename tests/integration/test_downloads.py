"""The downloader against a real server, by TLS on the loopback, that misbehaves."""

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mvmnix.builder.fetch.allowlist import Allowlist
from mvmnix.builder.fetch.https import ChangedError, Downloader, DownloadError, DownloadLimits
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from tests.integration.misbehaving import Asked, Authority, Handler, Server
from tests.patience import EVENT_PATIENCE, PATIENCE, POLL, scaled

pytestmark = pytest.mark.integration

BODY = bytes(range(256)) * 1200
HALF = len(BODY) // 2
ETAG = 'ETag: "one"'
LIMITS = DownloadLimits(size=1 << 20, seconds=PATIENCE, stall=scaled(0.5), connect=EVENT_PATIENCE, attempts=3)


@dataclass
class World:
    """A server, another origin of this machine that is not listed, and a downloader for the first."""

    server: Server
    other: Server
    authority: Authority
    slept: list[float] = field(default_factory=list)

    def downloader(
        self,
        limits: DownloadLimits = LIMITS,
        *,
        hosts: tuple[str, ...] = (),
        origins: tuple[str, ...] = (),
        **environment: str,
    ) -> Downloader:
        """One that may ask the server, and these hosts and origins."""
        allowed = Allowlist(frozenset(hosts), frozenset({self.server.origin, *origins}))
        environment = {"SSL_CERT_FILE": str(self.authority.bundle)} | environment
        return Downloader(allowed, limits, environment=environment, sleep=self.slept.append)

    def get(self, path: str = "/file", limits: DownloadLimits = LIMITS, **headers: str) -> bytes:
        data = bytearray()
        with self.downloader(limits) as downloader:
            response = downloader.get(self.server.origin + path, data.extend, headers=headers)
        assert response.size == len(data)
        return bytes(data)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    authority = Authority.create(tmp_path)
    with Server(authority.context("localhost")) as server, Server(authority.context("localhost")) as other:
        for path in ("/file", "/secret"):
            server.routes[path] = other.routes[path] = lambda it: it.answer(BODY)
        yield World(server, other, authority)


def times(*handlers: Handler) -> Handler:
    """One handler after the other; the last one from then on."""
    return lambda it: handlers[min(it.nth, len(handlers)) - 1](it)


def broken(end: Callable[[Asked], None], *headers: str, body: bytes = BODY) -> Handler:
    """Half of the body, and then `end`."""

    def handle(it: Asked) -> None:
        it.answer(body[:HALF], *headers, length=len(body))
        end(it)

    return handle


def rest(etag: str = ETAG, begin: int = 0, total: int = len(BODY)) -> Handler:
    """The rest that was asked for, or what else a server may call so: `begin` bytes further on, out of `total`."""

    def handle(it: Asked) -> None:
        asked = re.fullmatch(r"bytes=([0-9]+)-", it.headers["range"])
        assert asked
        assert 0 < int(asked[1]) <= HALF
        start = int(asked[1]) + begin
        span = f"Content-Range: bytes {start}-{total - 1}/{total}"
        it.answer(BODY[start:], etag, span, status="206 Partial Content")

    return handle


def whole(*headers: str, body: bytes = BODY) -> Handler:
    return lambda it: it.answer(body, *headers)


def busy(status: str, *headers: str) -> Handler:
    return lambda it: it.answer(b"later", *headers, status=status)


def endless(it: Asked) -> None:
    it.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while not it.stopping.is_set():
        it.send(bytes(65536))


def endless_chunks(it: Asked) -> None:
    it.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not it.stopping.is_set():
        it.send(b"1000\r\n" + bytes(4096) + b"\r\n")


def trickle(data: bytes) -> Handler:
    """A byte now and then, so that no read ever waits long."""

    def handle(it: Asked) -> None:
        it.send(data)
        while not it.stopping.wait(POLL):
            it.send(b"x")

    return handle


def chunked(it: Asked) -> None:
    it.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for start in range(0, len(BODY), 5000):
        piece = BODY[start : start + 5000]
        it.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    it.send(b"0\r\n\r\n")


def short(it: Asked) -> None:
    """Closes after fewer bytes than it announced."""
    it.answer(BODY[:-1], "Connection: close", length=len(BODY))
    it.hang_up()


#: What works in the end, whatever happens on the way: handler, and how often it is asked.
WORKS: dict[str, tuple[Handler, int]] = {
    "plain": (whole(), 1),
    "chunked": (chunked, 1),
    "reset, resumed by its ETag": (times(broken(Asked.hang_up, ETAG), rest()), 2),
    "reset hard, from the start or resumed": (times(Asked.reset, whole()), 2),
    "broken twice, resumed twice": (
        times(broken(Asked.hang_up, ETAG), broken(Asked.hang_up, ETAG), rest()),
        3,
    ),
    "stalls, resumed": (times(broken(Asked.stall, ETAG), rest()), 2),
    "stalls before the head": (times(Asked.stall, whole()), 2),
    "broken without an ETag, from the start": (times(broken(Asked.hang_up), whole()), 2),
    "broken with a weak ETag, from the start": (times(broken(Asked.hang_up, 'ETag: W/"one"'), whole()), 2),
    "the rest of another file, from the start": (times(broken(Asked.hang_up, ETAG), rest('ETag: "two"'), whole()), 3),
    "another part than asked for": (times(broken(Asked.hang_up, ETAG), rest(begin=-1), whole()), 3),
    "another total": (times(broken(Asked.hang_up, ETAG), rest(total=len(BODY) + 1), whole()), 3),
    "no rest": (times(broken(Asked.hang_up, ETAG), busy("416 Range Not Satisfiable"), whole()), 3),
    "fewer bytes than announced, then all": (times(short, whole()), 2),
    "busy": (times(busy("429 Too Many Requests", "Retry-After: 2"), whole()), 2),
    "out of order": (times(busy("503 Service Unavailable"), busy("502 Bad Gateway"), whole()), 3),
}


@pytest.mark.parametrize("case", WORKS)
def test_it_arrives_whole(world: World, case: str) -> None:
    handler, asked = WORKS[case]
    world.server.routes["/file"] = handler
    assert world.get() == BODY
    assert len(world.server.asked) == asked


def few(it: Asked) -> None:
    """Always ends where it ended the last time."""
    it.answer(b"few", "Connection: close", length=9)
    it.hang_up()


def other_protocol(it: Asked) -> None:
    it.send(b"SSH-2.0-x\r\n")
    it.hang_up()


#: What does not work: handler, the words or the code of the reason, and how often it is asked.
FAILS: dict[str, tuple[Handler, str | ReasonCode, int]] = {
    "endless": (endless, ReasonCode.FETCH_LIMIT, 1),
    "endless chunks": (endless_chunks, ReasonCode.FETCH_LIMIT, 1),
    "announced too large": (lambda it: it.answer(b"", length=1 << 40), ReasonCode.FETCH_LIMIT, 1),
    "stalls": (Asked.stall, r"timed out.*\(3 attempts\)", 3),
    "resets": (Asked.reset, r"\(3 attempts\)", 3),
    "breaks off, again and again": (short, r"\(3 attempts\)", 3),
    "fewer bytes than announced": (few, r"\(3 attempts\)", 3),
    "not found": (busy("404 Not Found"), "answers 404", 1),
    "forbidden": (busy("403 Forbidden"), "answers 403", 1),
    "an unasked part": (
        lambda it: it.answer(BODY[HALF:], ETAG, f"Content-Range: bytes {HALF}-9/10", status="206 Partial Content"),
        r"another part.*\(3 attempts\)",
        3,
    ),
    "busy for good": (busy("429 Too Many Requests", "Retry-After: 1"), r"answers 429 \(3 attempts\)", 3),
    "busy for a day": (busy("429 Too Many Requests", "Retry-After: 86400"), r"answers 429 \(1 attempts\)", 1),
    "not HTTP": (other_protocol, r"\(3 attempts\)", 3),
    "round in circles": (lambda it: it.redirect("/file"), "redirects more than 10 times", 11),
    "to a foreign host": (lambda it: it.redirect("https://foreign.example/x"), ReasonCode.FETCH_NOT_ALLOWED, 1),
    "to the metadata service": (
        lambda it: it.redirect("http://169.254.169.254/latest/meta-data/"),
        ReasonCode.FETCH_NOT_ALLOWED,
        1,
    ),
    "to the metadata service by https": (
        lambda it: it.redirect("https://169.254.169.254/"),
        ReasonCode.FETCH_NOT_ALLOWED,
        1,
    ),
    "to another scheme": (lambda it: it.redirect("file:///etc/passwd"), ReasonCode.FETCH_NOT_ALLOWED, 1),
    "with user information": (lambda it: it.redirect("https://u:p@localhost/"), ReasonCode.FETCH_NOT_ALLOWED, 1),
    "to an address in disguise": (lambda it: it.redirect("https://2130706433/"), ReasonCode.FETCH_NOT_ALLOWED, 1),
}


@pytest.mark.parametrize("case", FAILS)
def test_it_is_refused_or_given_up(world: World, case: str) -> None:
    handler, reason, asked = FAILS[case]
    world.server.routes["/file"] = handler
    with pytest.raises(MvmnixError) as error:
        world.get()
    if isinstance(reason, ReasonCode):
        assert isinstance(error.value, RefusedError)
        assert error.value.codes == (reason,)
    else:
        assert isinstance(error.value, DownloadError)
        error.match(reason)
    assert len(world.server.asked) == asked
    assert not world.other.asked


@pytest.mark.parametrize(
    "begin", [b"", b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["status", "header", "body"]
)
def test_a_trickle_ends_with_the_time(world: World, begin: bytes) -> None:
    world.server.routes["/file"] = trickle(begin)
    with pytest.raises(RefusedError) as refusal:
        world.get(limits=DownloadLimits(seconds=scaled(3), stall=EVENT_PATIENCE, attempts=3))
    assert refusal.value.codes == (ReasonCode.FETCH_LIMIT,)
    assert len(world.server.asked) == 1


def test_a_redirect_to_an_unlisted_port_of_this_machine_is_refused(world: World) -> None:
    world.server.routes["/file"] = lambda it: it.redirect(world.other.origin + "/secret")
    with pytest.raises(RefusedError) as refusal:
        world.get()
    assert refusal.value.codes == (ReasonCode.FETCH_NOT_ALLOWED,)
    assert not world.other.connections


def test_https_is_not_left_for_http_even_when_both_are_listed(world: World) -> None:
    with Server() as plain:
        world.server.routes["/file"] = lambda it: it.redirect(plain.origin + "/file")
        plain.routes["/file"] = whole()
        with world.downloader(origins=(plain.origin,)) as downloader:
            assert downloader.get(plain.origin + "/file", lambda _: None).size == len(BODY)
            with pytest.raises(RefusedError, match="from https to http"):
                downloader.get(world.server.origin + "/file", lambda _: None)
        assert plain.paths() == ["/file"]


def test_credentials_stay_at_their_origin(world: World) -> None:
    world.server.routes["/file"] = lambda it: it.redirect("/here")
    world.server.routes["/here"] = lambda it: it.redirect(world.other.origin + "/file")
    with world.downloader(origins=(world.other.origin,)) as downloader:
        response = downloader.get(
            world.server.origin + "/file", lambda _: None, headers={"Authorization": "Bearer hush"}
        )
    assert response.url == world.other.origin + "/file"
    assert [headers.get("authorization") for _, headers in world.server.asked] == ["Bearer hush", "Bearer hush"]
    assert [headers.get("authorization") for _, headers in world.other.asked] == [None]


def test_a_file_that_changed_in_the_middle_is_no_file(world: World) -> None:
    world.server.routes["/file"] = times(broken(Asked.hang_up), whole(body=BODY[::-1]))
    with pytest.raises(ChangedError, match="changed while it was fetched"):
        world.get()


def test_a_listed_name_that_resolves_to_this_machine_is_refused_before_a_byte(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _host, *rest: real("127.0.0.1", *rest))
    data = bytearray()
    place = f"sources.example:{world.server.port}"
    refused = pytest.raises(RefusedError, match=r"resolves to 127\.0\.0\.1")
    with world.downloader(hosts=(place,)) as downloader, refused as refusal:
        downloader.get(f"https://{place}/file", data.extend)
    assert refusal.value.codes == (ReasonCode.FETCH_NOT_ALLOWED,)
    assert (world.server.asked, bytes(data)) == ([], b"")


def test_a_certificate_for_another_name_is_not_taken_nor_tried_again(world: World) -> None:
    with Server(world.authority.context("other.example")) as wrong:
        refused = pytest.raises(DownloadError, match="certificate")
        with world.downloader(origins=(wrong.origin,)) as downloader, refused:
            downloader.get(wrong.origin + "/file", lambda _: None)
        assert (wrong.connections, wrong.asked) == (1, [])


def test_a_certificate_of_an_unknown_authority_is_not_taken(world: World) -> None:
    allowed = Allowlist(frozenset(), frozenset({world.server.origin}))
    refused = pytest.raises(DownloadError, match="certificate")
    with Downloader(allowed, LIMITS, environment={}) as downloader, refused:
        downloader.get(world.server.origin + "/file", lambda _: None)
    assert not world.server.asked


def test_the_answer_is_asked_for_as_it_lies_there(world: World) -> None:
    world.server.routes["/file"] = whole("Content-Encoding: gzip")
    assert world.get() == BODY
    assert world.server.asked[0][1]["accept-encoding"] == "identity"


def test_connections_are_used_again(world: World) -> None:
    with world.downloader() as downloader:
        for _ in range(3):
            downloader.get(world.server.origin + "/file", lambda _: None)
        with pytest.raises(DownloadError) as error:
            downloader.get(world.server.origin + "/nothing", lambda _: None)
    assert error.value.status == 404
    assert world.server.connections == 1


def test_somebody_is_told_how_far_it_is(world: World) -> None:
    told: list[tuple[str, int, int | None]] = []

    class Meter:
        def received(self, url: str, size: int, total: int | None) -> None:
            told.append((url, size, total))

    large = BODY * 10
    world.server.routes["/file"] = whole(body=large)
    url = world.server.origin + "/file"
    with world.downloader(DownloadLimits(size=len(large))) as downloader:
        downloader.meter = Meter()
        downloader.get(url, lambda _: None)
    assert [(url, total) for url, _, total in told] == [(url, len(large))] * 2
    assert 1 << 20 <= told[0][1] < told[1][1] <= len(large)


def test_retry_after_is_heeded(world: World) -> None:
    world.server.routes["/file"] = times(busy("503 Service Unavailable", "Retry-After: 7"), whole())
    assert world.get() == BODY
    assert world.slept == [7.0]


def test_whoever_closes_the_downloader_ends_what_runs(world: World) -> None:
    begun = threading.Event()

    def hang(it: Asked) -> None:
        begun.set()
        it.stall()

    world.server.routes["/file"] = hang
    downloader = world.downloader(DownloadLimits(stall=PATIENCE, seconds=PATIENCE, attempts=3))
    failed: list[Exception] = []

    def run() -> None:
        try:
            downloader.get(world.server.origin + "/file", lambda _: None)
        except MvmnixError as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait()
    downloader.close()
    thread.join()
    assert "broken off" in str(failed[0])


def test_a_proxy_from_the_environment_is_asked_to_connect(world: World) -> None:
    with Server() as proxy:
        proxy.routes["sources.example:443"] = lambda it: it.answer(b"", status="403 Forbidden")
        by = proxy.origin.replace("http://", "http://me:hush@")
        with world.downloader(hosts=("sources.example",), https_proxy=by) as downloader:
            with pytest.raises(DownloadError, match="403"):
                downloader.get("https://sources.example/file", lambda _: None)
            assert downloader.get(world.server.origin + "/file", lambda _: None).size == len(BODY)
        assert proxy.paths() == ["sources.example:443"] * LIMITS.attempts
        assert proxy.asked[0][1]["proxy-authorization"].startswith("Basic ")


def hung_up(it: Asked) -> None:
    it.send(b"HTTP/1.1 200 Connection")
    it.hang_up()


def endless_head(it: Asked) -> None:
    it.send(b"HTTP/1.1 200 Connection established\r\nX-Long: ")
    while not it.stopping.is_set():
        it.send(b"x" * 65536)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (hung_up, "the proxy hung up"),
        (endless_head, "the proxy hung up"),
        (lambda it: it.send(b"\r\n\r\n"), r"the proxy answers \?"),
        (lambda it: it.send(b"HTTP/1.1 2x0 Odd\r\n\r\n"), "the proxy answers 2x0"),
        (lambda it: it.send(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"), "the proxy answers 302"),
    ],
)
def test_a_proxy_that_opens_no_way(answer: Handler, said: str, world: World) -> None:
    with Server() as proxy:
        proxy.routes["sources.example:443"] = answer
        with (
            world.downloader(hosts=("sources.example",), https_proxy=proxy.origin) as downloader,
            pytest.raises(DownloadError, match=said),
        ):
            downloader.get("https://sources.example/file", lambda _: None)
        assert proxy.paths() == ["sources.example:443"] * LIMITS.attempts


def relaying(port: int) -> Handler:
    """What a proxy does that was asked for a way: both directions, until one of them ends."""

    def handle(it: Asked) -> None:
        with socket.create_connection(("127.0.0.1", port)) as server:
            it.send(b"HTTP/1.1 200 Connection established\r\nX-Proxy: yes\r\n\r\n")
            back = threading.Thread(target=carry, args=(server, it.connection))
            back.start()
            carry(it.connection, server)
            back.join()

    return handle


def carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("secured", [False, True])
def test_a_proxy_leads_to_the_origin(world: World, *, secured: bool) -> None:
    """By TLS from end to end, within that of a proxy that is spoken with by TLS."""
    with (
        Server(world.authority.context("sources.example")) as server,
        Server(world.authority.context("localhost") if secured else None) as proxy,
    ):
        server.routes["/file"] = whole()
        proxy.routes["sources.example:443"] = relaying(server.port)
        data, by = bytearray(), proxy.origin.replace("://", "://me:hush@")
        with world.downloader(hosts=("sources.example",), https_proxy=by) as downloader:
            for _ in range(2):
                downloader.get("https://sources.example/file", data.extend)
        assert data == BODY * 2
        assert (proxy.paths(), server.paths()) == (["sources.example:443"], ["/file", "/file"])
        assert proxy.asked[0][1]["proxy-authorization"] == "Basic bWU6aHVzaA=="
        assert "proxy-authorization" not in server.asked[0][1]
