"""mvm system: the room on the disk, and what is given back."""

import os
from pathlib import Path

from tests.unit.cli.station import Station


def test_the_room_on_the_disk(settled: Station) -> None:
    settled.flake("greeting")
    used = {Path(it["path"]).name: it for it in settled.mvm("system", "df", "--json").answer("disk")}
    assert used["images"]["root"] == "state"
    assert used["images"]["bytes"] > 0
    assert str(settled.state / "images") in settled.mvm("system", "df").out
    os.link(next((settled.state / "images").iterdir()), settled.state / "images/twin")
    (settled.state / "images/link").symlink_to("/usr")
    paths = settled.mvm("system", "df", "--format", "{{.path}} {{.bytes}}").out.splitlines()
    assert f"{settled.state / 'images'} {used['images']['bytes']}" in paths, "a name more takes no room"


def test_what_is_not_needed_goes(settled: Station) -> None:
    settled.flake("greeting")
    said = settled.mvm("system", "prune", "--all", "--dry-run")
    assert (said.code, said.err.count("would free")) == (0, 1), said.err
    assert len(settled.mvm("images", "-q").out.split()) == 2
    assert settled.mvm("system", "prune").code == 0
    assert len(settled.mvm("images", "-q").out.split()) == 2
    assert settled.mvm("system", "prune", "-a").code == 0
    assert len(settled.mvm("images", "-q").out.split()) == 1, "the builder's image stays"
