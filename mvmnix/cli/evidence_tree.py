"""Prints a graph of evidence as a tree in the terminal, from what was asked about down to its sources."""

from collections import Counter, deque
from collections.abc import Iterator
from typing import Final, TextIO

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from mvmnix.evidence.graph import Graph, Node, NodeStatus
from mvmnix.formats.escaping import escape_line

_MARKS: Final = {NodeStatus.VERIFIED: "✓", NodeStatus.UNVERIFIED: "?", NodeStatus.REFUSED: "✗"}
_STYLES: Final = {NodeStatus.VERIFIED: "green", NodeStatus.UNVERIFIED: "yellow", NodeStatus.REFUSED: "bold red"}
#: Members of a group that stand well are counted, and so many of those that don't are named.
_NAMED: Final = 8
#: Nothing is cut or broken by us: a digest is there to be copied, and the terminal knows its own width.
_WIDTH: Final = 1 << 20


def show_tree(graph: Graph, out: TextIO) -> None:
    """Print it: each node once, where it is first met, with the meaning of the edge that leads there."""
    console = Console(file=out, highlight=False, emoji=False, markup=False, width=_WIDTH)
    children = spanning(graph)
    root = Tree(_label(graph[graph.subject], ""), guide_style="dim")
    _hang(root, graph, graph.subject, children)
    console.print(root)
    console.print(Text(summary(graph), style=_STYLES[graph.standing]))


def summary(graph: Graph) -> str:
    """How the whole stands, in one line."""
    counts = Counter(node.verdict.standing for node in graph.all())
    told = ", ".join(f"{counts[standing]} {standing}" for standing in NodeStatus if counts[standing])
    return f"{graph[graph.subject].kind}: {graph.standing} ({told})"


def spanning(graph: Graph) -> dict[str, list[tuple[str, str]]]:
    """A tree over the graph, breadth first from its subject: the children of each key, with the words that lead there.

    What no edge leads to, such as a policy that nothing got so far as to be held against, hangs at the subject.
    """
    children: dict[str, list[tuple[str, str]]] = {node.key: [] for node in graph.nodes}
    seen, queue = {graph.subject}, deque([graph.subject])
    while queue:
        here = queue.popleft()
        for there, words in _neighbours(graph, here):
            if there not in seen:
                seen.add(there)
                children[here].append((there, words))
                queue.append(there)
    children[graph.subject] += ((node.key, "") for node in graph.nodes if node.key not in seen)
    return children


def _neighbours(graph: Graph, key: str) -> Iterator[tuple[str, str]]:
    for edge in graph.edges:
        if edge.subject == key:
            yield edge.object, edge.meaning.words
        elif edge.object == key:
            yield edge.subject, edge.meaning.inverse


def _hang(branch: Tree, graph: Graph, key: str, children: dict[str, list[tuple[str, str]]]) -> None:
    for line in _details(graph[key]):
        branch.add(line)
    for child, words in children[key]:
        _hang(branch.add(_label(graph[child], words)), graph, child, children)


def _label(node: Node, words: str) -> Text:
    """How it is reached, what it is and its verdict; digest and signer on a second line, where there are any."""
    standing = node.verdict.standing
    label = Text(f"{words} " if words else "", style="dim")
    label.append(f"{_MARKS[standing]} ", style=_STYLES[standing])
    label.append(f"{node.kind} ", style="bold")
    label.append(escape_line(node.name))
    label.append(f"  {escape_line(str(node.verdict))}", style=_STYLES[standing])
    vouched = [escape_line(node.digest)] if node.digest else []
    vouched += [f"signed by {escape_line(node.signer)}"] if node.signer else []
    if vouched:
        label.append(f"\n  {'  '.join(vouched)}", style="dim")
    return label


def _details(node: Node) -> Iterator[Text]:
    """What a reader has to see of a node beside its line: why it was refused, and members that don't stand."""
    for reason in node.verdict.reasons:
        yield Text(
            f"why: {escape_line(reason.why)}. Next: {escape_line(reason.hint)}", style=_STYLES[NodeStatus.REFUSED]
        )
    bad = [member for member in node.members if member.verdict.standing is not NodeStatus.VERIFIED]
    for member in bad[:_NAMED]:
        yield _label(member, "")
    if len(bad) > _NAMED:
        yield Text(f"… and {len(bad) - _NAMED} more that are not verified", style=_STYLES[NodeStatus.UNVERIFIED])
