"""manifest.json: the parser and the JSON Schema accept and refuse the same, shown on every place of a real manifest."""

import copy
import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mvmnix.formats.manifest as manifests
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.formats import schemas, strict
from mvmnix.model import Posture, SystemCalls, Verb
from tests.unit.places import at, changed, places
from tests.unit.provenance.world import Json, new_world

VALIDATOR = schemas.validator("manifest")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """As mkGuest writes it, with something in every list."""
    value = strict.parse_json(new_world(tmp_path_factory.mktemp("world")).manifest)
    assert isinstance(value, dict)
    value["writable"] = ["/tmp", "/var/tmp"]
    value["sources"].append({"uri": "mirror://pypi/c.whl", "name": "c.whl", "sha256": "0" * 64})
    return value


def parsed(value: object) -> str:
    """What the parser has against a manifest, nothing if it accepts it."""
    try:
        manifests.parse(json.dumps(value).encode())
    except RefusedError as refusal:
        assert set(refusal.codes) == {ReasonCode.MANIFEST_MALFORMED}
        return str(refusal)
    return ""


def agree(value: Any) -> bool:
    """Whether the manifest is accepted, by both or by neither."""
    by_parser, by_schema = parsed(value), next(VALIDATOR.iter_errors(value), None)
    assert bool(by_parser) == (by_schema is not None), (by_parser, by_schema)
    return not by_parser


#: Where the constructors of the nouns know more than a schema can say: the tree follows the data.
BOUND = (("verity", "dataBlocks"), ("verity", "hashOffset"))
WRONG: tuple[object, ...] = (
    *(None, True, False, 0, 1, -1, 2, 64, 65, 95, 96, 2**20, 2**20 + 1, 2**32 - 2, 2**32 - 1, 2**53 - 1, 2**53),
    *("", " ", "x", "x\n", "/", "/x", "/x\n", "/\0", "x" * 64, "x" * 65, "/" + "x" * 4094, "/" + "x" * 4095),
    *("a" * 64, "a" * 63, "A" * 64, "a" * 64 + "\n", "ü", "a  b", " a", "a ", "a b", "a" * 2047, "a" * 2048, "\x7f"),
    *("exec", "stream", "dev", "sealed", "Dev", "kernel", "rootfs", "x86_64-linux", "sha256", "00", "0", "0G"),
    *("mirror://x", "mirror:", "MIRROR://x", "mirror://a b", "..", ".", "-", "a/b", "x" * 211, "x" * 212),
    *("x" * 65_536, "x" * 65_537, "12345678-1234-4234-8234-123456789abc", "a\0b"),
    *([], [[]], [1], ["exec"], ["exec", "exec"], ["/tmp", "/tmp"], ["/x"] * 65, ["x"] * 1025, ["\0"], [{}], {}),
    *({"x": "y"}, {"X": 1}, {"1X": "y"}, {"": "y"}, {"X\n": "y"}, {"X": "a\0"}, {"ü": "y"}, {"X": "x" * 65_537}),
    ["x"] * 1024,
    [f"/{number}" for number in range(64)],
    [f"/{number}" for number in range(65)],
)


def test_the_schema_is_one_and_accepts_a_real_manifest(good: Json) -> None:
    jsonschema.Draft202012Validator.check_schema(schemas.parsed("manifest"))
    assert agree(good)


def test_both_agree_about_every_value_at_every_place(good: Json) -> None:
    accepted = 0
    for path in places(good):
        if path in BOUND:
            continue
        for new in WRONG:
            accepted += agree(changed(good, path, new))
    assert accepted > 100, "the values are not all wrong everywhere"


def test_both_agree_when_something_is_missing_or_more(good: Json) -> None:
    for path in places(good):
        value = at(good, path)
        if isinstance(value, dict):
            made = copy.deepcopy(good)
            at(made, path)["extra"] = "x"
            assert agree(made) == (path == ("workload", "environment"))
        if path:
            made = copy.deepcopy(good)
            del at(made, path[:-1])[path[-1]]
            assert agree(made) == (isinstance(path[-1], int) or path[:-1] == ("workload", "environment"))


@pytest.mark.parametrize("name", ["kernel", "initrd", "rootfs"])
def test_a_file_has_the_name_of_its_role(good: Json, name: str) -> None:
    for other in ("kernel", "initrd", "rootfs", "manifest.json"):
        assert agree(changed(good, ("artifacts", name, "file"), other)) == (other == name)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_both_refuse_anything_else(value: object) -> None:
    assert not agree(value)


@pytest.mark.parametrize(("blocks", "offset"), [(1, 4096), (200, 200 * 4096), (2**40, 2**52)])
def test_the_hash_tree_follows_the_data(good: Json, blocks: int, offset: int) -> None:
    fits = changed(changed(good, BOUND[0], blocks), BOUND[1], offset)
    assert agree(fits)
    assert parsed(changed(fits, BOUND[0], blocks + 1))
    assert "does not follow" in parsed(changed(fits, BOUND[0], max(1, blocks - 1))) or blocks == 1


@pytest.mark.parametrize(("blocks", "offset"), [(0, 0), (2**40 + 1, (2**40 + 1) * 4096), (1, 4097), (1, 0)])
def test_bounds_of_the_hash_tree(good: Json, blocks: int, offset: int) -> None:
    assert not agree(changed(changed(good, BOUND[0], blocks), BOUND[1], offset))


