"""What `mvm doctor` says to root of root's own state: how much there is, and the commands that give it to a user.

mvm can't do it itself: it has given up root's rights. The commands take care of these, in this order:

1. A user who has files of mvm's keeps them: two logs and two host keys can't be made one.
2. No machine and no command of mvm's works on the state: the kernel lists the locks that these hold (proc_locks(5)).
3. The state is moved to a directory of root's that the user can't enter, and given to the user there. Otherwise the
   user could put a symbolic link or another file in the way of chown(1).
4. Root names no path in a directory of the user's, where a symbolic link may lead anywhere: the user's own process
   makes the last move. It has no terminal, and none of root's variables.
5. Keys go first and arrive last: a move that was interrupted leaves a log without a key, which nothing is added to.
"""

import os
import pwd
import shlex
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from mvmnix import caller
from mvmnix.api.context import LIBRARY_LOCK, SOURCES_LOCK, Context
from mvmnix.api.doctor.finding import Finding, Health
from mvmnix.api.signer import key_file
from mvmnix.audit import verify_log
from mvmnix.config import AnchorRule
from mvmnix.errors import MvmnixError
from mvmnix.keys import Role
from mvmnix.launch.machines import list_entries, machine_ids
from mvmnix.plural import counted

_TITLE: Final = "root's state"
#: What is moved, in the order of rule 5, and where it is in a user's home. The Nix store stays: it can be filled again.
_PLACES: Final = {"config": ".config", "state": ".local/state", "cache": ".cache"}
#: What stands for the user's name where sudo(8) didn't say it.
_USER: Final = "USER"
_MIB: Final = 1 << 20
_STORE: Final = "nix"


def root_state(context: Context) -> Iterator[Finding]:
    """For root that has keys, images or a log; the commands are left out while something is running."""
    if caller.uid() != 0 or not (context.keys.names() or context.audit.names() or context.machines.names()):
        return
    paths = {which: context.roots.paths[which] for which in _PLACES}
    size = sum(map(_size, paths.values()))
    said = f"{', '.join(_contents(context))}: {size / _MIB:.0f} MiB in {', '.join(paths.values())}"
    if busy := tuple(_busy(context)):
        hint = (
            "mvm works without root; this state can be moved to a user once these have ended: mvm stop, then mvm doctor"
        )
        yield Finding(_TITLE, Health.NOTE, f"{said}; at work: {', '.join(busy)}", hint)
        return
    user = _sudo_user()
    whose = user or f"a user: put the name in the place of {_USER}"
    hint = f"mvm works without root. To move this to {whose}, paste these lines as root (docs/privileges.md):"
    yield Finding(_TITLE, Health.NOTE, f"{said}{_elsewhere(context)}", hint, commands(paths, user or _USER))
    if anchors := tuple(_anchors(context.config.anchors, user or _USER)):
        said = "what is kept there stays, and the user whose log it is has to be able to write it"
        yield Finding("root's anchors", Health.NOTE, said, "once the state is moved, as root:", anchors)


def commands(paths: dict[str, str], user: str) -> tuple[str, ...]:
    """The lines for a shell, which do as the module says; `paths` are root's directories, by what they are."""
    found = {which: path for which, path in paths.items() if Path(path).is_dir()}
    moved = {_PLACES[which]: shlex.quote(path) for which, path in found.items()}
    places = " ".join(moved)
    stopping = (
        "images can be carried with `mvm image save` and `load`; or use another XDG_STATE_HOME and XDG_CONFIG_HOME"
    )
    return (
        f'( set -eu; cd /; user={shlex.quote(user)}; home=$(getent passwd "$user" | cut -d: -f6)',
        '  stop() { echo "nothing was moved: $*" >&2; exit 1; }',
        '  test -d "$home" || stop "there is no user $user, or no home"',
        f"  for it in {places}; do",  # 1
        '    test -z "$(find "$home/$it/mvmnix" -type f -size +0 -print -quit 2>/dev/null)" ||',
        f'      stop "$user has $home/$it/mvmnix already, and two logs can not be made one; {_quoted(stopping)}"',
        "  done",
        f"  if find {' '.join(moved.values())} -name '*lock' -printf ':%i \\n' | grep -qFf - /proc/locks; then",  # 2
        "    stop 'mvm of root is at work: mvm ps'",
        "  fi",
        "  stage=$(mktemp -d /var/lib/mvmnix-move.XXXXXX)",  # 3
        '  trap \'if test -d "$stage"; then echo "not finished: $stage has what was moved so far" >&2; fi\' EXIT',
        f"  mkdir -p {' '.join(f'"$stage/{place}"' for place in moved)}",
        *(f'  mv -T {path} "$stage/{place}/mvmnix"' for place, path in moved.items()),
        f'  chown -Rh "$user:" {" ".join(f'"$stage/{place}"' for place in dict.fromkeys(map(_top, moved)))}',
        '  chown "$user:" "$stage"',
        '  setsid -w env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin runuser -u "$user" -- sh -euc \'',  # 4
        f'    umask 077; for it in {" ".join(reversed(moved))}; do mkdir -p "$2/$it"',  # 5
        '      find "$2/$it/mvmnix" -depth -empty -delete 2>/dev/null || :',
        '      mv -T "$1/$it/mvmnix" "$2/$it/mvmnix"; done',
        '    find "$1" -mindepth 1 -depth -type d -empty -delete\' sh "$stage" "$home" </dev/null 2>&1 | cat',
        '  rmdir "$stage"; echo "moved to $home; now as $user: mvm audit verify && mvm doctor" )',
    )


