"""The computation of a lock, by questions that a table answers; that it is Nix's own is tests/integration's part."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from mvmnix.builder.lockfile import document, graph
from mvmnix.builder.lockfile.document import Entry
from mvmnix.builder.lockfile.graph import Place, Tree
from mvmnix.builder.lockfile.inputs import Flake, InputSpec
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from mvmnix.formats.flake_references import Attributes

ROOT = Place(Tree({}, Digest.of(b"root")), "")


def web(name: str, **more: str) -> Attributes:
    return {"type": "tarball", "url": f"http://localhost/{name}", **more}


def path(text: str) -> Attributes:
    return {"type": "path", "path": text}


def locked(name: str, version: int = 1) -> Attributes:
    return web(name, narHash=Digest.of(f"{name}{version}".encode()).sri)


@dataclass
class Table:
    """Answers questions: flakes by the digest of their tree and their directory; a new version of each archive."""

    flakes: dict[tuple[str, str], Flake]
    version: int = 1
    resolved: list[str] = field(default_factory=list)
    brought: list[str] = field(default_factory=list)

    def flake(self, place: Place) -> Flake:
        name = str(place.tree.locked.get("url", "")).rpartition("/")[2]
        return self.flakes[name, place.directory]

    def resolve(self, original: Attributes) -> Tree:
        name = str(original["url"]).rpartition("/")[2]
        self.resolved.append(name)
        return Tree(locked(name, self.version), Digest.of(f"{name}{self.version}".encode()))

    def bring(self, attributes: Attributes) -> Tree:
        self.brought.append(str(attributes["url"]).rpartition("/")[2])
        return Tree(attributes, Digest.from_sri(str(attributes["narHash"])))


def table(**flakes: dict[str, InputSpec]) -> Table:
    """Flakes by name: the root's is `root`, one in a directory has its slashes as `__`."""
    places = {}
    for name, inputs in flakes.items():
        tree, _, directory = name.partition("__")
        places["" if tree == "root" else tree, directory.replace("__", "/")] = Flake(inputs)
    return Table(places)


def compute(questions: Table, old: document.Inputs | None = None, **options: Any) -> document.Inputs:
    return graph.compute(questions, ROOT, old or {}, **options)


def refusal(questions: Table, **options: Any) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        graph.checked(compute(questions, **options))
    assert all(reason.hint for reason in caught.value.reasons)
    return caught.value


def test_relative_paths_need_nothing_from_outside() -> None:
    asked = table(root={"a": InputSpec(path("./a"))}, root__a={"b": InputSpec(path("../b"))}, root__b={})
    made = compute(asked)
    inner = Entry(path("../b"), path("../b"), parent=("a",))
    assert made == {"a": Entry(path("./a"), path("./a"), parent=(), inputs={"b": inner})}
    assert asked.resolved == []


def test_a_lock_that_fits_is_kept_without_a_question_but_the_first() -> None:
    asked = table(root={"a": InputSpec(web("a"))}, a={"b": InputSpec(web("b"))}, b={})
    made = compute(asked)
    again = Table({("", ""): asked.flakes["", ""]}, version=2)
    assert compute(again, made) == made
    assert (again.resolved, again.brought) == ([], [])


def test_an_update_resolves_what_it_names() -> None:
    asked = table(root={"a": InputSpec(web("a")), "c": InputSpec(web("c"))}, a={"b": InputSpec(web("b"))}, b={}, c={})
    made = compute(asked)
    asked.version = 2
    asked.resolved.clear()
    updated = compute(asked, made, updates=[("a", "b")])
    assert (asked.resolved, asked.brought) == (["b"], ["a"])
    assert updated["c"] == made["c"]
    asked.resolved.clear()
    compute(asked, made, everything=True)
    assert asked.resolved == ["a", "b", "c"]


def test_an_update_of_what_is_no_input_is_refused() -> None:
    error = refusal(table(root={"a": InputSpec(web("a"))}, a={}), updates=[("b",), ("a", "x")])
    assert error.codes == (Code.FLAKE_UNSUPPORTED, Code.FLAKE_UNSUPPORTED)
    assert [reason.what for reason in error.reasons] == ["input 'a/x'", "input 'b'"]


def test_an_own_lock_says_what_an_input_wants() -> None:
    asked = table(root={"a": InputSpec(web("a"))}, a={"b": InputSpec(web("b"))}, b={})
    own = document.write({"b": Entry(locked("b", 7), web("b"))})
    asked.flakes["a", ""] = Flake(asked.flakes["a", ""].inputs, own)
    made = compute(asked)
    assert isinstance(made["a"], Entry)
    assert made["a"].inputs == {"b": Entry(locked("b", 7), web("b"))}
    assert asked.resolved == ["a"]


