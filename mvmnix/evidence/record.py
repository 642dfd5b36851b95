"""Says a graph of evidence in the terms of JSON: plain values, for `--json`; pure."""

from collections.abc import Mapping
from datetime import datetime

from mvmnix.evidence.graph import Graph, Node, NodeStatus, Verdict
from mvmnix.strict import show_time


def graph_record(graph: Graph, moment: datetime) -> Mapping[str, object]:
    """The graph as it was verified at this moment; docs/show.md describes it."""
    return {
        "subject": graph.subject,
        "verdict": graph.standing,
        "verifiedOn": show_time(moment),
        "counts": {standing.value: graph.count(standing) for standing in NodeStatus},
        "nodes": [_node(node) for node in graph.nodes],
        "edges": [{"from": it.subject, "meaning": it.meaning.words, "to": it.object} for it in graph.edges],
    }


def _node(node: Node) -> Mapping[str, object]:
    return {
        "key": node.key,
        "kind": node.kind,
        "name": node.name,
        "digest": node.digest or None,
        "signer": node.signer or None,
        "verdict": _verdict(node.verdict),
        "facts": [{"name": name, "value": value} for name, value in node.facts],
        "members": [_node(member) for member in node.members],
    }


def _verdict(verdict: Verdict) -> Mapping[str, object]:
    reasons = [reason.record for reason in verdict.reasons]
    return {"standing": verdict.standing, "why": verdict.why or None, "reasons": reasons}
