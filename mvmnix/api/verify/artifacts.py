"""Verifies files of any build against bundles of any tool: whom to trust, which bundles, and a verdict for each file.

Bundles are those of a file that is named, or of the one beside each artifact: one as JSON, several as JSON Lines.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, override

from mvmnix.api import files
from mvmnix.api.files import file_bytes
from mvmnix.clock import now
from mvmnix.errors import RefusedError, UnreadableError, UsageError
from mvmnix.formats import strict
from mvmnix.keys import PublicKey, Role
from mvmnix.model import Digest
from mvmnix.plural import counted
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.bundle.envelope import BUNDLE_LIMIT
from mvmnix.provenance.identity.trust import Identity, Pattern, Signer, Trust
from mvmnix.provenance.verify.artifact_verifier import VerificationCriteria
from mvmnix.provenance.verify.requirements import Requirements

if TYPE_CHECKING:
    from mvmnix.provenance.policy.policy import TrustPolicy


from collections.abc import Callable, Sequence

from mvmnix.errors import ReasonCode, refuse
from mvmnix.provenance.bundle.blob import Blob
from mvmnix.provenance.verify.artifact_verifier import AcceptedArtifact, HandedIn
from mvmnix.provenance.verify.registry_responses import Packed

#: What is found beside an artifact when no bundle was named.
SUFFIX = ".sigstore.json"
#: Bytes of a file of bundles, and how many there may be.
LIMIT = 64 * 2**20
MOST = 1024

#: Lines of one; a bundle that is set over many has some hundred.
_LINES = 2**20

_BESIDE = "name the bundle: --bundle BUNDLE"


def read_bundles(path: str) -> tuple[bytes, ...]:
    """The bundles of a file, or of stdin for `-`; none of them is parsed yet. Raises UsageError, UnreadableError.

    A file of which a line is a JSON object by itself, the first one or, if it is no JSON as a whole, any one, holds one
    bundle a line (JSON Lines); any other holds one.
    """
    return _several(path, file_bytes(path, LIMIT))


def bundles_beside(artifact: str) -> tuple[bytes, ...]:
    """The bundles in the file beside an artifact, which has to be a regular one. Raises as `read_bundles` does."""
    path = artifact + SUFFIX
    return _several(path, files.read(path, LIMIT, _BESIDE))


def _several(path: str, data: bytes) -> tuple[bytes, ...]:
    if data.count(b"\n") + data.count(b"\r") > _LINES:
        raise UnreadableError(f"{path} has more than {_LINES} lines", hint="hand in bundles, one a line or a file")
    lines = [line for line in data.splitlines() if line.strip()]
    found = tuple(lines) if _are_lines(lines, data) else (data,) if data.strip() else ()
    if len(found) > MOST:
        raise UnreadableError(f"{path} holds {counted(len(found), 'bundle')}", hint=f"hand in at most {MOST} at a time")
    return found


def canonical_bundle(path: str) -> bytes:
    """A bundle as mvm would have written it: here, and not at a launch, one in another formatting is taken too."""
    return envelope.parse_bundle(file_bytes(path, LIMIT)).to_bytes()


def canonical_in(path: str) -> bytes:
    """The same for a bundle in an image's directory, which has to be a regular file."""
    return envelope.parse_bundle(files.read(path, LIMIT, _BESIDE)).to_bytes()


def canonical_plan(path: str) -> bytes:
    """A plan's bundle in the same way; several of them, one a line, only as mvm wrote them."""
    from mvmnix.launch.gate import signatures  # noqa: PLC0415 - what is about no plan doesn't pay for it

    data = file_bytes(path, LIMIT)
    signatures.refuse_unsigned(data)
    return data if b"\n{" in data and data.startswith(b'{"dsseEnvelope"') else envelope.parse_bundle(data).to_bytes()


