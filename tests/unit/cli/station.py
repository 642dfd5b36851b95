"""A user at a terminal: a home, the real command line in this process, and images that were built once upon a time."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mvmnix.api.context import Context
from mvmnix.api.frontend import SILENT, Frontend
from mvmnix.builder import bootstrap
from mvmnix.builder.flakes.build_request import BuildRequest
from mvmnix.builder.flakes.flake_source import take_flake
from mvmnix.cli.main import run
from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.formats import lock
from mvmnix.formats.lock import LockedFlake
from mvmnix.images.store import BuildKey
from mvmnix.keys import Role
from mvmnix.model import FlakeRef, Source
from mvmnix.provenance.slsa import parts as parts_room
from mvmnix.provenance.slsa.predicate import provenance_statement
from mvmnix.provenance.slsa.provenance import (
    HOST_NIX,
    MICROVM,
    BuilderLimits,
    KeptPath,
    RootTree,
    lock_account,
    subjects_of,
)
from mvmnix.system import own_flake
from mvmnix.system.roots import Roots
from mvmnix.vmm.tsc import TscClock
from tests.fakes import DERIVATION, files_of
from tests.repository import ROOT
from tests.unit.launch.fake_hypervisor import FakeHypervisor, Scenario
from tests.unit.launch.null_sandbox import NullJail
from tests.unit.provenance.world import DEB, KERNEL, Json, World, new_world

BUILDER_NAME = str(DERIVATION)


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    def answer(self, kind: str) -> Any:
        """The result in the JSON envelope."""
        envelope = json.loads(self.out)
        assert (envelope["version"], envelope["kind"]) == (1, kind)
        return envelope["result"]

    @property
    def reason_codes(self) -> list[str]:
        """Of a verdict in JSON."""
        return [reason["code"] for reason in self.answer("verdict")["reasons"]]


@dataclass
class Station:
    """The user and the machine. `path` is a directory of the test's."""

    path: Path
    capfd: "pytest.CaptureFixture[str]"
    monkeypatch: pytest.MonkeyPatch

    @property
    def home(self) -> Path:
        return self.path / "home"

    @property
    def config(self) -> Path:
        return self.home / ".config/mvmnix"

    @property
    def state(self) -> Path:
        return self.home / ".local/state/mvmnix"

    def mvm(self, *arguments: str | Path) -> Said:
        """Type a command."""
        self.monkeypatch.setattr(sys, "argv", ["mvm", *map(str, arguments)])
        self.capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            run()
        captured = self.capfd.readouterr()
        assert isinstance(end.value.code, int)
        return Said(end.value.code, captured.out, captured.err)

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Type a command that runs on, in a process of its own; it has no hypervisor."""
        program = "from mvmnix.cli.main import run; run()"  # with this process's rights, as `mvm` above
        argv = [sys.executable, "-P", "-c", program, *arguments]
        return subprocess.Popen(
            argv, stdout=subprocess.PIPE, env={"HOME": str(self.home), "PYTHONPATH": str(ROOT)}, cwd=ROOT
        )

    def settle(self) -> None:
        """Have keys and a policy."""
        with self.rooms() as rooms:
            rooms.initialize()

    def roots(self) -> Roots:
        return Roots.from_environment({"HOME": str(self.home)})

    @contextmanager
    def rooms(self, frontend: Frontend = SILENT) -> Iterator[Context]:
        """What an operation of this user works with."""
        with self.roots() as roots, Context(roots, frontend) as rooms:
            yield rooms

    def hypervisor(self, scenario: Scenario = Scenario.BOOTS, restored: Scenario | None = None) -> None:
        """Have a hypervisor that is none, outside of any jail; its guest knows a few programs.

        With `restored` it saves guests, and that happens when one is restored.
        """

        class Found:
            @staticmethod
            def find() -> FakeHypervisor:
                return FakeHypervisor(scenario, restored=restored)

        self.monkeypatch.setattr("mvmnix.launch.backends.Qemu", Found)
        jail = NullJail()
        for place in ("mvmnix.api.admission", "mvmnix.api.doctor"):
            self.monkeypatch.setattr(f"{place}.open_jail", lambda _: jail)

    def saves_guests(self) -> None:
        """Have a hypervisor that saves guests and restores them, and a counter that is always measured the same."""
        self.monkeypatch.setattr(TscClock, "khz", lambda _: 2_000_000)
        self.hypervisor(restored=Scenario.BOOTS)

    def installation(self) -> None:
        """Have a flake beside the package, and its builder image built."""
        path = self.path / "installation"
        for name in ("modules", "profiles"):
            (path / name).mkdir(parents=True)
        (path / "flake.nix").write_text("{}")
        (path / "flake.lock").write_text('{"nodes": {"root": {}}, "root": "root", "version": 7}')
        self.monkeypatch.setattr(own_flake, "directory", lambda: path)
        self._keep(bootstrap.request(), new_builder(self), HOST_NIX, (), None)

    def flake(self, name: str = "hello", *, sbom: bytes | None = None, parts: bool = False, **manifest: Any) -> str:
        """Have a flake whose image was built, with an SBOM, or from a part that was kept; returns its reference.

        Needs keys and an installation.
        """
        path = self.flake_file(self.path / "flakes", name)
        self.built(FlakeRef(str(path), copy=True), name, sbom=sbom, parts=parts, **manifest)
        return f"path:{path}"

    def flake_file(self, where: Path, name: str) -> Path:
        """Have a directory with a flake.nix, and nothing built."""
        path = where / name
        path.mkdir(parents=True)
        (path / "flake.nix").write_text(f"{{ description = {name!r}; }}")
        return path

    def built(
        self, flake: FlakeRef, name: str, *, sbom: bytes | None = None, parts: bool = False, **manifest: Any
    ) -> None:
        """Have the image of a flake built, from wherever it is taken."""
        world = self.world(name, **manifest)
        builder = subjects_of(new_builder(self).image.artifacts)
        request = BuildRequest(take_flake(flake), LockedFlake(None), flake.attribute)
        world.sbom = sbom
        if parts:
            self._sign_parts(world)
        self._keep(request, world, MICROVM, builder, BuilderLimits(2, 2048, 4096, 3600))

    def world(self, name: str, seed: int = 0, **manifest: Any) -> World:
        where = self.path / f"world-{name}"
        where.mkdir(exist_ok=True)
        made = new_world(where, seed)
        made.change_manifest(lambda value: value.update({"name": name, "verbs": ["exec"]} | manifest))
        return made

    def _sign_parts(self, world: World) -> None:
        made = world.own_parts(started=now() - timedelta(minutes=4), finished=now() - timedelta(minutes=3))
        with self.rooms() as rooms:
            world.parts = (rooms.sign(Role.BUILDER, parts_room.to_statement(made).to_bytes()),)

    def _keep(
        self,
        request: BuildRequest,
        world: World,
        builder_id: str,
        builder: tuple[Any, ...],
        limits: BuilderLimits | None,
    ) -> None:
        flake = request.flake
        world.lock = flake.lock
        claim = replace(
            world.provenance(),
            root=RootTree(flake.uri, flake.nar, flake.commit),
            directory=flake.directory,
            attribute=request.attribute,
            lock=request.lock.digest,
            nodes=lock_account(lock.parse(flake.lock), ()),
            sources=sources_of(world),
            builder_id=builder_id,
            builder_image=builder,
            limits=limits,
            started=now() - timedelta(minutes=2),
            finished=now() - timedelta(minutes=1),
            derivation=DERIVATION,
            kept=tuple(KeptPath(KERNEL.path, KERNEL.nar, Digest.of(data)) for data in world.parts),
            sbom=None if world.sbom is None else Digest.of(world.sbom),
        )
        with self.rooms() as rooms:
            for data in files_of(world).values():
                rooms.library.images.put(data, Digest.of(data))
            bundle = rooms.sign(Role.BUILDER, provenance_statement(claim, world.image.artifacts).to_bytes())
            key = BuildKey(flake.nar, flake.directory, request.attribute, _builder_of(builder_id))
            evidence = replace(world.evidence, provenance=bundle, lock=flake.lock)
            rooms.library.keep(key, evidence, policy=rooms.policy, now=now())


def _builder_of(builder_id: str) -> str:
    return HOST_NIX if builder_id == HOST_NIX else BUILDER_NAME


def sources_of(world: World) -> tuple[Source, ...]:
    """What came in: what the manifest names."""
    assert world.image.sources == (DEB,)
    return world.image.sources


def new_builder(station: Station) -> World:
    """The builder's image once more; the same every time."""
    return station.world("builder", seed=7, verbs=["exec", "stream"])


def ready(station: Station) -> Station:
    """A user who has run something before."""
    station.settle()
    station.installation()
    station.hypervisor()
    return station


def put(path: Path, change: Mapping[str, Any]) -> Json:
    """Change the top of a JSON file."""
    value: Json = json.loads(path.read_bytes()) | change
    path.write_text(json.dumps(value))
    return value
