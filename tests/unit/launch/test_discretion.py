"""What must not be written down is not: values planted where secrets might be are looked for in log and receipts."""

import secrets

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import RefusedError
from mvmnix.launch.runtime.start import start_machine
from mvmnix.model import Verb
from tests.unit.launch.house import House

PLACES = ("argument", "environment", "output", "error", "content", "exec", "name")


@pytest.fixture
def planted() -> dict[str, str]:
    """A value for each place, which nothing else contains."""
    return {place: f"{place}-{secrets.token_hex(12)}" for place in PLACES}


def written(here: House) -> dict[str, bytes]:
    """The log and the receipts, whole."""
    files = [*(here.path / "audit").iterdir(), *here.path.glob("machines/*/receipt.sigstore.json")]
    return {str(file): file.read_bytes() for file in files}


def test_nothing_planted_is_in_log_or_receipt(here: House, planted: dict[str, str]) -> None:
    said, complained = bytearray(), bytearray()
    with (
        here.plan("/bin/echo", planted["argument"], verbs=frozenset({Verb.EXEC})) as plan,
        start_machine(plan, here.host(), name=planted["name"]) as machine,
    ):
        assert machine.run(stdout=said.extend, stderr=complained.extend).exit_code == 0
        environment = {"TOKEN": planted["environment"]}
        for program, content in (("cat", "content"), ("cat", "output"), ("complain", "")):
            argv = (program, planted["error"] if program == "complain" else planted["exec"])
            machine.exec(
                argv,
                environment=environment,
                stdout=said.extend,
                stderr=complained.extend,
                stdin=planted.get(content, "").encode(),
            )
    for place in ("argument", "content", "output"):
        assert planted[place].encode() in said, "the guest said it"
    assert planted["error"].encode() in complained
    kept = written(here)
    assert len([name for name in kept if name.endswith(".jsonl")]) == 1
    assert len([name for name in kept if "receipt" in name]) == 1
    assert not [(place, name) for place in PLACES for name, data in kept.items() if planted[place].encode() in data]


def test_nor_after_a_refusal(here: House, planted: dict[str, str]) -> None:
    services = {4444: lambda _wake: pytest.fail("it was called")}
    with here.plan("/bin/echo", planted["argument"]) as plan, pytest.raises(RefusedError):
        start_machine(plan, here.host(), name=planted["name"], services=services)
    assert [record.reasons for record in here.log()] == [("verb-not-granted",)]
    assert not [place for place in PLACES for data in written(here).values() if planted[place].encode() in data]


def test_what_stands_for_the_arguments_is_their_digest(here: House) -> None:
    with here.plan() as plan, start_machine(plan, here.host()) as machine:
        argv = machine._observations.invocation.argv
        machine.run(stdout=lambda _: None, stderr=lambda _: None)
    digests = here.log()[0].digests
    listed = "[" + ",".join(f'"{word}"' for word in argv) + "]"
    assert digests["argv"] == Digest.of(listed.encode())
