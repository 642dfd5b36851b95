"""Gets a plain user's process control groups for its hypervisors from the user's systemd, where it has none otherwise.

1. Where groups that limit everything can be made already, nothing is done.
2. A process that is alone in a unit with Delegate=yes, of the system's manager or of its user's, goes into a group of
   its own there: one that has processes hands no memory controller on (kernel: cgroup-v2.rst, "No Internal Process
   Constraint"). So what limits the unit limits its hypervisors.
3. Otherwise the user's manager is asked, by busctl(1), for a scope with Delegate=yes, and moves this process into it
   (systemd: CONTROL_GROUP_INTERFACE; org.freedesktop.systemd1(5), StartTransientUnit). Then as in 2. It doesn't leave a
   unit that limits memory or processor time.

It is the process that starts a hypervisor which is moved, with all of its threads: the supervisor of a machine in the
background, and not the command or the program that started that. The scope ends with the last process in it, and when
the manager does. A process asks once; where it gets nothing, it stays where it is.
"""

import os
import secrets
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mvmnix.errors import MvmnixError
from mvmnix.sandbox.trusted_executables import Candidates, locate
from mvmnix.system import control_groups, log, process
from mvmnix.system.child_causes import Cause
from mvmnix.system.control_groups import ControlGroups, Controller
from mvmnix.system.trusted_path import user_name

BUSCTL: Final = Candidates(
    "busctl", ("/usr/bin/busctl", "/run/current-system/sw/bin/busctl"), "apt-get install systemd"
)
#: Below it, by uid, the directory that pam_systemd(8) makes: a variable could name another.
_RUNTIME: Final = "/run/user"
#: By name, users whose managers go on without a session (loginctl(1), enable-linger).
_LINGERING: Final = Path("/var/lib/systemd/linger")
#: Seconds for a call on the bus, and for the move; between two looks whether that is done.
_SECONDS: Final = 10
_INTERVAL: Final = 0.005
#: struct ucred (unix(7), SO_PEERCRED): pid, uid, gid.
_CREDENTIALS: Final = "=iII"


@dataclass(frozen=True, slots=True)
class Obtained:
    """Where this process may make groups, and what kept it from more; None where nothing did."""

    groups: ControlGroups
    obstacle: MvmnixError | None = None


#: By process id, since a fork may ask for itself.
_asked: dict[int, MvmnixError | None] = {}


def obtain() -> Obtained:
    """Control groups for the hypervisors of this process."""
    found = ControlGroups.find()
    if not _missing(found):
        return Obtained(found)  # 1
    if os.getpid() not in _asked:
        _asked[os.getpid()] = _ask(_missing(found))
        found = ControlGroups.find()
    return Obtained(found, _asked[os.getpid()] if _missing(found) else None)


def ends_with_sessions() -> bool:
    """Whether this process ends some time after its user's last session: it is a manager's, and that does.

    Raises OSError.
    """
    own = control_groups.unified()
    managed = own is not None and f"user@{os.geteuid()}.service" in own.parts
    return managed and not (_LINGERING / user_name(os.geteuid())).exists()


def _missing(found: ControlGroups) -> frozenset[Controller]:
    return frozenset(Controller) - found.controllers


def _ask(missing: frozenset[Controller]) -> MvmnixError | None:
    """Get into a unit's group that hands on some of these; what kept this process from that, or from others of them."""
    try:
        missing -= _separate(_delegated(missing))
    except OSError as error:
        log.info("jail", "no control groups of this user's: %s", error)
        return MvmnixError(f"control groups can't be made: {error}", hint="see `mvm doctor`")
    except MvmnixError as error:
        log.info("jail", "no control groups of this user's: %s", error)
        return error
    return _undelegated(missing) if missing else None


def _delegated(missing: frozenset[Controller]) -> Path:
    """The group of a unit that was handed over, and in which this process is alone. Raises MvmnixError, OSError."""
    own = control_groups.unified()
    alone = own is not None and control_groups.processes(own) == (os.getpid(),)
    if own is not None and alone and control_groups.is_delegated(own):
        return own  # 2
    bus = _manager(missing)
    if own is not None and alone and control_groups.is_managers(own.parent) and _hands_over(bus, own.name):
        return own  # 2
    if own is not None and control_groups.is_limited(own):
        hint = "start mvm in a unit with Delegate=yes: systemd-run --user --scope -p Delegate=yes mvm …"
        raise MvmnixError(
            f"this process is in a unit with limits of its own, {own.name}, which it would leave", hint=hint
        )
    return _moved_by(bus)  # 3


