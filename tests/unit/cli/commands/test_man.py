"""Each command has a manual page, from its own help text, in which no text is taken for a macro."""

import re
from pathlib import Path

import click
import pytest

from mvmnix.cli.commands.man import commands, page
from mvmnix.cli.main import COMMANDS, cli
from tests.unit.cli.station import Said, Station
from tests.unit.man_pages import write


def test_every_command_has_one(tmp_path: Path) -> None:
    write(tmp_path / "man")
    names = {path.name for path in (tmp_path / "man").iterdir()}
    assert names >= {"mvm.1", "mvm-image-ls.1", "mvm-plan-rm.1", *(f"mvm-{name}.1" for name in COMMANDS)}
    assert (tmp_path / "man/mvm-run.1").read_text() == page(cli, ("run",))


def test_a_page(station: Station) -> None:
    said = station.mvm("man", "image", "ls")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith('.TH "MVM\\-IMAGE\\-LS" "1" "" "mvm ')
    assert ".SH NAME\nmvm\\-image\\-ls \\- List kept images." in said.out
    assert ".SH SYNOPSIS\n.B mvm image ls\n[OPTIONS]\n" in said.out
    assert ".TP\n.B \\-\\-json\nPrint JSON.\n" in said.out
    assert said.out.endswith(".SH SEE ALSO\n.BR mvm (1), mvm\\-image (1)\n")


def test_the_program_s_own_page_lists_the_commands(station: Station) -> None:
    said = station.mvm("man").out
    assert all(f"\n.BR mvm\\-{name.replace('-', '\\-')} (1)\n" in said for name in COMMANDS)


def test_words_that_are_no_command_s(station: Station) -> None:
    for words, above in ((("nothing",), "mvm"), (("image", "nothing"), "mvm image"), (("run", "x"), "mvm run")):
        for command in ("man", "help"):
            said = station.mvm(command, *words)
            assert (said.code, said.out) == (2, "")
            assert f"{above} --help lists them" in said.err
    assert station.mvm("man", "image", "ls") == Said(0, page(cli, ("image", "ls")), "")


@pytest.mark.parametrize("words", [(), *commands(cli)], ids=" ".join)
def test_lines_are_macros_or_text(words: tuple[str, ...]) -> None:
    made = page(cli, words)
    assert not re.search(r"(?m)^\.(?!TH|SH|B|BR|PP|TP)", made)
    assert not re.search(r"(?m)^'|\t", made)
    assert made.isascii()
    assert not re.search(r"\\(?!-|e|&|\(dq|\[u)", made)


def test_a_text_is_no_macro() -> None:
    @click.command(help='.so /etc/passwd\n\n\'br \\X "q" a-b')
    def evil() -> None:
        pass

    made = page(click.Group("mvm", commands={"evil": evil}), ("evil",))
    assert "\n\\&.so /etc/passwd\n" in made
    assert "\n\\&'br \\eX \\(dqq\\(dq a\\-b\n" in made
