"""`mvm image testify`: takes in what another builder says of a kept image."""

import click

from mvmnix.api.context import open_context
from mvmnix.api.files import file_bytes
from mvmnix.builder.keeping.library import LIMIT
from mvmnix.builder.keeping.rebuilds import Rebuilds
from mvmnix.builder.keeping.shelves import Shelves
from mvmnix.cli.telling import TERMINAL, answer
from mvmnix.errors import RefusedError
from mvmnix.escaping import escape
from mvmnix.launch.host import now


@click.command()
@click.argument("digest")
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def testify(digest: str, bundles: tuple[str, ...], as_json: bool) -> None:
    """Keep further provenance of the image whose manifest has DIGEST, or begins with it, once each verifies.

    Each BUNDLE is another builder's provenance of the same four files, built from the same tree without kept parts, as
    `mvm build --rebuild` does (and with --out writes it, one a line). The policy's threshold for rebuilds counts
    builders, each once.
    """
    given = [bundle for path in bundles for bundle in file_bytes(path, LIMIT).split(b"\n")]
    with open_context(TERMINAL) as rooms, rooms.working(), rooms.recorded():
        kept, moment = Rebuilds(rooms.roots.state), now()
        ((_, entry), *_) = Shelves(rooms.library).find(digest)
        first = rooms.library.open(entry, policy=rooms.policy, now=moment)
        for bundle in given:
            kept.keep(first, bundle, policy=rooms.policy, now=moment)
        seen = [it for _, it in kept.each(first, policy=rooms.policy, now=moment) if not isinstance(it, RefusedError)]
        signers = {it.signer.fingerprint: it.signer.name for it in (first.provenance, *seen)}
        wanted = rooms.policy.thresholds.rebuilds
    if as_json:
        result = {
            "manifest": str(first.image.manifest.digest),
            "builders": sorted(signers.values()),
            "rebuilds": sorted(str(it.bundle) for it in seen),
            "wanted": wanted,
        }
        answer("testimony", result)
        return
    told = ", ".join(sorted(signers.values()))
    click.echo(escape(f"{first.image.manifest.digest}: {len(signers)} of {wanted} builders that are asked for: {told}"))
