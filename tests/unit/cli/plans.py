"""Makes and signs plans by command, and changes what their starts are checked against."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from mvmnix.clock import now
from mvmnix.formats.strict import show_time
from mvmnix.launch.gate.clock import CLOCK, Mark, read_clocks
from mvmnix.plan import plan
from mvmnix.plan.plan import Plan
from mvmnix.provenance.bundle import statement
from tests.unit.cli.station import Station


def images(station: Station) -> list[dict[str, Any]]:
    found = station.mvm("image", "ls", "--json").answer("images")
    assert isinstance(found, list)
    return found


def named(station: Station, name: str) -> dict[str, Any]:
    (one,) = (image for image in images(station) if image.get("name") == name)
    return one


def sign_plan(station: Station, name: str, *, expired: bool = False) -> Path:
    """Have a plan for this image, signed by `mvm plan sign`."""
    image = named(station, name)
    made = station.mvm("plan", "create", station_flake(station, name), "--", "true").out
    unsigned = station.path / "plan.json"
    unsigned.write_text(made)
    if expired:
        value = json.loads(made)
        for key, hours in (("notBefore", 2), ("notAfter", 1)):
            value["predicate"]["validity"][key] = show_time(now() - timedelta(hours=hours))
        unsigned.write_text(json.dumps(value))
    assert image["neededBy"] == []
    said = station.mvm("plan", "sign", unsigned, "--out", station.path / "plan.sigstore.json")
    assert said.code == 0, said.err
    return station.path / "plan.sigstore.json"


def station_flake(station: Station, name: str) -> str:
    return f"path:{station.path}/flakes/{name}"


def flake_of(station: Station) -> str:
    """The flake hello, whose image is built if it isn't yet."""
    path = station.path / "flakes/hello"
    return f"path:{path}" if path.exists() else station.flake()


def drafted(station: Station, *options: str, reference: str = "") -> Plan:
    """The plan that `mvm plan create` writes to plan.json, for that flake unless another one is named."""
    out = station.path / "plan.json"
    said = station.mvm("plan", "create", "-o", out, reference or flake_of(station), *options)
    assert (said.code, said.out) == (0, ""), said.err
    return read_plan(out)


def read_plan(path: Path) -> Plan:
    return plan.from_statement(statement.parse(path.read_bytes()))


def signed(station: Station, *options: str, reference: str = "", command: tuple[str, ...] = ("true",)) -> Path:
    """A plan for the same flake and this command, signed."""
    drafted(station, *options, "--", *command, reference=reference)
    bundle = station.path / "plan.sigstore.json"
    assert station.mvm("plan", "sign", "-o", bundle, station.path / "plan.json").code == 0
    return bundle


def log(station: Station) -> list[dict[str, Any]]:
    return [json.loads(line) for line in station.mvm("audit", "tail", "-n", "100").out.splitlines()]


def set_mark(station: Station, by: timedelta) -> None:
    """As if the clock had been set by the opposite since."""
    path = station.state / "replay" / CLOCK
    path.parent.mkdir(mode=0o700, exist_ok=True)
    reading = read_clocks()
    path.write_bytes(Mark(reading.wall + by, reading).to_bytes())