def _are_lines(lines: list[bytes], data: bytes) -> bool:
    if not lines or _is_whole(lines[0]):
        return bool(lines)
    if len(lines) == 1 or not any(map(_is_whole, lines)):
        return False
    if len(data) > BUNDLE_LIMIT or strict.has_many_values(data):
        return True  # as a whole it is none
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return True  # a line that is none does no harm to the others
    return False


def _is_whole(line: bytes) -> bool:
    """Whether a line looks like a whole object: those of a bundle that was set over many lines do not."""
    text = line.strip()
    return len(text) > 1 and text.startswith(b"{") and text.endswith(b"}")


_KEY_LIMIT = 64 * 1024
_WHOM = "say whom to trust: --key K, or --certificate-identity I --certificate-oidc-issuer S, or --policy P"
_ANY_ROLE = frozenset(Role)


@dataclass(frozen=True, slots=True)
class TrustChoice:
    """Whom to trust, as a caller chose; "" where nothing is chosen."""

    key: str = ""
    identity: str = ""
    identity_regexp: str = ""
    issuer: str = ""
    issuer_regexp: str = ""
    trusted_root: str = ""
    policy: str = ""

    @property
    def certified(self) -> bool:
        """Whether anything of a certified identity is chosen."""
        return any((self.identity, self.identity_regexp, self.issuer, self.issuer_regexp))

    @property
    def named(self) -> bool:
        """Whether anything other than a policy is chosen."""
        return bool(self.key) or self.certified or bool(self.trusted_root)

    def criteria(self, wanted: Requirements) -> "tuple[VerificationCriteria, TrustPolicy | None]":
        """What bundles are held against, and the policy where one was named.

        Raises UsageError, and UnreadableError for what can't be read: without it nothing can be verified.
        """
        if sum((bool(self.key), self.certified, bool(self.policy))) != 1:
            raise UsageError("give exactly one of --key, --certificate-identity and --policy", hint=_WHOM)
        if self.policy:
            if self.trusted_root:
                hint = "pin it in the policy: [[roots]], docs/trust-policy.md"
                raise UsageError("--trusted-root goes with a key or an identity, not with a policy", hint=hint)
            from mvmnix.api.verify.policy_at import named_policy  # noqa: PLC0415 - keys don't pay for it
            from mvmnix.provenance.verify.release_checks import ReleasePolicy  # noqa: PLC0415

            policy = named_policy(self.policy)
            further = ReleasePolicy(policy, now()).further
            return VerificationCriteria(policy.trust, wanted, Role.BUILDER, further, policy.thresholds.rebuilds), policy
        return VerificationCriteria(self._trust_of_key() if self.key else self._trust_of_identity(), wanted), None

    def _trust_of_key(self) -> Trust:
        named = {Digest.of(data): data for data in [self._root()] if data is not None}
        try:
            key = public_key(file_bytes(self.key, _KEY_LIMIT))
        except ValueError as error:
            hint = "name a public key: PEM, or the base64 of its DER; ECDSA P-256 or Ed25519"
            raise UnreadableError(f"{self.key}: {error}", hint=hint) from error
        # without a root no log is needed; an entry that is there all the same is looked for in the public-good one
        signer = Signer(f"key {key.fingerprint}", key, _ANY_ROLE, next(iter(named), None))
        return Trust((signer,), named or _PublicGood())

    def _trust_of_identity(self) -> Trust:
        subject = _pattern("certificate-identity", self.identity, self.identity_regexp)
        issuer = _pattern("certificate-oidc-issuer", self.issuer, self.issuer_regexp)
        root = self._root() or _shipped_root()
        domain = Digest.of(root)
        return Trust((Signer(subject.text, Identity(subject, issuer, domain), _ANY_ROLE),), {domain: root})

    def _root(self) -> bytes | None:
        if not self.trusted_root:
            return None
        from mvmnix.provenance.identity import trusted_root  # noqa: PLC0415 - keys without one don't pay for it

        data = file_bytes(self.trusted_root, trusted_root.LIMIT)
        try:
            trusted_root.parse(data)
        except RefusedError as error:
            hint = "name a trusted_root.json, as `mvm trusted-root export` writes it"
            raise UnreadableError(
                f"{self.trusted_root} is not a trust root: {error.reasons[0].why}", hint=hint
            ) from error
        return data


