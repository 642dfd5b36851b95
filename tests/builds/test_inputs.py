"""What a builder VM asks for while it works: lock nodes, fixed outputs, paths of caches, what evaluation imports.

A web server on the loopback has it all, and writes down what it was asked.
"""

import base64
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from mvmnix.builder.pins.locks import parse_debian
from mvmnix.config import CacheKey, CacheRule, Config, FetchRules
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.errors import ReasonCode as Code
from mvmnix.formats import lock
from mvmnix.formats.nar import Dir, File, nar_hash, nar_of_tree
from mvmnix.formats.strict import canonical
from mvmnix.model import HashMode, Source, StorePath
from mvmnix.provenance.policy.rules import SourceRule
from mvmnix.provenance.slsa.provenance import Provenance
from tests.conftest import World, copy_home
from tests.fakes import Repository
from tests.git_server import TreeServer, serve
from tests.integration.locking import HostNix, archive
from tests.support.claims import claim_in
from tests.unit.provenance.world import manifest_value, rootfs_of
from tests.workbench import Workbench

pytestmark = pytest.mark.vm

FLAKE = """
{
  inputs.words.url = "ORIGIN/words.tar.gz";
  inputs.notes = { url = "git+ORIGIN/git/notes.git?ref=main"; flake = false; };
  inputs.unused = { url = "ORIGIN/unused.tar.gz"; flake = false; };
  outputs = { self, words, notes, unused }:
    let
      system = "x86_64-linux";
      build = import ./build.nix { inherit system; lock = builtins.fromJSON (builtins.readFile ./pins.json); };
      tools = import ./tools.nix;
      image = name: { script, ... }@it:
        build.run (it // { inherit name; files = ./image; script = script + "\\ncp -r $files $out"; });
      flat = name: hash: build.pin { inherit hash; url = "ORIGIN/${name}"; };
      expression = name: source: build.run { inherit name source; script = "mkdir $out; cp $source $out/default.nix"; };
      imported = name: hash: import "${expression name (flat name hash)}/default.nix" { inherit flat expression; };
    in
    {
      packages.${system} = {
        everything = image "everything" {
          text = words.text + builtins.readFile "${notes}/note" + imported "first.nix" "FIRST";
          file = flat "file" "FILE";
          tree = build.pin { name = "tree"; url = "ORIGIN/tree.tar.gz"; mode = "recursive"; hash = "TREE"; };
          tool = tools.ours;
          script = ''
            [ "$text" = "a word, a note, and what was imported" ]
            [ "$(cat $file $tree/text)" = "a file and a tree" ]
            cat $tool >&2
          '';
        };
        words = image "words" { inherit (words) text; script = "true"; };
        wrong = image "wrong" { file = flat "file" "UNASKED"; script = "true"; };
        foreign = image "foreign" {
          unasked = flat "unasked" "UNASKED";
          foreign = build.pin { url = "https://sources.example/x"; hash = "UNASKED"; };
          script = "true";
        };
        import = image "import" { text = imported "second.nix" "SECOND"; script = "true"; };
        import-query = image "import-query" { text = imported "second.nix?x=y" "UNASKED"; script = "true"; };
        import-gone = image "import-gone" { text = imported "gone.nix" "UNASKED"; script = "true"; };
        unsigned = image "unsigned" { tool = tools.unsigned; script = "cat $tool >&2"; };
        ours = image "ours" { tool = tools.ours; script = "cat $tool >&2"; };
        swapped = image "swapped" { tool = tools.swapped; script = "cat $tool >&2"; };
        broken = image "broken" { tool = tools.unsigned-too; script = "echo my last words; exit 1"; };
      };
    };
}
"""
#: Derivations that can tell where they were built: the host has a file there that the builder VM has not.
TOOLS = """
let
  sh = name: script: derivation {
    inherit name;
    system = "x86_64-linux";
    builder = "/bin/sh";
    args = [ "-c" script ];
  };
  tool = name:
    let needed = sh "needed-by-${name}" "if [ -e /marker ]; then echo host > $out; else echo VM > $out; fi"; in
    sh name "read where < ${needed}; echo ${name} was built in the $where, see ${needed} > $out";
in
{ ours = tool "ours"; swapped = tool "swapped"; unsigned = tool "unsigned"; unsigned-too = tool "unsigned-too"; }
"""
PINNED = {"FILE": "file", "FIRST": "first.nix", "SECOND": "second.nix"}
FIRST = """{ flat, expression }: import "${expression "second.nix" (flat "second.nix" "SECOND")}/default.nix" { }"""
SECOND = """{ ... }: " and what was imported" """
TREE = Dir({b"text": File.of(b" and a tree")})
UNASKED = Digest.of(b"unasked")
KEY_NAME = "ours-1"


