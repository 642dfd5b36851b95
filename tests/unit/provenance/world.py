"""A small image with everything that is said about it: files, keys, policy, provenance, plan; each can be made anew."""

import base64
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import RefusedError
from mvmnix.formats import lock, manifest, strict, verity
from mvmnix.keys import Algorithm, PrivateKey, Role
from mvmnix.launch.gate.verify import Submission, VerifiedPlan, verify_plan
from mvmnix.model import HashMode, Image, Source, StorePath, Verity
from mvmnix.plan import plan as plans
from mvmnix.plan.plan import Plan
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.bundle.statement import Statement, Subject
from mvmnix.provenance.policy import default_policy
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa import parts, predicate
from mvmnix.provenance.slsa.parts import Part, Parts
from mvmnix.provenance.slsa.provenance import (
    MICROVM,
    BuilderLimits,
    Cached,
    KeptPath,
    LockAccount,
    Provenance,
    RootTree,
    Versions,
    lock_account,
)
from mvmnix.provenance.verify.image_layouts import ImageEvidence
from mvmnix.vmm.boot_files import OpenFiles
from tests.policies import effective

NOW = datetime(2026, 9, 1, 12, 0, tzinfo=UTC)
SALT = bytes(range(32))
COMMIT = "1" * 40
BLOCKS = 200
BUILDER_FILES = ("kernel", "initrd", "rootfs", "manifest.json")
DEB = Source("mirror://debian/pool/main/b/bash.deb", "bash.deb", Digest.of(b"bash"))
TOOL = Source("mirror://debian/pool/main/e/erofs.deb", "erofs.deb", Digest.of(b"erofs"))
SEED = Source("mirror://debian/pool/main/b/busybox.deb#usr/bin/busybox", "busybox", Digest.of(b"nar"), HashMode.NAR)
CACHE_KEY = "cache.example-1:" + base64.b64encode(bytes(32)).decode()
CACHED = Cached(
    StorePath.recursive("lib-1.0", Digest.of(b"lib")),
    "https://cache.example/nar/lib.nar.xz",
    Digest.of(b"the nar of lib"),
    CACHE_KEY,
)
KERNEL = Part(StorePath.recursive("kernel-6", Digest.of(b"kernel")), Digest.of(b"the nar of kernel"))
TOOLS = Part(StorePath.recursive("tools", Digest.of(b"tools")), Digest.of(b"the nar of tools"))
LOCK = b"""{"nodes": {
  "root": {"inputs": {"mvm": "mvm", "used": "used", "nixpkgs": "nixpkgs"}},
  "mvm": {"locked": {"type": "path", "path": "../.."}, "original": {"type": "path", "path": "../.."}, "parent": []},
  "used": {"locked": {"type": "tarball", "url": "https://host/used.tar.gz",
    "narHash": "sha256-BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA="},
    "original": {"type": "tarball", "url": "https://host/used"}},
  "nixpkgs": {"locked": {"type": "tarball", "url": "https://host/nixpkgs.tar.gz",
    "narHash": "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="},
    "original": {"type": "tarball", "url": "https://host/nixpkgs"}}},
  "root": "root", "version": 7}"""
TOUCHED = Digest.from_sri("sha256-BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=")

type Json = dict[str, Any]
type Change = Callable[[Json], object]

BUILDER, PLANNER, HOST, STRANGER = (PrivateKey.generate(kind) for kind in (*Algorithm, *Algorithm))


def trust() -> bytes:
    keys = {Role.BUILDER: BUILDER.public, Role.PLANNER: PLANNER.public, Role.HOST: HOST.public}
    return default_policy.default_policy(keys, now=NOW)


def policy(old: str, new: str) -> TrustPolicy:
    """The policy of a world, with another text in place of one that stands there."""
    text = trust().decode()
    assert old in text
    return effective(None, text.replace(old, new).encode())


