"""`mvm image`: lists, shows, removes, saves, loads and pulls images, and takes in what others signed about them."""

from collections.abc import Mapping
from datetime import timedelta

import click

from mvmnix.api import (
    Need,
    PruneResult,
    SeenImage,
    VerifiedImage,
    add_rebuilds,
    export_image,
    find_images,
    image_reference,
    list_images,
    load_image,
    open_context,
    open_image_builder,
    prune_images,
    remove_images,
    save_image,
    users_of,
)
from mvmnix.cli.completers import file as archive_file
from mvmnix.cli.completers import kept_image
from mvmnix.cli.options.output_format import OutputFormat, format_options
from mvmnix.cli.options.outputs import OutputType
from mvmnix.cli.options.quantities import Span
from mvmnix.cli.output import MIB, TERMINAL, answer, json_option, notice, short, table, tell_freed
from mvmnix.cli.progress import steps
from mvmnix.clock import now
from mvmnix.errors import ReasonCode
from mvmnix.formats.escaping import escape, escape_line
from mvmnix.formats.strict import show_time
from mvmnix.plural import counted
from mvmnix.system.output_files import NewDirectory, NewFile


def _record(seen: SeenImage, needs: tuple[Need, ...]) -> dict[str, object]:
    """What is said about a build; nothing of what an unverified one says of itself."""
    said: dict[str, object] = {
        "manifest": str(seen.entry.manifest),
        "provenance": str(seen.entry.bundle),
        "verified": seen.finished is not None,
        "neededBy": list(users_of(seen.entry, needs)),
    }
    if seen.finished is None:
        return said | {"reasons": list(seen.reasons)}
    claim = seen.finished.provenance.claim
    where = f"?dir={claim.directory}" if claim.directory else ""
    return said | {
        "name": seen.finished.image.name,
        "finished": show_time(claim.finished),
        "flake": f"{claim.root.uri}{where}#{claim.attribute}",
        "size": sum(artifact.size for artifact in seen.finished.image.artifacts),
        "signer": seen.finished.provenance.signer.name,
        "level": seen.finished.provenance.level,
    }


@click.command("ls")
@format_options(ids=True)
def list_(output: OutputFormat) -> None:
    """List kept images. Each is verified, every byte of it; what doesn't verify is marked, and not quoted.

    The beginnings of digests that are printed are enough for other commands; `mvm image inspect` and --json say more.
    """
    with open_context(TERMINAL) as context:
        needs, kept = list_images(context)
    records = [_record(each, needs) for each in kept]
    records.sort(key=lambda record: tuple(str(record.get(key, "")) for key in ("name", "finished", "manifest")))
    output.show("images", records, lambda: _show_table(records), key="manifest")


def _show_table(records: list[dict[str, object]]) -> None:
    digests = short(str(record["manifest"]) for record in records)
    table(("NAME", "ATTRIBUTE", "DIGEST", "CREATED", "SIZE", "NEEDED BY"), (_row(each, digests) for each in records))
    for record in records:
        if not record["verified"]:
            said = _joined(record["reasons"])
            which = "; `mvm doctor` names the file" if ReasonCode.STATE_PERMISSIONS in said else ""
            notice(f"{digests[str(record['manifest'])]} doesn't verify: {said}{which}")


def _row(record: Mapping[str, object], digests: Mapping[str, str]) -> tuple[str, ...]:
    digest, needed = digests[str(record["manifest"])], _needed(record["neededBy"])
    if not record["verified"]:
        return ("UNVERIFIED", "", digest, "", "", needed)
    mib = f"{int(str(record['size'])) / MIB:.1f} MiB"
    attribute = str(record["flake"]).rpartition("#")[2]
    return (str(record["name"]), attribute, digest, str(record["finished"]), mib, needed)


def _needed(users: object) -> str:
    """How many machines, pools and plans, as `list_images` names them."""
    names = list(map(str, users)) if isinstance(users, list) else []
    machines, pools = (sum(name.startswith(f"the {what} ") for name in names) for what in ("machine", "pool"))
    counts = ((machines, "machine"), (pools, "pool"), (len(names) - machines - pools, "plan"))
    return ", ".join(counted(number, what) for number, what in counts if number)


