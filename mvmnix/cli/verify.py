"""`mvm verify`: holds an exported image, and a plan for it, against the trust policy; starts nothing.

Exit codes: 0 verified, 1 refused, 2 could not verify.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from mvmnix import manifest
from mvmnix.builder.keeping.library import LIMIT
from mvmnix.builder.keeping.parcel import BUNDLE, LOCK, PARTS
from mvmnix.cli.house import file_bytes, house
from mvmnix.cli.telling import answer, tell
from mvmnix.errors import MvmnixError, RefusedError, UnreadableError, UsageError
from mvmnix.launch.boot_files import OpenFiles
from mvmnix.launch.host import now
from mvmnix.launch.verify import verify as verify_plan
from mvmnix.model import Artifact, Image
from mvmnix.provenance import envelope
from mvmnix.provenance.policy import TrustPolicy
from mvmnix.provenance.predicate import SBOM_NAME
from mvmnix.provenance.slsa import Provenance
from mvmnix.provenance.verify import Verified, verify_provenance
from mvmnix.store import chunks, digest_of

_HINT = "name a directory of `mvm build --out`"


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--bundle", default="", help=f"The provenance bundle. Default: DIRECTORY/{BUNDLE}.")
@click.option("--plan", default="", help="A signed plan, to be verified together with the image.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
def verify(directory: Path, bundle: str, plan: str, as_json: bool) -> int:
    """Verify the image in DIRECTORY, as `mvm build --out` wrote it, against the trust policy.

    Exit codes: 0 verified, 1 refused, 2 could not verify.
    """
    with house() as rooms, could_not_verify():
        try:
            policy = rooms.policy
        except RefusedError as refused:
            return _told(refused, 2, as_json)  # without a policy nothing can be verified
        try:
            evidence = _verify(policy, directory, bundle or str(directory / BUNDLE), plan)
        except RefusedError as refused:
            return _told(refused, 1, as_json)
    claim = evidence.claim
    if as_json:
        result = {
            "verified": True,
            "signer": evidence.signer.name,
            "level": evidence.level,
            "builder": claim.builder_id,
            "bundle": str(evidence.bundle),
            "policy": str(evidence.policy),
        }
        answer("verdict", result)
    else:
        where = f"?dir={claim.directory}" if claim.directory else ""
        root = f"{claim.root.uri}{where}#{claim.attribute}"
        click.echo(f"{directory}: verified: {root}, signed by {evidence.signer.name}, SLSA Build L{evidence.level}")
    return 0


def _told(refused: RefusedError, status: int, as_json: bool) -> int:
    if as_json:
        reasons = [{"code": r.code, "what": r.what, "why": r.why, "next": r.hint} for r in refused.reasons]
        answer("verdict", {"verified": False, "reasons": reasons})
    else:
        tell(refused)
    return status


@contextmanager
def could_not_verify() -> Iterator[None]:
    """Make of every failure that is no verdict one that exits with 2."""
    try:
        yield
    except (UnreadableError, UsageError):
        raise
    except MvmnixError as error:
        raise UnreadableError(error.message or str(error), hint=error.hint) from error


def _verify(policy: TrustPolicy, directory: Path, bundle: str, plan: str) -> Verified[Provenance]:
    data = _canonical(bundle)
    with ExitStack() as stack:
        described = _bytes(stack, directory / "manifest.json", manifest.LIMIT)
        lock, sbom, listed = (
            _bytes(stack, directory / name, LIMIT) if os.path.lexists(directory / name) else None
            for name in (LOCK, SBOM_NAME, PARTS)
        )
        parts = () if listed is None else tuple(listed.split(b"\n"))
        fds = [_open(stack, directory / name) for name in ("kernel", "initrd", "rootfs")]
        if plan:
            verify_plan(
                plan=_canonical(plan),
                provenance=data,
                manifest=described,
                lock=lock,
                files=OpenFiles(*fds),
                policy=policy,
                now=now(),
                parts=parts,
            ).close()
        image = manifest.parse(described)
        artifacts = _hashed(image, fds)
        return verify_provenance(
            data, policy=policy, artifacts=artifacts, lock=lock, image=image, now=now(), parts=parts, sbom=sbom
        )


def _hashed(image: Image, fds: list[int]) -> tuple[Artifact, ...]:
    names = ("kernel", "initrd", "rootfs")
    return (*(Artifact(name, *digest_of(fd)) for name, fd in zip(names, fds, strict=True)), image.manifest)


def _canonical(path: str) -> bytes:
    """A bundle as mvm would have written it: here, and not at a launch, one in another formatting is taken too."""
    return envelope.parse(file_bytes(path, LIMIT)).to_bytes()


def _bytes(stack: ExitStack, path: Path, limit: int) -> bytes:
    fd = _open(stack, path)
    if os.fstat(fd).st_size > limit:
        raise UsageError(f"{path} is larger than {limit} bytes", hint=_HINT)
    return b"".join(chunks(fd))


def _open(stack: ExitStack, path: Path) -> int:
    """A regular file: a directory from elsewhere may hold a FIFO that nobody ever writes to."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}", hint=_HINT) from error
    stack.callback(os.close, fd)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise UsageError(f"{path} is no regular file", hint=_HINT)
    return fd
