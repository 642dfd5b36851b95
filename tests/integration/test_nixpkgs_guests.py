"""Guests of nixpkgs' packages through this machine's Nix, offline: a stand-in offers nixpkgs' interface."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from mvmnix.builder.bootstrap import FILES as BUILDER_FILES
from mvmnix.builder.nix import nix_commands
from mvmnix.builder.nix.host_nix import HostNix
from mvmnix.formats import lock, manifest
from mvmnix.model import StorePath
from mvmnix.system.roots import Roots
from tests.conftest import OFFLINE, Home, make_home, pins_in_nix
from tests.standin import EVERYTHING, STANDIN

pytestmark = pytest.mark.integration

FEATURES = ("--extra-experimental-features", "nix-command flakes")
ATTRIBUTE = "packages.x86_64-linux.default"


def named(output: Path) -> str:
    """The store path of what lies there."""
    return f"/nix/store/{output.name}"


@dataclass(frozen=True, slots=True)
class Place:
    """A copy of the repository whose pins this machine's Nix has."""

    tree: Path
    home: Home

    @property
    def host(self) -> HostNix:
        """The store that mvm uses."""
        return HostNix.find(Roots.from_environment(self.home.environment))

    @property
    def options(self) -> tuple[str, ...]:
        """What mvm's own calls have: the store that it uses, and no other source."""
        return (*self.host.store.options, *FEATURES, *nix_commands._ON_HOST)

    def run(self, *argv: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run Nix without a network."""
        command = (*OFFLINE, argv[0], *self.options, *argv[1:])
        return subprocess.run(command, env=self.home.environment, capture_output=True, text=True, check=False)

    def nix(self, *argv: str | Path) -> str:
        """What Nix prints. It must succeed."""
        done = self.run("nix", *argv)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def flake(self, directory: str = "") -> str:
        """A flake of the tree."""
        return f"git+file://{self.tree}?dir={directory}" if directory else f"git+file://{self.tree}"

    def guest(self, options: str) -> Sequence[str]:
        """What makes Nix take a guest with these options."""
        return (
            "--impure",
            "--expr",
            f"""
            let
              mvmnix = builtins.getFlake "{self.flake()}";
              nixpkgs = builtins.getFlake "{self.flake(STANDIN)}";
              pkgs = nixpkgs.legacyPackages.x86_64-linux;
            in
            mvmnix.lib.mkGuest {options}
            """,
        )

    def build(self, *what: str) -> Path:
        """Where the output of what is built lies."""
        return self.where(self.nix("build", "--no-link", "--print-out-paths", *what))

    def where(self, path: str) -> Path:
        """Where a store path lies, outside of any namespace of Nix's."""
        return self.host.store.on_host(StorePath.parse(path))

    def path(self, name: str) -> str:
        """The store path of one of the stand-in's packages, built."""
        return named(self.build(f"{self.flake(STANDIN)}#legacyPackages.x86_64-linux.{name}"))

    def closure(self, *names: str) -> set[str]:
        """The store paths of the stand-in's packages with all that they refer to."""
        wanted = [f"{self.flake(STANDIN)}#legacyPackages.x86_64-linux.{name}" for name in names]
        said: dict[str, object] = json.loads(self.nix("path-info", "--recursive", "--json", *wanted))
        return set(said)


@pytest.fixture(scope="module")
def place(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    home = make_home(tmp_path_factory.mktemp("nixpkgs") / "home")
    pins_in_nix(home, tree)
    return Place(tree, home)


#: How the example is evaluated where nixpkgs is out of reach.
def overridden(place: Place) -> tuple[str, ...]:
    standin = ("--override-input", "nixpkgs", place.flake(STANDIN), "--no-write-lock-file")
    return (*standin, f"{place.flake('examples/nixpkgs')}#{ATTRIBUTE}")


@pytest.fixture(scope="module")
def example(place: Place) -> Path:
    """examples/nixpkgs, built with the stand-in's `hello`."""
    return place.build(*overridden(place))


@pytest.fixture(scope="module")
def everything(place: Place) -> Path:
    """A guest with parts of its own, whose closure only its words name."""
    return place.build(*place.guest(EVERYTHING))


def extracted(image: Path, target: Path) -> Path:
    """The files of an image's root file system."""
    subprocess.run(["fsck.erofs", f"--extract={target}", image / "rootfs"], check=True, capture_output=True)
    return target


def archive(path: Path) -> bytes:
    return subprocess.run(["nix-store", "--dump", path], check=True, capture_output=True).stdout


def test_the_closure_is_in_the_image_and_nothing_else(place: Place, example: Path, tmp_path: Path) -> None:
    """Path by path and byte by byte: executables, links inside a package and links into another one."""
    root, closure = extracted(example, tmp_path / "root"), place.closure("hello")
    assert {path.split("-", 1)[1] for path in closure} == {"busybox", "greeting", "hello"}
    assert {f"/nix/store/{entry.name}" for entry in (root / "nix/store").iterdir()} == closure
    assert [entry.name for entry in (root / "nix").iterdir()] == ["store"]
    for path in closure:
        assert archive(root / path[1:]) == archive(place.where(path)), path
    programs = {entry.name: str(entry.readlink()) for entry in (root / "usr/bin").iterdir()}
    assert programs == {"hello": f"{place.path('hello')}/bin/hello"}
    others = {str(it.relative_to(root)) for top in ("etc", "usr", "var", "tmp") for it in (root / top).rglob("*")}
    etc = {"etc/group", "etc/hosts", "etc/passwd"}
    assert others == etc | {"usr/bin", "usr/bin/hello", "usr/lib", "usr/lib64", "usr/sbin", "var/tmp"}


def test_a_program_that_two_packages_have_is_the_first_ones(place: Place, tmp_path: Path) -> None:
    options = """{ inherit pkgs; packages = p: [ p.busybox p.pkgsStatic.busybox p.hello ]; }"""
    root = extracted(place.build(*place.guest(options)), tmp_path / "root")
    targets = {entry.name: str(entry.readlink()) for entry in (root / "usr/bin").iterdir()}
    first, second = place.path("busybox"), place.path("pkgsStatic.busybox")
    assert targets["sh"] == f"{first}/bin/sh"
    assert targets["awk"] == f"{second}/bin/awk"
    assert targets["hello"] == f"{place.path('hello')}/bin/hello"


def test_hard_links_of_the_store_are_files_of_the_image(place: Place, example: Path, tmp_path: Path) -> None:
    """A package that came as an archive has none, and makes the same image."""
    greeting = place.path("greeting")
    assert (place.where(greeting) / "share/greeting").stat().st_nlink > 1
    copy = extracted(example, tmp_path / "root") / greeting[1:] / "share"
    assert (copy / "greeting").read_bytes() == (copy / "the-same").read_bytes()
    assert (copy / "greeting").stat().st_nlink == 1


def test_same_inputs_same_bits(place: Place, example: Path, everything: Path) -> None:
    """The images and all that was made for them, built once more and compared."""
    for image in (example, everything):
        deriver = place.nix("path-info", "--derivation", named(image))
        made = place.run("nix-store", "--query", "--requisites", deriver).stdout.split()
        words = ("guest-", "rootfs", "vmlinux-of", "kernel-modules-of", "initrd", "passwd", "greeting")
        again = [it for it in made if it.endswith(".drv") and it.split("-", 1)[1].startswith(words)]
        assert len(again) > 5
        place.nix("build", "--no-link", "--rebuild", *(f"{it}^*" for it in again))


def test_its_manifest_names_pins_that_came_in_and_no_store_path(place: Place, example: Path, everything: Path) -> None:
    """With a kernel of nixpkgs there is none left to name."""
    image = manifest.parse((example / "manifest.json").read_bytes())
    assert image.workload.argv == ("/bin/hello",)
    assert [source.name.split("_")[0][:11] for source in image.sources] == ["linux-image"]
    shown = place.nix("derivation", "show", "--recursive", place.nix("path-info", "--derivation", named(example)))
    promised = {it["outputs"].get("out", {}).get("hash") for it in json.loads(shown).values()}
    assert {source.digest.hex for source in image.sources} <= promised
    image = manifest.parse((everything / "manifest.json").read_bytes())
    assert image.sources == ()


def test_what_the_words_of_a_guest_name_is_in_it(place: Place, everything: Path, tmp_path: Path) -> None:
    """Its command, environment, files and links; what they name need not be among its packages."""
    root = extracted(everything, tmp_path / "root")
    closure = place.closure("hello", "locales", "motd", "pkgsStatic.busybox")
    assert {f"/nix/store/{entry.name}" for entry in (root / "nix/store").iterdir()} == closure
    image = manifest.parse((everything / "manifest.json").read_bytes())
    assert image.workload.argv == (f"{place.path('hello')}/bin/hello",)
    assert image.workload.environment["LOCALES"] == f"{place.path('locales')}/share/locales"
    assert (root / "etc/motd").read_text() == f"see {place.path('motd')}/share/motd\n"
    assert str((root / "usr/bin/sh").readlink()) == f"{place.path('pkgsStatic.busybox')}/bin/sh"


def test_parts_of_nixpkgs_take_the_place_of_mvms_own(place: Place, everything: Path) -> None:
    """The stand-in makes them from the same pins, so the bits are the same; what was built by what says the graph."""
    own = place.build(*place.guest(EVERYTHING.replace("parts =", "parts = _: { }; #")))
    for name in ("kernel", "rootfs"):
        assert (own / name).read_bytes() == (everything / name).read_bytes(), name
    shown = json.loads(
        place.nix("derivation", "show", "--recursive", place.nix("path-info", "--derivation", named(everything)))
    )
    by_name = {one["name"]: one for one in shown.values()}
    busybox = f"{place.path('pkgsStatic.busybox')}/bin/busybox"
    for name in ("rootfs", "guest-everything", "guest-mentions", "vmlinux-of-linux", "initrd"):
        assert by_name[name]["builder"] == busybox, name
    for part in ("erofs-utils", "cryptsetup"):
        assert place.path(part) in by_name["rootfs"]["args"][-1], part
    modules = place.where(by_name["kernel-modules-of-linux"]["outputs"]["out"]["path"])
    loaded = (modules / "modules/order").read_text().split()
    assert len(set(loaded)) == len(loaded)
    for before, after in (("dm-mod", "dm-verity"), ("reed_solomon", "dm-verity"), ("libcrc32c", "erofs")):
        assert loaded.index(f"{before}.ko") < loaded.index(f"{after}.ko")


def test_a_kernel_of_nixpkgs_brings_its_modules_for_a_network(place: Place) -> None:
    """Each behind what it needs, and none twice; the files that the agent covers are there."""
    image = place.build(*place.guest(EVERYTHING.replace("inherit pkgs;", "inherit pkgs; network = true;", 1)))
    assert manifest.parse((image / "manifest.json").read_bytes()).network
    shown = place.nix("derivation", "show", "--recursive", place.nix("path-info", "--derivation", named(image)))
    by_name = {one["name"]: place.where(one["outputs"]["out"]["path"]) for one in json.loads(shown).values()}
    own, usual = by_name["network-modules-of-linux"] / "modules", by_name["kernel-modules-of-linux"] / "modules"
    loaded = (own / "network").read_text().split()
    assert loaded == ["failover.ko", "net_failover.ko", "virtio_net.ko"]
    assert {it.name for it in own.iterdir()} == {"network", *loaded}
    assert not {it.name for it in own.iterdir()} & {it.name for it in usual.iterdir()}


WRONG = {
    "{ inherit pkgs; }": ["'packages' is missing"],
    "{ pkgs = 7; packages = _: [ ]; }": ["'pkgs' must be null, or nixpkgs' packages"],
    '{ pkgs.stdenv.hostPlatform.system = "aarch64-linux"; packages = _: [ ]; }': ["'pkgs' must be null, or nixpkgs'"],
    '{ inherit pkgs; packages = p: [ p.hello "hello" ]; }': ["'packages' must give packages of 'pkgs'"],
    "{ inherit pkgs; packages = p: p.hello; }": ["'packages' must give a list"],
    "{ packages = _: [ pkgs.hello ]; }": ["'packages' must give packages of the embedded set; nixpkgs' take 'pkgs'"],
    """{
      inherit pkgs;
      name = "a b";
      packages = p: [ 1 ];
      without = p: [ p.hello ];
      parts = p: { shell = p.busybox; kernel = p.hello; busybox = "/bin"; };
    }""": [
        "'name' must be a name",
        "'packages' must give packages of 'pkgs'",
        "'without' is for the embedded set",
        "there is no part 'shell'",
        "part 'busybox' must be a package",
        "part 'kernel' must have an output 'modules'",
    ],
}


@pytest.mark.parametrize(("options", "problems"), WRONG.items(), ids=range(len(WRONG)))
def test_wrong_options_are_named_all_at_once(place: Place, options: str, problems: list[str]) -> None:
    arguments = place.guest(options)
    done = place.run("nix", "eval", *arguments, "--apply", "guest: guest.drvPath")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "mkGuest: " in last
    assert last.count(";") >= len(problems) - 1
    for problem in problems:
        assert problem in last


def test_the_kernel_that_lacks_a_module_is_named_at_the_build(place: Place) -> None:
    options = """{
      inherit pkgs;
      packages = _: [ ];
      parts = p: { kernel = p.linuxWithoutDisks; };
    }"""
    done = place.run("nix", "build", "--no-link", "-L", *place.guest(options))
    assert done.returncode == 1
    assert "this kernel has no virtio_blk" in done.stderr


def test_the_lock_of_the_example_names_the_nixpkgs_of_mvms_own(place: Place) -> None:
    """Preview: the example ran against a stand-in only."""
    own = lock.parse((place.tree / "flake.lock").read_bytes())
    locked = lock.parse((place.tree / "examples/nixpkgs/flake.lock").read_bytes())
    assert locked.locked == own.locked
    assert [node.name for node in locked.relative] == ["mvmnix"]
    place.nix("flake", "metadata", "--no-update-lock-file", place.flake("examples/nixpkgs"))


# The parts that guests are made of


@pytest.fixture(scope="module")
def parts(place: Place) -> dict[str, str]:
    """Each part's derivation, evaluated from the tree that the builder image is made of, and without a network."""
    alone = place.home.path / "alone"
    alone.mkdir()
    for name in map(bytes.decode, BUILDER_FILES):
        source = place.tree / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, alone / name)
    asked = f"path:{alone}#legacyPackages.x86_64-linux.parts"
    found: dict[str, str] = json.loads(
        place.nix("eval", "--json", asked, "--apply", "builtins.mapAttrs (_: p: p.drvPath)")
    )
    return found


@pytest.mark.parametrize("name", ["hello", "python"])
def test_parts_are_the_same_in_a_guests_graph(place: Place, parts: dict[str, str], name: str) -> None:
    """A guest's graph is made of them, of pinned files, and of what is the guest's own."""
    derivation = place.nix("eval", "--raw", f"{place.flake(f'examples/{name}')}#{ATTRIBUTE}.drvPath")
    shown = json.loads(place.nix("derivation", "show", "--recursive", derivation))
    ours = {path for path, one in shown.items() if "hash" not in one["outputs"]["out"]}
    assert {one["name"] for path, one in shown.items() if path in ours - set(parts.values())} == {
        "rootfs",
        shown[derivation]["name"],
    }
    initrd = "initrd-network" if name == "python" else "initrd"
    assert {parts[it] for it in ("busybox-static", "agent", initrd, "vmlinux", "kernel-modules")} <= ours


def test_each_pinned_package_is_a_part(place: Place, parts: dict[str, str]) -> None:
    pinned = json.loads((place.tree / "modules/debian/lock.json").read_text())["packages"]
    assert set(parts) == set(pinned) | {
        *("agent", "initrd", "initrd-network", "vmlinux", "kernel-modules", "network-modules")
    }
    assert len(set(parts.values())) == len(parts)


# Certificates

OURS = "-----BEGIN CERTIFICATE-----\nours\n-----END CERTIFICATE-----"
CERTIFICATES = {
    "the package's and its own": "packages = p: [ p.ca-certificates ]; without = p: [ p.openssl p.debconf ];",
    "its own": "packages = p: [ p.busybox-static ];",
    "its own, of nixpkgs": "inherit pkgs; packages = p: [ p.hello ];",
}


@pytest.mark.parametrize("options", CERTIFICATES.values(), ids=CERTIFICATES)
def test_certificates_of_a_guest_are_one_file(place: Place, tmp_path: Path, options: str) -> None:
    """Each of them, in the order of their paths, and each ends its line, as update-ca-certificates has them."""
    own = f'files."/usr/local/share/ca-certificates/b c.crt".text = {json.dumps(OURS)};'
    root = extracted(place.build(*place.guest(f"{{ {options} {own} }}")), tmp_path / "root")
    files = [path for path in (root / "usr").rglob("*.crt") if path.is_file()]
    texts = [path.read_bytes() for path in sorted(files, key=lambda path: bytes(path.relative_to(root)))]
    bundle = b"".join(text if text.endswith(b"\n") else text + b"\n" for text in texts)
    assert (root / "etc/ssl/certs/ca-certificates.crt").read_bytes() == bundle
    assert b"\nours\n" in bundle
    assert (bundle.count(b"BEGIN CERTIFICATE") > 100) == ("ca-certificates" in options)


def test_a_bundle_of_certificates_that_the_image_brings_stays(place: Place, tmp_path: Path) -> None:
    options = """{
      files."/usr/local/share/ca-certificates/a.crt".text = "other";
      links."/etc/ssl/certs/ca-certificates.crt" = "/etc/ours.pem";
    }"""
    root = extracted(place.build(*place.guest(options)), tmp_path / "root")
    assert str((root / "etc/ssl/certs/ca-certificates.crt").readlink()) == "/etc/ours.pem"
