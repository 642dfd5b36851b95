"""One session with a builder VM that makes a flake's lock; drives a machine, starts none.

1. The VM is offered the root tree; asked by an expression, it reads what flake.nix wants (inputs.py).
2. What is new is resolved and fetched by the host, which evaluates nothing; its tree is offered, and read likewise.
3. The lock is computed here (graph.py), and must be one that mvm itself takes: everything by hash.
4. The VM's Nix must take it too, in a tree that has it, without a change.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from mvmnix.builder.flakes.flake_source import FlakeSource
from mvmnix.builder.lockfile import document, graph, inputs
from mvmnix.builder.lockfile.graph import Place, Tree
from mvmnix.builder.nix import nix_commands
from mvmnix.builder.session.build_errors import last_lines
from mvmnix.builder.session.cache import Connection
from mvmnix.builder.session.exec import KEPT_OUTPUT, BuilderMachine, CommandResult, Progress, run_command
from mvmnix.builder.session.ledger import Offer, OfferLedger
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, refuse
from mvmnix.formats import lock
from mvmnix.formats.flake_references import Attributes
from mvmnix.formats.lock import InputPath, LockedNode
from mvmnix.model import HashMode
from mvmnix.system.store import Store

#: How busybox's `timeout` ends a program: 128 and SIGKILL, as the kernel does when memory is short.
_KILLED = 137
_METADATA_LIMIT = 16 * 2**20


class TreeFetcher(Protocol):
    """Who fetches trees into the source store, and evaluates nothing. Both raise MvmnixError."""

    def resolve(self, original: Attributes) -> tuple[Attributes, Digest]:
        """What a reference means now: the attributes that lock it, and its archive's digest."""

    def tree(self, node: LockedNode) -> None:
        """Bring the tree of a lock node, under the digest of its archive."""


@dataclass(frozen=True, slots=True)
class LockRequest:
    """What shall be locked anew beside what has to be: inputs by their path, or all."""

    inputs: tuple[InputPath, ...] = ()
    everything: bool = False


@dataclass(frozen=True, slots=True)
class NewLock:
    """A lock that mvm and Nix take; `data` is None where the old one stays. What it has otherwise than the old one."""

    data: bytes | None
    changes: tuple[document.LockChange, ...]


class LockSession:
    """One lock. `connection` answers the VM's questions; `run` does the rest."""

    def __init__(
        self, draft: Callable[[bytes | None], FlakeSource], *, store: Store, trees: TreeFetcher, progress: Progress
    ) -> None:
        """`draft` gives the root tree, with another flake.lock if it is given one."""
        self._draft = draft
        self._store = store
        self._trees = trees
        self._progress = progress
        self._ledger = OfferLedger()

    def connection(self, wake: Callable[[], None]) -> Connection:
        """A connection from the VM to its cache: what the channel's service on `nix.CACHE_PORT` makes of each."""
        return Connection(self._ledger, wake)

    def run(self, machine: BuilderMachine, request: LockRequest) -> NewLock:
        """Make the lock. Raises RefusedError for what can't be locked, MvmnixError for what can't be fetched."""
        source = self._draft(None)
        old = document.read(source.lock)
        resolver = _SessionResolver(machine, self._ledger, self._store, self._trees, self._progress)
        resolver.offer(source)
        root = Place(Tree({}, source.nar), source.directory)
        made = graph.compute(resolver, root, old, updates=request.inputs, everything=request.everything)
        data = graph.checked(made)
        self._progress.step("checking the lock")
        if made == old:  # as Nix has it: not written again because it is spelled otherwise
            resolver.check(source)
            return NewLock(None, ())
        resolver.check(self._draft(data))
        return NewLock(data, document.changes(old, made))


