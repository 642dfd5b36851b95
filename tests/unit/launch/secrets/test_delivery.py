"""From a plan's references to a guest that has the secrets: who is told, what is refused, what is written down."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.audit.record import RecordKind
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.runtime.machine import Machine
from mvmnix.launch.runtime.start import start_machine
from mvmnix.model import Verb
from mvmnix.plan.secret_reference import SecretReference, SecretTarget, kinds_digest
from mvmnix.system import prctl
from tests.leaks import in_files
from tests.unit.launch.house import House, house, nowhere, told_to

FILE = SecretReference.parse("a-file=env:CONFIDED_FILE", SecretTarget.FILE)
VARIABLE = SecretReference.parse("TOKEN=env:CONFIDED_VARIABLE", SecretTarget.VARIABLE)
VALUES = {"file": b"hush-hunter2-in-a-file", "variable": b"hush-hunter2-in-a-variable"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    for name, value in VALUES.items():
        monkeypatch.setenv(f"CONFIDED_{name.upper()}", value.decode())
    with house(tmp_path / "house") as made:
        yield made


def said_by(machine: Machine) -> bytes:
    said = bytearray()
    assert machine.run(stdout=said.extend, stderr=said.extend).exit_code == 0
    return bytes(said)


def test_the_workload_gets_its_file_and_its_variable(here: House) -> None:
    for argv, value in ((("reveal", "a-file"), "file"), (("printenv", "TOKEN"), "variable")):
        with here.plan(*argv, secrets=(FILE, VARIABLE)) as plan, start_machine(plan, here.host()) as machine:
            assert said_by(machine) == VALUES[value]


def test_another_command_gets_no_variable(here: House) -> None:
    said = bytearray()
    with (
        here.plan("printenv", "TOKEN", secrets=(VARIABLE,), verbs=frozenset({Verb.EXEC})) as plan,
        start_machine(plan, here.host()) as machine,
    ):
        machine.exec(("printenv", "TOKEN"), environment={}, stdout=said.extend, stderr=nowhere)
    assert said == b""


def test_the_supervisor_forgets_what_it_has_told(here: House) -> None:
    with here.plan("printenv", "TOKEN", secrets=(FILE, VARIABLE)) as plan, start_machine(plan, here.host()) as machine:
        assert told_to(machine).secrets == ()
        assert machine._guest.channel._config is not None
        assert machine._guest.channel._config.secrets == ()


def test_the_log_names_them_by_a_digest_and_nothing_holds_a_value(here: House) -> None:
    with here.plan("/bin/echo", secrets=(FILE, VARIABLE)) as plan, start_machine(plan, here.host()) as machine:
        said_by(machine)
    (begun,) = [record for record in here.log() if record.kind is RecordKind.START]
    assert begun.digests["secrets"] == kinds_digest((FILE, VARIABLE))
    assert list(in_files(VALUES, [here.path], since=0)) == []


def test_without_secrets_the_log_says_nothing_of_them(here: House) -> None:
    with here.plan() as plan, start_machine(plan, here.host()):
        pass
    assert "secrets" not in here.log()[0].digests


def test_one_that_is_missing_starts_nothing(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONFIDED_VARIABLE")
    with here.plan(secrets=(FILE, VARIABLE)) as plan:
        for _ in range(2):  # nothing was spent by the first
            with pytest.raises(RefusedError) as refused:
                start_machine(plan, here.host())
            assert refused.value.codes == (ReasonCode.SECRET_UNAVAILABLE,)
    assert [record.kind for record in here.log()] == [RecordKind.REFUSAL] * 2
    assert not here.directory("machines").names()


def test_a_machine_that_the_host_answers_gets_none(here: House) -> None:
    """As it does a builder VM: a build could put what it knows into an image."""

    services = {80: lambda _wake: pytest.fail("it was asked")}
    verbs, ports = frozenset({Verb.EXEC, Verb.STREAM}), (80,)
    with (
        here.plan(secrets=(FILE,), verbs=verbs, ports=ports) as plan,
        pytest.raises(RefusedError, match="is given no secrets") as refused,
    ):
        start_machine(plan, here.host(), services=services)
    assert refused.value.codes == (ReasonCode.SECRET_UNAVAILABLE,)


@pytest.mark.parametrize("secrets", [(), (FILE,)])
def test_who_knows_a_secret_writes_no_core_file(here: House, secrets: tuple[SecretReference, ...]) -> None:
    """Nor may another process look into it (prctl(2), PR_SET_DUMPABLE)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with here.plan("true", secrets=secrets) as plan, start_machine(plan, here.host()):
            os.write(writing, f"{prctl.is_dumpable()} {resource.getrlimit(resource.RLIMIT_CORE)[1]}".encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        is_dumpable, limit = file.read().split()
    os.waitpid(child, 0)
    assert is_dumpable == str(not secrets)
    assert limit == "0" or not secrets
