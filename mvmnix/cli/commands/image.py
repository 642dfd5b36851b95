"""`mvm image`: the group of commands about images; each is in a file of its own."""

import click

from mvmnix.cli.commands.image_archive import load, save
from mvmnix.cli.commands.image_ls import inspect, list_, prune, rm
from mvmnix.cli.commands.image_pull import pull
from mvmnix.cli.commands.image_testify import testify


@click.group()
def image() -> None:
    """Pull OCI images by digest, and look after the images that are kept."""


for command in (inspect, list_, load, prune, pull, rm, save, testify):
    image.add_command(command)
