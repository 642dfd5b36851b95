"""`mvm build`: builds an image or finds it finished, verified either way, and exports it if asked."""

from collections.abc import Callable, Mapping
from functools import wraps

import click

from mvmnix.api import BuildLimits, KeylessChoice, existing_source_ref, open_context, open_image_builder
from mvmnix.cli.completers import flake_reference
from mvmnix.cli.options.outputs import OutputType
from mvmnix.cli.options.quantities import Size, Span
from mvmnix.cli.options.signing import signing_options
from mvmnix.cli.output import TERMINAL, answer, notice
from mvmnix.cli.progress import steps
from mvmnix.keys import Role
from mvmnix.provenance.slsa.provenance import Provenance
from mvmnix.provenance.verify.verify import Verified
from mvmnix.system.output_files import NewDirectory


def means(command: Callable[..., None]) -> Callable[..., None]:
    """The options that bound a build, handed over as one argument `limits`."""

    @click.option("--vcpus", type=click.IntRange(1, 64), help="Processors of the builder VM.")
    @click.option("--memory", type=Size("m", 512, 2**20), metavar="MIB", help="Its memory.")
    @click.option("--disk", type=Size("m", 64, 2**20), metavar="MIB", help="Its disk, which is in that memory.")
    @click.option("--timeout", type=Span("s", 1, 2**31 - 1), metavar="SECONDS", help="Wall time of the build.")
    @wraps(command)
    def bounded(vcpus: int | None, memory: int | None, disk: int | None, timeout: int | None, **others: object) -> None:
        command(limits=BuildLimits(vcpus, memory, disk, timeout), **others)

    return bounded


@click.command()
@click.argument("flake", metavar="FLAKE[#ATTR]", shell_complete=flake_reference)
@click.option("--again", is_flag=True, help="Build it even if a finished build is kept.")
@click.option(
    "--rebuild",
    "twice",
    is_flag=True,
    help="Build it once more, with another host name, clock and directory order, and compare.",
)
@click.option(
    "--out",
    type=OutputType(NewDirectory, "DIRECTORY"),
    help="Write the files and their evidence to this new directory.",
)
@means
@signing_options
@click.option("--json", "as_json", is_flag=True, help="Print digests as JSON.")
def build(
    flake: str,
    *,
    again: bool,
    twice: bool,
    out: NewDirectory | None,
    limits: BuildLimits,
    choice: KeylessChoice,
    as_json: bool,
) -> None:
    """Build FLAKE's image inside the builder VM, sign its provenance and verify it.

    A finished build is used again after its bundle, manifest and bytes verify; not with --keyless, if a key signed
    it. With --rebuild, that a second build made the same four files is signed as a second provenance; files that
    differ are named.
    """
    wanted = existing_source_ref(flake)
    with open_context(TERMINAL) as context, context.working():
        context.signer.choose(choice, Role.BUILDER)
        with steps() as progress, open_image_builder(context, progress, limits) as images:
            finished = images.new_image(wanted) if again else images.image(wanted)
            if choice.keyless and finished.provenance.signer.key is not None:
                finished = images.new_image(wanted)
            second = None
            if twice:
                from mvmnix.api import rebuild_image  # noqa: PLC0415 - brings the launcher

                second = rebuild_image(context, images, images.request(wanted), finished)
        if out is not None:
            from mvmnix.api import export_image  # noqa: PLC0415 - brings the launcher

            export_image(context, finished, out)
    if second is not None:
        notice_agreement(second)
    image = {artifact.name: str(artifact.digest) for artifact in finished.image.artifacts}
    if as_json:
        said = {"artifacts": image, "provenance": str(finished.provenance.bundle), "level": finished.provenance.level}
        answer("build", said | ({} if second is None else {"rebuild": rebuild_record(second)}))
    else:
        click.echo(str(finished.image.manifest.digest))


def notice_agreement(second: Verified[Provenance]) -> None:
    """Print on stderr that a second build made the same files."""
    notice(f"two builds, same bits: all four files agree, and the second provenance is {second.bundle}")


def rebuild_record(second: Verified[Provenance]) -> Mapping[str, object]:
    """A second provenance, as JSON."""
    from mvmnix.api import VARIATION  # noqa: PLC0415 - brings the launcher

    varied, limits = second.claim.variation or VARIATION, second.claim.limits
    return {
        "provenance": str(second.bundle),
        "level": second.level,
        "variation": {**varied.shown(), "vcpus": limits.vcpus if limits else None},
    }
