"""Reading a derivation graph as Nix prints it; what a hostile one is refused for is in tests/hostile/test_graph.py."""

import json
from typing import Any

import pytest

from mvmnix.builder.session import graph
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.model import HashMode
from tests.fakes import shown, source

PIN, SEED = source("pin.deb", b"pin"), source("busybox", b"nar", HashMode.NAR)


def test_fixed_outputs_are_found_and_sorted() -> None:
    assert graph.parse(shown()).sources == ()
    assert graph.parse(shown(SEED, PIN)).sources == tuple(sorted((PIN, SEED)))


def test_the_same_file_from_two_derivations_counts_once() -> None:
    one, two = (json.loads(shown(PIN)) for _ in range(2))
    two[f"/nix/store/{'3' * 32}-pin.deb.drv"] = two.popitem()[1]
    assert graph.parse(json.dumps(one | two).encode()).sources == (PIN,)


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
    assert graph.parse(shown(PIN, env=env)).sources[0].uri == uri


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
    assert graph.parse(shown(PIN, outputs=outputs)).sources == ()


def test_a_broken_promise_names_both_paths() -> None:
    promise = {"hash": PIN.digest.hex, "hashAlgo": "sha256", "method": "flat", "path": str(SEED.store_path)}
    with pytest.raises(RefusedError) as refusal:
        graph.parse(shown(PIN, outputs={"out": promise}))
    assert refusal.value.codes == (ReasonCode.OUTPUT_MALFORMED,)
    assert str(SEED.store_path) in refusal.value.reasons[0].why
    assert str(PIN.store_path) in refusal.value.reasons[0].why
