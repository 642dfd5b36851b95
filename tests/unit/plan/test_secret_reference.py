"""References to secrets: as they are typed, as they stand in a plan, and what is none."""

from dataclasses import replace
from typing import Any

import pytest

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.secrets import credentials
from mvmnix.plan import plan as plans
from mvmnix.plan.plan import Plan
from mvmnix.plan.secret_reference import Secret, SecretReference, SecretSource, SecretTarget, kinds_digest
from mvmnix.provenance.bundle import statement
from mvmnix.provenance.bundle.statement import Statement
from tests.support.refusals import refusal_codes
from tests.unit.provenance.world import new_world

TYPED = {
    "DB=env:DB_PASSWORD": (SecretSource.VARIABLE, ("DB_PASSWORD",)),
    "db.pem=file:/etc/keys/db.pem": (SecretSource.FILE, ("/etc/keys/db.pem",)),
    "DB=keyring:my/service/me": (SecretSource.KEYRING, ("my/service", "me")),
    "DB=command:/usr/bin/pass show 'my db'": (SecretSource.COMMAND, ("/usr/bin/pass", "show", "my db")),
}

#: What is no reference; the secret in it is `hunter2`.
WRONG = (
    "DB=hunter2",
    "hunter2",
    "DB=hunter2:DB",
    "DB=",
    "DB=env",
    "env:X",
    "=env:X",
    "DB=vault:hunter2",
    "hunter2 =vault:DB",
    "DB=env:",
    "DB=env:1X",
    "DB=env:A B",
    "DB=file:relative/path",
    "DB=file:",
    "DB=keyring:onlyone",
    "DB=keyring:/name",
    "DB=command:",
    "DB=command:pass show",
    "DB=command:/usr/bin/pass 'open",
    "../DB=env:X",
    ".hidden=env:X",
    "a/b=env:X",
    f"{'x' * 65}=env:X",
    "DB=env:X\n",
    "D\0B=env:X",
)


@pytest.fixture
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return new_world(tmp_path_factory.mktemp("world")).plan()


@pytest.mark.parametrize("text", TYPED)
def test_what_is_typed(text: str) -> None:
    made = SecretReference.parse(text, SecretTarget.FILE)
    assert (made.source, made.words) == TYPED[text]
    assert made.place == f"/run/secrets/{made.name}"
    assert f"{made.name}={made}" == text


@pytest.mark.parametrize("text", WRONG)
@pytest.mark.parametrize("target", SecretTarget)
def test_what_is_no_reference_is_refused_and_not_repeated(text: str, target: SecretTarget) -> None:
    with pytest.raises(ValueError) as error:
        SecretReference.parse(text, target)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "words", "is_one"),
    [
        (SecretSource.VARIABLE, (), False),
        (SecretSource.VARIABLE, ("A",), True),
        (SecretSource.VARIABLE, ("A", "B"), False),
        (SecretSource.FILE, (), False),
        (SecretSource.FILE, ("/a",), True),
        (SecretSource.FILE, ("/a", "/b"), False),
        (SecretSource.KEYRING, ("service",), False),
        (SecretSource.KEYRING, ("service", "name"), True),
        (SecretSource.KEYRING, ("service", "name", "more"), False),
        (SecretSource.COMMAND, (), False),
        (SecretSource.COMMAND, ("/a",), True),
        (SecretSource.COMMAND, ("/a", *["b"] * 63), True),
        (SecretSource.COMMAND, ("/a", *["b"] * 64), False),
        (SecretSource.FILE, ("/" + "a" * 4095,), True),
        (SecretSource.FILE, ("/" + "a" * 4096,), False),
    ],
)
def test_how_many_words_of_what_length(source: SecretSource, words: tuple[str, ...], *, is_one: bool) -> None:
    """As they may stand in a plan, whatever can be typed."""
    if is_one:
        assert SecretReference("A", SecretTarget.FILE, source, words).words == words
    else:
        with pytest.raises(ValueError, match="not a reference"):
            SecretReference("A", SecretTarget.FILE, source, words)


def test_a_variable_has_a_variable_s_name() -> None:
    with pytest.raises(ValueError, match="not the name of a secret"):
        SecretReference.parse("db.pem=env:X", SecretTarget.VARIABLE)
    assert SecretReference.parse("DB_PEM=env:X", SecretTarget.VARIABLE).place == "the variable DB_PEM"


