"""File operations by the real agent: as the plan's user, typed and whole, without following links."""

import errno
import os
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mvmnix.launch.agent.client import Channel
from mvmnix.launch.agent.file_entries import MOST_ENTRIES, FileEntry, FileEntryReader, FileKind
from mvmnix.launch.agent.frames import Config, FrameKind, Ready
from mvmnix.launch.agent.operations import FileOperation
from mvmnix.launch.agent.requests import FilesRequest
from mvmnix.launch.agent.stream_frames import Exit, Files
from mvmnix.launch.agent.transport import encode
from mvmnix.machines.exit_status import End, Step
from mvmnix.model import Verb
from mvmnix.system.loop import Loop
from tests.integration.agent_house import IDLE, SOURCES, USER, config, hangs_up, raw, shell, talk, until, workload
from tests.unit.launch.channel_house import Collect

pytestmark = pytest.mark.integration

LIST, STAT, REMOVE, RENAME, MKDIR = FileOperation
OK = (0, b"", "")


@dataclass
class Guest:
    """The agent, and a directory that its workload's user may write, in which paths begin."""

    channel: Channel
    loop: Loop
    room: Path

    def __call__(
        self, operation: FileOperation, *words: str | Path, recursive: bool = False, parents: bool = False
    ) -> tuple[int, bytes, str]:
        out, err = Collect(), Collect()
        work = workload(*map(str, words), directory=str(self.room))
        request = FilesRequest(work, operation=operation, recursive=recursive, parents=parents)
        status = self.channel.exec(request, stdout=out, stderr=err, idle=IDLE)
        assert status.end is End.EXITED
        return status.exit_code, out.data, os.fsdecode(err.data)

    def listing(self, path: str | Path) -> dict[str, FileEntry]:
        code, out, err = self(LIST, path)
        assert (code, err) == (0, "")
        entries = parsed(out).listing()
        return {it.name: it for it in entries}

    def status(self, path: str | Path) -> FileEntry:
        code, out, err = self(STAT, path)
        assert (code, err) == (0, "")
        return parsed(out).status()

    def directory(self, name: str) -> Path:
        """Make a directory of the user's."""
        path = self.room / name
        path.mkdir(parents=True)
        for made in (path, *path.relative_to(self.room).parents):
            os.chown(self.room / made, USER.uid, USER.gid)
        return path


def parsed(data: bytes) -> FileEntryReader:
    reader = FileEntryReader()
    reader.write(data)
    return reader


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """A directory to which other users have a way."""
    path = Path("/tmp") / f"mvm-files-{os.urandom(8).hex()}"
    path.mkdir(0o777)
    os.chown(path, USER.uid, USER.gid)
    del tmp_path
    yield path
    subprocess.run(["chmod", "-R", "u+rwx", path], check=True)
    subprocess.run(["rm", "-rf", "--one-file-system", path], check=True)


@pytest.fixture
def guest(agent: Path, room: Path) -> Iterator[Guest]:
    with talk(agent) as (channel, loop):
        yield Guest(channel, loop, room)


def test_a_listing_is_whole_and_in_order(guest: Guest) -> None:
    directory = guest.directory("d")
    names = [b"b", b"a", b"\xff", b"\n", b"x" * 255, "é".encode(), b"...", b" "]
    for name in names:
        (directory / os.fsdecode(name)).write_bytes(name)
    found = guest.listing("d")
    assert [os.fsencode(name) for name in found] == sorted(names)
    assert {it.size for it in found.values()} == {1, 2, 3, 255}
    assert guest.listing(directory / "../d") == found
    assert guest.listing("d/") == found


def test_an_empty_directory(guest: Guest) -> None:
    assert guest.listing(".") == {}