def public_key(data: bytes) -> PublicKey:
    """A public key in PEM, or as the base64 of its DER. Raises ValueError."""
    text = data.decode("ascii")
    return PublicKey.from_pem(text) if "-----BEGIN" in text else PublicKey.from_base64(text.strip())


def _pattern(option: str, exact: str, regexp: str) -> Pattern:
    if bool(exact) == bool(regexp):
        hint = f"an identity and the issuer that vouches for it: --{option} or --{option}-regexp, one of the two"
        raise UsageError(f"it takes one of --{option} and --{option}-regexp", hint=hint)
    try:
        return Pattern(exact or regexp, regexp=bool(regexp))
    except ValueError as error:
        raise UsageError(f"--{option}-regexp: {error}", hint="write a regular expression of Python's re") from error


class _PublicGood(Mapping[Digest, bytes]):
    """The public-good instance's root, which is read when it is first asked for: most keys need none."""

    @cached_property
    def _found(self) -> Mapping[Digest, bytes]:
        root = _shipped_root()
        return {Digest.of(root): root}

    @override
    def __getitem__(self, digest: Digest) -> bytes:
        return self._found[digest]

    @override
    def __iter__(self) -> Iterator[Digest]:
        return iter(self._found)

    @override
    def __len__(self) -> int:
        return len(self._found)


def _shipped_root() -> bytes:
    """The public-good instance's root, as the sigstore library ships it; nothing is fetched."""
    from mvmnix.provenance.identity.sigstore import public_good_root  # noqa: PLC0415 - keys and policies don't pay for it

    return public_good_root()


#: How an image in a registry is named.
_IN_REGISTRY = "oci://"


@dataclass(frozen=True, slots=True)
class FailedArtifact:
    """A file for which too little counts, and why."""

    name: str
    blob: Blob
    refused: RefusedError


type ArtifactVerdict = AcceptedArtifact | FailedArtifact


def verify_artifacts(
    artifacts: Sequence[str], bundle: str, criteria: VerificationCriteria
) -> tuple[ArtifactVerdict, ...]:
    """A verdict for each, whatever the others are. Raises UsageError, UnreadableError before the first.

    For an image in a registry, without `bundle`, MvmnixError too: where its registry can't be asked, or must not be.
    """
    if not bundle and any(files.digest_in(artifact) for artifact in artifacts):
        raise UsageError("a digest has no bundle beside it", hint="name one: --bundle BUNDLE")
    shared = HandedIn(read_bundles(bundle), criteria) if bundle else None
    verdicts = list[ArtifactVerdict]()
    for name, blob, handed_in in [_handed_in(name, shared, criteria) for name in artifacts]:
        try:
            if shared is None and in_registry(name) and not handed_in:
                why, hint = "its registry has neither bundle nor attestation nor signature for it", "have it signed"
                raise refuse(ReasonCode.ATTESTATION_MISSING, name, why, hint)
            verdicts.append(handed_in.judge(name, blob))
        except RefusedError as refused:
            verdicts.append(FailedArtifact(name, blob, refused))
    return tuple(verdicts)


def in_registry(artifact: str) -> bool:
    """Whether it names an image in a registry."""
    return artifact.startswith(_IN_REGISTRY)


def _handed_in(name: str, shared: HandedIn | None, criteria: VerificationCriteria) -> tuple[str, Blob, HandedIn]:
    """What a name means, and the bundles: those that were named, or those that are where it is."""
    where_it_is: Callable[[str], Sequence[bytes | Packed]] = bundles_beside
    if in_registry(name):
        from mvmnix.api.verify import attached  # noqa: PLC0415 - files don't pay for what asks a network

        blob, where_it_is = attached.image_blob(name), attached.attachments_of
    else:
        blob = files.blob(name)
    return name, blob, HandedIn(where_it_is(name), criteria) if shared is None else shared
