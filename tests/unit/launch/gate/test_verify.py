"""Each step of a plan's verification refuses what only it refuses, and refuses nothing when it is taken out."""

import copy
import fcntl
import json
import os
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.launch.gate import checks, verify
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.model import Posture, SystemCalls, User, Verb, Workload
from mvmnix.plan.backend import Backend
from mvmnix.plan.limits import PlanLimits
from mvmnix.plan.network import Network, parse_rules
from mvmnix.plan.network_endpoints import UpstreamProxy
from mvmnix.plan.plan import Accelerator, Use, Window
from mvmnix.provenance.isolation import Isolation
from mvmnix.provenance.verify import authentication as authenticator
from mvmnix.system import store
from mvmnix.vmm.boot_files import OpenFiles
from tests.policies import effective
from tests.support.rows import Row
from tests.unit.launch.gate.rows import Change, both, bundle, check, descriptors, label, policy, refusal
from tests.unit.launch.taken_out import take_out
from tests.unit.provenance import world as worlds
from tests.unit.provenance.world import BUILDER, NOW, PLANNER, STRANGER, World, drop, put


def test_evidence(world: World, tmp_path: Path) -> None:
    with check(world, tmp_path) as found:
        assert found.plan.subjects == world.plan().subjects
        assert found.image == world.image
        assert (found.signers[0].name, found.provenance.signer.name, found.provenance.level) == (
            "planner",
            "builder",
            1,
        )
        assert (found.policy, found.digest) == (world.policy.digest, Digest.of(world.plan_bundle))


