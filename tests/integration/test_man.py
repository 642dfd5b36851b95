"""The manual pages are what groff's macros of man(7) take without a warning."""

import subprocess

import pytest

from mvmnix.cli.commands.man import commands, page
from mvmnix.cli.main import cli

pytestmark = pytest.mark.integration


def test_groff_takes_every_page() -> None:
    for words in ((), *commands(cli)):
        argv = ["groff", "-man", "-ww", "-Tutf8", "-rLL=72n"]
        done = subprocess.run(argv, input=page(cli, words).encode(), capture_output=True, check=True)
        assert done.stderr == b"", words
        assert b"SYNOPSIS" in done.stdout
