"""The options of `mvm run` and `mvm plan create` that podman has too: each gets into the plan, and nowhere else."""

from collections.abc import Callable

import pytest

from mvmnix.errors import ReasonCode
from mvmnix.launch.gate import signatures
from mvmnix.model import User, Workload
from mvmnix.plan import plan as plans
from mvmnix.plan.plan import Accelerator, Plan
from mvmnix.plan.share import Access, Share
from mvmnix.provenance.bundle import statement
from tests.unit.cli.machines import kinds, machines, workload
from tests.unit.cli.plans import drafted, signed
from tests.unit.cli.station import Station

IMAGE = workload("true") | {"environment": {"PATH": "/bin", "KEPT": "1"}}
VARIABLES = {"PATH": "/bin", "KEPT": "1"}


def by_create(station: Station, *options: str) -> Plan:
    """The plan that `mvm plan create` writes."""
    return drafted(station, *options, reference=station.flake(workload=IMAGE))


def by_run(station: Station, *options: str) -> Plan:
    """The plan that `mvm run` started a machine from."""
    said = station.mvm("run", *options, station.flake(workload=IMAGE))
    assert (said.code, said.out) == (0, ""), said.err
    (machine,) = machines(station)
    return plans.from_statement(statement.parse(signatures.payload((machine / "plan.sigstore.json").read_bytes())))


@pytest.mark.parametrize("planned", [by_create, by_run])
@pytest.mark.parametrize(
    ("options", "said", "expected"),
    [
        (("-c", "3"), lambda it: it.vcpus, 3),
        (("--vcpus=3",), lambda it: it.vcpus, 3),
        (("-m", "500"), lambda it: it.memory_mib, 500),
        (("-m500m",), lambda it: it.memory_mib, 500),
        (("--memory", "2G"), lambda it: it.memory_mib, 2048),
        (("--scratch=32",), lambda it: it.scratch_mib, 32),
        (("--timeout", "90"), lambda it: it.timeouts.wall_seconds, 90),
        (("--timeout", "1h30m"), lambda it: it.timeouts.wall_seconds, 5400),
        (("--idle", "10m"), lambda it: it.limits.idle_seconds, 600),
        (("--console-log", "2m"), lambda it: it.limits.console_kib, 2048),
        (("--data", "1g:/tmp/data"), lambda it: it.data and it.data.size_mib, 1024),
        (("--accelerator=tcg",), lambda it: it.accelerator, Accelerator.TCG),
        (("-e", "A=b=c", "--env", "B="), lambda it: it.workload.environment, {**VARIABLES, "A": "b=c", "B": ""}),
        (("-e", "KEPT=2"), lambda it: it.workload.environment, {**VARIABLES, "KEPT": "2"}),
        (("-w", "/work"), lambda it: it.workload.directory, "/work"),
        (("--workdir=/work",), lambda it: it.workload.directory, "/work"),
        (("-u", "7"), lambda it: it.workload.user, User(7, 7)),
        (("--user=7:8",), lambda it: it.workload.user, User(7, 8)),
        (("-l", "tier=web"), lambda it: it.labels, {"tier": "web"}),
        ((), lambda it: it.workload, Workload(("true",), VARIABLES, "/", User(1000, 1000))),
    ],
)
def test_an_option_is_in_the_plan(
    settled: Station,
    planned: Callable[..., Plan],
    options: tuple[str, ...],
    said: Callable[[Plan], object],
    expected: object,
) -> None:
    assert said(planned(settled, *options)) == expected


def test_snapshots_with_secrets_are_in_the_plan(settled: Station) -> None:
    flake = settled.flake(workload=IMAGE, verbs=["exec", "snapshot"])
    granted = ("--secret", "A=env:X", "--verb", "snapshot")
    assert not drafted(settled, *granted, reference=flake).snapshot_with_secrets
    assert drafted(settled, *granted, "--snapshot-with-secrets", reference=flake).snapshot_with_secrets


@pytest.mark.parametrize("option", [("-v",), ("--volume",), ("--share",)])
def test_a_volume_is_a_share(settled: Station, option: tuple[str, ...]) -> None:
    found = by_create(settled, *option, "/srv/in:/in", *option, "/srv/out:/out:rw").shares
    assert found == (Share("/srv/in", "/in"), Share("/srv/out", "/out", Access.READ_WRITE))


