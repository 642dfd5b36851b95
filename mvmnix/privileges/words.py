"""Tells which texts of a command line may name files of this host, before it is parsed; others are a guest's.

1. `exec` and `shell` name none: their words are a machine, and what runs in its guest.
2. In a command that makes a plan, what follows `--` is the guest's command. Elsewhere it names files, as all else does.
3. The values of LABELS name none. Of a share's value, and of what `cp` copies, the host's side does.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

_IN_A_GUEST: Final = ("exec", "shell")
_PLANNING: Final = ("run", "plan")
#: Options whose values are names, or are handed to a guest.
LABELS: Final = ("--label", "--name", "--filter", "--data")
_SHARE: Final = "--share"
#: MACHINE:PATH (cli/cp.py).
_REMOTE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*:.*", re.DOTALL)


def of_host(words: Sequence[str]) -> Iterator[str]:
    """The texts that may name a file or directory of this host, of a command line without the program's name.

    >>> list(of_host(["run", "./guest", "--raw", "--label", "a=/b", "--share=/in:/out:rw", "--", "cat", "/file"]))
    ['run', './guest', '/in']
    """
    command = words[0] if words else ""
    if command in _IN_A_GUEST:  # 1
        return
    if command in _PLANNING and "--" in words:  # 2
        words = words[: words.index("--")]
    option = ""
    for word in words:
        value, before, option = word, option, ""
        if word.startswith("--") and before not in {*LABELS, _SHARE}:
            before, equals, value = word.partition("=")
            if not equals:
                option = before
                continue
        if before in LABELS or (command == "cp" and _REMOTE.fullmatch(value)):  # 3
            continue
        yield value.partition(":")[0] if before == _SHARE else value
