"""A guest that says to its share's server what no kernel would: nothing beside the share is read, changed or left."""

import os
import select
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from errno import EACCES, EBADF, EINVAL, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOSYS, ENOTDIR, EOPNOTSUPP, EPERM, EROFS
from pathlib import Path
from struct import pack

import pytest

from mvmnix.errors import MvmnixError
from mvmnix.launch.shares import image
from mvmnix.launch.shares.setup import Shares
from mvmnix.plan.share import Access, Share, ShareKind
from mvmnix.system.loop import Loop
from tests.hostile.fuse_guest import ROOT, FuseGuest, Op, guest, serving
from tests.patience import EVENT_PATIENCE, QUIET
from tests.support.processes import list_open, status

pytestmark = pytest.mark.integration
#: Whose the shared directory is.
OWNER = os.geteuid()


@dataclass(frozen=True, slots=True)
class Scene:
    """A directory that is shared, one beside it, and a guest of the first."""

    share: Path
    beside: Path
    shares: Shares
    guest: FuseGuest

    @property
    def pid(self) -> int:
        return self.shares.servers[0]


def laid_out(base: Path) -> tuple[Path, Path]:
    share, beside = base.resolve() / "share", base.resolve() / "beside"
    for where in (share, beside):
        where.mkdir(parents=True)
        (where / "file").write_text(f"in {where.name}")
    return share, beside


def snapshot(directory: Path) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for path in sorted((directory, *directory.rglob("*"))):
        status = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found.append((path, status.st_mode, status.st_uid, status.st_nlink, status.st_mtime_ns, data))
    return found


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    share, beside = laid_out(tmp_path / "host")
    before = snapshot(beside)
    with serving(tmp_path / "state", Share(str(share), "/data", Access.READ_WRITE)) as shares, guest(shares) as it:
        yield Scene(share, beside, shares, it)
    assert snapshot(beside) == before, "nothing beside the share is another than it was"


def failure(attempt: Callable[[], object]) -> int:
    """The error by which it ends; 0 where it succeeds."""
    try:
        attempt()
    except OSError as error:
        assert error.errno
        return error.errno
    return 0


def test_what_a_guest_makes_belongs_to_the_directorys_owner(scene: Scene) -> None:
    assert scene.guest.read(scene.guest.lookup(b"file").node) == b"in share"
    made = [scene.guest.create(b"new"), scene.guest.mkdir(b"dir"), scene.guest.lookup(b"file")]
    assert {entry.uid for entry in made} == {1000}, "to the guest it is its own user"
    for name in ("new", "dir"):
        status = (scene.share / name).stat()
        assert (status.st_uid, status.st_gid) == (OWNER, os.getegid())


NAMES = [b"..", b"../beside", b"../beside/file", b"../../etc/passwd", b"/etc/passwd", b"dir/../../beside/file"]


@pytest.mark.parametrize("name", NAMES, ids=[name.decode() for name in NAMES])
def test_no_name_leads_out(scene: Scene, name: bytes) -> None:
    inodes = {path.stat().st_ino for path in (scene.beside, scene.beside / "file", scene.share.parent)}
    it = scene.guest
    it.mkdir(b"dir")
    with suppress(OSError):
        found = it.lookup(name)
        assert found.inode not in inodes
        for below in (b"beside", b"etc", b"home", b"root"):
            assert failure(lambda below=below, node=found.node: it.lookup(below, node)) == ENOENT  # type: ignore[misc]
        assert failure(
            lambda: it.read(it.lookup(b"environ", it.lookup(b"1", it.lookup(b"proc", found.node).node).node).node)
        )
    for attempt in (
        lambda: it.create(name + b"/new"),
        lambda: it.mkdir(name + b"/new"),
        lambda: it.entry(Op.SYMLINK, ROOT, name + b"/new\0x\0"),
        lambda: it.entry(Op.LINK, ROOT, pack("=Q", it.lookup(b"file").node) + name + b"/new\0"),
    ):
        assert failure(attempt) in {EPERM, EACCES, EROFS, EINVAL, ENOENT, ENOTDIR}
    for op in (Op.UNLINK, Op.RMDIR):
        assert it.ask(op, ROOT, name + b"\0")[0]
    assert it.ask(Op.RENAME, ROOT, pack("=Q", ROOT) + b"file\0" + name + b"/file\0")[0]
    assert it.ask(Op.RENAME, ROOT, pack("=Q", ROOT) + name + b"\0mine\0")[0]
    assert sorted(path.name for path in scene.share.iterdir()) == ["dir", "file"]


