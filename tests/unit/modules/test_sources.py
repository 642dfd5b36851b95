"""Which files of this repository the Nix package of mvm is made from."""

import re
import subprocess

from tests.repository import ROOT


def test_all_tracked_files_of_the_package_are_in_it() -> None:
    """A data file that is left out shows only where it is read (test_wheel.py does this for pip's)."""
    text = (ROOT / "modules/python/sources.nix").read_text()
    pattern = re.search(r'isCode = file: builtins\.match "(.*)" ', text)
    assert pattern is not None
    is_code = re.compile(pattern[1].replace("\\\\", "\\"))
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "mvmnix"], capture_output=True, text=True, check=True)
    left_out = [name for name in listed.stdout.split() if not is_code.fullmatch(name.rpartition("/")[2])]
    assert not left_out
