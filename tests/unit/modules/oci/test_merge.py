"""Layers become one tree as the image specification says, and no layer's names, links or whiteouts lead out of it."""

import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.oci.merge import Directory, File, Merge
from modules.oci.tarball import LayerError
from tests.unit.modules.oci.layers import (
    Member,
    archive,
    file,
    folder,
    hard_link,
    member,
    merge,
    shown,
    symlink,
    tree,
)

MERGED: dict[str, tuple[list[tuple[Member, ...]], dict[str, str]]] = {
    "nothing": ([], {}),
    "a file with its directories": ([(file("a/b", b"1"),)], {"a": "/", "a/b": "1"}),
    "names are cleaned": ([(folder("./"), folder("./a//"), file("./a/./b", b"1"))], {"a": "/", "a/b": "1"}),
    "a higher layer's file": ([(file("a", b"1"),), (file("a", b"2"),)], {"a": "2"}),
    "a directory stays": ([(file("a/b", b"1"),), (folder("a"), file("a/c", b"2"))], {"a": "/", "a/b": "1", "a/c": "2"}),
    "a file in a directory's place": ([(file("a/b", b"1"),), (file("a", b"2"),)], {"a": "2"}),
    "a directory in a file's place": ([(file("a", b"1"),), (folder("a"), file("a/b", b"2"))], {"a": "/", "a/b": "2"}),
    "a directory in a link's place": (
        [(folder("b"), symlink("a", "b")), (folder("a"), file("a/c", b"2"))],
        {"a": "/", "a/c": "2", "b": "/"},
    ),
    "a whiteout": ([(file("a/b", b"1"), file("a/c", b"2")), (file("a/.wh.b"),)], {"a": "/", "a/c": "2"}),
    "a whiteout of a tree": ([(file("a/b/c", b"1"),), (file("a/.wh.b"),)], {"a": "/"}),
    "a whiteout of nothing": ([(file("a", b"1"),), (file(".wh.b"), file("x/y/.wh.z"), file("a/.wh.q"))], {"a": "1"}),
    "a whiteout hides lower layers only": (
        [(file("a", b"1"),), (file("a", b"2"), file(".wh.a"))],
        {"a": "2"},
    ),
    "an opaque directory": (
        [(file("a/b", b"1"), file("a/c/d", b"2")), (file("a/e", b"3"), file("a/.wh..wh..opq"))],
        {"a": "/", "a/e": "3"},
    ),
    "an opaque root": ([(file("a/b", b"1"),), (file(".wh..wh..opq"), file("c", b"2"))], {"c": "2"}),
    "an opaque directory in a link's place": (
        [(file("b/x", b"1"), symlink("a", "b")), (folder("a"), file("a/.wh..wh..opq"), file("a/y", b"2"))],
        {"a": "/", "a/y": "2", "b": "/", "b/x": "1"},
    ),
    "a whiteout, and hidden again": ([(file("a", b"1"),), (file(".wh.a"),), (file("a", b"3"),)], {"a": "3"}),
    "links are kept": (
        [(symlink("a", "../../etc/passwd"), symlink("b", "/x"))],
        {"a": "-> ../../etc/passwd", "b": "-> /x"},
    ),
    "a directory behind a link": (
        [(folder("run"), symlink("var", "/run")), (file("var/x", b"1"),)],
        {"run": "/", "run/x": "1", "var": "-> /run"},
    ),
    "a link out of the root leads to the root": (
        [(symlink("a", "../../../b"),), (file("a/x", b"1"),)],
        {"a": "-> ../../../b", "b": "/", "b/x": "1"},
    ),
    "an absolute link leads to the root": (
        [(folder("d"), symlink("d/a", "/")), (file("d/a/x", b"1"),)],
        {"d": "/", "d/a": "-> /", "x": "1"},
    ),
    "a hard link": ([(file("a", b"1"), hard_link("b", "a"))], {"a": "1", "b": "1"}),
    "a hard link to a lower layer": (
        [(file("d/a", b"1"),), (hard_link("b", "./d/a"),)],
        {"b": "1", "d": "/", "d/a": "1"},
    ),
    "a hard link outlives its target": ([(file("a", b"1"), hard_link("b", "a")), (file(".wh.a"),)], {"b": "1"}),
    "directories may be listed twice": ([(folder("a"), folder("a/"), folder("./a"))], {"a": "/"}),
    "odd names": (
        [(file("a\nb", b"1"), file("\udcff", b"2"), file("-rf", b"3"))],
        {"-rf": "3", "a\nb": "1", "\udcff": "2"},
    ),
    "nothing of /dev": (
        [(member("dev/sda", tarfile.BLKTYPE), file("dev/x", b"1"), file("dev/.wh.y"), folder("dev"))],
        {"dev": "/"},
    ),
}


