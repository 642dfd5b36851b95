"""Makes the caller's terminal raw for as long as a guest drives it, and gives it back as it was, however that ends."""

import os
import re
import signal
import termios
import time
import tty
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final, NoReturn

from mvmnix.api import MOST_ROWS, TERM
from mvmnix.cli.stdio import attentive
from mvmnix.errors import MvmnixError, UsageError

_ENDING: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
_INPUT: Final = 0
#: Control-], as often within so many seconds, hangs up: what else is typed is the guest's.
_KEY: Final = b"\x1d"
_TIMES: Final = 3
_SECONDS: Final = 1.0
#: What the user is told before a guest drives the terminal.
NOTICE: Final = (
    "from here on the guest's bytes drive this terminal, and what runs there as the plan's user reads and writes it; "
    "Ctrl-] three times hangs up"
)


class SignalledError(MvmnixError):
    """Another process signalled this one: keys go to the guest."""

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


def kind() -> str:
    """What the terminal is, by TERM; `dumb` for what no guest is told."""
    found = os.environ.get("TERM", "")
    return found if re.fullmatch(TERM, found) else "dumb"


def refuse_none() -> None:
    """Raises UsageError unless standard input and output are a terminal."""
    if not (os.isatty(0) and os.isatty(1)):
        why = "standard input and output are not a terminal"
        raise UsageError(why, hint="leave out -t: a command runs without one; mvm exec -i hands it standard input")


def refuse_without_input(interactive: bool) -> None:
    """Raises UsageError where a terminal was asked for without its input."""
    if not interactive:
        raise UsageError("a terminal takes input: -t goes with -i", hint="-it; or --raw for the guest's bytes alone")


class HangUpKeys:
    """Looks at what is typed for the keys that hang up."""

    def __init__(self) -> None:
        self._pressed: list[float] = []

    def are_in(self, typed: bytes) -> bool:
        """Whether the user hangs up with this, and what was typed before."""
        for key in typed:
            if key != _KEY[0]:
                self._pressed.clear()
                continue
            self._pressed = [*self._pressed, time.monotonic()][-_TIMES:]
            if len(self._pressed) == _TIMES and self._pressed[-1] - self._pressed[0] <= _SECONDS:
                return True
        return False


class OwnTerminal:
    """This process's terminal for a guest that it supervises itself (api/launch.py).

    The signals that end the process are its supervisor's, which ends the machine in order. SIGQUIT counts as SIGTERM.
    """

    def __init__(self) -> None:
        self.kind = kind()
        self.hangs_up = HangUpKeys().are_in

    def size(self) -> tuple[int, int]:
        """Its rows and columns."""
        return size()

    @contextmanager
    def raw(self, changed: Callable[[], None]) -> Iterator[None]:
        """Raw mode; `changed` is called at once, and by handlers of signals. To be entered in the main thread."""
        before = termios.tcgetattr(_INPUT)

        def resume(_number: int, _frame: FrameType | None) -> None:
            tty.setraw(_INPUT, termios.TCSADRAIN)
            changed()

        handlers: dict[signal.Signals, Callable[[int, FrameType | None], object] | signal.Handlers] = {
            signal.SIGWINCH: lambda *_: changed(),
            signal.SIGCONT: resume,
            signal.SIGTSTP: signal.SIG_IGN,
            signal.SIGQUIT: lambda *_: os.kill(os.getpid(), signal.SIGTERM),
        }
        previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            tty.setraw(_INPUT, termios.TCSADRAIN)
            changed()
            yield
        finally:
            signal.signal(signal.SIGCONT, signal.SIG_IGN)
            with suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(_INPUT, termios.TCSAFLUSH, before)
            for number, handler in previous.items():
                signal.signal(number, handler)


@contextmanager
def raw_terminal(resized: Callable[[int, int], None]) -> Iterator[Callable[[int], None]]:
    """The terminal in raw mode; `resized` hears its rows and columns at once, and whenever they change.

    Gives what waits until a descriptor can be read: no signal is too early for it, as for a system call that blocks.

    Whatever ends the block, SIGHUP, SIGINT, SIGQUIT and SIGTERM among it, the terminal is as it was, and what was typed
    but not read yet is thrown away: a guest can make a terminal answer as if the user typed (tcsetattr(3), TCSAFLUSH).
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
