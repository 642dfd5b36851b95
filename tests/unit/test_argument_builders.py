"""Whatever a stranger wrote, each builder of an argument list refuses it or has it in one element, as an operand.

A builder is run with a stranger's text and with a harmless one: the two lists differ in one element at most, at a place
where the program takes an operand or the value of an option, and that element is no option and one line. So nothing is
added. tests/unit/test_spawns.py says which builder stands behind which child.
"""

import inspect
import json
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvmnix import config
from mvmnix.audit.anchors import GitAnchor
from mvmnix.builder.fetch import downloads
from mvmnix.builder.fetch.allowlist import Allowlist, Url
from mvmnix.builder.fetch.forges import archive_url
from mvmnix.builder.fetch.registries import Command
from mvmnix.builder.fetch.routes import ToConfigured
from mvmnix.builder.fetch.unpack import Checkout
from mvmnix.builder.flakes import git
from mvmnix.builder.flakes.repository import Found
from mvmnix.builder.lockfile.inputs import question
from mvmnix.builder.nix import nix_commands
from mvmnix.builder.pins import pypi
from mvmnix.cli.commands.verify_step import LEFT_OUT, OPTIONS, arguments
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError, UsageError
from mvmnix.formats.flake_references import Forge, NodeKind
from mvmnix.launch.secrets import resolve
from mvmnix.launch.shares import image, server
from mvmnix.model import FlakeRef, HashMode, StorePath, User
from mvmnix.plan import kernel_command_line
from mvmnix.plan.kernel_command_line import Addition
from mvmnix.plan.secret_reference import SecretReference, SecretTarget
from mvmnix.plan.share import ShareKind
from mvmnix.sandbox import landlock
from mvmnix.sandbox.helper import Sandbox
from mvmnix.sandbox.trusted_executables import Candidates
from mvmnix.system import process
from mvmnix.system.control_groups import ControlGroups
from mvmnix.system.process import Completed
from mvmnix.vmm.jail.root import Root
from mvmnix.vmm.jail.sandbox import BubblewrapSandbox, SandboxTools
from mvmnix.vmm.port import Acceleration, Attachment, LaunchSpec, MemoryBackend
from mvmnix.vmm.qemu import Qemu
from tests.unit.builder.pins.small_index import INDEXES
from tests.unit.strangers import HOSTILE, TEXTS

type Builder = Callable[[str], Sequence[str]]

#: What breaks programs, as names of store paths that Nix takes: with its alphabet, and those of the list that it takes.
NAMES: Final = st.one_of(TEXTS, st.from_regex(r"[0-9a-zA-Z+\-._?=]{1,20}", fullmatch=True))
NAR: Final = Digest("0" * 64)
TREE: Final = StorePath("0" * 32, "source")
HARMLESS: Final = "harmless"
URL: Final = nix_commands.flake_url(TREE, NAR, "")
ADDED: Final = nix_commands.host_add("/nix-store", HashMode.NAR, "/x")


def refused(build: Builder, text: str) -> Sequence[str] | None:
    """What is built and can be run; None where it is refused with a reason, or no noun can be made of it."""
    try:
        built = build(text)
        process._checked(["/program", *built], {}, "/")
    except RefusedError as error:
        assert set(error.codes) <= {ReasonCode.ARGUMENT_UNSAFE, ReasonCode.CONFIG_MALFORMED}
    except ValueError:
        pass
    else:
        return built
    return None


def holds(build: Builder, text: str, *, options: Sequence[str] = (), harmless: str = HARMLESS) -> None:
    """The property; `options` are those whose value a stranger's text may be."""
    usual, built = build(harmless), refused(build, text)
    if built is None:
        return
    assert len(built) == len(usual), "it added an element, or took one away"
    changed = [index for index, (one, other) in enumerate(zip(built, usual, strict=True)) if one != other]
    assert len(changed) <= 1, "it stands in several elements"
    for index in changed:
        word = built[index]
        if built[index - 1] in options:
            continue
        assert "--" in built[:index], "it stands before the operands"
        assert not word.startswith("-")
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", word)


