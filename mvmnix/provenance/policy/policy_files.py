"""The only place that fetches a trust policy: from the machine's floor and the user's configuration, nowhere else.

A policy never comes from the working directory, a flake, a plan or a bundle: those belong to the party to be judged.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Final, override

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, UnreadableError, refuse
from mvmnix.provenance.identity import revocations
from mvmnix.provenance.identity.revocations import RevocationFile
from mvmnix.provenance.policy.merge import PolicyInputs, combine
from mvmnix.provenance.policy.policy import PolicyFile, RootPin, TrustPolicy, digest_of
from mvmnix.provenance.policy.trust_text import FILE_NAME, parse
from mvmnix.provenance.trust_toml import LIMIT
from mvmnix.system.private_dirs import Directory

#: The machine owner's directory, whose files user files only narrow.
FLOOR: Final = "/etc/mvmnix"
#: Beside trust.toml, the directory of the trust roots that it pins: NAME.json.
ROOTS: Final = "roots"
#: The trust root that the sigstore library ships, where no file of that name is there.
PUBLIC_GOOD: Final = "public-good"


class Roots(Mapping[Digest, bytes]):
    """Trust roots by the SHA-256 that a policy pins; those that are kept by a library are read when first asked for."""

    def __init__(self, found: Mapping[Digest, bytes], shipped: Mapping[Digest, Callable[[], bytes]]) -> None:
        self._found = dict(found)
        self._shipped = dict(shipped)

    @override
    def __getitem__(self, digest: Digest) -> bytes:
        if digest not in self._found:
            data = self._shipped[digest]()
            if Digest.of(data) != digest:
                why = f"the policy pins {digest}, the sigstore library here ships {Digest.of(data)}"
                hint = f"put the pinned one into {ROOTS}/{PUBLIC_GOOD}.json beside trust.toml, or pin that one"
                raise refuse(ReasonCode.ROOT_MISMATCH, f"the trust root {PUBLIC_GOOD!r}", why, hint)
            self._found[digest] = data
        return self._found[digest]

    @override
    def __contains__(self, digest: object) -> bool:
        return digest in self._found or digest in self._shipped

    @override
    def __iter__(self) -> Iterator[Digest]:
        return iter(self._found.keys() | self._shipped.keys())

    @override
    def __len__(self) -> int:
        return len(self._found.keys() | self._shipped.keys())


def read_policy_files(floor: str | None, config: Directory | None) -> "tuple[Files, Files]":
    """What the machine's files and the user's say; `in_force` makes a policy of it.

    `floor` is the path of the directory with the machine's (`FLOOR` but in tests), `config` the user's directory, which
    is none in a checkout (system/checkouts.py). Raises RefusedError: STATE_PERMISSIONS when others could change a file,
    POLICY_MALFORMED.
    """
    if floor is None:
        return Files(None), Files(config)
    try:
        with Directory.open(floor) as directory:
            return Files(directory), Files(config)
    except FileNotFoundError:
        return Files(None), Files(config)


def is_there(floor: str, config: Directory) -> bool:
    """Whether there is a policy file, the machine's or the user's; it is not read."""
    return config.exists(FILE_NAME) or os.path.exists(f"{floor}/{FILE_NAME}")  # noqa: PTH110 - a text


class Files:
    """What one directory says: `policy` and `revoked` are None where there is no such file."""

    def __init__(self, directory: Directory | None) -> None:
        self.text = _read(directory, FILE_NAME)
        self.policy: PolicyFile | None = _parse_file(directory, FILE_NAME, self.text, parse)
        revoked = _read(directory, revocations.FILE_NAME)
        self.revoked = _parse_file(directory, revocations.FILE_NAME, revoked, RevocationFile.parse)
        pins = () if self.policy is None else self.policy.roots
        self.roots = {} if directory is None else {pin.digest: data for pin in pins for data in _root(directory, pin)}
        self.shipped = {pin.digest: _public_good for pin in pins if pin.name == PUBLIC_GOOD}


def in_force(floor: Files, user: Files) -> TrustPolicy:
    """The policy that is in force where these are the machine's files and the user's. Raises RefusedError."""
    found = Roots(floor.roots | user.roots, floor.shipped | user.shipped)
    around = PolicyInputs((floor.revoked, user.revoked), found)
    return combine(floor.policy, user.policy, digest_of(floor.text, user.text), around)


def _root(directory: Directory, pin: RootPin) -> Iterator[bytes]:
    """The bytes of the pinned file, if it is there and is that one."""
    if not directory.exists(ROOTS):
        return
    with directory.existing(ROOTS) as roots:
        data = _read(roots, f"{pin.name}.json")
    if data is not None and Digest.of(data) == pin.digest:
        yield data


def _public_good() -> bytes:
    from mvmnix.provenance.identity.sigstore import public_good_root  # noqa: PLC0415 - imports what most launches need not pay

    return public_good_root()


def _parse_file[T](
    directory: Directory | None, name: str, data: bytes | None, parse: Callable[[bytes, str], T]
) -> T | None:
    """Return what a file says; None where there is none. `parse` takes its bytes and its path."""
    return None if directory is None or data is None else parse(data, directory.where(name))


def _read(directory: Directory | None, name: str) -> bytes | None:
    if directory is None:
        return None
    try:
        return directory.read(name, LIMIT)
    except FileNotFoundError:
        return None
    except UnreadableError as error:
        hint = "no policy that people read is that large: docs/reference/trust-policy.md"
        raise refuse(ReasonCode.POLICY_MALFORMED, directory.where(name), error.message, hint) from error
