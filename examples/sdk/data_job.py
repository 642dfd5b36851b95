"""Gives a job one directory to read and one to write, and nothing else of this host."""

import sys
from pathlib import Path

from mvmnix import Sandbox, Share


def main(image: str, data: Path, results: Path) -> None:
    """What the job may write to is named, and so is what it reads."""
    shares = [Share(data, "/data"), Share(results, "/results", writable=True)]
    with Sandbox.run(image, shares=shares, labels={"job": "7"}) as box:
        box.shell("sort /data/words > /results/sorted", check=True, timeout=60)
        assert box.shell("echo more > /data/words").exit_code, "it may only read there"
    print((results / "sorted").read_text(), end="")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
