"""The blocking face's images, plans, verdicts and audit log."""

import os
from collections.abc import Sequence
from functools import partial
from typing import Self, Unpack

from mvmnix.api.templates import MachineShape
from mvmnix.api.verify.trust_choice import TrustChoice
from mvmnix.audit.reading import SealedRecord
from mvmnix.plan import plan as plans
from mvmnix.provenance.verify.requirements import Requirements
from mvmnix.sdk import images, pools, snapshots
from mvmnix.sdk.arguments import check_methods, checking
from mvmnix.sdk.drive import run, work
from mvmnix.sdk.images import AuditReport, Verdict
from mvmnix.sdk.pools import PoolFacts
from mvmnix.sdk.preparation import ImageFacts, SandboxOptions, Source
from mvmnix.sdk.results import Template
from mvmnix.sdk.snapshots import SnapshotFacts
from mvmnix.words import Words


@check_methods
class Image(ImageFacts):
    """An image that is kept here or was exported, as it was when it verified."""

    __slots__ = ()

    @classmethod
    def build(
        cls, source: str | os.PathLike[str], *, again: bool = False, out: str | os.PathLike[str] | None = None
    ) -> Self:
        """Build a flake's image in the builder VM, or find it finished; its provenance is signed and verified.

        Args:
            source: The flake's directory, perhaps with "#attribute".
            again: Build it even where a finished build is kept.
            out: A new directory, to which the image and its evidence are written.

        """
        return cls._of(run(work(partial(images.build, source, again=again, out=out))))

    @classmethod
    def find(cls, name: str) -> tuple[Self, ...]:
        """Return the kept images of this name, or digest or its beginning, each verified. Raises NotFound."""
        return tuple(map(cls._of, run(work(partial(images.find, name)))))

    @classmethod
    def list(cls) -> tuple[Self, ...]:
        """Return the kept images that verify, by every byte of them."""
        return tuple(map(cls._of, run(work(images.list_kept))))

    @classmethod
    def verify(cls, directory: str | os.PathLike[str], *, bundle: str = "") -> Self:
        """Take an exported image through every step of a launch, under this user's policy. Raises NotVerified."""
        return cls._of(run(work(partial(images.verify_directory, directory, bundle))))

    @staticmethod
    def warm(
        source: Source,
        *,
        vcpus: int | None = None,
        memory_mib: int | None = None,
        network: bool = False,
        shares: int = 0,
        data: bool = False,
        private_launcher: bool = False,
    ) -> Template:
        """Make a template of an image, in the place of an older one; machines of that shape then start from it.

        A machine of its own boots for it, by a plan that is signed, and is saved before it is told anything.

        Args:
            source: As for `Sandbox.run`; a flake's image is built first if need be.
            vcpus: Processors; as the image says where it is left out.
            memory_mib: Memory in MiB; as the image says where it is left out.
            network: The template is for machines with a network.
            shares: How many read-only shares they have, each small enough for an image.
            data: They have a data disk, of any size.
            private_launcher: Start that machine from a child of this process, within its control group.

        Raises:
            PolicyRefused: The trust policy lets no machine start from a template, or requires KVM.
            InvalidArgument: No machine has this shape, or the hypervisor here saves no guests.

        """
        shape = MachineShape(vcpus, memory_mib, network, shares, data)
        return run(images.warm(source, shape, private=private_launcher))

    @staticmethod
    def templates() -> tuple[Template, ...]:
        """Return the templates that are of use, the last used one first; those of no use any more are removed."""
        return run(work(images.list_kept_templates))

    @staticmethod
    def remove_templates(names: Words) -> tuple[str, ...]:
        """Remove templates, and return their keys; machines that started from them go on.

        Args:
            names: Keys, or at least 8 of their first digits; or names of images, all of whose templates are meant, or
                sources as for `warm`, of which an image is kept.

        Raises:
            NotFound: One of them names no template; nothing is removed then.

        """
        return run(work(partial(images.remove_kept_templates, names)))

    @classmethod
    def _of(cls, facts: ImageFacts) -> Self:
        return cls(facts.name, facts.digest, facts.level)


