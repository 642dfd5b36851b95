"""A guest that writes without an end into its shares: what is counted, what no file takes, what ends it."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from errno import EFBIG, ENOSYS
from pathlib import Path
from struct import pack

import pytest

from mvmnix.launch.shares.setup import Shares, WriteQuota
from mvmnix.plan.share import Access, Share
from mvmnix.system import procfs
from mvmnix.system.loop import Loop
from tests.hostile.fuse_guest import ROOT, FuseGuest, Op, guest, serving
from tests.patience import POLL, until
from tests.support.processes import status

pytestmark = pytest.mark.integration
OWNER = os.geteuid()
MIB, BLOCK = 1 << 20, 4096
CHUNK = bytes(1 << 17)
#: What a server writes besides: 8 bytes for each answer, to wake the guest.
SPARE = 64 * 1024


def directory(base: Path, name: str = "share") -> Path:
    made = base.resolve() / name
    made.mkdir(parents=True)
    return made


@contextmanager
def limited(base: Path, *names: str, written: int | None = MIB) -> Iterator[tuple[Shares, Path]]:
    """Writable shares with these names, for a guest that may write so much."""
    made = [directory(base / "host", name) for name in names or ("share",)]
    wanted = [Share(str(path), f"/{path.name}", Access.READ_WRITE) for path in made]
    with serving(base / "state", *wanted, written=written) as shares:
        yield shares, made[0]


def fill(it: FuseGuest, name: bytes, size: int) -> int:
    """Write a file until it has this size or the server refuses; how much was written."""
    node, done = it.create(name).node, 0
    handle = it.open(node)
    with suppress(OSError):
        while done < size:
            done += it.write(node, handle, CHUNK[: size - done], done)
    return done


def error(attempt: Callable[[], object]) -> int | None:
    try:
        attempt()
    except OSError as failed:
        return failed.errno
    return 0


def counts_pages(where: Path) -> bool:
    """Whether the file system counts pages that become dirty, as those in memory don't."""
    before = procfs.written(os.getpid()) or 0
    with (where / "probe").open("wb") as file:
        for number in range(64):
            os.pwrite(file.fileno(), b"x", BLOCK * number)
    (where / "probe").unlink()
    return (procfs.written(os.getpid()) or 0) - before >= 64 * BLOCK


def test_no_file_becomes_larger_and_its_server_lives_on(tmp_path: Path) -> None:
    """The kernel sends SIGXFSZ with the first byte too many, which ends whoever doesn't ignore it."""
    with limited(tmp_path) as (shares, where), guest(shares) as it:
        node = it.create(b"large").node
        handle = it.open(node)
        assert it.write(node, handle, CHUNK) == len(CHUNK)
        for offset in (MIB - 1000, MIB + 1, 2**40):
            assert error(lambda offset=offset: it.write(node, handle, CHUNK, offset)) == EFBIG  # type: ignore[misc]
        assert it.truncate(node, MIB + 1) == it.truncate(node, 2**40) == EFBIG
        assert fill(it, b"another", 2 * MIB) == MIB
        assert it.lookup(b"large").node == node, "it still answers"
        assert len(shares.servers) == 1
        assert {path.stat().st_size for path in where.iterdir()} == {MIB}


def test_room_is_taken_by_writing_alone(tmp_path: Path) -> None:
    """fallocate(2) takes blocks that nothing counts; the guest's kernel makes EOPNOTSUPP of this answer."""
    body = pack("=QQQII", 0, 0, MIB, 0, 0)[8:]
    with limited(tmp_path / "with") as (shares, where), guest(shares) as it:
        node = it.create(b"file").node
        handle = pack("=Q", it.open(node))
        assert it.ask(Op.FALLOCATE, node, handle + body)[0] == ENOSYS
        assert it.write(node, it.open(node), b"still served") == 12
        assert (where / "file").stat().st_blocks * 512 <= 2 * BLOCK
    with limited(tmp_path / "without", written=None) as (shares, where), guest(shares) as it:
        node = it.create(b"file").node
        assert it.ask(Op.FALLOCATE, node, pack("=Q", it.open(node)) + body)[0] == 0
        assert (where / "file").stat().st_size == MIB, "only a limit takes that away"


