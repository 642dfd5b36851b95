"""`mvm verify` as a process: with a key beside Debian's cosign, keyless beside a bare program, and of 1,000 files.

The bare program does the same with the `sigstore` library alone: it reads artifact, bundle and trust root, verifies,
and looks for the artifact among the statement's subjects. Of 1,000 files the time of one is taken off.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.measurement import Figure, in_time, in_turns_with
from bench.pairs import Pair, pair_by_both
from mvmnix.digest import Digest
from mvmnix.formats import strict
from mvmnix.keys import Algorithm, PrivateKey
from mvmnix.provenance.bundle import envelope
from tests.integration.interop import EMPTY_ROOT
from tests.private_sigstore import Sigstore, merged
from tests.unit.provenance import world as worlds

SUBJECT, ISSUER = "ci@mvmnix.test", "https://issuer.test"
TYPE: Final = "https://mvmnix.test/predicate/v1"
FILES: Final = 1000
_CLOCKS: Final = ("on the wall", "user and system time")
_BARE: Final = f"""
import hashlib, json
from pathlib import Path
from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier, policy
digest = hashlib.sha256(Path("app.img").read_bytes()).hexdigest()
bundle = Bundle.from_json(Path("keyless.json").read_bytes())
verifier = Verifier(trusted_root=TrustedRoot.from_file("root.json"))
kind, payload = verifier.verify_dsse(bundle, policy.Identity(identity={SUBJECT!r}, issuer={ISSUER!r}))
assert kind == "application/vnd.in-toto+json"
assert any(each["digest"].get("sha256") == digest for each in json.loads(payload)["subject"])
"""


def verify(*, rounds: int) -> Iterator[Figure]:
    """Measure it on the wall, and by user and system time; needs no world."""
    with tempfile.TemporaryDirectory(prefix="mvmnix-bench-") as name:
        place = _Place(Path(name))
        place.fill()
        key, identity = ("--key", "key.pub"), ("--certificate-identity", SUBJECT, "--certificate-oidc-issuer", ISSUER)
        ours = place.mvm(*key, "app.img")
        found = pair_by_both(ours, place.cosign(), rounds=3 * rounds)
        yield from _figures("--key", "cosign", found, "ratio at most 4")
        ours = place.mvm(*identity, "--trusted-root", "root.json", "--bundle", "keyless.json", "app.img")
        bare = place.run(sys.executable, "-c", _BARE)
        found = pair_by_both(ours, bare, rounds=3 * rounds)
        yield from _figures("keyless", "the library alone", found, "ratio at most 1.2")
        for how, bundle in (
            ("a bundle beside each", ()),
            ("one statement about all", ("--bundle", "all.json")),
            (f"{FILES:,} bundles in a file", ("--bundle", "each.jsonl")),
        ):
            many, one = place.mvm(*key, *bundle, *place.names), place.mvm(*key, *bundle, place.names[0])
            found = pair_by_both(many, one, rounds=rounds)
            what = f"--key, {FILES:,} files, {how}"
            yield from _figures(what, "one of them", found, "")
            for by, it in zip(_CLOCKS, found, strict=True):
                yield in_time(f"mvm verify {what}, a file, {by}", it.differences, "under 2", each=FILES - 1)


def _figures(what: str, compared: str, found: Sequence[Pair], asked: str) -> Iterator[Figure]:
    for by, it in zip(_CLOCKS, found, strict=True):
        yield in_turns_with(f"mvm verify {what}, {by}", compared, it, asked, unit="ms")


@dataclass(frozen=True, slots=True)
class _Place:
    """A directory with artifacts, bundles, a key and a trust root; where the programs run, with nothing else."""

    path: Path

    @property
    def names(self) -> list[str]:
        """Of the many files."""
        return [f"file-{number}" for number in range(FILES)]

    def fill(self) -> None:
        """Write all of it."""
        key, private = PrivateKey.generate(Algorithm.ECDSA_P256), Sigstore()
        self._put("key.pub", key.public.pem.encode())
        self._put("empty.json", EMPTY_ROOT)
        self._put("root.json", merged(private, Sigstore()))
        self._put("app.img", os.urandom(1 << 20))
        one = _statement(self._subject("app.img"))
        self._put("app.img.sigstore.json", envelope.sign(one, key).to_bytes())
        self._put("keyless.json", private.attest(one, at=worlds.NOW, subject=SUBJECT, issuer=ISSUER))
        bundles = []
        for name in self.names:
            self._put(name, name.encode() * 100)
            bundles.append(envelope.sign(_statement(self._subject(name)), key).to_bytes())
            self._put(f"{name}.sigstore.json", bundles[-1])
        self._put("each.jsonl", b"\n".join(bundles))
        self._put("all.json", envelope.sign(_statement(*map(self._subject, self.names)), key).to_bytes())

    def mvm(self, *arguments: str) -> Callable[[], None]:
        """As an installed `mvm` runs."""
        return self.run(str(Path(sys.executable).with_name("mvm")), "verify", *arguments)

    def cosign(self) -> Callable[[], None]:
        """The same bundle with the same key; it always wants a trust root, and reads an empty one."""
        options = ("--new-bundle-format", "--insecure-ignore-tlog", "--trusted-root", "empty.json", "--type", TYPE)
        given = ("--key", "key.pub", "--bundle", "app.img.sigstore.json")
        return self.run("cosign", "verify-blob-attestation", *given, *options, "app.img")

    def run(self, *argv: str) -> Callable[[], None]:
        """A process that has to succeed."""
        environment = {"HOME": str(self.path), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}

        def process() -> None:
            subprocess.run(argv, env=environment, cwd=self.path, check=True, capture_output=True)

        return process

    def _put(self, name: str, data: bytes) -> None:
        (self.path / name).write_bytes(data)

    def _subject(self, name: str) -> dict[str, object]:
        return {"name": name, "digest": {"sha256": Digest.of((self.path / name).read_bytes()).hex}}


def _statement(*subjects: dict[str, object]) -> bytes:
    head = {"_type": "https://in-toto.io/Statement/v1", "predicateType": TYPE, "subject": list(subjects)}
    return strict.canonical(head | {"predicate": {"made": "by hand"}})
