"""`mvm ps` while many machines run, none of which has a hypervisor: what counts is how it learns that they live."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.measurement import Figure, in_turns_with
from bench.pairs import Pair, pair
from mvmnix.machines import registry
from tests.unit.launch.house import detach, house


def listing(count: int, *, rounds: int) -> Pair:
    """The whole process, against an interpreter that imports click."""
    with tempfile.TemporaryDirectory(prefix="mvmnix-bench-") as name:
        state = Path(name) / ".local/state/mvmnix"
        state.parent.mkdir(parents=True, mode=0o700)
        environment = {"HOME": name, "PATH": os.environ["PATH"]}
        mvm = (sys.executable, "-P", "-m", "mvmnix.cli")
        subprocess.run([*mvm, "key", "create", "host"], env=environment, check=True, capture_output=True)
        with house(state) as here:
            machines = here.directory("machines")
            try:
                for _ in range(count):
                    with here.plan("linger") as plan:
                        detach(plan, here.host)

                def ps() -> None:
                    done = subprocess.run([*mvm, "ps", "--quiet"], env=environment, check=True, capture_output=True)
                    if len(done.stdout.split()) != count:
                        raise RuntimeError("not all of them are listed")

                def click() -> None:
                    subprocess.run([sys.executable, "-c", "import click"], check=True)

                return pair(ps, click, rounds=rounds)
            finally:
                for entry in registry.list_entries(machines):
                    if entry.supervisor:
                        os.kill(entry.supervisor, signal.SIGKILL)


def machines(*, rounds: int) -> Iterator[Figure]:
    """Measure `mvm ps`, which needs no world."""
    found = listing(50, rounds=rounds)
    yield in_turns_with("mvm ps, 50 machines", "python3 -c 'import click'", found, "ours < 0.3")
