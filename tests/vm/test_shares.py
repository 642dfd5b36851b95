"""Directories of the host in a real machine: served or as an image, whose files they are, what a killed mvm leaves."""

import base64
import json
import os
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import patience
from tests.conftest import World
from tests.patience import PATIENCE

pytestmark = pytest.mark.vm
OWNER = os.geteuid()
HELLO = "./examples/hello"
#: What the guest does: it says that it is there, waits for the host, and tries what it may and what it may not.
SCRIPT = """
bb=/bin/busybox
cd /tmp/out
echo from the guest > made; $bb mkdir dir; echo deep > dir/deep; $bb ln -s /etc/passwd link
$bb mknod null c 1 3 || echo no device
$bb mkfifo fifo || echo no fifo
$bb chmod 4755 made || echo no set-id
$bb chown 0 made || echo no owner
$bb id -u; $bb stat -c %u made
$bb mount | $bb grep -c -E ' /(tmp/out|set|opt/made/live) .*nosuid,nodev'
$bb mkdir /new /opt/new /opt/made/new 2>/dev/null || echo root is read only
$bb touch started
until $bb test -e /opt/made/live/later; do $bb sleep 1; done
$bb cat /opt/made/live/later; $bb cat /set/file
$bb test -e /set/later || echo not in the image
echo x 2>/dev/null > /set/file || echo image is read only
echo x 2>/dev/null > /opt/made/live/file || echo share is read only
"""
SAID = """no device
no fifo
no set-id
no owner
1000
1000
3
root is read only
later
file
not in the image
image is read only
share is read only
"""

#: What a guest does that runs away: first what its servers refuse, or don't have, then files without an end.
FILL = """
bb=/bin/busybox
cd /tmp/out
$bb truncate -s 17M large 2>/dev/null || echo too large
$bb fallocate -l 1048576 room && echo room
number=0
while :; do number=$((number+1)); $bb dd if=/dev/zero of=$number bs=64k count=64 2>/dev/null; done
"""
WAIT = """
bb=/bin/busybox
cd /tmp/out
$bb touch started
until $bb test -e go; do $bb sleep 1; done
$bb dd if=/dev/zero of=mine bs=64k count=16 2>/dev/null && echo fine
"""
LIMIT_MIB = 16


def until(there: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    patience.until(lambda: there() or process.poll() is not None, seconds=PATIENCE)
    assert there(), process.communicate()


def directory(base: Path, name: str) -> Path:
    made = base.resolve() / name
    made.mkdir()
    (made / "file").write_text("file\n")
    return made


def begun(world: World, out: Path, *options: str) -> subprocess.Popen[bytes]:
    argv = ("run", *options, HELLO, "--", "/bin/busybox", "sh", "-c", SCRIPT)
    process = world.home.start(*argv, cwd=world.tree)
    until((out / "started").exists, process)
    return process


def test_served_and_as_an_image(world: World, tmp_path: Path) -> None:
    out, inside, live = (directory(tmp_path, name) for name in ("out", "set", "live"))
    (out / ".aws").mkdir()
    shared = f"{out}:/tmp/out:rw"
    options = (f"--share={shared}", f"--share={inside}:/set", f"--share={live}:/opt/made/live:ro,follow")
    refused = world.home.mvm("run", *options, HELLO, cwd=world.tree)
    assert refused.returncode == 126
    assert b"[share-forbidden]" in refused.stderr
    assert f"--share {shared},acknowledge=credentials".encode() in refused.stderr

    process = begun(world, out, f"--share={shared},acknowledge=credentials", *options[1:])
    for where in (inside, live):
        (where / "later").write_text("later\n")
    said, complained = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said.decode()) == (0, SAID), complained.decode()
    assert (out / "dir/deep").read_text() == "deep\n"
    assert {path.lstat().st_uid for path in out.rglob("*")} <= {OWNER, 0}
    assert (out / "made").stat().st_uid == OWNER
    assert not [path for path in out.rglob("*") if path.lstat().st_mode & 0o6000 or stat.S_ISFIFO(path.lstat().st_mode)]

    events = [json.loads(line) for line in world.home.mvm("events").stdout.splitlines()]
    start = [it for it in events if it["kind"] == "start"][-1]
    assert start["reasons"] == ["acknowledged-credentials"]
    bundle = json.loads((world.home.state / "machines" / start["machine"] / "receipt.sigstore.json").read_bytes())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    shares = statement["predicate"]["observedByHost"]["shares"]
    assert [it["fileSystem"] for it in shares] == ["virtiofs", "erofs", "virtiofs"]
    assert [it["access"] for it in shares] == ["read-write", "read-only", "read-only"]


def test_a_killed_mvm_takes_its_servers_along(world: World, tmp_path: Path) -> None:
    out = directory(tmp_path, "out")
    process = begun(
        world, out, f"--share={out}:/tmp/out:rw", f"--share={out}:/opt/made/live:ro,follow", f"--share={out}:/set"
    )
    serving = [path for path in Path("/proc").glob("[0-9]*") if serves(path, out)]
    assert len(serving) == 2
    process.send_signal(signal.SIGKILL)
    process.communicate()
    patience.until(lambda: not any(serves(path, out) for path in serving))
    assert world.home.mvm("ps").returncode == 0


def test_a_guest_that_fills_its_share_is_ended_and_its_neighbour_is_not(world: World, tmp_path: Path) -> None:
    filled, calm = directory(tmp_path, "filled"), directory(tmp_path, "calm")
    limit = f"--share-limit={LIMIT_MIB * 1024}"
    waiting = ("run", f"--share={calm}:/tmp/out:rw", limit, HELLO, "--", "/bin/busybox", "sh", "-c", WAIT)
    neighbour = world.home.start(*waiting, cwd=world.tree)
    until((calm / "started").exists, neighbour)
    filling = ("run", f"--share={filled}:/tmp/out:rw", limit, HELLO, "--", "/bin/busybox", "sh", "-c", FILL)
    ended = world.home.mvm(*filling, cwd=world.tree)
    assert ended.returncode == 125, ended.stderr.decode()
    assert b"wrote more to its shares than its plan allows" in ended.stderr
    assert b"too large\nroom\n".startswith(ended.stdout), "what a killed guest said last may end with it"
    assert ((filled / "large").stat().st_size, (filled / "room").stat().st_size) == (0, 1 << 20)
    sizes = [path.stat().st_blocks * 512 for path in filled.iterdir()]
    assert max(sizes) <= LIMIT_MIB << 20 <= sum(sizes) + (1 << 20)
    assert sum(sizes) < 16 * LIMIT_MIB << 20, "it was ended soon"

    (calm / "go").touch()
    said, complained = neighbour.communicate(timeout=PATIENCE)
    assert (neighbour.returncode, said) == (0, b"fine\n"), complained.decode()
    events = [json.loads(line) for line in world.home.mvm("events").stdout.splitlines()]
    assert [it.get("reasons", []) for it in events if it["kind"] == "end"][-2:] == [["share-limit"], []]


def serves(process: Path, directory: Path) -> bool:
    """Whether it is a server of this directory."""
    try:
        program = (process / "cmdline").read_bytes().partition(b"\0")[0]
        return program.endswith(b"virtiofsd") and (process / "root/share").samefile(directory)
    except OSError:
        return False
