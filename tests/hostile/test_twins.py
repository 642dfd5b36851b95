"""Machines of one template whose agent draws where it reseeds, or would: without reseeding, they draw the same."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mvmnix.digest import Digest
from tests.hostile.rig import Rig, replaced
from tests.repository import ROOT
from tests.support.archives import member, padded
from tests.unit.provenance.world import put
from tests.vm.machines import HELLO

pytestmark = pytest.mark.vm

AGENT = ROOT / "modules/agent"
#: Where the agent reseeds, in its source; and the same, in a test's own build, with a draw behind it or in its place.
RESEEDS = "int result = ask(&request);"
RENEWED = "int result = ask(&request) != 0 || draw() != 0 ? -1 : 0;"
DRAWS = {"reseeded": RENEWED, "not reseeded": f"request.parts &= ~(uint32_t)PART_ENTROPY; {RENEWED}"}
BEFORE = "int keeper_renew("
DRAW = """
#include <stdio.h>
#include <sys/random.h>

static int draw(void)
{
    uint64_t drawn = 0;
    char text[32];
    if (getrandom(&drawn, sizeof drawn, 0) != sizeof drawn)
        return error_set_errno("getrandom");
    (void)snprintf(text, sizeof text, "drawn %016lx", drawn);
    log_error(text);
    return 0;
}

"""
#: Templates, and machines of each. Before CONFIG the kernel may reseed by itself, which it does a second after it did
#: so last, from what its processor draws: then machines of that template have nothing in common there.
TEMPLATES, MACHINES = 4, 3


def agent(where: Path, draws: str) -> bytes:
    """An agent that says on the console what it draws."""
    where.mkdir()
    for file in AGENT.iterdir():
        if file.suffix in {".c", ".h"} or file.name == "Makefile":
            shutil.copy(file, where)
    source = (where / "keeper.c").read_text()
    assert (source.count(RESEEDS), source.count(BEFORE)) == (1, 1)
    (where / "keeper.c").write_text(source.replace(RESEEDS, draws).replace(BEFORE, DRAW + BEFORE))
    subprocess.run(["make", "-s", "-C", where, "agent"], check=True)
    return (where / "agent").read_bytes()


def take_over(rig: Rig, program: bytes) -> None:
    """Have the library keep the image with this agent."""
    made = padded(rig.files["initrd"].read_bytes()) + member("init", 0o100755, program) + member("TRAILER!!!", 0)
    digest = Digest.of(made)
    replaced(rig.home.state / "images" / digest.hex, made)
    rig.change_manifest(put({"file": "initrd", "sha256": digest.hex, "size": len(made)}, "artifacts", "initrd"))
    rig.install()


def drawn(rig: Rig) -> list[bytes]:
    """What machines of a new template draw."""
    made = rig.home.mvm("warm", HELLO, cwd=rig.world.tree)
    assert made.returncode == 0, made.stderr.decode()
    found = []
    for _ in range(MACHINES):
        before = {*rig.home.state.glob("machines/*")}
        done = rig.home.mvm("--verbose", "run", "--start", "any", HELLO, cwd=rig.world.tree)
        assert (done.returncode, b"a warm start" in done.stderr) == (0, True), done.stderr.decode()
        (machine,) = {*rig.home.state.glob("machines/*")} - before
        found += re.findall(rb"drawn ([0-9a-f]{16})", (machine / "console.log").read_bytes())
    assert len(found) == MACHINES
    return found


def test_without_reseeding_they_draw_the_same(rig: Rig, tmp_path: Path) -> None:
    take_over(rig, agent(tmp_path / "agent", DRAWS["not reseeded"]))
    assert any(len({*drawn(rig)}) < MACHINES for _ in range(TEMPLATES))


def test_with_reseeding_none_draws_what_another_one_did(rig: Rig, tmp_path: Path) -> None:
    take_over(rig, agent(tmp_path / "agent", DRAWS["reseeded"]))
    assert len({*drawn(rig), *drawn(rig)}) == 2 * MACHINES
