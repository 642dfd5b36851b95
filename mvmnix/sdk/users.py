"""Finds the numbers of a guest's user by the guest's own /etc/passwd, as passwd(5) has it."""

import re
from dataclasses import replace
from typing import Final

from mvmnix.launch.control.drivers import Steps
from mvmnix.launch.control.messages import USER, Exec
from mvmnix.sdk import files
from mvmnix.sdk.errors import InvalidArgument
from mvmnix.sdk.machine import Machine

#: A user's name (useradd(8)), perhaps with a group's number.
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}(:[0-9]{1,10})?", re.ASCII)
_HINT: Final = 'user="app", user="1000" or user="1000:1000"'
#: The guest's file, and the most bytes of it that are read.
_PASSWD, _LIMIT = "/etc/passwd", 1 << 20
#: Fields of a line: name, password, uid, gid, comment, home, shell.
_FIELDS: Final = 7


def check_user(text: str) -> str:
    """Return what names a user, by numbers or by name; empty for the plan's user. Raises InvalidArgument."""
    if not re.fullmatch(USER, text, re.ASCII) and not _NAME.fullmatch(text):
        raise InvalidArgument(f"{text[:80]!r} names no user of a guest", hint=_HINT)
    return text


def with_numbers(machine: Machine, request: Exec) -> Steps[Exec]:
    """Return a request whose user is named by numbers. A name is looked up, which takes the verb copy.

    Raises InvalidArgument where the guest has no such user; else as `files.read`.
    """
    if re.fullmatch(USER, request.user, re.ASCII):
        return request
    name, _, group = request.user.partition(":")
    passwd = yield from files.read(machine, _PASSWD, _LIMIT)
    return replace(request, user=find_user(passwd, name, group))


def find_user(passwd: bytes, name: str, group: str = "") -> str:
    r"""Return UID:GID of the first user of this name; `group` is another gid. Raises InvalidArgument.

    >>> find_user(b"root:x:0:0::/:/bin/sh\napp:x:1000:100::/home/app:/bin/sh\n", "app")
    '1000:100'
    """
    for line in passwd.decode(errors="surrogateescape").split("\n"):
        fields = line.split(":")
        if len(fields) == _FIELDS and fields[0] == name:
            found = f"{fields[2]}:{group or fields[3]}"
            if re.fullmatch(USER, found, re.ASCII):
                return found
    raise InvalidArgument(f"the guest's /etc/passwd has no user {name!r}", hint=_HINT)
