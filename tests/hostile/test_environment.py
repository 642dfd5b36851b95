"""Each child of mvm in a working directory and an environment that are one trap: no trap goes off, and the child works.

A row is run as it is in earnest: what it needs is made before, then the directory, the home and the variables are those
of traps.py, then the child runs. Rows are named by their place in docs/reference/processes.md.
"""

import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

from mvmnix.api.frontend import SilentProgress
from mvmnix.audit.anchors import CommandAnchor, GitAnchor
from mvmnix.builder.bootstrap import ATTRIBUTE, request
from mvmnix.builder.fetch.allowlist import Allowlist
from mvmnix.builder.fetch.https import Downloader
from mvmnix.builder.fetch.parsing import expand
from mvmnix.builder.fetch.unpack import Checkout, fetchzip, unpacked_archive, unpacked_commit
from mvmnix.builder.fetch.worker.packets import Compression
from mvmnix.builder.flakes.git import read_work_tree, tracked_files
from mvmnix.builder.nix import nix_commands
from mvmnix.builder.nix.host_nix import HostNix
from mvmnix.builder.nix.host_store import add_to_nix
from mvmnix.builder.nix.store_choice import NixStore, StoreKind
from mvmnix.builder.pins import configured, debian, locks, pypi, seed
from mvmnix.builder.pins.locks import parse_debian, parse_python
from mvmnix.builder.pins.sources import fetch_sources
from mvmnix.builder.reproduce import file_differences
from mvmnix.builder.reproduce.comparison import Difference
from mvmnix.cli.commands import verify_step
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError
from mvmnix.formats import nar
from mvmnix.launch.secrets.resolve import resolve_secrets
from mvmnix.launch.shares import image, server
from mvmnix.model import Artifact, HashMode, Source, User
from mvmnix.network.host.setup import MachineNetwork
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind
from mvmnix.plan.network import Network, parse_rules
from mvmnix.plan.secret_reference import SecretReference, SecretTarget
from mvmnix.provenance.identity import sigstore
from mvmnix.sandbox.bubblewrap import BUBBLEWRAP
from mvmnix.sandbox.helper import Bounds, Sandbox
from mvmnix.sandbox.subordinate_ids import NEWGIDMAP, NEWUIDMAP, SubordinateIds
from mvmnix.sandbox.trusted_executables import Candidates, locate
from mvmnix.sandbox.uid_pool import UidPool
from mvmnix.system.loop import Loop
from mvmnix.system.private_dirs import Directory
from mvmnix.system.roots import Roots
from mvmnix.system.store import Store
from mvmnix.vmm.confinement import Service
from mvmnix.vmm.jail import delegated_scope
from mvmnix.vmm.jail.jail import BubblewrapJail
from mvmnix.vmm.jail.root import libraries
from mvmnix.vmm.port import Acceleration, Invocation, LaunchSpec
from mvmnix.vmm.process import JailedProcess
from mvmnix.vmm.qemu import Qemu
from tests.fakes import Repository
from tests.git_server import serve
from tests.hostile import traps
from tests.hostile.own_programs import launched, template_made
from tests.hostile.traps import Traps
from tests.integration.container_house import Containers, world_of
from tests.integration.container_house import image as probe_image
from tests.integration.misbehaving import Authority, Server
from tests.patience import EVENT_PATIENCE
from tests.repository import ROOT
from tests.support.programs import trusted
from tests.unit import spawns
from tests.unit.audit.world import KEY, checkpoint
from tests.unit.builder.pins.small_index import deb
from tests.unit.network.processes import process_ids

pytestmark = pytest.mark.integration

#: What a row does once the traps are set.
type Act = Callable[[], object]
type Row = Callable[[Path, Traps], AbstractContextManager[Act]]

SPEC: Final = LaunchSpec(0, 0, None, 0, 0, 0, 1, 64, "", Acceleration.TCG, 1)


def store(path: Path) -> Store:
    return Store(Directory.create(str(path)))


def jail(path: Path) -> BubblewrapJail:
    leases, cache = (Directory.create(str(path / name)) for name in ("cells", "cache"))
    return BubblewrapJail(UidPool(leases), cache)


