"""Reads the text of a trust.toml; pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from mvmnix.formats import strict
from mvmnix.keys import PublicKey, Role
from mvmnix.model import Digest
from mvmnix.provenance.identity.revocations import read_pattern
from mvmnix.provenance.identity.trust import Identity, Signer, SubjectKind
from mvmnix.provenance.isolation import Isolation
from mvmnix.provenance.policy.policy import PolicyFile, RootPin
from mvmnix.provenance.policy.rules import BUILDER_IMAGE, BuilderRule, Freshness, SourceRule, VerifierRule
from mvmnix.provenance.slsa.provenance import HOST_NIX
from mvmnix.provenance.trust_toml import duration, moment, read

if TYPE_CHECKING:
    from mvmnix.config import CacheKey

FILE_NAME: Final = "trust.toml"

_PATTERN: Final = r"[!-~]{1,4096}"
_STARS: Final = 3
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_URI: Final = r"[!-~]{1,255}"
#: More have never to agree; and a plan's file, or an image's rebuilds, are bounded by it.
MOST_VOICES: Final = 16
_STAND_IN: Final = PublicKey(bytes.fromhex("302a300506032b6570032100") + bytes(32))


def parse(data: bytes) -> PolicyFile:
    """Read a trust.toml. Raises RefusedError POLICY_MALFORMED with all problems at once; unknown keys are some."""
    return read(data, FILE_NAME, _file, schema="trust")


@dataclass(frozen=True, slots=True)
class _Names:
    """What other tables of the file may refer to by name."""

    signers: Mapping[str, Digest]
    roots: Mapping[str, Digest]

    def signer(self, name: str) -> Digest:
        """The fingerprint of a signer. Raises ValueError."""
        if name not in self.signers:
            raise ValueError(f"there is no signer {name!r}")
        return self.signers[name]

    def root(self, name: str) -> Digest:
        """The digest of a trust root. Raises ValueError."""
        if name not in self.roots:
            raise ValueError(f"there is no trust root {name!r}")
        return self.roots[name]


def _file(record: strict.Record) -> PolicyFile:
    if not record.names():  # says nothing, so it is empty rather than wrong; `TrustPolicy` refuses it as such
        return PolicyFile(0, datetime.fromtimestamp(0, UTC), (), (), SourceRule((), allow_local=False))
    record.integer("version", 1, 1)
    serial = record.integer("serial", 1, strict.MAX_INTEGER)
    roots = record.each("roots", _root, 16) if record.has("roots") else ()
    names = _Names({}, {pin.name: pin.digest for pin in roots})
    signers = record.each("signers", lambda it: _signer(it, names), 256) if record.has("signers") else ()
    names = _Names({signer.name: signer.fingerprint for signer in signers}, names.roots)
    builders = record.each("builders", lambda rule: _builder(rule, names), 256) if record.has("builders") else ()
    plans, rebuilds = record.child("thresholds", _thresholds) if record.has("thresholds") else (None, None)
    isolation, proxy, unasked = record.child("launch", _launch) if record.has("launch") else (None, None, None)
    found = PolicyFile(
        serial,
        moment(record, "expires"),
        signers,
        builders,
        record.child("sources", _sources) if record.has("sources") else SourceRule((), allow_local=False),
        isolation,
        record.each("caches", _cache, 256) if record.has("caches") else (),
        record.child("evaluation", _evaluation) if record.has("evaluation") else False,
        roots,
        plans,
        rebuilds,
        record.child("freshness", _freshness) if record.has("freshness") else Freshness(),
        record.each("verifiers", lambda rule: _verifier(rule, names), 64) if record.has("verifiers") else (),
        record.flag("require-inclusion") if record.has("require-inclusion") else None,
        proxy,
        unasked,
    )
    _unique(found)
    return found


def _unique(it: PolicyFile) -> None:
    for what, values in (
        ("signers have the same name", [each.name for each in it.signers]),
        ("signers have the same key", [each.fingerprint for each in it.signers if each.key is not None]),
        ("signers are the same identity", [each.fingerprint for each in it.signers if each.key is None]),
        ("caches have the same name", [key.name for key in it.caches]),
        ("caches have the same key", [key.raw for key in it.caches]),
        ("trust roots have the same name", [pin.name for pin in it.roots]),
    ):
        if len(set(values)) != len(values):
            raise ValueError(f"two {what}")


def _root(record: strict.Record) -> RootPin:
    return RootPin(record.text("name", _NAME), record.digest())


def _signer(record: strict.Record, names: _Names) -> Signer:
    name, roles = record.text("name", _NAME), frozenset(_role(role) for role in record.texts("roles", _NAME, 16))
    if record.has("key"):
        log = names.root(record.text("log", _NAME)) if record.has("log") else None
        return Signer(name, record.parsed("key", lambda text: _key(text, name), _STAND_IN), roles, log)
    subject, issuer = read_pattern(record, "identity"), read_pattern(record, "issuer")
    kind = record.choice("identity-kind", SubjectKind) if record.has("identity-kind") else None
    return Signer(name, Identity(subject, issuer, names.root(record.text("root", _NAME)), kind), roles)


def _role(text: str) -> Role:
    if text not in set(Role):
        raise ValueError(f"{text!r} is not a role; they are {', '.join(Role)}")
    return Role(text)


def _key(text: str, name: str) -> PublicKey:
    try:
        return PublicKey.from_pem(text) if text.lstrip().startswith("-----BEGIN") else PublicKey.from_base64(text)
    except ValueError as error:
        why = str(error) if text.strip() else "it is empty; `mvm key show ROLE` prints one"
        raise ValueError(f"the key of signer {name!r}: {why}") from error


def _builder(record: strict.Record, names: _Names) -> BuilderRule:
    builder_id, signer = record.text("id", _URI), record.text("signer", _NAME)
    level = record.integer("level", 0, 3)
    images = frozenset(record.texts("images", _NAME, 256)) if record.has("images") else frozenset[str]()
    builders = _digests(record, "builder-images") if record.has("builder-images") else frozenset[Digest]()
    for name, found in (("images", images), ("builder-images", builders)):
        if record.has(name) and not found:
            raise ValueError(f"{name} is empty; leave it out to mean every image")
    if builder_id == HOST_NIX and (images != {BUILDER_IMAGE} or builders):
        raise ValueError(
            f"the host's Nix is trusted for one image only, and runs in none: images = [{BUILDER_IMAGE!r}]"
        )
    return BuilderRule(builder_id, names.signer(signer), level, images, builders)


def _digests(record: strict.Record, name: str) -> frozenset[Digest]:
    return frozenset(Digest(text) for text in record.texts(name, r"[0-9a-f]{64}", 256))


def _verifier(record: strict.Record, names: _Names) -> VerifierRule:
    return VerifierRule(
        names.signer(record.text("signer", _NAME)),
        record.text("id", _URI),
        record.parsed("max-age", duration, duration("1m")),
        record.integer("min-level", 0, 3),
        _patterns(record, "resources") if record.has("resources") else ("*",),
    )


def _thresholds(record: strict.Record) -> tuple[int | None, int | None]:
    plans, rebuilds = (
        record.integer(name, 1, MOST_VOICES) if record.has(name) else None for name in ("plans", "rebuilds")
    )
    return plans, rebuilds


def _freshness(record: strict.Record) -> Freshness:
    return Freshness(
        *(
            record.parsed(name, duration, duration("1m")) if record.has(name) else None
            for name in ("provenance", "plan-window", "plan-age")
        )
    )


def _cache(record: strict.Record) -> "CacheKey":
    from mvmnix.config import CacheKey  # noqa: PLC0415 - who trusts no cache doesn't pay for it

    return record.parsed("key", CacheKey.parse, CacheKey("-", b""))


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


def _launch(record: strict.Record) -> tuple[Isolation | None, bool | None, bool | None]:
    """Required isolation, whether a plan may name a proxy, and unasked verbs; None for what is left out."""
    proxy, unasked = (record.flag(key) if record.has(key) else None for key in ("network-proxy", "unasked-verbs"))
    if (proxy, unasked) != (None, None) and not record.has("isolation"):
        return None, proxy, unasked
    return record.choice("isolation", Isolation), proxy, unasked
