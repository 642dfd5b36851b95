"""Boots for want of a template are counted by key, for one boot of the host and one policy, and within bounds."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.digest import Digest
from mvmnix.launch.templates import cold_starts
from mvmnix.launch.templates.cold_starts import ColdStarts
from mvmnix.system.private_dirs import Directory
from tests.unit.launch.templates.kept import BOOT, KEY, POLICY

KEYS = [Digest.of(b"%d" % number) for number in range(5)]
OTHER_BOOT = "f" * 8 + BOOT[8:]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    with Directory.create(str(tmp_path / "templates")) as made:
        yield made


def counts(directory: Directory, boot: str = BOOT, policy: Digest = POLICY) -> ColdStarts:
    return ColdStarts(directory, boot, policy)


def kept(directory: Directory) -> set[str]:
    return {name.removesuffix(".cold") for name in os.listdir(directory.fd) if name.endswith(".cold")}  # noqa: PTH208


def test_one_is_due_at_the_second_and_until_it_is_there(directory: Directory) -> None:
    assert [counts(directory).note(KEYS[0]) for _ in range(4)] == [False, True, True, True]
    assert not counts(directory).note(KEYS[1]), "each key counts by itself"
    counts(directory).forget(KEYS[0])
    counts(directory).forget(KEYS[0])
    assert [counts(directory).note(KEYS[0]) for _ in range(2)] == [False, True]


def test_one_that_was_tried_is_not_due_until_policy_or_boot_change(directory: Directory) -> None:
    for _ in range(2):
        counts(directory).note(KEYS[0])
    counts(directory).give_up(KEYS[0], "no \x1b[31mspace\n")
    assert not counts(directory).note(KEYS[0])
    (obstacle,) = counts(directory).obstacles
    assert obstacle.startswith("no ")
    assert obstacle.isprintable()
    for changes in ({"policy": Digest.of(b"another")}, {"boot": OTHER_BOOT}):
        other = counts(directory, **changes)
        assert other.obstacles == ()
        assert [other.note(KEYS[0]) for _ in range(2)] == [False, True]


def test_one_may_be_given_up_before_it_was_counted(directory: Directory) -> None:
    counts(directory).give_up(KEYS[0], "")
    assert [counts(directory).note(KEYS[0]) for _ in range(3)] == [False] * 3
    assert counts(directory).obstacles == ("it failed",)


def test_so_many_keys_are_counted_and_those_of_another_boot_make_room(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cold_starts, "MOST_COUNTED", 2)
    for key in KEYS[:3]:
        assert not counts(directory).note(key)
    assert kept(directory) == {key.hex for key in KEYS[:2]}
    assert [counts(directory).note(KEYS[2]) for _ in range(2)] == [False, False]
    assert counts(directory).note(KEYS[0]), "those that are counted go on"
    counts(directory, boot=OTHER_BOOT).note(KEYS[3])
    assert kept(directory) == {KEYS[3].hex}


def test_what_is_of_another_boot_or_policy_is_swept_and_nothing_else(directory: Directory) -> None:
    counts(directory).note(KEYS[0])
    counts(directory, boot=OTHER_BOOT).note(KEYS[1])
    counts(directory, policy=Digest.of(b"another")).note(KEYS[2])
    for name, data in (
        (f"{KEYS[3].hex}.cold", b"garbage"),
        ("foreign.cold", b"x"),
        (f"{KEY.digest.hex}.template", b""),
    ):
        Path(directory.where(name)).write_bytes(data)
    counts(directory).sweep()
    assert kept(directory) == {KEYS[0].hex, "foreign"}
    assert Path(directory.where(f"{KEY.digest.hex}.template")).exists()


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b'{"boot":1}', b"[" * 4096, b"x" * 5000],
    ids=["empty", "no fields", "another type", "nested", "too large"],
)
def test_a_file_that_says_nothing_counts_nothing(directory: Directory, data: bytes) -> None:
    Path(directory.where(f"{KEYS[0].hex}.cold")).write_bytes(data)
    assert counts(directory).obstacles == ()
    assert [counts(directory).note(KEYS[0]) for _ in range(2)] == [False, True]


def test_what_is_no_file_is_not_followed(directory: Directory, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"x")
    Path(directory.where(f"{KEYS[0].hex}.cold")).symlink_to(tmp_path / "elsewhere")
    counts(directory).note(KEYS[0])
    assert (tmp_path / "elsewhere").read_bytes() == b"x"
