"""A data disk's header as others read it, and what QEMU leaves in its file, by the search that finds leaks."""

import json
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.launch.data import setup
from mvmnix.launch.data.setup import PreparedDisk
from mvmnix.plan.data_disk import DataDisk
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import memfd
from mvmnix.vmm.port import Acceleration, DataAttachment, Invocation, LaunchSpec
from mvmnix.vmm.process import JailedProcess
from mvmnix.vmm.qemu import SANDBOX, Qemu
from tests.hostile.stand_in import jail
from tests.leaks import in_bytes

pytestmark = pytest.mark.integration
SIZE = 16 << 20


@pytest.fixture
def data(tmp_path: Path) -> Iterator[DataAttachment]:
    with Directory.create(str(tmp_path / "machines")) as directory:
        prepared = PreparedDisk.ready(DataDisk(16, "/tmp/data"), directory)
    assert isinstance(prepared.attachment, DataAttachment)
    yield prepared.attachment
    prepared.release()


def unlocked(tmp_path: Path, header: bytes, passphrase: bytes) -> int:
    """What cryptsetup's own code ends with, which makes no device here."""
    (tmp_path / "header").write_bytes(header.ljust(2 << 20, b"\0"))  # with the slots that are not used
    (tmp_path / "disk").touch()
    os.truncate(tmp_path / "disk", SIZE)
    argv = ["/usr/sbin/cryptsetup", "open", "--test-passphrase", "--type", "luks1", "--key-file", "-"]
    argv += ["--header", str(tmp_path / "header"), str(tmp_path / "disk")]
    return subprocess.run(argv, input=passphrase, capture_output=True, check=False).returncode


def test_cryptsetup_unlocks_a_header_by_its_passphrase_alone(tmp_path: Path) -> None:
    header = setup.luks_header(b"correct")
    assert unlocked(tmp_path, header, b"correct") == 0
    assert unlocked(tmp_path, header, b"corrects") == 2
    said = subprocess.run(["/usr/sbin/cryptsetup", "luksDump", tmp_path / "header"], capture_output=True, check=True)
    shown = dict(line.split(":", 1) for line in said.stdout.decode().splitlines() if ":" in line)
    wanted = {"Cipher name": "aes", "Cipher mode": "xts-plain64", "MK bits": "512", "Payload offset": "0"}
    assert {name: shown[name].strip() for name in wanted} == wanted


def written(words: list[str], data: DataAttachment, pattern: bytes, where: Path) -> str:
    """Have QEMU, in its sandbox and without a guest that runs, write bytes to the disk that these arguments make."""
    sockets = [socket.socketpair() for _ in range(3)]
    channel, console, control = (theirs.fileno() for _, theirs in sockets)
    image = memfd(pattern, name="pattern")
    spec = LaunchSpec(image, image, None, channel, console, control, 1, 128, "", Acceleration.TCG, 2_000_000, data=data)
    argv = ("/usr/bin/qemu-system-x86_64", "-nodefaults", "-machine", "none", "-display", "none", *words, "-S")
    argv += ("-sandbox", SANDBOX, "-chardev", f"socket,id=monitor,fd={control}", "-mon", "chardev=monitor,mode=control")
    with jail(where, uids=os.geteuid() == 0) as kept:
        sandbox = kept.sandbox((), spec, Invocation(argv, ()))
        process = JailedProcess.spawn(Invocation(argv, ()), spec.descriptors, sandbox)
        for _, theirs in sockets:
            theirs.close()
        ours = sockets[2][0]
        ours.sendall("".join(map(json.dumps, asked(image))).encode())
        process.wait()
        said = ours.makefile("rb").read().decode()
        process.close()
    assert process.status == 0, (process.last_words, said)
    for ours, _ in sockets:
        ours.close()
    os.close(image)
    return said


def asked(image: int) -> tuple[dict[str, object], ...]:
    """What QEMU is told: the file's bytes, once a sector, and then to end."""
    write = monitor(f'qemu-io data "write -s /proc/self/fd/{image} 1M 64k"')
    return {"execute": "qmp_capabilities"}, write, monitor('qemu-io data "flush"'), {"execute": "quit"}


def monitor(line: str) -> dict[str, object]:
    return {"execute": "human-monitor-command", "arguments": {"command-line": line}}


def composed(data: DataAttachment) -> list[str]:
    """What the disk adds to QEMU's arguments, but for the device, which needs a machine."""
    spec = LaunchSpec(1, 2, None, 4, 5, 6, 1, 128, "quiet", Acceleration.TCG, 2_000_000)
    qemu = Qemu("/usr/bin/qemu-system-x86_64", "/bios")
    whole = LaunchSpec(1, 2, None, 4, 5, 6, 1, 128, "quiet", Acceleration.TCG, 2_000_000, data=data)
    added = qemu.invocation(whole).argv[len(qemu.invocation(spec).argv) :]
    assert added[-2] == "-device"
    return list(added[:-2])


@pytest.mark.parametrize("encrypted", [True, False])
def test_what_is_written_to_it_is_found_only_where_it_is_not_encrypted(
    tmp_path: Path, data: DataAttachment, encrypted: bool
) -> None:
    secret = {"planted": secrets.token_urlsafe(24).encode()}
    words = composed(data)
    assert os.pread(data.key, 100, 0).decode() not in " ".join(words)
    if not encrypted:  # the same disk, by the driver that leaves bytes as they are
        at = words.index("-blockdev") + 1
        node = json.loads(words[at])
        words[at] = json.dumps({"driver": "raw", "node-name": "data", "file": node["file"]})
    said = written(words, data, secret["planted"].ljust(512, b"."), tmp_path)
    left = os.pread(data.file, SIZE, 0)
    assert left.count(0) < SIZE - 60_000, said
    assert bool(list(in_bytes(secret, left))) is not encrypted
    assert os.fstat(data.file).st_size == SIZE
