"""What every session with a builder VM has: a ledger of what may be asked for, and what was given."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mvmnix.builder.flakes.build_request import BuildRequest
from mvmnix.builder.nix import nix_commands
from mvmnix.builder.session import build_errors
from mvmnix.builder.session.cache import Connection
from mvmnix.builder.session.closure import LIMIT, Closure, read_closure
from mvmnix.builder.session.exec import (
    KEPT_OUTPUT,
    BuilderMachine,
    CommandResult,
    Progress,
    Tail,
    run_command,
    stream_command,
)
from mvmnix.builder.session.ledger import Offer, OfferLedger
from mvmnix.builder.session.substituter import SourceFetchers, SourceFinder
from mvmnix.builder.session.worker_pool import WorkerPool
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError
from mvmnix.formats.lock import LockedNode
from mvmnix.model import HashMode, Source, StorePath
from mvmnix.provenance.slsa.provenance import Cached, KeptPath
from mvmnix.system.store import Store


@dataclass(frozen=True, slots=True)
class BuildInputs:
    """All that came into a VM beside the root tree; `touched` are the archives of the lock's trees."""

    sources: tuple[Source, ...]
    touched: frozenset[Digest] = frozenset()
    cached: tuple[Cached, ...] = ()
    kept: tuple[KeptPath, ...] = ()

    def __or__(self, other: "BuildInputs") -> "BuildInputs":
        """All that came into either of two VMs."""
        return BuildInputs(
            sources=tuple(sorted({*self.sources, *other.sources})),
            touched=self.touched | other.touched,
            cached=tuple(sorted({*self.cached, *other.cached}, key=lambda it: it.path)),
            kept=tuple(sorted({*self.kept, *other.kept}, key=lambda it: it.path)),
        )


class Session:
    """One session. `connection` answers the VM's questions while `ask` has it work; `where` says to people what for."""

    def __init__(
        self, where: str, *, store: Store, fetchers: SourceFetchers, workers: WorkerPool, progress: Progress
    ) -> None:
        self.where = where
        self.progress = progress
        self.fetchers = fetchers
        self.finder = SourceFinder(fetchers, store, workers, self._note)
        self.ledger = OfferLedger(self.finder)

    def connection(self, wake: Callable[[], None]) -> Connection:
        """A connection from the VM to its cache: what the channel's service on `nix.CACHE_PORT` makes of each."""
        return Connection(self.ledger, wake)

    def call(self, machine: BuilderMachine, argv: Sequence[str], *, limit: int = KEPT_OUTPUT) -> CommandResult:
        """Have the VM run a command, whatever becomes of it."""
        return run_command(machine, argv, self.progress, limit=limit)

    def ask(self, machine: BuilderMachine, argv: Sequence[str], *, limit: int = KEPT_OUTPUT) -> bytes:
        """What a command prints that has to succeed. Raises MvmnixError saying why it failed."""
        said = self.call(machine, argv, limit=limit)
        if said.status != 0:
            raise self.finder.failure or self._failure(machine, said)
        return said.output

    def stream(self, machine: BuilderMachine, argv: Sequence[str], take: Callable[[bytes], None]) -> None:
        """Hand on what a command prints that has to succeed. Raises as `ask` does, and whatever `take` raises."""
        log = Tail(self.progress.log)
        if (status := stream_command(machine, argv, take, log)) != 0:
            raise self.finder.failure or self._failure(machine, CommandResult(status, b"", log.text, argv))

    def closure(self, machine: BuilderMachine, roots: Sequence[StorePath]) -> Closure:
        """Return these derivations of the VM's store, and all that they are made from."""
        return read_closure(self.ask(machine, nix_commands.export_closure(roots), limit=LIMIT), roots)

    def given(self) -> BuildInputs:
        """What the VM was given until now."""
        origins = [offer.origin for offer in self.ledger.given.values()]
        return BuildInputs(
            sources=tuple(sorted(it for it in origins if isinstance(it, Source))),
            touched=frozenset(it.nar for it in origins if isinstance(it, LockedNode)),
            cached=tuple(sorted((it for it in origins if isinstance(it, Cached)), key=lambda it: it.path)),
            kept=tuple(sorted((it for it in origins if isinstance(it, KeptPath)), key=lambda it: it.path)),
        )

    def pressed(self, machine: BuilderMachine, said: CommandResult) -> MvmnixError | None:
        """Why a command failed, if it was for want of room or memory, as the VM's kernel says; None otherwise."""
        return build_errors.exhaustion_error(self.call(machine, nix_commands.pressure()).output, self.where, said.log)

    def _failure(self, machine: BuilderMachine, said: CommandResult) -> MvmnixError:
        """Why a build failed: what the VM's kernel says of memory and room comes before the builder's own words."""
        failure = self.pressed(machine, said) or build_errors.of_build(self.where, said.log, self.finder.doubt)
        return said.failed_as(failure)

    def _note(self, text: str) -> None:
        """For the log alone. A question to others is in it before it is asked, whatever becomes of it."""
        self.progress.log(f"mvm: {text}\n".encode())


class TreeSession(Session):
    """A session with a VM that evaluates: it may ask for the root tree, and for the trees of its lock."""

    def __init__(
        self, request: BuildRequest, *, store: Store, fetchers: SourceFetchers, workers: WorkerPool, progress: Progress
    ) -> None:
        where = f"{request.flake.uri}#{request.attribute}"
        super().__init__(where, store=store, fetchers=fetchers, workers=workers, progress=progress)
        self.request = request
        self.finder.know(request.lock.locked)
        self.ledger.offer([root_tree(request)])

    def bring_in(self, machine: BuilderMachine) -> nix_commands.FlakeUrl:
        """Have the VM take the root tree into its store; returns the URL by which it evaluates it."""
        flake = self.request.flake
        self.ask(machine, nix_commands.fetch_trees([flake.store_path]))
        return nix_commands.flake_url(flake.store_path, flake.nar, flake.directory)


def root_tree(request: BuildRequest) -> Offer:
    """What gives a VM the root tree."""
    flake = request.flake
    return Offer.by_content(flake.store_path, flake.nar, HashMode.NAR, lambda: (flake.archive,))
