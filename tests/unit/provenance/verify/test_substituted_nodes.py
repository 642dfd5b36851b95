"""Nodes of flake.lock that were locked to another place than their flake asked for, and what a policy pairs."""

from typing import Any

import pytest

from mvmnix.errors import ReasonCode
from mvmnix.formats import lock
from mvmnix.provenance.verify.checks import substituted_nodes
from tests.support.locks import ASKED, GIT, GITHUB, NAR, REV, lock_file

TARBALL = {"type": "tarball", "url": "https://h.test/a/t.tar.gz", "narHash": NAR}
FILE = TARBALL | {"type": "file"}
GIT_ASKED = {"type": "git", "url": "https://h/r"}


def substituted(locked: dict[str, Any], original: dict[str, Any], *pairs: lock.Pair) -> list[str]:
    parsed = lock.parse(lock_file({"n": {"locked": locked, "original": original}}))
    reasons = list(substituted_nodes(parsed, pairs))
    assert {reason.code for reason in reasons} <= {ReasonCode.LOCK_SUBSTITUTED}
    return [reason.why for reason in reasons]


@pytest.mark.parametrize(
    ("locked", "original"),
    [
        (GITHUB, ASKED),
        (GITHUB, ASKED | {"ref": "nixos-unstable"}),
        (GITHUB, ASKED | {"rev": REV}),
        (GITHUB, ASKED | {"rev": REV, "ref": "nixos-unstable"}),
        (GITHUB | {"host": "h.test"}, ASKED | {"host": "h.test"}),
        (GITHUB | {"dir": "d"}, ASKED | {"dir": "d"}),
        (GIT | {"ref": "main"}, GIT_ASKED),
        (GIT | {"ref": "main"}, GIT_ASKED | {"ref": "main"}),
        (TARBALL, {"type": "tarball", "url": "https://h.test/latest"}),
        (FILE, {"type": "file", "url": "https://h.test/latest"}),
        ({"type": "path", "path": "./x"}, {"type": "path", "path": "./x"}),
    ],
)
def test_what_was_asked_for_was_locked(locked: dict[str, Any], original: dict[str, Any]) -> None:
    assert substituted(locked, original) == []


@pytest.mark.parametrize(
    ("locked", "original", "what"),
    [
        (GITHUB, ASKED | {"owner": "nixos"}, "owner"),
        (GITHUB, ASKED | {"repo": "nix"}, "repo"),
        (GITHUB | {"host": "h.test"}, ASKED, "host"),
        (GITHUB, ASKED | {"host": "h.test"}, "host"),
        (GITHUB, ASKED | {"type": "gitlab"}, "type"),
        (GITHUB, ASKED | {"rev": "0" * 40}, "rev"),
        (GITHUB | {"ref": "evil"}, ASKED | {"ref": "main"}, "ref"),
        (GITHUB | {"dir": "evil"}, ASKED, "dir"),
        (GITHUB, GIT_ASKED, "type"),
        (GITHUB, {}, "type"),
        (GIT, GIT_ASKED | {"url": "https://h/other"}, "URL"),
        (GIT, GIT_ASKED | {"url": "http://h/r"}, "URL"),
        (GIT, GIT_ASKED | {"rev": "0" * 40}, "rev"),
        (TARBALL, {"type": "tarball", "url": "https://other.test/a/t.tar.gz"}, "host"),
        (TARBALL | {"url": "http://h.test/t"}, {"type": "tarball", "url": "https://h.test/t"}, "host"),
        (TARBALL, {"type": "file", "url": "https://h.test/a/t.tar.gz"}, "type"),
        ({"type": "path", "path": "./x"}, ASKED, "type"),
        ({"type": "path", "path": "./x"}, {"type": "path", "path": "./y"}, "path"),
    ],
)
def test_something_else_was_locked(locked: dict[str, Any], original: dict[str, Any], what: str) -> None:
    (why,) = substituted(locked, original)
    assert f"{what} " in why.partition("locked to ")[2]


def test_a_pair_admits_what_it_names_on_both_sides() -> None:
    moved = (GITHUB | {"owner": "fork"}, ASKED)
    assert substituted(*moved, ("github:NixOS/nixpkgs*", "github:fork/nixpkgs/*")) == []
    assert substituted(*moved, ("github:NixOS/nixpkgs*", "github:other/*"))
    assert substituted(*moved, ("github:other/*", "github:fork/nixpkgs/*"))
    assert substituted(*moved, ("GITHUB:nixos/*", "github:fork/nixpkgs/*"))


def test_every_substituted_node_is_named_at_once() -> None:
    data = lock_file({name: {"locked": GITHUB, "original": GIT_ASKED} for name in ("a", "b")})
    assert len(list(substituted_nodes(lock.parse(data)))) == 2
