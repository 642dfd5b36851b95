"""Builds an image in CI, exports it with its evidence, and verifies what was exported as a user would."""

import sys
from pathlib import Path

from mvmnix import Image, NotVerified


def main(flake: str, out: Path) -> None:
    """The second part needs the exported directory alone."""
    built = Image.build(flake, out=out)
    print(f"built {built.name}, SLSA Build L{built.level}")
    assert Image.verify(out) == built
    kernel = out / "kernel"
    kernel.chmod(0o644)
    with kernel.open("ab") as file:
        file.write(b"one byte more")
    try:
        Image.verify(out)
    except NotVerified as refused:
        print("changed afterwards:", ", ".join(refused.codes))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
