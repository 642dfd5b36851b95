"""Every text that a plan can hold is looked at for credentials: each is filled with one, and it has to be named."""

import dataclasses
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.formats import strict
from mvmnix.launch.secrets import credentials
from mvmnix.launch.secrets.credentials import in_texts
from mvmnix.model import SystemCalls, Verb
from mvmnix.plan import plan as plans
from mvmnix.plan.data_disk import DataDisk
from mvmnix.plan.limits import PlanLimits
from mvmnix.plan.network import Network, parse_rules
from mvmnix.plan.network_endpoints import PublishedPort
from mvmnix.plan.plan import Plan, Start, Use
from mvmnix.plan.secret_reference import SecretReference, SecretTarget
from mvmnix.plan.share import Access, Danger, Share
from mvmnix.provenance.bundle import statement
from mvmnix.provenance.bundle.statement import Statement
from mvmnix.provenance.slsa.provenance import Variation
from tests.unit.provenance.world import new_world, put

#: Written in halves, so that no scanner takes this file for a leak.
TOKEN = "ghp_" + "aB3dE6gH9" * 4
#: Fields that every plan has, and that are other objects than those that hold texts of an author's choice.
ALWAYS = {"subjects", "image", "verity", "command_line", "vcpus", "memory_mib", "scratch_mib", "workload", "timeouts"}
ALWAYS |= {"posture", "verbs", "ports", "isolation", "accelerator", "window", "use", "nonce", "policy", "provenance"}
#: `backend` is a word of a list, and the others in a full plan go together with this one alone; `placeholders` are two
#: numbers, of a template's plan, which has nothing else.
ALWAYS |= {"backend", "placeholders"}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A plan in which everything stands that a plan may have, and no credential."""
    made = new_world(tmp_path_factory.mktemp("world")).plan()
    words = {"env": "A=env:VARIABLE", "file": "B=file:/run/b", "keyring": "C=keyring:service/name"}
    references = [SecretReference.parse(text, SecretTarget.FILE) for text in words.values()]
    references.append(SecretReference.parse("D=command:/usr/bin/pass show --name db", SecretTarget.VARIABLE))
    return replace(
        made,
        workload=replace(
            made.workload, environment={"PATH": "/bin", "LANG": "C.UTF-8"}, argv=("serve", "--port", "80")
        ),
        verbs=frozenset({Verb.EXEC, Verb.STREAM, Verb.SNAPSHOT}),
        ports=(80,),
        use=Use.ONCE,
        variation=Variation("rebuild", 60, "natural"),
        secrets=tuple(references),
        labels={"tier": "web", "note": "of the test"},
        shares=(Share("/srv/data", "/data", Access.READ_WRITE, acknowledged=(Danger.MOUNTS,)),),
        limits=PlanLimits(tasks=9, shared_kib=9, system_calls=SystemCalls.STRICT),
        data=DataDisk(32, "/tmp/data"),
        network=Network(
            parse_rules(["http://api.example.com/v1,method=GET", "tcp:10.0.0.7:22,acknowledge=private-addresses"], []),
            (PublishedPort.parse("8080:80"),),
        ),
        start=Start.COLD,
        snapshot_with_secrets=True,
    )


def texts(value: Any, *path: str | int) -> Iterator[tuple[str | int, ...]]:
    """The places of all texts in a value as JSON has it."""
    if isinstance(value, str):
        yield path
    for step, each in value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ()):
        yield from texts(each, *path, step)


def as_json(plan: Plan) -> dict[str, Any]:
    value = strict.parse_json(plans.plan_statement(plan).to_bytes())
    assert isinstance(value, dict)
    return value


def suspects(value: dict[str, Any]) -> list[credentials.Suspect]:
    said = Statement(
        statement.parse(strict.canonical(value | {"_type": statement.STATEMENT_TYPE})).subjects,
        value["predicateType"],
        value["predicate"],
    )
    return list(in_texts(credentials.of_plan(said)))


def test_the_full_plan_has_everything(full: Plan) -> None:
    """A field that plans get later has to stand in the full plan, or among those that every plan has."""
    assert {each.name for each in dataclasses.fields(Plan)} >= ALWAYS
    for each in dataclasses.fields(Plan):
        if each.name not in ALWAYS:
            empty = {} if each.name == "labels" else each.default
            assert getattr(full, each.name) not in (empty, dataclasses.MISSING), each.name


def test_a_plan_without_a_credential_passes(full: Plan) -> None:
    credentials.refuse_in_plan(full)
    assert plans.from_statement(plans.plan_statement(full)) == full


def test_a_plan_with_a_byte_that_is_no_utf_8_is_refused(full: Plan) -> None:
    """A command line holds such bytes as surrogate escapes (PEP 383); JSON in UTF-8 can't."""
    with pytest.raises(RefusedError) as caught:
        credentials.refuse_in_plan(replace(full, labels={"note": "\udcff"}))
    assert caught.value.codes == (ReasonCode.PLAN_MALFORMED,)


def test_a_credential_in_any_text_is_named(full: Plan) -> None:
    """Each text of the statement in turn; where its own parser lets none stand, that changes nothing here."""
    original = as_json(full)
    places = list(texts(original["predicate"], "predicate"))
    assert len(places) > 50
    for place in places:
        value = as_json(full)
        put(TOKEN, *place)(value)
        (found,) = suspects(value)
        assert TOKEN not in found.where + repr(found), place
    for number, subject in enumerate(original["subject"]):
        value = as_json(full)
        put({**subject, "name": TOKEN}, "subject", number)(value)
        assert [TOKEN in found.where for found in suspects(value)] == [False], subject


def test_a_credential_for_a_name_is_named_and_not_repeated(full: Plan) -> None:
    """Names of variables and labels are their author's; so is what stands beside them."""
    for path in (("workload", "environment"), ("labels",), ("limits",), ("a", "field", "to", "come")):
        value = as_json(full)
        here = value["predicate"]
        for step in path:
            here = here.setdefault(step, {})
        here[TOKEN] = TOKEN
        found = suspects(value)
        assert found, path
        assert not any(TOKEN in each.where + repr(each) for each in found), path


LABELS = {
    "a password by its name": ({"password": "hunter2"}, "the value of the label password"),
    "a token by its name": ({"db-token": "abcdef123"}, "the value of the label db-token"),
    "a token by its form": ({"note": TOKEN}, "the value of the label note"),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels(full: Plan, case: str) -> None:
    labels, where = LABELS[case]
    found = list(in_texts(credentials.of_members("label", labels)))
    assert [it.where for it in found] == [where]
    with pytest.raises(RefusedError) as refused:
        credentials.refuse_in_plan(replace(full, labels=labels))
    assert refused.value.codes == (ReasonCode.PLAINTEXT_CREDENTIAL,)
    assert where in str(refused.value)
    assert not any(value in str(refused.value) for value in labels.values())


def test_harmless_labels(full: Plan) -> None:
    labels = {"tier": "web", "token-file": "/run/secrets/t", "commit": "1" * 40, "secret": "env:SECRET"}
    credentials.refuse_in_plan(replace(full, labels=labels))
    credentials.refuse_typed((), labels)
