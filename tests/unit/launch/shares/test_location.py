"""Where a file lies in its file system: by any path the same, and nothing where the kernel doesn't say."""

import ctypes
import os
from pathlib import Path

import pytest

from mvmnix.launch.shares.risk_checks import Location, Mounts

LINES = (
    r"21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw",
    r"22 21 8:1 /home/me/.ssh /srv/two\040words rw - ext4 /dev/sda1 rw",
    r"23 21 0:40 /a\134b /srv/tab\011 rw,relatime master:1 - tmpfs tmpfs rw",
)


def test_what_is_mounted_in_a_directory() -> None:
    beneath = {mount.point: mount.root for mount in Mounts(LINES).beneath("/srv")}
    assert beneath == {"/srv/two words": Location("8:1", "/home/me/.ssh"), "/srv/tab\t": Location("0:40", "/a\\b")}
    assert [mount.point for mount in Mounts(LINES).beneath("/srv/two words")] == [], "a mount is not beneath itself"


@pytest.mark.parametrize(
    ("one", "other", "is_within"),
    [
        (Location("8:1", "/a/b"), Location("8:1", "/a"), True),
        (Location("8:1", "/a"), Location("8:1", "/a"), True),
        (Location("8:1", "/a"), Location("8:1", "/a/b"), False),
        (Location("8:1", "/ab"), Location("8:1", "/a"), False),
        (Location("8:1", "/a/b"), Location("8:2", "/a"), False),
    ],
)
def test_within(one: Location, other: Location, is_within: bool) -> None:
    assert one.is_within(other) is is_within


def here() -> Mounts:
    return Mounts(Path("/proc/self/mountinfo").read_text().splitlines())


def test_a_path_and_a_descriptor_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    mounts, fd = here(), os.open(tmp_path, os.O_PATH)
    try:
        found = mounts.of_descriptor(fd)
    finally:
        os.close(fd)
    assert found is not None
    assert found == mounts.of_path(str(tmp_path)) == mounts.of_path(str(tmp_path / "link"))
    parent = mounts.of_path(str(tmp_path.parent))
    assert parent is not None
    assert found.is_within(parent)


def test_what_the_kernel_does_not_list_is_nowhere(tmp_path: Path) -> None:
    assert Mounts(()).of_path(str(tmp_path)) is None
    assert here().of_path(str(tmp_path / "missing")) is None
    read, write = os.pipe()
    assert here().of_descriptor(read) is None, "no file of a mount"
    os.close(read)
    os.close(write)
    assert here().of_descriptor(read) is None, "closed"


def test_a_mount_that_is_listed_elsewhere_says_nothing(tmp_path: Path) -> None:
    """As in another mount namespace, or beneath another root."""
    fd = os.open(tmp_path, os.O_PATH)
    (number,) = [
        line.split()[1]
        for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
        if line.startswith("mnt_id:")
    ]
    os.close(fd)
    assert Mounts([f"{number} 1 8:1 / / rw - ext4 x rw"]).of_path(str(tmp_path)) == Location("8:1", str(tmp_path))
    assert Mounts([f"{number} 1 8:1 / /elsewhere rw - ext4 x rw"]).of_path(str(tmp_path)) is None


def test_a_process_that_is_not_dumpable_may_look_at_itself(tmp_path: Path) -> None:
    """As mvm's are while they hold secrets (prctl(2), PR_SET_DUMPABLE), without root too."""
    tmp_path.chmod(0o755)
    child = os.fork()
    if child == 0:
        if os.geteuid() == 0:
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
        os._exit(0 if here().of_path("/usr") is not None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_shows_the_same_is_no_mount_of_interest() -> None:
    """A directory that is mounted over itself; another directory there is one."""
    lines = [
        "1 0 8:1 / / rw - ext4 /dev/a rw",
        "2 1 8:1 /srv/x /srv/x rw - ext4 /dev/a rw",
        "3 2 8:1 /srv/x/y /srv/x/y ro - ext4 /dev/a rw",
        "4 2 8:1 /srv/secret /srv/x/z rw - ext4 /dev/a rw",
        "5 4 8:1 /srv/secret/a /srv/x/z/a rw - ext4 /dev/a rw",
        "6 4 8:1 /srv/x/z/b /srv/x/z/b rw - ext4 /dev/a rw",
    ]
    assert [mount.point for mount in Mounts(lines).beneath("/srv")] == ["/srv/x/z", "/srv/x/z/b"]
