"""`mvm run`, from a kept build to the guest's exit code; the guest is a process here, everything else is real."""

import base64
import json
import os
import resource
from pathlib import Path
from typing import override

import pytest

from mvmnix.api.frontend import Silent
from mvmnix.errors import ReasonCode
from mvmnix.model import FlakeRef
from tests.fakes import Repository
from tests.leaks import in_files
from tests.unit.cli.machines import kinds, machines, workload
from tests.unit.cli.station import Station
from tests.unit.launch.fake_hypervisor import Scenario


@pytest.mark.parametrize(
    ("command", "code"), [(("true",), 0), (("false",), 1), (("complain", "loudly"), 3), (("no-such-program",), 127)]
)
def test_it_exits_as_the_guest_did(settled: Station, command: tuple[str, ...], code: int) -> None:
    said = settled.mvm("run", settled.flake(), "--", *command)
    assert said.code == code
    assert ("loudly" in said.err) == (command[0] == "complain")
    assert ("command not found in the guest: no-such-program\n" in said.err) == (code == 127)
    assert kinds(settled) == ["admission", "start", "end"]
    assert len(list(machines(settled)[0].glob("receipt*"))) == 1


def test_a_command_that_the_guest_ends_for_want_of_memory(settled: Station) -> None:
    said = settled.mvm("run", "--name", "hungry", settled.flake(), "--", "devour")
    assert said.code == 137
    why = "the command 'devour' was ended by SIGKILL; a plan gives it more: --memory"
    assert f"mvm: out of memory in the guest: {why}\n" in said.err
    (machine,) = settled.mvm("ps", "--all", "--json").answer("machines")
    assert (machine["ended"], machine["exitCode"]) == ("out-of-memory", 137)
    (path,) = machines(settled)[0].glob("receipt*")
    (receipt,) = (json.loads(base64.b64decode(json.loads(path.read_bytes())["dsseEnvelope"]["payload"])),)
    reported = {"end": "signaled", "step": "none", "code": 9, "outOfMemory": True}
    assert receipt["predicate"]["reportedByGuest"] == reported


def test_output_is_the_guest_s_and_prose_is_not_in_it(settled: Station) -> None:
    said = settled.mvm("run", settled.flake(), "--", "echo", "-n", "$HOME", "a b", "\x1b[31m")
    assert (said.code, said.out) == (0, "-n $HOME a b \x1b[31m\n")
    assert "accelerator" in said.err


def test_without_a_command_the_image_s_own_runs(settled: Station) -> None:
    said = settled.mvm("run", settled.flake(workload=workload("echo", "planned")))
    assert (said.code, said.out) == (0, "planned\n")


def test_options_of_the_command_are_not_ours(settled: Station) -> None:
    assert settled.mvm("run", settled.flake(), "--", "echo", "--name", "--help").out == "--name --help\n"


def test_the_chain_of_evidence(settled: Station) -> None:
    said = settled.mvm("run", "--evidence", "--name", "web", settled.flake(), "--", "true")
    assert said.out == ""
    for link in ("flake", "lock", "sources", "derivation", "kernel", "verity root", "provenance", "plan", "receipt"):
        assert f"│ {link} " in said.err
    assert "SLSA Build L1" in said.err


def test_a_name_is_checked(settled: Station) -> None:
    said = settled.mvm("run", "--name", "../x", settled.flake(), "--", "true")
    assert said.code == 2
    assert not machines(settled)


@pytest.mark.parametrize(
    ("scenario", "code"), [(Scenario.PANICS, 125), (Scenario.ABORTS, 125), (Scenario.BABBLES, 125)]
)
def test_a_guest_that_does_not_boot_is_our_failure(settled: Station, scenario: Scenario, code: int) -> None:
    reference = settled.flake()
    settled.hypervisor(scenario)
    said = settled.mvm("run", reference, "--", "true")
    assert said.code == code
    assert "next:" in said.err
    assert kinds(settled) == ["admission", "start", "end"]


