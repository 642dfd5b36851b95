"""What `mvm doctor` says about the jail around hypervisors: a sandbox is really entered, and every layer has a line."""

from collections.abc import Iterator

from mvmnix import caller
from mvmnix.api.context import Context
from mvmnix.api.doctor.finding import Finding, Health
from mvmnix.api.host import open_jail
from mvmnix.errors import MvmnixError
from mvmnix.launch.shares import MKFS, VIRTIOFSD
from mvmnix.launch.vmm import Acceleration, HypervisorProcess, Invocation, LaunchSpec
from mvmnix.privileges import Controller
from mvmnix.sandbox import BUBBLEWRAP, delegated_scope, landlock, locate

_WORDS = {Controller.MEMORY: "memory", Controller.TASKS: "tasks", Controller.CPU: "processor time"}
_NAMESPACES = (
    "look at sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone and what `dmesg` says of AppArmor"
)


def jail(context: Context) -> Iterator[Finding]:
    """The jail as a whole, Landlock, control groups."""
    try:
        words = _tried(context)
    except MvmnixError as error:
        yield Finding("jail", Health.BAD, error.message, error.hint)
        return
    if words:
        yield Finding("jail", Health.BAD, f"no machine can start: {'; '.join(words)}", _NAMESPACES)
        return
    who = "a uid of its own for each machine" if caller.uid() == 0 else "your uid, in a user namespace: root gives more"
    yield Finding("jail", Health.GOOD, f"{locate(BUBBLEWRAP)}; {who}")
    if version := landlock.abi():
        yield Finding("Landlock", Health.GOOD, f"version {version}")
    else:
        said = "this kernel has none: the jail's other walls stand"
        yield Finding("Landlock", Health.NOTE, said, "boot a kernel with it, among the `lsm=` that it starts")
    yield from _limits(delegated_scope.obtain())
    yield from _shares()


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
        why, hint = ("", "run mvm as root") if found.obstacle is None else (found.obstacle.message, found.obstacle.hint)
        yield Finding("control groups", Health.NOTE, f"{said}: {why}" if why else said, hint)
    if delegated_scope.ends_with_sessions():
        said = "machines end with your last session: the systemd manager, which limits them, ends then"
        yield Finding("log-out", Health.NOTE, said, "loginctl enable-linger")


def _tried(context: Context) -> tuple[str, ...]:
    """Enter a sandbox with a program that ends at once; what was complained about, if anything."""
    invocation = Invocation((locate(BUBBLEWRAP), "--version"), ())
    spec = LaunchSpec(0, 0, None, 0, 0, 0, 1, 64, "", Acceleration.TCG, 1)
    sandbox = open_jail(context).sandbox((), spec, invocation)
    process = HypervisorProcess.spawn(invocation, (), sandbox)
    try:
        process.wait()
        return process.last_words
    finally:
        process.close()
