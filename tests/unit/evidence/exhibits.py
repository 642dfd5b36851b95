"""Evidence to be shown: a small image with one of everything, held as if it were kept, and its graph."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode, RefusedError
from mvmnix.evidence.build import Judge, add_build
from mvmnix.evidence.graph import Draft, Graph, Node, NodeStatus, Verdict, refused
from mvmnix.evidence.stored_build import StoredBuild, StoredDocument
from mvmnix.evidence.trust import policy_node
from mvmnix.images.store import VerifiedImage
from mvmnix.keys import PrivateKey
from mvmnix.provenance.slsa.provenance import HOST_NIX, KeptPath, Provenance, Variation, subjects_of
from mvmnix.provenance.verify.verify import Verified, verify_provenance
from tests.policies import effective
from tests.unit.provenance.world import BUILDER, CACHE_KEY, CACHED, KERNEL, NOW, World, new_world, trust

SBOM = b'{"bomFormat": "CycloneDX"}'
VARIED = Variation("rebuild", 86_400, "reversed")
POLICY = trust() + f'\n[[caches]]\nkey = "{CACHE_KEY}"\n'.encode()


@dataclass
class Exhibit:
    """A world, the world of its builder's image, and bundles of rebuilds: all that there is to be shown."""

    world: World
    builder: World
    rebuilds: tuple[bytes, ...] = ()

    def sign(self, *changes: Any, key: PrivateKey = BUILDER, **fields: Any) -> None:
        """Sign the provenance anew, with fields of a claim or of its JSON changed."""
        said = {
            "kept": tuple(KeptPath(KERNEL.path, KERNEL.nar, Digest.of(data)) for data in self.world.parts),
            "cached": (CACHED,),
            "sbom": Digest.of(SBOM),
            "builder_image": subjects_of(self.builder.image.artifacts),
        }
        self.world.sign_provenance(*changes, key=key, **said | fields)

    def stored(self) -> StoredBuild:
        """Everything, as it would be read if all of it were well."""
        return replace(held_of(self.world), builder=held_of(self.builder))

    def judge(self) -> Judge:
        return Judge(self.world.policy, NOW, self._testimony)

    def _testimony(self, first: VerifiedImage) -> Iterator[tuple[str, Verified[Provenance] | RefusedError]]:
        world = self.world
        for bundle in self.rebuilds:
            try:
                found: Verified[Provenance] | RefusedError = verify_provenance(
                    world.evidence.of_rebuild(bundle),
                    policy=world.policy,
                    artifacts=first.image.artifacts,
                    image=first.image,
                    now=NOW,
                )
            except RefusedError as error:
                found = error
            yield Digest.of(bundle).hex, found

    def graph(self, stored: StoredBuild | None = None) -> Graph:
        """The graph of the image."""
        draft = Draft()
        image = add_build(draft, stored or self.stored(), self.judge())
        draft.add(policy_node(self.world.policy, NOW, None))
        return draft.done(image)


def exhibit(directory: Path) -> Exhibit:
    """An image with an SBOM, a kept part, a path from a cache, a rebuild, and a builder that is kept, too."""
    (directory / "builder").mkdir()
    world, builder = new_world(directory), new_world(directory / "builder", seed=7)
    world.policy = builder.policy = effective(None, POLICY)
    builder.change_manifest(lambda value: value.update({"name": "builder"}))
    builder.sign_provenance(builder_id=HOST_NIX, builder_image=(), limits=None)
    world.keep_parts()
    world.sbom = SBOM
    made = Exhibit(world, builder)
    world.sign_provenance(variation=VARIED, invocation="another", finished=NOW - timedelta(minutes=1))
    made.rebuilds = (world.provenance_bundle,)
    made.sign()
    return made


def held_of(world: World) -> StoredBuild:
    """What the library would have of this world."""
    image, parts = world.image, tuple(document(data) for data in world.parts)
    manifest, bundle = document(world.manifest), document(world.provenance_bundle)
    lock, sbom = (None if data is None else document(data) for data in (world.lock, world.sbom))
    files = {artifact.name: artifact for artifact in (image.kernel, image.initrd, image.rootfs)}
    return StoredBuild(manifest, bundle, lock, sbom, parts, files)


def document(data: bytes) -> StoredDocument:
    return StoredDocument(Digest.of(data), data)


def node(graph: Graph, key: str) -> Node:
    """A node by its key, members included."""
    return next(each for each in graph.all() if each.key == key)


HOSTILE = (
    "<script>alert(1)</script>",
    '"onload="alert(1)',
    "' onmouseover='alert(1)",
    "</style><style>*{display:none}</style>",
    "</title><script>alert(1)</script>",
    "--><img src=x onerror=alert(1)>",
    "]]><svg/onload=alert(1)>",
    "&lt;b&gt;&#60;",
    "javascript:alert(1)",
    "\u202etxt.exe\u2066\u200b",
    "\x1b[2J\x07\x00\x9b",
    "\ud800",
    "a\r\nb",
)
#: Names that have no room in a box.
LONG = ("x" * 300, "W" * 30, "\u4e16" * 30, "\x1b" * 30, "i" * 60, "/nix/store/" + "0" * 32 + "-name")


def everywhere(node: Node, evil: str) -> Node:
    """A node all of whose text is a stranger's."""
    reason = Reason(ReasonCode.UNEXPECTED, evil, evil, evil)
    verdict: Verdict = refused([reason]) if node.verdict.standing is NodeStatus.VERIFIED else node.verdict
    members = tuple(everywhere(member, evil) for member in node.members)
    return replace(node, name=evil, digest=evil, signer=evil, verdict=verdict, facts=((evil, evil),), members=members)
