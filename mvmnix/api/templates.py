"""Makes, lists and removes templates: guests that wait, told nothing, for machines of their image to go on from."""

import re
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final

from mvmnix.api.admission import open_templates
from mvmnix.api.context import Context
from mvmnix.api.frontend import SILENT_PROGRESS, Progress
from mvmnix.api.image_builder import hold_image, image_name
from mvmnix.api.launch import StartOptions, save_machine
from mvmnix.api.machine_store import put_in_order
from mvmnix.api.plans import sign_plan
from mvmnix.api.source_refs import KeptImage, SourceRef
from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.errors import UsageError
from mvmnix.images.store import VerifiedImage
from mvmnix.launch.control.drivers import run
from mvmnix.launch.control.start_messages import Ended
from mvmnix.launch.templates.store import KeptTemplate
from mvmnix.model import Workload
from mvmnix.plan.network import Action, Network, NetworkRule
from mvmnix.plan.plan import Accelerator, Placeholders, Plan, Use
from mvmnix.system.procfs import boot_id
from mvmnix.words import Words, check_words

#: The network of a template's machine, which is for its device alone.
_CLOSED: Final = Network((NetworkRule("all", Action.DENY, "*", None, None),))
#: The step of a template's machine, as it is shown.
SAVING: Final = "booting a guest, and saving it as the template"
#: Digits of a key that name a template.
LEAST_DIGITS: Final = 8


@dataclass(frozen=True, slots=True)
class MachineShape:
    """What of a machine a template depends on, beside its image: processors, and MiB; None: as the image says.

    `network`: whether it has a network device; `shares`: how many read-only shares, each as an image; `data`: whether
    it has a data disk.
    """

    vcpus: int | None = None
    memory_mib: int | None = None
    network: bool = False
    shares: int = 0
    data: bool = False


def draft_untold_plan(context: Context, finished: VerifiedImage, shape: MachineShape, use: Use) -> Plan:
    """Return the plan of a template or a pool of an image, not signed yet: nothing in it is for the guest.

    Raises ValueError for more shares than a machine may have, and for disks of a pool's machine.
    """
    image = finished.image
    own = image.workload
    bare = replace(image, workload=Workload((), {}, own.directory, own.user))
    made = Plan.for_image(bare, policy=context.policy.digest, provenance=finished.provenance.bundle, now=now(), use=use)
    return replace(
        made,
        vcpus=shape.vcpus or made.vcpus,
        memory_mib=shape.memory_mib or made.memory_mib,
        accelerator=Accelerator.TCG,
        network=_CLOSED if shape.network else None,
        placeholders=Placeholders(shape.shares, shape.data),
    )


def prepare_template(
    context: Context,
    source: SourceRef | KeptImage,
    shape: MachineShape,
    stack: ExitStack,
    progress: Progress = SILENT_PROGRESS,
) -> bytes:
    """Find or build an image, and return the signed plan for a template of it, to be handed to `save_machine`.

    The image can't be removed until `stack` is closed. Raises as `sign_plan` and api/image_builder.py do.
    """
    put_in_order(context.roots, context.machines, context.frontend)
    finished = hold_image(context, source, stack, progress)
    return sign_plan(context, draft_untold_plan(context, finished, shape, Use.TEMPLATE))


def make_template(
    context: Context,
    source: SourceRef | KeptImage,
    shape: MachineShape,
    options: StartOptions,
    progress: Progress = SILENT_PROGRESS,
) -> Ended:
    """Have a template made by a machine of its own, in the place of an older one; return how that machine ended.

    Raises as `prepare_template` and api/launch.py do; MvmnixError where it can't be kept.
    """
    with ExitStack() as stack:
        bundle = prepare_template(context, source, shape, stack, progress)
        progress.step(SAVING)
        return run(save_machine(context, bundle, options))


def list_templates(context: Context) -> tuple[KeptTemplate, ...]:
    """Return the templates that are kept and of use: of this boot of the host, and under the policy in force."""
    templates = open_templates(context)
    templates.prune(boot_id())
    return templates.list()


def remove_templates(context: Context, names: Words) -> tuple[Digest, ...]:
    """Remove templates; return their keys.

    Each is named by at least 8 digits of its key's digest; all of an image by its name, or as for `make_template`.
    Raises UsageError where one names no template.
    """
    found, words = dict[Digest, None](), check_words(names)
    templates = open_templates(context)
    records = [kept.record for kept in templates.list()] if words else []
    for text in words:
        chosen = [record.key for record in records if _has_prefix(record.key, text)]
        if not chosen and (name := image_name(context, text, {record.image for record in records})):
            chosen = [record.key for record in records if record.image == name]
        if not chosen:
            raise _missing(text)
        found |= dict.fromkeys(chosen)
    for key in found:
        templates.remove(key)
    return tuple(found)


def _has_prefix(key: Digest, text: str) -> bool:
    digits = text.removeprefix("sha256:")
    return len(digits) >= LEAST_DIGITS and key.hex.startswith(digits)


def _missing(text: str) -> UsageError:
    few = f": of a key, {LEAST_DIGITS} digits are needed" if re.fullmatch("[0-9a-f]+", text) else ""
    return UsageError(f"there is no template {text!r}{few}", hint="mvm warm ls lists them")
