"""What root is told of root's own state: what there is, what is at work, and commands that a shell understands."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix import caller
from mvmnix.api.context import LIBRARY_LOCK, Context
from mvmnix.api.doctor import root_state
from mvmnix.api.doctor.finding import Finding, Health
from mvmnix.config import AnchorRule
from tests.unit.cli.machines import launch_web
from tests.unit.cli.station import Station


@pytest.fixture
def root(settled: Station) -> Iterator[Station]:
    """A user who is root, as far as mvm is told, and has run an image."""
    assert settled.mvm("run", settled.flake(), "--", "true").code == 0
    settled.monkeypatch.setattr(caller, "uid", lambda: 0)
    settled.monkeypatch.delenv("SUDO_USER", raising=False)
    yield settled
    settled.monkeypatch.undo()


def found(station: Station) -> list[Finding]:
    with station.roots() as roots, Context(roots) as context:
        return list(root_state.root_state(context))


def test_a_plain_user_is_told_nothing(root: Station) -> None:
    root.monkeypatch.setattr(caller, "uid", lambda: 4321)
    assert found(root) == []


def test_root_who_never_ran_mvm_is_told_nothing(station: Station) -> None:
    station.monkeypatch.setattr(caller, "uid", lambda: 0)
    assert found(station) == []


def test_what_there_is(root: Station) -> None:
    (one,) = found(root)
    assert one.health is Health.NOTE
    assert one.said.startswith("2 images, 1 machine, 3 keys, 3 log records: ")
    for path in (root.config, root.state, root.home / ".cache/mvmnix"):
        assert str(path) in one.said
    assert "put the name in the place of USER" in one.next
    assert "user=USER;" in one.commands[0]


def test_the_user_of_sudo_is_named(root: Station) -> None:
    root.monkeypatch.setenv("SUDO_USER", "nobody")
    (one,) = found(root)
    assert "To move this to nobody, " in one.next
    assert "user=nobody;" in one.commands[0]


@pytest.mark.parametrize("name", ["root", "no-such-user", "; id", ""])
def test_no_other_name_is_taken_from_the_environment(root: Station, name: str) -> None:
    root.monkeypatch.setenv("SUDO_USER", name)
    assert "user=USER;" in found(root)[0].commands[0]


def test_a_log_that_does_not_verify_is_said(root: Station) -> None:
    (segment,) = (root.state / "audit").glob("*.jsonl")
    segment.write_bytes(segment.read_bytes().rstrip(b" ")[:-20])
    assert "an audit log that does not verify" in found(root)[0].said


def test_what_stays_is_named(root: Station, tmp_path: Path) -> None:
    (root.home / ".local/share/mvmnix/nix").mkdir(parents=True)
    (root.config / "config.toml").write_text(
        "version = 1\n"
        f'[[anchors]]\nname = "usb"\nrequired = false\nfile = "{tmp_path}/usb/checkpoint"\n'
        '[[anchors]]\nname = "git"\nrequired = false\ngit = "/srv/audit log.git"\nbranch = "b"\n'
    )
    state, anchors = found(root)
    assert f"the Nix store in {root.home}/.local/share/mvmnix/nix stays" in state.said
    of_file, of_git = anchors.commands
    assert f"chown -fh USER: {tmp_path}/usb/checkpoint {tmp_path}/usb/checkpoint.lock; chown -h USER: " in of_file
    assert of_git == "chown -Rh USER: '/srv/audit log.git'"


@pytest.mark.parametrize(
    ("files", "is_home", "given"),
    [
        (["checkpoint"], False, True),
        (["checkpoint", "checkpoint.lock"], False, True),
        (["checkpoint", "another"], False, False),
        (["checkpoint"], True, False),
    ],
    ids=["its own", "with a lock", "with another's", "a home"],
)
def test_an_anchors_directory_is_given_away_where_nothing_else_is_in_it(
    tmp_path: Path, files: list[str], is_home: bool, given: bool
) -> None:
    """By the shell: root's mvm may not see the directory."""
    where, programs = tmp_path / "it's usb", tmp_path / "bin"
    where.mkdir()
    programs.mkdir()
    for name in files:
        (where / name).touch()
    for name, does in (("chown", 'echo "chown $*"'), ("getent", f'echo "x:x:0:0::{where if is_home else "/root"}:"')):
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (programs / name).chmod(0o755)
    rule = AnchorRule("usb", required=False, file=str(where / "checkpoint"))
    (line,) = root_state._anchors([rule], "USER")
    done = subprocess.run(
        ["sh", "-euc", line], env={"PATH": f"{programs}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    expected = [f"chown -fh USER: {where}/checkpoint {where}/checkpoint.lock", f"chown -h USER: {where}"]
    assert (done.stdout.splitlines() == expected) is given
    assert (" holds more than the anchor usb" in done.stdout) is not given


def test_no_commands_while_something_is_at_work(root: Station) -> None:
    with root.roots() as roots, roots.state.share(LIBRARY_LOCK):
        (one,) = found(root)
    assert one.commands == ()
    assert f"which holds {root.state / LIBRARY_LOCK}" in one.said
    assert "mvm stop" in one.next


def test_a_machine_that_runs_is_named(settled: Station) -> None:
    launch_web(settled)
    with settled.monkeypatch.context() as patch:
        patch.setattr(caller, "uid", lambda: 0)
        (one,) = found(settled)
    assert one.commands == ()
    assert "at work: machine web" in one.said
    assert settled.mvm("kill", "web").code == 0


@pytest.mark.parametrize("which", [{"config"}, {"state", "cache"}, {"config", "state", "cache"}])
def test_a_shell_takes_the_commands(tmp_path: Path, which: set[str]) -> None:
    paths = {name: str(tmp_path / f"it's {name}" / "mvmnix") for name in which}
    for path in paths.values():
        Path(path).mkdir(parents=True)
    lines = root_state.commands(paths, "USER")
    subprocess.run(["sh", "-n"], input="\n".join(lines), text=True, check=True)
    for shell in ("sh", "bash"):
        done = subprocess.run([shell], input="\n".join(lines), text=True, capture_output=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "nothing was moved: there is no user USER, or no home\n"
    assert all(Path(path).is_dir() for path in paths.values())
