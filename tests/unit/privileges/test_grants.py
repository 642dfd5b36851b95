"""What naming a file or directory on the command line grants to root's mvm: the rule, row by row."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from mvmnix import own_flake
from mvmnix.privileges import grants
from mvmnix.privileges.grants import Grants, is_closed

pytestmark = pytest.mark.root("grants are of what belongs to root")


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A closed directory with a project, a home and a place of the system's; the working directory is `/`."""
    tmp_path.chmod(0o700)
    for name in ("project/.git", "project/guest", "home/.config", "home/project", "system/etc", "state"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("project/plan.json", "home/key", "home/.config/token", "system/etc/shadow"):
        (tmp_path / name).touch()
    monkeypatch.setattr(grants, "_SYSTEM", (str(tmp_path / "system"),))
    monkeypatch.setattr(grants, "_homes", lambda: [str(tmp_path / "home")])
    monkeypatch.setattr(grants, "_program", lambda: ())
    monkeypatch.setattr(own_flake, "directory", lambda: tmp_path / "mvm")
    monkeypatch.chdir("/")
    yield tmp_path


def granted(base: Path, *words: str, env: Mapping[str, str] | None = None) -> dict[str, bool]:
    found = Grants.open([str(base / "state")], [word.replace("BASE", str(base)) for word in words], env or {}, "/none")
    try:
        return {it.path.removeprefix(f"{base}/"): it.writable for it in found.all if it.path != str(base / "state")}
    finally:
        found.close()


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("BASE/project", {"project": True}),
        ("BASE/project/plan.json", {"project": True}),
        ("BASE/project/new.json", {"project": True}),
        ("BASE/project/guest", {"project": False, "project/guest": True}),
        ("--out=BASE/project/new", {"project": True}),
        ("path:BASE/project#hello", {"project": True}),
        ("git+file://BASE/project?dir=guest#x", {"project": True}),
        ("--share=BASE/project:/data:rw", {"project": True}),
        ("TOKEN=file:BASE/home/key", {"home/key": False}),
        ("--label=note=BASE/project", {}),
        ("--share=/in:BASE/project:rw", {}),
        ("BASE/home", {}),
        ("BASE/home/key", {"home/key": False}),
        ("BASE/home/new", {}),
        ("BASE/home/project", {"home/project": True}),
        ("BASE/home/.config", {}),
        ("BASE/home/.config/token", {"home/.config/token": False}),
        ("BASE/system", {}),
        ("BASE/system/etc", {}),
        ("BASE/system/etc/shadow", {"system/etc/shadow": False}),
        ("BASE/system/new", {}),
        ("BASE", {}),
        ("/", {}),
        ("/etc/shadow", {"/etc/shadow": False}),
        ("hello", {}),
        ("x" * 5000, {}),
        ("BASE/pro\0ject", {}),
    ],
)
def test_a_word(base: Path, word: str, expected: Mapping[str, bool]) -> None:
    if word == "/etc/shadow":  # the machine's own rule, not the test's
        assert granted(base, word).get("/etc/shadow", False) is False
        return
    assert granted(base, word) == expected


def test_the_guest_s_words_grant_nothing(base: Path) -> None:
    assert granted(base, "exec", "--", "cat", "BASE/home/key", "BASE/project") == {}


def test_what_everybody_reads_is_not_granted() -> None:
    """Else it had mvm's uid for its owner, and no program there would be root's alone."""
    program = list(grants._program())
    assert str(Path(grants.__file__).parents[1]) in program
    assert [path for path in program if os.path.realpath(path).startswith("/usr/")] == []


