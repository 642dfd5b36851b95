"""The rules of the house that no linter knows, each as a test; what is excepted is listed here with its reason."""

import ast
import ipaddress
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from importlinter.cli import lint_imports

from mvmnix.errors import ReasonCode
from tests.conftest import commit
from tests.repository import ROOT, tracked
from tests.unit.import_lists import loaded_by
from tools.site import command_line, reason_codes, sdk

LONGEST_FUNCTION = 40
#: Lines of a file. A test file holds a table of refusals beside the function that runs it, and is as long as its table.
MOST_LINES = {"tests": 600}
LONG = 500
#: Functions past 40 lines: an exact argument list is one expression.
LONG_FUNCTIONS = {"tests/unit/vmm/test_qemu.py: test_arguments_under_tcg"}
#: Hosts that may be named: the homes of type URIs and specifications, which nothing here connects to.
HOSTS = {
    "actions.github.io",
    "c2sp.org",
    "cosign.sigstore.dev",
    "cyclonedx.org",
    "github.com",
    "gitlab.com",
    "in-toto.io",
    "json-schema.org",
    "keepachangelog.com",
    "semver.org",
    "slsa-framework.github.io",
    "slsa.dev",
    "spdx.dev",
    "www.apache.org",
    "www.w3.org",
    "www.rfc-editor.org",
}
#: Names that can't be anybody's: RFC 2606 and RFC 6761, and single labels; and a network rule's `*`.
NOBODYS = re.compile(r"\*|[a-z0-9-]+|.*\.(test|example|invalid|localhost)|(.*\.)?example\.(com|net|org)")
#: Up to what can't be part of one, or isn't where texts name a form or a network rule (`https://HOST[:PORT],id=x`).
URLS = re.compile(r"https?://(?:\[[0-9A-Fa-f:.]+\])?[^\s\"'`,$)>\[\]}|\\]*")
#: Written apart, so that this file does not name them.
REGISTRIES = [f"{name}.org" for name in ("debian", "pypi", "pythonhosted", "nixos", "npmjs")]
#: Packages that only these may import.
DOORS = {
    "click": ("mvmnix/cli/",),
    "rich": ("mvmnix/cli/",),
    "sigstore": ("mvmnix/provenance/identity/sigstore.py",),
    "requests": ("mvmnix/provenance/identity/sigstore.py",),
    "urllib3": ("mvmnix/provenance/identity/sigstore.py",),
    "re2": ("mvmnix/provenance/identity/expressions.py",),
    "rfc3161_client": ("mvmnix/provenance/identity/timestamps.py",),
    "subprocess": ("mvmnix/system/process.py",),
    "jsonschema": ("mvmnix/formats/schemas.py",),
    "keyring": ("mvmnix/launch/secrets/resolve.py",),
    "detect_secrets": ("mvmnix/launch/secrets/detectors.py",),
    "cyclonedx": ("mvmnix/images/sbom.py",),
    "packageurl": ("mvmnix/images/sbom.py", "mvmnix/provenance/slsa/in_toto.py"),
    "dns": ("mvmnix/network/gateway/resolver.py",),
    "pyroute2": ("mvmnix/api/doctor.py",),
    "jinja2": ("mvmnix/evidence/page.py",),
    "h11": ("mvmnix/network/gateway/http_heads.py",),
    "publicsuffixlist": ("mvmnix/network/policy/public_suffixes.py",),
    "idna": ("mvmnix/plan/network_hosts.py",),
}


TRACKED = tracked()
PYTHON = [path for path in TRACKED if path.suffix == ".py"]
OURS = [path for path in PYTHON if path.parts[0] == "mvmnix"]


def text(path: Path) -> str:
    return (ROOT / path).read_text()


def parsed(path: Path) -> ast.Module:
    return ast.parse(text(path))


def opens_with_one_sentence(path: Path) -> bool:
    paragraph = (ast.get_docstring(parsed(path)) or "").partition("\n\n")[0]
    words = re.sub(r"`[^`]*`", "code", paragraph)
    return re.fullmatch(r"(?s)(?!.*[.!?]['\")]*\s+[A-Z]).*\.", words) is not None


def test_a_module_opens_with_one_sentence() -> None:
    """What this module alone may do."""
    assert not [str(path) for path in PYTHON if not opens_with_one_sentence(path)]


