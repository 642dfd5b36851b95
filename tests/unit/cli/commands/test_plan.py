"""`mvm plan`: made, signed, shown; what is no plan is not signed, and what is not admitted is said so."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.errors import ReasonCode
from mvmnix.keys import PrivateKey
from mvmnix.model import SystemCalls, Verb
from mvmnix.plan import plan as plans
from mvmnix.plan.data_disk import DataDisk
from mvmnix.plan.limits import NO_LIMITS, PlanLimits
from mvmnix.plan.plan import Accelerator
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.isolation import Boundary
from tests.unit.cli.plans import drafted, read_plan, signed
from tests.unit.cli.station import Station


def test_a_plan_says_what_the_image_says(settled: Station) -> None:
    made = drafted(settled)
    assert (made.image, made.vcpus, made.memory_mib, made.scratch_mib) == ("hello", 1, 128, 16)
    assert made.workload.argv == ("/bin/hello", "world")
    assert made.accelerator is Accelerator.ANY
    assert made.verbs == frozenset(), "none is granted unless somebody says so"
    unasked = (made.limits, made.data, made.network, made.shares)
    assert unasked == (NO_LIMITS, None, None, ()), "nor is anything else in a plan unasked"
    assert (made.window.not_after - made.window.not_before).total_seconds() == 24 * 3600


def test_every_option_changes_its_part(settled: Station) -> None:
    options = ("--vcpus=3", "--memory=500", "--scratch=7", "--timeout=9", "--accelerator=tcg", "--valid-for=2")
    made = drafted(settled, *options, "--", "true", "--vcpus=9")
    assert (made.vcpus, made.memory_mib, made.scratch_mib, made.timeouts.wall_seconds) == (3, 500, 7, 9)
    assert made.accelerator is Accelerator.TCG
    assert made.workload.argv == ("true", "--vcpus=9")
    assert (made.window.not_after - made.window.not_before).total_seconds() == 2 * 3600


def test_limits_are_what_was_asked_for(settled: Station) -> None:
    options = ("--tasks=9", "--cpu-percent=50", "--cpu-weight=7", "--console-log=1", "--output-log=2", "--idle=3")
    made = drafted(settled, *options, "--system-calls=strict")
    assert made.limits == PlanLimits(9, 50, 7, 1, 2, 3, system_calls=SystemCalls.STRICT)


def test_a_data_disk_is_what_was_asked_for(settled: Station) -> None:
    assert drafted(settled, "--data=32:/tmp/data").data == DataDisk(32, "/tmp/data")


def test_a_plan_with_a_data_disk_is_shown_with_it(settled: Station) -> None:
    said = settled.mvm("plan", "show", signed(settled, "--data=32:/tmp/data")).err
    assert "data disk of 32 MiB: the guest reads and writes it as /tmp/data, until it ends" in said


def test_an_image_may_have_namespaces_and_a_plan_take_them(settled: Station) -> None:
    made = drafted(settled, "--system-calls=default", reference=settled.flake(systemCalls="namespaces"))
    assert made.limits.system_calls is SystemCalls.DEFAULT


def test_a_sealed_image_grants_nothing(settled: Station) -> None:
    assert drafted(settled, reference=settled.flake(posture="sealed", verbs=[])).verbs == frozenset()


def test_verbs_are_granted_one_by_one(settled: Station) -> None:
    made = drafted(settled, "--verb", "exec", reference=settled.flake(verbs=["exec", "stream"]))
    assert made.verbs == {Verb.EXEC}
    assert not made.ports


def test_an_image_without_a_command_needs_one(settled: Station) -> None:
    flake = settled.flake(workload={"command": [], "environment": {}, "directory": "/", "user": {"uid": 1, "gid": 1}})
    said = settled.mvm("plan", "create", flake)
    assert (said.code, "name a command after --" in said.err) == (2, True)
    assert settled.mvm("plan", "create", flake, "--", "true").code == 0
    assert settled.mvm("plan", "create", "--verb", "exec", flake).code == 0


def test_two_plans_are_never_the_same(settled: Station) -> None:
    reference = settled.flake()
    one, two = (settled.mvm("plan", "create", reference).out for _ in range(2))
    assert json.loads(one) != json.loads(two)


def test_create_sign_show_launch(settled: Station) -> None:
    plan, bundle = settled.path / "plan.json", signed(settled, command=("echo", "from a plan"))
    shown = settled.mvm("plan", "show", bundle)
    assert shown.code == 0
    held = f"isolation: {Boundary.HARDWARE.explained}; where KVM doesn't work: {Boundary.SANDBOX.explained}"
    assert shown.err == f"signed by planner, a planner of the trust policy\n{held}\n"
    assert json.loads(shown.out) == json.loads(plan.read_bytes())
    launched = settled.mvm("launch", bundle)
    assert (launched.code, launched.out) == (0, "from a plan\n")
    again = settled.mvm("launch", "--name", "again", bundle)
    assert again.code == 0, "a plan holds for as long as it says"


def test_what_is_signed_is_the_plan_and_not_the_bytes(settled: Station) -> None:
    """Another formatting of the same plan makes canonical bytes, so that the launch takes it."""
    drafted(settled, "--", "true")
    plan, bundle = settled.path / "plan.json", settled.path / "plan.sigstore.json"
    canonical = plan.read_bytes()
    plan.write_text(json.dumps(json.loads(canonical), indent=4))
    settled.mvm("plan", "sign", "-o", bundle, plan)
    assert envelope.parse_bundle(bundle.read_bytes()).payload == canonical
    assert settled.mvm("launch", bundle).code == 0


@pytest.mark.parametrize("indent", [None, 2])
def test_an_unsigned_plan_is_told_apart(settled: Station, indent: int | None) -> None:
    drafted(settled)
    path = settled.path / "plan.json"
    if indent:
        path.write_text(json.dumps(json.loads(path.read_bytes()), indent=indent))
    for command, code in (("launch", 126), ("show", 1), ("policy check", 1)):
        said = settled.mvm(*command.split(), path)
        words = said.out + said.err
        assert said.code == code, words
        assert words.count("this plan isn't signed") == 1
        assert "mvm plan sign FILE" in words or command == "show"
        assert "[unsigned]" in words
        assert "mediaType" not in words


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"hello", b"\xff"])
def test_that_a_file_is_no_plan_is_said_in_one_line(settled: Station, data: bytes) -> None:
    path = settled.path / "plan.json"
    path.write_bytes(data)
    said = settled.mvm("plan", "sign", path)
    assert (said.code, said.out) == (126, "")
    assert [line for line in said.err.splitlines() if "why:" in line] == [
        "  why:  this is not a plan: neither a statement of `mvm plan create` nor a bundle of `mvm plan sign`"
    ]


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"_type": "https://in-toto.io/Statement/v1"}'])
def test_what_is_no_plan_is_not_signed(settled: Station, data: bytes) -> None:
    path = settled.path / "plan.json"
    path.write_bytes(data)
    said = settled.mvm("plan", "sign", path)
    assert (said.code, said.out) == (126, "")


def test_a_provenance_is_no_plan(settled: Station) -> None:
    settled.flake()
    (bundle, *_) = (settled.state / "bundles").iterdir()
    path = settled.path / "statement.json"
    path.write_bytes(envelope.parse_bundle(bundle.read_bytes()).payload)
    said = settled.mvm("plan", "sign", path)
    assert said.code == 126
    assert "refused [predicate-type]" in said.err


def test_a_stranger_s_plan_is_shown_as_such_and_not_launched(settled: Station) -> None:
    plan, bundle = drafted(settled), settled.path / "plan.sigstore.json"
    evil = replace(plan, workload=replace(plan.workload, argv=("\x1b[2J\u202e",)))
    bundle.write_bytes(envelope.sign(plans.plan_statement(evil).to_bytes(), PrivateKey.generate()).to_bytes())
    shown = settled.mvm("plan", "show", bundle)
    assert shown.code == 1
    assert "NOT ADMITTED [signer-unknown]" in shown.err
    assert shown.out.isascii()
    assert "\x1b" not in shown.out
    launched = settled.mvm("launch", bundle)
    assert launched.code == 126
    assert "refused [signer-unknown]" in launched.err
    assert not list((settled.state / "machines").glob("*/receipt*"))


def test_what_is_no_bundle(settled: Station) -> None:
    path = settled.path / "x"
    path.write_bytes(b"{}")
    for command in (("plan", "show"), ("launch",)):
        said = settled.mvm(*command, path)
        assert said.code == 126
        assert "refused [bundle-malformed]" in said.err


def test_no_bundle_says_itself_that_it_is_admitted(settled: Station) -> None:
    path, admitted = settled.path / "x", "signed by planner, a planner of the trust policy"
    bundle = json.loads(envelope.sign(b"{}", PrivateKey.generate()).to_bytes())
    path.write_text(json.dumps(bundle | {f"x\n{admitted}\n": 1}))
    said = settled.mvm("plan", "show", path)
    assert said.code == 126
    assert admitted in said.err
    assert admitted not in said.err.splitlines()


def test_an_image_that_is_not_kept(settled: Station) -> None:
    bundle = signed(settled)
    for entry in (settled.state / "builds").iterdir():
        entry.unlink()
    said = settled.mvm("launch", bundle)
    assert said.code == 125
    for way in ("mvm build", "mvm image load ARCHIVE", "--image DIRECTORY"):
        assert way in said.err


def test_from_a_pipe_and_to_one(settled: Station) -> None:
    made = settled.mvm("plan", "create", settled.flake())
    path = settled.path / "plan.json"
    path.write_text(made.out)
    said = settled.mvm("plan", "sign", path)
    assert said.err == ""
    assert envelope.parse_bundle(said.out.encode()).payload == made.out.encode()


def test_a_bundle_in_another_formatting_is_shown_and_not_admitted(settled: Station) -> None:
    plan, bundle = settled.path / "plan.json", signed(settled)
    bundle.write_text(json.dumps(json.loads(bundle.read_bytes()), indent=2))
    shown = settled.mvm("plan", "show", bundle)
    assert shown.code == 1
    assert json.loads(shown.out) == json.loads(plan.read_bytes())
    assert "NOT ADMITTED [bundle-not-canonical]" in shown.err


def test_a_credential_never_gets_into_a_plan(settled: Station) -> None:
    out = settled.path / "plan.json"
    said = settled.mvm("plan", "create", "-o", out, settled.flake(), "--", "env", "API_TOKEN=abcdef123", "serve")
    assert said.code == 126
    assert f"[{ReasonCode.PLAINTEXT_CREDENTIAL}]" in said.err
    assert "abcdef123" not in said.err
    assert not out.exists()


def test_secrets_stand_in_a_plan_by_reference_and_are_shown_as_visible_to_the_guest(settled: Station) -> None:
    options = ("--secret", "db.pem=keyring:my/service/me", "--secret-env", "TOKEN=command:/usr/bin/pass 'my token'")
    bundle = signed(settled, *options)
    secrets = read_plan(settled.path / "plan.json").secrets
    assert [str(it) for it in secrets] == ["keyring:my/service/me", "command:/usr/bin/pass 'my token'"]
    said = settled.mvm("plan", "show", bundle)
    assert "guest-visible secret db.pem: from keyring:my/service/me, as /run/secrets/db.pem" in said.err
    assert "guest-visible secret TOKEN: from command:/usr/bin/pass 'my token', as the variable TOKEN" in said.err
    assert json.loads(said.out)["predicate"]["secrets"][0]["from"] == "keyring"


def test_a_plan_that_somebody_put_a_credential_into_is_not_signed(settled: Station) -> None:
    plan = settled.path / "plan.json"
    made = drafted(settled)
    work = replace(made.workload, environment={"DB_PASSWORD": "hunter2"})
    for changed in (replace(made, workload=work), replace(made, labels={"password": "hunter2"})):
        plan.write_bytes(plans.plan_statement(changed).to_bytes())
        said = settled.mvm("plan", "sign", plan)
        assert (said.code, said.out) == (126, "")
        assert f"[{ReasonCode.PLAINTEXT_CREDENTIAL}]" in said.err
        assert "hunter2" not in said.err


def test_what_is_replaced_is_named(settled: Station) -> None:
    plan, bundle = settled.path / "plan.json", settled.path / "plan.sigstore.json"
    flake = settled.flake()
    assert settled.mvm("plan", "create", "--out", plan, flake, "--", "true").err == ""
    said = settled.mvm("plan", "create", "--out", plan, flake, "--", "false")
    assert (said.code, said.err) == (0, f"mvm: replaced {plan}, which held something else\n")
    assert settled.mvm("plan", "sign", "--out", bundle, plan).err == ""
    said = settled.mvm("plan", "create", "--out", bundle, flake, "--", "true")
    assert f"replaced {bundle}" in said.err
    said = settled.mvm("plan", "create", "--out", settled.path / "nowhere/plan.json", flake)
    assert (said.code, "plan.json can't be written: No such file or directory" in said.err) == (2, True)


def test_a_link_of_a_checkout_in_place_of_an_output_is_refused(
    settled: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`plan.json -> ../.bashrc` in a repository, and the next shell would run text that its flake chose."""
    (tmp_path / ".bashrc").write_text("mine")
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")
    Path("plan.json").symlink_to("../.bashrc")
    Path("sub").symlink_to("..")
    flake = settled.flake()
    for out in ("plan.json", "sub/.bashrc"):
        said = settled.mvm("plan", "create", "--out", out, flake, "--", "true")
        assert (tmp_path / ".bashrc").read_text() == "mine"
        assert (said.code, "is a symbolic link, which mvm doesn't follow" in said.err) == (2, True)
