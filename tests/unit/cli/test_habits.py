"""Names that users bring along: second names, what there is instead of a command, headings of help, image names."""

import re
import shlex

import click
import pytest

from mvmnix.cli.commands.man import context_of
from mvmnix.cli.help_groups import GROUPS
from mvmnix.cli.main import ALIASES, COMMANDS, cli
from mvmnix.cli.option_hints import ABSENT_COMMANDS
from tests.unit.cli.station import Station
from tools.site.command_line import commands, help_of


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_is_a_second_name_of_one_command(station: Station, alias: str) -> None:
    words = ALIASES[alias].split()
    assert context_of(cli, [alias]).command is context_of(cli, words).command
    assert f"  {alias}  " in station.mvm("--help").out.partition("\nAliases:\n")[2]
    assert station.mvm(alias, "--help").out == station.mvm(*words, "--help").out.replace(
        f"mvm {ALIASES[alias]} ", f"mvm {alias} "
    )


def test_aliases_are_listed_in_one_place() -> None:
    """Nothing else is a second name: neither the same object, nor another one that does the same."""
    found = [context_of(cli, words).command for words in commands() if words and words[0] not in ALIASES]
    assert len({id(command) for command in found}) == len({id(command.callback) for command in found}) == len(found)


@pytest.mark.parametrize("words", [words for words in commands() if words], ids=" ".join)
def test_every_command_says_in_a_line_what_it_does(words: tuple[str, ...]) -> None:
    command = context_of(cli, words).command
    first = (command.help or "").partition("\n\n")[0]
    assert first.rstrip(".:") != "", "a help text"
    assert first[0].isupper()
    assert [option.opts for option in command.params if isinstance(option, click.Option) and not option.help] == []


@pytest.mark.parametrize(("absent", "hint"), ABSENT_COMMANDS.items())
def test_a_command_of_another_tool(station: Station, absent: str, hint: str) -> None:
    assert absent not in COMMANDS
    said = station.mvm(*absent.split())
    assert (said.code, said.out) == (2, "")
    assert said.err == f"mvm: there is no command mvm {absent}\n  next: {hint}\n"


@pytest.mark.parametrize("typed", [("pusch",), ("zolm",), ("tap",), ("lgn",), ("ps", "--follow"), ("rm", "--fo")])
def test_a_name_that_is_not_close_is_not_suggested(station: Station, typed: tuple[str, ...]) -> None:
    said = station.mvm(*typed)
    assert (said.code, said.out) == (2, "")
    assert ("No such" in said.err, "ou mean" in said.err) == (True, False), said.err


def test_images_are_removed_by_their_ids(settled: Station) -> None:
    settled.flake("greeting")
    (digest,) = settled.mvm("images", "--format", "{{.manifest}}").out.splitlines()[:1]
    kept = settled.mvm("images", "-q").out.split()
    assert digest in kept
    assert settled.mvm("rmi", *kept).code == 0
    assert settled.mvm("images", "-q").out == ""


def test_the_help_of_run_has_headings_and_examples(station: Station) -> None:
    text = station.mvm("run", "--help").out
    headings = re.findall(r"(?m)^(\w+):$", text)
    assert headings == [*GROUPS, "Options"]
    examples = re.findall(r"(?m)^ +mvm (run .*)$", text)
    assert len(examples) == 3
    for words in (shlex.split(example) for example in examples):
        context_of(cli, words[:1]).command.make_context("run", words[1:])
    assert "\n.SH EXAMPLES\n.PP\n.B mvm run ./examples/hello\n" in station.mvm("man", "run").out


def test_each_option_stands_under_one_heading() -> None:
    """A heading names no option that is not there, and no option is left out."""
    named = [name for names in GROUPS.values() for name in names]
    known = set[str]()
    for words in (("run",), ("plan", "create")):
        options = [it for it in context_of(cli, words).command.params if isinstance(it, click.Option)]
        known.update(name for option in options for name in option.opts)
        shown = set(re.findall(r"(?m)^  (?:-\w, )?(--[\w-]+)", help_of(*words)))
        assert all(shown & {*option.opts} for option in options)
    assert set(named) <= known
    assert len(named) == len(set(named))


@pytest.mark.parametrize("command", [("run",), ("build",), ("plan", "create"), ("pull",)])
@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("alpine:3", "oci://HOST/alpine@sha256:DIGEST"),
        ("library/alpine:3.20", "oci://HOST/library/alpine@sha256:DIGEST"),
        ("registry.example.com/library/alpine", "oci://registry.example.com/library/alpine@sha256:DIGEST"),
        ("docker://alpine", "oci://HOST/alpine@sha256:DIGEST"),
        ("localhost:5000/a/b:latest", "oci://localhost:5000/a/b@sha256:DIGEST"),
        (f"registry.example.com/a:1@sha256:{'0a' * 32}", f"oci://registry.example.com/a@sha256:{'0a' * 32}"),
    ],
)
def test_the_name_of_an_image(station: Station, command: tuple[str, ...], typed: str, named: str) -> None:
    said = station.mvm(*command, typed)
    assert (said.code, said.out) == (2, "")
    assert f"an image of a registry is named by its digest: {named}\n" in said.err


@pytest.mark.parametrize("typed", ["alpine", "./alpine", "github:a/b", "guests/web"])
def test_what_may_be_a_directory(station: Station, typed: str) -> None:
    said = station.mvm("run", typed)
    assert (said.code, "of a registry" in said.err) == (2, False)
    assert typed == "github:a/b" or "oci://HOST/NAME@sha256:DIGEST" in said.err
