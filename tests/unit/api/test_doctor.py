"""Files of root's in a user's own directories: each is named, and one command gives all of them to the user."""

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.api import doctor
from mvmnix.api.context import Context
from mvmnix.api.doctor import Finding, Health
from mvmnix.system import trusted_path
from mvmnix.system.roots import Roots

USER = 4321


class Disk:
    """Whose files are: the user's, but for `root`; a disk on which a plain user can have files of root's."""

    def __init__(self, *root: Path) -> None:
        self._root = set(map(str, root))

    def lstat(self, path: str | Path) -> os.stat_result:
        fields = list(Path(path).stat(follow_symlinks=False))
        fields[4] = 0 if str(path) in self._root else USER
        return os.stat_result(fields)


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Context]:
    monkeypatch.setattr(trusted_path, "user_name", lambda _: str(USER))
    for module in (trusted_path, doctor):
        monkeypatch.setattr(module, "home_of", lambda _: str(tmp_path))
    tmp_path.chmod(0o700)
    with Roots.from_environment({"HOME": str(tmp_path)}) as roots:
        for directory in (roots.state, roots.cache, roots.config, roots.data):
            assert Path(directory.path).is_dir()
        (tmp_path / ".local/state/mvmnix/machines").mkdir()
        (tmp_path / ".local/state/mvmnix/machines/register.lock").touch()
        with Context(roots) as made:
            yield made


def found(context: Context, monkeypatch: pytest.MonkeyPatch, *root: Path) -> list[Finding]:
    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", Disk(*root).lstat)
        return list(doctor.ownership(context))


def test_nothing_is_said_where_all_is_the_user_s(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(context, monkeypatch) == []


@pytest.mark.parametrize(
    ("root", "command"),
    [
        (".local/state/mvmnix/machines/register.lock", "sudo chown -Rh {user}: {home}/.local/state/mvmnix"),
        (".config/mvmnix", "sudo chown -Rh {user}: {home}/.config/mvmnix"),
        (".local", "sudo chown -h {user}: {home}/.local"),
    ],
)
def test_the_file_and_the_command(
    context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: str, command: str
) -> None:
    (one,) = found(context, monkeypatch, tmp_path / root)
    assert (one.health, one.said) == (Health.BAD, f"1 file belongs to root: {tmp_path / root}")
    assert one.commands == (command.format(user=USER, home=tmp_path),)


def test_one_command_for_all_of_them(context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is in a directory of root's isn't counted: chown goes through it; of many, some are named."""
    state = tmp_path / ".local/state/mvmnix"
    many = [state / f"file-{number}" for number in range(7)]
    for path in many:
        path.touch()
    inside = state / "machines" / "register.lock"
    (one,) = found(context, monkeypatch, tmp_path / ".local", state / "machines", inside, *many)
    assert one.said.startswith("9 files belong to root: ")
    assert one.said.endswith(" and 4 more")
    user, home = str(USER), shlex.quote(str(tmp_path))
    assert one.commands == (
        f"sudo chown -h {user}: {home}/.local && sudo chown -Rh {user}: {home}/.local/state/mvmnix",
    )


def test_paths_of_a_nix_store_are_not_gone_through(
    context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / ".local/share/mvmnix/nix/nix/store/0000-hello"
    (path / "bin").mkdir(parents=True)
    assert found(context, monkeypatch, path / "bin") == []
    assert len(found(context, monkeypatch, path)) == 1


@pytest.mark.parametrize("path", ["/home/it's mine/state", "/home/a/x;id"])
def test_the_command_is_for_that_path(path: str) -> None:
    command = trusted_path.repair(path)
    words = subprocess.run(["sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True)
    assert words.stdout.splitlines()[-1] == path
