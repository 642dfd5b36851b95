"""Results of verification that only the module that verifies can make: what types say, and what holds at run time."""

from dataclasses import InitVar, dataclass, field
from typing import ClassVar, NoReturn, override


class Seal:
    """The permission to make results. A module that verifies has one to itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Sealed:
    """The base of such results: made with the seal of their module, neither copied nor pickled.

    Another process verifies the bytes again. A subclass sets `_seal`, and `_maker`, the function that makes it.
    Raises TypeError for any other seal.
    """

    _seal: ClassVar[Seal]
    _maker: ClassVar[str]

    seal: InitVar[Seal] = field(kw_only=True)

    def __post_init__(self, seal: Seal) -> None:
        if seal is not self._seal:
            raise TypeError(f"only {self._maker}() makes a {type(self).__name__}")

    @override
    def __reduce__(self) -> NoReturn:
        raise TypeError("evidence stays in the process that verified it")
