"""What the application asks of the face above it: to show a line, and to ask the user for a secret."""

from typing import Final, Protocol


class Frontend(Protocol):
    """Callbacks of a face. All are called in the thread that works with the context."""

    def notice(self, text: str) -> None:
        """Show the user one line of prose; it may hold strings from a guest or a server, unescaped."""

    def can_ask(self) -> bool:
        """Whether a person is there who can be asked, at this moment."""

    def ask(self, what: str) -> str:
        """The secret that the user enters when asked for `what`. Called only where `can_ask` was true."""


class Silent:
    """A frontend without a user."""

    def notice(self, text: str) -> None:
        """Show nothing."""

    def can_ask(self) -> bool:
        """Say that there is no person to ask."""
        return False

    def ask(self, what: str) -> str:
        """Not called: `can_ask` is false. Raises RuntimeError."""
        raise RuntimeError(f"no person to ask for {what}")


SILENT: Final = Silent()
