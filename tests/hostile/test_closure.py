"""A builder VM that was taken over hands out derivations, or other bytes: what doesn't follow from them is refused."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.builder.session import closure
from mvmnix.builder.session.closure import read_closure, read_derivations
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from mvmnix.formats.derivation import Derivation, Output
from mvmnix.model import HashMode, Source, StorePath
from tests.derivations import Derivations, add, exported, fixed, guest, made, number, text

PIN = Source("mirror://debian/pool/p/pin.deb", "pin.deb", Digest.of(b"pin"))
SEED = Source("mirror://debian/pool/b/busybox.deb#usr/bin/busybox", "busybox", Digest.of(b"nar"), HashMode.NAR)
ELSEWHERE = StorePath("1" * 32, "elsewhere")


def refusal(export: bytes, *roots: StorePath) -> str:
    with pytest.raises(RefusedError) as caught:
        read_closure(export, roots)
    assert caught.value.codes == (Code.OUTPUT_MALFORMED,)
    assert caught.value.reasons[0].hint
    return caught.value.reasons[0].why


def test_an_honest_one() -> None:
    root, derivations = guest(PIN, SEED)
    assert read_closure(exported(derivations), [root]).sources == tuple(sorted((PIN, SEED)))


@pytest.mark.parametrize(
    "output",
    [
        pytest.param({"path": str(SEED.store_path)}, id="another path than its hash makes"),
        pytest.param({"algorithm": "r:sha256"}, id="another method than its path says"),
        pytest.param({"algorithm": "text:sha256"}, id="a method of dynamic derivations"),
        pytest.param({"algorithm": "git:sha1"}, id="an unknown method"),
        pytest.param({"algorithm": ""}, id="no algorithm"),
        pytest.param({"algorithm": "sha257"}, id="an algorithm that there is not"),
        pytest.param({"algorithm": "md5"}, id="another algorithm than its path says"),
        pytest.param({"hash": PIN.digest.sri}, id="a hash in another spelling"),
        pytest.param({"hash": PIN.digest.hex.upper()}, id="a hash in capitals"),
        pytest.param({"hash": ""}, id="no hash: addressed by its content"),
        pytest.param({"hash": "impure"}, id="impure"),
        pytest.param({"path": ""}, id="no path: known after the build"),
        pytest.param({"path": "", "hash": ""}, id="neither path nor hash"),
        pytest.param({"path": "/etc/shadow"}, id="a path elsewhere"),
        pytest.param({"path": f"{PIN.store_path}/../../etc"}, id="a path upwards"),
    ],
)
def test_a_lie_about_a_fixed_output(output: dict[str, str]) -> None:
    derivation = fixed(PIN, output=output)
    path = derivation.path(PIN.name)
    refusal(exported({path: derivation}), path)


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({}, id="no address"),
        pytest.param({"urls": ""}, id="an empty address"),
        pytest.param({"urls": "pin.deb"}, id="a path as address"),
        pytest.param({"__json": "{"}, id="structured attributes that are none"),
        pytest.param({"__json": "[]"}, id="structured attributes that are a list"),
        pytest.param({"__json": '{"urls": {"a": "mirror://debian/x"}}'}, id="addresses as an object"),
        pytest.param({"__json": '{"urls": [{}]}'}, id="addresses as a list of objects"),
        pytest.param({"urls": "mirror://debian/\u202egnp.deb"}, id="an address that runs backwards"),
        pytest.param({"urls": "mirror://debian/" + "x" * 2048}, id="a long address"),
        pytest.param({"urls": PIN.uri, "out": str(ELSEWHERE)}, id="another path in the environment"),
    ],
)
def test_an_odd_environment(environment: dict[str, str]) -> None:
    derivation = fixed(PIN, environment=environment)
    path = derivation.path(PIN.name)
    refusal(exported({path: derivation}), path)


def one() -> tuple[Derivation, Derivations]:
    """What is made from a pin, and with it the pin."""
    derivations: Derivations = {}
    path = made(derivations, "hello", [add(derivations, PIN.name, fixed(PIN))])
    return derivations.pop(path), derivations


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda it: replace(it, outputs={"out": Output(str(ELSEWHERE))}), id="another path"),
        pytest.param(lambda it: replace(it, arguments=("-x",)), id="other arguments for the same path"),
        pytest.param(lambda it: replace(it, sources=(ELSEWHERE,)), id="another source for the same path"),
        pytest.param(lambda it: replace(it, inputs={}), id="fewer inputs for the same path"),
        pytest.param(lambda it: replace(it, outputs={"dev": it.outputs["out"]}), id="an output of another name"),
        pytest.param(lambda it: replace(it, outputs={**it.outputs, "dev": it.outputs["out"]}), id="two of one path"),
        pytest.param(lambda it: replace(it, outputs={}), id="no output"),
        pytest.param(
            lambda it: replace(it, environment={**it.environment, "out": "/etc/shadow"}), id="an environment elsewhere"
        ),
        pytest.param(
            lambda it: replace(it, outputs={"out": Output("", "r:sha256"), "dev": Output("", "r:sha256")}),
            id="addressed by content",
        ),
    ],
)
def test_an_output_that_doesn_t_follow_from_what_it_is_made_from(change: Callable[[Derivation], Derivation]) -> None:
    """So nothing is ever built under the path of another derivation's output."""
    derivation, derivations = one()
    path = add(derivations, "hello", change(derivation))
    unneeded = {it: found for it, found in derivations.items() if it == path or it in derivations[path].inputs}
    assert "follows from it" in (why := refusal(exported(unneeded), path)) or "known only" in why or "no output" in why


