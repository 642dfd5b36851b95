"""What mvm says on stderr beside failures: nothing where quiet is asked for, what it does where that is, no secret."""

import subprocess
import sys
from pathlib import Path

import pytest

from mvmnix.system import log
from tests.repository import ROOT
from tests.unit.cli.machines import launch_web, on_a_terminal
from tests.unit.cli.station import Station

VALUE = "hush-hunter2-confided"


def test_quiet_leaves_failures_alone(settled: Station) -> None:
    flake = settled.flake()
    loud, quiet = (settled.mvm(*words, "run", flake, "--", "true") for words in ((), ("--quiet",)))
    assert (loud.code, "accelerator" in loud.err) == (0, True)
    assert (quiet.code, quiet.err) == (0, "")
    said = settled.mvm("--quiet", "run", flake, "--", "complain", "loudly")
    assert (said.code, said.err) == (3, "loudly"), "a guest's own words are its own"
    said = settled.mvm("--quiet", "stop", "nothing")
    assert (said.code, "no machine with the name or id 'nothing'" in said.err) == (2, True)


@pytest.mark.parametrize("way", ["--verbose", "MVMNIX_LOG"])
def test_what_is_done_is_said_once_asked_for(settled: Station, way: str) -> None:
    flake = settled.flake()
    words: tuple[str, ...] = ("--verbose",)
    if way == "MVMNIX_LOG":
        settled.monkeypatch.setenv(way, "info")
        words = ()
    said = settled.mvm(*words, "run", flake, "--", "echo", "hello")
    assert (said.code, said.out) == (0, "hello\n")
    for line in ("cli: command run", "gate: verifying the plan sha256:", "audit: record 1: start", "is running"):
        assert line in said.err
    assert "mvmnix.process" not in said.err
    settled.monkeypatch.delenv("MVMNIX_LOG", raising=False)
    assert "mvmnix." not in settled.mvm("run", flake, "--", "true").err, "the next command was not asked"


@pytest.mark.parametrize("words", [("--verbose", "--verbose"), ("--verbose",) * 3])
def test_more_of_it(settled: Station, words: tuple[str, ...]) -> None:
    said = settled.mvm(*words, "run", settled.flake(), "--", "true")
    assert "mvmnix.process: " in said.err
    assert "mvmnix.process: starting /" in said.err
    assert "mvmnix.cli: exit code 0" in said.err


def test_no_secret_is_in_it(settled: Station, tmp_path: Path) -> None:
    (tmp_path / "secret").touch(mode=0o600)
    (tmp_path / "secret").write_text(VALUE)
    settled.monkeypatch.setenv("CONFIDED", VALUE)
    settled.monkeypatch.setenv("MVMNIX_LOG", "debug")
    secrets = ("--secret", f"a=file:{tmp_path}/secret", "--secret-env", "B=env:CONFIDED", "-e", "C=plain-but-not-said")
    said = settled.mvm("run", *secrets, settled.flake(), "--", "echo", "an argument")
    assert (said.code, "mvmnix.process" in said.err) == (0, True)
    for word in (VALUE, "plain-but-not-said", "an argument"):
        assert word not in said.err
    said = settled.mvm("run", settled.flake("other"), "--", "env", f"TOKEN={VALUE}")
    assert (said.code, VALUE in said.err) == (126, False)
    assert "gate: refused: plaintext-credential" in said.err


def test_a_command_in_a_machine_is_not_in_it(settled: Station) -> None:
    launch_web(settled, "--verb", "exec")
    settled.monkeypatch.setenv("MVMNIX_LOG", "debug")
    said = settled.mvm("exec", "-e", f"TOKEN={VALUE}", "web", "true", VALUE)
    assert (said.code, "command exec" in said.err, VALUE in said.err) == (0, True, False)


def test_a_stranger_s_text_is_one_line_of_it(settled: Station) -> None:
    settled.monkeypatch.setenv("MVMNIX_LOG", "info")
    words = "\x1b[2J\nmvm: all is well"
    settled.monkeypatch.setattr("mvmnix.cli.options.output_format.answer", lambda *_: log.info("x", "%s", words))
    said = settled.mvm("ps", "--json")
    (line,) = (line for line in said.err.splitlines() if "all is well" in line)
    assert line.endswith("mvmnix.x: \\u001b[2J\\nmvm: all is well")


@pytest.mark.parametrize(
    ("words", "level", "why"),
    [
        ((), "loud", "MVMNIX_LOG is none of info, debug: 'loud'"),
        (("--quiet", "--verbose"), "", "--quiet excludes"),
        (("--quiet",), "info", "--quiet excludes"),
    ],
)
def test_what_can_not_be_meant(station: Station, words: tuple[str, ...], level: str, why: str) -> None:
    station.monkeypatch.setenv("MVMNIX_LOG", level)
    said = station.mvm(*words, "ps")
    assert (said.code, said.out, why in said.err) == (2, "", True)


def test_it_is_an_option_of_mvm_itself(station: Station) -> None:
    said = station.mvm("run", "--quiet", ".")
    assert (said.code, "it stands before the command, behind mvm itself" in said.err) == (2, True)


def test_nothing_is_imported_for_what_is_not_asked_for() -> None:
    asked = "import sys, mvmnix.system.log as log; log.info('x', 'y'); import mvmnix.cli.commands.ps"
    program = f"{asked}; print('logging' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == b"False\n"


@pytest.mark.parametrize(("value", "colourful"), [("1", False), ("0", False), ("", True), (None, True)])
def test_no_colour_where_none_is_wanted(settled: Station, value: str | None, colourful: bool) -> None:
    """By the convention of NO_COLOR: a variable that is set to something, whatever that is."""
    environment = {} if value is None else {"NO_COLOR": value}
    code, said = on_a_terminal(settled, "stop", "nothing", environment=environment)
    assert (code, b"\x1b[" in said) == (2, colourful), said
    code, said = on_a_terminal(settled, "image", "ls", environment=environment)
    assert (code, b"\x1b[3" in said) == (0, False), said
