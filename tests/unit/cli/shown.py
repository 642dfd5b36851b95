"""Reads what `mvm show` answers."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.station import Said, Station

SBOM = b'{"bomFormat": "CycloneDX"}'


def nodes(said: Said) -> dict[str, Any]:
    """The nodes of an answer by their keys, members included."""

    def all_(listed: list[Any]) -> list[Any]:
        return [each for node in listed for each in (node, *all_(node["members"]))]

    return {node["key"]: node for node in all_(said.answer("evidence")["nodes"])}


def verdict(node: Any) -> str:
    """As people read it, without the why."""
    codes = [reason["code"] for reason in node["verdict"]["reasons"]]
    return f"{node['verdict']['standing']} {codes}" if codes else str(node["verdict"]["standing"])


def broken(said: Said) -> dict[str, str]:
    return {key: verdict(node) for key, node in nodes(said).items() if verdict(node) != "verified"}


@pytest.fixture
def machine(settled: Station) -> str:
    """The id of a machine that has run and ended."""
    said = settled.mvm("run", "--name", "web", settled.flake(sbom=SBOM, parts=True), "--", "true")
    assert said.code == 0, said.err
    (found,) = settled.mvm("ps", "--all", "--json").answer("machines")
    return str(found["id"])


def snapshot(station: Station) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in station.home.rglob("*") if path.is_file()}


def directory(station: Station, machine: str) -> Path:
    return station.state / "machines" / machine


def log_changed(station: Station) -> None:
    for path in (station.state / "audit").glob("*.jsonl"):
        path.write_bytes(path.read_bytes().replace(b'"kind":"end"', b'"kind":"enD"'))
