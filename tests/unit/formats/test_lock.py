"""flake.lock: what is read of it, and each reason for which a node is refused."""

from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.formats import flake_references, lock
from mvmnix.formats.lock import RawNode, locked_node, original_place
from mvmnix.model import StorePath
from tests.support.locks import ASKED, GIT, GITHUB, NAR, REV, lock_file


def node(locked: dict[str, Any], **others: Any) -> bytes:
    return lock_file({"n": {"locked": locked, "original": {"type": locked.get("type", "x")}, **others}})


def codes(data: bytes) -> tuple[ReasonCode, ...]:
    with pytest.raises(RefusedError) as caught:
        lock.parse(data)
    return caught.value.codes


def test_no_lock_file_means_no_inputs() -> None:
    assert lock.parse(None) == lock.LockedFlake(None)


def test_a_lock_without_inputs_has_a_digest() -> None:
    data = b'{"nodes":{"root":{}},"root":"root","version":7}'
    assert lock.parse(data) == lock.LockedFlake(Digest.of(data))


def test_a_github_node() -> None:
    parsed = lock.parse(node(GITHUB))
    (found,) = parsed.locked
    place = flake_references.Forge(flake_references.NodeKind.GITHUB, "NixOS", "nixpkgs", rev=REV)
    asked = lock.OriginalInput(flake_references.Forge(flake_references.NodeKind.GITHUB, "", ""))
    assert found == lock.LockedNode("n", place, Digest.from_sri(NAR), "", flake=True, asked=asked)
    assert found.uri == f"github:NixOS/nixpkgs/{REV}"
    assert found.store_path == StorePath.recursive("source", Digest.from_sri(NAR))
    assert found.source.uri == found.uri


@pytest.mark.parametrize(
    ("locked", "uri"),
    [
        (GITHUB | {"type": "gitlab", "host": "git.example"}, f"gitlab:NixOS/nixpkgs/{REV}?host=git.example"),
        (GITHUB | {"type": "sourcehut", "owner": "~sircmpwn"}, f"sourcehut:~sircmpwn/nixpkgs/{REV}"),
        (
            {"type": "git", "url": "https://h/r", "ref": "main", "rev": REV, "narHash": NAR, "shallow": True},
            f"git+https://h/r?rev={REV}",
        ),
        ({"type": "git", "url": "https://h/r?x=1", "rev": REV, "narHash": NAR}, f"git+https://h/r?x=1&rev={REV}"),
        ({"type": "tarball", "url": "https://h/t.tar.gz", "narHash": NAR}, "https://h/t.tar.gz"),
        ({"type": "file", "url": "https://h/f", "narHash": NAR}, "file+https://h/f"),
    ],
)
def test_every_kind_has_its_uri(locked: dict[str, Any], uri: str) -> None:
    (found,) = lock.parse(node(locked, flake=False)).locked
    assert (found.uri, found.flake) == (uri, False)


