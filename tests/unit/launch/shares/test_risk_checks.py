"""Directories that are shared only by an explicit word: each kind is refused without it, and passes with it."""

import os
import pwd
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.shares import risk_checks
from mvmnix.launch.shares.opening import open_directory
from mvmnix.launch.shares.risk_checks import Mounts, refuse_dangers
from mvmnix.plan.share import Access, Danger, Share


def words(share: Share, own: tuple[str, ...] = (), *, is_there: bool = True, fd: int | None = None) -> set[str]:
    """The dangers that are refused, by the word that would acknowledge them; `fd` is closed."""
    fd = open_directory(share.host) if is_there and fd is None else fd
    try:
        refuse_dangers(share, fd, own)
    except RefusedError as refused:
        assert set(refused.codes) == {ReasonCode.SHARE_FORBIDDEN}
        return {reason.hint.rpartition("acknowledge=")[2] for reason in refused.reasons}
    finally:
        if fd is not None:
            os.close(fd)
    return set()


def share(path: Path | str) -> Share:
    return Share(str(path), "/data")


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that nothing speaks against."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    where = tmp_path.resolve() / "plain"
    where.mkdir()
    return where


def test_a_plain_directory_passes(plain: Path) -> None:
    (plain / "src" / "deep" / "er").mkdir(parents=True)
    assert words(share(plain), (str(plain.parent / "state"),)) == set()


@pytest.mark.parametrize("path", ["/etc", "/proc", "/sys", "/dev", "/run", "/var/run"])
def test_the_system(path: str) -> None:
    assert "system-directory" in words(share(path), is_there=False)
    assert "system-directory" in words(share(f"{path}/in/it"), is_there=False)


def test_a_directory_in_the_root_is_not_the_root() -> None:
    assert "root-directory" not in words(share("/etc"))


def test_the_root_is_everything_at_once() -> None:
    for is_there in (True, False):
        found = words(share("/"), is_there=is_there)
        assert {"root-directory", "system-directory", "home-directory"} <= found


def test_the_root_by_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(risk_checks, "_lines", lambda _: ())
    fd = os.open("/proc/self/root", os.O_RDONLY | os.O_DIRECTORY)
    assert "root-directory" in words(share("/srv/elsewhere"), fd=fd)


@pytest.mark.parametrize(
    ("what", "word"),
    [
        ("/", "root-directory"),
        ("{0}/home", "home-directory"),
        ("{0}", "home-directory"),
        ("{0}/state", "mvm-state"),
        ("{0}/state/machines", "mvm-state"),
    ],
)
def test_what_is_mounted_in_it(plain: Path, monkeypatch: pytest.MonkeyPatch, what: str, word: str) -> None:
    """By the kernel's list alone; tests/integration/test_share_dangers.py mounts."""
    own = plain.parent / "state"
    (own / "machines").mkdir(parents=True)
    lines = risk_checks._lines("/proc/self/mountinfo")
    found = Mounts(lines).of_path(what.format(plain.parent))
    assert found is not None
    bind = f"999999 1 {found.device} {found.path} {plain}/in rw - ext4 disk rw"
    monkeypatch.setattr(risk_checks, "_lines", lambda path: (*lines, bind) if path.endswith("mountinfo") else ())
    assert {word, "mounts"} <= words(share(plain), (str(own),))


def test_homes_and_what_holds_them(plain: Path) -> None:
    home = plain.parent / "home"
    assert words(share(home.resolve())) == {"home-directory"}
    assert words(share(home.parent.resolve())) == {"home-directory"}
    (home / "project").mkdir()
    assert words(share((home / "project").resolve())) == set(), "a directory in it is nobody's home"
    assert "home-directory" in words(share("/root"), is_there=False)


def user(home: Path | str, uid: int) -> pwd.struct_passwd:
    return pwd.struct_passwd(("user", "x", uid, uid, "", str(home), "/bin/sh"))


