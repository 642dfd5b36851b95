"""Directories that the image lacks, made by the agent below a read-only directory in a mount namespace."""

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mvmnix.launch.agent.requests import Mount
from mvmnix.plan.share import ShareKind
from tests.integration.agent_house import OWN_ROOT, config
from tests.patience import EVENT_PATIENCE

pytestmark = pytest.mark.integration

#: `root` stands for the image: read-only, as its file system is.
MAKE = "mount --bind root root; mount -o remount,bind,ro,nodev root; {agent} --mount-points $PWD/root <config; echo $?"


@dataclass(frozen=True)
class Done:
    """The agent's exit status, what it complained of, and what the script printed after it."""

    status: int
    complaint: str
    shown: str


def make(agent: Path, where: Path, *places: str, data: str = "", show: str = "") -> Done:
    mounts = tuple(
        Mount(f"share{number}", place, ShareKind.EROFS, read_only=True) for number, place in enumerate(places)
    )
    guest = replace(config(), shares=mounts, data=data, writable=("/tmp",))
    (where / "config").write_bytes(guest.encode())
    script = f"{MAKE.format(agent=agent)}\ncd root; {show}"
    argv = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", OWN_ROOT, "sh", script]
    done = subprocess.run(argv, cwd=where, capture_output=True, text=True, timeout=EVENT_PATIENCE, check=False)
    assert done.stdout, done.stderr
    status, _, shown = done.stdout.partition("\n")
    return Done(int(status), done.stderr, shown)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("etc", "srv/there", "tmp", "usr/bin"):
        (tmp_path / "root" / name).mkdir(parents=True)
    (tmp_path / "root/etc/passwd").write_text("who\n")
    (tmp_path / "root/etc/passwd").chmod(0o600)
    (tmp_path / "root/bin").symlink_to("usr/bin")
    (tmp_path / "root/srv").chmod(0o751)
    return tmp_path / "root"


def test_what_is_there_is_left_alone(agent: Path, root: Path) -> None:
    done = make(
        agent,
        root.parent,
        "/srv/there",
        "/tmp/new/place",
        data="/etc",
        show="ls tmp; grep -c '^points ' /proc/self/mounts",
    )
    assert (done.status, done.shown) == (0, "0\n"), "and nothing is mounted"


def test_directories_are_made_in_a_root_that_looks_the_same(agent: Path, root: Path) -> None:
    """At the top, in a directory that is there, and below each other; two beside each other share what is covered."""
    show = "find . -path ./proc -prune -o -printf '%P %y %m %l\\n' | sort; cat etc/passwd"
    before = make(agent, root.parent, show=show).shown.splitlines()
    done = make(agent, root.parent, "/work", "/opt/a/b", "/srv/new", "/usr/bin/x/y", data="/data", show=show)
    assert done.status == 0, done.complaint
    added = set(done.shown.splitlines()) - set(before)
    made = ("data", "opt", "opt/a", "opt/a/b", "srv/new", "usr/bin/x", "usr/bin/x/y", "work")
    assert added == {f"{name} d 755 " for name in made}
    assert set(before) <= set(done.shown.splitlines())
    assert sorted(path.name for path in root.iterdir()) == ["bin", "etc", "srv", "tmp", "usr"], "the image is as it was"


@pytest.mark.parametrize("path", ["new", "data/new", "opt/new", "srv/new", "etc/new", "srv/made/new"])
def test_nothing_can_be_written_there(agent: Path, root: Path, path: str) -> None:
    """Not even by root; the agent's own directory is hidden."""
    show = f"mkdir {path}; ls -d /mount-points/*"
    done = make(agent, root.parent, "/opt/a", "/srv/made", data="/data", show=show)
    assert done.status == 0, done.complaint
    assert done.shown == ""
    assert "Read-only file system" in done.complaint


def test_mounts_of_a_covered_directory_stay(agent: Path, root: Path) -> None:
    """One that was made in it before the directory above was covered."""
    done = make(
        agent,
        root.parent,
        "/srv/made",
        "/top",
        show="ls -d srv/made srv/there top; cut -d ' ' -f 2,4 /proc/self/mounts",
    )
    assert done.shown.startswith("srv/made\nsrv/there\ntop\n")
    flags = [line.split()[1].split(",") for line in done.shown.splitlines() if "/root/" in line]
    assert flags
    assert all({"ro", "nodev"} <= set(each) for each in flags)


@pytest.mark.parametrize(
    ("place", "what"),
    [
        ("/etc/passwd", "file"),
        ("/etc/passwd/below", "file"),
        ("/bin", "symbolic link"),
        ("/bin/below", "symbolic link"),
    ],
)
@pytest.mark.parametrize("is_data", [False, True])
def test_what_is_in_the_way_has_a_name(agent: Path, root: Path, place: str, what: str, *, is_data: bool) -> None:
    done = make(agent, root.parent, data=place) if is_data else make(agent, root.parent, "/first", place)
    assert done.status == 2
    blocking = place.removesuffix("/below")
    assert f"{blocking} is a {what} of the image, and nothing is mounted there" in done.complaint


def test_a_directory_with_too_much_in_it_is_not_covered(agent: Path, root: Path) -> None:
    for number in range(4097):
        (root / f"srv/{number}").symlink_to("there")
    done = make(agent, root.parent, "/srv/new")
    assert done.status == 1
    assert "has more than 4096 entries" in done.complaint
