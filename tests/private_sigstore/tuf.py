"""Writes an instance's trusted root as a TUF client has it in its cache: some clients take a root from nowhere else."""

import hashlib
from pathlib import Path
from typing import Final

from mvmnix.formats import strict
from mvmnix.keys import Algorithm, PrivateKey
from tests.private_sigstore.hooks import Json

ROLES: Final = ("root", "timestamp", "snapshot", "targets")
TARGET: Final = "trusted_root.json"


def write_cache(directory: Path, trusted_root: bytes) -> None:
    """The metadata of a repository with this root as its one target, signed with a key of its own, and the target.

    TUF specification 1.0, section 4. Its canonical JSON is the same as mvm's for the texts and numbers that are here.
    """
    key = PrivateKey.generate(Algorithm.ED25519)
    public = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": key.public.spki[-32:].hex()}}
    key_id = hashlib.sha256(strict.canonical(public)).hexdigest()
    role = {"keyids": [key_id], "threshold": 1}
    target = {"hashes": {"sha256": hashlib.sha256(trusted_root).hexdigest()}, "length": len(trusted_root)}
    contents: dict[str, Json] = {
        "root": {"consistent_snapshot": False, "keys": {key_id: public}, "roles": dict.fromkeys(ROLES, role)},
        "targets": {"targets": {TARGET: target}},
        "snapshot": {"meta": {"targets.json": {"version": 1}}},
        "timestamp": {"meta": {"snapshot.json": {"version": 1}}},
    }
    (directory / "targets").mkdir(parents=True)
    (directory / "targets" / TARGET).write_bytes(trusted_root)
    for name in ROLES:
        # nothing of this grows old while a test runs
        always = {"_type": name, "spec_version": "1.0.31", "version": 1, "expires": "2049-01-01T00:00:00Z"}
        signed = always | contents[name]
        signature = {"keyid": key_id, "sig": key.sign(strict.canonical(signed)).hex()}
        (directory / f"{name}.json").write_bytes(strict.canonical({"signed": signed, "signatures": [signature]}))