def _hands_over(bus: Path, unit: str) -> bool:
    """Whether a unit of the user's manager has Delegate=yes. Raises MvmnixError."""
    if not unit.endswith((".scope", ".service")):
        return False
    return _called(delegation_command(locate(BUSCTL), str(bus), unit)) == b"b true\n"


def _separate(group: Path) -> frozenset[Controller]:
    """Put this process into a group of its own beneath it; what the group hands on then. Raises OSError."""
    (group / control_groups.LEAF).mkdir(mode=0o700, exist_ok=True)
    (group / control_groups.LEAF / "cgroup.procs").write_text("0", encoding="ascii")
    return control_groups.enable(group, Controller)


def _manager(missing: frozenset[Controller]) -> Path:
    """The socket of the bus on which this user's manager is, which can hand on some of these controllers.

    It is asked by the number of this process, which has to mean the same to it. Raises MvmnixError, OSError.
    """
    runtime = Path(_RUNTIME, str(os.geteuid()))
    with socket.socket(socket.AF_UNIX) as it:
        it.settimeout(_SECONDS)
        try:
            it.connect(str(runtime / "systemd/private"))
        except OSError as error:
            hint = "log in as this user (ssh, login), or an administrator runs `loginctl enable-linger USER`"
            raise MvmnixError(f"no systemd runs for this user: {error.strerror or error}", hint=hint) from error
        number, uid, _ = struct.unpack(
            _CREDENTIALS, it.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(_CREDENTIALS))
        )
    unit = control_groups.unified(str(number)) if number > 0 and uid == os.geteuid() else None
    if unit is None:
        raise MvmnixError("the systemd of this user can't be seen from here", hint="run mvm outside of a container")
    if not missing & control_groups.available(unit.parent):  # it is in init.scope itself
        raise _undelegated(missing)
    if not (runtime / "bus").is_socket():
        hint = "apt-get install dbus-user-session, then log in again"
        raise MvmnixError("the systemd of this user has no bus", hint=hint)
    return runtime / "bus"


def _undelegated(missing: frozenset[Controller]) -> MvmnixError:
    hint = "with control groups of version 2, an administrator runs `systemctl edit user@.service` and has it say, "
    hint += "below [Service], Delegate=cpu memory pids"
    return MvmnixError(f"the systemd of this user may not limit {', '.join(sorted(missing))}", hint=hint)


def _moved_by(bus: Path) -> Path:
    """The group of a new scope, once this process is in it. Raises MvmnixError, OSError."""
    name = f"mvmnix-{os.getpid()}-{secrets.token_hex(4)}.scope"
    _called(scope_command(locate(BUSCTL), str(bus), name, os.getpid()))
    deadline = time.monotonic() + _SECONDS
    while True:
        group = control_groups.unified()
        if group is not None and group.name == name:
            return group
        if time.monotonic() > deadline:
            raise MvmnixError("the systemd of this user moved no process of mvm's", hint="see `journalctl --user`")
        time.sleep(_INTERVAL)


def _called(argv: Sequence[str]) -> bytes:
    """What busctl prints. Raises ProcessError."""
    seen = "see `journalctl --user`"
    hints = dict.fromkeys((Cause.DENIED, Cause.NETWORK), seen)  # the manager says no, or is gone
    return process.run(argv, env=process.FIXED, timeout=2 * _SECONDS, hint=seen, hints=hints).stdout


def scope_command(busctl: str, bus: str, name: str, number: int) -> Sequence[str]:
    """busctl(1): a scope of that name with the process of that id, which is gone once it is empty, failed or not."""
    properties = (
        *("PIDs", "au", "1", str(number)),
        *("Delegate", "b", "true"),
        *("CollectMode", "s", "inactive-or-failed"),
        *("Description", "s", "hypervisors of mvm"),
    )
    return (
        *_on(busctl, bus, "call"),
        *("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "StartTransientUnit"),
        *("ssa(sv)a(sa(sv))", name, "fail", "4", *properties, "0"),
    )


def delegation_command(busctl: str, bus: str, unit: str) -> Sequence[str]:
    """busctl(1): whether a scope or service has Delegate=yes. Its name is escaped as sd_bus_path_encode(3) does."""
    escaped = "".join(
        c if c.isascii() and c.isalnum() else "".join(f"_{byte:02x}" for byte in os.fsencode(c)) for c in unit
    )
    interface = f"org.freedesktop.systemd1.{unit.rpartition('.')[2].capitalize()}"
    return (*_on(busctl, bus, "get-property"), f"/org/freedesktop/systemd1/unit/{escaped}", interface, "Delegate")


def _on(busctl: str, bus: str, verb: str) -> Sequence[str]:
    return (busctl, f"--address=unix:path={bus}", f"--timeout={_SECONDS}", verb, "org.freedesktop.systemd1")
