"""Pins through the real apt, pip and Nix of this machine."""

import dataclasses
import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from mvmnix.api.frontend import SilentProgress
from mvmnix.api.pins import lock_directory, own_lock_directory
from mvmnix.builder.nix.host_nix import HostNix
from mvmnix.builder.nix.host_store import add_to_nix
from mvmnix.builder.pins.debian import Apt, read_index
from mvmnix.builder.pins.index import version_key
from mvmnix.builder.pins.locks import DependencyDepth, parse_debian, parse_python
from mvmnix.builder.pins.make import add, lock_context
from mvmnix.builder.pins.pypi import resolve
from mvmnix.builder.pins.seed import seed_nar
from mvmnix.builder.pins.sources import fetch_all, fetch_sources
from mvmnix.builder.template import Template, template_tree, write_template
from mvmnix.cli.commands.pin import pin
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, UsageError
from mvmnix.formats.nar import nar_hash
from mvmnix.model import HashMode, Source
from mvmnix.system import process
from mvmnix.system.output_files import OutputDirectory
from mvmnix.system.private_dirs import Directory
from mvmnix.system.roots import Roots
from mvmnix.system.store import Store
from tests.repository import ROOT
from tests.unit.builder.pins.versions import ASCENDING

pytestmark = pytest.mark.integration


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Directory.create(str(tmp_path / "sources")) as directory:
        yield Store(directory)


def test_versions_are_ordered_as_dpkg_orders_them() -> None:
    for older, newer in itertools.pairwise(ASCENDING):
        subprocess.run(["dpkg", "--compare-versions", older, "lt", newer], check=True)
        assert version_key(older) < version_key(newer)


def test_busybox_is_pinned_and_fetched_through_apt(store: Store) -> None:
    lock = add(None, ["busybox-static"], DependencyDepth.CLOSURE, "", lock_context(store, SilentProgress()))
    assert list(lock.packages) == ["busybox-static"]
    assert store.has(lock.packages["busybox-static"].digest)
    fetch_all([lock], store, SilentProgress())
    binary = store.read(lock.seed.nar, limit=16 << 20)
    assert binary.startswith(b"\x0d\0\0\0\0\0\0\0nix-archive-1")
    assert parse_debian(lock.serialise()) == lock


def test_a_pin_that_the_mirror_does_not_serve_is_named(store: Store) -> None:
    gone = [
        Source(f"mirror://debian/pool/main/m/mvmnix/{name}_1.0-1_amd64.deb", name, Digest.of(name.encode()))
        for name in ("mvmnix-gone", "mvmnix-lost")
    ]
    with pytest.raises(MvmnixError) as error:
        fetch_sources(gone, store, SilentProgress())
    assert "mvmnix-gone 1.0-1 is no longer served" in error.value.message
    assert error.value.hint == "mvm pin update mvmnix-gone mvmnix-lost"


def test_other_bytes_from_the_mirror_are_refused(store: Store) -> None:
    stanza = read_index("trixie", "amd64").package("busybox-static")
    assert stanza is not None
    lie = Source(f"mirror://debian/{stanza.filename}", "busybox.deb", Digest.of(b"what was expected"))
    with pytest.raises(RefusedError) as refusal:
        fetch_sources([lie], store, SilentProgress())
    assert refusal.value.codes == (ReasonCode.SOURCE_MISMATCH,)
    assert not store.has(lie.digest)


def test_a_suite_that_apt_does_not_have_names_the_command() -> None:
    with pytest.raises(MvmnixError, match="no index of Debian's suite potato") as error:
        read_index("potato", "amd64")
    assert "apt-get update" in error.value.hint


def test_mirrors_are_known_without_apts_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "apt.conf"
    config.write_text(f'Dir::State::Lists "{tmp_path}";\n')
    known = [mirror.base for mirror in Apt().mirrors()]
    monkeypatch.setattr(process, "FIXED", {**process.FIXED, "APT_CONFIG": str(config)})
    assert {mirror.base for mirror in Apt().mirrors()} == set(known)
    with pytest.raises(MvmnixError, match="they have: none at all"):
        read_index("trixie", "amd64")


@pytest.fixture
def host(tmp_path: Path) -> HostNix:
    return HostNix.find(Roots.from_environment({"HOME": str(tmp_path)}))


@pytest.fixture
def nix_paths(host: HostNix) -> Iterator[list[str]]:
    """Paths that a test put into the Nix store; they are deleted afterwards."""
    paths: list[str] = []
    yield paths
    host.run([host.nix_store, "--delete", *paths])


