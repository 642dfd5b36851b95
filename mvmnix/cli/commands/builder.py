"""`mvm builder`: has the builder image build itself, inside itself, and compares."""

import click

from mvmnix.api import open_context, open_image_builder, rebuild_builder_image
from mvmnix.cli.commands.build import notice_agreement, rebuild_record
from mvmnix.cli.output import TERMINAL, answer
from mvmnix.cli.progress import steps


@click.group()
def builder() -> None:
    """The image that builds all others."""


@builder.command()
@click.option("--json", "as_json", is_flag=True, help="Print digests as JSON.")
def reproduce(as_json: bool) -> None:
    """Build the builder image inside itself, and compare with what the host's Nix built.

    If all four files are the same, that is signed as a second provenance and kept beside the first. If not,
    the files that differ are named.
    """
    with open_context(TERMINAL) as context:
        context.initialize()
        with steps() as progress, open_image_builder(context, progress) as images:
            first, second = rebuild_builder_image(context, images)
    notice_agreement(second)
    image = {artifact.name: str(artifact.digest) for artifact in first.image.artifacts}
    if as_json:
        answer(
            "builder reproduce",
            {"artifacts": image, "provenance": str(first.provenance.bundle), "rebuild": rebuild_record(second)},
        )
    else:
        click.echo(str(first.image.manifest.digest))
