"""The only place that runs machine code of ours: it measures how fast the host's time stamp counter ticks.

The figure is measured, and never cached: a counter is read when a `TscClock` is made and again when the frequency is
asked for, and what the caller does in between is the measurement. So it costs nothing, and can't be stale after a host
was itself restored on another machine. `perf_event_open` would tell the kernel's own figure, but Debian forbids it to
plain users (kernel.perf_event_paranoid = 3); and /proc/cpuinfo shows the core's clock, which is another one.
"""

import ctypes
import mmap
import platform
import time
from dataclasses import dataclass
from typing import Self

from mvmnix.errors import MvmnixError

#: rdtsc; shl rdx, 32; or rax, rdx; ret (Intel SDM volume 2, RDTSC)
_CODE = bytes.fromhex("0f31 48c1e220 4809d0 c3")
#: Seconds between two readings that make the error of a reading (under 1 µs) less than 0.1 %; 10 % would do.
_SHORTEST = 0.002
#: kHz. Outside of it something else was measured.
PLAUSIBLE = range(200_000, 10_000_001)
#: A counter's frequency differs by so much of it between measurements: one part of so many.
_TOLERANCE = 300
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Reading:
    """The counter, and the time of the same moment in nanoseconds of a clock that is never adjusted."""

    counter: int
    nanoseconds: int


def frequency(first: Reading, second: Reading) -> int:
    """Ticks between two readings, in kHz. Raises ValueError when that can't be a time stamp counter.

    >>> frequency(Reading(0, 0), Reading(26_000_000, 10_000_000))
    2600000
    """
    elapsed = second.nanoseconds - first.nanoseconds
    khz = (second.counter - first.counter) * 1_000_000 // elapsed if elapsed > 0 else 0
    if khz not in PLAUSIBLE:
        raise ValueError(f"{khz} kHz is not a frequency of a time stamp counter")
    return khz


def is_same_frequency(told: int, measured: int) -> bool:
    """Whether what was measured, in kHz, is the frequency that a guest was told, as far as measurements agree.

    >>> is_same_frequency(2_600_000, 2_608_000), is_same_frequency(2_600_000, 2_609_000)
    (True, False)
    """
    return abs(measured - told) <= told // _TOLERANCE


class TscClock:
    """The host's time stamp counter, first read when this was made."""

    def __init__(self, read: "_Counter", first: Reading) -> None:
        self._read = read
        self._first = first

    @classmethod
    def start(cls) -> Self:
        """Read the counter for the first time. Raises MvmnixError on a machine that has none."""
        if platform.machine() != "x86_64":
            raise MvmnixError(f"this host is {platform.machine()}, not x86_64", hint="run mvm on an x86_64 host")
        counter = _Counter()
        return cls(counter, counter.read())

    def khz(self) -> int:
        """The frequency between the first reading and now, in kHz; waits until 2 ms lie between them."""
        for _ in range(_ATTEMPTS):
            since = (time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW) - self._first.nanoseconds) / 1e9
            if since < _SHORTEST:
                time.sleep(_SHORTEST - since)
            try:
                return frequency(self._first, self._read.read())
            except ValueError:
                self._first = self._read.read()  # the host slept or moved in between
        raise MvmnixError(
            "the host's time stamp counter does not tick evenly, and a guest under TCG would hang on it",
            hint="look at `dmesg | grep -i tsc`; in a virtual machine, let its host expose an invariant counter",
        )


class _Counter:
    """A page with the one instruction, mapped writable first and executable afterwards, never both."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        self._page.write(_CODE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(address), mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC) != 0:
            raise MvmnixError(
                "this host forbids code in anonymous memory, which is how the time stamp counter is measured",
                hint="allow execmem to mvm in the host's security policy",
            )
        self._rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(address)

    def read(self) -> Reading:
        """The tightest of a few readings: one that was interrupted in between is wider, and is not chosen."""
        samples = []
        for _ in range(_ATTEMPTS):
            before = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
            counter = int(self._rdtsc())
            after = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
            samples.append((after - before, Reading(counter, (before + after) // 2)))
        return min(samples, key=lambda sample: sample[0])[1]