def test_this_program_s_flake(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read from everywhere; in a checkout that is named or worked in, `mvm pin` writes to it."""
    (base / "mvm" / "modules").mkdir(parents=True)
    for name in ("flake.nix", "flake.lock", "plan.json"):
        (base / "mvm" / name).touch()
    assert granted(base) == {"mvm/flake.nix": False, "mvm/flake.lock": False, "mvm/modules": False}
    monkeypatch.chdir(base / "mvm")
    assert granted(base) == {"mvm": True}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("exec", "web", "cat", "BASE/project"), {}),
        (("shell", "web", "--workdir", "BASE/project"), {}),
        (("run", "hello", "--label", "note=BASE/project"), {}),
        (("run", "hello", "--data", "64:BASE/project"), {}),
        (("run", "hello", "--raw", "--share", "BASE/project:BASE/home/project:rw"), {"project": True}),
        (("run", "-v", "BASE/project:BASE/home/project:rw", "hello"), {"project": True}),
        (("run", "--volume=BASE/project:BASE/home/project", "hello"), {"project": True}),
        (("plan", "create", "-vBASE/project:BASE/home/project", "hello"), {"project": True}),
        (("run", "-itw", "BASE/project", "-de", "A=BASE/project", "-lnote=BASE/project", "hello"), {}),
        (("run", "--env", "A=BASE/project", "--workdir=BASE/project", "--user", "1", "hello"), {}),
        (("run", "--label=", "BASE/project"), {"project": True}),
        (("plan", "create", "-o", "BASE/project/plan.json", "hello"), {"project": True}),
        (("--verbose", "exec", "web", "cat", "BASE/project"), {}),
        (("plan", "create", "hello", "--", "cat", "BASE/project"), {}),
        (("cp", "web:BASE/project", "./here"), {}),
        (("cp", "BASE/project", "web:BASE/home/project"), {"project": True}),
        (("verify", "--key=BASE/home/key", "--", "BASE/project"), {"home/key": False, "project": True}),
        ((), {}),
    ],
)
def test_what_is_meant_for_a_guest_grants_nothing(
    base: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], expected: Mapping[str, bool]
) -> None:
    monkeypatch.chdir(base / "state")
    assert granted(base, *words) == expected


def test_a_planted_git_directory_opens_nothing(base: Path) -> None:
    os.chown(base / "project/.git", 1234, 1234)
    assert granted(base, "BASE/project/guest") == {"project/guest": True}
    os.chown(base / "project", 1234, 1234)
    assert granted(base, "BASE/project/guest") == {"project": False, "project/guest": True}


def test_what_is_granted_is_what_was_judged(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user, whose directory it is, puts a link in its place meanwhile."""
    project, judge = base / "project", grants._is_grantable

    def judged(real: str, homes: set[str]) -> bool:
        verdict = judge(real, homes)
        if real == str(project) and not project.is_symlink():
            project.rename(base / "moved")
            project.symlink_to("home")
        return verdict

    monkeypatch.setattr(grants, "_is_grantable", judged)
    assert granted(base, "BASE/project") == {}


def test_relative_words_and_the_working_directory(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base / "project" / "guest")
    assert granted(base) == {"project": False, "project/guest": True}
    assert granted(base, "../plan.json") == {"project": True, "project/guest": True}
    monkeypatch.chdir(base / "home")
    assert granted(base, "key", "project") == {"home/key": False, "home/project": True}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("MVMNIX_ANYTHING", True), ("SSL_CERT_FILE", True), ("TMPDIR", True), ("PATH", False), ("OLDPWD", False)],
)
def test_variables(base: Path, name: str, *, expected: bool) -> None:
    assert granted(base, env={name: str(base / "project")}) == ({"project": True} if expected else {})


def test_a_link_is_what_it_leads_to(base: Path) -> None:
    (base / "link").symlink_to("home")
    assert granted(base, "BASE/link") == {}
    (base / "named").symlink_to("project")
    assert granted(base, "BASE/named/plan.json") == {"project": True}


def test_what_others_reach_is_granted_to_read(base: Path, tmp_path: Path) -> None:
    """On disk it would be root's, and could have the set-user-ID bit."""
    assert granted(base, "BASE/project") == {"project": True}
    base.chmod(0o711)
    closed = is_closed(str(base))
    assert granted(base, "BASE/project") == {"project": closed}, "as what is above it has it"
    assert is_closed("/usr/bin") is False


@pytest.mark.parametrize(
    ("mode", "group", "closed"), [(0o700, 0, True), (0o710, 0, True), (0o710, 7, False), (0o711, 0, False)]
)
def test_closed(mode: int, group: int, *, closed: bool) -> None:
    where = Path(tempfile.mkdtemp(prefix="mvmnix-closed-", dir="/run"))
    try:
        os.chown(where, 0, group)
        where.chmod(mode)
        (where / "in").mkdir()
        assert is_closed(str(where / "in")) is closed
        assert is_closed(str(where)) is closed
    finally:
        (where / "in").rmdir()
        where.rmdir()


def test_another_user_s_directory_is_named_and_not_written(base: Path) -> None:
    """A guest may be served it, with that user's rights; root's mvm makes nothing there that would be root's."""
    os.chown(base / "project", 1234, 1234)
    found = Grants.open([], [str(base / "project")], {}, "/none")
    try:
        (grant,) = [it for it in found.all if it.path == str(base / "project")]
        assert grant.named
        assert not grants.is_closed(grant.path) or grant.writable
    finally:
        found.close()
