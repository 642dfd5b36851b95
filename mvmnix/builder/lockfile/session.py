"""One session with a builder VM that makes a flake's lock; drives a machine, starts none.

1. The VM is offered the root tree; asked by an expression, it reads what flake.nix wants (inputs.py).
2. What is new is resolved and fetched by the host, which evaluates nothing; its tree is offered, and read likewise.
3. The lock is computed here (graph.py), and must be one that mvm itself takes: everything by hash.
4. The VM's Nix must take it too, in a tree that has it, without a change.
"""

from collections.abc import Callable
from dataclasses import dataclass
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
from mvmnix.errors import MvmnixError, ReasonCode, refuse
from mvmnix.formats import lock
from mvmnix.formats.flake_references import Attributes
from mvmnix.formats.lock import InputPath, LockedNode
from mvmnix.model import Digest, HashMode
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
        self._resolved: dict[tuple[tuple[str, object], ...], Tree] = {}
        self._here: set[Digest] = set()

    def connection(self, wake: Callable[[], None]) -> Connection:
        """A connection from the VM to its cache: what the channel's service on `nix.CACHE_PORT` makes of each."""
        return Connection(self._ledger, wake)

    def run(self, machine: BuilderMachine, request: LockRequest) -> NewLock:
        """Make the lock. Raises RefusedError for what can't be locked, MvmnixError for what can't be fetched."""
        source = self._draft(None)
        old = document.read(source.lock)
        self._offer(source)
        resolver = _SessionResolver(self, machine)
        root = Place(Tree({}, source.nar), source.directory)
        made = graph.compute(resolver, root, old, updates=request.inputs, everything=request.everything)
        data = graph.checked(made)
        self._progress.step("checking the lock")
        if made == old:  # as Nix has it: not written again because it is spelled otherwise
            self._check(machine, source)
            return NewLock(None, ())
        self._check(machine, self._draft(data))
        return NewLock(data, document.changes(old, made))

    def _offer(self, source: FlakeSource) -> None:
        archive = source.archive
        self._ledger.offer([Offer.by_content(source.store_path, source.nar, HashMode.NAR, lambda: (archive,))])

    def tree(self, attributes: Attributes, find: Callable[[], tuple[Attributes, Digest]]) -> Tree:
        """A tree from outside, once for the same attributes; offered to the VM."""
        key = tuple(sorted(attributes.items()))
        if key not in self._resolved:
            self._progress.step("fetching an input")
            self._note(f"fetching {document.describe(attributes)}")
            tree = Tree(*find())
            read = partial(self._store.stream, tree.nar)
            self._ledger.offer([Offer.by_content(tree.store_path, tree.nar, HashMode.NAR, read)])
            self._resolved[key] = tree
        return self._resolved[key]

    def _note(self, text: str) -> None:
        """For the log alone: a stranger's words are in it."""
        self._progress.log(f"mvm: {text}\n".encode(errors="replace"))

    def resolve(self, original: Attributes) -> Tree:
        """The tree that a reference means now."""
        return self.tree(original, lambda: self._trees.resolve(original))

    def bring(self, locked: Attributes) -> Tree:
        """A locked tree."""
        return self.tree(locked, lambda: (locked, self._brought(locked)))

    def _brought(self, locked: Attributes) -> Digest:
        node = lock.tree_node("input", locked)
        self._trees.tree(node)
        return node.nar

    def read(self, machine: BuilderMachine, place: Place) -> inputs.Flake:
        """What the flake there wants, as the VM reads it."""
        where = _where(place)
        self._progress.step("reading inputs")
        self._note(f"reading the inputs of {where}")
        self._bring_in(machine, place.tree)
        expression = inputs.question(place.tree.store_path, place.tree.nar, place.directory)
        said = run_command(machine, nix_commands.read_inputs(expression), self._progress, limit=inputs.LIMIT)
        if said.status != 0:
            raise _unreadable(where, said)
        return inputs.parse(said.output, where)

    def _bring_in(self, machine: BuilderMachine, tree: Tree) -> None:
        if tree.nar not in self._here:
            said = run_command(machine, nix_commands.fetch_tree(tree.store_path), self._progress, limit=KEPT_OUTPUT)
            if said.status != 0:
                raise MvmnixError(f"the builder VM could not take {tree.store_path}:\n{last_lines(said.log)}")
            self._here.add(tree.nar)

    def _check(self, machine: BuilderMachine, source: FlakeSource) -> None:
        self._offer(source)
        self._bring_in(machine, Tree({}, source.nar))
        url = nix_commands.flake_url(source.store_path, source.nar, source.directory)
        said = run_command(machine, nix_commands.check_lock(url), self._progress, limit=_METADATA_LIMIT)
        if said.status != 0:
            why = f"Nix would lock it otherwise, or not at all:\n{last_lines(said.log, 8)}"
            raise refuse(
                ReasonCode.FLAKE_UNSUPPORTED, source.uri, why, "look at the inputs of flake.nix; docs/locks.md"
            )


class _SessionResolver:
    """A session and its machine as the port of graph.py."""

    def __init__(self, session: LockSession, machine: BuilderMachine) -> None:
        self._session = session
        self._machine = machine

    def flake(self, place: Place) -> inputs.Flake:
        return self._session.read(self._machine, place)

    def resolve(self, original: Attributes) -> Tree:
        return self._session.resolve(original)

    def bring(self, locked: Attributes) -> Tree:
        return self._session.bring(locked)


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
