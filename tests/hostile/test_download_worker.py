"""A server that has taken over its process of the download worker: what it tells mvm, and the ways out of it.

A stand-in takes the place of what answers in that process. The rest is as it is in earnest: sandbox, lanes, downloader.
"""

import lzma
import re
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from mvmnix.api.frontend import SilentProgress
from mvmnix.builder.fetch import lanes, narinfo
from mvmnix.builder.fetch.allowlist import Allowlist
from mvmnix.builder.fetch.https import Downloader, DownloadError
from mvmnix.builder.fetch.lanes import Lanes
from mvmnix.builder.fetch.parsing import document_texts, expand, json_value
from mvmnix.builder.fetch.resumable import DownloadLimits
from mvmnix.builder.fetch.worker.packets import Compression, Document
from mvmnix.builder.pins.sources import fetch_sources
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.formats.strict import MalformedError
from mvmnix.model import Source
from mvmnix.sandbox.helper import Sandbox
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Cache
from tests.hostile import ways_out
from tests.hostile.bait import bait, judged
from tests.integration.misbehaving import Server
from tests.patience import EVENT_PATIENCE, PATIENCE, SHORT, scaled

__all__ = ["bait"]

pytestmark = pytest.mark.integration

LIMITS: Final = DownloadLimits(
    size=1 << 20, seconds=EVENT_PATIENCE, stall=EVENT_PATIENCE, connect=EVENT_PATIENCE, attempts=2
)
#: Runs in the worker's place: each function named here takes that of the worker's own.
STAND_IN: Final = """
import os, signal, socket, sys, time
sys.path.insert(0, "/worker")
from mvmnix.builder.fetch.worker import exchange, packets, serve
from mvmnix.builder.fetch.worker.packets import PacketKind as Kind, pack, send
def head(lane, status=b"200", size=b"", *fields):
    send(lane, Kind.HEAD, pack(status, size, *fields))
def body(lane, data):
    send(lane, Kind.WHOLE, pack(b"200", b"%d" % len(data), data))
def answer(self, request):
    lane = self._lane
ANSWER
def expanded(lane, compression, limit):
EXPANDED
    time.sleep(60)
def read(lane, document):
READ
    time.sleep(60)
exchange.Fetching._answer, serve._expand, serve._read = answer, expanded, read
BEFORE
serve.main(int(sys.argv[1]), sys.argv[2])
"""


def take_over(
    patch: pytest.MonkeyPatch, *, answer: str = "pass", expanded: str = "pass", read: str = "pass", before: str = ""
) -> None:
    script = STAND_IN.replace("BEFORE", before)
    for name, lines in {"ANSWER": answer, "EXPANDED": expanded, "READ": read}.items():
        script = script.replace(name, textwrap.indent(lines, "    "))
    patch.setattr(lanes, "_START", script)
    patch.setattr(lanes, "_GRACE", 1.0)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        server.routes["/file"] = lambda it: it.answer(b"good")
        yield server


@contextmanager
def downloader(*servers: Server, limits: DownloadLimits = LIMITS) -> Iterator[Downloader]:
    allowed = Allowlist(frozenset(), frozenset(server.origin for server in servers))
    with Downloader(allowed, limits, environment={}, sleep=lambda _: None) as opened:
        yield opened


def got(server: Server, limits: DownloadLimits = LIMITS) -> bytes:
    data = bytearray()
    with downloader(server, limits=limits) as opened:
        opened.get(f"{server.origin}/file", data.extend)
    return bytes(data)


