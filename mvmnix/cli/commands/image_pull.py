"""`mvm image pull`: makes a guest of an OCI image that is named by digest, inside the builder VM."""

import click

from mvmnix.api import export_image, image_reference, open_context, open_image_builder
from mvmnix.cli.options.outputs import OutputType
from mvmnix.cli.output import TERMINAL, answer
from mvmnix.cli.progress import steps
from mvmnix.output_files import NewDirectory


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
