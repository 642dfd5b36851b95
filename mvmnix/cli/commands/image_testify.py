"""`mvm image testify`: takes in what another builder says of a kept image."""

import click

from mvmnix.api import add_rebuilds, open_context
from mvmnix.cli.output import TERMINAL, answer
from mvmnix.escaping import escape


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
    with open_context(TERMINAL) as context:
        agreed = add_rebuilds(context, digest, bundles)
    if as_json:
        result = {
            "manifest": str(agreed.manifest),
            "builders": list(agreed.builders),
            "rebuilds": sorted(map(str, agreed.rebuilds)),
            "wanted": agreed.wanted,
        }
        answer("testimony", result)
        return
    counted = f"{len(agreed.builders)} of {agreed.wanted} builders that are asked for"
    click.echo(escape(f"{agreed.manifest}: {counted}: {', '.join(agreed.builders)}"))