def manifest_value(*, kernel: bytes, initrd: bytes, rootfs: bytes, tree: Verity, name: str = "hello") -> Json:
    files = {"kernel": kernel, "initrd": initrd, "rootfs": rootfs}
    return {
        "version": 1,
        "system": "x86_64-linux",
        "name": name,
        "artifacts": {
            file: {"file": file, "sha256": Digest.of(data).hex, "size": len(data)} for file, data in files.items()
        },
        "verity": {
            "algorithm": "sha256",
            "blockSize": 4096,
            "root": tree.root.hex,
            "salt": tree.salt.hex(),
            "uuid": tree.uuid,
            "dataBlocks": tree.data_blocks,
            "hashOffset": tree.hash_offset,
        },
        "kernelCommandLine": "console=hvc0 quiet",
        "workload": {
            "command": ["/bin/hello", "world"],
            "environment": {"PATH": "/bin"},
            "directory": "/",
            "user": {"uid": 1000, "gid": 1000},
        },
        "vcpus": 1,
        "memoryMiB": 128,
        "scratchMiB": 16,
        "posture": "dev",
        "verbs": ["exec", "stream", "shell", "copy", "snapshot"],
        "writable": [],
        "sources": [{"uri": it.uri, "name": it.name, "sha256": it.digest.hex} for it in (DEB,)],
    }


def rootfs_of(directory: Path, seed: int = 0) -> tuple[bytes, Verity]:
    data = b"".join(Digest.of(bytes((seed, number))).raw * 128 for number in range(BLOCKS))
    path = directory / "data"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        tree = verity.hash_tree(fd, data_blocks=BLOCKS, salt=SALT)
    finally:
        os.close(fd)
    described = Verity(tree.root, SALT, "12345678-1234-4234-8234-123456789abc", BLOCKS, BLOCKS * 4096)
    return data + verity.superblock(described) + tree.blocks, described


@dataclass
class World:
    """Everything that a verification is handed; the parts are consistent until a test changes one."""

    kernel: bytes
    initrd: bytes
    rootfs: bytes
    manifest: bytes
    lock: bytes | None = LOCK
    policy: TrustPolicy = field(default_factory=lambda: effective(None, trust()))
    now: datetime = NOW
    provenance_bundle: bytes = b""
    plan_bundle: bytes = b""
    parts: tuple[bytes, ...] = ()
    sbom: bytes | None = None

    @property
    def image(self) -> Image:
        return manifest.parse(self.manifest)

    def provenance(self, **changes: Any) -> Provenance:
        locked = lock.parse(self.lock)
        made = Provenance(
            root=RootTree(f"git+https://host/repository?rev={COMMIT}", Digest.of(b"root tree"), COMMIT),
            directory="examples/hello",
            attribute="default",
            lock=locked.digest,
            nodes=lock_account(locked, {TOUCHED}),
            sources=(DEB, TOOL, SEED),
            builder_id=MICROVM,
            builder_image=tuple(Subject(name, Digest.of(name.encode())) for name in BUILDER_FILES),
            versions=Versions("0.1.0", "2.26.3"),
            limits=BuilderLimits(2, 2048, 4096, 3600),
            invocation="urn:uuid:12345678-1234-4234-8234-123456789abc",
            started=NOW - timedelta(minutes=9),
            finished=NOW - timedelta(minutes=7),
            derivation=None,
        )
        return replace(made, **changes)

    def sign_provenance(self, *changes: Change, key: PrivateKey = BUILDER, **fields: Any) -> None:
        statement = predicate.provenance_statement(self.provenance(**fields), self.image.artifacts)
        self.provenance_bundle = signed(statement, changes, key)

    def keep_parts(
        self, *changes: Change, key: PrivateKey = BUILDER, listed: Parts | None = None, **fields: Any
    ) -> None:
        """Sign a parts statement, and a provenance that says KERNEL came in under it."""
        bundle = signed(parts.to_statement(listed or self.own_parts(**fields)), changes, key)
        self.parts = (bundle,)
        self.sign_provenance(kept=(KeptPath(KERNEL.path, KERNEL.nar, Digest.of(bundle)),))

    def own_parts(self, **fields: Any) -> Parts:
        own = {"root": RootTree(parts.OWN_TREE, Digest.of(b"mvm"), None), "directory": "", "attribute": "parts"}
        build = self.provenance(**own | {"lock": None, "nodes": LockAccount((), (), ())} | fields)
        return Parts((KERNEL, TOOLS), build)

    def plan(self, **changes: Any) -> Plan:
        digest = Digest.of(self.provenance_bundle)
        made = Plan.for_image(self.image, policy=self.policy.digest, provenance=digest, now=NOW - timedelta(minutes=5))
        return replace(made, **changes)

    def sign_plan(self, *changes: Change, key: PrivateKey = PLANNER, **fields: Any) -> None:
        self.plan_bundle = signed(plans.plan_statement(self.plan(**fields)), changes, key)

    def change_policy(self, old: str, new: str) -> None:
        self.policy = policy(old, new)

    def change_manifest(self, change: Change) -> None:
        value = strict.parse_json(self.manifest)
        assert isinstance(value, dict)
        change(value)
        self.manifest = strict.canonical(value)

    def open(self, directory: Path) -> OpenFiles:
        fds = []
        for name, data in (("kernel", self.kernel), ("initrd", self.initrd), ("rootfs", self.rootfs)):
            (directory / name).write_bytes(data)
            fds.append(os.open(directory / name, os.O_RDONLY | os.O_CLOEXEC))
        return OpenFiles(*fds)

    @property
    def evidence(self) -> ImageEvidence:
        """All that lies beside the image."""
        return ImageEvidence(
            manifest=self.manifest,
            provenance=self.provenance_bundle,
            lock=self.lock,
            sbom=self.sbom,
            parts=self.parts,
        )

    def admitted(self, files: OpenFiles) -> VerifiedPlan:
        """What the gate says of the plan that was signed last, for these files; they stay open."""
        return verify_plan(Submission(self.plan_bundle, self.evidence, files), policy=self.policy, now=self.now)

    def verified(self, directory: Path) -> VerifiedPlan:
        """The same for its own files, which are put into this directory."""
        files = self.open(directory)
        try:
            return self.admitted(files)
        finally:
            for fd in (files.kernel, files.initrd, files.rootfs):
                os.close(fd)


