"""Lists the files that git tracks, for tests that judge the repository and not what else lies in the work tree."""

import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]


def tracked(root: Path = ROOT) -> list[Path]:
    """Relative to `root`, sorted, without those that were deleted from the work tree. A new file: `git add` it."""
    argv = ["git", "-C", str(root), "ls-files", "-z", "--cached"]
    names = subprocess.run(argv, capture_output=True, check=True).stdout.decode().split("\0")
    return sorted({Path(name) for name in names if name and (root / name).is_file()})
