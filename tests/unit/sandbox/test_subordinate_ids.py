"""Subordinate uids: which ones a user's machines have, and what is said where there are none."""

import os
from pathlib import Path

import pytest

from mvmnix.errors import MvmnixError
from mvmnix.sandbox import subordinate_ids
from mvmnix.sandbox.subordinate_ids import SubordinateIds
from mvmnix.sandbox.trusted_executables import Candidates
from mvmnix.system import procfs


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host on which the user ada, uid 4711, has subordinate ids, and the programs are there."""
    (tmp_path / "subuid").write_text("root:1:9\nada:100000:65536\n4711:300000:65536\n")
    (tmp_path / "subgid").write_text("# of groups\nada:200000:65536\n")
    monkeypatch.setattr(subordinate_ids, "_SUBUID", tmp_path / "subuid")
    monkeypatch.setattr(subordinate_ids, "_SUBGID", tmp_path / "subgid")
    monkeypatch.setattr(subordinate_ids, "user_name", lambda _: "ada")
    monkeypatch.setattr(subordinate_ids, "_powerless", lambda _: "")
    for name in ("NEWUIDMAP", "NEWGIDMAP"):
        monkeypatch.setattr(subordinate_ids, name, Candidates(name.lower(), ("/bin/true",), "apt-get install uidmap"))
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr(subordinate_ids, "_is_mapped", lambda *_: True)
    monkeypatch.setattr(procfs, "has_no_new_privileges", lambda: False)
    return tmp_path


def test_the_middle_of_the_first_range(host: Path) -> None:
    """Other programs give away ids from both ends of it."""
    assert host.is_dir()
    found = SubordinateIds.find()
    assert (found.first_uid, found.first_gid, found.count) == (132_768, 232_768, subordinate_ids.POOL_COUNT)


@pytest.mark.parametrize(
    ("file", "text", "first"),
    [
        ("subuid", "4711:300000:65536\nada:100000:65536\n", 332_768),
        ("subuid", "ada:500:10\nada:100000:4096\n", 102_048),
        ("subuid", "ada:x:65536\nada:-5:65536\nada\n:1:65536\n\nada:100000:65536:7\nada:600000:65536\n", 632_768),
    ],
    ids=["by uid", "too small", "malformed"],
)
def test_lines(host: Path, file: str, text: str, first: int) -> None:
    (host / file).write_text(text)
    assert SubordinateIds.find().first_uid == first


def test_as_many_as_the_smaller_range_has(host: Path) -> None:
    (host / "subgid").write_text("ada:200000:2000\n")
    found = SubordinateIds.find()
    assert (found.first_gid, found.count) == (201_000, 1000)


@pytest.mark.parametrize("file", ["subuid", "subgid"])
@pytest.mark.parametrize("text", [None, "", "eve:100000:65536\nada:100000:1023\n"], ids=["no file", "empty", "others"])
def test_without_a_range(host: Path, file: str, text: str | None) -> None:
    (host / file).unlink()
    if text is not None:
        (host / file).write_text(text)
    with pytest.raises(MvmnixError, match=f"ada has no range of 1024 subordinate {file[-3:]}s in ") as caught:
        SubordinateIds.find()
    assert f"usermod --add-{file}s " in str(caught.value.hint)


def test_a_uid_without_a_name(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (host / "subuid").write_text(":1:65536\n")
    monkeypatch.setattr(subordinate_ids, "user_name", str)
    with pytest.raises(MvmnixError, match="4711 has no range"):
        SubordinateIds.find()


def test_where_the_namespace_lacks_them(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert host.is_dir()
    monkeypatch.setattr(subordinate_ids, "_is_mapped", lambda name, *_: name == "uid_map")
    with pytest.raises(MvmnixError, match="lacks your subordinate uids"):
        SubordinateIds.find()


def test_where_no_program_gains_rights(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert host.is_dir()
    monkeypatch.setattr(procfs, "has_no_new_privileges", lambda: True)
    with pytest.raises(MvmnixError, match="PR_SET_NO_NEW_PRIVS"):
        SubordinateIds.find()


@pytest.mark.parametrize("name", ["NEWUIDMAP", "NEWGIDMAP"])
def test_a_program_is_missing(host: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert host.is_dir()
    missing = Candidates(name.lower(), ("/proc/nonexistent",), "apt-get install uidmap")
    monkeypatch.setattr(subordinate_ids, name, missing)
    with pytest.raises(MvmnixError, match=f"{name.lower()} is not installed") as caught:
        SubordinateIds.find()
    assert caught.value.hint == "apt-get install uidmap"


def test_a_program_without_rights(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert host.is_dir()
    monkeypatch.undo()
    assert subordinate_ids._powerless("/bin/true") == "is neither set-user-ID nor has a file capability"
    assert subordinate_ids._powerless("/usr/bin/newuidmap") == ""
    nosuid = os.statvfs_result((0,) * 8 + (os.ST_NOSUID, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: nosuid)
    assert subordinate_ids._powerless("/usr/bin/newuidmap") == "lies in a file system that is mounted nosuid"


def test_only_the_users_own(host: Path) -> None:
    """Where a number would be another user's, nothing is started."""
    assert host.is_dir()
    found = SubordinateIds.find()
    for uid in (found.first_uid - 1, found.first_uid + found.count, 0):
        with pytest.raises(ValueError, match="is not one of these"):
            found.namespace_of(uid)