def plain(act: Callable[[Path], object]) -> Row:
    """A row that needs nothing but a directory."""

    @contextmanager
    def row(path: Path, _: Traps) -> Iterator[Act]:
        yield lambda: act(path)

    return row


@contextmanager
def repository(path: Path, set_: Traps) -> Iterator[Act]:
    """A clone whose own configuration, hooks and attributes are traps too."""
    made = Repository.make(path / "repository", {"a": "x", ".gitattributes": "* filter=trap diff=trap\n"})
    with (made.path / ".git/config").open("a") as file:
        file.write(set_.git_config("repository"))
    for hook in set_.hooks().iterdir():
        (made.path / ".git/hooks").mkdir(exist_ok=True)
        (made.path / ".git/hooks" / hook.name).symlink_to(hook)
    made.write("a", "y")

    def act() -> None:
        work = read_work_tree(made.path, 1 << 20)
        assert work.changes == ("a",)
        assert set(work.tree.entries) == {b"a", b".gitattributes", b"flake.nix"}
        assert len(tracked_files(made.path)[1]) == 3

    yield act


@contextmanager
def git_anchor(path: Path, set_: Traps) -> Iterator[Act]:
    subprocess.run(["git", "init", "-q", "--bare", str(path / "kept.git")], check=True)
    with (path / "kept.git/config").open("a") as file:
        file.write(set_.git_config("anchor"))
    anchor = GitAnchor("w", True, str(path / "kept.git"), "b", 60)
    yield lambda: anchor.take(checkpoint(1), KEY)


@contextmanager
def archived(path: Path, _: Traps) -> Iterator[Act]:
    (path / "tree").mkdir()
    (path / "tree/file").write_text("x")
    subprocess.run(["tar", "-C", path, "-czf", path / "archive.tar.gz", "tree"], check=True)

    def act() -> None:
        with unpacked_archive("x", path / "archive.tar.gz", Bounds()) as tree:
            assert b"".join(tree.archive()).startswith(b"\r\0\0\0\0\0\0\0nix-archive-1")
        with fetchzip(path / "archive.tar.gz", Bounds()) as file:
            assert file.read(21).endswith(b"nix-archive-1")

    yield act


@contextmanager
def cloned(path: Path, _: Traps) -> Iterator[Act]:
    """From a server of plain files, which starts nothing itself."""
    path.chmod(0o700)
    made = Repository.make(path / "source", {"a": "x"})
    bare = path / "repositories/r.git"
    subprocess.run(["git", "clone", "-q", "--bare", made.path, bare], check=True)
    subprocess.run(["git", "-C", bare, "update-server-info"], check=True)
    with serve(path / "repositories") as serving:
        url = Allowlist(frozenset(), frozenset({serving.origin})).admit(f"{serving.origin}/dumb/r.git")
        wanted = Checkout(url, made.git("rev-parse", "HEAD"), made.git("symbolic-ref", "HEAD"))

        def act() -> None:
            with unpacked_commit("x", wanted, Bounds()) as tree:
                assert tree.rev == wanted.rev

        yield act


@contextmanager
def compared(path: Path, set_: Traps) -> Iterator[Act]:
    """Two file systems; the host's diffoscope is a script here, since few machines have one."""
    images = store(path / "images")
    artifacts = []
    for number in (1, 2):
        (path / f"tree{number}").mkdir()
        (path / f"tree{number}/file").write_text(str(number))
        subprocess.run(["mkfs.erofs", "--quiet", path / f"image{number}", path / f"tree{number}"], check=True)
        data = (path / f"image{number}").read_bytes() + bytes(8192)
        artifacts.append(Artifact("rootfs", Digest.of(data), len(data)))
        images.put([data], artifacts[-1].digest)
    program = path / "diffoscope"
    program.write_text('#!/bin/sh\nwhile [ $# -gt 3 ]; do shift; done\nid -u >"$1"\n')
    program.chmod(0o755)
    said: list[bytes] = []

    def act() -> None:
        with pytest.MonkeyPatch.context() as patch, trusted(program):
            patch.setattr(file_differences, "DIFFOSCOPE", replace(file_differences.DIFFOSCOPE, paths=(str(program),)))
            assert "/file: other contents" in file_differences.differences(Difference(*artifacts), images, said.append)
        assert said == [b"65534\n"]

    yield act