def test_a_place_where_nothing_can_be_mounted_has_a_name(settled: Station) -> None:
    reference = settled.flake()
    settled.hypervisor(Scenario.BLOCKED)
    said = settled.mvm("run", reference, "--", "true")
    assert said.code == 125
    failure = said.err[said.err.index(f"the machine {machines(settled)[0].name} ended") :].splitlines()
    assert failure[0].partition(" ended: ")[2] == (
        "mount-point-unusable (the guest could not set itself up: /etc/passwd is a file of the image)"
    )
    assert failure[1] == "  next: name another place in the guest: --share SRC:DST, --data SIZE:PATH", (
        "no kernel's lines"
    )


@pytest.mark.parametrize("room", ["images", "bundles"])
def test_changed_bytes_are_refused_before_anything_starts(settled: Station, room: str) -> None:
    reference = settled.flake()
    for path in (settled.state / room).iterdir():
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    said = settled.mvm("run", reference, "--", "true")
    assert said.code == 126
    assert "refused [" in said.err
    assert not machines(settled)
    assert kinds(settled) == ["refusal"]


def test_a_dirty_tree_and_a_flake_that_is_none(settled: Station, tmp_path: Path) -> None:
    said = settled.mvm("run", f"path:{tmp_path}", "--", "true")
    assert said.code == 126
    assert f"refused [{ReasonCode.FLAKE_UNSUPPORTED}]" in said.err
    assert settled.mvm("run", str(tmp_path / "absent")).code == 2
    assert settled.mvm("run", "github:NixOS/nixpkgs").code == 2
    assert settled.mvm("run", f"{tmp_path}#a b").code == 2


def test_changes_elsewhere_in_the_repository_are_a_notice(settled: Station, tmp_path: Path) -> None:
    repository = Repository.make(tmp_path / "repo", {"guest/flake.nix": "{ }", "a": "a"})
    where = repository.path / "guest"
    settled.built(FlakeRef(str(where)), "hello")
    for name in ("a", "b\x1b[31m\nmvm: c"):
        repository.write(name, "changed")
    repository.git("add", "-A")
    said = settled.mvm("run", str(where), "--", "true")
    assert said.code == 0
    commit = repository.git("rev-parse", "HEAD")[:12]
    (notice,) = (line for line in said.err.splitlines() if "elsewhere" in line)
    assert notice == f"mvm: commit {commit} is taken, without changes elsewhere: a, b\\u001b[31m\\nmvm: c"
    repository.write("guest/flake.nix", "changed")
    said = settled.mvm("run", str(where), "--", "true")
    assert said.code == 126
    assert f"refused [{ReasonCode.FLAKE_DIRTY}]" in said.err


def test_a_policy_in_the_working_directory(settled: Station) -> None:
    reference = settled.flake()
    settled.monkeypatch.chdir(settled.config)
    said = settled.mvm("run", reference, "--", "true")
    assert said.code == 126
    assert f"refused [{ReasonCode.POLICY_LOCATION}]" in said.err


@pytest.mark.parametrize(
    ("variable", "code"),
    [
        ("XDG_CONFIG_HOME", ReasonCode.POLICY_LOCATION),
        ("XDG_STATE_HOME", ReasonCode.STATE_LOCATION),
        ("XDG_CACHE_HOME", ReasonCode.STATE_LOCATION),
        ("HOME", ReasonCode.STATE_LOCATION),
    ],
)
@pytest.mark.parametrize("stand", ["in the checkout", "elsewhere, and name it"])
def test_a_checkout_brings_neither_policy_nor_state(
    station: Station, variable: str, code: ReasonCode, stand: str
) -> None:
    """As direnv would have it: the checkout's own keys and a policy that trusts them, which would pass."""
    checkout = station.path / "checkout"
    checkout.mkdir()
    (checkout / "flake.nix").write_text("{}")
    station.monkeypatch.setenv(variable, str(checkout))
    if stand == "in the checkout":
        station.monkeypatch.chdir(checkout)
    said = station.mvm("run", f"path:{checkout}", "--", "true")
    assert (said.code, said.out) == (126, "")
    assert f"refused [{code}]" in said.err
    assert [it.name for it in checkout.iterdir()] == ["flake.nix"], "nothing was made there"


