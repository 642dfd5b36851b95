"""Finds what the user named, and builds the graph of its evidence from what is kept here."""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from mvmnix.api import KEPT_SCHEME, Context, file_bytes, latest_serials, open_replay
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, Reason, ReasonCode, UsageError
from mvmnix.evidence.build import Judge, add_build
from mvmnix.evidence.gather import (
    MANIFEST,
    clock_doubt,
    exported_build,
    gate_of,
    plan_of_machine,
    rebuild_evidence_of,
    stored_build,
    stored_machine,
    with_builder,
)
from mvmnix.evidence.graph import Draft, Graph, refused, verdict_of
from mvmnix.evidence.machine_nodes import StoredMachine, add_machine
from mvmnix.evidence.plan_nodes import (
    CheckedPlan,
    Gate,
    add_plan,
    check_plan,
    missing_image,
    missing_plan,
    undated_node,
    with_replay,
)
from mvmnix.evidence.trust import policy_node
from mvmnix.images.prune import SHORTEST
from mvmnix.images.rebuilds import RebuildStore
from mvmnix.images.store import STATEMENT_LIMIT, IndexEntry
from mvmnix.machines import registry
from mvmnix.machines.machine_dir import machine_ids
from mvmnix.machines.registry import MachineEntry as Machine
from mvmnix.suggestion import did_you_mean

_PREFIX: Final = "sha256:"
_BEGINNING: Final = re.compile(rf"[0-9a-f]{{{SHORTEST},64}}")

#: A plan's bytes, a machine, the kept builds of an image, or the directory of an exported one.
type Subject = bytes | Machine | tuple[IndexEntry, ...] | Path


def find_subject(context: Context, text: str, notice: Callable[[str], None]) -> Subject:
    """What a text names: a plan's file (`-`: stdin), a machine, an image. Raises UsageError for none and for two.

    Of several machines with one name it is the one that `registry.find_machine` means; `notice` is told which that is.
    """
    if text == "-":
        return file_bytes(text, STATEMENT_LIMIT)
    if text.startswith((_PREFIX, KEPT_SCHEME)):
        return _entries(context, text.removeprefix(KEPT_SCHEME))
    meant = dict(_meant(context, text, notice))
    if not meant:
        near = did_you_mean(text, (it.status.name for it in registry.list_entries(context.machines)))
        hint = f"{near}`mvm images` lists images, `mvm ps --all` machines"
        raise UsageError(f"there is no plan, machine or image {text!r} here", hint=hint)
    if len(meant) > 1:
        hint = f"say ./{text} for the file or directory, {KEPT_SCHEME}{text} for the image, the machine by its whole id"
        raise UsageError(f"{text!r} is {' and '.join(meant)}", hint=hint)
    (take,) = meant.values()
    return take()


def _meant(context: Context, text: str, notice: Callable[[str], None]) -> Iterator[tuple[str, Callable[[], Subject]]]:
    """All that a text could name, and how to get it."""
    path = Path(text)
    if text and path.is_file():
        yield "a file", lambda: file_bytes(text, STATEMENT_LIMIT)
    if text and (path / MANIFEST).is_file():
        yield "a directory", lambda: path
    names = {it.status.name for it in registry.list_entries(context.machines)}
    if text and (text in names or any(machine.startswith(text) for machine in machine_ids(context.machines))):
        yield "a machine", lambda: _machine_called(context, text, notice)
    digests = (entry.manifest.hex for entry in context.library.entries())
    is_digest = _BEGINNING.fullmatch(text) and any(digest.startswith(text) for digest in digests)
    if is_digest or text in context.kept_images.names():
        yield "an image", lambda: _entries(context, text)


def _machine_called(context: Context, text: str, notice: Callable[[str], None]) -> Machine:
    found = registry.find_machine(context.machines, text)
    namesakes = sum(it.status.name == text for it in registry.list_entries(context.machines))
    if namesakes > 1:
        notice(f"{namesakes} machines are called {text}: shown is {found.status.machine}; name another by its id")
    return found


