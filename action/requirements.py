"""Prints the wheels of mvm's own lock as requirements that pip checks by hash; needs Python and nothing else."""

import json
import sys
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "modules/python/lock.json"


def requirements(lock: Path) -> str:
    """One line for each wheel."""
    packages = json.loads(lock.read_bytes())["packages"]
    lines = (f"{name}=={it['version']} --hash=sha256:{it['sha256']}\n" for name, it in sorted(packages.items()))
    return "".join(lines)


if __name__ == "__main__":
    sys.stdout.write(requirements(LOCK))
