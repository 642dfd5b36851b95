"""The host's sealing key: what is kept of guests' memory is sealed under it; it signs nothing."""

import os
import stat
from contextlib import suppress
from typing import Final

from mvmnix.errors import ReasonCode, refuse
from mvmnix.launch.templates.sealed_stream import KEY_BYTES
from mvmnix.system.private_dirs import Directory

FILE_NAME: Final = "sealing.key"


def read_or_make(keys: Directory) -> bytes:
    """Return the key, made at the first time. Raises RefusedError [key-malformed, key-permissions], OSError."""
    if not keys.exists(FILE_NAME):
        with suppress(FileExistsError):  # another process has made one meanwhile: that is the key
            keys.write_new(FILE_NAME, os.urandom(KEY_BYTES))
    with os.fdopen(keys.open_file(FILE_NAME), "rb") as file:
        mode, key = stat.S_IMODE(os.fstat(file.fileno()).st_mode), file.read(KEY_BYTES + 1)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        hint = "remove it: a new one is made, and templates with it"
        raise refuse(ReasonCode.KEY_PERMISSIONS, keys.where(FILE_NAME), f"others can read it (mode {mode:04o})", hint)
    if len(key) != KEY_BYTES:
        hint = "move it away: what was sealed under it is then made anew"
        raise refuse(ReasonCode.KEY_MALFORMED, keys.where(FILE_NAME), f"it has {len(key)} bytes, not {KEY_BYTES}", hint)
    return key
