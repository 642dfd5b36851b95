"""Tests that take turns, a user who has parts of Python, and one with a cache of downloads and a tree of their own."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mvmnix.provenance.slsa.provenance import Provenance
from tests.conftest import World, deselect
from tests.sample import sample
from tests.support.claims import claim_in


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of tests that are marked `in_turn`, and that -k and -m chose, leave out all but those of one turn."""
    turns = dict[str, set[pytest.Item]]()
    for item in items:
        if mark := item.get_closest_marker("in_turn"):
            turns.setdefault(mark.args[0] if mark.args else item.nodeid, set()).add(item)
    chosen = sample([*turns], 1)
    deselect(config, items, {item for turn, marked in turns.items() if turn not in chosen for item in marked})


@dataclass
class Place:
    """A user whose cache of downloads is theirs alone, with a tree of their own."""

    world: World
    tree: Path
    cache: Path

    def mvm(self, *arguments: str | Path) -> bytes:
        done = self.world.home.mvm(*arguments, cwd=self.tree, env={"XDG_CACHE_HOME": self.cache})
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def build(self, flake: str, *options: str) -> tuple[Any, Provenance]:
        """What `mvm build` says, and what the provenance that it signed says."""
        said = json.loads(self.mvm("build", "--json", *options, flake))["result"]
        bundle = self.world.home.state / "bundles" / said["provenance"].removeprefix("sha256:")
        return said, claim_in(bundle.read_bytes())

    def built(self) -> list[str]:
        """What the builder built last, by the names of the derivations."""
        log = max((self.world.home.state / "logs").iterdir())
        found = re.findall(rb"^building '/nix/store/[0-9a-z]{32}-(\S+)\.drv'", log.read_bytes(), re.MULTILINE)
        return sorted(name.decode() for name in found)

    @property
    def sources(self) -> Path:
        return self.cache / "mvmnix/sources"

    @property
    def page(self) -> Path:
        (page,) = (self.world.home.state / "parts").iterdir()
        return page


def link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def copy_cache(world: World, target: Path) -> None:
    """Copy the downloads of the cache that tests share, as links, for one that may be emptied."""
    target.mkdir(mode=0o700)
    (target / "mvmnix").mkdir(mode=0o700)
    shared = Path(world.home.environment["XDG_CACHE_HOME"]) / "mvmnix/sources"
    unfinished = shutil.ignore_patterns("*.tmp")  # other tests fill the shared one meanwhile
    shutil.copytree(shared, target / "mvmnix/sources", copy_function=link, ignore=unfinished)


@pytest.fixture(scope="session")
def python_world(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A user who has built examples/python too, and so has kept the parts of Python that images are converted with."""
    made = world.copy(tmp_path_factory.mktemp("python") / "home")
    built = made.home.mvm("build", "./examples/python", cwd=made.tree)
    assert built.returncode == 0, built.stderr.decode()
    return made


@pytest.fixture
def python_user(python_world: World, tmp_path: Path) -> World:
    """A copy of that which a test may change."""
    return python_world.copy(tmp_path / "home")


@pytest.fixture
def checkout(world: World, tmp_path: Path) -> Path:
    """A clone of this repository that a newcomer may write into."""
    subprocess.run(["cp", "-a", world.tree, tmp_path / "mvmnix"], check=True)
    return tmp_path / "mvmnix"


@pytest.fixture
def place(world: World, tmp_path: Path) -> Place:
    copy_cache(world, tmp_path / "cache")
    shutil.copytree(world.tree, tmp_path / "tree", symlinks=True)
    return Place(world.copy(tmp_path / "home"), tmp_path / "tree", tmp_path / "cache")