def test_a_symbolic_link_is_the_guests_to_follow(scene: Scene) -> None:
    it = scene.guest
    for number, target in enumerate(
        (b"../beside", b"../beside/file", b"/etc", b"/etc/passwd", b"link1", b"/proc/self/root")
    ):
        link = it.entry(Op.SYMLINK, ROOT, b"link%d\0" % number + target + b"\0")
        assert stat.S_ISLNK(link.mode)
        assert failure(lambda node=link.node: it.read(node)) in {EBADF, ELOOP, EACCES, EPERM, ENOENT, EINVAL}  # type: ignore[misc]
        assert failure(lambda node=link.node: it.lookup(b"file", node)) in {ENOTDIR, ENOENT}  # type: ignore[misc]
        assert failure(lambda node=link.node: it.create(b"new", node=node)) in {ENOTDIR, ENOENT}  # type: ignore[misc]
        assert failure(lambda number=number: it.lookup(b"link%d/file" % number))  # type: ignore[misc]


def test_a_link_that_takes_a_directorys_place_leads_nowhere(scene: Scene) -> None:
    """As a race would have it: the guest knows the directory, the host has put a link in its place."""
    known = scene.guest.mkdir(b"dir")
    scene.guest.create(b"mine", node=known.node)
    (scene.share / "dir").rename(scene.share / "moved")
    (scene.share / "dir").symlink_to(scene.beside)
    assert failure(lambda: scene.guest.lookup(b"file", scene.guest.lookup(b"dir").node)) in {ENOTDIR, ENOENT}
    assert scene.guest.lookup(b"mine", known.node).node, "what it knows is where it went"


def test_from_a_directory_that_leaves_the_share_no_way_leads_up(scene: Scene) -> None:
    """The host moves a directory out while the guest holds it, as any process may hold what it has opened."""
    known = scene.guest.mkdir(b"dir")
    above = scene.share.parent / "elsewhere"
    above.mkdir()
    (above / "file").write_text("never shared")
    (scene.share / "dir").rename(above / "dir")
    outside = {path.stat().st_ino for path in (above, scene.share.parent, scene.beside)}
    with suppress(OSError):
        assert scene.guest.lookup(b"..", known.node).inode not in outside
    for name in (b"../file", b"../dir", b"../../beside/file"):
        assert failure(lambda name=name: scene.guest.lookup(name, known.node))  # type: ignore[misc]
        assert failure(lambda name=name: scene.guest.create(name + b"-new", node=known.node))  # type: ignore[misc]
    assert sorted(path.name for path in above.iterdir()) == ["dir", "file"]


def test_renames_in_every_direction_stay_inside(scene: Scene) -> None:
    it = scene.guest
    one, other = it.mkdir(b"one"), it.mkdir(b"other")
    it.create(b"file", node=one.node)
    for _ in range(20):
        assert it.ask(Op.RENAME, one.node, pack("=Q", other.node) + b"file\0file\0")[0] == 0
        assert it.ask(Op.RENAME2, other.node, pack("=QII", one.node, 0, 0) + b"file\0file\0")[0] == 0
    assert it.ask(Op.RENAME, ROOT, pack("=Q", one.node) + b"one\0in-itself\0")[0] == EINVAL
    assert sorted(path.name for path in scene.share.iterdir()) == ["file", "one", "other"]


def test_hard_links_join_files_of_the_share_alone(scene: Scene) -> None:
    it = scene.guest
    assert it.ask(Op.LINK, ROOT, pack("=Q", it.lookup(b"file").node) + b"again\0")[0] == 0
    assert (scene.share / "again").stat().st_ino == (scene.share / "file").stat().st_ino
    assert it.ask(Op.LINK, ROOT, pack("=Q", it.mkdir(b"dir").node) + b"dir-again\0")[0] == EPERM
    for nobody in (77, 2**63, 2**64 - 1):
        assert it.ask(Op.LINK, ROOT, pack("=Q", nobody) + b"nobody\0")[0]


