"""Drafts plans for finished images, and signs them with the planner's key, or keyless."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from mvmnix.api.context import Context
from mvmnix.api.kept_plans import KEPT_SCHEME, plan_bytes
from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError, UsageError, refuse
from mvmnix.images.store import VerifiedImage
from mvmnix.keys import Role
from mvmnix.launch.gate import signatures
from mvmnix.launch.gate.checks import plan_of
from mvmnix.launch.secrets import credentials
from mvmnix.launch.shares.opening import open_directory, open_share
from mvmnix.launch.shares.risk_checks import refuse_dangers
from mvmnix.machines.machine_dir import PLAN, read_kept
from mvmnix.machines.registry import find_machine
from mvmnix.model import Image, Posture, User, Verb, Workload
from mvmnix.network.policy.presets import PresetChoice
from mvmnix.plan.backend import Backend
from mvmnix.plan.data_disk import DataDisk
from mvmnix.plan.fields import check_directory, check_variables
from mvmnix.plan.labels import NO_LABELS, Labels
from mvmnix.plan.limits import PlanLimits
from mvmnix.plan.network import Network, NetworkRule, WhenGatewayEnds
from mvmnix.plan.network_endpoints import DEFAULT_RATE, ConnectionRate, PublishedPort, UpstreamProxy
from mvmnix.plan.plan import Accelerator, Plan, Start, Use, plan_statement
from mvmnix.plan.secret_reference import SecretReference, SecretTarget
from mvmnix.plan.share import Share
from mvmnix.provenance.bundle import envelope, statement
from mvmnix.words import check_words

#: Hint of an error about shares that don't fit a plan: how the options are written.
SHARE_HINT: Final = (
    "--share DIRECTORY:/PLACE (read only), --share DIRECTORY:/PLACE:rw, --share DIRECTORY:/PLACE:ro,follow; "
    "docs/reference/shares.md has the rest"
)
#: The same for a data disk.
DATA_HINT: Final = "--data 1g:/tmp/data, in steps of 16 MiB; docs/reference/data-disks.md has the rest"
#: The same for network rules and published ports.
NETWORK_HINT: Final = (
    "--allow https://api.example.com, --allow tcp:db.example.com:5432, --deny example.org, --publish 8080:80; "
    "docs/reference/network.md has the rest"
)
_NO_LIMITS: Final = PlanLimits()


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """What a guest may reach, and which of its ports are reached; without any, it has no network device.

    `rules` are typed ones; those of `presets` follow them in the plan, and their variables are the command's. A denial
    beats every other rule, wherever it stands.
    """

    rules: tuple[NetworkRule, ...] = ()
    presets: tuple[PresetChoice, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    when_gateway_ends: WhenGatewayEnds = WhenGatewayEnds.END
    proxy: UpstreamProxy | None = None
    connection_rate: ConnectionRate = DEFAULT_RATE


_NO_NETWORK: Final = NetworkOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """What a plan says besides what its image says; None or nothing: as the image says.

    `memory_mib` and `scratch_mib` are MiB, `wall_seconds` bounds the run, `valid_for` the time in which it may start
    (default: a day). `start` says whether the machine may start from a template, `snapshot_with_secrets` whether
    snapshots may have the secrets. `command`, `directory` and `user` replace the image's own, `environment` is added to
    the image's and to those of presets.
    """

    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = ""
    user: User | None = None
    use: Use = Use.ONCE
    verbs: frozenset[Verb] = frozenset()
    labels: Labels = field(default_factory=lambda: NO_LABELS)
    secrets: tuple[SecretReference, ...] = ()
    shares: tuple[Share, ...] = ()
    data: DataDisk | None = None
    network: NetworkOptions = _NO_NETWORK
    limits: PlanLimits = _NO_LIMITS
    backend: Backend = Backend.QEMU
    accelerator: Accelerator | None = None
    start: Start | None = None
    snapshot_with_secrets: bool = False
    vcpus: int | None = None
    memory_mib: int | None = None
    scratch_mib: int | None = None
    wall_seconds: int | None = None
    valid_for: timedelta | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "command", check_words(self.command))


_AS_THE_IMAGE_SAYS: Final = PlanOptions()
#: The verbs by which a user enters a machine of his own. `stream` is none: it takes ports, which the user names.
_UNASKED: Final = frozenset({Verb.EXEC, Verb.SHELL, Verb.COPY})


def unasked_verbs(context: Context, image: Image, options: PlanOptions) -> frozenset[Verb]:
    """Return the verbs that a plan for a single run grants without being asked (docs/adr/0047).

    None where the image is sealed or has no command to run, where secrets are given to the guest, for a container, and
    where the trust policy says `unasked-verbs = false`.
    """
    if (
        image.posture is Posture.SEALED
        or not (options.command or image.workload.argv)
        or options.secrets
        or options.backend is Backend.CONTAINER
        or not context.policy.unasked_verbs
    ):
        return frozenset()
    return _UNASKED & image.verbs


def refuse_early(context: Context, options: PlanOptions) -> None:
    """Refuse, before anything is built, what would be refused once it is, as far as it can be seen already.

    Raises RefusedError [plaintext-credential, share-forbidden, share-unavailable, network-forbidden, config-malformed],
    which is logged; UsageError for what is no variable, no directory and no network.
    """
    _check_workload(options)
    with context.recorded():
        credentials.refuse_typed(options.command, options.labels, options.environment)
        _network(context, options.network)
        for share in options.shares:
            _refuse_share(share, tuple(context.roots.paths.values()))


def draft_plan(context: Context, finished: VerifiedImage, options: PlanOptions = _AS_THE_IMAGE_SAYS) -> Plan:
    """The plan to run an image, not signed yet; nothing in it looks like a credential.

    Raises RefusedError [verb-not-granted] for a verb that the image doesn't offer, [plaintext-credential,
    plan-malformed], which are logged; UsageError where there is no command, for options that exclude each other, and as
    `refuse_early` does.
    """
    _check_workload(options)
    with context.recorded():
        presets = _preset_variables(context, options)
        image = replace(finished.image, workload=_workload(finished.image.workload, options, presets))
        made = _for_image(context, image, finished, options)
    with context.recorded():
        network = _network(context, options.network)
    made = _with(_with(made, DATA_HINT, data=options.data), NETWORK_HINT, network=network)
    made = _with_limits(made, finished.image, options.limits)
    made = _on_backend(replace(_with_means(made, options), labels=options.labels), options.backend)
    with context.recorded():
        plan_of(plan_statement(made))  # what would be no plan once it is read back is none now
        credentials.refuse_in_plan(made)
    return made


def sign_plan(context: Context, plan: Plan) -> bytes:
    """The bundle of a plan, signed by the planner. Raises MvmnixError without a key."""
    return context.sign(Role.PLANNER, plan_statement(plan).to_bytes())


@dataclass(frozen=True, slots=True)
class OpenedPlan:
    """What a signed plan says: the statement's bytes, and the plan, unless it is none.

    `signers` are those whom the policy admits, `refused` why it admits others not. Nothing else is verified.
    """

    payload: bytes
    plan: Plan | None
    signers: tuple[str, ...]
    refused: tuple[Reason, ...]


def open_signed(context: Context, data: bytes) -> OpenedPlan:
    """Read a signed plan, and ask the trust policy about its signers. Raises RefusedError without a payload."""
    signers: tuple[str, ...] = ()
    refused: tuple[Reason, ...] = ()
    plan = None
    try:
        signers = tuple(it.signer.name for it in signatures.gather(data, context.policy.trust))
    except RefusedError as error:
        refused = error.reasons
    payload = signatures.payload(data)
    with suppress(RefusedError):
        plan = plan_of(statement.parse(payload))
    return OpenedPlan(payload, plan, signers, refused)


def add_signature(context: Context, data: bytes, what: str) -> bytes:
    """The bundles of a plan with the planner's signature: of a statement, or of what others have signed already.

    What the plan needs is kept from now on, until it expires. `what` names the data in errors. Raises RefusedError for
    what is no plan [statement-malformed] or looks as if it held a credential, which is logged; UsageError where the
    planner has signed it already.
    """
    others, payload = _signed_before(data, what)
    made = plan_of(statement.parse(payload))
    with context.recorded():
        credentials.refuse_in_plan(made)
    if context.signer.has_signed(Role.PLANNER, others):
        hint = "launch it as it is, or have another planner sign it: each one counts once"
        raise UsageError(f"the planner key here has signed this plan already: {what}", hint=hint)
    new = sign_plan(context, made)
    if others and envelope.parse_bundle(new).payload != payload:
        raise UsageError("the plan was signed in other bytes than mvm writes", hint="sign the statement itself")
    bundle = b"\n".join((*others, new))
    with context.working():
        context.plans.put(bundle, Digest.of(bundle))
    return bundle


def _signed_before(data: bytes, what: str) -> tuple[tuple[bytes, ...], bytes]:
    """The bundles of a signed plan, none of them verified, and its statement; no bundle for a statement alone."""
    if not data.startswith(signatures.BEGIN):
        if not signatures.is_statement(data):
            why = "this is not a plan: neither a statement of `mvm plan create` nor a bundle of `mvm plan sign`"
            hint = "make one: `mvm plan create FLAKE --out FILE`"
            raise refuse(ReasonCode.STATEMENT_MALFORMED, what, why, hint)
        return (), data
    return signatures.split(data), signatures.payload(data)


def _for_image(context: Context, image: Image, finished: VerifiedImage, options: PlanOptions) -> Plan:
    verbs = _grantable(image, options.verbs)
    try:
        made = Plan.for_image(
            image,
            policy=context.policy.digest,
            provenance=finished.provenance.bundle,
            now=now(),
            use=options.use,
            verbs=verbs,
        )
    except ValueError as error:
        raise UsageError(f"this is not a plan: {error}", hint="name a command after --") from error
    made = _with(made, "give each secret a name of its own", secrets=options.secrets)
    if options.snapshot_with_secrets:
        made = _with(made, "--secret NAME=REFERENCE --verb snapshot", snapshot_with_secrets=True)
    return _with(made, SHARE_HINT, shares=options.shares)


def _preset_variables(context: Context, options: PlanOptions) -> Mapping[str, str]:
    """Variables of the presets that are neither typed nor secret. Raises UsageError where two presets differ."""
    others = {*options.environment, *(it.name for it in options.secrets if it.target is SecretTarget.VARIABLE)}
    found: dict[str, str] = {}
    for choice in options.network.presets:
        given = context.presets.find(choice).environment
        variables = {name: value for name, value in given.items() if name not in others}
        if differing := sorted(name for name in variables if found.get(name, variables[name]) != variables[name]):
            why = f"the presets set {', '.join(differing)} to different values"
            raise UsageError(why, hint=f"choose one: --env {differing[0]}=VALUE")
        found |= variables
    return found


def _workload(own: Workload, options: PlanOptions, presets: Mapping[str, str]) -> Workload:
    """What runs: typed variables go before those of presets, and these before the image's."""
    return Workload(
        options.command or own.argv,
        {**own.environment, **presets, **options.environment},
        options.directory or own.directory,
        options.user or own.user,
    )


