"""A builder VM that was taken over describes a graph, or prints something else: it is asked for by hash, or refused."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.builder.session import graph
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from mvmnix.model import HashMode, Source, StorePath

PIN = Source("mirror://debian/pool/p/pin.deb", "pin.deb", Digest.of(b"pin"))
SEED = Source("mirror://debian/pool/b/busybox.deb#usr/bin/busybox", "busybox", Digest.of(b"nar"), HashMode.NAR)


def fixed(source: Source = PIN, **changes: Any) -> dict[str, Any]:
    """A derivation of a fixed output, as `nix derivation show` (2.26) describes it; `output_x` changes its output."""
    output = {
        "hash": source.digest.hex,
        "hashAlgo": "sha256",
        "method": source.mode,
        "path": str(source.store_path),
    } | {name.removeprefix("output_"): value for name, value in changes.items() if name.startswith("output_")}
    described = {
        "args": [],
        "builder": "/bin/sh",
        "env": {"urls": source.uri, "name": source.name},
        "inputDrvs": {},
        "name": source.name,
        "outputs": {"out": output},
        "system": "x86_64-linux",
    }
    return described | {name: value for name, value in changes.items() if not name.startswith("output_")}


PLAIN = {"name": "hello", "env": {}, "outputs": {"out": {"path": str(StorePath.flat("hello", PIN.digest))}}}


def shown(*derivations: Any) -> bytes:
    return json.dumps({f"/nix/store/{number:032d}-x.drv": it for number, it in enumerate(derivations)}).encode()


def test_an_honest_graph() -> None:
    assert graph.parse_graph(shown(PLAIN, fixed(), fixed(SEED), fixed())).sources == tuple(sorted((PIN, SEED)))
    single = fixed(env={"url": PIN.uri})
    assert graph.parse_graph(shown(single)).sources == (PIN,)


@pytest.mark.parametrize(
    "derivation",
    [
        pytest.param(fixed(output_method="text"), id="an unknown method"),
        pytest.param(fixed(output_method=[]), id="a method that is a list"),
        pytest.param(fixed(output_method={}), id="a method that is an object"),
        pytest.param(fixed(output_method=None), id="no method"),
        pytest.param(fixed(output_hashAlgo="md5"), id="MD5"),
        pytest.param(fixed(output_hashAlgo=["sha256"]), id="a list of algorithms"),
    ],
)
def test_what_has_no_sha256_is_refused_where_it_is_needed(derivation: Any) -> None:
    """A cache may have what it is for, so that it stands in the graph refuses nothing yet."""
    found = graph.parse_graph(shown(PLAIN, derivation))
    name = next(name for name, it in found.derivations.items() if it.unsupported)
    with pytest.raises(RefusedError) as caught:
        found.needed(StorePath.parse(name), have=())
    assert caught.value.codes == (Code.OUTPUT_MALFORMED,)
    made = StorePath.parse(derivation["outputs"]["out"]["path"])
    assert found.needed(StorePath.parse(name), have={made}) == ()


@pytest.mark.parametrize(
    "derivation",
    [
        pytest.param(fixed(output_path=str(SEED.store_path)), id="another path than its hash makes"),
        pytest.param(fixed(output_method="nar"), id="another method than its path says"),
        pytest.param(fixed(output_hash=PIN.digest.sri), id="a hash in another spelling"),
        pytest.param(fixed(output_hash=PIN.digest.hex.upper()), id="a hash in capitals"),
        pytest.param(fixed(output_hash=None), id="no hash"),
        pytest.param(fixed(output_path=None), id="no path"),
        pytest.param(fixed(output_path="/etc/shadow"), id="a path elsewhere"),
        pytest.param(fixed(output_path=f"{PIN.store_path}/../../etc"), id="a path upwards"),
        pytest.param(fixed(name="../pin.deb"), id="a name upwards"),
        pytest.param(fixed(name="a name"), id="a name with a space"),
        pytest.param(fixed(name=""), id="an empty name"),
        pytest.param(fixed(name="x" * 300), id="a long name"),
        pytest.param(fixed(name=None), id="no name"),
        pytest.param(fixed(name={"a": 1}), id="a name that is an object"),
        pytest.param(fixed(env={}), id="no address"),
        pytest.param(fixed(env={"urls": ""}), id="an empty address"),
        pytest.param(fixed(env={"urls": "pin.deb"}), id="a path as address"),
        pytest.param(fixed(env={"urls": {"a": "mirror://debian/x"}}), id="addresses as an object"),
        pytest.param(fixed(env={"urls": [{}]}), id="addresses as a list of objects"),
        pytest.param(fixed(env={"__json": "{"}), id="structured attributes that are none"),
        pytest.param(fixed(env={"__json": "[]"}), id="structured attributes that are a list"),
        pytest.param(fixed(env={"urls": "mirror://debian/\u202egnp.deb"}), id="an address that runs backwards"),
        pytest.param(fixed(env={"urls": "mirror://debian/" + "x" * 2048}), id="a long address"),
        pytest.param(fixed(env=[]), id="an environment that is a list"),
        pytest.param(fixed(outputs=[]), id="outputs that are a list"),
        pytest.param(fixed(outputs={"out": []}), id="an output that is a list"),
        pytest.param([], id="a list"),
        pytest.param(None, id="null"),
    ],
)
def test_a_lie_about_a_derivation(derivation: object) -> None:
    with pytest.raises(RefusedError) as caught:
        graph.parse_graph(shown(PLAIN, derivation))
    assert caught.value.codes == (Code.OUTPUT_MALFORMED,)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"{", id="half an object"),
        pytest.param(b"\xff\xfe{}", id="another encoding"),
        pytest.param(b"[" * 200_000, id="too deep"),
        pytest.param(b'{"a":' * 200_000, id="too deep with names"),
        pytest.param(b'{"a": ' + b"1" * 10_000 + b"}", id="a long number"),
        pytest.param(shown(*[PLAIN] * (graph.MAX_DERIVATIONS + 1)), id="too many"),
        pytest.param(b"{}" + b" " * graph.LIMIT, id="too long"),
    ],
)
def test_no_graph(text: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        graph.parse_graph(text)
    assert caught.value.codes == (Code.OUTPUT_MALFORMED,)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("name", "env", "outputs", "output_hash", "output_hashAlgo", "output_method", "output_path")


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, min_size=1))
def test_whatever_stands_in_a_field(changes: Mapping[str, Any]) -> None:
    try:
        found = graph.parse_graph(shown(fixed(**changes)))
    except RefusedError as error:
        assert set(error.codes) == {Code.OUTPUT_MALFORMED}
    else:
        assert set(found.sources) <= {PIN}


@given(JSON)
def test_whatever_is_printed(value: object) -> None:
    try:
        assert graph.parse_graph(json.dumps(value).encode()).sources == ()
    except RefusedError as error:
        assert set(error.codes) == {Code.OUTPUT_MALFORMED}
