"""`mvm logs`: a command's output and a kernel's console, with nothing of a guest's that a terminal would obey."""

import os
import signal
import sys

import pytest

from mvmnix.machines.output_log import Output, OutputLog
from mvmnix.system.private_dirs import Directory
from tests.patience import EVENT_PATIENCE, until
from tests.unit.cli.machines import ids, launched, ran, supervisor_of
from tests.unit.cli.station import Said, Station


@pytest.mark.parametrize("which", ["web", "id", "prefix"])
def test_a_foreground_run_s_output_is_kept(settled: Station, which: str) -> None:
    machine = ran(settled, "complain", "a lot").name
    name = {"web": "web", "id": machine, "prefix": machine[:4]}[which]
    assert settled.mvm("logs", name) == Said(0, "", "a lot")
    assert settled.mvm("logs", "--stderr", name) == Said(0, "a lot", "")
    assert settled.mvm("logs", "--stdout", name) == Said(0, "", "")
    assert settled.mvm("logs", "--console", name) == Said(0, "booted\n", "")


def test_a_detached_machine_s_output_is_kept(settled: Station) -> None:
    machine = launched(settled, "echo", "some", "words")
    assert settled.mvm("logs", "--follow", machine) == Said(0, "some words\n", "")
    assert (settled.state / "machines" / machine / "output.log").stat().st_mode & 0o777 == 0o600


def test_a_bound_of_nothing_keeps_nothing(settled: Station) -> None:
    assert settled.mvm("run", "--output-log", "0", settled.flake(), "--", "echo", "x").out == "x\n"
    (machine,) = ids(settled)
    assert not list((settled.state / "machines" / machine).glob("output*"))
    said = settled.mvm("logs", machine)
    assert (said.code, said.out) == (2, "")
    assert f"mvm logs --console {machine}" in said.err


def test_a_secret_that_is_printed_in_the_foreground_is_kept_only_if_the_plan_says_so(settled: Station) -> None:
    settled.monkeypatch.setenv("CONFIDED", "hush-hunter2")
    reference = settled.flake()
    for name, bound, code in (("none", (), 2), ("some", ("--output-log", "1"), 0)):
        command = ("run", "--name", name, "--secret", "a=env:CONFIDED", *bound, reference, "--", "reveal", "a")
        assert settled.mvm(*command).out == "hush-hunter2"
        said = settled.mvm("logs", name)
        assert (said.code, said.out) == (code, "" if code else "hush-hunter2")


def kept(station: Station, machine: str, *said: tuple[Output, bytes], limit: int = 1000) -> None:
    """Have another log in a machine's directory."""
    with Directory.open(str(station.state / "machines" / machine)) as directory:
        directory.remove("output.log")
        log = OutputLog(directory, limit)
        for output, data in said:
            log.write(output, data)
        log.close()


@pytest.mark.parametrize("option", ["", "--stdout", "--stderr", "--console"])
def test_controls_are_written_out_for_a_terminal_only(settled: Station, option: str) -> None:
    machine = ran(settled, "true").name
    evil = b"\x1b[2Ja\r\nb\xff\xe2\x80\xae\n"
    (settled.state / "machines" / machine / "console.log").write_bytes(evil)
    kept(settled, machine, (Output.STDERR if option == "--stderr" else Output.STDOUT, evil))
    command = ("logs", *([option] if option else []), "web")
    assert settled.mvm(*command).out.startswith("\x1b[2Ja")
    settled.monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert settled.mvm(*command).out == "\\u001b[2Ja\nb\\xff\\u202e\n"


def test_a_terminal_s_standard_error_is_escaped_too(settled: Station) -> None:
    machine = ran(settled, "true").name
    kept(settled, machine, (Output.STDERR, b"\x1b[2J"))
    settled.monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert settled.mvm("logs", "web").err == "\\u001b[2J"


def test_what_is_missing_is_told(settled: Station) -> None:
    machine = ran(settled, "true").name
    kept(settled, machine, *((Output.STDOUT, b"x" * 99 + b"\n") for _ in range(20)))
    said = settled.mvm("logs", "web")
    gone = 2000 - len(said.out)
    assert 0 < gone < 2000
    assert f"mvm: {gone} bytes of output missing here" in said.err


def test_the_last_lines(settled: Station) -> None:
    machine = ran(settled, "true").name
    kept(settled, machine, *((Output(1 + number % 2), b"%d\r%d\n" % (number, number)) for number in range(6)))
    assert settled.mvm("logs", "--tail", "3", "web") == Said(0, "4\r4\n", "3\r3\n5\r5\n")
    assert settled.mvm("logs", "--stdout", "-n", "2", "web") == Said(0, "2\r2\n4\r4\n", "")
    assert settled.mvm("logs", "--tail", "0", "web") == Said(0, "", "")
    kept(
        settled,
        machine,
        (Output.STDOUT, b"o"),
        (Output.STDERR, b"e\n"),
        (Output.STDOUT, b"ne\nt"),
        (Output.STDOUT, b"wo"),
    )
    assert settled.mvm("logs", "--tail", "1", "web") == Said(0, "two", "")


def test_a_log_that_is_none_is_told_and_not_shown(settled: Station) -> None:
    machine = ran(settled, "true").name
    (settled.state / "machines" / machine / "output.log").write_bytes(b"\x1b[2J" * 20)
    said = settled.mvm("logs", "web")
    assert (said.code, said.out) == (125, "")
    assert "is not what mvm writes" in said.err
    assert "\x1b" not in said.err


def test_a_log_is_followed_to_the_end(settled: Station) -> None:
    machine = launched(settled, "linger")
    following = {log: settled.start("logs", "--follow", *log, machine) for log in (("--console",), ())}
    console, output = (each.stdout for each in following.values())
    assert console is not None
    assert output is not None
    assert console.readline() == b"booted\n"
    where = settled.state / "machines" / machine
    with (where / "console.log").open("ab") as file:
        file.write(b"more\n")
    assert console.readline() == b"more\n"
    until((where / "output.log").exists)
    kept(settled, machine, (Output.STDOUT, b"said\n"))
    assert output.readline() == b"said\n"
    settled.mvm("kill", machine)
    for each, end in zip(following.values(), (console, output), strict=True):
        assert end.read() == b""
        assert each.wait(EVENT_PATIENCE) == 0
        end.close()


@pytest.mark.parametrize("ending", ["supervisor", "rm"])
def test_whoever_follows_sees_the_end_of_what_is_taken_away(settled: Station, ending: str) -> None:
    machine = launched(settled, "linger")
    following = settled.start("logs", "--follow", machine)
    if ending == "rm":
        assert settled.mvm("rm", "--force", machine).code == 0
    else:
        os.kill(supervisor_of(settled, machine), signal.SIGKILL)
    out, _ = following.communicate(timeout=EVENT_PATIENCE)
    assert out == b""
    assert following.returncode in {0, 2}
