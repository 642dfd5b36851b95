"""Prepares a start in one piece of work that may block: opens state, has an image, and a signed plan for it."""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Final, Literal, TypedDict

from mvmnix.api.context import Context, open_context
from mvmnix.api.first_use import is_first_use
from mvmnix.api.image_builder import named_source
from mvmnix.api.kept_plans import plan_bytes
from mvmnix.api.machine_store import put_in_order
from mvmnix.api.plans import PlanOptions, open_signed
from mvmnix.api.preparation import prepare_run
from mvmnix.api.source_refs import KeptImage, SourceRef, runnable_ref
from mvmnix.model import SystemCalls, User, Verb
from mvmnix.plan import labels as plan_labels
from mvmnix.plan.backend import Backend
from mvmnix.plan.data_disk import DataDisk
from mvmnix.plan.fields import LEAST_MIB, MOST_MIB, MOST_VCPUS
from mvmnix.plan.limits import PlanLimits
from mvmnix.plan.plan import Accelerator, Start, Use
from mvmnix.sdk.arguments import between, check_options, choices, seconds
from mvmnix.sdk.errors import InvalidArgument, SetupMissing
from mvmnix.sdk.values import NetworkPart, Secret, Share, network_options
from mvmnix.words import Words

_SETUP: Final = "call mvmnix.initialize() once: it makes keys, and a policy that trusts them"


class SandboxOptions(TypedDict, total=False):
    """What a sandbox is given and held to; what is left out is as the image says, and nothing is shared or reached."""

    command: Words
    """The plan's own command, which a sandbox doesn't run by itself."""
    cwd: str
    """Where commands run, an absolute path of the guest."""
    user: str
    """As whom commands run, UID or UID:GID, never root; by default as the image says."""
    env: Mapping[str, str]
    """Variables of all commands; never a secret."""
    shares: Sequence[Share]
    network: Sequence[NetworkPart]
    secrets: Sequence[Secret]
    verbs: Words
    """Of "exec", "shell", "copy", "snapshot"; by default the first three, as far as the image offers them,
    but none beside secrets (docs/adr/0047)."""
    labels: Mapping[str, str]
    memory_mib: int
    vcpus: int
    scratch_mib: int
    """MiB of the guest's writable directories, which are in its memory."""
    data: DataDisk
    """A disk of its own, writable, encrypted, and gone when the machine ends."""
    accelerator: Literal["any", "kvm", "tcg"]
    """What must execute the guest; by default any."""
    start: Literal["any", "cold"]
    """From what it may start: "cold", by a boot alone, or "any", also from a template; by default "any"."""
    snapshot_with_secrets: bool
    """Whether snapshots (Preview) may be taken of a guest that is told secrets."""
    backend: Literal["qemu", "container"]
    """What runs it; "container" is Preview, and no microVM. By default "qemu"."""
    timeout: float
    """Seconds after which the machine ends, whatever runs in it."""
    idle_timeout: float
    """Seconds without a byte from or to the guest after which the machine ends."""
    tasks: int
    """Processes and threads in the guest."""
    cpu_percent: int
    """Of one processor of this host, for the whole hypervisor."""
    cpu_weight: int
    """Its part where processors are short: 100 is everybody's."""
    console_kib: int
    """KiB that are kept of its console."""
    output_kib: int
    """KiB that are kept of what its own command prints."""
    shared_kib: int
    """KiB that it may write to all of its shares together."""
    system_calls: Literal["strict", "default", "namespaces"]
    """The filter over its commands, at least as strict as the image's."""


#: What a program may be granted.
_VERBS: Final = (Verb.EXEC, Verb.SHELL, Verb.COPY, Verb.SNAPSHOT)
#: Arguments that are fields of a plan's limits as they are.
_LIMITS: Final = ("tasks", "cpu_percent", "cpu_weight", "console_kib", "output_kib", "shared_kib")