@contextmanager
def host_nix(path: Path, _: Traps) -> Iterator[Act]:
    data = b"mvmnix test: a file beside traps"
    source = Source("mirror://debian/pool/t/t_1_all.deb", "t_1_all.deb", Digest.of(data))
    archive = b"".join(nar.nar_of_tree(nar.Dir({b"file": nar.File.of(b"x")})))
    kept = store(path / "sources")
    kept.put([data], source.digest)
    flake = request().flake
    added: list[str] = []
    roots = Roots.from_environment({"HOME": str(path)})

    def use(host: HostNix, path: Path) -> None:
        path.mkdir()
        assert nix_commands.read_version(host.run(nix_commands.host_version(host.nix))) != "unknown"
        host.run(nix_commands.host_restore(host.nix_store, str(path / "restored")), input_=archive)
        paths = add_to_nix(host, [source], kept)
        assert host.store.on_host(source.store_path).read_bytes() == data
        added.extend(str(it) for it in paths if host.store.kind is not StoreKind.OWN)
        (path / "flake").mkdir()
        host.run(nix_commands.host_restore(host.nix_store, str(path / "flake/source")), input_=flake.archive)
        host.run(nix_commands.host_add(host.nix_store, HashMode.NAR, str(path / "flake/source")))
        said = host.run(nix_commands.host_evaluate(host.nix, flake.store_path, flake.nar, ATTRIBUTE))
        assert said.startswith(b"/nix/store/")

    def act() -> None:
        host = HostNix.find(roots)
        assert HostNix.look(roots) == host
        use(host, path / "shared")
        (path / "store").mkdir(mode=0o700)
        use(replace(host, store=NixStore(StoreKind.OWN, "so", str(path / "store"))), path / "own")

    yield act
    host = HostNix.find(roots)
    host.run([host.nix_store, "--delete", *added])


def smallest[T: (locks.DebianPin, locks.WheelPin)](pins: "dict[str, T]") -> T:
    return min(pins.values(), key=lambda pin: pin.size)


@contextmanager
def downloaded(path: Path, _: Traps) -> Iterator[Act]:
    """The smallest package and the smallest wheel of mvm's own locks, by the machine's configuration."""
    deb = parse_debian((ROOT / "modules/debian/lock.json").read_bytes())
    wheels = parse_python((ROOT / "modules/python/lock.json").read_bytes())
    sources = [smallest(dict(deb.packages)).source, smallest(dict(wheels.packages)).source]
    kept = store(path / "sources")

    def act() -> None:
        fetch_sources(sources, kept, SilentProgress())
        assert all(kept.has(source.digest) for source in sources)

    yield act


@contextmanager
def web(path: Path, _: Traps) -> Iterator[Act]:
    """A file by TLS, and a stream that is unpacked."""
    authority = Authority.create(path)
    with Server(authority.context("localhost")) as server:
        server.routes["/file"] = lambda it: it.answer(b"x")
        allowed = Allowlist(frozenset(), frozenset({server.origin}))

        def act() -> None:
            data = bytearray()
            with Downloader(allowed, environment={"SSL_CERT_FILE": str(authority.bundle)}) as downloader:
                downloader.get(f"{server.origin}/file", data.extend)
                packed = [lzma.compress(b"y")]
                data += b"".join(expand(downloader.lanes, Compression.XZ, packed, 1))
            assert data == b"xy"

        yield act


def seed_taken(_: Path) -> None:
    lock = parse_debian((ROOT / "modules/debian/lock.json").read_bytes())
    assert seed.executable(lock.seed_package, deb({f"./{lock.seed.path}": b"x"}), lock.seed.path) == b"x"


def apts_lists(_: Path) -> None:
    assert debian.apt_targets()
    assert debian.read_index("trixie", "amd64").package("base-files")


