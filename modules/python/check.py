"""Imports what the hermetic mvm consists of, and fails for each module that can't be, or that loads a foreign library.

Run by its Python as `check.py HOME SITE`: where the package mvmnix and where the wheels lie.
"""

import importlib
import importlib.machinery
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path

STORE = "/nix/store/"


def modules(home: Path, site: Path) -> Iterator[str]:
    """Every module of mvm, every wheel's outermost ones, every extension module of the wheels and of Python."""
    own = (found.name for found in pkgutil.walk_packages([str(home / "mvmnix")], "mvmnix."))
    yield from (name for name in own if not name.endswith(".__main__"))  # those run when they are imported
    yield from (found.name for found in pkgutil.iter_modules([str(site)]))
    extensions = Path(sys.prefix, "lib/python3.13/lib-dynload")
    for directory in (site, extensions):
        for file in directory.rglob("*.so"):
            yield ".".join(file.relative_to(directory).parts).partition(".cpython-")[0].removesuffix(".abi3.so")


def problem(name: str) -> str:
    """Why a module can't be imported; empty when it can."""
    try:
        importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 - whatever a module raises is what is asked for
        return f"{name}: {error!r}\n"
    return ""


def unfiltered() -> Iterator[str]:
    """Why a filter of system calls can't be made; libseccomp is loaded only then."""
    profile = importlib.import_module("mvmnix.sandbox.profiles.hypervisor").HYPERVISOR
    try:
        importlib.import_module("mvmnix.sandbox.seccomp").program(profile)
    except Exception as error:  # noqa: BLE001 - whatever is raised is what is asked for
        yield f"libseccomp: {error!r}\n"


def foreign() -> set[str]:
    """Files that this process has mapped and that are not in the store (proc_pid_maps(5))."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    mapped = {line.split(maxsplit=5)[5] for line in lines if "/" in line}
    return {f"{file} was loaded\n" for file in mapped if not file.startswith(STORE)}


if __name__ == "__main__":
    sys.path += sys.argv[1:3]
    wanted = sorted({*modules(Path(sys.argv[1]), Path(sys.argv[2]))})
    problems = [*map(problem, wanted), *unfiltered(), *sorted(foreign())]
    sys.stdout.write(f"{len(wanted)} modules\n")
    sys.exit("".join(problems) or None)