KINDS = {"device": 0o020666, "disk": 0o060666, "fifo": 0o010666, "socket": 0o140666}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_only_files_can_be_made(scene: Scene, kind: int) -> None:
    assert scene.guest.ask(Op.MKNOD, ROOT, pack("=IIII", kind, os.makedev(1, 3), 0, 0) + b"node\0")[0] == EPERM
    assert not (scene.share / "node").exists()
    assert scene.guest.ask(Op.MKNOD, ROOT, pack("=IIII", 0o100644, 0, 0, 0) + b"plain\0")[0] == 0


@pytest.mark.parametrize("bits", [0o4755, 0o2755, 0o6755, 0o4000])
def test_no_set_id_bit_is_planted(scene: Scene, bits: int) -> None:
    it = scene.guest
    node = it.lookup(b"file").node
    assert it.chmod(node, 0o100000 | bits) == EPERM
    assert failure(lambda: it.create(b"new", bits)) == EPERM
    assert it.ask(Op.MKNOD, ROOT, pack("=IIII", 0o100000 | bits, 0, 0, 0) + b"node\0")[0] == EPERM
    with suppress(OSError):
        it.mkdir(b"dir", bits)
    assert it.chmod(node, 0o100700) == 0
    assert not [path for path in scene.share.rglob("*") if path.stat().st_mode & 0o6000]


def test_no_attribute_and_no_owner_is_changed(scene: Scene) -> None:
    node = scene.guest.lookup(b"file").node
    for name in (b"security.capability", b"trusted.x", b"user.x", b"system.posix_acl_access"):
        body = pack("=II", 1, 0) + name + b"\0x"
        assert scene.guest.ask(Op.SETXATTR, node, body)[0] in {ENOSYS, EOPNOTSUPP, EPERM}
    assert os.listxattr(scene.share / "file") == []
    body = pack("=IIQQQQQQIIIIIIII", 1 << 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)  # FATTR_UID: 0
    scene.guest.ask(Op.SETATTR, node, body)
    assert (scene.share / "file").stat().st_uid == OWNER


ODD = {
    "every byte": bytes(set(range(1, 256)) - {ord("/")}),
    "no UTF-8": b"\xff\xfe\x80name\xc0",
    "escapes": b"\x1b]0;title\x07\x1b[2J\r\n",
    "bidi": "\u202egnp.exe".encode(),
    "255 bytes": b"x" * 255,
    "spaces": b" - -rf ",
    "dots": b"...",
}


@pytest.mark.parametrize("name", ODD.values(), ids=ODD.keys())
def test_a_name_is_its_bytes(scene: Scene, name: bytes) -> None:
    entry = scene.guest.create(name)
    assert scene.guest.lookup(name).inode == entry.inode
    assert name in os.listdir(os.fsencode(scene.share))  # noqa: PTH208 - in bytes
    assert failure(lambda: scene.guest.create(name)) == 17
    assert scene.guest.ask(Op.UNLINK, ROOT, name + b"\0")[0] == 0


def test_names_that_are_none(scene: Scene) -> None:
    assert failure(lambda: scene.guest.create(b"x" * 256)) == ENAMETOOLONG
    assert failure(lambda: scene.guest.create(b"")) in {ENOENT, EINVAL, EISDIR, EPERM}
    assert failure(lambda: scene.guest.create(b".")) in {17, EINVAL, EISDIR, EPERM}
    assert [path.name for path in scene.share.iterdir()] == ["file"]


def test_many_files(scene: Scene) -> None:
    """3,000 here; `python -m bench shares` takes a million."""
    known = {scene.guest.create(b"%d" % number).node for number in range(3000)}
    assert len(known) == 3000
    assert sum(1 for _ in scene.share.iterdir()) == 3001
    assert scene.guest.read(scene.guest.lookup(b"file").node) == b"in share"


