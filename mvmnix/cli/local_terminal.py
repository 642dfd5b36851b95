"""Makes the caller's terminal raw for as long as a guest drives it, and gives it back as it was, however that ends."""

import os
import signal
import termios
import tty
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final, NoReturn

from mvmnix.cli.stdio import attentive
from mvmnix.errors import MvmnixError
from mvmnix.launch.channel.verbs import MOST_ROWS

_ENDING: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
_INPUT: Final = 0


class SignalledError(MvmnixError):
    """Somebody signalled this process, from elsewhere: keys go to the guest."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.exit_code = 128 + number


def size() -> tuple[int, int]:
    """Rows and columns of the terminal, within what a guest may be told; 24 and 80 where it doesn't know them."""
    try:
        columns, rows = os.get_terminal_size(1)
    except OSError:
        columns, rows = 0, 0
    return min(rows or 24, MOST_ROWS), min(columns or 80, MOST_ROWS)


@contextmanager
def raw_terminal(resized: Callable[[int, int], None]) -> Iterator[Callable[[int], None]]:
    """The terminal in raw mode; `resized` hears its rows and columns at once, and whenever they change.

    Gives what waits until a descriptor can be read: no signal is too early for it, as for a system call that blocks.

    Whatever ends the block, SIGHUP, SIGINT, SIGQUIT and SIGTERM among it, the terminal is as it was, and what was typed
    but not read yet is thrown away: a guest can make a terminal answer as if somebody typed (tcsetattr(3), TCSAFLUSH).
    Such a signal raises SignalledError. To be called in the main thread, which runs the handlers.
    """
    before = termios.tcgetattr(_INPUT)

    def tell_size(_number: int, _frame: FrameType | None) -> None:
        resized(*size())

    def resume(number: int, frame: FrameType | None) -> None:
        tty.setraw(_INPUT, termios.TCSADRAIN)  # a shell that stopped us has made it its own meanwhile
        tell_size(number, frame)

    handlers = dict.fromkeys(_ENDING, _end) | {signal.SIGWINCH: tell_size, signal.SIGCONT: resume}
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    previous[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        try:
            tty.setraw(_INPUT, termios.TCSADRAIN)
            resized(*size())
            with attentive() as attend:
                yield attend
        finally:
            _ignore(handlers)
    finally:  # by now nothing can come in between: either that was done, or a signal's handler did it
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(_INPUT, termios.TCSAFLUSH, before)
        for number, handler in previous.items():
            signal.signal(number, handler)


def _ignore(numbers: Iterable[signal.Signals]) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    _ignore((*_ENDING, signal.SIGWINCH, signal.SIGCONT))  # one is enough
    raise SignalledError(number)
