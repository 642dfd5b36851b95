"""Makes the face of a folder: its public names, each of which is imported when it is first used.

A folder's `__init__.py` says which of its modules defines what others may import; `__init__.pyi` says the same to type
checkers. A command loads no more than it uses, so nothing is imported here before it is asked for (PEP 562).
"""

import importlib
from collections.abc import Callable, Iterable, Mapping


def face(
    package: str, names: Mapping[str, str], *, modules: Iterable[str] = ()
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package: by module, names that it defines; and whole `modules`.

    Names are separated by spaces. A module is named as from its package, or in full where it lies elsewhere.
    """
    homes = {
        name: module if module.startswith("mvmnix.") else f"{package}.{module}"
        for module, defined in names.items()
        for name in defined.split()
    }
    wholes = frozenset(modules)
    public = sorted({*homes, *wholes})

    def find(name: str) -> object:
        """Raises AttributeError."""
        if name in wholes:
            return importlib.import_module(f"{package}.{name}")
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name]), name)

    return find, lambda: public, public
