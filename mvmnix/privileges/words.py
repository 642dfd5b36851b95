"""Tells which texts of a command line may name files of this host, before it is parsed; others are a guest's.

1. `exec` and `shell` name none: their words are a machine, and what runs in its guest.
2. In a command that makes a plan, what follows `--` is the guest's command. Elsewhere it names files, as all else does.
3. The values of LABELS name none. Of a share's value, and of what `cp` copies, the host's side does.
4. In a command that makes a plan, an option of one letter may stand together with its value, and behind others that
   have none (getopt(3)): `-dv /srv:/data` is `-d -v /srv:/data`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

_IN_A_GUEST: Final = ("exec", "shell")
_PLANNING: Final = ("run", "plan")
#: Options whose values are names, or are handed to a guest.
LABELS: Final = (
    *("--label", "--name", "--filter", "--data", "--env", "--workdir", "--user"),
    *("--allow", "--deny", "--allow-preset", "--publish", "--resolve", "--sni", "--path"),
)
_SHARES: Final = ("--share", "--volume")
#: Options of one letter that take a value, of the commands that make plans (cli/options/plan.py); `-o` names a file.
LETTERS: Final[Mapping[str, str]] = {
    "-e": "--env",
    "-l": "--label",
    "-p": "--publish",
    "-u": "--user",
    "-v": "--volume",
    "-w": "--workdir",
    "-c": "--vcpus",
    "-m": "--memory",
    "-o": "--out",
}
_LETTERS: Final = re.compile(rf"-[a-zA-Z]*?([{''.join(name[1] for name in LETTERS)}])", re.DOTALL)
#: MACHINE:PATH (cli/commands/cp.py).
_REMOTE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*:.*", re.DOTALL)


def of_host(words: Sequence[str]) -> Iterator[str]:
    """The texts that may name a file or directory of this host, of a command line without the program's name.

    >>> list(of_host(["run", "./guest", "--raw", "--label", "a=/b", "--share=/in:/out:rw", "--", "cat", "/file"]))
    ['run', './guest', '/in']
    >>> list(of_host(["run", "-itw", "/work", "-v/in:/out", "-eFILE=/x", "./guest"]))
    ['run', '/in', './guest']
    """
    command = next((word for word in words if not word.startswith("-")), "")
    if command in _IN_A_GUEST:  # 1
        return
    if command in _PLANNING and "--" in words:  # 2
        words = words[: words.index("--")]
    option = ""
    for word in words:
        value, before, option = word, option, ""
        if word.startswith("-") and before not in {*LABELS, *_SHARES}:
            before, given = _option(word, short=command in _PLANNING)
            if given is None:
                option = before
                continue
            value = given
        if before in LABELS or (command == "cp" and _REMOTE.fullmatch(value)):  # 3
            continue
        yield value.partition(":")[0] if before in _SHARES else value


def _option(word: str, *, short: bool) -> tuple[str, str | None]:
    """The option that a word is, by its long name, "" for none; and its value, None for the word that follows."""
    if word.startswith("--"):
        before, equals, value = word.partition("=")
        return before, value if equals else None
    if short and (found := _LETTERS.match(word)):  # 4
        return LETTERS[f"-{found[1]}"], word[found.end() :] or None
    return "", word
