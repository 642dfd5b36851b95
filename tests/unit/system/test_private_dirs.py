"""The state directories: what is refused by owner, mode and kind, that writes are atomic, and who holds a lock."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mvmnix.errors import ReasonCode, RefusedError, UnreadableError, UsageError
from mvmnix.system.private_dirs import Directory
from mvmnix.system.roots import Roots
from mvmnix.system.trusted_path import judge_container, repair

FOREIGN = 54321
AS_ROOT = os.geteuid() == 0


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    tmp_path.chmod(0o700)
    yield tmp_path
    tmp_path.chmod(0o700)


@pytest.fixture
def directory(home: Path) -> Iterator[Directory]:
    with Directory.create(str(home / "state")) as opened:
        yield opened


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Let `path` belong to another user than the one who asks; only root can do that on disk. Returns the owner."""
    if AS_ROOT:
        os.chown(path, FOREIGN, FOREIGN)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: FOREIGN)
    return path.stat().st_uid


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(RefusedError) as caught:
        action()
    assert caught.value.codes == (ReasonCode.STATE_PERMISSIONS,)
    assert caught.value.reasons[0].hint
    return str(caught.value)


def test_what_is_missing_is_made_private(home: Path) -> None:
    old = os.umask(0)
    try:
        with Directory.create(str(home / "a" / "b" / "c")) as made:
            assert made.path == str(home / "a" / "b" / "c")
    finally:
        os.umask(old)
    for path in (home / "a", home / "a" / "b", home / "a" / "b" / "c"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_open_makes_nothing(home: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Directory.open(str(home / "missing"))
    assert not (home / "missing").exists()


def test_dots_are_resolved_in_the_text(home: Path) -> None:
    with Directory.create(f"{home}/x/../y/./z"):
        assert (home / "y" / "z").is_dir()
        assert not (home / "x").exists()


def test_the_top_can_be_used_too() -> None:
    with Directory.open("/") as top:
        assert "proc" in top.names()
        top.sync()


@pytest.mark.parametrize("path", ["", "relative", "./x", "~", "/a\0b"])
def test_paths_that_are_not_absolute_are_refused(path: str) -> None:
    with pytest.raises(UsageError):
        Directory.open(path)


@pytest.mark.parametrize("position", ["parent", "last", "grandparent"])
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_writable_by_others(home: Path, position: str, mode: int) -> None:
    last = home / "a" / "b" / "c"
    last.mkdir(parents=True, mode=0o700)
    culprit = {"last": last, "parent": last.parent, "grandparent": last.parent.parent}[position]
    culprit.chmod(mode)
    if position != "last" and mode == 0o1777 and AS_ROOT:
        Directory.open(str(last)).close()  # sticky and root's, as /tmp is
        return
    message = refusal(lambda: Directory.open(str(last)))
    assert f"chmod go-w {culprit}" in message


def test_nothing_is_made_in_a_parent_that_others_can_write(home: Path) -> None:
    (home / "loose").mkdir()
    (home / "loose").chmod(0o777)
    refusal(lambda: Directory.create(str(home / "loose" / "new")))
    assert not (home / "loose" / "new").exists()


@pytest.mark.parametrize("position", ["parent", "last"])
def test_owned_by_another(home: Path, position: str, monkeypatch: pytest.MonkeyPatch) -> None:
    last = home / "a" / "b"
    last.mkdir(parents=True)
    culprit = last if position == "last" else last.parent
    owner = give_away(culprit, monkeypatch)
    message = refusal(lambda: Directory.open(str(last)))
    assert f"it belongs to uid {owner}" in message
    assert repair(str(culprit) if AS_ROOT else "/", recursive=False).rstrip("/") in message


def test_a_sticky_directory_of_another_is_no_better(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "tmp" / "mine").mkdir(parents=True)
    (home / "tmp").chmod(0o1777)
    give_away(home / "tmp", monkeypatch)
    refusal(lambda: Directory.open(str(home / "tmp" / "mine")))


@pytest.fixture
def passable() -> Iterator[Path]:
    """A directory that everybody may pass; pytest's own stay closed, for root's mvm in other tests counts on it."""
    with tempfile.TemporaryDirectory(prefix="mvmnix-passable-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def test_an_ordinary_user_below_directories_of_root(passable: Path) -> None:
    """What root owns is fine above a user's own directory; what another user owns is not."""
    (passable / "mine").mkdir()
    (passable / "other").mkdir()
    if not AS_ROOT:  # then every test here is this test
        Directory.create(f"{passable}/mine/deep").close()
        return
    os.chown(passable / "mine", FOREIGN, FOREIGN)
    os.chown(passable / "other", FOREIGN + 1, FOREIGN + 1)
    code = (
        "import os, sys\n"
        f"os.setgroups([]); os.setgid({FOREIGN}); os.setuid({FOREIGN})\n"
        "from mvmnix.errors import RefusedError\n"
        "from mvmnix.system.private_dirs import Directory\n"
        "home = sys.argv[1]\n"
        "Directory.create(home + '/mine/deep').write_atomic('x', b'1')\n"
        "closed = Directory.open(home + '/mine/deep')\n"
        "looks = lambda: Directory.open(home + '/other'), lambda: closed.child('d'), lambda: closed.open_file('f')\n"
        "for look in looks:\n"
        "    try:\n        look()\n"
        "    except RefusedError as error:\n        print(*error.codes)\n"
    )
    (passable / "mine/deep/d").mkdir(parents=True)
    (passable / "mine/deep/f").touch()
    for path, owner, mode in (("", FOREIGN, 0o700), ("/d", FOREIGN + 1, 0o700), ("/f", FOREIGN + 1, 0o600)):
        os.chown(f"{passable}/mine/deep{path}", owner, owner)
        Path(f"{passable}/mine/deep{path}").chmod(mode)
    argv = [sys.executable, "-c", "import mvmnix.system.private_dirs, mvmnix.errors\n" + code, str(passable)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "state-permissions\n" * 3, "")


@pytest.mark.parametrize("position", ["parent", "last"])
@pytest.mark.parametrize("make", ["open", "create"])
def test_symbolic_links_are_not_followed(home: Path, position: str, make: str) -> None:
    (home / "real" / "inner").mkdir(parents=True)
    (home / "link").symlink_to("real")
    path = home / "link" / "inner" if position == "parent" else home / "link"
    function = Directory.open if make == "open" else Directory.create
    assert "symbolic link" in refusal(lambda: function(str(path)))


def test_a_file_is_no_directory(directory: Directory, home: Path) -> None:
    directory.write_atomic("file", b"")
    refusal(lambda: directory.child("file"))
    refusal(lambda: Directory.create(str(home / "state" / "file" / "deeper")))


def test_children(directory: Directory) -> None:
    with pytest.raises(FileNotFoundError):
        directory.existing("images")
    with directory.child("images") as images:
        images.write_atomic("x", b"1")
    with directory.existing("images") as images:
        assert images.names() == ("x",)
    Path(directory.where("images")).chmod(0o770)
    refusal(lambda: directory.child("images"))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a\0"])
@pytest.mark.parametrize("method", ["child", "existing", "open_file", "open_writable", "exists", "remove", "lock"])
def test_names_are_single_components(directory: Directory, method: str, name: str) -> None:
    with pytest.raises(ValueError, match="not the name of one file"):
        getattr(directory, method)(name)


def test_reading_is_bounded(directory: Directory) -> None:
    directory.write_atomic("x", b"12345")
    assert directory.read("x", 5) == b"12345"
    with pytest.raises(UnreadableError, match="larger than 4 bytes"):
        directory.read("x", 4)


@pytest.mark.parametrize("kind", ["link", "fifo", "socket-like", "directory", "loose", "foreign"])
def test_only_trusted_regular_files_are_opened(
    directory: Directory, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(directory.where("x"))
    match kind:
        case "link":
            path.symlink_to("/etc/hostname")
        case "fifo":
            os.mkfifo(path)
        case "socket-like":
            path.symlink_to("/dev/zero")
        case "directory":
            path.mkdir()
        case "foreign":
            path.write_bytes(b"")
            give_away(path, monkeypatch)
        case _:
            path.write_bytes(b"")
            path.chmod(0o664)
    refusal(lambda: directory.read("x", 10))
    refusal(lambda: directory.open_writable("x"))


def test_atomic_write_replaces_and_leaves_nothing_else(directory: Directory) -> None:
    directory.write_atomic("x", b"old")
    held = directory.open_file("x")
    directory.write_atomic("x", b"new", mode=0o640)
    assert (os.read(held, 9), directory.read("x", 9)) == (b"old", b"new")
    os.close(held)
    assert [entry.name for entry in Path(directory.path).iterdir()] == ["x"]
    assert stat.S_IMODE(os.stat("x", dir_fd=directory.fd).st_mode) == 0o640


def test_atomic_write_replaces_a_planted_link_not_its_target(directory: Directory, home: Path) -> None:
    (home / "victim").write_bytes(b"precious")
    Path(directory.where("x")).symlink_to(home / "victim")
    directory.write_atomic("x", b"new")
    assert (home / "victim").read_bytes() == b"precious"
    assert directory.read("x", 9) == b"new"


def test_a_failed_write_keeps_the_old(directory: Directory) -> None:
    Path(directory.where("x")).mkdir()
    with pytest.raises(OSError, match="directory"):
        directory.write_atomic("x", b"new")
    assert [entry.name for entry in Path(directory.path).iterdir()] == ["x"]


def test_unfinished_writes_are_not_listed(directory: Directory) -> None:
    os.close(directory.create_file(".x.0123.tmp"))
    directory.write_atomic("b", b"")
    directory.write_atomic("a", b"")
    assert directory.names() == ("a", "b")


def test_removing(directory: Directory, home: Path) -> None:
    (home / "kept").mkdir()
    (home / "kept" / "file").write_bytes(b"")
    with directory.child("tree") as tree:
        Path(tree.where("link")).symlink_to(home / "kept")
        tree.write_atomic("x", b"")
    directory.remove_tree("tree")
    directory.remove("tree")
    assert directory.names() == ()
    assert (home / "kept" / "file").exists()


def test_the_directory_stays_the_same_when_its_name_moves(directory: Directory, home: Path) -> None:
    (home / "state").rename(home / "moved")
    (home / "state").mkdir()
    directory.write_atomic("x", b"")
    assert (home / "moved" / "x").exists()


# -- roots


def test_roots_follow_the_environment(home: Path) -> None:
    with Roots.from_environment({"HOME": str(home), "XDG_CACHE_HOME": str(home / "c")}) as roots:
        assert roots.state.path == f"{home}/.local/state/mvmnix"
        assert roots.cache.path == f"{home}/c/mvmnix"
        assert not (home / ".config").exists()
        assert roots.config.path == f"{home}/.config/mvmnix"
        assert roots.data.path == f"{home}/.local/share/mvmnix"
        assert roots.state is roots.state
    assert (home / ".config" / "mvmnix").is_dir()


@pytest.mark.parametrize(
    "environment",
    [{}, {"HOME": ""}, {"HOME": "x"}, {"HOME": "/root", "XDG_STATE_HOME": "state"}, {"XDG_STATE_HOME": "/x"}],
)
def test_roots_need_absolute_paths(environment: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="not an absolute path"):
        Roots.from_environment(environment)


def test_roots_refuse_a_loose_home(home: Path) -> None:
    (home / ".local").mkdir()
    (home / ".local").chmod(0o777)
    roots = Roots.from_environment({"HOME": str(home)})
    refusal(lambda: roots.state)


# -- locks

HOLD = """
import sys
from mvmnix.system.private_dirs import Directory
with Directory.open(sys.argv[1]).lock("l"):
    print("held", flush=True)
    sys.stdin.read()
"""


ASK = """
import sys
from mvmnix.system.private_dirs import Directory
print(Directory.open(sys.argv[1]).holder("l"))
"""


@pytest.fixture
def stranger(directory: Directory) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock `l` until its standard input closes."""
    argv = [sys.executable, "-c", HOLD, directory.path]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_kernel_names_the_holder(directory: Directory, stranger: subprocess.Popen[str]) -> None:
    assert directory.holder("l") == stranger.pid
    assert directory.try_lock("l") is None
    assert directory.holder("l") == stranger.pid
    stranger.kill()
    stranger.wait()
    assert directory.holder("l") is None
    with directory.lock("l"):
        assert directory.holder("l") == os.getpid()


def test_a_lock_is_waited_for(directory: Directory, stranger: subprocess.Popen[str]) -> None:
    got: list[int | None] = []

    def wait() -> None:
        with directory.lock("l"):
            got.append(directory.holder("l"))

    thread = threading.Thread(target=wait)
    thread.start()
    while directory.holder("l") != stranger.pid:  # also asked while a thread of ours waits
        pass
    assert got == []
    assert stranger.stdin is not None
    stranger.stdin.close()
    thread.join()
    assert got == [os.getpid()]
    assert directory.holder("l") is None


def test_asking_does_not_release(directory: Directory) -> None:
    with directory.lock("l"), Directory.open(directory.path) as again:
        for _ in range(3):
            assert again.holder("l") == os.getpid()
            assert again.try_lock("l") is None
        argv = [sys.executable, "-c", ASK, directory.path]
        assert subprocess.check_output(argv, text=True) == f"{os.getpid()}\n"


def test_threads_exclude_each_other(directory: Directory) -> None:
    inside = 0
    most = 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(50):
            with directory.lock("l"):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_waiting_for_oneself_is_an_error_not_a_hang(directory: Directory) -> None:
    with directory.lock("l"), pytest.raises(RuntimeError, match="already"):
        directory.lock("l")


def test_a_forked_child_holds_nothing(directory: Directory) -> None:
    lock = directory.lock("l")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        lock.release()  # must not disturb the parent's
        os.write(writer, f"{directory.holder('l')} {directory.try_lock('l')}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 99).decode() == f"{os.getpid()} None"
    os.close(reader)
    os.close(writer)
    lock.release()
    lock.release()
    assert directory.holder("l") is None


def test_a_lock_file_replaced_meanwhile_guards_nothing(directory: Directory, stranger: subprocess.Popen[str]) -> None:
    locks: list[int | None] = []

    def wait() -> None:
        with directory.lock("l"):
            locks.append(directory.holder("l"))

    thread = threading.Thread(target=wait)
    thread.start()
    directory.remove("l")
    stranger.kill()
    thread.join()
    assert locks == [os.getpid()]
    assert os.stat("l", dir_fd=directory.fd).st_nlink == 1


def test_nobody_holds_what_is_missing(directory: Directory) -> None:
    assert directory.holder("l") is None
    assert not directory.exists("l")


def test_locks_are_record_locks(directory: Directory, stranger: subprocess.Popen[str]) -> None:
    fd = os.open("l", os.O_RDWR, dir_fd=directory.fd)
    with pytest.raises(BlockingIOError):
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)


SHARE = HOLD.replace(".lock(", ".share(")


def test_a_shared_lock_is_had_by_many_and_alone_by_nobody(directory: Directory) -> None:
    argv = [sys.executable, "-c", SHARE, directory.path]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert directory.try_lock("l") is None
        with directory.share("l"):
            assert directory.holder("l") == os.getpid()
        assert directory.try_lock("l") is None
        other.kill()
    with (
        directory.try_lock("l") or pytest.fail("somebody holds it still"),
        pytest.raises(RuntimeError, match="already"),
    ):
        directory.share("l")


# -- temporary files


def test_a_sweep_leaves_what_is_being_written(directory: Directory) -> None:
    name, fd = directory.create_temporary("x")
    assert directory.sweep() == {}
    assert directory.exists(name)
    os.close(fd)
    assert directory.sweep(remove=False) == {name: 0}
    assert directory.exists(name)
    assert directory.sweep() == {name: 0}
    assert not directory.exists(name)


def test_a_sweep_leaves_what_is_no_temporary_file(directory: Directory) -> None:
    directory.write_atomic("x", b"")
    directory.write_atomic("y.tmp", b"")
    directory.write_atomic(".y", b"")
    assert directory.sweep() == {}
    assert set(directory.names()) == {"x", "y.tmp", ".y"}


def test_a_writer_that_a_sweep_came_before_takes_another_name(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between making a file and holding it there is a moment, in which a sweep may take it for left over."""
    swept: list[str] = []
    create = Directory.create_file

    def and_sweep(self: Directory, name: str, mode: int = 0o600) -> int:
        fd = create(self, name, mode)
        if not swept:
            os.unlink(name, dir_fd=self.fd)
            swept.append(name)
        return fd

    monkeypatch.setattr(Directory, "create_file", and_sweep)
    directory.write_atomic("x", b"new")
    assert len(swept) == 1
    assert directory.read("x", 9) == b"new"


# -- the walk to them


def test_a_walk_leaves_nothing_open(home: Path) -> None:
    """Neither one that succeeds, nor one that is refused on its way, or finds nothing."""
    (home / "loose").mkdir()
    (home / "loose").chmod(0o777)
    before = sorted(Path("/proc/self/fd").iterdir())
    Directory.create(str(home / "a" / "b" / "c")).close()
    judge_container(str(home / "a" / "b"))
    judge_container(str(home / "a"))
    for path in ("loose/deeper", "loose"):
        refusal(lambda path=path: judge_container(str(home / path)))  # type: ignore[misc]
        refusal(lambda path=path: Directory.create(str(home / path)))  # type: ignore[misc]
    for path in ("none/deeper", "a/none"):
        with pytest.raises(FileNotFoundError):
            Directory.open(str(home / path))
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_what_is_made_is_durable_before_anything_is_in_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, str]] = []
    real_fsync, real_mkdir = os.fsync, os.mkdir

    def fsync(fd: int) -> None:
        calls.append(("fsync", str(Path(f"/proc/self/fd/{fd}").readlink())))
        real_fsync(fd)

    def mkdir(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        calls.append(("mkdir", path))
        real_mkdir(path, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "mkdir", mkdir)
    Directory.create(str(home / "a" / "b")).close()
    assert calls[:4] == [("mkdir", "a"), ("fsync", str(home)), ("mkdir", "b"), ("fsync", str(home / "a"))]


@pytest.mark.parametrize("durable", [True, False])
def test_names_are_made_durable_unless_that_is_of_no_matter(
    home: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    """The bytes of a file are in any case: a crash leaves none that is cut off."""
    synced: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(stat.S_ISDIR(os.fstat(fd).st_mode)))
    with Directory.create(str(home / "a")) as directory:
        synced.clear()
        directory.write_atomic("name", b"bytes", durable=durable)
        directory.remove("name", durable=durable)
    assert synced == ([False, True, True] if durable else [False])


def test_what_is_trusted_and_closed_to_us_is_no_directory_of_ours(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's own, for an ordinary user: it is not refused, and not opened."""
    (home / "closed").mkdir(mode=0o700)
    real = os.open

    def closed(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == "closed":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", closed)
    for path in ("closed", "closed/inner"):
        with pytest.raises(PermissionError):
            Directory.open(str(home / path))
