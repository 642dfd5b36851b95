"""Looks at this host for `mvm doctor`; changes nothing.

It looks at programs, hypervisor, sandbox, network, templates, owners of the user's files, keys, policy and log.
"""

import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

import mvmnix
from mvmnix import __version__
from mvmnix.api.admission import open_jail, open_templates
from mvmnix.api.audit import ask_anchors_of
from mvmnix.api.context import Context
from mvmnix.api.launchers import list_launchers
from mvmnix.api.signing import key_file
from mvmnix.api.unasked_templates import find_obstacle, list_failures
from mvmnix.audit.anchored_log import AnchorAnswer
from mvmnix.audit.verify import verify_log
from mvmnix.builder.nix.host_nix import NIX, HostNix
from mvmnix.builder.pins.debian import APT_GET
from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.formats.escaping import shell_command
from mvmnix.keys import Role
from mvmnix.launch import backends
from mvmnix.launch.runtime.accelerator import KvmVerdict, known_verdicts, kvm_access_hint
from mvmnix.launch.shares.image import MKFS
from mvmnix.launch.shares.server import VIRTIOFSD
from mvmnix.network.host.namespace import NFT, Making
from mvmnix.plan.backend import Backend
from mvmnix.plural import counted
from mvmnix.provenance.isolation import Boundary
from mvmnix.provenance.policy.policy import SOON
from mvmnix.provenance.policy.policy_files import in_force
from mvmnix.provenance.policy.trust_text import FILE_NAME
from mvmnix.sandbox import landlock
from mvmnix.sandbox.bubblewrap import BUBBLEWRAP
from mvmnix.sandbox.subordinate_ids import SubordinateIds
from mvmnix.sandbox.trusted_executables import GIT, locate
from mvmnix.system.child_causes import NAMESPACES_HINT
from mvmnix.system.control_groups import Controller
from mvmnix.system.private_dirs import Directory
from mvmnix.system.procfs import boot_id
from mvmnix.system.trusted_path import home_of, is_beneath, owner_name, repair
from mvmnix.vmm.confinement import IsolationLayer
from mvmnix.vmm.jail import delegated_scope
from mvmnix.vmm.jail.network_sandbox import is_readable_by_all
from mvmnix.vmm.port import Acceleration, Invocation, LaunchSpec
from mvmnix.vmm.process import JailedProcess
from mvmnix.vmm.qemu import Qemu

#: So many files of root's are named; the command is for all of them.
_MOST: Final = 5
#: The directory whose entries are paths of a user's own Nix store (docs/reference/nix.md).
_STORE: Final = "mvmnix/nix/nix/store"
#: Where mvm has no uids to give away.
_YOURS = "machines have your uid, each in a user namespace of its own"
_WORDS = {Controller.MEMORY: "memory", Controller.TASKS: "tasks", Controller.CPU: "processor time"}
#: What the findings about the machine's own policy are about.
_TITLE: Final = "policy floor"
#: A policy protects its reader from artifacts. It can't bind a user, who may run another program.
WHOM: Final = "it holds for every user of this machine whose mvm reads it, root included; a modified mvm can ignore it"
#: How backends beside QEMU are named, so that no user takes one for the default.
_TITLES = {
    Backend.FIRECRACKER: "Firecracker (Planned)",
    Backend.CLOUD_HYPERVISOR: "Cloud Hypervisor (Planned)",
    Backend.CONTAINER: "container (Preview)",
}


