"""Writes what commands import to tests/unit/import_lists.txt: `python -m tests.unit.import_lists`.

A reviewer sees there what a change makes a command load, before its user does.
"""

import subprocess
import sys
from typing import Final

from tests.repository import ROOT

LISTS: Final = ROOT / "tests/unit/import_lists.txt"
#: By what a user types, what is imported for it before the command begins.
COMMANDS: Final = {
    "mvm --help": "mvmnix.cli.main",
    "mvm build": "mvmnix.cli.main, mvmnix.cli.commands.build",
    "mvm exec": "mvmnix.cli.main, mvmnix.cli.commands.exec",
    "mvm launch": "mvmnix.cli.main, mvmnix.cli.commands.launch",
    "mvm run": "mvmnix.cli.main, mvmnix.cli.commands.run",
    "mvm snapshot create": "mvmnix.cli.main, mvmnix.cli.commands.snapshot, mvmnix.api.calls",
    "mvm verify": "mvmnix.cli.main, mvmnix.cli.commands.verify",
}
_PROGRAM: Final = "import {}, sys; sys.stdout.write(' '.join(sys.modules))"


def imported(modules: str) -> list[str]:
    """Modules of mvm by their names; of others the packages, but for those of Python itself."""
    argv = [sys.executable, "-c", _PROGRAM.format(modules)]
    found = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    ours = {name for name in found if name.partition(".")[0] == "mvmnix"}
    theirs = {name.partition(".")[0] for name in found} - sys.stdlib_module_names - {"mvmnix", "__mp_main__"}
    return sorted(ours | {name for name in theirs if not name.startswith(("_", "sitecustomize"))})


def lists() -> str:
    """The file's text as of today."""
    parts = []
    for command, modules in COMMANDS.items():
        found = imported(modules)
        parts.append("\n".join([f"{command}: {len(found)}", *(f"  {name}" for name in found)]))
    return "\n".join(parts) + "\n"


def loaded_by(program: str) -> set[str]:
    """The modules in memory after a program ran in a fresh interpreter."""
    tail = "\nimport sys; sys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program + tail], capture_output=True, check=True, cwd="/")
    return set(done.stderr.decode().split())


if __name__ == "__main__":
    LISTS.write_text(lists())
