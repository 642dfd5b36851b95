"""The page says everything of every node, asks for nothing outside itself, and takes strangers' text for text."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import override

import pytest

from mvmnix.errors import Reason, ReasonCode
from mvmnix.evidence import page
from mvmnix.evidence.graph import Graph, Node, NodeKind, refused, unverified, verified
from mvmnix.evidence.page import POLICY, render_page
from mvmnix.formats.escaping import escape
from tests.unit.evidence.exhibits import HOSTILE, LONG, everywhere, exhibit
from tests.unit.provenance.world import NOW

VOID = {"meta"}
#: Elements that load, run or send something, or that lead elsewhere.
ACTIVE = {
    "script", "iframe", "object", "embed", "img", "image", "link", "base", "form", "input", "button", "audio", "video",
    "source", "track", "foreignobject", "animate", "set", "template", "math", "noscript", "applet", "frame", "portal",
}  # fmt: skip


@dataclass
class Element:
    """An element as a parser sees it: attributes, and all text within."""

    tag: str
    attributes: dict[str, str]
    text: str = ""
    children: "list[Element]" = field(default_factory=list)

    def all(self) -> "list[Element]":
        return [self, *(each for child in self.children for each in child.all())]


class Reader(HTMLParser):
    """Reads a page into elements, and notes what a browser would have to guess."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.open = [self.root]
        self.comments: list[str] = []
        self.declarations: list[str] = []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names)
        made = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(made)
        if tag not in VOID:
            self.open.append(made)

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    @override
    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    @override
    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    @override
    def handle_decl(self, decl: str) -> None:
        self.declarations.append(decl)


def read(graph: Graph) -> Reader:
    reader = Reader()
    reader.feed(render_page(graph, NOW))
    reader.close()
    assert reader.open == [reader.root], "every element is closed"
    return reader


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return exhibit(tmp_path).graph()


def squeezed(text: str) -> str:
    return " ".join(text.split())


def said_of(reader: Reader, graph: Graph, key: str) -> Element:
    """The element of a node: its id is its number among all nodes."""
    number = [node.key for node in graph.all()].index(key)
    (found,) = [element for element in reader.root.all() if element.attributes.get("id") == f"n{number}"]
    return found


def test_every_node_with_digest_signer_and_verdict(graph: Graph) -> None:
    reader = read(graph)
    for node in graph.all():
        text = squeezed(said_of(reader, graph, node.key).text)
        assert f"{node.kind} {node.name}" in text
        assert node.digest in text
        assert f"signer{node.signer or 'none'}" in text.replace(" ", "") or node.signer in text
        assert str(node.verdict.standing) in text
        assert squeezed(node.verdict.why) in text
        for name, value in node.facts:
            assert squeezed(f"{name}{value}") in text or squeezed(value) in text


def test_members_lie_within_their_group(graph: Graph) -> None:
    reader = read(graph)
    for node in graph.all():
        for member in node.members:
            inner = said_of(reader, graph, member.key)
            assert inner in said_of(reader, graph, node.key).all()


def test_the_graph_leads_to_every_node_and_draws_every_edge(graph: Graph) -> None:
    reader = read(graph)
    (drawn,) = [it for it in reader.root.all() if it.tag == "svg" and "graph" in it.attributes["class"].split()]
    boxes = [element for element in drawn.all() if element.tag == "a"]
    assert sorted(box.attributes["aria-label"] for box in boxes) == sorted(
        f"{node.kind} {node.name}: {node.verdict.standing}" for node in graph.nodes
    )
    assert len([each for each in drawn.all() if each.attributes.get("class", "").startswith("wire")]) == len(
        graph.edges
    )


