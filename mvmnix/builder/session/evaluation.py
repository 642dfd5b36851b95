"""Evaluates a flake in a VM of its own, and takes out what is to be built: a closure, and what that is made from.

1. The root tree is offered, and the VM brings it into its store by asking for it.
2. The VM evaluates it, purely, to a derivation. A locked tree is brought when it is asked for, by the lock's hash.
   Where the policy allows it, evaluation builds what it imports: its fixed outputs are found through their derivations,
   and it is evaluated again with them, a bounded number of times.
3. The derivation and all that it is made from come out as they lie there (closure.py).
4. The trees and files that no derivation makes come out too (trees.py), but for those that came from here.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from mvmnix.builder.flakes.build_request import BuildRequest
from mvmnix.builder.nix import nix_commands
from mvmnix.builder.session import build_errors, closure, trees
from mvmnix.builder.session.archive_import import ArchiveImport
from mvmnix.builder.session.closure import Closure
from mvmnix.builder.session.exec import BuilderMachine, Progress, one_path
from mvmnix.builder.session.ledger import Offer
from mvmnix.builder.session.session import BuildInputs, TreeSession, root_tree
from mvmnix.builder.session.substituter import SourceFetchers
from mvmnix.builder.session.worker_pool import WorkerPool
from mvmnix.errors import MvmnixError, ReasonCode, refuse
from mvmnix.formats import strict
from mvmnix.formats.lock import LockedNode
from mvmnix.model import Source, StorePath
from mvmnix.provenance.slsa.provenance import KeptPath
from mvmnix.system.store import Store

#: So often evaluation may begin anew with what it imports; each time it has to have come further.
MAX_ROUNDS: Final = 32


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What is to be built: a derivation, its closure, and what that is made from; and what the VM was given for it.

    `offers` are trees and files that a VM may have, `nodes` the lock's trees that the closure is made from itself; what
    came out of the evaluating VM under the path of such a one, or of a fixed output, is not among the offers.
    """

    request: BuildRequest
    derivation: StorePath
    closure: Closure
    offers: tuple[Offer, ...]
    nodes: tuple[LockedNode, ...]
    given: BuildInputs
    started: datetime
    from_derivation: bool = False


class Evaluation:
    """One evaluation. `connection` answers the VM's questions; `run` does the rest.

    `parts` may be asked for; `from_derivation` is whether evaluation may build what it imports.
    """

    def __init__(
        self,
        request: BuildRequest,
        *,
        store: Store,
        fetchers: SourceFetchers,
        workers: WorkerPool,
        progress: Progress,
        parts: Sequence[KeptPath] = (),
        from_derivation: bool = False,
    ) -> None:
        self._session = TreeSession(request, store=store, fetchers=fetchers, workers=workers, progress=progress)
        self._session.finder.know(parts)
        self._store = store
        self._from_derivation = from_derivation
        self._looked_for: set[str] = set()
        self.connection = self._session.connection

    def run(self, machine: BuilderMachine) -> Evaluated:
        """Evaluate it. Raises RefusedError for what may not be, MvmnixError with the last words of what failed."""
        session = self._session
        started = datetime.now(UTC)
        session.progress.step("evaluating")
        derivation = self._evaluate(machine)
        found = session.closure(machine, [derivation])
        root, nodes = root_tree(session.request), session.request.lock.locked
        known = {root.path, *(node.source.store_path for node in nodes), *(it.store_path for it in found.sources)}
        taken = self._trees(machine, [path for path in found.trees if path not in known])
        needed = {*found.trees, *taken}
        return Evaluated(
            request=session.request,
            derivation=derivation,
            closure=found,
            offers=(*([root] if root.path in needed else []), *(it for path, it in taken.items() if path not in known)),
            nodes=tuple(node for node in nodes if node.source.store_path in needed),
            given=session.given(),
            started=started,
            from_derivation=self._from_derivation,
        )

    def _trees(self, machine: BuilderMachine, paths: Sequence[StorePath]) -> Mapping[StorePath, Offer]:
        """Take these out of the VM, and all that they refer to."""
        if not paths:
            return {}
        with ArchiveImport(self._store, trees.malformed) as imported:
            for some in nix_commands.in_batches(paths):
                self._session.stream(machine, nix_commands.export_trees(some), imported.write)
            return trees.read_trees(imported.read(), paths)

    def _evaluate(self, machine: BuilderMachine) -> StorePath:
        session = self._session
        url = session.bring_in(machine)
        argv = nix_commands.evaluate(url, session.request.attribute, from_derivation=self._from_derivation)
        for _ in range(MAX_ROUNDS):
            said = session.call(machine, argv)
            if said.status == 0:
                return one_path(said.output)
            if session.finder.failure is not None or not (self._from_derivation and self._import(machine)):
                break
        else:
            raise _endless(session.where)
        failure = session.finder.failure or session.pressed(machine, said)  # what the kernel killed had no last words
        if failure is None and build_errors.is_attribute_missing(said.log):
            raise build_errors.of_attribute(session.where, session.request.attribute, self._attributes(machine, url))
        unlocked = "it has inputs, and no flake.lock" if session.request.lock.digest is None else ""
        raise failure or said.failed_as(
            build_errors.of_evaluation(session.where, said.log, unlocked=unlocked, doubt=session.finder.doubt)
        )

    def _attributes(self, machine: BuilderMachine, url: nix_commands.FlakeUrl) -> tuple[str, ...]:
        """The names of the flake's packages, for a message; none where it doesn't say so in a moment, or in bounds."""
        try:
            said = self._session.call(machine, nix_commands.list_attributes(url))
            return strict.read({"names": strict.parse_json(said.output)}, "packages", lambda it: it.texts("names"))
        except (strict.MalformedError, MvmnixError):
            return ()

    def _import(self, machine: BuilderMachine) -> bool:
        """Learn where fixed outputs come from that evaluation missed; whether there is anything new to give."""
        ledger = self._session.ledger
        while names := sorted(ledger.missed - self._looked_for)[: nix_commands.MOST_NAMES]:
            self._looked_for.update(names)
            if new := self._missed(machine, names):
                closure.check_adaptive(new)
                self._session.finder.know(new)
                ledger.forget_misses(source.store_path.hash for source in new)
                return True
        return False

    def _missed(self, machine: BuilderMachine, names: Sequence[str]) -> list[Source]:
        """Those fixed outputs among the paths with these hashes that a derivation in the VM makes."""
        session, found = self._session, list[Source]()
        said = session.ask(machine, nix_commands.derivations_with(names), limit=closure.LIMIT)
        paths = sorted({one_path(line) for line in said.split()})[: closure.MAX_DERIVATIONS]
        for start in range(0, len(paths), nix_commands.MOST_NAMES):
            some = nix_commands.export_these(paths[start : start + nix_commands.MOST_NAMES])
            made = closure.read_derivations(session.ask(machine, some, limit=closure.LIMIT))
            outputs = filter(None, itertools.starmap(closure.fixed_output, made.items()))
            found += [source for source in closure.sources_of(outputs) if source.store_path.hash in names]
        return found


def _endless(where: str) -> MvmnixError:
    why = f"its evaluation builds what it imports more than {MAX_ROUNDS} times over"
    return refuse(ReasonCode.FLAKE_UNSUPPORTED, where, why, "let the guest be built from it instead")