def path(name: str) -> StorePath:
    return StorePath("1" * 32, name)


#: Every function of builder/nix/nix_commands.py that spells a call, with a stranger's text at each place where there
#: can be one.
NIX: Final[Mapping[str, tuple[Builder, ...]]] = {
    "version": (),
    "host_version": (),
    "host_ask_store": (),
    "pressure": (),
    "fetch_trees": (lambda text: nix_commands.fetch_trees([path("a"), path(text)]),),
    "export_trees": (lambda text: nix_commands.export_trees([path("a"), path(text)]),),
    "import_derivations": (lambda text: nix_commands.import_derivations(path(text)),),
    "evaluate": (
        lambda text: nix_commands.evaluate(nix_commands.flake_url(TREE, NAR, ""), text),
        lambda text: nix_commands.evaluate(nix_commands.flake_url(TREE, NAR, text), "a", from_derivation=True),
        lambda text: nix_commands.evaluate(nix_commands.flake_url(path(text), NAR, ""), "a"),
        lambda text: (
            nix_commands.evaluate(nix_commands.FlakeUrl(text), "a")
            if text != HARMLESS
            else nix_commands.evaluate(URL, "a")
        ),
    ),
    "read_inputs": (lambda text: nix_commands.read_inputs(question(TREE, NAR, text)),),
    "check_lock": (lambda text: nix_commands.check_lock(nix_commands.flake_url(path(text), NAR, text)),),
    "export_closure": (lambda text: nix_commands.export_closure([path("a"), path(text)]),),
    "export_these": (lambda text: nix_commands.export_these([path(text), path("a")]),),
    "list_attributes": (lambda text: nix_commands.list_attributes(nix_commands.flake_url(TREE, NAR, text)),),
    "evaluate_parts": (lambda text: nix_commands.evaluate_parts(nix_commands.flake_url(TREE, NAR, text)),),
    "build_and_export": (lambda text: nix_commands.build_and_export([path("a"), path(text)], jobs=1),),
    "build": (lambda text: nix_commands.build([path(text)], jobs=1),),
    "host_restore": (lambda text: nix_commands.host_restore("/nix-store", f"/tmp/{text}"),),
    "host_add": (
        lambda text: nix_commands.host_add("/nix-store", HashMode.FLAT, f"/tmp/{text}"),
        lambda text: nix_commands.host_add("/nix-store", HashMode.NAR, text) if text != HARMLESS else ADDED,
    ),
    "host_invalid": (lambda text: nix_commands.host_invalid("/nix-store", [path(text)]),),
    "host_evaluate": (
        lambda text: nix_commands.host_evaluate("/nix", TREE, NAR, text),
        lambda text: nix_commands.host_evaluate("/nix", path(text), NAR, "a"),
    ),
    "host_requisites": (lambda text: nix_commands.host_requisites("/nix-store", path(text)),),
    "host_export": (lambda text: nix_commands.host_export("/nix-store", [path("a"), path(text)]),),
    "host_build": (lambda text: nix_commands.host_build("/nix", path(text)),),
}
#: Of these the varying words stand elsewhere: behind a constant script's name, and behind a directory of ours.
NIX_ELSEWHERE: Final = {"derivations_with", "archive"}


def test_every_nix_call_has_its_row() -> None:
    calls = {
        name
        for name, function in inspect.getmembers(nix_commands, inspect.isfunction)
        if function.__module__ == nix_commands.__name__ and not name.startswith("_")
        if inspect.signature(function).return_annotation == tuple[str, ...]
    }
    assert calls == NIX.keys() | NIX_ELSEWHERE


@pytest.mark.parametrize("name", NIX)
def test_nix(name: str) -> None:
    @given(NAMES)
    def all_of_them(text: str) -> None:
        for build in NIX[name]:
            holds(build, text, options=("--expr",))

    for text in HOSTILE:
        for build in NIX[name]:
            holds(build, text, options=("--expr",))
    all_of_them()


