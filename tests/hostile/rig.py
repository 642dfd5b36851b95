"""A real build in a copied home, with its user's keys at hand: every claim about it can be made and signed anew."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from mvmnix.audit.reading import last_records
from mvmnix.audit.record import RecordKind
from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.formats import manifest, strict
from mvmnix.images.store import IndexEntry
from mvmnix.keys import PrivateKey, Role
from mvmnix.launch.gate.admission import admit
from mvmnix.launch.gate.verify import Submission, VerifiedPlan
from mvmnix.model import Artifact, Image, Posture, Verb
from mvmnix.plan import plan as plans
from mvmnix.plan.plan import Plan
from mvmnix.provenance.bundle import envelope, statement
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa import parts, predicate
from mvmnix.provenance.slsa.provenance import Provenance
from mvmnix.provenance.verify.image_layouts import ImageEvidence
from mvmnix.vmm.boot_files import OpenFiles
from tests.conftest import Home, World
from tests.support.claims import claim_in
from tests.unit.provenance.world import Change, signed
from tests.workbench import rooms_of

FILES = ("kernel", "initrd", "rootfs")
REFUSED = re.compile(rb"refused \[([a-z-]+)\]")

type Move = Callable[["Rig"], object]


@dataclass(frozen=True, slots=True)
class Marks:
    """What a start would leave behind: a machine's directory, and a record in the audit log."""

    machines: frozenset[str]
    starts: int


class Rig:
    """The parts are those of the build, and consistent, until a test changes one. Nothing here is started."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.now = now()
        self.files = {name: world.hello / name for name in FILES}
        self.rooms = rooms_of(world)
        self.policy: TrustPolicy = self.rooms.policy
        self.key = self._index_key("hello")
        self.entry = self.kept(self.key)
        self.manifest = self.rooms.library.manifest(self.entry.manifest)
        self.lock = None if self.entry.lock is None else self.rooms.library.lock(self.entry.lock)
        self.built = self._claim(self.entry.bundle)
        self.claim = self._without_parts()
        self.sign_provenance()
        self.install()
        self.entry = self.kept(self.key)

    @property
    def home(self) -> Home:
        """The copied home."""
        return self.world.home

    # the parts

    def _index_key(self, image: str) -> str:
        for name in self.rooms.roots.state.child("builds").names():
            if manifest.parse(self.rooms.library.manifest(self.kept(name).manifest)).name == image:
                return name
        raise LookupError(image)

    def kept(self, name: str) -> IndexEntry:
        """What the index of builds says under a name."""
        value = json.loads((self.home.state / "builds" / name).read_bytes())
        kinds = ("manifest", "bundle", "lock", "sbom")
        made_of, bundle, lock, sbom = (Digest(value[it]) if it in value else None for it in kinds)
        assert made_of is not None
        assert bundle is not None
        return IndexEntry(made_of, bundle, lock, sbom, tuple(map(Digest, value.get("parts", ()))))

    @property
    def builder_key(self) -> str:
        """The name of the builder image in the index of builds."""
        return self._index_key("builder")

    @cached_property
    def builder(self) -> IndexEntry:
        """The builder image, the other build that is kept: made elsewhere, by somebody else, from other files."""
        return self.kept(self.builder_key)

    @property
    def image(self) -> Image:
        return manifest.parse(self.manifest)

    def _claim(self, bundle: Digest) -> Provenance:
        return claim_in(self.rooms.library.bundle(bundle))

    def _without_parts(self) -> Provenance:
        """What the builder would have said of the same image, had no part been kept: all sources came in then.

        So that each row changes one thing; kept parts have rows of their own (tests/builds/test_parts.py).
        """
        bundles = map(self.rooms.library.bundle, self.entry.parts)
        statements = [parts.from_statement(statement.parse(envelope.parse_bundle(data).payload)) for data in bundles]
        inherited = {source for each in statements for source in each.provenance.sources}
        return replace(self.built, kept=(), sources=tuple(sorted({*self.built.sources, *inherited})))

    def role(self, role: Role) -> PrivateKey:
        return self.rooms.key(role)

    def signed_plan(self, *changes: Change, key: PrivateKey | None = None, **fields: Any) -> bytes:
        """A plan for what is at hand, valid since a minute."""
        provenance, minute = Digest.of(self.provenance), timedelta(minutes=1)
        verbs = self.image.verbs - {Verb.STREAM} if self.image.posture is Posture.DEV else frozenset()
        made = Plan.for_image(
            self.image, policy=self.policy.digest, provenance=provenance, now=self.now - minute, verbs=verbs
        )
        return signed(plans.plan_statement(replace(made, **fields)), changes, key or self.role(Role.PLANNER))

    def sign_plan(self, *changes: Change, key: PrivateKey | None = None, **fields: Any) -> None:
        self.plan = self.signed_plan(*changes, key=key, **fields)

    def sign_provenance(
        self,
        *changes: Change,
        key: PrivateKey | None = None,
        artifacts: tuple[Artifact, ...] | None = None,
        **fields: Any,
    ) -> None:
        """Another provenance, and a plan that was made with it."""
        made = predicate.provenance_statement(replace(self.claim, **fields), artifacts or self.image.artifacts)
        self.provenance = signed(made, changes, key or self.role(Role.BUILDER))
        self.sign_plan()

    def change_manifest(self, change: Change) -> None:
        """Another manifest, with provenance and plan for it."""
        value = strict.parse_json(self.manifest)
        assert isinstance(value, dict)
        change(value)
        self.manifest = strict.canonical(value)
        self.sign_provenance()

    def install(self) -> None:
        """Let what is at hand be what the user's library keeps of this build."""
        entry = {"bundle": self.provenance, "manifest": self.manifest} | (
            {} if self.lock is None else {"lock": self.lock}
        )
        for kind, data in entry.items():
            folder = {"bundle": "bundles", "manifest": "images", "lock": "locks"}[kind]
            replaced(self.home.state / folder / Digest.of(data).hex, data)
        sbom = {} if self.entry.sbom is None else {"sbom": self.entry.sbom.hex}
        index = strict.canonical({kind: Digest.of(data).hex for kind, data in entry.items()} | sbom)
        replaced(self.home.state / "builds" / self.key, index)

    def stored(self, name: str) -> Path:
        """Where the library keeps a file of the image."""
        digests = {artifact.name: artifact.digest for artifact in self.image.artifacts}
        return self.home.state / "images" / digests[name].hex

    # the gate

    def admit(self) -> VerifiedPlan:
        """The gate that everything passes which starts."""
        with ExitStack() as stack:
            fds = [os.open(self.files[name], os.O_RDONLY | os.O_CLOEXEC) for name in FILES]
            for fd in fds:
                stack.callback(os.close, fd)
            evidence = ImageEvidence(manifest=self.manifest, provenance=self.provenance, lock=self.lock)
            submission = Submission(self.plan, evidence, OpenFiles(*fds))
            return admit(submission, policy=self.policy, journal=self.rooms.journal, clock=lambda: self.now)

    def refusal(self) -> set[ReasonCode]:
        """For which reasons the gate refuses, which it does, and says so in the log."""
        before = self.marks
        with pytest.raises(RefusedError) as caught:
            self.admit()
        assert caught.value.exit_code == 126
        assert all(reason.why and reason.hint for reason in caught.value.reasons)
        (last,) = last_records(self.rooms.audit, self.rooms.log_key, last=1)
        assert last.record.kind is RecordKind.REFUSAL
        assert last.record.reasons == tuple(dict.fromkeys(caught.value.codes))
        assert self.marks == before
        return set(caught.value.codes)

    # the command

    @property
    def marks(self) -> Marks:
        log = b"".join(file.read_bytes() for file in sorted((self.home.state / "audit").glob("*.jsonl")))
        machines = frozenset(it.name for it in (self.home.state / "machines").iterdir() if it.is_dir())
        return Marks(machines, log.count(b'"kind":"start"'))

    @property
    def builders(self) -> int:
        """How many builder machines there were."""
        status = (self.home.state / "machines").glob("*/machine.json")
        return sum(b'"image":"builder"' in it.read_bytes() for it in status)

    def told(
        self,
        *arguments: str | bytes | Path,
        status: int = 126,
        cwd: Path = Path("/"),
        env: Mapping[str, str | Path] | None = None,
        prefix: Sequence[str] = (),
    ) -> set[str]:
        """For which reasons a command refuses, which it does: it starts and prints nothing, and says what to do."""
        before = self.marks
        done = self.home.mvm(*arguments, cwd=cwd, env=env, prefix=prefix)
        assert_refused(done, status)
        assert self.marks == before
        return {code.decode() for code in REFUSED.findall(done.stderr)}

    def launch(self, *options: str, **others: Any) -> set[str]:
        """For which reasons `mvm launch` refuses the plan at hand."""
        (self.home.path / "plan").write_bytes(self.plan)
        return self.told("launch", *options, self.home.path / "plan", **others)

    def runs(self) -> None:
        """The good state still works."""
        done = self.home.mvm("run", "./examples/hello", cwd=self.world.tree)
        assert (done.returncode, done.stdout) == (0, GREETING), done.stderr.decode()


