"""The only writer of HTML and SVG elements: what is text is escaped here, for strangers chose most of it; pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from mvmnix.evidence.graph import NodeStatus
from mvmnix.formats.escaping import escape_html

#: Elements without an end tag (HTML, "Void elements").
_VOID: Final = frozenset({"meta"})
#: The class of a standing in the style sheet.
CLASSES: Final = {NodeStatus.VERIFIED: "good", NodeStatus.UNVERIFIED: "open", NodeStatus.REFUSED: "bad"}
_MARKS: Final = {NodeStatus.VERIFIED: "mark-good", NodeStatus.UNVERIFIED: "mark-open", NodeStatus.REFUSED: "mark-bad"}


@dataclass(frozen=True, slots=True)
class Markup:
    """Finished markup. Made by `element` and `raw` only: everything else is text, and is escaped."""

    text: str


def raw(text: str) -> Markup:
    """Text of this program that is markup already, such as the style sheet. Never for anything that was read."""
    return Markup(text)


def element(tag: str, /, *content: "Markup | str", **attributes: str | None) -> Markup:
    """An element; None leaves an attribute out, `_` in a name stands for `-`, and one at the end for nothing.

    >>> element("p", "a < b", class_="x").text
    '<p class="x">a &lt; b</p>'
    """
    names = ((key.removesuffix("_").replace("_", "-"), value) for key, value in attributes.items())
    told = "".join(f' {key}="{escape_html(value)}"' for key, value in names if value is not None)
    inner = joined(content).text
    return Markup(f"<{tag}{told}>" if tag in _VOID else f"<{tag}{told}>{inner}</{tag}>")


def joined(content: Iterable["Markup | str"]) -> Markup:
    """One after the other."""
    return Markup("".join(each.text if isinstance(each, Markup) else escape_html(each) for each in content))


def mark(standing: NodeStatus, **place: str) -> Markup:
    """The sign of a standing, which stands beside its word and never alone; `place` says where in a diagram."""
    use = element("use", href=f"#{_MARKS[standing]}")
    return element("svg", use, class_="mark", viewBox="0 0 16 16", aria_hidden="true", **place)


def marks() -> Markup:
    """The signs themselves, once for a page: a tick, a cross and an exclamation mark, each in a shape of its own."""
    circle = element("circle", cx="8", cy="8", r="7.2", fill="currentColor", opacity="0.16")
    line = {"fill": "none", "stroke": "currentColor", "stroke_width": "2", "stroke_linecap": "round"}
    tick = element("path", d="M4.6 8.4 7 10.8 11.4 5.6", **line)
    cross = element("path", d="M5.4 5.4 10.6 10.6 M10.6 5.4 5.4 10.6", **line)
    stop = element("path", d="M8 4.4v4.4M8 11.5v.05", **line)
    square = element("rect", x="1.2", y="1.2", width="13.6", height="13.6", rx="3", fill="currentColor", opacity="0.16")
    rhomb = element("path", d="M8 .4 15.6 8 8 15.6 .4 8z", fill="currentColor", opacity="0.16")
    signs = (("good", circle, tick), ("bad", square, cross), ("open", rhomb, stop))
    symbols = (element("symbol", bed, sign, id=f"mark-{name}", viewBox="0 0 16 16") for name, bed, sign in signs)
    return element("svg", *symbols, width="0", height="0", aria_hidden="true", class_="skip")
