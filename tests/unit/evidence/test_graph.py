"""Verdicts say what they say, and nothing is called verified by a slip: the nouns of a graph of evidence."""

import pytest

from mvmnix.errors import MvmnixError, Reason, ReasonCode, refuse
from mvmnix.evidence.graph import (
    Draft,
    Edge,
    EdgeKind,
    Graph,
    Node,
    NodeKind,
    NodeStatus,
    Verdict,
    refused,
    unverified,
    verdict_of,
    verified,
    worst,
)

WHY = Reason(ReasonCode.SIGNER_UNKNOWN, "the plan", "nobody knows it", "ask")
OTHER = Reason(ReasonCode.PLAN_EXPIRED, "the plan", "it is late", "hurry")


def node(key: str, verdict: Verdict | None = None, members: tuple[Node, ...] = ()) -> Node:
    return Node(key, NodeKind.FILE, key, verdict or verified("it holds"), members=members)


def test_verdicts_in_words() -> None:
    assert str(verified("it holds")) == "verified"
    assert str(unverified("it is lost")) == "not verified: it is lost"
    assert str(refused([WHY, OTHER, WHY])) == "refused [signer-unknown, plan-expired]"
    assert refused([WHY, OTHER, WHY]).reasons == (WHY, OTHER)


def test_a_failed_look_is_no_tick() -> None:
    assert verdict_of(MvmnixError("gone")) == unverified("gone")
    assert verdict_of(refuse(ReasonCode.UNSIGNED, "a", "b", "c")).standing is NodeStatus.REFUSED


@pytest.mark.parametrize(
    "make",
    [
        lambda: verified(""),
        lambda: unverified(""),
        lambda: refused([]),
        lambda: Verdict(NodeStatus.VERIFIED, "it holds", (WHY,)),
        lambda: Verdict(NodeStatus.REFUSED, "it holds"),
    ],
)
def test_a_verdict_without_a_ground_is_none(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match="reasons"):
        make()


def test_the_worst_counts() -> None:
    assert [worst(()), worst([NodeStatus.VERIFIED])] == [NodeStatus.UNVERIFIED, NodeStatus.VERIFIED]
    for verdict, code in ((verified("a"), 0), (refused([WHY]), 1), (unverified("a"), 2)):
        inner = node("inner", verdict)
        graph = Graph("top", (node("top", members=(node("middle", members=(inner,)),)),), ())
        assert (graph.exit_code, graph.standing) == (code, verdict.standing)
        assert graph.count(verdict.standing) == (3 if code == 0 else 1)
    both = Graph("a", (node("a", unverified("x")), node("b", refused([WHY]))), ())
    assert both.exit_code == 1, "what is refused goes before what is unknown"


@pytest.mark.parametrize(
    ("nodes", "edges", "subject"),
    [
        (("a", "a"), (), "a"),
        (("a", "inner"), (), "a"),
        (("a",), (), "b"),
        (("a",), (Edge("a", EdgeKind.NAMES, "b"),), "a"),
        (("a",), (Edge("b", EdgeKind.NAMES, "a"),), "a"),
    ],
)
def test_a_graph_that_does_not_hang_together(nodes: tuple[str, ...], edges: tuple[Edge, ...], subject: str) -> None:
    with pytest.raises(ValueError, match="node"):
        Graph(subject, tuple(node(key, members=(node("inner"),) if key == "a" else ()) for key in nodes), edges)


def test_which_end_of_an_edge_comes_first() -> None:
    forth, back = Edge("tree", EdgeKind.LOCKED_BY, "lock"), Edge("derivation", EdgeKind.BUILT_FROM, "tree")
    assert (forth.earlier, forth.later) == ("tree", "lock")
    assert (back.earlier, back.later) == ("tree", "derivation")


def test_a_draft_keeps_what_came_first_and_drops_edges_to_nothing() -> None:
    draft = Draft()
    draft.add(node("a", unverified("first")))
    draft.add(node("a"))
    draft.add(node("b"))
    draft.add_edges("a", EdgeKind.NAMES, "b", "c")
    draft.add_edges("a", EdgeKind.NAMES, "b")
    graph = draft.done("a")
    assert graph["a"].verdict == unverified("first")
    assert graph.edges == (Edge("a", EdgeKind.NAMES, "b"),)
    with pytest.raises(KeyError):
        graph["c"]