@dataclass(frozen=True, slots=True)
class Scene:
    """A user, a server, and a flake that is made of what the server has; `tools` are what its cache has, by name."""

    world: World
    server: TreeServer
    flake: Path
    key: CacheKey
    tools: Mapping[str, tuple[StorePath, StorePath]]

    @property
    def sources(self) -> Path:
        """Where mvm keeps what it fetched."""
        return Path(self.world.home.environment["XDG_CACHE_HOME"]) / "mvmnix/sources"

    @property
    def nodes(self) -> dict[str, lock.LockedNode]:
        """The nodes of flake.lock, by name."""
        return {node.name: node for node in lock.parse((self.flake / "flake.lock").read_bytes()).locked}

    @property
    def asked(self) -> set[str]:
        """What the server was asked for since it was last looked."""
        asked = {one.path.partition("?")[0] for one in self.server.asked}
        self.server.asked.clear()
        return asked

    def caches(self, *names: str) -> tuple[CacheRule, ...]:
        return tuple(CacheRule(f"{self.server.origin}/{name}", (self.key,)) for name in names)

    def pin(self, name: str, data: bytes) -> Source:
        return Source(f"{self.server.origin}/{name}", name, Digest.of(data))

    def pins(self) -> set[Source]:
        """What `everything` is made of, beside the trees of the lock."""
        tree = Source(f"{self.server.origin}/tree.tar.gz", "tree", nar_hash(nar_of_tree(TREE))[0], HashMode.NAR)
        files = {self.pin(name, self.server.files[f"/{name}"]) for name in ("file", "first.nix", "second.nix")}
        pinned = parse_debian((self.flake / "pins.json").read_bytes())
        return files | {tree} | {it for it in pinned.sources() if "#" in it.uri}


def put_cache(scene: Path, server: TreeServer, nix: HostNix, name: str, secret: bytes) -> tuple[StorePath, StorePath]:
    """Build one of the tools on the host, and serve it as a binary cache; returns it and what it needs."""
    (scene / "marker").touch()
    argv = (
        "build",
        "--no-link",
        "--print-out-paths",
        "--option",
        "sandbox",
        "true",
        "--file",
        str(scene / "flake/tools.nix"),
    )
    tool = nix(*argv, "--option", "extra-sandbox-paths", f"/marker={scene / 'marker'}", name).decode().strip()
    options = "compression=xz"
    if secret:
        (scene / "secret").write_bytes(secret)
        options += f"&secret-key={scene / 'secret'}"
    nix("copy", "--to", f"file://{scene / name}?{options}", tool)
    for path in (scene / name).rglob("*"):
        if path.is_file():
            server.files[f"/{path.relative_to(scene)}"] = path.read_bytes()
    needed = set(nix("path-info", "--recursive", tool).decode().split()) - {tool}
    return StorePath.parse(tool), StorePath.parse(needed.pop())


def put_flake(world: World, flake: Path, origin: str, hashes: Mapping[str, str]) -> None:
    """The flake, with an image that is small and whole."""
    (flake / "image").mkdir(parents=True)
    shutil.copy(world.tree / "modules/build.nix", flake)
    shutil.copy(world.tree / "modules/debian/lock.json", flake / "pins.json")
    rootfs, tree = rootfs_of(flake)
    (flake / "data").unlink()
    manifest = manifest_value(kernel=b"kernel", initrd=b"initrd", rootfs=rootfs, tree=tree)
    manifest["sources"] = [{"uri": f"{origin}/file", "name": "file", "sha256": hashes["FILE"]}]
    for name, data in (("kernel", b"kernel"), ("initrd", b"initrd"), ("rootfs", rootfs)):
        (flake / "image" / name).write_bytes(data)
    (flake / "image/manifest.json").write_bytes(canonical(manifest))
    text = FLAKE.replace("ORIGIN", origin)
    for name, value in hashes.items():
        text = text.replace(f'"{name}"', f'"{value}"')
    (flake / "flake.nix").write_text(text)
    (flake / "tools.nix").write_text(TOOLS)


