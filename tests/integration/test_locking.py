"""The lock that mvm computes is the one that Nix computes: the same flakes, step by step, the same bytes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mvmnix.builder.lockfile import document, graph
from tests.fakes import Repository
from tests.git_server import TreeServer, serve
from tests.integration.locking import HostNix, HostQuestions, archive, write

pytestmark = pytest.mark.integration

#: A flake that wants nothing.
LEAF = "{ outputs = _: { }; }"


def flake(inputs: str) -> str:
    return f"{{ {inputs} outputs = _: {{ }}; }}"


@dataclass(frozen=True)
class Step:
    """Files of the root flake and archives on the server are written; then it is locked. `ORIGIN` is the server's."""

    root: Mapping[str, str] = field(default_factory=dict)
    archives: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    updates: tuple[str, ...] = ()
    everything: bool = False


A = 'inputs.a.url = "ORIGIN/a.tar.gz";'
B = 'inputs.b.url = "ORIGIN/b.tar.gz";'
LEAVES = {f"{name}.tar.gz": {"flake.nix": LEAF, "name": name} for name in ("b", "c", "d")}
WITH_B = {"a.tar.gz": {"flake.nix": flake(B)}, **LEAVES}

SCENES: dict[str, list[Step]] = {
    "nothing": [Step({"flake.nix": LEAF})],
    "nested relative": [
        Step(
            {
                "flake.nix": flake('inputs.a.url = "path:./a"; inputs.d.url = "./d";'),
                "a/flake.nix": flake('inputs.b.url = "path:./b";'),
                "a/b/flake.nix": flake('inputs.d.url = "path:../../d";'),
                "d/flake.nix": LEAF,
            }
        )
    ],
    "relative with dir": [
        Step(
            {
                "flake.nix": flake('inputs.a.url = "path:./x?dir=y";'),
                "x/y/flake.nix": flake('inputs.b.url = "path:../../b";'),
                "b/flake.nix": LEAF,
            }
        )
    ],
    "relative, no flake": [Step({"flake.nix": flake('inputs.a = { url = "path:./a"; flake = false; };'), "a/x": "x"})],
    "archive": [Step({"flake.nix": flake(A)}, WITH_B)],
    "archive, no flake": [
        Step({"flake.nix": flake('inputs.c = { url = "ORIGIN/c.tar.gz"; flake = false; };')}, LEAVES)
    ],
    "file": [Step({"flake.nix": flake('inputs.c = { url = "ORIGIN/plain"; flake = false; };')})],
    "file by its scheme": [
        Step({"flake.nix": flake('inputs.c = { url = "file+ORIGIN/c.tar.gz?x=1"; flake = false; };')}, LEAVES)
    ],
    "attributes": [
        Step({"flake.nix": flake('inputs.c = { type = "tarball"; url = "ORIGIN/c.tar.gz"; flake = false; };')}, LEAVES),
    ],
    "archive with dir": [
        Step(
            {"flake.nix": flake('inputs.a.url = "ORIGIN/a.tar.gz?dir=sub";')},
            {"a.tar.gz": {"sub/flake.nix": LEAF, "x": "y"}},
        )
    ],
    "its relative input": [
        Step(
            {"flake.nix": flake(A)},
            {"a.tar.gz": {"flake.nix": flake('inputs.inner.url = "path:./in";'), "in/flake.nix": flake(B)}, **LEAVES},
        )
    ],
    "names twice": [
        Step({"flake.nix": flake(A + B + 'inputs.root.url = "ORIGIN/c.tar.gz";')}, WITH_B),
    ],
    "follows": [
        Step({"flake.nix": flake(A + B + 'inputs.a.inputs.b.follows = "b"; inputs.x.follows = "a/b";')}, WITH_B)
    ],
    "follows the root": [Step({"flake.nix": flake(A + 'inputs.a.inputs.b.follows = "";')}, WITH_B)],
    "its own follows": [
        Step(
            {"flake.nix": flake(A)},
            {
                "a.tar.gz": {
                    "flake.nix": flake(B + 'inputs.k.url = "ORIGIN/k.tar.gz"; inputs.k.inputs.l.follows = "b";')
                },
                "k.tar.gz": {"flake.nix": flake('inputs.l.url = "ORIGIN/d.tar.gz";')},
                **LEAVES,
            },
        )
    ],
    "override by URL": [Step({"flake.nix": flake(A + 'inputs.a.inputs.b.url = "ORIGIN/c.tar.gz";')}, WITH_B)],
    "override by a relative path": [
        Step(
            {
                "flake.nix": flake(A + 'inputs.a.inputs.b.url = "path:./mine";'),
                "mine/flake.nix": flake('inputs.c.url = "path:./c";'),
                "mine/c/flake.nix": LEAF,
            },
            WITH_B,
        )
    ],
    "override of what is not there": [Step({"flake.nix": flake(A + 'inputs.a.inputs.z.follows = "a";')}, WITH_B)],
    "kept": [
        Step({"flake.nix": flake(A)}, WITH_B),
        Step(archives={"a.tar.gz": {"flake.nix": LEAF}, "b.tar.gz": {"flake.nix": LEAF, "new": "x"}}),
        Step({"flake.nix": flake(A + 'inputs.c.url = "ORIGIN/c.tar.gz";')}),
    ],
    "updated": [
        Step({"flake.nix": flake(A + 'inputs.d.url = "ORIGIN/d.tar.gz";')}, WITH_B),
        Step(
            archives={"b.tar.gz": {"flake.nix": LEAF, "new": "x"}, "d.tar.gz": {"flake.nix": LEAF, "new": "y"}},
            updates=("d",),
        ),
        Step(updates=("a/b",)),
        Step(archives={"a.tar.gz": {"flake.nix": LEAF}}, updates=("a",)),
    ],
    "all updated": [
        Step({"flake.nix": flake(A)}, WITH_B),
        Step(archives={"b.tar.gz": {"flake.nix": LEAF, "new": "x"}}, everything=True),
    ],
    "an input more, an input less": [
        Step({"flake.nix": flake(A)}, WITH_B),
        Step({"flake.nix": flake(B)}),
        Step({"flake.nix": LEAF}),
    ],
    "an override comes and goes": [
        Step({"flake.nix": flake(A + B)}, WITH_B),
        Step({"flake.nix": flake(A + B + 'inputs.a.inputs.b.follows = "b";')}),
        Step({"flake.nix": flake(A + B)}),
    ],
    "another place": [
        Step({"flake.nix": flake(A)}, WITH_B),
        Step(
            {"flake.nix": flake('inputs.a.url = "ORIGIN/other.tar.gz";')},
            {
                "other.tar.gz": {"flake.nix": flake(B + 'inputs.c.url = "ORIGIN/c.tar.gz";')},
                "b.tar.gz": {"flake.nix": LEAF, "new": "x"},
            },
        ),
    ],
}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[TreeServer]:
    with serve(tmp_path) as server:
        server.files["/plain"] = b"plain\n"
        yield server


