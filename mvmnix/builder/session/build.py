"""One build in a builder VM: evaluate, ask, receive, build, and take the outputs; drives a machine, starts none.

1. The root tree is offered, and the VM brings it into its store by asking for it.
2. The VM evaluates it, purely, to a derivation; a locked tree that it asks for is looked up in the lock, nowhere else.
3. The derivation's graph tells which fixed outputs will be asked for; they are fetched by hash and offered.
4. The VM builds, and asks. What it was given is the list of what came in.
5. The output comes back as a bounded archive and is hashed, parsed and its verity root recomputed here (receive.py).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from mvmnix import nar
from mvmnix.builder.flakes.take import FlakeSource
from mvmnix.builder.session import diagnosis, graph, nix
from mvmnix.builder.session.cache import Connection, Ledger, Offer
from mvmnix.builder.session.receive import OUTPUTS, Reception
from mvmnix.errors import Reason, ReasonCode, RefusedError, refuse
from mvmnix.lock import LockedFlake
from mvmnix.model import Digest, HashMode, Image, Source, StorePath
from mvmnix.provenance.slsa import Cached, Kept, Variation
from mvmnix.store import Store

#: How much of a program's output is kept to be shown or read, in bytes.
_KEPT = 64 * 1024
_ENVIRONMENT = {"HOME": "/build", "PATH": "/usr/bin:/usr/sbin", "LANG": "C.UTF-8", "USER": "mvm", "TMPDIR": "/build"}


class Ended(Protocol):
    """How a command in the guest ended."""

    @property
    def exit_code(self) -> int:
        """As a shell would see it."""


class BuilderMachine(Protocol):
    """What a build needs of a running machine: one call. The port that launch's Machine satisfies."""

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
        """Run a command in the guest to its end, at most `timeout` seconds. Raises when the machine ends."""


