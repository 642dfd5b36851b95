"""What root's mvm may have mounted for a guest: by whose it is, and whether the command line names it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.privileges import tree
from mvmnix.privileges.grants import Grant, Grants
from mvmnix.privileges.tree import ServedDirectory

READ, WRITE = (ServedDirectory(writable=writable, lowest_group=1) for writable in (False, True))


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Another user's directory; a mount is told by the way that it would be made."""
    monkeypatch.setattr(tree._Made, "of", lambda *_: "its owner's")
    monkeypatch.setattr(tree._Made, "plain", lambda *_: "everybody's")
    path = tmp_path / "theirs"
    path.mkdir()
    os.chown(path, 1234, 1234)
    yield path


def made(path: Path, served: ServedDirectory, *, granted: bool, named: bool) -> object:
    fd = os.open(path, os.O_PATH)
    grants = Grants((Grant(str(path), fd, writable=False, named=named, needed=False),) if granted else (), {})
    try:
        return tree.made(fd, 1_900_544_000, served, grants)
    finally:
        os.close(fd)


@pytest.mark.root("root alone gives directories away")
@pytest.mark.parametrize(
    ("served", "granted", "named", "rights"),
    [
        (READ, True, True, "its owner's"),
        (WRITE, True, True, "its owner's"),
        (READ, True, False, "everybody's"),
        (READ, False, False, "everybody's"),
        (WRITE, True, False, ""),
        (WRITE, False, False, ""),
    ],
)
def test_another_user_s_directory(
    theirs: Path, served: ServedDirectory, *, granted: bool, named: bool, rights: str
) -> None:
    if rights:
        assert made(theirs, served, granted=granted, named=named) == rights
        return
    with pytest.raises(PermissionError, match="isn't named on the command line"):
        made(theirs, served, granted=granted, named=named)
