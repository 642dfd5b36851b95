"""Prepares a start in one piece of work that may block: opens state, finds or builds an image, drafts and signs a plan.

A program that goes away meanwhile (a task that is cancelled) leaves nothing open: what was opened is closed once the
work, which can't be interrupted, has ended.
"""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, TypedDict

from mvmnix.api.context import Context, open_context
from mvmnix.api.first_use import is_first_use
from mvmnix.api.image_builder import open_image_builder
from mvmnix.api.machine_store import put_in_order
from mvmnix.api.plans import PlanOptions, draft_plan, open_signed, plan_bytes, refuse_early, sign_plan, unasked_verbs
from mvmnix.api.source_refs import KeptImage, SourceRef, runnable_ref
from mvmnix.model import Verb, Words, check_words
from mvmnix.plan import labels as plan_labels
from mvmnix.plan.limits import PlanLimits
from mvmnix.plan.plan import Use
from mvmnix.sdk.arguments import refuse_unknown, seconds
from mvmnix.sdk.errors import InvalidArgument, SetupMissing
from mvmnix.sdk.values import NetworkPart, Secret, Share, network_options

_SETUP: Final = "call mvmnix.initialize() once: it makes keys, and a policy that trusts them"


class SandboxOptions(TypedDict, total=False):
    """What a sandbox is given and held to; what is left out is as the image says, and nothing is shared or reached."""

    command: Words
    """The plan's own command, which a sandbox doesn't run by itself."""
    directory: str
    """Where commands run, an absolute path of the guest."""
    environment: Mapping[str, str]
    """Variables of all commands; never a secret."""
    shares: Sequence[Share]
    network: Sequence[NetworkPart]
    secrets: Sequence[Secret]
    verbs: Words
    """Of "exec", "shell", "copy"; by default all that the image offers, but none beside secrets (docs/adr/0047)."""
    labels: Mapping[str, str]
    memory_mib: int
    vcpus: int
    scratch_mib: int
    """MiB of the guest's writable directories, which are in its memory."""
    timeout: float
    """Seconds after which the machine ends, whatever runs in it."""
    idle_timeout: float
    """Seconds without a byte from or to the guest after which the machine ends."""


def plan_options(options: SandboxOptions) -> PlanOptions:
    """Return a plan's options for those of a sandbox. Raises InvalidArgument; TypeError for a str in a list's place."""
    given: SandboxOptions = {**options}
    refuse_unknown(given, SandboxOptions)
    try:
        labels = dict(given.get("labels", {}))
        plan_labels.check(labels)
        verbs = frozenset(Verb(verb) for verb in check_words(given.get("verbs", ())))
        limits = PlanLimits(idle_seconds=seconds(given.get("idle_timeout"), "idle_timeout"))
    except ValueError as error:
        raise InvalidArgument(str(error), hint='verbs=["exec", "copy"], labels={"job": "7"}, idle_timeout=60') from None
    return PlanOptions(
        command=check_words(given.get("command", ())),
        directory=given.get("directory", ""),
        environment=dict(given.get("environment", {})),
        shares=tuple(share.to_plan() for share in given.get("shares", ())),
        network=network_options(given.get("network", ())),
        secrets=tuple(secret.to_plan() for secret in given.get("secrets", ())),
        verbs=verbs,
        labels=labels,
        limits=limits,
        memory_mib=given.get("memory_mib"),
        vcpus=given.get("vcpus"),
        scratch_mib=given.get("scratch_mib"),
        wall_seconds=seconds(given.get("timeout"), "timeout"),
    )


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """A kept or exported image that verified: its name, its manifest's digest, its SLSA Build level."""

    name: str
    digest: str
    level: int


#: A flake by its directory, or an image: "image:NAME", or one that `Image.build` or `Image.find` returned.
type Source = str | os.PathLike[str] | ImageFacts


def source_of(source: Source) -> SourceRef | KeptImage:
    """Return the flake or kept image that is meant. Raises UsageError, TypeError."""
    return KeptImage(source.digest) if isinstance(source, ImageFacts) else runnable_ref(os.fspath(source))


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


class Preparation:
    """State that is opened in a worker's thread and closed by whichever comes last, the work or its caller."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._is_working = self._is_left = False

    def run[T](self, work: Callable[[ExitStack], T]) -> T:
        """Do the work, which opens things on the stack."""
        with self._lock:
            self._is_working = True
        try:
            return work(self._stack)
        finally:
            with self._lock:
                self._is_working = False
                if self._is_left:
                    self._stack.close()

    def close(self) -> None:
        """Close what was opened, now or once the work has ended."""
        with self._lock:
            self._is_left = True
            if not self._is_working:
                self._stack.close()


def open_state(stack: ExitStack) -> Context:
    """Open this user's state. Raises SetupMissing where there are neither keys nor a policy yet."""
    context = stack.enter_context(open_context())
    if is_first_use(context):
        raise SetupMissing("there are no keys and no trust policy here yet", hint=_SETUP)
    return context


def prepare_run(source: SourceRef | KeptImage, options: PlanOptions, stack: ExitStack) -> Prepared:
    """Find or build the image, draft and sign the plan. Raises as api/plans.py and api/image_builder.py do."""
    context = open_state(stack)
    put_in_order(context.roots, context.machines, context.frontend)
    refuse_early(context, options)
    stack.enter_context(context.working())  # until the machine has its files open, the image may not be removed
    with open_image_builder(context) as images:
        finished = images.image(source)
    if not options.verbs:
        options = replace(options, verbs=unasked_verbs(context, finished.image, options))
    plan = draft_plan(context, finished, options)
    return Prepared(context, sign_plan(context, plan), plan.verbs, plan.labels)


def prepare_launch(text: str, stack: ExitStack) -> Prepared:
    """Read a signed plan, a file or `plan:DIGEST`; it is verified where it starts."""
    context = open_state(stack)
    put_in_order(context.roots, context.machines, context.frontend)
    bundle = plan_bytes(context, text)
    plan = open_signed(context, bundle).plan
    verbs, labels = (frozenset[Verb](), {}) if plan is None else (plan.verbs, plan.labels)
    return Prepared(context, bundle, verbs, labels)
