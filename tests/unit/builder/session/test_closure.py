"""Reading derivations into a closure; what a hostile one is refused for is in tests/hostile/test_closure.py."""

import json

import pytest

from mvmnix.builder.session.closure import Closure, read_closure, sources_of
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.formats.derivation import Derivation
from mvmnix.formats.nix_export import read_archives
from mvmnix.formats.strict import MAX_VALUES
from mvmnix.model import HashMode, Source, StorePath
from tests.derivations import Derivations, add, exported, fixed, guest, made, output_of
from tests.fakes import source

PIN, SEED = source("pin.deb", b"pin"), source("busybox", b"nar", HashMode.NAR)


def alone(derivation: Derivation, name: str = PIN.name) -> Closure:
    path = derivation.path(name)
    return read_closure(exported({path: derivation}), [path])


def read(derivations: Derivations, *roots: StorePath) -> Closure:
    return read_closure(exported(derivations), roots)


@pytest.mark.parametrize("sources", [(), (SEED, PIN)])
def test_fixed_outputs_are_found_and_sorted(sources: tuple[Source, ...]) -> None:
    root, derivations = guest(*sources)
    found = read(derivations, root)
    assert found.sources == tuple(sorted(sources))
    assert found.derivations == derivations
    assert found.output(root) == output_of(derivations, root)


def test_the_same_file_from_two_derivations_counts_once() -> None:
    derivations: Derivations = {}
    twice = [add(derivations, PIN.name, fixed(PIN, arguments=(word,))) for word in ("a", "b")]
    root = made(derivations, "guest", twice)
    found = read(derivations, root)
    assert found.sources == (PIN,)
    assert len(found.derivations) == 3


def test_what_is_made_from_outputs_by_name() -> None:
    derivations: Derivations = {}
    library = made(derivations, "lib", [], "out", "dev")
    assert {it.name for it in derivations[library].paths} == {"lib", "lib-dev"}
    assert set(read(derivations, library).derivations) == {library}


@pytest.mark.parametrize(
    ("environment", "uri"),
    [
        ({"urls": "mirror://debian/a mirror://other/b"}, "mirror://debian/a"),
        ({"urls": "\n  mirror://debian/a\n"}, "mirror://debian/a"),
        ({"url": "https://host/a.tar"}, "https://host/a.tar"),
        ({"urls": "", "url": "https://host/a.tar"}, "https://host/a.tar"),
        ({"__json": json.dumps({"urls": ["mirror://debian/a"], "factor": 0.5})}, "mirror://debian/a"),
    ],
)
def test_the_first_address_is_the_one_that_is_named(environment: dict[str, str], uri: str) -> None:
    assert alone(fixed(PIN, environment=environment)).sources[0].uri == uri


@pytest.mark.parametrize(
    ("structured", "why"),
    [
        ('{"x":[' + "[]," * MAX_VALUES + "[]]}", "more than 1048576 values"),
        ('{"x":' + "[" * 40 + "]" * 40 + "}", "nested deeper"),
        ('{"url":"mirror://debian/a","url":"mirror://debian/b"}', "listed twice"),
        ("[]", "not an object"),
        ("{", "not JSON"),
        ("\udcff", "can't be read"),
    ],
)
def test_structured_attributes_are_read_within_bounds(structured: str, why: str) -> None:
    """Of 60 MiB of empty lists, plain `json` makes 1.5 GiB of objects."""
    with pytest.raises(RefusedError, match=why) as refusal:
        alone(fixed(PIN, environment={"__json": structured}))
    assert refusal.value.codes == (ReasonCode.OUTPUT_MALFORMED,)


def test_a_broken_promise_names_both_paths() -> None:
    with pytest.raises(RefusedError) as refusal:
        alone(fixed(PIN, output={"path": str(SEED.store_path)}))
    assert refusal.value.codes == (ReasonCode.OUTPUT_MALFORMED,)
    assert str(SEED.store_path) in refusal.value.reasons[0].why
    assert str(PIN.store_path) in refusal.value.reasons[0].why


# What is left to ask for, when some paths are had already


def test_what_a_part_is_made_of_is_not_asked_for_when_it_is_had() -> None:
    derivations: Derivations = {}
    pin, seed = (add(derivations, it.name, fixed(it)) for it in (PIN, SEED))
    part = made(derivations, "initrd", [seed])
    root = made(derivations, "guest", [pin, part])
    found, had = read(derivations, root), output_of(derivations, part)
    assert found.needed(root, have=()) == tuple(sorted((PIN, SEED)))
    assert found.needed(root, have={had}) == (PIN,)
    assert found.needed(part, have={had}) == ()
    assert found.needed(root, have={output_of(derivations, root)}) == ()
    assert found.sources == tuple(sorted((PIN, SEED))), "all may be asked for"


def test_one_of_two_outputs_is_not_enough() -> None:
    derivations: Derivations = {}
    root = made(derivations, "lib", [add(derivations, SEED.name, fixed(SEED))], "out", "dev")
    found, (out, dev) = read(derivations, root), derivations[root].paths
    assert found.needed(root, have={out}) == (SEED,)
    assert found.needed(root, have={out, dev}) == ()


def test_what_can_t_be_brought_is_refused_where_it_is_needed_and_nowhere_else() -> None:
    derivations: Derivations = {}
    promise = {"algorithm": "sha512", "hash": "0" * 128, "path": str(StorePath.fixed("x", "sha512", "0" * 128))}
    root = made(derivations, "guest", [add(derivations, "x", fixed(PIN, output=promise))])
    found = read(derivations, root)
    assert found.sources == ()
    assert found.needed(root, have={output_of(derivations, root)}) == ()
    with pytest.raises(RefusedError) as refusal:
        found.needed(root, have=())
    assert refusal.value.codes == (ReasonCode.OUTPUT_MALFORMED,)
    assert "is fixed by sha512, not by SHA-256" in refusal.value.reasons[0].why


def test_sources_of_outputs_that_are_known() -> None:
    root, derivations = guest(PIN, SEED)
    assert sources_of(read(derivations, root).fixed.values()) == tuple(sorted((PIN, SEED)))


def test_what_has_no_output_out_is_no_image() -> None:
    derivations: Derivations = {}
    root = made(derivations, "lib", [], "dev")
    with pytest.raises(RefusedError, match="no output that is called out"):
        read(derivations, root).output(root)


def test_a_derivation_whose_file_is_a_source() -> None:
    """As `x = a.drvPath` makes it: with a dependency on `a` itself, or without one."""
    derivations: Derivations = {}
    pin = add(derivations, PIN.name, fixed(PIN))
    both, file = made(derivations, "both", [pin], trees=[pin]), made(derivations, "file", [], trees=[pin])
    found = read(derivations, both, file)
    assert found.trees == ()
    assert {it.path: set(it.references) for it in read_archives(memoryview(found.export()))}[both] == {pin}
    assert next(iter(found.derivations)) == pin
