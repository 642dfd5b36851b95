"""Kept parts of mvm's own, for a command: built once in a VM that is none, had again while their statement verifies."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mvmnix.api import part_builder
from mvmnix.api.build_limits import AS_THE_IMAGE_SAYS
from mvmnix.api.context import Context
from mvmnix.api.image_builder import ImageBuilder
from mvmnix.api.part_builder import PartBuilder
from mvmnix.builder import bootstrap
from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError
from mvmnix.keys import PrivateKey, Role
from mvmnix.provenance.policy import default_policy
from mvmnix.provenance.verify.verify import verify_parts
from tests.fakes import AtOnce
from tests.policies import effective
from tests.support.frontends import Shown
from tests.unit.builder.session.parts import PARTS, PATHS, TOOL, WANTED, PartsVm
from tests.unit.cli.station import Station


@dataclass
class Site:
    """A house whose builder VM is none; `started` counts how often it was."""

    rooms: Context
    path: Path
    progress: Shown = field(default_factory=Shown)
    started: int = 0

    def builder(self) -> PartBuilder:
        builder = ImageBuilder(self.rooms, self.progress).builder_image()
        return PartBuilder(self.rooms, self.progress, builder, AS_THE_IMAGE_SAYS)

    def vm(self, *_: Any) -> "Site":
        return self

    workers = AtOnce()

    @contextmanager
    def running(self, connect: Any) -> Iterator[PartsVm]:
        self.started += 1
        tree = bootstrap.request().flake.store_path
        yield PartsVm(tree, {}, (TOOL,), connect=connect)


@pytest.fixture
def site(station: Station, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    station.settle()
    station.installation()
    with station.rooms() as rooms:
        made = Site(rooms, station.state)
        monkeypatch.setattr(part_builder, "BuilderVm", made.vm)
        rooms.sources.put(b"tool", TOOL.digest)
        yield made


def paths(stock: Any) -> Sequence[object]:
    return [part.path for part in stock.parts]


def test_what_is_wanted_is_built_once_and_had_again(site: Site) -> None:
    assert site.builder().stock().lacks(WANTED), "nobody knows yet what could be kept"
    stock = site.builder().fill(WANTED)
    assert (paths(stock), stock.final, site.started) == (PATHS, True, 1)
    again = site.builder().stock()
    assert (paths(again), site.started) == (PATHS, 1)
    assert not again.lacks(WANTED)
    assert again.lacks([str(PARTS["vmlinux"][0])])
    (bundle,) = again.bundles.values()
    claim = verify_parts(bundle, policy=site.rooms.policy, now=now()).claim
    assert {(part.path, part.nar) for part in claim.parts} == {(it.path, it.nar) for it in again.parts}
    assert claim.provenance.sources == (TOOL,)


def test_more_is_added_to_what_there_is(site: Site) -> None:
    site.builder().fill(WANTED[:1])
    stock = site.builder().fill(WANTED)
    assert (paths(stock), site.started) == (PATHS, 2)
    assert sorted(len(it.claim.parts) for it in stock.statements.values()) == [1, 1], "none was built twice"


def test_who_waited_finds_what_was_built_meanwhile(site: Site) -> None:
    waiting = site.builder()
    assert waiting.stock().lacks(WANTED)
    site.builder().fill(WANTED)
    assert paths(waiting.fill(WANTED)) == PATHS
    assert site.started == 1


def test_who_comes_second_says_that_it_waits(site: Site) -> None:
    """Another process builds them just now; it ends once this one has said so."""
    builder = site.builder()
    held, said = threading.Event(), threading.Event()

    def other() -> None:
        with site.rooms.building(f"parts-{builder.domain.name}", lambda: None):
            held.set()
            said.wait()

    thread = threading.Thread(target=other)
    thread.start()
    held.wait()
    site.progress.heard = said.set
    assert paths(builder.fill(WANTED)) == PATHS
    thread.join()
    assert site.progress.notices == ["mvm's own parts are being built already: waiting for them"]


def test_what_is_made_of_no_part_is_remembered_so(site: Site) -> None:
    stock = site.builder().fill(["/nix/store/a-user-s.drv"])
    assert (stock.parts, stock.lacks(WANTED)) == ((), False)
    again = site.builder().stock()
    assert not again.lacks(["/nix/store/a-user-s.drv"])
    assert again.lacks(WANTED)


def change_bundle(site: Site) -> None:
    (part, *_) = site.rooms.part_index.needed()
    where = site.path / "bundles" / part.bundle.hex
    where.write_bytes(where.read_bytes()[:-1] + b" ")


def change_page(site: Site) -> None:
    (where,) = (site.path / "parts").iterdir()
    where.write_bytes(where.read_bytes() + b"x")


def change_key(site: Site) -> None:
    """The user made new keys, and trusts the old one no more."""
    keys = site.rooms.keys
    keys.remove("builder.pem")
    made = {role: PrivateKey.load(keys, f"{role}.pem").public for role in (Role.PLANNER, Role.HOST)}
    made[Role.BUILDER] = PrivateKey.create(keys, "builder.pem").public
    site.rooms.policy = effective(None, default_policy.default_policy(made, now=now()))


@pytest.mark.parametrize("change", [change_bundle, change_page, change_key])
def test_what_does_not_verify_is_forgotten_and_built_again(site: Site, change: Any) -> None:
    site.builder().fill(WANTED)
    builder = site.builder()
    change(site)
    stock = builder.stock()
    assert (stock.parts, stock.lacks(WANTED)) == ((), True)
    assert "the kept parts are of no use, and are built again" in site.progress.notices[0]
    assert paths(builder.fill(WANTED)) == PATHS
    assert site.started == 2


def test_an_archive_that_is_gone_is_built_again(site: Site) -> None:
    site.builder().fill(WANTED)
    site.rooms.sources.remove(Digest.of(PARTS["agent"][2]))
    assert site.builder().stock().lacks(WANTED)
    assert paths(site.builder().fill(WANTED)) == PATHS
    assert site.started == 2


def test_without_a_key_nothing_is_kept(site: Site) -> None:
    builder = site.builder()
    site.rooms.keys.remove("builder.pem")
    with pytest.raises(MvmnixError, match="there is no builder key"):
        builder.fill(WANTED)
    assert (list(site.rooms.part_index.needed()), site.started) == ([], 0)