def test_every_kind_is_described_and_none_opened(guest: Guest) -> None:
    directory = guest.directory("d")
    (directory / "file").write_bytes(b"123")
    (directory / "file").chmod(0o4751)
    (directory / "directory").mkdir(0o700)
    (directory / "link").symlink_to("/etc/passwd")
    (directory / "dangling").symlink_to("/proc/nonexistent")
    os.mkfifo(directory / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "socket"))
        found = guest.listing("d")
    assert {name: it.kind for name, it in found.items()} == {
        "dangling": FileKind.LINK,
        "directory": FileKind.DIRECTORY,
        "fifo": FileKind.FIFO,
        "file": FileKind.FILE,
        "link": FileKind.LINK,
        "socket": FileKind.SOCKET,
    }
    for name, it in found.items():
        real = (directory / name).lstat()
        seen = (it.mode, it.size, it.mtime_ns, it.uid, it.gid)
        assert seen == (stat.S_IMODE(real.st_mode), real.st_size, real.st_mtime_ns, real.st_uid, real.st_gid)
        status = guest.status(f"d/{name}")
        assert (status.name, status.kind, status.mode, status.size) == ("", it.kind, it.mode, it.size)
    assert guest.listing("/dev")["null"].kind is FileKind.CHARACTER_DEVICE
    assert guest.status("/dev/null").kind is FileKind.CHARACTER_DEVICE


def test_a_link_is_followed_by_a_listing_alone(guest: Guest) -> None:
    (guest.directory("d") / "f").touch()
    (guest.room / "link").symlink_to("d")
    assert list(guest.listing("link")) == ["f"]
    assert guest.status("link").kind is FileKind.LINK
    assert guest(RENAME, "link", "moved") == OK
    assert guest(REMOVE, "moved/", recursive=True)[0] == errno.ENOTDIR
    assert guest(REMOVE, "moved", recursive=True) == OK
    assert list(guest.listing("d")) == ["f"]


@pytest.mark.parametrize("seconds", [-(2**40), -1, 0, 2**33, 2**33 + 2**31, 2**40])
def test_a_time_is_the_nearest_in_64_bits(guest: Guest, seconds: int) -> None:
    (guest.room / "f").touch()
    os.utime(guest.room / "f", (0, seconds))
    real = (guest.room / "f").stat().st_mtime_ns
    found = guest.status("f").mtime_ns
    assert found == real if abs(real) < 9_223_372_036 * 10**9 else found == (2**63 - 1 if real > 0 else -(2**63))


def filled(directory: Path, count: int) -> None:
    for number in range(count):
        (directory / f"{number:05}").touch()


def test_a_directory_with_too_many_entries_is_refused_whole(guest: Guest) -> None:
    filled(guest.directory("d"), 70_000)
    code, out, why = guest(LIST, "d")
    assert (code, out) == (errno.EOVERFLOW, b"")
    assert why.startswith("the directory has more than 65,536 entries")
    assert guest(REMOVE, "d", recursive=True) == OK


def test_a_directory_with_as_many_as_may_be(guest: Guest) -> None:
    filled(guest.directory("d"), MOST_ENTRIES)
    assert len(guest.listing("d")) == MOST_ENTRIES
    (guest.room / "d/x").touch()
    assert guest(LIST, "d")[:2] == (errno.EOVERFLOW, b"")


def full(guest: Guest) -> None:
    (guest.directory("full/d") / "f").touch()


def closed(guest: Guest) -> None:
    (guest.directory("closed") / "f").touch()
    (guest.room / "closed").chmod(0)


def unreadable(guest: Guest) -> None:
    """Its names can be read, and nothing behind them."""
    (guest.directory("closed") / "f").touch()
    (guest.room / "closed").chmod(0o400)


def file(guest: Guest) -> None:
    (guest.room / "file").touch()


def fifo(guest: Guest) -> None:
    os.mkfifo(guest.room / "fifo")


def loop(guest: Guest) -> None:
    (guest.room / "loop").symlink_to("loop")


def nothing(guest: Guest) -> None:
    assert not any(guest.room.iterdir())


