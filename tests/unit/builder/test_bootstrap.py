"""The first builder image, from a Nix that is none: what it is asked, and that it is not trusted about the output."""

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mvmnix.builder import bootstrap
from mvmnix.builder.flakes.build_request import BuildRequest
from mvmnix.builder.flakes.flake_source import source_of
from mvmnix.builder.host_build import Bootstrap
from mvmnix.builder.nix import nix_commands
from mvmnix.builder.nix.host_nix import HostNix
from mvmnix.builder.nix.store_choice import NixStore, StoreKind
from mvmnix.builder.session.build import BuildRecord
from mvmnix.builder.session.session import BuildInputs
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.formats import nar
from mvmnix.formats.lock import LockedFlake
from mvmnix.model import Source, StorePath
from mvmnix.system import own_flake
from mvmnix.system.private_dirs import Directory
from mvmnix.system.process import ProcessError
from mvmnix.system.store import Store
from tests.derivations import exported, guest
from tests.descriptors import until_the_end
from tests.fakes import Progress, files_of
from tests.unit.provenance.world import DEB, World, new_world

FLAKE = source_of(nar.Dir({b"flake.nix": nar.File.of(b"{}")}), uri="path:mvmnix", commit=None, directory="")

DERIVATION, DERIVATIONS = guest(DEB)
OUTPUT = StorePath("1" * 32, "guest-builder")


@dataclass
class Host:
    """A directory of programs that answer as Nix does, and note how they were called."""

    path: Path
    world: World
    progress: Progress = field(default_factory=Progress)
    fetched: list[Source] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.output.mkdir(parents=True)
        (self.path / "bin").mkdir()
        for name, data in files_of(self.world).items():
            (self.output / name).write_bytes(data)
        self.answers = {
            "--version": b"nix (Nix) 2.26.3\n",
            "--restore": b"",
            "--add-fixed": str(FLAKE.store_path).encode() + b"\n",
            "--check-validity": b"",
            "eval": str(DERIVATION).encode(),
            "--requisites": "\n".join([*map(str, DERIVATIONS), "/nix/store/x-source"]).encode(),
            "--export": exported(DERIVATIONS),
            "build": json.dumps([{"drvPath": str(DERIVATION), "outputs": {"out": str(OUTPUT)}}]).encode(),
        }
        self.store, self.images = (
            Store(until_the_end(Directory.create(str(self.path / name)))) for name in ("sources", "images")
        )

    @property
    def nix(self) -> HostNix:
        store = NixStore(StoreKind.OWN, "there is no other", f"{self.path}/nix-root")
        return HostNix(f"{self.path}/bin/nix", f"{self.path}/bin/nix-store", store)

    @property
    def output(self) -> Path:
        """Where what was built lies: not at the path that it is called by."""
        return self.path / f"nix-root{OUTPUT}"

    def install(self) -> None:
        for name, data in self.answers.items():
            (self.path / f"answer{name}").write_bytes(data)
        cases = "\n".join(f"  *' {name} '*) cat {self.path}/answer{name} ;;" for name in self.answers)
        script = f"""#!/bin/sh
printf '%s\\n' "$(basename "$0") $*" >>{self.path}/calls
case " $* " in *' --restore '*) cat >{self.path}/tree ;; esac
case " $* " in
{cases}
  *) echo "error: what?" >&2; exit 1 ;;
esac
"""
        for name in ("nix", "nix-store"):
            (self.path / "bin" / name).write_text(script)
            (self.path / "bin" / name).chmod(0o755)

    def fetch(self, sources: Iterable[Source]) -> None:
        self.fetched += sources

    def build(self) -> BuildRecord:
        self.install()
        return Bootstrap(
            BuildRequest(FLAKE, LockedFlake(None), "builder"),
            host=self.nix,
            store=self.store,
            images=self.images,
            fetch=self.fetch,
            progress=self.progress,
        ).run()

    def refused(self) -> MvmnixError:
        with pytest.raises(MvmnixError) as error:
            self.build()
        assert not list((self.path / "images").iterdir())
        return error.value


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "world").mkdir()
    return Host(tmp_path, new_world(tmp_path / "world"))


def test_what_is_built_and_recorded(host: Host) -> None:
    record = host.build()
    assert record.image == host.world.image
    assert (record.derivation, record.given, record.nix) == (DERIVATION, BuildInputs((DEB,)), "2.26.3")
    assert host.fetched == [DEB]
    assert (host.path / "tree").read_bytes() == FLAKE.archive
    assert host.progress.steps == ["evaluating the builder", "fetching sources", "building the builder", "receiving"]
    assert len(list((host.path / "images").iterdir())) == 4


