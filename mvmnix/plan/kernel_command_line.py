"""The rules for a guest kernel's command line, and the fixed list of what a backend may add to it; pure.

The plan holds the whole command line. What a backend adds beyond it is on this list, typed, and stands in the receipt:

- `tsc_early_khz=<kHz>`, a decimal integer: the host's time stamp counter, measured, because calibration hangs at times
  under QEMU's translator (`-M microvm`).
- `tsc=reliable`, this word: the counter isn't checked against the emulated timer, which loses ticks on a loaded host.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, override


class BackendParameter(StrEnum):
    """The fixed list of what a backend may add to the plan's kernel command line, each with an integer or a fixed word.

    Both are in the kernel's Documentation/admin-guide/kernel-parameters.txt.
    `tsc_early_khz`: the host's time stamp counter in kHz. Under TCG the guest's counter is the host's, and its
    calibration against an emulated timer hangs at times.
    `tsc`, always `reliable`: the kernel doesn't check the counter against that timer later either. `-M microvm` has no
    other timer, and it loses ticks whenever the hypervisor waits for a processor: the kernel would declare the counter
    unstable, and go on by the timer that loses them.
    """

    TSC_EARLY_KHZ = "tsc_early_khz"
    TSC = "tsc"

    @property
    def word(self) -> str | None:
        """The one value that it may have; None for one with an integer."""
        return _WORDS.get(self)


_WORDS: Final = {BackendParameter.TSC: "reliable"}
#: The most that an integer of the list may be: 10 decimal digits.
LARGEST_ADDITION: Final = 10**10 - 1


@dataclass(frozen=True, slots=True)
class Addition:
    """One parameter that a backend adds to the kernel command line; it stands in the receipt."""

    parameter: BackendParameter
    value: int | str

    def __post_init__(self) -> None:
        word = self.parameter.word
        if word is None:
            fits = isinstance(self.value, int) and 0 <= self.value <= LARGEST_ADDITION
        else:
            fits = self.value == word
        if not fits:
            raise ValueError(f"{self.parameter} can't be {self.value!r}")

    @override
    def __str__(self) -> str:
        return f"{self.parameter}={self.value}"


#: What a backend may add: the name, and an integer of up to 10 digits or the parameter's one word.
BACKEND_PARAMETERS: Final = tuple(BackendParameter)
#: Linux on x86 keeps 2,048 bytes, the last of which ends the string (COMMAND_LINE_SIZE, arch/x86/include/asm/setup.h).
KERNEL_LIMIT: Final = 2047
#: The longest command line that leaves room for the list.
LONGEST: Final = KERNEL_LIMIT - sum(len(f" {Addition(it, it.word or LARGEST_ADDITION)}") for it in BACKEND_PARAMETERS)


def problems(text: str) -> tuple[str, ...]:
    """What is wrong with a command line; nothing is, when parameters can be told apart and nothing can be cut off.

    >>> problems("console=hvc0 quiet")
    ()
    """
    found = []
    if not re.fullmatch(r"[!-~]+( [!-~]+)*", text):
        found.append("it is not a list of parameters in printable ASCII with single spaces between them")
    if '"' in text:
        found.append("it has quotation marks, within which a space would not end a parameter")
    if "--" in text.split(" "):
        found.append("it has `--`, behind which the kernel takes no parameter, not even what a backend adds")
    if len(text) > LONGEST:
        found.append(f"it has {len(text)} bytes; the kernel would cut it off after {LONGEST}, with what a backend adds")
    names = {parameter.partition("=")[0].replace("-", "_") for parameter in text.split(" ")}
    found += [f"{name} is for the backend to set" for name in BACKEND_PARAMETERS if name in names]
    return tuple(found)