def npms_registry(_: Path) -> None:
    """Which a host without npm says it lacks."""
    try:
        locate(configured._NPM)
    except MvmnixError:
        with pytest.raises(MvmnixError, match="npm"):
            configured._usual()
    else:
        assert urlsplit(configured._usual()).scheme == "https"
        with pytest.raises(MvmnixError, match="npm found no file"):
            configured._npm_file_urls("http://127.0.0.1:9/")


def resolved(_: Path) -> None:
    assert [wheel.name for wheel in pypi.resolve(["mdurl"])] == ["mdurl"]


def confined(path: Path) -> None:
    """QEMU, in a sandbox."""
    path.chmod(0o700)
    qemu = Qemu.find()
    invocation = Invocation((qemu.executable, "--version"), ())
    ended(JailedProcess.spawn(invocation, (), jail(path).sandbox(qemu.files, SPEC, invocation)))


def networked(path: Path) -> None:
    """The child that makes a namespace, nft, and a gateway and a dialer until they serve."""
    path.chmod(0o700)
    loop, told = Loop(), list[NetworkEvent]()
    network = MachineNetwork(Network(parse_rules(["https://api.example.com"], [])), jail(path))
    try:
        network.start()
        network.watch(loop, told.append, lambda: None)
        while len(told) < 2 and process_ids(network):
            loop.turn(EVENT_PATIENCE)
        assert network.last_words == ()
    finally:
        network.close(loop)
        loop.close()
    assert {it.kind for it in told} == {NetworkEventKind.READY}


def ended(process: JailedProcess) -> None:
    try:
        process.wait()
        assert process.last_words == ()
    finally:
        process.close()
    assert process.status == 0


@contextmanager
def shared(path: Path, _: Traps) -> Iterator[Act]:
    path.chmod(0o700)
    (path / "shared").mkdir()
    (path / "shared/file").write_text("x")

    def service(program: Candidates) -> Service:
        fd = os.open(path / "shared", os.O_RDONLY | os.O_DIRECTORY)
        return Service(locate(program), fd, False, User(1000, 1000), 512 << 20)

    def act() -> None:
        built = jail(path)
        made = image.make_share_image(built, service(image.MKFS))
        made.release()
        serving = server.Server(built, service(server.VIRTIOFSD))
        try:
            serving.start()
            serving.entered()
            assert serving.pid is not None
            assert serving.last_words == ()
        finally:
            serving.close()

    yield act