class Told(Silent):
    """A frontend that keeps its notices."""

    def __init__(self, notices: list[str]) -> None:
        self.notices = notices

    @override
    def notice(self, text: str) -> None:
        self.notices.append(text)


def test_first_use_makes_keys_and_a_policy_and_says_what_they_are_worth(station: Station) -> None:
    (station.path / "flake.nix").write_text("{}")
    said = station.mvm("run", f"path:{station.path}/none")
    assert said.code == 2
    assert not station.config.exists(), "a mistyped name makes nothing"
    told: list[str] = []
    with station.rooms(Told(told)) as rooms:
        rooms.initialize()
        rooms.initialize()
    (once,) = told
    for word in ("builder", "planner", "host", str(station.config / "keys"), "trust.toml", "SLSA Build L1"):
        assert word in once
    assert sorted(os.listdir(station.config / "keys")) == ["builder.pem", "host.pem", "planner.pem"]  # noqa: PTH208
    for path in [*(station.config / "keys").iterdir(), station.config / "trust.toml"]:
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "command",
    [
        ("build", "path:FLAKE"),
        ("plan", "create", "path:FLAKE"),
        ("ps",),
        ("doctor",),
        ("logs", "x"),
        ("audit", "verify"),
        ("key", "show", "host"),
        ("verify", "FLAKE"),
    ],
)
def test_no_other_command_makes_keys_or_a_policy(station: Station, command: tuple[str, ...]) -> None:
    (station.path / "flake").mkdir()
    (station.path / "flake/flake.nix").write_text("{}")
    station.mvm(*(word.replace("FLAKE", str(station.path / "flake")) for word in command))
    assert not list(station.config.glob("keys/*"))
    assert not (station.config / "trust.toml").exists()


def test_the_log_of_a_command_that_had_nothing_to_say_is_removed(settled: Station) -> None:
    assert settled.mvm("run", settled.flake(), "--", "true").code == 0
    assert settled.mvm("run", f"path:{settled.path}", "--", "true").code == 126
    assert not list((settled.state / "logs").iterdir())


def test_a_command_leaves_no_descriptor_open(settled: Station) -> None:
    reference = settled.flake()
    settled.mvm("run", reference, "--", "true")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        settled.mvm("run", reference, "--", "true")
        settled.mvm("ps", "--all")
        settled.mvm("audit", "verify")
        settled.mvm("doctor")
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_with_many_open_files(settled: Station) -> None:
    """Descriptors above 1,023, which select(2) does not know, are no reason to fail."""
    reference = settled.flake()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    taken = [os.dup(2) for _ in range(1100)]
    try:
        assert settled.mvm("run", reference, "--", "echo", "works").out == "works\n"
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_credential_on_the_command_line_is_refused_before_anything_is_built(settled: Station) -> None:
    """The flake isn't even looked at; the log has the code, and nothing has the credential."""
    empty = settled.path / "flakes/none"
    empty.mkdir(parents=True)
    said = settled.mvm("run", f"path:{empty}", "--", "deploy", "--password", "hunter2")
    assert said.code == 126
    assert f"[{ReasonCode.PLAINTEXT_CREDENTIAL}]" in said.err
    assert "argument 2 of the command" in said.err
    assert "--secret PASSWORD=env:PASSWORD" in said.err
    assert kinds(settled) == ["refusal"]
    written = [path.read_bytes() for path in settled.home.rglob("*") if path.is_file()]
    assert not [data for data in (said.err.encode(), *written) if b"hunter2" in data]