def new_world(directory: Path, seed: int = 0) -> World:
    rootfs, tree = rootfs_of(directory, seed)
    kernel, initrd = b"kernel" * 1000 + bytes([seed]), b"initrd" * 1000 + bytes([seed])
    value = manifest_value(kernel=kernel, initrd=initrd, rootfs=rootfs, tree=tree)
    world = World(kernel, initrd, rootfs, strict.canonical(value))
    world.sign_provenance()
    world.sign_plan()
    return world


def signed(statement: Statement, changes: tuple[Change, ...], key: PrivateKey) -> bytes:
    value = strict.parse_json(statement.to_bytes())
    assert isinstance(value, dict)
    for change in changes:
        change(value)
    return envelope.sign(strict.canonical(value), key).to_bytes()


def resigned(bundle: bytes, payload: Callable[[bytes], bytes], key: PrivateKey) -> bytes:
    """The bundle of other payload bytes, for what no JSON value can say: duplicate keys, broken text."""
    return envelope.sign(payload(envelope.parse_bundle(bundle).payload), key).to_bytes()


def put(value: object, *path: str | int) -> Change:
    """Put a value at that path of the statement."""

    def change(it: Json) -> None:
        here: Any = it
        for step in path[:-1]:
            here = here[step]
        here[path[-1]] = value

    return change


def drop(*path: str | int) -> Change:
    """Remove what stands at that path of the statement."""

    def change(it: Json) -> None:
        here: Any = it
        for step in path[:-1]:
            here = here[step]
        del here[path[-1]]

    return change


def rewritten(bundle: bytes, change: Callable[[Mapping[str, Any]], object]) -> bytes:
    """The bundle with something changed around its payload, written canonically."""
    value = strict.parse_json(bundle)
    assert isinstance(value, dict)
    change(value)
    return strict.canonical(value)


def plan_refusal(plan: Plan, **said: object) -> RefusedError:
    """Why nobody reads that plan once its predicate says this instead, or besides."""
    claim = plans.plan_statement(plan)
    with pytest.raises(RefusedError) as caught:
        plans.from_statement(replace(claim, predicate=dict(claim.predicate) | said))
    return caught.value


def flipped_signature(bundle: bytes) -> bytes:
    def change(value: Mapping[str, Any]) -> None:
        entry = value["dsseEnvelope"]["signatures"][0]
        raw = bytearray(base64.b64decode(entry["sig"]))
        raw[-1] ^= 1
        entry["sig"] = base64.b64encode(raw).decode()

    return rewritten(bundle, change)