RUBBISH = {
    "an address of nobody": ((0x10, 40, 1, 1), (0x20, 4096, 2, 0)),
    "far away": ((2**63, 40, 1, 1), (2**64 - 4096, 8192, 2, 0)),
    "a chain without an end": ((0x4000_0000 + 0x10_0000, 40, 1, 0),),
    "no room for an answer": ((0x4000_0000 + 0x10_0000, 40, 0, 0),),
    "longer than memory": ((0x4000_0000 + 0x10_0000, 2**32 - 1, 1, 1), (0x4000_0000, 2**32 - 1, 2, 0)),
}


@pytest.mark.parametrize("chain", RUBBISH.values(), ids=RUBBISH.keys())
def test_rubbish_ends_the_server_at_most(scene: Scene, chain: tuple[tuple[int, int, int, int], ...]) -> None:
    scene.guest.chain(*chain)
    time.sleep(QUIET)
    assert [path.name for path in scene.share.iterdir()] == ["file"]


def test_its_sockets_name_leads_to_one_place_whoever_reads_it(scene: Scene) -> None:
    """Another start, which looks for daemons in what it shares, took it for a file of its own."""
    lines = Path("/proc/net/unix").read_text(errors="replace").splitlines()
    names = [line.split(maxsplit=7)[-1] for line in lines if line.endswith(".socket")]
    assert [name for name in names if name.startswith(f"/proc/{os.getpid()}/fd/")]
    assert not [name for name in names if name.startswith("/proc/self/")]


