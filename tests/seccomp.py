"""An interpreter of the few instructions that our system call filters are made of, and the kernel's numbers."""

import errno
import importlib
import pkgutil
import re
import struct
from functools import cache
from pathlib import Path
from typing import Final

from mvmnix.sandbox import profiles, seccomp
from mvmnix.sandbox.profiles.profile import Profile

X86_64, I386 = 0xC000003E, 0x40000003
ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS = 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
#: What the usual tier refuses to tests/integration/system_calls.c: by each try, an errno or a signal.
DENIED_BY_DEFAULT = {
    **dict.fromkeys(("mount", "umount2", "chroot", "open_tree", "setns", "unshare user", "clone user"), "1"),
    **dict.fromkeys(("keyctl", "add_key", "perf_event_open", "userfaultfd", "ioctl", "pidfd_getfd", "kcmp"), "1"),
    **dict.fromkeys(("process_vm_readv", "attach", "seize"), "1"),
    **dict.fromkeys(("packet", "alg", "vsock"), "97"),
    **dict.fromkeys(("io_uring_setup", "clone3"), "38"),
    "32 bits": "signal 31",
}
#: Of this machine, where its headers are installed (linux-libc-dev).
HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")


def verdict(program: bytes, number: int, *arguments: int, architecture: int = X86_64) -> int:
    """What the kernel would make of a call: the instructions of classic BPF that are used, and no others."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, *(*arguments, *(0,) * (6 - len(arguments))))
    steps = _steps(program)
    at = value = 0
    while True:
        code, then, otherwise, operand = steps[at]
        at += 1
        match code:
            case 0x20:
                (value,) = struct.unpack_from("=I", data, operand)
            case 0x15:
                at += then if value == operand else otherwise
            case 0x25:
                at += then if value > operand else otherwise
            case 0x35:
                at += then if value >= operand else otherwise
            case 0x45:
                at += then if value & operand else otherwise
            case 0x54:
                value &= operand
            case 0x05:
                at += operand
            case 0x06:
                return int(operand)
            case _:
                raise AssertionError(code)


@cache
def _steps(program: bytes) -> list[tuple[int, ...]]:
    return list(struct.iter_unpack("=HBBI", program))


@cache
def numbers() -> dict[str, int]:
    """Every system call of x86_64 by its name."""
    assert HEADER.exists(), "apt-get install linux-libc-dev"
    return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text())}


_MODULES = [importlib.import_module(f"{profiles.__name__}.{it.name}") for it in pkgutil.iter_modules(profiles.__path__)]
#: Those of the code.
PROFILES: Final = {
    name: value for module in _MODULES for name, value in vars(module).items() if isinstance(value, Profile)
}


@cache
def filter_of(name: str) -> bytes:
    """The program of one of PROFILES."""
    return seccomp.program(PROFILES[name])


def answer(name: str, call: str, *arguments: int) -> int:
    """What one of PROFILES makes of a call."""
    return verdict(filter_of(name), numbers()[call], *arguments)