def test_c_and_nix_open_with_a_sentence() -> None:
    """Of what a newcomer copies, the flake's own description is its sentence."""
    flake, other = re.compile(r'\{\n  description = "[A-Z][^"]+";\n'), re.compile(r"(//|#) \S+ .*\S\n")
    sources = [path for path in TRACKED if path.suffix in {".c", ".h", ".nix"}]
    assert len(sources) > 100
    assert not [
        str(path) for path in sources if not (flake if path.parts[0] == "examples" else other).match(text(path))
    ]


def test_what_git_does_not_track_is_not_counted(tmp_path: Path) -> None:
    (tmp_path / "tracked.py").write_text("")
    commit(tmp_path)
    (tmp_path / "build").mkdir()
    for name in ("build/tracked.py", "new.py"):
        (tmp_path / name).write_text("")
    assert tracked(tmp_path) == [Path("tracked.py")]


def test_what_packaging_leaves_is_ignored() -> None:
    """`pip wheel .` makes these."""
    left = ["build/lib/mvmnix/formats/nar.py", "dist/mvmnix-0.1.0-py3-none-any.whl", "mvmnix.egg-info/PKG-INFO"]
    argv = ["git", "-C", str(ROOT), "check-ignore", "--no-index", *left]
    assert subprocess.run(argv, capture_output=True, text=True, check=False).stdout.splitlines() == left


def test_no_file_is_a_link() -> None:
    """What it leads to on one machine isn't there on the next."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-s"], capture_output=True, check=True).stdout
    assert not [line for line in listed.decode().splitlines() if line.startswith("120000 ")]


def test_texts_say_who() -> None:
    """Plain technical English names the caller, a user, a process; `nobody` is a user of the system."""
    vague = re.compile(r"\b(whoever|somebody|anybody|believ\w+)\b|(?<!`)\b(?<!as )nobody\b(?!`|-)(?= )", re.IGNORECASE)
    assert not [
        f"{path}:{number}"
        for path in OURS
        for number, line in enumerate(text(path).splitlines(), 1)
        if vague.search(line)
    ]


#: Turns of phrase that messages and documents had; plain are "is not a plan", "is listed twice", "two random words".
RIDDLES = re.compile(
    r"stands? there twice|by chance|of no kind|built it alike|hung up on\b|\btakes it for\b|reddens"
    r"|(?<!there )\b(is|are|was) no (?!longer|more|other|larger|older|sooner|earlier|such\b)\w",
    re.IGNORECASE,
)
#: These name an old text on purpose, or keep the words of a decision or a version.
QUOTING = {Path("CHANGELOG.md")}


def docstrings(module: ast.Module) -> set[int]:
    """The docstrings in a module, by the identity of their nodes."""
    bodies = (node for node in ast.walk(module) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef))
    first = (node.body[0] for node in bodies if node.body)
    return {id(it.value) for it in first if isinstance(it, ast.Expr) and isinstance(it.value, ast.Constant)}


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """The string constants in a module but for docstrings, with their lines."""
    module = parsed(path)
    apart = docstrings(module)
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in apart:
            yield node.lineno, node.value


def test_messages_and_documents_are_no_riddles() -> None:
    """Of docstrings only those that a page has: help texts of commands, and the SDK's."""
    code = [path for path in PYTHON if path.parts[0] in {"mvmnix", "modules"}]
    found = [f"{path}:{line}" for path in code for line, said in messages(path) if RIDDLES.search(said)]
    for path in TRACKED:
        if path.suffix == ".md" and path not in QUOTING and path.parts[:2] != ("docs", "adr"):
            found += riddles(path, text(path))
    for name, page in {"help texts": command_line.text(), "sdk": sdk.text(), **reason_codes.pages()}.items():
        found += riddles(Path(name), page)
    assert not found


def riddles(path: Path, page: str) -> list[str]:
    said = re.sub(r"\s+", " ", page)
    return [f"{path}: {said[max(0, it.start() - 20) : it.end() + 20]}" for it in RIDDLES.finditer(said)]


#: Files of others that texts name.
THEIRS = {"main_parser.py", "socks.py", "pythonrc.py", "ambient.py"}


def test_modules_that_a_text_names_are_there() -> None:
    """By the path from the root or the end of it, as in `launch/runtime/start.py`, or by the name alone."""
    named = {
        (str(path), module)
        for path in TRACKED
        if path.parts[0] in {"mvmnix", "modules"} and path.suffix in {".py", ".c", ".h"}
        for module in re.findall(r"(?<![\w/.])(?:\w+/)*\w+\.py\b", text(path))
        if module not in THEIRS
    }
    assert len(named) > 100
    assert not [pair for pair in named if not any(f"/{path}".endswith(f"/{pair[1]}") for path in TRACKED)]


