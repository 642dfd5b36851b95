"""What the command line does where root starts it: it finds out which user to be, and is that one from then on.

1. Options before the command are read as click reads them, and nothing behind it but the command's name. `--user` says
   whom to be.
2. Variables that load code or lead to root's files are dropped first. What the command needs, and what tells a failure,
   is imported before the step: nothing of root's is loaded after it.
3. Commands without state (STATELESS) need no user of that name, and neither does the help of any other, asked for by
   `--help` or `-h` behind its name alone. What `verify` names is opened before. Without a command nothing is read, and
   no step taken.
"""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import click

from mvmnix.api import held_files
from mvmnix.cli.completers import COMPLETE
from mvmnix.errors import MvmnixError
from mvmnix.system import log, system_user

#: Those that keep nothing, and read what is named alone.
STATELESS: Final = frozenset({"completion", "explain", "help", "lint", "man", "schema", "verify", "version"})
_USER: Final = "--user"
_HELP: Final = (["--help"], ["-h"])
_step: list[system_user.Become] = []
_stayed: list[bool] = []


def leave(words: Sequence[str], commands: Mapping[str, tuple[str, str, str]]) -> None:
    """Be another user. Raises UsageError, MvmnixError: then this process must end."""
    user, command, rest = read(words)
    asked = COMPLETE in os.environ and not words  # by a shell, for names of what is kept
    if asked and system_user.exists(system_user.USER):
        user = system_user.USER
    if not asked and not user and not command:
        _stayed.append(True)
        return
    system_user.drop_variables(os.environ)
    for module in ("mvmnix.api.failure_log", "mvmnix.cli.output", *commands.get(command, ())[:1]):
        importlib.import_module(module)
    if not user and (asked or command in STATELESS or _asks_for_help(command, rest, commands)):
        system_user.become_unprivileged(held_files.hold(rest) if command == "verify" else ())
    else:
        _step.append(system_user.become(user or system_user.USER))


def read(words: Sequence[str]) -> tuple[str, str, list[str]]:
    """The user, the command and its words; "" for what isn't there.

    >>> read(["--quiet", "--user=ci", "run", "--user", "1:1", "./guest"])
    ('ci', 'run', ['--user', '1:1', './guest'])
    """
    user, rest = "", list(words)
    while rest and rest[0].startswith("-") and rest[0] != "--":
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name == _USER:
            user = value if equals else rest.pop(0) if rest else ""
    if rest[:1] == ["--"]:
        rest.pop(0)
    return user, rest[0] if rest else "", rest[1:]


def _asks_for_help(command: str, rest: Sequence[str], commands: Mapping[str, tuple[str, str, str]]) -> bool:
    """Whether the help of a command is asked for, also of one in a group. Words of a guest's command never do that.

    The command's module is imported already.
    """
    module, attribute, _ = commands.get(command, ("", "", ""))
    named = getattr(sys.modules.get(module), attribute, None)
    words = list(rest)
    while isinstance(named, click.Group) and words and words[0] in named.commands:
        named = named.commands[words.pop(0)]
    return words in _HELP


def tell() -> None:
    """Say what came of the step: once, when a command begins. Raises MvmnixError where there was to be no command."""
    if _stayed:
        raise MvmnixError("this process is still root's", hint="report this as a bug, with the command line")
    for step in _step:
        if step.obstacle:
            log.info("jail", "%s", step.obstacle)
        if step.left:
            from mvmnix.cli.output import notice  # noqa: PLC0415 - imported already

            notice(f"{step.left} is closed to this user, so mvm works in /")
    _step.clear()