@pytest.mark.parametrize(("layers", "expected"), MERGED.values(), ids=MERGED)
def test_merged(layers: list[tuple[Member, ...]], expected: dict[str, str]) -> None:
    assert tree(*layers) == expected


REFUSED: dict[str, tuple[list[tuple[Member, ...]], str]] = {
    "an absolute name": ([(file("/etc/passwd"),)], "absolute"),
    "a name with ..": ([(file("a/../../etc/passwd"),)], "with .."),
    "a name that is ..": ([(folder(".."),)], "with .."),
    "a long name": ([(file("a" * 256),)], "longer than 255"),
    "the root as a file": ([(member("./", tarfile.SYMTYPE, linkname="/etc"),)], "named like a directory"),
    "the root as a link": ([(member(".", tarfile.SYMTYPE, linkname="/etc"),)], "root is not a directory"),
    "a hard link out of the root": ([(hard_link("a", "../../etc/shadow"),)], "with .."),
    "an absolute hard link": ([(hard_link("a", "/etc/shadow"),)], "absolute"),
    "a hard link to nothing": ([(hard_link("a", "etc/shadow"),)], "not a regular file"),
    "a hard link to the root": ([(hard_link("a", "."),)], "not a regular file"),
    "a hard link to itself": ([(hard_link("a", "a"),)], "not a regular file"),
    "a hard link to a directory": ([(folder("d"), hard_link("a", "d"))], "not a regular file"),
    "a hard link to a link": ([(symlink("l", "/etc/shadow"), hard_link("a", "l"))], "not a regular file"),
    "a hard link through a link out of the root": (
        [(symlink("l", "../../etc"), hard_link("a", "l/shadow"))],
        "not a regular file",
    ),
    "a hard link to what comes later": ([(hard_link("a", "b"), file("b"))], "not a regular file"),
    "a character device": ([(member("null", tarfile.CHRTYPE),)], "character device"),
    "a block device": ([(member("x/sda", tarfile.BLKTYPE),)], "block device"),
    "a FIFO": ([(member("p", tarfile.FIFOTYPE),)], "fifo"),
    "a device in /dev by way of a link": ([(symlink("x", "dev"), member("x/sda", tarfile.BLKTYPE))], "block device"),
    "a file in a file": ([(file("a", b"1"),), (file("a/b", b"2"),)], "a file is on the way"),
    "a ring of links": ([(symlink("a", "b"), symlink("b", "a"), file("a/x"))], "too many symbolic links"),
    "a link to itself": ([(symlink("a", "a/a"), file("a/x"))], "too many symbolic links"),
    "a file twice": ([(file("a", b"1"), file("./a", b"2"))], "twice in one layer"),
    "a file and a directory": ([(file("a", b"1"), folder("a"))], "twice in one layer"),
    "a whiteout twice": ([(file(".wh.a"), file(".wh.a"))], "twice in one layer"),
    "a whiteout of nothing at all": ([(file(".wh."),)], "whiteout of another form"),
    "a whiteout of .": ([(file("a/.wh.."),)], "whiteout of another form"),
    "a whiteout of ..": ([(file("a/.wh..."),)], "whiteout of another form"),
    "a whiteout with contents": ([(file(".wh.a", b"x"),)], "whiteout of another form"),
    "a whiteout that is a directory": ([(folder(".wh.a"),)], "whiteout of another form"),
    "a whiteout that is a link": ([(symlink(".wh.a", "/etc"),)], "whiteout of another form"),
    "something in a whiteout": ([(file(".wh.a/b"),)], "whiteout of another form"),
    "marks of AUFS": ([(file(".wh..wh.plnk"),)], "whiteout of another form"),
    "a whiteout behind a link": (
        [(file("b/x", b"1"), symlink("a", "b")), (file("a/.wh.x"),)],
        "whiteout behind a symbolic link",
    ),
    "an opaque directory behind a link out of the root": (
        [(symlink("a", "../.."),), (file("a/.wh..wh..opq"),)],
        "whiteout behind a symbolic link",
    ),
    "a deep tree": ([(folder("a/" * 300),)], "nested deeper"),
    "a tree that is deep behind links": (
        [(folder("a/" * 200), symlink("l", "a/" * 200), folder("l/" + "b/" * 200))],
        "too deep",
    ),
}


@pytest.mark.parametrize(("layers", "why"), REFUSED.values(), ids=REFUSED)
def test_refused(layers: list[tuple[Member, ...]], why: str) -> None:
    with pytest.raises(LayerError, match=why):
        tree(*layers)


