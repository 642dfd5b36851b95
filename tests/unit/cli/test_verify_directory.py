"""An image's directory that somebody handed over, of which `mvm verify` and `mvm show` read no more than is bounded."""

import shutil
from itertools import product

from tests.unit.cli.station import Station


def test_bundles_without_end_are_not_looked_at(settled: Station) -> None:
    out, given = settled.path / "out", settled.path / "given"
    assert settled.mvm("build", "--out", out, settled.flake()).code == 0
    for name, command in product(("parts.sigstore.jsonl", "rebuilds.sigstore.jsonl"), ("verify", "show")):
        shutil.copytree(out, given)
        assert settled.mvm(command, given).code == 0
        (given / name).write_bytes(b"\n" * 64)
        said = settled.mvm(command, given)
        assert said.code == 2
        assert f"{name}: it has more than 64 lines" in said.err
        shutil.rmtree(given)
