"""What `setup` installs: what mvm's own messages name is in the tool's list, and what only tests need is in theirs."""

import re
import subprocess
from pathlib import Path

import pytest

from mvmnix.system import system_user
from tests.repository import ROOT

SETUP = (ROOT / "setup").read_text()
#: Packages that mvm's messages name and that few machines need: mvm says so where one is missing.
OPTIONAL = {"crun", "dbus-user-session", "diffoscope", "systemd"}
#: In each Debian that can run `setup`.
ESSENTIAL = {"apt", "dash", "qemu-system-data"}


def packages(name: str) -> set[str]:
    """The packages of one of the script's arrays."""
    (text,) = re.findall(rf"^{name}=\(\n(.*?)^\)", SETUP, re.MULTILINE | re.DOTALL)
    return {entry.partition(":")[2] for entry in str(text).split()}


def test_the_tool_needs_what_its_messages_name() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "mvmnix").rglob("*.py"))
    hints = set(re.findall(r"apt-get install (?:--no-install-recommends )?([a-z0-9.+-]+)", sources))
    found = {hint for hint in hints if not hint.startswith("python")} - OPTIONAL - ESSENTIAL
    assert len(found) > 5
    assert found - packages("wanted") == {"libseccomp2"}, "which is a library, and looked for by its file"
    assert "missing+=(libseccomp2)" in SETUP


def test_no_package_is_in_both_lists() -> None:
    assert packages("wanted") & packages("tests") == set()


def test_the_demonstration_installs_no_test_programs() -> None:
    makefile = (ROOT / "Makefile").read_text()
    needs = dict(re.findall(r"^([a-z-]+): (setup\S*)", makefile, re.MULTILINE))
    assert needs["demo"] == "setup"
    assert {name for name, what in needs.items() if what == "setup"} == {"demo"}


def test_the_system_user_is_made_as_mvm_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_kvm, groups in ((True, "--groups kvm"), (False, "")):
        monkeypatch.setattr(system_user, "_has_kvm", lambda has_kvm=has_kvm: has_kvm)
        (line,) = re.findall(r"^  (useradd .*\n.*mvmnix) \|\| exit 125$", SETUP, re.MULTILINE)
        expected = line.replace("\\\n", "").replace('"${groups[@]}"', groups)
        assert system_user.command_for(system_user.USER).split() == expected.split()
    assert "groups=(--groups kvm)" in SETUP


@pytest.mark.parametrize("words", [("--test",), ("tests",)])
def test_another_word_is_refused(words: tuple[str, ...], tmp_path: Path) -> None:
    done = subprocess.run([ROOT / "setup", *words], capture_output=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (2, b"usage: setup [--tests]\n")
