"""Runs pytest in forks of itself, each with what is needed imported already.

Of the tree under test nothing is imported before a fork, so that no run has anything of another's. Requests and answers
are lines of JSON; an answer is pytest's exit code, or null after the limit. After each run it kills the run's
descendants: it is a child subreaper (PR_SET_CHILD_SUBREAPER, prctl(2)), so orphans become its children. A PID namespace
would take a plain user into a user namespace, where no file belongs to root and mvm trusts no program.
"""

import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tools.mutants.plugins import Recorder, Selection

#: Bytes that a process may have: a loop that lost its end takes no more.
_MEMORY: Final = 4 << 30
_PR_SET_CHILD_SUBREAPER: Final = 36


@dataclass(frozen=True, slots=True)
class Request:
    """One run of pytest, ended after so many `seconds`."""

    arguments: Sequence[str]
    seconds: float
    #: What to import, for this run and later ones.
    modules: Sequence[str] = ()
    #: Ids of the tests to run first, and whether no others are run.
    first: Sequence[str] = ()
    alone: bool = False
    #: A file, for which test executes which line.
    record: str | None = None
    #: A file, for what pytest prints.
    output: str = os.devnull


def main() -> None:
    """Answer until there are no more requests, about the tree that is the working directory."""
    if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError("prctl: PR_SET_CHILD_SUBREAPER")
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    for descriptor, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        null = os.open(os.devnull, flags)
        os.dup2(null, descriptor)
        os.close(null)
    _look_only_in(str(Path.cwd()))
    for line in requests:
        request = Request(**json.loads(line))
        for name in request.modules:
            with suppress(Exception):
                importlib.import_module(name)
        gc.freeze()
        answers.write(json.dumps(_status(request)).encode() + b"\n")


def _look_only_in(tree: str) -> None:
    """Import what is tested from there, and not from where this file is."""
    sys.path = [tree, *(path for path in sys.path if path not in {tree, os.environ["PYTHONPATH"]})]
    os.environ["PYTHONPATH"] = tree
    for name in [name for name in sys.modules if name.partition(".")[0] in {"tests", "tools"}]:
        del sys.modules[name]


def _status(request: Request) -> int | None:
    pid = os.fork()
    if pid == 0:
        status = 3
        try:
            output = os.open(request.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(output, 1)
            os.dup2(output, 2)
            resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
            status = pytest.main([*request.arguments], _plugins(request))
        finally:
            sys.stdout.flush()
            os._exit(status)
    pidfd = os.pidfd_open(pid)
    ended, _, _ = select.select([pidfd], [], [], request.seconds)
    os.close(pidfd)
    if not ended:
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    _kill_the_rest()
    return status if ended else None


def _plugins(request: Request) -> list[object]:
    selection = [Selection(request.first, alone=request.alone)] if request.first else []
    return [*selection, *([Recorder(Path.cwd(), Path(request.record))] if request.record else [])]


def _kill_the_rest() -> None:
    """As often as there is something: what is killed may have started another one just before."""
    while left := _descendants():
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):  # one that is just becoming another user's
                os.kill(pid, signal.SIGKILL)
        for pid in left:
            with suppress(ChildProcessError):  # not yet ours: its parent is still to be reaped
                os.waitpid(pid, 0)


def _descendants() -> list[int]:
    """The processes below this one, children before their own."""
    children = dict[int, list[int]]()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    found = children.get(os.getpid(), [])
    for pid in found:
        found += children.get(pid, [])
    return found


if __name__ == "__main__":
    main()