@pytest.mark.parametrize(
    ("what", "given"),
    [
        *(("label", it) for it in ("password=hunter2", "db-token=hunter2token", "note=ghp_" + "hunter2aB" * 4)),
        *(("variable", it) for it in ("DB_PASSWORD=hunter2", "NOTE=ghp_" + "hunter2aB" * 4)),
    ],
)
@pytest.mark.parametrize("command", [("run",), ("plan", "create")])
def test_a_credential_in_an_option_is_refused_before_anything_is_built(
    settled: Station, what: str, given: str, command: tuple[str, ...]
) -> None:
    empty = settled.path / "flakes/none"
    empty.mkdir(parents=True)
    option = {"label": "--label", "variable": "-e"}[what]
    said = settled.mvm(*command, option, given, f"path:{empty}", "--", "serve")
    assert (said.code, said.out) == (126, "")
    assert f"[{ReasonCode.PLAINTEXT_CREDENTIAL}]" in said.err
    assert f"the value of the {what} {given.partition('=')[0]}" in said.err
    assert kinds(settled) == ["refusal"]
    written = [path.read_bytes() for path in settled.home.rglob("*") if path.is_file()]
    assert not [data for data in (said.err.encode(), *written) if b"hunter2" in data]


@pytest.mark.parametrize("command", [("run",), ("plan", "create")])
def test_a_credential_in_what_is_added_to_a_plan_is_refused(settled: Station, command: tuple[str, ...]) -> None:
    """The data disk's place, which is put into the plan last."""
    said = settled.mvm(*command, "--data", "32:/tmp/ghp_" + "hunter2aB" * 4, settled.flake(), "--", "true")
    assert (said.code, said.out) == (126, "")
    assert f"[{ReasonCode.PLAINTEXT_CREDENTIAL}]" in said.err
    assert "the field data.path" in said.err
    assert "hunter2" not in said.err


def test_a_credential_in_the_image_s_own_environment_is_refused(settled: Station) -> None:
    planned = workload("echo", "planned") | {"environment": {"DB_PASSWORD": "hunter2"}}
    reference = settled.flake(workload=planned)
    for command in (("run", reference), ("plan", "create", reference)):
        said = settled.mvm(*command)
        assert (said.code, said.out) == (126, "")
        assert "the value of the variable DB_PASSWORD" in said.err
        assert "hunter2" not in said.err
    assert not machines(settled)


def test_secrets_reach_the_guest_and_nobody_else(settled: Station) -> None:
    settled.monkeypatch.setenv("CONFIDED", "hush-hunter2-confided")
    reference = settled.flake()
    said = settled.mvm("run", "--secret", "a=env:CONFIDED", reference, "--", "reveal", "a")
    assert (said.code, said.out) == (0, "hush-hunter2-confided")
    said = settled.mvm("run", "--secret-env", "TOKEN=env:CONFIDED", reference, "--", "printenv", "TOKEN")
    assert (said.code, said.out) == (0, "hush-hunter2-confided")
    assert list(in_files({"it": b"hush-hunter2-confided"}, [settled.home], since=0)) == []


@pytest.mark.parametrize("typed", ["DB=hunter2", "hunter2", "DB=vault:hunter2"])
def test_a_plaintext_secret_is_no_reference(settled: Station, typed: str) -> None:
    for option in ("--secret", "--secret-env"):
        said = settled.mvm("run", option, typed, settled.flake(f"f{option}"), "--", "true")
        assert (said.code, said.out) == (2, "")
        assert "--secret DB_PASSWORD=env:DB_PASSWORD" in said.err
        assert "hunter2" not in said.err


def test_a_secret_that_is_not_there_is_refused(settled: Station) -> None:
    said = settled.mvm("run", "--secret", "a=env:CONFIDED_NOT_SET", settled.flake(), "--", "true")
    assert said.code == 126
    assert f"[{ReasonCode.SECRET_UNAVAILABLE}]" in said.err
    assert kinds(settled) == ["admission", "refusal"]
    assert not machines(settled)


def test_a_relative_file_is_meant_from_here(settled: Station) -> None:
    (settled.path / "secret").touch(mode=0o600)
    (settled.path / "secret").write_text("hush-hunter2-confided")
    settled.monkeypatch.chdir(settled.path)
    said = settled.mvm("run", "--secret", "a=file:secret", settled.flake(), "--", "reveal", "a")
    assert (said.code, said.out) == (0, "hush-hunter2-confided")
