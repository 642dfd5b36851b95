"""Programs of the host that somebody else could have changed are refused."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.sandbox.trusted_executables import Candidates, check_program, digest, locate


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "bin"
    directory.mkdir(mode=0o755)
    path = directory / "program"
    path.write_bytes(b"#!")
    path.chmod(0o755)
    yield path
    directory.chmod(0o755)


def test_the_shell_of_the_system_passes() -> None:
    path = locate(Candidates("the shell", ("/proc/nonexistent/sh", "/bin/sh"), "install one"))
    assert path == os.path.realpath("/bin/sh")
    assert check_program(path) == path


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(
        MvmnixError, match=r"QEMU is not installed: looked for /proc/nonexistent/a, /proc/nonexistent/b.*install it"
    ):
        locate(Candidates("QEMU", ("/proc/nonexistent/a", "/proc/nonexistent/b"), "install it"))


@pytest.mark.parametrize("change", ["file-mode", "directory-mode", "file-owner", "directory-owner"])
def test_what_others_could_change_is_refused(program: Path, change: str) -> None:
    target = program if change.startswith("file") else program.parent
    if os.geteuid() != 0:
        pass  # everything of ours is another's than root's
    elif change.endswith("mode"):
        target.chmod(0o775)
    else:
        os.chown(target, 1000, 1000)
    with pytest.raises(RefusedError) as caught:
        check_program(str(program))
    assert caught.value.codes == (ReasonCode.STATE_PERMISSIONS,)


def test_a_link_is_resolved_before_it_is_judged(program: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/bin/sh")
    assert locate(Candidates("the shell", (str(link),), "")) == os.path.realpath("/bin/sh")
    with pytest.raises(RefusedError):
        check_program(str(link))


def test_digest(program: Path) -> None:
    assert digest(str(program)) == Digest.of(b"#!")