@pytest.fixture(scope="module")
def scene(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    base = tmp_path_factory.mktemp("inputs")
    base.chmod(0o700)
    repository = Repository.make(base / "notes", {"note": " a note,"})
    repository.git("branch", "-M", "main")
    repository.git("clone", "-q", "--bare", str(repository.path), str(base / "repositories/notes.git"))
    first = FIRST.replace("SECOND", Digest.of(SECOND.encode()).hex).encode()
    nix = HostNix(base / "nix")
    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    secret = f"{KEY_NAME}:{base64.b64encode(key.private_bytes_raw() + public).decode()}".encode()
    with serve(base / "repositories") as server, pytest.MonkeyPatch.context() as patch:
        server.files |= {"/file": b"a file", "/first.nix": first, "/second.nix": SECOND.encode()}
        server.files["/words.tar.gz"] = archive({"flake.nix": '{ outputs = _: { text = "a word,"; }; }'})
        server.files["/unused.tar.gz"] = archive({"unused": "unused"})
        server.files["/tree.tar.gz"] = archive({"text": " and a tree"})
        hashes = {name: Digest.of(server.files[f"/{file}"]).hex for name, file in PINNED.items()}
        hashes |= {"TREE": nar_hash(nar_of_tree(TREE))[0].sri, "UNASKED": UNASKED.hex}
        put_flake(world, base / "flake", server.origin, hashes)
        nix("flake", "lock", f"path:{base / 'flake'}")
        tools = {
            name: put_cache(base, server, nix, name, b"" if name.startswith("unsigned") else secret)
            for name in ("ours", "swapped", "unsigned", "unsigned-too")
        }
        cache = Path(world.home.environment["XDG_CACHE_HOME"])
        copy_home(cache / "mvmnix", base / "cache/mvmnix")
        patch.setenv("XDG_CACHE_HOME", str(base / "cache"))
        server.asked.clear()
        yield Scene(world.copy(base / "home"), server, base / "flake", CacheKey(KEY_NAME, public), tools)


# All at once, as a user has it


TRUST = """
[evaluation]
import-from-derivation = true

[[caches]]
key = "KEY"
"""


@dataclass(frozen=True, slots=True)
class Built:
    """How `everything` was built by the command, and what was said and asked meanwhile."""

    exported: Path
    claim: Provenance
    log: bytes
    asked: set[str]


def configure(scene: Scene) -> None:
    """Let the server be asked, and its cache's key and import from derivation count."""
    home = scene.world.home
    key = f"{KEY_NAME}:{base64.b64encode(scene.key.raw).decode()}"
    origin = scene.server.origin
    (home.config / "config.toml").write_text(
        "version = 1\n[templates]\nunasked = false\n"
        f'[fetch]\nloopback = ["{origin}"]\n[[caches]]\nurl = "{origin}/ours"\nkeys = ["{key}"]\n'
    )
    with (home.config / "trust.toml").open("a") as file:
        file.write(TRUST.replace("KEY", key))


@pytest.fixture(scope="module")
def built(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Built:
    configure(scene)
    logs = scene.world.home.state / "logs"
    before = set(logs.iterdir())
    exported = tmp_path_factory.mktemp("built") / "out"
    done = scene.world.home.mvm("build", f"path:{scene.flake}#everything", "--out", exported)
    (log,) = set(logs.iterdir()) - before
    assert done.returncode == 0, done.stderr.decode() + log.read_text()
    claim = claim_in((exported / "provenance.sigstore.json").read_bytes())
    return Built(exported, claim, log.read_bytes(), scene.asked)


def test_trees_come_when_evaluation_touches_them(scene: Scene, built: Built) -> None:
    nodes = built.claim.nodes
    assert {one.node: one.source for one in nodes.inputs} == {
        name: scene.nodes[name].source for name in ("notes", "words")
    }
    assert [one.node for one in nodes.untouched] == ["unused"]
    assert "/words.tar.gz" in built.asked
    assert any(path.startswith("/git/notes.git/") for path in built.asked)
    assert "/unused.tar.gz" not in built.asked


def test_what_came_in_is_what_the_provenance_lists(scene: Scene, built: Built) -> None:
    """Files, an archive's tree, and what evaluation imported, which it could not know of at first."""
    assert set(built.claim.sources) == scene.pins()
    assert built.claim.from_derivation
    assert {"/file", "/tree.tar.gz", "/first.nix", "/second.nix"} <= built.asked


def test_what_a_cache_has_is_not_built(scene: Scene, built: Built) -> None:
    tool, needed = scene.tools["ours"]
    assert {(it.path, it.key) for it in built.claim.cached} == {(it, scene.key.text) for it in (tool, needed)}
    assert {it.uri.removeprefix(scene.server.origin) for it in built.claim.cached} <= built.asked
    assert f"ours was built in the host, see {needed}".encode() in built.log


def test_every_question_is_on_record(scene: Scene, built: Built) -> None:
    origin = scene.server.origin
    for name in built.asked:
        if name.startswith("/git/"):
            assert b"mvm: asking for git+" + f"{origin}/git/notes.git?".encode() in built.log
        else:
            assert name.removeprefix("/ours/").encode() in built.log, name


#: What a policy may say less than the one that it was built under, and for which reason it then refuses.
LESS = {
    "no such inputs": ("[sources]", '[sources]\ninputs = ["github:*"]', Code.INPUT_NOT_ADMITTED),
    "another cache": (f'"{KEY_NAME}:', '"theirs-1:', Code.CACHE_NOT_ADMITTED),
    "no import": ("derivation = true", "derivation = false", Code.IMPORT_FROM_DERIVATION),
}


def test_it_verifies_and_not_where_less_is_admitted(scene: Scene, built: Built) -> None:
    home = scene.world.home
    verified = home.mvm("verify", built.exported)
    assert verified.returncode == 0, verified.stderr.decode()
    trust = home.config / "trust.toml"
    text = trust.read_text()
    for old, new, code in LESS.values():
        trust.write_text(text.replace(old, new))
        refused = home.mvm("verify", built.exported)
        assert (refused.returncode, f"refused [{code}]".encode() in refused.stderr) == (1, True), refused.stderr
    trust.write_text(text)


# One after another, in one VM


@pytest.fixture(scope="module")
def bench(scene: Scene, built: Built) -> Iterator[Workbench]:
    """A builder VM that was given nothing yet, in the home of the user whose command has built."""
    assert built.exported.exists()
    with Workbench(scene.world) as made:
        yield made


@dataclass(frozen=True, slots=True)
class Asking:
    """What a build said, and what the server was asked meanwhile."""

    said: bytes
    asked: set[str]


@contextmanager
def rules(bench: Workbench, scene: Scene, *caches: str, **policy: Any) -> Iterator[Callable[[], Asking]]:
    """While this lasts, these caches are asked, and the policy says otherwise in these points."""
    rooms, config, trusted = bench.rooms, bench.rooms.config, bench.rooms.policy
    rooms.config = Config(FetchRules(loopback=frozenset({scene.server.origin})), scene.caches(*caches))
    rooms.policy = replace(trusted, **policy)
    rooms.__dict__.pop("network", None)
    bench.progress.said = b""
    scene.server.asked.clear()
    try:
        yield lambda: Asking(bench.progress.said, scene.asked)
    finally:
        rooms.config, rooms.policy = config, trusted
        rooms.__dict__.pop("network", None)


def test_an_input_that_is_not_admitted_is_not_asked_for(bench: Workbench, scene: Scene) -> None:
    only = (SourceRule(("*",), allow_local=True, inputs=("github:*",)),)
    with rules(bench, scene, sources=only) as asking:
        assert bench.refusal(f"path:{scene.flake}#words") == {Code.INPUT_NOT_ADMITTED}
    assert asking().asked == set()


def test_a_tree_that_was_exchanged_is_not_given(bench: Workbench, scene: Scene) -> None:
    """Once the cache is cleared: as long as it is there, nobody is asked."""
    (scene.sources / scene.nodes["words"].nar.hex).unlink()
    good = scene.server.files["/words.tar.gz"]
    scene.server.files["/words.tar.gz"] = archive({"flake.nix": '{ outputs = _: { text = "evil"; }; }'})
    with rules(bench, scene) as asking:
        assert bench.refusal(f"path:{scene.flake}#words") == {Code.SOURCE_MISMATCH}
        assert asking().asked == {"/words.tar.gz"}
        scene.server.files["/words.tar.gz"] = good
        assert bench.build(f"path:{scene.flake}#words").given.touched == {scene.nodes["words"].nar}


def test_a_file_of_other_bytes_is_not_given(bench: Workbench, scene: Scene) -> None:
    with rules(bench, scene) as asking:
        assert bench.refusal(f"path:{scene.flake}#wrong") == {Code.SOURCE_MISMATCH}
    assert asking().asked == {"/file"}


def test_a_host_that_is_not_listed_is_refused_before_anything_is_asked(bench: Workbench, scene: Scene) -> None:
    with rules(bench, scene) as asking:
        assert bench.refusal(f"path:{scene.flake}#foreign") == {Code.FETCH_NOT_ALLOWED}
    assert asking().asked == set()


def test_what_nobody_trusted_has_signed_is_built(bench: Workbench, scene: Scene) -> None:
    """And the log says why."""
    tool, needed = scene.tools["unsigned"]
    with rules(bench, scene, "unsigned", "ours") as asking:
        record = bench.build(f"path:{scene.flake}#unsigned")
    found = asking()
    assert record.given.cached == ()
    assert f"unsigned was built in the VM, see {needed}".encode() in found.said
    assert f"/unsigned/{tool.hash}.narinfo" in found.asked
    assert b"[cache-signature]" in found.said


def test_an_archive_that_was_exchanged_is_not_given(bench: Workbench, scene: Scene) -> None:
    """Its answer is signed, its archives are those of another path."""
    tool, needed = scene.tools["swapped"]
    archives = [path for path in scene.server.files if path.startswith("/swapped/nar/")]
    first, second = (scene.server.files[path] for path in archives)
    scene.server.files |= dict(zip(archives, (second, first), strict=True))
    with rules(bench, scene, "swapped") as asking:
        record = bench.build(f"path:{scene.flake}#swapped")
    found = asking()
    assert record.given.cached == ()
    assert f"swapped was built in the VM, see {needed}".encode() in found.said
    assert {f"/swapped/{it.hash}.narinfo" for it in (tool, needed)} <= found.asked
    assert b"[source-mismatch]" in found.said


def test_what_a_cache_says_is_no_reason_for_a_build_to_fail(bench: Workbench, scene: Scene) -> None:
    """Its own last words are told, and the cache beside them."""
    with rules(bench, scene, "unsigned-too"):
        error = bench.failure(f"path:{scene.flake}#broken")
    assert not isinstance(error, RefusedError)
    assert "my last words" in error.message
    assert "cache-signature" in error.message


def test_a_cache_whose_key_the_policy_lacks_is_not_asked(bench: Workbench, scene: Scene) -> None:
    with rules(bench, scene, "ours", caches=()) as asking:
        record = bench.build(f"path:{scene.flake}#ours")
    assert record.given.cached == ()
    assert b"ours was built in the VM" in asking().said
    assert asking().asked == set()


# Import from derivation


def importing(bench: Workbench, scene: Scene, name: str) -> MvmnixError:
    bench.from_derivation = True
    try:
        return bench.failure(f"path:{scene.flake}#{name}")
    finally:
        bench.from_derivation = False


def test_an_import_that_the_policy_does_not_allow(bench: Workbench, scene: Scene) -> None:
    with rules(bench, scene) as asking:
        assert bench.refusal(f"path:{scene.flake}#import") == {Code.FLAKE_UNSUPPORTED}
    assert asking().asked == set()


def test_an_import_s_address_has_no_query(bench: Workbench, scene: Scene) -> None:
    with rules(bench, scene) as asking:
        error = importing(bench, scene, "import-query")
    assert isinstance(error, RefusedError)
    assert error.codes == (Code.SOURCE_UNKNOWN,)
    assert error.reasons[0].what == f"{scene.server.origin}/second.nix?x=y"
    assert asking().asked == set()


def test_an_import_that_fails_is_on_record(bench: Workbench, scene: Scene) -> None:
    with rules(bench, scene) as asking:
        error = importing(bench, scene, "import-gone")
    found = asking()
    assert "answers 404" in error.message
    assert f"mvm: asking for {scene.server.origin}/gone.nix ".encode() in found.said
    assert found.asked == {"/gone.nix"}
