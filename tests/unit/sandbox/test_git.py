"""Git's configuration is given, and none is read: settings that name programs or paths, at each place of mvm's.

One repository has all of them at once, and whatever is run or written leaves a mark under the setting's name. Before
mvm works on it, a git that reads its configuration does: so marks appear where nothing is in their way.
"""

import ast
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from mvmnix.audit.git_branch import GitBranch
from mvmnix.builder.flakes.git import read_work_tree, tracked_files
from mvmnix.sandbox import git
from mvmnix.sandbox.helper import Sandbox
from mvmnix.sandbox.helper_command import environment
from mvmnix.system.process import Completed
from tests.fakes import Repository
from tests.patience import EVENT_PATIENCE
from tests.repository import ROOT

MVMNIX: Final = ROOT / "mvmnix"

#: By name, lines of a repository's configuration. {run} is a program that leaves the setting's mark, {mark} the path of
#: that mark, {here} a directory with hooks, attributes, templates and another configuration, whose programs leave it.
SETTINGS: Final = {
    "alias": "[alias]\n\tcat-file = !{run}\n\trev-parse = !{run}\n\tstatus = !{run}\n\town = !{run}",
    "commit.gpgSign": "[commit]\n\tgpgSign = true\n[tag]\n\tgpgSign = true",
    "core.alternateRefsCommand": "[core]\n\talternateRefsCommand = {run}",
    "core.askPass": "[core]\n\taskPass = {run}",
    "core.attributesFile": '[core]\n\tattributesFile = {here}/attributes\n[filter "attributesFile"]\n\tclean = {run}',
    "core.editor": "[core]\n\teditor = {run}\n[sequence]\n\teditor = {run}",
    "core.fsmonitor": "[core]\n\tfsmonitor = {run}",
    "core.gitProxy": "[core]\n\tgitProxy = {run}",
    "core.hooksPath": "[core]\n\thooksPath = {here}/hooks",
    "core.logAllRefUpdates": "[core]\n\tlogAllRefUpdates = always",
    "core.pager": "[core]\n\tpager = {run}\n[pager]\n\tstatus = {run}\n\tcat-file = {run}\n\tlog = {run}",
    "core.sharedRepository": "[core]\n\tsharedRepository = 0666",
    "core.sshCommand": "[core]\n\tsshCommand = {run}\n[ssh]\n\tvariant = simple",
    "credential.helper": "[credential]\n\thelper = !{run}",
    "diff": '[diff]\n\texternal = {run}\n[diff "own"]\n\tcommand = {run}\n\ttextconv = {run}',
    "extensions": "[extensions]\n\tpartialClone = origin\n\tworktreeConfig = true\n\tpreciousObjects = true",
    "filter.clean": '[filter "clean"]\n\tclean = {run}\n\tsmudge = {run}\n\trequired = true',
    "filter.process": '[filter "process"]\n\tprocess = {run}\n\trequired = true',
    "gc": "[gc]\n\tauto = 1\n\tautoDetach = false\n\trecentObjectsHook = {run}\n[maintenance]\n\tauto = true",
    "gpg.program": '[gpg]\n\tprogram = {run}\n[gpg "ssh"]\n\tprogram = {run}\n\tdefaultKeyCommand = {run}',
    "http": "[http]\n\tproxy = http://127.0.0.1:1\n\tsslCert = {mark}\n\tcookieFile = {mark}\n\tsaveCookies = true",
    "include.path": "[include]\n\tpath = {here}/config",
    "includeIf": '[includeIf "gitdir:/"]\n\tpath = {here}/config',
    "init.templateDir": "[init]\n\ttemplateDir = {here}",
    "interactive.diffFilter": "[interactive]\n\tdiffFilter = {run}",
    "merge.driver": '[merge "own"]\n\tdriver = {run}\n[mergetool "own"]\n\tcmd = {run}',
    "protocol.allow": '[protocol]\n\tallow = always\n[protocol "ext"]\n\tallow = always',
    "remote": '[remote "origin"]\n\turl = {here}\n\tuploadpack = {run}\n\treceivepack = {run}\n\tpromisor = true',
    "remote.vcs": '[remote "other"]\n\turl = x\n\tvcs = ext\n\tproxy = http://127.0.0.1:1',
    "submodule.update": '[submodule "s"]\n\turl = {here}\n\tupdate = !{run}\n[submodule]\n\trecurse = true',
    "trace2": "[trace2]\n\tnormalTarget = {mark}\n\tperfTarget = {mark}\n\teventTarget = {mark}",
    "trailer.command": '[trailer "own"]\n\tcommand = {run}\n\tcmd = {run}\n\tifmissing = add',
    "uploadpack.packObjectsHook": "[uploadpack]\n\tpackObjectsHook = {run}",
    "url.insteadOf": '[url "ext::{run} "]\n\tinsteadOf = "https://"',
}
#: Others, by which a git that reads them finds nothing, or gives up.
SPOILING: Final = {
    "core.bare": "[core]\n\tbare = true",
    "core.excludesFile": "[core]\n\texcludesFile = /dev/zero",
    "core.fileMode": "[core]\n\tfileMode = nonsense",
    "core.repositoryFormatVersion": "[core]\n\trepositoryFormatVersion = 99",
    "core.worktree": "[core]\n\tworktree = {here}",
    "extensions.refStorage": "[extensions]\n\trefStorage = {mark}",
    "extensions.unknown": "[extensions]\n\tnobodyKnowsIt = true",
    "safe.bareRepository": "[safe]\n\tbareRepository = nonsense",
    "nonsense": "[[[",
}
#: Files of a repository, by which a git that reads them runs something, looks elsewhere or gives up.
FILES: Final = {
    "config.worktree": "[core]\n\tworktree = {here}\n\tfsmonitor = {run}\n[[[",
    "hooks/post-index-change": "",
    "hooks/reference-transaction": "",
    "info/attributes": "* filter=info\n",
    "info/exclude": "*\n",
    "info/grafts": "nonsense\n",
    "info/sparse-checkout": "!/*\n",
    "objects/info/http-alternates": "{here}\n",
    "shallow": "nonsense\n",
    "worktrees/other/gitdir": "{here}\n",
}
NAMES: Final = [*SETTINGS, *SPOILING, *FILES]
#: Those whose marks a git leaves that reads its configuration.
LIVE: Final = {
    *("alias", "core.attributesFile", "core.fsmonitor", "core.gitProxy", "core.hooksPath", "core.logAllRefUpdates"),
    *("core.sshCommand", "filter.clean", "filter.process", "gpg.program", "include.path"),
}


