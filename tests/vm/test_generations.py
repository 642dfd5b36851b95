"""Programs with generators of their own in machines that are one fork: what they draw with and without the hook."""

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import World
from tests.patience import until
from tests.vm.machines import done, inside
from tests.vm.python_tree import command, make_python_tree

pytestmark = pytest.mark.vm

DRAWS: Final = "tests.vm.generations.draws"
SOURCES: Final = Path(__file__).parent / "generations"
#: Where the programs are in the guest: a directory of the test, copied by its name.
TREE: Final = "/tmp/programs"
#: How programs use the hook: not at all, by its file, by its signal, by a flag that another thread sets at the signal.
#: OpenSSL without it is seeded last: it reseeds by the clock, minutes later.
HOOKS: Final = {
    "mersenne": ("none", "file", "signal"),
    "kernel": ("none",),
    "threads": ("none", "file", "flag"),
    "openssl": ("file", "signal", "none"),
}
SPINS: Final = f"{TREE}/spins"
#: By the name of its FIFOs, the shell's line that starts a program.
PROGRAMS: Final = {
    f"{generator}-{hook}": f"{TREE}/threads {TREE}/threads-{hook} {hook}"
    if generator == "threads"
    else command(TREE, DRAWS, f"{TREE}/{generator}-{hook}", generator, hook)
    for generator, hooks in HOOKS.items()
    for hook in hooks
}
#: The plan's command, as those of `mvm exec` don't go on elsewhere: starts the programs once they are there.
WAITS: Final = f"until [ -e {TREE}/start ]; do sleep 0.05; done; . {TREE}/start; wait"
CHILDREN: Final = 2


@dataclass(frozen=True, slots=True)
class Fork:
    """A machine and those that went on from it, with the same programs."""

    world: World
    machines: Sequence[str]

    def ask(self, program: str, what: str = "draw") -> Sequence[str]:
        """What a program of each machine answers, the first one's first."""
        return [ask(self.world, machine, program, what) for machine in self.machines]


def ask(world: World, machine: str, program: str, what: str = "draw") -> str:
    return inside(world, machine, f"cd {TREE}; echo {what} > {program}.ask; cat {program}.answer")


def make_programs(directory: Path) -> None:
    make_python_tree(directory, DRAWS)
    for name in ("threads", "spins"):
        flags = ("-Wall", "-Wextra", "-Werror", "-O1", "-static", "-s", "-pthread")
        subprocess.run(["gcc", *flags, "-o", directory / name, SOURCES / f"{name}.c"], check=True)


def start(world: World, machine: str) -> None:
    """Start the programs, and have each seed its generator; the one that spins goes on with that."""
    fifos = " ".join(f"{path}.ask {path}.answer" for path in (SPINS, *(f"{TREE}/{name}" for name in PROGRAMS)))
    lines = "\n".join(f"{line} &" for line in (f"{SPINS} {SPINS}", *PROGRAMS.values()))
    inside(world, machine, f"mkfifo {fifos}; echo '{lines}' > {TREE}/lines; mv {TREE}/lines {TREE}/start")
    for name in PROGRAMS:
        assert ask(world, machine, name)
    inside(world, machine, f"echo spin > {SPINS}.ask")


@pytest.fixture(scope="module")
def fork(world: World, minimal: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fork]:
    """Machines whose programs were seeded in the first of them, and have drawn nothing since the fork."""
    base = tmp_path_factory.mktemp("generations")
    here = world.copy(base / "home")
    verbs = ("--verb", "exec", "--verb", "copy", "--verb", "snapshot")
    size = ("--memory", "256", "--scratch", "64")
    plan = here.home.signed_plan(base, *verbs, *size, minimal, "--", "/bin/busybox", "sh", "-c", WAITS)
    machine = done(here, "launch", "--detach", plan)
    make_programs(base / Path(TREE).name)
    done(here, "cp", base / Path(TREE).name, f"{machine}:/tmp")
    start(here, machine)
    children = done(here, "fork", machine, "-n", str(CHILDREN)).split()
    inside(here, machine, "killall spins")
    yield Fork(here, (machine, *children))
    done(here, "rm", "--force", machine, *children)


def different(answers: Sequence[str]) -> Sequence[int]:
    """Of each number that is drawn at a time, how many there are in all machines."""
    return [len({*drawn}) for drawn in zip(*(answer.split() for answer in answers), strict=True)]


@pytest.mark.parametrize("program", ["openssl-none", "mersenne-none", "threads-none"])
def test_without_the_hook_all_draw_the_same(fork: Fork, program: str) -> None:
    assert {*different(fork.ask(program))} == {1}


@pytest.mark.parametrize("program", ["mersenne-file", "openssl-file", "threads-file"])
def test_one_that_looks_at_the_file_draws_others(fork: Fork, program: str) -> None:
    assert {*different(fork.ask(program))} == {len(fork.machines)}


@pytest.mark.parametrize("program", ["mersenne-signal", "openssl-signal"])
def test_one_that_handles_the_signal_draws_others(fork: Fork, program: str) -> None:
    assert {*different(fork.ask(program))} == {len(fork.machines)}


def test_threads_draw_others_once_another_one_has_taken_the_signal(fork: Fork) -> None:
    until(lambda: fork.ask("threads-flag", "signals") == ["0", *["1"] * CHILDREN])
    assert {*different(fork.ask("threads-flag"))} == {len(fork.machines)}


def test_a_program_of_one_thread_has_its_signal_before_it_goes_on(fork: Fork) -> None:
    answers = [inside(fork.world, machine, f"cat {SPINS}.answer") for machine in fork.machines[1:]]
    assert answers == ["1"] * CHILDREN


def test_numbers_of_the_kernel_need_no_hook(fork: Fork) -> None:
    assert {*different(fork.ask("kernel-none"))} == {len(fork.machines)}