def _check_workload(options: PlanOptions) -> None:
    """Raises UsageError for a variable or a directory that no plan may name."""
    try:
        check_variables(options.environment)
        if options.directory:
            check_directory(options.directory)
    except ValueError as error:
        raise UsageError(str(error), hint="--env NAME=VALUE, --workdir /DIRECTORY") from error


def _grantable(image: Image, wanted: frozenset[Verb]) -> frozenset[Verb]:
    """The verbs, if a plan for this image may grant them. Raises RefusedError [verb-not-granted]."""
    sealed = image.posture is Posture.SEALED
    if refused := sorted(wanted if sealed else wanted - image.verbs):
        why = "the image is sealed" if sealed else "the image doesn't offer it"
        hint = "add it to the image's verbs (posture dev), and build it"
        raise RefusedError(*(Reason(ReasonCode.VERB_NOT_GRANTED, verb, why, hint) for verb in refused))
    return wanted


def _with_limits(made: Plan, image: Image, limits: PlanLimits) -> Plan:
    """The plan with these limits, once its shares are in it: a limit of what is written needs one for writing."""
    if (tier := limits.system_calls) and not tier.within(image.system_calls):
        why = f"--system-calls {tier} lets through more than the image's filter, which is {image.system_calls}"
        raise UsageError(
            why, hint=f'build the image with systemCalls = "{tier}"; docs/reference/guests.md says what that opens'
        )
    return _with(made, "--share SRC:DST:rw, or leave out --share-limit", limits=limits)