def test_what_nix_is_asked(host: Host) -> None:
    host.build()
    calls = (host.path / "calls").read_text().splitlines()
    called = str(host.path / "bin/nix")
    for argv in (
        nix_commands.host_evaluate(called, FLAKE.store_path, FLAKE.nar, "builder"),
        nix_commands.host_build(called, DERIVATION),
    ):
        assert " ".join(("nix", *host.nix.store.options, *argv[1:])) in calls
    for argv in (
        nix_commands.host_requisites("", DERIVATION),
        nix_commands.host_export("", DERIVATIONS),
    ):
        assert " ".join(("nix-store", *host.nix.store.options, *argv[1:])) in calls
    assert all(" ".join(("", *host.nix.store.options, "")) in call for call in calls), "a call named no store"


def test_a_nix_that_puts_the_tree_elsewhere(host: Host) -> None:
    host.answers["--add-fixed"] = str(DEB.store_path).encode()
    assert str(FLAKE.store_path) in host.refused().message


@pytest.mark.parametrize("call", ["eval", "--requisites", "--export", "build", "--restore"])
def test_a_nix_that_fails_shows_its_last_words_and_the_command(host: Host, call: str) -> None:
    del host.answers[call]
    error = host.refused()
    assert isinstance(error, ProcessError)
    assert "error: what?" in error.message
    assert shlex.split(error.message.splitlines()[0].partition(": ")[2])[0].endswith(("nix", "nix-store"))


@pytest.mark.parametrize("call", ["eval", "build", "--add-fixed"])
@pytest.mark.parametrize("said", [b"", b"[]", b"{}", b"[{}]", b"/etc/passwd", b'[{"outputs": {"out": 1}}]'])
def test_a_nix_that_says_something_else(host: Host, call: str, said: bytes) -> None:
    host.answers[call] = said
    assert host.refused().exit_code == 125


def test_an_output_that_lacks_a_file(host: Host) -> None:
    (host.output / "kernel").unlink()
    assert "kernel" in host.refused().message


def test_an_output_that_is_no_image(host: Host) -> None:
    (host.output / "kernel").write_bytes(b"another")
    error = host.refused()
    assert isinstance(error, RefusedError)
    assert error.codes == (ReasonCode.ARTIFACT_MISMATCH,)


def test_an_output_that_leads_elsewhere(host: Host) -> None:
    """To a name of the store, which another store of this host may have too."""
    elsewhere = (host.output / "kernel").rename(host.path / "kernel")
    (host.output / "kernel").symlink_to(elsewhere)
    assert "kernel can't be read" in host.refused().message


def house(path: Path) -> Path:
    """A copy of what an installation has beside its Python package."""
    for name in ("modules/deep", "modules/__pycache__", "profiles/__pycache__", "mvmnix", "tests"):
        (path / name).mkdir(parents=True)
        (path / name / "file").write_text(name)
    (path / "modules/run").write_text("")
    (path / "modules/run").chmod(0o755)
    (path / "modules/link").symlink_to("run")
    (path / "flake.nix").write_text("{}")
    (path / "flake.lock").write_text('{"nodes": {"root": {}}, "root": "root", "version": 7}')
    return path


def test_the_request_is_the_flake_and_what_it_is_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_flake, "directory", lambda: house(tmp_path))
    request = bootstrap.request()
    wanted = nar.Dir(
        {
            b"flake.nix": nar.File.of(b"{}"),
            b"flake.lock": nar.File.of((tmp_path / "flake.lock").read_bytes()),
            b"modules": nar.Dir(
                {
                    b"deep": nar.Dir({b"file": nar.File.of(b"modules/deep")}),
                    b"run": nar.File.of(b"", executable=True),
                    b"link": nar.Symlink(b"run"),
                }
            ),
            b"profiles": nar.Dir({}),
        }
    )
    assert request.flake.archive == b"".join(nar.nar_of_tree(wanted))
    assert (request.flake.uri, request.flake.commit, request.flake.directory) == ("path:mvmnix", None, "")
    assert request.attribute == "builder"


def test_this_installation_s_own_flake_is_whole() -> None:
    assert bootstrap.request().lock.digest is not None


@pytest.mark.parametrize("name", ["flake.nix", "flake.lock", "profiles"])
def test_an_installation_without_its_flake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = house(tmp_path)
    monkeypatch.setattr(own_flake, "directory", lambda: path)
    (path / name).rename(path / "gone")
    with pytest.raises(MvmnixError, match=f"{name} is not there"):
        bootstrap.request()
    (path / name).symlink_to("gone")
    with pytest.raises(MvmnixError, match=f"{name} is not there"):
        bootstrap.request()
