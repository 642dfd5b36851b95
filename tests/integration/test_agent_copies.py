"""Copies by the real agent: as the plan's user, without following links, complete or not there at all."""

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mvmnix.launch.agent.client import Channel
from mvmnix.launch.agent.operations import CopyDirection
from mvmnix.launch.agent.requests import CopyRequest
from mvmnix.launch.copy.pack import Pack
from mvmnix.launch.copy.records import DEPTH, CopyKind, CopyLimits, Reader, record_head
from mvmnix.launch.copy.unpack import Unpack
from mvmnix.machines.exit_status import ExitStatus
from mvmnix.system.loop import Loop
from tests.integration.agent_house import IDLE, USER, talk, until, workload
from tests.unit.launch.channel_house import Collect

pytestmark = pytest.mark.integration

ROOT, LEAVE, END = record_head(CopyKind.DIRECTORY, mode=0o755), record_head(CopyKind.LEAVE), record_head(CopyKind.END)


def file(name: bytes, data: bytes, mode: int = 0o644) -> bytes:
    return record_head(CopyKind.FILE, name, mode=mode, size=len(data)) + data


@dataclass
class Guest:
    """The agent, and a directory that its workload's user may write."""

    channel: Channel
    loop: Loop
    room: Path

    def out(self, path: str | Path) -> tuple[int, bytes, str]:
        out, err = Collect(), Collect()
        request = CopyRequest(workload(str(path), directory=str(self.room)), way=CopyDirection.OUT, replaces=False)
        status = self.channel.exec(request, stdout=out, stderr=err, idle=IDLE)
        return status.exit_code, out.data, err.data.decode()

    def into(self, data: bytes, *words: str | Path, replaces: bool = False) -> tuple[int, str]:
        err = Collect()
        request = CopyRequest(
            workload(*map(str, words), directory=str(self.room)), way=CopyDirection.IN, replaces=replaces
        )
        status = self.channel.exec(request, stdout=Collect(), stderr=err, stdin=data, idle=IDLE)
        return status.exit_code, err.data.decode()

    def everything(self) -> dict[str, bytes | None]:
        return {
            str(path.relative_to(self.room)): path.read_bytes() if path.is_file() else None
            for path in self.room.rglob("*")
        }