def test_what_is_written_is_counted(tmp_path: Path) -> None:
    with limited(tmp_path, written=64 * MIB) as (shares, where), guest(shares) as it:
        assert written(shares) <= SPARE, "nothing was written yet"
        assert fill(it, b"one", MIB) == fill(it, b"other", MIB) == MIB
        assert 2 * MIB <= written(shares) <= 2 * MIB + SPARE
        one, other = (it.lookup(name).node for name in (b"one", b"other"))
        body = pack("=QQQQQQQ", it.open(one), 0, other, it.open(other), 0, MIB, 0)
        assert it.ask(Op.COPY_FILE_RANGE, one, body)[0] == 0
        assert written(shares) >= 3 * MIB, "a copy that the server makes is written too"
        assert sum(path.stat().st_blocks * 512 for path in where.iterdir()) <= written(shares)


def test_what_takes_more_room_than_its_bytes_is_counted_by_pages(tmp_path: Path) -> None:
    """Bytes in blocks of their own, directories, links. Memory's file systems count none: docs/reference/shares.md."""
    with limited(tmp_path, written=64 * MIB) as (shares, where), guest(shares) as it:
        node = it.create(b"sparse").node
        handle = it.open(node)
        for number in range(256):
            assert it.write(node, handle, b"x", BLOCK * number) == 1
        sparse = written(shares)
        for number in range(64):
            it.mkdir(b"dir%d" % number)
            it.entry(Op.SYMLINK, ROOT, b"link%d\0" % number + b"x" * 4000 + b"\0")
        names = written(shares) - sparse
        if counts_pages(where):
            assert sparse >= 256 * BLOCK
            assert names >= 128 * BLOCK
        assert sparse >= 256, "and its bytes at least"


def written(shares: Shares) -> int:
    found = shares.written()
    assert found is not None
    return found


def running_away(it: FuseGuest) -> None:
    """Files of half a MiB, until the server has gone."""
    with suppress(OSError, ValueError):
        for number in range(100_000):
            fill(it, b"%d" % number, MIB // 2)


def test_a_guest_that_runs_away_is_ended_and_its_neighbour_is_not(tmp_path: Path) -> None:
    """Each of its files is smaller than the limit; it writes from a thread, as a machine would beside us."""
    reached, loop = list[str](), Loop()
    with ExitStack() as stack:
        stack.callback(loop.close)
        shares, where = stack.enter_context(limited(tmp_path / "runaway", written=8 * MIB))
        calm, theirs = stack.enter_context(limited(tmp_path / "neighbour", written=8 * MIB))
        neighbour, runaway = stack.enter_context(guest(calm)), stack.enter_context(guest(shares))

        def end() -> None:
            reached.append("runaway")
            shares.kill_soon()

        watches = [
            WriteQuota(loop, shares.written, 8 * MIB, end),
            WriteQuota(loop, calm.written, 8 * MIB, lambda: reached.append("neighbour")),
        ]
        thread = threading.Thread(target=running_away, args=(runaway,))
        thread.start()
        while thread.is_alive():
            loop.turn(POLL)
        thread.join()
        assert fill(neighbour, b"mine", MIB) == MIB
        for watch in watches:
            watch.cancel()
        until(lambda: not shares.servers)
        assert reached == ["runaway"]
        assert sum(path.stat().st_size for path in where.iterdir()) >= 8 * MIB - SPARE
        assert [path.name for path in theirs.iterdir()] == ["mine"]


def test_all_shares_of_a_machine_count_together(tmp_path: Path) -> None:
    with limited(tmp_path, "one", "other", written=64 * MIB) as (shares, _), guest(shares) as it:
        assert fill(it, b"file", MIB) == MIB
        assert MIB <= written(shares) < 2 * MIB
        with guest(shares, 1) as other:
            assert fill(other, b"file", 2 * MIB) == 2 * MIB
        assert 3 * MIB <= written(shares) < 4 * MIB


def test_seen_from_outside(tmp_path: Path) -> None:
    with limited(tmp_path) as (shares, _):
        assert int(status(shares.servers[0])["SigIgn"], 16) >> (signal.SIGXFSZ - 1) & 1
        bounds = Path(f"/proc/{shares.servers[0]}/limits").read_text()
        assert next(line for line in bounds.splitlines() if line.startswith("Max file size")).split()[3] == str(MIB)
