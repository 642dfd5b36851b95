"""Keys: two kinds, one spelling each, kept where nobody else can read them, and never shown."""

import base64
import copy
import os
import pickle
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.keys import Algorithm, PrivateKey, PublicKey, Role
from mvmnix.system.private_dirs import Directory

NAME = "builder.pem"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    with Directory.create(str(tmp_path / "keys")) as found:
        yield found


def path(directory: Directory) -> Path:
    return Path(directory.where(NAME))


def spki(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_key_is_made_kept_and_used(directory: Directory, algorithm: Algorithm) -> None:
    made = PrivateKey.create(directory, NAME, algorithm)
    assert made.public.algorithm is algorithm
    assert path(directory).stat().st_mode & 0o7777 == 0o600
    loaded = PrivateKey.load(directory, NAME)
    assert loaded.public == made.public
    assert made.public.verified(b"message", loaded.sign(b"message")) == b"message"


@pytest.mark.parametrize("algorithm", Algorithm)
def test_other_messages_signatures_and_keys(algorithm: Algorithm) -> None:
    key, other = PrivateKey.generate(algorithm), PrivateKey.generate(algorithm)
    signature = key.sign(b"message")
    for public, message, signed in (
        (key.public, b"massage", signature),
        (key.public, b"message", b""),
        (key.public, b"message", signature[:-1]),
        (key.public, b"message", signature + b"\0"),
        (other.public, b"message", signature),
    ):
        with pytest.raises(ValueError, match="signature"):
            public.verified(message, signed)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_signature_over_a_file(algorithm: Algorithm) -> None:
    key, other = PrivateKey.generate(algorithm), PrivateKey.generate(algorithm)
    file, digest = b"a file", Digest.of(b"a file")
    assert key.public.verified_digest(digest, key.sign(file), lambda: file) == digest
    for public, of in ((key.public, Digest.of(b"another")), (other.public, digest)):
        with pytest.raises(ValueError, match=r"signature|not the one with the digest"):
            public.verified_digest(of, key.sign(file), lambda: file)
    if algorithm is Algorithm.ED25519:
        with pytest.raises(ValueError, match="over the file itself only"):
            key.public.verified_digest(digest, key.sign(file))
        with pytest.raises(ValueError, match="not the one with the digest"):
            key.public.verified_digest(digest, key.sign(b"another"), lambda: b"another")
    else:
        assert key.public.verified_digest(digest, key.sign(file)) == digest


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_public_key_has_one_name(algorithm: Algorithm) -> None:
    public = PrivateKey.generate(algorithm).public
    assert PublicKey.from_pem(public.pem) == public
    assert PublicKey(public.spki).fingerprint == Digest.of(public.spki)
    assert len(public.hint) == 44
    with pytest.raises(ValueError, match=r"key|DER|data"):
        PublicKey(public.spki + b"\0")


def test_only_ed25519_has_a_raw_form() -> None:
    assert len(PrivateKey.generate(Algorithm.ED25519).public.raw) == 32
    with pytest.raises(ValueError, match="Ed25519"):
        _ = PrivateKey.generate(Algorithm.ECDSA_P256).public.raw


@pytest.mark.parametrize(
    "data",
    [
        spki(ec.generate_private_key(ec.SECP384R1()).public_key()),
        spki(rsa.generate_private_key(65537, 2048).public_key()),
        b"",
        b"x" * 44,
    ],
)
def test_other_kinds_of_key_are_unknown(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"key|DER|data"):
        PublicKey(data)
    with pytest.raises(ValueError, match=r"key|PEM|load"):
        PublicKey.from_pem("x")
    with pytest.raises(ValueError, match="base64"):
        PublicKey.from_base64("no")


def test_a_curve_that_the_library_does_not_have() -> None:
    """prime192v2 (RFC 5480)."""
    spki = PrivateKey.generate(Algorithm.ECDSA_P256).public.spki
    other = spki.replace(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030102"))
    pem = f"-----BEGIN PUBLIC KEY-----\n{base64.encodebytes(other).decode()}-----END PUBLIC KEY-----\n"
    with pytest.raises(ValueError, match="of a kind that mvm knows"):
        PublicKey(other)
    with pytest.raises(ValueError, match="of a kind that mvm knows"):
        PublicKey.from_pem(pem)


def test_a_compressed_point_is_another_spelling() -> None:
    numbers = ec.generate_private_key(ec.SECP256R1()).public_key()
    whole = spki(numbers)
    point = numbers.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    header = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    assert PublicKey(whole).spki == whole
    with pytest.raises(ValueError, match=r"DER|key"):
        PublicKey(header + point)


def refused(directory: Directory, code: ReasonCode) -> None:
    """Have a key refused for one reason."""
    with pytest.raises(RefusedError) as caught:
        PrivateKey.load(directory, NAME)
    assert caught.value.codes == (code,)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o606, 0o644, 0o610])
def test_loose_permissions_are_refused(directory: Directory, mode: int) -> None:
    PrivateKey.create(directory, NAME)
    path(directory).chmod(mode)
    refused(directory, ReasonCode.KEY_PERMISSIONS)


