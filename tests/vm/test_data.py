"""A data disk in a real machine: whose it is, where it ends, what the host has of it meanwhile and afterwards."""

import codecs
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import World
from tests.leaks import in_bytes, in_files
from tests.patience import until

pytestmark = pytest.mark.vm
SIZE = 16 << 20
#: What the guest does. The secret comes in a form that nobody looks for: it is in the plan, which stays.
SCRIPT = """
bb=/bin/busybox
cd /data
$bb stat -c '%u:%g %a' .
$bb mount | $bb grep -c ' /data type ext4 (rw,nosuid,nodev,noatime,'
$bb mknod null c 1 3 2>/dev/null || echo no device
secret=$(echo TURNED | $bb tr A-Za-z N-ZA-Mn-za-m)
for i in $($bb seq 500); do echo $secret; done > secret
$bb dd if=/dev/zero of=full bs=64k 2>&1 | $bb grep -o 'No space left on device'
$bb test $($bb stat -c %s full) -gt 11000000 || echo too little
echo x > /tmp/beside && $bb cat /tmp/beside
$bb sync
$bb tail -n 1 secret | $bb wc -c
echo done
$bb sleep 1000
"""
SAID = """1000:1000 755
1
no device
No space left on device
x
44
done
"""


def disks(state: Path) -> Iterator[Path]:
    """Descriptors, of whatever process, of files without a name where machines are."""
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = str(fd.readlink())
        except OSError:
            continue
        if target.startswith(f"{state}/machines/#"):
            yield fd


def said(process: "subprocess.Popen[bytes]") -> str:
    """Its output up to the last word of the guest."""
    assert process.stdout is not None
    lines: list[bytes] = []
    while not lines or lines[-1] != b"done\n":
        lines.append(process.stdout.readline())
        assert lines[-1], (lines, process.communicate())
    return b"".join(lines).decode()


def holds_the_disk_alone(found: list[Path], planted: dict[str, bytes]) -> None:
    """The hypervisor and no other process has the disk open, and what is on it can't be read there.

    A plain user may not look into a hypervisor, which has a uid of its own.
    """
    if os.geteuid() != 0:
        assert found == []
        return
    (holder,), data = {fd.parts[2] for fd in found}, found[0].read_bytes()
    assert b"qemu" in Path(f"/proc/{holder}/cmdline").read_bytes()
    assert f"Max file size {SIZE} {SIZE} bytes" in " ".join(Path(f"/proc/{holder}/limits").read_text().split())
    assert len(data) == SIZE
    assert data.count(0) < SIZE // 3, "it was filled with zeros, which don't look so; its inodes were never written"
    assert list(in_bytes(planted, data)) == []


def test_written_full_unreadable_and_gone(world: World) -> None:
    planted = {"planted": secrets.token_hex(21).encode() + b"Q"}
    turned = codecs.encode(planted["planted"].decode(), "rot13")
    argv = ("run", "--data=16:/data", "./examples/hello", "--", "/bin/busybox", "sh", "-c")
    since = time.time()
    process = world.home.start(*argv, SCRIPT.replace("TURNED", turned), cwd=world.tree)
    assert said(process) == SAID
    holds_the_disk_alone(list(disks(world.home.state)), planted)
    process.kill()
    process.communicate()
    until(lambda: not list(disks(world.home.state)))
    assert world.home.mvm("ps").returncode == 0
    assert list(in_files(planted, [world.home.path], since=since)) == []