def test_sources_become_valid_at_the_paths_we_compute(store: Store, host: HostNix, nix_paths: list[str]) -> None:
    data, program = b"mvmnix test: a flat file", b"#!/bin/sh\n# mvmnix test: a program\n"
    flat = Source("mirror://debian/pool/t/test_1~x+b1_all.deb", "test_1_x+b1_all.deb", Digest.of(data))
    nar = Source(
        "mirror://debian/pool/t/test_1~x+b1_all.deb#bin/t",
        "busybox",
        nar_hash(seed_nar("bin/t", program))[0],
        HashMode.NAR,
    )
    store.put(data, flat.digest)
    store.put(seed_nar("bin/t", program), nar.digest)
    added = add_to_nix(host, [flat, nar], store)
    nix_paths += map(str, added)
    assert set(added) == {flat.store_path, nar.store_path}
    assert host.store.on_host(flat.store_path).read_bytes() == data
    installed = host.store.on_host(nar.store_path) / "bin/t"
    assert installed.read_bytes() == program
    assert installed.stat().st_mode & 0o777 == 0o555
    assert add_to_nix(host, [flat, nar], store) == ()


def test_an_archive_that_nix_would_not_write_is_refused(store: Store, host: HostNix) -> None:
    archive = b"".join(seed_nar("bin/t", b"x")) + bytes(8)
    source = Source("mirror://debian/pool/t/t_1_all.deb#bin/t", "t", nar_hash([archive])[0], HashMode.NAR)
    store.put(archive, source.digest)
    with pytest.raises(RefusedError) as refusal:
        add_to_nix(host, [source], store)
    assert refusal.value.codes == (ReasonCode.SOURCE_UNUSABLE,)


def test_changed_files_never_reach_nix(store: Store, host: HostNix, tmp_path: Path) -> None:
    sources = []
    for data in (b"mvmnix test: one", b"mvmnix test: two"):
        sources.append(Source("mirror://debian/pool/t/t_1_all.deb", "t_1_all.deb", Digest.of(data)))
        store.put(data, sources[-1].digest)
        (tmp_path / "sources" / sources[-1].digest.hex).write_bytes(data + b"!")
    with pytest.raises(RefusedError) as refusal:
        add_to_nix(host, sources, store)
    assert refusal.value.codes == (ReasonCode.SOURCE_MISMATCH,) * 2


def test_the_commands_write_locks_that_stay_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    directory = ["--lock-dir", str(tmp_path / "modules")]
    path = tmp_path / "modules/debian/lock.json"
    run = CliRunner().invoke(pin, ["debian", "--no-depends", "--json", *directory, "musl-dev"], catch_exceptions=False)
    assert {change["name"] for change in json.loads(run.stdout)["result"]} == {"busybox-static", "musl-dev"}
    lock = parse_debian(path.read_bytes())
    assert lock.requested["musl-dev"] is DependencyDepth.ALONE
    first = path.stat()
    run = CliRunner().invoke(pin, ["update", *directory], catch_exceptions=False)
    assert (run.exit_code, run.stdout) == (0, "")
    assert "0 changes" in run.stderr
    assert path.stat().st_ino == first.st_ino


MODULES = ROOT / "modules"


def test_a_pinned_wheel_comes_through_pip_and_a_gone_one_is_named(store: Store) -> None:
    wheel = parse_python((MODULES / "python/lock.json").read_bytes()).packages["mdurl"].source
    gone = Source("mirror://pypi/mdurl-0.0.99-py3-none-any.whl", "mdurl.whl", Digest.of(b"gone"))
    with pytest.raises(MvmnixError) as error:
        fetch_sources([wheel, gone], store, SilentProgress())
    assert error.value.message.startswith("mdurl 0.0.99 is no longer served")
    assert error.value.hint == "mvm pin python"
    fetch_sources([wheel], store, SilentProgress())
    assert store.read(wheel.digest, limit=1 << 20).startswith(b"PK")