#: What it says, and what mvm says of it.
LIES: Final[dict[str, tuple[str, str | ReasonCode]]] = {
    "a body without a head": ("send(lane, Kind.DATA, b'x')", "something else than an answer"),
    "an end without a head": ("send(lane, Kind.END)", "something else than an answer"),
    "two heads": ("head(lane); head(lane)", "something else than a body"),
    "a record of an archive": ("head(lane); send(lane, Kind.NEXT)", "something else than a body"),
    "a malformed document": ("send(lane, Kind.MALFORMED, b'x')", "something else than an answer"),
    "an empty piece": ("head(lane); send(lane, Kind.DATA)", "something else than a body"),
    "a packet of no kind": ("lane.send(bytes((200,)))", "a packet of an unknown kind"),
    "a packet that is too large": ("lane.send(bytes((Kind.HEAD,)) + bytes(180000))", "a packet that is too large"),
    "a descriptor": ("socket.send_fds(lane, [bytes((Kind.HEAD,))], [0])", "has descriptors"),
    "a status of none": ("head(lane, b'99999')", "a malformed head"),
    "a status that is no number": ("head(lane, b'\\xff2')", "a malformed head"),
    "a size that is no number": ("head(lane, b'200', b'-1')", "a malformed head"),
    "a size without end": ("head(lane, b'200', b'9' * 5000)", "a malformed head"),
    "a field that isn't looked at": ("head(lane, b'200', b'', b'set-cookie', b'x')", "a malformed head"),
    "a field twice": ("head(lane, b'200', b'', *(b'etag', b'x') * 2)", "a malformed head"),
    "a field without a value": ("head(lane, b'200', b'', b'etag')", "a malformed head"),
    "a long field": ("head(lane, b'302', b'0', b'location', b'x' * 20000)", "a malformed head"),
    "a field that is longer by one": ("head(lane, b'200', b'', b'etag', b'x' * 16385)", "a malformed head"),
    "many fields": ("head(lane, b'200', b'', *(b'etag', b'x') * 4000)", "too few texts, or too many"),
    "texts that are cut off": ("send(lane, Kind.HEAD, pack(b'200', b'')[:-1])", "truncated texts"),
    "a length behind the end": ("send(lane, Kind.HEAD, b'\\xff' * 4)", "truncated texts"),
    "half a length": ("send(lane, Kind.HEAD, b'\\xff' * 3)", "truncated texts"),
    "another body than it says": ("send(lane, Kind.WHOLE, pack(b'200', b'3', b'x'))", "a body of another size"),
    "no body": ("send(lane, Kind.WHOLE, pack(b'200', b'3'))", "too few texts, or too many"),
    "a connection, and one more": ("send(lane, Kind.WANTED); send(lane, Kind.WANTED)", "something else than an answer"),
    "more than it may": ("head(lane)\nwhile True: send(lane, Kind.DATA, bytes(1 << 17))", ReasonCode.FETCH_LIMIT),
    "more than it says": ("head(lane, b'200', b'3'); send(lane, Kind.DATA, b'four'); send(lane, Kind.END)", "of 3"),
    "a last piece that is empty": ("head(lane); send(lane, Kind.LAST)", "something else than a body"),
    "a last piece too early": ("head(lane, b'200', b'3'); send(lane, Kind.LAST, b'x')", "1 bytes of 3"),
    "less than it says": ("head(lane, b'200', b'3'); send(lane, Kind.END)", "0 bytes of 3"),
    "a redirect to the metadata service": (
        "send(lane, Kind.WHOLE, pack(b'302', b'0', b'location', b'http://169.254.169.254/', b''))",
        ReasonCode.FETCH_NOT_ALLOWED,
    ),
    "a redirect to a file": (
        "send(lane, Kind.WHOLE, pack(b'302', b'0', b'location', b'file:///etc/passwd', b''))",
        ReasonCode.FETCH_NOT_ALLOWED,
    ),
    "words for a terminal": (
        "send(lane, Kind.BROKEN, pack(b'', b'\\x1b[2J\\nall is well' + b'x' * 9000))",
        r"\?\[2J\?all is well",
    ),
    "an end of itself": ("os.kill(os.getpid(), signal.SIGKILL)", "broke off"),
    "an end of the worker": ("os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)", "ended with status 137"),
}


