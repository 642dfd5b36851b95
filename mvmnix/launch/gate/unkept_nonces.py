"""Finds starts in a log whose plans could start again, because their nonces are not kept."""

import re
from datetime import datetime
from typing import Final

from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode
from mvmnix.formats.strict import parse_time
from mvmnix.launch.gate.nonces import Nonces
from mvmnix.launch.gate.replay import NONCE, LoggedStart
from mvmnix.system.private_dirs import Directory

_NONCE: Final = re.compile(rf'"{NONCE}":"([0-9a-f]{{64}})"')


class UnkeptStarts:
    """The starts of one log, as a check of the whole log visits them (`verify_log`).

    A nonce may be forgotten once its plan's window ended before any time that a clock will be accepted to say
    (`Moment.past`). Records of an mvm that didn't write down when that is are left out.
    """

    def __init__(self, directory: Directory) -> None:
        """`directory` has the nonces; it stays the caller's to close."""
        self._directory = directory
        self._starts: dict[str, tuple[int, str | None, str]] = {}

    def visit(self, index: int, record: re.Match[str]) -> None:
        """Take note of a record. The start of a machine alone has an end of its plan's window."""
        if record["expires"] and (nonce := _NONCE.search(record["digests"] or "")):
            self._starts[nonce[1]] = index, record["machine"], record["expires"]

    def reasons(self, past: datetime) -> tuple[Reason, ...]:
        """A reason for each plan that could start again, though it started. Raises OSError."""
        nonces = Nonces(self._directory)
        return tuple(
            self._reason(LoggedStart(index, Digest(nonce), machine), expires)
            for nonce, (index, machine, expires) in self._starts.items()
            if parse_time(expires) > past and not nonces.has(Digest(nonce))
        )

    def _reason(self, start: LoggedStart, expires: str) -> Reason:
        why = f"record {start.index} of the log is the start of machine {start.machine}, and its nonce isn't kept here"
        hint = "find out who can write there; put back what was there, or revoke the plan (docs/explanation/replay.md)"
        what = f"its plan is valid until {expires}"
        return Reason(ReasonCode.STATE_MISMATCH, self._directory.path, f"{why}: {what}", hint)