def test_everything_that_is_not_fixed_is_named_at_once() -> None:
    """By name: what `outputs` wants without an input, a registry's entry, places on this machine."""
    wanted = {
        "bare": InputSpec(),
        "entry": InputSpec({"type": "indirect", "id": "nixpkgs"}),
        "file": InputSpec({"type": "tarball", "url": "file:///x.tar"}),
        "local": InputSpec(path("/home/x")),
        "good": InputSpec(web("a")),
    }
    error = refusal(table(root=wanted, a={"deep": InputSpec()}))
    assert set(error.codes) == {Code.LOCK_NODE_UNSUPPORTED}
    assert [reason.what.split("'")[1] for reason in error.reasons] == ["bare", "entry", "file", "good/deep", "local"]
    assert "'nixpkgs'" in error.reasons[1].why
    assert 'inputs.good.inputs.deep.url = "…"' in error.reasons[3].hint


@pytest.mark.parametrize("where", ["..", "./../..", "a b"])
def test_a_path_stays_in_the_tree(where: str) -> None:
    assert refusal(table(root={"a": InputSpec(path(where))})).codes == (Code.FLAKE_UNSUPPORTED,)


def test_a_directory_stays_in_the_tree() -> None:
    assert refusal(table(root={"a": InputSpec(web("a", dir="../x"))})).codes == (Code.FLAKE_UNSUPPORTED,)


def test_a_flake_that_wants_itself_is_refused() -> None:
    asked = table(root={"a": InputSpec(web("a"))}, a={"b": InputSpec(web("b"))}, b={"a": InputSpec(web("a"))})
    assert "input of itself" in refusal(asked).reasons[0].why


def test_flakes_without_end_are_refused() -> None:
    names = [f"n{index}" for index in range(document.MAX_DEPTH + 3)]
    flakes = {name: {"n": InputSpec(web(f"n{index + 1}"))} for index, name in enumerate(names)}
    assert "too deep" in refusal(table(root={"n": InputSpec(web("n0"))}, **flakes)).reasons[0].why


def test_more_inputs_than_there_may_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "MAX_ENTRIES", 2)
    wanted = {name: InputSpec(path("./a"), flake=False) for name in ("a", "b", "c")}
    assert "more than 2" in refusal(table(root=wanted)).reasons[0].why


@pytest.mark.parametrize("follows", [("nothing",), ("a", "x"), ("me",)])
def test_what_follows_nothing_is_refused(follows: tuple[str, ...]) -> None:
    asked = table(root={"a": InputSpec(web("a")), "me": InputSpec(follows=follows)}, a={})
    assert refusal(asked).codes == (Code.LOCK_MALFORMED,)


def test_what_is_not_locked_by_a_hash_is_refused() -> None:
    asked = table(root={"a": InputSpec(web("a"))}, a={"b": InputSpec(web("b"))})
    own = json.dumps(
        {
            "nodes": {"root": {"inputs": {"b": "b"}}, "b": {"locked": dict(web("b")), "original": dict(web("b"))}},
            "root": "root",
            "version": 7,
        }
    )
    asked.flakes["a", ""] = Flake(asked.flakes["a", ""].inputs, own.encode())
    assert refusal(asked).codes == (Code.FLAKE_UNLOCKED,)


def test_a_relative_input_of_a_kept_one_is_read_in_its_own_tree() -> None:
    """In an input's own lock its parent has another path; its directory lies in the input's tree, not in ours."""
    asked = table(root={"a": InputSpec(web("a"))}, a={"x": InputSpec(web("x"))}, x={}, x__in={})
    inner = Entry(path("./in"), path("./in"), parent=("x",))
    own = document.write({"x": Entry(locked("x", 3), web("x"), inputs={"i": inner})})
    asked.flakes["a", ""] = Flake(asked.flakes["a", ""].inputs, own)
    asked.flakes["x", ""] = Flake({"i": InputSpec(path("./in"))})
    made = compute(asked)
    assert isinstance(made["a"], Entry)
    found = made["a"].inputs["x"]
    assert isinstance(found, Entry)
    assert found.locked == locked("x", 3)
    assert found.inputs == {"i": Entry(path("./in"), path("./in"), parent=("a", "x"))}
    assert asked.brought == ["x"]