def test_seen_from_outside(scene: Scene) -> None:
    process = Path(f"/proc/{scene.pid}")
    seen = status(scene.pid)
    assert set(seen["Uid"].split()) == {str(OWNER)}
    assert {seen[f"Cap{which}"] for which in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert (seen["NoNewPrivs"], seen["Seccomp"]) == ("1", "2")
    for kind in ("mnt", "pid", "ipc", "uts", "net", "user", "cgroup"):
        assert (process / "ns" / kind).readlink() != Path(f"/proc/self/ns/{kind}").readlink()
    top = {path.name for path in (process / "root").iterdir()}
    assert top <= {"bin", "dev", "lib", "lib64", "proc", "sbin", "share", "usr"}
    assert {path.name for path in (process / "root/share").iterdir()} == {"file"}
    assert not [name for name in list_open(scene.pid) if str(scene.share.parent) in name], (
        "no directory of the host but its own"
    )


def test_a_server_that_ends_is_noticed(tmp_path: Path) -> None:
    share, _ = laid_out(tmp_path / "host")
    loop, ended = Loop(), list[str]()
    with ExitStack() as stack:
        stack.callback(loop.close)
        shares = stack.enter_context(serving(tmp_path / "state", Share(str(share), "/data", Access.READ_WRITE)))
        shares.watch(loop, lambda: ended.append("ended"))
        os.kill(shares.servers[0], signal.SIGKILL)
        while not ended:
            loop.turn(EVENT_PATIENCE)
        assert shares.servers == ()
        shares.close(loop)


def test_a_killed_supervisor_takes_its_servers_along(tmp_path: Path) -> None:
    share, _ = laid_out(tmp_path / "host")
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        with serving(tmp_path / "state", Share(str(share), "/data", Access.READ_WRITE)) as shares:
            os.write(theirs, str(shares.servers[0]).encode())
            signal.pause()
    pid = int(os.read(ours, 32))
    pidfd = os.pidfd_open(pid)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert wait_for(pidfd)
    for fd in (ours, theirs, pidfd):
        os.close(fd)


def wait_for(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(EVENT_PATIENCE * 1000))


# Read only


def read_only(tmp_path: Path, *, follow: bool) -> tuple[Path, Share]:
    share, _ = laid_out(tmp_path / "host")
    return share, Share(str(share), "/data", follow=follow)


def test_what_is_served_for_reading_is_not_written(tmp_path: Path) -> None:
    share, wanted = read_only(tmp_path, follow=True)
    before = snapshot(share)
    with serving(tmp_path / "state", wanted) as shares, guest(shares) as it:
        assert shares.mounts[0].read_only
        node = it.lookup(b"file").node
        assert it.read(node) == b"in share"
        for attempt in (lambda: it.create(b"new"), lambda: it.mkdir(b"new")):
            assert failure(attempt) in {EROFS, EACCES, EPERM}
        assert it.chmod(node, 0o100777) in {EROFS, EACCES, EPERM}
        assert it.ask(Op.UNLINK, ROOT, b"file\0")[0] in {EROFS, EACCES, EPERM}
        assert it.ask(Op.OPEN, node, pack("=II", os.O_RDWR, 0))[0] in {EROFS, EACCES, EPERM}
        (share / "later").write_text("later")
        assert it.lookup(b"later").node
        (share / "later").unlink()
    assert [it[1:4] for it in snapshot(share)] == [it[1:4] for it in before]


def contents(shares: Shares, where: Path) -> Path:
    """What is in the image, taken apart by fsck.erofs."""
    with os.fdopen(os.dup(shares.attachments[0].descriptor), "rb") as file:
        file.seek(0)
        (where / "image").write_bytes(file.read())
    subprocess.run(["fsck.erofs", f"--extract={where / 'out'}", where / "image"], check=True, capture_output=True)
    return where / "out"


def test_a_small_directory_becomes_an_image(tmp_path: Path) -> None:
    share, wanted = read_only(tmp_path, follow=False)
    (share / "link").symlink_to("/etc/passwd")
    os.mkfifo(share / "fifo")
    (share / os.fsdecode(b"\xff\x1b[2J")).write_text("odd")
    with serving(tmp_path / "state", wanted) as shares:
        assert (shares.servers, shares.memory, shares.mounts[0].kind) == ((), None, ShareKind.EROFS)
        (share / "file").write_text("changed later")
        out = contents(shares, tmp_path)
        with pytest.raises(OSError, match=r"permitted|denied|descriptor"):
            os.write(shares.attachments[0].descriptor, b"x")
    assert (out / "file").read_text() == "in share"
    assert (out / "link").readlink() == Path("/etc/passwd"), "not followed"
    assert (out / os.fsdecode(b"\xff\x1b[2J")).read_text() == "odd"


def test_a_large_one_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    share, wanted = read_only(tmp_path, follow=False)
    monkeypatch.setattr(image, "MOST_ENTRIES", 3)
    for number in range(4):
        (share / f"{number}").touch()
    with serving(tmp_path / "state", wanted) as shares:
        assert shares.mounts[0].kind is ShareKind.VIRTIOFS
    monkeypatch.setattr(image, "MOST_ENTRIES", 10_000)
    monkeypatch.setattr(image, "LARGEST", 100)
    (share / "large").write_bytes(bytes(101))
    with serving(tmp_path / "state2", wanted) as shares:
        assert shares.mounts[0].kind is ShareKind.VIRTIOFS


def test_a_deep_one_is_served(tmp_path: Path) -> None:
    """A guest that may write leaves such a tree, and the next start is not to fail for it."""
    share, wanted = read_only(tmp_path, follow=False)
    fd = os.open(share, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    try:
        with serving(tmp_path / "state", wanted) as shares:
            assert shares.mounts[0].kind is ShareKind.VIRTIOFS
    finally:
        subprocess.run(["rm", "-rf", share], check=True)


def test_the_deepest_image_can_be_made(tmp_path: Path) -> None:
    share, wanted = read_only(tmp_path, follow=False)
    (share / Path(*["d"] * (image.DEEPEST - 1)) / "last").parent.mkdir(parents=True)
    with serving(tmp_path / "state", wanted) as shares:
        assert shares.mounts[0].kind is ShareKind.EROFS
        assert (contents(shares, tmp_path) / Path(*["d"] * (image.DEEPEST - 1))).is_dir()


def test_what_cant_be_read_makes_no_image(tmp_path: Path) -> None:
    share, wanted = read_only(tmp_path, follow=False)
    (share / "closed").write_text("nobody's")
    (share / "closed").chmod(0)
    with pytest.raises(MvmnixError, match="no image can be made"), serving(tmp_path / "state", wanted):
        raise AssertionError
