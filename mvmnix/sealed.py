"""The base of results of verification, which only the module that holds their seal can make; checked at run time."""

from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from typing import NoReturn, final, override


@final
class Seal:
    """The permission to make results. A module that verifies has one to itself, as `_SEAL`."""

    def of[T: Sealed](self, maker: str) -> Callable[[type[T]], type[T]]:
        """Decorate a class that this seal makes; `maker` names the functions that do, for a refusal."""

        def decorate(made: type[T]) -> type[T]:
            _seals[made] = self, maker
            return made

        return decorate


@dataclass(frozen=True, slots=True, eq=False)
class Sealed:
    """A result that is made with the seal of its class, and neither copied nor pickled.

    Another process verifies the bytes again. Raises TypeError for another seal.
    """

    seal: InitVar[Seal] = field(kw_only=True)

    def __post_init__(self, seal: Seal) -> None:
        own, maker = _seals[type(self)]
        if seal is not own:
            raise TypeError(f"only {maker} makes a {type(self).__name__}")

    @override
    def __reduce__(self) -> NoReturn:
        raise TypeError("evidence stays in the process that verified it")


#: By class; an instance doesn't lead to it.
_seals: dict[type[Sealed], tuple[Seal, str]] = {}