@dataclass(slots=True)
class _SessionResolver:
    """The VM and the host's fetchers as the port of graph.py. What was fetched is offered to the VM, once."""

    machine: BuilderMachine
    ledger: OfferLedger
    store: Store
    trees: TreeFetcher
    progress: Progress
    resolved: dict[tuple[tuple[str, object], ...], Tree] = field(default_factory=dict)
    here: set[Digest] = field(default_factory=set)

    def flake(self, place: Place) -> inputs.Flake:
        """Have the VM read what the flake there wants."""
        where = _where(place)
        self.progress.step("reading inputs")
        self._note(f"reading the inputs of {where}")
        self._bring_in(place.tree)
        expression = inputs.question(place.tree.store_path, place.tree.nar, place.directory)
        said = self._run(nix_commands.read_inputs(expression), inputs.LIMIT)
        if said.status != 0:
            raise _unreadable(where, said)
        return inputs.parse(said.output, where)

    def resolve(self, original: Attributes) -> Tree:
        return self._tree(original, lambda: self.trees.resolve(original))

    def bring(self, locked: Attributes) -> Tree:
        return self._tree(locked, lambda: (locked, self._brought(locked)))

    def offer(self, source: FlakeSource) -> None:
        """Let the VM ask for a root tree."""
        archive = source.archive
        self.ledger.offer([Offer.by_content(source.store_path, source.nar, HashMode.NAR, lambda: (archive,))])

    def check(self, source: FlakeSource) -> None:
        """Refuse a root tree whose lock the VM's Nix would write otherwise."""
        self.offer(source)
        self._bring_in(Tree({}, source.nar))
        url = nix_commands.flake_url(source.store_path, source.nar, source.directory)
        said = self._run(nix_commands.check_lock(url), _METADATA_LIMIT)
        if said.status != 0:
            why = f"Nix would lock it otherwise, or not at all:\n{last_lines(said.log, 8)}"
            hint = "look at the inputs of flake.nix; docs/reference/locks.md"
            raise refuse(ReasonCode.FLAKE_UNSUPPORTED, source.uri, why, hint)

    def _tree(self, attributes: Attributes, find: Callable[[], tuple[Attributes, Digest]]) -> Tree:
        """A tree from outside, once for the same attributes."""
        key = tuple(sorted(attributes.items()))
        if key not in self.resolved:
            self.progress.step("fetching an input")
            self._note(f"fetching {document.describe(attributes)}")
            tree = Tree(*find())
            read = partial(self.store.stream, tree.nar)
            self.ledger.offer([Offer.by_content(tree.store_path, tree.nar, HashMode.NAR, read)])
            self.resolved[key] = tree
        return self.resolved[key]

    def _brought(self, locked: Attributes) -> Digest:
        node = lock.tree_node("input", locked)
        self.trees.tree(node)
        return node.nar

    def _bring_in(self, tree: Tree) -> None:
        if tree.nar not in self.here:
            said = self._run(nix_commands.fetch_trees([tree.store_path]), KEPT_OUTPUT)
            if said.status != 0:
                raise MvmnixError(f"the builder VM could not take {tree.store_path}:\n{last_lines(said.log)}")
            self.here.add(tree.nar)

    def _run(self, argv: Sequence[str], limit: int) -> CommandResult:
        return run_command(self.machine, argv, self.progress, limit=limit)

    def _note(self, text: str) -> None:
        """For the log alone: a stranger's words are in it."""
        self.progress.log(f"mvm: {text}\n".encode(errors="replace"))


def _where(place: Place) -> str:
    tree = document.describe(place.tree.locked) if place.tree.locked else "the flake"
    return f"{tree}, {place.directory}" if place.directory else tree


def _unreadable(where: str, said: CommandResult) -> MvmnixError:
    what = f"inputs of {where}"
    hint = "inputs are plain data in flake.nix: texts, sets of them, and nothing that has to be computed"
    if said.status == _KILLED:
        why = f"reading them took more than {nix_commands.READING_SECONDS} seconds, or all memory"
        return refuse(ReasonCode.FLAKE_UNSUPPORTED, what, why, hint)
    return refuse(ReasonCode.FLAKE_UNSUPPORTED, what, f"they can't be read:\n{last_lines(said.log, 8)}", hint)
