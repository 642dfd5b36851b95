"""The chain of evidence, where something came in that had been built before."""

from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.cli.evidence_table import built_before, show_chain
from mvmnix.digest import Digest
from mvmnix.provenance.slsa.provenance import KeptPath
from tests.unit.cli.station import Station
from tests.unit.provenance.world import CACHED, KERNEL, TOOLS, new_world

ANOTHER = f"another-1:{'A' * 43}="


def test_who_vouches_for_what_was_built_before(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    assert list(built_before(world.provenance())) == []
    first, second = Digest.of(b"first"), Digest.of(b"second")
    kept = tuple(KeptPath(it.path, it.nar, first) for it in (KERNEL, TOOLS))
    cached = (CACHED, replace(CACHED, path=KERNEL.path, key=ANOTHER))
    assert dict(built_before(world.provenance(kept=kept, cached=cached[:1]))) == {
        "kept parts": f"2 of mvm's own, under the statement {first}",
        "cached paths": f"1 from binary caches, under the key {CACHED.key}",
    }
    kept = (kept[0], replace(kept[1], bundle=second))
    assert dict(built_before(world.provenance(kept=kept, cached=cached))) == {
        "kept parts": f"2 of mvm's own, under the statements {', '.join(sorted(map(str, (first, second))))}",
        "cached paths": f"2 from binary caches, under the keys {ANOTHER}, {CACHED.key}",
    }


@pytest.mark.parametrize(
    "uri", ["path:[/b]", "path:[conceal]x", "path:[link=https://host.example]x[/link]", "path:x[/]"]
)
def test_what_a_flake_is_called_is_no_markup(
    uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    show_chain([("flake", f"{uri}#default")])
    shown = capsys.readouterr().err
    assert f" {uri}#default " in shown
    assert "\x1b]8" not in shown


def test_a_run_shows_it(settled: Station) -> None:
    shown = settled.mvm("run", "--evidence", settled.flake("parts", parts=True), "--", "true").err
    assert "│ kept parts " in shown
    assert "1 of mvm's own, under the statement sha256:" in shown
    assert "│ kept parts " not in settled.mvm("run", "--evidence", settled.flake(), "--", "true").err


def test_no_line_of_the_chain_is_broken_into_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    show_chain([("plan", "sha256:" + "a" * 64)])
    assert "sha256:" + "a" * 64 in capsys.readouterr().err
