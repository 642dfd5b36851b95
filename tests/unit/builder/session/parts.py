"""A builder VM that has built mvm's parts, and a builder's site around it."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, override

import pytest

from mvmnix.builder.flakes.build_request import BuildRequest
from mvmnix.builder.flakes.flake_source import source_of
from mvmnix.builder.session.parts import PartsBuild, PartsRecord
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.formats import lock, nar
from mvmnix.model import StorePath
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Store
from tests.derivations import Derivations, add, exported, exported_archives, fixed, made, output_of
from tests.descriptors import until_the_end
from tests.fakes import AtOnce, FakeBuilder, Market, Program, Progress, nar_of, source

TOOL = source("tool.deb", b"tool")
DERIVATIONS: Derivations = {}
_TOOL = add(DERIVATIONS, TOOL.name, fixed(TOOL))
#: All are made of the tool. By name: derivation, output, and what it holds.
PARTS = {
    name: (path, output_of(DERIVATIONS, path), nar_of(name.encode()))
    for name in ("agent", "initrd", "vmlinux")
    for path in [made(DERIVATIONS, name, [_TOOL])]
}
WANTED = tuple(str(PARTS[name][0]) for name in ("agent", "initrd"))
PATHS = [PARTS[name][1] for name in ("agent", "initrd")]


def told(**changes: Any) -> bytes:
    """What the evaluation prints."""
    known = {name: {"derivation": str(drv), "output": str(out)} for name, (drv, out, _) in PARTS.items()}
    return json.dumps(known | changes).encode()


def came(*names: str, **references: StorePath) -> bytes:
    """What the build writes as parts are there: an export of each."""
    said = b""
    for name in names:
        _, path, archive = PARTS[name]
        said += exported_archives({path: archive}, {path: [references[name]]} if name in references else {})
    return said


@dataclass
class PartsVm(FakeBuilder):
    """A builder VM that knows mvm's parts too."""

    @override
    def _program(self, argv: Sequence[str]) -> tuple[str, Program]:
        programs: dict[str, tuple[str, Program]] = {
            "eval": ("eval", lambda _: told()),
            "closure": ("closure", self._closure),
            "parts": ("parts", self._parts),
        }
        name = next((word for word in programs if word in argv), "")
        if not name:
            return super()._program(argv)
        known, program = programs[name]
        return known, (lambda _: self.answers[known]) if known in self.answers else program

    @staticmethod
    def _closure(argv: Sequence[str]) -> bytes:
        return exported({path: it for path, it in DERIVATIONS.items() if path == _TOOL or str(path) in argv})

    def _parts(self, argv: Sequence[str]) -> bytes:
        self._substitute(TOOL.store_path)
        return came(*(name for name in PARTS if str(PARTS[name][0]) in argv))


@dataclass
class Site:
    """Where parts are built."""

    path: Path
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self.store = Store(until_the_end(Directory.create(str(self.path / "sources"))))
        flake = source_of(nar.Dir({b"flake.nix": nar.File.of(b"{}")}), uri="path:mvmnix", commit=None, directory="")
        self.request = BuildRequest(flake, lock.parse(None), "parts")
        self.vm = PartsVm(flake.store_path, {}, (TOOL,))
        self.market = Market(self.store, {TOOL.digest: b"tool"})

    def answer(self, **answers: bytes) -> None:
        self.vm.answers = {**self.vm.answers, **answers}

    def build(self, wanted: Collection[str] = WANTED) -> PartsRecord:
        work = PartsBuild(
            self.request, store=self.store, fetchers=self.market, workers=AtOnce(), progress=self.progress
        )
        self.vm.connect = work.connection
        return work.run(self.vm, wanted=wanted, jobs=2)

    def refusal(self) -> RefusedError:
        with pytest.raises(RefusedError) as refused:
            self.build()
        assert refused.value.codes == (ReasonCode.OUTPUT_MALFORMED,)
        assert refused.value.reasons[0].hint
        kept = {path.name for path in (self.path / "sources").iterdir()}
        assert not kept & {Digest.of(archive).hex for _, _, archive in PARTS.values()}
        assert not [name for name in kept if name.endswith(".tmp")]
        return refused.value
