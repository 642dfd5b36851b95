"""Opens state for one operation: directories, policy, keys, stores and log, each when first asked for."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mvmnix.api.frontend import SILENT, Frontend
from mvmnix.clock import now
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, refuse
from mvmnix.system import log, temporary
from mvmnix.system.private_dirs import Directory
from mvmnix.system.roots import Roots
from mvmnix.system.store import Cache, Store

if TYPE_CHECKING:
    from mvmnix import config
    from mvmnix.api.network import Network
    from mvmnix.api.presets import Presets
    from mvmnix.api.signing import Signer
    from mvmnix.audit.log import AuditLog
    from mvmnix.audit.note import NoteKey
    from mvmnix.builder.flakes.known_trees import KnownTrees
    from mvmnix.digest import Digest
    from mvmnix.images.part_index import PartIndex
    from mvmnix.images.prune import KeptImages
    from mvmnix.images.store import ImageStore
    from mvmnix.keys import PrivateKey, Role
    from mvmnix.provenance.policy.policy import TrustPolicy
    from mvmnix.provenance.policy.policy_files import Files


#: Lock files beside what they guard: taken shared to make or read something there, exclusively to remove it.
LIBRARY_LOCK, SOURCES_LOCK = "library.lock", "sources.lock"


class Context:
    """What one operation works with. A context manager, which closes what it opened; the roots stay the caller's."""

    def __init__(self, roots: Roots, frontend: Frontend = SILENT) -> None:
        self.roots = roots
        self.frontend = frontend
        self._opened = ExitStack()
        self._working = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.__exit__(kind, error, trace)

    def keep(self, directory: Directory) -> Directory:
        """The directory, which is closed with the context."""
        return self._opened.enter_context(directory)

    @cached_property
    def keys(self) -> Directory:
        """Where the private keys are."""
        return self.keep(self.roots.config.child("keys"))

    @cached_property
    def policy(self) -> "TrustPolicy":
        """The trust policy in force, as its files were when it was first asked for. Raises RefusedError."""
        return self._read_policy()

    def read_policy_again(self) -> None:
        """Have `policy` be what its files say now: what is revoked meanwhile doesn't start. Raises RefusedError."""
        self.policy = self._read_policy()

    def _read_policy(self) -> "TrustPolicy":
        from mvmnix.provenance.policy.policy_files import in_force  # noqa: PLC0415 - what hands a plan on reads none

        floor, user = self.policy_files
        if floor.policy is None and user.policy is None:
            from mvmnix.api import first_use  # noqa: PLC0415 - what finds a policy doesn't pay for it

            if (lost := first_use.lost_policy(self)) is not None:
                raise RefusedError(lost)
        return in_force(floor, user)

    @property
    def policy_files(self) -> "tuple[Files, Files]":
        """What the machine's files and the user's say. Raises RefusedError."""
        from mvmnix.provenance.policy.policy_files import read_policy_files  # noqa: PLC0415 - as above

        return read_policy_files(self.floor, self.roots.config)

    @property
    def floor(self) -> str:
        """The directory of the machine's policy files, which need not exist."""
        from mvmnix.provenance.policy.policy_files import FLOOR  # noqa: PLC0415 - as above

        return FLOOR

    @cached_property
    def config(self) -> "config.Config":
        """Where downloads may go, and which caches are trusted. Raises RefusedError CONFIG_MALFORMED."""
        from mvmnix import config  # noqa: PLC0415 - what signs, logs and fetches nothing doesn't pay for it

        if not self.roots.config.exists(config.FILE_NAME):
            return config.Config()
        data = self.roots.config.read(config.FILE_NAME, config.LIMIT)
        return config.parse(data, self.roots.config.where(config.FILE_NAME))

    @cached_property
    def library(self) -> "ImageStore":
        """Finished builds."""
        from mvmnix.images.store import ImageStore  # noqa: PLC0415 - as above

        return self._opened.enter_context(ImageStore(self.roots.state, self.frontend.notice))

    @property
    def kept_images(self) -> "KeptImages":
        """Finished builds by name or digest; the trust policy is read where one name has several images."""
        from mvmnix.images.prune import KeptImages  # noqa: PLC0415 - operations on one image of a plan don't pay for it

        return KeptImages(self.library, lambda: self.policy)

    @cached_property
    def sources(self) -> Store:
        """Files that builds may ask for, by digest."""
        return Cache(self.keep(self.roots.cache.child("sources")))

    @cached_property
    def known_trees(self) -> "KnownTrees":
        """Trees of commits that were read before."""
        from mvmnix.builder.flakes.known_trees import KnownTrees  # noqa: PLC0415 - as above

        return KnownTrees(self.keep(self.roots.cache.child("commits")))

    @cached_property
    def plans(self) -> Store:
        """Plans that were signed here, by digest: until they expire, what they need is kept."""
        return Store(self.keep(self.roots.state.child("plans")))

    @cached_property
    def network(self) -> "Network":
        """All that reaches outside."""
        from mvmnix.api.network import Network  # noqa: PLC0415 - most operations fetch nothing, and don't pay for it

        return Network(self.config, self.sources, self.keep(self.roots.cache.child("trees")), self._opened)

    @cached_property
    def presets(self) -> "Presets":
        """Presets of network rules and variables: the user's, the machine's, and those of tools."""
        from mvmnix.api.presets import Presets  # noqa: PLC0415 - it imports what asks tools, for plans that do

        return Presets(self.floor, self.roots.config, self.frontend.notice)

    def end_downloads(self) -> None:
        """No child that downloads is left, and no thread that waits for one: a machine may be started by forking."""
        if "network" in self.__dict__:
            self.network.rest()

    @cached_property
    def part_index(self) -> "PartIndex":
        """Parts that are kept for later builds."""
        from mvmnix.images.part_index import PartIndex  # noqa: PLC0415 - builds alone pay for it
        from mvmnix.images.store import StoreDirectory  # noqa: PLC0415

        return PartIndex(
            self.keep(self.roots.state.child("parts")), self.library.rooms[StoreDirectory.BUNDLES], self.sources
        )

    @cached_property
    def machines(self) -> Directory:
        """The machines' directories."""
        return self.keep(self.roots.state.child("machines"))

    @cached_property
    def audit(self) -> Directory:
        """Where the audit log is."""
        from mvmnix.api.audit import audit_directory  # noqa: PLC0415 - what logs nothing doesn't pay for it

        return self._opened.enter_context(audit_directory(self.roots.state))

    @cached_property
    def journal(self) -> "AuditLog":
        """The audit log, ready to be appended to."""
        from mvmnix.api import audit  # noqa: PLC0415 - what logs nothing doesn't pay for it
        from mvmnix.audit.note import Signer as NoteSigner  # noqa: PLC0415
        from mvmnix.keys import Role  # noqa: PLC0415

        signer = NoteSigner(self.log_key, self.key(Role.HOST).sign)
        return audit.journal(self.audit, signer, self.config.anchors, self.roots.state, self.frontend.notice)

    @property
    def log_key(self) -> "NoteKey":
        """The key that the audit log's checkpoints are checked with."""
        from mvmnix.api.signing import key_file  # noqa: PLC0415 - what logs nothing doesn't pay for it
        from mvmnix.audit.note import NoteKey  # noqa: PLC0415
        from mvmnix.keys import Role  # noqa: PLC0415

        try:
            return NoteKey.of_log(self.key(Role.HOST).public.raw)
        except ValueError as error:
            where = self.keys.where(key_file(Role.HOST))
            hint = "move it away and run `mvm key create host`; a new key begins a new log"
            raise refuse(ReasonCode.KEY_MALFORMED, where, "the audit log's key is to be Ed25519", hint) from error

    def key(self, role: "Role") -> "PrivateKey":
        """The private key of a role. Raises MvmnixError when there is none."""
        return self.signer.key(role)

    @cached_property
    def signer(self) -> "Signer":
        """What signs claims."""
        from mvmnix.api.signing import Signer  # noqa: PLC0415 - what signs nothing doesn't pay for it

        return Signer(self.keys, lambda: self.config, self.frontend)

    def sign(self, role: "Role", statement: bytes) -> bytes:
        """The bundle of a statement, signed by a role."""
        return self.signer.sign(role, statement)

    @cached_property
    def nonces(self) -> Directory:
        """Where the nonces of plans that started are, and the clock's mark."""
        return self.keep(self.roots.state.child("replay"))

    def at_end(self, call: Callable[[], object]) -> None:
        """Call it when the context is closed."""
        self._opened.callback(call)

    @contextmanager
    def working(self) -> Iterator[None]:
        """While this lasts, no image and no source is removed; others may work too. May be nested."""
        with ExitStack() as locks:
            if not self._working:
                locks.enter_context(self.roots.state.share(LIBRARY_LOCK))
                locks.enter_context(self.roots.cache.share(SOURCES_LOCK))
            self._working += 1
            try:
                yield
            finally:
                self._working -= 1

    @contextmanager
    def building(self, name: str, wait: Callable[[], None]) -> Iterator[None]:
        """While this lasts, no other process builds what has this name; `wait` is called where one does now."""
        with self.roots.state.child("building") as locks:
            lock = locks.try_lock(name)
            if lock is None:
                wait()
                lock = locks.lock(name)
            with lock:
                yield

    @contextmanager
    def clearing(self) -> Iterator[None]:
        """While this lasts, no process builds, finds or fetches. Raises MvmnixError while one does."""
        with ExitStack() as locks:
            for root, name in self._guarded:
                lock = root.try_lock(name)
                if lock is None:
                    who = f"process {root.holder(name) or '(unseen)'}"
                    why = f"images or sources are being made or used by {who}: {root.where(name)} is held"
                    raise MvmnixError(why, hint="wait until that build has ended, and try again")
                locks.enter_context(lock)
            yield

    @contextmanager
    def surveying(self) -> Iterator[None]:
        """While this lasts, nothing is removed. Other processes may build, find and fetch: a notice names them."""
        holders = sorted({str(pid) for root, name in self._guarded if (pid := root.holder(name)) is not None})
        with self.working():
            if holders:
                who = f"process {', '.join(holders)} makes or uses images or sources"
                self.frontend.notice(f"{who}: what it hasn't finished is counted as not needed")
            yield

    @property
    def _guarded(self) -> tuple[tuple[Directory, str], ...]:
        """The directories whose files are removed by need, and their locks."""
        return (self.roots.state, LIBRARY_LOCK), (self.roots.cache, SOURCES_LOCK)

    @contextmanager
    def recorded(self, *, plan: "Digest | None" = None) -> Iterator[None]:
        """Put a refusal that comes before the gate into the audit log; the gate and the start log their own.

        Without a host key nothing was ever logged here, and nothing can be.
        """
        try:
            yield
        except RefusedError as refused:
            from mvmnix.api.signing import key_file  # noqa: PLC0415 - only refusals pay for it
            from mvmnix.keys import Role  # noqa: PLC0415

            log.info("gate", "refused: %s", ", ".join(refused.codes))
            if self.keys.exists(key_file(Role.HOST)):
                from mvmnix.audit.record import Record, RecordKind  # noqa: PLC0415
                from mvmnix.provenance.policy.verdicts import as_verdict  # noqa: PLC0415

                record = Record(kind=RecordKind.REFUSAL, time=now(), plan=plan, reasons=refused.codes)
                self.journal.append(as_verdict(record, self.policy, self.journal) if "policy" in vars(self) else record)
            raise

    def initialize(self) -> None:
        """Make a policy on the very first use, with the keys that it trusts; one that was lost is not made anew.

        A host key may be there already; with another one that a policy would trust, it isn't the first use, and
        `policy` raises RefusedError [policy-missing]. Raises RefusedError [log-mismatch] where the audit log can't tell
        whether a policy was ever in force.
        """
        from mvmnix.provenance.policy.policy_files import is_there  # noqa: PLC0415 - as above

        if not is_there(self.floor, self.roots.config):
            from mvmnix.api import first_use  # noqa: PLC0415 - what finds a policy doesn't pay for it

            first_use.initialize(self)

    def create_policy(self) -> None:
        """Write a policy that trusts the keys here, no older than the last one in the audit log.

        Raises UsageError where there is one, RefusedError [log-mismatch] where the log is gone or doesn't verify,
        MvmnixError without the host key of a log.
        """
        from mvmnix.api import first_use  # noqa: PLC0415 - as above

        first_use.create_policy(self)


@contextmanager
def open_context(frontend: Frontend = SILENT) -> Iterator[Context]:
    """The context of this process's environment (XDG_…, HOME, TMPDIR), for as long as an operation runs.

    Raises RefusedError [state-permissions] where others may change the directories, that of temporary files too.
    """
    temporary.apply()
    with Roots.from_environment(os.environ) as roots, Context(roots, frontend) as context:
        yield context
