"""A session that makes a lock, with a builder VM that knows the Nix calls and asks for trees as Nix would."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import override

import pytest

from mvmnix.builder.flakes.flake_source import FlakeSource, source_of
from mvmnix.builder.lockfile import document
from mvmnix.builder.lockfile.document import LockChange
from mvmnix.builder.lockfile.session import LockRequest, LockSession, NewLock
from mvmnix.builder.nix import nix_commands
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.errors import ReasonCode as Code
from mvmnix.formats import nar
from mvmnix.formats.flake_references import Attributes
from mvmnix.formats.lock import LockedNode
from mvmnix.model import StorePath
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Store
from tests.fakes import FakeBuilder, GuestFailedError, Program, Progress

A = {"type": "tarball", "url": "http://localhost/a"}
NOTHING = LockRequest()
RELATIVE = {"type": "path", "path": "./in"}


def wants(**inputs: Mapping[str, str]) -> bytes:
    """The answer of a flake with these inputs."""
    spelled = {
        name: {"attributes": dict(asked), "flake": True, "follows": None, "inputs": {}}
        for name, asked in inputs.items()
    }
    return json.dumps({"inputs": spelled, "arguments": [], "lock": None}).encode()


@dataclass
class LockVm(FakeBuilder):
    """Reads flakes by their store path and directory, those that it has asked for; `killed` is how reading ends."""

    flakes: Mapping[tuple[StorePath, str], bytes] = field(default_factory=dict)
    killed: bool = False
    has: set[str] = field(default_factory=set)
    called: list[str] = field(default_factory=list)

    @override
    def _program(self, argv: Sequence[str]) -> tuple[str, Program]:
        programs: dict[str, Program] = {"eval": self._read, "metadata": self._check}
        name = next((word for word in programs if word in argv), "")
        name, program = (name, programs[name]) if name else super()._program(argv)
        self.called.append(name)
        return name, program

    @override
    def _realise(self, argv: Sequence[str]) -> bytes:
        self.has.add(argv[-1])
        return super()._realise(argv)

    def _read(self, argv: Sequence[str]) -> bytes:
        if self.killed:
            raise GuestFailedError(137, "")
        path, inner = re.findall(r'(?:path|top) = (?:tree \+ )?"(/[^"]*|)"', argv[-1])
        assert path in self.has
        return self.flakes[StorePath.parse(path), inner.removeprefix("/")]

    def _check(self, argv: Sequence[str]) -> bytes:
        assert argv[-1].removeprefix("path:").partition("?")[0] in self.has
        return b"{}"


@dataclass
class FakeTrees:
    """Has one archive, whose tree it puts into the store."""

    store: Store
    archive: bytes
    brought: list[str] = field(default_factory=list)

    @property
    def nar(self) -> Digest:
        return Digest.of(self.archive)

    def resolve(self, original: Attributes) -> tuple[Attributes, Digest]:
        self.store.put(self.archive, self.nar)
        self.brought.append(str(original["url"]))
        return {**original, "narHash": self.nar.sri}, self.nar

    def tree(self, node: LockedNode) -> None:
        self.store.put(self.archive, node.nar)
        self.brought.append(node.uri)


@pytest.fixture
def trees(tmp_path: Path) -> Iterator[FakeTrees]:
    with Directory.open(str(tmp_path)) as top, top.child("sources") as directory:
        tree = nar.Dir({b"flake.nix": nar.File.of(b"theirs")})
        yield FakeTrees(Store(directory), b"".join(nar.nar_of_tree(tree)))


def draft(lock: bytes | None) -> FlakeSource:
    files: dict[bytes, nar.Node] = {b"flake.nix": nar.File.of(b"ours")}
    if lock is not None:
        files[b"flake.lock"] = nar.File.of(lock)
    return source_of(nar.Dir(files), uri="path:test", commit=None, directory="")


def run(vm: LockVm, trees: FakeTrees, wish: LockRequest = NOTHING, old: bytes | None = None) -> NewLock:
    session = LockSession(
        lambda lock: draft(old if lock is None else lock), store=trees.store, trees=trees, progress=Progress()
    )
    vm.connect = session.connection
    return session.run(vm, wish)


def vm_for(trees: FakeTrees, old: bytes | None = None) -> LockVm:
    theirs = StorePath.recursive("source", trees.nar)
    own = draft(old).store_path
    flakes = {(own, ""): wants(a=A), (theirs, ""): wants(i=RELATIVE), (theirs, "in"): wants()}
    return LockVm(own, {}, flakes=flakes)


def test_a_lock_is_made_of_what_the_vm_reads_and_the_host_fetches(trees: FakeTrees) -> None:
    vm = vm_for(trees)
    made = run(vm, trees)
    locked = {**A, "narHash": trees.nar.sri}
    inner = document.Entry(RELATIVE, RELATIVE, parent=("a",))
    assert made.data == document.write({"a": document.Entry(locked, A, inputs={"i": inner})})
    assert made.changes == (
        LockChange(("a",), None, f"http://localhost/a ({trees.nar.sri})"),
        LockChange(("a", "i"), None, "path:./in"),
    )
    assert vm.called == ["realise", "eval", "realise", "eval", "eval", "realise", "metadata"]
    assert str(draft(made.data).store_path) in vm.has, "the VM's Nix was shown the tree with the new lock"


def test_a_lock_that_fits_stays(trees: FakeTrees) -> None:
    old = run(vm_for(trees), trees).data
    trees.brought.clear()
    spelled_otherwise = json.dumps(json.loads(old or b"")).encode()
    for lock in (old, spelled_otherwise):
        assert run(vm_for(trees, lock), trees, old=lock) == NewLock(None, ())
    assert trees.brought == []


def test_an_update_below_brings_the_tree_above_by_its_hash(trees: FakeTrees) -> None:
    old = run(vm_for(trees), trees).data
    trees.brought.clear()
    assert run(vm_for(trees, old), trees, LockRequest((("a", "i"),)), old) == NewLock(None, ())
    assert trees.brought == ["http://localhost/a"]


@pytest.mark.parametrize(
    ("call", "words", "expected"),
    [
        ("eval", "error: mvm: inputs.a: not a set, but a lambda", "not a set, but a lambda"),
        ("eval", "error: \x1b[2Jinfinite recursion encountered", "infinite recursion encountered"),
        ("", "", f"more than {nix_commands.READING_SECONDS} seconds"),
        ("metadata", "error: requires lock file changes", "requires lock file changes"),
    ],
)
def test_what_the_vm_can_not_read_or_take_is_refused(trees: FakeTrees, call: str, words: str, expected: str) -> None:
    vm = vm_for(trees)
    vm.fails, vm.killed = {call: words}, not call
    with pytest.raises(RefusedError) as refusal:
        run(vm, trees)
    assert refusal.value.codes == (Code.FLAKE_UNSUPPORTED,)
    assert expected in refusal.value.reasons[0].why
    assert "\x1b" not in refusal.value.reasons[0].why


def test_a_vm_that_takes_no_tree_is_an_error(trees: FakeTrees) -> None:
    vm = vm_for(trees)
    vm.fails = {"realise": "no room"}
    with pytest.raises(MvmnixError, match="no room"):
        run(vm, trees)


def test_an_answer_without_end_is_refused(trees: FakeTrees, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmnix.builder.lockfile.inputs.LIMIT", 10)
    with pytest.raises(RefusedError) as refusal:
        run(vm_for(trees), trees)
    assert refusal.value.codes == (Code.OUTPUT_MALFORMED,)