def plan_options(options: SandboxOptions) -> PlanOptions:
    """Return a plan's options for those of a sandbox. Raises InvalidArgument; TypeError for a str in a list's place."""
    given: SandboxOptions = {**options}
    check_options(given, SandboxOptions)
    idle_seconds = seconds(given.get("idle_timeout"), "idle_timeout")
    try:
        labels = dict(given.get("labels", {}))
        plan_labels.check(labels)
        limits = PlanLimits(
            idle_seconds=idle_seconds,
            system_calls=_choice(SystemCalls, given.get("system_calls")),
            **{name: given[name] for name in _LIMITS if name in given},
        )
        user = User.parse(given["user"]) if "user" in given else None
        accelerator = _choice(Accelerator, given.get("accelerator"))
        start = _choice(Start, given.get("start"))
        backend = _choice(Backend, given.get("backend")) or Backend.QEMU
    except ValueError as error:
        raise InvalidArgument(str(error), hint='labels={"job": "7"}, user="1000"') from None
    return PlanOptions(
        command=tuple(given.get("command", ())),
        directory=given.get("cwd", ""),
        user=user,
        accelerator=accelerator,
        start=start,
        backend=backend,
        environment=dict(given.get("env", {})),
        shares=tuple(share.to_plan() for share in given.get("shares", ())),
        network=network_options(given.get("network", ())),
        secrets=tuple(secret.to_plan() for secret in given.get("secrets", ())),
        verbs=frozenset(choices("verbs", given.get("verbs", ()), _VERBS)),
        labels=labels,
        data=given.get("data"),
        snapshot_with_secrets=given.get("snapshot_with_secrets", False),
        limits=limits,
        memory_mib=between(given.get("memory_mib"), "memory_mib", LEAST_MIB, MOST_MIB),
        vcpus=between(given.get("vcpus"), "vcpus", 1, MOST_VCPUS),
        scratch_mib=between(given.get("scratch_mib"), "scratch_mib", 1, MOST_MIB),
        wall_seconds=seconds(given.get("timeout"), "timeout"),
    )


def _choice[T: StrEnum](kind: type[T], value: str | None) -> T | None:
    return None if value is None else kind(value)


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """A kept or exported image that verified: its name, its manifest's digest, its SLSA Build level."""

    name: str
    digest: str
    level: int


#: A flake by its directory, or an image: "image:NAME", or one that `Image.build` or `Image.find` returned.
type Source = str | os.PathLike[str] | ImageFacts


def source_of(source: Source, context: Context | None = None) -> SourceRef | KeptImage:
    """Return the flake or kept image that is meant; with a context, errors know kept images. Raises UsageError."""
    if isinstance(source, ImageFacts):
        return KeptImage(source.digest)
    text = os.fspath(source)
    return runnable_ref(text) if context is None else named_source(context, text)


def plan_terms(options: SandboxOptions, hours: float | None, *, single_use: bool) -> PlanOptions:
    """Return a plan's options with how often and how long it may start. Raises as `plan_options`."""
    use = Use.ONCE if single_use else Use.WITHIN_WINDOW
    within = None if hours is None else timedelta(hours=hours)
    return replace(plan_options(options), use=use, valid_for=within)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A signed plan, what it grants, and the state that it is started from."""

    context: Context
    bundle: bytes
    verbs: frozenset[Verb]
    labels: Mapping[str, str]


def open_state(stack: ExitStack) -> Context:
    """Open this user's state. Raises SetupMissing where there are neither keys nor a policy yet."""
    context = stack.enter_context(open_context())
    if is_first_use(context):
        raise SetupMissing("there are no keys and no trust policy here yet", hint=_SETUP)
    return context


def prepare_source(source: SourceRef | KeptImage, options: PlanOptions, stack: ExitStack) -> Prepared:
    """Find or build the image, draft and sign the plan. Raises as `api.preparation.prepare_run` does."""
    context = open_state(stack)
    made = prepare_run(context, source, options, stack, grants_unasked=not options.verbs)
    return Prepared(context, made.bundle, made.plan.verbs, made.plan.labels)


def prepare_launch(text: str, stack: ExitStack) -> Prepared:
    """Read a signed plan, a file or `plan:DIGEST`; it is verified where it starts."""
    context = open_state(stack)
    put_in_order(context.roots, context.machines, context.frontend)
    return prepare_signed(context, plan_bytes(context, text))


def prepare_signed(context: Context, bundle: bytes) -> Prepared:
    """Return a signed plan with what it grants, if it is one; it is verified where it starts."""
    plan = open_signed(context, bundle).plan
    verbs, labels = (frozenset[Verb](), {}) if plan is None else (plan.verbs, plan.labels)
    return Prepared(context, bundle, verbs, labels)
