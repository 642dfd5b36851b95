"""The downloader's own rules, over plain HTTP from a listed origin of this machine; integration tests have TLS."""

import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pytest

from mvmnix.builder.fetch.allowlist import Allowlist, Url
from mvmnix.builder.fetch.https import MAX_REDIRECTS, Downloader, DownloadError, Response
from mvmnix.builder.fetch.resumable import BrokenError, DownloadLimits
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from tests.integration.misbehaving import Asked, Handler, Server
from tests.patience import EVENT_PATIENCE, PATIENCE, SHORT

BODY = b"0123456789"
LIMITS = DownloadLimits(
    size=100, seconds=PATIENCE, stall=EVENT_PATIENCE, connect=EVENT_PATIENCE, attempts=3, parallel=2
)


@dataclass
class World:
    """A server that is listed, and what a download of its /file brought."""

    server: Server
    data: bytearray = field(default_factory=bytearray)
    slept: list[float] = field(default_factory=list)
    told: list[tuple[str, int, int | None]] = field(default_factory=list)

    def received(self, url: str, size: int, total: int | None) -> None:
        self.told.append((url, size, total))

    def downloader(self, limits: DownloadLimits = LIMITS, *, others: tuple[str, ...] = ()) -> Downloader:
        allowed = Allowlist(frozenset({"sources.example"}), frozenset({self.server.origin, *others}))
        made = Downloader(allowed, limits, environment={}, sleep=self.slept.append)
        made.meter = self
        return made

    def get(
        self, limits: DownloadLimits = LIMITS, *, limit: int | None = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        with self.downloader(limits) as downloader:
            return downloader.get(self.server.origin + "/file", self.data.extend, limit=limit, headers=headers or {})

    def serve(self, *handlers: Handler, path: str = "/file") -> None:
        """One after the other; the last one from then on."""
        self.server.routes[path] = lambda it: handlers[min(it.nth, len(handlers)) - 1](it)


@pytest.fixture
def world() -> Iterator[World]:
    with Server() as server:
        yield World(server)


def whole(*headers: str, body: bytes = BODY, status: str = "200 OK", length: int | None = None) -> Handler:
    return lambda it: it.answer(body, *headers, status=status, length=length)


def chunked(it: Asked) -> None:
    it.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n")


def broken(etag: str = "") -> Handler:
    def handle(it: Asked) -> None:
        it.answer(BODY[:4], *([f"ETag: {etag}"] if etag else []), length=len(BODY))
        it.hang_up()

    return handle


def codes(world: World, limits: DownloadLimits = LIMITS, *, limit: int | None = None) -> tuple[ReasonCode, ...]:
    with pytest.raises(RefusedError) as refused:
        world.get(limits, limit=limit)
    return refused.value.codes


def failure(world: World, limits: DownloadLimits = LIMITS) -> DownloadError:
    with pytest.raises(DownloadError) as failed:
        world.get(limits)
    return failed.value


def test_what_comes(world: World) -> None:
    world.serve(whole("Link: <x>", "X-Name: Value"))
    response = world.get(headers={"Authorization": "Bearer hush"})
    assert (response.status, response.size, response.url) == (200, 10, world.server.origin + "/file")
    assert response.headers == {"link": "<x>"}, "and none that isn't looked at"
    assert world.data == BODY
    ((path, asked),) = world.server.asked
    assert (path, asked["authorization"], asked["accept-encoding"]) == ("/file", "Bearer hush", "identity")


@pytest.mark.parametrize("size", [0, 1, (1 << 17) - 100, (1 << 17) - 20, 1 << 17, (1 << 17) + 1, 3 << 17])
def test_bodies_of_any_size_with_heads_of_any_size(world: World, size: int) -> None:
    """Whether both fit into one packet of the worker's or not."""
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    fields = [f'{name}: "{"x" * 16000}"' for name in ("ETag", "Link", "WWW-Authenticate")]
    world.serve(whole(body=body), whole(*fields, body=body))
    for _ in range(2):
        world.get(DownloadLimits(size=1 << 20))
    assert world.data == body * 2


# 1. the address


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/file", "http://sources.example/file", "file:///etc/passwd"])
def test_an_address_that_is_not_listed_is_asked_nothing(world: World, url: str) -> None:
    with world.downloader() as downloader, pytest.raises(RefusedError) as refused:
        downloader.get(url, world.data.extend)
    assert refused.value.codes == (ReasonCode.FETCH_NOT_ALLOWED,)
    assert world.server.connections == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(world: World, status: int) -> None:
    world.serve(lambda it: it.redirect("/there?a=b", f"{status} Elsewhere"))
    world.serve(whole(), path="/there")
    assert world.get().url == world.server.origin + "/there?a=b"
    assert world.data == BODY


@pytest.mark.parametrize("status", [300, 304, 305, 306])
def test_what_is_no_redirect_is_a_failure(world: World, status: int) -> None:
    world.serve(whole("Location: /there", body=b"", status=f"{status} No"))
    assert failure(world).status == status
    assert world.server.paths() == ["/file"]


def test_a_redirect_without_an_address_is_a_failure(world: World) -> None:
    world.serve(whole(body=b"", status="302 Found"))
    assert failure(world).status == 302


def test_so_many_redirects_and_no_more(world: World) -> None:
    world.serve(*[lambda it: it.redirect("/file")] * MAX_REDIRECTS, whole())
    world.get()
    assert (len(world.server.asked), bytes(world.data)) == (MAX_REDIRECTS + 1, BODY)
    world.server.asked.clear()
    world.serve(*[lambda it: it.redirect("/file")] * (MAX_REDIRECTS + 1), whole())
    assert "redirects more than 10 times" in str(failure(world))
    assert len(world.server.asked) == MAX_REDIRECTS + 1


@pytest.mark.parametrize("location", ["http://127.0.0.1:9/x", "http://sources.example/x", "file:///etc/passwd"])
def test_each_redirect_is_looked_at(world: World, location: str) -> None:
    world.serve(lambda it: it.redirect("/second"))
    world.serve(lambda it: it.redirect(location), path="/second")
    assert codes(world) == (ReasonCode.FETCH_NOT_ALLOWED,)
    assert world.server.paths() == ["/file", "/second"]


def test_credentials_stay_at_their_origin(world: World) -> None:
    """They don't come back either, when another origin leads back."""
    with Server() as other:
        world.serve(lambda it: it.redirect("/second"))
        world.serve(lambda it: it.redirect(other.origin + "/third"), path="/second")
        other.routes["/third"] = lambda it: it.redirect(world.server.origin + "/fourth")
        world.serve(whole(), path="/fourth")
        with world.downloader(others=(other.origin,)) as downloader:
            downloader.get(world.server.origin + "/file", world.data.extend, headers={"Authorization": "hush"})
        given = {path: headers.get("authorization") for path, headers in (*world.server.asked, *other.asked)}
    assert given == {"/file": "hush", "/second": "hush", "/third": None, "/fourth": None}


# 3. size and time


@pytest.mark.parametrize("handler", [whole(), chunked])
@pytest.mark.parametrize(("size", "limit"), [(10, None), (100, 10), (10, 100)])
def test_a_body_of_just_the_limit(world: World, handler: Handler, size: int, limit: int | None) -> None:
    world.serve(handler)
    assert world.get(DownloadLimits(size=size), limit=limit).size == 10


@pytest.mark.parametrize("handler", [whole(), chunked])
@pytest.mark.parametrize(("size", "limit"), [(9, None), (100, 9), (9, 100)])
def test_a_body_of_a_byte_more(world: World, handler: Handler, size: int, limit: int | None) -> None:
    world.serve(handler)
    assert codes(world, DownloadLimits(size=size), limit=limit) == (ReasonCode.FETCH_LIMIT,)
    assert len(world.data) < 10
    assert len(world.server.asked) == 1, "asking again doesn't make it smaller"


@pytest.mark.parametrize("attempts", [1, 3])
def test_time_that_is_over_is_no_reason_to_ask_again(world: World, attempts: int) -> None:
    world.serve(Asked.stall)
    assert codes(world, DownloadLimits(seconds=SHORT, attempts=attempts)) == (ReasonCode.FETCH_LIMIT,)
    assert world.slept == []
    assert len(world.server.asked) <= 1, "none where this machine was too busy to get so far"


def test_time_that_is_over_after_a_pause_is_no_reason_to_ask_again(world: World) -> None:
    world.serve(whole(status="503 Busy", body=b""))
    stopped = threading.Event()

    def sleep(_: float) -> None:
        stopped.wait(2 * SHORT)  # nothing wakes it: longer than the download may take

    allowed = Allowlist(frozenset(), frozenset({world.server.origin}))
    with (
        Downloader(allowed, DownloadLimits(seconds=SHORT, attempts=3), environment={}, sleep=sleep) as downloader,
        pytest.raises(RefusedError) as refused,
    ):
        downloader.get(world.server.origin + "/file", world.data.extend)
    assert refused.value.codes == (ReasonCode.FETCH_LIMIT,)
    assert "longer than 0.2 seconds" in str(refused.value)
    assert len(world.server.asked) <= 1


def test_no_attempt_is_begun_once_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped, attempts = threading.Event(), list[str]()

    def attempt(_: Downloader, url: Url, *_rest: object) -> Response:
        attempts.append(str(url))
        raise BrokenError("busy")

    monkeypatch.setattr(Downloader, "_attempt", attempt)
    allowed, limits = Allowlist(frozenset({"sources.example"})), DownloadLimits(seconds=SHORT, attempts=3)
    with (
        Downloader(allowed, limits, environment={}, sleep=lambda _: stopped.wait(2 * SHORT)) as downloader,
        pytest.raises(RefusedError) as refused,
    ):
        downloader.get("https://sources.example/file", lambda _: None)
    assert refused.value.codes == (ReasonCode.FETCH_LIMIT,)
    assert attempts == ["https://sources.example/file"]


def test_a_downloader_that_is_closed_asks_nothing(world: World) -> None:
    downloader = world.downloader()
    downloader.close()
    with pytest.raises(DownloadError, match="broken off"):
        downloader.get(world.server.origin + "/file", world.data.extend)
    assert world.server.connections == 0


# 4. again


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_be_otherwise_later_is_asked_again(world: World, status: int) -> None:
    world.serve(whole(status=f"{status} Later", body=b"later"), whole())
    assert world.get().size == 10
    assert world.data == BODY, "nothing of the refusal's own body"
    assert len(world.slept) == 1


@pytest.mark.parametrize("status", [201, 204, 400, 401, 403, 404, 410, 416, 501])
def test_what_stays_so_is_not(world: World, status: int) -> None:
    world.serve(whole(f'WWW-Authenticate: Basic realm="{status}"', status=f"{status} No", body=b""))
    error = failure(world)
    assert (error.status, error.challenge) == (status, f'Basic realm="{status}"')
    assert f"answers {status}" in str(error)
    assert (len(world.server.asked), world.slept, bytes(world.data)) == (1, [], b"")


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_so_many_attempts_and_no_more(world: World, attempts: int) -> None:
    world.serve(whole(status="503 Busy", body=b""))
    error = failure(world, DownloadLimits(attempts=attempts))
    assert (error.status, f"({attempts} attempts)" in str(error)) == (503, True)
    assert (len(world.server.asked), len(world.slept)) == (attempts, attempts - 1)


def test_pauses_become_longer(world: World) -> None:
    world.serve(whole(status="503 Busy", body=b""))
    failure(world, DownloadLimits(attempts=4))
    assert [low <= wait <= 2 * low for low, wait in zip((0.25, 0.5, 1.0), world.slept, strict=True)] == [True] * 3


def test_the_servers_own_pause(world: World) -> None:
    world.serve(whole("Retry-After: 17", status="503 Busy", body=b""), whole())
    world.get()
    assert world.slept == [17.0]


def test_a_pause_that_is_too_long_is_not_waited_for(world: World) -> None:
    world.serve(whole("Retry-After: 61", status="503 Busy", body=b""))
    assert "(1 attempts)" in str(failure(world))
    assert world.slept == []


def test_what_breaks_off_is_taken_up_again(world: World) -> None:
    def rest(it: Asked) -> None:
        assert (it.headers["range"], it.headers["if-range"]) == ("bytes=4-", '"a"')
        it.answer(BODY[4:], 'ETag: "a"', "Content-Range: bytes 4-9/10", status="206 Partial Content")

    world.serve(broken('"a"'), rest)
    response = world.get()
    assert (response.status, response.size, bytes(world.data)) == (206, 10, BODY)


def test_where_there_is_no_rest_the_whole_is_asked_for(world: World) -> None:
    world.serve(broken('"a"'), whole(status="416 Range Not Satisfiable", body=b""), whole())
    world.get()
    assert [headers.get("range") for _, headers in world.server.asked] == [None, "bytes=4-", None]
    assert world.data == BODY


def test_what_can_not_be_reached_is_tried_again(world: World) -> None:
    world.serve(Asked.reset, whole())
    assert world.get().size == 10
    assert len(world.slept) == 1


def test_words_of_a_server_are_no_lines_of_ours(world: World) -> None:
    world.serve(lambda it: it.send(b"\x1b[2J\rmvm: all is well\r\n\r\n"))
    text = str(failure(world, DownloadLimits(attempts=1, stall=EVENT_PATIENCE)))
    assert not re.search(r"[\x00-\x1f\x7f]", text), ascii(text)


# connections


@pytest.mark.parametrize("unwanted", ["503 Busy", "302 Found"])
def test_a_connection_is_used_again(world: World, unwanted: str) -> None:
    """After a body, and after an answer that came in one packet, whose body isn't wanted."""
    world.serve(whole("Location: /file", status=unwanted, body=bytes(1 << 16)), whole())
    world.get()
    assert (len(world.server.asked), world.server.connections) == (2, 1)


def test_a_connection_that_its_server_will_close_is_not_used_again(world: World) -> None:
    """Though it is open still: what is asked on it may be lost."""
    world.serve(whole("Connection: close"))
    with world.downloader() as downloader:
        for _ in range(2):
            downloader.get(world.server.origin + "/file", world.data.extend)
    assert (len(world.server.asked), world.server.connections) == (2, 2)


@pytest.mark.parametrize("length", [1 << 17, 1 << 40])
@pytest.mark.parametrize("unwanted", ["503 Busy", "302 Found"])
def test_a_large_body_that_is_not_wanted_is_not_read(world: World, unwanted: str, length: int) -> None:
    world.serve(whole("Location: /file", status=unwanted, body=b"x", length=length), whole())
    world.get()
    assert (len(world.server.asked), world.server.connections) == (2, 2)


def test_a_body_that_is_not_wanted_may_break_off(world: World) -> None:
    """The head says enough: where to go, and that there is no such file."""

    def hang_up(status: str) -> Handler:
        def handle(it: Asked) -> None:
            it.answer(b"x", "Location: /there", status=status, length=9)
            it.hang_up()

        return handle

    world.serve(hang_up("302 Found"))
    world.serve(whole(), path="/there")
    world.get()
    assert world.server.paths() == ["/file", "/there"]
    world.serve(hang_up("404 Not Found"))
    assert failure(world).status == 404
    assert len(world.server.asked) == 3


def test_so_many_at_once_and_no_more(world: World) -> None:
    """The third waits until one of the first two is done."""
    running, most, lock, release = set[int](), [0], threading.Lock(), threading.Event()

    def handle(it: Asked) -> None:
        with lock:
            running.add(it.nth)
            most[0] = max(most[0], len(running))
            if len(world.server.asked) >= 2:
                release.set()
        release.wait(EVENT_PATIENCE)
        with lock:
            running.remove(it.nth)
        it.answer(BODY)

    world.serve(handle)
    with world.downloader() as downloader:
        threads = [
            threading.Thread(target=downloader.get, args=(world.server.origin + "/file", lambda _: None))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (len(world.server.asked), most[0]) == (6, 2)


def test_who_watches_is_told_each_mebibyte(world: World) -> None:
    body = bytes(3 << 20)
    world.serve(whole(body=body))
    world.get(DownloadLimits(size=len(body)))
    assert {(url, total) for url, _, total in world.told} == {(world.server.origin + "/file", len(body))}
    sizes = [size for _, size, _ in world.told]
    assert 2 <= len(sizes) <= 3
    assert all(later - earlier >= 1 << 20 for earlier, later in zip([0, *sizes], sizes, strict=False))


def test_what_a_writer_raises_ends_the_download(world: World) -> None:
    def full(_: bytes) -> None:
        raise MvmnixError("the disk is full")

    world.serve(whole())
    with world.downloader() as downloader, pytest.raises(MvmnixError, match="disk is full"):
        downloader.get(world.server.origin + "/file", full)
    assert len(world.server.asked) == 1
