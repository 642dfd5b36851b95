"""A network device for a namespace of mvm's own, by the broker, where root alone may open /dev/net/tun."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mvmnix.privileges import ids, tun
from mvmnix.privileges.descriptors import made_by_child
from tests.conftest import TREE, make_home
from tests.patience import EVENT_PATIENCE

pytestmark = pytest.mark.root("it opens /dev/net/tun as root")
#: The file as it is where there is no udev, in a mount namespace of its own; then a program.
CLOSED = """
mknod -m 600 "$0/tun" c 10 200; mount --bind "$0/tun" /dev/net/tun; exec "$@"
"""
MAKES = """
import os
from mvmnix.launch.network.namespace import make_namespace
from mvmnix.privileges.give_up import give_up_root
give_up_root([], os.environ)
try:
    os.open("/dev/net/tun", os.O_RDWR)
except PermissionError:
    made = make_namespace([])
    print(os.readlink(f"/proc/self/fd/{made.tap}"), os.getuid())
"""


def as_uid(uid: int, users: int) -> Callable[[], int]:
    """Makes a network namespace as this uid, in a user namespace of its own if `users` says so."""

    def make() -> int:
        os.setgroups([])
        if users:
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        os.unshare(users | os.CLONE_NEWNET)
        return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    return make


def test_it_is_opened_in_a_namespace_of_its_maker_alone() -> None:
    with made_by_child(as_uid(ids.MVM, os.CLONE_NEWUSER), "namespace") as (_, namespace):
        os.close(tun.opened_in(namespace, ids.MVM))
        os.close(namespace)


@pytest.mark.parametrize(
    ("uid", "users"),
    [(1234, os.CLONE_NEWUSER), (0, os.CLONE_NEWUSER), (0, 0)],
    ids=["a user's", "root's", "the host's"],
)
def test_another_s_namespace_is_refused(uid: int, users: int) -> None:
    with made_by_child(as_uid(uid, users), "namespace") as (_, namespace):
        with pytest.raises(PermissionError, match="not a network namespace of mvm's"):
            tun.opened_in(namespace, ids.MVM)
        os.close(namespace)


def test_what_is_no_network_namespace_is_refused() -> None:
    for path in ("/proc/self/ns/user", "/dev/null", "/proc/self/ns/mnt"):
        fd = os.open(path, os.O_RDONLY)
        with pytest.raises(OSError, match=r"."):
            tun.opened_in(fd, 0)
        os.close(fd)


def test_root_s_mvm_makes_a_namespace_without_root_s_rights(tmp_path: Path) -> None:
    environment = make_home(tmp_path / "home").environment | {"PYTHONPATH": str(TREE)}
    program = (sys.executable, "-P", "-c", MAKES)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", CLOSED, tmp_path, *program],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=EVENT_PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"/dev/net/tun {ids.MVM}\n"), done.stderr
