"""The page of `mvm show` in a real browser: readable in light, dark, narrow and on paper, and it asks for nothing."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import batched, chain, repeat
from pathlib import Path
from typing import Any

import pytest

from mvmnix.errors import Reason, ReasonCode
from mvmnix.evidence.graph import Graph, NodeKind, refused
from mvmnix.evidence.page import render_page
from tests.browser import Browser, browser
from tests.integration.misbehaving import Server
from tests.unit.evidence.exhibits import HOSTILE, LONG, everywhere, exhibit
from tests.unit.provenance.world import NOW

pytestmark = pytest.mark.integration

WIDE, NARROW = (1200, 900), (390, 800)
#: WCAG 2.2, success criterion 1.4.3: of text; 1.4.11: of signs that carry meaning.
TEXT, SIGNS = 4.5, 3.0


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return exhibit(tmp_path_factory.mktemp("world")).graph()


def show(window: Browser, text: str, path: Path) -> str:
    """Open a page from a file, as somebody does who downloaded it; returns its address."""
    path.write_text(text)
    window.window(*WIDE)
    window.scheme("light")
    window.complaints(), window.requests()
    window.go(path.as_uri())
    return path.as_uri()


@pytest.fixture
def shown(window: Browser, graph: Graph, tmp_path: Path) -> Browser:
    show(window, render_page(graph, NOW), tmp_path / "evidence.html")
    return window


# -- what it asks for


def test_it_loads_nothing_and_nothing_is_wrong_with_it(window: Browser, graph: Graph, tmp_path: Path) -> None:
    address = show(window, render_page(graph, NOW), tmp_path / "evidence.html")
    assert window.requests() == [address]
    assert window.run("return performance.getEntriesByType('resource').map(entry => entry.name)") == []
    assert window.complaints() == []
    assert window.run("return [document.compatMode, document.title]") == ["CSS1Compat", "hello: evidence"]


INTRUDERS = (
    '<img src="http://127.0.0.1:PORT/img">',
    '<link rel="stylesheet" href="http://127.0.0.1:PORT/css">',
    "<style>@import url(http://127.0.0.1:PORT/import); body { background: url(http://127.0.0.1:PORT/bed) }</style>",
    "<script>document.title = 'taken'; fetch('http://127.0.0.1:PORT/fetch')</script>",
    '<script src="http://127.0.0.1:PORT/script"></script>',
    "<img src=x onerror=\"document.title = 'taken'\">",
    '<iframe src="http://127.0.0.1:PORT/frame"></iframe>',
    '<object data="http://127.0.0.1:PORT/object"></object>',
    "<video src=\"http://127.0.0.1:PORT/video\" autoplay></video>",
    '<div style="background: url(http://127.0.0.1:PORT/style)">x</div>',
    '<svg><image href="http://127.0.0.1:PORT/svg"/></svg>',
)  # fmt: skip


def test_the_meter_sees_what_is_asked_for(window: Browser, tmp_path: Path) -> None:
    """Without the page's policy all of it is loaded and run: so the next test can fail."""
    with Server() as server:
        body = "".join(INTRUDERS).replace("PORT", str(server.port))
        show(window, f"<!DOCTYPE html><title>calm</title>{body}", tmp_path / "open.html")
        wanted = {"/img", "/css", "/import", "/bed", "/fetch", "/script", "/frame", "/object", "/svg", "/style"}
        for _ in range(1000):  # a page's load event waits for most of them, and not for all
            if wanted <= set(server.paths()):
                break
            window.run("return new Promise(done => requestAnimationFrame(done))")
        assert wanted <= set(server.paths())
        assert {f"http://127.0.0.1:{server.port}{path}" for path in wanted} <= set(window.requests())
        assert window.run("return document.title") == "taken"


def test_the_page_s_policy_stops_what_should_not_be_there(window: Browser, graph: Graph, tmp_path: Path) -> None:
    """If a stranger's markup ever came through, it would still load, run and colour nothing."""
    text = render_page(graph, NOW)
    with Server() as server:
        body = "".join(INTRUDERS).replace("PORT", str(server.port))
        show(window, text.replace("</body>", f"{body}</body>"), tmp_path / "intruded.html")
        assert window.run("return document.title") == "hello: evidence"
        complaints = window.complaints()
        assert server.asked == []
    assert len([each for each in complaints if "Content Security Policy" in each]) >= len(INTRUDERS) - 1


@pytest.mark.parametrize("evil", HOSTILE, ids=ascii)
def test_strangers_text_does_nothing(window: Browser, graph: Graph, evil: str, tmp_path: Path) -> None:
    hostile = Graph(graph.subject, tuple(everywhere(node, evil) for node in graph.nodes), graph.edges)
    address = show(window, render_page(hostile, NOW), tmp_path / "hostile.html")
    assert window.requests() == [address]
    assert window.complaints() == []
    shape = "return [...document.querySelectorAll('*')].map(it => it.tagName).join()"
    found = window.run(shape)
    calm = Graph(graph.subject, tuple(everywhere(node, "calm") for node in graph.nodes), graph.edges)
    show(window, render_page(calm, NOW), tmp_path / "calm.html")
    assert window.run(shape) == found


