"""A service that draws numbers when it is asked, of a generator that it seeded once.

draws.py FIFO GENERATOR HOOK: answers each line of FIFO.ask with a line in FIFO.answer. It runs in a guest, under the
Python that test_generations.py brings there.
"""

import _ssl
import ctypes
import os
import random
import signal
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

from tests.vm.generations.hook import Hook

SIZE = 16


class Mersenne:
    """The generator of Python's `random`."""

    def __init__(self) -> None:
        self._numbers = random.Random()

    def renew(self) -> None:
        self._numbers.seed()

    def draw(self) -> str:
        return self._numbers.randbytes(SIZE).hex()


class OpenSSL:
    """Both of OpenSSL's: of public numbers, such as nonces, and of private ones, such as keys."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(_ssl.__file__)

    def renew(self) -> None:
        ssl.RAND_add(os.urandom(32), 32)

    def draw(self) -> str:
        private = ctypes.create_string_buffer(SIZE)
        if self._library.RAND_priv_bytes(private, SIZE) != 1:
            raise OSError("RAND_priv_bytes")
        return f"{ssl.RAND_bytes(SIZE).hex()} {private.raw.hex()}"


class Kernel:
    """The kernel's, by way of the C library, which may keep a state of its own (vDSO)."""

    def renew(self) -> None:
        """Nothing: the kernel has done it."""

    def draw(self) -> str:
        return os.urandom(SIZE).hex()


GENERATORS: dict[str, type[Mersenne | OpenSSL | Kernel]] = {"mersenne": Mersenne, "openssl": OpenSSL, "kernel": Kernel}


def answers(fifo: str, draw: Callable[[], str]) -> None:
    """Draw once for each request; until then nothing is drawn."""
    ask, answer = Path(f"{fifo}.ask"), Path(f"{fifo}.answer")
    while ask.read_text():
        answer.write_text(f"{draw()}\n")


def main(fifo: str, generator: str, hook: str) -> None:
    numbers = GENERATORS[generator]()
    renewal = Hook(numbers.renew)

    def checked() -> str:
        renewal.check()
        return numbers.draw()

    if hook == "signal":
        signal.signal(signal.SIGURG, lambda *_: renewal.check())
    answers(fifo, checked if hook == "file" else numbers.draw)


if __name__ == "__main__":
    main(*sys.argv[1:])
