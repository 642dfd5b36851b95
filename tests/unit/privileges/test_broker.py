"""The broker's packets: each request reaches what does it, with its types; what is none gets an error and no more."""

import errno
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import override

import pytest

from mvmnix.errors import MvmnixError
from mvmnix.privileges import broker, ids
from mvmnix.privileges import rights as rights_
from mvmnix.privileges.client import Broker
from mvmnix.privileges.control_groups import ControlGroups, Controller, GroupLimits, Parent
from mvmnix.privileges.descriptors import PACKET
from mvmnix.privileges.grants import Grants
from mvmnix.privileges.rights import Rights
from mvmnix.privileges.tree import ServedDirectory
from tests.patience import EVENT_PATIENCE, until

LIMITS = GroupLimits(memory=1 << 30, tasks=97, processors=1.5, weight=7)


@dataclass(frozen=True, slots=True)
class Recorded(Rights):
    """Does nothing, and notes what it was asked for."""

    asked: list[tuple[object, ...]] = field(default_factory=list)

    @override
    def namespace_of(self, uid: int) -> int:
        self.asked.append(("namespace", uid))
        return os.open("/dev/null", os.O_RDONLY)

    @override
    def container_namespace(self) -> int:
        raise PermissionError(1, "not here", "container")

    @override
    def tree(self, source: int, reader: int, served: ServedDirectory | None) -> int:
        self.asked.append(("tree", os.read(source, 10), reader, served))
        return os.open("/dev/zero", os.O_RDONLY)

    @override
    def tun(self, namespace: int) -> int:
        self.asked.append(("tun", os.read(namespace, 10)))
        return os.open("/dev/zero", os.O_RDONLY)

    @override
    def parents(self) -> tuple[Parent, ...]:
        return (Parent("/sys/fs/cgroup/memory", 1, (Controller.MEMORY,)),)

    @override
    def make_group(self, name: str, limits: GroupLimits, controllers: frozenset[Controller]) -> None:
        self.asked.append(("make", name, limits, controllers))

    @override
    def add_to_group(self, path: str, process: int) -> None:
        self.asked.append(("add", path, process))

    @override
    def io(self, process: int) -> str:
        return f"{process}\n"

    @override
    def remove_group(self, path: str) -> bool:
        raise ZeroDivisionError("a mistake of the broker's")


@pytest.fixture
def rights() -> Recorded:
    return Recorded()


@pytest.fixture
def client(rights: Recorded) -> Iterator[Broker]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    serving = threading.Thread(target=broker.serve, args=(theirs, rights))
    serving.start()
    with theirs:
        with ours:
            yield Broker(ours)
        serving.join(EVENT_PATIENCE)
        assert not serving.is_alive(), "it ends with the last socket that can ask it"


