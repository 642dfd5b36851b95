"""An image's directory that somebody handed over, of which `mvm verify` and `mvm show` read no more than is bounded."""

import pytest

from tests.unit.cli.station import Station


@pytest.mark.parametrize("name", ["parts.sigstore.jsonl", "rebuilds.sigstore.jsonl"])
@pytest.mark.parametrize("command", ["verify", "show"])
def test_bundles_without_end_are_not_looked_at(settled: Station, name: str, command: str) -> None:
    out = settled.path / "out"
    assert settled.mvm("build", "--out", out, settled.flake()).code == 0
    assert settled.mvm(command, out).code == 0
    (out / name).write_bytes(b"\n" * 64)
    said = settled.mvm(command, out)
    assert said.code == 2
    assert f"{name}: it has more than 64 lines" in said.err
