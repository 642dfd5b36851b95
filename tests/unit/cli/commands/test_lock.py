"""`mvm lock` up to the builder VM, and what it says of a lock; the VM itself boots in tests/vm."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.api import flakes
from mvmnix.api.context import Context
from mvmnix.builder.flakes.worktree import Draft
from mvmnix.builder.lockfile.document import LockChange
from mvmnix.builder.lockfile.session import LockRequest, NewLock
from tests.fakes import Repository
from tests.unit.cli.station import Station

CHANGES = (LockChange(("a",), None, "path:./a\x1b[2J"), LockChange(("a", "b"), "follows c", None))


@pytest.fixture
def flake(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "flake").mkdir()
    (tmp_path / "flake/flake.nix").write_text("{ }")
    yield f"path:{tmp_path / 'flake'}"


def making(monkeypatch: pytest.MonkeyPatch, made: NewLock) -> list[LockRequest]:
    """In place of a builder VM: one that makes this."""
    wishes: list[LockRequest] = []

    def make(_context: Context, _draft: Draft, wish: LockRequest, _progress: object) -> NewLock:
        wishes.append(wish)
        return made

    monkeypatch.setattr(flakes, "_locked", make)
    return wishes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["path:/tmp#hello"], "as a whole"),
        (["--update", "a", "--update-all"], "exclude each other"),
        (["/proc/nowhere/at/all"], "not a directory"),
        (["a:b"], "flake references"),
        (["oci://host/name@sha256:" + "0" * 64], "has no lock"),
    ],
)
def test_what_can_not_be_meant(station: Station, arguments: list[str], words: str) -> None:
    said = station.mvm("lock", *arguments)
    assert (said.code, said.out) == (2, "")
    assert words in said.err


@pytest.mark.parametrize("form", ["path:{}", "{}"])
def test_without_a_flake_nothing_is_begun(
    station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Nothing is fetched, and no builder VM boots."""
    wishes = making(monkeypatch, NewLock(None, ()))
    repository = Repository.make(tmp_path / "empty", {"a": ""})
    repository.git("rm", "-q", "flake.nix")
    said = station.mvm("lock", form.format(repository.path))
    assert said.code == 126
    assert "[flake-unsupported]" in said.err
    assert "no flake.nix" in said.err
    assert wishes == []


def test_a_new_lock_is_written_and_told(station: Station, flake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wishes = making(monkeypatch, NewLock(b"new\n", CHANGES))
    said = station.mvm("lock", "--json", "--update", "a/b", "--update", "c", flake)
    assert said.code == 0, said.err
    where = Path(flake.removeprefix("path:")) / "flake.lock"
    assert where.read_bytes() == b"new\n"
    assert wishes == [LockRequest((("a", "b"), ("c",)))]
    assert "a: (none) → path:./a\\u001b[2J\na/b: follows c → (none)\n" in said.err
    assert json.loads(said.out) == {
        "version": 1,
        "kind": "lock",
        "result": {
            "lock": str(where),
            "written": True,
            "changes": [
                {"input": "a", "old": None, "new": "path:./a\x1b[2J"},
                {"input": "a/b", "old": "follows c", "new": None},
            ],
        },
    }


def test_a_lock_that_fits_is_not_touched(station: Station, flake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wishes = making(monkeypatch, NewLock(None, ()))
    said = station.mvm("lock", "--update-all", flake)
    assert (said.code, said.out) == (0, "")
    assert "nothing to change" in said.err
    assert wishes == [LockRequest(everything=True)]
    assert not (Path(flake.removeprefix("path:")) / "flake.lock").exists()
