"""Where a build happens in tests: stores, a world whose image comes out, and builder VMs that are none."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mvmnix.builder.flakes.build_request import BuildRequest
from mvmnix.builder.flakes.flake_source import source_of
from mvmnix.builder.session.build import Build, BuildRecord
from mvmnix.builder.session.evaluation import Evaluated, Evaluation
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.formats import lock, nar
from mvmnix.model import HashMode
from mvmnix.provenance.slsa.provenance import KeptPath
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Store
from tests.descriptors import until_the_end
from tests.fakes import AtOnce, FakeBuilder, Market, Progress, files_of, nar_of, source
from tests.unit.provenance.world import DEB, LOCK, World

TOOL = source("tool.deb", b"tool")
SEED = source("busybox", nar_of(b"seed"), HashMode.NAR)
#: The world's manifest names it.
CONTENTS = {DEB.digest: b"bash", TOOL.digest: b"tool", SEED.digest: nar_of(b"seed")}


@dataclass
class Site:
    """Where a build happens: stores, a world whose image comes out, and the machine."""

    path: Path
    world: World
    progress: Progress = field(default_factory=Progress)
    lock: bytes | None = LOCK

    def __post_init__(self) -> None:
        self.store, self.images = (
            Store(until_the_end(Directory.create(str(self.path / name)))) for name in ("sources", "images")
        )
        files: dict[bytes, nar.Node] = {b"flake.nix": nar.File.of(b"{}")}
        if self.lock is not None:
            files[b"flake.lock"] = nar.File.of(self.lock)
        flake = source_of(nar.Dir({b"in": nar.Dir(files)}), uri="path:x", commit=None, directory="in")
        self.request = BuildRequest(flake, lock.parse(self.lock), "hello")
        self.machine = FakeBuilder(flake.store_path, files_of(self.world), (DEB, TOOL, SEED))
        self.builder = self.machine.again()
        self.market = Market(self.store, dict(CONTENTS))

    def evaluate(self, **options: Any) -> Evaluated:
        """Evaluate in `machine`."""
        work = Evaluation(
            self.request,
            store=self.store,
            fetchers=self.market,
            workers=AtOnce(),
            progress=self.progress,
            **options,
        )
        self.machine.connect = work.connection
        return work.run(self.machine)

    def build(self, *, parts: Sequence[KeptPath] = (), **options: Any) -> BuildRecord:
        """Evaluate in `machine`, and build in another one like it, `builder`."""
        evaluated = self.evaluate(parts=parts, **options)
        work = Build(
            evaluated,
            store=self.store,
            images=self.images,
            fetchers=self.market,
            workers=AtOnce(),
            progress=self.progress,
            parts=parts,
        )
        self.builder = self.machine.again()
        self.builder.connect = work.connection
        return work.run(self.builder, jobs=2)

    def refusal(self, code: ReasonCode, **options: Any) -> RefusedError:
        with pytest.raises(RefusedError) as refusal:
            self.build(**options)
        assert refusal.value.codes == (code,)
        return refusal.value

    def fails(self, call: str, words: str, **options: Any) -> MvmnixError:
        self.machine.fails = {call: words}
        with pytest.raises(MvmnixError) as error:
            self.build(**options)
        assert not list((self.path / "images").iterdir())
        return error.value
