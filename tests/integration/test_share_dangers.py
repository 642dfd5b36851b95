"""What a share is, by whatever path it is reached: real mounts, each in a mount namespace of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.repository import ROOT

pytestmark = pytest.mark.integration
#: Says which words a share of argv[1] wants, with the acknowledged ones in argv[2]; argv[3:] are mvm's own directories.
PROGRAM = """
import json, sys
from mvmnix.errors import RefusedError
from mvmnix.launch.shares.risk_checks import refuse_dangers
from mvmnix.launch.shares.opening import open_directory
from mvmnix.plan.share import Danger, Share

share = Share(sys.argv[1], "/data", acknowledged=tuple(map(Danger, filter(None, sys.argv[2].split(",")))))
try:
    refuse_dangers(share, open_directory(share.host), sys.argv[3:])
except RefusedError as refused:
    print(json.dumps([reason.hint.rpartition("acknowledge=")[2] for reason in refused.reasons]))
else:
    print("[]")
"""
Mount = tuple[str, ...]


class Host:
    """Directories of a host: a home with secrets, mvm's own, a place to mount on, and one that is shared."""

    def __init__(self, base: Path) -> None:
        self.base = base.resolve()
        for name in ("homes/me/.ssh/deep", "homes/me/.config/gh", "homes/me/project", "state/machines", "x"):
            (self.base / name).mkdir(parents=True)
        for name in ("share/in/it", "backup/.ssh", "plain/a", "daemon"):
            (self.base / name).mkdir(parents=True)
        (self.base / "homes/me/.netrc").write_text("machine example.test password secret")
        (self.base / "share/file").touch()

    def words(self, shared: str, *mounts: Mount, acknowledged: str = "") -> set[str]:
        """The words that a share wants, after `mount` ran with each of these arguments."""
        script = "".join(f"mount {' '.join(arguments)}\n" for arguments in mounts) + 'exec "$@"'
        argv = ["unshare", "--map-root-user", "--mount", "--propagation", "private", "sh", "-euc", script, "sh"]
        argv += [sys.executable, "-c", PROGRAM, str((self.base / shared).resolve()), acknowledged]
        environment = {"HOME": str(self.base / "homes/me"), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [*argv, str(self.base / "state")], cwd=self.base, env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return set(json.loads(done.stdout))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def bind(source: str, target: str) -> Mount:
    return ("--bind", source, target)


#: What is shared, after which mounts, and the words that it then wants.
ROWS: Sequence[tuple[str, tuple[Mount, ...], set[str]]] = (
    ("share", (), set()),
    ("x", (bind("plain", "x"),), set()),
    ("share", (bind("plain", "share/in"),), {"mounts"}),
    ("share", (("-t", "tmpfs", "tmpfs", "share/in"),), {"mounts"}),
    # the share is a mount of what is dangerous, of what is in it, or of what holds it
    ("x", (bind("homes/me/.ssh", "x"),), {"credentials"}),
    ("x", (bind("homes/me/.ssh/deep", "x"),), {"credentials"}),
    ("x/deep", (bind("homes/me/.ssh", "x"),), {"credentials"}),
    ("x", (bind("homes/me/.config/gh", "x"),), {"credentials"}),
    ("x", (bind("homes/me/.config", "x"),), {"credentials"}),
    ("x", (bind("backup/.ssh", "x"),), {"credentials"}),
    ("x", (bind("homes/me", "x"),), {"home-directory", "credentials"}),
    ("x", (bind("homes", "x"),), {"home-directory", "credentials"}),
    ("x", (bind("homes/me/project", "x"),), set()),
    ("x", (bind("state", "x"),), {"mvm-state"}),
    ("x", (bind("state/machines", "x"),), {"mvm-state"}),
    ("x", (bind("/etc", "x"),), {"system-directory"}),
    ("x", (bind("/etc/ssl", "x"),), {"system-directory"}),
    # it is a mount of a mount
    ("plain/a", (bind("homes/me/.ssh", "x"), bind("x/deep", "plain/a")), {"credentials"}),
    # what is dangerous is mounted in it
    ("share", (bind("homes/me/.ssh", "share/in/it"),), {"mounts", "credentials"}),
    ("share", (bind("homes/me/.ssh/deep", "share/in"),), {"mounts", "credentials"}),
    ("share", (bind("homes/me", "share/in"),), {"mounts", "home-directory", "credentials"}),
    ("share", (bind("homes/me/.netrc", "share/file"),), {"mounts", "credentials"}),
    ("share", (bind("backup/.ssh", "share/in"),), {"mounts", "credentials"}),
    ("share", (bind("state", "share/in"),), {"mounts", "mvm-state"}),
    ("share", (bind("/etc/ssl", "share/in"),), {"mounts", "system-directory"}),
)


@pytest.mark.parametrize(("shared", "mounts", "words"), ROWS)
def test_a_mount_of_it_is_it(host: Host, shared: str, mounts: tuple[Mount, ...], words: set[str]) -> None:
    assert host.words(shared, *mounts) == words


def test_the_root_by_another_name(host: Host) -> None:
    assert "root-directory" in host.words("x", ("--rbind", "/", "x"))
    assert "root-directory" in host.words("share", ("--rbind", "/", "share/in"))


@pytest.mark.parametrize("shared", ["x", "x/kernel"])
def test_a_file_system_of_the_kernels_mounted_again(host: Host, shared: str) -> None:
    assert "system-directory" in host.words(shared, ("--rbind", "/sys", "x"))


def test_consent_to_mounts_is_none_to_what_is_mounted(host: Host) -> None:
    mount = bind("homes/me/.ssh", "share/in")
    assert host.words("share", mount, acknowledged="mounts") == {"credentials"}
    assert host.words("share", mount, acknowledged="credentials") == {"mounts"}
    assert host.words("share", mount, acknowledged="credentials,mounts") == set()


def test_a_hard_link_of_a_secret_is_that_secret(host: Host) -> None:
    (host.base / "share/in/notes").hardlink_to(host.base / "homes/me/.netrc")
    assert host.words("share") == {"credentials"}


def test_a_socket_in_what_is_mounted_elsewhere(host: Host) -> None:
    listening = f"""
import socket, time
daemon = socket.socket(socket.AF_UNIX)
daemon.bind({str(host.base / "daemon/socket")!r})
daemon.listen()
print()
time.sleep(1000)
"""
    with subprocess.Popen([sys.executable, "-uc", listening], stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        daemon.stdout.readline()
        try:
            assert host.words("x", bind("daemon", "x")) == {"daemon-socket"}
            assert host.words("share", bind("daemon", "share/in")) == {"daemon-socket", "mounts"}
            assert host.words("plain") == set()
        finally:
            daemon.kill()
