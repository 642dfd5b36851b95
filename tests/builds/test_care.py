"""Builds that are broken off, that fail, that take too long, that somebody else makes too: nothing is left over."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from mvmnix.digest import Digest
from tests.builds.conftest import Place
from tests.conftest import World
from tests.hypervisors import hypervisors
from tests.patience import PATIENCE
from tests.support.processes import end_with_test
from tests.vm.machines import HELLO, states, wait_for
from tests.workbench import tiny_tree

pytestmark = pytest.mark.vm


def processes(world: World) -> list[str]:
    """Processes that work in this home: by their descriptors, their arguments, or their environment."""
    home, found = str(world.home.path), []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            opened = [str(fd.readlink()) for fd in (process / "fd").iterdir()]
        except OSError:
            continue
        if home.encode() in told or any(name.startswith(home) for name in opened):
            found.append((process / "comm").read_text().strip())
    return found


def unfinished(*rooms: Path) -> list[Path]:
    return [path for room in rooms for path in room.rglob("*.tmp") if path.is_file()]


@pytest.mark.in_turn
def test_ctrl_c_leaves_nothing_running_and_nothing_unfinished(place: Place) -> None:
    """As a terminal does it, to the whole group of processes; while a part of mvm's own comes out of the builder VM."""
    world, before = place.world, states(place.world).keys()
    page = json.loads(place.page.read_bytes())
    kept = [part for part in page["kept"] if not part["path"].endswith("-initrd")]
    assert len(kept) == len(page["kept"]) - 1
    place.page.write_text(json.dumps(page | {"kept": kept}))
    building = end_with_test(
        subprocess.Popen(
            world.home.argv("build", "--again", HELLO),
            env=world.home.environment | {"XDG_CACHE_HOME": str(place.cache)},
            cwd=place.tree,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    )

    def started() -> list[str]:
        return [told["state"] for machine, told in states(world).items() if machine not in before]

    # The first machine evaluates, the second builds the parts that are lacking.
    wait_for(lambda: (len(started()) == 2 and unfinished(place.cache)) or building.poll() is not None)
    assert processes(world)
    os.killpg(building.pid, signal.SIGINT)
    _, said = building.communicate(timeout=PATIENCE)
    assert building.returncode == 128 + signal.SIGINT, said
    assert b"Traceback" not in said
    assert (hypervisors(world.home), processes(world)) == ([], [])
    assert started() == ["ended", "ended"]
    assert json.loads(place.page.read_bytes())["kept"] == kept
    place.mvm("store", "gc")
    place.mvm("image", "prune")
    assert unfinished(place.cache, world.home.state) == []


FAILS = """
{
  outputs = _: let numbers = builtins.genList (n: n) 40; in {
    packages.x86_64-linux = {
      fails = derivation {
        name = "fails";
        system = "x86_64-linux";
        builder = "/bin/sh";
        args = [ "-c" "echo first words; for i in ${toString numbers}; do echo word; done; echo last words; exit 3" ];
      };
      hangs = derivation {
        name = "hangs";
        system = "x86_64-linux";
        builder = "/bin/sh";
        args = [ "-c" "while :; do :; done" ];
      };
    };
  };
}
"""


def test_a_failed_build_shows_its_last_words_and_where_all_are(copied: World, tmp_path: Path) -> None:
    flake = tiny_tree(copied, tmp_path / "flake", FAILS)
    failed = copied.home.mvm("build", f"path:{flake}#fails")
    said = failed.stderr.decode()
    assert failed.returncode == 125
    assert "last words" in said
    assert "first words" not in said
    (where,) = re.findall(r"^  log:  (/\S+)$", said, re.MULTILINE)
    assert b"first words" in Path(where).read_bytes()
    assert processes(copied) == []


def test_a_build_that_takes_too_long_is_ended(copied: World, tmp_path: Path) -> None:
    flake = tiny_tree(copied, tmp_path / "flake", FAILS)
    before = states(copied).keys()
    ended = copied.home.mvm("build", "--timeout", "20", f"path:{flake}#hangs")
    assert ended.returncode == 124, ended.stderr.decode()
    assert processes(copied) == []
    told = [it for machine, it in states(copied).items() if machine not in before]
    assert sorted((it["state"], it["reason"]) for it in told) == [("ended", "stopped"), ("ended", "timeout")]


def test_two_builds_of_the_same_thing_do_the_work_once(copied: World) -> None:
    """Neither finds it finished; one of them builds it, the other says that it waits, and finds it."""
    hello = Digest.of((copied.hello / "manifest.json").read_bytes()).hex
    (entry,) = (it for it in (copied.home.state / "builds").iterdir() if hello in it.read_text())
    entry.unlink()
    before = states(copied).keys()
    both = [copied.home.start("build", "--json", HELLO, cwd=copied.tree) for _ in range(2)]
    said = [each.communicate(timeout=PATIENCE) for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    assert len(states(copied).keys() - before) == 2, "one evaluated, and one built"
    assert json.loads(said[0][0]) == json.loads(said[1][0])
    waited = [b"the same is being built already: waiting for it" in stderr for _, stderr in said]
    assert sorted(waited) == [False, True]
