"""Verifies what keys and what certificates signed: a plan with a large provenance, and keyless bundles."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.measurement import Figure, in_turns_with
from bench.pairs import Pair, Subject, pair
from mvmnix.digest import Digest
from mvmnix.formats import strict
from mvmnix.keys import Role
from mvmnix.model import Source
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.identity.trust import Identity, Pattern, Signer, Trust
from mvmnix.provenance.verify.authentication import authenticate
from mvmnix.vmm.boot_files import OpenFiles
from tests.private_sigstore import Sigstore, merged
from tests.unit.provenance import world as worlds

DEPENDENCIES = 200
SUBJECT, ISSUER = "ci@mvmnix.test", "https://issuer.test"
#: Verified so often for one time, since once takes a millisecond or less.
_AT_ONCE = 20


def verification(*, rounds: int) -> Iterator[Figure]:
    """Measure verification alone, which needs no world."""
    with _world() as (world, files):
        found = _pair(lambda: world.admitted(files).close(), lambda: _arithmetic(world), 3 * rounds)
        sizes = {
            f"of a provenance with {DEPENDENCIES} sources": world.provenance_bundle,
            "of a plan": world.plan_bundle,
        }
    what = f"launch gate: plan and provenance with {DEPENDENCIES} sources, signed with keys; boot files of a few bytes"
    compared = "two signatures checked, two statements parsed"
    yield in_turns_with(what, compared, found, "ours under 5", unit="ms", each=_AT_ONCE)
    for name, bundle in sizes.items():
        size = len(envelope.parse_bundle(bundle).payload)
        found = keyless(size, rounds=3 * rounds)
        what, asked = f"a keyless statement, {name}: {size:,} bytes", "ratio at most 1.2"
        yield in_turns_with(what, "verify_dsse", found, asked, unit="ms", each=_AT_ONCE)


def keyless(size: int, *, rounds: int) -> Pair:
    """A keyless statement of so many bytes, against the library's own `verify_dsse` of the same bytes.

    Both have read their trust root before: one of the shape of the public one, with a second log and CT log.
    """
    # not before keys were measured, who don't need it: the garbage collector walks over all that is there
    from sigstore.models import Bundle, ClientTrustConfig  # noqa: PLC0415
    from sigstore.verify import Verifier, policy  # noqa: PLC0415

    private, other = Sigstore(), Sigstore()
    root = merged(private, other)
    trust = Trust(
        (Signer("ci", Identity(Pattern(SUBJECT), Pattern(ISSUER), Digest.of(root)), frozenset({Role.BUILDER})),),
        {Digest.of(root): root},
    )
    bundle = private.attest(_statement(size), at=worlds.NOW, subject=SUBJECT, issuer=ISSUER)
    verifier = Verifier(trusted_root=ClientTrustConfig.from_json(_config(root)).trusted_root)
    who = policy.Identity(identity=SUBJECT, issuer=ISSUER)
    return _pair(
        lambda: authenticate(bundle, trust=trust, role=Role.BUILDER, what="it"),
        lambda: verifier.verify_dsse(Bundle.from_json(bundle), who),
        rounds,
    )


def _pair(ours: Subject, theirs: Subject, rounds: int) -> Pair:
    return pair(_often(ours), _often(theirs), rounds=rounds)


def _often(subject: Subject) -> Callable[[], None]:
    def repeated() -> None:
        for _ in range(_AT_ONCE):
            subject()

    return repeated


@contextmanager
def _world() -> Iterator[tuple[worlds.World, OpenFiles]]:
    pool = "mirror://debian/pool/main/p/package"
    many = tuple(Source(f"{pool}-{n}.deb", f"package-{n}.deb", Digest.of(str(n).encode())) for n in range(DEPENDENCIES))
    with tempfile.TemporaryDirectory(prefix="mvmnix-bench-") as name:
        world = worlds.new_world(Path(name))
        world.sign_provenance(sources=(worlds.DEB, *many))
        world.sign_plan()
        files = world.open(Path(name))
        try:
            yield world, files
        finally:
            for fd in (files.kernel, files.initrd, files.rootfs):
                os.close(fd)


def _arithmetic(world: worlds.World) -> None:
    for data, key in ((world.plan_bundle, worlds.PLANNER), (world.provenance_bundle, worlds.BUILDER)):
        bundle = envelope.parse_bundle(data)
        key.public.verified(bundle.signed_bytes, bundle.signature)
        predicate_type = strict.parse_json(bundle.payload)
        if not isinstance(predicate_type, dict):
            raise TypeError("no statement")


def _statement(size: int) -> bytes:
    subject = [{"name": "a", "digest": {"sha256": Digest.of(b"a").hex}}]
    head = {"_type": "https://in-toto.io/Statement/v1", "predicateType": "urn:x", "subject": subject}
    bare = len(strict.canonical(head | {"predicate": {"filled": ""}}))
    return strict.canonical(head | {"predicate": {"filled": "x" * (size - bare)}})


def _config(root: bytes) -> str:
    media = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
    services = '{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json"}'
    return f'{{"mediaType":"{media}","trustedRoot":{root.decode()},"signingConfig":{services}}}'
