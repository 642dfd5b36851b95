"""References to secrets: as they are typed, as they stand in a plan, and what is none."""

from dataclasses import replace
from typing import Any

import pytest

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.plan import plan as plans
from mvmnix.launch.plan.plan import Plan
from mvmnix.launch.plan.secret_reference import Reference, Secret, Source, Target, kinds
from mvmnix.launch.secrets import credentials
from mvmnix.provenance.bundle import statement
from mvmnix.provenance.bundle.statement import Statement
from tests.unit.provenance.world import new_world

TYPED = {
    "DB=env:DB_PASSWORD": (Source.VARIABLE, ("DB_PASSWORD",)),
    "db.pem=file:/etc/keys/db.pem": (Source.FILE, ("/etc/keys/db.pem",)),
    "DB=keyring:my/service/me": (Source.KEYRING, ("my/service", "me")),
    "DB=command:/usr/bin/pass show 'my db'": (Source.COMMAND, ("/usr/bin/pass", "show", "my db")),
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
    made = Reference.parse(text, Target.FILE)
    assert (made.source, made.words) == TYPED[text]
    assert made.place == f"/run/secrets/{made.name}"
    assert f"{made.name}={made}" == text


@pytest.mark.parametrize("text", WRONG)
@pytest.mark.parametrize("target", Target)
def test_what_is_no_reference_is_refused_and_not_repeated(text: str, target: Target) -> None:
    with pytest.raises(ValueError) as error:
        Reference.parse(text, target)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "words", "is_one"),
    [
        (Source.VARIABLE, (), False),
        (Source.VARIABLE, ("A",), True),
        (Source.VARIABLE, ("A", "B"), False),
        (Source.FILE, (), False),
        (Source.FILE, ("/a",), True),
        (Source.FILE, ("/a", "/b"), False),
        (Source.KEYRING, ("service",), False),
        (Source.KEYRING, ("service", "name"), True),
        (Source.KEYRING, ("service", "name", "more"), False),
        (Source.COMMAND, (), False),
        (Source.COMMAND, ("/a",), True),
        (Source.COMMAND, ("/a", *["b"] * 63), True),
        (Source.COMMAND, ("/a", *["b"] * 64), False),
        (Source.FILE, ("/" + "a" * 4095,), True),
        (Source.FILE, ("/" + "a" * 4096,), False),
    ],
)
def test_how_many_words_of_what_length(source: Source, words: tuple[str, ...], *, is_one: bool) -> None:
    """As they may stand in a plan, whatever can be typed."""
    if is_one:
        assert Reference("A", Target.FILE, source, words).words == words
    else:
        with pytest.raises(ValueError, match="not a reference"):
            Reference("A", Target.FILE, source, words)


def test_a_variable_has_a_variable_s_name() -> None:
    with pytest.raises(ValueError, match="not the name of a secret"):
        Reference.parse("db.pem=env:X", Target.VARIABLE)
    assert Reference.parse("DB_PEM=env:X", Target.VARIABLE).place == "the variable DB_PEM"


def test_they_stand_in_the_plan_and_come_back(plan: Plan) -> None:
    confided = tuple(Reference.parse(text.replace("DB", f"DB{n}", 1), Target.FILE) for n, text in enumerate(TYPED))
    confided += (Reference.parse("TOKEN=env:TOKEN", Target.VARIABLE),)
    confided += (Reference("a" * 64, Target.FILE, Source.COMMAND, ("/a", *["b"] * 63)),)
    with_secrets = replace(plan, secrets=confided)
    written = plans.to_statement(with_secrets).to_bytes()
    assert plans.from_statement(statement.parse(written)) == with_secrets
    assert b'"secrets"' not in plans.to_statement(plan).to_bytes(), "older plans keep their bytes"


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
    good = plans.to_statement(plan)
    bad = Statement(good.subjects, good.predicate_type, {**good.predicate, "secrets": value})
    with pytest.raises(RefusedError) as refused:
        plans.from_statement(bad)
    assert set(refused.value.codes) == {ReasonCode.PLAN_MALFORMED}


def test_names_are_taken_once(plan: Plan) -> None:
    once = Reference.parse("A=env:X", Target.VARIABLE)
    replace(plan, secrets=(once, Reference.parse("A=env:X", Target.FILE)))
    with pytest.raises(ValueError, match="stand there twice: A"):
        replace(plan, secrets=(once, once))
    taken = replace(plan.workload, environment={"A": "1"})
    replace(plan, workload=taken, secrets=(replace(once, target=Target.FILE),))
    with pytest.raises(ValueError, match="names of variables that the plan sets: A"):
        replace(plan, workload=taken, secrets=(once,))


def test_so_many_at_most(plan: Plan) -> None:
    confided = tuple(Reference.parse(f"A{number}=env:X", Target.FILE) for number in range(33))
    with_secrets = replace(plan, secrets=confided[:32])
    assert plans.from_statement(plans.to_statement(with_secrets)) == with_secrets
    with pytest.raises(ValueError, match="more than 32 secrets"):
        replace(plan, secrets=confided)


def test_a_command_with_a_credential_in_it_is_refused_too(plan: Plan) -> None:
    confided = Reference.parse("A=command:/usr/bin/vault --password=hunter2 read", Target.FILE)
    with pytest.raises(RefusedError, match="word 1 of the reference of A") as refused:
        credentials.refuse_in_plan(replace(plan, secrets=(confided,)))
    assert "hunter2" not in str(refused.value)


def test_what_the_log_is_told_are_names_and_kinds() -> None:
    one, other = (Reference.parse(f"A=env:{name}", Target.FILE) for name in ("X", "Y"))
    assert kinds((one,)) == kinds((other,))
    different = (Reference.parse("B=env:X", Target.FILE), Reference.parse("A=env:X", Target.VARIABLE))
    assert len({kinds((it,)) for it in (one, *different)}) == 3


def test_a_secret_does_not_show_itself() -> None:
    assert "hunter2" not in repr(Secret("A", Target.FILE, b"hunter2"))
