"""More builds of the same, and a policy that asks for them."""

from datetime import timedelta
from typing import Any

from mvmnix.keys import PrivateKey
from mvmnix.provenance.policy.policy import TrustPolicy
from tests.unit.provenance import world as worlds
from tests.unit.provenance.world import NOW, World

SECOND, THIRD = PrivateKey.generate(), PrivateKey.generate()
BUILT = NOW - timedelta(minutes=7)
AGAIN: dict[str, Any] = {"invocation": "urn:uuid:2", "started": BUILT + timedelta(minutes=1), "finished": NOW}


def saying(text: str) -> TrustPolicy:
    """The policy with another table in it."""
    return worlds.policy("[launch]", f"{text}\n[launch]")


def agreed(wanted: int, *keys: PrivateKey) -> TrustPolicy:
    """A policy that trusts these builders besides the first, and asks for so many."""
    more = "".join(
        f'[[signers]]\nname = "b{n}"\nroles = ["builder"]\nkey = """\n{key.public.pem}"""\n'
        f'[[builders]]\nid = "urn:mvmnix:builder:microvm:1"\nsigner = "b{n}"\nlevel = 1\n'
        for n, key in enumerate(keys)
    )
    return saying(f"[thresholds]\nrebuilds = {wanted}\n{more}")


def rebuilt(it: World, key: PrivateKey, *changes: worlds.Change, **fields: Any) -> bytes:
    """What another builder says of the same files; the first provenance stays."""
    first = it.provenance_bundle
    it.sign_provenance(*changes, key=key, **AGAIN | fields)
    second, it.provenance_bundle = it.provenance_bundle, first
    return second
