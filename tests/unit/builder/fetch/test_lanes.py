"""The download worker's life: it starts when it is needed, and again, and leaves nothing."""

import os
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from mvmnix.builder.fetch import lanes
from mvmnix.builder.fetch.allowlist import Allowlist
from mvmnix.builder.fetch.https import Downloader, request
from mvmnix.builder.fetch.lanes import Deadline, Lane, Lanes
from mvmnix.builder.fetch.parsing import document_texts
from mvmnix.builder.fetch.resumable import BrokenError, DownloadError
from mvmnix.builder.fetch.worker import packets
from mvmnix.builder.fetch.worker.packets import Document, PacketKind, Work
from mvmnix.errors import MvmnixError
from mvmnix.sandbox.trusted_executables import Candidates
from tests.integration.misbehaving import Server
from tests.patience import EVENT_PATIENCE, SHORT
from tests.repository import ROOT


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        server.routes["/file"] = lambda it: it.answer(b"x")
        yield server


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith(("mvm-download", "mvm-sandbox"))]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_started_for_nothing(server: Server) -> None:
    before = descriptors()
    with Downloader(Allowlist(frozenset(), frozenset({server.origin})), environment={}):
        assert (threads(), descriptors()) == ([], before)


def test_rest_leaves_no_thread_and_the_next_download_starts_anew(server: Server) -> None:
    """As before a machine is started by forking (launch/runtime/supervisor.py, detach)."""
    with Downloader(Allowlist(frozenset(), frozenset({server.origin})), environment={}) as downloader:
        for _ in range(2):
            downloader.get(f"{server.origin}/file", lambda _: None)
            assert threads()
            downloader.lanes.rest()
            assert threads() == []
    assert (len(server.asked), server.connections) == (2, 2)


def test_lanes_that_are_idle_are_bounded() -> None:
    before = descriptors()
    opened = Lanes("", stall=EVENT_PATIENCE, idle=2)
    taken = [opened.take(number, Work.FETCH, b"", b"5") for number in range(5)]
    for lane in taken:
        opened.give_back(lane)
    again = [opened.take(number, Work.FETCH, b"", b"5") for number in (4, 3, 0)]
    assert [one is taken[number] for one, number in zip(again, (4, 3, 0), strict=True)] == [True, True, False]
    opened.rest()
    for lane in again:
        opened.give_back(lane)  # whose worker has ended
    assert (threads(), descriptors()) == ([], before)
    opened.close()


def test_nothing_holds_a_lane_that_was_dropped() -> None:
    """A build asks thousands of questions, each by a lane of its own."""
    opened = Lanes("", stall=EVENT_PATIENCE, idle=0)
    for release in (opened.drop, opened.give_back):
        lane = opened.take(None, Work.FETCH, b"", b"5")
        still = weakref.ref(lane)
        release(lane)
        opened.rest()
        del lane
        assert still() is None
    opened.close()


def test_there_are_no_lanes_once_it_is_closed() -> None:
    """Though a thread comes late: it would start a worker that nothing ends."""
    opened = Lanes("", stall=EVENT_PATIENCE, idle=2)
    opened.close()
    with pytest.raises(BrokenError, match="closed"):
        opened.take("x", Work.FETCH, b"", b"5")
    assert threads() == []


def test_a_lane_of_documents_is_used_again() -> None:
    """Each document alone: nothing of the one before it."""
    opened = Lanes("", stall=EVENT_PATIENCE, idle=2)
    try:
        for name in ("a", "b"):
            assert document_texts(opened, Document.NARINFO, f"URL: {name}\n".encode()) == ("URL", name)
        assert len(opened._idle) == 1
    finally:
        opened.rest()


def test_a_worker_that_was_killed_is_followed_by_another() -> None:
    opened = Lanes("", stall=EVENT_PATIENCE, idle=2)
    try:
        assert document_texts(opened, Document.TOKEN, b'{"token": "a"}') == ("a",)
        assert opened._worker is not None
        opened._worker._cancel.close(opened._worker._cancel.writing)
        opened._worker._thread.join()
        assert document_texts(opened, Document.TOKEN, b'{"token": "b"}') == ("b",)
    finally:
        opened.rest()


class Gone:
    """A worker that has ended."""

    is_over = True

    def why_ended(self) -> Exception:
        return BrokenError("the worker is gone")


@pytest.fixture
def ends() -> Iterator[tuple[Lane, socket.socket]]:
    """A lane, and its other end."""
    ours, theirs = packets.pair()
    lane = Lane("x", ours, cast("Any", Gone()), 60)
    with theirs:
        yield lane, theirs
    lane.close()


def test_a_lane_that_is_cut_ends_what_a_thread_waits_for(ends: tuple[Lane, socket.socket]) -> None:
    """Though the process at its other end lives, and says nothing."""
    lane, _ = ends
    said: list[str] = []

    def wait() -> None:
        try:
            lane.receive()
        except BrokenError as error:
            said.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    lane.cut()
    thread.join(EVENT_PATIENCE)
    assert said == ["the worker is gone"]


@pytest.mark.parametrize(
    "send", [lambda lane: lane.send(PacketKind.DATA, bytes(1000)), lambda lane: lane.send_all(bytes(1000))]
)
def test_a_worker_that_reads_nothing_holds_no_thread(
    ends: tuple[Lane, socket.socket], send: Callable[[Lane], None]
) -> None:
    lane, _ = ends
    lane._quiet = SHORT
    with pytest.raises(BrokenError, match="the worker is gone"):
        for _ in range(100_000):
            send(lane)


