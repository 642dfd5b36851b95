"""The type of options and arguments that take a member of an enum, by its value."""

from enum import StrEnum
from typing import override

import click


class EnumChoice[E: StrEnum](click.Choice[E]):
    """One of these members; what is typed is its value, where click would take its name."""

    @override
    def normalize_choice(self, choice: object, ctx: click.Context | None) -> str:
        """Return the value of a member, or what was typed."""
        return str(choice)
