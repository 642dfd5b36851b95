"""Reads the text of a trust.toml; pure."""

import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from mvmnix.digest import Digest
from mvmnix.formats import strict
from mvmnix.keys import PublicKey, Role
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
_NO_DIGEST: Final = Digest("0" * 64)


def parse(data: bytes, path: str = FILE_NAME) -> PolicyFile:
    """Read a trust.toml. Raises RefusedError POLICY_MALFORMED with all problems at once; unknown keys are some.

    `path` is the file's, for people.
    """
    return read(data, path, _file, schema="trust")


@dataclass(frozen=True, slots=True)
class _Names:
    """What other tables of the file may refer to by name.

    What has a name and is wrong otherwise is here too, with a stand-in: its own problem is noted, and is one.
    """

    signers: dict[str, Digest] = field(default_factory=dict)
    roots: dict[str, Digest] = field(default_factory=dict)

    def signer(self, name: str) -> Digest:
        """The fingerprint of a signer. Raises ValueError."""
        if name not in self.signers:
            raise ValueError(f"there is no signer {name[:80]!r}")
        return self.signers[name]

    def root(self, name: str) -> Digest:
        """The digest of a trust root. Raises ValueError."""
        if name not in self.roots:
            raise ValueError(f"there is no trust root {name[:80]!r}")
        return self.roots[name]


def _file(record: strict.Record) -> PolicyFile:
    if not record.names():  # says nothing, so it is empty rather than wrong; `TrustPolicy` refuses it as such
        return PolicyFile(0, datetime.fromtimestamp(0, UTC), (), (), SourceRule((), allow_local=False))
    record.integer("version", 1, 1)
    serial = record.integer("serial", 1, strict.MAX_INTEGER)
    names = _Names()
    roots = record.each("roots", lambda it: _root(it, names), 16, distinct=_ROOTS) if record.has("roots") else ()
    signers = (
        record.each("signers", lambda it: _signer(it, names), 256, distinct=_SIGNERS) if record.has("signers") else ()
    )
    builders = record.each("builders", lambda rule: _builder(rule, names), 256) if record.has("builders") else ()
    plans, rebuilds = record.child("thresholds", _thresholds) if record.has("thresholds") else (None, None)
    isolation, permissions = record.child("launch", _launch) if record.has("launch") else (None, _NOT_SAID)
    return PolicyFile(
        serial,
        moment(record, "expires"),
        signers,
        builders,
        record.child("sources", _sources) if record.has("sources") else SourceRule((), allow_local=False),
        isolation,
        record.each("caches", _cache, 256, distinct=_CACHES) if record.has("caches") else (),
        record.child("evaluation", _evaluation) if record.has("evaluation") else False,
        roots,
        plans,
        rebuilds,
        record.child("freshness", _freshness) if record.has("freshness") else Freshness(),
        record.each("verifiers", lambda rule: _verifier(rule, names), 64) if record.has("verifiers") else (),
        record.flag("require-inclusion") if record.has("require-inclusion") else None,
        *permissions,
    )


#: What the table `launch` may allow or refuse, in the order of PolicyFile's last fields.
_PERMISSIONS: Final = ("network-proxy", "unasked-verbs", "warm-starts", "imported-snapshots")
_NOT_SAID: Final = (None,) * len(_PERMISSIONS)
#: What no two of them may have in common.
_SIGNERS: Final[Mapping[str, Callable[[Signer], Hashable]]] = {
    "two signers have the same name": lambda signer: signer.name,
    "two signers have the same key": lambda signer: None if signer.key is None else signer.fingerprint,
    "two signers are the same identity": lambda signer: signer.fingerprint if signer.key is None else None,
}
_CACHES: "Final[Mapping[str, Callable[[CacheKey], Hashable]]]" = {
    "two caches have the same name": lambda key: key.name,
    "two caches have the same key": lambda key: key.raw,
}
_ROOTS: Final[Mapping[str, Callable[[RootPin], Hashable]]] = {
    "two trust roots have the same name": lambda pin: pin.name
}


