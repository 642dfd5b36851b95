"""One builder VM: an example evaluated and built through mvm's session, against `nix build` typed in the same VM."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import override

from bench.pairs import Pair, Times, timed
from bench.place import Place
from mvmnix.api.build_limits import AS_THE_IMAGE_SAYS
from mvmnix.api.builder_vm import BuilderMachine, BuilderVm, builder_plan
from mvmnix.api.context import Context
from mvmnix.api.frontend import SilentProgress
from mvmnix.api.image_builder import ImageBuilder
from mvmnix.api.part_builder import InputFetcher, PartBuilder
from mvmnix.builder.flakes.build_request import BuildRequest
from mvmnix.builder.flakes.flake_source import take_flake
from mvmnix.builder.nix import nix_commands
from mvmnix.builder.session.build import Build
from mvmnix.builder.session.cache import Connection
from mvmnix.builder.session.evaluation import Evaluated, Evaluation
from mvmnix.builder.session.exec import stream_command
from mvmnix.formats import lock
from mvmnix.images.part_index import KeptParts
from mvmnix.model import SYSTEM, FlakeRef
from mvmnix.provenance.policy.trust_text import FILE_NAME
from mvmnix.system.roots import Roots
from tests.policies import effective


class BuiltError(Exception):
    """The build is over, and what is measured with it."""


class Watch(SilentProgress):
    """Progress that stops a session where receiving begins."""

    @override
    def step(self, name: str) -> None:
        if name == "receiving":
            raise BuiltError


class Bench:
    """A running builder VM, and the two ways to build examples/hello in it, each from an empty store."""

    def __init__(self, rooms: Context, place: Place) -> None:
        self._rooms = rooms
        self._progress = Watch()
        flake = take_flake(FlakeRef.parse(str(place.tree / "examples/hello")))
        self._request = BuildRequest(flake, lock.parse(flake.lock), "default")
        self._builder = ImageBuilder(rooms, self._progress).builder_image()
        self._stock: KeptParts = PartBuilder(rooms, self._progress, self._builder, AS_THE_IMAGE_SAYS).stock()
        self._vm = BuilderVm(rooms, self._progress, self._builder, builder_plan(rooms, self._builder))
        self._current: Evaluation | Build = self._evaluation()
        self._machine: BuilderMachine | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        with self._vm.running(self._connection) as self._machine:
            yield

    def ours(self) -> None:
        """What `mvm build` does in the VM, up to the finished output."""
        self._current = evaluation = self._evaluation()
        evaluated = evaluation.run(self._there)
        self._current = work = self._build(evaluated)
        try:
            work.run(self._there, jobs=2)
        except BuiltError:
            return
        raise RuntimeError("it was not told that it has built")

    def theirs(self) -> None:
        """The same, as somebody would type it; what it asks for is known from the build before: no waiting."""
        flake = self._request.flake
        self._do(nix_commands.fetch_trees([flake.store_path]))
        url = nix_commands.flake_url(flake.store_path, flake.nar, flake.directory)
        options = nix_commands.version()[:-1]  # what every call begins with
        strict = ("--no-update-lock-file", "--no-link", "--max-jobs", "2")
        self._do((*options, "build", *strict, f"{url}#packages.{SYSTEM}.default"))

    def clear(self) -> None:
        """Empty the store, and forget what was answered."""
        self._do(("/usr/bin/nix-store", "--gc"))
        self._do(("/bin/busybox", "rm", "-rf", "/build/.cache"))

    @property
    def _there(self) -> BuilderMachine:
        if self._machine is None:
            raise RuntimeError("the VM doesn't run")
        return self._machine

    def _do(self, argv: Sequence[str]) -> None:
        said = bytearray()
        if stream_command(self._there, argv, lambda _: None, said.extend) != 0:
            raise RuntimeError(f"{' '.join(argv)}: {said[-2000:].decode(errors='replace')}")

    def _evaluation(self) -> Evaluation:
        rooms = self._rooms
        return Evaluation(
            self._request,
            store=rooms.sources,
            fetchers=InputFetcher(rooms, self._progress),
            workers=self._vm.workers,
            progress=self._progress,
            parts=self._stock.parts,
        )

    def _build(self, evaluated: Evaluated) -> Build:
        rooms = self._rooms
        return Build(
            evaluated,
            store=rooms.sources,
            images=rooms.library.images,
            fetchers=InputFetcher(rooms, self._progress),
            workers=self._vm.workers,
            progress=self._progress,
            parts=self._stock.parts,
        )

    def _connection(self, wake: Callable[[], None]) -> Connection:
        return self._current.connection(wake)


def in_one_vm(place: Place, *, rounds: int) -> Pair:
    """Both ways in turns, the store emptied before each."""
    with Roots.from_environment(place.home.environment) as roots, Context(roots) as rooms:
        rooms.policy = effective(None, (place.home.config / FILE_NAME).read_bytes())
        bench = Bench(rooms, place)
        with bench.running():
            times: dict[str, list[float]] = {"ours": [], "theirs": []}
            for _ in range(rounds + 1):
                for name, subject in (("ours", bench.ours), ("theirs", bench.theirs)):
                    bench.clear()
                    times[name].append(timed(subject))
    # the first round fills caches, and doesn't count
    return Pair(Times(tuple(times["ours"][1:])), Times(tuple(times["theirs"][1:])))
