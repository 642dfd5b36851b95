"""One builder VM in which many flakes are built, one after another: what `mvm build` does, without a boot for each."""

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self, override

import pytest

from mvmnix.api.build_limits import AS_THE_IMAGE_SAYS, BuildLimits
from mvmnix.api.builder_vm import BuilderMachine, BuilderVm, builder_plan
from mvmnix.api.context import Context
from mvmnix.api.frontend import SilentProgress
from mvmnix.api.image_builder import ImageBuilder
from mvmnix.api.part_builder import InputFetcher, PartBuilder
from mvmnix.audit.reading import last_records
from mvmnix.builder.flakes.build_request import BuildRequest
from mvmnix.builder.flakes.flake_source import take_flake
from mvmnix.builder.session.build import Build, BuildRecord
from mvmnix.builder.session.cache import Connection
from mvmnix.builder.session.evaluation import Evaluation
from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.formats import lock
from mvmnix.images.part_index import NOTHING_KEPT, KeptParts
from mvmnix.machines.exit_status import ExitStatus
from mvmnix.model import FlakeRef
from mvmnix.plan.plan import Plan
from mvmnix.provenance.policy.trust_text import FILE_NAME
from mvmnix.system.roots import Roots
from tests.conftest import World
from tests.patience import PATIENCE
from tests.policies import effective


class Quiet(SilentProgress):
    """Progress that nobody watches; `said` is what the builder said."""

    def __init__(self) -> None:
        self.said = b""

    @override
    def log(self, data: bytes) -> None:
        self.said += data


def rooms_of(world: World) -> Context:
    """The house of a world's user, in this process, wherever it runs: the policy is that of the user's own command."""
    rooms = Context(Roots.from_environment(world.home.environment))
    rooms.policy = effective(None, (world.home.config / FILE_NAME).read_bytes())
    setattr(rooms, "read_policy_again", lambda: None)  # noqa: B010 - tests say what the policy is
    return rooms


class Watched:
    """A machine, and whether a call to it was broken off by what its output was found to be; no test hangs in one."""

    def __init__(self, machine: BuilderMachine, patience: float) -> None:
        self._machine = machine
        self._until = time.monotonic() + patience
        self.broken_off = False

    def exec(self, argv: Sequence[str], **options: Any) -> ExitStatus:
        self.broken_off = True
        left = max(1.0, self._until - time.monotonic())
        status = self._machine.exec(argv, **(options | {"timeout": left}))
        self.broken_off = False
        return status


class Workbench:
    """A context manager; the VM starts with the first build, and again after a build that was broken off.

    Other than `mvm build`, it evaluates and builds in one VM, to save starts.
    """

    def __init__(
        self,
        world: World,
        limits: BuildLimits = AS_THE_IMAGE_SAYS,
        vary: Callable[[Plan], Plan] | None = None,
        *,
        takes_parts: bool = True,
    ) -> None:
        """`vary` changes the plan of the VM, as a rebuild does; `takes_parts`: kept ones, as a build does."""
        self.world = world
        self.limits = limits
        self.vary = vary
        self.rooms = rooms_of(world)
        self.progress = Quiet()
        self.from_derivation = False
        self._takes_parts = takes_parts
        #: Parts that its builds may take, and the statements that vouch for them.
        self.stock: KeptParts = NOTHING_KEPT
        #: Seconds that a build may take before it counts as hung; the host's clock, whatever the guest does.
        self.patience: float = PATIENCE
        self._vm: BuilderVm | None = None
        self._machine: BuilderMachine | None = None
        self._stack = ExitStack()
        self._current: Build | Evaluation | None = None

    def build(self, reference: str) -> BuildRecord:
        """Build a flake. Raises what `mvm build` would tell."""
        wanted = FlakeRef.parse(reference)
        flake = take_flake(wanted)
        request = BuildRequest(flake, lock.parse(flake.lock), wanted.attribute)
        images = self.rooms.library.images
        watched = Watched(self._running(), self.patience)
        assert self._vm is not None
        shared: Any = {
            "store": self.rooms.sources,
            "fetchers": InputFetcher(self.rooms, self.progress),
            "workers": self._vm.workers,
            "progress": self.progress,
            "parts": self.stock.parts,
        }
        self._current = evaluation = Evaluation(request, from_derivation=self.from_derivation, **shared)
        try:
            evaluated = evaluation.run(watched)
            self._current = work = Build(evaluated, images=images, **shared)
            return work.run(watched, jobs=2)
        finally:
            if watched.broken_off:
                self._stop()  # what it was sending would come in the middle of the next build
            else:
                self._forget()

    def failure(self, reference: str) -> MvmnixError:
        """How a build fails, which it does; no image stays behind."""
        before = self.images
        with pytest.raises(MvmnixError) as caught:
            self.build(reference)
        assert self.images == before
        return caught.value

    def refusal(self, reference: str) -> set[str]:
        """For which reasons a build is refused, which it is."""
        error = self.failure(reference)
        assert isinstance(error, RefusedError), error
        assert all(reason.hint for reason in error.reasons)
        return {code.value for code in error.codes}

    def says(self, *argv: str) -> bytes:
        """What a program in the builder prints."""
        said = bytearray()
        ended = self._running().exec(
            argv, environment={}, stdout=said.extend, stderr=lambda _: None, timeout=self.patience
        )
        assert ended.exit_code == 0
        return bytes(said)

    def renew(self) -> None:
        """Let the next build have a VM that nobody was in before."""
        self._stop()

    @property
    def images(self) -> frozenset[str]:
        """The files in the store of images, unfinished ones among them."""
        return frozenset(it.name for it in (self.world.home.state / "images").iterdir())

    def _connection(self, wake: Callable[[], None]) -> Connection:
        assert self._current is not None
        return self._current.connection(wake)

    def _running(self) -> BuilderMachine:
        if self._machine is None:
            builder = ImageBuilder(self.rooms, self.progress).builder_image()
            plan = builder_plan(self.rooms, builder, self.limits)
            plan = plan if self.vary is None else self.vary(plan)
            if self._takes_parts:
                self.stock = PartBuilder(self.rooms, self.progress, builder, self.limits).stock()
            self._vm = BuilderVm(self.rooms, self.progress, builder, plan)
            self._machine = self._stack.enter_context(self._vm.running(self._connection))
        return self._machine

    def _forget(self) -> None:
        """Remove what Nix remembers of earlier answers: the next build asks anew."""
        assert self._machine is not None
        ended = self._machine.exec(
            ("/bin/busybox", "rm", "-rf", "/build/.cache"),
            environment={},
            stdout=lambda _: None,
            stderr=lambda _: None,
            timeout=self.patience,
        )
        assert ended.exit_code == 0

    def _stop(self) -> None:
        if self._machine is not None:
            self._machine.kill()
            self._machine = None
        with suppress(MvmnixError):
            self._stack.close()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        with self.rooms.roots, self.rooms:
            assert list(last_records(self.rooms.audit, self.rooms.log_key, last=1))


def tiny_tree(world: World, target: Path, flake: str) -> Path:
    """A flake that needs nothing of mvm but how it builds: `build.nix`, the lock of its pins, and a manifest."""
    target.mkdir()
    for name in ("modules/build.nix", "modules/debian/lock.json"):
        shutil.copy(world.tree / name, target / Path(name).name)
    shutil.copy(world.hello / "manifest.json", target / "hello.json")
    (target / "flake.nix").write_text(flake)
    return target
