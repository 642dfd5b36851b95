"""Which system calls a program makes that its list doesn't have, from a trace: how a new QEMU is held against the list.

strace -f -qq -o trace .venv/bin/python -m pytest tests/vm/test_shares.py tests/vm/test_data.py
.venv/bin/python -m tests.calls_traced hypervisor qemu-system trace
.venv/bin/python -m tests.calls_traced file-server virtiofsd trace
"""

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from mvmnix.sandbox.profiles.file_server import FILE_SERVER
from mvmnix.sandbox.profiles.helpers import HELPERS_WITH_GATEWAY
from mvmnix.sandbox.profiles.hypervisor import HYPERVISOR_WITH_SHARES
from mvmnix.sandbox.profiles.profile import Profile

PROFILES: Final = {"hypervisor": HYPERVISOR_WITH_SHARES, "file-server": FILE_SERVER, "helpers": HELPERS_WITH_GATEWAY}
#: strace(1), with -f and -o: a thread's id, a call's name, and what follows; a call that was interrupted has two lines.
_CALL: Final = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(.*)")
_EXECUTED: Final = re.compile(r'execve\("([^"]*)"')
_ANSWER: Final = re.compile(r" = (-?\w+(?: [A-Z]\w*)?)")
_STARTS: Final = frozenset({"clone", "clone3", "fork", "vfork"})


def outside(trace: Iterable[str], program: str, profile: Profile) -> Mapping[str, set[str]]:
    """By the name of a call that the profile doesn't have, what the kernel answered.

    Of the processes that executed a file whose name begins with `program`, and of their threads, from then on.
    """
    running: set[str] = set()
    found: dict[str, set[str]] = {}
    for line in trace:
        if (call := _CALL.match(line)) is None:
            continue
        thread, name, rest = call.groups()
        answer = _ANSWER.search(rest)
        if name == "execve" and (executed := _EXECUTED.search(line)) is not None:
            (running.add if Path(executed[1]).name.startswith(program) else running.discard)(thread)
        elif thread in running and name in _STARTS and answer is not None:
            running.add(answer[1])
        if thread in running and name not in profile.allowed | profile.conditions.keys():
            found.setdefault(name, set()).update((answer[1],) if answer is not None else ())
    return found


if __name__ == "__main__":
    kind, wanted, path = sys.argv[1:]
    with Path(path).open(encoding="utf-8", errors="replace") as lines:
        for name, answers in sorted(outside(lines, wanted, PROFILES[kind]).items()):
            sys.stdout.write(f"{name}: {', '.join(sorted(answers))}\n")
