"""Says how this process's Python is started again, isolated, with this very package: for mvm's own programs."""

import os
import sys
from pathlib import Path
from typing import Final

_PACKAGES: Final = Path(__file__).parents[2]
#: Python that puts the directories of its arguments first, and runs a function of a module with the rest.
_RUN: Final = (
    "import sys, importlib; n = int(sys.argv[1]); sys.path[:0] = sys.argv[2:2 + n]; "
    "m, f, *a = sys.argv[2 + n:]; getattr(importlib.import_module(m), f)(*a)"
)


def command(module: str, function: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that calls a function of mvm's with these arguments, in an isolated interpreter (-I).

    It imports from where this process does: the directory of this package, and, for an interpreter without `site`, the
    absolute ones of sys.path. None of the working directory's or the user's own.
    """
    flags = ["-I", *(["-S"] if sys.flags.no_site else []), *(["-B"] if sys.flags.dont_write_bytecode else [])]
    others = [path for path in sys.path if path.startswith("/")] if sys.flags.no_site else []
    paths = tuple(dict.fromkeys((str(_PACKAGES), *others)))
    return (*_interpreter(), *flags, "-c", _RUN, str(len(paths)), *paths, module, function, *arguments)


def _interpreter() -> tuple[str, ...]:
    """Return the words that start this interpreter: its path, or the loader's command line where one started it."""
    executable = sys.executable or ""
    if os.path.isabs(executable) and _is_running(executable):  # noqa: PTH117 - a text
        return (executable,)
    words = Path("/proc/self/cmdline").read_bytes().split(b"\0")[:-1]
    count = len(words) - len(sys.orig_argv) + 1
    return tuple(os.fsdecode(word) for word in words[:count])


def _is_running(executable: str) -> bool:
    try:
        return os.path.samefile(executable, "/proc/self/exe")  # noqa: PTH121 - a text
    except OSError:
        return False