def test_owners_stay_and_set_id_bits_go() -> None:
    merged = merge(
        archive(
            folder("d", mode=0o7777, uid=5, gid=6),
            file("d/su", b"", mode=0o6755, uid=0, gid=42),
            folder("./", mode=0o2700, uid=3),
        )
    )
    directory = merged.root.children[b"d"]
    assert isinstance(directory, Directory)
    su = directory.children[b"su"]
    assert isinstance(su, File)
    assert (directory.mode, directory.uid, directory.gid) == (0o1777, 5, 6)
    assert (su.mode, su.uid, su.gid) == (0o755, 0, 42)
    assert (merged.root.mode, merged.root.uid) == (0o700, 3)


def test_entries_and_names_are_bounded() -> None:
    many = archive(*(file(str(number)) for number in range(20)))
    assert len(merge(many, max_nodes=20).root.children) == 20
    with pytest.raises(LayerError, match="too many entries"):
        merge(many, max_nodes=19)
    with pytest.raises(LayerError, match="too many entries"):
        merge(archive(file("a/b/c/d/e")), max_nodes=4)  # what nobody listed counts too
    with pytest.raises(LayerError, match="too many entries"):
        merge(archive(file("a" * 90), symlink("b", "c" * 90)), max_text=180)


def test_places_to_mount_on_are_no_links() -> None:
    merged = merge(archive(folder("var"), symlink("var/tmp", "/etc")))
    with pytest.raises(LayerError, match="a directory is needed"):
        merged.directory((b"var", b"tmp"))
    merged.directory((b"var", b"lib", b"x"))
    assert shown(merged) == {"var": "/", "var/lib": "/", "var/lib/x": "/", "var/tmp": "-> /etc"}


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
CHANGES = st.lists(st.tuples(st.sampled_from("fdwo"), PATHS), max_size=8, unique_by=lambda change: change[1])


def clear(paths: dict[str, str], path: str) -> None:
    for name in [name for name in paths if name.startswith(f"{path}/")]:
        del paths[name]


def hide(paths: dict[str, str], kind: str, path: str) -> None:
    if kind in "ow":
        clear(paths, path)
    if kind == "w":
        paths.pop(path, None)


def model(layers: list[list[tuple[str, str]]]) -> dict[str, str] | None:
    """The same by the words of layer.md, on a dictionary of paths; None when something lies in a file."""
    paths: dict[str, str] = {}
    for number, layer in enumerate(layers):
        for kind, path in layer:
            hide(paths, kind, path)
        for kind, path in [change for change in layer if change[0] in "fd"]:
            parents = [path.rsplit("/", up)[0] for up in range(path.count("/"), 0, -1)]
            if any(paths.get(parent, "/") != "/" for parent in parents):
                return None
            paths.update(dict.fromkeys(parents, "/"))
            if kind == "f":
                clear(paths, path)
            paths[path] = "/" if kind == "d" else str(number)
    return paths


@given(st.lists(CHANGES, max_size=4))
def test_it_is_what_the_specification_says(layers: list[list[tuple[str, str]]]) -> None:
    def written(number: int, kind: str, path: str) -> Member:
        folder_of, _, name = path.rpartition("/")
        within = f"{folder_of}/" if folder_of else ""
        match kind:
            case "f":
                return file(path, str(number).encode())
            case "d":
                return folder(path)
            case "w":
                return file(f"{within}.wh.{name}")
            case _:
                return file(f"{path}/.wh..wh..opq")

    made = [tuple(written(number, kind, path) for kind, path in layer) for number, layer in enumerate(layers)]
    expected = model(layers)
    if expected is None:
        with pytest.raises(LayerError, match="on the way"):
            tree(*made)
    else:
        assert tree(*made) == expected


TARGETS = st.lists(st.sampled_from(["a", "b", "..", ".", ""]), min_size=1, max_size=5).map("/".join).filter(bool)


@given(st.lists(st.tuples(PATHS, TARGETS), max_size=6, unique_by=lambda link: link[0]), PATHS)
def test_whatever_links_say_everything_lies_in_the_tree(links: list[tuple[str, str]], path: str) -> None:
    merged = Merge()
    try:
        merged = merge(archive(*(symlink(name, target) for name, target in links), style=tarfile.PAX_FORMAT))
        found = merged.walk(tuple(part.encode() for part in path.split("/")), create=True)
    except LayerError:
        return
    assert found is not None
    waiting: list[Directory] = [merged.root]
    while waiting and waiting[-1] is not found:
        waiting = [node for node in waiting.pop().children.values() if isinstance(node, Directory)] + waiting
    assert waiting
