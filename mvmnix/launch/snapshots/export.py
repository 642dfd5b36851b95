"""Seals a snapshot to another host's key, as one file, and opens such a file.

The file is a mark, an X25519 public key that was made for this file alone (RFC 7748, section 6.1), and a sealed stream
(launch/templates/sealed_stream.py) under a key that HKDF (RFC 5869) derives from what this key and the recipient's have
in common. The stream has the bundle of the statement and the plan's, each behind its length, 4 bytes in big-endian
order; the snapshot's own key; and its sealed file, as it is. That says nothing of who wrote it: whose snapshot it is,
the statement's signature says.
"""

import base64
import binascii
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mvmnix.launch.snapshots.store import BUNDLE_LIMIT, KeptSnapshot
from mvmnix.launch.templates.sealed_stream import CHUNK, KEY_BYTES, PlainStream, Readable, open_stream, sealed_chunks

_MAGIC: Final = b"mvmnix snapshot export 1\n"
_LENGTH: Final = 4
_ABOUT: Final = b"an exported snapshot"
_RECIPIENT: Final = b"mvmnix recipient of snapshots"
_PUBLIC_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class ExportedSnapshot:
    """What an export holds, none of it trusted: both bundles, the snapshot's own key, and its sealed file in pieces.

    The pieces are read from the file as they are taken. Raises ValueError then, where it isn't as it was sealed.
    """

    bundle: bytes
    plan: bytes
    key: bytes
    sealed: Iterator[bytes]


def recipient_key(sealing_key: bytes) -> X25519PrivateKey:
    """Return the key that opens what was exported to this host, which is derived from its sealing key."""
    return X25519PrivateKey.from_private_bytes(HKDF(hashes.SHA256(), KEY_BYTES, None, _RECIPIENT).derive(sealing_key))


def show_recipient(key: X25519PublicKey) -> str:
    """Return the key as one line: the base64 of its SubjectPublicKeyInfo in DER (RFC 8410)."""
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(key.public_bytes(encoding, form)).decode()


def parse_recipient(text: str) -> X25519PublicKey:
    """Read what `show_recipient` wrote, and nothing else: no key of low order either. Raises ValueError."""
    try:
        key = serialization.load_der_public_key(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("not the base64 of a public key") from error
    if not isinstance(key, X25519PublicKey) or show_recipient(key) != text:
        raise ValueError("not an X25519 public key")
    X25519PrivateKey.generate().exchange(key)
    return key


def exported(kept: KeptSnapshot, key: bytes, recipient: X25519PublicKey) -> Iterator[bytes]:
    """Yield the bytes of an export; `key` is the snapshot's own, `recipient` of `parse_recipient`. Raises OSError."""
    ours = X25519PrivateKey.generate()
    public = ours.public_key().public_bytes_raw()
    stream_key = _stream_key(ours.exchange(recipient), public, recipient)
    yield _MAGIC + public
    yield from sealed_chunks(stream_key, _ABOUT, _plain(kept, key))


def open_export(file: Readable, key: X25519PrivateKey) -> ExportedSnapshot:
    """Open an export with the recipient's key. Raises ValueError for what is none, or is sealed to another key."""
    head = file.read(len(_MAGIC) + _PUBLIC_BYTES)
    if len(head) != len(_MAGIC) + _PUBLIC_BYTES or not head.startswith(_MAGIC):
        raise ValueError("it is not an exported snapshot")
    public = head[len(_MAGIC) :]
    shared = key.exchange(X25519PublicKey.from_public_bytes(public))
    stream = PlainStream(open_stream(_stream_key(shared, public, key.public_key()), _ABOUT, file))
    bundle, plan = _bundle(stream), _bundle(stream)
    return ExportedSnapshot(bundle, plan, stream.exactly(KEY_BYTES), iter(lambda: stream.most(CHUNK), b""))


def _bundle(stream: PlainStream) -> bytes:
    size = int.from_bytes(stream.exactly(_LENGTH), "big")
    if size > BUNDLE_LIMIT:
        raise ValueError("it has a bundle that is too long")
    return stream.exactly(size)


def _plain(kept: KeptSnapshot, key: bytes) -> Iterator[bytes]:
    for bundle in (kept.bundle, kept.plan):
        yield len(bundle).to_bytes(_LENGTH, "big") + bundle
    yield key
    at = 0
    while piece := os.pread(kept.sealed, CHUNK, at):
        at += len(piece)
        yield piece


def _stream_key(shared: bytes, public: bytes, recipient: X25519PublicKey) -> bytes:
    """Both public keys are part of it, so that no third key opens the file (RFC 7748, section 6.1)."""
    info = b"mvmnix exported snapshot\0" + public + recipient.public_bytes_raw()
    return HKDF(hashes.SHA256(), KEY_BYTES, None, info).derive(shared)
