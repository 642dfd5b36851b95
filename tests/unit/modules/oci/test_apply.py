"""From layers as they are sent to one archive: sizes, digests and bounds hold, and the archive is the tree."""

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from modules.oci import apply
from modules.oci.accounts import LIMIT
from modules.oci.apply import complete, merged, user_of
from modules.oci.emit import emit
from modules.oci.merge import Merge
from modules.oci.tarball import LayerError
from tests.repository import ROOT
from tests.unit.modules.oci.layers import WANTED, Sent, archive, file, folder, hard_link, merge, sent, shown, symlink

SMALL = archive(file("etc/passwd", b"web:x:33:44::/:/bin/sh\n"), file("a", b"1"))


def squeeze(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def unpack(*layers: Sent, room: int = apply.MAX_BYTES) -> tuple[Merge, list[BinaryIO]]:
    spools: list[BinaryIO] = [io.BytesIO() for _ in layers]
    wanted = replace(WANTED, layers=tuple(each.layer for each in layers))
    return merged(wanted, [io.BytesIO(each.data) for each in layers], spools, room=room), spools


@pytest.mark.parametrize("pack", [None, squeeze, lambda data: squeeze(data[:100]) + squeeze(data[100:])])
def test_layers_are_uncompressed(pack: None) -> None:
    """Also in several members, as tools write them that let files be fetched one by one."""
    made, _ = unpack(sent(SMALL, pack))
    assert list(shown(made, SMALL)) == ["a", "etc", "etc/passwd"]


def lie(data: bytes, **changes: object) -> Sent:
    it = sent(data, squeeze)
    return Sent(replace(it.layer, **changes), it.data)  # type: ignore[arg-type]


def cut(data: bytes) -> Sent:
    it = sent(data, squeeze)
    return Sent(replace(it.layer, size=len(it.data) - 9), it.data[:-9])


def tailed(tail: bytes) -> Sent:
    it = sent(SMALL, squeeze)
    return Sent(replace(it.layer, size=len(it.data) + len(tail)), it.data + tail)


REFUSED = {
    "another size": (lie(SMALL, size=7), "another size"),
    "another archive": (lie(SMALL, diff_id="0" * 64), "diff_ids"),
    "nothing at all": (Sent(replace(sent(b"").layer, gzip=True), b""), "cut off"),
    "a plain archive as gzip": (replace(sent(SMALL), layer=replace(sent(SMALL).layer, gzip=True)), "not a gzip file"),
    "cut off": (cut(SMALL), "cut off"),
    "something behind it": (tailed(b"hello"), "not a gzip file"),
    "half a member behind it": (tailed(squeeze(b"x")[:9]), "cut off"),
    "a bomb": (sent(bytes(50 << 20), squeeze), "larger than"),
}


@pytest.mark.parametrize(("layer", "why"), REFUSED.values(), ids=REFUSED)
def test_refused(layer: Sent, why: str) -> None:
    with pytest.raises(LayerError, match=f"layer 2 of 2: .*{why}"):
        unpack(sent(SMALL), layer, room=10 << 20)


def test_a_bomb_is_left_at_the_first_byte_too_many() -> None:
    target = io.BytesIO()
    bomb = sent(bytes(64 << 20), squeeze)
    with pytest.raises(LayerError, match="larger than"):
        apply.spool(io.BytesIO(bomb.data), bomb.layer, 3 << 20, target)
    assert len(target.getvalue()) <= 3 << 20


def test_room_is_shared_by_all_layers() -> None:
    half = sent(archive(file("f", bytes(30_000))))
    unpack(half, room=41_000)
    with pytest.raises(LayerError, match="larger than"):
        unpack(half, half, room=41_000)


def test_the_archive_is_the_tree() -> None:
    """What tarfile reads back; nothing of it depends on the order or the times of the layers."""
    long = "d" * 200 + "/" + "f" * 200
    first = archive(file("b", b"1", mtime=5), file(long, b"2", uid=3_000_000, gid=8), hard_link("c", "b"))
    second = archive(symlink("l", "x" * 300), folder("z", mode=0o1777), file("a\nb", b"3"))
    tar = io.BytesIO()
    emit(merge(first, second).root, [io.BytesIO(first), io.BytesIO(second)], tar.write)
    other = io.BytesIO()
    emit(merge(second, first).root, [io.BytesIO(second), io.BytesIO(first)], other.write)
    assert other.getvalue() == tar.getvalue()
    tar.seek(0)
    with tarfile.open(fileobj=tar) as found:
        members = found.getmembers()
        names = [member.name for member in members]
        assert names == [".", "a\nb", "b", "c", "d" * 200, long, "l", "z"]
        by_name = dict(zip(names, members, strict=True))
        assert {member.mtime for member in members} == {0}
        assert (by_name["c"].type, by_name["c"].linkname) == (tarfile.LNKTYPE, "b")
        assert by_name["l"].linkname == "x" * 300
        assert (by_name[long].uid, by_name[long].gid, by_name["z"].mode) == (3_000_000, 8, 0o1777)
        content = found.extractfile(long)
        assert content is not None
        assert content.read() == b"2"


def test_every_guest_has_what_it_needs() -> None:
    made, spools = unpack(sent(archive(folder("run/x"), file("dev/y"), folder("data"))))
    wanted = replace(WANTED, directory="/srv/app", volumes=("/data", "/cache"), writable=("/tmp", "/var/tmp"))
    complete(made, wanted, spools)
    contents = [spool.read() for spool in spools if not spool.seek(0)]
    found = shown(made, *contents)
    assert {name for name, text in found.items() if text == "/"} == {
        *("cache", "data", "dev", "etc", "proc", "run", "run/x", "srv", "srv/app", "sys", "tmp", "var", "var/tmp")
    }
    assert found["etc/hosts"] == "127.0.0.1 localhost\n"


def test_the_images_own_hosts_stay() -> None:
    made, spools = unpack(sent(archive(symlink("etc/hosts", "/proc/nowhere"))))
    complete(made, WANTED, spools)
    assert shown(made)["etc/hosts"] == "-> /proc/nowhere"


@pytest.mark.parametrize("name", ["hosts", "resolv.conf"])
def test_a_guest_that_may_be_in_a_network_has_files_to_cover(name: str) -> None:
    """Its own where it has some; an empty one for what is missing, and for a link that leads elsewhere."""
    wanted = replace(WANTED, network=True)
    for layer, expected in (
        (archive(folder("etc")), {"hosts": "127.0.0.1 localhost\n", "resolv.conf": ""}[name]),
        (archive(symlink(f"etc/{name}", "../run/systemd/resolve/stub-resolv.conf")), ""),
        (archive(file(f"etc/{name}", b"own\n")), "own\n"),
    ):
        made, spools = unpack(sent(layer))
        complete(made, wanted, spools)
        contents = [spool.read() for spool in spools if not spool.seek(0)]
        assert shown(made, *contents)[f"etc/{name}"] == expected
    made, spools = unpack(sent(archive(folder(f"etc/{name}"))))
    with pytest.raises(LayerError, match=f"/etc/{name} is a directory"):
        complete(made, wanted, spools)


@pytest.mark.parametrize(
    ("layer", "wanted", "why"),
    [
        (archive(symlink("tmp", "/etc")), WANTED, "'tmp': a directory is needed"),
        (archive(file("proc", b"")), WANTED, "'proc': a directory is needed"),
        (archive(symlink("dev", "proc")), WANTED, "'dev': a directory is needed"),
        (archive(symlink("var", "../..")), replace(WANTED, writable=("/var/tmp",)), "'var': a directory is needed"),
        (archive(file("data/x")), replace(WANTED, volumes=("/data",)), "a volume that the image has files in"),
        (archive(symlink("data", "x")), replace(WANTED, volumes=("/data",)), "'data': a directory is needed"),
        (archive(file("srv")), replace(WANTED, directory="/srv/app"), "a file is on the way"),
    ],
)
def test_places_that_are_taken(layer: bytes, wanted: apply.Wanted, why: str) -> None:
    made, spools = unpack(sent(layer))
    with pytest.raises(LayerError, match=why):
        complete(made, wanted, spools)


ACCOUNTS = archive(
    file("etc/passwd", b"root:x:0:0::/root:/bin/sh\nweb:x:33:44::/:/bin/sh\nbad:x:-1:x::/:\nzero:x:0:7::/:\n\xff\n"),
    file("etc/group", b"root:x:0:\nstaff:x:50:web\n"),
)
USERS = {
    "": (1000, 1000),
    "root": (1000, 1000),
    "0:0": (1000, 1000),
    "zero": (1000, 7),
    "web": (33, 44),
    "33": (33, 44),
    "33:0": (33, 1000),
    "web:staff": (33, 50),
    "web:9": (33, 9),
    "65534": (65534, 1000),
    "root:staff": (1000, 50),
}


@pytest.mark.parametrize(("spec", "expected"), USERS.items())
def test_nobody_is_root(spec: str, expected: tuple[int, int]) -> None:
    made, spools = unpack(sent(ACCOUNTS))
    assert user_of(made, replace(WANTED, user=spec), spools) == expected


@pytest.mark.parametrize("spec", ["nobody", "bad", "web:nogroup", "a:b:c", "we b", "-1", "99999999999"])
def test_a_user_that_the_image_does_not_know(spec: str) -> None:
    made, spools = unpack(sent(ACCOUNTS))
    with pytest.raises(LayerError):
        user_of(made, replace(WANTED, user=spec), spools)


def test_accounts_are_found_as_the_guest_would_find_them() -> None:
    """Behind links within the image; never on the machine that builds, whose own files would know root alone."""
    linked = archive(
        folder("real"), symlink("etc", "/../real"), symlink("real/passwd", "p"), file("real/p", b"u:x:5:6:")
    )
    made, spools = unpack(sent(linked))
    assert user_of(made, replace(WANTED, user="u"), spools) == (5, 6)
    ring = archive(symlink("etc/passwd", "/etc/passwd"))
    made, spools = unpack(sent(ring))
    with pytest.raises(LayerError, match="no user"):
        user_of(made, replace(WANTED, user="u"), spools)
    large = archive(file("etc/passwd", bytes(LIMIT + 1)))
    made, spools = unpack(sent(large))
    with pytest.raises(LayerError, match="larger than"):
        user_of(made, replace(WANTED, user="u"), spools)


def run(tmp_path: Path, layer: bytes, **changes: object) -> "subprocess.CompletedProcess[bytes]":
    """The program as the derivation runs it."""
    (tmp_path / "layer").write_bytes(layer)
    described = {
        "layers": [{"gzip": False, "size": len(layer), "diffId": hashlib.sha256(layer).hexdigest()}],
        "user": "web",
        "directory": "/",
        "volumes": [],
        "writable": ["/tmp"],
        "network": True,
    }
    (tmp_path / "image.json").write_text(json.dumps(described | changes))
    argv = [sys.executable, "-m", "modules.oci.apply", "image.json", "user", "layer"]
    return subprocess.run(argv, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, check=False)


def test_the_program(tmp_path: Path) -> None:
    done = run(tmp_path, SMALL)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "user").read_text() == "33 44\n"
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as found:
        assert set(found.getnames()) == {
            ".",
            "a",
            "dev",
            "etc",
            "etc/hosts",
            "etc/passwd",
            "proc",
            "run",
            "sys",
            "tmp",
        } | {"etc/resolv.conf"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.json", "layer", "user"]


def test_the_program_refuses(tmp_path: Path) -> None:
    done = run(tmp_path, archive(file("../../etc/cron.d/x", b"evil")))
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"the image is refused: layer 1 of 1: b'../../etc/cron.d/x': a name with ..\n"