def _entries(context: Context, text: str) -> tuple[IndexEntry, ...]:
    return tuple(dict.fromkeys(entry for _, entry in context.kept_images.find(text)))


def graph_of(context: Context, found: Subject, now: datetime) -> Graph:
    """All evidence of it, verified at this moment. Raises RefusedError when there is no policy to verify it under."""
    rebuilds = RebuildStore(context.roots.state)
    policy = context.policy
    judge = Judge(policy, now, lambda first: rebuilds.each(first, policy=policy, now=now))
    draft = Draft()
    match found:
        case bytes():
            subject = _plan(draft, context, found, judge)
        case Path():
            subject = _export(draft, context, found, judge)
        case Machine():
            subject = _machine(draft, context, found, judge)
        case _:
            subject = _image(draft, context, found, judge)
    draft.add(policy_node(policy, now, latest_serials(context), clock_doubt(context)))
    return draft.done(subject)


def _image(draft: Draft, context: Context, entries: Iterable[IndexEntry], judge: Judge) -> str:
    subject = ""
    for number, entry in enumerate(entries):
        subject = add_build(draft, stored_build(context, entry), judge, at=f"{number + 1}/" if number else "")
    return subject


def _export(draft: Draft, context: Context, directory: Path, judge: Judge) -> str:
    stored = with_builder(context, exported_build(directory))
    rebuild_evidence = rebuild_evidence_of(stored, policy=judge.policy, now=judge.now)
    return add_build(draft, stored, Judge(judge.policy, judge.now, rebuild_evidence))


def _plan(draft: Draft, context: Context, bundle: bytes, judge: Judge) -> str:
    shown = check_plan(bundle, judge, None)
    if shown.plan is None:
        return add_plan(draft, Digest.of(bundle), shown, image="", provenance="")
    manifest = shown.plan.manifest
    entry = _find(context, manifest, shown.plan.provenance)
    if entry is None:
        image = missing_image(draft, shown.plan.image, manifest)
    else:
        image = add_build(draft, stored_build(context, entry), judge)
        shown = check_plan(bundle, judge, gate_of(context, entry))
    shown = with_replay(shown, open_replay(context, _silent).judge)
    return add_plan(draft, Digest.of(bundle), shown, image=image, provenance="provenance")


def _silent(_: str) -> None:
    """Prints nothing: the verdicts say it."""


def _machine(draft: Draft, context: Context, machine: Machine, judge: Judge) -> str:
    stored = stored_machine(context, machine)
    manifest, provenance = stored.build
    entry = _find(context, manifest, provenance)
    if entry is None:
        image = missing_image(draft, machine.status.image, manifest)
    else:
        image = add_build(draft, stored_build(context, entry), judge)
    bundle = plan_of_machine(context, machine)
    if bundle is None:
        missing_plan(draft, stored.plan)
    else:
        gate = None if entry is None else gate_of(context, entry)
        shown = _used(bundle, stored, judge, gate)
        add_plan(draft, stored.plan, shown, image=image, provenance="provenance")
    return add_machine(draft, stored, judge)


def _used(bundle: bytes | MvmnixError, stored: StoredMachine, judge: Judge, gate: Gate | None) -> CheckedPlan:
    """The plan that a machine keeps: of the digest that the log says, and verified as of its logged start."""
    if isinstance(bundle, MvmnixError):
        return CheckedPlan((), None, verdict_of(bundle))
    if (found := Digest.of(bundle)) != stored.plan:
        why, hint = f"the machine was started from {stored.plan}, its plan here is {found}", "it was changed"
        return CheckedPlan((), None, refused([Reason(ReasonCode.PLAN_MISMATCH, "the plan", why, hint)]))
    if stored.start is None:
        return undated_node(check_plan(bundle, judge, gate))
    return check_plan(bundle, judge, gate, stored.start.record.time)


def _find(context: Context, manifest: Digest | None, provenance: Digest | None) -> IndexEntry | None:
    return next((it for it in context.library.entries() if (it.manifest, it.bundle) == (manifest, provenance)), None)