@dataclass(frozen=True, slots=True)
class Trap:
    """A repository whose configuration is one trap, and the marks of what went off."""

    repository: Repository
    here: Path

    @property
    def git_dir(self) -> Path:
        return self.repository.path / ".git"

    def text(self, name: str, text: str) -> str:
        return text.format(run=self.program(name), mark=self.here / "marks" / name.replace("/", "_"), here=self.here)

    def program(self, name: str) -> Path:
        path, mark = (self.here / place / name.replace("/", "_") for place in ("programs", "marks"))
        path.write_text(f"#!/bin/sh\n: >>'{mark}'\n")
        path.chmod(0o755)
        return path

    def set_up(self, settings: Mapping[str, str]) -> None:
        with (self.git_dir / "config").open("a") as file:
            file.writelines(self.text(name, f"{text}\n") for name, text in settings.items())

    def age(self) -> None:
        """Have git compare the contents of files."""
        for name in ("one", "two", "three", "four"):
            os.utime(self.repository.path / name, (1, 1))

    def sprung(self) -> set[str]:
        """The names of the marks, which are taken away."""
        marks = list((self.here / "marks").iterdir())
        for mark in marks:
            mark.unlink()
        return {mark.name for mark in marks}


def lay(here: Path) -> Trap:
    for name in ("marks", "programs", "hooks"):
        (here / name).mkdir(parents=True)
    attributes = "one filter=clean diff=own\ntwo filter=process\nthree filter=included\n"
    files = {"one": "1\n", "two": "2\n", "three": "3\n", "four": "4\n", ".gitattributes": attributes}
    trap = Trap(Repository.make(here / "tree", files), here)
    (here / "attributes").write_text("four filter=attributesFile\n")
    (here / "config").write_text(trap.text("include.path", '[filter "included"]\n\tclean = {run}\n'))
    for hook in ("post-index-change", "reference-transaction", "pre-commit", "post-commit", "pre-auto-gc"):
        (here / "hooks" / hook).symlink_to(trap.program("core.hooksPath"))
    log = trap.git_dir / "logs/refs/heads/own"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.symlink_to(here / "marks/core.logAllRefUpdates")
    return trap


def spring(trap: Trap) -> None:
    """Do what a user does, with a git that reads the repository's configuration."""
    env = {"PATH": os.environ["PATH"], "HOME": str(trap.here), "GIT_PAGER_IN_USE": "1"}
    trap.age()
    for words in (
        ("own",),
        *(("add", name) for name in ("one", "two", "three", "four")),
        ("branch", "own"),
        ("fetch", "ssh://h/x"),
        ("fetch", "git://h/x"),
        ("commit-tree", "-S", "HEAD^{tree}", "-m", "x"),
    ):
        argv = ("git", "-C", str(trap.repository.path), "-c", "user.name=a", "-c", "user.email=b", *words)
        subprocess.run(
            argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=EVENT_PATIENCE
        )