def test_each_edge_is_in_words_at_both_ends(graph: Graph) -> None:
    reader = read(graph)
    for edge in graph.edges:
        for key, words, other in (
            (edge.subject, edge.meaning.words, graph[edge.object]),
            (edge.object, edge.meaning.inverse, graph[edge.subject]),
        ):
            terms = [each for each in said_of(reader, graph, key).all() if each.tag == "dt"]
            assert words in [term.text for term in terms]
            links = [each.text for each in said_of(reader, graph, key).all() if each.tag == "a"]
            assert f"{other.kind} {other.name}" in links


def test_nothing_is_loaded_run_or_sent(graph: Graph) -> None:
    reader = read(graph)
    elements = reader.root.all()
    assert not {element.tag for element in elements} & ACTIVE
    for element in elements:
        for name, value in element.attributes.items():
            assert not name.startswith("on")
            assert name not in {
                "src",
                "srcset",
                "style",
                "action",
                "data",
                "poster",
                "background",
                "ping",
                "xlink:href",
            }
            assert name != "href" or value.startswith("#")
    assert "url(" not in page.SHEET
    assert "@import" not in page.SHEET


def test_the_page_s_policy_allows_its_style_sheet_and_nothing_else(graph: Graph) -> None:
    reader = read(graph)
    (head,) = [element for element in reader.root.all() if element.tag == "head"]
    assert [child.tag for child in head.children][:2] == ["meta", "meta"], "before anything that it could concern"
    assert head.children[1].attributes == {"http-equiv": "Content-Security-Policy", "content": POLICY}
    assert f"default-src 'none'; style-src {page.HASH}; base-uri 'none'; form-action 'none'" == POLICY
    sheets = [element.text for element in reader.root.all() if element.tag == "style"]
    assert sheets == [page.SHEET], "the hash is over these very bytes"


def test_links_lead_somewhere_and_ids_are_given_once(graph: Graph) -> None:
    elements = read(graph).root.all()
    ids = [element.attributes["id"] for element in elements if "id" in element.attributes]
    assert len(set(ids)) == len(ids)
    named = [
        target
        for element in elements
        for name, value in element.attributes.items()
        for target in ([value[1:]] if name == "href" else value.split() if name == "aria-labelledby" else [])
    ]
    assert len(named) > len(graph.nodes)
    assert set(named) <= set(ids)


def test_it_can_be_read_without_eyes(graph: Graph) -> None:
    reader = read(graph)
    elements = reader.root.all()
    assert reader.declarations == ["DOCTYPE html"]
    (html,) = reader.root.children
    assert html.attributes == {"lang": "en"}
    levels = [int(each.tag[1]) for each in elements if each.tag in {"h1", "h2", "h3", "h4"}]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(there <= here + 1 or there == 4 for here, there in pairwise(levels))
    for element in elements:
        if element.tag == "svg":
            attributes = element.attributes
            assert attributes.get("aria-hidden") == "true" or {"role", "aria-labelledby"} <= attributes.keys()
        assert element.tag != "a" or element.text or element.attributes.get("aria-label")


def test_the_verdict_of_the_whole_comes_first(graph: Graph) -> None:
    def header_of(shown: Graph) -> Element:
        (found,) = [element for element in read(shown).root.all() if element.tag == "header"]
        return found

    title = "built from git+https://host/repository?rev=" + 40 * "1" + "&dir=examples/hello#default"
    texts = [child.text for child in header_of(graph).children]
    assert texts[:3] == ["Evidence of an image", "hello", title]
    said = "Everything verified 52 pieces of evidence were checked on 2026-09-01T12:00:00Z, by mvm "
    assert squeezed(texts[3]).startswith(said)
    broken = replace(graph["lock"], verdict=refused([Reason(ReasonCode.LOCK_MISMATCH, "it", "why so", "what next")]))
    graph = Graph(graph.subject, tuple(broken if n.key == "lock" else n for n in graph.nodes), graph.edges)
    assert "Refused" in header_of(graph).text
    assert "lock file flake.lock: refused [lock-mismatch]: why so" in header_of(graph).text
    card = said_of(read(graph), graph, "lock")
    assert all(words in card.text for words in ("refused [lock-mismatch]", "why so", "Next: what next"))


