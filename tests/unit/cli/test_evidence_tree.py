"""The tree in the terminal has every node once, with digest, signer and verdict, and strangers' text is only text."""

import io
from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.cli.evidence_tree import show_tree, spanning, summary
from mvmnix.errors import Reason, ReasonCode
from mvmnix.evidence.graph import Graph, Node, NodeKind, NodeStatus, refused, unverified, verified
from tests.unit.evidence.exhibits import exhibit

HOSTILE = "\x1b[2J\x1b]0;x\x07[bold]:smile:\u202eevil\nforged line"


def shown(graph: Graph) -> str:
    out = io.StringIO()
    show_tree(graph, out)
    return out.getvalue()


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return exhibit(tmp_path).graph()


def test_every_node_is_there_once(graph: Graph) -> None:
    lines = shown(graph).splitlines()
    for node in graph.nodes:
        (number,) = [index for index, line in enumerate(lines) if f"✓ {node.kind} {node.name}  verified" in line]
        vouched = lines[number + 1] if node.digest or node.signer else ""
        assert node.digest in vouched
        assert node.signer in vouched
    assert sum("✓" in line for line in lines) == len(graph.nodes)
    assert lines[-1] == summary(graph) == f"image: verified ({graph.count(NodeStatus.VERIFIED)} verified)"


def test_the_subject_is_the_root_and_all_hang_under_it(graph: Graph) -> None:
    children = spanning(graph)
    reached = [graph.subject, *(key for each in children.values() for key, _ in each)]
    assert sorted(reached) == sorted(node.key for node in graph.nodes)
    assert ("tree", "built from") in children["derivation"]
    assert ("lock", "locked by") in children["tree"]


def test_what_does_not_stand_is_told() -> None:
    reasons = (Reason(ReasonCode.SIGNER_UNKNOWN, "it", "nobody knows the key", "ask somebody"),)
    members = tuple(Node(f"m{n}", NodeKind.SOURCE, f"file {n}", unverified("lost")) for n in range(11))
    good = Node("good", NodeKind.SOURCE, "a good one", verified("it holds"))
    graph = Graph("a", (Node("a", NodeKind.SOURCES, "12 files", refused(reasons), members=(good, *members)),), ())
    said = shown(graph)
    assert "✗ fetched sources 12 files  refused [signer-unknown]" in said
    assert "why: nobody knows the key. Next: ask somebody" in said
    assert said.count("? source file") == 8
    assert "… and 3 more that are not verified" in said
    assert "a good one" not in said
    assert said.endswith("fetched sources: refused (1 verified, 11 not verified, 1 refused)\n")


def test_what_no_edge_leads_to_is_shown_all_the_same() -> None:
    nodes = tuple(Node(key, NodeKind.FILE, key, verified("it holds")) for key in "ab")
    assert "✓ file b" in shown(Graph("a", nodes, ()))


def test_strangers_text_is_only_text(graph: Graph) -> None:
    evil = replace(graph["image"], name=HOSTILE, signer=HOSTILE, digest=HOSTILE, verdict=unverified(HOSTILE))
    nodes = tuple(evil if node.key == "image" else node for node in graph.nodes)
    said = shown(Graph(graph.subject, nodes, graph.edges))
    assert not set(said) & set("\x1b\x07\u202e")
    assert len(said.splitlines()) == len(shown(graph).splitlines()), "no line is a stranger's"
    assert "[bold]:smile:" in said