@given(NAMES)
def test_nix_behind_a_script_and_a_directory(text: str) -> None:
    argv = refused(lambda it: nix_commands.derivations_with([it]), text)
    assert argv is None or (argv[-1] == text and re.fullmatch(r"[0-9a-z]{32}", text))
    usual, argv = (
        nix_commands.archive(path(HARMLESS), ("kernel",)),
        refused(lambda it: nix_commands.archive(path(it), ("kernel",)), text),
    )
    assert argv is None or [word.replace(str(path(text)), str(path(HARMLESS))) for word in argv] == list(usual)
    assert argv is None or argv[-2:] == ("--", "kernel")


@given(TEXTS)
def test_a_flake_reference_keeps_its_parts_apart(text: str) -> None:
    """What stands in the tree's name or the directory can't become a query, another parameter or an attribute."""
    make = nix_commands.flake_url
    for build in (lambda it: [make(path(it), NAR, "")], lambda it: [make(TREE, NAR, it)]):
        built = refused(build, text)
        if built is not None and text:
            (url,) = built
            assert (url.count("?"), url.count("#"), url.count("narHash=")) == (1, 0, 1)
            assert url.count("&dir=") == url.count("&")


@given(TEXTS)
def test_what_a_user_names_is_a_directory_and_an_attribute(text: str) -> None:
    built = refused(lambda it: [FlakeRef.parse(it).attribute], text)
    wanted = built and f"{URL}#packages.x86_64-linux.{built[0]}.drvPath"
    assert built is None or nix_commands.evaluate(URL, built[0])[-1] == wanted


@given(TEXTS)
def test_the_reader_of_repositories(text: str) -> None:
    """The directory goes in as a descriptor. What a linked work tree is called is in a variable, below ours."""
    found = Found(Path("/somewhere"), -1, f"/repository/git/worktrees/{text}", "0", {})
    usual = Found(Path("/somewhere"), -1, "/repository/git", "0", {})
    changed = {name for name, value in found.environment.items() if value != usual.environment[name]}
    assert changed <= {"GIT_DIR"}
    assert found.environment["GIT_WORK_TREE"] == "/repository/tree"
    assert git.CONVERSATION == ("cat-file", "--batch-command", "--buffer")


def test_the_anchor_in_a_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A branch of config.toml: the user's, and held to be one branch all the same. The repository isn't an argument."""
    calls: list[tuple[str, ...]] = []

    def script(_: Sandbox, *words: str) -> Completed:
        calls.append(words)
        return Completed((), 0, b"", b"")

    monkeypatch.setattr(Sandbox, "script", script)
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "r.git")], check=True)

    def read(branch: str) -> Sequence[str]:
        text = f"""version = 1
[[anchors]]
name = "w"
required = false
git = {json.dumps(str(tmp_path / "r.git"))}
branch = {json.dumps(branch)}
"""
        (rule,) = config.parse(text.encode()).anchors
        GitAnchor(rule.name, rule.required, rule.git, rule.branch, 1).latest()
        return calls[-1]

    @given(TEXTS)
    def configured(text: str) -> None:
        built, usual = refused(read, text), read(HARMLESS)
        if built is not None:
            assert (built[0], built[2]) == (usual[0], usual[2])
            assert all(re.fullmatch(r"refs/heads/[\w/-]+", word) for word in (built[1], *built[3:]))

    configured()


class StartedError(Exception):
    """Instead of a start."""


def test_the_sandbox_hands_words_on_behind_its_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever they are: the script is constant, they are its arguments, and nothing before them changes."""
    calls: list[tuple[Sequence[str], Any]] = []

    def spawn(argv: Sequence[str], **options: Any) -> None:
        calls.append((tuple(argv), options))
        raise StartedError

    monkeypatch.setattr(process, "spawn", spawn)

    @given(st.lists(TEXTS, max_size=4))
    @settings(max_examples=30)
    def words(texts: list[str]) -> None:
        with pytest.raises(StartedError):
            Sandbox().script("exec true", *texts)
        argv, options = calls[-1]
        place = list(argv).index("-euc")
        assert tuple(argv[place:]) == ("-euc", "exec true", "sh", *texts)
        assert len(argv[:place]) == len(calls[0][0][: list(calls[0][0]).index("-euc")])
        assert options["env"] == calls[0][1]["env"]

    words()


