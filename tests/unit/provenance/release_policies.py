"""A trust policy for releases that others built: two signers of one builder, at levels 3 and 1."""

from mvmnix.keys import PrivateKey
from tests.unit.provenance.foreign_world import GENERATOR, REPOSITORY

_TEXT = """
version = 1
serial = 1
expires = {expires}

[[signers]]
name = "release"
roles = [{roles}]
key = '''{key}'''

[[signers]]
name = "second"
roles = ["builder"]
key = '''{other}'''

[[builders]]
id = "{builder}"
signer = "release"
level = 3
{images}

[[builders]]
id = "{builder}"
signer = "second"
level = 1

[sources]
patterns = ["{pattern}"]
allow-local = {local}
{more}
"""


def policy_text(key: PrivateKey, other: PrivateKey, **changes: str) -> str:
    """A trust.toml, with other words in places of `_TEXT`."""
    said = {
        "expires": "2100-01-01T00:00:00Z",
        "roles": '"builder"',
        "key": key.public.pem,
        "other": other.public.pem,
        "builder": GENERATOR,
        "images": "",
        "pattern": f"git+{REPOSITORY}@refs/tags/*",
        "local": "false",
        "more": "",
    }
    return _TEXT.format(**said | changes)