LONG, LONGER = "x" * 256, "d/" * 2048 + "d"
#: What is there, what is asked for with which flag, and which errno says why not.
FAILURES: list[tuple[Callable[[Guest], None], FileOperation, tuple[str, ...], str, int]] = [
    (nothing, LIST, ("nosuch",), "", errno.ENOENT),
    (nothing, LIST, (LONG,), "", errno.ENAMETOOLONG),
    (nothing, LIST, (LONGER,), "", errno.ENAMETOOLONG),
    (file, LIST, ("file",), "", errno.ENOTDIR),
    (fifo, LIST, ("fifo",), "", errno.ENOTDIR),
    (loop, LIST, ("loop",), "", errno.ELOOP),
    (closed, LIST, ("closed",), "", errno.EACCES),
    (unreadable, LIST, ("closed",), "", errno.EACCES),
    (nothing, STAT, ("nosuch",), "", errno.ENOENT),
    (file, STAT, ("file/f",), "", errno.ENOTDIR),
    (closed, STAT, ("closed/f",), "", errno.EACCES),
    (nothing, STAT, (LONG,), "", errno.ENAMETOOLONG),
    (nothing, REMOVE, ("nosuch",), "", errno.ENOENT),
    (nothing, REMOVE, ("nosuch",), "recursive", errno.ENOENT),
    (full, REMOVE, ("full",), "", errno.ENOTEMPTY),
    (full, REMOVE, ("full/d/.",), "recursive", errno.EINVAL),
    (full, REMOVE, ("full/d/..",), "recursive", errno.EINVAL),
    (full, REMOVE, ("full/d/..//",), "recursive", errno.EINVAL),
    (nothing, REMOVE, (".",), "recursive", errno.EINVAL),
    (nothing, REMOVE, ("..",), "", errno.EINVAL),
    (file, REMOVE, ("file/",), "recursive", errno.ENOTDIR),
    (closed, REMOVE, ("closed/f",), "", errno.EACCES),
    (closed, REMOVE, ("closed",), "recursive", errno.EACCES),
    (nothing, REMOVE, (LONGER,), "recursive", errno.ENAMETOOLONG),
    (nothing, RENAME, ("nosuch", "a"), "", errno.ENOENT),
    (file, RENAME, ("file", "nosuch/a"), "", errno.ENOENT),
    (file, RENAME, ("file", "file/a"), "", errno.ENOTDIR),
    (full, RENAME, ("full", "full/d/e"), "", errno.EINVAL),
    (nothing, MKDIR, ("a/b",), "", errno.ENOENT),
    (full, MKDIR, ("full",), "", errno.EEXIST),
    (file, MKDIR, ("file",), "", errno.EEXIST),
    (file, MKDIR, ("file",), "parents", errno.EEXIST),
    (file, MKDIR, ("file/a/b",), "parents", errno.ENOTDIR),
    (closed, MKDIR, ("closed/a",), "parents", errno.EACCES),
    (loop, MKDIR, ("loop",), "parents", errno.ELOOP),
    (nothing, MKDIR, (LONG,), "parents", errno.ENAMETOOLONG),
    (nothing, MKDIR, (LONGER,), "parents", errno.ENAMETOOLONG),
    (nothing, MKDIR, ("/proc/nonexistent/a",), "parents", errno.ENOENT),
]


@pytest.mark.parametrize(("made", "operation", "words", "flag", "number"), FAILURES)
def test_an_errno_is_the_exit_status(
    guest: Guest,
    made: Callable[[Guest], None],
    operation: FileOperation,
    words: tuple[str, ...],
    flag: str,
    number: int,
) -> None:
    made(guest)
    before = sorted(path.name for path in guest.room.iterdir())
    code, out, why = guest(operation, *words, recursive=flag == "recursive", parents=flag == "parents")
    assert (errno.errorcode.get(code), out) == (errno.errorcode[number], b"")
    assert why.rpartition(": ")[2].endswith("\n"), "one line of the words of its C library"
    assert sorted(path.name for path in guest.room.iterdir()) == before


def test_directories_are_made(guest: Guest) -> None:
    assert guest(MKDIR, "a") == OK
    assert guest(MKDIR, guest.room / "a//b/c/", parents=True) == OK
    assert guest(MKDIR, "a/../a/b/./c", parents=True) == OK
    assert guest(MKDIR, "a/\udcff\n", parents=True) == OK
    (guest.room / "link").symlink_to("a")
    assert guest(MKDIR, "link", parents=True) == OK
    assert guest(MKDIR, "link/d", parents=True) == OK
    assert guest(MKDIR, "/", parents=True) == OK
    assert sorted(path.name for path in (guest.room / "a").iterdir()) == ["b", "d", "\udcff\n"]
    made = (guest.room / "a/b/c").stat()
    assert (made.st_uid, made.st_gid, stat.S_IMODE(made.st_mode)) == (USER.uid, USER.gid, 0o755)