def test_what_boots_is_what_was_hashed(world: World, tmp_path: Path) -> None:
    with check(world, tmp_path) as found:
        for name in ("kernel", "initrd", "rootfs"):
            (tmp_path / name).write_bytes(b"evil")
        assert os.pread(found.kernel, 10**6, 0) == world.kernel
        assert os.pread(found.initrd, 10**6, 0) == world.initrd
        for fd in (found.kernel, found.initrd):
            assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
            with pytest.raises(OSError, match=r"Bad file descriptor|not permitted"):
                os.write(fd, b"x")
        assert fcntl.fcntl(found.rootfs, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY


def test_the_kernel_can_be_given_back_but_not_changed(world: World, tmp_path: Path) -> None:
    """Nobody but its owner can open it for writing, and to change a byte of it nobody can."""
    with check(world, tmp_path) as found:
        assert fcntl.fcntl(found.kernel, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        assert os.fstat(found.kernel).st_mode & 0o777 == 0o444
        with pytest.raises(OSError, match="Invalid argument"):
            os.ftruncate(found.kernel, 0)
        os.fchmod(found.kernel, 0o600)
        writable = os.open(f"/proc/self/fd/{found.kernel}", os.O_RDWR)
        for change in (lambda: os.pwrite(writable, b"x", 0), lambda: os.ftruncate(writable, 10**6)):
            with pytest.raises(PermissionError):
                change()
        found.kernel_loaded()
        found.kernel_loaded()
        assert os.fstat(writable).st_size == os.fstat(writable).st_blocks == 0
        assert os.pread(found.initrd, 10**6, 0) == world.initrd
        with pytest.raises(MvmnixError, match="has its kernel"):
            _ = found.kernel
    os.close(writable)


def test_what_was_verified_can_not_be_replaced(world: World, tmp_path: Path) -> None:
    with check(world, tmp_path) as found, (tmp_path / "evil").open("wb+") as evil:
        with pytest.raises(ValueError, match="the verified kernel can't be replaced"):
            found.files.keep("kernel", evil.fileno())
        assert os.pread(found.kernel, 10**6, 0) == world.kernel


def test_it_owns_its_descriptors(world: World, tmp_path: Path) -> None:
    before = descriptors()
    found = check(world, tmp_path)
    assert len(descriptors()) == len(before) + 3
    assert not any(os.get_inheritable(fd) for fd in (found.kernel, found.initrd, found.rootfs))
    found.close()
    found.close()
    assert descriptors() == before
    with pytest.raises(KeyError):
        _ = found.kernel


def test_it_is_sealed(world: World, tmp_path: Path) -> None:
    with check(world, tmp_path) as found:
        for copied in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="process"):
                copied(found)
        with pytest.raises(TypeError):
            json.dumps(found)
        with pytest.raises(AttributeError):
            found.plan = world.plan()  # type: ignore[misc]
        with pytest.raises(TypeError, match="seal"):
            replace(found, plan=world.plan(vcpus=2))  # type: ignore[call-arg]
        names = ("plan", "image", "provenance", "signers", "policy", "required", "digest", "bundle", "files", "steps")
        values = [getattr(found, name) for name in names]
        with pytest.raises(TypeError, match="only verify_plan"):
            VerifiedPlan(*values, seal=object())  # type: ignore[arg-type]


def plan(**fields: Any) -> Change:
    return lambda it: it.sign_plan(**fields)


def statement(*changes: worlds.Change) -> Change:
    return lambda it: it.sign_plan(*changes)


def later(**distance: int) -> Change:
    def apply(it: World) -> None:
        it.now += timedelta(**distance)

    return apply


def on_hardware(**fields: Any) -> Change:
    """A plan that was made under a policy that requires hardware virtualization."""
    return policy('"microvm"', '"hardware"', **fields)


def other_policy(it: World) -> None:
    it.policy = effective(None, worlds.trust() + b"\n# more\n")


def image(change: worlds.Change) -> Change:
    """Another manifest, which provenance and plan are about."""

    def apply(it: World) -> None:
        it.change_manifest(change)
        it.sign_provenance()
        it.sign_plan()

    return apply


def command_line(text: str) -> Change:
    def apply(it: World) -> None:
        it.change_manifest(put("quiet", "kernelCommandLine"))
        it.sign_provenance()
        it.sign_plan(command_line=text)

    return apply


def manifest_command_line(text: str) -> Change:
    return image(put(text, "kernelCommandLine"))


def flipped(name: str, position: int) -> Change:
    def flip(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[position] ^= 1
        return bytes(changed)

    return other_bytes(name, flip)


def other_bytes(name: str, change: Callable[[bytes], bytes]) -> Change:
    return lambda it: setattr(it, name, change(getattr(it, name)))


def bad_root(it: World) -> None:
    """Manifest, provenance and plan agree on a root that the tree on the disk does not have."""
    image(put("0" * 64, "verity", "root"))(it)


def untouched_plan(change: Change) -> Change:
    """Change what provenance says, and make the plan with that bundle."""
    return both(change, lambda it: it.sign_plan())


HASH_OFFSET = worlds.BLOCKS * 4096
PREDICATE = ("predicate",)
VARIATION = {"hostname": "other", "clockOffsetSeconds": 60, "directoryOrder": "reversed"}
MALFORMED = ReasonCode.PLAN_MALFORMED
PROXIED = Network(parse_rules(["https://api.example.com"], []), proxy=UpstreamProxy("proxy.example.com", 3128))
TEMPLATE: dict[str, Any] = {
    "use": Use.TEMPLATE,
    "workload": Workload((), {}, "/", User(1000, 1000)),
    "verbs": frozenset[Verb](),
}
CONTAINER: dict[str, Any] = {"backend": Backend.CONTAINER, "isolation": Isolation.CONTAINER}
ROWS = (
    # 1 to 5: who signed
    Row(1, ReasonCode.BUNDLE_NOT_CANONICAL, bundle(lambda it: it + b" "), "a space"),
    Row(2, ReasonCode.SIGNER_UNKNOWN, lambda it: it.sign_plan(key=STRANGER), "a stranger's key"),
    Row(3, ReasonCode.SIGNATURE_INVALID, bundle(worlds.flipped_signature), "a flipped signature"),
    Row(4, ReasonCode.SIGNER_ROLE, lambda it: it.sign_plan(key=BUILDER), "the builder's key"),
    # 6, 7, 8: what the claim is
    Row(
        6,
        ReasonCode.STATEMENT_MALFORMED,
        bundle(lambda it: worlds.resigned(it, lambda p: p.replace(b"{", b'{"_type":"x",', 1), PLANNER)),
        "a duplicate key",
    ),
    Row(6, ReasonCode.STATEMENT_MALFORMED, statement(put(1, "more")), "an unknown field"),
    Row(
        7, ReasonCode.PREDICATE_TYPE, statement(put("https://slsa.dev/provenance/v1", "predicateType")), "another type"
    ),
    *(
        Row(8, MALFORMED, statement(change), name)
        for name, change in {
            "an unknown field": put(1, *PREDICATE, "more"),
            "a missing field": drop(*PREDICATE, "nonce"),
            "nothing about its use": drop(*PREDICATE, "use"),
            "an unknown use": put("twice", *PREDICATE, "use"),
            "a short nonce": put("00", *PREDICATE, "nonce"),
            "no processor": put(0, *PREDICATE, "resources", "vcpus"),
            "65 processors": put(65, *PREDICATE, "resources", "vcpus"),
            "a truth value as number": put(True, *PREDICATE, "resources", "vcpus"),
            "95 MiB": put(95, *PREDICATE, "resources", "memoryMiB"),
            "more than a TiB": put(2**20 + 1, *PREDICATE, "resources", "memoryMiB"),
            "root as user": put(0, *PREDICATE, "workload", "user", "uid"),
            "no command": put([], *PREDICATE, "workload", "command"),
            "a NUL": put(["a\0b"], *PREDICATE, "workload", "command"),
            "a variable with =": put({"A=B": ""}, *PREDICATE, "workload", "environment"),
            "a relative directory": put("tmp", *PREDICATE, "workload", "directory"),
            "an unknown verb": put(["exec", "fly"], *PREDICATE, "access", "verbs"),
            "a verb twice": put(["exec", "exec"], *PREDICATE, "access", "verbs"),
            "stream without a port": put(["stream"], *PREDICATE, "access", "verbs"),
            "a port without stream": put([80], *PREDICATE, "access", "ports"),
            "port 0": put([0], *PREDICATE, "access", "ports"),
            "an unknown posture": put("open", *PREDICATE, "access", "posture"),
            "an unknown isolation": put("none", *PREDICATE, "isolation"),
            "an unknown accelerator": put("xen", *PREDICATE, "accelerator"),
            "an unknown backend": put("xen", *PREDICATE, "backend"),
            "no backend": drop(*PREDICATE, "backend"),
            "a container that passes for a microVM": put("container", *PREDICATE, "backend"),
            "a microVM that is said to be a container": put("container: not a microVM", *PREDICATE, "isolation"),
            "a local time": put("2026-09-01T12:00:00+02:00", *PREDICATE, "validity", "notBefore"),
            "an end before the beginning": put("2026-01-01T00:00:00Z", *PREDICATE, "validity", "notAfter"),
            "no time to boot": put(0, *PREDICATE, "timeouts", "bootSeconds"),
            "an offset within the data": put(4096, *PREDICATE, "image", "verity", "hashOffset"),
            "a UUID in another spelling": put(
                "12345678123442348234123456789abc", *PREDICATE, "image", "verity", "uuid"
            ),
            "no digest": put("00", *PREDICATE, "evidence", "policy"),
            "a variation of nothing": put({}, *PREDICATE, "variation"),
            "a variation of more": put(VARIATION | {"locale": "C"}, *PREDICATE, "variation"),
            "a host name in capitals": put(VARIATION | {"hostname": "Host"}, *PREDICATE, "variation"),
            "a clock of another age": put(VARIATION | {"clockOffsetSeconds": 2**33}, *PREDICATE, "variation"),
            "a clock in words": put(VARIATION | {"clockOffsetSeconds": "60"}, *PREDICATE, "variation"),
            "an unknown order": put(VARIATION | {"directoryOrder": "random"}, *PREDICATE, "variation"),
        }.items()
    ),
    Row(
        8,
        MALFORMED,
        lambda it: it.sign_plan(put("sealed", *PREDICATE, "access", "posture"), verbs=frozenset({Verb.EXEC})),
        "a sealed guest with verbs",
    ),
    # 9: time
    Row(9, ReasonCode.PLAN_NOT_YET_VALID, later(minutes=-5, seconds=-1), "a second too early"),
    Row(9, ReasonCode.PLAN_EXPIRED, later(hours=24, minutes=-5), "at the last moment"),
    # 10: policy
    Row(10, ReasonCode.POLICY_MISMATCH, other_policy, "a comment more in trust.toml"),
    Row(10, ReasonCode.POLICY_MISMATCH, plan(policy=Digest.of(b"")), "a plan for another policy"),
    # 11: isolation
    Row(11, ReasonCode.ISOLATION_UNAVAILABLE, plan(**CONTAINER), "a container"),
    Row(11, ReasonCode.HARDWARE_REQUIRED, on_hardware(**CONTAINER), "a container, where hardware is required"),
    Row(11, ReasonCode.HARDWARE_REQUIRED, on_hardware(accelerator=Accelerator.TCG), "TCG, where hardware is required"),
    Row(
        11,
        ReasonCode.NETWORK_FORBIDDEN,
        policy('"microvm"', '"microvm"\nnetwork-proxy = false', network=PROXIED),
        "a proxy, where the policy refuses them",
    ),
    Row(
        11,
        ReasonCode.TEMPLATE_FORBIDDEN,
        policy('"microvm"', '"microvm"\nwarm-starts = false', **TEMPLATE),
        "a template, where the policy lets no machine start from one",
    ),
    # 12: command line
    *(
        Row(12, ReasonCode.COMMAND_LINE, manifest_command_line(text), name)
        for name, text in {
            "a byte too long": "a" * (2047 - 25 + 1),
            "quotation marks": 'a="b c"',
            "what the backend sets": "quiet tsc_early_khz=1",
            "the same with a dash": "quiet tsc-early-khz=1",
        }.items()
    ),
    # 13: manifest
    Row(
        13,
        ReasonCode.PLAN_MISMATCH,
        statement(put("0" * 64, "subject", 3, "digest", "sha256")),
        "a plan for another manifest",
    ),
    # 14: provenance bundle
    Row(
        14,
        ReasonCode.PROVENANCE_MISMATCH,
        lambda it: it.sign_provenance(invocation="urn:uuid:another"),
        "another bundle for the same image",
    ),
    Row(14, ReasonCode.PROVENANCE_MISMATCH, plan(provenance=Digest.of(b"")), "a plan with another bundle"),
    # 19: subjects
    *(
        Row(
            19,
            ReasonCode.SUBJECT_MISMATCH,
            statement(put("0" * 64, "subject", number, "digest", "sha256")),
            f"file {number}",
        )
        for number in range(3)
    ),
    Row(19, ReasonCode.SUBJECT_MISMATCH, statement(drop("subject", 0)), "a file less"),
    Row(19, ReasonCode.SUBJECT_MISMATCH, statement(put("rootfs2", "subject", 2, "name")), "another name"),
    Row(
        19,
        ReasonCode.SUBJECT_MISMATCH,
        statement(lambda it: it["subject"].append({"name": "more", "digest": {"sha256": "0" * 64}})),
        "a file more",
    ),
    # 20: plan and manifest
    Row(20, ReasonCode.PLAN_MISMATCH, plan(image="other"), "another name"),
    Row(20, ReasonCode.PLAN_MISMATCH, command_line("init=/bin/sh"), "another command line"),
    Row(
        20,
        ReasonCode.PLAN_MISMATCH,
        both(image(put("sealed", "posture")), plan(posture=Posture.DEV)),
        "a sealed image that is opened",
    ),
    Row(
        20,
        ReasonCode.PLAN_MISMATCH,
        plan(limits=PlanLimits(system_calls=SystemCalls.NAMESPACES)),
        "a filter that lets through more than the image's",
    ),
    Row(
        20,
        ReasonCode.PLAN_MISMATCH,
        both(
            image(lambda it: it.update(systemCalls="strict")), plan(limits=PlanLimits(system_calls=SystemCalls.DEFAULT))
        ),
        "the usual filter over a strict image",
    ),
    Row(
        20,
        ReasonCode.VERB_NOT_GRANTED,
        both(image(put([], "verbs")), plan(verbs=frozenset({Verb.EXEC}))),
        "a verb that the image lacks",
    ),
    # 21: kernel and initrd
    Row(21, ReasonCode.ARTIFACT_MISMATCH, flipped("kernel", 0), "a flipped byte of the kernel"),
    Row(21, ReasonCode.ARTIFACT_MISMATCH, flipped("kernel", -1), "its last byte"),
    Row(21, ReasonCode.ARTIFACT_MISMATCH, flipped("initrd", 3000), "a flipped byte of the initrd"),
    Row(21, ReasonCode.ARTIFACT_MISMATCH, other_bytes("initrd", lambda it: it + b"\0"), "a longer initrd"),
    Row(21, ReasonCode.ARTIFACT_MISMATCH, other_bytes("kernel", lambda _: b""), "no kernel"),
    # 22: rootfs
    Row(22, ReasonCode.VERITY_MISMATCH, flipped("rootfs", HASH_OFFSET), "the superblock's first byte"),
    Row(22, ReasonCode.VERITY_MISMATCH, flipped("rootfs", HASH_OFFSET + 88), "its salt"),
    Row(22, ReasonCode.VERITY_MISMATCH, flipped("rootfs", HASH_OFFSET + 4095), "its last byte"),
    Row(22, ReasonCode.VERITY_MISMATCH, flipped("rootfs", HASH_OFFSET + 4096), "the top hash block"),
    Row(22, ReasonCode.VERITY_MISMATCH, other_bytes("rootfs", lambda it: it + b"\0"), "a byte more"),
    Row(22, ReasonCode.VERITY_MISMATCH, other_bytes("rootfs", lambda it: it[:-1]), "a byte less"),
    Row(22, ReasonCode.VERITY_MISMATCH, bad_root, "another verity root, signed"),
    # 23: provenance
    Row(
        23,
        ReasonCode.SIGNER_ROLE,
        untouched_plan(lambda it: it.sign_provenance(key=PLANNER)),
        "provenance by the planner",
    ),
    Row(
        23,
        ReasonCode.SUBJECT_MISMATCH,
        untouched_plan(lambda it: it.sign_provenance(put("0" * 64, "subject", 2, "digest", "sha256"))),
        "provenance of another rootfs",
    ),
    Row(
        23, ReasonCode.DEPENDENCY_MISMATCH, untouched_plan(lambda it: it.sign_provenance(sources=())), "without sources"
    ),
    Row(23, ReasonCode.LOCK_MISMATCH, other_bytes("lock", lambda it: it + b"\n"), "another flake.lock"),
    Row(23, ReasonCode.SOURCE_NOT_ADMITTED, policy('"*"', '"git+https://elsewhere/*"'), "a flake that is not admitted"),
)


def test_a_plan_is_valid_from_the_first_moment_of_its_window(world: World, tmp_path: Path) -> None:
    world.sign_plan(window=Window(world.now, world.now + timedelta(hours=1)))
    check(world, tmp_path).close()


@pytest.mark.parametrize("row", ROWS, ids=label)
def test_refused_by_exactly_one_step(world: World, tmp_path: Path, row: Row[World]) -> None:
    row.change(world)
    assert set(refusal(world, tmp_path).codes) == {row.code}


#: Step 2 finds the key for step 3, steps 6 and 8 make what the others look at: nothing passes without them. What step
#: 13 looks at before the manifest is read, step 19 looks at again with the other files.
OTHERWISE = {2, 6, 8, 13}


@pytest.mark.parametrize("row", [row for row in ROWS if row.step not in OTHERWISE], ids=label)
def test_without_its_step_the_same_thing_passes(
    world: World, tmp_path: Path, row: Row[World], monkeypatch: pytest.MonkeyPatch
) -> None:
    row.change(world)
    take_out(row.step, monkeypatch)
    check(world, tmp_path).close()


def test_without_step_13_step_19_refuses(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.sign_plan(put("0" * 64, "subject", 3, "digest", "sha256"))
    take_out(13, monkeypatch)
    assert refusal(world, tmp_path).codes == (ReasonCode.SUBJECT_MISMATCH,)


def test_the_contract_the_steps_and_the_rows_have_the_same_numbers() -> None:
    described = re.findall(r"^(\d+)[.] ", f"{authenticator.__doc__}\n{verify.__doc__}", re.MULTILINE)
    taken: tuple[Callable[..., Any], ...] = (
        *authenticator.STEPS,
        checks.step_6_statement,
        checks.step_7_predicate_type,
        checks.step_8_plan,
        *checks.SHEET_STEPS,
        *checks.IMAGE_STEPS,
        *checks.FILE_STEPS,
        checks.step_23_provenance,
    )
    named = [it.__name__.split("_")[1] for it in taken]
    assert described == named == [str(number) for number in range(1, 24)]
    for step in taken:
        assert (step.__doc__ or "").startswith(step.__name__.split("_")[1] + ". ")
    # the payload type's row is with the other one that signs, tests/unit/provenance/verify/test_verify.py; 15 to 18
    # have theirs in test_plan_standing.py
    assert {row.step for row in ROWS} == set(range(1, 24)) - {5, *range(15, 19)}


def test_an_unsigned_plan(world: World, tmp_path: Path) -> None:
    def unsign(value: Any) -> None:
        value["dsseEnvelope"]["signatures"] = []

    world.plan_bundle = worlds.rewritten(world.plan_bundle, unsign)
    assert refusal(world, tmp_path).codes == (ReasonCode.UNSIGNED,)


@pytest.mark.parametrize("name", ["plan_bundle", "provenance_bundle", "manifest", "lock", "kernel", "initrd"])
def test_every_flipped_byte_is_refused(world: World, tmp_path: Path, name: str) -> None:
    whole = getattr(world, name)
    for position in range(0, len(whole), max(1, len(whole) // 60)):
        flipped(name, position)(world)
        refusal(world, tmp_path)
        setattr(world, name, whole)


def test_the_bytes_of_the_policy_are_bound(world: World, tmp_path: Path) -> None:
    text = worlds.trust()
    world.policy = effective(text, text)  # means the same, and is another policy
    assert refusal(world, tmp_path).codes == (ReasonCode.POLICY_MISMATCH,)


def test_an_image_of_two_builds(world: World, tmp_path: Path) -> None:
    other = worlds.new_world(tmp_path, seed=1)
    world.kernel = other.kernel
    assert set(refusal(world, tmp_path).codes) == {ReasonCode.ARTIFACT_MISMATCH}
    world.rootfs = other.rootfs
    assert set(refusal(world, tmp_path).codes) == {ReasonCode.ARTIFACT_MISMATCH, ReasonCode.VERITY_MISMATCH}
    world.plan_bundle = other.plan_bundle
    assert set(refusal(world, tmp_path).codes) == {ReasonCode.PLAN_MISMATCH, ReasonCode.PROVENANCE_MISMATCH}


def test_all_reasons_of_a_group_at_once(world: World, tmp_path: Path) -> None:
    world.sign_plan(policy=Digest.of(b""), provenance=Digest.of(b""), **CONTAINER)
    later(days=2)(world)
    assert set(refusal(world, tmp_path).codes) == {
        ReasonCode.PLAN_EXPIRED,
        ReasonCode.POLICY_MISMATCH,
        ReasonCode.ISOLATION_UNAVAILABLE,
        ReasonCode.PROVENANCE_MISMATCH,
    }


def test_a_manifest_that_is_signed_and_broken(world: World, tmp_path: Path) -> None:
    digest = Digest.of(b"{}").hex
    world.sign_plan(put(digest, "subject", 3, "digest", "sha256"))
    world.manifest = b"{}"
    assert set(refusal(world, tmp_path).codes) == {ReasonCode.MANIFEST_MALFORMED}


def test_files_that_are_none(world: World, tmp_path: Path) -> None:
    opened = world.open(tmp_path)
    null = os.open("/dev/zero", os.O_RDONLY)
    try:
        for files in (replace(opened, kernel=null), replace(opened, rootfs=null), OpenFiles(null, null, null)):
            with pytest.raises(RefusedError) as caught:
                submission = verify.Submission(world.plan_bundle, world.evidence, files)
                verify.verify_plan(submission, policy=world.policy, now=NOW)
            assert set(caught.value.codes) == {ReasonCode.ARTIFACT_MISMATCH}
    finally:
        for fd in (opened.kernel, opened.initrd, opened.rootfs, null):
            os.close(fd)


def test_a_corrupt_data_block_is_for_the_guest_to_find(world: World, tmp_path: Path) -> None:
    flipped("rootfs", 4096 * 7)(world)
    check(world, tmp_path).close()


def test_what_nobody_expected_is_a_refusal(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fd: int, expected: Digest, *, name: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "sealed_memfd", broken)
    assert refusal(world, tmp_path).codes == (ReasonCode.UNEXPECTED,)
