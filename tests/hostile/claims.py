"""What an attacker makes of claims: each takes a rig and changes one thing, the layers around it signed anew."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from mvmnix.digest import Digest
from mvmnix.formats import manifest
from mvmnix.keys import Algorithm, PrivateKey, Role
from mvmnix.model import Image, Source, Verb
from mvmnix.plan.plan import Window
from tests.hostile.rig import Move, Rig
from tests.policies import effective
from tests.unit.provenance.world import flipped_signature, put, rewritten

STRANGER: Final = PrivateKey.generate(Algorithm.ECDSA_P256)
PREDICATE: Final = ("predicate",)


def plan(*changes: Any, **fields: Any) -> Move:
    return lambda it: it.sign_plan(*changes, **fields)


def provenance(*changes: Any, **fields: Any) -> Move:
    return lambda it: it.sign_provenance(*changes, **fields)


def signed_by(role: Role) -> Move:
    return lambda it: it.sign_plan(key=it.role(role))


def unsigned(it: Rig) -> None:
    it.plan = rewritten(it.plan, lambda value: value["dsseEnvelope"].update(signatures=[]))


def without_a_signature(it: Rig) -> None:
    it.plan = rewritten(it.plan, lambda value: value["dsseEnvelope"]["signatures"][0].update(sig=""))


def with_a_broken_signature(it: Rig) -> None:
    it.plan = flipped_signature(it.plan)


def signed_twice(it: Rig) -> None:
    def twice(value: Any) -> None:
        value["dsseEnvelope"]["signatures"] *= 2

    it.plan = rewritten(it.plan, twice)


def reformatted(it: Rig) -> None:
    it.plan += b"\n"


def another_hint(it: Rig) -> None:
    """Signed by a stranger, under the planner's name."""
    hint = it.role(Role.PLANNER).public.hint
    it.sign_plan(key=STRANGER)
    it.plan = rewritten(it.plan, lambda value: value["verificationMaterial"]["publicKey"].update(hint=hint))


def provenance_for_a_plan(it: Rig) -> None:
    """The planner signs a provenance, and hands it in as a plan."""
    before = it.provenance
    it.sign_provenance(key=it.role(Role.PLANNER))
    it.plan, it.provenance = it.provenance, before


def window(**times: timedelta) -> Move:
    begin, end = times.get("begin", timedelta()), times.get("end", timedelta(hours=1))
    return lambda it: it.sign_plan(window=Window(second(it.now + begin), second(it.now + end)))


def second(time: datetime) -> datetime:
    return time.replace(microsecond=0)


def with_a_verb(it: Rig) -> None:
    it.change_manifest(put("dev", "posture"))
    it.sign_plan(verbs=frozenset({Verb.EXEC}))


def for_another_image(it: Rig) -> None:
    """A plan for the builder image, with the evidence of this one."""
    ours, it.manifest = it.manifest, it.rooms.library.manifest(it.builder.manifest)
    it.sign_plan()
    it.manifest = ours


def with_another_bundle(it: Rig) -> None:
    """The builder signs the same claim again; the plan was made with the first."""
    before = it.plan
    it.sign_provenance(invocation="urn:uuid:again")
    it.plan = before


def of_another_build(it: Rig) -> None:
    """The evidence of the builder image, for the files of this one."""
    it.provenance = it.rooms.library.bundle(it.builder.bundle)
    it.sign_plan()


def with_a_file_of_another_build(name: str) -> Move:
    """A provenance and a plan that both name one file of the builder image among those of this one."""

    def move(it: Rig) -> None:
        other = {a.name: a for a in _image(it, it.builder.manifest).artifacts}[name]
        mixed = tuple(other if artifact.name == name else artifact for artifact in it.image.artifacts)
        it.sign_provenance(artifacts=mixed)

    return move


def _image(it: Rig, digest: Digest) -> Image:
    return manifest.parse(it.rooms.library.manifest(digest))


def lock_with_a_newline_more(it: Rig) -> None:
    assert it.lock is not None
    it.lock += b"\n"


def with_other_sources(change: Callable[[Source], Iterable[Source]]) -> Move:
    """The provenance lists something else for the first of the sources that the manifest names."""

    def move(it: Rig) -> None:
        first = it.image.sources[0]
        listed = [(change(source) if source == first else (source,)) for source in it.claim.sources]
        it.sign_provenance(sources=tuple(source for sources in listed for source in sources))

    return move


def lock_with_another_node(it: Rig) -> None:
    """Built from this lock, the provenance says; the lock that is handed in locks another nixpkgs."""
    assert it.lock is not None
    it.lock = it.lock.replace(b"vUfIeBEfpbAfZ5zjgIkYk7eHBeVfCYVjLbWnMkseYnk=", b"A" * 43 + b"=")


def provenance_of_that_lock(it: Rig) -> None:
    """The provenance names that lock's bytes, and the trees of the first."""
    lock_with_another_node(it)
    assert it.lock is not None
    it.sign_provenance(lock=Digest.of(it.lock))


def nodes(**changes: Any) -> Move:
    return lambda it: it.sign_provenance(nodes=replace(it.claim.nodes, **changes))


def policy(old: str, new: str) -> Move:
    """Another policy in force, under which the plan was made."""

    def move(it: Rig) -> None:
        text = (it.home.config / "trust.toml").read_text()
        assert old in text
        it.policy = effective(None, text.replace(old, new).encode())
        it.sign_plan()

    return move


def another_policy(it: Rig) -> None:
    text = (it.home.config / "trust.toml").read_bytes()
    it.policy = effective(None, text + b"# one more line\n")


def kernel_command_line(text: str) -> Move:
    """The plan says so. (The manifest can't: its own grammar has no such line.)"""
    return lambda it: it.sign_plan(command_line=text)


def manifest_command_line(text: str) -> Move:
    return lambda it: it.change_manifest(put(text, "kernelCommandLine"))