def test_what_a_rename_replaces(guest: Guest) -> None:
    for name in ("f", "g"):
        (guest.room / name).write_text(name)
    for name in ("empty", "full/d", "moved"):
        guest.directory(name)
    (guest.room / "link").symlink_to("empty")
    assert guest(RENAME, "f", "empty")[0] == errno.EISDIR
    assert guest(RENAME, "empty", "f")[0] == errno.ENOTDIR
    assert guest(RENAME, "moved", "full")[0] == errno.ENOTEMPTY
    assert guest(RENAME, "moved", "empty") == OK
    assert guest(RENAME, "f", guest.room / "g") == OK
    assert (guest.room / "g").read_text() == "f"
    assert guest(RENAME, "g", "link") == OK
    assert (guest.room / "link").is_file()
    code, _, why = guest(RENAME, "link", "nosuch/a")
    assert (code, why) == (errno.ENOENT, "link to nosuch/a: No such file or directory\n")


def test_what_a_removal_takes(guest: Guest) -> None:
    (guest.room / "f").touch()
    fifo(guest)
    guest.directory("empty")
    for name in ("f", "fifo", "empty/"):
        assert guest(REMOVE, name) == OK
    assert guest.listing(".") == {}


def test_a_tree_is_removed_and_nothing_that_its_links_lead_to(guest: Guest) -> None:
    elsewhere = guest.directory("elsewhere/d")
    (elsewhere / "f").touch()
    tree = guest.directory("tree/a/b")
    filled(tree, 3000)
    os.mkfifo(tree / "fifo")
    (tree / "\n").mkdir()
    for target in (elsewhere, elsewhere / "f", elsewhere.parent, Path("/"), Path("..")):
        (tree / f"link-{len(list(tree.iterdir()))}").symlink_to(target)
    (tree / "linked").hardlink_to(elsewhere / "f")
    os.chown(tree / "\n", USER.uid, USER.gid)
    (tree / "\n/deeper").symlink_to(elsewhere.parent)
    assert guest(REMOVE, "tree", recursive=True) == OK
    assert [str(path.relative_to(guest.room)) for path in sorted(guest.room.rglob("*"))] == [
        "elsewhere",
        "elsewhere/d",
        "elsewhere/d/f",
    ]


def nested(guest: Guest, depth: int) -> None:
    """So many directories in one another."""
    script = f"i=0; while [ $i -lt {depth} ]; do mkdir d && cd -P d || exit; i=$((i + 1)); done; touch f"
    request = shell(f"cd {guest.room} && {script}")
    assert guest.channel.exec(request, stdout=Collect(), stderr=Collect(), idle=IDLE).exit_code == 0


@pytest.mark.parametrize(("depth", "code"), [(512, 0), (513, errno.EOVERFLOW)])
def test_a_deep_tree(guest: Guest, depth: int, code: int) -> None:
    nested(guest, depth)
    found, _, why = guest(REMOVE, "d", recursive=True)
    assert found == code
    assert ("directories lie too deep in one another" in why) == bool(code)


def test_a_removal_ends_at_what_it_can_not_remove(guest: Guest) -> None:
    (guest.directory("tree/closed") / "f").touch()
    (guest.room / "tree/closed").chmod(0o500)
    assert guest(REMOVE, "tree", recursive=True)[::2] == (errno.EACCES, "f: Permission denied\n")
    assert (guest.room / "tree/closed/f").exists()


EXCHANGE = 2  # RENAME_EXCHANGE
type Race = Callable[..., tuple[int, bytes]]