def test_nothing_of_the_working_directory_or_its_parent_environment_is_run(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout that brings modules and programs under the names that the helpers use."""
    witness = tmp_path / "was-run"
    checkout = tmp_path / "checkout"
    (checkout / "pip").mkdir(parents=True)
    module = f"open({str(witness)!r}, 'w').close()\n"
    for name in ("pip.py", "pip/__main__.py", "packaging.py", "sitecustomize.py", "usercustomize.py"):
        (checkout / name).write_text(module)
    for name in ("python", "python3", "apt-get", "apt-helper", "dpkg", "sh"):
        (checkout / name).write_text(f"#!/bin/sh\n: > {witness}\n")
        (checkout / name).chmod(0o755)
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("PATH", f".:{checkout}")
    monkeypatch.setenv("PYTHONPATH", str(checkout))
    monkeypatch.setenv("PYTHONSTARTUP", str(checkout / "pip.py"))
    wheel = parse_python((MODULES / "python/lock.json").read_bytes()).packages["mdurl"].source
    seed = parse_debian((MODULES / "debian/lock.json").read_bytes()).packages["busybox-static"].source
    fetch_sources([wheel, seed], store, SilentProgress())
    read_index("trixie", "amd64")
    assert [wheel.name for wheel in resolve(["mdurl"])] == ["mdurl"]
    assert not witness.exists()


def test_a_wheel_with_other_bytes_is_refused(store: Store) -> None:
    wheel = parse_python((MODULES / "python/lock.json").read_bytes()).packages["mdurl"].source
    with pytest.raises(RefusedError) as refusal:
        fetch_sources([dataclasses.replace(wheel, digest=Digest.of(b"expected"))], store, SilentProgress())
    assert refusal.value.codes == (ReasonCode.SOURCE_MISMATCH,)


def test_wheels_are_pinned_and_fetched_by_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tree = tmp_path / "tree"
    (tree / "modules/debian").mkdir(parents=True)
    (tree / "flake.nix").write_text("{ }")
    (tree / "modules/debian/lock.json").write_bytes((MODULES / "debian/lock.json").read_bytes())
    (tree / "pyproject.toml").write_text('[project]\ndependencies = ["markdown-it-py"]\n')
    (tree / "below").mkdir()
    monkeypatch.chdir(tree / "below")
    assert lock_directory() == tree / "modules"
    run = CliRunner().invoke(pin, ["python"], catch_exceptions=False)
    assert "mdurl: new" in run.stderr
    lock = parse_python((tree / "modules/python/lock.json").read_bytes())
    assert {name: one.depends for name, one in lock.packages.items()} == {"markdown-it-py": ("mdurl",), "mdurl": ()}
    assert all(one.size > 1000 for one in lock.packages.values())


def test_the_source_trees_locks_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert lock_directory() == MODULES
    (tmp_path / "flake.nix").write_text("{ }")
    assert lock_directory() == MODULES


def test_pins_belong_to_the_flake_that_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the installation make the builder image, which a guest's package has no business in."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    target, before = tmp_path / "fresh", (MODULES / "debian/lock.json").read_bytes()
    write_template(template_tree(Template.MINIMAL, "fresh"), OutputDirectory(str(target)))
    monkeypatch.chdir(target)
    assert lock_directory() == own_lock_directory() == target / "mvmnix/modules"
    run = CliRunner().invoke(pin, ["debian", "--no-depends", "bc"], catch_exceptions=False)
    assert "bc: new" in run.stderr, run.stderr
    assert "bc" in parse_debian((target / "mvmnix/modules/debian/lock.json").read_bytes()).packages
    assert (MODULES / "debian/lock.json").read_bytes() == before
    with pytest.raises(UsageError, match=r"pyproject\.toml is not there"):
        CliRunner().invoke(pin, ["python"], catch_exceptions=False)


@pytest.mark.parametrize("command", [["debian", "bc"], ["update"], ["python"]])
def test_without_pins_of_a_flake_none_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = (MODULES / "debian/lock.json").read_bytes()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for flake in (None, "{ }"):
        if flake is not None:
            (tmp_path / "work/flake.nix").write_text(flake)
        with pytest.raises(UsageError, match="in the flake around the working directory"):
            CliRunner().invoke(pin, command, catch_exceptions=False)
    assert (MODULES / "debian/lock.json").read_bytes() == before


def test_an_input_outside_of_the_tree_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flake from elsewhere says where its inputs are."""
    write_template(template_tree(Template.MINIMAL, "other"), OutputDirectory(str(tmp_path / "other")))
    mine = tmp_path / "top/mine"
    write_template(template_tree(Template.MINIMAL, "mine"), OutputDirectory(str(mine)))
    lock = (mine / "flake.lock").read_text()
    monkeypatch.chdir(mine)
    for path in ("../../other/mvmnix", "./link"):
        (mine / "flake.lock").write_text(lock.replace("./mvmnix", path))
        (mine / "link").unlink(missing_ok=True)
        (mine / "link").symlink_to("../../other/mvmnix")
        with pytest.raises(UsageError, match="in the flake around the working directory"):
            own_lock_directory()
    (tmp_path / ".git").mkdir()
    assert own_lock_directory() == tmp_path / "other/mvmnix/modules", "it is the same tree now"


@pytest.mark.parametrize("link", ["modules", "modules/debian", "modules/python"])
def test_a_link_out_of_the_tree_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str) -> None:
    write_template(template_tree(Template.MINIMAL, "other"), OutputDirectory(str(tmp_path / "other")))
    mine = tmp_path / "mine"
    write_template(template_tree(Template.MINIMAL, "mine"), OutputDirectory(str(mine)))
    monkeypatch.chdir(mine / "mvmnix")
    assert own_lock_directory() == mine / "mvmnix/modules"
    shutil.rmtree(mine / "mvmnix" / link)
    (mine / "mvmnix" / link).symlink_to(tmp_path / "other/mvmnix" / link)
    with pytest.raises(UsageError, match="in the flake around the working directory"):
        own_lock_directory()
