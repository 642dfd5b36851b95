"""Makes, keeps and uses signing keys: the only place that sees a private key, and it never shows one.

ECDSA on P-256 with SHA-256, or Ed25519: the two kinds that `cosign` verifies in Sigstore bundles with a key.
"""

import base64
import binascii
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NoReturn, Self, final, override

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.formats.escaping import shell_command
from mvmnix.system.private_dirs import Directory
from mvmnix.system.trusted_path import owner_name, repair

#: A PKCS#8 PEM of these kinds has less than 300 bytes.
_LIMIT: Final = 4096
_ENCRYPTED: Final = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"


class Role(StrEnum):
    """Which claims a key may sign; separate keys for separate powers."""

    BUILDER = "builder"
    PLANNER = "planner"
    HOST = "host"
    VERIFIER = "verifier"


class Algorithm(StrEnum):
    """The kinds of key."""

    ED25519 = "ed25519"
    ECDSA_P256 = "ecdsa-p256"


@dataclass(frozen=True, slots=True, order=True)
class PublicKey:
    """A public key, as its SubjectPublicKeyInfo in DER (RFC 5280, section 4.1)."""

    spki: bytes

    def __post_init__(self) -> None:
        # one key, one spelling: fingerprints are compared, so no second encoding of the same key may pass
        if _encode(self._load()) != self.spki:
            raise ValueError("not the DER encoding of a public key")

    @classmethod
    def from_pem(cls, text: str) -> Self:
        """Parse `-----BEGIN PUBLIC KEY-----`. Raises ValueError."""
        try:
            key = serialization.load_pem_public_key(text.encode())
        except UnsupportedAlgorithm as error:
            raise ValueError("not a public key in PEM, of a kind that mvm knows") from error
        except ValueError as error:
            raise ValueError("not a public key in PEM") from error
        return cls(_encode(key))

    @classmethod
    def from_base64(cls, text: str) -> Self:
        """Parse the base64 of the DER, on one line. Raises ValueError."""
        try:
            return cls(base64.b64decode(text, validate=True))
        except binascii.Error as error:
            raise ValueError("not base64") from error

    @classmethod
    def from_raw(cls, raw: bytes) -> Self:
        """The Ed25519 key with these 32 bytes (RFC 8032, section 5.1.5). Raises ValueError."""
        return cls(_encode(ed25519.Ed25519PublicKey.from_public_bytes(raw)))

    @property
    def fingerprint(self) -> Digest:
        """SHA-256 of the SubjectPublicKeyInfo: what a key is called everywhere."""
        return Digest.of(self.spki)

    @property
    def hint(self) -> str:
        """The fingerprint in base64, as Sigstore bundles carry it (`publicKey.hint`)."""
        return base64.b64encode(self.fingerprint.raw).decode()

    @property
    def pem(self) -> str:
        """The key as other tools read it."""
        encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        return self._load().public_bytes(encoding, form).decode()

    @property
    def algorithm(self) -> Algorithm:
        """Which kind of key it is."""
        return Algorithm.ED25519 if isinstance(self._load(), ed25519.Ed25519PublicKey) else Algorithm.ECDSA_P256

    @property
    def raw(self) -> bytes:
        """The 32 bytes of an Ed25519 key, as C2SP signed notes name it. Raises ValueError for another kind."""
        key = self._load()
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise ValueError("only an Ed25519 key has a raw form")  # noqa: TRY004 - the value is wrong, not its type
        return key.public_bytes_raw()

    def verified(self, message: bytes, signature: bytes) -> bytes:
        """The message, now known to be signed by this key. Raises ValueError when it is not."""
        key = self._load()
        try:
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(signature, message)
            else:
                key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise ValueError(f"the signature was not made by key {self.fingerprint} over these bytes") from error
        return message

    def verified_digest(self, digest: Digest, signature: bytes, read: Callable[[], bytes] | None = None) -> Digest:
        """The digest of a file, now known to be signed by this key. Raises ValueError when it is not.

        ECDSA signs the SHA-256 of a file, Ed25519 the file itself: for that its bytes are read, which `read` does.
        """
        key = self._load()
        if isinstance(key, ed25519.Ed25519PublicKey):
            if read is None:
                raise ValueError("an Ed25519 signature can be checked over the file itself only, not over its digest")
            message = read()
            if Digest.of(message) != digest:
                raise ValueError(f"the file is not the one with the digest {digest}")
            self.verified(message, signature)
            return digest
        try:
            key.verify(signature, digest.raw, ec.ECDSA(Prehashed(hashes.SHA256())))
        except InvalidSignature as error:
            raise ValueError(f"the signature was not made by key {self.fingerprint} over this file") from error
        return digest

    def _load(self) -> ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey:
        try:
            key = serialization.load_der_public_key(self.spki)
        except UnsupportedAlgorithm as error:
            raise ValueError("not a public key of a kind that mvm knows") from error
        except ValueError as error:
            raise ValueError("not the DER encoding of a public key") from error
        return _known_public(key)


