"""Bounds of a provenance and of policy files: the least and the most are read, one beyond either is not."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.keys import PrivateKey
from mvmnix.provenance.bundle import envelope, statement
from mvmnix.provenance.identity import trusted_root
from mvmnix.provenance.identity.revocations import RevocationFile
from mvmnix.provenance.identity.trust import Pattern
from mvmnix.provenance.policy import policy_files, trust_text
from mvmnix.provenance.slsa import predicate
from mvmnix.provenance.slsa.provenance import Provenance
from mvmnix.provenance.verify.verify import verify_parts, verify_provenance
from mvmnix.system.private_dirs import Directory
from tests.policies import effective
from tests.support.refusals import refusal_codes
from tests.unit.provenance.forgeries import OURS, PAYLOAD
from tests.unit.provenance.world import new_world, trust


def read(path: Path, group: str, changes: dict[str, Any]) -> Provenance:
    world = new_world(path)
    value = json.loads(predicate.provenance_statement(world.provenance(), world.image.artifacts).to_bytes())
    internal = value["predicate"]["buildDefinition"]["internalParameters"]
    internal[group] = internal.get(group, {}) | changes
    return predicate.read_provenance(statement.parse(json.dumps(value).encode()))


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
        (tmp_path / "config" / name).write_bytes(HEADS[name].ljust(2**20, b"#"))
        policy_files.read_policy_files(*where)
        (tmp_path / "config" / name).write_bytes(HEADS[name].ljust(2**20 + 1, b"#"))
        with pytest.raises(RefusedError, match=f"{name}.*larger") as refused:
            policy_files.read_policy_files(*where)
    assert refused.value.codes == (ReasonCode.POLICY_MALFORMED,)


def test_level_0_is_a_level(tmp_path: Path) -> None:
    """What a builder made that the policy admits at no level is verified, and has that one."""
    world = new_world(tmp_path)
    world.keep_parts()
    text = trust().replace(b"level = 1", b"level = 0")
    world.policy = effective(None, text.replace(b"min-level = 1", b"min-level = 0"))
    assert verify_parts(world.parts[0], policy=world.policy, now=world.now).level == 0
    found = verify_provenance(
        world.evidence,
        policy=world.policy,
        artifacts=world.image.artifacts,
        image=world.image,
        now=world.now,
    )
    assert found.level == 0
    without_parts = new_world(tmp_path).evidence
    image = world.image
    found = verify_provenance(without_parts, policy=world.policy, artifacts=image.artifacts, image=image, now=world.now)
    assert found.level == 0


def test_how_many_logs_a_trusted_root_names() -> None:
    value = json.loads(OURS.trusted_root)
    value["tlogs"] = value["tlogs"][:1] * 64
    assert len(trusted_root.parse(json.dumps(value).encode()).logs) == 64
    value["tlogs"] *= 2
    found = refusal_codes(trusted_root.parse, json.dumps({**value, "tlogs": value["tlogs"][:65]}).encode())
    assert found == (ReasonCode.ROOT_MALFORMED,)


def test_how_many_certificates_an_authority_has() -> None:
    value = json.loads(OURS.trusted_root)
    chain = value["certificateAuthorities"][0]["certChain"]
    many = chain["certificates"] * 9
    chain["certificates"] = many[:16]
    assert len(trusted_root.parse(json.dumps(value).encode()).authorities[0].certificates) == 16
    chain["certificates"] = many[:17]
    assert refusal_codes(trusted_root.parse, json.dumps(value).encode()) == (ReasonCode.ROOT_MALFORMED,)


@pytest.mark.parametrize(
    ("read_it", "data", "most"),
    [
        (trusted_root.parse, OURS.trusted_root, 4 * 2**20),
        (statement.parse, PAYLOAD, 16 * 2**20),
        (envelope.parse_bundle, envelope.sign(PAYLOAD, PrivateKey.generate()).to_bytes(), 24 * 2**20),
    ],
    ids=["trusted root", "statement", "bundle"],
)
def test_how_many_bytes_are_read(read_it: Callable[[bytes], object], data: bytes, most: int) -> None:
    assert read_it(data.ljust(most))
    with pytest.raises(RefusedError, match=f"larger than {most} bytes"):
        read_it(data.ljust(most + 1))


KEYS = [f"{number:032x}" for number in range(257)]


def cache(number: int) -> str:
    raw = base64.b64encode(bytes.fromhex(KEYS[number] * 2)).decode()
    return f'[[caches]]\nkey = "cache-{number}:{raw}"\n'


def a_signer(number: int) -> str:
    return f'[[signers]]\nname = "s{number}"\nroles = ["host"]\nidentity = "{number}"\nissuer = "i"\nroot = "r0"\n'


def pin(number: int) -> str:
    return f'[[roots]]\nname = "r{number}"\nsha256 = "{KEYS[number] * 2}"\n'


BUILDER = '[[builders]]\nid = "urn:x:{}"\nsigner = "builder"\nlevel = 1\n'
VERIFIER = '[[verifiers]]\nid = "urn:x:{}"\nsigner = "verifier"\nmax-age = "1d"\nmin-level = 1\n'
VERIFIER_KEY = base64.b64encode(PrivateKey.generate().public.spki).decode()
AS_VERIFIER = f'[[signers]]\nname = "verifier"\nroles = ["verifier"]\nkey = "{VERIFIER_KEY}"\n'
TRUST, PATTERNS = trust().decode(), 'patterns = ["*"]\n'


def listed(name: str, count: int, form: str = '"{}"') -> str:
    return f"{name} = [{', '.join(form.format(number) for number in range(count))}]\n"


def beside(more: str) -> str:
    return f"{TRUST}{more}"


#: How many of each a trust.toml has at most, what is there already among them; and the file with so many.
COUNTED: dict[str, tuple[int, Callable[[int], str]]] = {
    "roles of a signer": (16, lambda count: TRUST.replace('["planner"]', json.dumps(["planner"] * count))),
    "roots": (16, lambda count: beside("".join(map(pin, range(count))))),
    "signers": (256, lambda count: beside(pin(0) + "".join(map(a_signer, range(count - 3))))),
    "builders": (256, lambda count: beside("".join(BUILDER.format(number) for number in range(count - 2)))),
    "caches": (256, lambda count: beside("".join(map(cache, range(count))))),
    "verifiers": (
        64,
        lambda count: beside(AS_VERIFIER + "".join(VERIFIER.format(number) for number in range(count))),
    ),
    "images of a builder": (256, lambda count: beside(BUILDER.format(1) + listed("images", count))),
    "builder images of a builder": (
        256,
        lambda count: beside(BUILDER.format(1) + f"builder-images = {json.dumps([key * 2 for key in KEYS[:count]])}\n"),
    ),
    "patterns": (1024, lambda count: TRUST.replace(PATTERNS, listed("patterns", count))),
    "inputs": (1024, lambda count: TRUST.replace(PATTERNS, PATTERNS + listed("inputs", count))),
    "pairs": (
        1024,
        lambda count: TRUST.replace(
            'patterns = ["*"]', 'patterns = ["*"]\n' + listed("pairs", count, '["{0}", "{0}"]')
        ),
    ),
}


@pytest.mark.parametrize("what", COUNTED)
def test_how_many_a_policy_names(what: str) -> None:
    most, made = COUNTED[what]
    trust_text.parse(made(most).encode())
    assert set(refusal_codes(trust_text.parse, made(most + 1).encode())) == {ReasonCode.POLICY_MALFORMED}


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        (TRUST.replace("serial = 1 ", "serial = {} "), 1, 2**53 - 1),
        (TRUST.replace("version = 1", "version = {}"), 1, 1),
        (f'{TRUST}[[builders]]\nid = "urn:x"\nsigner = "builder"\nlevel = {{}}\n', 0, 3),
        (f"{TRUST}{AS_VERIFIER}{VERIFIER.replace('= 1', '= {}').format('x', '{}')}", 0, 3),
        (f"{TRUST}[thresholds]\nplans = {{}}\n", 1, 16),
        (f"{TRUST}[thresholds]\nrebuilds = {{}}\n", 1, 16),
    ],
)
def test_numbers_of_a_policy(text: str, least: int, most: int) -> None:
    for good in (least, most):
        trust_text.parse(text.replace("{}", str(good)).encode())
    for bad in (least - 1, most + 1):
        found = refusal_codes(trust_text.parse, text.replace("{}", str(bad)).encode())
        assert set(found) == {ReasonCode.POLICY_MALFORMED}


@pytest.mark.parametrize("list_", ["keys", "digests"])
def test_how_many_are_revoked(list_: str) -> None:
    head = "version = 1\nserial = 1\n"
    entries = [f'[[{list_}]]\nsha256 = "{number:064x}"\n' for number in range(4097)]
    assert len(RevocationFile.parse((head + "".join(entries[:4096])).encode()).entries) == 4096
    assert set(refusal_codes(RevocationFile.parse, (head + "".join(entries)).encode())) == {ReasonCode.POLICY_MALFORMED}


@pytest.mark.parametrize(
    ("text", "words"), [("", "an empty pattern"), ("a" * 1025, "printable"), ("a\\u0007", "printable")]
)
def test_how_long_a_name_is_that_is_revoked(text: str, words: str) -> None:
    head = 'version = 1\nserial = 1\n[[identities]]\nissuer = "i"\nidentity = '
    assert RevocationFile.parse(f'{head}"{"a" * 1024}"\n'.encode()).entries
    with pytest.raises(RefusedError, match=words) as refused:
        RevocationFile.parse(f'{head}"{text}"\n'.encode())
    assert set(refused.value.codes) == {ReasonCode.POLICY_MALFORMED}


def test_a_pattern_that_is_empty() -> None:
    with pytest.raises(ValueError, match="an empty pattern"):
        Pattern("")