def _joined(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


@click.command()
@click.argument("digest", metavar="DIGEST|NAME", shell_complete=kept_image)
@format_options()
def inspect(digest: str, output: OutputFormat) -> None:
    """Verify the image whose manifest has DIGEST, or that has NAME, and say what is known about it.

    Six digits of the beginning of DIGEST are enough, if they are of one image alone.
    """
    with open_context(TERMINAL) as context:
        needs, kept = find_images(context, digest)
    builds = [_record(each, needs) | _details(each.finished) for each in kept if each.finished is not None]
    lines = [f"{key + ':':<12} {_joined(value)}" for build in builds for key, value in build.items()]
    output.show("image", builds, lambda: click.echo("".join(f"{escape_line(line)}\n" for line in lines), nl=False))


def _details(finished: VerifiedImage) -> dict[str, object]:
    described, claim = finished.image, finished.provenance.claim
    return {
        "files": [f"{artifact.name} {artifact.digest} {artifact.size}" for artifact in described.artifacts],
        "verityRoot": str(described.verity.root),
        "command": list(described.workload.argv),
        "posture": str(described.posture),
        "verbs": sorted(described.verbs),
        "tree": str(claim.root.nar),
        "lock": str(claim.lock or "none"),
        "builder": claim.builder_id,
        "mvm": claim.versions.mvm,
        "nix": claim.versions.nix,
        "derivation": str(claim.derivation or ""),
        "sources": len(claim.sources),
        "cached": len(claim.cached),
        "inputs": [node.source.uri for node in claim.nodes.inputs],
        "untouched": [node.node for node in claim.nodes.untouched],
        "sbom": str(claim.sbom or "none"),
    }


@click.command()
@click.argument("digests", nargs=-1, required=True, metavar="DIGEST|NAME...", shell_complete=kept_image)
@json_option
def rm(digests: tuple[str, ...], as_json: bool) -> None:
    """Remove the images with these manifest digests or names, and the files that were theirs alone.

    An image that a running machine or a signed, unexpired plan needs is not removed.
    """
    with open_context(TERMINAL) as context:
        freed = remove_images(context, digests)
    _tell(freed, as_json, dry=False)


@click.command()
@click.option("--all", "-a", "every", is_flag=True, help="Finished images too that no machine and no plan needs.")
@click.option(
    "--older-than",
    type=Span("d", 0, 36_500),
    metavar="DAYS",
    help="With --all: those alone that were finished, by their verified provenance, so long ago.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@json_option
def prune(every: bool, older_than: int | None, dry_run: bool, as_json: bool) -> None:
    """Remove files of images that nothing names any more, and what killed builds left.

    What a kept image, a running machine or a signed, unexpired plan needs stays. With --all, finished images go too,
    but for this installation's builder image and those that a machine or plan needs.
    """
    if older_than is not None and not every:
        raise click.UsageError("--older-than chooses among finished images: give --all, too")
    with open_context(TERMINAL) as context:
        before = None if older_than is None else now() - timedelta(days=older_than)
        freed = prune_images(context, every=every, before=before, remove=not dry_run)
    _tell(freed, as_json, dry=dry_run)


def _tell(freed: PruneResult, as_json: bool, *, dry: bool) -> None:
    if as_json:
        result = {
            "images": [str(digest) for digest in freed.builds],
            "files": [f"{file.room}/{file.digest.hex}" for file in freed.files],
            "leftovers": list(freed.leftovers),
            "bytes": freed.size,
            "removed": not dry,
        }
        answer("freed", result)
        return
    for digest in freed.builds:
        click.echo(str(digest))
    tell_freed(counted(len(freed.files), "file"), len(freed.leftovers), freed.size, dry=dry)


@click.command()
@click.argument("digest")
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE...")
@json_option
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


@click.command()
@click.argument("reference", metavar="oci://HOST/NAME@sha256:DIGEST")
@click.option("--again", is_flag=True, help="Build it even if a finished image is kept.")
@click.option(
    "--out",
    type=OutputType(NewDirectory, "DIRECTORY"),
    help="Write the files and their evidence to this new directory.",
)
@click.option("--json", "as_json", is_flag=True, help="Print digests as JSON.")
def pull(reference: str, again: bool, out: NewDirectory | None, as_json: bool) -> None:
    """Bring an OCI image by the digest of its manifest or index, and make a guest of it inside the builder VM.

    Its layers are applied there and nowhere else. Tags are refused. `mvm run`, `mvm build` and `mvm plan create` take
    the same reference where they take a flake. The registry's host has to be listed in config.toml.
    """
    wanted = image_reference(reference)
    with open_context(TERMINAL) as context:
        with steps() as progress, open_image_builder(context, progress) as images:
            finished = images.new_image(wanted) if again else images.image(wanted)
        if out is not None:
            export_image(context, finished, out)
    image, evidence = finished.image, finished.provenance
    if as_json:
        artifacts = {artifact.name: str(artifact.digest) for artifact in image.artifacts}
        answer(
            "image-pull",
            {
                "reference": str(wanted),
                "image": image.name,
                "artifacts": artifacts,
                "provenance": str(evidence.bundle),
                "level": evidence.level,
            },
        )
    else:
        click.echo(str(image.manifest.digest))


@click.command()
@click.argument("digest", metavar="DIGEST|NAME", shell_complete=kept_image)
@click.option("--out", "-o", required=True, type=OutputType(NewFile, "FILE"), help="The new file to write.")
def save(digest: str, out: NewFile) -> None:
    """Write the image whose manifest has DIGEST, with its evidence, to a new archive; it is verified first."""
    with open_context(TERMINAL) as context:
        save_image(context, digest, out)


@click.command()
@click.argument("file", metavar="FILE", shell_complete=archive_file)
def load(file: str) -> None:
    """Take an image out of FILE, an archive of `mvm image save`; it is kept once the trust policy admits it.

    Plans for it can be launched then. It is found by its digest, and never taken for a build of a flake here.
    """
    with open_context(TERMINAL) as context:
        finished = load_image(context, file)
    click.echo(str(finished.image.manifest.digest))


@click.group()
def image() -> None:
    """Pull OCI images by digest, and look after the images that are kept."""


for command in (inspect, list_, load, prune, pull, rm, save, testify):
    image.add_command(command)