@pytest.mark.parametrize("case", LIES)
def test_what_is_no_answer_is_an_error_with_its_reason(
    case: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, said = LIES[case]
    take_over(monkeypatch, answer=answer)
    with pytest.raises(MvmnixError) as error:
        got(server)
    if isinstance(said, ReasonCode):
        assert isinstance(error.value, RefusedError)
        assert error.value.codes == (said,)
    else:
        assert isinstance(error.value, DownloadError)
        error.match(said)
    assert not re.search(r"[\x00-\x1f\x7f]", error.value.message)
    assert len(error.value.message) < 1000


ALL_FIELDS: Final = "*(text for name in packets.FIELDS for text in (name.encode(), b'1'))"


@pytest.mark.parametrize(
    "answer",
    [
        f"send(lane, Kind.WHOLE, pack(b'200', b'4', {ALL_FIELDS}, b'good'))",
        f"head(lane, b'200', b'4', {ALL_FIELDS}); send(lane, Kind.LAST, b'good')",
        "head(lane, b'200', b'4', b'etag', b'x' * 16384); send(lane, Kind.LAST, b'good')",
    ],
)
def test_an_answer_may_have_all_the_fields(answer: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    take_over(monkeypatch, answer=answer)
    assert got(server) == b"good"


@pytest.mark.parametrize(
    ("answer", "limits", "said"),
    [
        ("time.sleep(600)", DownloadLimits(stall=SHORT, attempts=2), "says nothing for 1 seconds"),
        (
            "while True: send(lane, Kind.ALIVE)",
            DownloadLimits(seconds=scaled(1), attempts=2),
            f"longer than {scaled(1)} seconds",
        ),
        (
            "head(lane)\nwhile True: send(lane, Kind.ALIVE)",
            DownloadLimits(seconds=scaled(1), attempts=2),
            f"longer than {scaled(1)} seconds",
        ),
        (
            "head(lane); time.sleep(600)",
            DownloadLimits(seconds=scaled(1), stall=EVENT_PATIENCE, attempts=2),
            f"longer than {scaled(1)} seconds",
        ),
    ],
)
def test_what_never_ends_is_ended(
    answer: str, limits: DownloadLimits, said: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_over(monkeypatch, answer=answer)
    with pytest.raises(MvmnixError, match=said):
        got(server, limits)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("mvm-download", "mvm-sandbox"))]


def test_other_bytes_than_the_servers_get_no_name(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_over(monkeypatch, answer="body(lane, b'evil')")
    source = Source(f"{server.origin}/file", "file", Digest.of(b"good"))
    with Directory.create(str(tmp_path / "store")) as directory, downloader(server) as opened:
        store = Cache(directory)
        with pytest.raises(RefusedError) as refused:
            fetch_sources([source], store, SilentProgress(), registries=[], downloader=opened)
        assert refused.value.codes == (ReasonCode.SOURCE_MISMATCH,)
        assert store.digests() == ()


PID: Final = "body(lane, b'%d' % os.getpid())"


def test_origins_share_no_process(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """So what one of them has taken over sees no request of another's, and no credential in it."""
    take_over(monkeypatch, answer=PID)
    with Server() as other, downloader(server, other) as opened:
        pids = []
        for origin in (server.origin, other.origin, server.origin):
            data = bytearray()
            opened.get(f"{origin}/file", data.extend)
            pids.append(int(data))
    assert pids[0] == pids[2] != pids[1]


SIBLINGS: Final = """
found = []
for pid in filter(str.isdecimal, os.listdir("/proc")):
    for name in ("mem", "environ", "maps", "fd/0", "auxv", "io"):
        if int(pid) != os.getpid():
            try:
                os.close(os.open(f"/proc/{pid}/{name}", os.O_RDONLY))
                found.append(f"{pid}/{name}")
            except OSError:
                pass
body(lane, " ".join(found).encode())
"""


def looked_into(server: Server) -> list[str]:
    with Server() as other, downloader(server, other) as opened:
        opened.get(f"{server.origin}/file", lambda _: None)
        data = bytearray()
        opened.get(f"{other.origin}/file", data.extend)
    return [name for name in data.decode().split() if not name.startswith("1/")]  # bubblewrap's


def test_no_process_looks_into_another(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    take_over(monkeypatch, answer=SIBLINGS)
    assert looked_into(server) == []


def test_a_process_that_is_dumpable_is_looked_into(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that an empty list means something. (PR_SET_PDEATHSIG takes the place of PR_SET_DUMPABLE.)"""
    take_over(monkeypatch, answer=SIBLINGS, before="serve._PR_SET_DUMPABLE = 1")
    assert any(name.endswith("environ") for name in looked_into(server))


@pytest.mark.parametrize("connected", [False, True])
def test_a_process_has_its_lane_and_its_connection_alone(
    connected: bool, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not the socket on which the lanes of others come."""
    found = "FDS = [os.path.join('/proc/self/fd', name) for name in os.listdir('/proc/self/fd')]\n"
    count = "sum(os.path.exists(it) and os.readlink(it).startswith('socket:') for it in FDS)"
    take_over(monkeypatch, answer=f"{'self._connected()' * connected}\n{found}body(lane, b'%d' % {count})")
    assert got(server) == (b"2" if connected else b"1")


def test_no_process_stays_when_it_has_ended(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would be as many as downloads, and the sandbox has room for so many."""
    found = "[pid for pid in os.listdir('/proc') if pid.isdigit() and ') Z' in open(f'/proc/{pid}/stat').read()]"
    take_over(monkeypatch, answer=f"if b'/end' in request: os._exit(0)\nbody(lane, repr({found}).encode())")
    data = bytearray()
    with downloader(server, limits=DownloadLimits(size=1 << 20, attempts=1)) as opened:
        with pytest.raises(DownloadError, match="broke off"):
            opened.get(f"{server.origin}/end", lambda _: None)
        opened.get(f"{server.origin}/file", data.extend)
    assert data == b"[]"


WAYS: Final = """
sys.path.insert(0, "/")
import ctypes, ways_out
signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # it waits for children
self._connected()
connect = ctypes.CDLL(None, use_errno=True).connect
port = ways_out.PORT.to_bytes(2, "big")
elsewhere = b"\\x02\\x00" + port + socket.inet_aton("127.0.0.1") + bytes(8)
fd = self._socket.fileno()
self._socket.setblocking(True)
ways = dict(ways_out.WAYS) | {
    "parting the connection": lambda: connect(fd, bytes(16), 16) == 0,
    "connecting elsewhere": lambda: (connect(fd, bytes(16), 16), connect(fd, elsewhere, 16))[1] == 0,
    "listening to the host's network": ways_out.works(lambda: self._socket.listen()),
    "binding in the host's network": ways_out.works(lambda: self._socket.bind(("", 0))),
    "fast open": ways_out.works(
        lambda: self._socket.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", ways_out.PORT))
    ),
    "a socket of its own": ways_out.makes_socket(socket.AF_INET),
}
said = "".join(f"{name}: {'BROKEN' if ways_out.tried(way) else 'held'}\\n" for name, way in ways.items())
head(lane)
send(lane, Kind.DATA, said.encode())
send(lane, Kind.END)
"""


def ways_of(server: Server, patch: pytest.MonkeyPatch, *, connected: bool) -> dict[str, str]:
    """What comes of each way from a process that holds a connection of the host's network."""

    def with_program(*given: Any, **_: bool) -> Sandbox:
        made = Sandbox(*given)
        files = {**made.files, "/ways_out.py": Path(ways_out.__file__)}
        return replace(made, files=files, connected=connected)

    take_over(patch, answer=WAYS)
    patch.setattr(lanes, "Sandbox", with_program)
    return judged(got(server, DownloadLimits(stall=PATIENCE, seconds=PATIENCE, attempts=1)).decode())


@pytest.mark.usefixtures("bait")
def test_no_way_out(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ways_of(server, monkeypatch, connected=True)
    assert found.keys() > ways_out.WAYS.keys()
    assert len(found) == len(ways_out.WAYS) + 6
    # its lane, and the connection that it was given
    assert [name for name, word in found.items() if word != "held"] == ["inherited descriptors"]


@pytest.mark.usefixtures("bait")
def test_a_connection_leads_elsewhere_with_the_filter_of_other_helpers(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a line that says `held` means something."""
    found = ways_of(server, monkeypatch, connected=False)
    broken = {name for name, word in found.items() if word != "held"} - ways_out.WAYS.keys()
    assert {"parting the connection", "connecting elsewhere", "a socket of its own"} <= broken


# streams and documents


@pytest.fixture
def opened() -> Iterator[Lanes]:
    opened = Lanes("", stall=EVENT_PATIENCE, idle=1)
    yield opened
    opened.rest()


@pytest.mark.parametrize(
    ("expanded", "error", "said"),
    [
        ("while True: send(lane, Kind.DATA, bytes(1 << 17))", MalformedError, "more bytes than it may"),
        ("send(lane, Kind.DATA)", DownloadError, "something else than a stream"),
        ("send(lane, Kind.HEAD)", DownloadError, "something else than a stream"),
        ("send(lane, Kind.END)", DownloadError, "something else than a stream"),
        (
            "lane.recv(1); send(lane, Kind.NEXT); lane.recv(1); send(lane, Kind.DATA, b'x'); send(lane, Kind.END)",
            DownloadError,
            "bytes behind the end of a stream",
        ),
        ("os._exit(0)", DownloadError, "broke off"),
        ("time.sleep(600)", DownloadError, "says nothing"),
        ("send(lane, Kind.MALFORMED, b'\\x1b' * 9000)", MalformedError, r"^\?{300}$"),
    ],
)
def test_what_is_no_stream(
    expanded: str, error: type[Exception], said: str, opened: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_over(monkeypatch, expanded=expanded)
    opened._stall = 1
    with pytest.raises(error, match=said):
        b"".join(expand(opened, Compression.XZ, [lzma.compress(b"x")], 1 << 20))


@pytest.mark.parametrize(
    ("read", "said"),
    [
        ("while True: send(lane, Kind.DATA, bytes(1 << 16))", "something else than a document"),
        ("packets.send_all(lane, b'\\xff\\xff')", "malformed texts"),
        ("packets.send_all(lane, pack(b'\\xff'))", "malformed texts"),
        ("send(lane, Kind.HEAD)", "something else than a document"),
        ("os._exit(0)", "broke off"),
    ],
)
def test_what_is_no_document(read: str, said: str, opened: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    take_over(monkeypatch, read=read)
    with pytest.raises(DownloadError, match=said):
        document_texts(opened, Document.TOKEN, b"{}")


def test_how_many_bytes_the_texts_of_a_document_may_have(opened: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice its own, and 1 MiB more; the length before each counts."""
    take_over(monkeypatch, read=f"packets.send_all(lane, pack(bytes({1 << 20})))")
    assert document_texts(opened, Document.TOKEN, b"{}") == ("\0" * (1 << 20),)
    with pytest.raises(DownloadError, match="something else than a document"):
        document_texts(opened, Document.TOKEN, b"0")


@pytest.mark.parametrize(
    "document", [one for one in Document if one in {Document.TOKEN, Document.JSON, Document.GITHUB, Document.GITLAB}]
)
@pytest.mark.parametrize("data", [b"[" * (1 << 20), b'{"token":' * (1 << 17), b'{"a":1,"a":2}', b"\xff", b"NaN", b""])
def test_json_that_no_one_means(document: Document, data: bytes, opened: Lanes) -> None:
    with pytest.raises(MalformedError):
        document_texts(opened, document, data)


@pytest.mark.parametrize(
    ("said", "error"),
    [("b'{1', b'a'", "a value that is cut off"), ("b'n', b'n'", "more than one value"), ("b'x'", "a malformed value")],
)
def test_a_value_that_the_worker_made_up(said: str, error: str, opened: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    take_over(monkeypatch, read=f"packets.send_all(lane, pack({said}))")
    with pytest.raises(DownloadError, match=error):
        json_value(opened, b"{}")


def test_a_narinfo_that_the_worker_made_up_is_malformed_or_unsigned(
    opened: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_over(monkeypatch, read="packets.send_all(lane, pack(b'StorePath', b'/nix/store/x', b'URL'))")
    with pytest.raises(MalformedError, match="without a value"):
        narinfo.parse_narinfo(document_texts(opened, Document.NARINFO, b""))