@pytest.mark.root("only root can give files away")
def test_a_foreign_owner_is_refused(directory: Directory) -> None:
    PrivateKey.create(directory, NAME)
    os.chown(path(directory), 12345, 12345)
    refused(directory, ReasonCode.KEY_PERMISSIONS)


def test_a_key_of_root_is_not_ours(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of root's is trusted, and yet it isn't the key that we made."""
    PrivateKey.create(directory, NAME)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    refused(directory, ReasonCode.KEY_PERMISSIONS)


def test_a_symbolic_link_and_a_fifo_are_refused(directory: Directory, tmp_path: Path) -> None:
    PrivateKey.create(directory, "other.pem")
    path(directory).symlink_to("other.pem")
    refused(directory, ReasonCode.KEY_PERMISSIONS)
    path(directory).unlink()
    os.mkfifo(path(directory), 0o600)
    with pytest.raises(RefusedError):
        PrivateKey.load(directory, NAME)


def test_a_directory_that_others_may_write_to(tmp_path: Path) -> None:
    loose = tmp_path / "keys"
    loose.mkdir()
    loose.chmod(0o777)
    with pytest.raises(RefusedError) as caught:
        Directory.open(str(loose))
    assert caught.value.codes == (ReasonCode.STATE_PERMISSIONS,)


@pytest.mark.parametrize("text", [b"", b"-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_is_no_key_is_not_quoted(directory: Directory, text: bytes) -> None:
    directory.write_atomic(NAME, text)
    with pytest.raises(RefusedError) as caught:
        PrivateKey.load(directory, NAME)
    assert caught.value.codes == (ReasonCode.KEY_MALFORMED,)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_how_large_a_file_with_a_key_may_be(directory: Directory) -> None:
    """What follows byte 4,096 is not read."""
    made = PrivateKey.create(directory, NAME)
    text = path(directory).read_bytes().strip()
    directory.write_atomic(NAME, text.rjust(4096, b"\n") + b"\n")
    assert PrivateKey.load(directory, NAME).public == made.public
    directory.write_atomic(NAME, text.rjust(4097, b"\n"))
    refused(directory, ReasonCode.KEY_MALFORMED)


def test_a_foreign_key_is_refused(directory: Directory) -> None:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key = rsa.generate_private_key(65537, 2048)
    word = serialization.BestAvailableEncryption(b"word")
    for kept in (serialization.NoEncryption(), word):
        directory.write_atomic(NAME, key.private_bytes(encoding, form, kept))
        with pytest.raises(RefusedError) as caught:
            PrivateKey.load(directory, NAME, lambda: "word")
        assert caught.value.codes == (ReasonCode.KEY_MALFORMED,)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_an_encrypted_key(directory: Directory, algorithm: Algorithm) -> None:
    made = PrivateKey.create(directory, NAME, algorithm, "a word")
    text = path(directory).read_bytes()
    assert text.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert PrivateKey.load(directory, NAME, lambda: "a word").public == made.public
    for password in (None, lambda: "", lambda: "another", lambda: "a word "):
        with pytest.raises(RefusedError) as caught:
            PrivateKey.load(directory, NAME, password)
        assert caught.value.codes == (ReasonCode.KEY_PASSWORD,)
        is_given = password is not None and password() != ""
        assert ("no password was given" in str(caught.value)) is not is_given
        assert "another" not in str(caught.value)


def test_a_key_that_is_not_encrypted_needs_no_password(directory: Directory) -> None:
    PrivateKey.create(directory, NAME)

    def never() -> str:
        raise AssertionError("nobody is asked")

    assert PrivateKey.load(directory, NAME, never).public == PrivateKey.load(directory, NAME).public


def test_a_key_is_never_replaced(directory: Directory) -> None:
    first = PrivateKey.create(directory, NAME)
    with pytest.raises(FileExistsError):
        PrivateKey.create(directory, NAME)
    assert PrivateKey.load(directory, NAME).public == first.public
    with pytest.raises(FileNotFoundError):
        PrivateKey.load(directory, "missing.pem")


def test_it_is_on_the_disk_or_not_there(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, then directory; where that fails, no half of a key is left that none could replace."""
    synced, real = list[bool](), os.fsync

    def fsync(fd: int) -> None:
        status = os.fstat(fd)
        synced.append(stat.S_ISREG(status.st_mode))
        assert status.st_size > 0, "all of it is written by then"
        if fails and synced[-1]:
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    fails = True
    with pytest.raises(OSError, match="No space left"):
        PrivateKey.create(directory, NAME)
    assert directory.names() == ()
    fails = False
    synced.clear()
    PrivateKey.create(directory, NAME)
    assert synced == [True, False]


def test_whatever_the_umask_is(directory: Directory) -> None:
    before = os.umask(0o777)
    try:
        made = PrivateKey.create(directory, NAME)
    finally:
        os.umask(before)
    assert path(directory).stat().st_mode & 0o7777 == 0o600
    assert PrivateKey.load(directory, NAME).public == made.public


def test_it_is_never_shown(directory: Directory) -> None:
    key = PrivateKey.create(directory, NAME)
    assert repr(key) == str(key) == f"PrivateKey({key.public.fingerprint})"
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="process"):
            copied(key)


def test_roles() -> None:
    assert [*Role] == ["builder", "planner", "host", "verifier"]
