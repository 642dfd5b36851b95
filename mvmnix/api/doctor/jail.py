"""What `mvm doctor` says about the jail around hypervisors: a sandbox is really entered, and every layer has a line."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mvmnix
from mvmnix.api.context import Context
from mvmnix.api.doctor.finding import Finding, Health
from mvmnix.api.host import open_jail
from mvmnix.child_causes import NAMESPACES_HINT
from mvmnix.errors import MvmnixError
from mvmnix.launch.jail import delegated_scope
from mvmnix.launch.jail.network_sandbox import is_readable_by_all
from mvmnix.launch.shares.image import MKFS
from mvmnix.launch.shares.server import VIRTIOFSD
from mvmnix.launch.vmm.confinement import IsolationLayer
from mvmnix.launch.vmm.port import Acceleration, Invocation, LaunchSpec
from mvmnix.launch.vmm.process import HypervisorProcess
from mvmnix.privileges.control_groups import Controller
from mvmnix.sandbox import landlock
from mvmnix.sandbox.bubblewrap import BUBBLEWRAP
from mvmnix.sandbox.subordinate_ids import SubordinateIds
from mvmnix.sandbox.trusted_executables import locate

_YOURS = "machines have your uid, each in a user namespace of its own"
_WORDS = {Controller.MEMORY: "memory", Controller.TASKS: "tasks", Controller.CPU: "processor time"}


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
    """Say which uids hypervisors, gateways and diallers have."""
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
    said += f"; gateways and diallers have yours, since not every user may read {code}"
    return Finding("uids", Health.NOTE, said, f"chmod -R go+rX {code}")


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
    process = HypervisorProcess.spawn(invocation, (), sandbox)
    try:
        process.wait()
        return process.last_words, process.layers
    finally:
        process.close()
