"""A user who has run examples/hello, as in the tests: a home, a committed copy of this tree, the exported image."""

import sys
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

from tests.conftest import Home, committed_copy, make_world

TRUE = ("/bin/busybox", "true")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the measured commands run: with the code and the flake of `tree`, as the user of `home`."""

    home: Home
    tree: Path
    hello: Path

    def mvm(self, *arguments: str | Path) -> CompletedProcess[bytes]:
        """Run a command that has to succeed."""
        done = self.home.mvm(*arguments, cwd=self.tree)
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace")
            raise RuntimeError(f"mvm {' '.join(map(str, arguments))} ended with {done.returncode}:\n{words}")
        return done

    def run_true(self) -> None:
        """The whole process: reuse, sign, plan, verify, boot, run, receipt."""
        self.mvm("run", "./examples/hello", "--", *TRUE)

    def rebuild(self) -> None:
        """A build that is finished already."""
        self.mvm("build", "./examples/hello")


def prepare(base: Path) -> Place:
    """Make everything that is missing; with an empty directory that takes minutes."""
    place = Place(Home(base / "home"), base / "tree", base / "hello")
    if place.hello.exists():
        place.home.make_no_templates()  # beside what is measured
        return place
    print(f"preparing {base}: building the builder and examples/hello …", file=sys.stderr)
    base.mkdir(parents=True, exist_ok=True)
    make_world(committed_copy(place.tree), base)
    return place