def _root(record: strict.Record, names: _Names) -> RootPin:
    name, digest = record.text("name", _NAME), record.digest()
    names.roots[name] = digest
    return RootPin(name, digest)


def _signer(record: strict.Record, names: _Names) -> Signer:
    name = record.text("name", _NAME)
    names.signers[name] = _NO_DIGEST
    signer = Signer(name, *_credential(record, name, names))
    names.signers[name] = signer.fingerprint
    return signer


def _credential(
    record: strict.Record, name: str, names: _Names
) -> tuple[PublicKey | Identity, frozenset[Role], Digest | None]:
    roles = _roles(record)
    if record.has("key"):
        log = record.parsed("log", names.root, _NO_DIGEST) if record.has("log") else None
        return record.parsed("key", lambda text: _key(text, name), _STAND_IN), roles, log
    return _identity(record, names), roles, None


def _identity(record: strict.Record, names: _Names) -> PublicKey | Identity:
    subject, issuer = read_pattern(record, "identity"), read_pattern(record, "issuer")
    kind = record.choice("identity-kind", SubjectKind) if record.has("identity-kind") else None
    root = record.parsed("root", names.root, _NO_DIGEST)
    try:
        return Identity(subject, issuer, root, kind)
    except ValueError as error:
        record.note(str(error), "identity-regexp" if subject.regexp else "identity")
        return _STAND_IN


def _roles(record: strict.Record) -> frozenset[Role]:
    roles = record.texts("roles", "|".join(Role), 16, form=f"of {', '.join(Role)}", least=1)
    return frozenset(map(Role, roles)) or frozenset({Role.HOST})


def _key(text: str, name: str) -> PublicKey:
    try:
        return PublicKey.from_pem(text) if text.lstrip().startswith("-----BEGIN") else PublicKey.from_base64(text)
    except ValueError as error:
        why = str(error) if text.strip() else "it is empty; `mvm key show ROLE` prints one"
        raise ValueError(f"the key of signer {name!r}: {why}") from error


def _builder(record: strict.Record, names: _Names) -> BuilderRule:
    builder_id, signer = record.text("id", _URI), record.parsed("signer", names.signer, _NO_DIGEST)
    level = record.integer("level", 0, 3)
    images = frozenset(record.texts("images", _NAME, 256, least=1)) if record.has("images") else frozenset[str]()
    builders = _digests(record, "builder-images") if record.has("builder-images") else frozenset[Digest]()
    if builder_id == HOST_NIX and (images - {BUILDER_IMAGE} or not record.has("images")):
        record.note(f"the host's Nix is trusted for one image only: images = [{BUILDER_IMAGE!r}]", "images")
    if builder_id == HOST_NIX and record.has("builder-images"):
        record.note("the host's Nix runs in no image", "builder-images")
    return BuilderRule(builder_id, signer, level, images, builders)


def _digests(record: strict.Record, name: str) -> frozenset[Digest]:
    return frozenset(Digest(text) for text in record.texts(name, r"[0-9a-f]{64}", 256, least=1))


def _verifier(record: strict.Record, names: _Names) -> VerifierRule:
    return VerifierRule(
        record.parsed("signer", names.signer, _NO_DIGEST),
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
    provenance, window, age = (
        record.parsed(name, duration, duration("1m")) if record.has(name) else None
        for name in ("provenance", "plan-window", "plan-age")
    )
    return Freshness(
        provenance,
        window,
        age,
        moment(record, "snapshots-not-before") if record.has("snapshots-not-before") else None,
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


def _launch(record: strict.Record) -> tuple[Isolation | None, tuple[bool | None, ...]]:
    """Required isolation, and what is said of each of _PERMISSIONS; None for what is left out."""
    said = tuple(record.flag(key) if record.has(key) else None for key in _PERMISSIONS)
    if said != _NOT_SAID and not record.has("isolation"):
        return None, said
    return record.choice("isolation", Isolation), said
