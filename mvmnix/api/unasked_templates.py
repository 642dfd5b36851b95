"""Makes a template that was not asked for, once machines of one image and shape have booted twice for want of one.

1. The supervisor of such a machine counts it once it has ended, and its caller was told.
2. At the second one it starts a program of mvm's, if nothing is in the way (`find_obstacle`), and ends itself. No
   machine and no caller waits for that program, and its niceness makes it wait for others.
3. The program makes the template as `mvm warm image:NAME` does, by a launcher of its own, unless another one is being
   made unasked: a start like any other, with a signed plan, the gate, a record and a receipt.
4. It tries once: where it fails, or is killed, none of the key is tried until the policy or the boot is another one.
"""

import os
from contextlib import suppress
from dataclasses import replace
from typing import Final

from mvmnix.api.admission import open_templates
from mvmnix.api.context import Context, open_context
from mvmnix.api.frontend import SILENT
from mvmnix.api.launch import StartOptions
from mvmnix.api.signing import Signer, key_file
from mvmnix.api.source_refs import KeptImage
from mvmnix.api.templates import MachineShape, make_template
from mvmnix.config import Config, TokenPlace
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.keys import Role
from mvmnix.launch.control import launcher_socket
from mvmnix.launch.templates.store import Templates
from mvmnix.machines.retention import Retention
from mvmnix.plan.plan import Plan
from mvmnix.provenance.isolation import Isolation
from mvmnix.system import control_groups, log, own_interpreter, process
from mvmnix.system.procfs import boot_id

#: Niceness of the program and of all that it starts (nice(2)): it gives way, and still boots a guest in its time.
_NICENESS: Final = 10
#: What is kept while it works: a program that is killed leaves it.
_ENDED: Final = "what made it ended before it was done"


def find_obstacle(context: Context) -> str:
    """Return why no template is made unasked here, "" where nothing is in the way; no question is asked.

    Raises RefusedError for a policy or a configuration that can't be read, OSError.
    """
    config, policy = context.config, context.policy
    obstacles = (
        (not config.makes_templates, "config.toml says so ([templates] unasked = false)"),
        (not policy.warm_starts, "the trust policy lets no machine start from a template"),
        (policy.isolation is Isolation.HARDWARE, "the trust policy requires hardware virtualization"),
        (policy.thresholds.plans > 1, "the trust policy asks for more than one signer of a plan"),
        (Role.PLANNER in config.signing.keyless, "plans are signed keyless here"),
        (control_groups.is_within_limits(), "processes here are in a control group with limits of its own"),
    )
    return next((why for holds, why in obstacles if holds), "") or _key_obstacle(context)


def _key_obstacle(context: Context) -> str:
    """Why the keys here sign no plan and no log without a question, or none that is admitted; "" where they do."""
    signer = Signer(context.keys, lambda: _unprompted(context.config), SILENT)
    for role in (Role.PLANNER, Role.HOST):
        if not context.keys.exists(key_file(role)):
            return f"there is no {role} key here"
        try:
            key = signer.key(role).public
        except MvmnixError as error:
            why = error.reasons[0].why if isinstance(error, RefusedError) else error.message
            return f"the {role} key doesn't open unasked: {why}"
        if role is Role.PLANNER:
            trust = context.policy.trust
            found = trust.by_hint(key.hint)
            is_admitted = found is not None and found.key == key and role in found.roles and found.log is None
            if not is_admitted or key.fingerprint in trust.revocations.keys:
                return "the trust policy admits no plan that the planner key here signs"
    return ""


def _unprompted(config: Config) -> Config:
    """The configuration without a password in a variable, which is not among those that the program is given."""
    password = config.key_password
    return replace(config, key_password=None) if password and password.place is TokenPlace.ENVIRONMENT else config


def follow_cold_start(plan: Plan, key: Digest) -> None:
    """1, 2. Count a machine that has ended, and booted for want of a template of this key; have one made that is due.

    To be called for an image that is kept here. Nothing is raised: the machine has ended well.
    """
    try:
        with open_context() as context:
            obstacle = find_obstacle(context)
            if not obstacle and open_templates(context).cold_starts(boot_id()).note(key):
                _start_maker(context, key, plan)
    except (MvmnixError, OSError) as error:
        obstacle = str(error)
    if obstacle:
        log.info("templates", "none is made unasked: %s", obstacle)


def list_failures(templates: Templates) -> tuple[tuple[str, ...], bool]:
    """Return why templates are not tried again, one text for each, and whether one is being made now."""
    failures, is_making = list(templates.cold_starts(boot_id()).obstacles), templates.is_making
    if is_making and _ENDED in failures:
        failures.remove(_ENDED)  # of the one that is being made
    return tuple(failures), is_making


def _start_maker(context: Context, key: Digest, plan: Plan) -> process.Child:
    """2. Start the program, which outlives this process."""
    if plan.manifest is None:
        raise MvmnixError("the plan names no manifest", hint="make a plan for a kept image")
    variables = {**launcher_socket.kept_variables(os.environ, context.roots), **process.FIXED}
    disks = (len(plan.shares), int(plan.data is not None))  # no share is served: such machines start cold
    numbers = (plan.vcpus, plan.memory_mib, int(plan.network is not None), *disks)
    words = (key.hex, plan.manifest.hex, *map(str, numbers))
    return process.spawn(own_interpreter.command(__name__, "main", *words), env=variables)


def main(key: str, manifest: str, *numbers: str) -> None:
    """3, 4. Be the program. What fails is kept beside the templates, and shown by `mvm doctor`."""
    os.umask(0o077)
    os.nice(_NICENESS)
    vcpus, memory_mib, network, shares, data = map(int, numbers)
    shape = MachineShape(vcpus, memory_mib, bool(network), shares, bool(data))
    with suppress(MvmnixError, OSError), open_context() as context:
        make_due_template(context, Digest(key), Digest(manifest), shape)


def make_due_template(context: Context, key: Digest, manifest: Digest, shape: MachineShape) -> None:
    """Make the template of a kept image that machines of this key start from, unless there is one by now.

    Raises RefusedError, MvmnixError, OSError before it is tried.
    """
    templates = open_templates(context)
    counts, making = templates.cold_starts(boot_id()), templates.try_making()
    if making is None:
        return
    with making:
        if templates.has(key) or find_obstacle(context):
            return
        counts.give_up(key, _ENDED)
        options = StartOptions(retention=Retention.LAST, private=True)
        try:
            make_template(context, KeptImage(str(manifest)), shape, options)
        except (MvmnixError, OSError) as error:
            counts.give_up(key, str(error))
        else:
            if not templates.has(key):
                counts.give_up(key, "machines have another key than the template that is made for them")
