"""The Nix archive format: its grammar byte by byte, what it refuses, what a hash of it distinguishes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.errors import MvmnixError
from mvmnix.formats.nar import Dir, File, Node, Symlink, nar_hash, nar_of_file, nar_of_tree, tree_of_nar
from mvmnix.formats.strict import MalformedError


def bytes_of(node: Node) -> bytes:
    return b"".join(nar_of_tree(node))


def string(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text + bytes(-len(text) % 8)


def strings(*texts: bytes) -> bytes:
    return b"".join(string(text) for text in texts)


def naive(node: Node) -> bytes:
    """The grammar of the Nix manual, read once more and as plainly as it goes."""
    match node:
        case File():
            mark = (b"executable", b"") if node.executable else ()
            return strings(b"(", b"type", b"regular", *mark, b"contents", b"".join(node.open()), b")")
        case Symlink():
            return strings(b"(", b"type", b"symlink", b"target", node.target, b")")
        case Dir():
            inner = b"".join(
                strings(b"entry", b"(", b"name", name, b"node") + naive(child) + string(b")")
                for name, child in sorted(node.entries.items())
            )
            return strings(b"(", b"type", b"directory") + inner + string(b")")


NAMES = st.binary(min_size=1, max_size=12).filter(lambda n: n not in {b".", b".."} and not {0, 47} & set(n))
LEAVES: st.SearchStrategy[Node] = st.one_of(
    st.builds(lambda data, executable: File.of(data, executable=executable), st.binary(max_size=40), st.booleans()),
    st.builds(Symlink, st.binary(min_size=1, max_size=20).filter(lambda target: 0 not in target)),
)
TREES = st.recursive(LEAVES, lambda inner: st.builds(Dir, st.dictionaries(NAMES, inner, max_size=5)), max_leaves=12)


@given(TREES)
def test_archive_follows_the_grammar(tree: Node) -> None:
    assert bytes_of(tree) == string(b"nix-archive-1") + naive(tree)


@given(TREES)
def test_hash_and_size_are_those_of_the_archive(tree: Node) -> None:
    digest, size = nar_hash(nar_of_tree(tree))
    assert size == len(bytes_of(tree))
    assert size % 8 == 0
    assert digest == nar_hash([bytes_of(tree)])[0]


def test_a_file_alone_is_the_tree_of_that_file() -> None:
    assert b"".join(nar_of_file(5, [b"he", b"llo"], executable=True)) == bytes_of(File.of(b"hello", executable=True))


def test_entries_are_sorted_by_bytes_not_by_text() -> None:
    shuffled = Dir({name: File.of(b"") for name in (b"a", b"B", "é".encode(), b"\xff", b"a.b", b"a-b", b"ab")})
    assert list(shuffled.entries) == [b"B", b"a", b"a-b", b"a.b", b"ab", "é".encode(), b"\xff"]


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"a\0", b"\0"])
def test_names_that_are_none_are_refused(name: bytes) -> None:
    with pytest.raises(ValueError, match="not a name in a directory"):
        Dir({name: File.of(b"")})


@pytest.mark.parametrize("target", [b"", b"a\0b"])
def test_targets_that_are_none_are_refused(target: bytes) -> None:
    with pytest.raises(ValueError, match="not the target"):
        Symlink(target)


@pytest.mark.parametrize(
    ("size", "chunks", "given"),
    [
        (3, [b"ab"], "1 fewer"),
        (3, [b"ab", b"cd"], "more"),
        (0, [b"x"], "more"),
        (1, [], "1 fewer"),
        (2, [b"ab", b"c", b""], "more"),
    ],
)
def test_a_file_that_gives_another_number_of_bytes_is_an_error(size: int, chunks: list[bytes], given: str) -> None:
    with pytest.raises(MvmnixError, match=f"a file of {size} bytes gave {given} bytes while it was read"):
        nar_hash(nar_of_file(size, chunks))


def test_entries_cannot_be_changed_afterwards() -> None:
    entries: dict[bytes, Node] = {b"a": File.of(b"1")}
    tree = Dir(entries)
    before = bytes_of(tree)
    entries[b"../x"] = File.of(b"2")
    assert bytes_of(tree) == before


@given(TREES)
def test_a_tree_comes_back_from_its_archive(tree: Node) -> None:
    assert bytes_of(tree_of_nar(bytes_of(tree))) == bytes_of(tree)


@given(TREES, st.data())
def test_another_archive_is_another_tree_or_none(tree: Node, data: st.DataObject) -> None:
    """Each byte counts: what is read is exactly what would be written."""
    archive = bytearray(bytes_of(tree))
    at = data.draw(st.integers(0, len(archive) - 1))
    archive[at] ^= data.draw(st.integers(1, 255))
    try:
        read = tree_of_nar(bytes(archive))
    except MalformedError:
        return
    assert bytes_of(read) == archive


HEAD = string(b"nix-archive-1")
NOTHING = strings(b"(", b"type", b"regular", b"contents", b"", b")")


def directory(*names: bytes) -> bytes:
    inner = b"".join(strings(b"entry", b"(", b"name", name, b"node") + NOTHING + string(b")") for name in names)
    return HEAD + strings(b"(", b"type", b"directory") + inner + string(b")")


@pytest.mark.parametrize(
    ("archive", "why"),
    [
        (b"", "not an archive at byte 0"),
        (HEAD, "not an archive"),
        (HEAD + NOTHING + b"\0" * 8, "follows its end"),
        (HEAD + NOTHING[:-1], "not an archive"),
        (HEAD + strings(b"(", b"type", b"regular", b"contents") + b"\xff" * 8, "cut off"),
        (HEAD + strings(b"(", b"type", b"regular", b"contents", b"8 bytes."), "not an archive at byte 104"),
        (HEAD + strings(b"(", b"type", b"regular", b"contents", b"8 bytes.")[:-1], "cut off in the string at byte 88"),
        (HEAD + strings(b"(", b"type", b"symlink", b"target", b"", b")"), "not the target"),
        (HEAD + strings(b"(", b"type", b"device", b")"), "not an archive"),
        (directory(b"b", b"a"), "the entry b'a' after b'b'"),
        (directory(b"a", b"a"), "the entry b'a' after b'a'"),
        *((directory(name), "has the entry") for name in (b"", b".", b"..", b"a/b", b"/etc", b"a\0")),
        (HEAD + strings(b"(", b"type", b"directory", b"entry", b"(", b"name", b"a", b"node") * 100, "nested deeper"),
    ],
)
def test_what_nix_would_not_write(archive: bytes, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        tree_of_nar(archive)


def test_how_deep_it_goes() -> None:
    """A node in 64 directories is read, and none in 65, whatever it is."""
    for inner in (File.of(b"x"), Symlink(b"x"), Dir({})):
        tree: Node = inner
        for _ in range(64):
            tree = Dir({b"a": tree})
        assert tree_of_nar(bytes_of(tree)) is not None
        with pytest.raises(MalformedError, match="nested deeper than 64 directories"):
            tree_of_nar(bytes_of(Dir({b"a": tree})))


def test_how_large_a_file_may_be() -> None:
    """What Nix writes as a length, and every kernel as a size (off_t)."""
    assert File(2**63 - 1, lambda: ()).size == 2**63 - 1
    for size in (2**63, -1):
        with pytest.raises(ValueError, match="no file has"):
            File(size, lambda: ())
