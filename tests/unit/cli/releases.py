"""A release as somebody downloads it: a file, its bundles, a key; and the command line that verifies it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvmnix.digest import Digest
from mvmnix.keys import Algorithm, PrivateKey
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.bundle.envelope import MessageBundle
from mvmnix.provenance.bundle.verification_material import Material
from tests.unit.cli.station import Said, Station
from tests.unit.provenance import foreign_world as foreign
from tests.unit.provenance.release_policies import policy_text

KEY, OTHER, P256 = PrivateKey.generate(), PrivateKey.generate(), PrivateKey.generate(Algorithm.ECDSA_P256)


@dataclass
class Release:
    """A directory with app.img, and what stands beside it."""

    station: Station
    path: Path

    @property
    def artifact(self) -> Path:
        return self.path / "app.img"

    @property
    def bundle(self) -> Path:
        return self.path / "app.img.sigstore.json"

    def key(self, key: PrivateKey = KEY) -> Path:
        """The public key of somebody, in a file."""
        path = self.path / f"{key.public.fingerprint.hex[:8]}.pub"
        path.write_text(key.public.pem)
        return path

    def verify(self, *more: str | Path, key: PrivateKey | None = KEY) -> Said:
        """Verify the file with that key; with None, without."""
        whom = () if key is None else ("--key", self.key(key))
        return self.station.mvm("verify", *whom, *more)

    def put(self, *bundles: bytes) -> Path:
        """Have these bundles beside the file: one as JSON, several as JSON Lines."""
        self.bundle.write_bytes(b"\n".join(bundles))
        return self.bundle


def release(station: Station) -> Release:
    """One with a provenance by KEY, formatted as other tools do."""
    path = station.path / "release"
    path.mkdir()
    made = Release(station, path)
    made.artifact.write_bytes(foreign.ARTIFACT)
    made.put(pretty(provenance()))
    return made


def provenance(key: PrivateKey = KEY, *digests: Digest, **changes: Any) -> bytes:
    """The bundle of a SLSA v1 statement about the file."""
    return signed(foreign.statement(foreign.V1, foreign.workflow(**changes), *digests), key)


def signed(statement: foreign.Json | bytes, key: PrivateKey = KEY) -> bytes:
    """The bundle of a statement."""
    return envelope.sign(statement if isinstance(statement, bytes) else foreign.to_bytes(statement), key).to_bytes()


def signature(data: bytes = foreign.ARTIFACT, key: PrivateKey = KEY) -> bytes:
    """The bundle of a signature over a file itself."""
    return MessageBundle(key.sign(data), Digest.of(data), Material(key.public.hint)).to_bytes()


def pretty(bundle: bytes) -> bytes:
    """The same in many lines."""
    return json.dumps(json.loads(bundle), indent=2).encode()


def policy(it: Release, **changes: str) -> Path:
    path = it.path / "policy/trust.toml"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(policy_text(KEY, OTHER, **changes))
    path.chmod(0o600)
    return path