def _top(place: str) -> str:
    return place.partition("/")[0]


def _quoted(text: str) -> str:
    """Text for within double quotes of sh(1)."""
    return text.replace("`", "\\`")


def _contents(context: Context) -> Iterator[str]:
    """How much of what there is, in words."""
    with context.roots.state.child("builds") as builds:
        yield counted(len(builds.names()), "image")
    yield counted(len(machine_ids(context.machines)), "machine")
    yield counted(len(context.keys.names()), "key")
    if context.audit.names() and context.keys.exists(key_file(Role.HOST)):
        try:
            size = verify_log(context.audit, context.log_key, None).checkpoint.size
        except MvmnixError:  # the audit log has a finding of its own
            yield "an audit log that does not verify"
        else:
            yield counted(size, "log record")


def _busy(context: Context) -> Iterator[str]:
    """Machines that run, and commands that make or use images now."""
    yield from (f"machine {it.status.name}" for it in list_entries(context.machines) if it.alive)
    for directory, lock in ((context.roots.state, LIBRARY_LOCK), (context.roots.cache, SOURCES_LOCK)):
        if (process := directory.holder(lock)) is not None:
            yield f"process {process or '(unseen)'}, which holds {directory.where(lock)}"


def _sudo_user() -> str:
    """The user who called sudo(8), if there is such a one and it isn't root; else ""."""
    try:
        entry = pwd.getpwnam(os.environ.get("SUDO_USER", ""))
    except KeyError:
        return ""
    return entry.pw_name if entry.pw_uid != 0 else ""


def _elsewhere(context: Context) -> str:
    """What stays: root's Nix store."""
    said = ""
    if context.roots.data.exists(_STORE):
        said += f"; the Nix store in {context.roots.data.where(_STORE)} stays, and can be filled again from the rest"
    return said


def _anchors(rules: Iterable[AnchorRule], user: str) -> Iterator[str]:
    """What gives anchors to the user; a directory comes last, for until then the user can't exchange files in it.

    A directory that holds anything else, or is a home, is given to nobody: the shell looks, as mvm may not see it.
    """
    for rule in rules:
        if rule.file:
            directory, name = os.path.split(rule.file)
            where, files = shlex.quote(directory), shlex.join([rule.file, f"{rule.file}.lock"])
            others = f"find {where} -mindepth 1 ! -name {shlex.quote(name)} ! -name {shlex.quote(f'{name}.lock')}"
            said = f"{directory} holds more than the anchor {rule.name}: as {user}, copy {rule.file} into a "
            said += "directory of its own, and name that in config.toml"
            yield (
                f'if test -z "$({others} -print -quit)" && ! getent passwd | cut -d: -f6 | grep -qxF {where}; '
                f"then chown -fh {user}: {files}; chown -h {user}: {where}; else echo {shlex.quote(said)}; fi"
            )
        elif rule.git:
            yield f"chown -Rh {user}: {shlex.quote(rule.git)}"


def _size(path: str) -> int:
    """The bytes of the files in a directory, each counted once; symbolic links are not followed."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for where, _, names in os.walk(path):
        for name in names:
            status = os.lstat(f"{where}/{name}")
            if stat.S_ISREG(status.st_mode) and (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_size
    return total
