"""Builds parts that many guests are made of, from mvm's own tree and nothing else, in a builder VM of their own.

What comes out may enter later builds, so nothing but our own may have run beside it: the tree is mvm's, and
no kept part goes in. The archives are hashed on the host as they arrive. A part refers to no other path: its own, and
its archive's hash, which are signed, are all that there is to say of it.

1. The tree is brought in and evaluated to its parts: a derivation and an output path by name.
2. Those that are wanted are built.
3. Each output comes back as an archive, which gets its name from its hash.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast

from mvmnix.builder.flakes.build_request import BuildRequest
from mvmnix.builder.nix import nix_commands
from mvmnix.builder.session import build_errors
from mvmnix.builder.session.exec import BuilderMachine, CommandResult, Progress, Tail, stream_command
from mvmnix.builder.session.session import BuildInputs, TreeSession
from mvmnix.builder.session.substituter import SourceFetchers
from mvmnix.builder.session.worker_pool import WorkerPool
from mvmnix.errors import MvmnixError, ReasonCode, refuse
from mvmnix.formats import strict
from mvmnix.model import StorePath
from mvmnix.plural import counted
from mvmnix.provenance.slsa.parts import Part
from mvmnix.system.store import Store

#: The attribute that lists them, and the largest archive of one, in bytes.
ATTRIBUTE: Final = "parts"
LIMIT: Final = 1 << 32
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
        session.ask(machine, nix_commands.build(derivations, jobs=jobs), limit=_MOST_SAID)
        session.progress.step("receiving the parts")
        paths = sorted(chosen.values())
        _check_alone(session.ask(machine, nix_commands.describe(paths), limit=_MOST_SAID), frozenset(paths))
        return tuple(self._receive(machine, path) for path in paths)

    def _receive(self, machine: BuilderMachine, path: StorePath) -> Part:
        incoming, log = self._store.receive(), Tail(self._session.progress.log)

        def take(data: bytes) -> None:
            if incoming.size + len(data) > LIMIT:
                raise _malformed(f"the archive of {path} is larger than {LIMIT} bytes")
            incoming.write(data)

        try:
            argv = nix_commands.dump(path)
            if (status := stream_command(machine, argv, take, log)) != 0:
                failure = build_errors.of_build(self._session.where, log.text)
                raise CommandResult(status, b"", log.text, argv).failed_as(failure)
            return Part(path, incoming.keep())
        finally:
            incoming.discard()


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


def _check_alone(said: bytes, paths: frozenset[StorePath]) -> None:
    """The VM says of all these paths, and of no others, that they refer to nothing."""
    found = _object(said)
    if found.keys() != {str(path) for path in paths}:
        raise _malformed(
            f"{counted(len(paths), 'part was', 'parts were')} asked for, it describes {sorted(found)!r:.300}"
        )
    for name, value in found.items():
        if not isinstance(value, dict) or cast("dict[str, object]", value).get("references") != []:
            raise _malformed(f"the part {name} refers to other paths, and can't be kept")
