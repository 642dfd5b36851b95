"""The rules for a guest kernel's command line, and the fixed list of what a backend may add to it; pure.

The plan holds the whole command line. What a backend adds beyond it is on this list, typed, and stands in the receipt:

- `tsc_early_khz=<kHz>`, a decimal integer: the host's time stamp counter, measured, because calibration hangs at times
  under QEMU's translator (`-M microvm`).
- `tsc=reliable`, this word: the counter isn't checked against the emulated timer, which loses ticks on a loaded host.
"""

import re
from typing import Final

from mvmnix.launch.hypervisor.port import LARGEST_ADDITION, Addition, BackendParameter

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
    if len(text) > LONGEST:
        found.append(f"it has {len(text)} bytes; the kernel would cut it off after {LONGEST}, with what a backend adds")
    names = {parameter.partition("=")[0].replace("-", "_") for parameter in text.split(" ")}
    found += [f"{name} is for the backend to set" for name in BACKEND_PARAMETERS if name in names]
    return tuple(found)