@pytest.mark.parametrize(
    ("path", "low", "high"),
    [
        (("artifacts", "kernel", "size"), 1, 2**28),
        (("artifacts", "initrd", "size"), 1, 2**28),
        (("artifacts", "rootfs", "size"), 1, 2**34),
        (("verity", "dataBlocks"), 1, 2**40),
        (("verity", "hashOffset"), 4096, 2**52),
        (("workload", "user", "uid"), 1, 2**32 - 2),
        (("workload", "user", "gid"), 1, 2**32 - 2),
        (("vcpus",), 1, 64),
        (("memoryMiB",), 96, 2**20),
        (("scratchMiB",), 1, 2**20),
    ],
)
def test_a_number_out_of_bounds_is_told_with_its_place(good: Json, path: tuple[str, ...], low: int, high: int) -> None:
    """By the parser, before any constructor sees it; that no integer is larger than 2**53 - 1 is a rule of its own."""
    for number in (low, high):
        assert "not an integer" not in parsed(changed(good, path, number))
    for number in (low - 1, high + 1):
        problem = f"manifest.{'.'.join(path)}: not an integer from {low} to {high}"
        assert ("too large" if number > strict.MAX_INTEGER else problem) in parsed(changed(good, path, number))


def test_the_filter_s_tier_is_left_out_where_it_is_the_usual_one(good: Json) -> None:
    assert manifests.parse(json.dumps(good).encode()).system_calls is SystemCalls.DEFAULT
    for tier in SystemCalls:
        told = changed(good | {"systemCalls": ""}, ("systemCalls",), str(tier))
        assert agree(told)
        assert manifests.parse(json.dumps(told).encode()).system_calls is tier
    for wrong in WRONG:
        assert not agree(changed(good | {"systemCalls": ""}, ("systemCalls",), wrong))


def test_a_network_is_left_out_where_there_is_none(good: Json) -> None:
    assert not manifests.parse(json.dumps(good).encode()).network
    for value in (True, False):
        told = good | {"network": value}
        assert agree(told)
        assert manifests.parse(json.dumps(told).encode()).network is value
    for wrong in WRONG:
        assert isinstance(wrong, bool) or not agree(changed(good | {"network": True}, ("network",), wrong))


def test_what_is_read(good: Json) -> None:
    data = json.dumps(good).encode()
    image = manifests.parse(data)
    assert (image.name, image.vcpus, image.memory_mib, image.scratch_mib) == ("hello", 1, 128, 16)
    assert (image.manifest.digest, image.manifest.size) == (Digest.of(data), len(data))
    assert [artifact.name for artifact in image.artifacts] == ["kernel", "initrd", "rootfs", "manifest.json"]
    assert image.verity.salt == bytes(range(32))
    assert image.workload.argv == ("/bin/hello", "world")
    assert (image.workload.user.uid, image.workload.environment) == (1000, {"PATH": "/bin"})
    assert (image.posture, image.verbs) == (Posture.DEV, frozenset(Verb))
    assert image.writable == ("/tmp", "/var/tmp")
    assert [source.name for source in image.sources] == ["bash.deb", "c.whl"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (lambda text: text[:-1], "not JSON"),
        (lambda text: text.replace(b'"vcpus": 1', b'"vcpus": 1.0'), "not an integer"),
        (lambda text: text.replace(b'"vcpus": 1', b'"vcpus": 1, "vcpus": 1'), "'vcpus' is listed twice"),
        (lambda text: text.replace(b'"hello"', b'"\\ud800"'), "not JSON in UTF-8"),
        (lambda text: text.replace(b'"hello"', b'"\xff"'), "not JSON in UTF-8"),
        (lambda text: b" " * (4 << 20) + text, "larger than 4194304 bytes"),
        (lambda text: b"", "not JSON"),
        (lambda text: b"[" * 100_000, "not JSON"),
    ],
)
def test_what_no_schema_says(good: Json, text: Callable[[bytes], bytes], why: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        manifests.parse(text(json.dumps(good).encode()))
    assert refusal.value.codes == (ReasonCode.MANIFEST_MALFORMED,)
    assert why in refusal.value.reasons[0].why


def test_all_problems_are_told_at_once(good: Json) -> None:
    made = changed(changed(good, ("vcpus",), 0), ("workload", "directory"), "relative")
    del made["posture"]
    made["more"] = 1
    with pytest.raises(RefusedError) as refusal:
        manifests.parse(json.dumps(made).encode())
    told = "\n".join(reason.why for reason in refusal.value.reasons)
    for place in (
        "manifest.vcpus",
        "manifest.workload.directory",
        "manifest.posture: missing",
        "manifest.more: unknown",
    ):
        assert place in told


def test_how_large_it_is(good: Json) -> None:
    data = json.dumps(good).encode()
    assert manifests.parse(data.ljust(manifests.LIMIT)).manifest.size == manifests.LIMIT
    with pytest.raises(RefusedError, match=f"larger than {manifests.LIMIT} bytes"):
        manifests.parse(data.ljust(manifests.LIMIT + 1))