@pytest.fixture
def guest(agent: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    room = Path("/tmp") / f"mvm-copies-{os.urandom(8).hex()}"
    room.mkdir(0o777)
    os.chown(room, USER.uid, USER.gid)
    del tmp_path_factory
    with talk(agent) as (channel, loop):
        yield Guest(channel, loop, room)
    for path in sorted(room.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    room.rmdir()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = tmp_path / "tree"
    (made / "d/deeper").mkdir(parents=True)
    (made / "f").write_bytes(os.urandom(3_000_000))
    (made / os.fsdecode(b"d/\xff\n")).touch()
    (made / "d/x").write_bytes(b"#!/bin/sh\n")
    (made / "d/x").chmod(0o4755)
    return made


def test_in_and_out_again(guest: Guest, tree: Path, tmp_path: Path) -> None:
    data = b"".join(Pack(CopyLimits()).chunks(tree))
    assert guest.into(data, ".", "it") == (0, "")
    inside = guest.room / "it/d/x"
    assert (inside.stat().st_uid, inside.stat().st_mode & 0o7777) == (USER.uid, 0o755)
    code, out, err = guest.out("it")
    assert (code, err) == (0, "")
    with Unpack(tmp_path / "back", b"", replaces=False) as target:
        reader = Reader(target, CopyLimits())
        reader.write(out)
        reader.close()
        target.commit()
    for path in tree.rglob("*"):
        other = tmp_path / "back" / path.relative_to(tree)
        assert path.is_dir() if other.is_dir() else path.read_bytes() == other.read_bytes()


def test_names_and_places(guest: Guest) -> None:
    assert guest.into(file(b"", b"1") + END, "new") == (0, "")
    assert guest.into(file(b"", b"2") + END, guest.room, "named") == (0, "")
    assert guest.into(file(b"", b"3") + END, guest.room / "other", "not-this")[0] == 0
    assert guest.everything() == {"new": b"1", "named": b"2", "other": b"3"}
    for path in ("no/where", "new/beneath", "..", "/"):
        assert guest.into(file(b"", b"x") + END, path)[0] == 1
    assert guest.everything() == {"new": b"1", "named": b"2", "other": b"3"}


def test_what_is_in_the_way(guest: Guest) -> None:
    (guest.room / "file").write_bytes(b"old")
    (guest.room / "dir/it").mkdir(parents=True)
    os.chown(guest.room / "dir", USER.uid, USER.gid)
    (guest.room / "link").symlink_to("/etc/passwd")
    for words in (("file",), ("dir", "it"), ("link",), ("dir",)):
        code, why = guest.into(file(b"", b"new") + END, *words)
        assert (code, "File exists" in why) == (1, True)
    assert guest.into(file(b"", b"new") + END, "dir", "it", replaces=True)[0] == 1
    assert guest.into(ROOT + LEAVE + END, "file", replaces=True)[0] == 1
    assert guest.into(file(b"", b"new") + END, "file", replaces=True)[0] == 0
    assert guest.into(file(b"", b"new") + END, "link", replaces=True)[0] == 0
    assert guest.everything() == {"file": b"new", "dir": None, "dir/it": None, "link": b"new"}
    assert not (guest.room / "link").is_symlink()


def raw(kind: int, name: bytes = b"", *, mode: int = 0, size: int = 0, zero: int = 0) -> bytes:
    return struct.pack(">BBHIQ", kind, zero, mode, len(name), size) + name


BAD: dict[str, bytes] = {
    "nothing": b"",
    "an end": END,
    "no end": file(b"", b"x"),
    "half": record_head(CopyKind.FILE, size=9) + b"half",
    "a torn tree": ROOT + file(b"f", b"x") + record_head(CopyKind.DIRECTORY, b"d") + file(b"g", b"y"),
    "a root with a name": file(b"name", b"x") + END,
    "behind its end": file(b"", b"x") + END + b"x",
    "another root": file(b"", b"x") * 2,
    "above": ROOT + raw(CopyKind.FILE, b"..") + LEAVE + END,
    "elsewhere": ROOT + raw(CopyKind.FILE, b"a/b") + LEAVE + END,
    "a NUL": ROOT + raw(CopyKind.FILE, b"a\0b") + LEAVE + END,
    "without a name": ROOT + raw(CopyKind.FILE) + LEAVE + END,
    "a long name": ROOT + raw(CopyKind.FILE, b"x" * 256) + LEAVE + END,
    "an endless name": ROOT + struct.pack(">BBHIQ", CopyKind.FILE, 0, 0, 2**32 - 1, 0),
    "setuid": raw(CopyKind.FILE, mode=0o4755) + END,
    "left out": ROOT + raw(CopyKind.LEFT_OUT, b"x", mode=10) + LEAVE + END,
    "no kind": raw(9) + END,
    "reserved": raw(CopyKind.FILE, zero=1) + END,
    "endless": raw(CopyKind.FILE, size=2**63) + b"x",
    "a file twice": ROOT + file(b"f", b"x") * 2 + LEAVE + END,
    "a directory twice": ROOT + (record_head(CopyKind.DIRECTORY, b"d") + LEAVE) * 2 + LEAVE + END,
    "too deep": ROOT + record_head(CopyKind.DIRECTORY, b"d") * DEPTH + LEAVE * (DEPTH + 1) + END,
    "a size for a directory": raw(CopyKind.DIRECTORY, size=1) + LEAVE + END,
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_what_is_not_a_whole_copy_leaves_nothing(guest: Guest, data: bytes) -> None:
    code, why = guest.into(data, "it")
    assert code == 1
    assert why.endswith("\n")
    assert guest.everything() == {}


def test_a_host_that_hangs_up_leaves_nothing(guest: Guest) -> None:
    reading, writing = os.pipe()
    request = CopyRequest(workload("it", directory=str(guest.room)), way=CopyDirection.IN, replaces=False)
    command = guest.channel.start_exec(request, stdout=Collect(), stderr=Collect(), stdin=reading)
    os.write(writing, ROOT + file(b"f", b"x"))
    until(guest.loop, lambda: any(path.name == "f" for path in guest.room.rglob("*")))
    command.signal(1)
    until(guest.loop, lambda: command.status is not None)
    assert command.status is not None
    assert command.status.exit_code == 1
    assert guest.everything() == {}
    os.close(reading)
    os.close(writing)


def test_links_and_special_files_stay(guest: Guest) -> None:
    inside = guest.room / "d"
    inside.mkdir()
    (inside / "link").symlink_to("/etc/passwd")
    os.mkfifo(inside / "fifo")
    code, out, _ = guest.out("d")
    assert code == 0
    assert record_head(CopyKind.LEFT_OUT, b"link", mode=10) in out
    assert record_head(CopyKind.LEFT_OUT, b"fifo", mode=1) in out
    assert Path("/etc/passwd").read_bytes() not in out
    (guest.room / "to-d").symlink_to("d")
    assert guest.out("to-d")[0] == 0, "whoever names a link means what it leads to"


def a_fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


ODD: dict[str, Callable[[Path], Path]] = {
    "not there": lambda room: room / "nosuch",
    "a device": lambda _room: Path("/dev/zero"),
    "a file of the kernel": lambda _room: Path("/proc/self/status"),
    "a fifo": lambda room: a_fifo(room / "fifo"),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD.keys())
def test_what_cannot_be_copied_out(guest: Guest, make: Callable[[Path], Path]) -> None:
    code, out, why = guest.out(make(guest.room))
    assert (code, out.endswith(END)) == (1, False)
    assert why.endswith("\n")


@pytest.mark.root("only root has files that the plan's user can't read")
def test_a_copy_is_made_by_the_plans_user(guest: Guest, tmp_path: Path) -> None:
    secret = guest.room / "secret"
    secret.write_bytes(b"root's")
    secret.chmod(0o600)
    code, out, why = guest.out(secret)
    assert (code, out) == (1, b"")
    assert "Permission denied" in why
    tmp_path.chmod(0o755)
    assert guest.into(file(b"", b"x") + END, tmp_path / "it")[0] == 1


def test_a_reader_that_leaves_ends_it(guest: Guest) -> None:
    (guest.room / "large").write_bytes(bytes(10_000_000))
    seen = Collect()
    request = CopyRequest(workload("large", directory=str(guest.room)), way=CopyDirection.OUT, replaces=False)
    command = guest.channel.start_exec(request, stdout=seen, stderr=Collect())
    until(guest.loop, lambda: len(seen) > 0)
    command.signal(9)
    until(guest.loop, lambda: command.status is not None)
    assert isinstance(command.status, ExitStatus)
