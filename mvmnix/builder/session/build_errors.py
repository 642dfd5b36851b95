"""Says what a failure in the builder VM means to the user, by Nix's own words (2.26) and the VM's kernel's; pure.

An evaluation fails in words that are Nix's. A build fails in words that may be any program's: it is quoted, never read.
A full disk and a want of memory are told from a failed build by what the VM's kernel says of them. The guest isn't
trusted for more than this: which of three hints its user gets.
"""

import re
from collections.abc import Sequence
from typing import Final

from mvmnix.arguments import AttributePath
from mvmnix.errors import MvmnixError, ReasonCode, UsageError, refuse
from mvmnix.plural import counted
from mvmnix.suggestion import did_you_mean
from mvmnix.system.process import first_cause

_READ: Final = "the first error of the log is the cause of those behind it: look for it there"
#: How many of a flake's packages a message names.
_MOST_NAMES: Final = 20
#: What Nix says of an evaluation → reason code, why, what to do. The first that is found counts.
_MEANINGS: Final = (
    (
        # an input that the lock doesn't know is looked for before Nix says so
        r"requires lock file changes|while updating the lock file of flake",
        ReasonCode.LOCK_STALE,
        "flake.lock no longer fits flake.nix",
        "run `mvm lock` and commit flake.lock",
    ),
    (
        r"unlocked (flake )?input|in pure evaluation mode",
        ReasonCode.FLAKE_UNLOCKED,
        "evaluation reaches for something that flake.lock does not pin",
        "make it an input of the flake and lock it, or give the fetcher a hash",
    ),
    (
        r"'allow-import-from-derivation' is disabled",
        ReasonCode.FLAKE_UNSUPPORTED,
        "its evaluation imports something that has to be built first, which the trust policy does not allow",
        "let the guest be built from it instead, or set import-from-derivation in trust.toml, [evaluation]",
    ),
    (
        # docs/adr/0005
        r"unable to download '(?P<what>[!-~]{1,300})'",
        ReasonCode.FLAKE_UNSUPPORTED,
        "its evaluation fetches {what}, and evaluation is given nothing but what the lock names",
        "make it an input of the flake, or a fixed-output derivation that the guest is built from",
    ),
    (
        r"unable to download",
        ReasonCode.FLAKE_UNSUPPORTED,
        "its evaluation fetches something, and evaluation is given nothing but what the lock names",
        "make it an input of the flake, or a fixed-output derivation that the guest is built from",
    ),
)

#: Less room than this is none: KiB; files. Nix tidies up before it says that a build failed, and frees some of both.
_LITTLE: Final = (1024, 1024)
#: The last line of a Nix that had no room itself: it tidies up all then. What a builder says never comes last.
_STUCK: Final = re.compile(r"(?:.*\n)?error: [^\n]*: No space left on device", re.DOTALL)
_MORE_ROOM: Final = "give it more: mvm build --disk MIB"


def of_build(where: str, log: str, doubt: str = "") -> MvmnixError:
    """A build, or something else in the VM, failed; `where` names the flake's attribute, `log` is how it ended.

    `doubt` says why a binary cache's answer did not count, if one didn't: what it had, had to be built.
    """
    besides = f"\nbesides, a binary cache's answer did not count: {doubt}" if doubt else ""
    return MvmnixError(f"{where}: the build failed; its last words:\n{last_lines(log)}{besides}", hint=_READ)


def of_output(where: str, log: str) -> MvmnixError:
    """What was built could not be put into an archive, for it hasn't an image's files; `log` is tar's."""
    why = f"the package is not an image:\n{last_lines(log, 5)}"
    return refuse(ReasonCode.OUTPUT_MALFORMED, where, why, "name a package that mkGuest makes")


def of_evaluation(where: str, log: str, *, unlocked: str = "", doubt: str = "") -> MvmnixError:
    """An evaluation failed. `unlocked` says why nothing is locked, for a flake that has no flake.lock."""
    for pattern, code, why, hint in _MEANINGS:
        if found := re.search(pattern, log):
            if code is ReasonCode.LOCK_STALE and unlocked:
                return refuse(ReasonCode.FLAKE_UNLOCKED, where, unlocked, hint)
            return refuse(code, where, why.format(**found.groupdict()), hint)
    return of_build(where, log, doubt)


def is_attribute_missing(log: str) -> bool:
    """Whether an evaluation failed because the flake has no package of that name."""
    return "does not provide attribute" in log and not any(re.search(pattern, log) for pattern, *_ in _MEANINGS)


def of_attribute(where: str, attribute: str, names: Sequence[str]) -> UsageError:
    """A flake has no package `attribute`; `names` are those that it has, as it says. Those that can be typed are told.

    >>> of_attribute("path:x#helo", "helo", ["hello", "tools"]).hint
    'did you mean hello? The flake has: hello, tools'
    """
    known = [name for name in names if not AttributePath.problem(name)]
    hint = f"the flake has: {', '.join(known[:_MOST_NAMES])}{' …' if len(known) > _MOST_NAMES else ''}"
    if near := did_you_mean(attribute, known):
        hint = f"{near}{hint[0].upper()}{hint[1:]}"
    why = f"{where}: there is no such package in the flake"
    return UsageError(why, hint=hint if known else "name one: FLAKE#ATTRIBUTE")


def exhaustion_error(said: bytes, where: str, log: str) -> MvmnixError | None:
    """Why a build failed, if it was for want of room or memory; None otherwise.

    `said` is what `nix_commands.pressure()` printed: two tables of df(1) in POSIX form, and lines of /proc/vmstat.
    """
    words = f"its last words:\n{last_lines(log)}"
    counter = re.search(rb"^oom_kill ([0-9]{1,18})$", said, re.MULTILINE)
    if killed := int(counter[1]) if counter else 0:
        why = f"the builder VM ran out of memory, and its kernel killed {counted(killed, 'process', 'processes')}"
        return MvmnixError(f"{where}: {why}; {words}", hint="give it more: mvm build --memory MIB")
    rooms = re.findall(rb"^\S+ +([0-9]+) +[0-9]+ +([0-9]+) +[0-9-]+%? ", said, re.MULTILINE)
    for (total, room), little, what in zip(rooms, _LITTLE, ("KiB", "files"), strict=False):
        left = int(room[:18])
        if int(total[:18]) and left < little:  # a total of 0 is no bound
            why = f"the builder VM's disk is full: there is room for {left} {what}"
            return MvmnixError(f"{where}: {why}; {words}", hint=_MORE_ROOM)
    if _STUCK.fullmatch(log.rstrip()):
        return MvmnixError(f"{where}: the builder VM's disk is full, and Nix gave up; {words}", hint=_MORE_ROOM)
    return None


def last_lines(log: str, count: int = 20) -> str:
    """The end of a log, safe to be shown; in front of it the first line that names a cause, if that comes earlier."""
    lines = ["  " + "".join(c if c.isprintable() else "?" for c in line) for line in log.splitlines()]
    cause = f"  {first_cause(log.encode())}"
    shown = lines[-count:]
    is_shown = len(lines) <= count or cause.strip() in {line.strip() for line in shown}
    return "\n".join(shown if is_shown else (cause, "  …", *shown[2:]))