def _with_means(made: Plan, options: PlanOptions) -> Plan:
    window = made.window
    if options.valid_for is not None:
        window = replace(window, not_after=window.not_before + options.valid_for)
    return replace(
        made,
        vcpus=options.vcpus or made.vcpus,
        memory_mib=options.memory_mib or made.memory_mib,
        scratch_mib=options.scratch_mib or made.scratch_mib,
        timeouts=replace(made.timeouts, wall_seconds=options.wall_seconds or made.timeouts.wall_seconds),
        accelerator=options.accelerator or made.accelerator,
        start=options.start or made.start,
        window=window,
    )


def _on_backend(made: Plan, backend: Backend) -> Plan:
    hint = "choose another --backend or another --accelerator"
    return _with(made, hint, backend=backend, isolation=backend.isolation)


def _with(made: Plan, hint: str, **changes: Any) -> Plan:
    """The plan with other fields. Raises UsageError where they don't fit it."""
    try:
        return replace(made, **changes)
    except ValueError as error:
        raise UsageError(str(error), hint=hint) from error


def _network(context: Context, options: NetworkOptions) -> Network | None:
    """The network of a plan, with its presets spelled out; None where none was asked for.

    Raises RefusedError [network-forbidden] for rules that stand for more than they acknowledge, and as presets do.
    """
    if options == _NO_NETWORK:
        return None
    # plans without a network don't pay for it
    from mvmnix.network.policy.public_suffixes import refuse_public_suffixes  # noqa: PLC0415
    from mvmnix.network.policy.risk_checks import refuse_unacknowledged  # noqa: PLC0415

    found = [(choice.option, context.presets.find(choice)) for choice in options.presets]
    presets = [(option, (*preset.rules, *preset.file_rules)) for option, preset in found]
    try:
        network = Network(
            (*options.rules, *(it for _, rules in presets for it in rules)),
            options.ports,
            options.when_gateway_ends,
            options.proxy,
            options.connection_rate,
        )
    except ValueError as error:
        raise UsageError(str(error), hint=NETWORK_HINT) from error
    if network.is_closed:
        why = "nothing is allowed but what --allow names, so that --deny alone says nothing"
        raise UsageError(why, hint=NETWORK_HINT)
    origins = {it.id: option for option, rules in presets for it in rules}
    refuse_unacknowledged(network, origins)
    refuse_public_suffixes(network, origins)
    return network


