"""The nouns of a graph of evidence, from source to machine: nodes with verdicts, edges with meanings; pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from typing import override

from mvmnix.errors import MvmnixError, Reason, RefusedError
from mvmnix.formats.strict import show_time


class NodeStatus(StrEnum):
    """How something stands after the look that was just taken at it."""

    VERIFIED = "verified"
    UNVERIFIED = "not verified"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification that really ran says of a node.

    `why` is what was checked and held, or why nothing could be said; `reasons` are those of a refusal, and of no other
    standing. Made by `verified`, `unverified`, `refused` and `of`.
    """

    standing: NodeStatus
    why: str = ""
    reasons: tuple[Reason, ...] = ()

    def __post_init__(self) -> None:
        if (self.standing is NodeStatus.REFUSED) != bool(self.reasons) or bool(self.reasons) == bool(self.why):
            raise ValueError("a refusal has reasons, and every other verdict says why it is so")

    @override
    def __str__(self) -> str:
        """In one line: `verified`, `refused [code, code]`, `not verified: why`."""
        match self.standing:
            case NodeStatus.VERIFIED:
                return "verified"
            case NodeStatus.REFUSED:
                return f"refused [{', '.join(dict.fromkeys(reason.code for reason in self.reasons))}]"
            case NodeStatus.UNVERIFIED:
                return f"not verified: {self.why}"


def verified(what: str) -> Verdict:
    """It holds; `what` says what was checked."""
    return Verdict(NodeStatus.VERIFIED, what)


def unverified(why: str) -> Verdict:
    """Nothing can be said of it."""
    return Verdict(NodeStatus.UNVERIFIED, why)


def refused(reasons: Iterable[Reason]) -> Verdict:
    """It was looked at, and does not hold."""
    return Verdict(NodeStatus.REFUSED, reasons=tuple(dict.fromkeys(reasons)))


def verdict_of(error: MvmnixError) -> Verdict:
    """What a failed look means: a refusal is one, and what could not be read was not verified."""
    return refused(error.reasons) if isinstance(error, RefusedError) else unverified(error.message)


class NodeKind(StrEnum):
    """What a node stands for, in the words that people read."""

    TREE = "flake tree"
    LOCK = "lock file"
    INPUTS = "inputs handed in"
    UNTOUCHED = "inputs never touched"
    RELATIVE = "inputs in the tree"
    INPUT = "input"
    SOURCES = "fetched sources"
    SOURCE = "source"
    KEPT = "kept parts"
    PART = "part"
    PARTS_STATEMENT = "parts statement"
    CACHED = "cached paths"
    PATH = "store path"
    BUILDER = "builder"
    EVIDENCE = "own evidence"
    DERIVATION = "derivation"
    FILE = "file"
    VERITY = "verity root"
    IMAGE = "image"
    SBOM = "SBOM"
    PROVENANCE = "provenance"
    REBUILD = "rebuild"
    POLICY = "trust policy"
    PLAN = "plan"
    MACHINE = "machine"
    RECEIPT = "receipt"
    RECORD = "audit record"
    LOG = "audit log"


class EdgeKind(Enum):
    """How one node speaks of another: `A words B`, `B inverse A`; `flows` when B comes after A, from source to machine.

    Evidence comes after what it is about: a provenance after its image, a plan after both.
    """

    LOCKED_BY = ("locked by", "locks", True)
    NAMES = ("names", "named by", True)
    BUILT_FROM = ("built from", "went into", False)
    BUILT_BY = ("built by", "built", False)
    LISTED_IN = ("listed in", "lists", False)
    CONTENTS_IN = ("contents listed in", "lists the contents of", True)
    CONSISTS_OF = ("consists of", "part of", True)
    GUARDED_BY = ("guarded by", "guards", True)
    ATTESTED_BY = ("attested by", "attests", True)
    BUILT_AGAIN = ("built again, alike", "agrees with", True)
    VERIFIED_UNDER = ("verified under", "admits", False)
    RUNS = ("runs", "run by", False)
    RESTS_ON = ("rests on", "carries", False)
    ADMITTED_IN = ("admitted in", "admits", True)
    RAN_AS = ("ran as", "started from", True)
    STARTED_IN = ("start logged in", "start of", True)
    LOGGED_IN = ("logged in", "happened to", True)
    ENDED_IN = ("end logged in", "end of", True)
    SEALED_BY = ("sealed by", "seals", True)

    def __init__(self, words: str, inverse: str, flows: bool) -> None:
        self.words = words
        self.inverse = inverse
        self.flows = flows