@given(TEXTS)
def test_what_of_a_repository_is_asked_is_one_commit_and_one_ref(text: str) -> None:
    url = Url("https", "host.test", 443, "/r", local=False)
    for build in (lambda it: [Checkout(url, it, "").rev], lambda it: [Checkout(url, "", it).ref]):
        built = refused(build, text)
        if built is not None and text:
            assert re.fullmatch(r"[^\x00- :+^~*?\[\\-][^\x00- :^~*?\[\\]*", built[0])


@given(TEXTS)
def test_the_address_of_a_forge_names_one_commit(text: str) -> None:
    for kind in (NodeKind.GITHUB, NodeKind.GITLAB, NodeKind.SOURCEHUT):

        def build(it: str, kind: NodeKind = kind) -> Sequence[str]:
            return [archive_url(Forge(kind, "owner", "repo", rev=it), Allowlist(frozenset()), private=False)]

        assert refused(build, text) is None
        assert refused(build, "0" * 40)


@given(TEXTS)
def test_a_requirement_is_one_line_for_pip(text: str) -> None:
    """Of a checkout's pyproject.toml: a name, extras, versions and a marker; no option and no second line."""
    try:
        wanted = pypi.requirements(f"[project]\ndependencies = [{json.dumps(text)}]".encode())
    except UsageError:
        return
    command = INDEXES.choose(wanted)
    assert command.arguments == INDEXES.choose([HARMLESS]).arguments
    lines = command.input.decode().splitlines()
    assert len(lines) == 1
    assert re.match(r"[A-Za-z0-9]", lines[0])
    assert "@" not in lines[0].partition(";")[0]


@pytest.mark.parametrize("text", ["x @ file:///tmp/x", "x @ git+https://host.test/x", "-e .", "./x", "x\n-e ."])
def test_no_requirement_names_what_pip_would_build(text: str) -> None:
    with pytest.raises(UsageError):
        pypi.requirements(f"[project]\ndependencies = [{json.dumps(text)}]".encode())


@given(st.lists(TEXTS, max_size=3))
def test_what_is_downloaded_is_named_behind_constants(names: list[str]) -> None:
    """What a registry's client is told are its builder's words, behind those of the script that runs it."""
    arguments = tuple(f"word-{name}" for name in names)
    run: list[Sequence[str]] = []

    def instead(_: Sandbox, program: Candidates, *argv: str, **__: object) -> Completed:
        run.append((*program.paths[:1], *argv))
        raise StartedError

    with pytest.MonkeyPatch.context() as patch, suppress(StartedError):
        patch.setattr(Sandbox, "run", instead)
        command = Command(Candidates("true", ("/usr/bin/true",), ""), arguments, ToConfigured(frozenset()))
        with downloads.downloaded(command, ["file"]):
            pass
    (argv,) = run
    assert tuple(argv[-len(arguments) - 2 :]) == ("file", "/usr/bin/true", *arguments)
    assert all("word-" not in word for word in argv[: -len(arguments) or None])


QEMU: Final = Qemu(executable="/usr/bin/qemu-system-x86_64", bios="/usr/share/qemu/qboot.rom")
MEMORY: Final = MemoryBackend(16)
SPEC: Final = LaunchSpec(10, 11, 12, 13, 14, 15, 2, 256, HARMLESS, Acceleration.TCG, 2_596_132, memory=MEMORY)


@given(TEXTS)
def test_qemu(text: str) -> None:
    """The kernel's command line is the one text in it: the value of -append, whatever it looks like."""
    holds(lambda it: QEMU.invocation(replace(SPEC, command_line=it)).argv, text, options=("-append",))


@given(TEXTS)
def test_a_tag_of_a_share_for_qemu(text: str) -> None:
    """Tags are mvm's own, and a comma in one would begin an option."""
    attachment = Attachment("share0", 17, ShareKind.VIRTIOFS)

    def build(it: str) -> Sequence[str]:
        return QEMU.invocation(replace(SPEC, shares=(replace(attachment, tag=it),))).argv

    built, usual = refused(build, text), build("share1")
    assert built is None or re.fullmatch(r"[a-z][a-z0-9]{0,19}", text)
    assert len(usual) == len(build("share0"))


