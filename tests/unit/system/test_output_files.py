"""What callers name to be written: where links lead, what races do, and that nothing in mvmnix writes otherwise."""

import ast
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from mvmnix.errors import UsageError
from mvmnix.system import output_files
from mvmnix.system.output_files import NewDirectory, NewFile, OutputDirectory, OutputFile, open_parent
from tests.descriptors import nothing_left_open
from tests.repository import ROOT
from tests.support.outputs import DATA, Output, write

NOUNS: Final = (OutputFile, NewFile, NewDirectory, OutputDirectory)


def everything(where: Path) -> dict[str, bytes | str | None]:
    """What lies there, by path; of a link, where it leads."""
    return {
        str(path.relative_to(where)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in sorted(where.rglob("*"))
    }


@pytest.fixture(autouse=True)
def _no_descriptor_is_left() -> Iterator[None]:
    """Whatever a test writes, or is refused."""
    with nothing_left_open():
        yield


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "home/dir").mkdir(parents=True)
    (tmp_path / "home/.bashrc").write_bytes(b"mine")
    (tmp_path / "checkout").mkdir()
    return tmp_path / "checkout"


#: What stands in a checkout, and the output that is named.
LINKS: Final[dict[str, tuple[str, str, str]]] = {
    "in its place": ("out", "../home/.bashrc", "out"),
    "dangling": ("out", "../home/new", "out"),
    "to a directory": ("out", "../home/dir", "out"),
    "to a directory that is named with a slash": ("out", "../home/dir", "out/"),
    "by an absolute path": ("out", "/proc/self/cwd/../home/new", "out"),
    "above it": ("sub", "../home", "sub/out"),
    "above it, dangling": ("sub", "../home/new", "sub/out"),
    "far above it": ("sub", "..", "sub/home/dir/out"),
    "to this directory": ("sub", ".", "sub/out"),
    "to a device": ("out", "/dev/null", "out"),
    "to what the caller passed": ("out", "/proc/self/fd/1", "out"),
    "before the way back": ("sub", "../home/dir", "sub/../out"),
}


