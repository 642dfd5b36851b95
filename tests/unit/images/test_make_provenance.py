"""What is signed about a build: verify_provenance accepts it, and it names all that came in."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mvmnix.builder.flakes.build_request import BuildRequest
from mvmnix.builder.flakes.flake_source import source_of
from mvmnix.builder.session.build import BuildRecord
from mvmnix.builder.session.session import BuildInputs
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.formats import lock, nar
from mvmnix.images import make_provenance
from mvmnix.images.store import VerifiedImage
from mvmnix.model import Source
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.slsa import predicate
from mvmnix.provenance.slsa.provenance import HOST_NIX, MICROVM, BuilderLimits, KeptPath, Provenance, Variation
from mvmnix.provenance.verify.image_layouts import ImageEvidence
from mvmnix.provenance.verify.verify import Verified, verify_provenance
from tests.fakes import DERIVATION, artifacts_of, source
from tests.unit.provenance.world import BUILDER, CACHED, COMMIT, DEB, KERNEL, LOCK, NOW, SEED, World, new_world

LIMITS = BuilderLimits(2, 2048, 4096, 3600)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return new_world(tmp_path)


def record_of(world: World, commit: str | None = COMMIT) -> BuildRecord:
    uri = "path:x" if commit is None else f"git+file:x?rev={commit}"
    flake = source_of(nar.Dir({b"flake.nix": nar.File.of(b"{}")}), uri=uri, commit=commit, directory="")
    started = NOW - timedelta(minutes=2)
    return BuildRecord(
        request=BuildRequest(replace(flake, lock=LOCK), lock.parse(LOCK), "hello"),
        image=world.image,
        derivation=DERIVATION,
        given=BuildInputs((DEB, SEED)),
        nix="2.26.3",
        started=started,
        finished=NOW,
    )


def verified(claim: Provenance, world: World) -> Verified[Provenance]:
    bundle = envelope.sign(predicate.provenance_statement(claim, world.image.artifacts).to_bytes(), BUILDER).to_bytes()
    evidence = ImageEvidence(manifest=world.manifest, provenance=bundle, lock=LOCK)
    return verify_provenance(evidence, policy=world.policy, artifacts=artifacts_of(world), image=world.image, now=NOW)


def builder_image(world: World) -> VerifiedImage:
    evidence = ImageEvidence(manifest=world.manifest, provenance=world.provenance_bundle, lock=LOCK)
    return VerifiedImage(world.image, evidence, verified(world.provenance(), world))


@pytest.mark.parametrize("commit", [COMMIT, None])
def test_a_build_in_the_vm(world: World, commit: str | None) -> None:
    record = record_of(world, commit)
    claim = make_provenance.by_builder(record, mvm="0.1.0", builder=builder_image(world), limits=LIMITS)
    assert verified(claim, world).claim == claim
    assert claim.builder_id == MICROVM
    assert {(it.name, it.digest) for it in claim.builder_image} == {(a.name, a.digest) for a in artifacts_of(world)}
    assert (claim.root.nar, claim.root.commit) == (record.request.flake.nar, commit)
    assert (claim.attribute, claim.directory, claim.lock) == ("hello", "", Digest.of(LOCK))
    assert claim.sources == record.given.sources
    assert claim.nodes.inputs == ()
    assert {node.node for node in claim.nodes.untouched} == {"used", "nixpkgs"}
    assert claim.nodes.relative == ("mvm",)
    assert (claim.versions.mvm, claim.versions.nix, claim.limits) == ("0.1.0", "2.26.3", LIMITS)
    assert (claim.derivation, claim.started, claim.finished) == (DERIVATION, record.started, record.finished)


def test_the_host_s_nix_is_believed_for_the_builder_image_only(world: World) -> None:
    claim = make_provenance.by_host_nix(record_of(world, None), mvm="0.1.0")
    assert (claim.builder_id, claim.builder_image, claim.limits) == (HOST_NIX, (), None)
    with pytest.raises(RefusedError) as refusal:
        verified(claim, world)
    assert refusal.value.codes == (ReasonCode.BUILDER_NOT_ADMITTED,)
    world.change_manifest(lambda value: value.update(name="builder"))
    assert verified(make_provenance.by_host_nix(record_of(world, None), mvm="0.1.0"), world).level == 1


def test_whatever_else_came_in_is_said_too(world: World) -> None:
    kept = KeptPath(KERNEL.path, KERNEL.nar, Digest.of(b"a bundle"))
    record = replace(
        record_of(world),
        given=BuildInputs((DEB, SEED), cached=(CACHED,), kept=(kept,)),
        from_derivation=True,
        variation=Variation("other", 60, "reversed"),
    )
    claim = make_provenance.by_builder(record, mvm="0.1.0", builder=builder_image(world), limits=LIMITS)
    assert (claim.cached, claim.kept, claim.variation) == ((CACHED,), (kept,), record.variation)
    assert claim.from_derivation
    assert predicate.read_provenance(predicate.provenance_statement(claim, ())) == claim


def test_every_invocation_has_a_name_of_its_own(world: World) -> None:
    names = {make_provenance.by_host_nix(record_of(world), mvm="0.1.0").invocation for _ in range(10)}
    assert len(names) == 10


@pytest.mark.parametrize(
    "given",
    [(), (SEED,), (replace(DEB, uri="mirror://debian/other"),), (replace(DEB, digest=Digest.of(b"other")),)],
)
def test_a_source_that_the_manifest_names_and_that_never_came_in(world: World, given: tuple[Source, ...]) -> None:
    record = record_of(world)
    make_provenance.check_sources(record)
    make_provenance.check_sources(replace(record, given=BuildInputs((DEB, SEED, source("more", b"more")))))
    with pytest.raises(RefusedError) as refusal:
        make_provenance.check_sources(replace(record, given=BuildInputs(given)))
    assert refusal.value.codes == (ReasonCode.DEPENDENCY_MISMATCH,)
    assert DEB.name in refusal.value.reasons[0].why
    make_provenance.check_sources(replace(record, given=BuildInputs(given)), (world.own_parts(),))
