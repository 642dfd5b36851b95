"""Reads and writes the text of a trust.toml; pure."""

import re
import tomllib
from collections.abc import Mapping
from typing import Final

from mvmnix import strict
from mvmnix.config import CacheKey
from mvmnix.errors import ReasonCode
from mvmnix.keys import PublicKey, Role
from mvmnix.model import Digest
from mvmnix.provenance.policy import (
    BUILDER_IMAGE,
    BuilderRule,
    Isolation,
    PolicyFile,
    Signer,
    SourceRule,
    TrustPolicy,
    combine,
    digest_of,
)
from mvmnix.provenance.slsa import HOST_NIX, MICROVM

#: No policy that people read is larger.
LIMIT: Final = 2**20

_PATTERN: Final = r"[!-~]{1,4096}"
_STARS: Final = 3
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_HINT: Final = "correct the file; docs/trust-policy.md has the format"
_STAND_IN: Final = PublicKey(bytes.fromhex("302a300506032b6570032100") + bytes(32))

_DEFAULT: Final = """\
# Whom mvm believes on this workstation. Made by mvm with the keys in keys/; docs/trust-policy.md has the format.
# Builds on a workstation are worth SLSA Build level 1: whoever can use this account can sign what they like.
version = 1
{signers}
[[builders]]
id = "{microvm}"
signer = "builder"
level = 1

# The host's own Nix builds the first builder image, and no other.
[[builders]]
id = "{host_nix}"
signer = "builder"
level = 1
images = ["{image}"]

[sources]
patterns = ["*"]
allow-local = true

[launch]
isolation = "{isolation}"
"""


def effective(floor: bytes | None, user: bytes | None) -> TrustPolicy:
    """The policy in force, from the bytes of the machine's file and of the user's, where they exist.

    Raises RefusedError: POLICY_MISSING, POLICY_MALFORMED, POLICY_EMPTY, POLICY_WIDENS.
    """
    files = (None if floor is None else parse(floor), None if user is None else parse(user))
    return combine(*files, digest_of(floor, user))


def parse(data: bytes) -> PolicyFile:
    """Read a trust.toml. Raises RefusedError POLICY_MALFORMED with all problems at once; unknown keys are some."""
    try:
        if len(data) > LIMIT:
            raise strict.MalformedError(f"larger than {LIMIT} bytes")  # noqa: TRY301 - one way out for all problems
        return strict.read(_toml(data), "trust.toml", _file)
    except strict.MalformedError as error:
        raise error.refused(ReasonCode.POLICY_MALFORMED, "the trust policy", _HINT) from error


def default_policy(keys: Mapping[Role, PublicKey]) -> bytes:
    """The policy of a workstation that trusts its own keys: the text of a trust.toml, the same for the same keys."""
    if Role.BUILDER not in keys:
        raise ValueError("a policy needs a builder key")
    signers = "".join(
        f'\n[[signers]]\nname = "{role}"\nroles = ["{role}"]\nkey = """\n{keys[role].pem}"""\n'
        for role in Role
        if role in keys
    )
    return _DEFAULT.format(
        signers=signers, microvm=MICROVM, host_nix=HOST_NIX, image=BUILDER_IMAGE, isolation=Isolation.MICROVM
    ).encode()


def _toml(data: bytes) -> object:
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise strict.MalformedError(f"not TOML in UTF-8: {error}") from error


def _file(record: strict.Record) -> PolicyFile:
    if not record.names():  # says nothing, so it is empty rather than wrong; `combine` refuses it as such
        return PolicyFile((), (), SourceRule((), allow_local=False), Isolation.MICROVM)
    record.integer("version", 1, 1)
    signers = record.each("signers", _signer, 256) if record.has("signers") else ()
    for kind, values in (("name", [s.name for s in signers]), ("key", [s.key.hint for s in signers])):
        if len(set(values)) != len(values):
            raise ValueError(f"two signers have the same {kind}")
    names = {signer.name: signer.key.fingerprint for signer in signers}
    builders = record.each("builders", lambda rule: _builder(rule, names), 256) if record.has("builders") else ()
    return PolicyFile(
        signers,
        builders,
        record.child("sources", _sources) if record.has("sources") else SourceRule((), allow_local=False),
        record.child("launch", _launch) if record.has("launch") else Isolation.MICROVM,
        _caches(record) if record.has("caches") else (),
        record.child("evaluation", _evaluation) if record.has("evaluation") else False,
    )


def _signer(record: strict.Record) -> Signer:
    roles = frozenset(_role(role) for role in record.texts("roles", _NAME, 16))
    return Signer(record.text("name", _NAME), record.parsed("key", _key, _STAND_IN), roles)


def _role(text: str) -> Role:
    if text not in set(Role):
        raise ValueError(f"{text!r} is not a role; they are {', '.join(Role)}")
    return Role(text)


def _key(text: str) -> PublicKey:
    if text.lstrip().startswith("-----BEGIN"):
        return PublicKey.from_pem(text)
    return PublicKey.from_base64(text)


def _builder(record: strict.Record, names: Mapping[str, Digest]) -> BuilderRule:
    builder_id, signer = record.text("id", r"[!-~]{1,255}"), record.text("signer", _NAME)
    level = record.integer("level", 0, 3)
    images = frozenset(record.texts("images", _NAME, 256)) if record.has("images") else frozenset()
    if record.has("images") and not images:
        raise ValueError("images is empty; leave it out to mean every image")
    if signer not in names:
        raise ValueError(f"there is no signer {signer!r}")
    if builder_id == HOST_NIX and images != {BUILDER_IMAGE}:
        raise ValueError(f"the host's Nix is believed for one image only: images = [{BUILDER_IMAGE!r}]")
    return BuilderRule(builder_id, names[signer], level, images)


def _caches(record: strict.Record) -> tuple[CacheKey, ...]:
    keys = tuple(key for key in record.each("caches", _cache, 256) if key is not None)
    for kind, values in (("name", [key.name for key in keys]), ("key", [key.raw for key in keys])):
        if len(set(values)) != len(values):
            raise ValueError(f"two caches have the same {kind}")
    return keys


def _cache(record: strict.Record) -> CacheKey | None:
    return record.parsed("key", CacheKey.parse, None)


def _evaluation(record: strict.Record) -> bool:
    return record.flag("import-from-derivation")


def _sources(record: strict.Record) -> SourceRule:
    return SourceRule(
        _patterns(record, "patterns"),
        record.flag("allow-local"),
        _patterns(record, "inputs") if record.has("inputs") else ("*",),
        tuple(_pair(pair) for pair in record.array("pairs", 1024)) if record.has("pairs") else (),
    )


def _patterns(record: strict.Record, name: str) -> tuple[str, ...]:
    return tuple(_pattern(text) for text in record.texts(name, _PATTERN, 1024))


def _pattern(text: str) -> str:
    if text.count("*") > _STARS:  # each more multiplies the time that it takes to find no match
        raise ValueError(f"{text!r} has more than three stars")
    return text


def _pair(value: object) -> tuple[str, str]:
    match value:
        case [str() as original, str() as locked] if all(re.fullmatch(_PATTERN, text) for text in (original, locked)):
            return _pattern(original), _pattern(locked)
        case _:
            raise ValueError("a pair is two patterns, of what is asked for and of what it is locked to")


def _launch(record: strict.Record) -> Isolation:
    record.text("isolation", Isolation.MICROVM)
    return Isolation.MICROVM