def lock_by_nix(nix: HostNix, root: Path, step: Step) -> None:
    command = ("update",) if step.everything else ("update", *step.updates) if step.updates else ("lock",)
    nix("flake", *command, "--flake" if command != ("lock",) else "--refresh", f"path:{root}")


def lock_by_mvm(nix: HostNix, root: Path, step: Step) -> None:
    questions = HostQuestions(nix, root)
    lock = root / "flake.lock"
    old = document.read(lock.read_bytes() if lock.exists() else None)
    updates = tuple(tuple(text.split("/")) for text in step.updates)
    place = graph.Place(questions.root, "")
    made = graph.compute(questions, place, old, updates=updates, everything=step.everything)
    if made != old:
        lock.write_bytes(graph.checked(made))


@pytest.mark.parametrize("name", SCENES)
def test_it_is_the_lock_that_nix_makes(name: str, tmp_path: Path, served: TreeServer) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for number, step in enumerate(SCENES[name]):
        for file, files in step.archives.items():
            placed = {path: text.replace("ORIGIN", served.origin) for path, text in files.items()}
            served.files[f"/{file}"] = archive(placed, 1_700_000_000 + number)
        for root in (theirs, ours):
            write(root, {path: text.replace("ORIGIN", served.origin) for path, text in step.root.items()})
        lock_by_nix(HostNix(tmp_path / f"nix{number}"), theirs, step)
        lock_by_mvm(HostNix(tmp_path / f"mvm{number}"), ours, step)
        assert locked(ours) == locked(theirs), f"step {number}"


def test_a_git_repository(tmp_path: Path, served: TreeServer) -> None:
    """By branch and directory, and by commit: over git's dumb protocol, which needs files and no program."""
    made = Repository.make(tmp_path / "repo", {"sub/flake.nix": LEAF})
    made.git("branch", "-q", "side")
    made.git("update-server-info")
    url = f"git+{served.origin}/dumb/repo/.git"
    commit = made.git("rev-parse", "HEAD")
    inputs = f'inputs.a.url = "{url}?ref=side&dir=sub"; '
    inputs += f'inputs.b = {{ url = "{url}?rev={commit}&ref=side"; flake = false; }};'
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for root in (theirs, ours):
        write(root, {"flake.nix": flake(inputs)})
    lock_by_nix(HostNix(tmp_path / "nix"), theirs, Step())
    lock_by_mvm(HostNix(tmp_path / "mvm"), ours, Step())
    assert locked(ours) == locked(theirs)
    assert commit in locked(ours)


def locked(root: Path) -> str:
    lock = root / "flake.lock"
    return lock.read_text() if lock.exists() else ""
