"""A machine without a name gets one that can be typed, and that no other machine has."""

import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import UsageError
from mvmnix.formats.strict import parse_time
from mvmnix.machines import registry
from mvmnix.machines.machine_dir import MachineHome
from mvmnix.machines.names import _ADJECTIVES, _NOUNS, new_name
from mvmnix.machines.status import MachineState, MachineStatus, new_id
from mvmnix.system.private_dirs import Directory

ID = "0123456789ab"
NOW = parse_time("2026-11-27T12:00:00Z")


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Directory]:
    with Directory.create(str(tmp_path / "machines")) as made:
        yield made


def made(machines: Directory, name: str = "") -> MachineHome:
    of = Digest.of(b"")
    return MachineHome.create(
        machines, MachineStatus(new_id(), name, "x", of, of, of, of, state=MachineState.CREATED, created=NOW)
    )


def test_words_are_plain() -> None:
    for words in (_ADJECTIVES, _NOUNS):
        assert len(set(words)) == len(words) > 64
        assert all(re.fullmatch("[a-z]{3,8}", word) for word in words)


def test_a_machine_has_a_name_and_is_found_by_it(machines: Directory) -> None:
    with made(machines) as home:
        assert re.fullmatch("[a-z]+-[a-z]+", home.status.name)
        assert registry.find_machine(machines, home.status.name).status == home.status
        with pytest.raises(UsageError, match="is there already"):
            made(machines, home.status.name)


def test_a_name_that_another_machine_has_is_not_chosen(machines: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even that of one that has ended."""
    monkeypatch.setattr(secrets, "choice", lambda words: words[0])
    with made(machines) as first:
        pass
    with made(machines) as second:
        assert first.status.name == "amber-acorn"
        assert second.status.name == f"amber-acorn-{second.status.machine}"
        assert registry.find_machine(machines, first.status.name).status == first.status


def test_other_words_are_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = iter(("calm", "lake", "calm", "river"))
    monkeypatch.setattr(secrets, "choice", lambda _words: next(chosen))
    assert new_name({"calm-lake"}, machine=ID) == "calm-river"
