"""Lists the files that git tracks, for tests that judge the repository and not what else lies in the work tree."""

import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
#: The README has newcomers put guests of their own here.
GUESTS: Final = "guests"


def tracked(root: Path = ROOT) -> list[Path]:
    """Return the project's files, relative to `root` and sorted; a new file counts once it was added to git's index.

    Files that were deleted from the work tree and a newcomer's guests are left out.
    """
    argv = ["git", "-C", str(root), "ls-files", "-z", "--cached"]
    names = subprocess.run(argv, capture_output=True, check=True).stdout.decode().split("\0")
    paths = {Path(name) for name in names if name and (root / name).is_file()}
    return sorted(path for path in paths if path.parts[0] != GUESTS)