@dataclass(frozen=True, slots=True)
class Node:
    """Something with evidence: `digest` of its bytes and `signer` who vouches for it, both "" where there is none.

    `facts` are further lines, `members` what a group holds; a member is in no edge. All text may be a stranger's.
    """

    key: str
    kind: NodeKind
    name: str
    verdict: Verdict
    digest: str = ""
    signer: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    members: "tuple[Node, ...]" = ()


@dataclass(frozen=True, slots=True)
class Edge:
    """`subject` means `object`, both by key: the tree is locked by the lock."""

    subject: str
    meaning: EdgeKind
    object: str

    @property
    def earlier(self) -> str:
        """Which of the two comes first on the way from source to machine."""
        return self.subject if self.meaning.flows else self.object

    @property
    def later(self) -> str:
        """Which of the two comes second."""
        return self.object if self.meaning.flows else self.subject


@dataclass(frozen=True, slots=True)
class Graph:
    """All evidence of `subject`, the key of what was asked about. Raises ValueError for an edge that leads nowhere."""

    subject: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def __post_init__(self) -> None:
        keys = {node.key for node in self.nodes}
        if len({node.key for node in self.all()}) != sum(1 for _ in self.all()):
            raise ValueError("two nodes have the same key")
        if missing := {self.subject, *(key for it in self.edges for key in (it.subject, it.object))} - keys:
            raise ValueError(f"there are no such nodes: {', '.join(sorted(missing))}")

    def __getitem__(self, key: str) -> Node:
        """The node with this key. Raises KeyError."""
        for node in self.nodes:
            if node.key == key:
                return node
        raise KeyError(key)

    def all(self) -> Iterator[Node]:
        """Every node, members and theirs included."""
        for node in self.nodes:
            yield from whole(node)

    @property
    def standing(self) -> NodeStatus:
        """How the whole stands: as its worst node."""
        return worst(node.verdict.standing for node in self.all())

    @property
    def exit_code(self) -> int:
        """0 when all is verified, 1 when something is refused, 2 when something could not be verified."""
        match self.standing:
            case NodeStatus.VERIFIED:
                return 0
            case NodeStatus.REFUSED:
                return 1
            case NodeStatus.UNVERIFIED:
                return 2

    def count(self, standing: NodeStatus) -> int:
        """How many nodes stand so, members included."""
        return sum(node.verdict.standing is standing for node in self.all())


def whole(node: Node) -> Iterator[Node]:
    """A node, then its members and theirs."""
    yield node
    for member in node.members:
        yield from whole(member)


def worst(standings: Iterable[NodeStatus]) -> NodeStatus:
    """The worst of them; nothing at all was not verified.

    >>> worst([NodeStatus.VERIFIED, NodeStatus.REFUSED, NodeStatus.UNVERIFIED]).value
    'refused'
    """
    order = list(NodeStatus)
    return max(standings, key=order.index, default=NodeStatus.UNVERIFIED)


@dataclass(slots=True)
class Draft:
    """A graph in the making."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)

    def add(self, node: Node) -> str:
        """Take in a node, unless one with that key is there; returns the key."""
        self.nodes.setdefault(node.key, node)
        return node.key

    def add_edges(self, subject: str, meaning: EdgeKind, *objects: str) -> None:
        """Take in edges from one node to others."""
        self.edges += (Edge(subject, meaning, each) for each in objects)

    def done(self, subject: str) -> Graph:
        """The graph about this node. Edges to nodes that were left out are left out, too."""
        edges = dict.fromkeys(it for it in self.edges if {it.subject, it.object} <= self.nodes.keys())
        return Graph(subject, tuple(self.nodes.values()), tuple(edges))


def graph_record(graph: Graph, moment: datetime) -> Mapping[str, object]:
    """The graph as it was verified at this moment; docs/reference/show.md describes it."""
    return {
        "subject": graph.subject,
        "verdict": graph.standing,
        "verifiedOn": show_time(moment),
        "counts": {standing.value: graph.count(standing) for standing in NodeStatus},
        "nodes": [_node_record(node) for node in graph.nodes],
        "edges": [{"from": it.subject, "meaning": it.meaning.words, "to": it.object} for it in graph.edges],
    }


def _node_record(node: Node) -> Mapping[str, object]:
    return {
        "key": node.key,
        "kind": node.kind,
        "name": node.name,
        "digest": node.digest or None,
        "signer": node.signer or None,
        "verdict": _verdict_record(node.verdict),
        "facts": [{"name": name, "value": value} for name, value in node.facts],
        "members": [_node_record(member) for member in node.members],
    }


def _verdict_record(verdict: Verdict) -> Mapping[str, object]:
    reasons = [reason.record for reason in verdict.reasons]
    return {"standing": verdict.standing, "why": verdict.why or None, "reasons": reasons}
