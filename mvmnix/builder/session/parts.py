"""Builds parts that many guests are made of, from mvm's own tree and nothing else, in a builder VM of their own.

What comes out may enter later builds, so nothing but our own may have run beside it: the tree is mvm's, and
no kept part goes in. The archives are hashed on the host as they arrive. A part refers to no other path: its own, and
its archive's hash, which are signed, are all that there is to say of it.

1. The tree is brought in and evaluated to its parts: a derivation and an output path by name.
2. Those that are wanted are built, and each comes back once it is, while others are built.
3. Each archive gets its name from its hash.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast

from mvmnix.builder.flakes.build_request import BuildRequest
from mvmnix.builder.nix import nix_commands
from mvmnix.builder.session.archive_import import ArchiveImport
from mvmnix.builder.session.exec import BuilderMachine, Progress
from mvmnix.builder.session.session import BuildInputs, TreeSession
from mvmnix.builder.session.substituter import SourceFetchers
from mvmnix.builder.session.worker_pool import WorkerPool
from mvmnix.errors import MvmnixError, ReasonCode, refuse
from mvmnix.formats import strict
from mvmnix.formats.nix_export import Exported
from mvmnix.model import StorePath
from mvmnix.plural import counted
from mvmnix.provenance.slsa.parts import Part
from mvmnix.system.store import Store

#: The attribute that lists them.
ATTRIBUTE: Final = "parts"
_MOST_SAID: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PartsRecord:
    """What was built, from what, by whom; `known` are all parts that there are: derivation to output path."""

    request: BuildRequest
    known: dict[str, StorePath]
    built: tuple[Part, ...]
    given: BuildInputs
    nix: str
    started: datetime
    finished: datetime


class PartsBuild:
    """One session. `connection` answers the VM's questions; `run` does the rest."""

    def __init__(
        self, request: BuildRequest, *, store: Store, fetchers: SourceFetchers, workers: WorkerPool, progress: Progress
    ) -> None:
        self._session = TreeSession(request, store=store, fetchers=fetchers, workers=workers, progress=progress)
        self._store = store
        self.connection = self._session.connection

    def run(self, machine: BuilderMachine, *, wanted: Collection[str], jobs: int) -> PartsRecord:
        """Build those parts whose derivations are wanted. Raises as Build.run does."""
        session, started = self._session, datetime.now(UTC)
        version = nix_commands.read_version(session.ask(machine, nix_commands.version()))
        session.progress.step("evaluating mvm's own parts")
        url = session.bring_in(machine)
        known = _known(session.ask(machine, nix_commands.evaluate_parts(url), limit=_MOST_SAID))
        chosen = {name: path for name, path in known.items() if name in wanted}
        built = self._build(machine, chosen, jobs) if chosen else ()
        return PartsRecord(session.request, known, built, session.given(), version, started, datetime.now(UTC))

    def _build(self, machine: BuilderMachine, chosen: dict[str, StorePath], jobs: int) -> tuple[Part, ...]:
        session = self._session
        derivations = [StorePath.parse(name) for name in sorted(chosen)]
        found = session.closure(machine, derivations)
        if any(found.output(it) != chosen[str(it)] for it in derivations):
            raise _malformed("a part has another path than its derivation makes")
        needed = {source for one in derivations for source in found.needed(one, have=())}
        session.progress.step("fetching sources of the parts")
        session.fetchers.sources(tuple(sorted(needed)))
        session.finder.know(found.sources)
        session.progress.step(f"building {counted(len(derivations), 'part')}")
        with ArchiveImport(self._store, _malformed) as imported:
            session.stream(machine, nix_commands.build_and_export(derivations, jobs=jobs), imported.write)
            session.progress.step("keeping the parts")
            came = _only(imported.read(), frozenset(chosen.values()))
            return tuple(Part(path, imported.keep(it.content)) for path, it in sorted(came.items()))


def _only(
    exported: Iterable[Exported[memoryview]], paths: frozenset[StorePath]
) -> Mapping[StorePath, Exported[memoryview]]:
    """Return these parts by their paths. Raises RefusedError where others came, or one refers to another path."""
    found: dict[StorePath, Exported[memoryview]] = {}
    for it in exported:
        if it.path in found or it.path not in paths:
            raise _malformed(f"{it.path} came out, and was not asked for, or twice")
        if it.references:
            raise _malformed(f"the part {it.path} refers to other paths, and can't be kept")
        found[it.path] = it
    if missing := paths - found.keys():
        raise _malformed(f"the part {min(missing)} is missing")
    return found


def _malformed(why: str) -> MvmnixError:
    hint = "the builder VM said something odd of mvm's own parts: look at the build log"
    return refuse(ReasonCode.OUTPUT_MALFORMED, "builder VM", why, hint)


def _object(said: bytes) -> dict[str, object]:
    try:
        found = strict.parse_json(said)
    except strict.MalformedError as error:
        raise _malformed(f"what it says of the parts can't be read: {error}") from error
    if not isinstance(found, dict):
        raise _malformed("what it says of the parts is not an object")
    return cast("dict[str, object]", found)


def _known(said: bytes) -> dict[str, StorePath]:
    known: dict[str, StorePath] = {}
    for name, value in _object(said).items():
        try:
            it = cast("dict[str, object]", value)
            derivation, output = str(StorePath.parse(str(it["derivation"]))), StorePath.parse(str(it["output"]))
        except (ValueError, TypeError, LookupError) as error:
            raise _malformed(f"part {name[:80]!r} has no derivation or no path") from error
        if known.get(derivation, output) != output or (output in known.values() and derivation not in known):
            raise _malformed(f"part {name[:80]!r} has the derivation or the path of another one")
        known[derivation] = output
    return known