def test_requests_arrive_with_their_types(client: Broker, rights: Recorded, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with (tmp_path / "file").open("rb") as file:
        for served in (None, ServedDirectory(writable=True, lowest_group=1)):
            file.seek(0)
            tree = client.tree(file.fileno(), 5, served)
            assert os.read(tree, 2) == b"\0\0", "it is the descriptor that was made"
            assert not os.get_inheritable(tree)
            os.close(tree)
            file.seek(0)
        os.close(client.tun(file.fileno()))
    os.close(client.namespace_of(7))
    client.make_group("name", LIMITS, frozenset(Controller))
    client.make_group("name", GroupLimits(1, 1), frozenset())
    client.add_to_group("/path", 42)
    assert client.io(42) == "42\n"
    assert client.parents() == rights.parents()
    assert rights.asked == [
        ("tree", b"content", 5, None),
        ("tree", b"content", 5, ServedDirectory(writable=True, lowest_group=1)),
        ("tun", b"content"),
        ("namespace", 7),
        ("make", "name", LIMITS, frozenset(Controller)),
        ("make", "name", GroupLimits(1, 1), frozenset()),
        ("add", "/path", 42),
    ]


def test_what_the_system_refuses_is_told(client: Broker) -> None:
    with pytest.raises(PermissionError, match="not here") as refused:
        client.container_namespace()
    assert refused.value.filename == "container"
    with pytest.raises(OSError, match="ZeroDivisionError"):
        client.remove_group("/path")


@pytest.mark.parametrize(
    "packet",
    [
        b"{",
        b"[]",
        b"null",
        b"[" * 5000,
        b"\xff",
        b"x" * PACKET,
        b'{"request":"nothing"}',
        b'{"request":"namespace"}',
        b'{"request":"namespace","uid":-1}',
        b'{"request":"namespace","uid":1.5}',
        b'{"request":"namespace","uid":true}',
        b'{"request":"namespace","uid":1,"more":1}',
        b'{"request":"namespace","request":"namespace","uid":1}',
        b'{"request":"tree","uid":1,"served":false}',
        b'{"request":"tun"}',
        b'{"request":"tree","uid":1,"served":true,"writable":true,"lowest-group":2}',
        b'{"request":"make-group","name":"x","controllers":["io"],"memory":1,"tasks":1,"processors-thousandths":0,"weight":0}',
    ],
)
def test_what_is_no_request_gets_an_error(client: Broker, rights: Recorded, packet: bytes) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        socket.send_fds(client.socket, [packet], [theirs.fileno()])
        theirs.close()
        said = json.loads(ours.recv(PACKET))
    assert said["errno"]
    assert [it for it in rights.asked if it[0] != "tree"] == []


def test_nothing_that_is_sent_ends_it(client: Broker) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for number in range(50):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs, suppress(OSError):
            socket.send_fds(client.socket, [b"x"], [theirs.fileno()] * (number % 9))
    for _ in range(3):  # who asks and doesn't listen, and a descriptor that is no socket
        client.socket.send(b'{"request":"parents"}')
        with Path("/dev/null").open("rb") as file:
            socket.send_fds(client.socket, [b'{"request":"parents"}'], [file.fileno()])
    assert client.parents()
    # each descriptor that came is closed, the last ones after the answer
    until(lambda: len(os.listdir("/proc/self/fd")) == before)  # noqa: PTH208


def test_without_a_broker_it_is_said(rights: Recorded) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    with ours, pytest.raises(MvmnixError, match="has ended"):
        Broker(ours).namespace_of(1)


GRANTED = Rights(Grants((), {}))


@pytest.mark.parametrize(
    "uid", [0, 1, 1000, 65534, ids.MVM, ids.FIRST_OF_POOL + ids.POOL_COUNT, ids.FIRST_OF_CONTAINER, 2**32 - 1]
)
def test_a_uid_beyond_the_pool_is_refused(uid: int) -> None:
    with pytest.raises(PermissionError, match="not a uid of the pool"):
        GRANTED.namespace_of(uid)
    with Path("/dev/null").open("rb") as file, pytest.raises(PermissionError, match="not a uid of the pool"):
        GRANTED.tree(file.fileno(), uid, None)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a", "mvmnix-1-0123456", "mvmnix-1-01234567\n", "mvmnix-1-0123456G", "x/mvmnix-1-01234567"]
)
def test_a_name_of_another_s_is_refused(name: str) -> None:
    with pytest.raises(PermissionError, match="not the name of a control group"):
        GRANTED.make_group(name, LIMITS, frozenset())


@pytest.mark.parametrize("path", ["/", "/tmp", "/proc/self", "/sys"])
def test_a_place_of_another_s_is_refused(path: str) -> None:
    with pytest.raises(PermissionError):
        GRANTED.remove_group(path)
    with pytest.raises(PermissionError):
        GRANTED.add_to_group(path, os.getpid())


@pytest.mark.root("root's control groups")
def test_a_group_of_another_command_is_removed() -> None:
    """It may have been made from another group, as that of another session."""
    parents = ControlGroups.find().parents
    for parent in parents[:1]:
        elsewhere = Path(parent.path, "mvmnix-test-elsewhere")
        theirs = elsewhere / "mvmnix-4095-0123abcd"
        theirs.mkdir(parents=True)
        try:
            assert GRANTED.remove_group(str(theirs))
            assert not theirs.exists()
            theirs.mkdir()
            os.chown(theirs, 1000, 1000)
            with pytest.raises(PermissionError, match="not a control group of mvm's"):
                GRANTED.remove_group(str(theirs))
        finally:
            theirs.rmdir()
            elsewhere.rmdir()


def test_what_only_looks_like_a_group_stays(tmp_path: Path) -> None:
    """Root removes none, and kills nothing that its file names, whatever a lease file says: mvm's uid writes these."""
    (tmp_path / "mvmnix-1-0123abcd").mkdir()
    with pytest.raises(PermissionError, match="not a control group of mvm's"):
        Rights().remove_group(str(tmp_path / "mvmnix-1-0123abcd"))
    assert (tmp_path / "mvmnix-1-0123abcd").exists()


@pytest.mark.root("root's control groups")
def test_there_are_only_so_many_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    parents = [parent.path for parent in ControlGroups.find().limiting(Controller.MEMORY).parents]
    if not parents:
        pytest.skip("this host has no control groups that could be used")
    most = max(sum(map(bool, map(rights_.GROUP.fullmatch, os.listdir(path)))) for path in parents)  # noqa: PTH208
    monkeypatch.setattr(rights_, "MOST_GROUPS", most)
    with pytest.raises(OSError, match="control groups of mvm's") as caught:
        GRANTED.make_group("mvmnix-4095-0123abcd", LIMITS, frozenset({Controller.MEMORY}))
    assert caught.value.errno == errno.ENOSPC
