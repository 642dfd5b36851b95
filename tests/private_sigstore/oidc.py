"""Says who somebody is, as an OIDC issuer does: identity tokens, discovery, keys, and the login without a person."""

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from tests.private_sigstore.keys import LogKey

#: The client id that Sigstore's clients have, and so the audience of their tokens.
AUDIENCE = "sigstore"
LIFETIME = timedelta(minutes=5)

type Json = dict[str, Any]


def url_encode(data: bytes) -> str:
    """Base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def url_decode(text: str) -> bytes:
    """The bytes of base64url without padding. Raises ValueError."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuer at a URL. Whoever logs in at it is `person`; nobody is asked."""

    url: str
    person: str
    key: LogKey = field(default_factory=LogKey)
    codes: dict[str, tuple[str, str]] = field(default_factory=dict)

    def token(self, subject: str, at: datetime, *, audience: str = AUDIENCE, lifetime: timedelta = LIFETIME) -> str:
        """An identity token (OpenID Connect Core, section 2), signed with ES256."""
        begin = int(at.timestamp())
        claims: Json = {"iss": self.url, "sub": subject, "aud": audience, "iat": begin}
        claims["exp"] = begin + int(lifetime.total_seconds())
        if "@" in subject and "://" not in subject:
            claims |= {"email": subject, "email_verified": True}
        header = {"alg": "ES256", "typ": "JWT", "kid": self.key.log_id.hex()}
        signed = ".".join(url_encode(json.dumps(part).encode()) for part in (header, claims))
        r, s = decode_dss_signature(self.key.sign(signed.encode()))
        return f"{signed}.{url_encode(r.to_bytes(32) + s.to_bytes(32))}"

    def subject_of(self, token: str, at: datetime) -> str:
        """Whose token it is. Raises ValueError unless we made it, for Sigstore, and it is good at that time."""
        signed, _, signature = token.rpartition(".")
        raw = url_decode(signature)
        der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
        try:
            self.key.private.public_key().verify(der, signed.encode(), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise ValueError("the token is not this issuer's") from error
        claims = json.loads(url_decode(signed.partition(".")[2]))
        if claims["iss"] != self.url or claims["aud"] != AUDIENCE:
            raise ValueError("the token is not of this issuer for Sigstore")
        if not claims["iat"] - 5 <= at.timestamp() < claims["exp"]:
            raise ValueError("the token is not valid now")
        return str(claims["sub"])

    def configuration(self) -> Json:
        """OpenID Connect Discovery, section 3."""
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }

    def keys(self) -> Json:
        """The keys as a JWK set (RFC 7517)."""
        numbers = self.key.private.public_key().public_numbers()
        x, y = (url_encode(number.to_bytes(32)) for number in (numbers.x, numbers.y))
        key = {"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.key.log_id.hex(), "x": x, "y": y}
        return {"keys": [key]}

    def authorize(self, challenge: str, redirect: str) -> str:
        """A code for whoever logs in (RFC 6749, section 4.1), bound to a PKCE challenge (RFC 7636) and an address."""
        code = secrets.token_urlsafe(16)
        self.codes[code] = (challenge, redirect)
        return code

    def exchange(self, code: str, verifier: str, redirect: str, at: datetime) -> str:
        """The token for a code, once. Raises ValueError."""
        known = self.codes.pop(code, None)
        if known != (url_encode(hashlib.sha256(verifier.encode()).digest()), redirect):
            raise ValueError("no such code, or it is somebody else's")
        return self.token(self.person, at)
