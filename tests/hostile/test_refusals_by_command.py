"""The table of what must be refused, through the command: a representative of each class, and what stays behind."""

import shutil

import pytest

from mvmnix.audit.reading import last_records
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.model import Verb
from mvmnix.plan.plan import Accelerator
from mvmnix.provenance.bundle import envelope
from tests.conftest import World
from tests.hostile.refusal_rows import ROWS
from tests.hostile.rig import Move, Rig, flipped, replaced
from tests.unit.provenance.world import drop

pytestmark = pytest.mark.vm

BY_COMMAND: dict[str, tuple[Move, Code]] = {
    name: ROWS[name]
    for name in (
        "unsigned",
        "a stranger",
        "a stranger under the planner's name",
        "the builder plans",
        "a newline more",
        "expired",
        "not yet valid",
        "another rootfs in the plan",
        "a file less in the plan",
        "a command line with quotes",
        "a command line with 2,048 bytes",
    )
}


@pytest.mark.parametrize("row", BY_COMMAND)
def test_launch_refuses(rig: Rig, row: str) -> None:
    move, code = BY_COMMAND[row]
    move(rig)
    assert rig.launch() == {code}
    assert rig.launch("--detach") == {code}


def test_launch_logs_each_refusal(rig: Rig) -> None:
    for name in ("a stranger", "expired"):
        ROWS[name][0](rig)
        rig.launch()
    found = [it.record.reasons for it in last_records(rig.rooms.audit, rig.rooms.log_key, last=2)]
    assert found == [(Code.SIGNER_UNKNOWN,), (Code.PLAN_EXPIRED,)]


def test_launch_refuses_a_plan_of_another_policy(rig: Rig) -> None:
    with (rig.home.config / "trust.toml").open("a") as file:
        file.write("# one more line\n")
    assert rig.launch() == {Code.POLICY_MISMATCH}


def test_launch_refuses_under_an_older_policy(rig: Rig) -> None:
    """What was in force once, and was seen by the log, is not in force again."""
    file = rig.home.config / "trust.toml"
    good = file.read_bytes()
    replaced(file, good.replace(b"serial = 1 ", b"serial = 2 ", 1))
    assert rig.launch() == {Code.POLICY_MISMATCH}
    replaced(file, good)
    assert rig.launch() == {Code.POLICY_ROLLBACK}


def test_launch_refuses_what_is_revoked(rig: Rig) -> None:
    file = rig.home.config / "revocations.toml"
    for serial, (digest, code) in enumerate(
        (
            (Digest.of(rig.plan), Code.BUNDLE_REVOKED),
            (Digest.of(rig.provenance), Code.BUNDLE_REVOKED),
            (Digest.of(rig.manifest), Code.IMAGE_REVOKED),
        ),
        1,
    ):
        text = f'version = 1\nserial = {serial}\n[[digests]]\nsha256 = "{digest.hex}"\n'
        replaced(file, text.encode())
        assert rig.launch() == {code}
    file.unlink()
    assert rig.launch() == {Code.POLICY_ROLLBACK}


@pytest.mark.parametrize("row", ["another lock", "sources of another lock", "a stranger builds", "a build of tomorrow"])
def test_launch_refuses_what_its_library_keeps(rig: Rig, row: str) -> None:
    """The index, and all that it names, is replaced by whoever can write there; the builder's key is not theirs."""
    move, code = ROWS[row]
    move(rig)
    rig.install()
    assert rig.launch() == {code}
    assert rig.told("run", "./examples/hello", cwd=rig.world.tree) == {code}


@pytest.mark.root("hides /dev/kvm; in a user namespace in which a plain user may, mvm refuses to work")
def test_a_plan_that_demands_kvm(copied: World) -> None:
    """On a host where it can't work: the device is there and is none, and no verdict of this host is at hand."""
    with copied.owner_rights():
        rig = Rig(copied)
        with rig.rooms.roots, rig.rooms:
            rig.sign_plan(accelerator=Accelerator.KVM)
    hide = 'test ! -e /dev/kvm || mount --bind /dev/null /dev/kvm; exec "$0" "$@"'
    without = ("unshare", "--mount", "sh", "-c", hide)
    cache = {"XDG_CACHE_HOME": rig.home.path / "cache"}
    assert rig.launch(prefix=without, env=cache) == {Code.ACCELERATOR_UNAVAILABLE}


def test_a_plan_for_no_image(rig: Rig) -> None:
    rig.sign_plan(drop("subject", 3))
    assert rig.launch() == {Code.PLAN_MISMATCH}


def test_what_is_no_plan_is_not_signed(rig: Rig) -> None:
    good = envelope.parse_bundle(rig.plan).payload
    for payload, code in (
        (good.replace(b'"vcpus":1', b'"vcpus":0'), Code.PLAN_MALFORMED),
        (good.replace(b'"nonce"', b'"once"'), Code.PLAN_MALFORMED),
        (good[:-1], Code.STATEMENT_MALFORMED),
        (b"", Code.STATEMENT_MALFORMED),
        (envelope.parse_bundle(rig.provenance).payload, Code.PREDICATE_TYPE),
    ):
        (rig.home.path / "statement").write_bytes(payload)
        assert rig.told("plan", "sign", rig.home.path / "statement") == {code}


def test_verbs_are_for_dev_images(rig: Rig) -> None:
    with pytest.raises(ValueError, match="sealed"):
        rig.sign_plan(verbs=frozenset({Verb.EXEC}))


def test_verify_refuses_with_another_status(rig: Rig) -> None:
    """`mvm verify` says 1 for what it refuses."""
    copy = rig.home.path / "image"
    shutil.copytree(rig.world.hello, copy)
    assert rig.home.mvm("verify", copy).returncode == 0
    bundle = copy / "provenance.sigstore.json"
    bundle.chmod(0o600)
    bundle.write_bytes(rig.provenance)
    (rig.home.path / "plan").write_bytes(rig.plan)
    assert rig.home.mvm("verify", copy, "--plan", rig.home.path / "plan").returncode == 0
    for name, (move, code) in {n: ROWS[n] for n in ("a stranger", "expired", "another rootfs in the plan")}.items():
        move(rig)
        (rig.home.path / "plan").write_bytes(rig.plan)
        assert rig.told("verify", copy, "--plan", rig.home.path / "plan", status=1) == {code}, name
    for name, (move, code) in {n: ROWS[n] for n in ("a stranger builds", "no sources")}.items():
        move(rig)
        bundle.write_bytes(rig.provenance)
        assert rig.told("verify", copy, status=1) == {code}, name
    bundle.write_bytes(flipped(rig.provenance, 100))
    assert rig.home.mvm("verify", copy).returncode == 1
    bundle.unlink()
    assert rig.home.mvm("verify", copy).returncode == 2
