"""What the system denies: where it is root's, the refusal says whose it is and what repairs it."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.system import trusted_path
from mvmnix.system.private_dirs import Directory

FOREIGN = 54321


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    tmp_path.chmod(0o700)
    with Directory.create(str(tmp_path / "state")) as opened:
        yield opened


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(RefusedError) as caught:
        action()
    assert caught.value.codes == (ReasonCode.STATE_PERMISSIONS,)
    return str(caught.value)


@pytest.mark.parametrize("name", ["file", "directory", "lock", "new"])
def test_what_is_root_s_and_closed_says_whose_it_is(
    directory: Directory, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system denies it as it does to a plain user; what is asked then says that it is root's."""
    actions: dict[str, Callable[[], object]] = {
        "file": lambda: directory.open_file(name),
        "directory": lambda: directory.existing(name),
        "lock": lambda: directory.lock(name),
        "new": lambda: directory.create_file(name),
    }
    if name != "new":
        Path(directory.where(name)).touch()

    def denied(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "denied", name)

    real = os.stat

    def stat_(*arguments: object, **options: object) -> os.stat_result:
        fields = list(real(*arguments, **options))  # type: ignore[arg-type]
        fields[4] = 0
        return os.stat_result(fields)

    monkeypatch.setattr(os, "open", denied)
    monkeypatch.setattr(os, "stat", stat_)
    monkeypatch.setattr(os, "geteuid", lambda: FOREIGN)
    message = refusal(actions[name])
    assert f"{directory.path if name == 'new' else directory.where(name)}: refused" in message
    assert f"it belongs to uid 0 (root) and is closed to uid {FOREIGN}, who runs mvm" in message


def test_a_name_that_is_ours_is_denied_as_the_system_says(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(directory.where("file")).touch(0o600)

    def denied(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "denied", "file")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(PermissionError):
        directory.open_file("file")


@pytest.mark.parametrize(
    ("path", "is_directory", "is_ours", "recursive", "doctor"),
    [
        ("/home/a/.local/share/mvmnix/lock", False, True, False, True),
        ("/home/a/.local/share/mvmnix", True, True, True, True),
        ("/home/a/.local", True, True, False, True),
        ("/home/a/file", False, True, False, False),
        ("/srv/mvmnix", True, False, False, False),
    ],
)
def test_what_is_said_to_repair(path: str, *, is_directory: bool, is_ours: bool, recursive: bool, doctor: bool) -> None:
    hint = trusted_path._hint_for_closed(path, is_directory=is_directory, is_ours=is_ours)
    assert (" -Rh " in hint, "mvm doctor" in hint) == (recursive, doctor)
    assert ("chmod a+rX" in hint) != is_ours


@pytest.mark.parametrize("name", ["home", "it's mine"])
def test_a_home_that_is_missing_is_named_and_not_the_directory_above(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As a user of a service has one, by Debian's custom."""

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr(os, "mkdir", denied)
    path = directory.where(name)
    message = refusal(lambda: Directory.create(f"{path}/.local/state/mvmnix"))
    assert message.startswith(f"{path}: refused [state-permissions]: it isn't there, and ")
    assert f"can't make it in {Path(path).parent}" in message
    assert "point HOME or the XDG_… variables to directories of your own" in message
    assert "chmod" not in message


def test_a_directory_of_root_s_in_the_own_home_is_given_back(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program of root's made it there: then it is repaired, and nothing else is looked for."""

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr(os, "mkdir", denied)
    monkeypatch.setattr(trusted_path, "home_of", lambda _: str(Path(directory.path).parent))
    real = os.stat

    def stat_(*arguments: object, **options: object) -> os.stat_result:
        fields = list(real(*arguments, **options))  # type: ignore[arg-type]
        fields[4] = 0
        return os.stat_result(fields)

    monkeypatch.setattr(os, "stat", stat_)
    monkeypatch.setattr(os, "geteuid", lambda: FOREIGN)
    with pytest.raises(RefusedError) as refused:
        trusted_path.make_component("new", directory.where("new"), directory.fd, trusted_path.DIRECTORY)
    assert "sudo chown" in str(refused.value)
    assert f"{directory.path}: refused" in str(refused.value)
