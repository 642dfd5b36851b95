"""The only place that knows the OCI runtime specification: a plan in, the bytes of its config.json out; pure, Preview.

The members are those of the OCI runtime specification 1.0.2 (config.md, config-linux.md).
"""

from collections.abc import Mapping
from typing import Final

from mvmnix.formats import strict
from mvmnix.plan.plan import Plan
from mvmnix.sandbox.subordinate_ids import CONTAINER_COUNT

#: Where a container's root filesystem is unpacked, in memory that no process outside the sandbox sees.
ROOT: Final = "/bundle/room/rootfs"
#: The container's users 0 to 65534 are these of the user namespace that crun runs in, as its user 0
#: (sandbox/subordinate_ids.py).
FIRST_USER: Final = 1
USERS: Final = CONTAINER_COUNT - 1
_MIB: Final = 1 << 20
_PROCESSES: Final = 256
_FILES: Final = 1024
_NAMESPACES: Final = ("pid", "ipc", "uts", "mount", "network", "user")
_SETS: Final = ("bounding", "effective", "inheritable", "permitted", "ambient")
_MASKED: Final = ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sysrq-trigger", "/proc/acpi", "/proc/scsi")
_READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys")
#: Errno of what a filter denies: EPERM. `clone3` gets ENOSYS, so that a C library takes `clone`, whose flags show.
_EPERM, _ENOSYS, _CLONE_NEWUSER = 1, 38, 0x10000000
#: What no workload of an unprivileged user needs, and holes in kernels were dug with.
_DENIED: Final = (
    *("add_key", "keyctl", "request_key", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup"),
    *("io_uring_enter", "io_uring_register", "kexec_load", "kexec_file_load", "init_module", "finit_module"),
    *("delete_module", "mount", "umount2", "pivot_root", "move_mount", "open_tree", "fsopen", "fsmount", "fsconfig"),
    *("fspick", "mount_setattr", "open_by_handle_at", "name_to_handle_at", "unshare", "setns", "reboot", "swapon"),
    *("swapoff", "acct", "quotactl", "settimeofday", "clock_settime", "adjtimex", "clock_adjtime", "ptrace"),
    *("process_vm_readv", "process_vm_writev", "kcmp", "vmsplice", "personality", "syslog", "sethostname"),
)


def configuration(plan: Plan, writable: tuple[str, ...], hostname: str) -> bytes:
    """The container of a plan. `writable` are the image's directories that are memory instead of the image."""
    limit = max(plan.scratch_mib, 1) * _MIB
    return strict.canonical(
        {
            "ociVersion": "1.0.2",
            "hostname": hostname,
            "root": {"path": ROOT, "readonly": True},
            "process": _process(plan),
            "mounts": [
                _mount("/proc", "proc", "nosuid", "noexec", "nodev"),
                _mount("/dev", "tmpfs", "nosuid", "noexec", "mode=755", "size=65536"),
                *(_mount(path, "tmpfs", "nosuid", "nodev", "mode=1777", f"size={limit}") for path in writable),
            ],
            "linux": {
                "namespaces": [{"type": kind} for kind in _NAMESPACES],
                "uidMappings": [_mapping()],
                "gidMappings": [_mapping()],
                "maskedPaths": list(_MASKED),
                "readonlyPaths": list(_READ_ONLY),
                "seccomp": _filter(),
            },
        }
    )


def _process(plan: Plan) -> Mapping[str, object]:
    work = plan.workload
    return {
        "terminal": False,
        "user": {"uid": work.user.uid, "gid": work.user.gid},
        "args": list(work.argv),
        "env": [f"{name}={value}" for name, value in sorted(work.environment.items())],
        "cwd": work.directory,
        "noNewPrivileges": True,
        "capabilities": {kind: [] for kind in _SETS},
        "rlimits": [
            _limit("RLIMIT_CORE", 0),
            _limit("RLIMIT_NPROC", _PROCESSES),
            _limit("RLIMIT_NOFILE", _FILES),
            _limit("RLIMIT_DATA", plan.memory_mib * _MIB),
        ],
    }


def _limit(kind: str, value: int) -> Mapping[str, object]:
    return {"type": kind, "hard": value, "soft": value}


def _mount(path: str, kind: str, *options: str) -> Mapping[str, object]:
    return {"destination": path, "type": kind, "source": kind, "options": list(options)}


def _mapping() -> Mapping[str, object]:
    return {"containerID": 0, "hostID": FIRST_USER, "size": USERS}


def _filter() -> Mapping[str, object]:
    """Deny what is listed, and a user namespace, of what the filter around the runtime (CONTAINER) lets through."""
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": list(_DENIED), "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
            {
                "names": ["clone"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": _EPERM,
                "args": [
                    {
                        "index": 0,
                        "value": _CLONE_NEWUSER,
                        "valueTwo": _CLONE_NEWUSER,
                        "op": "SCMP_CMP_MASKED_EQ",
                    }
                ],
            },
        ],
    }
