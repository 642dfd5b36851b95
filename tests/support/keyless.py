"""A user's trust policy that knows a job, which signs keyless, as a builder and a planner."""

from pathlib import Path

from mvmnix.provenance.slsa.provenance import MICROVM
from tests.private_sigstore import Sigstore

SUBJECT = "ci@mvmnix.test"
BELIEVED = """\
[[roots]]
name = "ours"
sha256 = "{root}"

[[signers]]
name = "ci"
roles = ["builder", "planner"]
identity = "{subject}"
issuer = "{issuer}"
root = "ours"

[[builders]]
id = "{microvm}"
signer = "ci"
level = 1

[sources]"""


def trust(config: Path, private: Sigstore, issuer: str) -> None:
    """Have the user's policy know the job as a builder and a planner."""
    (config / "roots").mkdir(mode=0o700)
    (config / "roots/ours.json").write_bytes(private.trusted_root)
    text = (config / "trust.toml").read_text()
    more = BELIEVED.format(root=private.domain.hex, subject=SUBJECT, issuer=issuer, microvm=MICROVM)
    (config / "trust.toml").write_text(text.replace("[sources]", more, 1))
