"""A full disk, for real: a home on a small file system, in which no build begins."""

from pathlib import Path

import pytest

from mvmnix.builder.template import Template, template_tree, write_template
from mvmnix.output_files import OutputDirectory
from tests.conftest import Home

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root("only root mounts a file system of its own"),
]
SMALL = 'mount -t tmpfs -o size=SIZE,mode=700 tmpfs "$HOME" && THEN exec "$0" "$@"'


def mounted(size: str, then: str = "") -> tuple[str, ...]:
    """A command that runs another in a mount namespace where the home is so large; `then` comes before that."""
    return "unshare", "--mount", "/bin/sh", "-c", SMALL.replace("SIZE", size).replace("THEN", then)


def test_no_build_begins_without_room_for_the_image(home: Home, tmp_path: Path) -> None:
    write_template(template_tree(Template.MINIMAL, "fresh"), OutputDirectory(str(tmp_path / "fresh")))
    done = home.mvm("run", f"path:{tmp_path}/fresh", prefix=mounted("16m"))
    said = done.stderr.decode()
    assert (done.returncode, done.stdout) == (125, b""), said
    assert f"building the builder image needs 256 MiB in {home.state}, where 1" in said
    assert "mvm image prune" in said
    assert "evaluating" not in said, "nothing was begun"


def test_what_runs_out_of_room_says_where(home: Home) -> None:
    done = home.mvm("key", "create", "host", prefix=mounted("64k", 'head -c 1M /dev/zero 2>&- >"$HOME/full";'))
    said = done.stderr.decode()
    assert done.returncode == 125, said
    assert f"No space left on device: {home.state} has 0 MiB free" in said
