"""Finds the network that a plan gives a guest: of a machine, of a signed plan, or of one that isn't signed yet."""

from pathlib import Path

from mvmnix.api.context import Context
from mvmnix.api.kept_plans import KEPT_SCHEME, plan_bytes
from mvmnix.errors import MvmnixError
from mvmnix.launch.gate import signatures
from mvmnix.launch.gate.checks import plan_of
from mvmnix.launch.machines.machine_dir import PLAN, read_kept
from mvmnix.launch.machines.registry import find_machine
from mvmnix.launch.plan.network import Network
from mvmnix.provenance.bundle import statement


def find_network(context: Context, text: str) -> Network | None:
    """The network of a plan (a file, `plan:DIGEST`) or of a machine (name or id); None for a guest without one.

    The plan's signatures are not looked at. Raises UsageError for what is neither, RefusedError for what is no plan.
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
    return plan_of(statement.parse(payload)).network