@pytest.mark.parametrize("command", [("run",), ("plan", "create")])
@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("-m", "95"), "is not a size from 96m to 1024g"),
        (("-m", "1025g"), "is not a size"),
        (("-m", "64k"), "is not a size"),
        (("--scratch", "1k"), "is not a size from 1m to 1024g"),
        (("--output-log", "2g"), "is not a size from 0k to 1g"),
        (("--data=1x:/tmp/data",), "not a size in whole MiB: '1x'\n  next: --data 1g:/tmp/data"),
        *(((f"--data={size}:/tmp/data",), "not a size in whole MiB") for size in ("", "-16", "٣٢", "16 ", "17k")),
        *(((f"--data={text}",), "not an absolute path") for text in ("16", "16:", "16:data")),
        (("--timeout", "1y"), "is not a span of time"),
        (("-m", "-1"), "is not a size"),
        (("-m", "٣٠٠"), "is not a size"),
        (("-c", "0"), "0 is not in the range"),
        (("--timeout", "9999999999"), "is not in the range"),
        (("-e", "HOME"), "the variable 'HOME' has no value"),
        (("-e", "=x"), "has no value"),
        (("-e", "a-b=x"), "'a-b' is not the name of a variable"),
        (("-w", "work"), "not an absolute path in the guest: 'work'"),
        (("-u", "root"), "not a numeric user: 'root'"),
        (("-u", "0"), "an unprivileged user, not as 0:0"),
        (("-u", "1000:0"), "an unprivileged user, not as 1000:0"),
        (("-u", "4294967295"), "an unprivileged user"),
        (("-u", ""), "not a numeric user"),
        (("-l", "Tier=web"), "'Tier' is not a label's name"),
        (("-v", "/srv/x"), "not a share"),
        (("-v", "/srv:/data:rw,ro"), "both ro and rw"),
        (("-v", "/srv:/data:z"), "is none of ro, rw, follow"),
        (("-v", "/srv:/data:rw,rw"), "is listed twice"),
        (("--data=33:/tmp/data",), "a multiple of 16"),
        (("--data=/tmp/data",), "not a size in whole MiB: '/tmp/data'"),
        (("--data=32:/tmp/data", "--backend=container"), "there is no data disk in this version"),
        (("--data=32:/tmp/data", "--share=/srv:/tmp"), "over one another"),
        (("--system-calls=namespaces",), "lets through more than the image's filter"),
        (("--secret", "A=env:X", "--secret", "A=env:Y"), "are listed twice: A"),
        (("--snapshot-with-secrets",), "for a plan that names secrets and grants the verb snapshot"),
    ],
)
def test_what_can_not_be_meant(settled: Station, command: tuple[str, ...], options: tuple[str, ...], why: str) -> None:
    said = settled.mvm(*command, *options, settled.flake(workload=IMAGE))
    assert (said.code, said.out, why in said.err) == (2, "", True), said.err
    assert not machines(settled)
    assert kinds(settled) == []


@pytest.mark.parametrize("command", [("run",), ("plan", "create")])
@pytest.mark.parametrize("options", [("-e", "A=\udcff"), ("-w", "/\udcff"), ("-e", "A=" + "x " * 40_000)])
def test_what_no_plan_can_hold(settled: Station, command: tuple[str, ...], options: tuple[str, ...]) -> None:
    said = settled.mvm(*command, *options, settled.flake(workload=IMAGE))
    assert said.code == 126
    assert f"[{ReasonCode.PLAN_MALFORMED}]" in said.err
    assert not machines(settled)


def test_a_variable_reaches_the_command(settled: Station) -> None:
    said = settled.mvm("run", "-e", "GREETING=hello there", settled.flake(), "--", "printenv", "GREETING")
    assert (said.code, said.out) == (0, "hello there")


def test_a_variable_is_not_both_said_and_secret(settled: Station) -> None:
    said = settled.mvm("run", "-e", "DB=x", "--secret-env", "DB=env:HOME", settled.flake(), "--", "true")
    assert said.code == 2
    assert "DB" in said.err
    assert not machines(settled)


