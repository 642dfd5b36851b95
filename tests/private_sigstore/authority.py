"""Certifies identities as Fulcio does: a root, an intermediate, leaves with embedded SCTs of a CT log."""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.private_sigstore import der
from tests.private_sigstore.keys import LogKey, encode, new_key
from tests.private_sigstore.window import ALWAYS, Window

#: Fulcio's extensions (fulcio, docs/oid-info.md): the issuer as raw text, and as UTF8String.
ISSUER_V1, ISSUER_V2 = "1.3.6.1.4.1.57264.1.1", "1.3.6.1.4.1.57264.1.8"
#: RFC 6962, section 3.3.
SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
#: How long Fulcio's certificates are good for.
LIFETIME = timedelta(minutes=10)
OLD, LATE = datetime(2019, 1, 1, tzinfo=UTC), datetime(2049, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a certificate says. `names` are its SANs; `fields` are Fulcio's extensions by OID, as their raw value."""

    spki: bytes
    names: tuple[x509.GeneralName, ...]
    fields: Mapping[str, bytes]
    not_before: datetime
    not_after: datetime
    usages: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.CODE_SIGNING,)
    signs: bool = True
    is_ca: bool = False

    @classmethod
    def of(cls, spki: bytes, *, subject: str, issuer: str, at: datetime) -> Self:
        """What Fulcio certifies of a token: `subject` is an address (`a@b`) or a URI, `issuer` a URL."""
        return cls(spki, (name(subject),), issuer_fields(issuer), at, at + LIFETIME)


def name(subject: str) -> x509.GeneralName:
    """A SAN: an email address if it looks like one, else a URI."""
    is_address = "@" in subject and "://" not in subject
    return x509.RFC822Name(subject) if is_address else x509.UniformResourceIdentifier(subject)


def issuer_fields(issuer: str) -> dict[str, bytes]:
    """Both extensions that name the OIDC issuer."""
    return {ISSUER_V1: issuer.encode(), ISSUER_V2: der.utf8(issuer)}


@dataclass(frozen=True, slots=True)
class Sct:
    """A signed certificate timestamp, version 1 (RFC 6962, section 3.2); `time` in milliseconds since 1970."""

    log_id: bytes
    time: int
    signature: bytes

    def to_bytes(self) -> bytes:
        """As the list in the certificate holds it: no extensions; SHA-256 and ECDSA."""
        head = struct.pack("!B32sQH", 0, self.log_id, self.time, 0)
        body = head + b"\x04\x03" + struct.pack("!H", len(self.signature)) + self.signature
        return struct.pack("!H", len(body)) + body


@dataclass(frozen=True, slots=True)
class CtLog:
    """The CT log: promises to log precertificates."""

    key: LogKey = field(default_factory=LogKey)
    valid_for: Window = ALWAYS

    def promise(self, tbs: bytes, ca_spki: bytes, at: datetime) -> Sct:
        """An SCT for a precertificate whose TBSCertificate this is, from the CA with that key."""
        digest = hashes.Hash(hashes.SHA256())
        digest.update(ca_spki)
        time = int(at.timestamp() * 1000)
        signed = struct.pack("!BBQH", 0, 0, time, 1) + digest.finalize() + len(tbs).to_bytes(3) + tbs + b"\0\0"
        return Sct(self.key.log_id, time, self.key.sign(signed))

    def to_json(self) -> dict[str, Any]:
        """`TransparencyLogInstance` of a trusted root."""
        return log_instance("https://ctfe.test", self.key, self.valid_for)


def log_instance(url: str, key: LogKey, valid_for: Window) -> dict[str, Any]:
    """`TransparencyLogInstance` of a trusted root (protobuf-specs, sigstore_trustroot.proto)."""
    public = {"rawBytes": encode(key.spki), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": valid_for.to_json()}
    return {
        "baseUrl": url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": public,
        "logId": {"keyId": encode(key.log_id)},
    }


def authority(url: str, chain: tuple[x509.Certificate, ...], valid_for: Window) -> dict[str, Any]:
    """`CertificateAuthority` of a trusted root."""
    return {
        "subject": {"organization": "private", "commonName": "private sigstore"},
        "uri": url,
        "certChain": {"certificates": [{"rawBytes": encode(one.public_bytes(Encoding.DER))} for one in chain]},
        "validFor": valid_for.to_json(),
    }


def named(common_name: str) -> x509.Name:
    """A distinguished name."""
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "private"), x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    )


def usage(*, signs: bool, is_ca: bool) -> x509.KeyUsage:
    """Key usage of a leaf or a CA."""
    return x509.KeyUsage(
        digital_signature=signs,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=not (signs or is_ca),
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


type Key = ec.EllipticCurvePrivateKey


def ca_certificate(subject: str, key: Key, issuer: str, issuer_key: Key, length: int) -> x509.Certificate:
    """A CA's certificate; `length` is how many CAs may stand below it."""
    public = key.public_key()
    return (
        x509.CertificateBuilder(named(issuer), named(subject), public, x509.random_serial_number(), OLD, LATE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=length), critical=True)
        .add_extension(usage(signs=False, is_ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


@dataclass(frozen=True, slots=True)
class Ca:
    """The certificate authority: an intermediate that a root certified."""

    key: Key
    intermediate: x509.Certificate
    root: x509.Certificate
    valid_for: Window = ALWAYS

    @classmethod
    def new(cls) -> Self:
        """Keys and certificates made anew."""
        root, key = new_key(), new_key()
        top = ca_certificate("root", root, "root", root, 1)
        return cls(key, ca_certificate("intermediate", key, "root", root, 0), top)

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """The certificates above a leaf, nearest first."""
        return (self.intermediate, self.root)

    def issue(self, leaf: Leaf, log: CtLog, at: datetime, scts: Callable[[tuple[Sct, ...]], tuple[Sct, ...]]) -> bytes:
        """Certify a leaf, with an SCT that `scts` may change before the certificate is signed. In DER."""
        builder = self._builder(leaf)
        # RFC 6962, section 3.2: what the SCT signs is the certificate without the list of SCTs
        tbs = builder.sign(self.key, hashes.SHA256()).tbs_certificate_bytes
        spki = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if embedded := scts((log.promise(tbs, spki, at),)):
            every = b"".join(sct.to_bytes() for sct in embedded)
            value = der.octets(struct.pack("!H", len(every)) + every)
            builder = builder.add_extension(x509.UnrecognizedExtension(SCT_LIST, value), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def _builder(self, leaf: Leaf) -> x509.CertificateBuilder:
        key = load_der_public_key(leaf.spki)
        if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
            raise TypeError("no key that can be certified")
        serial = x509.random_serial_number()
        above = self.key.public_key()
        builder = (
            x509.CertificateBuilder(
                self.intermediate.subject, x509.Name([]), key, serial, leaf.not_before, leaf.not_after
            )
            .add_extension(usage(signs=leaf.signs, is_ca=leaf.is_ca), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above), critical=False)
        )
        if leaf.is_ca:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        if leaf.usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(leaf.usages), critical=False)
        if leaf.names:
            builder = builder.add_extension(x509.SubjectAlternativeName(leaf.names), critical=True)
        for dotted, value in leaf.fields.items():
            extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(dotted), value)
            builder = builder.add_extension(extension, critical=False)
        return builder

    def to_json(self) -> dict[str, Any]:
        """`CertificateAuthority` of a trusted root."""
        return authority("https://fulcio.test", self.chain, self.valid_for)
