"""Reads what users type for flakes."""

from pathlib import Path

from mvmnix.errors import UsageError
from mvmnix.model import FlakeRef


def reference(text: str) -> FlakeRef:
    """A flake reference. Raises UsageError."""
    try:
        return FlakeRef.parse(text)
    except ValueError as error:
        raise UsageError(str(error), hint="DIR#ATTR, path:DIR#ATTR or path:DIR?dir=SUB#ATTR") from error


def existing(text: str) -> FlakeRef:
    """A flake reference whose directory is there. Raises UsageError."""
    found = reference(text)
    if not Path(found.directory).is_dir():
        raise UsageError(f"{found.directory} is not a directory", hint="name the directory of a flake.nix")
    return found
