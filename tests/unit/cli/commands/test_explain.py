"""`mvm explain`: each reason code has its text, and each refusal ends with the command that prints it."""

import re
import shlex

import click
import pytest

from mvmnix.cli.main import cli
from mvmnix.errors import ReasonCode
from mvmnix.refusals.catalogue import GROUPS, explanations
from tests.repository import ROOT
from tests.unit.cli.station import Station

CODES = [code.value for code in ReasonCode]


def test_each_code_has_a_text_and_no_other() -> None:
    assert sorted(explanations()) == sorted(ReasonCode)
    assert {found.group for found in explanations().values()} == {*GROUPS.values()}


def assert_real(line: str) -> None:
    """Fail unless mvm's command in a line of a shell exists, with each of its options."""
    words = shlex.split(line.partition("mvm ")[2].partition(" -- ")[0].replace("…", "x"))
    command: click.Command | None = cli
    while isinstance(command, click.Group):
        command = command.get_command(click.Context(cli), words.pop(0))
    assert command is not None
    options = {name for option in command.params for name in option.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("-")} <= options


@pytest.mark.parametrize("code", CODES)
def test_a_text_says_when_why_what_to_do_and_shows_an_example(code: str) -> None:
    found = explanations()[ReasonCode(code)]
    assert re.fullmatch(r"\d+\.\d+\.\d+", found.since)
    assert len(found.meaning) > 10
    assert len(found.why) > 40
    assert found.remedy[0].isupper()
    assert found.remedy.endswith(".")
    first = found.example.splitlines()[0]
    assert first.startswith("$ "), "the command comes first"
    assert f"refused [{code}]" in found.example
    assert_real(first)
    for target in re.findall(r"\]\(([^)#]+)", f"{found.meaning} {found.why} {found.remedy}"):
        assert (ROOT / "docs" / target).is_file()


def test_a_text_is_printed_with_paths_for_links(station: Station) -> None:
    said = station.mvm("explain", "network-forbidden")
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0] == "network-forbidden"
    assert [line for line in lines if line.endswith(":") and not line.startswith(" ")] == [
        "Refused because:",
        "Why:",
        "What to do:",
        "Example:",
    ]
    assert "docs/reference/network.md#what-takes-a-word" in said.out
    assert "](" not in said.out


def test_without_a_code_all_are_listed(station: Station) -> None:
    listed = [line.split()[0] for line in station.mvm("explain").out.splitlines()]
    assert listed == ["CODE", *explanations()]
    assert [each["code"] for each in station.mvm("explain", "--json").answer("explanations")] == listed[1:]


def test_json_has_the_whole_text(station: Station) -> None:
    found = station.mvm("explain", "replay", "--json").answer("explanation")
    text = explanations()[ReasonCode.REPLAY]
    assert found == {
        "code": "replay",
        "group": "the plan",
        "since": "0.1.0",
        "meaning": text.meaning,
        "why": text.why,
        "remedy": text.remedy,
        "example": text.example,
    }


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("plan-expird", "did you mean plan-expired? list them: mvm explain"),
        ("nothing", "list them: mvm explain"),
        ("denied-by-rule", "mvm net explain denied-by-rule"),
    ],
)
def test_another_word_is_refused_with_what_is_near(station: Station, code: str, hint: str) -> None:
    said = station.mvm("explain", code)
    assert (said.code, said.out) == (2, "")
    assert said.err.endswith(f"  next: {hint}\n")


def test_a_refusal_ends_with_the_command_that_explains_it(station: Station) -> None:
    flake = station.path / "nothing"
    flake.mkdir()
    said = station.mvm("build", f"path:{flake}")
    assert (said.code, said.err.splitlines()[-1]) == (126, "  more: mvm explain flake-unsupported")