def test_a_container_has_the_range_from_its_start(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As podman's have; what runs it is the first of them, and none is the user's own uid."""
    assert host.is_dir()
    maps: list[tuple[object, ...]] = []
    monkeypatch.setattr(SubordinateIds, "_map", staticmethod(lambda *words: maps.append(words)))
    monkeypatch.setattr(subordinate_ids, "kept_namespace", lambda _, write: write(1) or 7)
    assert SubordinateIds.find().container_namespace() == 7
    assert [words[1:] for words in maps] == [(1, 0, 100_000, 65_536), (1, 0, 200_000, 65_536)]


@pytest.mark.parametrize("file", ["subuid", "subgid"])
def test_too_few_for_a_container(host: Path, file: str) -> None:
    (host / file).write_text("ada:100000:65535\n")
    with pytest.raises(MvmnixError, match="takes 65536 subordinate ids, and ada has 65535") as caught:
        SubordinateIds.find().container_namespace()
    assert "usermod --add-subuids" in caught.value.hint


def test_the_range_that_is_proposed_is_nobodys(host: Path) -> None:
    """A file of either kind may say more than the other; and one may be missing."""
    for name, text in (("subuid", "bob:100000:65536\n"), ("subgid", "bob:100000:65536\neve:300000:1000\nx:y:z\n")):
        (host / name).write_text(text)
    with pytest.raises(MvmnixError, match="has no range") as caught:
        SubordinateIds.find()
    assert "--add-subuids 301000-366535 ada" in caught.value.hint
    (host / "subuid").unlink()
    (host / "subgid").write_text("")
    assert subordinate_ids._free() == "100000-165535"


@pytest.mark.parametrize(
    ("text", "first", "count", "is_mapped"),
    [
        ("         0          0 4294967295\n", 132_768, 4096, True),
        ("0 100000 1000\n5000 7 100\n", 5000, 100, True),
        ("0 100000 1000\n5000 7 100\n", 5000, 101, False),
        ("0 100000 1000\n5000 7 100\n", 999, 2, False),
        ("0 100000 1000\n1000 7 100\n", 999, 2, False),
        ("5 100000 1000\n", 4, 2, False),
    ],
)
def test_whether_a_user_namespace_has_a_range(
    monkeypatch: pytest.MonkeyPatch, text: str, first: int, count: int, is_mapped: bool
) -> None:
    monkeypatch.setattr(procfs, "lines", {Path("/proc/self/gid_map"): text.splitlines()}.__getitem__)
    assert subordinate_ids._is_mapped("gid_map", first, count) is is_mapped
