"""The flake through this machine's Nix, without a network: what it offers, and the hermetic mvm that it builds."""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from mvmnix import __version__
from mvmnix.builder.pins.pypi import requirements
from tests.conftest import make_home, pins_in_nix
from tests.repository import ROOT
from tests.throwaway_user import throwaway_user

pytestmark = [pytest.mark.integration, pytest.mark.root("it takes a /nix that may be written to")]

PYTHON = "Python 3.13."


@dataclass(frozen=True, slots=True)
class Place:
    """A copy of the repository, the whole environment in which it is used, and the user whom root's mvm becomes."""

    tree: Path
    environment: Mapping[str, str]
    user: str

    def run(self, *argv: str | Path, cwd: Path | None = None, **extra: str) -> "subprocess.CompletedProcess[str]":
        """Run a program without a network, to its end."""
        command = ["unshare", "--net", *map(str, argv)]
        environment = {**self.environment, **extra}
        return subprocess.run(
            command, cwd=cwd or self.tree, env=environment, capture_output=True, text=True, check=False
        )

    def mvm(
        self, package: Path, *words: str | Path, cwd: Path | None = None, **extra: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a packaged mvm as the user."""
        return self.run(package / "bin/mvm", "--user", self.user, *words, cwd=cwd, **extra)

    def nix(self, *argv: str | Path) -> str:
        """What Nix prints. It must succeed."""
        done = self.run("nix", *argv)
        assert done.returncode == 0, done.stderr
        return done.stdout


def documented_configuration() -> str:
    """The lines of nix.conf that docs/reference/nix.md asks for."""
    block = re.search(r"```ini\n(.*?)```", (ROOT / "docs/reference/nix.md").read_text(), re.DOTALL)
    assert block is not None
    return block[1]


@pytest.fixture(scope="module")
def place(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The pins are fetched, and Nix is configured as the documentation says and not otherwise."""
    home = make_home(tmp_path_factory.mktemp("flake") / "home")
    pins_in_nix(home, tree)
    (home.path / ".config/nix").mkdir(parents=True)
    (home.path / ".config/nix/nix.conf").write_text(documented_configuration())
    nix = shutil.which("nix")
    assert nix is not None
    with throwaway_user() as user:
        yield Place(tree, {"HOME": str(home.path), "PATH": f"/usr/bin:/bin:{Path(nix).parent}"}, user.pw_name)


@pytest.fixture(scope="module")
def package(place: Place) -> Path:
    """The hermetic mvm, built."""
    return Path(place.nix("build", "--no-link", "--print-out-paths", f"path:{place.tree}#mvm").strip())


@pytest.mark.parametrize("scheme", ["path:", "git+file://"])
def test_show_and_check_work_without_a_network(scheme: str, place: Place) -> None:
    reference = f"{scheme}{place.tree}"
    offered = json.loads(place.nix("flake", "show", "--json", reference))
    assert set(offered["packages"]["x86_64-linux"]) == {"builder", "default", "minimal", "mvm", "python"}
    assert set(offered["apps"]["x86_64-linux"]) == {"default", "mvm"}
    assert "mvm" in offered["checks"]["x86_64-linux"]
    assert "default" in offered["overlays"]
    place.nix("flake", "check", "--no-update-lock-file", reference)


def test_mvm_runs_by_nix_run_in_an_empty_environment(place: Place) -> None:
    assert place.nix("run", ".#mvm", "--", "--version") == f"mvm {__version__}\n"
    assert place.nix("run", ".", "--", "--version") == f"mvm {__version__}\n"


def test_doctor_names_the_programs_that_mvm_runs_and_not_those_of_the_path(
    place: Place, package: Path, tmp_path: Path
) -> None:
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\n")
    git.chmod(0o755)
    path = f"{tmp_path}:{place.environment['PATH']}"
    done = place.mvm(package, "doctor", "--json", cwd=Path("/"), PATH=path)
    assert done.stderr == ""
    said = {one["what"]: one["said"] for one in json.loads(done.stdout)["result"]}
    assert said["mvm"].startswith(f"{__version__}, {PYTHON}")
    assert said["git"] == "/usr/bin/git"


def test_nothing_around_it_gets_in(place: Place, package: Path, tmp_path: Path) -> None:
    """Neither by Python's variables and directories, nor by the dynamic linker's."""
    user = tmp_path / ".local/lib/python3.13/site-packages"
    for directory in (tmp_path, user):
        directory.mkdir(parents=True, exist_ok=True)
        for module in ("click", "mvmnix", "os", "sitecustomize", "usercustomize"):
            (directory / f"{module}.py").write_text("raise SystemExit('a stranger')\n")
    (tmp_path / "libc.so.6").write_bytes(b"no library")
    variables = {
        **dict.fromkeys(("HOME", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH"), tmp_path),
        **dict.fromkeys(("OPENSSL_CONF", "PYTHONSTARTUP"), tmp_path / "click.py"),
        **dict.fromkeys(("LD_DEBUG", "PYTHONINSPECT", "PYTHONVERBOSE"), "1"),
        "LD_PRELOAD": tmp_path / "libc.so.6",
        "GLIBC_TUNABLES": "no tunables",
    }
    # set by env, as unshare would read them too
    done = place.run("env", *(f"{k}={v}" for k, v in variables.items()), package / "bin/mvm", "--version", cwd=tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == (f"mvm {__version__}\n", "", 0)


def test_it_leaves_no_trace_in_the_store(place: Place, package: Path) -> None:
    """Even as root, who could write there."""
    before = sorted(package.rglob("*"))
    place.mvm(package, "doctor")
    assert sorted(package.rglob("*")) == before
    place.nix("store", "verify", "--recursive", "--no-trust", package)


def test_arguments_arrive_as_they_are(place: Place, package: Path) -> None:
    for word in ("", "a b", "'\"$HOME*", "\\"):
        done = place.mvm(package, "pin", "--", word)
        assert f"No such command {word!r}" in done.stderr


def test_its_python_says_that_it_has_no_pip(place: Place, package: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="mvmnix-pins-") as where:
        Path(where).chmod(0o755)  # root's mvm is another user
        shutil.copytree(place.tree / "modules", Path(where, "modules"))
        shutil.copy(place.tree / "pyproject.toml", where)
        done = place.mvm(package, "pin", "python", "--lock-dir", f"{where}/modules", cwd=Path(where))
    assert done.returncode == 125
    assert "has no pip" in done.stderr
    assert ".venv/bin/mvm" in done.stderr


def test_same_inputs_same_bits(place: Place, package: Path) -> None:
    """The package and everything that it runs on, built once more and compared."""
    closure = place.nix("path-info", "--recursive", "--json", package)
    derivers = [one["deriver"] for one in json.loads(closure).values()]
    assert len(derivers) == 3
    place.nix("build", "--no-link", "--rebuild", *(f"{deriver}^*" for deriver in derivers))


def test_its_flake_is_the_one_beside_it(place: Place, package: Path) -> None:
    """So that the package and the checkout it was built from name, and reuse, the same builder image."""
    for name in ("flake.nix", "flake.lock", "modules", "profiles"):
        done = place.run("diff", "-r", "--no-dereference", package / "lib/mvm" / name, place.tree / name)
        assert (done.stdout, done.returncode) == ("", 0)


def test_a_missing_pin_names_the_command(place: Place, tmp_path: Path) -> None:
    tree = shutil.copytree(place.tree, tmp_path / "tree", ignore=shutil.ignore_patterns(".git"))
    lock = tree / "modules/python/lock.json"
    document = json.loads(lock.read_text())
    document["packages"]["click"]["sha256"] = "0" * 64
    lock.write_text(json.dumps(document))
    done = place.run("nix", "run", f"path:{tree}#mvm", "--", "--version")
    assert done.returncode == 1
    assert re.search(r"click-.*\.whl is pinned but not in the store\. Run: mvm pin fetch", done.stderr)


STAND_IN = """
let
  names = [
    "click" "cryptography" "cyclonedx-python-lib" "defusedxml" "detect-secrets" "dnspython" "google-re2" "h11" "idna"
    "jinja2" "jsonschema" "keyring" "packageurl-python" "packaging" "publicsuffixlist" "pyroute2" "pysocks"
    "rfc3161-client" "rich" "setuptools" "sigstore"
  ];
  libraries = builtins.listToAttrs (map (name: { inherit name; value = "library ${name}"; }) names);
  pkgs.python3Packages = libraries // {
    buildPythonApplication = given: given;
    python.sitePackages = "lib/python3.99/site-packages";
  };
  flake = builtins.getFlake "path:TREE";
  mvm = (flake.overlays.default pkgs { }).mvm;
in
{ inherit (mvm) version dependencies; project = "${mvm.src}"; install = mvm.postInstall; }
"""


def test_the_package_for_nixpkgs_asks_for_what_pyproject_does(place: Place) -> None:
    """Preview: a stand-in for nixpkgs shows what it is asked for, not that it builds."""
    expression = STAND_IN.replace("TREE", str(place.tree))
    asked = json.loads(place.nix("eval", "--impure", "--json", "--expr", expression))
    wanted = requirements((ROOT / "pyproject.toml").read_bytes())
    assert asked["dependencies"] == [f"library {re.split('[<>=!~]', one)[0]}" for one in wanted]
    assert asked["version"] == __version__
    project = {entry.name for entry in Path(asked["project"]).iterdir()}
    assert {"mvmnix", "pyproject.toml"} <= project <= {"mvmnix", "pyproject.toml", "README.md"}
    assert "lib/python3.99/site-packages" in asked["install"]


#: A /nix that belongs to a user, by a directory of the test's own; or root's, behind a nix-daemon that answers all.
OWNED = 'mount --bind "$1" /nix; shift; exec "$@"'
SERVED = """
mount --bind "$1" /nix; shift
NIX_CONFIG="build-users-group =
allowed-users = *" nix --extra-experimental-features nix-command daemon >&2 & daemon=$!
trap 'kill $daemon' EXIT
n=0; until [ -S /nix/var/nix/daemon-socket/socket ] || [ $n -ge 300 ]; do sleep 0.1; n=$((n + 1)); done
"$@"
"""
USER = "61003"


@pytest.mark.parametrize(("script", "owner"), [(OWNED, USER), (SERVED, "0")], ids=["their own /nix", "a nix-daemon"])
def test_a_plain_user_runs_it(place: Place, package: Path, script: str, owner: str) -> None:
    """Who has a daemon, or a /nix that they may write to; what was built is only copied there."""
    with tempfile.TemporaryDirectory(prefix="mvmnix-user-") as name:
        where = Path(name)
        place.nix("copy", "--no-check-sigs", "--to", f"local?root={where / 'root'}", package)
        shutil.copytree(place.tree, where / "tree", symlinks=True)
        shutil.copytree(place.environment["HOME"] + "/.config", where / "home/.config")
        for path, uid in (("tree", USER), ("home", USER), ("root/nix", owner)):
            subprocess.run(["chown", "-R", "--no-dereference", f"{uid}:{uid}", where / path], check=True)
        where.chmod(0o755)
        mounted = ("unshare", "--mount", "sh", "-euc", script, "sh", where / "root/nix")
        user = (
            "setpriv",
            "--reuid",
            str(USER),
            "--regid",
            str(USER),
            "--clear-groups",
            "env",
            f"HOME={where / 'home'}",
        )
        said = place.run(*mounted, *user, "nix", "run", ".#mvm", "--", "doctor", "--json", cwd=where / "tree")
        found = {each["what"]: each["said"] for each in json.loads(said.stdout)["result"]}
        assert found["mvm"].startswith(f"{__version__}, {PYTHON}"), said.stderr
        kind = "shared" if script is OWNED else "daemon"
        assert found["Nix store"].startswith(f"/nix/store ({kind}): "), found