def test_how_large_a_packet_may_be(ends: tuple[Lane, socket.socket]) -> None:
    lane, theirs = ends
    theirs.send(bytes((PacketKind.DATA,)) + bytes(1 << 17))
    kind, content = lane.receive()
    assert (kind, len(content)) == (PacketKind.DATA, 1 << 17)
    theirs.send(bytes((PacketKind.DATA,)) + bytes((1 << 17) + 1))
    with pytest.raises(DownloadError, match="a packet that is too large"):
        lane.receive()


def test_a_deadline_is_over_at_its_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    deadline = Deadline.after(EVENT_PATIENCE)
    for past, left, is_over in ((99.5, 0.5, False), (100.0, 0.0, True), (101.0, 0.0, True)):
        now[0] = past + EVENT_PATIENCE
        assert (deadline.left, deadline.is_over) == (left, is_over)


def test_what_comes_after_the_deadline_is_not_taken(ends: tuple[Lane, socket.socket]) -> None:
    """However fast it comes."""
    lane, theirs = ends
    theirs.send(bytes((PacketKind.DATA,)))
    with pytest.raises(BrokenError, match="time for this download is over"):
        lane.receive(Deadline.after(0))
    assert lane.receive(Deadline.after(EVENT_PATIENCE))[0] is PacketKind.DATA


def test_a_lane_has_one_connection_and_cuts_it(ends: tuple[Lane, socket.socket]) -> None:
    """For its server too, though the process at the other end has it still."""
    lane, theirs = ends
    servers, taken = [], []
    for _ in range(2):
        connection, server = socket.socketpair()
        servers.append(server)
        server.settimeout(EVENT_PATIENCE)
        lane.connect(connection, b"", b"", b"")
        taken += socket.recv_fds(theirs, packets.PIECE_BYTES + 1, 1)[1]
        if len(servers) == 2:
            assert servers[0].recv(1) == b""
    lane.close()
    assert servers[1].recv(1) == b""
    for server in servers:
        server.close()
    for fd in taken:
        os.close(fd)


def test_what_is_sent_to_a_worker_that_is_gone(ends: tuple[Lane, socket.socket]) -> None:
    lane, theirs = ends
    theirs.close()
    connection, server = socket.socketpair()
    with server:
        for send in (
            lambda: lane.send(PacketKind.ASK, b"x"),
            lambda: lane.send_all(b"x"),
            lambda: lane.connect(connection, b"", b"", b""),
            lane.receive,
        ):
            with pytest.raises(BrokenError, match="the worker is gone"):
                send()


def test_where_there_is_no_sandbox_the_reason_is_told_at_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "PYTHON", Candidates("Python 3", ("/proc/nowhere/python3",), "apt-get install python3"))
    slept: list[float] = []
    allowed = Allowlist(frozenset(), frozenset({server.origin}))
    with (
        Downloader(allowed, environment={}, sleep=slept.append) as downloader,
        pytest.raises(MvmnixError, match="Python 3 is not installed") as error,
    ):
        downloader.get(f"{server.origin}/file", lambda _: None)
    assert (error.value.hint, slept) == ("apt-get install python3", [])


def test_certificates_that_are_not_there() -> None:
    with pytest.raises(MvmnixError, match=r"certificates of /proc/nowhere can't be read") as error:
        Downloader(Allowlist(frozenset()), environment={"SSL_CERT_FILE": "/proc/nowhere"})
    assert "SSL_CERT_FILE" in error.value.hint


def test_certificates_that_are_none(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.write_bytes(b"none")
    slept: list[float] = []
    with Server() as server:
        allowed = Allowlist(frozenset(), frozenset({server.origin.replace("http:", "https:")}))
        with (
            Downloader(allowed, environment={"SSL_CERT_FILE": str(bundle)}, sleep=slept.append) as downloader,
            pytest.raises(MvmnixError, match="certificates to trust can't be read"),
        ):
            downloader.get(server.origin.replace("http:", "https:") + "/file", lambda _: None)
    assert slept == []


def test_the_worker_imports_pythons_own_modules_and_its_folder_alone() -> None:
    """So that nothing else has to be shown in its sandbox."""
    for path in Path(packets.__file__).parent.glob("*.py"):
        found = {line.split()[1] for line in path.read_text().splitlines() if line.split(" ")[0] in {"from", "import"}}
        ours = {name for name in found if name.startswith("mvmnix")}
        assert all(name.startswith(packets.__name__.rpartition(".")[0]) for name in ours), path.name


def test_a_request_is_lines_of_ours() -> None:
    url = Allowlist(frozenset({"sources.example:8443"})).admit('https://sources.example:8443/a"b%20c?d=[e]')
    assert request(url, {"Authorization": "Bearer hush"}).decode().split("\r\n") == [
        "GET /a%22b%20c?d=%5Be%5D HTTP/1.1",
        "Host: sources.example:8443",
        "Accept-Encoding: identity",
        "User-Agent: mvmnix",
        "Authorization: Bearer hush",
        "",
        "",
    ]


@pytest.mark.parametrize("value", ["a\r\nHost: b", "a\nb", "a\0b", "\u00e9", "a\x7f"])
def test_no_field_of_a_request_is_two(value: str) -> None:
    url = Allowlist(frozenset({"sources.example"})).admit("https://sources.example")
    with pytest.raises(ValueError, match="not one line"):
        request(url, {"Authorization": value})


def test_a_process_that_does_not_close_them_ends_all_the_same() -> None:
    """The interpreter's end waits for threads: a worker that serves would keep it for hours."""
    program = (
        "from mvmnix.builder.fetch.lanes import Lanes; from mvmnix.builder.fetch.worker.packets import Work\n"
        f"lanes = Lanes('', stall={EVENT_PATIENCE}, idle=1)\n"
        "lanes.give_back(lanes.take(None, Work.EXPAND, b'gzip', b'10'))\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=EVENT_PATIENCE, check=True)
