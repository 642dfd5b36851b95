"""Reading a derivation graph as Nix prints it; what a hostile one is refused for is in tests/hostile/test_graph.py."""

import json
from typing import Any

import pytest

from mvmnix.builder.session import graph
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.formats.strict import MAX_VALUES
from mvmnix.model import HashMode, StorePath
from tests.fakes import DERIVATION, OUTPUT, shown, source

PIN, SEED = source("pin.deb", b"pin"), source("busybox", b"nar", HashMode.NAR)


def test_fixed_outputs_are_found_and_sorted() -> None:
    assert graph.parse_graph(shown()).sources == ()
    assert graph.parse_graph(shown(SEED, PIN)).sources == tuple(sorted((PIN, SEED)))


def test_the_same_file_from_two_derivations_counts_once() -> None:
    one, two = (json.loads(shown(PIN)) for _ in range(2))
    two[f"/nix/store/{'3' * 32}-pin.deb.drv"] = two.popitem()[1]
    assert graph.parse_graph(json.dumps(one | two).encode()).sources == (PIN,)


@pytest.mark.parametrize(
    ("env", "uri"),
    [
        ({"urls": "mirror://debian/a mirror://other/b"}, "mirror://debian/a"),
        ({"urls": "\n  mirror://debian/a\n"}, "mirror://debian/a"),
        ({"url": "https://host/a.tar"}, "https://host/a.tar"),
        ({"urls": "", "url": "https://host/a.tar"}, "https://host/a.tar"),
    ],
)
def test_the_first_address_is_the_one_that_is_named(env: dict[str, str], uri: str) -> None:
    assert graph.parse_graph(shown(PIN, env=env)).sources[0].uri == uri


@pytest.mark.parametrize(
    "outputs",
    [
        {"out": {"path": "/nix/store/whatever"}},  # addressed by its inputs
        {"out": {"hashAlgo": "sha256", "method": "nar"}},  # addressed by its content, which nobody knows yet
        {"dev": {"path": "/nix/store/whatever"}},
        {},
    ],
)
def test_other_outputs_are_not_asked_for(outputs: dict[str, Any]) -> None:
    assert graph.parse_graph(shown(PIN, outputs=outputs)).sources == ()


def test_the_structured_attributes_have_the_address() -> None:
    structured = json.dumps({"urls": ["mirror://debian/a"], "factor": 0.5})
    assert graph.parse_graph(shown(PIN, env={"__json": structured})).sources[0].uri == "mirror://debian/a"


@pytest.mark.parametrize(
    ("structured", "why"),
    [
        ('{"x":[' + "[]," * MAX_VALUES + "[]]}", "more than 1048576 values"),
        ('{"x":' + "[" * 40 + "]" * 40 + "}", "nested deeper"),
        ('{"url":"mirror://debian/a","url":"mirror://debian/b"}', "listed twice"),
        ("[]", "not an object"),
        ("{", "not JSON"),
    ],
)
def test_structured_attributes_are_read_within_bounds(structured: str, why: str) -> None:
    """Of 60 MiB of empty lists, plain `json` makes 1.5 GiB of objects."""
    with pytest.raises(RefusedError, match=why) as refusal:
        graph.parse_graph(shown(PIN, env={"__json": structured}))
    assert refusal.value.codes == (ReasonCode.OUTPUT_MALFORMED,)


def test_values_of_a_graph_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = shown(PIN)
    monkeypatch.setattr(graph, "MAX_VALUES", sum(map(data.count, (b",", b"[", b"{"))))
    assert graph.parse_graph(data).sources == (PIN,)
    monkeypatch.setattr(graph, "MAX_VALUES", graph.MAX_VALUES - 1)
    with pytest.raises(RefusedError, match="values") as refusal:
        graph.parse_graph(data)
    assert refusal.value.codes == (ReasonCode.OUTPUT_MALFORMED,)


def test_a_broken_promise_names_both_paths() -> None:
    promise = {"hash": PIN.digest.hex, "hashAlgo": "sha256", "method": "flat", "path": str(SEED.store_path)}
    with pytest.raises(RefusedError) as refusal:
        graph.parse_graph(shown(PIN, outputs={"out": promise}))
    assert refusal.value.codes == (ReasonCode.OUTPUT_MALFORMED,)
    assert str(SEED.store_path) in refusal.value.reasons[0].why
    assert str(PIN.store_path) in refusal.value.reasons[0].why


# What is left to ask for, when some paths are had already

PART, PART_DRV = StorePath("5" * 32, "initrd"), f"/nix/store/{'5' * 32}-initrd.drv"
SEED_DRV = f"/nix/store/{'2' * 32}-{SEED.name}.drv"


def with_part(**seed: Any) -> graph.Graph:
    """The guest is made of the pin and a part, the part of the seed."""
    derivations = json.loads(shown(PIN, SEED))
    guest = derivations[str(DERIVATION)]
    part = guest | {"outputs": {"out": {"path": str(PART)}}, "inputDrvs": {SEED_DRV: {"outputs": ["out"]}}}
    del guest["inputDrvs"][SEED_DRV]
    guest["inputDrvs"][PART_DRV] = {"outputs": ["out"]}
    derivations[SEED_DRV]["outputs"]["out"].update(seed)
    return graph.parse_graph(json.dumps(derivations | {PART_DRV: part}).encode())


def test_what_a_part_is_made_of_is_not_asked_for_when_it_is_had() -> None:
    found = with_part()
    assert found.needed(DERIVATION, have=()) == tuple(sorted((PIN, SEED)))
    assert found.needed(DERIVATION, have={PART}) == (PIN,)
    assert found.needed(StorePath.parse(PART_DRV), have={PART}) == ()
    assert found.needed(DERIVATION, have={OUTPUT}) == ()
    assert found.sources == tuple(sorted((PIN, SEED))), "all may be asked for"


def test_one_of_two_outputs_is_not_enough() -> None:
    derivations = json.loads(shown(SEED))
    derivations[str(DERIVATION)]["outputs"]["dev"] = {"path": str(PART)}
    found = graph.parse_graph(json.dumps(derivations).encode())
    assert found.needed(DERIVATION, have={OUTPUT}) == (SEED,)
    assert found.needed(DERIVATION, have={OUTPUT, PART}) == ()


def test_what_can_t_be_brought_is_refused_where_it_is_needed_and_nowhere_else() -> None:
    found = with_part(hashAlgo="sha512")
    assert found.needed(DERIVATION, have={PART}) == (PIN,)
    with pytest.raises(RefusedError) as refusal:
        found.needed(DERIVATION, have=())
    assert refusal.value.codes == (ReasonCode.OUTPUT_MALFORMED,)
    assert "not by SHA-256" in refusal.value.reasons[0].why


def test_derivations_that_need_each_other_are_walked_once() -> None:
    derivations = json.loads(shown(PIN))
    derivations[str(DERIVATION)]["inputDrvs"][str(DERIVATION)] = {"outputs": ["out"]}
    assert graph.parse_graph(json.dumps(derivations).encode()).needed(DERIVATION, have=()) == (PIN,)
