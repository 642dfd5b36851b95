"""A terminal of 30 rows and 100 columns, and a command at it that has it for its own."""

import os
import select
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Seconds after which what sits here counts as hung; nothing here measures time.
PATIENCE = 300


class Seat:
    """`shown` is what came onto the screen, behind what was waited for last."""

    def __init__(self, argv: Sequence[str | bytes | Path], environment: Mapping[str, str], cwd: Path) -> None:
        self.screen, self.seat = os.openpty()
        termios.tcsetwinsize(self.seat, (30, 100))
        self.before = termios.tcgetattr(self.seat)
        self.shown = b""
        self.child = subprocess.Popen(
            argv,
            stdin=self.seat,
            stdout=self.seat,
            stderr=self.seat,
            env=dict(environment),
            cwd=cwd,
            start_new_session=True,
        )

    def types(self, data: bytes) -> None:
        """Press keys."""
        os.write(self.screen, data)

    def until(self, words: bytes) -> bytes:
        """Wait until they are on the screen; returns what came before them."""
        limit = time.monotonic() + PATIENCE
        while words not in self.shown:
            assert time.monotonic() < limit, self.shown
            assert self._look(1000) or self.child.poll() is None, self.shown
        before, _, self.shown = self.shown.partition(words)
        return before

    def leaves(self) -> int:
        """The exit code; the terminal is as it was."""
        code = self.child.wait(PATIENCE)
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