def test_they_stand_in_the_plan_and_come_back(plan: Plan) -> None:
    confided = tuple(
        SecretReference.parse(text.replace("DB", f"DB{n}", 1), SecretTarget.FILE) for n, text in enumerate(TYPED)
    )
    confided += (SecretReference.parse("TOKEN=env:TOKEN", SecretTarget.VARIABLE),)
    confided += (SecretReference("a" * 64, SecretTarget.FILE, SecretSource.COMMAND, ("/a", *["b"] * 63)),)
    with_secrets = replace(plan, secrets=confided)
    written = plans.plan_statement(with_secrets).to_bytes()
    assert plans.from_statement(statement.parse(written)) == with_secrets
    assert b'"secrets"' not in plans.plan_statement(plan).to_bytes(), "older plans keep their bytes"


def item(**changes: Any) -> dict[str, Any]:
    return {"name": "A", "as": "file", "from": "env", "reference": ["X"]} | changes


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        "A=env:X",
        [item(value="hunter2")],
        [item(name="../A")],
        [item(name="")],
        [item(**{"as": "argument"})],
        [item(**{"from": "plain"})],
        [item(reference=[])],
        [item(reference=["X", "Y"])],
        [item(reference=["X\nY"])],
        [item(**{"from": "file"}, reference=["relative"])],
        [item(**{"from": "command"}, reference=["sh", "-c", "x"])],
        [item(), item()],
        [item(name=f"A{n}") for n in range(33)],
        [item(name="A" * 65)],
        [item(**{"from": "command"}, reference=["/a", *["b"] * 64])],
    ],
    ids=repr,
)
def test_what_a_plan_may_not_say(plan: Plan, value: object) -> None:
    good = plans.plan_statement(plan)
    bad = Statement(good.subjects, good.predicate_type, {**good.predicate, "secrets": value})
    assert set(refusal_codes(plans.from_statement, bad)) == {ReasonCode.PLAN_MALFORMED}


def test_names_are_taken_once(plan: Plan) -> None:
    once = SecretReference.parse("A=env:X", SecretTarget.VARIABLE)
    replace(plan, secrets=(once, SecretReference.parse("A=env:X", SecretTarget.FILE)))
    with pytest.raises(ValueError, match="are listed twice: A"):
        replace(plan, secrets=(once, once))
    taken = replace(plan.workload, environment={"A": "1"})
    replace(plan, workload=taken, secrets=(replace(once, target=SecretTarget.FILE),))
    with pytest.raises(ValueError, match="names of variables that the plan sets: A"):
        replace(plan, workload=taken, secrets=(once,))


def test_so_many_at_most(plan: Plan) -> None:
    confided = tuple(SecretReference.parse(f"A{number}=env:X", SecretTarget.FILE) for number in range(33))
    with_secrets = replace(plan, secrets=confided[:32])
    assert plans.from_statement(plans.plan_statement(with_secrets)) == with_secrets
    with pytest.raises(ValueError, match="more than 32 secrets"):
        replace(plan, secrets=confided)


def test_a_command_with_a_credential_in_it_is_refused_too(plan: Plan) -> None:
    confided = SecretReference.parse("A=command:/usr/bin/vault --password=hunter2 read", SecretTarget.FILE)
    with pytest.raises(RefusedError, match="word 1 of the reference of A") as refused:
        credentials.refuse_in_plan(replace(plan, secrets=(confided,)))
    assert "hunter2" not in str(refused.value)


def test_what_the_log_is_told_are_names_and_kinds() -> None:
    one, other = (SecretReference.parse(f"A=env:{name}", SecretTarget.FILE) for name in ("X", "Y"))
    assert kinds_digest((one,)) == kinds_digest((other,))
    different = (
        SecretReference.parse("B=env:X", SecretTarget.FILE),
        SecretReference.parse("A=env:X", SecretTarget.VARIABLE),
    )
    assert len({kinds_digest((it,)) for it in (one, *different)}) == 3


def test_a_secret_does_not_show_itself() -> None:
    assert "hunter2" not in repr(Secret("A", SecretTarget.FILE, b"hunter2"))