@pytest.mark.parametrize("row", LINKS)
@pytest.mark.parametrize("noun", NOUNS)
def test_no_link_of_a_checkout_is_followed(
    checkout: Path, noun: Callable[[str], Output], row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, target, named = LINKS[row]
    (checkout / link).symlink_to(target)
    before = everything(checkout.parent)
    monkeypatch.chdir(checkout)
    for path in (named, f"./{named}", f"{checkout}/{named}"):
        with pytest.raises(UsageError) as caught:
            write(noun(path))
        assert caught.value.hint
    assert everything(checkout.parent) == before


def test_what_is_refused_is_named(checkout: Path) -> None:
    (checkout / "sub").symlink_to("../home")
    with pytest.raises(UsageError, match=r"sub/out can't be written: .*/sub is a symbolic link") as caught:
        OutputFile(f"{checkout}/sub/out").write(DATA)
    assert caught.value.hint.endswith(f"realpath {checkout}/sub")


def reached(path: str) -> os.stat_result:
    with open_parent(path) as (parent, _):
        return os.fstat(parent)


def test_a_link_of_root_s_counts_and_for_root_one_in_the_root_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc/self is one, and so is /bin."""
    here, programs = Path(f"/proc/{os.getpid()}").stat(), Path("/bin").stat()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert os.path.samestat(reached("/proc/self/x"), here)
    assert os.path.samestat(reached("/bin/x"), programs)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert os.path.samestat(reached("/bin/x"), programs)
    with pytest.raises(UsageError, match="/proc/self is a symbolic link"):
        reached("/proc/self/x")


def test_links_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "readlink", lambda *_, **__: "/proc/self/x")
    with pytest.raises(OSError, match="Too many levels"):
        reached("/proc/self/x")


def test_a_file_is_new(tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        assert OutputFile(f"{tmp_path}/a").write(DATA) is False
        assert NewFile(f"{tmp_path}/b").write(DATA) is False
        assert OutputFile(f"{tmp_path}/new/er/c", makes_parents=True).write(DATA) is False
    finally:
        os.umask(umask)
    assert everything(tmp_path) == {"a": DATA, "b": DATA, "new": None, "new/er": None, "new/er/c": DATA}
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "b", "new/er/c")}
    assert modes == {0o640}


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o6755])
def test_a_file_that_is_replaced_keeps_its_permissions_and_its_other_names_their_bytes(
    tmp_path: Path, mode: int
) -> None:
    (tmp_path / "out").write_bytes(b"old")
    (tmp_path / "out").chmod(mode)
    os.link(tmp_path / "out", tmp_path / "other")
    assert OutputFile(f"{tmp_path}/out").write(DATA) is True
    assert everything(tmp_path) == {"other": b"old", "out": DATA}
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == mode & 0o777


def test_a_new_file_whose_name_the_disk_does_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another way to give it one is for file systems that have no hard links alone."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(UsageError, match="Input/output error"):
        NewFile(f"{tmp_path}/out").write(DATA)
    assert everything(tmp_path) == {}


def test_a_file_that_holds_it_already_stays(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(DATA)
    before = (tmp_path / "out").stat()
    assert OutputFile(f"{tmp_path}/out").write(DATA) is False
    after = (tmp_path / "out").stat()
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)
    assert OutputFile(f"{tmp_path}/out").write(DATA[:-1]) is True


@pytest.mark.parametrize("held", [b"old", DATA])
def test_nothing_of_a_stranger_s_file_stays(tmp_path: Path, held: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a sticky directory of the caller's: its owner could change what it holds, or read what takes its place."""
    (tmp_path / "out").write_bytes(held)
    (tmp_path / "out").chmod(0o666)
    before, uid = (tmp_path / "out").stat(), os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    umask = os.umask(0o027)
    try:
        assert OutputFile(f"{tmp_path}/out").write(DATA) is True
    finally:
        os.umask(umask)
    after = (tmp_path / "out").stat()
    assert after.st_ino != before.st_ino
    assert stat.S_IMODE(after.st_mode) == 0o640


def test_a_file_that_is_closed_to_its_owner_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a plain user; for root nothing is closed."""
    (tmp_path / "out").write_bytes(b"old")
    (tmp_path / "out").chmod(0o444)
    if os.access(tmp_path / "out", os.W_OK):
        monkeypatch.setattr(output_files, "_compare", closed)
    with pytest.raises(UsageError, match="out can't be written: Permission denied"):
        OutputFile(f"{tmp_path}/out").write(DATA)
    assert everything(tmp_path) == {"out": b"old"}


def closed(*_: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("noun", [NewFile, NewDirectory])
@pytest.mark.parametrize("kind", ["file", "directory", "fifo"])
def test_what_is_there_is_not_replaced_by_what_is_new(tmp_path: Path, noun: Callable[[str], Output], kind: str) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.touch()
    elif kind == "directory":
        out.mkdir()
    else:
        os.mkfifo(out)
    with pytest.raises(UsageError, match="out is there already"):
        write(noun(f"{tmp_path}/out"))
    assert everything(tmp_path).keys() == {"out"}


@pytest.mark.parametrize("path", ["", ".", "..", "/", "sub", "sub/.", "sub/..", "no/where"])
def test_what_is_no_place_for_a_file(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    for noun in (OutputFile, NewFile):
        with pytest.raises(UsageError):
            write(noun(path))
    assert everything(tmp_path) == {"sub": None}


def test_a_fifo_and_a_device_are_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "fifo").read_bytes()))
    reader.start()
    assert OutputFile(f"{tmp_path}/fifo").write(DATA) is False
    reader.join()
    assert read == [DATA]
    assert (tmp_path / "fifo").is_fifo()
    assert OutputFile("/dev/null").write(DATA) is False
    assert Path("/dev/null").is_char_device()


def test_a_fifo_of_a_stranger_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    if (tmp_path / "fifo").stat().st_uid == 0:
        os.chown(tmp_path / "fifo", 1000, 1000)
    with pytest.raises(UsageError, match="Permission denied"):
        OutputFile(f"{tmp_path}/fifo").write(DATA)


def test_what_takes_the_place_of_a_device_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").write_bytes(b"old")
    monkeypatch.setattr(output_files, "_status", lambda *_: Path("/dev/null").stat())
    with pytest.raises(UsageError, match="busy"):
        OutputFile(f"{tmp_path}/out").write(DATA)
    assert everything(tmp_path) == {"out": b"old"}


@pytest.mark.parametrize("place", ["/dev/fd", "/proc/self/fd"])
def test_a_descriptor_that_the_caller_passed_is_written_to(tmp_path: Path, place: str) -> None:
    """As a shell's `--out >(program)` passes one; mvm's own are none."""
    with (tmp_path / "out").open("wb") as file:
        with pytest.raises(UsageError, match="Bad file descriptor"):
            OutputFile(f"{place}/{file.fileno()}").write(DATA)
        os.set_inheritable(file.fileno(), True)
        for _ in range(2):
            assert OutputFile(f"{place}/{file.fileno()}").write(DATA) is False
    assert (tmp_path / "out").read_bytes() == DATA + DATA
    with pytest.raises(UsageError, match="Bad file descriptor"):
        OutputFile(f"{place}/{1 << 19}").write(DATA)


def swap(monkeypatch: pytest.MonkeyPatch, function: str, before: Callable[[], object]) -> None:
    """Have something happen right before a function of the writer is called."""
    original = getattr(output_files, function)

    def swapped(*given: object, **named: object) -> object:
        before()
        monkeypatch.setattr(output_files, function, original)
        return original(*given, **named)

    monkeypatch.setattr(output_files, function, swapped)


@pytest.mark.parametrize("noun", [OutputFile, NewFile])
def test_a_link_that_comes_in_between_is_not_followed(
    checkout: Path, noun: Callable[[str], Output], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = everything(checkout.parent / "home")
    swap(monkeypatch, "give_name", lambda: (checkout / "out").symlink_to("../home/.bashrc"))
    if noun is NewFile:
        with pytest.raises(UsageError, match="is there already"):
            write(noun(f"{checkout}/out"))
        assert everything(checkout) == {"out": "../home/.bashrc"}
    else:
        write(noun(f"{checkout}/out"))
        assert everything(checkout) == {"out": DATA}
    assert everything(checkout.parent / "home") == home


@pytest.mark.parametrize("noun", NOUNS)
def test_a_directory_that_is_exchanged_for_a_link_is_not_left(
    checkout: Path, noun: Callable[[str], Output], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written lies in the directory that was opened, wherever that is by then."""

    def exchange() -> None:
        (checkout / "sub").rename(checkout / "moved")
        (checkout / "sub").symlink_to("../home")

    (checkout / "sub").mkdir()
    home = everything(checkout.parent / "home")
    swap(monkeypatch, "temporary_file" if noun in {OutputFile, NewFile} else "HeldDirectory", exchange)
    write(noun(f"{checkout}/sub" if noun is OutputDirectory else f"{checkout}/sub/out"))
    assert everything(checkout.parent / "home") == home
    assert DATA in everything(checkout / "moved").values()


@pytest.mark.parametrize("noun", [OutputFile, NewFile])
def test_what_fails_leaves_what_was_there(
    tmp_path: Path, noun: Callable[[str], Output], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if noun is OutputFile:
        (tmp_path / "out").write_bytes(b"old")
    before = everything(tmp_path)
    monkeypatch.setattr(output_files, "give_name", fail)
    with pytest.raises(UsageError, match="No space left on device"):
        write(noun(f"{tmp_path}/out"))
    assert everything(tmp_path) == before


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    assert NewFile(f"{tmp_path}/out").write(DATA) is False
    swap(monkeypatch, "give_name", (tmp_path / "taken").touch)
    with pytest.raises(UsageError, match="is there already"):
        NewFile(f"{tmp_path}/taken").write(DATA)
    assert everything(tmp_path) == {"out": DATA, "taken": b""}


#: Modules beside output_files.py that make, open to write or rename something, and why no stranger's link counts there.
WRITERS: Final = {
    # mvm's own directories (private_dirs.py), which only the user and root could have changed
    "audit/git_branch.py": "Directory.rename of a branch's lock, in directories that are held",
    "audit/log.py": "Directory.rename",
    "system/file_lock.py": "lock files, O_NOFOLLOW in a directory that is held",
    "machines/output_log.py": "Directory.rename",
    "machines/network_log.py": "Directory.rename",
    "system/descriptors.py": "what is open already, by its descriptor: memory",
    "system/private_dirs.py": "the other writer: mvm's own directories",
    "sandbox/uid_pool.py": "a lease file, by its descriptor",
    "system/store.py": "Directory.rename, and in a directory that is held",
    "launch/templates/store.py": "Directory.rename, as system/store.py",
    "launch/snapshots/store.py": "Directory.create_file in a directory of a name drawn at random, and Directory.rename",
    "system/trusted_path.py": "the directories of private_dirs.py",
    # temporary directories, whose place temporary.py has judged, under names of tempfile's
    "builder/host_build.py": "a temporary directory",
    "builder/fetch/downloads.py": "a temporary file without a name",
    "builder/fetch/flake_inputs.py": "a temporary directory",
    "builder/fetch/https_sources.py": "a temporary file",
    "builder/fetch/unpack.py": "temporary files and directories",
    "builder/nix/host_nix.py": "a temporary directory",
    "builder/nix/host_store.py": "a temporary directory",
    "cli/main.py": "asks where temporary directories are; /dev/null",
    # by way of output_files.py
    "builder/template.py": "a link in a directory that HeldDirectory holds",
    "launch/copy/unpack.py": "new files beneath a directory that open_parent opened, each by descriptor",
    # the kernel's files and devices, by fixed paths
    "launch/data/setup.py": "a file without a name in a directory that is held",
    "vmm/jail/delegated_scope.py": "control groups",
    "network/host/namespace_setup.py": "/proc/sys and /dev/net/tun, in a namespace",
    "launch/runtime/accelerator.py": "/dev/kvm",
    "system/control_groups.py": "control groups",
    "sandbox/entry.py": "what is mounted on, in a mount namespace",
    # opened to be read: the flags are in a variable
    "api/files.py": "reads",
    "launch/secrets/resolve.py": "reads",
    "launch/shares/opening.py": "reads, O_PATH",
    # others'
    "aio.py": "files of a guest",
    "sdk/blocking.py": "files of a guest",
    "cli/commands/verify_step.py": "appends to the runner's own files, which its environment names",
}
_FLAGS: Final = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_TMPFILE", "O_TRUNC", "O_APPEND"}
_OF_OS: Final = {"link", "makedirs", "mkdir", "mkfifo", "mknod", "rename", "renames", "replace", "symlink", "truncate"}
_OF_PATHS: Final = {"hardlink_to", "mkdir", "rename", "symlink_to", "touch", "write_bytes", "write_text"}
_OF_SHUTIL: Final = {"copy", "copy2", "copyfile", "copytree", "move"}


@cache
def modules() -> dict[str, ast.Module]:
    base = ROOT / "mvmnix"
    return {str(path.relative_to(base)): ast.parse(path.read_text()) for path in base.rglob("*.py")}


def mentioned(node: ast.AST) -> set[str]:
    names = {it.id for it in ast.walk(node) if isinstance(it, ast.Name)}
    return names | {it.attr for it in ast.walk(node) if isinstance(it, ast.Attribute)}


def constants(tree: ast.Module) -> dict[str, set[str]]:
    """What the module's own constants are made of."""
    found: dict[str, set[str]] = {}
    for it in tree.body:
        target = it.targets[0] if isinstance(it, ast.Assign) else it.target if isinstance(it, ast.AnnAssign) else None
        value = it.value if isinstance(it, ast.Assign | ast.AnnAssign) else None
        if isinstance(target, ast.Name) and value is not None:
            found[target.id] = {name for each in mentioned(value) for name in (each, *found.get(each, ()))}
    return found


def opens_to_write(call: ast.Call, known: dict[str, set[str]], module: str) -> bool:
    if module == "os":
        flags = {name for each in call.args[1:2] for name in mentioned(each)} - {"os"}
        flags = {name for each in flags for name in (each, *known.get(each, ()))}
        return bool(flags & _FLAGS) or any(not name.startswith("O_") and name not in known for name in flags - {"os"})
    modes = (each.value for each in (*call.args, *(it.value for it in call.keywords)) if isinstance(each, ast.Constant))
    return any(isinstance(mode, str) and set(mode) <= set("rwaxbt+") and set(mode) & set("wax+") for mode in modes)


def called(function: ast.expr) -> tuple[str, str]:
    if isinstance(function, ast.Attribute):
        return function.value.id if isinstance(function.value, ast.Name) else "", function.attr
    return "", function.id if isinstance(function, ast.Name) else ""


def writing(tree: ast.Module) -> Iterator[int]:
    """The lines of calls that make, open to write or rename what a path names, or might."""
    known = constants(tree)
    for call in (it for it in ast.walk(tree) if isinstance(it, ast.Call)):
        module, name = called(call.func)
        makes = (
            (name == "open" and module != "tarfile" and opens_to_write(call, known, module))
            or (module == "os" and name in _OF_OS)
            or (module != "os" and name in _OF_PATHS)
            or (module == "shutil" and name in _OF_SHUTIL)
            or module == "tempfile"
            or name in {"NamedTemporaryFile", "TemporaryDirectory", "mkstemp", "mkdtemp"}
        )
        if makes:
            yield call.lineno


@pytest.mark.parametrize(
    "line",
    [
        "open(path, 'w')",
        "Path(path).open('xb')",
        "path.open(mode='a')",
        "path.write_text(text)",
        "os.open(path, os.O_WRONLY | os.O_CREAT)",
        "os.open(path, flags)",
        "X = os.O_RDWR\nY = X | os.O_CLOEXEC\nos.open(path, Y)",
        "os.replace(old, new)",
        "Path(old).rename(new)",
        "tempfile.mkstemp()",
        "shutil.copyfile(one, other)",
    ],
)
def test_what_counts_as_writing(line: str) -> None:
    assert list(writing(ast.parse(line)))


def test_what_reads_does_not_count() -> None:
    text = "open(path, 'rb')\nos.open(path, os.O_RDONLY)\nX = os.O_PATH\nos.open(path, X)\n'a'.replace('b', 'c')"
    assert list(writing(ast.parse(text))) == []


def test_what_writes_is_listed_with_its_reason() -> None:
    """Whatever else writes a file that a caller names does it by output_files.py."""
    found = {name for name, tree in modules().items() if any(writing(tree))}
    assert found - {"system/output_files.py"} == WRITERS.keys()


#: Modules in which a text is made with this process's number, none of which names a file.
NUMBERED: Final = {
    "api/builder_vm.py",
    "vmm/jail/delegated_scope.py",
    "vmm/jail/jail.py",
    "launch/shares/risk_checks.py",
}


def test_no_temporary_name_can_be_foreseen() -> None:
    numbered = set[str]()
    temporary: dict[str, list[set[str]]] = {}
    for name, tree in modules().items():
        for text in (it for it in ast.walk(tree) if isinstance(it, ast.JoinedStr)):
            if "getpid" in mentioned(text):
                numbered.add(name)
            if ast.unparse(text).endswith((".tmp'", '.tmp"')):
                temporary.setdefault(name, []).append(mentioned(text) & {"urandom", "token_hex"})
        assert "with_suffix" not in mentioned(tree), f"{name}: a fixed suffix"
    assert numbered == NUMBERED
    assert temporary == {"system/output_files.py": [{"urandom"}], "system/private_dirs.py": [{"urandom"}]}