def test_relative_paths_as_nix_2_26_writes_them() -> None:
    data = lock_file(
        {
            "a": {"locked": {"path": "../tree", "type": "path"}, "original": {"type": "path"}, "parent": ["mvm"]},
            "mvm": {"inputs": {"a": "a"}, "locked": {"path": "../../sub", "type": "path"}, "parent": []},
        },
        {"mvm": "mvm", "t": ["mvm", "a"]},
    )
    parsed = lock.parse(data)
    assert parsed.locked == ()
    assert parsed.relative == (
        lock.RelativeNode("a", "../tree", ("mvm",), lock.OriginalInput(flake_references.Local(""))),
        lock.RelativeNode("mvm", "../../sub", (), lock.OriginalInput(flake_references.Unknown("", ""))),
    )


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", ReasonCode.LOCK_MALFORMED),
        (b"[]", ReasonCode.LOCK_MALFORMED),
        (b"\xff", ReasonCode.LOCK_MALFORMED),
        (b"[" * 100_000, ReasonCode.LOCK_MALFORMED),
        (b'{"nodes":{"root":{}},"root":"root","version":6}', ReasonCode.LOCK_MALFORMED),
        (b'{"nodes":{"root":{}},"root":"root","version":8}', ReasonCode.LOCK_MALFORMED),
        (b'{"nodes":{"root":{}},"root":"root","version":7.0}', ReasonCode.LOCK_MALFORMED),
        (b'{"nodes":{"root":{}},"root":"root","root":"root","version":7}', ReasonCode.LOCK_MALFORMED),
        (b'{"nodes":{"root":{}},"root":"root","version":7,"more":1}', ReasonCode.LOCK_MALFORMED),
        (b'{"nodes":{},"root":"root","version":7}', ReasonCode.LOCK_MALFORMED),
        (lock_file({}, {"a": "missing"}), ReasonCode.LOCK_MALFORMED),
        (lock_file({}, {"a": ["b"], "b": ["a"]}), ReasonCode.LOCK_MALFORMED),
        (lock_file({}, {"a": ["missing"]}), ReasonCode.LOCK_MALFORMED),
        (lock_file({}, {"a": 1}), ReasonCode.LOCK_MALFORMED),
        (node(GITHUB | {"narHash": "sha512-AAAA"}), ReasonCode.LOCK_MALFORMED),
        (node(GITHUB | {"narHash": "sha256-!"}), ReasonCode.LOCK_MALFORMED),
        (node(GITHUB | {"rev": "main"}), ReasonCode.LOCK_MALFORMED),
        (node(GITHUB | {"owner": "a/b"}), ReasonCode.LOCK_MALFORMED),
        (node(GITHUB | {"host": "h/../x"}), ReasonCode.LOCK_MALFORMED),
        (node(GITHUB | {"deep": {}}), ReasonCode.LOCK_MALFORMED),
        (node({"type": "tarball", "url": "no url", "narHash": NAR}), ReasonCode.LOCK_MALFORMED),
        (node({"type": "tarball", "url": "https://h/a b", "narHash": NAR}), ReasonCode.LOCK_MALFORMED),
        (node({"type": "tarball", "url": "h.test/t.tar.gz", "narHash": NAR}), ReasonCode.LOCK_MALFORMED),
        (node({"type": "tarball", "narHash": NAR}), ReasonCode.LOCK_MALFORMED),
        (node({"type": "path", "path": ""}), ReasonCode.LOCK_MALFORMED),
        (node({"type": "path", "path": 1}), ReasonCode.LOCK_MALFORMED),
        (node({"type": "path"}), ReasonCode.LOCK_MALFORMED),
        (node(GITHUB | {"dir": "../x"}), ReasonCode.LOCK_MALFORMED),
        (node(GITHUB, original={"type": "github", "dir": "/x"}), ReasonCode.LOCK_MALFORMED),
        (node(GITHUB, original={"type": "github", "ref": "a\x1b[2J"}), ReasonCode.LOCK_MALFORMED),
        (node(GITHUB, original={"type": "git", "url": "https://u:p@h/r"}), ReasonCode.LOCK_NODE_UNSUPPORTED),
        (node(GIT | {"submodules": True}), ReasonCode.LOCK_NODE_UNSUPPORTED),
        (node(GIT | {"lfs": True}), ReasonCode.LOCK_NODE_UNSUPPORTED),
        (node(GIT | {"exportIgnore": True}), ReasonCode.LOCK_NODE_UNSUPPORTED),
        (node(GIT | {"verifyCommit": True, "publicKeys": []}), ReasonCode.LOCK_NODE_UNSUPPORTED),
        (node(GIT | {"url": "file:///srv/r"}), ReasonCode.LOCK_NODE_UNSUPPORTED),
        (node(GITHUB | {"flavour": "x"}), ReasonCode.LOCK_NODE_UNSUPPORTED),
        (node(GITHUB | {"type": "mercurial"}), ReasonCode.LOCK_NODE_UNSUPPORTED),
        (node({"type": "path", "path": "/etc"}), ReasonCode.LOCK_NODE_UNSUPPORTED),
        (node({"type": "path", "path": "x", "narHash": NAR}), ReasonCode.LOCK_NODE_UNSUPPORTED),
        (node({"type": "indirect", "id": "nixpkgs"}), ReasonCode.LOCK_NODE_UNSUPPORTED),
        (lock_file({"n": {"locked": GITHUB, "original": {"type": "indirect"}}}), ReasonCode.LOCK_NODE_UNSUPPORTED),
        (node({"type": "file", "url": "file:///etc/shadow", "narHash": NAR}), ReasonCode.LOCK_NODE_UNSUPPORTED),
        (node({"type": "tarball", "url": "https://u:p@h/t", "narHash": NAR}), ReasonCode.LOCK_NODE_UNSUPPORTED),
        (lock_file({"n": {"locked": {"type": "indirect"}, "original": ASKED}}), ReasonCode.LOCK_NODE_UNSUPPORTED),
        (lock_file({"n": {}}), ReasonCode.FLAKE_UNLOCKED),
        (lock_file({"n": {"locked": {}}}), ReasonCode.FLAKE_UNLOCKED),
        (lock_file({"n": {"locked": {"narHash": NAR}, "original": ASKED}}), ReasonCode.FLAKE_UNLOCKED),
        (lock_file({"n": {"original": {"type": "github"}}}), ReasonCode.FLAKE_UNLOCKED),
        (node({k: v for k, v in GITHUB.items() if k != "narHash"}), ReasonCode.FLAKE_UNLOCKED),
        (node({k: v for k, v in GITHUB.items() if k != "rev"}), ReasonCode.FLAKE_UNLOCKED),
        (
            node({"type": "git", "url": "https://h/r", "rev": REV, "narHash": NAR, "dirtyRev": REV + "-dirty"}),
            ReasonCode.FLAKE_DIRTY,
        ),
        (node(GIT | {"dirtyShortRev": REV[:7] + "-dirty"}), ReasonCode.FLAKE_DIRTY),
    ],
)
def test_refused(data: bytes, code: ReasonCode) -> None:
    assert set(codes(data)) == {code}