def test_bytes_under_the_path_of_another_derivation() -> None:
    root, derivations = guest(PIN)
    other = made({}, "other", [])
    assert "has another path" in refusal(exported({other: derivations[root]}), other)
    assert "has another path" in refusal(exported({StorePath(root.hash, "guest-hello"): derivations[root]}), root)


def test_what_is_missing_and_what_is_too_much() -> None:
    root, derivations = guest(PIN, SEED)
    pin = fixed(PIN).path(PIN.name)
    assert refusal(exported({path: it for path, it in derivations.items() if path != pin}), root) == f"{pin} is missing"
    assert refusal(exported({}), root) == f"{root} is missing"
    stray = made(derivations, "stray", [])
    assert refusal(exported(derivations), root) == "1 of them are needed for nothing"
    assert read_closure(exported(derivations), [root, stray]).derivations == derivations


def test_one_that_is_made_from_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is a hash of what it refers to: only a collision could do that, and the order is taken all the same."""
    derivation, derivations = one()
    path = add(derivations, "hello", derivation)
    monkeypatch.setattr(Derivation, "path", lambda _, name: path if name == "hello" else fixed(PIN).path(PIN.name))
    looped = replace(derivation, inputs={path: ("out",)})
    assert refusal(exported({path: looped}), path) == "one is made from itself"


@pytest.mark.parametrize(
    "derivation",
    [
        b"",
        b"Derive(",
        b'DrvWithVersion("xp-dyn-drv",[],[],[],"","",[],[])',
        b'Derive([],[],[],"","",[],[])',
        b'Derive([],[],[],"","",[],[]) ',
        b'Derive([],[],[],"","",["\\x"],[])',
        b'Derive([],[],[],"","",["a" ,"b"],[])',
        b'Derive([],[],[],"","",[],[("b",""),("a","")])',
        b'Derive([],[],[],"","",[],[("a",""),("a","")])',
        b'Derive([],[],["/etc/passwd"],"","",[],[])',
        b'Derive([],[("/nix/store/x",["out"])],[],"","",[],[])',
        b'Derive([("out","","","")],[],[],"","",["' + b"\\" * 99_999 + b"],[])",
        b"[" * 200_000,
    ],
)
def test_what_is_no_derivation(derivation: bytes) -> None:
    path = StorePath.text("x.drv", Digest.of(derivation))
    refusal(exported({path: derivation}), path)


@pytest.mark.parametrize(
    "export",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(number(2), id="another number"),
        pytest.param(number(1), id="half of one"),
        pytest.param(exported({}) + b"x", id="more behind its end"),
        pytest.param(exported(guest(PIN)[1])[:-8], id="no end"),
        pytest.param(exported(guest(PIN)[1]).replace(b"regular", b"symlink"), id="a link"),
        pytest.param(exported(guest(PIN)[1]).replace(b"NIXE", b"EXIN"), id="another magic number"),
        pytest.param(exported(guest(PIN)[1]).replace(b"/nix/store", b"/etc/passw"), id="a path elsewhere"),
        pytest.param(b"\xff" * 1000, id="numbers without end"),
        pytest.param(number(1) + text("nix-archive-1") + b"\xff" * 8, id="a text without end"),
    ],
)
def test_what_is_no_export(export: bytes) -> None:
    refusal(export, guest(PIN)[0])


@pytest.mark.parametrize("bound", ["LIMIT", "MAX_DERIVATIONS", "MAX_TEXTS", "MAX_SIZE"])
def test_what_is_read_is_bounded(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    root, derivations = guest(PIN, SEED)
    export = exported(derivations)
    quotes, largest = export.count(b'"'), max(len(it.to_bytes()) for it in derivations.values())
    exact = {"LIMIT": len(export), "MAX_DERIVATIONS": 3, "MAX_TEXTS": quotes // 2, "MAX_SIZE": largest}[bound]
    monkeypatch.setattr(closure, bound, exact)
    read_closure(export, [root])
    monkeypatch.setattr(closure, bound, exact - 1)
    assert "more than" in refusal(export, root)


@given(st.data())
def test_whatever_is_changed_in_an_export(data: st.DataObject) -> None:
    """One changed byte makes another derivation, of another path; references and derivers count for nothing."""
    root, derivations = guest(PIN)
    export = bytearray(exported(derivations))
    at = data.draw(st.integers(0, len(export) - 1))
    export[at] ^= data.draw(st.integers(1, 255))
    try:
        found = read_closure(bytes(export), [root])
    except RefusedError as error:
        assert set(error.codes) == {Code.OUTPUT_MALFORMED}
    else:
        assert found.derivations == derivations


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "sources": st.just((ELSEWHERE,)),
    "system": st.text(max_size=10),
    "program": st.text(max_size=10),
    "arguments": st.lists(st.text(max_size=10), max_size=3).map(tuple),
    "environment": st.dictionaries(st.text(max_size=5), st.text(max_size=10), max_size=3),
}


@given(st.fixed_dictionaries({}, optional=FIELDS))
def test_whatever_stands_in_a_derivation_it_is_read_as_it_was_written(changes: dict[str, Any]) -> None:
    derivation = fixed(PIN, **changes)
    path = derivation.path(PIN.name)
    assert read_derivations(exported({path: derivation})) == {path: derivation}


def test_trees_that_derivations_are_made_from_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    root, derivations = guest(PIN, trees=[ELSEWHERE])
    monkeypatch.setattr(closure, "MAX_TREES", 0)
    assert "more than 0 trees" in refusal(exported(derivations), root)


def test_escapes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    derivation = fixed(PIN, arguments=("\n" * 200,))
    path = derivation.path(PIN.name)
    monkeypatch.setattr(closure, "MAX_TEXTS", 200)
    read_closure(exported({path: derivation}), [path])
    monkeypatch.setattr(closure, "MAX_TEXTS", 199)
    assert "escapes" in refusal(exported({path: derivation}), path)


@pytest.mark.parametrize("character", ["\\", "\n", "a", "\U0001f600"])
def test_a_long_text_takes_no_multiple_of_its_size(character: str) -> None:
    """A pattern that could go back would keep a frame for each escape: 70 times the text."""
    derivation = fixed(PIN, arguments=(character * 500_000,))
    data = derivation.to_bytes()
    tracemalloc.start()
    try:
        assert Derivation.parse(data) == derivation
        assert tracemalloc.get_traced_memory()[1] < 80 * 500_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["a b", "\x1b[2J", "x" * 208, "", "é"])
def test_an_output_whose_path_can_t_be(name: str) -> None:
    derivation, derivations = one()
    path = add(derivations, "hello", replace(derivation, outputs={name: derivation.outputs["out"]}))
    refusal(exported(derivations), path)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda it: {"inputs": dict.fromkeys(it.inputs, ("dev",))}, id="an output that it hasn't"),
        pytest.param(lambda it: {"inputs": dict.fromkeys(it.inputs, ())}, id="none of its outputs"),
        pytest.param(lambda it: {"inputs": dict.fromkeys(it.inputs, ("out", "out"))}, id="one of them twice"),
        pytest.param(lambda it: {"sources": (ELSEWHERE, ELSEWHERE)}, id="a tree twice"),
        pytest.param(lambda _: {"environment": {}}, id="no path in the environment"),
    ],
)
def test_what_nix_would_not_write(change: Callable[[Derivation], dict[str, Any]]) -> None:
    derivation, derivations = one()
    path = add(derivations, "hello", replace(derivation, **change(derivation)))
    refusal(exported(derivations), path)