@final
class PrivateKey:
    """A private key in memory: signs, tells its public half, and can be neither printed, copied nor pickled."""

    __slots__ = ("_key", "public")

    def __init__(self, key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> None:
        self._key: Final = key
        self.public: Final = PublicKey(_encode(key.public_key()))

    @classmethod
    def generate(cls, algorithm: Algorithm = Algorithm.ED25519) -> Self:
        """A new key that is kept nowhere."""
        match algorithm:
            case Algorithm.ED25519:
                return cls(ed25519.Ed25519PrivateKey.generate())
            case Algorithm.ECDSA_P256:
                return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def create(
        cls, directory: Directory, name: str, algorithm: Algorithm = Algorithm.ED25519, password: str | None = None
    ) -> Self:
        """Make a key and keep it durably (PKCS#8 PEM, 0600; encrypted with a password: RFC 5958, section 3).

        Raises FileExistsError: a key is never replaced.
        """
        key = cls.generate(algorithm)
        fd = directory.create_file(name)
        try:
            os.fchmod(fd, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(key._pem(password))  # noqa: SLF001 - our own class
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            directory.remove(name)
            raise
        directory.sync()
        return key

    @classmethod
    def load(cls, directory: Directory, name: str, password: Callable[[], str] | None = None) -> Self:
        """Read a key that only we can read; `password` is asked for if it is encrypted.

        Raises FileNotFoundError, RefusedError KEY_PERMISSIONS, KEY_MALFORMED, KEY_PASSWORD for none or a wrong one.
        """
        where = directory.where(name)
        try:
            fd = directory.open_file(name)
        except RefusedError as error:
            reason = error.reasons[0]
            raise _loose(where, reason.why, reason.hint) from error
        with os.fdopen(fd, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid():
                raise _loose(
                    where, f"it belongs to {owner_name(status.st_uid)}, not to us", repair(where, recursive=False)
                )
            if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise _loose(where, f"others can read or change it (mode {stat.S_IMODE(status.st_mode):04o})", "")
            text = file.read(_LIMIT)
        if text.startswith(_ENCRYPTED):
            return cls(_decrypted(text, password, where))
        try:
            return cls(_known_private(serialization.load_pem_private_key(text, password=None)))
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # no `from`: an error of the library could quote what it read
            raise _malformed(where) from None

    def sign(self, message: bytes) -> bytes:
        """A signature over the message: Ed25519, or ECDSA with SHA-256 in DER."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(message)
        return self._key.sign(message, ec.ECDSA(hashes.SHA256()))

    def _pem(self, password: str | None) -> bytes:
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        if password is None:
            return self._key.private_bytes(encoding, form, serialization.NoEncryption())
        return self._key.private_bytes(encoding, form, serialization.BestAvailableEncryption(password.encode()))

    @override
    def __repr__(self) -> str:
        return f"PrivateKey({self.public.fingerprint})"

    @override
    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key stays in the process that read it")


def _encode(key: object) -> bytes:
    return _known_public(key).public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _known_public(key: object) -> ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey:
    match key:
        case ed25519.Ed25519PublicKey():
            return key
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1):
            return key
        case _:
            raise ValueError("only ECDSA P-256 and Ed25519 keys are known")


def _known_private(key: object) -> ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey:
    match key:
        case ed25519.Ed25519PrivateKey():
            return key
        case ec.EllipticCurvePrivateKey() if isinstance(key.curve, ec.SECP256R1):
            return key
        case _:
            raise ValueError("only ECDSA P-256 and Ed25519 keys are known")


def _decrypted(
    text: bytes, password: Callable[[], str] | None, where: str
) -> ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey:
    hint = "name its password: `[keys] password` in config.toml, env:NAME or file:/PATH; at a terminal it is asked for"
    given = b"" if password is None else password().encode()
    if not given:
        raise refuse(ReasonCode.KEY_PASSWORD, where, "it is encrypted, and no password was given", hint)
    try:
        key = serialization.load_pem_private_key(text, password=given)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # a wrong password and broken bytes look alike: neither is told more about
        raise refuse(ReasonCode.KEY_PASSWORD, where, "the password does not open it", hint) from None
    try:
        return _known_private(key)
    except ValueError:
        raise _malformed(where) from None


def _malformed(where: str) -> RefusedError:
    why = "it is not a PKCS#8 key (ECDSA P-256 or Ed25519) in PEM"
    return refuse(
        ReasonCode.KEY_MALFORMED, where, why, "restore it from a backup, or move it away and run `mvm key create`"
    )


def _loose(where: str, why: str, how: str) -> RefusedError:
    steps = (how, shell_command("chmod", "600", where), "if others could read it, make a new key instead")
    return refuse(ReasonCode.KEY_PERMISSIONS, where, why, "; ".join(filter(None, steps)))
