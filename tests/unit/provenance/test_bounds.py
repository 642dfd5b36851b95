"""Bounds of a provenance and of policy files: the least and the most are read, one beyond either is not."""

import json
from pathlib import Path
from typing import Any

import pytest

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.provenance import policy_files, policy_text, predicate, statement, trusted_root
from mvmnix.provenance.policy_toml import LIMIT
from mvmnix.provenance.slsa import Provenance
from mvmnix.provenance.verify import verify_parts, verify_provenance
from mvmnix.state import Directory
from tests.unit.provenance.forgeries import OURS
from tests.unit.provenance.world import new_world, trust


def read(path: Path, group: str, changes: dict[str, Any]) -> Provenance:
    world = new_world(path)
    value = json.loads(predicate.to_statement(world.provenance(), world.image.artifacts).to_bytes())
    internal = value["predicate"]["buildDefinition"]["internalParameters"]
    internal[group] = internal.get(group, {}) | changes
    return predicate.from_statement(statement.parse(json.dumps(value).encode()))


@pytest.mark.parametrize(
    ("field", "least", "most"),
    [("vcpus", 1, 64), ("memoryMiB", 1, 2**20), ("scratchMiB", 0, 2**20), ("seconds", 1, 2**31)],
)
def test_what_a_build_may_use(tmp_path: Path, field: str, least: int, most: int) -> None:
    for good in (least, most):
        limits = read(tmp_path, "limits", {field: good}).limits
        assert limits is not None
        assert good in {limits.vcpus, limits.memory_mib, limits.scratch_mib, limits.seconds}
    for bad in (least - 1, most + 1):
        with pytest.raises(RefusedError, match=field):
            read(tmp_path, "limits", {field: bad})


#: A century of seconds, the most that a build's clock is moved.
CENTURY = 3_155_760_000


def test_how_far_a_clock_is_moved(tmp_path: Path) -> None:
    for good in (-CENTURY, CENTURY):
        made = read(tmp_path, "variation", variation(good)).variation
        assert made is not None
        assert made.clock_offset == good
    for bad in (-CENTURY - 1, CENTURY + 1):
        with pytest.raises(RefusedError, match="a clock is moved by at most"):
            read(tmp_path, "variation", variation(bad))


def variation(offset: int) -> dict[str, Any]:
    return {"hostname": "a", "clockOffsetSeconds": offset, "directoryOrder": "natural"}


#: What either file has to have.
HEADS = {
    "trust.toml": b"version = 1\nserial = 1\nexpires = 2099-01-01T00:00:00Z\n",
    "revocations.toml": b"version = 1\nserial = 1\n",
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("is_floor", [False, True])
def test_how_large_a_policy_s_file_is(tmp_path: Path, name: str, *, is_floor: bool) -> None:
    with Directory.create(str(tmp_path / "config")) as directory:
        where = (str(tmp_path / "config"), None) if is_floor else (None, directory)
        (tmp_path / "config" / name).write_bytes(HEADS[name].ljust(LIMIT, b"#"))
        policy_files.files(*where)
        (tmp_path / "config" / name).write_bytes(HEADS[name].ljust(LIMIT + 1, b"#"))
        with pytest.raises(RefusedError, match=f"{name}.*larger") as refused:
            policy_files.files(*where)
    assert refused.value.codes == (ReasonCode.POLICY_MALFORMED,)


def test_level_0_is_a_level(tmp_path: Path) -> None:
    """What a builder made that the policy admits at no level is verified, and has that one."""
    world = new_world(tmp_path)
    world.keep_parts()
    text = trust().replace(b"level = 1", b"level = 0")
    world.policy = policy_text.effective(None, text.replace(b"min-level = 1", b"min-level = 0"))
    assert verify_parts(world.parts[0], policy=world.policy, now=world.now).level == 0
    found = verify_provenance(
        world.provenance_bundle,
        policy=world.policy,
        artifacts=world.image.artifacts,
        lock=world.lock,
        image=world.image,
        now=world.now,
        parts=world.parts,
        sbom=world.sbom,
    )
    assert found.level == 0


def test_how_many_logs_a_trusted_root_names() -> None:
    value = json.loads(OURS.trusted_root)
    value["tlogs"] = value["tlogs"][:1] * 64
    assert len(trusted_root.parse(json.dumps(value).encode()).logs) == 64
    value["tlogs"] *= 2
    with pytest.raises(RefusedError) as refused:
        trusted_root.parse(json.dumps({**value, "tlogs": value["tlogs"][:65]}).encode())
    assert refused.value.codes == (ReasonCode.ROOT_MALFORMED,)
