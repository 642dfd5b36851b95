"""An image from a real registry as a guest, by digest all the way; and a hostile one, which becomes none."""

import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.builder.oci.reference import SCHEME
from mvmnix.builder.pins.locks import parse_debian
from mvmnix.builder.pins.seed import LIMIT, executable
from mvmnix.formats.manifest import parse
from mvmnix.provenance.slsa.provenance import MICROVM
from tests.conftest import World
from tests.pages import run_page
from tests.registry import DockerRegistry
from tests.repository import ROOT
from tests.support.claims import claim_in
from tests.unit.builder.oci.images import Pushed, name_of, pushed
from tests.unit.modules.oci.layers import archive, file, folder, hard_link, member, symlink
from tests.workbench import rooms_of

pytestmark = pytest.mark.vm

SCRIPT = """
id -u; id -g; pwd; cat /etc/greeting; echo "$A"; ls /old 2>&1
ls -ln /bin/su | cut -d ' ' -f 1; stat -c %h /bin/busybox; cat /secret 2>&1
echo kept > /data/file && cat /data/file
(echo x > /etc/greeting) 2>&1
exit 7
"""
SAID = """33
44
/srv
hello from a layer
@kernel.size@
ls: /old: No such file or directory
-rwxr-xr-x
2
cat: can't open '/secret': Permission denied
kept
sh: can't create /etc/greeting: Read-only file system
"""


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    with DockerRegistry(tmp_path / "registry") as running:
        yield running


def busybox(world: World) -> bytes:
    """The pinned one, out of its package."""
    lock = parse_debian((world.tree / "modules/debian/lock.json").read_bytes())
    package = lock.seed_package
    with rooms_of(world) as rooms:
        return executable(package, rooms.sources.read(package.digest, limit=LIMIT), lock.seed.path)


def application(world: World) -> Pushed:
    """An image of two layers with something of most kinds in them."""
    lower = archive(
        folder("bin"),
        file("bin/busybox", busybox(world), mode=0o755),
        *(symlink(f"bin/{name}", "busybox") for name in ("sh", "id", "cat", "ls", "cut", "stat")),
        hard_link("bin/su", "bin/busybox"),
        file("etc/passwd", b"root:x:0:0::/:/bin/sh\nweb:x:33:44::/:/bin/sh\n"),
        file("old", b"x"),
        file("secret", b"x", mode=0o600),
    )
    upper = archive(file(".wh.old"), file("etc/greeting", b"hello from a layer\n"), member("dev/sda", tarfile.BLKTYPE))
    return pushed(
        lower,
        upper,
        Entrypoint=["sh", "-c"],
        Cmd=[SCRIPT],
        Env=["PATH=/bin", "A=@kernel.size@"],
        User="web",
        WorkingDir="/srv",
        Volumes={"/data": {}},
    )


def test_an_image_runs(python_user: World, registry: DockerRegistry, tmp_path: Path) -> None:
    """Pulled once; it runs again when the registry is gone, and its evidence names all that came."""
    python_user.home.list_server(registry.origin)
    image = application(python_user)
    wanted = registry.push(image, index=image.index())
    exported = tmp_path / "image"
    pulled = python_user.home.mvm("image", "pull", str(wanted), "--json", "--out", exported)
    assert pulled.returncode == 0, pulled.stderr.decode()
    assert json.loads(pulled.stdout)["result"]["reference"] == str(wanted)
    registry.stop()
    ran = python_user.home.mvm("run", str(wanted))
    assert (ran.stdout.decode(), ran.returncode) == (SAID, 7), ran.stderr.decode()

    claim = claim_in((exported / "provenance.sigstore.json").read_bytes())
    assert (claim.builder_id, claim.root.uri) == (MICROVM, f"path:oci/{str(wanted).removeprefix(SCHEME)}")
    came = {source.uri for source in claim.sources if source.uri.startswith(SCHEME)}
    assert {uri.partition("@")[2] for uri in came} == {str(wanted.digest), name_of(image.document), *image.blobs}
    assert came <= {source.uri for source in parse((exported / "manifest.json").read_bytes()).sources}


def test_the_page_does_what_it_says(python_user: World, registry: DockerRegistry, tmp_path: Path) -> None:
    """Its registry and its digest are this test's."""
    python_user.home.list_server(registry.origin)
    greeting = file("etc/greeting", b"hello from a layer\n")
    layer = archive(folder("bin"), file("bin/busybox", busybox(python_user), mode=0o755), folder("etc"), greeting)
    wanted = registry.push(pushed(layer, Cmd=["/bin/busybox", "cat", "/etc/greeting"], User="33"), "team/app")
    page = (ROOT / "docs/how-to/use-oci-images.md").read_text()
    page, count = re.subn("oci://127.0.0.1:5000/team/app@sha256:[0-9a-f]{64}", str(wanted), page)
    assert count == 1
    (tmp_path / "empty").mkdir()
    run_page(page.replace("127.0.0.1:5000", registry.host), tmp_path / "empty", python_user.home.environment)


@pytest.mark.in_turn
def test_a_hostile_layer_makes_no_image(python_user: World, registry: DockerRegistry) -> None:
    python_user.home.list_server(registry.origin)
    wanted = registry.push(
        pushed(archive(symlink("a", "../../nix/store"), file("b", b"x"), hard_link("c", "a/.links"))), "team/hostile"
    )
    images = sorted((python_user.home.state / "images").iterdir())
    refused = python_user.home.mvm("image", "pull", str(wanted))
    assert refused.returncode == 125, refused.stdout.decode()
    assert b"the image is refused: layer 1 of 1: b'c': a hard link to b'a/.links'" in refused.stderr
    assert sorted((python_user.home.state / "images").iterdir()) == images
