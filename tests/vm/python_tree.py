"""The Python that runs the tests as a tree of files that a guest without one can run, with what a program imports."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.repository import ROOT

#: Imports a program, and says where the standard library is and the files of all modules that this took.
_LOOK = """
import importlib, os, sys
importlib.import_module(sys.argv[1])
print(os.path.dirname(os.__file__))
for module in [*sys.modules.values()]:
    print(getattr(module, "__file__", None) or "")
"""
_LOADER = re.compile(r"(?m)^\s*(/\S+/(ld-\S+)) \(")
_LIBRARY = re.compile(r"(?m)^\s*(\S+) => (/\S+) \(")


def _copy(file: Path | str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, target)


def _libraries(tree: Path, *programs: Path | str) -> None:
    """Shared libraries by the names under which they are looked for, and the loader (ldd(1))."""
    listed = subprocess.run(["ldd", *programs], capture_output=True, check=True, text=True).stdout
    for name, path in _LIBRARY.findall(listed):
        _copy(path, tree / "lib" / name)
    for path, _ in _LOADER.findall(listed):
        _copy(path, tree / "lib/ld.so")


def make_python_tree(tree: Path, module: str) -> None:
    """Make a tree in which a module of this repository runs, a few MB: see `command`."""
    interpreter = os.path.realpath(sys.executable)
    argv = [interpreter, "-P", "-S", "-c", _LOOK, module]
    looked = subprocess.run(argv, env={"PYTHONPATH": str(ROOT)}, capture_output=True, check=True, text=True)
    library, *files = filter(None, looked.stdout.splitlines())
    for file in map(Path, files):
        if file.is_relative_to(library):
            _copy(file, tree / "lib" / Path(library).name / file.relative_to(library))
        else:
            _copy(file, tree / file.relative_to(ROOT))
    _copy(interpreter, tree / "bin/python3")
    _libraries(tree, interpreter, *(file for file in files if file.endswith(".so")))


def command(tree: str, module: str, *words: str) -> str:
    """Return the line of a shell that runs the module of the tree at this place in a guest."""
    program = f"{tree}/{module.replace('.', '/')}.py"
    loader = f"{tree}/lib/ld.so --library-path {tree}/lib {tree}/bin/python3"
    return f"PYTHONHOME={tree} PYTHONPATH={tree} {loader} -S {program} {' '.join(words)}"