@pytest.mark.parametrize(
    ("uid", "is_a_persons"), [(0, True), (1, False), (999, False), (1000, True), (59_999, True), (60_000, False)]
)
def test_homes_from_the_password_file(
    plain: Path, monkeypatch: pytest.MonkeyPatch, uid: int, *, is_a_persons: bool
) -> None:
    """Wherever they are; those of services are no homes (login.defs(5), UID_MIN and UID_MAX)."""
    users = [user(plain / "of-a-service", 33), user(plain / "elsewhere", uid)]
    monkeypatch.setattr(pwd, "getpwall", lambda: users)
    for name in ("of-a-service", "elsewhere/in-it"):
        (plain / name).mkdir(parents=True)
    wanted = {"home-directory"} if is_a_persons else set[str]()
    assert words(share(plain / "elsewhere")) == wanted, "it"
    assert words(share(plain)) == wanted, "what holds it"
    assert words(share(plain / "elsewhere/in-it")) == set(), "what is in it"


def test_what_lies_in_home_is_somebodys_home(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not the password file names it: accounts may come from elsewhere (nsswitch.conf(5))."""
    (plain / "of-ldap").mkdir()
    monkeypatch.setattr(pwd, "getpwall", list[pwd.struct_passwd])
    listed = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        return iter([plain / "of-ldap"]) if path == Path("/home") else listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert words(share(plain / "of-ldap")) == {"home-directory"}


@pytest.mark.parametrize("home", ["/", "relative", ""])
def test_a_home_that_is_none(plain: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    """As of accounts that can't log in: it makes no home of what lies there."""
    monkeypatch.chdir(plain)
    (plain / "relative").mkdir()
    monkeypatch.setattr(pwd, "getpwall", lambda: [user(home, 1000)])
    assert words(share(plain / "relative")) == set()
    assert words(share(plain)) == set()


@pytest.mark.parametrize("name", [".ssh", ".netrc", ".config/gh"])
def test_credentials_of_every_home_by_what_they_are(plain: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A home may hold them as a link to where nothing is named so."""
    (plain / "homes" / name).parent.mkdir(parents=True)
    (plain / "data" / "in").mkdir(parents=True)
    (plain / "homes" / name).symlink_to(plain / "data")
    monkeypatch.setattr(pwd, "getpwall", lambda: [user(plain / "homes", 1000)])
    assert words(share(plain / "data")) == words(share(plain / "data" / "in")) == {"credentials"}


@pytest.mark.parametrize("mounts", [True, False], ids=["by its mount", "by its path"])
def test_a_home_behind_a_link(plain: Path, monkeypatch: pytest.MonkeyPatch, mounts: bool) -> None:
    if not mounts:
        monkeypatch.setattr(risk_checks, "_lines", lambda _: ())
    (plain / "homes" / "me").mkdir(parents=True)
    (plain.parent / "link").symlink_to(plain / "homes")
    monkeypatch.setenv("HOME", str(plain.parent / "link" / "me"))
    assert words(share(plain)) == words(share(plain / "homes" / "me")) == {"home-directory"}


def test_a_home_that_leads_out_of_it(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who writes to the share says where the home is then."""
    (plain / "me").symlink_to(plain.parent / "home")
    monkeypatch.setenv("HOME", str(plain / "me"))
    assert words(share(plain)) == {"home-directory"}


def test_a_hard_link_of_a_secret_is_that_secret(plain: Path) -> None:
    (plain.parent / "home" / ".netrc").write_text("machine example.test password secret")
    (plain / "in").mkdir()
    (plain / "in" / "notes").hardlink_to(plain.parent / "home" / ".netrc")
    assert words(share(plain)) == {"credentials"}


def test_credentials_of_a_home_are_found_at_any_depth(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (plain / "a/b/c/d/me/.ssh").mkdir(parents=True)
    assert words(share(plain)) == set(), "no home"
    monkeypatch.setenv("HOME", str(plain / "a/b/c/d/me"))
    assert words(share(plain)) == {"home-directory", "credentials"}


def own_state(plain: Path) -> tuple[str, ...]:
    (plain / "state").mkdir()
    return (str(plain / "state"),)


@pytest.mark.parametrize("which", [".", "state", "state/machines"])
def test_mvms_own(plain: Path, which: str) -> None:
    own = own_state(plain)
    (plain / "state/machines").mkdir()
    assert words(share(plain / which), own) == {"mvm-state"}


def test_what_is_to_be_in_mvms_own_behind_a_link(plain: Path) -> None:
    own = own_state(plain)
    (plain / "link").symlink_to(own[0])
    assert words(share(plain / "state" / "later"), (str(plain / "link"),), is_there=False) == {"mvm-state"}


@pytest.mark.parametrize(
    "name", [".ssh", ".aws", ".gnupg", ".kube", ".docker", ".config/gcloud", ".local/share/keyrings"]
)
def test_credentials_by_name(plain: Path, name: str) -> None:
    (plain / "in" / name / "deep").mkdir(parents=True)
    assert words(share(plain / "in" / name / "deep")) == {"credentials"}, "in it"
    assert words(share(plain / "in" / name)) == {"credentials"}, "it"
    assert words(share(plain / "in")) == {"credentials"}, "with it inside"


def test_no_link_is_followed_to_credentials(plain: Path) -> None:
    (plain.parent / "elsewhere" / ".ssh").mkdir(parents=True)
    (plain / "link").symlink_to(plain.parent / "elsewhere")
    assert words(share(plain)) == set()


@pytest.mark.parametrize(("before", "is_found"), [(19_999, True), (20_000, False)])
def test_the_last_entry_that_is_looked_at(
    plain: Path, monkeypatch: pytest.MonkeyPatch, before: int, *, is_found: bool
) -> None:
    (plain / ".ssh").mkdir()
    (plain / "file").touch()
    with os.scandir(plain) as found:
        last, other = sorted(found, key=lambda entry: entry.name)
    monkeypatch.setattr(risk_checks, "_look_into", lambda _: ({}, ()))
    monkeypatch.setattr(risk_checks, "walk", lambda *_: [*[((), other)] * before, ((), last)])
    assert words(share(plain)) == ({"credentials"} if is_found else set())


@pytest.mark.parametrize(("above", "is_found"), [("a/b", True), ("a/b/c", False)])
def test_the_last_level_that_is_looked_at(plain: Path, above: str, *, is_found: bool) -> None:
    (plain / above / ".ssh").mkdir(parents=True)
    assert words(share(plain)) == ({"credentials"} if is_found else set())


def test_a_daemon_that_listens(plain: Path) -> None:
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(str(plain / "docker.sock"))
        assert words(share(plain)) == set(), "nobody listens yet"
        daemon.listen(1)
        assert words(share(plain)) == {"daemon-socket"}
        assert words(share(plain.parent / "home")) == {"home-directory"}
        (plain / "docker.sock").unlink()
        assert words(share(plain)) == {"daemon-socket"}, "where it was bound"
        assert words(share(plain.parent / "home")) == {"home-directory"}


@pytest.mark.parametrize("process", ["self", "thread-self", "{own}"])
def test_a_socket_that_was_bound_by_a_descriptor_is_not_where_that_number_leads_now(plain: Path, process: str) -> None:
    """Of another process's numbers the kernel's list says nothing, and of ours they are others by then."""
    other = plain.parent / "other"
    other.mkdir()
    numbers = [os.open(other, os.O_PATH) for _ in range(2)]
    with ExitStack() as stack:
        for number in numbers:
            daemon = stack.enter_context(socket.socket(socket.AF_UNIX))
            daemon.bind(f"/proc/{process.format(own=os.getpid())}/fd/{number}/socket-{number}")
            daemon.listen(1)
        deque(map(os.close, numbers))  # one of them is the share's, next
        assert words(share(plain)) == set()


@pytest.mark.parametrize(
    "name",
    [
        "\0a\nb c d ZZ f g h /x",
        "\0a\x0bb c d ZZ f g h /x",
        "\0a\rb c d ZZ f g h /x",
        "\0a\x85b c d -1 f g h /x",
        "\0\udcff",
    ],
    ids=ascii,
)
def test_no_name_of_a_strangers_socket_is_in_the_way(plain: Path, name: str) -> None:
    """Any user of the host binds sockets, names them, and so writes lines into the kernel's list of them."""
    with socket.socket(socket.AF_UNIX) as stranger, socket.socket(socket.AF_UNIX) as daemon:
        stranger.bind(os.fsencode(name))
        stranger.listen(1)
        assert words(share(plain)) == set()
        daemon.bind(str(plain / "docker.sock"))
        daemon.listen(1)
        assert words(share(plain)) == {"daemon-socket"}


@pytest.mark.parametrize("name", [b"a\x0bb", b"a\rb", b"a\x1cb", b"a\xc2\x85b", b"a\xe2\x80\xa8b", b"\xff"], ids=repr)
def test_no_name_of_a_strangers_mount_is_in_the_way(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    lines = tmp_path / "mountinfo"
    beneath = b"3 1 0:3 / %s rw - proc proc rw\n" % os.fsencode(plain / "in")
    lines.write_bytes(b"2 1 0:2 / /mnt/" + name + b" rw - fuse x rw\n" + beneath)
    read = risk_checks._lines
    monkeypatch.setattr(risk_checks, "_lines", lambda path: read(str(lines)) if path.endswith("mountinfo") else ())
    assert words(share(plain)) == {"mounts"}
    lines.write_bytes(b"2 1 0:2 / " + os.fsencode(plain) + b"/" + name + b" rw - fuse x rw\n")
    assert words(share(plain)) == {"mounts"}, "where it lies, it is found"


def mountinfo(path: Path) -> Callable[[str], tuple[str, ...]]:
    escaped = str(path).replace(" ", "\\040")
    lines = {"/proc/self/mountinfo": (f"1 0 0:1 / {escaped} rw - proc proc rw",)}
    return lambda name: lines.get(name, ())


@pytest.mark.parametrize("name", ["a\nb c d -Z", "two words", "\x1c", "\x85", "\u2028", "\udcff\n\n"])
def test_a_socket_may_have_any_name(plain: Path, name: str) -> None:
    """Any user may make one, and lines of the kernel's list have paths as they are."""
    other = plain.parent / "other"
    other.mkdir()
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(os.fsencode(plain / name))
        daemon.listen()
        assert words(share(other)) == set()
        assert words(share(plain)) == {"daemon-socket"}


def test_other_file_systems(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(risk_checks, "_lines", mountinfo(plain / "a b"))
    assert words(share(plain)) == {"mounts"}
    monkeypatch.setattr(risk_checks, "_lines", mountinfo(plain))
    assert words(share(plain)) == set(), "it may be a mount itself"


@pytest.mark.parametrize("mounts", [True, False], ids=["by its mount", "by what it is"])
def test_a_home_by_another_name_is_a_home(plain: Path, monkeypatch: pytest.MonkeyPatch, mounts: bool) -> None:
    if not mounts:
        monkeypatch.setattr(risk_checks, "_lines", lambda _: ())
    assert "home-directory" in words(share(plain), fd=open_directory(str(plain.parent / "home")))


@pytest.mark.parametrize("mounts", [True, False], ids=["by its mount", "by what it is"])
@pytest.mark.parametrize("path", ["etc", "etc/ssl"])
def test_another_name_for_the_same_is_the_same(
    plain: Path, monkeypatch: pytest.MonkeyPatch, path: str, mounts: bool
) -> None:
    """As a bind mount is one: here /proc/self/root, through which the system's directories have other names."""
    if not mounts:
        monkeypatch.setattr(risk_checks, "_lines", lambda _: ())
    fd = os.open(f"/proc/self/root/{path}", os.O_RDONLY | os.O_DIRECTORY)
    assert "system-directory" in words(share(plain), fd=fd)


def test_each_word_lets_its_own_danger_pass_and_no_other(plain: Path) -> None:
    own = own_state(plain)
    (plain / ".ssh").mkdir()
    both = share(plain)
    assert words(both, own) == {"mvm-state", "credentials"}
    assert words(replace(both, acknowledged=(Danger.STATE,)), own) == {"credentials"}
    assert words(replace(both, acknowledged=(Danger.CREDENTIALS, Danger.STATE)), own) == set()


def test_the_error_shows_the_safe_form(plain: Path) -> None:
    with pytest.raises(RefusedError) as refused:
        refuse_dangers(Share("/etc", "/data", Access.READ_WRITE), None, ())
    assert "--share /etc/DIRECTORY:/data:rw" in refused.value.hint
    assert "--share /etc:/data:rw,acknowledge=system-directory" in refused.value.hint
