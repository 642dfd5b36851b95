"""Working stand-ins that tests of several rooms share: git repositories, image archives, a builder VM without a VM."""

import hashlib
import io
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from mvmnix.builder.session.cache import Connection
from mvmnix.builder.session.substituter import Caches
from mvmnix.builder.session.worker_pool import Outcome, outcome
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, refuse
from mvmnix.formats import nar, nix_export
from mvmnix.formats.derivation import Derivation
from mvmnix.formats.lock import LockedNode
from mvmnix.model import Artifact, HashMode, Source, StorePath
from mvmnix.system.store import Store
from tests.derivations import Derivations, exported, exported_archives, guest, output_of
from tests.unit.provenance.world import World

DERIVATION = StorePath("0" * 32, "guest-hello.drv")
ORDER = ("kernel", "initrd", "rootfs", "manifest.json")


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository that a test makes and may spoil."""

    path: Path

    @classmethod
    def make(cls, path: Path, files: Mapping[str, str] | None = None, *, format_: str = "sha1") -> "Repository":
        """A new one with one commit of these files, a flake.nix at least."""
        path.mkdir(parents=True)
        made = cls(path)
        made.git("init", "-q", f"--object-format={format_}")
        for name, text in ({"flake.nix": "{}\n"} | dict(files or {})).items():
            made.write(name, text)
        made.commit()
        return made

    def git(self, *arguments: str, input_: bytes = b"") -> str:
        """Run git in it; returns what it prints."""
        identity = ("-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")
        argv = ["git", *identity, "-c", "protocol.file.allow=always", "-C", str(self.path), *arguments]
        return subprocess.run(argv, check=True, capture_output=True, input=input_).stdout.decode().strip()

    def write(self, name: str, text: str) -> Path:
        """Put a file into the work tree."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def commit(self) -> str:
        """Commit all that lies there; returns the commit's name."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "test")
        return self.git("rev-parse", "HEAD")

    def plant(self, kind: str, body: bytes, name: str = "") -> str:
        """Write an object that git itself would not write, under its name or under another one."""
        data = b"%s %d\0" % (kind.encode(), len(body)) + body
        name = name or hashlib.sha1(data, usedforsecurity=False).hexdigest()
        path = self.path / ".git/objects" / name[:2] / name[2:]
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(zlib.compress(data))
        return name

    def plant_tree(self, *entries: tuple[str, bytes, str]) -> str:
        """Make a commit of a tree with exactly these entries (mode, name, object) the current one; returns the tree."""
        body = b"".join(mode.encode() + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries)
        tree = self.plant("tree", body)
        self.git("update-ref", "HEAD", self.git("commit-tree", tree, "-m", "planted"))
        self.git("update-index", "--force-remove", *self.git("ls-files").splitlines())
        return tree


def ustar(files: Mapping[str, bytes]) -> bytes:
    """These files as GNU tar's `--format=ustar` would archive them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o444
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def files_of(world: World) -> dict[str, bytes]:
    """An image's four files."""
    return dict(zip(ORDER, (world.kernel, world.initrd, world.rootfs, world.manifest), strict=True))


def artifacts_of(world: World) -> tuple[Artifact, ...]:
    """The same as artifacts, by their bytes."""
    return tuple(Artifact(name, Digest.of(data), len(data)) for name, data in files_of(world).items())


@dataclass
class Progress:
    """Remembers what it was told."""

    steps: list[str] = field(default_factory=list)
    said: bytes = b""

    def step(self, name: str) -> None:
        self.steps.append(name)

    def log(self, data: bytes) -> None:
        self.said += data


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    exit_code: int


