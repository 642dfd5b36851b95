"""`mvm cp` as a user sees it: granted by the plan alone, hostile copies refused, what is not complete removed."""

import io
import tarfile
from pathlib import Path

import pytest

from tests.unit.cli.machines import kinds, launch_web, typed
from tests.unit.cli.station import Station


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A directory of the user's with nothing in it."""
    (tmp_path / "desk").mkdir()
    return tmp_path / "desk"


@pytest.fixture
def granted(settled: Station) -> Station:
    launch_web(settled, "--verb", "copy", verbs=["exec", "copy"])
    return settled


def test_out_of_a_machine(granted: Station, desk: Path) -> None:
    said = granted.mvm("cp", "web:/hello", str(desk))
    assert (said.code, said.out, said.err) == (0, "", "")
    assert (desk / "hello").read_bytes() == b"hello"
    assert (desk / "hello").stat().st_mode & 0o777 == 0o640
    said = granted.mvm("cp", "--no-clobber", "web:/hello", str(desk / "hello"))
    assert (said.code, "is there already" in said.err) == (2, True)
    assert kinds(granted).count("copy") == 1  # what is in the way was seen before the machine was asked
    assert granted.mvm("audit", "verify").code in {0, 3}


def test_a_file_replaces_a_file(granted: Station, desk: Path) -> None:
    """As with cp and podman cp; a link is never followed, and it and directories stay."""
    for name in ("mine", "other"):
        (desk / name).write_text("old")
    (desk / "link").symlink_to(desk / "other")
    (desk / "d").mkdir()
    assert granted.mvm("cp", "web:/hello", str(desk / "mine")).code == 0
    assert (desk / "mine").read_bytes() == b"hello"
    said = granted.mvm("cp", "web:/hello", str(desk / "link"))
    assert (said.code, "'link' is there already" in said.err, "--force" in said.err) == (2, True, True)
    assert granted.mvm("cp", "--force", "web:/hello", str(desk / "link")).code == 0
    assert not (desk / "link").is_symlink()
    assert (desk / "other").read_text() == "old"
    said = granted.mvm("cp", "--force", "--leave-out", "web:/tree", str(desk / "mine"))
    assert (said.code, "is there already" in said.err) == (2, True)
    assert (desk / "mine").read_bytes() == b"hello"
    said = granted.mvm("cp", "-n", "-f", "web:/hello", str(desk / "new"))
    assert (said.code, "exclude each other" in said.err) == (2, True)


def test_a_hostile_copy_leaves_nothing(granted: Station, desk: Path) -> None:
    for path in ("/evil", "/torn", "/tree"):
        said = granted.mvm("cp", f"web:{path}", str(desk / "to"))
        assert (said.code, "refused [copy-refused]" in said.err) == (126, True), said.err
        assert "\x1b" not in said.err
    said = granted.mvm("cp", "web:/nosuch", str(desk / "to"))
    assert (said.code, "/nosuch: \\u001b[2Jno such file" in said.err) == (1, True)
    assert list(desk.iterdir()) == []


def test_what_is_left_out_is_said(granted: Station, desk: Path) -> None:
    said = granted.mvm("cp", "--leave-out", "web:/tree", str(desk / "to"))
    assert said.code == 0
    words = "mvm: left out, as neither files nor directories: 1: link\\u001b[2J\\nmvm: all is well\n"
    assert said.err == words
    assert [path.name for path in (desk / "to").iterdir()] == ["f"]


def test_a_limit(granted: Station, desk: Path) -> None:
    (desk / "large").write_bytes(bytes((1 << 20) + 1))
    said = granted.mvm("cp", "--limit-mib", "1", str(desk / "large"), "web:/tmp")
    assert (said.code, "more than 1048576 bytes" in said.err) == (126, True)


def test_into_a_machine(granted: Station, desk: Path) -> None:
    (desk / "d").mkdir()
    (desk / "d/f").write_bytes(b"x" * 1_000_000)
    said = granted.mvm("cp", str(desk / "d"), "web:/tmp")
    assert (said.code, said.err) == (0, "")
    (desk / "d/link").symlink_to("f")
    said = granted.mvm("cp", str(desk / "d"), "web:/tmp")
    assert (said.code, "symbolic link" in said.err) == (126, True)
    assert granted.mvm("cp", "--leave-out", str(desk / "d"), "web:/tmp").code == 0
    said = granted.mvm("cp", str(desk / "d/link"), "web:/tmp")
    assert (said.code, "not followed" in said.err) == (2, True)
    assert granted.mvm("exec", "web", "true").code == 126, "the one verb is not the other"


def test_tar_streams(granted: Station) -> None:
    done = typed(granted, "cp", "--leave-out", "web:/tree", "-", stdin=b"")
    assert done.returncode == 0
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        assert [(it.name, it.isdir()) for it in archive] == [("tree", True), ("tree/f", False)]
    assert typed(granted, "cp", "-", "web:/tmp/new", stdin=done.stdout).returncode == 0
    assert typed(granted, "cp", "-", "web:/tmp/new", stdin=b"x" * 10240).returncode == 2


@pytest.mark.parametrize("posture", ["dev", "sealed"])
def test_what_the_plan_does_not_grant_is_refused(settled: Station, posture: str, desk: Path) -> None:
    launch_web(settled, posture=posture, verbs=["copy"] if posture == "dev" else [])
    (desk / "f").write_bytes(b"x")
    for words in (("web:/hello", str(desk / "to")), (str(desk / "f"), "web:/tmp")):
        said = settled.mvm("cp", *words)
        assert (said.code, "refused [verb-not-granted]" in said.err) == (126, True)
        assert kinds(settled)[-1] == "refusal"
    assert [path.name for path in desk.iterdir()] == ["f"]


def test_odd_arguments(granted: Station, desk: Path) -> None:
    for words in (("a", "b"), ("web:/a", "web:/b"), ("web:", "b"), ("", "web:/b"), ("nosuch:/a", str(desk / "b"))):
        assert granted.mvm("cp", *words).code == 2
    assert granted.mvm("cp", "web:/", str(desk)).code == 2, "it would have no name there"
    assert granted.mvm("cp", str(desk / "nosuch"), "web:/tmp").code == 2
