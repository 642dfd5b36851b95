"""The trust policy that a workstation begins with: it trusts the keys that were made here, each in its role."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from mvmnix.formats.strict import show_time
from mvmnix.keys import PublicKey, Role
from mvmnix.provenance.isolation import Isolation
from mvmnix.provenance.policy.rules import BUILDER_IMAGE
from mvmnix.provenance.slsa.provenance import HOST_NIX, MICROVM

#: How long the policy of a workstation lasts. Long: any user of the account can write another one anyway.
YEARS: Final = 10
_TEXT: Final = """\
# Whom mvm trusts on this workstation. Made by mvm with the keys in keys/; docs/reference/trust-policy.md has the
# format. Builds on a workstation are worth SLSA Build level 1: any user of this account can sign what they like.
version = 1
serial = {serial:<24} # add one with each change: a file with a lower serial than the last one is refused
expires = {expires}    # {years} years after it was made; look at the file before you set a later day
{signers}
[[builders]]
id = "{microvm}"
signer = "builder"
level = 1

# The host's own Nix builds the first builder image, and no other.
[[builders]]
id = "{host_nix}"
signer = "builder"
level = 1
images = ["{image}"]

[sources]
patterns = ["*"]
allow-local = true

[launch]
isolation = "{isolation}"
"""


def default_policy(keys: Mapping[Role, PublicKey], *, now: datetime, serial: int = 1) -> bytes:
    """The text of a trust.toml that trusts these keys, each in its role, and expires after YEARS, on a 1 January."""
    if Role.BUILDER not in keys:
        raise ValueError("a policy needs a builder key")
    signers = "".join(
        f'\n[[signers]]\nname = "{role}"\nroles = ["{role}"]\nkey = """\n{keys[role].pem}"""\n'
        for role in Role
        if role in keys
    )
    return _TEXT.format(
        serial=serial,
        signers=signers,
        microvm=MICROVM,
        host_nix=HOST_NIX,
        image=BUILDER_IMAGE,
        isolation=Isolation.MICROVM,
        expires=show_time(datetime(now.year + YEARS + 1, 1, 1, tzinfo=UTC)),
        years=YEARS,
    ).encode()
