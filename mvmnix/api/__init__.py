"""The application under every frontend: state, builds, plans, machines and verdicts; prints nothing, parses no argv.

`__init__.pyi` lists its names, for type checkers and here. Each is imported when it is first used (PEP 562), so that
verifying a file doesn't load what builds images.
"""

import importlib
import re
from functools import cache
from pathlib import Path
from typing import Final

_IMPORT: Final = re.compile(r"^from (\S+) import (\w+) as \2$", re.MULTILINE)


@cache
def _modules() -> dict[str, str]:
    """The module of each name; this package's own, for a module of it."""
    found = _IMPORT.findall(Path(__file__).with_name("__init__.pyi").read_text(encoding="utf-8"))
    return {name: module for module, name in found}


def __getattr__(name: str) -> object:
    if name.startswith("__") or name not in _modules():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _modules()[name]
    return (
        importlib.import_module(f"{module}.{name}")
        if module == __name__
        else getattr(importlib.import_module(module), name)
    )


def __dir__() -> list[str]:
    return sorted(_modules())
