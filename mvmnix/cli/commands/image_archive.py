"""`mvm image save` and `load`: an image with its evidence as one file, out of the library and into another's."""

import click

from mvmnix.api import load_image, open_context, save_image
from mvmnix.cli.completers import file as archive_file
from mvmnix.cli.completers import kept_image
from mvmnix.cli.options.outputs import OutputType
from mvmnix.cli.output import TERMINAL
from mvmnix.output_files import NewFile


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
