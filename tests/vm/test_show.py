"""What `mvm show` says of a machine that really ran, from an image that was really built: all of it verifies."""

import json
from typing import Any

import pytest

from tests.conftest import World

pytestmark = pytest.mark.vm

BEFORE = {"flake tree", "lock file", "fetched sources", "kept parts", "parts statement", "builder", "derivation"}
AFTER = {"plan", "machine", "audit record", "audit log", "receipt"}
KINDS = BEFORE | {"image", "file", "verity root", "SBOM", "provenance", "trust policy"} | AFTER


def shown(world: World, what: str, code: int) -> dict[str, Any]:
    done = world.home.mvm("show", what, "--json", cwd=world.tree)
    assert done.returncode == code, done.stdout.decode() + done.stderr.decode()
    result = json.loads(done.stdout)["result"]
    assert isinstance(result, dict)
    return result


def first_machine(world: World) -> str:
    """The machine of the world's first run; other tests may have started more."""
    listed = json.loads(world.home.mvm("ps", "--all", "--json").stdout)["result"]
    (first, *_) = [each["id"] for each in listed if each["image"] == "hello"]
    return str(first)


def test_from_source_to_machine(world: World) -> None:
    result = shown(world, first_machine(world), 0)
    assert result["verdict"] == "verified"
    assert result["counts"]["verified"] > 100
    by_kind: dict[str, list[Any]] = {}
    for node in result["nodes"]:
        by_kind.setdefault(node["kind"], []).append(node)
    assert by_kind.keys() >= KINDS
    (statement,), (builder,) = by_kind["parts statement"], by_kind["builder"]
    assert len(statement["members"]) > 10, "the packages that mvm's own modules are made from"
    (evidence,) = builder["members"]
    assert evidence["verdict"]["standing"] == "verified"
    assert {"provenance", "fetched sources", "rootfs"} <= {
        name for node in evidence["members"] for name in (node["kind"], node["name"])
    }


def test_the_page_of_a_real_machine(world: World) -> None:
    machine = first_machine(world)
    done = world.home.mvm("show", machine, "--html", "-", cwd=world.tree)
    assert done.returncode == 0, done.stderr.decode()
    result = shown(world, machine, 0)
    text = done.stdout.decode()
    assert all(node["digest"] in text for node in result["nodes"] if node["digest"])
    assert len(done.stdout) < 2_000_000
