"""No module and no source file of the agent depends on itself, through however many others."""

import re
from graphlib import CycleError, TopologicalSorter

import grimp
import pytest

from tests.repository import ROOT


def circle(graph: dict[str, set[str]]) -> list[str]:
    """One circle of it, each of which depends on the next; empty where there is none."""
    try:
        TopologicalSorter({name: found & graph.keys() for name, found in graph.items()}).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def test_what_a_circle_is() -> None:
    assert circle({"a": {"b", "elsewhere"}, "b": {"c"}, "c": set()}) == []
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}


@pytest.mark.parametrize("root", ["mvmnix", "bench"])
def test_no_module_depends_on_itself(root: str) -> None:
    """Imports for type checkers and imports within functions count."""
    graph = grimp.build_graph(root, cache_dir=None)
    assert not circle({module: graph.find_modules_directly_imported_by(module) for module in graph.modules})


def test_no_file_of_the_agent_depends_on_itself() -> None:
    """A source file and its header are one."""
    graph: dict[str, set[str]] = {}
    for path in sorted((ROOT / "modules/agent").glob("*.[ch]")):
        included = re.findall(r'(?m)^#include "(\w+)\.h"', path.read_text(encoding="utf-8"))
        graph.setdefault(path.stem, set()).update({*included} - {path.stem})
    assert len(graph) > 30
    assert not circle(graph)