class GuestFailedError(Exception):
    """A program of the fake guest ends with this status, after these words on its standard error."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


type Program = Callable[[Sequence[str]], bytes]


@dataclass
class FakeBuilder:
    """A builder VM without a VM: knows the calls of nix_commands.py, and asks the host's cache as Nix would.

    `tree` is the root tree that it is asked to bring in; `wants` what evaluation asks for besides; `sources` what the
    build needs; `trees` are what derivations are made from besides, with their archives, `known` the same that the host
    has. `fails` maps a call's name (version, realise, eval, closure, trees, import, build, tar) to its last words.
    """

    tree: StorePath
    files: Mapping[str, bytes]
    sources: tuple[Source, ...] = ()
    wants: tuple[StorePath, ...] = ()
    fails: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, bytes] = field(default_factory=dict)
    calls: list[tuple[str, ...]] = field(default_factory=list)
    environments: list[Mapping[str, str]] = field(default_factory=list)
    connect: Callable[[Callable[[], None]], Connection] | None = None
    received: dict[str, bytes] = field(default_factory=dict)
    have: set[StorePath] = field(default_factory=set)
    imported: Derivations = field(default_factory=dict)
    trees: Mapping[StorePath, bytes] = field(default_factory=dict)
    known: tuple[StorePath, ...] = ()

    def again(self) -> Self:
        """Another machine like this one, new and empty."""
        return replace(self, calls=[], environments=[], connect=None, received={}, have=set(), imported={})

    def exec(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        stdout: Callable[[bytes], None],
        stderr: Callable[[bytes], None],
        timeout: float | None,
        directory: str,
    ) -> Ended:
        """Run one of the programs; the port that builder/session/build.py drives."""
        self.calls.append(tuple(argv))
        self.environments.append(environment)
        name, program = self._program(argv)
        try:
            said, words, status = program(argv), self.fails.get(name, ""), int(name in self.fails)
        except GuestFailedError as error:
            said, words, status = b"", str(error), error.status
        if status:
            stderr(words.encode())
            return Ended(status)
        stderr(f"{name} says that it works\n".encode())
        for start in range(0, len(said), 1000):
            stdout(said[start : start + 1000])
        return Ended(0)

    def _program(self, argv: Sequence[str]) -> tuple[str, Program]:
        words = (
            "--version",
            "--realise",
            "builtins.attrNames",
            "eval",
            "closure",
            "trees",
            "import",
            "build",
            "--create",
            "derivations",
            "sh",
        )
        name = next(word for word in words if word in argv)
        programs: dict[str, tuple[str, Program]] = {
            "--version": ("version", lambda _: b"nix (Nix) 2.26.3\n"),
            "--realise": ("realise", self._realise),
            "builtins.attrNames": ("attributes", lambda _: b"[]"),
            "eval": ("eval", self._evaluate),
            "closure": ("closure", lambda _: exported(self.guest[1])),
            "trees": ("trees", lambda _: exported_archives(self.trees)),
            "import": ("import", self._import),
            "derivations": ("derivations", lambda _: b""),
            "sh": ("pressure", lambda _: b""),
            "build": ("build", self._build),
            "--create": ("tar", lambda _: ustar(self.files)),
        }
        known, program = programs[name]
        return known, (lambda _: self.answers[known]) if known in self.answers else program

    def _realise(self, argv: Sequence[str]) -> bytes:
        paths = argv[argv.index("--") + 1 :]
        for path in paths:
            self._substitute(StorePath.parse(path))
        return "\n".join(paths).encode()

    def _import(self, _argv: Sequence[str]) -> bytes:
        file = nar.tree_of_nar(self.received["derivations"])
        assert isinstance(file, nar.File)
        for it in nix_export.read_archives(memoryview(b"".join(file.open()))):
            missing = {path for path in it.references if path not in self.imported and path not in self.have}
            if missing:
                raise GuestFailedError(1, f"error: path '{min(missing)}' is not valid")
            self.imported[it.path] = Derivation.parse(nar.Reader(it.content).plain_file())
        return "\n".join(map(str, self.imported)).encode()

    def _evaluate(self, _argv: Sequence[str]) -> bytes:
        for path in self.wants:
            self._substitute(path)
        return str(self.guest[0]).encode()

    @property
    def guest(self) -> tuple[StorePath, Derivations]:
        """The derivation that evaluation gives, and with it all that it is made from."""
        return guest(*self.sources, trees=[*self.trees, *self.known])

    @property
    def output(self) -> StorePath:
        """What is built."""
        path, derivations = self.guest
        return output_of(derivations, path)

    def _build(self, _argv: Sequence[str]) -> bytes:
        if self.guest[0] not in self.imported and not any("eval" in call for call in self.calls):
            raise GuestFailedError(1, f"error: path '{self.guest[0]}' is not valid")
        for source in self.sources:
            self._substitute(source.store_path)
        return str(self.output).encode() + b"\n"

    def _substitute(self, path: StorePath) -> None:
        """As Nix does it: a narinfo, then the archive, hashed."""
        info = self._get(f"{path.hash}.narinfo")
        if info is None:
            raise GuestFailedError(1, f"error: path '{path}' does not exist and cannot be created")
        fields = dict(line.split(": ", 1) for line in info.decode().splitlines())
        archive = self._get(fields["URL"])
        if archive is None or fields["NarHash"] != f"sha256:{Digest.of(archive).nix32}":
            raise GuestFailedError(1, f"error: hash mismatch importing path '{path}'")
        self.received[path.name] = archive
        self.have.add(path)
        for name in fields["References"].split():
            if (other := StorePath.parse(f"/nix/store/{name}")) not in self.have:
                self._substitute(other)

    def _get(self, path: str) -> bytes | None:
        if self.connect is None:
            raise GuestFailedError(1, "error: unable to download: Connection refused")
        return get(self.connect(lambda: None), path)


class AtOnce:
    """Errands that are run where they are asked for."""

    @staticmethod
    def start[T](work: Callable[[], T], done: Callable[[Outcome[T]], None]) -> None:
        """Run it, and tell."""
        done(outcome(work))


@dataclass
class Market:
    """Fetchers that have what they were given, and nothing else; `asked` is what they were asked for."""

    store: Store
    files: Mapping[Digest, bytes] = field(default_factory=dict)
    caches: Caches | None = None
    asked: list[str] = field(default_factory=list)

    def sources(self, sources: Sequence[Source]) -> None:
        """Bring these files."""
        for it in sources:
            self.asked.append(it.uri)
            if not self.store.has(it.digest):
                self._bring(it.uri, it.digest)

    def tree(self, node: LockedNode) -> None:
        """Bring a tree."""
        self.asked.append(node.uri)
        self._bring(node.uri, node.nar)

    def _bring(self, uri: str, digest: Digest) -> None:
        if digest not in self.files:
            raise refuse(ReasonCode.SOURCE_UNKNOWN, uri, "nobody has it", "ask somebody else")
        self.store.put(self.files[digest], digest)


def get(connection: Connection, path: str) -> bytes | None:
    """What a GET on a new connection is answered; None for a miss."""
    connection.data(f"GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    connection.eof()
    head, _, body = b"".join(pulled(connection)).partition(b"\r\n\r\n")
    return body if head.startswith(b"HTTP/1.1 200 ") else None


def pulled(connection: Connection, limit: int = 65536) -> Iterator[bytes]:
    """All that a connection has to say, in pieces."""
    while piece := connection.pull(limit):
        yield piece


def nar_of(data: bytes) -> bytes:
    """The archive of a file with these bytes."""
    return b"".join(nar.nar_of_file(len(data), (data,)))


def source(name: str, data: bytes, mode: HashMode = HashMode.FLAT) -> Source:
    """A source whose file, or whose archive, has these bytes."""
    return Source(f"mirror://debian/pool/{name}", name, Digest.of(data), mode)
