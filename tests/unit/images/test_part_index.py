"""What the book of kept parts says is a place to look at: parts are had when statements that verify vouch for them."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.errors import ReasonCode as Code
from mvmnix.images.part_index import NOTHING_KEPT, KeptParts, PartDomain, PartIndex
from mvmnix.keys import PrivateKey
from mvmnix.model import StorePath
from mvmnix.provenance.bundle.statement import Subject
from mvmnix.provenance.slsa import parts as claims
from mvmnix.provenance.slsa.provenance import KeptPath, RootTree
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Store
from tests.descriptors import until_the_end
from tests.policies import effective
from tests.unit.provenance import world as worlds
from tests.unit.provenance.world import BUILDER, KERNEL, NOW, STRANGER, TOOLS, World, new_world, signed

KNOWN = {f"/nix/store/{'5' * 32}-{part.path.name}.drv": part.path for part in (KERNEL, TOOLS)}
ARCHIVES = {KERNEL.nar: b"the nar of kernel", TOOLS.nar: b"the nar of tools"}


@dataclass
class Archive:
    """A book with two parts of a domain, and all that it stands on."""

    path: Path
    world: World
    now: Any = NOW
    bundle: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.bundles, self.archives = (Store(self.directory(name)) for name in ("bundles", "sources"))
        self.book = PartIndex(self.directory("parts"), self.bundles, self.archives)
        made = self.world.own_parts()
        self.domain = PartDomain(made.provenance.root.nar, made.provenance.builder_image)
        for digest, data in ARCHIVES.items():
            self.archives.put(data, digest)
        self.bundle = self.sign()
        self.parts = self.write(self.bundle)

    def directory(self, name: str) -> Directory:
        return until_the_end(Directory.create(str(self.path / name)))

    def sign(self, key: PrivateKey = BUILDER, **fields: Any) -> bytes:
        """A bundle that says how both parts came to be."""
        return signed(claims.to_statement(self.world.own_parts(**fields)), (), key)

    def write(self, bundle: bytes, domain: PartDomain | None = None) -> tuple[KeptPath, ...]:
        """Have both in the book under this statement."""
        parts = tuple(
            sorted((KeptPath(it.path, it.nar, Digest.of(bundle)) for it in (KERNEL, TOOLS)), key=lambda it: it.path)
        )
        self.book.add(domain or self.domain, KNOWN, parts, bundle)
        return parts

    def stock(self, domain: PartDomain | None = None) -> KeptParts:
        return self.book.stock(domain or self.domain, policy=self.world.policy, now=self.now)

    def codes(self) -> tuple[Code, ...]:
        with pytest.raises(RefusedError) as refused:
            self.stock()
        return refused.value.codes

    @property
    def page(self) -> Path:
        return self.path / "parts" / self.domain.name

    def change(self, change: Callable[[Any], object]) -> None:
        """Change what the book says."""
        value = json.loads(self.page.read_bytes())
        change(value)
        self.page.write_text(json.dumps(value))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    (tmp_path / "world").mkdir()
    return Archive(tmp_path, new_world(tmp_path / "world"))


def test_what_is_kept_is_had_again(archive: Archive) -> None:
    stock = archive.stock()
    assert stock.parts == archive.parts
    assert stock.bundles == {Digest.of(archive.bundle): archive.bundle}
    assert [it.claim.parts for it in stock.statements.values()] == [(KERNEL, TOOLS)]
    assert not stock.lacks(KNOWN)
    assert not stock.lacks(["/nix/store/a-user-s.drv"])
    assert sorted(archive.book.needed(), key=lambda it: it.path) == list(archive.parts)


def test_a_domain_of_which_nothing_is_known_lacks_everything(archive: Archive) -> None:
    other = replace(archive.domain, tree=Digest.of(b"a later version"))
    stock = archive.stock(other)
    assert stock.parts == ()
    assert stock.lacking(["/nix/store/a-user-s.drv"]) == ("/nix/store/a-user-s.drv",), "one could be of them"
    assert not replace(stock, final=True).lacks(KNOWN)
    assert not NOTHING_KEPT.lacks(KNOWN)


@pytest.mark.parametrize(
    "other",
    [
        lambda it: replace(it, tree=Digest.of(b"another tree")),
        lambda it: replace(it, builder=(*it.builder[:-1], Subject("rootfs", Digest.of(b"another image")))),
        lambda it: replace(it, builder=()),
    ],
)
def test_parts_of_another_domain_are_not_used(archive: Archive, other: Callable[[PartDomain], PartDomain]) -> None:
    """Not even when the book says that they are of this one: the statement says which tree, and which builder."""
    foreign = other(archive.domain)
    assert archive.stock(foreign).parts == ()
    (archive.path / "parts" / foreign.name).write_bytes(archive.page.read_bytes())
    stock = archive.stock(foreign)
    assert (stock.parts, dict(stock.bundles), dict(stock.statements)) == ((), {}, {})
    assert stock.lacks(KNOWN), "they are built again"


def first(change: dict[str, Any]) -> Callable[[Any], object]:
    """Change the entry of the first part."""
    return lambda value: value["kept"][0].update(change)


@pytest.mark.parametrize(
    "change",
    [
        first({"path": str(StorePath("a" * 32, "never-built"))}),
        first({"nar": Digest.of(b"poison").hex}),
        first({"nar": TOOLS.nar.hex, "path": str(KERNEL.path)}),
        first({"nar": KERNEL.nar.hex, "path": str(TOOLS.path)}),
    ],
)
def test_what_no_statement_vouches_for_is_not_used(archive: Archive, change: Callable[[Any], object]) -> None:
    archive.archives.put(b"poison", Digest.of(b"poison"))
    archive.change(change)
    stock = archive.stock()
    assert len(stock.parts) == 1
    assert set(stock.parts) < set(archive.parts)
    assert stock.lacks(KNOWN)


def test_a_part_whose_archive_is_gone_is_lacking(archive: Archive) -> None:
    archive.archives.remove(KERNEL.nar)
    stock = archive.stock()
    assert [part.path for part in stock.parts] == [TOOLS.path]
    assert [KNOWN[name] for name in stock.lacking([*KNOWN, "/nix/store/a-user-s.drv"])] == [KERNEL.path]


def test_what_was_built_again_takes_the_place_of_what_was_said_before(archive: Archive) -> None:
    again = archive.sign(invocation="another")
    parts = archive.write(again)
    assert archive.stock().parts == parts
    assert {part.bundle for part in archive.book.needed()} == {Digest.of(again)}


def test_a_statement_by_another_key(archive: Archive) -> None:
    archive.write(archive.sign(STRANGER))
    assert archive.codes() == (Code.SIGNER_UNKNOWN,)


def test_a_statement_about_a_stranger_s_tree(archive: Archive) -> None:
    archive.write(archive.sign(root=RootTree("path:evil", archive.domain.tree, None)))
    assert archive.codes() == (Code.PARTS_MISMATCH,)


def test_a_statement_of_the_future(archive: Archive) -> None:
    archive.now = NOW - timedelta(days=1)
    assert archive.codes() == (Code.BUILD_TIME,)


def test_a_policy_that_no_longer_admits_the_builder_for_parts(archive: Archive) -> None:
    text = worlds.trust().decode()
    rule = 'signer = "builder"\nlevel = 1\n'
    assert text.count(rule) == 2
    narrowed = text.replace(rule, f'{rule}images = ["hello"]\n', 1)
    archive.world.policy = effective(None, narrowed.encode())
    assert archive.codes() == (Code.BUILDER_NOT_ADMITTED,)


def test_a_statement_that_was_changed(archive: Archive) -> None:
    where = archive.path / "bundles" / Digest.of(archive.bundle).hex
    where.write_bytes(archive.bundle.replace(b'"payload":"', b'"payload": "', 1) + b" ")
    assert archive.codes() == (Code.SOURCE_MISMATCH,)


def test_a_statement_that_is_gone(archive: Archive) -> None:
    archive.bundles.remove(Digest.of(archive.bundle))
    with pytest.raises(MvmnixError, match="is not there"):
        archive.stock()


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"[]",
        b"{}",
        b'{"known": {}, "kept": [], "more": 1}',
        b'{"known": {"x": "/etc/passwd"}, "kept": []}',
        b'{"known": {"x": "/nix/store/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-x"}, "kept": []}',
        b'{"known": {}, "kept": [{"path": "/nix/store/../../../../../../../../etc/pass-x", "nar": "", "bundle": ""}]}',
        b'{"known": {}, "kept": {}}',
    ],
)
def test_a_page_that_is_none_is_told_and_can_be_forgotten(archive: Archive, page: bytes) -> None:
    archive.page.write_bytes(page)
    for ask in (archive.stock, lambda: list(archive.book.needed())):
        with pytest.raises(MvmnixError, match="the list of kept parts is broken") as error:
            ask()
        assert str(archive.page) in error.value.hint
    archive.book.forget(archive.domain)
    assert archive.stock().parts == ()
    assert list(archive.book.needed()) == []


def test_what_is_no_page_is_nobody_s_need(archive: Archive) -> None:
    (archive.path / "parts" / "notes.txt").write_text("mine")
    assert len(list(archive.book.needed())) == 2
