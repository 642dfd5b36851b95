"""The chain of evidence of a run, from flake to receipt, as a table for people."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from mvmnix.api import Ended, Started, VerifiedImage
from mvmnix.formats.escaping import escape
from mvmnix.plural import counted
from mvmnix.provenance.slsa.provenance import Provenance

#: Columns where stderr is no terminal: no digest is broken into two lines.
_WIDTH: Final = 1 << 16


def show_chain(links: Iterable[tuple[str, str]]) -> None:
    """Print a chain of evidence on stderr."""
    from rich.console import Console  # noqa: PLC0415 - a run that shows no table does without
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(title="chain of evidence", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, text in links:
        table.add_row(name, Text(escape(text)))  # which is no markup, whatever it says
    Console(stderr=True, width=None if os.isatty(2) else _WIDTH).print(table)


def links_of(image: VerifiedImage, started: Started, ended: Ended) -> Iterator[tuple[str, str]]:
    """Each link from the flake to the receipt: its name, and what vouches for it."""
    claim, evidence = image.provenance.claim, image.provenance
    where = f" in {claim.directory}" if claim.directory else ""
    yield "flake", f"{claim.root.uri}{where}#{claim.attribute}, tree {claim.root.nar}"
    yield "lock", f"{claim.lock or 'none'}, {len(claim.nodes.untouched)} of its trees untouched"
    yield "sources", f"{counted(len(claim.sources), 'file')} came in, each by its hash"
    yield from built_before(claim)
    yield "derivation", str(claim.derivation)
    for artifact in image.image.artifacts:
        yield artifact.name, str(artifact.digest)
    yield "verity root", str(image.image.verity.root)
    signed = f"signed by {evidence.signer.name} ({claim.builder_id}), SLSA Build L{evidence.level}"
    yield "provenance", f"{evidence.bundle}, {signed}"
    yield "policy", started.policy
    yield "plan", f"{started.plan}, signed by {', '.join(started.signers)}"
    yield "machine", f"{started.machine}, {started.accelerator}" if started.accelerator else started.backend
    place = ended.path if Path(ended.path).exists() else "removed with its machine"
    yield "receipt", f"{ended.receipt}, {ended.reason}: {place}"


def built_before(claim: Provenance) -> Iterator[tuple[str, str]]:
    """What came in that had been built before, and who vouches for it; nothing where all was built anew."""
    if claim.kept:
        statements = sorted({str(part.bundle) for part in claim.kept})
        yield "kept parts", f"{len(claim.kept)} of mvm's own, under {_under(statements, 'statement')}"
    if claim.cached:
        keys = sorted({path.key for path in claim.cached})
        yield "cached paths", f"{len(claim.cached)} from binary caches, under {_under(keys, 'key')}"


def _under(names: list[str], what: str) -> str:
    return f"the {what}{'' if len(names) == 1 else 's'} {', '.join(names)}"
