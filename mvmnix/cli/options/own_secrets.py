"""Reads references to secrets that were typed as values of options; never a secret itself."""

from pathlib import Path

from mvmnix.config import SecretRef
from mvmnix.errors import UsageError


def secret_ref(text: str, option: str) -> SecretRef:
    """The reference given for an option. A relative path is taken from here. Raises UsageError, without the text."""
    try:
        place, colon, name = text.partition(":")
        return SecretRef.parse(f"{place}{colon}{Path(name).absolute()}" if place == "file" and name else text)
    except ValueError as error:
        hint = f"{option} env:NAME or {option} file:PATH; a secret itself would be seen by everybody on this machine"
        raise UsageError(f"{option} takes a reference, not the secret", hint=hint) from error
