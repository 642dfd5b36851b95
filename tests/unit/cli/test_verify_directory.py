"""An image's directory that somebody handed over, of which `mvm verify` and `mvm show` read no more than is bounded."""

import os
import re
import shutil
from itertools import product
from pathlib import Path

import pytest

from mvmnix.keys import PrivateKey
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


#: What a stranger may hand in, each as a file of 1 TiB that takes no room, and the command that reads it.
SPARSE = {
    **{
        f"{command} {name}": (command, "{given}", f"given/{name}")
        for command, name in product(
            ("verify", "show"),
            (
                *("kernel", "initrd", "rootfs", "manifest.json", "provenance.sigstore.json", "flake.lock"),
                *("sbom.cdx.json", "parts.sigstore.jsonl", "rebuilds.sigstore.jsonl"),
            ),
        )
    },
    "a file": ("verify", "--key", "{key}", "--bundle", "{bundle}", "{file}", "file"),
    "a bundle": ("verify", "--key", "{key}", "--bundle", "{file}", "{bundle}", "file"),
    "a key": ("verify", "--key", "{file}", "--bundle", "{bundle}", "{bundle}", "file"),
    "a trust root": ("verify", "--key", "{key}", "--trusted-root", "{file}", "{bundle}", "file"),
    "a policy": ("verify", "--policy", "{given}/trust.toml", "{bundle}", "given/trust.toml"),
    "a plan": ("verify", "--plan", "{file}", "{given}", "file"),
    "a plan to launch": ("launch", "{file}", "file"),
    "a plan to sign": ("plan", "sign", "{file}", "file"),
    "an archive": ("image", "load", "{file}", "file"),
    "a flake's file": ("build", "path:{flake}", "flake/large"),
    "a flake's lock": ("build", "path:{flake}", "flake/flake.lock"),
}


def test_a_sparse_file_of_1_tib_is_refused_at_once(settled: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its size, wherever it is handed in."""
    out, places = settled.path / "out", {name: str(settled.path / name) for name in ("given", "flake", "file", "key")}
    assert settled.mvm("build", "--out", out, settled.flake()).code == 0
    places["bundle"] = f"{out}/provenance.sigstore.json"
    Path(places["key"]).write_text(PrivateKey.generate().public.pem)
    pread, count = os.pread, [0]

    def counted(fd: int, size: int, at: int) -> bytes:
        count[0] += size
        assert count[0] < 1 << 30, "it is read to its end"
        return pread(fd, size, at)

    monkeypatch.setattr(os, "pread", counted)
    for row, (*words, where) in SPARSE.items():
        shutil.copytree(out, places["given"])
        Path(places["flake"]).mkdir()
        Path(places["flake"], "flake.nix").write_text("{ outputs = _: { }; }")
        Path(settled.path, where).unlink(missing_ok=True)
        with Path(settled.path, where).open("wb") as file:
            file.truncate(1 << 40)
        count[0] = 0
        said = settled.mvm(*(word.format(**places) for word in words))
        assert said.code in {1, 2, 126}, (row, said)
        assert re.search(r"larger than|holes|the manifest says|follows its end", said.out + said.err), (row, said)
        for name in ("given", "flake"):
            shutil.rmtree(places[name])
        Path(places["file"]).unlink(missing_ok=True)
