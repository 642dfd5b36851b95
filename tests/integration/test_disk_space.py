"""A full disk, for real: a home on a small file system, in which no build begins."""

import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.builder.template import Template, template_tree, write_template
from mvmnix.system.output_files import OutputDirectory
from tests.conftest import Home
from tests.throwaway_user import throwaway_user

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root("only root mounts a file system of its own"),
]
SMALL = 'mount -t tmpfs -o size=SIZE,mode=700,uid=UID,gid=UID tmpfs "HOME" && THEN exec "$0" "$@"'


@pytest.fixture
def user() -> Iterator[pwd.struct_passwd]:
    with throwaway_user() as it:
        yield it


@pytest.fixture
def home(user: pwd.struct_passwd) -> Home:
    """The user's whom root's mvm becomes."""
    return Home(Path(user.pw_dir), Path(user.pw_dir, ".cache"))


def mounted(user: pwd.struct_passwd, size: str, then: str = "") -> tuple[str, ...]:
    """A command that runs another in a mount namespace where the home is so large; `then` comes before that."""
    script = SMALL.replace("SIZE", size).replace("THEN", then).replace("UID", str(user.pw_uid))
    return "unshare", "--mount", "/bin/sh", "-c", script.replace("HOME", user.pw_dir)


def test_no_build_begins_without_room_for_the_image(user: pwd.struct_passwd, home: Home) -> None:
    with tempfile.TemporaryDirectory(prefix="mvmnix-fresh-") as place:
        Path(place).chmod(0o755)
        write_template(template_tree(Template.MINIMAL, "fresh"), OutputDirectory(f"{place}/fresh"))
        done = home.mvm("--user", user.pw_name, "run", f"path:{place}/fresh", prefix=mounted(user, "16m"))
    said = done.stderr.decode()
    assert (done.returncode, done.stdout) == (125, b""), said
    assert f"building the builder image needs 256 MiB in {home.state}, where 1" in said
    assert "mvm image prune" in said
    assert "evaluating" not in said, "nothing was begun"


def test_what_runs_out_of_room_says_where(user: pwd.struct_passwd, home: Home) -> None:
    full = mounted(user, "64k", 'head -c 1M /dev/zero 2>&- >"HOME/full";')
    done = home.mvm("--user", user.pw_name, "key", "create", "host", prefix=full)
    said = done.stderr.decode()
    assert done.returncode == 125, said
    assert f"No space left on device: {home.state} has 0 MiB free" in said
