"""A gateway and a dialer that were taken over: what they can take from their user, and what other machines still have.

It needs no network namespace: a gateway listens on this host's loopback here, and a plain user can start both.
"""

import errno
import json
import os
import resource
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copy

import pytest

from mvmnix.network.host import setup
from mvmnix.network.host.setup import (
    DESCRIPTORS,
    DIALER_DESCRIPTORS,
    DIALER_MEMORY,
    GATEWAY_MEMORY,
    LIBRARIES,
    NetworkProcess,
    code_directories,
)
from mvmnix.network.sockets import pair
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind, network_bytes
from mvmnix.plan.network import Network, parse_rules
from mvmnix.sandbox.trusted_executables import PYTHON, locate
from mvmnix.system.store import memfd
from mvmnix.vmm.confinement import Jail, NetworkService
from tests.hostile.network import grabs
from tests.hostile.stand_in import jail
from tests.patience import EVENT_PATIENCE

pytestmark = pytest.mark.integration
#: Has `grabs.py` run in the place of what serves, under all that this serves under.
_TAKEN_OVER = """
import sys
sys.modules["ssl"] = None
sys.path += ["/code", "/code/grabs"]
import grabs
from mvmnix.network.dialer import process as dialer
from mvmnix.network.gateway import process as gateway
gateway.Gateway.serve, dialer.Dialer.serve = grabs.serve_gateway, grabs.serve_dialer
%s.main(*map(int, sys.argv[1:]))
"""
_HERE = ("127.0.0.1", 0)
#: What any process of the user's has to have left, however few descriptors that may have.
_FEW = 1024
#: Grabs that succeed, and what ends them: a process's own limits, and no one's besides.
_GATEWAYS = {"a signal that waits": errno.EAGAIN, "a pipe": errno.EMFILE}
_DIALERS = {
    "descriptors in flight": errno.ETOOMANYREFS,
    "a signal that waits": errno.EAGAIN,
    "a thread": errno.EAGAIN,
}


@dataclass(frozen=True, slots=True)
class Started:
    """A gateway or a dialer: the supervisor's end of its conversation, and where a gateway listens."""

    process: NetworkProcess
    events: socket.socket
    listener: socket.socket | None

    @property
    def uid(self) -> int:
        """That of the host which it has."""
        assert self.process.pid is not None
        return Path(f"/proc/{self.process.pid}").stat().st_uid


@pytest.fixture
def added(tmp_path: Path) -> Path:
    """A directory of code beside mvm's, in one that nobody else gets into, as homes are."""
    tmp_path.chmod(0o700)
    where = tmp_path / "grabs"
    where.mkdir()
    copy(grabs.__file__, where / "grabs.py")
    for path, mode in ((where, 0o755), (where / "grabs.py", 0o644)):
        path.chmod(mode)
    return where


@contextmanager
def started(walls: Jail, module: str, added: Path) -> Iterator[Started]:
    """One that was started, and ends with the test."""
    with ExitStack() as stack:
        opened = os.open(added, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        found = {**code_directories(*(LIBRARIES if module == "gateway" else ())), "/code/grabs": opened}
        for fd in found.values():
            stack.callback(os.close, fd)
        dials = module == "dialer"
        bounds = (DIALER_MEMORY, DIALER_DESCRIPTORS) if dials else (GATEWAY_MEMORY, DESCRIPTORS)
        service = NetworkService(locate(PYTHON), found, {}, *bounds, dials=dials)
        process = NetworkProcess(walls, module, service)
        stack.callback(process.close)
        data = network_bytes(Network(parse_rules(["tcp:1.1.1.1:7"], [])))
        plan = stack.enter_context(os.fdopen(memfd(data, name="plan"), "rb"))
        # the other process would have `between`; nobody reads there
        between, its, ours, events = (stack.enter_context(one) for _ in range(2) for one in pair())
        given, listener = [its, events], None
        if not dials:
            listener, questions = (stack.enter_context(socket.create_server(_HERE)) for _ in range(2))
            kinds = (socket.AF_INET, socket.SOCK_DGRAM)
            datagrams, refused = (stack.enter_context(socket.socket(*kinds)) for _ in range(2))
            given = [listener, questions, datagrams, refused, between, events]
        process.start((plan.fileno(), *(one.fileno() for one in given)))
        events.close()
        ours.settimeout(EVENT_PATIENCE)
        yield Started(process, ours, listener)


def grabbed(events: socket.socket) -> dict[str, tuple[int, int]]:
    """By each grab, how many there were, and what ended them."""
    found: dict[str, tuple[int, int]] = {}
    while one := json.loads(events.recv(1024) or b"[]"):
        found[one[0]] = one[1], one[2]
    return found


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """This process is one of those with the lowest limit, which is compared with what is in flight."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FEW, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("few_descriptors")
@pytest.mark.parametrize(
    ("module", "uids", "expected"),
    [
        ("gateway", True, _GATEWAYS),
        ("gateway", False, _GATEWAYS),
        ("dialer", True, _DIALERS),
        ("dialer", False, _DIALERS),
    ],
)
def test_what_is_taken_from_others_is_nothing(
    tmp_path: Path, added: Path, monkeypatch: pytest.MonkeyPatch, module: str, expected: dict[str, int], *, uids: bool
) -> None:
    with ExitStack() as stack:
        walls = stack.enter_context(jail(tmp_path, uids=uids))
        with monkeypatch.context() as patched:
            patched.setattr(setup, "_START", _TAKEN_OVER)
            taken = stack.enter_context(started(walls, module, added))
        found = grabbed(taken.events)
        assert found.keys() == grabs.GRABS.keys()
        assert {name: failure for name, (count, failure) in found.items() if count} == expected
        assert {found[name][1] for name in found.keys() - expected} <= {errno.EPERM, errno.ENOSYS, errno.EAGAIN}
        assert found.get("a thread", (0, 0))[0] < 160
        # it holds all that it took
        another_serves(walls, added)
        one, other = map(stack.enter_context, pair())
        with select.epoll() as poll:
            poll.register(other, select.EPOLLIN)
        socket.send_fds(one, [b"x"], [other.fileno()])
        taken.events.send(b"x")


def another_serves(walls: Jail, added: Path) -> None:
    """Another machine's gateway starts, and answers a connection as its rules say."""
    with started(walls, "gateway", added) as another:
        assert NetworkEvent.parse(another.events.recv(1024)).kind is NetworkEventKind.READY
        assert another.listener is not None
        with socket.create_connection(another.listener.getsockname(), EVENT_PATIENCE):
            assert NetworkEvent.parse(another.events.recv(1024)).kind is NetworkEventKind.DENIED


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_each_has_a_uid_of_its_own_where_that_one_may_read_the_code(tmp_path: Path, added: Path, mode: int) -> None:
    added.chmod(mode)
    with jail(tmp_path) as walls, started(walls, "gateway", added) as one, started(walls, "dialer", added) as other:
        for each in (one, other):
            assert NetworkEvent.parse(each.events.recv(1024)).kind is NetworkEventKind.READY
        if mode == 0o755:
            assert len({one.uid, other.uid, os.geteuid()}) == 3
        else:
            assert {one.uid, other.uid} == {os.geteuid()}
