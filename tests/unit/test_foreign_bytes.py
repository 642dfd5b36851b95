"""Which modules read a stranger's bytes past the strict readers, each with its reason."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.repository import ROOT, tracked

OURS = [path for path in tracked() if path.suffix == ".py" and path.parts[0] == "mvmnix"]

#: Readers of values without bounds of their own, by the name that a call ends in, and modules that are such.
CALLS = {"json.load", "json.loads", "JSONDecoder", "raw_decode", "literal_eval", "eval", "fromstring", "load_module"}
MODULES = {"configparser", "csv", "marshal", "pickle", "plistlib", "shelve", "tomllib", "xml", "yaml"}
#: What remains, and why no strict reader does it.
READERS = {
    "mvmnix/formats/strict.py: json.loads": "the strict reader itself: bytes, depth and values are bounded before",
    "mvmnix/formats/toml.py: tomllib": "the strict reader itself: bytes and the parts of a key are bounded before",
    "mvmnix/builder/fetch/worker/documents.py: json.loads": "bounded alike, in a sandbox that has no strict.py",
    "mvmnix/builder/pins/pip_settings.py: literal_eval": "a line of the user's own pip configuration, printed by pip",
    "mvmnix/provenance/bundle/envelope.py: JSONDecoder": "at most _QUICK bytes, which have to be the canonical ones",
    "mvmnix/provenance/bundle/envelope.py: raw_decode": "the same",
    "mvmnix/claims/outcomes.py: xml": "exceptions and a type; the parser is defusedxml's",
    "mvmnix/refusals/catalogue.py: tomllib": "files of the package itself",
    "mvmnix/claims/outcomes.py: fromstring": "defusedxml, without document types",
    "mvmnix/images/sbom.py: json.loads": "a document that a library made of our own values, a call before",
    "mvmnix/cli/commands/audit.py: json.loads": "a record of the audit log, whose bytes have matched its one spelling",
    "mvmnix/cli/commands/events.py: json.loads": "the same",
}


def parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


def readers(path: Path) -> Iterator[str]:
    for node in ast.walk(parsed(path)):
        match node:
            case ast.Attribute(value=ast.Name(id=module), attr=name) if f"{module}.{name}" in CALLS:
                yield f"{module}.{name}"
            case ast.Attribute(attr=name) | ast.Name(id=name) if name in CALLS:
                yield name
            case ast.Import(names=names):
                yield from (top for it in names if (top := it.name.partition(".")[0]) in MODULES)
            case ast.ImportFrom(module=str() as module, names=names):
                yield from {module.partition(".")[0]} & MODULES
                yield from (full for it in names if (full := f"{module}.{it.name}") in CALLS)
            case _:
                pass


def test_what_reads_values_is_the_strict_reader_or_has_a_reason() -> None:
    """A short text can take a hundred times its size in memory, or the square of it in time."""
    assert {f"{path}: {name}" for path in OURS for name in readers(path)} == READERS.keys()


#: Functions of `re`, by whose first argument text is matched; `fnmatch` alike, by the second.
MATCHING = {"compile", "match", "fullmatch", "search", "sub", "finditer", "findall", "split"}
#: Patterns that are no constants of their module, and who writes them.
PATTERNS = {
    "mvmnix/formats/strict.py: pattern": "a constant of the caller",
    "mvmnix/plan/secret_reference.py: first": "of a table in the module",
    "mvmnix/formats/schemas.py: re.sub('\\\\$$', '\\\\\\\\Z', wanted)": "of our own schemas",
    "mvmnix/builder/session/build_errors.py: pattern": "of a table in the module",
    "mvmnix/builder/nix/host_nix.py: pattern": "of a table in the module",
    "mvmnix/system/child_causes.py: pattern": "of a table in the module",
    "mvmnix/provenance/slsa/build_types.py: row.pattern": "of a table in the module",
    "mvmnix/claims/patterns.py: f'(?<![\\\\w-]){either(*alternatives)}(?![\\\\w-])'": "constants; escaped names",
    "mvmnix/claims/settings.py: f'(?<![\\\\w/.-])(?:{words})(?![\\\\w/-]|\\\\.\\\\w)'": "escaped names",
}


def is_constant(pattern: ast.expr) -> bool:
    """Whether it is made of literals and names in capitals, or the pattern of such a name."""
    match pattern:
        case ast.Constant():
            return True
        case ast.Name(id=name):
            return name.strip("_").isupper()
        case ast.JoinedStr(values=parts) | ast.Tuple(elts=parts):
            return all(map(is_constant, parts))
        case ast.FormattedValue(value=inner) | ast.Attribute(value=inner, attr="pattern"):
            return is_constant(inner)
        case ast.BinOp(left=left, right=right):
            return is_constant(left) and is_constant(right)
        case ast.IfExp(body=body, orelse=other):
            return is_constant(body) and is_constant(other)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="re"), attr="escape")):
            return True
        case ast.Attribute(attr=name):
            return name.isupper()
        case _:
            return False


def patterns(path: Path) -> Iterator[ast.expr]:
    """What is compiled or matched in functions; a module's own statements see no input."""
    functions = (it for it in ast.walk(parsed(path)) if isinstance(it, ast.FunctionDef | ast.AsyncFunctionDef))
    for node in (node for function in functions for node in ast.walk(function)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="re"), attr=name), args=[first, *_]):
                yield from [first] * (name in MATCHING)
            case _:
                pass