@contextmanager
def asked(path: Path, _: Traps) -> Iterator[Act]:
    """busctl on a bus of its own, on which there is no systemd."""
    address = f"unix:path={path}/bus"
    argv = ["dbus-daemon", "--session", "--nofork", f"--address={address}", "--print-address"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as bus:
        assert bus.stdout is not None
        bus.stdout.readline()

        def act() -> None:
            call = delegated_scope.scope_command(locate(delegated_scope.BUSCTL), f"{path}/bus", "a.scope", 1)
            with pytest.raises(MvmnixError, match=r"org\.freedesktop\.systemd1"):
                delegated_scope._called(call)

        yield act
        bus.terminate()


def looked_up(path: Path) -> None:
    assert libraries(locate(BUBBLEWRAP), Directory.create(str(path / "cache")))


def mapped(_: Path) -> None:
    """The caller's own uid, which everybody may map."""
    ids = SubordinateIds(os.getuid(), os.getgid(), 1, locate(NEWUIDMAP), locate(NEWGIDMAP))
    os.close(ids.namespace_of(os.getuid()))


def secret(_: Path) -> None:
    """The user's own program: with the user's HOME, and with nothing else of what is set."""
    (found,) = resolve_secrets([SecretReference.parse("A=command:/usr/bin/env", SecretTarget.FILE)])
    names = {line.partition(b"=")[0].decode() for line in found.value.splitlines() if b"=" in line}
    assert names <= {"HOME", "PATH", "LC_ALL", "LANG", "TMPDIR", "XDG_RUNTIME_DIR"}


def command_anchor(_: Path) -> None:
    CommandAnchor("w", True, ("/bin/sh", "-c", "cat >/dev/null; id"), 60).take(checkpoint(1), KEY)


def sandboxed(_: Path) -> None:
    """A script that names programs without their paths, and Python, which looks for modules."""
    said = Sandbox().script("pwd; git --version; nix --version; python3 -c 'import json, pip' || true; env").stdout
    assert said.startswith(b"/work\ngit version")
    assert b"trap" not in said


@contextmanager
def workflow(path: Path, _: Traps) -> Iterator[Act]:
    """The child is mvm itself; it says that there is no bundle, which is as far as it needs to come."""

    def act() -> None:
        with pytest.MonkeyPatch.context() as patch:
            inputs = dict.fromkeys(verify_step.OPTIONS, verify_step.LEFT_OUT) | {"artifacts": "pip.py"}
            patch.setenv("INPUTS", json.dumps(inputs))
            patch.setenv("GITHUB_OUTPUT", str(path / "output"))
            assert verify_step.main() == 2
        assert (path / "output").read_text() == "verified=false\n"

    yield act


def token(_: Path) -> None:
    with pytest.raises(MvmnixError, match="there is no OIDC token"):
        sigstore._identity(None, interactive=False, config=None)  # type: ignore[arg-type]


@contextmanager
def container(path: Path, _: Traps) -> Iterator[Act]:
    path.chmod(0o700)
    containers = Containers(path / "host", world_of(path, probe_image(path)))

    def act() -> None:
        finished, said = containers.run("id")
        assert (finished.exit_code, said) == (0, "1000 1000 1\n")

    yield act


#: By the places of docs/reference/processes.md that are run in it.
ROWS: Final[dict[tuple[str, ...], Row]] = {
    ("mvmnix/builder/flakes/git.py:_sandbox",): repository,
    ("mvmnix/audit/git_branch.py:GitBranch.read",): git_anchor,
    ("mvmnix/audit/anchors.py:CommandAnchor.take",): plain(command_anchor),
    ("mvmnix/sandbox/helper.py:Sandbox._to_the_end",): plain(sandboxed),
    ("mvmnix/builder/fetch/unpack.py:unpacked_archive", "mvmnix/builder/fetch/unpack.py:fetchzip"): archived,
    ("mvmnix/builder/fetch/unpack.py:unpacked_commit",): cloned,
    (
        "mvmnix/builder/reproduce/file_differences.py:_listed",
        "mvmnix/builder/reproduce/file_differences.py:_diffoscope",
    ): compared,
    (
        "mvmnix/builder/nix/host_nix.py:HostNix.run",
        "mvmnix/api/doctor.py:_nix_store",
        "mvmnix/api/pins.py:fetch_pins",
        "mvmnix/api/image_builder.py:ImageBuilder._new_builder",
    ): host_nix,
    (
        "mvmnix/builder/fetch/downloads.py:downloaded",
        "mvmnix/builder/pins/debian.py:AptMirror.command",
        "mvmnix/builder/pins/debian.py:read_apt_settings",
    ): downloaded,
    ("mvmnix/builder/fetch/lanes.py:_Worker._run", "mvmnix/builder/fetch/worker/serve.py:main"): web,
    ("mvmnix/builder/pins/debian.py:apt_targets", "mvmnix/builder/pins/debian.py:_unpacked"): plain(apts_lists),
    ("mvmnix/builder/pins/seed.py:executable",): plain(seed_taken),
    (
        "mvmnix/builder/pins/configured.py:_usual",
        "mvmnix/builder/pins/configured.py:_npm_file_urls",
    ): plain(npms_registry),
    ("mvmnix/builder/pins/pypi.py:PipIndexes._pip", "mvmnix/builder/pins/pip_settings.py:read"): plain(resolved),
    ("mvmnix/system/descriptors.py:made_by_child",): plain(mapped),
    (
        "mvmnix/vmm/process.py:JailedProcess.spawn",
        "mvmnix/launch/runtime/vm_process.py:Preparation._start",
        "mvmnix/api/doctor.py:_tried",
    ): plain(confined),
    (
        "mvmnix/network/host/namespace.py:Making.__init__",
        "mvmnix/network/host/namespace_setup.py:main",
        "mvmnix/network/host/setup.py:NetworkProcess.start",
    ): plain(networked),
    ("mvmnix/launch/shares/image.py:make_share_image", "mvmnix/launch/shares/server.py:Server.start"): shared,
    ("mvmnix/vmm/jail/root.py:_asked",): plain(looked_up),
    ("mvmnix/vmm/jail/delegated_scope.py:_called",): asked,
    ("mvmnix/launch/container/run.py:_spawned",): container,
    ("mvmnix/sandbox/subordinate_ids.py:SubordinateIds._map",): plain(mapped),
    ("mvmnix/launch/secrets/resolve.py:_command",): plain(secret),
    (
        "mvmnix/api/launchers.py:_spawn",
        "mvmnix/launcher/main.py:_serve_shared",
        "mvmnix/launcher/server.py:Server._fork_for",
    ): launched,
    ("mvmnix/api/unasked_templates.py:_start_maker",): template_made,
    ("mvmnix/cli/commands/verify_step.py:_verify",): workflow,
    ("mvmnix/provenance/identity/sigstore.py:_identity",): plain(token),
}
#: A place that starts no program: a library in this process, that asks the session's keyring.
NO_PROGRAM: Final = {"mvmnix/launch/secrets/resolve.py:_keyring"}


@pytest.fixture
def set_(tmp_path: Path) -> Iterator[Traps]:
    """Traps, where every uid of a sandbox could leave a mark."""
    yield traps.lay(tmp_path / "traps")


def test_every_child_is_run() -> None:
    run = [place for places in ROWS for place in places]
    assert sorted((*run, *NO_PROGRAM)) == sorted(spawns.sites())


@pytest.mark.parametrize("places", ROWS, ids=lambda places: places[0])
def test_no_trap_goes_off(places: tuple[str, ...], tmp_path: Path, set_: Traps) -> None:
    (tmp_path / "row").mkdir()
    with ExitStack() as stack:
        act = stack.enter_context(ROWS[places](tmp_path / "row", set_))
        assert set_.sprung() == []
        with traps.armed(set_):
            act()
        assert set_.sprung() == []


@pytest.mark.parametrize(
    ("argv", "marks"),
    [
        (["git", "--version"], {"program-git"}),
        (["./sh"], {"program-sh"}),
        (["/usr/bin/git", "-C", ".", "status"], {"library", "GIT_TRACE"}),
        (["/usr/bin/nix", "--version"], {"library"}),
        (["/bin/bash", "-c", "true"], {"shell"}),
        ([sys.executable, "-m", "pip"], {"library"}),
    ],
)
def test_a_careless_child_springs_them(argv: list[str], marks: set[str], set_: Traps) -> None:
    with traps.armed(set_):
        traps.careless(argv)
    assert marks <= set(set_.sprung())


@pytest.mark.parametrize(
    ("argv", "names", "mark"),
    [
        (["/usr/bin/git", "status"], ("GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_0", "GIT_CONFIG_VALUE_0"), "variable"),
        (["/usr/bin/git", "status"], (), "git-config-here"),
        (["/usr/bin/nix", "--version"], ("NIX_CONFIG",), "library"),
        (["/usr/bin/nix", "--version"], ("HOME",), "library"),
        (["/usr/bin/true"], ("LD_PRELOAD",), "library"),
        (["/usr/bin/true"], ("LD_AUDIT",), "library"),
        (["/usr/bin/git", "--version"], ("LD_LIBRARY_PATH",), "library"),
        ([sys.executable, "-m", "pip"], (), "module-pip"),
        ([sys.executable, "-P", "-c", "0"], ("PYTHONPATH",), "module-sitecustomize"),
        ([sys.executable, "-I", "-m", "pip", "list"], ("HOME",), "configured"),
        ([sys.executable, "-I", "-m", "pip", "list"], ("PIP_PYTHON",), "variable"),
    ],
)
def test_each_way_is_a_trap_by_itself(argv: list[str], names: tuple[str, ...], mark: str, set_: Traps) -> None:
    """A single variable, or the directory alone, in an environment that is otherwise clean."""
    hostile = traps.environment(set_)
    clean = {"PATH": "/usr/bin:/bin", "HOME": "/proc/nonexistent"}
    env = clean | {name: hostile[name] for name in names}
    subprocess.run(argv, env=env, cwd=set_.here, capture_output=True, check=False)
    assert mark in set_.sprung()