# -- what is seen


SEEN = """
return [...document.querySelectorAll('[id^=n]')].filter(it => /^n[0-9]+$/.test(it.id)).map(it => {
  const box = it.getBoundingClientRect();
  return [it.id, it.checkVisibility(), box.width * box.height > 0, it.innerText];
})
"""


def test_every_node_is_seen_and_groups_unfold(shown: Browser, graph: Graph) -> None:
    nodes = {f"n{number}": node for number, node in enumerate(graph.all())}
    top = {node.key for node in graph.nodes}
    before = {id_: (visible, sized) for id_, visible, sized, _ in shown.run(SEEN)}
    assert before.keys() == nodes.keys()
    assert {nodes[id_].key for id_, seen in before.items() if seen == (True, True)} == top
    shown.run("for (const it of document.querySelectorAll('summary')) it.click()")
    for id_, visible, sized, text in shown.run(SEEN):
        node = nodes[id_]
        assert (visible, sized) == (True, True)
        assert all(each in text for each in (node.name, node.digest, node.signer, str(node.verdict.standing)))


def test_the_keyboard_reaches_and_unfolds_everything(shown: Browser) -> None:
    shown.press("Tab")
    assert shown.run("return document.activeElement.innerText") == "Skip to the evidence"
    shown.press("Enter")
    assert shown.run("return location.hash") == "#evidence"
    for _ in range(300):
        shown.press("Tab")
        if shown.run("return document.activeElement.tagName") == "SUMMARY":
            break
    opened = "return document.activeElement.parentElement.open"
    assert shown.run(opened) is False
    shown.press("Enter")
    assert shown.run(opened) is True


def test_a_box_of_the_graph_leads_to_its_card(shown: Browser, graph: Graph) -> None:
    number = [node.key for node in graph.all()].index("lock")
    shown.run(f"document.querySelector('.graph a[href=\"#n{number}\"]').focus()")
    shown.press("Enter")
    assert shown.run("return location.hash") == f"#n{number}"
    top, bottom, height = shown.run(
        f"const box = document.getElementById('n{number}').getBoundingClientRect();"
        "return new Promise(done => requestAnimationFrame(() => done([box.top, box.bottom, innerHeight])))"
    )
    assert top < bottom
    assert height > 0


def test_the_graph_s_text_stays_in_its_boxes(window: Browser, graph: Graph, tmp_path: Path) -> None:
    names = chain(LONG, (node.name for node in graph.nodes), repeat("calm"))
    nodes = tuple(replace(node, name=name) for node, name in zip(graph.nodes, names, strict=False))
    show(window, render_page(Graph(graph.subject, nodes, graph.edges), NOW), tmp_path / "long.html")
    boxes = window.run(
        """return [...document.querySelectorAll('.graph a')].map(it => {
          const rim = it.querySelector('.box').getBBox();
          return [...it.querySelectorAll('text')].every(text => {
            const box = text.getBBox();
            return box.x > rim.x && box.x + box.width < rim.x + rim.width
              && box.y > rim.y && box.y + box.height < rim.y + rim.height;
          });
        })"""
    )
    assert boxes == [True] * len(graph.nodes)


@pytest.mark.parametrize("size", [WIDE, (1700, 900)])
def test_the_graph_s_letters_are_large_enough(shown: Browser, size: tuple[int, int]) -> None:
    """However many boxes stand in a row: a wide picture is scrolled rather than made small."""
    shown.window(*size)
    sizes = shown.run(
        "const scale = document.querySelector('svg.graph').getScreenCTM().a;"
        "return [...document.querySelectorAll('svg.graph text')]"
        ".map(it => scale * parseFloat(getComputedStyle(it).fontSize))"
    )
    assert len(sizes) > 30
    assert min(sizes) >= 9


def test_a_broken_link_is_seen_in_the_graph(window: Browser, graph: Graph, tmp_path: Path) -> None:
    """Its box has a bed of its own, and the lines to it are drawn like it."""
    reason = Reason(ReasonCode.LOCK_MISMATCH, "the lock", "it was changed", "build it again")
    broken = replace(graph["lock"], verdict=refused([reason]))
    nodes = tuple(broken if node.key == "lock" else node for node in graph.nodes)
    show(window, render_page(Graph(graph.subject, nodes, graph.edges), NOW), tmp_path / "broken.html")
    beds = window.run(
        "return [...document.querySelectorAll('svg.graph a')]"
        ".map(it => [it.getAttribute('aria-label'), getComputedStyle(it.querySelector('.box')).fill])"
    )
    (bad,) = {fill for label, fill in beds if label == "lock file flake.lock: refused"}
    assert bad not in {fill for label, fill in beds if label != "lock file flake.lock: refused"}
    touching = sum("lock" in {edge.subject, edge.object} for edge in graph.edges)
    assert window.run("return document.querySelectorAll('svg.graph .wire.bad').length") == touching > 2