def test_patterns_are_constants_or_have_a_reason() -> None:
    """`re` may take time with a power of the text's length: what others write is matched by expressions.py."""
    found = {f"{path}: {ast.unparse(it)}" for path in OURS for it in patterns(path) if not is_constant(it)}
    assert found == PATTERNS.keys()


#: A program of a hint's command at its beginning or behind a mark, and its words, in which "\0" is a value.
COMMAND = re.compile(
    r"(?:^ *|[`(;:&] ?)(?:sudo )?(?:mvm|nix|git|ch(?:mod|own|grp)|cp|mv|rm|ls|cat|ln|find|fuser|kill|realpath|install"
    r"|nix-store|usermod|modprobe|apt-get|tar|touch|mkdir|sha256sum|diff|cosign|pip|npm|ssh-keygen|gpg)"
    r"(?: [\w.+/=:\0-]+)+"
)
#: Values that no shell takes apart.
WORDS = {
    "mvmnix/api/images.py: manifest": "a digest",
    "mvmnix/cli/commands/explain.py: code": "a word of an enumeration",
    "mvmnix/cli/output.py: reason.code": "a word of an enumeration",
    "mvmnix/images/prune.py: entry.manifest": "a digest",
    "mvmnix/api/admission.py: status.machine": "an id in hexadecimal",
    "mvmnix/launch/runtime/creation.py: status.machine": "an id in hexadecimal",
    "mvmnix/machines/cleanup.py: status.machine": "an id in hexadecimal",
    "mvmnix/vmm/process.py: self.pid": "a number",
    "mvmnix/api/signing.py: role": "a word of an enumeration",
    "mvmnix/cli/commands/key.py: role": "a word of an enumeration",
    "mvmnix/launch/control/authorize.py: verb": "a word of an enumeration",
    "mvmnix/cli/option_hints.py: option": "an option of mvm's own",
    "mvmnix/builder/pins/pypi.py: PYTHON": "a constant",
    "mvmnix/network/host/namespace.py: tun": "a constant",
    "mvmnix/audit/git_branch.py: self.name": "a sentence about git",
    "mvmnix/audit/git_branch.py: self.path": "a sentence about git",
    "mvmnix/builder/nix/host_store.py: len(found)": "a sentence about nix",
    "mvmnix/builder/nix/host_store.py: len(sources)": "a sentence about nix",
    "mvmnix/builder/pins/pypi.py: words": "a sentence about pip",
    "mvmnix/builder/pins/configured.py: why": "a sentence about npm",
}


def unquoted(path: Path) -> Iterator[str]:
    """The values in commands of f-strings that shell_command or shell_word didn't make."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.JoinedStr):
            values = [ast.unparse(it.value) for it in node.values if isinstance(it, ast.FormattedValue)]
            said = "".join(str(it.value) if isinstance(it, ast.Constant) else "\0" for it in node.values)
            for it in COMMAND.finditer(said):
                yield from values[said.count("\0", 0, it.start()) : said.count("\0", 0, it.end())]


def test_commands_of_hints_are_quoted() -> None:
    """They are there to be pasted, and a path may be `/tmp/$(id)`; other modules have no quoting of their own."""
    assert {f"{path}: {value}" for path in OURS for value in unquoted(path)} == WORDS.keys()
    quoting = {str(path) for path in OURS if "import shlex" in (ROOT / path).read_text()}
    assert quoting == {
        "mvmnix/formats/escaping.py",
        "mvmnix/plan/secret_reference.py",  # the words of a command in a plan
        "mvmnix/sdk/arguments.py",  # the list that a program should have given in place of a str
        "mvmnix/system/process.py",  # argv in a log
    }
