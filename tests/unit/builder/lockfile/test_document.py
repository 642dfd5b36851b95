"""flake.lock as a tree of entries: read with suspicion, written as Nix writes it."""

import json
from pathlib import Path
from typing import Any

import pytest

from mvmnix.builder.lockfile import document
from mvmnix.builder.lockfile.document import Entry, Inputs, LockChange
from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from tests.repository import ROOT

HERE = {"type": "path", "path": "./a"}


def lock(nodes: dict[str, Any], version: int = 7) -> bytes:
    return json.dumps({"nodes": nodes, "root": "root", "version": version}).encode()


def node(**inputs: object) -> dict[str, Any]:
    return {"locked": HERE, "original": HERE} | ({"inputs": inputs} if inputs else {})


@pytest.mark.parametrize("path", [ROOT / "flake.lock", *sorted(ROOT.glob("examples/*/flake.lock"))], ids=str)
def test_what_nix_wrote_is_written_again_byte_for_byte(path: Path) -> None:
    assert document.write(document.read(path.read_bytes())) == path.read_bytes()


def test_no_file_has_no_inputs() -> None:
    assert document.read(None) == {}
    assert document.write({}) == b'{\n  "nodes": {\n    "root": {}\n  },\n  "root": "root",\n  "version": 7\n}\n'


def test_names_are_given_on_the_way_down() -> None:
    leaf = Entry(HERE, HERE)
    inner = Entry(HERE, HERE, inputs={"a": leaf, "b": leaf})
    written = json.loads(document.write({"a": inner, "b": leaf, "root": leaf}))["nodes"]
    assert written["root"]["inputs"] == {"a": "a", "b": "b_2", "root": "root_2"}
    assert written["a"]["inputs"] == {"a": "a_2", "b": "b"}


def test_everything_that_an_entry_says_is_written() -> None:
    entry = Entry({"type": "path", "path": "é"}, HERE, flake=False, parent=(), inputs={"x": ("a", "b")})
    data = document.write({"a": entry})
    assert document.read(data) == {"a": entry}
    assert "é".encode() in data


def test_a_shared_node_is_an_input_of_both() -> None:
    read = document.read(lock({"root": {"inputs": {"a": "x", "b": "x"}}, "x": node()}))
    assert read["a"] == read["b"] == Entry(HERE, HERE)


def doubling(levels: int) -> dict[str, Any]:
    """Each node is an input of the one before it, twice."""
    nodes = {f"n{level}": node(a=f"n{level + 1}", b=f"n{level + 1}") for level in range(levels)}
    return {"root": {"inputs": {"a": "n0"}}, **nodes, f"n{levels}": node()}


def test_shared_nodes_do_not_multiply() -> None:
    """Some kilobytes of them would be thousands of millions of inputs."""
    assert len(document.changes({}, document.read(lock(doubling(10))))) == 2**11 - 1
    for levels in (12, 31):
        with pytest.raises(RefusedError, match="more than 4096 inputs") as caught:
            document.read(lock(doubling(levels)))
        assert caught.value.reasons[0].code is Code.LOCK_MALFORMED


def chain(length: int) -> dict[str, Any]:
    nodes = {f"n{index}": node(n=f"n{index + 1}") for index in range(length)}
    return {"root": {"inputs": {"n": "n0"}}, **nodes, f"n{length}": node()}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        lock({}),
        lock({"root": {}}, version=6),
        lock({"root": {"inputs": {"a": "b"}}}),
        lock({"root": {"inputs": {"a": "a"}}, "a": node(b="a")}),
        lock({"root": {"inputs": {"a": "a"}}, "a": node(b="root")}),
        lock({"root": {"inputs": {"a": "a"}}, "a": {"original": HERE}}),
        lock({"root": {"inputs": {"a": "a"}}, "a": {"locked": HERE}}),
        lock({"root": {"inputs": {"a": "a"}}, "a": {"locked": {"type": ["x"]}, "original": HERE}}),
        lock({"root": {"inputs": {"a\n": "a"}}, "a": node()}),
        lock({"root": {"inputs": {"a": 1}}, "a": node()}),
        lock({"root": {"inputs": {"a": "a"}}, "a": node() | {"more": 1}}),
        lock(chain(document.MAX_DEPTH + 1)),
    ],
)
def test_what_is_no_lock_is_refused(data: bytes) -> None:
    with pytest.raises(RefusedError) as refusal:
        document.read(data)
    assert set(refusal.value.codes) == {Code.LOCK_MALFORMED}


def test_changes_are_named_by_input() -> None:
    old: Inputs = {"a": Entry(HERE, HERE, inputs={"x": Entry(HERE, HERE)}), "b": ("a",)}
    other = {"type": "tarball", "url": "http://localhost/a", "narHash": "sha256-x", "dir": "sub"}
    new: Inputs = {"a": Entry(other, other, inputs={"x": Entry(HERE, HERE)}), "c": ()}
    assert document.changes(old, new) == (
        LockChange(("a",), "path:./a", "http://localhost/a dir=sub (sha256-x)"),
        LockChange(("b",), "follows a", None),
        LockChange(("c",), None, "follows the flake itself"),
    )
    assert document.changes(old, old) == ()


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"type": "github", "owner": "o", "repo": "r", "ref": "b"}, "github:o/r/b"),
        ({"type": "gitlab", "owner": "o", "repo": "r"}, "gitlab:o/r"),
        ({"type": "git", "url": "ssh://h/x", "rev": "1"}, "git+ssh://h/x?rev=1"),
        ({"type": "git", "url": "ssh://h/x"}, "git+ssh://h/x"),
        ({"type": "indirect", "id": "nixpkgs"}, "nixpkgs"),
        ({}, "?"),
    ],
)
def test_references_are_told_in_a_line(attributes: dict[str, str], text: str) -> None:
    assert document.describe(attributes) == text