@given(TEXTS)
def test_parameters_of_a_kernel_stay_apart(text: str) -> None:
    """What a backend adds is the last of them, to the kernel, and none of those that a plan says has its name."""
    if not kernel_command_line.problems(text):
        added = [str(Addition(it, it.word or 1)) for it in kernel_command_line.BACKEND_PARAMETERS]
        words = " ".join((text, *added)).split(" ")
        assert words[-len(added) :] == added
        assert all(words)
        assert "--" not in words
        assert '"' not in text
        names = [word.partition("=")[0] for word in words]
        assert all(names.count(it) == 1 for it in kernel_command_line.BACKEND_PARAMETERS)


def test_what_works_on_a_directory_is_told_numbers() -> None:
    """virtiofsd and mkfs.erofs: nothing but their program, descriptors and ids varies."""
    for function in (server.command, image.mkfs_command):
        kinds = {name: it.annotation for name, it in inspect.signature(function).parameters.items()}
        assert {name for name, kind in kinds.items() if kind not in {int, bool, User}} == {"program"}
        assert kinds["program"] is str


@given(TEXTS)
def test_a_rule_of_landlock_is_one_word(text: str) -> None:
    argv = refused(lambda it: landlock.command("/usr/bin/setpriv", {f"/{it}": landlock.READ}), text)
    assert argv is None or (argv[-3:-1] == ("--landlock-rule", f"path-beneath:read-file:/{text}") and argv[-1] == "--")


class FakeSandbox(BubblewrapSandbox):
    """A sandbox of which nothing is there but its words."""

    def __init__(self) -> None:
        self._tools = SandboxTools("/usr/bin/bwrap", "/usr/bin/setpriv", ControlGroups(()))
        self._root = Root((), ())
        self._filter, self._info_write = 7, 8


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_a_sandbox_hands_a_command_on_behind_its_own(words: list[str]) -> None:
    usual, argv = FakeSandbox().command(["/program"]), FakeSandbox().command(["/program", *words])
    assert argv == (*usual, *words)
    assert usual[-2:] == ("--", "/program")


def test_the_words_of_a_secrets_command_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the user's own program, named by the plan that the user signed; a word is a word all the same."""
    run: list[Sequence[str]] = []

    def first_bytes(argv: Sequence[str], **_: object) -> Completed:
        run.append(tuple(argv))
        return Completed(tuple(argv), 0, b"", b"")

    monkeypatch.setattr(resolve, "first_bytes", first_bytes)

    @given(st.lists(TEXTS, max_size=3))
    def words(texts: list[str]) -> None:
        expected = ("/usr/bin/printf", *texts)
        with suppress(ValueError):
            reference = SecretReference.parse(f"A=command:{shlex.join(expected)}", SecretTarget.FILE)
            resolve._command(reference.words)
            assert run[-1] == expected

    words()


@given(st.dictionaries(st.sampled_from(["artifacts", "bundle", "key", "type"]), TEXTS))
def test_a_workflows_inputs(some: dict[str, str]) -> None:
    """An input is the value of its own option; artifacts, one a line, stand behind `--`; a blank one is refused."""
    inputs = dict.fromkeys(OPTIONS, LEFT_OUT) | {"artifacts": "a"} | some
    lines = inputs["artifacts"].removesuffix("\n").split("\n")
    if not all(map(str.strip, (*lines, *inputs.values()))):
        with pytest.raises(UsageError):
            arguments(inputs)
        return
    argv = arguments(inputs)
    end = argv.index("--")
    assert argv[:2] == ["verify", "--json"]
    named = {name: inputs[name] for name in ("bundle", "key", "type")}
    assert argv[2:end] == [f"--{name}={value}" for name, value in named.items() if value != LEFT_OUT]
    assert argv[end + 1 :] == lines