def test_what_a_screen_reader_is_told(shown: Browser, graph: Graph) -> None:
    tree: list[dict[str, Any]] = shown.devtools("Accessibility.getFullAXTree")["nodes"]
    told = [(it["role"]["value"], it.get("name", {}).get("value", "")) for it in tree if not it["ignored"]]
    articles = {name for role, name in told if role == "article"}
    assert articles == {f"{node.kind} {node.name}" for node in graph.nodes}
    links = {name for role, name in told if role == "link"}
    assert {f"{node.kind} {node.name}: {node.verdict.standing}" for node in graph.nodes} <= links
    assert {role for role, _ in told} >= {"main", "heading", "region", "article", "link", "DisclosureTriangle"}
    assert all(name for role, name in told if role in {"link", "heading", "region", "article"})


CONTRASTS = """
const colour = text => text.match(/[0-9.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
  .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, index) => sum + c * [0.2126, 0.7152, 0.0722][index], 0);
const bed = it => {
  for (; it; it = it.parentElement) {
    const found = colour(getComputedStyle(it).backgroundColor);
    if (found.length === 3 || found[3] > 0) return found;
  }
};
const seen = [];
for (const it of document.querySelectorAll('body *')) {
  const ours = [...it.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  const svg = it.closest('svg.graph');
  if (!ours || it.tagName === 'title' || !it.checkVisibility()) continue;
  const front = colour(svg ? getComputedStyle(it).fill : getComputedStyle(it).color);
  const back = svg ? colour(getComputedStyle(it.closest('a').querySelector('.box')).fill) : bed(it);
  const [low, high] = [light(front), light(back)].sort((a, b) => a - b);
  seen.push([(high + 0.05) / (low + 0.05), it.tagName + '.' + it.getAttribute('class')]);
}
return seen.sort((a, b) => a[0] - b[0]);
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", ["verified", "refused"])
def test_text_stands_out(window: Browser, graph: Graph, scheme: Any, state: str, tmp_path: Path) -> None:
    if state == "refused":
        graph = Graph(graph.subject, tuple(everywhere(node, "calm") for node in graph.nodes), graph.edges)
    show(window, render_page(graph, NOW), tmp_path / "evidence.html")
    window.scheme(scheme)
    window.run("for (const it of document.querySelectorAll('details')) it.open = true")
    seen = window.run(CONTRASTS)
    assert len(seen) > 300
    ratio, what = seen[0]
    assert ratio >= TEXT, what


def pixels(png: bytes) -> set[bytes]:
    """The colours of a PNG with 8 bits a channel (W3C PNG, third edition): the rows are unfiltered."""
    width, height, depth, kind = struct.unpack(">IIBB", png[16:26])
    assert depth == 8
    channels = {2: 3, 6: 4}[kind]
    data, at = b"", 8
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        data += png[at + 8 : at + 8 + size] if png[at + 4 : at + 8] == b"IDAT" else b""
        at += size + 12
    raw, stride = zlib.decompress(data), width * channels
    before, colours = bytearray(stride), set()
    for row in range(height):
        kind, line = raw[row * (stride + 1)], bytearray(raw[row * (stride + 1) + 1 : (row + 1) * (stride + 1)])
        for index in range(stride):
            left = line[index - channels] if index >= channels else 0
            corner = before[index - channels] if index >= channels else 0
            line[index] = (line[index] + predicted(kind, left, before[index], corner)) & 255
        colours |= {bytes(pixel[:3]) for pixel in batched(line, channels, strict=True)}
        before = line
    return colours


def predicted(kind: int, left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    paeth = min((left, up, corner), key=lambda value: abs(guess - value))
    return (0, left, up, (left + up) // 2, paeth)[kind]


@pytest.mark.parametrize(("scheme", "bed"), [("light", b"\xf7\xf7\xf5"), ("dark", b"\x14\x17\x1a")])
def test_the_picture_has_content(shown: Browser, scheme: Any, bed: bytes) -> None:
    shown.window(640, 400)
    shown.scheme(scheme)
    colours = pixels(shown.picture())
    assert bed in colours
    assert len(colours) > 50


@pytest.mark.parametrize("size", [WIDE, NARROW, (320, 600)])
def test_nothing_sticks_out_at_the_side(shown: Browser, size: tuple[int, int]) -> None:
    shown.window(*size)
    shown.run("for (const it of document.querySelectorAll('details')) it.open = true")
    assert shown.run("return document.scrollingElement.scrollWidth") == size[0]
    cut = shown.run(
        "return [...document.querySelectorAll('.node, .node *')].filter(it => it.scrollWidth > it.clientWidth + 1"
        " && getComputedStyle(it).display !== 'inline').map(it => it.className)"
    )
    assert cut == []


def test_paper_has_all_of_it(shown: Browser, graph: Graph) -> None:
    shown.scheme("dark", media="print")
    for id_, _, sized, text in shown.run(SEEN):
        assert sized, id_
        assert text
    assert shown.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert graph.nodes[0].kind is NodeKind.IMAGE
    pdf = shown.pdf()
    assert pdf.startswith(b"%PDF-")
    assert pdf.count(b"/Type /Page\n") >= 3