def anchor(trap: Trap) -> None:
    branch = GitBranch(str(trap.git_dir), "own", "file", 60, 100)
    assert branch.add(branch.read(), b"one", "m")
    assert branch.read().content == b"one"


def work_tree(trap: Trap) -> None:
    trap.age()
    (trap.repository.path / "four").write_text("5\n")
    work = read_work_tree(trap.repository.path, 1 << 20)
    assert set(work.tree.entries) == {b"flake.nix", b"one", b"two", b"three", b"four", b".gitattributes"}
    assert work.changes == ("four",)


def index(trap: Trap) -> None:
    assert len(tracked_files(trap.repository.path)[1]) == 6


PLACES: Final[dict[str, Callable[[Trap], None]]] = {"anchor": anchor, "work tree": work_tree, "index": index}


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Trap:
    trap = lay(tmp_path_factory.mktemp("git") / "r")
    clean = {name: (trap.git_dir / name).read_bytes() for name in ("config", "index", "HEAD")}
    trap.set_up(SETTINGS)
    spring(trap)
    assert trap.sprung() == LIVE
    for name, data in clean.items():
        (trap.git_dir / name).write_bytes(data)
    (trap.git_dir / "refs/heads/own").unlink()
    trap.set_up(SETTINGS | SPOILING)
    for name, text in FILES.items():
        path = trap.git_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(trap.text(name, text))
        if not text:
            path.unlink()
            path.symlink_to(trap.program(name))
    return trap


@pytest.fixture(scope="module", params=PLACES)
def sprung(request: pytest.FixtureRequest, trap: Trap) -> set[str]:
    """What went off while mvm worked there; that it found what is there shows that nothing spoiled it."""
    PLACES[request.param](trap)
    return trap.sprung()


@pytest.mark.parametrize("name", NAMES)
def test_no_setting_of_a_repository_has_a_say(sprung: set[str], name: str) -> None:
    assert name.replace("/", "_") not in sprung


def test_nothing_else_went_off(sprung: set[str]) -> None:
    assert not sprung


def test_what_git_gets_of_a_repository(trap: Trap, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its objects, refs, HEAD and index; `config` is written by mvm."""
    given: list[Sandbox] = []
    real = Sandbox.script

    def script(self: Sandbox, *words: str) -> Completed:
        given.append(self)
        return real(self, *words)

    monkeypatch.setattr(Sandbox, "script", script)
    for place in (anchor, index):
        place(trap)
    allowed = {"objects", "refs", "refs/.directory", "refs/heads/own", "packed-refs", "HEAD", "index", "config"}
    assert len(given) == 3
    for sandbox in given:
        names = {path.removeprefix("/repository/git/") for path in sandbox.files}
        assert names <= allowed | {"/repository/tree"}
        assert sandbox.files["/repository/git/config"] == b"[core]\nrepositoryFormatVersion = 1\n[extensions]\n"


def test_each_helper_has_gits_settings() -> None:
    """Nix starts git by itself; so may any other program."""
    assert git.environment().items() <= environment({}, gateway=False).items()
    assert git.environment().items() <= environment({"HOME": "/x"}, gateway=True).items()
    own = git.environment({"http.extraHeader": "x"})
    assert int(own["GIT_CONFIG_COUNT"]) == int(git.environment()["GIT_CONFIG_COUNT"]) + 1
    for number in range(int(own["GIT_CONFIG_COUNT"])):
        assert {f"GIT_CONFIG_KEY_{number}", f"GIT_CONFIG_VALUE_{number}"} <= own.keys()


#: Modules that name the program git: where it is, that it is there, and what to do where it isn't.
NAMING: Final = {
    "api/doctor.py",
    "audit/git_branch.py",
    "builder/flakes/git.py",
    "sandbox/trusted_executables.py",
}
#: A command line of git in a script.
_COMMAND: Final = re.compile(r"(?m)(^|\bexec |\$\(|\| |&& )\s*git [a-z\"$-]")


def test_git_is_started_in_the_sandbox_alone() -> None:
    """Who names the program only asks where it is; its command lines stand in scripts of the sandbox."""
    naming: set[str] = set()
    scripted: set[str] = set()
    for path in MVMNIX.rglob("*.py*"):
        if path.suffix == ".pyc":
            continue
        where, text = str(path.relative_to(MVMNIX)), path.read_text()
        if ".script(" in text or ".talk(" in text:
            scripted |= {where} if _COMMAND.search(text) else set()
        if re.search(r"(?<!NodeKind\.)\bGIT\b(?! = \"git\")", text):
            naming.add(where)
            calls = [ast.unparse(node) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
            given = {call for call in calls if re.search(r"\bGIT\b", call) and not call.startswith("face(")}
            assert given <= {"locate(GIT)"}
    assert naming == NAMING
    assert scripted == {"audit/git_branch.py", "builder/fetch/unpack.py", "builder/flakes/git.py"}