class Progress(Protocol):
    """Who wants to know how a build goes."""

    def step(self, name: str) -> None:
        """A new step has begun."""

    def log(self, data: bytes) -> None:
        """The builder said something; bytes from the guest, not to be shown unescaped."""


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What shall be built: a root tree with its parsed lock, and the attribute of its packages."""

    flake: FlakeSource
    lock: LockedFlake
    attribute: str


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """What was built and from what: `given`, `cached` and `kept` are all that came into the VM beside the root tree.

    Times are in UTC. What the other fields mean is said by those of the same name in Provenance.
    """

    request: BuildRequest
    image: Image
    derivation: StorePath
    given: tuple[Source, ...]
    touched: frozenset[Digest]
    nix: str
    started: datetime
    finished: datetime
    cached: tuple[Cached, ...] = ()
    kept: tuple[Kept, ...] = ()
    from_derivation: bool = False
    variation: Variation | None = None
    sbom: Digest | None = None


class _Tail:
    """Keeps the last bytes of a stream."""

    def __init__(self, also: Callable[[bytes], None] | None = None) -> None:
        self.data = bytearray()
        self._also = also

    def __call__(self, data: bytes) -> None:
        self.data += data
        del self.data[:-_KEPT]
        if self._also is not None:
            self._also(data)

    @property
    def text(self) -> str:
        return self.data.decode(errors="replace").strip()


class _Head:
    """Keeps a whole output, up to a bound."""

    def __init__(self, limit: int) -> None:
        self.data = bytearray()
        self._limit = limit

    def __call__(self, data: bytes) -> None:
        self.data += data
        if len(self.data) > self._limit:
            raise refuse(
                ReasonCode.OUTPUT_MALFORMED,
                "builder VM",
                f"it printed more than {self._limit} bytes where a line was expected",
                "look at the build log; the flake's evaluation prints too much",
            )


class Build:
    """One build. `connection` answers the VM's questions; `run` does the rest."""

    def __init__(
        self,
        request: BuildRequest,
        *,
        store: Store,
        images: Store,
        fetch: Callable[[Iterable[Source]], None],
        progress: Progress,
    ) -> None:
        self._request = request
        self._store = store
        self._images = images
        self._fetch = fetch
        self._progress = progress
        self._ledger = Ledger()
        self._sources: dict[str, Source] = {}
        flake = request.flake
        self._ledger.offer([Offer(flake.store_path, flake.nar, HashMode.NAR, lambda: (flake.archive,))])

    def connection(self, _wake: Callable[[], None]) -> Connection:
        """A connection from the VM to its cache: what the channel's service on `nix.CACHE_PORT` makes of each."""
        return Connection(self._ledger)

    def run(self, machine: BuilderMachine, *, jobs: int) -> BuildRecord:
        """Build it. Raises RefusedError for what may not be, MvmnixError with the last lines of a failed build."""
        started = datetime.now(UTC)
        version = nix.read_version(self._ask(machine, nix.version(), limit=_KEPT))
        self._progress.step("evaluating")
        derivation = self._evaluate(machine)
        self._progress.step("fetching sources")
        self._offer(graph.parse(self._ask(machine, nix.show_derivations(derivation), limit=graph.LIMIT)))
        self._progress.step("building")
        output = _one_path(self._ask(machine, nix.build(derivation, jobs=jobs), limit=_KEPT))
        self._progress.step("receiving")
        image = self._receive(machine, output)
        return BuildRecord(
            request=self._request,
            image=image,
            derivation=derivation,
            given=tuple(sorted(self._sources[name] for name in self._ledger.given if name in self._sources)),
            touched=frozenset(),
            nix=version,
            started=started,
            finished=datetime.now(UTC),
        )

    def _ask(self, machine: BuilderMachine, argv: Sequence[str], *, limit: int) -> bytes:
        said, log = _Head(limit), _Tail(self._progress.log)
        if _run(machine, argv, said, log) != 0:
            raise self._unanswered() or diagnosis.of_build(self._where, log.text)
        return bytes(said.data)

    def _evaluate(self, machine: BuilderMachine) -> StorePath:
        flake = self._request.flake
        self._ask(machine, nix.fetch_tree(flake.store_path), limit=_KEPT)
        url = nix.flake_url(flake.store_path, flake.nar, flake.directory)
        said, log = _Head(_KEPT), _Tail(self._progress.log)
        if _run(machine, nix.evaluate(url, self._request.attribute), said, log) != 0:
            unlocked = "it has inputs, and no flake.lock" if self._request.lock.digest is None else ""
            raise self._unanswered() or diagnosis.of_evaluation(self._where, log.text, unlocked=unlocked)
        return _one_path(bytes(said.data))

    def _offer(self, found: graph.Graph) -> None:
        self._fetch(found.sources)
        self._sources = {source.store_path.hash: source for source in found.sources}
        self._ledger.offer(_offer(source, self._store) for source in found.sources)

    def _receive(self, machine: BuilderMachine, output: StorePath) -> Image:
        log = _Tail(self._progress.log)
        with Reception(self._images) as reception:
            if _run(machine, nix.archive(output, OUTPUTS), reception.write, log) != 0:
                raise diagnosis.of_output(self._where, log.text)
            return reception.image()

    def _unanswered(self) -> RefusedError | None:
        """Why it had to fail, if it asked for locked trees that are not handed out."""
        hint = "inputs other than relative paths are only fetched by a later version (Planned)"
        reasons = tuple(
            Reason(ReasonCode.LOCK_NODE_UNSUPPORTED, node.name, f"evaluation needs {node.uri}", hint)
            for node in self._request.lock.locked
            if node.store_path.hash in self._ledger.missed
        )
        return RefusedError(*reasons) if reasons else None

    @property
    def _where(self) -> str:
        return f"{self._request.flake.uri}#{self._request.attribute}"


def _offer(source: Source, store: Store) -> Offer:
    def archive() -> Iterator[bytes]:
        # read when the first piece is pulled: a guest may ask for much at once, and is answered one by one
        data = store.read(source.digest, limit=1 << 32)
        yield from nar.nar_of_file(len(data), (data,)) if source.mode is HashMode.FLAT else (data,)

    return Offer(source.store_path, source.digest, source.mode, archive)


def _run(
    machine: BuilderMachine, argv: Sequence[str], stdout: Callable[[bytes], None], stderr: Callable[[bytes], None]
) -> int:
    ended = machine.exec(argv, environment=_ENVIRONMENT, stdout=stdout, stderr=stderr, timeout=None, directory="/build")
    return ended.exit_code


def _one_path(said: bytes) -> StorePath:
    try:
        return StorePath.parse(said.decode().strip())
    except ValueError as error:
        hint = "look at the build log; the builder VM is not believed"
        raise refuse(ReasonCode.OUTPUT_MALFORMED, "builder VM", f"expected one store path: {error}", hint) from error