def test_all_bad_nodes_are_named_at_once() -> None:
    data = lock_file({"a": {}, "b": {"locked": {"type": "path", "path": "/etc"}}, "c": {"locked": GITHUB}})
    with pytest.raises(RefusedError) as caught:
        lock.parse(data)
    assert caught.value.codes == (ReasonCode.FLAKE_UNLOCKED, ReasonCode.LOCK_NODE_UNSUPPORTED)
    assert "'a'" in str(caught.value)
    assert "'b'" in str(caught.value)


def test_follows_end_where_they_would_multiply() -> None:
    inputs: dict[str, Any] = {f"i{n}": [f"i{n + 1}"] * 60 for n in range(60)}
    assert lock.parse(lock_file({}, inputs | {"i60": "root"})).locked == ()  # without a memory: 60 to the 60th
    chain: dict[str, Any] = {f"i{n}": [f"i{n + 1}"] for n in range(50_000)}
    assert set(codes(lock_file({}, chain))) == {ReasonCode.LOCK_MALFORMED}


def test_dir_and_flake_false_and_follows() -> None:
    nodes = {
        "a": {"locked": GITHUB | {"dir": "sub/flake"}, "original": {"type": "github", "dir": "sub/flake"}},
        "b": {"locked": GIT, "flake": False, "inputs": {"a": ["a"]}},
    }
    found = lock.parse(lock_file(nodes)).locked
    assert [(one.name, one.directory, one.flake) for one in found] == [("a", "sub/flake", True), ("b", "", False)]


def test_harmless_attributes_of_git_are_taken() -> None:
    assert lock.parse(node(GIT | {"allRefs": True, "submodules": False, "exportIgnore": False})).locked


@pytest.mark.parametrize("attributes", [{"type": "path", "path": "x"}, {"type": "hg", "url": "x"}, {}])
def test_a_node_that_is_nowhere_has_no_type(attributes: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="no place to fetch from"):
        locked_node(RawNode("a", attributes, attributes, True, ()))


@pytest.mark.parametrize(
    ("attributes", "codes"),
    [
        ({"type": "github", "owner": "a", "repo": "b"}, set()),
        ({"type": "indirect", "id": "nixpkgs"}, {ReasonCode.LOCK_NODE_UNSUPPORTED}),
        ({"type": "path", "path": "x"}, {ReasonCode.LOCK_NODE_UNSUPPORTED}),
        ({"type": "git", "url": "https://h/r", "what": "x"}, {ReasonCode.LOCK_NODE_UNSUPPORTED}),
    ],
)
def test_what_an_input_asks_for(attributes: dict[str, Any], codes: set[ReasonCode]) -> None:
    try:
        original_place("a", attributes)
    except RefusedError as refused:
        assert set(refused.codes) == codes
    else:
        assert not codes


@pytest.mark.parametrize(
    ("attributes", "shown"),
    [
        ({"type": "indirect", "id": "nixpkgs"}, "flake:nixpkgs"),
        ({"type": "hg", "url": "https://h/r"}, "hg:https://h/r"),
        ({"type": "path", "path": "./x"}, "path:./x"),
    ],
)
def test_what_is_no_place_to_fetch_from_is_shown(attributes: dict[str, Any], shown: str) -> None:
    with pytest.raises(RefusedError) as refused:
        original_place("a", attributes)
    assert f"{shown} is not a fixed source" in [reason.why for reason in refused.value.reasons]


def test_how_many_inputs_a_path_may_have() -> None:
    """Each of them is the root again."""
    inputs: dict[str, Any] = {"here": "root"}
    assert lock.parse(lock_file({}, inputs | {"a": ["here"] * 64})).locked == ()
    assert set(codes(lock_file({}, inputs | {"a": ["here"] * 65}))) == {ReasonCode.LOCK_MALFORMED}


@pytest.mark.parametrize("name", ["", "\n", "\x7f", "a" * 256])
def test_a_node_has_a_name(name: str) -> None:
    with pytest.raises(RefusedError, match="not the name of a node") as refused:
        lock.parse(lock_file({name: {"locked": GITHUB}}, {}))
    assert set(refused.value.codes) == {ReasonCode.LOCK_MALFORMED}


@pytest.mark.parametrize(
    ("attributes", "codes"),
    [
        ({"type": "path", "path": "x"}, (ReasonCode.LOCK_NODE_UNSUPPORTED,)),
        ({"type": "path", "path": ""}, (ReasonCode.LOCK_MALFORMED,)),
        (GITHUB | {"ref": "a..b"}, (ReasonCode.LOCK_MALFORMED,)),
        (GITHUB | {"ref": "main"}, ()),
    ],
)
def test_what_a_tree_is_locked_by(attributes: dict[str, Any], codes: tuple[ReasonCode, ...]) -> None:
    if not codes:
        found = lock.tree_node("a", attributes)
        assert (found.name, found.uri) == ("a", f"github:NixOS/nixpkgs/{REV}")
        return
    with pytest.raises(RefusedError) as refused:
        lock.tree_node("a", attributes)
    assert refused.value.codes == codes


def test_a_forge_by_its_branch() -> None:
    place = flake_references.Forge(flake_references.NodeKind.GITHUB, "NixOS", "nixpkgs", ref="nixos-24.11")
    assert place.uri == "github:NixOS/nixpkgs/nixos-24.11"