GREETING = b"Hello from a verified microVM.\n"


def assert_refused(done: "subprocess.CompletedProcess[bytes]", status: int = 126) -> None:
    words = done.stderr.decode()
    assert done.returncode == status, words
    assert done.stdout == b""
    assert REFUSED.search(done.stderr), words
    told = len(REFUSED.findall(done.stderr))
    # `mvm verify` puts each reason on a line
    assert words.count("Next: ") == told or words.count("why:") == words.count("next:") == told
    assert "Traceback" not in words


def export_commit(repository: Path, target: Path) -> None:
    """Put the files of a commit into a new directory, and nothing else."""
    target.mkdir()
    archive = subprocess.run(["git", "-C", repository, "archive", "HEAD"], capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", target], input=archive, check=True)


def replaced(path: Path, data: bytes) -> None:
    """Put another file in the place of one that may be a hard link."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


def flipped(data: bytes, position: int) -> bytes:
    """The same bytes but for one bit."""
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


@contextmanager
def flipped_file(path: Path, position: int, *, flip: int = 1) -> Iterator[None]:
    """A file with a bit flipped in place, its times as they were; mended afterwards."""
    before = path.stat()

    def toggle() -> None:
        fd = os.open(path, os.O_RDWR)
        try:
            at = position % before.st_size
            os.pwrite(fd, bytes([os.pread(fd, 1, at)[0] ^ flip]), at)
        finally:
            os.close(fd)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    toggle()
    try:
        yield
    finally:
        toggle()
