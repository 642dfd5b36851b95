"""Looks at this host for `mvm doctor`: programs, hypervisor, sandbox, keys, policy and log; changes nothing."""

import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta

from mvmnix import __version__
from mvmnix.api.audit_log import ask_anchors_of
from mvmnix.api.context import Context
from mvmnix.api.doctor.finding import Finding, Health
from mvmnix.api.doctor.floor import floor
from mvmnix.api.doctor.jail import jail
from mvmnix.api.doctor.network import network
from mvmnix.api.doctor.ownership import ownership
from mvmnix.api.signer import key_file
from mvmnix.audit.anchored_log import AnchorAnswer
from mvmnix.audit.verify import verify_log
from mvmnix.builder.nix.host_nix import NIX, HostNix
from mvmnix.builder.pins.debian import APT_GET
from mvmnix.clock import now
from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.keys import Role
from mvmnix.launch.backends import choice
from mvmnix.launch.backends.qemu import Qemu
from mvmnix.launch.plan.backend import Backend
from mvmnix.launch.runtime.accelerator import KvmVerdict, known_verdicts, kvm_access_hint
from mvmnix.plural import counted
from mvmnix.provenance.isolation import Boundary
from mvmnix.sandbox.bubblewrap import BUBBLEWRAP
from mvmnix.sandbox.trusted_executables import GIT, locate

#: How long before a policy expires that is said.
_SOON = timedelta(days=30)


def _anchors(context: Context) -> Iterator[Finding]:
    """A line for each anchor that config.toml names: what it says of the audit log."""
    rules = context.config.anchors
    if rules and not context.keys.exists(key_file(Role.HOST)):
        said = "not asked: there is no host key, so no log of this host's"
        yield from (Finding(f"anchor {rule.name}", Health.NOTE, said) for rule in rules)
    elif rules:
        for each in ask_anchors_of(context.audit, context.log_key, rules):
            hint = each.refused.hint if each.refused else ""
            yield Finding(f"anchor {each.anchor.name}", _anchor_health(each), each.said, hint)


def _anchor_health(it: AnchorAnswer) -> Health:
    if it.refused is not None:
        return Health.BAD if it.contradicts or it.anchor.required else Health.NOTE
    return Health.GOOD if it.anchor.put_away else Health.NOTE


def _programs(_: Context) -> Iterator[Finding]:
    yield Finding("mvm", Health.GOOD, f"{__version__}, Python {sys.version.split()[0]}")
    for it, why in (
        (NIX, "builds the first builder image"),
        (GIT, "reads flakes out of git trees"),
        (APT_GET, "fetches Debian pins"),
        (BUBBLEWRAP, "jails hypervisors, and git and Nix, which read bytes of strangers"),
    ):
        try:
            yield Finding(it.what, Health.GOOD, locate(it))
        except RefusedError as error:
            yield Finding(it.what, Health.BAD, error.reasons[0].why, error.hint)
        except MvmnixError as error:
            yield Finding(it.what, Health.BAD, f"is missing: {why}", error.hint)


def _nix_store(context: Context) -> Iterator[Finding]:
    """Which Nix store the builder image is built in; without Nix, that is told of the program."""
    if any(map(os.path.exists, NIX.paths)):
        store = HostNix.look(context.roots).store
        yield Finding("Nix store", Health.GOOD, f"{store.where} ({store.kind}): {store.why}")


def _hypervisor(context: Context) -> Iterator[Finding]:
    try:
        yield Finding("QEMU", Health.GOOD, Qemu.find().executable)
    except MvmnixError as error:
        yield Finding("QEMU", Health.BAD, error.message, error.hint)
    if not os.path.exists("/dev/kvm"):  # noqa: PTH110
        yield Finding("KVM", Health.NOTE, "there is no /dev/kvm: guests run under TCG, slower")
        yield isolation(kvm=False)
    elif not os.access("/dev/kvm", os.R_OK | os.W_OK):
        yield Finding(
            "KVM", Health.NOTE, "/dev/kvm can't be opened by you: guests run under TCG", kvm_access_hint("/dev/kvm")
        )
        yield isolation(kvm=False)
    else:
        verdicts = known_verdicts(context.roots.cache)
        yield probed(verdicts)
        if verdicts:
            yield isolation(kvm=all(verdict.usable for verdict in verdicts))


