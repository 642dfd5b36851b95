"""Turns whom a caller chose to trust, by a key, an identity or a policy, into what bundles are held against."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, override

from mvmnix.api.files import file_bytes
from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.errors import RefusedError, UnreadableError, UsageError
from mvmnix.keys import PublicKey, Role
from mvmnix.provenance.identity.trust import Identity, Pattern, Signer, Trust
from mvmnix.provenance.verify.artifact_verifier import VerificationCriteria
from mvmnix.provenance.verify.requirements import Requirements

if TYPE_CHECKING:
    from mvmnix.provenance.policy.policy import TrustPolicy

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
                hint = "pin it in the policy: [[roots]], docs/reference/trust-policy.md"
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
        try:
            identity = Identity(subject, issuer, domain)
        except ValueError as error:
            hint = "begin a URI with its scheme, and have the @ of an email address in it"
            raise UsageError(f"--certificate-identity-regexp: {error}", hint=hint) from error
        return Trust((Signer(subject.text, identity, _ANY_ROLE),), {domain: root})

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
        raise UsageError(
            f"--{option}-regexp: {error}", hint="write a regular expression of RE2's: docs/reference/verify.md"
        ) from error


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
