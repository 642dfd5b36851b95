"""`mvm init`: writes a new flake that builds at once, and says what to do next."""

from pathlib import Path

import click

from mvmnix.api import Template, describe_image, open_context, write_flake
from mvmnix.cli.options.enum_choice import EnumChoice
from mvmnix.cli.options.outputs import OutputType
from mvmnix.cli.output import TERMINAL
from mvmnix.formats.escaping import escape, shell_command
from mvmnix.system.output_files import OutputDirectory


@click.command()
@click.option(
    "--template",
    type=EnumChoice(Template),
    default=Template.MINIMAL.value,
    show_default=True,
    help="What the guest is to be.",
)
@click.option("--from", "image", metavar="oci://HOST/NAME@sha256:DIGEST", help="The image, for the template oci.")
@click.argument("directory", metavar="[DIR]", default=".", type=OutputType(OutputDirectory, "DIRECTORY"))
def init(template: Template, image: str | None, directory: OutputDirectory) -> None:
    """Write a new flake with its lock to DIR, which is made if it is missing; nothing is ever overwritten.

    It has this installation's own flake beside it as an input, so that it builds at once, without a network. The
    template oci asks the image's registry for its manifest and configuration.
    """
    if (template is Template.OCI) != (image is not None):
        raise click.UsageError("--template oci and --from belong together")
    if image is None:
        write_flake(template, directory)
    else:
        with open_context(TERMINAL) as context, context.working():
            write_flake(template, directory, describe_image(context, image))
    _next(Path(directory.path))


def _next(directory: Path) -> None:
    """Say how it is run: from a commit, or as the uncommitted copy that it is."""
    where = str(directory)
    within = any((each / ".git").exists() for each in (directory.resolve(), *directory.resolve().parents))
    steps = (
        *(() if within else (shell_command("git", "init", where),)),
        shell_command("git", "-C", where, "add", "."),
        shell_command("git", "-C", where, "commit", "-m", "Begin"),
        shell_command("mvm", "run", where),
    )
    click.echo(escape(f"wrote {directory}; next, either of:"), err=True)
    click.echo(escape(f"  {shell_command('mvm', 'run', f'path:{directory}')}"), err=True)
    click.echo(escape(f"  {' && '.join(steps)}"), err=True)