def test_files_are_short() -> None:
    """Documents and data are as long as they are."""
    code = [path for path in TRACKED if path.suffix in {".py", ".c", ".h", ".nix"}]
    long = [str(path) for path in code if len(text(path).splitlines()) > MOST_LINES.get(path.parts[0], LONG)]
    assert not long, "look for the second noun that hides there"


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_functions_are_short() -> None:
    long = {f"{path}: {name}" for path in PYTHON for name, lines in functions(path) if lines > LONGEST_FUNCTION}
    assert long == LONG_FUNCTIONS


def test_no_assert_in_the_tool() -> None:
    """`python -O` takes asserts out, so nothing may rest on one."""
    assert not [
        f"{path}:{node.lineno}" for path in OURS for node in ast.walk(parsed(path)) if isinstance(node, ast.Assert)
    ]


@cache
def imported(path: Path) -> frozenset[str]:
    """The top names of what a module imports, wherever in it."""
    found = list[str]()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return frozenset(name.partition(".")[0] for name in found)


@pytest.mark.parametrize("package", DOORS)
def test_a_package_comes_in_by_its_door(package: str) -> None:
    users = [path for path in OURS if package in imported(path)]
    assert not [path for path in users if not str(path).startswith(DOORS[package])]


def imports(module: ast.Module) -> set[str]:
    """The dotted names of what a module imports, wherever in it: modules, and names that may be modules."""
    found = set[str]()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module or ''}.{alias.name}" for alias in node.names}
    return found


def used_tests(name: str, source: str) -> set[str]:
    """The test modules that a module uses: by imports, and by their names in texts of programs; itself left out."""
    if not re.search(r"(?<!def )\btest_\w", source):  # most have none: to parse all takes seconds
        return set()
    used = imports(ast.parse(source)) | set(re.findall(r"\btests\.[\w.]+", source))
    return {it for it in used if re.search(r"(^|\.)test_", it) and not re.match(rf"{re.escape(name)}\b", it)}


@pytest.mark.parametrize(
    ("source", "used"),
    [
        ("from tests.unit.test_a import b", {"tests.unit.test_a", "tests.unit.test_a.b"}),
        ("def f():\n    from tests.unit import (\n        test_a,\n    )", {"tests.unit.test_a"}),
        ("from . import test_a", {".test_a"}),
        ("import tests.unit.test_a as b", {"tests.unit.test_a"}),
        ("PROGRAM = 'from tests.unit.test_a import *'", {"tests.unit.test_a"}),
        ("PROGRAM = 'from tests.unit.test_own import *'", set()),
        ("from tests.unit.house import b", set()),
    ],
)
def test_what_counts_as_using_a_test(source: str, used: set[str]) -> None:
    assert used_tests("tests.unit.test_own", source) == used


def test_no_module_imports_a_test() -> None:
    """What tests share is in a module that is no test, so that either can be changed alone."""
    found = {
        f"{path}: {used}"
        for path in PYTHON
        if path.parts[0] in {"tests", "tools", "bench"} and path != Path(__file__).relative_to(ROOT)
        for used in used_tests(".".join(path.with_suffix("").parts), text(path))
    }
    assert not found


def is_somebodys(host: str) -> bool:
    """Whether a name or address could be reached in the Internet."""
    if host.startswith("{"):  # the whole host is filled in
        return False
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return not NOBODYS.fullmatch(host.removeprefix("*.").removesuffix("."))


def test_the_top_of_the_repository_is_found_in_one_place() -> None:
    """A test that counts the folders above it breaks where it is moved. A fake program has no other way."""
    there = {"tests/repository.py", "tests/unit/launch/fake_hypervisor.py", "tests/unit/test_house.py"}
    tops = [p for p in PYTHON if f"parents[{len(p.parts) - 1}]" in text(p) and p.parts[0] == "tests"]
    assert {str(path) for path in tops} <= there


