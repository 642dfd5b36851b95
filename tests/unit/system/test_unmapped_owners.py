"""Where root has no uid nothing is done: in user namespaces, that of a Nix store among them, and as nobody."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.system import unmapped_owners
from mvmnix.system.unmapped_owners import refuse_unmapped
from tests.repository import ROOT


def refused(*directories: str) -> str:
    with pytest.raises(RefusedError) as refusal:
        refuse_unmapped(directories)
    assert refusal.value.codes == (ReasonCode.NAMESPACE_UNUSABLE,)
    return refusal.value.reasons[0].why


def overflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str | None) -> None:
    file = tmp_path / "overflowuid"
    if said is not None:
        file.write_text(said)
    monkeypatch.setattr(unmapped_owners, "_SETTING", file)


def test_an_ordinary_process_passes() -> None:
    refuse_unmapped()
    refuse_unmapped(("/proc/nonexistent",))


@pytest.mark.parametrize("setting", [None, "", "65534\n", "nonsense"])
def test_65534_is_the_overflow_uid_unless_another_is_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: str | None
) -> None:
    overflow(monkeypatch, tmp_path, setting)
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    assert "this process has uid 65534" in refused("/")


def test_a_directory_whose_owner_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever number stands for that: here that of the directory's owner, and not of this process."""
    overflow(monkeypatch, tmp_path, f"{os.geteuid()}\n")
    monkeypatch.setattr(os, "geteuid", lambda: 7)
    assert f"{tmp_path} shows as owned by uid" in refused("/proc/nonexistent", str(tmp_path))


#: As a plain user makes one, with a uid of its own for this user in it, if it is given. mvm may lie where only root can
#: read it, so it is imported first; a process that changed its uid writes no map until it is dumpable again (prctl(2)).
NAMESPACE = """
import ctypes, os, sys
import mvmnix.cli.commands.ps, mvmnix.cli.main, mvmnix.cli.output
inside = sys.argv.pop(1)
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(61000, 61000, 61000)
    os.setresuid(61000, 61000, 61000)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
outside = os.geteuid()
os.unshare(os.CLONE_NEWUSER)
if inside:
    with open("/proc/self/uid_map", "w") as file:
        file.write(f"{inside.replace('same', str(outside))} {outside} 1")
mvmnix.cli.main.main()
"""


@pytest.mark.parametrize("inside", ["same", "0", ""])
@pytest.mark.parametrize("command", ["--version", "ps"])
def test_the_command_in_a_user_namespace_without_root(inside: str, command: str, tmp_path: Path) -> None:
    """A uid 0 of its own is no root either; and without any, the process itself is one of the unknown owners."""
    environment = {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    argv = [sys.executable, "-P", "-c", NAMESPACE, inside, command]
    done = subprocess.run(argv, env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (126, ""), done.stderr
    assert "refused [namespace-unusable]" in done.stderr
    assert not list(tmp_path.iterdir())
