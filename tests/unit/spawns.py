"""Finds every place in mvmnix/ that uses what has certain names, by the syntax tree: calls, and names handed on."""

import ast
import re
from collections.abc import Iterator
from typing import Final, override

from tests.repository import ROOT

#: What starts a process with the arguments of others, of mvm's own: the room that starts, and what it is handed on to.
OWN: Final = (
    *(f"mvmnix.system.process.{name}" for name in ("run", "spawn", "first_bytes")),
    *("mvmnix.sandbox.helper.Sandbox", "mvmnix.vmm.process.JailedProcess.spawn"),
    *("mvmnix.builder.nix.host_nix.HostNix.find", "mvmnix.builder.nix.host_nix.HostNix.look"),
    "mvmnix.builder.fetch.registries.Command",
)
#: What starts a process, by the name that it is imported under: the kernel's ways, libraries', and mvm's own.
STARTERS: Final = re.compile(
    r"os\.(fork|forkpty|exec\w+|spawn\w+|posix_spawnp?|system|popen|startfile)"
    r"|(subprocess|pty|multiprocessing|webbrowser|pexpect)(\.\w+)*"
    r"|asyncio\.(subprocess(\.\w+)*|create_subprocess_\w+)"
    r"|concurrent\.futures\.ProcessPoolExecutor|(concurrent\.futures\.process)(\.\w+)*"
    r"|click\.(edit|launch|echo_via_pager|get_pager_file|getchar)"
    r"|keyring\.(get_password|backend\.get_all_keyring)|sigstore\.oidc\.(detect_credential|Issuer)"
    rf"|{'|'.join(map(re.escape, OWN))}"
)
#: The room itself.
PROCESS: Final = "mvmnix/system/process.py"


class _Sites(ast.NodeVisitor):
    """Collects, by the function that it stands in, what of a module's names fits a pattern."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern
        self._names: dict[str, str] = {}
        self._scope: list[str] = []
        self.found: dict[str, set[str]] = {}

    @override
    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._names[alias.asname or alias.name.partition(".")[0]] = (
                alias.name if alias.asname else alias.name.partition(".")[0]
            )

    @override
    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self._names[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    @override
    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._within(node)

    @override
    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._within(node)

    @override
    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._within(node)

    def _within(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._scope.append(node.name)
        for each in ast.iter_child_nodes(node):
            if each is not getattr(node, "returns", None):  # what it answers with is no use of it
                self.visit(each)
        self._scope.pop()

    @override
    def visit_arg(self, node: ast.arg) -> None:
        """What a parameter may be is no use of it."""

    @override
    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    @override
    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._use(node)
        self.generic_visit(node)

    @override
    def visit_Name(self, node: ast.Name) -> None:
        self._use(node)

    def _use(self, node: ast.expr) -> None:
        name = self._dotted(node)
        if name is not None and self._pattern.fullmatch(name):
            self.found.setdefault(".".join(self._scope) or "<module>", set()).add(name)

    def _dotted(self, node: ast.expr) -> str | None:
        match node:
            case ast.Name(id=name):
                return self._names.get(name)
            case ast.Attribute(value=value, attr=attr):
                inner = self._dotted(value)
                return None if inner is None else f"{inner}.{attr}"
            case _:
                return None


def in_source(text: str, pattern: re.Pattern[str] = STARTERS) -> dict[str, set[str]]:
    """By function, what a module's text uses of these names: what it starts."""
    tree = ast.parse(text)
    sites = _Sites(pattern)
    for node in ast.walk(tree):  # imports first, wherever they stand
        if isinstance(node, ast.Import | ast.ImportFrom):
            sites.visit(node)
    sites.visit(tree)
    return sites.found


def sites() -> Iterator[str]:
    """Every place as `mvmnix/FILE.py:FUNCTION`, sorted."""
    for path in sorted((ROOT / "mvmnix").rglob("*.py")):
        where = str(path.relative_to(ROOT))
        if where != PROCESS:
            yield from (f"{where}:{function}" for function in sorted(in_source(path.read_text())))