def test_no_host_is_named_but_those_of_specifications() -> None:
    """Addresses come from apt's and pip's configuration; identifiers are `urn:mvmnix:…`."""
    named = {
        (str(path), host)
        for path in TRACKED
        for url in URLS.findall((ROOT / path).read_bytes().decode(errors="replace"))
        if (host := (urlsplit(url).hostname or "").lower()) and is_somebodys(host)
    }
    assert {(path, host) for path, host in named if host not in HOSTS} == set()
    assert {host for _, host in named} == HOSTS, "strike the hosts that nobody names any more"


@pytest.mark.parametrize("registry", REGISTRIES)
def test_no_registry_is_named(registry: str) -> None:
    assert not [path for path in TRACKED if registry.encode() in (ROOT / path).read_bytes()]


def test_every_reason_code_is_documented_and_provoked() -> None:
    tests = "".join(
        text(path) for path in PYTHON if path.parts[0] == "tests" and path != Path("tests/unit/test_house.py")
    )
    pages = reason_codes.pages()
    undocumented = [code for code in ReasonCode if f"reference/reason-codes/{code}.md" not in pages]
    unprovoked = [code for code in ReasonCode if not re.search(rf"Code\.{code.name}\b|[\"'\[]{code}[\"'\]]", tests)]
    assert (undocumented, unprovoked) == ([], [])


def test_every_reason_code_is_used() -> None:
    code = "".join(text(path) for path in OURS if path != Path("mvmnix/errors.py"))
    assert not [one for one in ReasonCode if f"ReasonCode.{one.name}" not in code]


def test_floors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename="pyproject.toml", cache_dir=str(tmp_path)) == 0


HEAVY = {
    "asyncio",
    "cryptography",
    "cryptography.x509",
    "detect_secrets",
    "dns",
    "h11",
    "jinja2",
    "jsonschema",
    "keyring",
    "packaging",
    "pyroute2",
    "rich",
    "sigstore",
}


def test_the_door_is_light() -> None:
    """`mvm --version` and `mvm --help` load click and nothing else that is heavy."""
    for option in ("--version", "--help"):
        program = f"""
from mvmnix.cli.main import main
import sys
sys.argv = ["mvm", "{option}"]
try:
    main()
except SystemExit as end:
    assert end.code == 0"""
        loaded = loaded_by(program)
        assert "click" in loaded
        assert not HEAVY & loaded


def test_the_supervisor_is_light() -> None:
    """What stays in memory beside each machine needs `cryptography`, to sign its receipt, and no more."""
    loaded = loaded_by("import mvmnix.launch.runtime.supervisor, mvmnix.machines.registry, mvmnix.vmm.qemu")
    assert not (HEAVY - {"cryptography"} | {"click"}) & loaded


def test_a_detached_supervisor_is_light() -> None:
    """It is a fork of the process that verified the plan, so what `mvm launch` imports stays in memory."""
    loaded = loaded_by("import mvmnix.cli.main, mvmnix.cli.commands.launch")
    assert not (HEAVY - {"cryptography"} | {"mvmnix.builder.session.session"}) & loaded


#: Nouns of messages that count something. Sizes and times are written as digits and a unit, and are left out.
COUNTED = (
    r"records|bundles|receipts|files|machines|cases|signers|nonces|sources|leftovers|reasons|packages|paths|trees|pins"
    r"|changes|images|plans|anchors|parts|processe?s|processors|statements|probes|days|pieces"
)
#: What counts two or more wherever it is said, or a limit.
MORE_THAN_ONE = {
    *("len(digests)", "namesakes", "len(matching)", "self.limits.records", "self._limits.records"),
    *("len(verdicts)", "len(sources)", "it.policy.thresholds.plans"),
}


def plural_after_a_number(path: Path) -> Iterator[str]:
    """The expressions in a module's messages that are followed by a noun in the plural, whatever they give."""
    noun = re.compile(rf"^ (?:kept |more )?({COUNTED})\b")
    for node in ast.walk(parsed(path)):
        for value, text in pairwise(node.values) if isinstance(node, ast.JoinedStr) else ():
            if isinstance(value, ast.FormattedValue) and isinstance(text, ast.Constant) and noun.match(str(text.value)):
                counting = ast.unparse(value.value)
                if not re.fullmatch(r"[A-Z_]+", counting.rpartition(".")[2]):  # a constant
                    yield counting


def test_one_thing_is_not_told_in_the_plural() -> None:
    """`counted` says "1 record" and "2 records"."""
    found = {path: set(plural_after_a_number(path)) - MORE_THAN_ONE for path in OURS}
    assert {str(path): told for path, told in found.items() if told} == {}