def isolation(*, kvm: bool) -> Finding:
    """What holds a guest here, where KVM is known to work, or not to."""
    if kvm:
        return Finding("isolation", Health.GOOD, Boundary.HARDWARE.explained)
    hint = "a policy can require hardware virtualization: docs/trust-policy.md"
    return Finding("isolation", Health.NOTE, f"under TCG: {Boundary.SANDBOX.explained}", hint)


def probed(verdicts: tuple[KvmVerdict, ...]) -> Finding:
    """What probes of this boot found; each is about one hypervisor and one kernel."""
    if not verdicts:
        return Finding("KVM", Health.NOTE, "/dev/kvm is there; whether a guest boots in it, the first run finds out")
    if failed := [verdict for verdict in verdicts if not verdict.usable]:
        some = "" if len(failed) == len(verdicts) else f" ({len(failed)} of {len(verdicts)} probes)"
        return Finding("KVM", Health.NOTE, f"not usable{some}, guests run under TCG: {failed[0].seen}")
    return Finding("KVM", Health.GOOD, verdicts[0].seen)


def _other_backends(_: Context) -> Iterator[Finding]:
    """What a plan may name beside QEMU; that one of them can't be used is no fault of the machine."""
    for backend, title in _TITLES.items():
        missing = choice.lacks(backend)
        if missing:
            why, hints = (dict.fromkeys(parts) for parts in zip(*((it.why, it.hint) for it in missing), strict=True))
            yield Finding(title, Health.NOTE, f"not usable: {'; '.join(why)}", "; ".join(hints))
        else:
            yield Finding(title, Health.NOTE, f"usable by a plan that says backend {backend}: {backend.isolation}")


def _trust(context: Context) -> Iterator[Finding]:
    names = context.keys.names()
    if not names:
        yield Finding("keys", Health.NOTE, "none yet", "`mvm run` makes them on first use, or mvm key create ROLE")
        return
    yield Finding("keys", Health.GOOD, f"{', '.join(names)} in {context.keys.path}")
    policy, moment = context.policy, now()
    latest = context.journal.latest_serials() if context.audit.names() else None
    for reason in (*policy.expired(moment), *policy.rolled_back(latest)):
        yield Finding("trust policy", Health.BAD, f"[{reason.code}] {reason.what}: {reason.why}", reason.hint)
    said = f"{counted(len(policy.signers), 'signer')}, {policy.digest}, expires on {policy.expires:%Y-%m-%d}"
    soon = policy.expires - moment < _SOON
    hint = "look whether it is still right, then set a later expires and a higher serial: `mvm policy check`"
    yield Finding("trust policy", Health.NOTE if soon else Health.GOOD, said, hint if soon else "")


def _log(context: Context) -> Iterator[Finding]:
    if not context.audit.names():
        yield Finding("audit log", Health.NOTE, "empty")
        return
    checkpoint = verify_log(context.audit, context.log_key, None).checkpoint
    yield Finding("audit log", Health.GOOD, f"{counted(checkpoint.size, 'record verifies', 'records verify')}")


#: How they are named, so that no user takes one for the default.
_TITLES = {
    Backend.FIRECRACKER: "Firecracker (Planned)",
    Backend.CLOUD_HYPERVISOR: "Cloud Hypervisor (Planned)",
    Backend.CONTAINER: "container (Preview)",
}

CHECKS: tuple[tuple[str, Callable[[Context], Iterator[Finding]]], ...] = (
    ("programs", _programs),
    ("Nix store", _nix_store),
    ("hypervisor", _hypervisor),
    ("jail", jail),
    ("network", network),
    ("backends", _other_backends),
    ("files of root's", ownership),
    ("trust", _trust),
    ("policy floor", floor),
    ("audit log", _log),
    ("anchors", _anchors),
)


def look_at_host(context: Context) -> Iterator[Finding]:
    """All findings; a check that fails is one itself."""
    for name, check in CHECKS:
        try:
            yield from check(context)
        except (MvmnixError, OSError) as error:
            yield Finding.failed(name, error)
