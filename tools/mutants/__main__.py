"""Mutates modules that decide security, one place at a time, and prints what no test noticed: `make mutants`.

Each mutation is made in a copy of the tree, and never in the work tree. All tests run once without a mutation, and
after that only those that execute what is mutated. mutmut and cosmic-ray, which do the like, leave out no raise and no
reason, and take no sample.
"""

import argparse
import random
import secrets
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Final, override

from tests.repository import ROOT
from tools.mutants.mutations import Kind, Mutation, mutations
from tools.mutants.recording import Recording
from tools.mutants.targets import UNSEEN, covering, modules
from tools.mutants.trial import SURVIVORS, Outcome, Tree

#: Among so many mutations of a sample is the one whose tests are run without it, in each copy.
_LOOKED_AT: Final = 20
#: Seconds between lines of progress.
_TELL: Final = 60


@dataclass(frozen=True, slots=True)
class Mutant:
    """A module and its mutation."""

    module: Path
    source: bytes
    mutation: Mutation

    @override
    def __str__(self) -> str:
        """Where it is, what it is, and the lines that it changes."""
        before, after = (it.decode().splitlines() for it in (self.source, self.mutation.applied(self.source)))
        first = next(number for number, (one, other) in enumerate(zip(before, after, strict=False)) if one != other)
        last = len(before) - len(after) + first
        lines = [f"  - {line.strip()}" for line in before[first : max(first, last) + 1]]
        return "\n".join([f"{self.module}:{first + 1}: {self.mutation.kind}", *lines, f"  + {after[first].strip()}"])


class Progress:
    """How far a run is; for several threads."""

    def __init__(self, of: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._of, self._clock = of, clock
        self._lock = threading.Lock()
        self._tried = self._survived = 0
        self._told = clock()

    def tried(self, outcome: Outcome) -> str:
        """One more was tried. Returns a line to print, "" when the last one is not old enough."""
        with self._lock:
            self._tried += 1
            self._survived += outcome in SURVIVORS
            if self._clock() < self._told + _TELL:
                return ""
            self._told = self._clock()
            return f"{self._tried} of {self._of} tried, {self._survived} survived"


def main() -> int:
    """Take a sample, or several, try them, and tell; exits with 1 if something survived."""
    wanted = _arguments()
    everything = [
        Mutant(module, source, mutation)
        for module in modules()
        if str(module).startswith(tuple(wanted.only))
        for source in [(ROOT / module).read_bytes()]
        for mutation in mutations(source)
        if not wanted.kind or mutation.kind in wanted.kind
    ]
    count = min(wanted.count or len(everything), len(everything))
    samples = {seed: random.Random(seed).sample(everything, count) for seed in wanted.seed}
    print(f"seeds {', '.join(map(str, samples))}: {count} of {len(everything)} mutations each", flush=True)
    together = [mutant for sample in samples.values() for mutant in sample]
    tried = zip(together, _tried(together, wanted.workers, wanted.minutes * 60), strict=True)
    survived = [_tell(seed, list(islice(tried, count))) for seed in samples]
    return int(any(survived))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutants ARGS=", description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="how many; 0 for all")
    parser.add_argument("--seed", type=int, action="append", help="of a sample; more than one: so many samples")
    parser.add_argument("--only", action="append", default=[], metavar="PATH", help="mvmnix/…, a beginning of a path")
    parser.add_argument("--kind", action="append", default=[], choices=list(Kind), help="mutations of this kind alone")
    parser.add_argument("--workers", type=int, default=2, help="how many at a time")
    parser.add_argument("--minutes", type=float, default=120, help="after which no further one is tried")
    found = parser.parse_args()
    found.only, found.seed = found.only or ["mvmnix/"], found.seed or [secrets.randbelow(1_000_000)]
    return found


def _tried(sample: Sequence[Mutant], workers: int, seconds: float) -> list[Outcome]:
    with tempfile.TemporaryDirectory(prefix="mutants-") as base, ExitStack() as stack:
        copies = [stack.enter_context(Tree.copied(Path(base, str(number)))) for number in range(workers)]
        recording = _recorded(copies, sample)
        trees, began, progress = SimpleQueue[Tree](), time.monotonic(), Progress(len(sample))
        for copied in copies:
            trees.put(copied)

        def one(mutant: Mutant) -> Outcome:
            if time.monotonic() > began + seconds:
                return Outcome.LEFT_OUT
            tree = trees.get()
            try:
                outcome = tree.tried(mutant.module, mutant.mutation, covering(mutant.module), recording)
            finally:
                trees.put(tree)
            if outcome in SURVIVORS:
                print(f"{mutant}\n  {outcome}", flush=True)
            if told := progress.tried(outcome):
                print(told, flush=True)
            return outcome

        with ThreadPoolExecutor(workers) as pool:
            try:
                outcomes = list(pool.map(one, sample))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        print(f"{60 * len(sample) / (time.monotonic() - began):.0f} a minute")
        return outcomes


def _recorded(copies: Sequence[Tree], sample: Sequence[Mutant]) -> Recording:
    """What tests execute, each copy's share of them at once; and no copy's tests fail a second time by themselves."""
    files = sorted({file for mutant in sample for file in _files(covering(mutant.module))})
    shares = [files[number :: len(copies)] for number in range(min(len(copies), len(files)))]
    with ThreadPoolExecutor(len(copies)) as pool:
        parts = list(pool.map(Tree.recorded, copies, shares))
        recording = Recording.read((record for part in parts for record in part), UNSEEN)

        def costs(mutant: Mutant) -> tuple[bool, float]:
            found = recording.selected(mutant.module, mutant.source, mutant.mutation, covering(mutant.module))
            return not found.files, found.seconds

        least = min(sample[:_LOOKED_AT], key=costs)
        list(pool.map(lambda it: it.check(least.module, least.mutation, covering(least.module), recording), copies))
    return recording


def _files(tests: Sequence[str]) -> list[str]:
    found = [[path] if path.is_file() else sorted(path.rglob("test_*.py")) for path in map(ROOT.joinpath, tests)]
    return [str(path.relative_to(ROOT)) for paths in found for path in paths]


def _tell(seed: int, tried: Sequence[tuple[Mutant, Outcome]]) -> bool:
    """Print what became of a sample; whether something survived."""
    print(f"seed {seed}:")
    by_kind = {kind: Counter(outcome for it, outcome in tried if it.mutation.kind is kind) for kind in Kind}
    for kind, counted in by_kind.items():
        if counted:
            print(f"{kind:<11}", ", ".join(f"{number} {outcome}" for outcome, number in sorted(counted.items())))
    total = Counter(outcome for _, outcome in tried)
    survived, noticed = sum(total[it] for it in SURVIVORS), total[Outcome.CAUGHT] + total[Outcome.TOOK_TOO_LONG]
    if survived + noticed:
        share = 100 * noticed / (survived + noticed)
        print(f"{noticed} of {survived + noticed} noticed, {share:.1f} %; {total[Outcome.LEFT_OUT]} left out for time")
    return bool(survived)


if __name__ == "__main__":
    sys.exit(main())
