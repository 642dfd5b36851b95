"""Finds every mutation of a module: one small change of its text, after which it decides otherwise somewhere; pure.

Kinds: `comparison` and `condition` (an operator, or a whole test, turned round), `logic` (and, or, not), `boundary` (an
integer, one more and one less), `raise` and `call` (a refusal, or a call for its effect, left out; not `assert_never`,
which only mypy needs), `reason` (a reason left out of those that are gathered, or another code in its place), `return`
(a truth value turned round).
"""

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final

from mvmnix.errors import ReasonCode


class Kind(StrEnum):
    """What a mutation changes."""

    COMPARISON = "comparison"
    CONDITION = "condition"
    LOGIC = "logic"
    BOUNDARY = "boundary"
    RAISE = "raise"
    CALL = "call"
    REASON = "reason"
    RETURN = "return"


@dataclass(frozen=True, slots=True)
class Mutation:
    """Bytes `start` to `end` of the source, UTF-8, replaced by `new`; `line` counts from 1."""

    kind: Kind
    line: int
    start: int
    end: int
    new: bytes

    def applied(self, source: bytes) -> bytes:
        """The mutated source."""
        return source[: self.start] + self.new + source[self.end :]


_TURNED: Final[dict[type[ast.cmpop], tuple[str, str]]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
}
_CODES: Final = [code.name for code in ReasonCode]


def mutations(source: bytes) -> list[Mutation]:
    """Each mutation that leaves another module that Python can read, in the order of the text."""
    tree = ast.parse(source)
    found = {it for node in _deciding(tree) for it in _of(node, _Text(source)) if it.applied(source) != source}
    return sorted((it for it in found if _can_be_read(it.applied(source))), key=lambda it: (it.start, it.end, it.new))


class _Text:
    """Where nodes lie in the source."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def start(self, node: ast.expr | ast.stmt) -> int:
        return self._lines[node.lineno - 1] + node.col_offset

    def end(self, node: ast.expr | ast.stmt) -> int:
        return self._lines[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or node.col_offset)

    def of(self, node: ast.expr | ast.stmt) -> bytes:
        return self._source[self.start(node) : self.end(node)]

    def between(self, left: ast.expr, right: ast.expr) -> bytes:
        return self._source[self.end(left) : self.start(right)]

    def replaced(self, kind: Kind, node: ast.expr | ast.stmt, new: bytes) -> Mutation:
        return Mutation(kind, node.lineno, self.start(node), self.end(node), new)


def _deciding(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that are run for their value or effect: no annotation, no docstring, no text with fields."""
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "type_params", "decorator_list"} or isinstance(value, ast.JoinedStr):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr | ast.TypeAlias):
                yield child
                yield from _deciding(child)


def _of(node: ast.AST, text: _Text) -> Iterator[Mutation]:
    for find in _FINDERS:
        yield from find(node, text)


def _comparisons(node: ast.AST, text: _Text) -> Iterator[Mutation]:
    if isinstance(node, ast.Compare):
        for (left, right), operator in zip(pairwise([node.left, *node.comparators]), node.ops, strict=True):
            old, new = _TURNED[type(operator)]
            between = text.between(left, right)
            yield Mutation(
                *(Kind.COMPARISON, left.end_lineno or left.lineno, text.end(left), text.start(right)),
                between.replace(old.encode(), new.encode(), 1),
            )


def _conditions(node: ast.AST, text: _Text) -> Iterator[Mutation]:
    tests: Sequence[ast.expr] = ()
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        tests = (node.test,)
    elif isinstance(node, ast.comprehension):
        tests = node.ifs
    for test in tests:
        if isinstance(test, ast.Name) and test.id == "TYPE_CHECKING":  # False, wherever a test runs
            continue
        yield text.replaced(Kind.CONDITION, test, b"(not (" + text.of(test) + b"))")


def _logic(node: ast.AST, text: _Text) -> Iterator[Mutation]:
    if isinstance(node, ast.BoolOp):
        old, new = (b"and", b"or") if isinstance(node.op, ast.And) else (b"or", b"and")
        for left, right in pairwise(node.values):
            between = text.between(left, right)
            yield Mutation(
                Kind.LOGIC, left.end_lineno or left.lineno, text.end(left), text.start(right), between.replace(old, new)
            )
        for value in node.values:  # as if it were not asked
            yield text.replaced(Kind.LOGIC, value, b"True" if isinstance(node.op, ast.And) else b"False")
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield text.replaced(Kind.LOGIC, node, b"bool(" + text.of(node.operand) + b")")


def _boundaries(node: ast.AST, text: _Text) -> Iterator[Mutation]:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        for other in (node.value + 1, node.value - 1):
            yield text.replaced(Kind.BOUNDARY, node, b"(%d)" % other)


def _statements(node: ast.AST, text: _Text) -> Iterator[Mutation]:
    match node:
        case ast.Raise():
            yield text.replaced(Kind.RAISE, node, b"pass")
        case ast.Expr(value=ast.Call(func=ast.Name(id="assert_never"))):
            pass
        case ast.Expr(value=ast.Call()):
            yield text.replaced(Kind.CALL, node, b"pass")
        case ast.Expr(value=ast.Yield() | ast.YieldFrom()):
            yield text.replaced(Kind.REASON, node, b"yield from ()")
        case ast.AugAssign(op=ast.Add() | ast.BitOr()):
            yield text.replaced(Kind.REASON, node, b"pass")
        case ast.Return(value=ast.Constant(value=bool(value))):
            yield text.replaced(Kind.RETURN, node, b"return False" if value else b"return True")
        case _:
            pass


def _codes(node: ast.AST, text: _Text) -> Iterator[Mutation]:
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "ReasonCode" and node.attr in _CODES:
        other = _CODES[(_CODES.index(node.attr) + 1) % len(_CODES)]
        yield text.replaced(Kind.REASON, node, b"ReasonCode." + other.encode())


_FINDERS: Final[Sequence[Callable[[ast.AST, _Text], Iterator[Mutation]]]] = (
    *(_comparisons, _conditions, _logic, _boundaries, _statements, _codes),
)


def _can_be_read(source: bytes) -> bool:
    try:
        compile(source, "mutated", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True
