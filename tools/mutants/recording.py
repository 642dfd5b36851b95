"""Which tests execute which lines, read from the records of a run (plugins.py), and which of them a mutation needs."""

import ast
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tools.mutants.mutations import Mutation


@dataclass(frozen=True, slots=True)
class Selected:
    """Tests to run: their files, and how many seconds they took."""

    files: tuple[str, ...]
    #: Ids of those to run first, quick ones before others; `alone` if no others can notice.
    first: tuple[str, ...]
    alone: bool
    seconds: float


@dataclass(slots=True)
class Recording:
    """Tests in the order in which they ran, and by module and line which executed it."""

    #: Seconds, by id.
    seconds: dict[str, float] = field(default_factory=dict)
    lines: defaultdict[str, defaultdict[int, set[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )
    modules: list[str] = field(default_factory=list)
    #: Modules and folders that also run in processes that no recorder sees: any test may execute them.
    unseen: tuple[Path, ...] = ()

    @classmethod
    def read(cls, records: Iterable[str], unseen: tuple[Path, ...] = ()) -> Self:
        """From the records of runs that succeeded."""
        found, using = cls(unseen=unseen), defaultdict[str, list[str]](list)
        raw: list[tuple[str, str, int]] = []
        for line in records:
            match json.loads(line):
                case ["line", by, module, number]:
                    raw.append((by, module, number))
                case ["test", name, seconds, fixtures]:
                    found.seconds[name] = seconds
                    for fixture in fixtures:
                        using[fixture].append(name)
                case ["modules", names]:
                    found.modules += names
                case other:
                    raise ValueError(f"no record: {other}")
        for by, module, number in raw:
            found.lines[module][number].update([by] if by in found.seconds else using[by])
        return found

    def selected(self, module: Path, source: bytes, mutation: Mutation, tests: Sequence[str]) -> Selected:
        """Of the `tests` (files and folders), those that execute what a mutation changes.

        What is executed on import may show in any test: those that execute something else of the module come first.
        So may what runs where no recorder sees it.
        """
        statement = _innermost(ast.parse(source), mutation.line)
        among = sorted(
            (name for name in self.seconds if _rank(name, tests) < len(tests)),
            key=lambda it: (_rank(it, tests), self.seconds[it]),
        )
        lines = self.lines[str(module)]
        chosen = set[str]().union(*(lines[it] for it in (lines if statement is None else statement) if it in lines))
        first = tuple(name for name in among if name in chosen)
        is_unseen = any(module.is_relative_to(it) for it in self.unseen)
        alone = statement is not None and not is_unseen
        running = first if alone else tuple(among)
        if is_unseen:
            first = (*first, *(name for name in among if name not in chosen))
        files = tuple(dict.fromkeys(_file(name) for name in running))
        return Selected(files, first, alone, sum(self.seconds[name] for name in running))


def _file(name: str) -> str:
    return name.partition("::")[0]


def _rank(name: str, tests: Sequence[str]) -> int:
    """Which of the tests, files and folders, it belongs to."""
    file = _file(name)
    return next((rank for rank, it in enumerate(tests) if file == it or file.startswith(f"{it}/")), len(tests))


def _innermost(tree: ast.Module, line: int) -> range | None:
    """The lines of the statement that a line is of, None if it runs on import.

    Of a statement with statements within: the lines before the first of them.
    """
    found = [(node, within) for node, within in _statements(tree, within=False) if line in _lines(node)]
    statement, within = min(found, key=lambda it: len(_lines(it[0])))
    if not within:
        return None
    body = getattr(statement, "body", ())
    head = range(statement.lineno, body[0].lineno if body else 0)
    return head if line in head else _lines(statement)


def _statements(node: ast.AST, *, within: bool) -> Iterator[tuple[ast.stmt, bool]]:
    """Each statement beneath a node, and whether it runs when a function is called."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child, within
        yield from _statements(child, within=within or isinstance(child, ast.FunctionDef))


def _lines(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)
