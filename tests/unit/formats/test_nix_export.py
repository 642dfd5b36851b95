"""Exports of store paths: what is written is read, and what Nix would not write is refused."""

import pytest

from mvmnix.digest import Digest
from mvmnix.formats import nar, nix_export
from mvmnix.formats.nar import Dir, File, Symlink, nar_of_tree
from mvmnix.formats.nix_export import Exported, read_archives, read_files, write_files
from mvmnix.formats.strict import MalformedError
from mvmnix.model import StorePath
from tests.derivations import exported_archives

ONE, OTHER = (StorePath.recursive(name, Digest.of(name.encode())) for name in ("one", "other"))
TREE = b"".join(nar_of_tree(Dir({b"a": Dir({b"b": File.of(b"c", executable=True)}), b"l": Symlink(b"a")})))


def archives(export: bytes) -> dict[StorePath, tuple[bytes, tuple[StorePath, ...]]]:
    return {it.path: (bytes(it.content), it.references) for it in read_archives(memoryview(export))}


def test_files_are_read_as_they_were_written() -> None:
    files = [Exported(ONE, b"one", ()), Exported(OTHER, b"", (ONE, OTHER))]
    export = b"".join(write_files(files))
    assert list(read_files(export)) == [(it.path, it.content) for it in files]
    assert [references for _, references in archives(export).values()] == [(), (ONE, OTHER)]


def test_trees_and_several_exports() -> None:
    export = exported_archives({ONE: TREE}, {ONE: [OTHER]}) + exported_archives({}) + exported_archives({OTHER: TREE})
    assert archives(export) == {ONE: (TREE, (OTHER,)), OTHER: (TREE, ())}
    with pytest.raises(MalformedError):
        list(read_files(export))


@pytest.mark.parametrize("size", range(len(exported_archives({ONE: TREE}, {ONE: [OTHER]}))))
def test_one_that_is_cut_off(size: int) -> None:
    with pytest.raises(MalformedError):
        archives(exported_archives({ONE: TREE}, {ONE: [OTHER]})[:size])


def test_references_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    export = exported_archives({ONE: TREE, OTHER: TREE}, {ONE: [OTHER], OTHER: [ONE]})
    monkeypatch.setattr(nix_export, "MAX_REFERENCES", 2)
    archives(export)
    monkeypatch.setattr(nix_export, "MAX_REFERENCES", 1)
    with pytest.raises(MalformedError, match="more than 1 others"):
        archives(export)


def test_files_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    export = exported_archives({ONE: TREE, OTHER: TREE})
    monkeypatch.setattr(nar, "MAX_NODES", 8)
    archives(export)
    monkeypatch.setattr(nar, "MAX_NODES", 7)
    with pytest.raises(MalformedError, match="more than 7 files"):
        archives(export)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (nar.text(b"a"), nar.text(b"..")),
        (nar.text(b"a"), nar.text(b"a/b")),
        (nar.text(b"a"), nar.text(b"m")),
        (nar.text(b"a"), nar.text(b"")),
        (nar.text(b"l"), nar.text(b"a")),
        (nar.text(b"target") + nar.text(b"a"), nar.text(b"target") + nar.text(b"")),
        (nar.text(b"target") + nar.text(b"a"), nar.text(b"target") + nar.text(b"\0")),
    ],
)
def test_what_is_in_an_archive_is_what_nix_writes(old: bytes, new: bytes) -> None:
    assert old in TREE
    with pytest.raises(MalformedError):
        archives(exported_archives({ONE: TREE.replace(old, new, 1)}))