@pytest.fixture(scope="module")
def race(tmp_path_factory: pytest.TempPathFactory) -> Race:
    """An operation, and a rename just before the agent's code opens or describes an entry: exit status and output."""
    program = tmp_path_factory.mktemp("races") / "race"
    sources = [Path(__file__).parent / "file_races.c"]
    sources += [SOURCES / name for name in ("file_entries.c", "file_removal.c", "records.c", "bytes.c")]
    argv = ["musl-gcc", "-std=c11", "-D_GNU_SOURCE", "-O1", "-static", "-idirafter", "/usr/include"]
    argv += ["-idirafter", "/usr/include/x86_64-linux-gnu", f"-I{SOURCES}", "-Wl,--wrap=openat,--wrap=fstatat"]
    subprocess.run([*argv, "-o", program, *sources], check=True)

    def run(operation: str, path: Path, entry: str, source: Path, target: Path, flags: int = 0) -> tuple[int, bytes]:
        words: list[str | Path] = [program, operation, path, entry, source, target, str(flags)]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        return done.returncode, done.stdout

    return run


def test_a_directory_that_becomes_a_link_meanwhile_is_not_entered(race: Race, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/kept").touch()
    (tmp_path / "tree/d/e").mkdir(parents=True)
    (tmp_path / "link").symlink_to("../elsewhere")
    code, _ = race("remove", tmp_path / "tree", "d", tmp_path / "tree/d", tmp_path / "link", EXCHANGE)
    assert code == errno.ENOTDIR
    assert (tmp_path / "elsewhere/kept").exists()


@pytest.mark.parametrize(("moved", "code"), [("tree/d", 0), ("tree", errno.ENOENT)])
def test_a_directory_that_is_gone_before_it_is_entered(race: Race, tmp_path: Path, moved: str, code: int) -> None:
    """Beneath the path that is as good as removed; the path itself is not there."""
    (tmp_path / "tree/d/e").mkdir(parents=True)
    entry = "d" if moved == "tree/d" else str(tmp_path / "tree")
    assert race("remove", tmp_path / "tree", entry, tmp_path / moved, tmp_path / "moved")[0] == code
    assert not (tmp_path / "tree").exists()


def test_an_entry_that_is_gone_before_it_is_described(race: Race, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name in "abc":
        (tmp_path / "d" / name).touch()
    code, out = race("list", tmp_path / "d", "b", tmp_path / "d/b", tmp_path / "b")
    assert (code, [it.name for it in parsed(out).listing()]) == (0, ["a", "c"])


def test_a_directory_that_is_gone_has_no_listing(guest: Guest) -> None:
    out = Collect()
    request = shell(f"cd {guest.room} && mkdir d && cd d && rmdir ../d && echo $$ && sleep 600")
    command = guest.channel.start_exec(request, stdout=out, stderr=Collect())
    until(guest.loop, lambda: out.data.endswith(b"\n"))
    assert guest(LIST, f"/proc/{int(out.data)}/cwd")[:2] == (errno.ENOENT, b"")
    command.signal(9)
    until(guest.loop, lambda: command.status is not None)


#: In a mount namespace of its own: a file system at the first argument, with a file; then what follows.
MOUNTED = """
import ctypes, os, pathlib, sys
libc = ctypes.CDLL(None)
for arguments in ((None, b"/", None, 0x44000, None), (b"none", os.fsencode(sys.argv[1]), b"tmpfs", 0, b"mode=1777")):
    assert libc.mount(*arguments) == 0, arguments
(pathlib.Path(sys.argv[1]) / "kept").touch()
os.chmod(pathlib.Path(sys.argv[1]) / "kept", 0o666)
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def mounted(agent: Path, room: Path, tmp_path: Path) -> Iterator[Guest]:
    """A guest in which something is mounted at tree/a/mounted."""
    place = room / "tree/a/mounted"
    place.mkdir(parents=True)
    for path in (room / "tree", room / "tree/a", place):
        os.chown(path, USER.uid, USER.gid)
    rights = "" if os.geteuid() == 0 else "--user --map-current-user --keep-caps"
    (tmp_path / "mounted.py").write_text(MOUNTED)
    (tmp_path / "agent").write_text(
        f'#!/bin/sh\nexec unshare --mount {rights} {sys.executable} {tmp_path}/mounted.py {place} {agent} "$@"\n'
    )
    (tmp_path / "agent").chmod(0o755)
    with talk(tmp_path / "agent") as (channel, loop):
        yield Guest(channel, loop, room)


@pytest.mark.parametrize("path", ["tree", "tree/a", "tree/a/mounted", "tree/a/mounted/"])
def test_no_mount_point_is_entered_by_a_removal(mounted: Guest, path: str) -> None:
    assert mounted(REMOVE, path, recursive=True)[0] == errno.EBUSY
    assert list(mounted.listing("tree/a/mounted")) == ["kept"]


def test_nothing_is_renamed_into_another_file_system(mounted: Guest) -> None:
    (mounted.room / "tree/f").touch()
    assert mounted(RENAME, "tree/f", "tree/a/mounted/f")[0] == errno.EXDEV


@pytest.mark.root("only root has files that the plan's user can't touch")
def test_an_operation_is_the_plans_users(guest: Guest) -> None:
    (guest.room / "roots").mkdir(0o755)
    (guest.room / "roots/f").touch(0o600)
    (guest.room / "roots/secret").mkdir(0o700)
    (guest.room / "own").touch()
    assert guest.status("roots/f").uid == 0
    for operation, *words in (
        (LIST, "roots/secret"),
        (STAT, "roots/secret/x"),
        (REMOVE, "roots/f"),
        (RENAME, "own", "roots/own"),
        (RENAME, "roots/f", "f"),
        (MKDIR, "roots/d"),
    ):
        assert guest(operation, *words)[0] == errno.EACCES
    assert guest(REMOVE, "roots", recursive=True)[0] == errno.EACCES
    assert sorted(path.name for path in (guest.room / "roots").iterdir()) == ["f", "secret"]


def test_the_verb_is_needed(agent: Path) -> None:
    request = FilesRequest(workload("/"), operation=LIST)
    with raw(agent, ready=False) as host:
        host.says(Config(config(verbs=frozenset(Verb) - {Verb.COPY})))
        assert host.hears() == Ready()
        host.says(Files(3, request))
        assert host.hears() == Exit(3, End.REFUSED, Step.NONE, 1)


def test_no_operation_runs_as_root(agent: Path) -> None:
    payload = bytearray(encode(Files(3, FilesRequest(workload("/"), operation=LIST))))
    payload[14:18] = bytes(4)
    with raw(agent) as host:
        host.says(bytes(payload))
        assert host.hears() == Exit(3, End.REFUSED, Step.NONE, 2)


def bare(payload: bytes, stream: int = 3) -> bytes:
    return struct.pack(">BBHII", FrameKind.FILES, 0, 0, stream, len(payload)) + payload


STATED = FilesRequest(workload("abc"), operation=STAT).encode()[2:]
RENAMED = FilesRequest(workload("abc", "def"), operation=RENAME).encode()[2:]
BROKEN: dict[str, bytes] = {
    "no operation": bare(b"\0\0" + STATED),
    "an unknown operation": bare(b"\6\0" + STATED),
    "an unknown flag": bare(b"\3\4" + STATED),
    "list, recursive": bare(b"\1\1" + STATED),
    "stat with parents": bare(b"\2\2" + STATED),
    "remove with parents": bare(b"\3\2" + STATED),
    "rename, recursive": bare(b"\4\1" + RENAMED),
    "mkdir, recursive": bare(b"\5\1" + STATED),
    "rename of one path": bare(b"\4\0" + STATED),
    "list of two paths": bare(b"\1\0" + RENAMED),
    "rename to nothing": bare(b"\4\0" + RENAMED.replace(b"\3def", b"\0")),
    "no path": bare(b"\2\0" + STATED.replace(b"\3abc", b"\0")),
    "a NUL": bare(b"\2\0" + STATED.replace(b"abc", b"a\0c")),
    "too short": bare(b"\1\0\0"),
    "an even stream": bare(b"\2\0" + STATED, 4),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_a_host_that_breaks_the_protocol_ends_the_agent(agent: Path, data: bytes) -> None:
    hangs_up(agent, data)
