"""Gives up root's rights before mvm reads anything but its command line: no way leads back.

1. This process gets a mount namespace of its own. mvm's own directories and the pool's are made where they are missing.
2. What root names is opened, by the rule of grants.py, and mounted so that mvm's uid can use it (view.py).
3. The broker is forked (broker.py). It keeps root's rights, for its list of requests.
4. Limits that only root may raise are raised: descriptors for servers of shares.
5. This process takes a uid and gid that own nothing (setresuid(2)). Of groups it keeps the one that /dev/kvm is for.
6. No program that it starts gains rights by being executed (PR_SET_NO_NEW_PRIVS).
7. It is looked at that there is no way back.
"""

import os
import pwd
import resource
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from mvmnix import caller, prctl, procfs
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.private_dirs import Directory
from mvmnix.privileges import broker, client, ids, view
from mvmnix.privileges.grants import Grants
from mvmnix.privileges.rights import Rights
from mvmnix.roots import Roots

KVM: Final = "/dev/kvm"
#: A descriptor for each file that a guest has looked at and not forgotten.
DESCRIPTORS: Final = 1 << 20


def give_up_root(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Do it, for a process of root's without threads; `words` are the command line without the program's name.

    Raises MvmnixError where a step fails: then this process must end.
    """
    try:
        home = pwd.getpwuid(0).pw_dir
        own = _own(environment)
        view.unshare()  # 1
        grants = Grants.open(own, words, environment, home)  # 2
        view.show(grants)
        asked = broker.start(Rights(grants))  # 3
        grants.close()
        _raise_limits()  # 4
        caller.remember(0)
        groups = _groups()
        os.setgroups(groups)  # 5
        os.setresgid(ids.MVM, ids.MVM, ids.MVM)
        os.setresuid(ids.MVM, ids.MVM, ids.MVM)
        prctl.set_dumpable(dumpable=True)  # or /proc/self would be root's
        prctl.forbid_new_privileges()  # 6
        _check()  # 7
    except OSError as error:
        what = f"root's rights can't be given up: {error.filename or ''} {error.strerror}"
        hint = "docs/privileges.md says what it takes; or run mvm as a plain user"
        raise MvmnixError(what, hint=hint) from error
    client.use(client.Broker(asked))


def _own(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Mvm's own directories, made; what is refused there is refused again when it is used."""
    found: tuple[str, ...] = ()
    with suppress(UsageError), Roots.from_environment(environment) as roots:
        found = roots.make()
    Directory.create(ids.POOL_DIRECTORY).close()
    return (*found, ids.POOL_DIRECTORY)


def _raise_limits() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # root's own rights are bounded
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, max(hard, DESCRIPTORS)))


def _groups() -> list[int]:
    """The group of /dev/kvm, where that lets its members use it and isn't root's."""
    with suppress(OSError):
        status = os.stat(KVM)  # noqa: PTH116
        if stat.S_ISCHR(status.st_mode) and status.st_gid != 0 and status.st_mode & stat.S_IWGRP:
            return [status.st_gid]
    return []


def _check() -> None:
    """Raises OSError where this process has, or could get, any right of root's."""
    if {*os.getresuid(), *os.getresgid()} != {ids.MVM} or 0 in os.getgroups():
        raise PermissionError(1, "a uid or gid is left", "setresuid")
    for setting in (os.setuid, os.setgid):
        try:
            setting(0)
        except PermissionError:
            continue
        raise PermissionError(1, "root's uid or gid can be had again", "setresuid")
    capabilities = procfs.capabilities(os.getpid())
    if any(held for name, held in capabilities.items() if name != "CapBnd"):
        raise PermissionError(1, "a capability is left", "setresuid")
