"""A terminal of 30 rows and 100 columns, and a command at it that has it for its own."""

import os
import select
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.patience import EVENT_PATIENCE, until
from tests.support.processes import end_with_test


class Seat:
    """`shown` is what came onto the screen, behind what was waited for last."""

    def __init__(self, argv: Sequence[str | bytes | Path], environment: Mapping[str, str], cwd: Path) -> None:
        self.screen, self.seat = os.openpty()
        termios.tcsetwinsize(self.seat, (30, 100))
        self.before = termios.tcgetattr(self.seat)
        self.shown = b""
        self.child = end_with_test(
            subprocess.Popen(
                argv,
                stdin=self.seat,
                stdout=self.seat,
                stderr=self.seat,
                env=dict(environment),
                cwd=cwd,
                start_new_session=True,
            )
        )

    def types(self, data: bytes) -> None:
        """Press keys."""
        os.write(self.screen, data)

    def until(self, words: bytes) -> bytes:
        """Wait until they are on the screen; returns what came before them."""

        def look() -> None:
            assert self._look(1000) or self.child.poll() is None, self.shown

        until(lambda: words in self.shown, lambda: self.shown, look)
        before, _, self.shown = self.shown.partition(words)
        return before

    def leaves(self) -> int:
        """The exit code; the terminal is as it was."""
        code = self.child.wait(EVENT_PATIENCE)
        assert termios.tcgetattr(self.seat) == self.before
        while self._look(0):
            pass
        os.close(self.seat)
        os.close(self.screen)
        return code

    def _look(self, milliseconds: int) -> bool:
        """Take in what comes meanwhile. By poll: a process of many tests has descriptors that select doesn't take."""
        poll = select.poll()
        poll.register(self.screen, select.POLLIN)
        if not poll.poll(milliseconds):
            return False
        self.shown += os.read(self.screen, 4096)
        return True