def test_a_detached_run_goes_on_without_its_caller(settled: Station) -> None:
    settled.monkeypatch.setattr("mvmnix.launch.runtime.supervisor.GRACE", 0.1)
    said = settled.mvm("run", "-d", "--name", "web", "-l", "tier=web", settled.flake(), "--", "linger")
    assert said.code == 0, said.err
    machine = said.out.removesuffix("\n")
    (listed,) = settled.mvm("ps", "--json").answer("machines")
    assert (listed["id"], listed["name"], listed["state"], listed["labels"]) == (
        machine,
        "web",
        "running",
        {"tier": "web"},
    )
    assert (listed["exitCode"], listed["ended"]) == (None, "")
    assert settled.mvm("stop", "web").out == f"{machine}\n"


def test_a_detached_command_s_output_is_kept(settled: Station) -> None:
    machine = settled.mvm("run", "--detach", settled.flake(), "--", "echo", "some words").out.removesuffix("\n")
    assert settled.mvm("wait", machine).out == "0\n"
    assert settled.mvm("logs", "--stdout", machine).out == "some words\n"


def test_a_detached_run_that_does_not_start_says_so(settled: Station) -> None:
    said = settled.mvm("run", "-d", "--secret", "a=env:CONFIDED_NOT_SET", settled.flake(), "--", "true")
    assert (said.code, said.out) == (126, "")
    assert f"[{ReasonCode.SECRET_UNAVAILABLE}]" in said.err


def test_a_detached_run_has_no_evidence_of_an_end(settled: Station) -> None:
    said = settled.mvm("run", "-d", "--evidence", settled.flake(), "--", "linger")
    assert (said.code, "mvm show MACHINE" in said.err) == (2, True)
    assert not machines(settled)


@pytest.mark.parametrize(
    "typed",
    [
        ("launch", "-m", "512", "PLAN"),
        ("launch", "-dv", "/srv:/data", "PLAN"),
        ("launch", "--env", "A=b", "PLAN"),
        ("launch", "--verb", "exec", "PLAN"),
        ("create", "-l", "tier=web", "PLAN"),
        ("start", "--user=7", "web"),
        ("exec", "-v", "/srv:/data", "web", "true"),
        ("launch", "--allow", "https://a.example", "PLAN"),
        ("launch", "-p", "8080:80", "PLAN"),
        ("shell", "--memory", "512", "web"),
    ],
)
def test_what_a_plan_decides_is_no_option_of_what_takes_a_plan(settled: Station, typed: tuple[str, ...]) -> None:
    bundle = signed(settled)
    said = settled.mvm(*(str(bundle) if word == "PLAN" else word for word in typed))
    assert (said.code, said.out) == (2, "")
    option = next(word for word in typed if word.startswith("-")).partition("=")[0].replace("-dv", "-v")
    assert f"mvm {typed[0]} has no option {option}" in said.err
    assert f"`mvm plan create {option} … FLAKE` and `mvm plan sign`, or `mvm run {option} … FLAKE`" in said.err
    assert not machines(settled)


@pytest.mark.parametrize("command", [("run", "."), ("plan", "create", "."), ("launch", "x"), ("exec",)])
@pytest.mark.parametrize(
    ("option", "instead"),
    [
        ("--publish-all", "a plan names what its guest reaches"),
        ("--network", "a plan names what its guest reaches"),
        ("--cpus", "--vcpus"),
        ("--entrypoint", "a command behind --"),
        ("--privileged", "never root"),
        ("--terminal", "--raw"),
    ],
)
def test_what_podman_has_and_mvm_has_not(station: Station, command: tuple[str, ...], option: str, instead: str) -> None:
    said = station.mvm(*command, option)
    assert (said.code, said.out) == (2, "")
    assert f"mvm {' '.join(command[:-1] or command)} has no option {option}" in said.err
    assert instead in said.err


def test_another_option_that_is_none_is_just_that(settled: Station) -> None:
    said = settled.mvm("launch", "--nonsense", "plan.json")
    assert (said.code, "No such option '--nonsense'" in said.err) == (2, True)