class Health(StrEnum):
    """How a finding is meant."""

    GOOD = "good"
    NOTE = "note"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `commands` are lines for a shell, to be pasted as they are."""

    what: str
    health: Health
    said: str
    next: str = ""
    commands: tuple[str, ...] = ()

    @classmethod
    def failed(cls, what: str, error: MvmnixError | OSError) -> Self:
        """What a failure says, and its hint once."""
        match error:
            case RefusedError():
                said = (f"[{reason.code}] {reason.what}: {reason.why}" for reason in error.reasons)
                return cls(what, Health.BAD, "; ".join(said), error.hint)
            case MvmnixError():
                return cls(what, Health.BAD, error.message, error.hint)
            case OSError():
                return cls(what, Health.BAD, f"{error.filename or 'the system'}: {error.strerror}")


def look_at_host(context: Context) -> Iterator[Finding]:
    """All findings; a check that fails is one itself."""
    for name, check in CHECKS:
        try:
            yield from check(context)
        except (MvmnixError, OSError) as error:
            yield Finding.failed(name, error)


def ownership(context: Context) -> Iterator[Finding]:
    """One finding for all files of root's, in the four directories or above them in the user's home.

    Each is closed to the user. A program of root's that worked with the user's HOME leaves such files.
    """
    above = tuple(dict.fromkeys(it for path in context.roots.paths.values() for it in _above(path)))
    inside = {path: found for path in context.roots.paths.values() if (found := tuple(_of_root(path)))}
    every = (*above, *(path for found in inside.values() for path in found))
    if not every:
        return
    more = f" and {len(every) - _MOST} more" if len(every) > _MOST else ""
    said = f"{counted(len(every), 'file belongs', 'files belong')} to root: {', '.join(every[:_MOST])}{more}"
    commands = [repair(*above, recursive=False)] if above else []
    commands += [repair(*inside)] if inside else []
    hint = "a program of root's made them; give them to yourself:"
    yield Finding("files of root's", Health.BAD, said, hint, (" && ".join(commands),))


def _above(path: str) -> Iterator[str]:
    """Directories of root's between the user's home and the directory, as far as can be seen."""
    home = home_of(os.geteuid())
    for directory in reversed(Path(path).parents):
        if is_beneath(str(directory), home) and _is_root_s(str(directory)):
            yield str(directory)


def _is_root_s(path: str) -> bool:
    try:
        return os.lstat(path).st_uid == 0
    except OSError:
        return False


def _of_root(path: str) -> Iterator[str]:
    """What is root's there, the directory itself included; of what is in a directory of root's, nothing.

    A path of a Nix store is one entry: its files are read-only, and many.
    """
    try:
        status = os.lstat(path)
    except OSError:
        return
    if status.st_uid == 0:
        yield path
    elif stat.S_ISDIR(status.st_mode) and not Path(path).parent.match(_STORE):
        try:
            names = sorted(os.listdir(path))  # noqa: PTH208 - texts
        except OSError:
            return
        for name in names:
            yield from _of_root(f"{path}/{name}")


def network(_: Context) -> Iterator[Finding]:
    """Whether a plan with a network can start here; without one, all other plans can."""
    try:
        made = Making(()).finish()
    except RefusedError as error:
        yield Finding("network", Health.NOTE, error.reasons[0].why, error.hint)
    except MvmnixError as error:
        failed = Finding.failed("network", error)
        yield replace(failed, health=Health.NOTE, said=f"no plan with a network can start: {failed.said}")
    else:
        made.close()
        os.close(made.tap)
        yield Finding("network", Health.GOOD, f"{locate(NFT)}; a namespace with a tap and rules can be made")
    yield _routes()


def _routes() -> Finding:
    """The default routes of this host, over which the connections of guests go."""
    from pyroute2 import IPRoute  # noqa: PLC0415 - 150 ms

    families = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}
    with IPRoute() as kernel:
        found = [name for name, family in families.items() if kernel.get_default_routes(family=family)]
    if found:
        return Finding("default route", Health.GOOD, f"{' and '.join(found)}: where a plan allows it, guests reach it")
    said = "none: what a plan allows is reached in the networks of this host alone, or by --network-proxy"
    return Finding("default route", Health.NOTE, said)


def jail(context: Context) -> Iterator[Finding]:
    """The jail as a whole, Landlock, control groups."""
    try:
        words, layers = _tried(context)
    except MvmnixError as error:
        yield Finding.failed("jail", error)
        return
    if words:
        yield Finding("jail", Health.BAD, f"no machine can start: {'; '.join(words)}", NAMESPACES_HINT)
        return
    yield Finding("jail", Health.GOOD, f"{locate(BUBBLEWRAP)}; {', '.join(layers)}")
    yield _uids()
    if version := landlock.abi():
        yield Finding("Landlock", Health.GOOD, f"version {version}")
    else:
        said = "this kernel has none: the jail's other walls stand"
        yield Finding("Landlock", Health.NOTE, said, "boot a kernel with it, among the `lsm=` that it starts")
    yield from _limits(delegated_scope.obtain())
    yield from _shares()


def _uids() -> Finding:
    """Say which uids hypervisors, gateways and dialers have."""
    try:
        found = SubordinateIds.find()
    except MvmnixError as error:
        return Finding("uids", Health.NOTE, f"{_YOURS}: {error.message}", error.hint)
    try:
        os.close(found.namespace_of(found.first_uid))
    except (MvmnixError, OSError) as error:
        failed = Finding.failed("uids", error)
        return replace(failed, health=Health.NOTE, said=f"{_YOURS}: {failed.said}")
    last = found.first_uid + found.count - 1
    said = f"one for each machine, of your subordinate uids {found.first_uid} to {last}"
    code = str(Path(mvmnix.__file__).parent)
    if is_readable_by_all(code):
        return Finding("uids", Health.GOOD, said)
    said += f"; gateways and dialers have yours, since not every user may read {code}"
    return Finding("uids", Health.NOTE, said, shell_command("chmod", "-R", "go+rX", code))


def _shares() -> Iterator[Finding]:
    """What plans with shares need, and no other does."""
    for it, why in ((VIRTIOFSD, "serves directories to guests"), (MKFS, "makes images of directories for guests")):
        try:
            yield Finding(it.what, Health.GOOD, locate(it))
        except MvmnixError as error:
            yield Finding(it.what, Health.NOTE, f"no use: {error.message}; it {why} (--share)", error.hint)


def _limits(found: delegated_scope.Obtained) -> Iterator[Finding]:
    parents = found.groups.parents
    by_version = [f"{', '.join(_WORDS[what] for what in one.controllers)} (v{one.version})" for one in parents]
    missing = [words for one, words in _WORDS.items() if one not in found.groups.controllers]
    if not missing:
        yield Finding("control groups", Health.GOOD, "; ".join(by_version))
    else:
        here = f"usable: {'; '.join(by_version)}; " if by_version else ""
        said = f"{here}nothing limits a hypervisor's {', '.join(missing)} but its own process limits"
        if found.obstacle is None:
            hint = "mount the hierarchies of control groups for writing: mount -o remount,rw /sys/fs/cgroup"
            yield Finding("control groups", Health.NOTE, said, hint)
        else:
            yield Finding("control groups", Health.NOTE, f"{said}: {found.obstacle.message}", found.obstacle.hint)
    if delegated_scope.ends_with_sessions():
        said = "machines end with your last session: the systemd manager, which limits them, ends then"
        yield Finding("lingering", Health.NOTE, said, "loginctl enable-linger")


def _tried(context: Context) -> tuple[tuple[str, ...], tuple[IsolationLayer, ...]]:
    """Enter a sandbox with a program that ends at once: what it complained about, and what stood around it."""
    invocation = Invocation((locate(BUBBLEWRAP), "--version"), ())
    spec = LaunchSpec(0, 0, None, 0, 0, 0, 1, 64, "", Acceleration.TCG, 1)
    sandbox = open_jail(context).sandbox((), spec, invocation)
    process = JailedProcess.spawn(invocation, (), sandbox)
    try:
        process.wait()
        return process.last_words, process.layers
    finally:
        process.close()


def floor(context: Context) -> Iterator[Finding]:
    """One finding: the floor, and the caller's policy under it. Raises RefusedError for one that can't be trusted."""
    path = f"{context.floor}/{FILE_NAME}"
    owner = _owner(context.floor)
    if owner is None:
        said = f"there is none ({path}): each user's own trust.toml alone counts for that user"
        yield Finding(_TITLE, Health.NOTE, said)
        return
    machine, user = context.policy_files
    digest = Digest.of(machine.text or b"")
    said = f"{path}, {digest}, belongs to {owner_name(owner)}"
    try:
        in_force(machine, user)
    except RefusedError as error:
        reason = error.reasons[0]
        yield Finding(
            _TITLE, Health.BAD, f"{said}; yours is refused under it: [{reason.code}] {reason.why}", reason.hint
        )
        return
    yours = "you have none of your own, so it is your policy" if user.text is None else "your trust.toml is within it"
    if owner != 0:
        steps = (
            shell_command("chown", "root:", os.path.dirname(path)),  # noqa: PTH120 - a text
            shell_command("install", "-m", "644", path, f"{path}.new"),
            shell_command("mv", f"{path}.new", path),
        )
        hint = f"read it; then as root: {' && '.join(steps)}"
        yield Finding(_TITLE, Health.NOTE, f"{said}; {yours}; it isn't root's, so other users' mvm refuses it", hint)
        return
    yield Finding(_TITLE, Health.GOOD, f"{said}; {yours}; {WHOM}")


def _owner(directory: str) -> int | None:
    """Whose the file is; None without one."""
    try:
        with Directory.open(directory) as opened:
            fd = opened.open_file(FILE_NAME)
    except FileNotFoundError:
        return None
    try:
        return os.fstat(fd).st_uid
    finally:
        os.close(fd)


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
    hint = "a policy can require hardware virtualization: docs/reference/trust-policy.md"
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
        missing = backends.lacks(backend)
        if missing:
            why, hints = (dict.fromkeys(parts) for parts in zip(*((it.why, it.hint) for it in missing), strict=True))
            yield Finding(title, Health.NOTE, f"not usable: {'; '.join(why)}", "; ".join(hints))
        else:
            yield Finding(title, Health.NOTE, f"usable by a plan that says backend {backend}: {backend.isolation}")


def _trust(context: Context) -> Iterator[Finding]:
    names = context.keys.names()
    if not names and not context.audit.names():
        yield Finding("keys", Health.NOTE, "none yet", "`mvm run` makes them on first use, or mvm key create ROLE")
        return
    yield Finding("keys", Health.GOOD, f"{', '.join(names) or 'none'} in {context.keys.path}")
    policy, moment = context.policy, now()
    latest = context.journal.latest_serials() if context.audit.names() else None
    for reason in (*policy.expired(moment), *policy.rolled_back(latest)):
        yield Finding("trust policy", Health.BAD, f"[{reason.code}] {reason.what}: {reason.why}", reason.hint)
    said = f"{counted(len(policy.signers), 'signer')}, {policy.digest}, expires on {policy.expires:%Y-%m-%d}"
    soon = policy.expires - moment < SOON
    hint = "look whether it is still right, then set a later expires and a higher serial: `mvm policy check`"
    yield Finding("trust policy", Health.NOTE if soon else Health.GOOD, said, hint if soon else "")


def _log(context: Context) -> Iterator[Finding]:
    if not context.audit.names():
        yield Finding("audit log", Health.NOTE, "empty")
        return
    checkpoint = verify_log(context.audit, context.log_key, None).checkpoint
    yield Finding("audit log", Health.GOOD, f"{counted(checkpoint.size, 'record verifies', 'records verify')}")


def launchers(context: Context) -> Iterator[Finding]:
    """The processes that start machines for callers (docs/explanation/no-daemon.md)."""
    found = list_launchers(context.roots)
    said = ", ".join(f"process {each.process}" for each in found)
    yield Finding("launchers", Health.GOOD, said or "none runs: a start begins one")


def warm_starts(context: Context) -> Iterator[Finding]:
    """Templates that are of use (docs/reference/warm-starts.md), and whether one is made unasked."""
    if not context.keys.names():
        return
    templates, boot = open_templates(context), boot_id()
    kept = [each for each in templates.list() if (each.record.boot, each.record.policy) == (boot, templates.policy)]
    size = sum(each.size for each in kept) >> 20
    said = f"{counted(len(kept), 'template')} of {size} MiB" if kept else "no template"
    not_tried, is_making = list_failures(templates)
    if is_making:
        said += "; one is being made unasked"
    if not_tried:
        failed = f"{counted(len(not_tried), 'template')} not tried again until the policy changes or the host boots"
        said += f"; {failed}: {'; '.join(dict.fromkeys(not_tried))}"
    if obstacle := find_obstacle(context):
        hint = "mvm warm IMAGE makes a template"
        yield Finding("warm starts", Health.NOTE, f"{said}; none is made unasked: {obstacle}", hint)
    else:
        said += "; one is made unasked once an image's machines have booted twice for want of it"
        yield Finding("warm starts", Health.NOTE if not_tried else Health.GOOD, said)


CHECKS: tuple[tuple[str, Callable[[Context], Iterator[Finding]]], ...] = (
    ("programs", _programs),
    ("Nix store", _nix_store),
    ("hypervisor", _hypervisor),
    ("jail", jail),
    ("network", network),
    ("launchers", launchers),
    ("warm starts", warm_starts),
    ("backends", _other_backends),
    ("files of root's", ownership),
    ("trust", _trust),
    ("policy floor", floor),
    ("audit log", _log),
    ("anchors", _anchors),
)
