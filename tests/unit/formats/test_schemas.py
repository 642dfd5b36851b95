"""Schemas and strict readers of TOML documents accept and refuse the same, and a refusal says what was expected."""

import copy
import tomllib
from collections.abc import Callable, Mapping

import jsonschema
import pytest

from mvmnix import config
from mvmnix.errors import MOST_REASONS, Reason, ReasonCode, RefusedError
from mvmnix.formats import schemas, strict, toml
from mvmnix.keys import PrivateKey, Role
from mvmnix.provenance.policy import trust_text
from mvmnix.provenance.policy.default_policy import default_policy
from tests.repository import ROOT
from tests.unit.formats.documents import CONFIG, DOCUMENTS, TIME, VALUES, Document
from tests.unit.places import at, changed, places


@pytest.fixture(params=DOCUMENTS)
def document(request: pytest.FixtureRequest) -> Document:
    return DOCUMENTS[request.param]


def test_both_accept_a_document_with_everything_in_it(document: Document) -> None:
    assert document.agree(document.value, ())


def test_both_agree_about_every_value_at_every_place(document: Document) -> None:
    accepted, refused = 0, 0
    for place in places(document.value):
        value = document.around(place)
        for new in VALUES if place else ():
            if document.agree(changed(value, place, new), place):
                accepted += 1
            else:
                refused += 1
    assert accepted
    assert refused > 300


def test_both_agree_when_something_is_missing_or_more(document: Document) -> None:
    value = document.value
    for place in places(value):
        if isinstance(at(value, place), dict):
            made = copy.deepcopy(value)
            at(made, place)["extra"] = "x"
            has_free_keys = place[-1:] == ("environment",)  # they are names of variables
            assert document.agree(made, place) == has_free_keys
        if place:
            made = copy.deepcopy(value)
            del at(made, place[:-1])[place[-1]]
            document.agree(made, place)


def test_both_agree_about_kinds_that_exclude_each_other() -> None:
    """Each member of each object of a list, and of a case, in each other one."""
    for name, document in DOCUMENTS.items():
        others = [at(each.value, place) for each in DOCUMENTS.values() for place in places(each.value)]
        members = {key: member for other in others if isinstance(other, dict) for key, member in other.items()}
        for place in places(document.value):
            if not isinstance(at(document.value, place), dict):
                continue
            for key, member in members.items():
                made = copy.deepcopy(document.value)
                at(made, place)[key] = member
                document.agree(made, (*place, key))
        assert members, name


def test_the_file_that_says_nothing_is_empty_and_not_wrong() -> None:
    """`policy-empty` refuses it, as the next step; the schema has it that a policy says something."""
    assert strict.read({}, "it", trust_text._file).signers == ()
    assert not schemas.validator("trust").is_valid({})


@pytest.mark.parametrize("name", schemas.NAMES)
def test_a_schema_is_one(name: str) -> None:
    schema = schemas.parsed(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:mvmnix:{name}:1"
    assert schema["title"]


def test_there_is_no_other_schema() -> None:
    found = {path.name for path in (ROOT / "mvmnix").rglob("*.schema.json")}
    assert found == {f"{name}.schema.json" for name in schemas.NAMES}
    with pytest.raises(KeyError):
        schemas.read("../pyproject")


def test_the_examples_and_what_mvm_itself_writes_are_accepted() -> None:
    written = default_policy({role: PrivateKey.generate().public for role in Role}, now=TIME)
    for policy in (written, (ROOT / "examples/policy/trust.toml").read_bytes()):
        assert DOCUMENTS["trust"].agree(tomllib.loads(policy.decode()), ())


def refusal(read: Callable[[bytes], object], text: str) -> Mapping[str, Reason]:
    with pytest.raises(RefusedError) as caught:
        read(text.encode())
    return {reason.why.partition(": ")[0]: reason for reason in caught.value.reasons}


def test_a_refusal_says_what_was_expected() -> None:
    found = refusal(
        config.parse,
        'version = 1\n[fetch]\nhots = []\nhosts = ["http://x"]\nseconds = 0\n[[anchors]]\nname = "x"\nrequired = 1\n',
    )
    assert {reason.code for reason in found.values()} == {ReasonCode.CONFIG_MALFORMED}
    assert found["[fetch] hots"].hint.startswith("did you mean hosts?; correct config.toml")
    assert found["[fetch] seconds"].hint.startswith("expected how long one download may take, in seconds: 1 to 86400;")
    assert found["[fetch] hosts[0]"].hint.startswith("expected a host such as")
    assert "exactly one of file, command and git" in found["[[anchors]]"].hint


def test_what_a_reader_did_not_come_to_is_found_by_the_schema() -> None:
    """An anchor of two kinds is as far as the reader gets with it."""
    text = CONFIG.replace('name = "mail"\nrequired = false', 'nam = "mail"\nrequired = 0\nfile = "/a"')
    found = refusal(config.parse, text)
    assert {*found} == {"[[anchors]]", *(f"[[anchors]] {name}" for name in ("name", "nam", "required", "seconds"))}
    assert {reason.code for reason in found.values()} == {ReasonCode.CONFIG_MALFORMED}
    assert found["[[anchors]] nam"].hint.startswith("did you mean name?; ")
    with pytest.raises(strict.MalformedError) as alone:
        strict.read(tomllib.loads(text), "config.toml", config._file)
    assert len(alone.value.problems) == 1


@pytest.mark.parametrize(
    "text",
    [
        "version = 1\nx = " + "[" * 150 + "]" * 150,
        'version = 1\n"a: b.c[0]" = 1\n"" = 1',
        "version = 1" + "\n#" * 2**16,
    ],
)
def test_no_document_is_too_odd_to_be_refused(text: str) -> None:
    assert refusal(config.parse, text + "\n[fetch]\nseconds = 0\n")


def test_so_much_is_said_and_no_more() -> None:
    found = refusal(config.parse, "version = 1\n" + "".join(f"k{number} = 1\n" for number in range(4_000)))
    unknown = [reason for place, reason in found.items() if place.startswith("k")]
    assert len(unknown) == MOST_REASONS
    assert all(reason.hint.startswith("known here: anchors, caches, ") for reason in unknown)
    assert f"and {4_000 - MOST_REASONS} reasons more" in found


def test_long_documents_are_refused_without_a_look_at_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "find_mistakes", lambda *_: pytest.fail("it looks at all of it"))
    long = f"version = 2\n[fetch]\nhosts = {['x.example'] * 10_000}"
    assert len(long) > toml._EXPLAINED
    reason = refusal(config.parse, long)["version"]
    assert (reason.what, reason.hint.partition(";")[0]) == ("config.toml:1:1", "correct config.toml")
