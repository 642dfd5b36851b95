"""Parts of mvm's own, built in a VM that is none: what comes back by hash, and what a hostile VM may say of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.builder.nix import nix_commands
from mvmnix.builder.session import archive_import
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.model import StorePath
from mvmnix.provenance.slsa.parts import Part
from mvmnix.system.store import Incoming
from tests.derivations import exported_archives
from tests.fakes import nar_of
from tests.unit.builder.session.parts import PARTS, PATHS, TOOL, WANTED, Site, came, told


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield Site(tmp_path)


def test_those_that_are_wanted_are_built_and_all_are_known(site: Site) -> None:
    record = site.build(wanted=(*WANTED, "/nix/store/a-user-s.drv"))
    assert record.known == {str(drv): out for drv, out, _ in PARTS.values()}
    assert record.built == tuple(Part(PARTS[name][1], Digest.of(PARTS[name][2])) for name in ("agent", "initrd"))
    for part in record.built:
        assert site.store.has(part.nar)
    assert record.given.sources == (TOOL,)
    assert record.given.kept == ()
    assert (record.request, record.nix) == (site.request, "2.26.3")
    derivations = [PARTS[name][0] for name in ("agent", "initrd")]
    flake = site.request.flake
    assert site.vm.calls == [
        nix_commands.version(),
        nix_commands.fetch_trees([flake.store_path]),
        nix_commands.evaluate_parts(nix_commands.flake_url(flake.store_path, flake.nar, "")),
        nix_commands.export_closure(derivations),
        nix_commands.build_and_export(derivations, jobs=2),
    ]


def test_where_none_is_wanted_none_is_built(site: Site) -> None:
    record = site.build(wanted=("/nix/store/a-user-s.drv",))
    assert (len(record.known), record.built) == (3, ())
    assert not any("build" in call for call in site.vm.calls)


def test_two_names_of_one_part_are_one_part(site: Site) -> None:
    drv, out, _ = PARTS["agent"]
    site.answer(eval=told(alias={"derivation": str(drv), "output": str(out)}))
    assert [part.path for part in site.build().built] == PATHS


AGENT, INITRD = PARTS["agent"], PARTS["initrd"]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[]",
        b"null",
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        told(x=None),
        told(x=7),
        told(x=["derivation", "output"]),
        told(x="derivation"),
        told(x={}),
        told(x={"derivation": str(AGENT[0])}),
        told(x={"derivation": str(AGENT[0]), "output": "/etc/passwd"}),
        told(x={"derivation": str(AGENT[0]), "output": "/nix/store/../../etc/passwd"}),
        told(x={"derivation": "agent.drv", "output": str(AGENT[1])}),
        told(x={"derivation": str(AGENT[0]), "output": str(INITRD[1])}),
        told(x={"derivation": str(StorePath("d" * 32, "other.drv")), "output": str(AGENT[1])}),
    ],
)
def test_what_it_says_of_what_there_is(site: Site, said: bytes) -> None:
    site.answer(eval=said)
    site.refusal()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "can't be read"),
        (came("agent"), "is missing"),
        (came("agent", "initrd", "vmlinux"), "was not asked for"),
        (came("agent", "initrd", "agent"), "or twice"),
        (came("agent", "initrd")[:-8], "can't be read"),
        (came("agent", "initrd", agent=PATHS[1]), "refers to other paths"),
        (came("agent", "initrd", agent=PATHS[0]), "refers to other paths"),
        (came("agent", "initrd") + b"\1" * 8, "can't be read"),
        (exported_archives({PATHS[0]: nar_of(b"x")[:-8], PATHS[1]: nar_of(b"x")}), "can't be read"),
    ],
)
def test_what_comes_out_is_what_was_asked_for_and_refers_to_nothing(site: Site, said: bytes, why: str) -> None:
    site.answer(parts=said)
    assert why in site.refusal().reasons[0].why


def test_parts_may_come_in_any_order_and_in_one_export(site: Site) -> None:
    site.answer(parts=exported_archives({PARTS[name][1]: PARTS[name][2] for name in ("initrd", "agent")}))
    assert [part.path for part in site.build().built] == PATHS


def test_what_is_too_large_is_let_go(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_import, "LIMIT", 64)
    assert "more than 64 bytes" in site.refusal().reasons[0].why


@pytest.mark.parametrize("call", ["version", "realise", "eval", "closure", "parts"])
def test_a_failure_shows_its_last_words(site: Site, call: str) -> None:
    site.vm.fails = {call: "error: \x1b[31mno such thing\n"}
    with pytest.raises(MvmnixError) as error:
        site.build()
    assert "?[31mno such thing" in error.value.message
    assert not list((site.path / "sources").glob(".*.tmp"))


def test_what_was_coming_in_when_somebody_broke_it_off_is_let_go(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal arrives when the first bytes are written."""
    begun: list[bytes] = []

    def write(incoming: Incoming, data: bytes) -> None:
        begun.append(data)
        assert list((site.path / "sources").glob(".incoming*"))
        raise KeyboardInterrupt

    monkeypatch.setattr(Incoming, "write", write)
    with pytest.raises(KeyboardInterrupt):
        site.build()
    assert begun
    assert not list((site.path / "sources").glob(".incoming*"))


def test_a_source_that_nobody_has_is_told(site: Site) -> None:
    site.market.files = {}
    with pytest.raises(RefusedError) as refused:
        site.build()
    assert refused.value.codes == (ReasonCode.SOURCE_UNKNOWN,)
