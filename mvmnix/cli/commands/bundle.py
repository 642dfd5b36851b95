"""`mvm bundle export` and `mvm trusted-root export`: what is needed to verify where there is no network."""

from datetime import datetime

import click

from mvmnix.api import STATEMENT_KINDS, open_context, signed_about
from mvmnix.cli.options.outputs import Destination, OutputType, Stdout
from mvmnix.cli.output import TERMINAL, answer
from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.errors import UsageError
from mvmnix.formats.strict import show_time
from mvmnix.plural import counted
from mvmnix.provenance.identity import trusted_root
from mvmnix.system.output_files import NewDirectory, NewFile

_OUT = OutputType(NewFile, "FILE", prints=True)


@click.group()
def bundle() -> None:
    """Export signed bundles."""


@bundle.command("export")
@click.argument("digest")
@click.option("--out", "-o", default="-", type=_OUT, help="A new file of JSON Lines. Default: stdout.")
@click.option(
    "--directory",
    type=OutputType(NewDirectory, "DIRECTORY"),
    help="A new directory instead, with a file for each bundle.",
)
def export_bundles(digest: str, out: Destination, directory: NewDirectory | None) -> None:
    """Write all that was signed about the image whose manifest has DIGEST: how it was built, what ran.

    Provenance, kept parts, rebuilds, plans, receipts, as they are kept here; the recipient verifies them.
    """
    if directory is not None and not isinstance(out, Stdout):
        raise UsageError("it takes one of --out and --directory", hint="leave one of them out")
    with open_context(TERMINAL) as context:
        found = signed_about(context, digest)
    if directory is not None:
        with directory.make() as place:
            for each, (kind, data) in found.items():
                place.write(f"{kind}-{each.hex}.sigstore.json", data)
    else:
        out.write(b"".join(data + b"\n" for _, data in found.values()))
    kinds = [f"{sum(kind == each for kind, _ in found.values())} {each}" for each in STATEMENT_KINDS]
    told = ", ".join(text for text in kinds if not text.startswith("0 "))
    click.echo(f"{counted(len(found), 'bundle')}: {told}", err=True)


@click.group("trusted-root")
def trusted_root_() -> None:
    """Export trust roots."""


@trusted_root_.command("export")
@click.argument("name", default="")
@click.option("--out", "-o", default="-", type=_OUT, help="A new file. Default: stdout.")
@click.option("--json", "as_json", is_flag=True, help="With --out: print digest and age as JSON.")
def export_root(name: str, out: Destination, as_json: bool) -> None:
    """Write the trusted_root.json of the public-good Sigstore, or the root that your policy pins as NAME.

    The public one is what the installed sigstore library ships; nothing is fetched. Its sha256 is what a policy pins,
    and its age tells how much it may lack: mvm is not told of keys that were replaced since.
    """
    if as_json and isinstance(out, Stdout):
        raise UsageError("--json goes with --out", hint="say where to write the root")
    data = _pinned(name) if name else _shipped()
    newest, moment = trusted_root.parse(data).newest, now()
    out.write(data)
    digest = Digest.of(data)
    if as_json:
        days = None if newest is None else (moment - newest).days
        told = None if newest is None else show_time(newest)
        answer("trusted-root", {"digest": str(digest), "newest": told, "age-days": days})
    click.echo(f"{digest}: {_age(newest, moment)}", err=True)


def _age(newest: datetime | None, moment: datetime) -> str:
    if newest is None:
        return "it has no log and no authority, so that nothing tells its age"
    return f"its youngest entry is trusted since {show_time(newest)}, {counted((moment - newest).days, 'day')} ago"


def _pinned(name: str) -> bytes:
    with open_context(TERMINAL) as context:
        policy = context.policy
        pins = {pin.name: pin.digest for it in context.policy_files if it.policy is not None for pin in it.policy.roots}
    if name not in pins:
        raise UsageError(f"the policy pins no trust root {name!r}", hint=f"it pins {', '.join(sorted(pins)) or 'none'}")
    return policy.trust.roots[pins[name]]


def _shipped() -> bytes:
    from mvmnix.provenance.identity.sigstore import public_good_root  # noqa: PLC0415 - nothing else here pays for it

    return public_good_root()