def _refuse_share(share: Share, own: Sequence[str]) -> None:
    try:
        fd = open_directory(share.host)
    except FileNotFoundError:  # the plan may be for another host
        refuse_dangers(share, None, own)
        return
    except OSError:
        fd = open_share(share)  # says what is wrong with it
    try:
        refuse_dangers(share, fd, own)
    finally:
        with suppress(OSError):
            os.close(fd)


def find_network(context: Context, text: str) -> Network | None:
    """The network of a plan (a file, `plan:DIGEST`) or of a machine (name or id); None for a guest without one.

    Raises as `find_plan` does.
    """
    return find_plan(context, text).network


def find_plan(context: Context, text: str) -> Plan:
    """Return a plan (a file, `plan:DIGEST`) or that of a machine (name or id); its signatures are not looked at.

    Raises UsageError for what is neither, RefusedError for what is no plan.
    """
    if text.startswith(KEPT_SCHEME) or Path(text).is_file():
        data = plan_bytes(context, text)
    else:
        machine = find_machine(context.machines, text).status.machine
        kept = read_kept(context.machines, machine, PLAN)
        if kept is None:
            raise MvmnixError(f"the machine {machine} has no plan any more", hint="mvm ps --all lists machines")
        data = kept
    payload = data if signatures.is_statement(data) else signatures.payload(data)
    return plan_of(statement.parse(payload))