def test_a_group_unfolds_by_itself_where_something_in_it_does_not_stand(graph: Graph) -> None:
    def folded(shown: Graph) -> bool:
        details = [each for each in said_of(read(shown), shown, "sources").all() if each.tag == "details"]
        return "open" not in details[0].attributes

    assert folded(graph)
    first, *others = graph["sources"].members
    members = (replace(first, verdict=unverified("lost")), *others)
    group = replace(graph["sources"], members=members)
    assert not folded(Graph(graph.subject, tuple(group if n.key == "sources" else n for n in graph.nodes), graph.edges))


@pytest.mark.parametrize("evil", HOSTILE, ids=ascii)
def test_strangers_text_is_only_text(graph: Graph, evil: str) -> None:
    hostile = Graph(graph.subject, tuple(everywhere(node, evil) for node in graph.nodes), graph.edges)
    calm = Graph(graph.subject, tuple(everywhere(node, "calm") for node in graph.nodes), graph.edges)
    found, expected = read(hostile), read(calm)

    def shape(reader: Reader) -> list[tuple[str, list[str]]]:
        return [(element.tag, sorted(element.attributes)) for element in reader.root.all()]

    assert shape(found) == shape(expected), "the same elements with the same attributes, whatever is said"
    assert found.comments == []
    text = render_page(hostile, NOW)
    assert all(c == "\n" or c.isprintable() for c in text)
    text.encode("utf-8")


@pytest.mark.parametrize("change", [lambda graph: graph, lambda graph: Graph(graph.subject, graph.nodes, ())])
def test_the_same_evidence_makes_the_same_page(graph: Graph, change: Callable[[Graph], Graph]) -> None:
    assert render_page(change(graph), NOW) == render_page(change(graph), NOW)


def test_keys_of_strangers_make_no_ids(graph: Graph) -> None:
    evil = replace(graph["sources"], key='x" onload="alert(1)', members=())
    shown = Graph(graph.subject, (*graph.nodes, evil), graph.edges)
    ids = {each.attributes["id"] for each in read(shown).root.all() if "id" in each.attributes}
    assert not any(set(name) & set('" =()') for name in ids)


@pytest.mark.parametrize("name", LONG, ids=ascii)
def test_a_long_name_shows_its_beginning_and_its_end(name: str) -> None:
    """How much has room is estimated; a browser measures it in tests/integration/test_show_page.py."""
    graph = Graph("a", (Node("a", NodeKind.FILE, name, verified("it holds")),), ())
    (drawn,) = [element.text for element in read(graph).root.all() if element.attributes.get("class") == "name"]
    head, tail = drawn.split("…")
    whole = escape(name)
    assert (whole.startswith(head), whole.endswith(tail), len(tail)) == (True, True, 6)
    assert 0 < len(head) < 25


def test_every_kind_of_node_has_its_place_on_the_page() -> None:
    """One that had none would be in the graph, and lead nowhere."""
    members = {NodeKind.INPUT, NodeKind.SOURCE, NodeKind.PART, NodeKind.PATH, NodeKind.EVIDENCE}
    for kind in set(NodeKind) - members:
        graph = Graph("a", (Node("a", kind, "it", verified("it holds")),), ())
        assert said_of(read(graph), graph, "a").tag == "article"


def test_what_could_not_be_verified_for_one_cause_is_told_once(graph: Graph) -> None:
    lost = [replace(node, verdict=unverified("the disk is lost")) for node in graph["sources"].members]
    group = replace(graph["sources"], members=tuple(lost))
    shown = Graph(graph.subject, tuple(group if n.key == "sources" else n for n in graph.nodes), graph.edges)
    (header,) = [element for element in read(shown).root.all() if element.tag == "header"]
    lines = [element.text for element in header.all() if element.tag == "li"]
    assert lines == ["source bash.deb and 2 more: not verified: the disk is lost"]