@check_methods
class Pool(PoolFacts):
    """Machines of one image that wait, restored and told nothing; starts of that image and shape take one of them."""

    __slots__ = ()

    @classmethod
    def set(cls, source: Source, count: int, *, vcpus: int | None = None, memory_mib: int | None = None) -> Self:
        """Keep machines waiting, in the place of an older pool of this image and shape; returns once they wait.

        They are verified, logged and started as all machines, and the launcher that keeps them stays meanwhile. It goes
        on filling the pool where this call is interrupted: `Pool.list` shows how far it is, `Pool.remove` ends it.

        Args:
            source: As for `Sandbox.run`; a flake's image is built first if need be.
            count: How many, 1 to 32.
            vcpus: Processors; as the image says where it is left out.
            memory_mib: Memory in MiB; as the image says where it is left out.

        Raises:
            PolicyRefused: The trust policy lets no machine start from a template, or requires KVM.
            InvalidArgument: No machine has this shape, or together they could take more than half of the memory.

        """
        return cls._of(run(pools.keep(source, count, vcpus, memory_mib)))

    @classmethod
    def list(cls) -> tuple[Self, ...]:
        """Return the pools of the launcher that this process's starts go to."""
        return tuple(map(cls._of, run(pools.list_kept())))

    @staticmethod
    def remove(images: Words) -> None:
        """End the machines that wait of these images; those that were claimed go on.

        Args:
            images: Names of images, or sources as for `set`, of which an image is kept.

        Raises:
            NotFound: One of them has no pool; nothing is ended then.

        """
        run(pools.remove(images))


@check_methods
class Snapshot(SnapshotFacts):
    """A snapshot that is kept here (Preview): `Sandbox.restore(snapshot.id)` goes on from it."""

    __slots__ = ()

    @classmethod
    def list(cls) -> tuple[Self, ...]:
        """Return the snapshots that are kept, the newest first."""
        return tuple(cls(*snapshots.facts(each)) for each in run(snapshots.list_kept()))

    @staticmethod
    def remove(snapshot: str) -> None:
        """Remove a snapshot, its key first; machines that went on from it stay. Raises NotFound."""
        run(snapshots.remove(snapshot))


@check_methods
class Plan:
    """A plan that was drafted here: what may run, with what means, until when."""

    def __init__(self, plan: plans.Plan) -> None:
        """Made by `draft` only."""
        self._plan = plan

    @classmethod
    def draft(
        cls, source: Source, *, hours: float | None = None, single_use: bool = False, **options: Unpack[SandboxOptions]
    ) -> Self:
        """Draft a plan for a flake or an image, which is built first if need be.

        Args:
            source: As for `Sandbox.run`.
            hours: How long it may start from now on; a day where it is left out.
            single_use: It starts one machine, once.
            **options: As for `Sandbox.run`; verbs are granted by name alone.

        Raises:
            PolicyRefused, NotGranted, InvalidArgument: As `Sandbox.run`.

        """
        return cls(run(work(partial(images.draft, source, options, hours, single_use=single_use))))

    @property
    def statement(self) -> bytes:
        """The statement that is signed: canonical JSON."""
        return plans.plan_statement(self._plan).to_bytes()

    def sign(self, out: str | os.PathLike[str] | None = None) -> bytes:
        """Sign it with this user's key, return the bundle, and write it to the new file `out`, for `Sandbox.launch`."""
        return run(work(partial(images.sign, self._plan, out)))


@checking
def verify(
    artifacts: Sequence[str | os.PathLike[str]],
    *,
    bundle: str = "",
    key: str = "",
    identity: str = "",
    issuer: str = "",
    policy: str = "",
    source_uri: str | None = None,
    builder_id: str | None = None,
) -> tuple[Verdict, ...]:
    """Return for each file whether one of those signed for it whom the caller trusts; nothing is started or fetched.

    Args:
        artifacts: Paths, or "sha256:DIGEST".
        bundle: A file of bundles; for each file the one beside it where it is left out.
        key: Whom to trust: the file of a public key.
        identity: Or an identity that a certificate has, with its `issuer`.
        issuer: Who vouches for the identity.
        policy: Or a trust policy. One of the three has to be given.
        source_uri: What a statement has to say of the source.
        builder_id: What it has to say of the builder.

    Raises:
        InvalidArgument: No trust, or more than one; a file that is not there.

    """
    trust = TrustChoice(key=key, identity=identity, issuer=issuer, policy=policy)
    wanted = Requirements(source_uri=source_uri, builder_id=builder_id)
    return run(work(partial(images.verify, artifacts, bundle, trust, wanted)))


@check_methods
class Audit:
    """This host's audit log."""

    @staticmethod
    def verify() -> AuditReport:
        """Verify every record against its seal, and all that is kept beside it. Raises NotVerified."""
        return run(work(images.check_audit))

    @staticmethod
    def events(machine: str = "", *, last: int | None = 20) -> tuple[SealedRecord, ...]:
        """Return the last verified records about machines, or about one; None: all of them."""
        return run(work(partial(images.audit_events, machine, last)))
